//! Replication between two nodes: streams of records from the leaders of partitions to those that follow them.
//!
//! Owns what is between the links (`peer`) and the replicas: who follows whom by which stream, order, credit, reads for those that are
//! behind, what is asked of the controller. Does not own decisions: `replication::partition` takes them.
//! Invariant: a stream belongs to one partition, one leader epoch and one generation of the links between two processes; what arrives
//! of any other is dropped. Locks: the three of `Replicas` come last, and none of them is held while another is taken.

mod asks;
mod catch_up;
mod cut;
mod following;
mod leading;
mod outflow;
mod parked;
mod pull;
mod serve;
mod throttle;
mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use model::{LeaderEpoch, NodeId, Now, TopicPartition};
use replication::controller::requests::{ControllerAnswer, ControllerRequest, Refusal};
use replication::metadata::Image;
use replication::metadata::throttles::Throttles;
use replication::partition::follower::{EpochEnd, EpochView};
use storage::Log;
use storage::disk::Disk;

use crate::clean::{CleanDone, CleanWork};
use crate::core::Core;
use crate::effects::Effects;
use crate::node::Node;
use crate::partition::handle::{Partition, PublishedRole, State};
use crate::peer::proto::{self, replica_frame::Kind};
use crate::peer::{Origin, PeerEvent, PeerLane};
use asks::ReplicaAsks;
pub(crate) use following::Pull;
pub(crate) use outflow::Outflow;
pub(crate) use pull::Pulls;
use serve::KnownNodes;
pub(crate) use serve::Serve;
use wire::{CutWhat, FollowPart, LaneBytes, RecordLane, ReplicaFrameError};

/// How long after something went wrong it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// All streams of a node.
#[derive(Debug, Default)]
pub(crate) struct Replicas {
    serve: Mutex<Serve>,
    pulls: Mutex<Pulls>,
    asks: Mutex<ReplicaAsks>,
    retries: Mutex<Vec<(Duration, Retry)>>,
    throttling: throttle::Throttling,
}

#[derive(Debug)]
enum Retry {
    Follow(Arc<Partition>),
    Read { node: NodeId, stream: u32, partition: Arc<Partition> },
}

impl Replicas {
    pub(crate) fn serve(&self) -> MutexGuard<'_, Serve> {
        self.serve.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pulls(&self) -> MutexGuard<'_, Pulls> {
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn asks(&self) -> MutexGuard<'_, ReplicaAsks> {
        self.asks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retries(&self) -> MutexGuard<'_, Vec<(Duration, Retry)>> {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retry_follow(&self, now: Now, partition: &Arc<Partition>) {
        self.retries().push((now.mono.saturating_add(RETRY), Retry::Follow(Arc::clone(partition))));
    }

    fn retry_read(&self, now: Now, node: NodeId, stream: u32, partition: &Arc<Partition>) {
        let partition = Arc::clone(partition);
        self.retries().push((now.mono.saturating_add(RETRY), Retry::Read { node, stream, partition }));
    }
}

/// A log's epochs as `replication` looks at them.
struct LogEpochs<'a>(&'a Log);

impl EpochView for LogEpochs<'_> {
    fn latest(&self) -> Option<LeaderEpoch> {
        self.0.epochs().latest()
    }

    fn end_offset_for(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        let asked = self.latest().map_or(epoch, |latest| latest.min(epoch));
        let (epoch, end) = self.0.epochs().end_offset_for(asked, self.0.log_end())?;
        Some(EpochEnd { epoch, end })
    }
}

/// A read for which the disk may have to be waited: to be run where that harms nobody.
#[derive(Debug)]
pub struct ReadWork(ReadKind);

#[derive(Debug)]
enum ReadKind {
    CatchUp(catch_up::CatchUp),
    Cut(cut::CutWork),
    Clean(CleanWork),
}

/// What a read gave, for `Node::read_done`.
#[derive(Debug)]
pub struct ReadDone(DoneKind);

#[derive(Debug)]
enum DoneKind {
    CatchUp(catch_up::CaughtUp),
    Cut(cut::CutDone),
    Clean(CleanDone),
}

impl ReadWork {
    pub(crate) fn clean(work: CleanWork) -> ReadWork {
        ReadWork(ReadKind::Clean(work))
    }

    /// Reads. Blocks. Failures are in what is given back.
    pub fn run(self, disk: &dyn Disk) -> ReadDone {
        ReadDone(match self.0 {
            ReadKind::CatchUp(work) => DoneKind::CatchUp(work.run(disk)),
            ReadKind::Cut(work) => DoneKind::Cut(work.run(disk)),
            ReadKind::Clean(work) => DoneKind::Clean(work.run(disk)),
        })
    }
}

impl Node {
    /// What an `Effect::Read` gave.
    pub fn read_done(&self, now: Now, done: ReadDone, fx: &mut Effects) {
        match done.0 {
            DoneKind::CatchUp(done) => catch_up::read_done(&self.core, now, done, fx),
            DoneKind::Cut(done) => cut::cut_done(&self.core, now, done, fx),
            DoneKind::Clean(done) => self.cleaning_stepped(now, done, fx),
        }
        self.settle(now, fx);
    }

    /// A link came or went; never `PeerEvent::Frame`.
    pub(crate) fn replica_link(&self, now: Now, event: &PeerEvent, fx: &mut Effects) {
        let core = &self.core;
        match event {
            PeerEvent::Connected { to, lane, .. } => {
                let Some(record_lane) = RecordLane::of(*lane) else { return };
                if *to == self.id() {
                    return;
                }
                if let Some(generation) = core.replicas.serve().linked(*to, record_lane) {
                    let frame = wire::frame(Kind::Begin(proto::Begin { generation }), Vec::new());
                    fx.push(crate::effects::Effect::Send { to: *to, lane: PeerLane::InSync, frame });
                }
                if record_lane == RecordLane::InSync && core.replicas.pulls().linked(*to, true) {
                    pull::follow_anew(core, *to);
                }
            }
            PeerEvent::Lost { to, lane, .. } => {
                let Some(record_lane) = RecordLane::of(*lane) else { return };
                let ended = core.replicas.serve().unlinked(*to, record_lane);
                self.streams_ended(now, *to, ended, fx);
                if record_lane == RecordLane::InSync {
                    core.replicas.pulls().linked(*to, false);
                }
            }
            PeerEvent::Opened { from, lane: PeerLane::InSync, session, hello } => {
                core.replicas.serve().opened(*from, *session, hello.incarnation);
            }
            PeerEvent::Closed { from, lane: PeerLane::InSync, session } => {
                let ended = core.replicas.serve().closed(*from, *session);
                self.streams_ended(now, *from, ended, fx);
                core.replicas.pulls().ended(*from);
            }
            PeerEvent::Opened { .. } | PeerEvent::Closed { .. } | PeerEvent::Frame { .. } => {}
        }
    }

    fn streams_ended(
        &self,
        now: Now,
        node: NodeId,
        ended: std::collections::BTreeMap<u32, Arc<Partition>>,
        fx: &mut Effects,
    ) {
        for (stream, partition) in ended {
            partition.is_left(&self.core, now, node, stream, false, fx);
        }
    }

    /// A frame of a replica of the other node.
    pub(crate) fn replica_arrived(
        &self,
        now: Now,
        origin: Origin,
        frame: proto::ReplicaFrame,
        body: Bytes,
        fx: &mut Effects,
    ) {
        if let Err(error) = self.take_frame(now, origin, frame, body, fx) {
            tracing::warn!(node = %origin.from, lane = ?origin.lane, %error, "a frame of replicas was dropped");
        }
    }

    fn take_frame(
        &self,
        now: Now,
        origin: Origin,
        frame: proto::ReplicaFrame,
        body: Bytes,
        fx: &mut Effects,
    ) -> Result<(), ReplicaFrameError> {
        let (core, from) = (&self.core, origin.from);
        match frame.kind.ok_or(ReplicaFrameError::Empty)? {
            Kind::Begin(begin) => {
                if core.replicas.pulls().begins(from, begin.generation) {
                    pull::follow_anew(core, from);
                }
            }
            Kind::Follow(follow) => {
                if core.replicas.serve().current(from, follow.generation).is_none() {
                    return Ok(());
                }
                core.replicas.serve().grant(from, follow.generation, &LaneBytes::from_proto(follow.grant));
                let parts: Result<Vec<FollowPart>, _> = follow.parts.iter().map(FollowPart::from_proto).collect();
                serve::follow(core, now, from, parts?, &KnownNodes(self.image()), fx);
            }
            Kind::Cut(cut) => {
                for part in &cut.parts {
                    let what = CutWhat::from_proto(part)?;
                    let partition = core.replicas.pulls().stream(part.stream);
                    if let Some(partition) = partition {
                        let lost = |state: &State| self.was_lost(partition.id, state);
                        let parting = cut::Parting { leader: from, stream: part.stream, what, lost: &lost };
                        partition.parts_ways(core, now, parting, fx);
                    }
                }
            }
            Kind::Records(records) => {
                if let Some(lane) = RecordLane::of(origin.lane) {
                    pull::records(core, now, from, lane, records, body, fx);
                }
            }
            Kind::Positions(positions) => self.take_positions(now, from, &positions, fx)?,
            Kind::Unfollow(unfollow) => self.take_unfollow(now, from, &unfollow, fx)?,
        }
        Ok(())
    }

    fn take_unfollow(
        &self,
        now: Now,
        from: NodeId,
        unfollow: &proto::Unfollow,
        fx: &mut Effects,
    ) -> Result<(), ReplicaFrameError> {
        let core = &self.core;
        {
            let mut serve = core.replicas.serve();
            if serve.current(from, unfollow.generation).is_none() {
                return Ok(());
            }
            if !serve.parked.is_empty() {
                serve.parked.forget_streams(from, unfollow.parts.iter().map(|part| part.stream));
            }
        }
        for part in &unfollow.parts {
            let partition = core.replicas.serve().stream(from, part.stream);
            let Some(partition) = partition else { continue };
            partition.is_left(core, now, from, part.stream, part.offline, fx);
            let newest = part.leader_epoch.map(|raw| wire::epoch("a known epoch", raw)).transpose()?;
            // Somebody else leads by now, whether or not our image says so: who waits here is told where to go.
            if let Some(epoch) = newest.filter(|epoch| *epoch > partition.published.epoch()) {
                let leader = part.leader.map(NodeId).filter(|leader| *leader != core.config.id);
                partition.follow(core, now, epoch, leader, fx);
            }
        }
        Ok(())
    }

    fn take_positions(
        &self,
        now: Now,
        from: NodeId,
        positions: &proto::Positions,
        fx: &mut Effects,
    ) -> Result<(), ReplicaFrameError> {
        let core = &self.core;
        let partitions: Vec<Option<Arc<Partition>>> = {
            let mut serve = core.replicas.serve();
            if serve.current(from, positions.generation).is_none() {
                return Ok(());
            }
            serve.grant(from, positions.generation, &LaneBytes::from_proto(positions.grant));
            positions.parts.iter().map(|part| serve.stream(from, part.stream)).collect()
        };
        for (part, partition) in positions.parts.iter().zip(partitions) {
            let position = wire::position(part.written, part.synced)?;
            let log_start = wire::reported_start(part)?;
            if let Some(partition) = partition {
                partition.follower_has(core, now, from, part.stream, (position, log_start), fx);
            }
        }
        Ok(())
    }

    /// The leadership of a partition that its replicas have told this node of, when that is newer than `epoch`: a node whose disk hangs
    /// applies no metadata, so its image may name itself for as long as that lasts.
    pub fn newer_leadership(
        &self,
        partition: TopicPartition,
        epoch: LeaderEpoch,
    ) -> Option<(LeaderEpoch, Option<NodeId>)> {
        let here = self.core.table.get(partition)?;
        let newest = here.published.epoch();
        let told = newest > epoch && here.published.role() == PublishedRole::Following;
        told.then(|| (newest, here.published.leader()))
    }

    /// Whether an unclean election since this replica's last record may have lost what it took for committed.
    fn was_lost(&self, partition: TopicPartition, state: &State) -> bool {
        let image = self.image();
        let (latest, epoch) = (state.replica.bounds().latest, state.replica.epoch());
        let since = |unclean: LeaderEpoch| unclean <= epoch && latest.is_none_or(|last| unclean > last);
        image.unclean_elections().iter().any(|election| election.partition == partition && since(election.leader_epoch))
    }

    /// Before the image is followed: what it gives a replica may be slowed from the first record on.
    pub(crate) fn follow_throttles(&self, now: Now, image: &Image) {
        let waiting = self.core.replicas.throttling.set(now, Throttles::of(image, self.id()));
        throttle::go_on(&self.core, waiting);
    }

    /// The image is another one: wishes of followers that were too early may be answered now.
    pub(crate) fn replicas_follow_image(&self, now: Now, fx: &mut Effects) {
        let parked = self.core.replicas.serve().parked.take();
        for ((node, _), part) in parked {
            serve::follow(&self.core, now, node, vec![part], &KnownNodes(self.image()), fx);
        }
    }

    /// Sends what is to be sent. To be called last, without a lock. Returns whether the controller was asked: it may have
    /// answered already.
    pub(crate) fn settle_replicas(&self, now: Now, fx: &mut Effects) -> bool {
        let core = &self.core;
        pull::flush(core, now, fx);
        serve::flush(core, now, fx);
        catch_up::start_reads(core, now, fx);
        let Some(request) = self.next_ask() else { return false };
        self.with_controller(now, fx, |driver, out| driver.ask_for_replicas(now, request, asks::ASK_TIMEOUT, out));
        true
    }

    /// What the leaders of partitions ask of the controller next.
    fn next_ask(&self) -> Option<ControllerRequest> {
        let image = self.image.load();
        let own = image.node(self.id())?.incarnation;
        self.core.replicas.asks().next(self.id(), own, &image)
    }

    pub(crate) fn replica_ask_answered(&self, now: Now, answer: Result<ControllerAnswer, Refusal>, fx: &mut Effects) {
        asks::answered(&self.core, now, answer, fx);
    }

    /// Does what has become due. Returns when it must be called again.
    pub(crate) fn tick_replicas(&self, now: Now) -> Option<Duration> {
        let core = &self.core;
        let lazy = core.replicas.serve().take_lazy(now);
        for partition in lazy {
            partition.lazy_is_due(core);
        }
        throttle::go_on(core, core.replicas.throttling.take_due(now));
        let due = {
            let mut retries = core.replicas.retries();
            let (due, later): (Vec<_>, Vec<_>) = retries.drain(..).partition(|(at, _)| *at <= now.mono);
            *retries = later;
            due
        };
        for (_, retry) in due {
            retry_now(core, retry);
        }
        let retry = core.replicas.retries().iter().map(|(at, _)| *at).min();
        let throttled = core.replicas.throttling.due();
        core.replicas.serve().lazy_at().into_iter().chain(retry).chain(throttled).min()
    }
}

fn retry_now(core: &Core, retry: Retry) {
    match retry {
        Retry::Follow(partition) => partition.wish_now(core),
        Retry::Read { node, stream, partition } => {
            core.replicas.read_again(node, stream, partition);
        }
    }
}

//! The leader's side of the streams: who follows what, and what is sent to whom.
//!
//! Owns peers, credit and the queues of partitions that have something to send. Does not own a stream's place in its log (`outflow`)
//! nor reads from the disk (`catch_up`).
//! Invariant: one thread at a time sends on the in-sync lanes, so frames are numbered in the order of the log; they may be carried out
//! in another order, and the follower puts them back. Locks: a partition before `Serve`, which is the last.
//! Invariant: a stream lives within one generation of the links to its follower and one leader epoch of its partition.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{NodeId, Now, Offset};
use replication::metadata::Incarnation;
use replication::partition::follower::{Agreement, LeaderLimits, compare};
use replication::partition::isr::Position;
use replication::partition::replica::Event;
use storage::ReadPlan;

use super::outflow::{Flow, Outflow};
use super::parked::Parked;
use super::wire::{CutWhat, FollowPart, LaneBytes, PerLane, RecordLane, frame, raw_offset};
use crate::core::Core;
use crate::effects::{Effect, Effects};
use crate::partition::handle::{Partition, State};
use crate::peer::proto::{self, replica_frame::Kind};
use crate::peer::{Frame, PeerLane};

/// Records of one frame, unless a single batch is larger.
pub(super) const FRAME_RECORD_BYTES: u64 = 1024 * 1024;
/// Parts of one frame.
pub(super) const FRAME_PARTS_MAX: usize = 4_096;
/// How often one call looks for more that other threads have appended.
const ROUNDS_MAX: u32 = 4;
/// How long a high watermark waits for records that carry it along.
const LAZY_WAIT: Duration = Duration::from_millis(10);

/// Everything that is sent to followers.
#[derive(Debug, Default)]
pub(crate) struct Serve {
    pub(super) peers: BTreeMap<NodeId, Peer>,
    /// Partitions that have something to send.
    dirty: VecDeque<Arc<Partition>>,
    /// Partitions of which only limits have moved, and when these are sent at the latest.
    lazy: VecDeque<Arc<Partition>>,
    lazy_at: Option<Duration>,
    /// A thread is sending.
    flushing: bool,
    pub(super) parked: Parked,
}

/// One node that may follow.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Our links to it stand.
    linked: PerLane<bool>,
    /// Of these links; 0 before the first.
    pub(super) generation: u64,
    /// Its link to us, and the process that it comes from.
    session: Option<(u64, Incarnation)>,
    sequence: PerLane<u64>,
    sent: LaneBytes,
    granted: LaneBytes,
    streams: BTreeMap<u32, Arc<Partition>>,
    /// Partitions that wait for credit on the in-sync lane.
    blocked: VecDeque<Arc<Partition>>,
    /// Streams whose next records must be read.
    pub(super) cold: VecDeque<(u32, Arc<Partition>)>,
    pub(super) reads: usize,
}

impl Peer {
    pub(super) fn credit(&self, lane: RecordLane) -> u64 {
        self.granted.get(lane).saturating_sub(*self.sent.get(lane))
    }

    /// Numbers a frame and counts what it holds.
    pub(super) fn seal(&mut self, lane: RecordLane, built: Built) -> Frame {
        let sequence = self.sequence.get_mut(lane);
        let records = proto::Records { generation: self.generation, sequence: *sequence, parts: built.parts };
        *sequence += 1;
        *self.sent.get_mut(lane) += built.bytes;
        frame(Kind::Records(records), built.records)
    }

    fn stands(&self) -> bool {
        *self.linked.get(RecordLane::InSync) && *self.linked.get(RecordLane::CatchUp)
    }

    /// Streams of an earlier life of the links end.
    fn end_streams(&mut self) -> BTreeMap<u32, Arc<Partition>> {
        self.blocked.clear();
        self.cold.clear();
        std::mem::take(&mut self.streams)
    }
}

/// Parts of a frame that is not numbered yet.
#[derive(Debug, Default)]
pub(super) struct Built {
    parts: Vec<proto::RecordsPart>,
    records: Vec<Bytes>,
    bytes: u64,
}

impl Built {
    pub(super) fn add(&mut self, stream: u32, base: Offset, limits: LeaderLimits, records: Vec<Bytes>) {
        let bytes: usize = records.iter().map(Bytes::len).sum();
        let bytes = u32::try_from(bytes).expect("no more than a batch of the largest size");
        self.parts.push(proto::RecordsPart {
            stream,
            bytes,
            base_offset: raw_offset(base),
            high_watermark: raw_offset(limits.high_watermark),
            log_start: raw_offset(limits.log_start),
        });
        self.records.extend(records);
        self.bytes += u64::from(bytes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    fn is_full(&self) -> bool {
        self.bytes >= FRAME_RECORD_BYTES || self.parts.len() >= FRAME_PARTS_MAX
    }
}

impl Serve {
    /// Our link to a node stands. Returns the generation that begins when it was the last one that was missing.
    pub(super) fn linked(&mut self, to: NodeId, lane: RecordLane) -> Option<u64> {
        let peer = self.peers.entry(to).or_default();
        *peer.linked.get_mut(lane) = true;
        if !peer.stands() {
            return None;
        }
        peer.generation += 1;
        peer.sequence = PerLane::default();
        peer.sent = LaneBytes::default();
        peer.granted = LaneBytes::default();
        Some(peer.generation)
    }

    /// Our link to a node is gone. Gives the streams that end.
    pub(super) fn unlinked(&mut self, to: NodeId, lane: RecordLane) -> BTreeMap<u32, Arc<Partition>> {
        let Some(peer) = self.peers.get_mut(&to) else { return BTreeMap::new() };
        *peer.linked.get_mut(lane) = false;
        peer.end_streams()
    }

    pub(super) fn opened(&mut self, from: NodeId, session: u64, incarnation: Incarnation) {
        self.peers.entry(from).or_default().session = Some((session, incarnation));
    }

    /// A follower's link to us is gone. Gives the streams that end.
    pub(super) fn closed(&mut self, from: NodeId, session: u64) -> BTreeMap<u32, Arc<Partition>> {
        self.parked.forget_node(from);
        let Some(peer) = self.peers.get_mut(&from) else { return BTreeMap::new() };
        if peer.session.is_none_or(|(current, _)| current != session) {
            return BTreeMap::new();
        }
        peer.session = None;
        peer.end_streams()
    }

    /// The peer as long as this generation of the links to it lasts.
    pub(super) fn current(&mut self, node: NodeId, generation: u64) -> Option<&mut Peer> {
        self.peers.get_mut(&node).filter(|peer| peer.generation == generation && peer.stands())
    }

    /// A follower allows so much. What waited for that goes on.
    pub(super) fn grant(&mut self, node: NodeId, generation: u64, grant: &LaneBytes) {
        let Some(peer) = self.current(node, generation) else { return };
        for lane in [RecordLane::InSync, RecordLane::CatchUp] {
            let granted = peer.granted.get_mut(lane);
            *granted = (*granted).max(*grant.get(lane));
        }
        if peer.credit(RecordLane::InSync) > 0 {
            let blocked = std::mem::take(&mut peer.blocked);
            self.dirty.extend(blocked);
        }
    }

    pub(super) fn stream(&self, node: NodeId, stream: u32) -> Option<Arc<Partition>> {
        self.peers.get(&node)?.streams.get(&stream).map(Arc::clone)
    }

    pub(super) fn forget_stream(&mut self, node: NodeId, stream: u32) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.streams.remove(&stream);
        }
    }

    /// The process that a node's link comes from.
    fn incarnation(&self, node: NodeId) -> Option<Incarnation> {
        self.peers.get(&node)?.session.map(|(_, incarnation)| incarnation)
    }

    /// A partition has something to send. To be called with its lock held.
    pub(super) fn mark(&mut self, partition: &Arc<Partition>) {
        self.dirty.push_back(Arc::clone(partition));
    }

    fn mark_lazily(&mut self, partition: &Arc<Partition>, now: Now) -> Duration {
        self.lazy.push_back(Arc::clone(partition));
        *self.lazy_at.get_or_insert(now.mono.saturating_add(LAZY_WAIT))
    }

    pub(super) fn lazy_at(&self) -> Option<Duration> {
        self.lazy_at
    }

    pub(super) fn take_lazy(&mut self, now: Now) -> VecDeque<Arc<Partition>> {
        if self.lazy_at.is_none_or(|at| now.mono < at) {
            return VecDeque::new();
        }
        self.lazy_at = None;
        std::mem::take(&mut self.lazy)
    }

    /// What is to be sent, and the credit that there is; `None` when there is nothing, or another thread sends.
    fn begin_flush(&mut self) -> Option<ToSend> {
        if self.flushing || self.dirty.is_empty() {
            return None;
        }
        self.flushing = true;
        Some(self.take_dirty())
    }

    fn take_dirty(&mut self) -> ToSend {
        let credit = self.peers.iter().map(|(node, peer)| (*node, peer.credit(RecordLane::InSync))).collect();
        ToSend { partitions: std::mem::take(&mut self.dirty), credit }
    }

    /// More that came meanwhile; else this thread sends no more.
    fn go_on_flushing(&mut self) -> Option<ToSend> {
        self.flushing = !self.dirty.is_empty();
        self.flushing.then(|| self.take_dirty())
    }

    /// This thread sends no more, whatever came meanwhile. Returns whether something did.
    fn stop_flushing(&mut self) -> bool {
        self.flushing = false;
        !self.dirty.is_empty()
    }
}

/// Partitions that have something to send, and the credit on the in-sync lanes.
struct ToSend {
    partitions: VecDeque<Arc<Partition>>,
    credit: BTreeMap<NodeId, u64>,
}

/// One part that is to be sent, its records still to be gathered.
struct Sending {
    node: NodeId,
    stream: u32,
    base: Offset,
    limits: LeaderLimits,
    plan: Option<ReadPlan>,
}

/// One look at what the streams of a partition send.
struct Turn {
    now: Now,
    /// Limits are told also where no records carry them.
    tell_limits: bool,
}

/// A follower's wish, held against this node's state.
enum Wished {
    Streams,
    Cut(CutWhat),
    /// It follows somebody else by now.
    Void,
    /// This node does not know of that leadership yet.
    Early,
}

/// Sends what the partitions have that are marked.
pub(super) fn flush(core: &Core, now: Now, fx: &mut Effects) {
    let mut rounds = 0;
    let mut work = core.replicas.serve().begin_flush();
    while let Some(ToSend { partitions, mut credit }) = work {
        let mut built: BTreeMap<NodeId, Built> = BTreeMap::new();
        for partition in partitions {
            for sending in partition.sendings(core, now, &mut credit, fx) {
                let Sending { node, stream, base, limits, plan } = sending;
                let records = plan.map_or_else(Vec::new, |plan| plan.memory_pieces());
                let into = built.entry(node).or_default();
                into.add(stream, base, limits, records);
                if into.is_full() {
                    send(core, node, std::mem::take(into), fx);
                }
            }
        }
        for (node, built) in built {
            send(core, node, built, fx);
        }
        rounds += 1;
        if rounds == ROUNDS_MAX {
            // What others append meanwhile must not keep the frames here for ever: they are sent when this call is over.
            if core.replicas.serve().stop_flushing() {
                core.timer.by(now.mono, fx);
            }
            return;
        }
        work = core.replicas.serve().go_on_flushing();
    }
}

fn send(core: &Core, node: NodeId, built: Built, fx: &mut Effects) {
    if built.is_empty() {
        return;
    }
    let mut serve = core.replicas.serve();
    if let Some(peer) = serve.peers.get_mut(&node) {
        let frame = peer.seal(RecordLane::InSync, built);
        fx.push(Effect::Send { to: node, lane: PeerLane::InSync, frame });
    }
}

/// A follower's wishes for streams.
pub(super) fn follow(
    core: &Core,
    now: Now,
    node: NodeId,
    parts: Vec<FollowPart>,
    known: &KnownNodes,
    fx: &mut Effects,
) {
    let incarnation = core.replicas.serve().incarnation(node);
    let mut cuts = Vec::new();
    for part in parts {
        // A process that is not the one that is registered may have lost what its node had.
        let registered = incarnation.filter(|incarnation| known.incarnation(node) == Some(*incarnation));
        let wished = match (core.table.get(part.partition), registered) {
            (Some(partition), Some(incarnation)) => partition.is_followed(core, now, node, incarnation, part, fx),
            _ => Wished::Early,
        };
        match wished {
            Wished::Streams | Wished::Void => {}
            Wished::Cut(what) => cuts.push(what.to_proto(part.stream)),
            Wished::Early => core.replicas.serve().parked.park(node, part),
        }
    }
    if !cuts.is_empty() {
        let frame = frame(Kind::Cut(proto::Cut { parts: cuts }), Vec::new());
        fx.push(Effect::Send { to: node, lane: PeerLane::InSync, frame });
    }
}

/// Which process of each node is registered.
pub(super) struct KnownNodes(pub(super) Arc<replication::metadata::Image>);

impl KnownNodes {
    fn incarnation(&self, node: NodeId) -> Option<Incarnation> {
        self.0.node(node).map(|info| info.incarnation)
    }
}

impl Partition {
    /// Another replica wants our records from its log's end on.
    fn is_followed(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        node: NodeId,
        incarnation: Incarnation,
        part: FollowPart,
        fx: &mut Effects,
    ) -> Wished {
        let wished = self.guarded(core, fx, |state, fx| {
            let ours = state.replica.epoch();
            if part.epoch < ours {
                return Wished::Void;
            }
            // A reassignment adds replicas within one epoch: who is told of it first may be here before our image is.
            if part.epoch > ours || !state.replica.has_follower(node) {
                return Wished::Early;
            }
            // Frames may overtake one another: a later wish was heard already.
            if state.outflows.iter().any(|outflow| outflow.node == node && outflow.stream > part.stream) {
                return Wished::Void;
            }
            match compare(state.replica.bounds(), &super::LogEpochs(&state.log), part.bounds) {
                Agreement::Agrees => {}
                Agreement::Parted(end) => return Wished::Cut(CutWhat::Parted(end)),
                Agreement::BeginAt(start) => return Wished::Cut(CutWhat::BeginAt(start)),
            }
            self.end_outflow(core, state, node);
            state.outflows.push(Outflow::new(node, part.stream, part.bounds.end));
            if let Some(peer) = core.replicas.serve().peers.get_mut(&node) {
                peer.streams.insert(part.stream, Arc::clone(self));
            }
            let position = part.position;
            self.step_locked(core, now, state, Event::Joined { node, incarnation, position }, fx);
            self.mark_to_send(core, state);
            Wished::Streams
        });
        wished.unwrap_or(Wished::Void)
    }

    /// The stream to a node ends, without a word to the state machine.
    fn end_outflow(&self, core: &Core, state: &mut State, node: NodeId) {
        let mut serve = core.replicas.serve();
        state.outflows.retain(|outflow| {
            let stays = outflow.node != node;
            if !stays {
                serve.forget_stream(node, outflow.stream);
            }
            stays
        });
    }

    /// This leadership is over: nobody follows it any more.
    pub(crate) fn end_outflows(&self, core: &Core, state: &mut State) {
        if state.outflows.is_empty() {
            return;
        }
        let mut serve = core.replicas.serve();
        for outflow in state.outflows.drain(..) {
            serve.forget_stream(outflow.node, outflow.stream);
        }
    }

    /// A follower's stream has ended.
    pub(super) fn is_left(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        node: NodeId,
        stream: u32,
        offline: bool,
        fx: &mut Effects,
    ) {
        let _offline = self.guarded(core, fx, |state, fx| {
            if state.outflows.iter().any(|outflow| outflow.node == node && outflow.stream == stream) {
                self.end_outflow(core, state, node);
                self.step_locked(core, now, state, Event::Left { node, offline }, fx);
            }
        });
    }

    pub(super) fn follower_has(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        node: NodeId,
        stream: u32,
        (position, log_start): (Position, Offset),
        fx: &mut Effects,
    ) {
        let _offline = self.guarded(core, fx, |state, fx| {
            let found = state.outflows.iter_mut().find(|outflow| outflow.node == node && outflow.stream == stream);
            let Some(outflow) = found else { return };
            outflow.log_start = outflow.log_start.max(log_start);
            if outflow.reported(position) {
                self.mark_to_send(core, state);
            }
            self.step_locked(core, now, state, Event::FollowerHas { node, position }, fx);
        });
    }

    /// There are records to send, or a stream that can go on.
    pub(crate) fn mark_to_send(self: &Arc<Self>, core: &Core, state: &mut State) {
        if !state.marked && !state.outflows.is_empty() {
            state.marked = true;
            core.replicas.serve().mark(self);
        }
    }

    /// The limits have moved: followers learn that with the next records, or a little later.
    pub(crate) fn mark_lazily(self: &Arc<Self>, core: &Core, now: Now, state: &mut State, fx: &mut Effects) {
        if !state.marked_lazily && !state.outflows.is_empty() {
            state.marked_lazily = true;
            let at = core.replicas.serve().mark_lazily(self, now);
            core.timer.by(at, fx);
        }
    }

    /// It is time for limits that no records have carried along.
    pub(super) fn lazy_is_due(self: &Arc<Self>, core: &Core) {
        let mut state = self.lock();
        state.marked_lazily = false;
        state.tell_limits = true;
        self.mark_to_send(core, &mut state);
    }

    /// What the streams of this partition send next; credit is taken for it.
    fn sendings(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        credit: &mut BTreeMap<NodeId, u64>,
        fx: &mut Effects,
    ) -> Vec<Sending> {
        let sendings = self.guarded(core, fx, |state, fx| {
            state.marked = false;
            let tell_limits = std::mem::take(&mut state.tell_limits);
            let turn = Turn { now, tell_limits };
            let mut sendings = Vec::new();
            let mut outflows = std::mem::take(&mut state.outflows);
            for outflow in &mut outflows {
                let credit = credit.entry(outflow.node).or_default();
                sendings.extend(self.sending(core, &turn, state, outflow, credit, fx));
            }
            let (stay, gone): (Vec<_>, Vec<_>) =
                outflows.into_iter().partition(|outflow| outflow.next >= state.log.log_start());
            state.outflows = stay;
            for outflow in gone {
                self.passed_by(core, now, state, &outflow, fx);
            }
            let more = |outflow: &Outflow| {
                outflow.flow == Flow::Hot && !outflow.held_back && outflow.next < state.log.log_end()
            };
            let has_credit = |outflow: &Outflow| credit.get(&outflow.node).is_some_and(|left| *left > 0);
            if state.outflows.iter().any(|outflow| more(outflow) && has_credit(outflow)) {
                self.mark_to_send(core, state);
            }
            sendings
        });
        sendings.unwrap_or_default()
    }

    fn sending(
        self: &Arc<Self>,
        core: &Core,
        turn: &Turn,
        state: &State,
        outflow: &mut Outflow,
        credit: &mut u64,
        fx: &mut Effects,
    ) -> Option<Sending> {
        if outflow.flow != Flow::Hot || outflow.next < state.log.log_start() {
            return None;
        }
        let now_published = state.replica.limits();
        let limits = LeaderLimits { high_watermark: now_published.high_watermark, log_start: now_published.log_start };
        let (base, log_end) = (outflow.next, state.log.log_end());
        let mut plan = None;
        if base < log_end {
            if state.log.tail_start().is_none_or(|start| start > base) {
                if outflow.grow_cold()
                    && let Some(peer) = core.replicas.serve().peers.get_mut(&outflow.node)
                {
                    peer.cold.push_back((outflow.stream, Arc::clone(self)));
                }
                return None;
            }
            if *credit == 0 {
                if let Some(peer) = core.replicas.serve().peers.get_mut(&outflow.node) {
                    peer.blocked.push_back(Arc::clone(self));
                }
            } else if let Some(bytes_max) = self.paced(core, turn.now, outflow, fx) {
                plan = state.log.plan_read(base, log_end, bytes_max).ok();
            }
        }
        if let Some(plan) = &plan {
            outflow.next = plan.memory_end().expect("the tail holds what is next");
            *credit = credit.saturating_sub(plan.memory_bytes());
            core.replicas.throttling.take(self.id, outflow.node, plan.memory_bytes());
        } else if outflow.told.is_some() && (!turn.tell_limits || outflow.told == Some(limits)) {
            return None;
        }
        outflow.told = Some(limits);
        Some(Sending { node: outflow.node, stream: outflow.stream, base, limits, plan })
    }

    /// The log's start has passed what a follower has: it is told where to begin again.
    fn passed_by(self: &Arc<Self>, core: &Core, now: Now, state: &mut State, outflow: &Outflow, fx: &mut Effects) {
        let Outflow { node, stream, .. } = *outflow;
        core.replicas.serve().forget_stream(node, stream);
        let what = CutWhat::BeginAt(state.log.log_start());
        let frame = frame(Kind::Cut(proto::Cut { parts: vec![what.to_proto(stream)] }), Vec::new());
        fx.push(Effect::Send { to: node, lane: PeerLane::InSync, frame });
        self.step_locked(core, now, state, Event::Left { node, offline: false }, fx);
    }
}

//! The leader's side of the streams: who follows what, and what is sent to whom.
//!
//! Owns peers, credit and the queues of partitions that have something to send. Does not own what a partition sends (`leading`), a
//! stream's place in its log (`outflow`), nor reads from the disk (`catch_up`).
//! Invariant: one thread at a time sends on the in-sync lanes, so frames are numbered in the order of the log; they may be carried out
//! in another order, and the follower puts them back. Locks: a partition before `Serve`, which is the last.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{NodeId, Now, Offset};
use replication::metadata::Incarnation;
use replication::partition::follower::LeaderLimits;

use super::leading::{Sending, Wished};
use super::parked::Parked;
use super::wire::{FollowPart, LaneBytes, PerLane, RecordLane, frame, raw_offset};
use crate::core::Core;
use crate::effects::{Effect, Effects};
use crate::partition::handle::Partition;
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
    pub(super) streams: BTreeMap<u32, Arc<Partition>>,
    /// Partitions that wait for credit on the in-sync lane.
    pub(super) blocked: VecDeque<Arc<Partition>>,
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

    pub(super) fn mark_lazily(&mut self, partition: &Arc<Partition>, now: Now) -> Duration {
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

//! The follower's side of the streams: what this node follows, what arrives, and what it says of its own disk.
//!
//! Owns the wishes, the order of the frames, the positions to be reported and the credit that is granted. Does not own what a partition
//! takes of a frame (`following`).
//! Invariant: frames of one lane are taken in the order in which the leader numbered them.
//! Invariant: bytes are granted anew only when the journal (or, for a relaxed topic, the page cache) has those that were sent for them.
//! Locks: a partition before `Pulls`, which is the last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::units::MIB;
use model::{LeaderEpoch, NodeId, Now, Offset, TopicPartition};
use replication::partition::isr::Position;

use super::wire::{FollowPart, LaneBytes, PerLane, RecordLane, frame, position_to_proto, raw_epoch, records_parts};
use crate::core::Core;
use crate::effects::{Effect, Effects};
use crate::partition::handle::Partition;
use crate::peer::PeerLane;
use crate::peer::proto::{self, replica_frame::Kind};

/// What a leader may send before anything of it is on the disk.
const WINDOW_IN_SYNC: u64 = 32 * MIB;
const WINDOW_CATCH_UP: u64 = 8 * MIB;
/// Wishes in one frame.
const FOLLOWS_MAX: usize = 4_096;
/// Frames that came too early, on one lane: a leader that skips a number is not waited for.
const EARLY_MAX: usize = 1_024;
/// How soon credit is granted again that memory did not allow.
const GRANT_AGAIN: Duration = Duration::from_millis(20);

/// Everything that this node follows.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    leaders: BTreeMap<NodeId, Leader>,
    pub(super) streams: BTreeMap<u32, Arc<Partition>>,
    pub(super) last_stream: u32,
}

/// One node that leads what we follow.
#[derive(Debug, Default)]
pub(super) struct Leader {
    /// Our in-sync link to it stands: it hears us.
    linked: bool,
    /// Of its links to us, as it said.
    generation: Option<u64>,
    order: PerLane<Order>,
    granted: LaneBytes,
    /// On the disk, and not granted yet.
    free: LaneBytes,
    wanted: BTreeMap<TopicPartition, Arc<Partition>>,
    /// How far we are, and where our log begins.
    pub(super) positions: BTreeMap<u32, (Position, Offset)>,
    /// Streams that are not taken any more.
    unfollow: BTreeMap<u32, Parting>,
    grant: bool,
}

/// Why a stream is not taken any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Parting {
    /// Our log cannot be used.
    pub(super) offline: bool,
    /// Somebody else leads, or nobody, in an epoch of which its leader may not have heard.
    pub(super) elsewhere: Option<(LeaderEpoch, Option<NodeId>)>,
}

impl Parting {
    fn to_proto(self, stream: u32) -> proto::UnfollowPart {
        proto::UnfollowPart {
            stream,
            offline: self.offline,
            leader_epoch: self.elsewhere.map(|(epoch, _)| raw_epoch(epoch)),
            leader: self.elsewhere.and_then(|(_, leader)| Some(leader?.0)),
        }
    }
}

/// Puts the frames of one lane back in order.
#[derive(Debug, Default)]
struct Order {
    next: u64,
    early: BTreeMap<u64, (Vec<proto::RecordsPart>, Bytes)>,
}

impl Pulls {
    pub(super) fn leader(&mut self, node: NodeId) -> &mut Leader {
        self.leaders.entry(node).or_default()
    }

    /// Our in-sync link to a node came or went. Says whether all that it leads is to be followed anew.
    pub(super) fn linked(&mut self, node: NodeId, linked: bool) -> bool {
        let leader = self.leader(node);
        leader.linked = linked;
        leader.positions.clear();
        leader.unfollow.clear();
        linked && leader.generation.is_some()
    }

    /// A node's links to us stand anew.
    pub(super) fn begins(&mut self, node: NodeId, generation: u64) -> bool {
        let leader = self.leader(node);
        if leader.generation.is_some_and(|known| known >= generation) {
            return false;
        }
        leader.generation = Some(generation);
        leader.order = PerLane::default();
        leader.granted = PerLane::new(WINDOW_IN_SYNC, WINDOW_CATCH_UP);
        leader.free = LaneBytes::default();
        leader.positions.clear();
        leader.unfollow.clear();
        leader.linked
    }

    /// A node's in-sync link to us is gone: what it sends from now on belongs to another generation.
    pub(super) fn ended(&mut self, node: NodeId) {
        self.leader(node).generation = None;
    }

    pub(super) fn want(&mut self, leader: NodeId, partition: &Arc<Partition>) {
        self.leader(leader).wanted.insert(partition.id, Arc::clone(partition));
    }

    pub(super) fn want_no_more(&mut self, leader: NodeId, id: TopicPartition, stream: Option<u32>, why: Parting) {
        self.leader(leader).wanted.remove(&id);
        if let Some(stream) = stream {
            self.streams.remove(&stream);
            let leader = self.leader(leader);
            leader.positions.remove(&stream);
            leader.unfollow.insert(stream, why);
        }
    }

    pub(super) fn stream(&self, stream: u32) -> Option<Arc<Partition>> {
        self.streams.get(&stream).map(Arc::clone)
    }

    /// The frames that can be taken now: none, this one, or this one and those that waited for it.
    fn in_order(
        &mut self,
        node: NodeId,
        lane: RecordLane,
        records: proto::Records,
        body: Bytes,
    ) -> Vec<(Vec<proto::RecordsPart>, Bytes)> {
        let leader = self.leader(node);
        if leader.generation != Some(records.generation) {
            return Vec::new();
        }
        let order = leader.order.get_mut(lane);
        if records.sequence < order.next || order.early.len() >= EARLY_MAX {
            return Vec::new();
        }
        order.early.insert(records.sequence, (records.parts, body));
        let mut ready = Vec::new();
        while let Some(next) = order.early.remove(&order.next) {
            order.next += 1;
            ready.push(next);
        }
        ready
    }

    pub(super) fn report(
        &mut self,
        leader: NodeId,
        stream: u32,
        generation: u64,
        position: (Position, Offset),
        bytes: &LaneBytes,
    ) {
        let leader = self.leader(leader);
        leader.positions.insert(stream, position);
        leader.frees(generation, bytes);
    }
}

impl Leader {
    /// Bytes that were sent in this generation hold no memory up any more.
    pub(super) fn frees(&mut self, generation: u64, bytes: &LaneBytes) {
        if self.generation != Some(generation) {
            return;
        }
        for lane in [RecordLane::InSync, RecordLane::CatchUp] {
            let freed = *bytes.get(lane);
            *self.free.get_mut(lane) += freed;
            self.grant |= freed > 0;
        }
    }

    fn hears(&self) -> Option<u64> {
        self.generation.filter(|_| self.linked)
    }
}

/// Sends wishes and positions, one frame for all partitions of a leader.
pub(super) fn flush(core: &Core, now: Now, fx: &mut Effects) {
    send_wishes(core, fx);
    let may_grant = !core.memory.is_full();
    let mut pulls = core.replicas.pulls();
    let mut again = false;
    for (node, leader) in &mut pulls.leaders {
        let Some(generation) = leader.hears() else { continue };
        if !leader.unfollow.is_empty() {
            let parts = std::mem::take(&mut leader.unfollow).into_iter();
            let parts = parts.map(|(stream, why)| why.to_proto(stream)).collect();
            let frame = frame(Kind::Unfollow(proto::Unfollow { generation, parts }), Vec::new());
            fx.push(Effect::Send { to: *node, lane: PeerLane::InSync, frame });
        }
        if leader.grant && may_grant {
            leader.grant = false;
            for lane in [RecordLane::InSync, RecordLane::CatchUp] {
                *leader.granted.get_mut(lane) += std::mem::take(leader.free.get_mut(lane));
            }
        } else if leader.positions.is_empty() {
            again |= leader.grant;
            continue;
        }
        let positions = std::mem::take(&mut leader.positions);
        let parts = positions.into_iter().map(|(stream, position)| position_to_proto(stream, position)).collect();
        let grant = Some(leader.granted.to_proto());
        let frame = frame(Kind::Positions(proto::Positions { generation, grant, parts }), Vec::new());
        fx.push(Effect::Send { to: *node, lane: PeerLane::InSync, frame });
    }
    if again {
        core.timer.by(now.mono.saturating_add(GRANT_AGAIN), fx);
    }
}

fn send_wishes(core: &Core, fx: &mut Effects) {
    loop {
        let mut pulls = core.replicas.pulls();
        let found = pulls.leaders.iter_mut().find(|(_, leader)| leader.hears().is_some() && !leader.wanted.is_empty());
        let Some((node, leader)) = found else { return };
        let node = *node;
        let generation = leader.hears().expect("it was looked at just now");
        let grant = Some(leader.granted.to_proto());
        let later = leader.wanted.keys().nth(FOLLOWS_MAX).copied();
        let later = later.map(|at| leader.wanted.split_off(&at)).unwrap_or_default();
        let wanted = std::mem::replace(&mut leader.wanted, later);
        drop(pulls);
        let parts: Vec<FollowPart> =
            wanted.into_values().filter_map(|partition| partition.wish(core, node, generation, fx)).collect();
        if parts.is_empty() {
            continue;
        }
        let parts = parts.into_iter().map(FollowPart::to_proto).collect();
        let frame = frame(Kind::Follow(proto::Follow { generation, grant, parts }), Vec::new());
        fx.push(Effect::Send { to: node, lane: PeerLane::InSync, frame });
    }
}

/// Everything that this node leads is followed anew: the links are others.
pub(super) fn follow_anew(core: &Core, leader: NodeId) {
    for partition in core.table.all() {
        let mut state = partition.lock();
        let Some(pull) = state.pull.as_mut().filter(|pull| pull.leader == leader) else { continue };
        let stream = pull.stream.take();
        let mut pulls = core.replicas.pulls();
        if let Some(stream) = stream {
            pulls.streams.remove(&stream);
        }
        pulls.want(leader, &partition);
    }
}

/// Records arrived from a leader.
pub(super) fn records(
    core: &Core,
    now: Now,
    node: NodeId,
    lane: RecordLane,
    records: proto::Records,
    body: Bytes,
    fx: &mut Effects,
) {
    let generation = records.generation;
    let ready = core.replicas.pulls().in_order(node, lane, records, body);
    for (parts, body) in ready {
        let parts = match records_parts(&parts, body) {
            Ok(parts) => parts,
            Err(error) => {
                tracing::warn!(leader = %node, %error, "a frame of records was dropped");
                continue;
            }
        };
        let streams: Vec<Option<Arc<Partition>>> = {
            let pulls = core.replicas.pulls();
            parts.iter().map(|part| pulls.stream(part.stream)).collect()
        };
        for (part, partition) in parts.into_iter().zip(streams) {
            let bytes = u64::try_from(part.records.len()).unwrap_or(u64::MAX);
            let taken = partition.is_some_and(|partition| partition.receive(core, now, node, lane, part, fx));
            if !taken {
                // It was sent for a stream that ended meanwhile.
                let mut freed = LaneBytes::default();
                *freed.get_mut(lane) = bytes;
                core.replicas.pulls().leader(node).frees(generation, &freed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrives(pulls: &mut Pulls, generation: u64, sequence: u64) -> Vec<usize> {
        let records = proto::Records { generation, sequence, parts: Vec::new() };
        let body = Bytes::from(vec![0; usize::try_from(sequence).expect("small")]);
        let ready = pulls.in_order(NodeId(1), RecordLane::InSync, records, body);
        ready.into_iter().map(|(_, body)| body.len()).collect()
    }

    #[test]
    fn frames_are_taken_in_the_order_of_their_numbers() {
        let mut pulls = Pulls::default();
        pulls.linked(NodeId(1), true);
        assert!(pulls.begins(NodeId(1), 3));
        assert_eq!(arrives(&mut pulls, 3, 1), []);
        assert_eq!(arrives(&mut pulls, 3, 2), []);
        assert_eq!(arrives(&mut pulls, 3, 0), [0, 1, 2]);
        assert_eq!(arrives(&mut pulls, 3, 1), [], "twice");
        assert_eq!(arrives(&mut pulls, 2, 3), [], "of earlier links");
        assert!(pulls.begins(NodeId(1), 4));
        assert_eq!(arrives(&mut pulls, 3, 3), []);
        assert_eq!(arrives(&mut pulls, 4, 0), [0]);
    }

    #[test]
    fn a_leader_is_followed_once_it_hears_us_and_has_begun() {
        let mut pulls = Pulls::default();
        assert!(!pulls.begins(NodeId(1), 1), "it does not hear us yet");
        assert!(pulls.linked(NodeId(1), true));
        assert!(!pulls.begins(NodeId(1), 1), "it was heard before");
        pulls.ended(NodeId(1));
        assert!(!pulls.linked(NodeId(1), true));
        assert!(pulls.begins(NodeId(1), 2));
    }
}

//! Streams that are slowed: Kafka's replication throttles, as a leader keeps to them.
//!
//! Owns the buckets and the streams that wait for them. Does not own which streams are slowed (`replication::metadata::throttles`)
//! nor the arithmetic (`replication::partition::throttle`).
//! Invariant: a stream that waits is in the queue here and nowhere else. The lock comes last, as those of `Replicas`; where nothing is
//! slowed it is not taken.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{NodeId, Now, TopicPartition};
use replication::metadata::throttles::Throttles;
use replication::partition::throttle::{Allowed, Bucket};

use super::Replicas;
use super::outflow::Outflow;
use super::serve::FRAME_RECORD_BYTES;
use crate::core::Core;
use crate::effects::Effects;
use crate::partition::handle::Partition;

#[derive(Debug, Default)]
pub(crate) struct Throttling {
    is_on: AtomicBool,
    slowed: Mutex<Slowed>,
}

#[derive(Debug, Default)]
struct Slowed {
    throttles: Throttles,
    leader: Option<Bucket>,
    followers: BTreeMap<NodeId, Bucket>,
    waiting: Vec<Waiting>,
    /// When those that wait are looked at again; `None` with some that wait: when the throttles change.
    at: Option<Duration>,
}

/// A stream that may not send now.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Its records are in memory.
    Hot { node: NodeId, partition: Arc<Partition> },
    /// They are to be read.
    Cold { node: NodeId, stream: u32, partition: Arc<Partition> },
}

/// What a stream may send now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pacing {
    /// It is not slowed.
    Free,
    Bytes(u64),
    Wait(Option<Duration>),
}

impl Throttling {
    fn slowed(&self) -> MutexGuard<'_, Slowed> {
        self.slowed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the newest image says. Gives back all that waits when it is not what held before.
    pub(super) fn set(&self, now: Now, throttles: Throttles) -> Vec<Waiting> {
        if throttles.is_empty() && !self.is_on.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut slowed = self.slowed();
        self.is_on.store(!throttles.is_empty(), Ordering::Relaxed);
        if slowed.throttles == throttles {
            return Vec::new();
        }
        slowed.follow(now.mono, throttles);
        slowed.at = None;
        std::mem::take(&mut slowed.waiting)
    }

    /// How much of this stream may go now.
    pub(super) fn pacing(&self, now: Now, partition: TopicPartition, node: NodeId) -> Pacing {
        if !self.is_on.load(Ordering::Relaxed) {
            return Pacing::Free;
        }
        self.slowed().pacing(now.mono, (partition, node))
    }

    /// So much of this stream goes, or is about to.
    pub(super) fn take(&self, partition: TopicPartition, node: NodeId, bytes: u64) {
        self.change(partition, node, |bucket| bucket.take(bytes));
    }

    /// `charged` was taken before it was known that `sent` would go. 0: the stream was not slowed then.
    pub(super) fn settle(&self, partition: TopicPartition, node: NodeId, charged: u64, sent: u64) {
        match charged {
            0 => {}
            _ if sent > charged => self.take(partition, node, sent - charged),
            _ => self.change(partition, node, |bucket| bucket.give_back(charged - sent)),
        }
    }

    fn change(&self, partition: TopicPartition, node: NodeId, change: impl Fn(&mut Bucket)) {
        if self.is_on.load(Ordering::Relaxed) {
            self.slowed().buckets((partition, node)).for_each(change);
        }
    }

    /// The stream is looked at again then, or when the throttles change.
    pub(super) fn wait(&self, core: &Core, at: Option<Duration>, waiting: Waiting, fx: &mut Effects) {
        let mut slowed = self.slowed();
        slowed.waiting.push(waiting);
        if let Some(at) = at {
            slowed.at = Some(slowed.at.map_or(at, |before| before.min(at)));
            core.timer.by(at, fx);
        }
    }

    pub(super) fn due(&self) -> Option<Duration> {
        if self.is_on.load(Ordering::Relaxed) { self.slowed().at } else { None }
    }

    /// All that waits, when it is time for one of them: those that come too early wait again.
    pub(super) fn take_due(&self, now: Now) -> Vec<Waiting> {
        if !self.is_on.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let mut slowed = self.slowed();
        if slowed.at.is_none_or(|at| now.mono < at) {
            return Vec::new();
        }
        slowed.at = None;
        std::mem::take(&mut slowed.waiting)
    }
}

impl Slowed {
    fn follow(&mut self, now: Duration, throttles: Throttles) {
        let set = |bucket: Option<Bucket>, rate: u64| match bucket {
            Some(mut bucket) => {
                bucket.set_rate(now, rate);
                bucket
            }
            None => Bucket::new(now, rate),
        };
        let leader = self.leader.take();
        self.leader = throttles.leader_rate.map(|rate| set(leader, rate));
        let mut before = std::mem::take(&mut self.followers);
        let rates = throttles.follower_rates.iter();
        self.followers = rates.map(|(node, rate)| (*node, set(before.remove(node), *rate))).collect();
        self.throttles = throttles;
    }

    fn buckets(&mut self, stream: (TopicPartition, NodeId)) -> impl Iterator<Item = &mut Bucket> {
        let sides = self.throttles.streams.get(&stream).copied();
        let leader = self.leader.as_mut().filter(|_| sides.is_some_and(|sides| sides.leader));
        let follower = self.followers.get_mut(&stream.1).filter(|_| sides.is_some_and(|sides| sides.follower));
        leader.into_iter().chain(follower)
    }

    fn pacing(&mut self, now: Duration, stream: (TopicPartition, NodeId)) -> Pacing {
        let mut pacing = Pacing::Free;
        for bucket in self.buckets(stream) {
            pacing = match (pacing, bucket.allowed(now)) {
                (Pacing::Free, Allowed::Bytes(bytes)) => Pacing::Bytes(bytes),
                (Pacing::Free, Allowed::NotBefore(at)) => Pacing::Wait(at),
                (Pacing::Bytes(before), Allowed::Bytes(bytes)) => Pacing::Bytes(bytes.min(before)),
                (Pacing::Bytes(_), Allowed::NotBefore(at)) => Pacing::Wait(at),
                (Pacing::Wait(before), Allowed::Bytes(_)) => Pacing::Wait(before),
                // The later of both; never, where one of them says so.
                (Pacing::Wait(before), Allowed::NotBefore(at)) => {
                    Pacing::Wait(before.zip(at).map(|(before, at)| before.max(at)))
                }
            };
        }
        pacing
    }
}

/// These may send again, or find out that they may not.
pub(super) fn go_on(core: &Core, waiting: Vec<Waiting>) {
    for waiting in waiting {
        match waiting {
            Waiting::Hot { node, partition } => partition.is_held_back_no_more(core, node),
            Waiting::Cold { node, stream, partition } => core.replicas.read_again(node, stream, partition),
        }
    }
}

impl Partition {
    /// How many bytes of a stream may be sent from memory now. `None`: it waits.
    pub(super) fn paced(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        outflow: &mut Outflow,
        fx: &mut Effects,
    ) -> Option<u32> {
        let throttling = &core.replicas.throttling;
        let bytes = match throttling.pacing(now, self.id, outflow.node) {
            Pacing::Free => FRAME_RECORD_BYTES,
            Pacing::Bytes(bytes) => bytes.min(FRAME_RECORD_BYTES),
            Pacing::Wait(at) => {
                if !std::mem::replace(&mut outflow.held_back, true) {
                    let waiting = Waiting::Hot { node: outflow.node, partition: Arc::clone(self) };
                    throttling.wait(core, at, waiting, fx);
                }
                return None;
            }
        };
        outflow.held_back = false;
        Some(u32::try_from(bytes).expect("a frame is small"))
    }

    fn is_held_back_no_more(self: &Arc<Self>, core: &Core, node: NodeId) {
        let mut state = self.lock();
        state.outflows.iter_mut().filter(|outflow| outflow.node == node).for_each(|outflow| outflow.held_back = false);
        self.mark_to_send(core, &mut state);
    }
}

impl Replicas {
    /// A stream's next records are to be read. Where the stream has ended meanwhile, nothing comes of it.
    pub(super) fn read_again(&self, node: NodeId, stream: u32, partition: Arc<Partition>) {
        if let Some(peer) = self.serve().peers.get_mut(&node) {
            peer.cold.push_back((stream, partition));
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{PartitionIndex, TopicId};
    use replication::metadata::throttles::Sides;

    use super::*;

    const BOTH: Sides = Sides { leader: true, follower: true };

    fn stream(partition: u32) -> (TopicPartition, NodeId) {
        (TopicPartition { topic: TopicId([1; 16]), partition: PartitionIndex::new(partition) }, NodeId(2))
    }

    fn now(millis: u64) -> Now {
        Now { mono: Duration::from_millis(millis), wall_ms: 0 }
    }

    fn throttling(leader: u64, follower: u64, streams: &[(u32, Sides)]) -> Throttling {
        let throttling = Throttling::default();
        let throttles = Throttles {
            leader_rate: Some(leader),
            follower_rates: BTreeMap::from([(NodeId(2), follower)]),
            streams: streams.iter().map(|(partition, sides)| (stream(*partition), *sides)).collect(),
        };
        assert!(throttling.set(now(0), throttles).is_empty());
        throttling
    }

    fn pacing(throttling: &Throttling, millis: u64, partition: u32) -> Pacing {
        let (partition, node) = stream(partition);
        throttling.pacing(now(millis), partition, node)
    }

    #[test]
    fn the_slower_of_both_sides_holds() {
        let throttling = throttling(1_000, 100, &[(0, BOTH), (1, Sides { follower: false, ..BOTH })]);
        assert_eq!(pacing(&throttling, 500, 0), Pacing::Bytes(50));
        assert_eq!(pacing(&throttling, 500, 1), Pacing::Bytes(500));
        assert_eq!(pacing(&throttling, 500, 2), Pacing::Free);
        let (partition, node) = stream(0);
        throttling.take(partition, node, 500);
        // The leader's has 0 left and wants a tenth of a second; the follower's must pay back 450 and wants 10.
        assert_eq!(pacing(&throttling, 500, 0), Pacing::Wait(Some(Duration::from_millis(5_100))));
        assert_eq!(pacing(&throttling, 500, 1), Pacing::Wait(Some(Duration::from_millis(600))));
    }

    #[test]
    fn at_rate_0_a_stream_waits_until_the_throttles_change() {
        let throttling = throttling(1_000, 0, &[(0, BOTH)]);
        assert_eq!(pacing(&throttling, 60_000, 0), Pacing::Wait(None));
        throttling.set(now(60_000), Throttles::default());
        assert_eq!(pacing(&throttling, 60_000, 0), Pacing::Free);
    }
}

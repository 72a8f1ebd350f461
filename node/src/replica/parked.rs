//! Wishes of followers that this node's image cannot answer yet.
//!
//! Owns which of them wait. Does not own when one is too early: `serve` judges.
//! Invariant: a wish waits no longer than its stream is wanted. A follower that loses its replica takes the wish back; kept, it would
//! count as the word of the replica that comes to be there later, with an empty log.

use std::collections::BTreeMap;

use model::{NodeId, TopicPartition};

use super::wire::FollowPart;

#[derive(Debug, Default)]
pub(super) struct Parked {
    wishes: BTreeMap<(NodeId, TopicPartition), FollowPart>,
}

impl Parked {
    /// The latest of a follower's wishes for a partition counts.
    pub(super) fn park(&mut self, node: NodeId, part: FollowPart) {
        let parked = self.wishes.entry((node, part.partition)).or_insert(part);
        if parked.stream < part.stream {
            *parked = part;
        }
    }

    /// The link that a node's wishes came by is gone.
    pub(super) fn forget_node(&mut self, node: NodeId) {
        self.wishes.retain(|(from, _), _| *from != node);
    }

    /// A follower wants these streams no more.
    pub(super) fn forget_streams(&mut self, node: NodeId, streams: impl Iterator<Item = u32>) {
        for stream in streams {
            self.wishes.retain(|(from, _), part| *from != node || part.stream != stream);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.wishes.is_empty()
    }

    /// All of them: they may be answered by now.
    pub(super) fn take(&mut self) -> BTreeMap<(NodeId, TopicPartition), FollowPart> {
        std::mem::take(&mut self.wishes)
    }
}

#[cfg(test)]
mod tests {
    use model::{LeaderEpoch, Offset, PartitionIndex, TopicId};
    use replication::partition::follower::LogBounds;
    use replication::partition::isr::Position;

    use super::*;

    fn wish(partition: u32, stream: u32) -> FollowPart {
        FollowPart {
            stream,
            partition: TopicPartition { topic: TopicId([1; 16]), partition: PartitionIndex::new(partition) },
            epoch: LeaderEpoch::new(1),
            bounds: LogBounds { start: Offset::ZERO, end: Offset::new(9), latest: None },
            position: Position::default(),
        }
    }

    fn streams(parked: &mut Parked) -> Vec<(i32, u32)> {
        parked.take().into_iter().map(|((node, _), part)| (node.0, part.stream)).collect()
    }

    fn three() -> Parked {
        let mut parked = Parked::default();
        for (node, partition, stream) in [(2, 0, 5), (2, 1, 6), (3, 0, 5)] {
            parked.park(NodeId(node), wish(partition, stream));
        }
        parked
    }

    #[test]
    fn a_wish_goes_with_its_stream() {
        let mut parked = three();
        parked.forget_streams(NodeId(2), [5, 99].into_iter());
        assert_eq!(streams(&mut parked), [(2, 6), (3, 5)]);
        assert!(parked.is_empty());
    }

    #[test]
    fn a_later_wish_takes_the_place_of_an_earlier_one_and_outlives_it() {
        let mut parked = three();
        parked.park(NodeId(2), wish(0, 8));
        parked.park(NodeId(2), wish(0, 7));
        parked.forget_streams(NodeId(2), [5].into_iter());
        assert_eq!(streams(&mut parked), [(2, 8), (2, 6), (3, 5)]);
    }

    #[test]
    fn wishes_go_with_the_link_that_they_came_by() {
        let mut parked = three();
        parked.forget_node(NodeId(2));
        assert_eq!(streams(&mut parked), [(3, 5)]);
    }
}

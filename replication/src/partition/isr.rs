//! Which replicas count, and how far they are: the high watermark is made here.
//!
//! Owns committed and proposed in-sync sets and each replica's position. Does not own when to propose a change.
//! Invariant: the high watermark is the least position over the *maximal* set: what is committed plus additions that are only
//! proposed, or about to be. A removal counts once it is committed. (An addition may be decided before we hear of it, a removal may
//! not be.)
//! Invariant: it moves only while at least `min_in_sync` members are committed and stay so under the proposal, and never back.

use std::collections::{BTreeMap, BTreeSet};

use model::planted::{self, Bug};
use model::{NodeId, Offset};

/// Which position of a replica counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// What is synced to its disk: a topic that flushes.
    Synced,
    /// What its kernel has: `flush.messages` other than 1.
    Written,
}

/// How far one replica is. Each is the offset behind the last record that it has so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Position {
    pub written: Offset,
    pub synced: Offset,
}

impl Position {
    /// Positions only grow while a leader leads: reports may overtake each other.
    fn advance(&mut self, to: Position) {
        self.written = self.written.max(to.written);
        self.synced = self.synced.max(to.synced);
    }

    fn counted(self, durability: Durability) -> Offset {
        match durability {
            Durability::Synced if planted::is(Bug::WatermarkFromWritten) => self.written,
            Durability::Synced => self.synced,
            // What is synced through the journal is safer than what is only written.
            Durability::Written => self.written.max(self.synced),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Isr {
    committed: BTreeSet<NodeId>,
    proposed: Option<BTreeSet<NodeId>>,
    /// Is proposed as soon as it has all below the high watermark, which waits for it meanwhile.
    joining: Option<NodeId>,
    positions: BTreeMap<NodeId, Position>,
}

impl Isr {
    pub fn new(committed: BTreeSet<NodeId>) -> Isr {
        Isr { committed, proposed: None, joining: None, positions: BTreeMap::new() }
    }

    /// Nothing is known of the others any more: a new leader asks them all.
    pub fn forget_others(&mut self, node: NodeId) {
        self.positions.retain(|replica, _| *replica == node);
        self.joining = None;
        self.proposed = None;
    }

    /// Others are no replicas any more: their data goes, and when they come again they have what they say then.
    pub fn keep_only(&mut self, replicas: &BTreeSet<NodeId>) {
        self.positions.retain(|node, _| replicas.contains(node));
        self.joining = self.joining.filter(|node| replicas.contains(node));
    }

    /// Of one replica: its process started anew, or its log ends elsewhere.
    pub fn restart(&mut self, node: NodeId, at: Position) {
        self.positions.insert(node, at);
    }

    pub fn committed(&self) -> &BTreeSet<NodeId> {
        &self.committed
    }

    pub fn proposed(&self) -> Option<&BTreeSet<NodeId>> {
        self.proposed.as_ref()
    }

    pub fn position(&self, node: NodeId) -> Position {
        self.positions.get(&node).copied().unwrap_or_default()
    }

    pub fn advance(&mut self, node: NodeId, to: Position) {
        self.positions.entry(node).or_default().advance(to);
    }

    /// How far a replica is by the position that counts.
    pub fn counted(&self, node: NodeId, durability: Durability) -> Offset {
        self.position(node).counted(durability)
    }

    pub fn joining(&self) -> Option<NodeId> {
        self.joining
    }

    /// From now on it counts.
    pub fn join(&mut self, node: Option<NodeId>) {
        self.joining = node;
    }

    /// A change was sent to the controller; its fate is not known.
    pub fn propose(&mut self, isr: BTreeSet<NodeId>) {
        self.joining = self.joining.filter(|node| !isr.contains(node));
        self.proposed = Some(isr);
    }

    /// The controller did not take it.
    pub fn withdraw(&mut self) {
        self.proposed = None;
    }

    /// The controller decided, for or against what was proposed.
    pub fn commit(&mut self, isr: BTreeSet<NodeId>) {
        self.joining = self.joining.filter(|node| !isr.contains(node));
        self.committed = isr;
        self.proposed = None;
    }

    /// The members that are certain: an acks=all append needs `min.insync.replicas` of them.
    pub fn certain(&self) -> usize {
        match &self.proposed {
            None => self.committed.len(),
            Some(proposed) => self.committed.intersection(proposed).count(),
        }
    }

    /// How far all of the maximal set are. `None` while too few members are certain.
    pub fn high_watermark(&self, durability: Durability, min_in_sync: usize) -> Option<Offset> {
        if self.certain() < min_in_sync {
            return None;
        }
        let added = self.proposed.iter().flatten().chain(&self.joining);
        if planted::is(Bug::WatermarkFromOneFollower) {
            let mut all: Vec<_> = self.positions.values().map(|position| position.counted(durability)).collect();
            all.sort();
            return all.iter().rev().nth(1).or(all.last()).copied();
        }
        if let Some(proposed) = self.proposed.as_ref().filter(|_| planted::is(Bug::FencedLeaderAcks)) {
            return proposed.iter().map(|node| self.position(*node).counted(durability)).min();
        }
        self.committed.iter().chain(added).map(|node| self.position(*node).counted(durability)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nodes: &[i32]) -> BTreeSet<NodeId> {
        nodes.iter().map(|node| NodeId(*node)).collect()
    }

    fn at(written: i64, synced: i64) -> Position {
        Position { written: Offset::new(written), synced: Offset::new(synced) }
    }

    /// Three replicas with `(written, synced)`, a committed set and a proposed one.
    fn check(
        positions: [(i64, i64); 3],
        committed: &[i32],
        proposed: Option<&[i32]>,
        min: usize,
        synced: Option<i64>,
        written: Option<i64>,
    ) {
        let mut isr = Isr::new(set(committed));
        for (node, (written, synced)) in (1..).zip(positions) {
            isr.advance(NodeId(node), at(written, synced));
        }
        if let Some(proposed) = proposed {
            isr.propose(set(proposed));
        }
        assert_eq!(isr.high_watermark(Durability::Synced, min), synced.map(Offset::new));
        assert_eq!(isr.high_watermark(Durability::Written, min), written.map(Offset::new));
    }

    #[test]
    fn the_slowest_member_of_the_committed_set_decides() {
        let positions = [(9, 8), (7, 6), (5, 4)];
        check(positions, &[1, 2, 3], None, 2, Some(4), Some(5));
        check(positions, &[1, 2], None, 2, Some(6), Some(7));
        check(positions, &[1], None, 1, Some(8), Some(9));
    }

    #[test]
    fn it_stands_still_below_the_minimum() {
        check([(9, 8), (7, 6), (5, 4)], &[1], None, 2, None, None);
    }

    #[test]
    fn a_proposed_addition_counts_at_once() {
        check([(9, 8), (7, 6), (5, 4)], &[1, 2], Some(&[1, 2, 3]), 2, Some(4), Some(5));
    }

    #[test]
    fn a_proposed_removal_counts_only_when_committed() {
        let positions = [(9, 8), (7, 6), (5, 4)];
        check(positions, &[1, 2, 3], Some(&[1, 2]), 2, Some(4), Some(5));
        // And until then the member that may be gone does not count towards the minimum.
        check(positions, &[1, 2, 3], Some(&[1, 2]), 3, None, None);
    }

    #[test]
    fn a_report_that_was_overtaken_moves_nothing_back() {
        let mut isr = Isr::new(set(&[1]));
        isr.advance(NodeId(1), at(9, 8));
        isr.advance(NodeId(1), at(5, 5));
        assert_eq!(isr.position(NodeId(1)), at(9, 8));
    }

    #[test]
    fn who_is_about_to_join_holds_the_high_watermark_until_it_is_taken() {
        let mut isr = Isr::new(set(&[1]));
        isr.advance(NodeId(1), at(9, 9));
        isr.advance(NodeId(2), at(7, 7));
        isr.join(Some(NodeId(2)));
        assert_eq!(isr.high_watermark(Durability::Synced, 1), Some(Offset::new(7)));
        isr.propose(set(&[1, 2]));
        assert_eq!((isr.joining(), isr.high_watermark(Durability::Synced, 1)), (None, Some(Offset::new(7))));
        isr.withdraw();
        assert_eq!(isr.high_watermark(Durability::Synced, 1), Some(Offset::new(9)));
    }

    #[test]
    fn what_is_synced_counts_as_written() {
        check([(0, 8), (0, 0), (0, 0)], &[1], None, 1, Some(8), Some(8));
    }
}

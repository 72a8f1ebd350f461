//! What a leader has sent to one follower of one partition, and what it sends next.
//!
//! Owns the choice of lane and the place in the log. Does not own credit, frames or reads: `serve` and `catch_up`.
//! Invariant: what is sent of one stream has no gap. A stream changes its lane only when all that was sent on the other has arrived:
//! what is on one lane does not wait for what is on the other.

use model::{NodeId, Offset};
use replication::partition::follower::LeaderLimits;
use replication::partition::isr::Position;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    /// From memory, on the in-sync lane.
    Hot,
    /// In the queue of those that are read for, for the catch-up lane.
    Cold,
    /// A read for it is under way.
    Reading,
    /// Until all that was sent has arrived.
    Changing,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Outflow {
    pub(crate) node: NodeId,
    pub(crate) stream: u32,
    pub(crate) flow: Flow,
    /// Everything below was sent, or was there when it began.
    pub(crate) next: Offset,
    /// Everything below has arrived.
    pub(crate) arrived: Offset,
    /// Where its log begins for good, as it said.
    pub(crate) log_start: Offset,
    /// It waits until its throttle allows more.
    pub(crate) held_back: bool,
    /// What the follower was told last.
    pub(crate) told: Option<LeaderLimits>,
}

impl Outflow {
    pub(crate) fn new(node: NodeId, stream: u32, end: Offset) -> Outflow {
        Outflow {
            node,
            stream,
            flow: Flow::Hot,
            next: end,
            arrived: end,
            log_start: Offset::ZERO,
            held_back: false,
            told: None,
        }
    }

    /// The follower says how far it is. Returns whether the stream can go on that could not before.
    pub(crate) fn reported(&mut self, position: Position) -> bool {
        let arrived = position.written.max(position.synced).min(self.next);
        self.arrived = self.arrived.max(arrived);
        self.settle()
    }

    /// Goes on in memory, if it waited for what was sent.
    fn settle(&mut self) -> bool {
        let settled = self.flow == Flow::Changing && self.arrived >= self.next;
        if settled {
            self.flow = Flow::Hot;
            // Whatever moved meanwhile was not told.
            self.told = None;
        }
        settled
    }

    /// What is next is not in memory. Returns whether it is to be read now.
    pub(crate) fn grow_cold(&mut self) -> bool {
        assert!(self.flow == Flow::Hot);
        let may_change = self.arrived >= self.next;
        self.flow = if may_change { Flow::Cold } else { Flow::Changing };
        may_change
    }

    /// A read has brought what lies below `next`; the log ends at `log_end`.
    pub(crate) fn was_read(&mut self, next: Offset, log_end: Offset) {
        assert!(self.flow == Flow::Reading);
        assert!(next >= self.next);
        self.next = next;
        self.flow = if next < log_end { Flow::Cold } else { Flow::Changing };
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> Offset {
        Offset::new(offset)
    }

    fn has(end: i64) -> Position {
        Position { written: at(end), synced: Offset::ZERO }
    }

    #[test]
    fn a_lane_is_changed_only_when_all_that_was_sent_has_arrived() {
        let mut outflow = Outflow::new(NodeId(2), 7, at(10));
        outflow.next = at(15);
        assert!(!outflow.grow_cold());
        assert_eq!(outflow.flow, Flow::Changing);
        assert!(!outflow.reported(has(14)));
        assert!(outflow.reported(has(15)));
        assert!(outflow.grow_cold());
        outflow.flow = Flow::Reading;
        outflow.was_read(at(20), at(30));
        assert_eq!(outflow.flow, Flow::Cold);
        outflow.flow = Flow::Reading;
        outflow.was_read(at(30), at(30));
        assert_eq!(outflow.flow, Flow::Changing);
        assert!(outflow.reported(has(99)), "it cannot have more than was sent");
        assert_eq!((outflow.flow, outflow.arrived), (Flow::Hot, at(30)));
    }
}

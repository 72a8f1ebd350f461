//! Loaded indexes of segments: how many the node keeps, and which one goes.
//!
//! Owns the budget and the order. Does not own an index: its segment does, and loads again what was let go. A loaded index of a file is up
//! to two maps of the process, of which the kernel allows 65,530; one that had to be rebuilt is memory.
//! Second chance: what a read has used since it was last looked at goes to the back once more, so that a use costs no lock.
//! Invariant: after `keep`, no more than the budget is kept, except one index that is larger than all of it.
//! Locks: nothing is locked below the order's; partitions are locked after it was given back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use model::Offset;
use model::units::MIB;
use storage::offset_index::LoadedIndex;
use storage::reader::Learned;

use crate::partition::handle::Partition;

/// How much may be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexBudget {
    pub indexes_max: usize,
    pub bytes_max: u64,
}

impl Default for IndexBudget {
    fn default() -> IndexBudget {
        IndexBudget { indexes_max: 8 * 1024, bytes_max: 64 * MIB }
    }
}

#[derive(Debug)]
pub(crate) struct Indexes {
    budget: IndexBudget,
    order: Mutex<Order>,
}

#[derive(Debug, Default)]
struct Order {
    /// The front is looked at next.
    kept: VecDeque<Kept>,
    bytes: u64,
    evictions: u64,
}

/// An index that its segment holds on to. One whose segment is gone stays here until it is looked at, and counts until then.
#[derive(Debug)]
struct Kept {
    partition: Weak<Partition>,
    segment: Offset,
    index: Weak<LoadedIndex>,
    bytes: u64,
}

impl Indexes {
    pub(crate) fn new(budget: IndexBudget) -> Indexes {
        Indexes { budget, order: Mutex::default() }
    }

    /// Notes what a partition has just learned, and lets others go for it.
    pub(crate) fn keep(&self, partition: &Arc<Partition>, learned: &[Learned]) {
        let victims = {
            let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
            for learned in learned {
                let (index, bytes) = (Arc::downgrade(learned.index()), learned.index().bytes());
                order.bytes = order.bytes.saturating_add(bytes);
                order.kept.push_back(Kept {
                    partition: Arc::downgrade(partition),
                    segment: learned.segment(),
                    index,
                    bytes,
                });
            }
            order.shrink(self.budget)
        };
        for victim in victims {
            let (Some(partition), Some(index)) = (victim.partition.upgrade(), victim.index.upgrade()) else { continue };
            // Bound, so that the maps go when the lock is given back.
            let forgotten = partition.lock().log.forget_index(victim.segment, &index);
            drop(forgotten);
        }
    }

    /// Indexes kept, their bytes, and how many made room for others so far.
    pub(crate) fn figures(&self) -> (u64, u64, u64) {
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        (order.kept.len() as u64, order.bytes, order.evictions)
    }
}

impl Order {
    fn shrink(&mut self, budget: IndexBudget) -> Vec<Kept> {
        let mut victims = Vec::new();
        // Each may be spared once: readers could use them as fast as we look.
        let mut spared = self.kept.len();
        while self.kept.len() > budget.indexes_max || (self.bytes > budget.bytes_max && self.kept.len() > 1) {
            let Some(oldest) = self.kept.pop_front() else { break };
            let is_used = oldest.index.upgrade().is_some_and(|index| index.take_use());
            if is_used && spared > 0 {
                spared -= 1;
                self.kept.push_back(oldest);
                continue;
            }
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
            if oldest.index.strong_count() > 0 {
                self.evictions += 1;
                victims.push(oldest);
            }
        }
        victims
    }
}

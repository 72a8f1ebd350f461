//! What is to happen, in order of time; what is due at the same moment happens in the order in which it was scheduled.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Nanoseconds since the start of the simulation.
pub type At = u64;

pub const MICROSECOND: At = 1_000;
pub const MILLISECOND: At = 1_000_000;
pub const SECOND: At = 1_000_000_000;

pub struct Queue<T> {
    /// When, which in the order of scheduling, and where it lies: what is to happen is large, and a heap moves its entries about.
    heap: BinaryHeap<Reverse<(At, u64, usize)>>,
    slots: Vec<Option<T>>,
    free: Vec<usize>,
    next: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue { heap: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), next: 0 }
    }
}

impl<T> Queue<T> {
    pub fn push(&mut self, at: At, what: T) {
        self.next += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(what);
        self.heap.push(Reverse((at, self.next, slot)));
    }

    pub fn pop(&mut self) -> Option<(At, T)> {
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        let what = self.slots[slot].take().expect("a slot is filled while the heap names it");
        Some((at, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_comes_first_and_then_the_order_of_scheduling() {
        let mut queue = Queue::default();
        for (at, what) in [(5, 'a'), (3, 'b'), (5, 'c'), (3, 'd')] {
            queue.push(at, what);
        }
        assert_eq!(queue.pop(), Some((3, 'b')));
        queue.push(4, 'e');
        let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(rest, [(3, 'd'), (4, 'e'), (5, 'a'), (5, 'c')]);
    }
}

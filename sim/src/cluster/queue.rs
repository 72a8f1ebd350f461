//! What is to happen, in order of time; what is due at the same moment happens in the order in which it was scheduled.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Nanoseconds since the start of the simulation.
pub type At = u64;

pub const MICROSECOND: At = 1_000;
pub const MILLISECOND: At = 1_000_000;
pub const SECOND: At = 1_000_000_000;

struct Entry<T> {
    at: At,
    number: u64,
    what: T,
}

pub struct Queue<T> {
    heap: BinaryHeap<Entry<T>>,
    next: u64,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Entry<T>) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Entry<T>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    /// Reversed: the heap gives its greatest first.
    fn cmp(&self, other: &Entry<T>) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue { heap: BinaryHeap::new(), next: 0 }
    }
}

impl<T> Queue<T> {
    pub fn push(&mut self, at: At, what: T) {
        self.next += 1;
        self.heap.push(Entry { at, number: self.next, what });
    }

    pub fn pop(&mut self) -> Option<(At, T)> {
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }
}

//! The memory that a node may use for what clients send and read, split once, with the limit in each refusal.
//!
//! Owns the limits and the counters. Does not own what happens over one: the caller answers `Busy` or flushes.
//! Invariant: what is taken is given back exactly once; a counter never goes below zero.

use std::sync::atomic::{AtomicU64, Ordering};

use model::units::MIB;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BudgetLimits {
    /// Frames that wait for the journal or for a segment write.
    pub append_bytes: u64,
    /// Tails that hold what is written already, so that readers at the end need no file.
    pub tail_bytes: u64,
    /// Idempotent producers remembered in one partition.
    pub producers: usize,
    /// Requests that wait for one partition.
    pub waiters: usize,
}

impl BudgetLimits {
    /// Splits `memory_bytes`: the rest is for connections and answers, which the server counts.
    pub fn for_memory(memory_bytes: u64) -> BudgetLimits {
        BudgetLimits {
            append_bytes: (memory_bytes / 4).max(16 * MIB),
            tail_bytes: (memory_bytes / 8).max(4 * MIB),
            producers: 10_000,
            waiters: 100_000,
        }
    }
}

/// Bytes in use against the limits.
#[derive(Debug)]
pub struct Budget {
    limits: BudgetLimits,
    append_bytes: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{asked} bytes asked, {used} of {limit} in use")]
pub struct OverBudget {
    pub asked: u64,
    pub used: u64,
    pub limit: u64,
}

impl Budget {
    pub fn new(limits: BudgetLimits) -> Budget {
        Budget { limits, append_bytes: AtomicU64::new(0) }
    }

    pub fn limits(&self) -> &BudgetLimits {
        &self.limits
    }

    /// Bytes of appends in flight.
    pub fn append_bytes(&self) -> u64 {
        self.append_bytes.load(Ordering::Relaxed)
    }

    /// Takes memory for an append. One append is let in when nothing else is in flight, so that any batch can pass.
    pub fn take_append(&self, bytes: u64) -> Result<(), OverBudget> {
        let used = self.append_bytes.fetch_add(bytes, Ordering::Relaxed);
        if used > 0 && used + bytes > self.limits.append_bytes {
            self.append_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(OverBudget { asked: bytes, used, limit: self.limits.append_bytes });
        }
        Ok(())
    }

    pub fn give_append(&self, bytes: u64) {
        let before = self.append_bytes.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "given back more than was taken: {bytes} of {before}");
    }
}

/// Bytes that the tails of all logs hold.
#[derive(Debug)]
pub struct TailMemory {
    limits: BudgetLimits,
    unwritten_bytes: AtomicU64,
    bytes: AtomicU64,
}

/// What is counted for one log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    unwritten: u64,
    bytes: u64,
}

impl TailMemory {
    pub fn new(limits: BudgetLimits) -> TailMemory {
        TailMemory { limits, unwritten_bytes: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// A log's tail holds this much now, of which `unwritten` is in no segment file.
    pub fn moved(&self, counted: &mut Counted, unwritten: u64, bytes: u64) {
        let now = Counted { unwritten, bytes };
        if *counted == now {
            return;
        }
        // Wrapping: what is added for one log was added before it is taken away.
        self.unwritten_bytes.fetch_add(now.unwritten.wrapping_sub(counted.unwritten), Ordering::Relaxed);
        self.bytes.fetch_add(now.bytes.wrapping_sub(counted.bytes), Ordering::Relaxed);
        *counted = now;
    }

    pub fn unwritten_bytes(&self) -> u64 {
        self.unwritten_bytes.load(Ordering::Relaxed)
    }

    /// Each tail is to be written, however little it holds.
    pub fn wants_writes(&self) -> bool {
        self.unwritten_bytes() > self.limits.append_bytes / 2
    }

    /// No append may come in before some tails are written.
    pub fn is_full(&self) -> bool {
        self.unwritten_bytes() > self.limits.append_bytes
    }

    /// Written batches are to go from memory.
    pub fn wants_eviction(&self) -> bool {
        self.bytes.load(Ordering::Relaxed).saturating_sub(self.unwritten_bytes()) > self.limits.tail_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_append_over_the_limit_is_refused_with_the_limit() {
        let limits = BudgetLimits { append_bytes: 100, ..BudgetLimits::for_memory(0) };
        let budget = Budget::new(limits);
        budget.take_append(60).expect("fits");
        assert_eq!(budget.take_append(41), Err(OverBudget { asked: 41, used: 60, limit: 100 }));
        budget.take_append(40).expect("fits exactly");
        budget.give_append(100);
        assert_eq!(budget.append_bytes(), 0);
    }

    #[test]
    fn a_batch_larger_than_the_limit_passes_alone() {
        let limits = BudgetLimits { append_bytes: 100, ..BudgetLimits::for_memory(0) };
        let budget = Budget::new(limits);
        budget.take_append(1_000).expect("nothing else is in flight");
        assert!(budget.take_append(1).is_err());
    }
}

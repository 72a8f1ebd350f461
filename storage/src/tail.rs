//! The end of a log in memory: what is not in a segment file yet, and a bounded rest that readers at the end still ask for.
//!
//! Owns the batches and which of them are written. Does not own positions of the log.
//! Invariant: batches follow one another without gap in operation order; those that are not written are never evicted.

use std::collections::VecDeque;

use model::Offset;
use model::batch::StoredBatch;

use crate::segment::Place;

#[derive(Clone, Debug)]
pub(crate) struct TailBatch {
    pub(crate) batch: StoredBatch,
    pub(crate) operation: u64,
    pub(crate) at: Place,
    /// Its bytes are on their way to the segment beside the journal, or are there.
    pub(crate) direct: bool,
}

impl TailBatch {
    pub(crate) fn bytes(&self) -> u32 {
        u32::try_from(self.batch.size()).expect("BATCH_BYTES_MAX")
    }

    pub(crate) fn end_position(&self) -> u32 {
        self.at.position + self.bytes()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Tail {
    batches: VecDeque<TailBatch>,
    /// How many, from the front, are in the segment files.
    written: usize,
    bytes: u64,
    unwritten_bytes: u64,
}

impl Tail {
    pub(crate) fn push(&mut self, batch: TailBatch) {
        let bytes = u64::from(batch.bytes());
        self.bytes += bytes;
        self.unwritten_bytes += bytes;
        self.batches.push_back(batch);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn unwritten_bytes(&self) -> u64 {
        self.unwritten_bytes
    }

    pub(crate) fn first_offset(&self) -> Option<Offset> {
        self.batches.front().map(|first| first.batch.base_offset())
    }

    /// Batches that no segment file has yet.
    pub(crate) fn unwritten(&self) -> impl Iterator<Item = &TailBatch> {
        self.batches.range(self.written.min(self.batches.len())..)
    }

    pub(crate) fn unwritten_mut(&mut self) -> impl Iterator<Item = &mut TailBatch> {
        let from = self.written.min(self.batches.len());
        self.batches.range_mut(from..)
    }

    /// Moves the mark over the next batch, which is now in its segment file.
    pub(crate) fn advance(&mut self) -> Option<&TailBatch> {
        let batch = self.batches.get(self.written)?;
        self.written += 1;
        self.unwritten_bytes -= u64::from(batch.bytes());
        Some(batch)
    }

    /// Batches from the one that holds `from` on.
    pub(crate) fn from(&self, from: Offset) -> impl Iterator<Item = &TailBatch> {
        let first = self.batches.partition_point(|batch| batch.batch.last_offset() < from);
        self.batches.range(first..)
    }

    pub(crate) fn last(&self) -> Option<&TailBatch> {
        self.batches.back()
    }

    /// Where the first batch begins whose operation comes behind `operation`. `None`: there is none.
    pub(crate) fn end_of(&self, operation: u64) -> Option<Offset> {
        let first = self.batches.partition_point(|batch| batch.operation <= operation);
        self.batches.get(first).map(|batch| batch.batch.base_offset())
    }

    /// Drops written batches from the front until at most `keep_bytes` of memory are held.
    pub(crate) fn evict(&mut self, keep_bytes: u64) -> u64 {
        let before = self.bytes;
        while self.written > 0 && self.bytes > keep_bytes {
            let Some(gone) = self.batches.pop_front() else { break };
            self.bytes -= u64::from(gone.bytes());
            self.written -= 1;
        }
        if self.batches.is_empty() {
            self.batches.shrink_to(0);
        }
        before - self.bytes
    }

    /// Drops batches that reach `end` or lie behind.
    pub(crate) fn truncate_to(&mut self, end: Offset) {
        while self.batches.back().is_some_and(|batch| batch.batch.last_offset() >= end) {
            let Some(gone) = self.batches.pop_back() else { break };
            self.bytes -= u64::from(gone.bytes());
            if self.written > self.batches.len() {
                self.written = self.batches.len();
            } else {
                self.unwritten_bytes -= u64::from(gone.bytes());
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Tail::default();
    }
}

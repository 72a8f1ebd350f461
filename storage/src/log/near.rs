//! Whether somebody is about to read what is being written.
//!
//! Owns that guess. Does not own the cache: `Disk::write_at` is told whether to keep the bytes there.
//! Pages of a cache that nobody reads cost more than everything else that an append does: they are found, often cleared, and
//! written back later. Readers at the end are served from the tail, so only those that are a little behind need them.
//! Invariant: a guess that is wrong costs time, never an answer.

use model::Offset;
use model::units::MIB;

use super::Log;
use crate::reader::ReadPlan;

/// A reader that is at most so far from the end comes to what is written now within a moment.
const NEAR_BYTES: u64 = 64 * MIB;
/// For so many bytes behind the last such read it is believed that the reader still comes.
const BELIEVED_BYTES: u64 = 64 * MIB;

#[derive(Debug, Default)]
pub(super) struct NearReaders {
    /// Bytes appended since the log was opened.
    pub(super) appended: u64,
    /// Until so many are appended, what is written stays in the cache.
    believed_until: u64,
}

impl NearReaders {
    pub(super) fn are_believed(&self) -> bool {
        self.appended < self.believed_until
    }
}

impl Log {
    /// A reader's plan, which may show that one follows close behind the end, and out of the files.
    pub fn note_reader(&mut self, plan: &ReadPlan) {
        if !plan.is_in_memory() && self.bytes_behind(plan.from) <= NEAR_BYTES {
            self.near.believed_until = self.near.appended + BELIEVED_BYTES;
        }
    }

    /// About how many bytes lie at `from` and behind: within a segment, as if all batches were alike.
    fn bytes_behind(&self, from: Offset) -> u64 {
        let mut end = self.log_end;
        let mut bytes = 0;
        for facts in self.segments.iter().rev().map(|segment| &segment.facts) {
            let size = u64::from(facts.size);
            if facts.base <= from {
                let (all, behind) = (end.since(facts.base).max(1), end.max(from).since(from));
                return bytes + u64::try_from(u128::from(size) * u128::from(behind) / u128::from(all)).unwrap_or(size);
            }
            bytes += size;
            end = facts.base;
        }
        bytes
    }
}

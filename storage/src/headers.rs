//! The headers of a log's batches, one after the other.
//!
//! Owns the walk over files and tail. Does not own what is learnt from it: producers, after a log was cut.
//! Invariant: headers come in offset order, each once, of batches that lie between the plan's bounds as a whole.

use model::Offset;
use model::batch::{BatchHeader, StoredBatch};

use crate::disk::{Disk, ReadMode};
use crate::log::Log;
use crate::reader::{FilePart, ReadError};

/// Planned under the log's lock, run without it.
#[derive(Debug)]
pub struct HeaderPlan {
    from: Offset,
    to: Offset,
    files: Vec<FilePart>,
    tail: Vec<StoredBatch>,
}

impl Log {
    /// Plans a walk over the batches that begin at or behind `from` and end at or before `to`.
    pub fn plan_headers(&self, from: Offset, to: Offset) -> HeaderPlan {
        let from = from.max(self.log_start());
        let written = self.written_end();
        let files = if from < written.min(to) { self.parts_from(from) } else { Vec::new() };
        HeaderPlan { from, to, files, tail: self.tail_from(from.max(written)) }
    }
}

impl HeaderPlan {
    /// May wait for the disk.
    ///
    /// # Errors
    /// When the disk fails, or a segment holds bytes that are no batch.
    pub fn run(&self, disk: &dyn Disk, each: &mut dyn FnMut(&BatchHeader)) -> Result<(), ReadError> {
        let mut next = self.from;
        let mut see = |header: &BatchHeader| {
            if header.next_offset() > self.to.get() {
                return false;
            }
            if header.base_offset >= next.get() {
                next = Offset::from_wire(header.next_offset()).unwrap_or(next);
                each(header);
            }
            true
        };
        for part in &self.files {
            let start = match part.find(disk, ReadMode::Blocking, self.from, &mut Vec::new())? {
                Some(found) => found.at.position,
                None => continue,
            };
            part.walk(disk, ReadMode::Blocking, start, &mut |_, header| !see(header))?;
        }
        for batch in &self.tail {
            if !see(batch.header()) {
                break;
            }
        }
        Ok(())
    }
}

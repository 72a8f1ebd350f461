//! Plans of reads: what is in memory is taken along, what is in files is named.
//!
//! Owns the choice of segments and tail batches. Does not read: `reader` carries a plan out, without the log's lock.
//! Invariant: a plan never names bytes behind what is written to the files, nor batches at or beyond its limit.

use std::sync::Arc;

use model::Offset;
use model::batch::StoredBatch;

use super::{Log, Place};
use crate::offset_index::LoadedIndex;
use crate::reader::{FilePart, Learned, ReadError, ReadPlan};
use crate::segment::{FileKind, Segment};
use crate::time_reader::{TimePlan, TimeTarget};

/// Segments that one read goes through at most; the next read takes the rest.
const SEGMENTS_MAX: usize = 8;

impl Log {
    /// Plans a read of whole batches from the one that holds `from`, below `limit`, of `bytes_max` or the first batch alone if that
    /// is larger (KIP-74).
    ///
    /// # Errors
    /// When `from` lies outside of start and limit; both are named.
    pub fn plan_read(&self, from: Offset, limit: Offset, bytes_max: u32) -> Result<ReadPlan, ReadError> {
        let limit = limit.min(self.log_end);
        if from < self.log_start {
            return Err(ReadError::BelowStart { start: self.log_start, got: from });
        }
        if from > limit {
            return Err(ReadError::AboveLimit { limit, end: self.log_end, got: from });
        }
        let mut plan = ReadPlan { from, limit, bytes_max: bytes_max as usize, files: Vec::new(), tail: Vec::new() };
        if from == limit {
            return Ok(plan);
        }
        if self.tail.first_offset().is_none_or(|first| first > from) && !self.plan_files(&mut plan) {
            // The tail stands behind segments that this read does not reach.
            return Ok(plan);
        }
        let mut bytes = 0;
        for item in self.tail.from(from.max(if plan.files.is_empty() { from } else { self.written.end })) {
            if item.batch.last_offset() >= limit || (bytes > 0 && bytes + item.batch.size() > plan.bytes_max) {
                break;
            }
            bytes += item.batch.size();
            plan.tail.push(item.batch.clone());
        }
        Ok(plan)
    }

    /// Whether the plan has all that is in files up to its limit.
    fn plan_files(&self, plan: &mut ReadPlan) -> bool {
        let after = self.segments.partition_point(|segment| segment.facts.base <= plan.from);
        let first = after.saturating_sub(1);
        let mut bytes = 0;
        for segment in self.segments.iter().skip(first) {
            if bytes > plan.bytes_max || plan.files.len() == SEGMENTS_MAX {
                return false;
            }
            if segment.facts.base >= plan.limit {
                return true;
            }
            let Some(part) = self.file_part(segment) else { return true };
            // Where in the first segment the read begins is not known yet, so it counts for nothing.
            bytes += if segment.facts.base > plan.from { part.end as usize } else { 0 };
            plan.files.push(part);
        }
        true
    }

    /// The part of a segment that is in its file.
    pub(super) fn file_part(&self, segment: &Segment) -> Option<FilePart> {
        let base = segment.facts.base;
        let written = self.written.at?;
        let end = match base.cmp(&written.segment) {
            std::cmp::Ordering::Less => segment.facts.size,
            std::cmp::Ordering::Equal => written.position.min(segment.facts.size),
            std::cmp::Ordering::Greater => return None,
        };
        Some(FilePart {
            base,
            generation: segment.facts.generation,
            dir: Arc::clone(&self.dir),
            data: self.file_of(segment.facts.name(), FileKind::Data),
            end,
            newest: segment.facts.newest,
            index: segment.index.clone(),
        })
    }

    /// The files that hold what lies at `from` and behind.
    pub(crate) fn parts_from(&self, from: Offset) -> Vec<FilePart> {
        let first = self.segments.partition_point(|segment| segment.facts.base <= from).saturating_sub(1);
        self.segments.iter().skip(first).filter_map(|segment| self.file_part(segment)).collect()
    }

    /// The batches in memory that lie at `from` and behind.
    pub(crate) fn tail_from(&self, from: Offset) -> Vec<StoredBatch> {
        self.tail.from(from).map(|item| item.batch.clone()).collect()
    }

    /// Plans the search for a record by its time, among the records below `limit`.
    pub fn plan_time(&self, target: TimeTarget, limit: Offset) -> TimePlan {
        let limit = limit.min(self.log_end);
        let wanted = |timestamp_ms: i64| match target {
            TimeTarget::AtLeast(wanted) => timestamp_ms >= wanted,
            TimeTarget::Newest => true,
        };
        let of_log = |segment: &&Segment| segment.facts.base < limit && wanted(segment.facts.newest.timestamp_ms);
        let files = self.segments.iter().filter(of_log).filter_map(|segment| self.file_part(segment)).collect();
        let in_memory = self.tail.from(self.written.end.max(self.log_start));
        let tail = in_memory
            .filter(|item| item.batch.last_offset() < limit && wanted(item.batch.max_timestamp()))
            .map(|item| item.batch.clone())
            .collect();
        TimePlan { target, start: self.log_start, limit, files, tail }
    }

    /// Keeps an index that a read had to load, so that the next read need not.
    pub fn learn(&mut self, learned: Learned) {
        let found = self.segments.iter_mut().find(|segment| segment.facts.base == learned.base);
        if let Some(segment) = found
            && segment.index.files == learned.files
        {
            segment.index.loaded = Some(Arc::clone(&learned.index));
        }
    }

    /// Lets a loaded index go, unless the segment has another one by now. To be dropped without the log's lock: that may unmap files.
    pub fn forget_index(&mut self, segment: Offset, index: &Arc<LoadedIndex>) -> Option<Arc<LoadedIndex>> {
        let found = self.segments.iter_mut().find(|found| found.facts.base == segment)?;
        found.index.loaded.take_if(|loaded| Arc::ptr_eq(loaded, index))
    }

    /// The start that retention by time and size asks for. Nothing at or above `high_watermark` goes.
    pub fn retention_start(&self, wall_ms: i64, high_watermark: Offset) -> Option<Offset> {
        let facts: Vec<_> = self.segments.iter().map(|segment| &segment.facts).collect();
        crate::retention::choose(&facts, &self.config, wall_ms, (self.log_start, self.log_end), high_watermark)
    }

    /// Where the batch after the last one will be put, if it does not roll.
    pub fn end_position(&self) -> Option<Place> {
        self.segments.last().map(|last| Place { segment: last.facts.base, position: last.facts.size })
    }
}

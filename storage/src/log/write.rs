//! From the tail to the segment files.
//!
//! Owns which batches are written, and in which order with what else the files need. Does not run them; small batches are copied
//! together in `SegmentWrite::steps`, without the log's lock.
//! Invariant: at most one write of a log is in flight. A file is created before it is written, in one operation.

use bytes::{Bytes, BytesMut};
use model::Offset;
use model::batch::{HEAD_BYTES, StoredBatch};

use super::files::InFlight;
use super::{Log, Place};
use crate::disk::{DiskError, FileId, Step};
use crate::segment::FileKind;

/// Bodies below this are copied together with their neighbours.
const COPY_BYTES_MAX: usize = 4 * 1024;
const COPY_CHUNK_BYTES: usize = 256 * 1024;

/// A write of one log, complete in itself.
#[derive(Debug)]
pub struct SegmentWrite {
    before: Vec<Step>,
    runs: Vec<Run>,
    after: Vec<Step>,
}

/// Batches that follow one another in one file.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) create: bool,
    pub(super) file: FileId,
    pub(super) at: u64,
    pub(super) batches: Vec<StoredBatch>,
    /// Somebody is expected to read them soon.
    pub(super) cached: bool,
}

impl Run {
    pub(super) fn steps(&self, steps: &mut Vec<Step>) {
        if self.create {
            steps.push(Step::Create { file: self.file });
            // A file of this name that a crash brought back must not show behind our bytes.
            steps.push(Step::SetLen { file: self.file, len: 0 });
        }
        if !self.batches.is_empty() {
            steps.push(Step::Write { file: self.file, at: self.at, parts: parts(&self.batches), cached: self.cached });
        }
    }
}

impl SegmentWrite {
    /// The steps, with small batches copied together. Costs a copy of them: call it without the log's lock.
    pub fn steps(self) -> Vec<Step> {
        let mut steps = self.before;
        for run in &self.runs {
            run.steps(&mut steps);
        }
        steps.extend(self.after);
        steps
    }
}

/// Batches as the file holds them: large bodies as they are, the rest copied together.
pub(crate) fn parts(batches: &[StoredBatch]) -> Vec<Bytes> {
    let is_small = |batch: &StoredBatch| batch.body().len() < COPY_BYTES_MAX;
    let copied_bytes = |batch: &StoredBatch| HEAD_BYTES + if is_small(batch) { batch.body().len() } else { 0 };
    let mut left: usize = batches.iter().map(copied_bytes).sum();
    let mut parts = Vec::new();
    let mut copied = BytesMut::new();
    for batch in batches {
        let bytes = copied_bytes(batch);
        if copied.capacity() - copied.len() < bytes {
            copied.reserve(left.min(COPY_CHUNK_BYTES).max(bytes));
        }
        left -= bytes;
        copied.extend_from_slice(&batch.head());
        if is_small(batch) {
            copied.extend_from_slice(batch.body());
        } else {
            parts.push(copied.split().freeze());
            parts.push(batch.body().clone());
        }
        if copied.len() >= COPY_CHUNK_BYTES {
            parts.push(copied.split().freeze());
        }
    }
    if !copied.is_empty() {
        parts.push(copied.freeze());
    }
    parts
}

impl Log {
    /// Whether `next_write` would give something.
    pub fn has_write(&self) -> bool {
        self.files.in_flight.is_none() && self.writable() && (self.first_unwritten() || self.file_work())
    }

    fn durable(&self) -> u64 {
        if self.journalled { self.durable_operation } else { u64::MAX }
    }

    /// A cut waits for the journal; and nothing is written beside a direct write, which may be making the file.
    fn writable(&self) -> bool {
        self.files.cut_operation <= self.durable() && self.files.directs == 0
    }

    fn first_unwritten(&self) -> bool {
        self.tail.unwritten().next().is_some_and(|batch| batch.operation <= self.durable())
    }

    fn file_work(&self) -> bool {
        !self.files.pending.is_empty()
            || self.files.removals.iter().any(|(operation, _)| *operation <= self.durable_operation)
    }

    /// The next write of this log: what the files must lose, then batches of at most about `bytes_max`. `None` when there is
    /// nothing to do or one is in flight. Its end is told to `write_done`.
    pub fn next_write(&mut self, bytes_max: u64) -> Option<SegmentWrite> {
        if !self.has_write() {
            self.advance_over_direct();
            return None;
        }
        let had_folder = self.files.folder_made;
        let (changes, removals) = self.files.take_changes(self.durable_operation);
        let mut before = self.change_steps(&changes, &removals);
        let (runs, in_flight) = self.take_runs(bytes_max, &mut before);
        let mut after = Vec::new();
        let indexes = self.index_steps(&mut after);
        if !runs.is_empty() && self.files.epochs_written != self.epochs.latest() {
            self.files.epochs_written = self.epochs.latest();
            self.epochs_steps(&mut after);
        }
        let made_folder = self.files.folder_made && !had_folder;
        self.files.in_flight = Some(InFlight { indexes, removals, changes, made_folder, ..in_flight });
        Some(SegmentWrite { before, runs, after })
    }

    fn take_runs(&mut self, bytes_max: u64, before: &mut Vec<Step>) -> (Vec<Run>, InFlight) {
        let (durable, cached) = (self.durable(), self.near.are_believed());
        let mut runs: Vec<Run> = Vec::new();
        let mut created = Vec::new();
        let (mut bytes, mut count, mut operation) = (0, 0, self.written.operation);
        let mut last_end: Option<Place> = None;
        let mut complete = true;
        for item in self.tail.unwritten() {
            if item.operation > durable || bytes >= bytes_max {
                complete = item.operation > durable;
                break;
            }
            count += 1;
            operation = item.operation;
            if item.direct {
                last_end = None;
                continue;
            }
            bytes += u64::from(item.bytes());
            let follows = last_end == Some(item.at);
            if !follows || runs.is_empty() {
                let create = self.must_create(item.at.segment) && !created.contains(&item.at.segment);
                if create {
                    created.push(item.at.segment);
                }
                let file = self.file(item.at.segment, FileKind::Data);
                runs.push(Run { create, file, at: u64::from(item.at.position), batches: Vec::new(), cached });
            }
            if let Some(run) = runs.last_mut() {
                run.batches.push(item.batch.clone());
            }
            last_end = Some(Place { segment: item.at.segment, position: item.end_position() });
        }
        if complete {
            // Operations without batches are covered too, as far as the journal has them.
            operation = operation.max(durable.min(self.last_operation));
        }
        if !created.is_empty() {
            self.folder_steps(before);
        }
        (runs, InFlight { batches: count, operation, created, valid: true, ..InFlight::default() })
    }

    pub(super) fn write_in_flight(&self) -> bool {
        self.files.in_flight.is_some()
    }

    /// Until a cut has come to the files, positions in them are not what the log says, and the cut would take what lies behind it.
    pub(super) fn direct_allowed(&self) -> bool {
        !self.files.is_cutting() && self.files.cut_operation <= self.durable()
    }

    pub(super) fn must_create(&self, base: Offset) -> bool {
        let at = self.segments.binary_search_by_key(&base, |segment| segment.facts.base);
        at.is_ok_and(|at| !self.segments[at].created)
    }

    /// The write has ended. After an error nothing of it counts: the same bytes are given again by the next `next_write`, which is
    /// of use for a full disk only.
    pub fn write_done(&mut self, result: &Result<(), DiskError>) {
        let in_flight = self.files.in_flight.take().expect("a write was in flight");
        if result.is_err() {
            return self.files.restore(in_flight);
        }
        let created = |segment: &crate::segment::Segment| in_flight.created.contains(&segment.facts.base);
        for segment in self.segments.iter_mut().filter(|segment| created(segment)) {
            segment.created = true;
            segment.dirty = true;
        }
        if !in_flight.valid {
            return;
        }
        for (base, files) in in_flight.indexes {
            if let Some(segment) = self.segments.iter_mut().find(|segment| segment.facts.base == base) {
                segment.index.wrote(files);
            }
        }
        for _ in 0..in_flight.batches {
            self.advance();
        }
        self.written.operation = self.written.operation.max(in_flight.operation);
        self.drop_written_memory();
        self.check_invariants();
    }

    /// The mark of what is in the files moves over one batch.
    fn advance(&mut self) {
        let Some(item) = self.tail.advance() else { return };
        let end = Place { segment: item.at.segment, position: item.end_position() };
        let (timestamp, last_offset) = (item.batch.header().newest_timestamp(), item.batch.last_offset().get());
        let (operation, next) = (item.operation, item.batch.next_offset());
        if self.written.at.is_none_or(|at| at.segment != end.segment) {
            self.written.newest = crate::segment::Newest::NONE;
        }
        self.written.newest.add(timestamp, last_offset);
        self.written.at = Some(end);
        self.written.end = next;
        self.written.operation = self.written.operation.max(operation);
        let at = self.segments.binary_search_by_key(&end.segment, |segment| segment.facts.base);
        if let Ok(at) = at {
            self.segments[at].dirty = true;
        }
    }

    /// Batches that went to their segment beside the journal need no write.
    pub(super) fn advance_over_direct(&mut self) {
        if self.files.in_flight.is_some() || !self.writable() || !self.files.pending.is_empty() {
            return;
        }
        let durable = self.durable();
        while self.tail.unwritten().next().is_some_and(|item| item.direct && item.operation <= durable) {
            self.advance();
        }
        if self.tail.unwritten().next().is_none_or(|item| item.operation > durable) {
            self.written.operation = self.written.operation.max(durable.min(self.last_operation));
        }
    }

    /// Sealed segments whose index is in its files keep nothing in memory.
    fn drop_written_memory(&mut self) {
        let Some((_, sealed)) = self.segments.split_last_mut() else { return };
        for segment in sealed.iter_mut().rev().take(8) {
            if segment.index.memory_entries() == 0 {
                segment.index.memory = None;
            }
        }
    }
}

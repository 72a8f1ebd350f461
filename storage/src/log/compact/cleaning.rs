//! One run of the cleaner over one log, in small steps.
//!
//! Owns the order: the keys of the dirty part go into the table; then every segment up to there is written anew without what newer
//! records replace, group by group, and each new segment takes the place of its sources before the next one is begun. Does not own the
//! log: `Log::adopt` swaps segments. Reads by itself; its writes are handed out as steps.
//! Invariant: a step reads one piece of at most a megabyte, or one batch; nothing but the table grows with the log.
//! Invariant: a value goes no later than the tombstone that replaced it, and records of a transaction no later than its outcome: groups
//! are swapped from the oldest to the newest.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use model::Offset;
use model::batch::{StoredBatch, split_stored};
use model::limits::{self, OFFSET_MAX};

use super::filter::{Fate, Rules};
use super::map::OffsetMap;
use super::outcomes::Outcomes;
use super::output::Output;
use super::{CompactConfig, Swap, choose};
use crate::disk::{Disk, ReadMode, Step};
use crate::reader::{FilePart, ReadError, Wish};
use crate::record::{ReadLimits, RecordError, RecordReader};
use crate::segment::{SegmentFacts, SegmentName};

/// Why a run is given up.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CleanError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(
        "the records from segment {segment} on take more room than before, and no segment can hold them; {bytes} bytes are allowed"
    )]
    TooLarge { segment: Offset, bytes: u64 },
}

/// What one step reads.
const STEP_BYTES: usize = 1 << 20;

/// A segment that takes part.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) part: FilePart,
    pub(super) facts: SegmentFacts,
}

/// What a run needs of its log and of the world.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) dir: Arc<Path>,
    pub(super) sources: Vec<Source>,
    pub(super) dirty: Offset,
    pub(super) end: Offset,
    pub(super) cleaned: Offset,
    pub(super) config: CompactConfig,
    pub(super) segment_bytes: u32,
    pub(super) interval: u32,
}

/// What comes from outside of the log.
#[derive(Debug)]
pub struct Means {
    pub now_ms: i64,
    /// Random: two runs have two secrets.
    pub secret: (u64, u64),
    /// For the table of keys.
    pub memory_bytes: usize,
    /// The last offset of each producer that is remembered: the batch that ends there stays, if without records.
    pub producers: BTreeMap<i64, Offset>,
}

#[derive(Debug)]
pub struct Cleaning {
    order: Order,
    means: Means,
    map: OffsetMap,
    outcomes: Option<Outcomes>,
    phase: Phase,
    /// Producers whose current transaction has left records, as far as was read.
    with_records: BTreeSet<i64>,
    pub done: Tally,
}

/// What a run has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub batches_dropped: u64,
    pub batches_rewritten: u64,
    /// They stay as they are.
    pub batches_unreadable: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cursor {
    source: usize,
    position: u32,
    /// The last offset before it, where that was read.
    after: Option<i64>,
}

impl Cursor {
    fn start_of(source: usize) -> Cursor {
        Cursor { source, position: 0, after: None }
    }
}

#[derive(Debug)]
enum Phase {
    Find,
    Map(Cursor),
    /// A transaction was met: how they all end is looked up before the keys are taken on from `resume`.
    Outcomes {
        at: Cursor,
        resume: Cursor,
    },
    Rewrite {
        groups: Vec<Range<usize>>,
        group: usize,
        at: Cursor,
        out: Option<Box<Output>>,
    },
    /// All of a group is on the disk when its last steps are done.
    Swap {
        groups: Vec<Range<usize>>,
        group: usize,
        out: Box<Output>,
    },
    Done,
}

/// What is to be done before the next step.
#[derive(Debug)]
pub enum Stepped {
    /// Nothing.
    Read,
    /// These steps, in lane `Segments`.
    Write(Vec<Step>),
    /// `Log::adopt`.
    Swap(Swap),
    Done,
}

impl Cleaning {
    pub(super) fn new(order: Order, means: Means) -> Cleaning {
        let map = OffsetMap::new(means.secret, means.memory_bytes);
        let with_records = BTreeSet::new();
        Cleaning { order, means, map, outcomes: None, phase: Phase::Find, with_records, done: Tally::default() }
    }

    /// One step. Blocks for a read. After an error, `abandon`.
    ///
    /// # Errors
    /// When a segment cannot be read, or is gone.
    pub fn step(&mut self, disk: &dyn Disk) -> Result<Stepped, CleanError> {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Find => Ok(self.find(disk)?),
            Phase::Map(at) => Ok(self.map_some(disk, at)?),
            Phase::Outcomes { at, resume } => Ok(self.look_up(disk, at, resume)?),
            Phase::Rewrite { groups, group, at, out } => self.rewrite(disk, groups, group, at, out),
            Phase::Swap { groups, group, out } => Ok(self.swap(groups, group, *out)),
            Phase::Done => Ok(Stepped::Done),
        }
    }

    /// Steps that remove what nobody relies on.
    pub fn abandon(self, disk: &dyn Disk) -> Vec<Step> {
        match self.phase {
            Phase::Rewrite { out: Some(out), .. } | Phase::Swap { out, .. } => out.remove_steps(disk),
            Phase::Rewrite { out: None, .. } | Phase::Find | Phase::Map(_) | Phase::Outcomes { .. } | Phase::Done => {
                Vec::new()
            }
        }
    }

    fn find(&mut self, disk: &dyn Disk) -> Result<Stepped, ReadError> {
        let dirty = self.order.dirty;
        let source = self.order.sources.partition_point(|source| source.facts.base <= dirty).saturating_sub(1);
        let mut at = Cursor::start_of(source);
        if let Some(first) = self.order.sources.get(source) {
            match first.part.find(disk, ReadMode::Blocking, dirty, &mut Vec::new())? {
                Some(found) => at.position = found.at.position,
                None => at.source += 1,
            }
        }
        self.phase = Phase::Map(at);
        Ok(Stepped::Read)
    }

    /// Whole batches at the cursor, which moves behind them. `None`: all sources up to `last` were read.
    fn read(&mut self, disk: &dyn Disk, at: &mut Cursor, last: usize) -> Result<Option<Vec<Placed>>, ReadError> {
        while at.source < last {
            let Some(source) = self.order.sources.get(at.source) else { return Ok(None) };
            if at.position >= source.part.end {
                *at = Cursor { source: at.source + 1, position: 0, after: at.after };
                continue;
            }
            let everything = Offset::new(OFFSET_MAX);
            let (part, position) = (&source.part, at.position);
            let wish = Wish { position, after: at.after, room: STEP_BYTES, limit: everything, first: true };
            let chunk = part.read_batches(disk, ReadMode::Blocking, wish)?;
            let bytes = chunk.ok_or_else(|| part.corrupt(position))?.bytes;
            self.done.bytes_read += bytes.len() as u64;
            let mut batches = Vec::new();
            let (mut position, mut after) = (position, at.after);
            for batch in split_stored(bytes) {
                let batch = batch.map_err(|_| part.corrupt(position))?;
                let size = u32::try_from(batch.size()).map_err(|_| part.corrupt(position))?;
                let last = batch.next_offset().get() - 1;
                batches.push(Placed { batch, at: Cursor { source: at.source, position, after } });
                position = position.saturating_add(size);
                after = Some(last);
            }
            (at.position, at.after) = (position, after);
            return Ok(Some(batches));
        }
        Ok(None)
    }

    fn map_some(&mut self, disk: &dyn Disk, mut at: Cursor) -> Result<Stepped, ReadError> {
        let last = self.order.sources.len();
        let Some(batches) = self.read(disk, &mut at, last)? else {
            self.begin_rewrite();
            return Ok(Stepped::Read);
        };
        for Placed { batch, at: place } in batches {
            let header = batch.header();
            if batch.base_offset() >= self.order.end {
                self.begin_rewrite();
                return Ok(Stepped::Read);
            }
            if header.attributes.is_transactional() && self.outcomes.is_none() {
                self.outcomes = Some(Outcomes::default());
                self.phase = Phase::Outcomes { at: place, resume: place };
                return Ok(Stepped::Read);
            }
            let counts = !batch.is_control() && !self.is_aborted(&batch);
            if counts && !self.map_batch(&batch) {
                self.begin_rewrite();
                return Ok(Stepped::Read);
            }
        }
        self.phase = Phase::Map(at);
        Ok(Stepped::Read)
    }

    fn is_aborted(&self, batch: &StoredBatch) -> bool {
        self.outcomes.as_ref().is_some_and(|outcomes| outcomes.is_aborted(batch.header()))
    }

    /// False when the table is full: cleaning ends before the first key that found no room.
    fn map_batch(&mut self, batch: &StoredBatch) -> bool {
        match self.map_records(batch) {
            Ok(fits) => fits,
            Err(error) => {
                self.done.batches_unreadable += 1;
                tracing::warn!(at = %batch.base_offset(), %error, "a batch cannot be compacted");
                true
            }
        }
    }

    fn map_records(&mut self, batch: &StoredBatch) -> Result<bool, RecordError> {
        let records = batch.records();
        let mut reader = RecordReader::new(batch.header(), &records, ReadLimits::default())?;
        while let Some(record) = reader.next()? {
            let Some(key) = record.key.filter(|_| record.offset >= self.order.dirty) else { continue };
            if record.offset >= self.order.end {
                return Ok(false);
            }
            if !self.map.put(key, record.offset) {
                self.order.end = record.offset;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn look_up(&mut self, disk: &dyn Disk, mut at: Cursor, resume: Cursor) -> Result<Stepped, ReadError> {
        let last = self.order.sources.len();
        let batches = self.read(disk, &mut at, last)?;
        let outcomes = self.outcomes.get_or_insert_default();
        let Some(batches) = batches else {
            // A transaction that ends behind the part is compared when its outcome is part of it.
            self.order.end = outcomes.first_open().map_or(self.order.end, |open| open.min(self.order.end));
            self.phase = Phase::Map(resume);
            return Ok(Stepped::Read);
        };
        batches.iter().for_each(|placed| outcomes.see(&placed.batch));
        self.phase = Phase::Outcomes { at, resume };
        Ok(Stepped::Read)
    }

    fn begin_rewrite(&mut self) {
        let Order { sources, end, segment_bytes, .. } = &self.order;
        let count = sources.partition_point(|source| source.facts.base < *end);
        let facts: Vec<&SegmentFacts> = sources.iter().take(count).map(|source| &source.facts).collect();
        let last_end = sources.get(count).map_or(*end, |next| next.facts.base);
        let groups = choose::group(&facts, last_end, *segment_bytes);
        // Cut before the first record: nothing to compare. It is tried again when there is more.
        self.phase = match groups.first() {
            Some(first) if *end > self.order.dirty => {
                let at = Cursor::start_of(first.start);
                Phase::Rewrite { groups, group: 0, at, out: None }
            }
            _ => Phase::Done,
        };
    }

    fn rewrite(
        &mut self,
        disk: &dyn Disk,
        groups: Vec<Range<usize>>,
        group: usize,
        mut at: Cursor,
        out: Option<Box<Output>>,
    ) -> Result<Stepped, CleanError> {
        let Some(range) = groups.get(group).cloned() else { return Ok(Stepped::Done) };
        let mut out = out.unwrap_or_else(|| self.begin_output(&range));
        let is_last = group + 1 == groups.len();
        let read = match self.read(disk, &mut at, range.end) {
            Ok(read) => read,
            Err(error) => {
                // What was written so far is to be removed.
                self.phase = Phase::Rewrite { groups, group, at, out: Some(out) };
                return Err(error.into());
            }
        };
        let Some(batches) = read else {
            let steps = out.end_steps(disk);
            self.phase = Phase::Swap { groups, group, out };
            return Ok(Stepped::Write(steps));
        };
        let mut fits = true;
        let ends = |placed: &Placed| {
            let size = u32::try_from(placed.batch.size()).unwrap_or(u32::MAX);
            let end = self.order.sources.get(placed.at.source).map_or(0, |source| source.part.end);
            is_last && placed.at.source + 1 == range.end && placed.at.position.saturating_add(size) >= end
        };
        let ends: Vec<bool> = batches.iter().map(ends).collect();
        for (placed, is_end) in batches.iter().zip(ends) {
            fits = fits && self.put(&placed.batch, is_end, &mut out);
        }
        let steps = out.write_steps(disk);
        self.done.bytes_written += written_by(&steps);
        self.phase = Phase::Rewrite { groups, group, at, out: Some(out) };
        if !fits {
            // Packed worse than it was: these segments are too large to be one.
            let Some(first) = self.order.sources.get(range.start) else { return Ok(Stepped::Done) };
            return Err(CleanError::TooLarge { segment: first.facts.base, bytes: limits::SEGMENT_BYTES_MAX });
        }
        Ok(if steps.is_empty() { Stepped::Read } else { Stepped::Write(steps) })
    }

    fn begin_output(&self, range: &Range<usize>) -> Box<Output> {
        let first = self.order.sources.get(range.start).map(|source| &source.facts);
        let name = first.map_or(SegmentName::first(self.order.dirty), |facts| SegmentName {
            base: facts.base,
            generation: facts.generation.saturating_add(1),
        });
        let first_timestamp_ms = first.map_or(-1, |facts| facts.first_timestamp_ms);
        Box::new(Output::new(Arc::clone(&self.order.dir), name, first_timestamp_ms, self.order.interval))
    }

    /// Puts what stays of a batch. `is_end`: the last one of the part; without it a log that ends there would seem to be shorter.
    fn put(&mut self, batch: &StoredBatch, is_end: bool, out: &mut Output) -> bool {
        let fate = self.fate(batch, is_end).unwrap_or_else(|error| {
            self.done.batches_unreadable += 1;
            tracing::warn!(at = %batch.base_offset(), %error, "a batch cannot be compacted");
            Fate::Keep
        });
        match fate {
            Fate::Keep => out.push(batch.header(), batch.to_bytes()),
            Fate::Drop => {
                self.done.batches_dropped += 1;
                true
            }
            Fate::Replace(bytes) => {
                self.done.batches_rewritten += 1;
                // Read back, CRC included: what is written once stays.
                let parsed = StoredBatch::parse(bytes.clone()).expect("it was built by the rules of a batch");
                assert!(parsed.base_offset() == batch.base_offset());
                assert!(parsed.last_offset() == batch.last_offset());
                out.push(parsed.header(), bytes)
            }
        }
    }

    fn fate(&mut self, batch: &StoredBatch, is_end: bool) -> Result<Fate, RecordError> {
        let Means { now_ms, ref producers, .. } = self.means;
        let delete_retention_ms = self.order.config.delete_retention_ms;
        let rules = Rules { map: &self.map, end: self.order.end, now_ms, delete_retention_ms };
        let header = batch.header();
        let newest_of = |id: i64| producers.get(&id).is_some_and(|last| *last == batch.last_offset());
        let retain = is_end || header.producer_id().is_some_and(newest_of);
        if batch.is_control() {
            let has_records = self.with_records.remove(&header.producer_id);
            return rules.marker(batch, has_records, retain);
        }
        if batch.base_offset() < self.order.end && self.is_aborted(batch) {
            return Ok(rules.emptied(batch, retain));
        }
        let fate = rules.data(batch, retain);
        let is_empty = match &fate {
            Ok(Fate::Replace(bytes)) => bytes.len() == model::batch::HEADER_BYTES,
            Ok(Fate::Keep) => batch.count() == 0,
            Ok(Fate::Drop) => true,
            Err(_) => false,
        };
        if batch.is_transactional() && !is_empty {
            self.with_records.insert(header.producer_id);
        }
        fate
    }

    fn swap(&mut self, groups: Vec<Range<usize>>, group: usize, out: Output) -> Stepped {
        let Some(range) = groups.get(group).cloned() else { return Stepped::Done };
        let next = groups.get(group + 1).map(|next| Cursor::start_of(next.start));
        let cleaned = if next.is_some() { self.order.cleaned } else { self.order.end };
        let sources = self.order.sources.get(range).unwrap_or_default();
        let sources = sources.iter().map(|source| source.facts.clone()).collect();
        self.phase = match next {
            Some(at) => Phase::Rewrite { groups, group: group + 1, at, out: None },
            None => Phase::Done,
        };
        Stepped::Swap(Swap { sources, new: out.into_segment(), cleaned })
    }
}

/// A batch, and where it begins.
#[derive(Debug)]
struct Placed {
    batch: StoredBatch,
    at: Cursor,
}

fn written_by(steps: &[Step]) -> u64 {
    let bytes = |step: &Step| match step {
        Step::Write { parts, .. } => parts.iter().map(|part| part.len() as u64).sum(),
        _ => 0,
    };
    steps.iter().map(bytes).sum()
}

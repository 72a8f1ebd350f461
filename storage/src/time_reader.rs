//! Finds records by their time, exactly: the first one at or after a time, or the newest.
//!
//! Owns the search through segments, batches and records. Does not own reading records: `record` does.
//! Invariant: only records in `[start, limit)` are found.

use bytes::Bytes;
use model::batch::{BatchHeader, StoredBatch};
use model::{LeaderEpoch, Offset};

use crate::disk::{Disk, ReadMode};
use crate::index_reader;
use crate::reader::{FilePart, Learned, ReadError};
use crate::record::{ReadLimits, RecordReader};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeTarget {
    /// The first record whose timestamp is at least this (milliseconds since 1970).
    AtLeast(i64),
    /// The first record with the newest timestamp.
    Newest,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeFound {
    pub offset: Offset,
    pub timestamp_ms: i64,
    pub epoch: Option<LeaderEpoch>,
}

/// A search that was planned under the log's lock.
#[derive(Debug)]
pub struct TimePlan {
    pub(crate) target: TimeTarget,
    pub(crate) start: Offset,
    pub(crate) limit: Offset,
    pub(crate) files: Vec<FilePart>,
    pub(crate) tail: Vec<StoredBatch>,
}

/// The batch with the newest timestamp so far.
struct Best {
    timestamp_ms: i64,
    header: BatchHeader,
    records: Records,
}

#[derive(Clone, Copy)]
enum Records {
    File { part: usize, position: u32 },
    Tail { at: usize },
}

impl TimePlan {
    /// Searches; may read many batches, so it belongs on a thread that may wait. Also gives indexes for `Log::learn`.
    ///
    /// # Errors
    /// As a read; a batch that is as it was written but whose records cannot be read is `Records`.
    pub fn run(&self, disk: &dyn Disk, mode: ReadMode) -> Result<(Option<TimeFound>, Vec<Learned>), ReadError> {
        let mut learned = Vec::new();
        let found = match self.target {
            TimeTarget::AtLeast(timestamp_ms) => self.first_at(disk, mode, timestamp_ms, &mut learned)?,
            TimeTarget::Newest => self.newest(disk, mode)?,
        };
        Ok((found, learned))
    }

    fn first_at(
        &self,
        disk: &dyn Disk,
        mode: ReadMode,
        timestamp_ms: i64,
        learned: &mut Vec<Learned>,
    ) -> Result<Option<TimeFound>, ReadError> {
        for part in &self.files {
            let older = index_reader::older_than(part, disk, mode, timestamp_ms, learned)?;
            let from = older.map_or(self.start, |older| older.plus(1)).max(self.start);
            let Some(first) = part.find(disk, mode, from, learned)? else { continue };
            let mut position = first.at.position;
            // Most often the first candidate has it; but a header may promise what its records do not hold.
            while let Some((at, header)) = self.candidate(disk, mode, part, position, timestamp_ms)? {
                let records = self.file_records(disk, mode, part, at, &header)?;
                if let Some(found) = self.search(&header, &records, timestamp_ms, part.base)? {
                    return Ok(Some(found));
                }
                position = at.saturating_add(u32::try_from(header.size()).unwrap_or(u32::MAX));
            }
        }
        for batch in &self.tail {
            let found = self.search(batch.header(), &batch.records(), timestamp_ms, batch.base_offset())?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The next batch whose header promises such a record.
    fn candidate(
        &self,
        disk: &dyn Disk,
        mode: ReadMode,
        part: &FilePart,
        position: u32,
        timestamp_ms: i64,
    ) -> Result<Option<(u32, BatchHeader)>, ReadError> {
        let mut candidate = None;
        part.walk(disk, mode, position, &mut |at, header| {
            let in_range = header.last_offset() < self.limit.get();
            if in_range && header.newest_timestamp() >= timestamp_ms {
                candidate = Some((at, *header));
            }
            !in_range || candidate.is_some()
        })?;
        Ok(candidate)
    }

    fn newest(&self, disk: &dyn Disk, mode: ReadMode) -> Result<Option<TimeFound>, ReadError> {
        let mut best: Option<Best> = None;
        let mut offer = |header: &BatchHeader, records: Records| {
            let is_newer = best.as_ref().is_none_or(|best| header.newest_timestamp() > best.timestamp_ms);
            let in_range = header.last_offset() < self.limit.get() && header.last_offset() >= self.start.get();
            if is_newer && in_range && header.newest_timestamp() >= 0 {
                best = Some(Best { timestamp_ms: header.max_timestamp, header: *header, records });
            }
        };
        // The segments' newest times, where they are exact, save walking all but one segment.
        let whole = |part: &FilePart| {
            part.newest.exact && part.newest.offset < self.limit.get() && part.newest.offset >= self.start.get()
        };
        let top = self.files.iter().filter(|part| whole(part)).map(|part| part.newest.timestamp_ms).max();
        for (number, part) in self.files.iter().enumerate() {
            if whole(part) && top.is_some_and(|top| part.newest.timestamp_ms < top) {
                continue;
            }
            part.walk(disk, mode, 0, &mut |position, header| {
                offer(header, Records::File { part: number, position });
                false
            })?;
        }
        for (at, batch) in self.tail.iter().enumerate() {
            offer(batch.header(), Records::Tail { at });
        }
        let Some(best) = best else { return Ok(None) };
        let (records, base) = match best.records {
            Records::Tail { at } => match self.tail.get(at) {
                Some(batch) => (batch.records(), batch.base_offset()),
                None => return Ok(None),
            },
            Records::File { part, position } => match self.files.get(part) {
                Some(part) => (self.file_records(disk, mode, part, position, &best.header)?, part.base),
                None => return Ok(None),
            },
        };
        self.search(&best.header, &records, best.timestamp_ms, base)
    }

    fn file_records(
        &self,
        disk: &dyn Disk,
        mode: ReadMode,
        part: &FilePart,
        position: u32,
        header: &BatchHeader,
    ) -> Result<Bytes, ReadError> {
        let bytes = part.read(disk, mode, position, header.size())?;
        let batch = StoredBatch::parse(bytes)
            .map_err(|_| ReadError::Corrupt { segment: part.base, at: u64::from(position) })?;
        Ok(batch.records())
    }

    /// The first record of a batch with at least this timestamp.
    fn search(
        &self,
        header: &BatchHeader,
        records: &Bytes,
        timestamp_ms: i64,
        segment: Offset,
    ) -> Result<Option<TimeFound>, ReadError> {
        let unreadable = |_| ReadError::Records { segment };
        let mut reader = RecordReader::new(header, records, ReadLimits::default()).map_err(unreadable)?;
        while let Some(record) = reader.next().map_err(unreadable)? {
            let in_range = record.offset >= self.start && record.offset < self.limit;
            if in_range && record.timestamp >= timestamp_ms {
                let epoch = LeaderEpoch::from_wire(header.leader_epoch);
                return Ok(Some(TimeFound { offset: record.offset, timestamp_ms: record.timestamp, epoch }));
            }
        }
        Ok(None)
    }
}

//! Loads the index of a segment from its files, or rebuilds it from the segment.
//!
//! Owns that choice. Does not own layouts: `offset_index` and `time_index` do.
//! Invariant: a file is believed only when its length and CRC are those that the log remembers; a wrong index costs time, never
//! an answer.

use std::sync::Arc;

use model::Offset;
use model::batch::crc32c;

use crate::disk::{Disk, DiskError, ReadMode};
use crate::offset_index::{self, IndexFile, LoadedIndex, OffsetEntry};
use crate::reader::{FilePart, Learned, ReadError};
use crate::segment::{FileKind, Newest};
use crate::time_index::{self, TimeEntry};

/// A rebuilt index has an entry for each of these bytes (Kafka's default of `index.interval.bytes`).
const INTERVAL_BYTES: u32 = 4096;
/// Below this a segment is walked from its start instead of loading an index.
const SMALL_BYTES: u32 = 64 * 1024;

/// A byte at or before the batch that holds `from`.
pub(crate) fn position_for(
    part: &FilePart,
    disk: &dyn Disk,
    mode: ReadMode,
    from: Offset,
    learned: &mut Vec<Learned>,
) -> Result<u32, ReadError> {
    let relative = u32::try_from(from.since(part.base)).unwrap_or(u32::MAX);
    if relative == 0 || part.end <= SMALL_BYTES {
        return Ok(0);
    }
    let memory = part.index.memory.as_ref().and_then(|memory| offset_index::lookup_memory(&memory.offsets, relative));
    let found = match memory {
        Some(entry) => Some(entry),
        None => offset_index::lookup(&load(part, disk, mode, learned)?.offsets, relative),
    };
    // An entry names the last offset of its batch, so the search may begin there; an index of another file may point anywhere.
    Ok(found.map(|entry| entry.position).filter(|position| *position < part.end).unwrap_or(0))
}

/// An offset up to which all records are older than `timestamp_ms`.
pub(crate) fn older_than(
    part: &FilePart,
    disk: &dyn Disk,
    mode: ReadMode,
    timestamp_ms: i64,
    learned: &mut Vec<Learned>,
) -> Result<Option<Offset>, ReadError> {
    if part.end <= SMALL_BYTES {
        return Ok(None);
    }
    let memory = part.index.memory.as_ref().and_then(|memory| time_index::lookup_memory(&memory.times, timestamp_ms));
    let found = match memory {
        Some(entry) => Some(entry),
        None => time_index::lookup(&load(part, disk, mode, learned)?.times, timestamp_ms),
    };
    Ok(found.and_then(|entry| part.base.get().checked_add(i64::from(entry.relative))).and_then(Offset::from_wire))
}

fn load(
    part: &FilePart,
    disk: &dyn Disk,
    mode: ReadMode,
    learned: &mut Vec<Learned>,
) -> Result<Arc<LoadedIndex>, ReadError> {
    if let Some(loaded) = &part.index.loaded {
        loaded.note_use();
        return Ok(Arc::clone(loaded));
    }
    if let Some(known) = learned.iter().find(|known| known.base == part.base) {
        return Ok(Arc::clone(&known.index));
    }
    if mode == ReadMode::CachedOnly {
        // Reading an index may wait, and a first look at one is rare.
        return Err(DiskError::NotCached.into());
    }
    let files = part.index.files;
    let has_files = files.offsets.entries > 0 || files.times.entries > 0;
    let memory_starts =
        part.index.memory.as_ref().and_then(|memory| memory.offsets.first()).map(|entry| entry.position);
    let mapped = match has_files {
        true => from_files(part, disk)?,
        false => None,
    };
    let index = match (mapped, memory_starts) {
        (Some(index), _) => index,
        // Nothing was ever in the files and memory has all: there is little before its first entry.
        (None, Some(position)) if !has_files && position <= SMALL_BYTES => LoadedIndex::default(),
        (None, _) => rebuild(part, disk, mode)?,
    };
    let index = Arc::new(index);
    learned.push(Learned { base: part.base, files, index: Arc::clone(&index) });
    Ok(index)
}

fn from_files(part: &FilePart, disk: &dyn Disk) -> Result<Option<LoadedIndex>, ReadError> {
    let files = part.index.files;
    let offsets = one_file(disk, part, FileKind::OffsetIndex, files.offsets, offset_index::ENTRY_BYTES)?;
    let times = one_file(disk, part, FileKind::TimeIndex, files.times, time_index::ENTRY_BYTES)?;
    Ok(match (offsets, times) {
        (Some(offsets), Some(times)) => Some(LoadedIndex::new(offsets, times)),
        _ => None,
    })
}

fn one_file(
    disk: &dyn Disk,
    part: &FilePart,
    kind: FileKind,
    says: IndexFile,
    entry_bytes: usize,
) -> Result<Option<bytes::Bytes>, ReadError> {
    if says.entries == 0 {
        return Ok(Some(bytes::Bytes::new()));
    }
    let mapped = match disk.map(disk.file(&part.name().path(&part.dir, kind))) {
        Ok(mapped) => mapped,
        Err(DiskError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let len = says.entries as usize * entry_bytes;
    let content = mapped.get(..len).is_some_and(|content| crc32c(content) == says.crc);
    Ok(content.then(|| mapped.slice(..len)))
}

/// Walks the whole segment.
fn rebuild(part: &FilePart, disk: &dyn Disk, mode: ReadMode) -> Result<LoadedIndex, ReadError> {
    let (mut offsets, mut times): (Vec<OffsetEntry>, Vec<TimeEntry>) = (Vec::new(), Vec::new());
    let mut newest = Newest::NONE;
    let mut since = 0u32;
    let base = part.base.get();
    part.walk(disk, mode, 0, &mut |position, header| {
        if since > INTERVAL_BYTES {
            if let Ok(relative) = u32::try_from(header.last_offset() - base) {
                offsets.push(OffsetEntry { relative, position });
            }
            let relative = u32::try_from(newest.offset - base);
            let is_newer = times.last().is_none_or(|last| last.timestamp_ms < newest.timestamp_ms);
            if let (Ok(relative), true, true) = (relative, is_newer, newest.timestamp_ms >= 0) {
                times.push(TimeEntry { timestamp_ms: newest.timestamp_ms, relative });
            }
            since = 0;
        }
        newest.add(header.newest_timestamp(), header.last_offset());
        since = since.saturating_add(u32::try_from(header.size()).unwrap_or(u32::MAX));
        false
    })?;
    Ok(LoadedIndex::new(offset_index::encode(&offsets), time_index::encode(&times)))
}

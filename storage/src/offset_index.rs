//! The sparse indexes of one segment: their state, and the offset index.
//!
//! Owns which entries exist, which of them are in the index files, and the layout of the offset index. Does not own reading
//! the files: `reader` does, outside the log's lock.
//! Invariant: entries in the file are a prefix of all entries; those behind it are in memory. The file is a cache: its CRC is kept in
//! the checkpoint, and a file that does not match is rebuilt from the segment.
//!
//! ```text
//! offset index entry (8 bytes, big-endian)        time index entry (12 bytes): see time_index.rs
//! 0 last offset of a batch − base offset i32
//! 4 byte where that batch begins         i32
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use model::batch::BatchHeader;

use crate::segment::Newest;
use crate::time_index::{self, TimeEntry};

pub const ENTRY_BYTES: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffsetEntry {
    /// Last offset of a batch, from the segment's base offset.
    pub relative: u32,
    /// Byte where that batch begins.
    pub position: u32,
}

/// How much of an index is in its file, and the CRC of that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IndexFile {
    pub entries: u32,
    /// CRC-32C of the file's content.
    pub crc: u32,
}

/// Both index files of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IndexFiles {
    pub offsets: IndexFile,
    pub times: IndexFile,
}

/// Entries that were read from the files, or rebuilt.
#[derive(Debug, Default)]
pub struct LoadedIndex {
    pub offsets: Bytes,
    pub times: Bytes,
    /// By a read, since somebody last asked.
    used: AtomicBool,
}

impl LoadedIndex {
    pub(crate) fn new(offsets: Bytes, times: Bytes) -> LoadedIndex {
        LoadedIndex { offsets, times, used: AtomicBool::new(false) }
    }

    /// Of the entries, mapped or not.
    pub fn bytes(&self) -> u64 {
        (self.offsets.len() + self.times.len()) as u64
    }

    pub(crate) fn note_use(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Whether a read has used it since the last call of this.
    pub fn take_use(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }
}

/// Entries that no file has yet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct MemoryIndex {
    pub(crate) offsets: Vec<OffsetEntry>,
    pub(crate) times: Vec<TimeEntry>,
    /// Since the last entry.
    bytes_since: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct SegmentIndex {
    pub(crate) files: IndexFiles,
    pub(crate) memory: Option<Box<MemoryIndex>>,
    pub(crate) loaded: Option<Arc<LoadedIndex>>,
    /// The newest timestamp in the time index, file included.
    pub(crate) last_time_ms: Option<i64>,
}

/// What is appended to the index files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct IndexSuffix {
    pub(crate) offsets_at: u64,
    pub(crate) offsets: Bytes,
    pub(crate) times_at: u64,
    pub(crate) times: Bytes,
    /// What the files hold afterwards.
    pub(crate) files: IndexFiles,
}

impl SegmentIndex {
    /// Accounts for a batch at `position`; `newest` is the segment's before this batch. As Kafka does, an entry is made for the
    /// first batch that begins more than `interval` bytes behind the last entry.
    pub(crate) fn add(
        &mut self,
        base: i64,
        header: &BatchHeader,
        position: u32,
        bytes: u32,
        newest: Newest,
        interval: u32,
    ) {
        let memory = self.memory.get_or_insert_default();
        if memory.bytes_since > interval {
            let relative =
                u32::try_from(header.last_offset() - base).expect("the log rolls before an offset leaves its segment");
            memory.offsets.push(OffsetEntry { relative, position });
            memory.bytes_since = 0;
            Self::add_time(memory, &mut self.last_time_ms, base, newest);
        }
        memory.bytes_since = memory.bytes_since.saturating_add(bytes);
    }

    /// The last time entry of a segment names its newest timestamp.
    pub(crate) fn seal(&mut self, base: i64, newest: Newest) {
        let memory = self.memory.get_or_insert_default();
        Self::add_time(memory, &mut self.last_time_ms, base, newest);
    }

    fn add_time(memory: &mut MemoryIndex, last: &mut Option<i64>, base: i64, newest: Newest) {
        let is_newer = last.is_none_or(|last| newest.timestamp_ms > last);
        let Ok(relative) = u32::try_from(newest.offset - base) else { return };
        if newest.timestamp_ms >= 0 && newest.exact && is_newer {
            memory.times.push(TimeEntry { timestamp_ms: newest.timestamp_ms, relative });
            *last = Some(newest.timestamp_ms);
        }
    }

    /// Of the offset index, its file and what is in memory.
    pub(crate) fn offset_bytes(&self) -> u64 {
        let in_memory = self.memory.as_ref().map_or(0, |memory| memory.offsets.len());
        (u64::from(self.files.offsets.entries) + in_memory as u64) * ENTRY_BYTES as u64
    }

    pub(crate) fn memory_entries(&self) -> usize {
        self.memory.as_ref().map_or(0, |memory| memory.offsets.len() + memory.times.len())
    }

    /// Encodes the entries that lie below `position` (and time entries below `relative_end`) for their files. Changes nothing:
    /// `wrote` does, when they are there.
    pub(crate) fn suffix(&self, position_end: u32, relative_end: u32) -> Option<IndexSuffix> {
        let memory = self.memory.as_ref()?;
        let offsets = &memory.offsets[..memory.offsets.partition_point(|entry| entry.position < position_end)];
        let times = &memory.times[..memory.times.partition_point(|entry| entry.relative < relative_end)];
        if offsets.is_empty() && times.is_empty() {
            return None;
        }
        let offset_bytes = encode(offsets);
        let time_bytes = time_index::encode(times);
        let grown = |file: IndexFile, count: usize, bytes: &[u8]| IndexFile {
            entries: file.entries + u32::try_from(count).expect("a segment has fewer than 2^32 entries"),
            crc: extend_crc(file.crc, bytes),
        };
        let files = IndexFiles {
            offsets: grown(self.files.offsets, offsets.len(), &offset_bytes),
            times: grown(self.files.times, times.len(), &time_bytes),
        };
        Some(IndexSuffix {
            offsets_at: u64::from(self.files.offsets.entries) * 8,
            offsets: offset_bytes,
            times_at: u64::from(self.files.times.entries) * 12,
            times: time_bytes,
            files,
        })
    }

    /// The files now hold what `suffix` gave.
    pub(crate) fn wrote(&mut self, files: IndexFiles) {
        let offsets = usize::try_from(files.offsets.entries - self.files.offsets.entries).unwrap_or(usize::MAX);
        let times = usize::try_from(files.times.entries - self.files.times.entries).unwrap_or(usize::MAX);
        if let Some(memory) = self.memory.as_mut() {
            memory.offsets.drain(..offsets.min(memory.offsets.len()));
            memory.times.drain(..times.min(memory.times.len()));
        }
        self.files = files;
        self.loaded = None;
    }

    /// Nothing was indexed yet, or all of it was cut away.
    pub(crate) fn clear(&mut self) {
        *self = SegmentIndex::default();
    }

    /// Drops entries of batches that begin at `position` or behind. False when the files hold such entries: they no longer
    /// match and were dropped as a whole, to be rebuilt when needed.
    pub(crate) fn truncate_to(&mut self, position: u32, relative_end: u32) -> bool {
        self.loaded = None;
        let in_files = self.files.offsets.entries > 0 || self.files.times.entries > 0;
        let Some(memory) = self.memory.as_mut() else {
            self.clear();
            return !in_files;
        };
        // All entries of the file lie below the first one in memory, so they stay if that one does.
        let first_stays = memory.offsets.first().is_some_and(|entry| entry.position < position)
            && memory.times.first().is_none_or(|entry| entry.relative < relative_end);
        if in_files && !first_stays {
            self.clear();
            return false;
        }
        memory.offsets.truncate(memory.offsets.partition_point(|entry| entry.position < position));
        memory.times.truncate(memory.times.partition_point(|entry| entry.relative < relative_end));
        let last = memory.times.last().map(|entry| entry.timestamp_ms);
        if last.is_some() || !in_files {
            self.last_time_ms = last;
        }
        true
    }
}

fn extend_crc(crc: u32, bytes: &[u8]) -> u32 {
    // The finished CRC of a prefix is the inverted state from which the rest continues.
    let mut digest = crc_fast::Digest::new_with_init_state(crc_fast::CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    u32::try_from(digest.finalize()).expect("a 32-bit CRC")
}

pub(crate) fn encode(entries: &[OffsetEntry]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(entries.len() * ENTRY_BYTES);
    for entry in entries {
        bytes.put_u32(entry.relative);
        bytes.put_u32(entry.position);
    }
    bytes.freeze()
}

/// Entry number `at`, or `None` behind the end.
pub(crate) fn entry(bytes: &[u8], at: usize) -> Option<OffsetEntry> {
    let raw = bytes.get(at * ENTRY_BYTES..)?.first_chunk::<ENTRY_BYTES>()?;
    let [a, b, c, d, e, f, g, h] = *raw;
    Some(OffsetEntry { relative: u32::from_be_bytes([a, b, c, d]), position: u32::from_be_bytes([e, f, g, h]) })
}

/// The last entry of an index file whose offset is at most `relative`, counted from the base offset of its segment.
pub fn lookup(bytes: &[u8], relative: u32) -> Option<OffsetEntry> {
    let (mut low, mut high) = (0, bytes.len() / ENTRY_BYTES);
    while low < high {
        let middle = low + (high - low) / 2;
        match entry(bytes, middle) {
            Some(entry) if entry.relative <= relative => low = middle + 1,
            _ => high = middle,
        }
    }
    low.checked_sub(1).and_then(|at| entry(bytes, at))
}

pub(crate) fn lookup_memory(entries: &[OffsetEntry], relative: u32) -> Option<OffsetEntry> {
    let after = entries.partition_point(|entry| entry.relative <= relative);
    after.checked_sub(1).and_then(|at| entries.get(at)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_finds_the_last_entry_at_or_below_an_offset() {
        let entries: Vec<_> = (1..50).map(|at| OffsetEntry { relative: at * 10, position: at * 100 }).collect();
        let bytes = encode(&entries);
        for relative in 0..520 {
            let expected = entries.iter().rev().find(|entry| entry.relative <= relative).copied();
            assert_eq!(lookup(&bytes, relative), expected);
            assert_eq!(lookup_memory(&entries, relative), expected);
        }
        assert_eq!(lookup(b"", 5), None);
        assert_eq!(lookup(b"1234567", 5), None);
    }

    #[test]
    fn a_crc_that_grows_with_its_file_is_the_crc_of_the_file() {
        let bytes: Vec<u8> = (0..100).collect();
        let mut crc = 0;
        for part in bytes.chunks(7) {
            crc = extend_crc(crc, part);
        }
        assert_eq!(crc, model::batch::crc32c(&bytes));
    }
}

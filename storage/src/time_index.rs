//! The time index of one segment.
//!
//! Owns its layout and search. An entry says: no batch up to and including this offset has a newer timestamp, and the batch
//! that ends there reached it first. So the first record of at least some time lies behind the last entry that is older.
//! Invariant: timestamps and offsets both grow from entry to entry.
//!
//! ```text
//! 0 timestamp, ms since 1970                        i64, big-endian
//! 8 last offset of the batch − base offset          i32
//! ```

use bytes::{BufMut, Bytes, BytesMut};

pub const ENTRY_BYTES: usize = 12;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeEntry {
    pub timestamp_ms: i64,
    pub relative: u32,
}

pub(crate) fn encode(entries: &[TimeEntry]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(entries.len() * ENTRY_BYTES);
    for entry in entries {
        bytes.put_i64(entry.timestamp_ms);
        bytes.put_u32(entry.relative);
    }
    bytes.freeze()
}

pub(crate) fn entry(bytes: &[u8], at: usize) -> Option<TimeEntry> {
    let rest = bytes.get(at * ENTRY_BYTES..)?;
    let (timestamp, rest) = rest.split_first_chunk::<8>()?;
    let relative = rest.first_chunk::<4>()?;
    Some(TimeEntry { timestamp_ms: i64::from_be_bytes(*timestamp), relative: u32::from_be_bytes(*relative) })
}

/// The last entry whose timestamp is below `timestamp_ms`: everything up to its offset is older.
pub(crate) fn lookup(bytes: &[u8], timestamp_ms: i64) -> Option<TimeEntry> {
    let (mut low, mut high) = (0, bytes.len() / ENTRY_BYTES);
    while low < high {
        let middle = low + (high - low) / 2;
        match entry(bytes, middle) {
            Some(entry) if entry.timestamp_ms < timestamp_ms => low = middle + 1,
            _ => high = middle,
        }
    }
    low.checked_sub(1).and_then(|at| entry(bytes, at))
}

pub(crate) fn lookup_memory(entries: &[TimeEntry], timestamp_ms: i64) -> Option<TimeEntry> {
    let after = entries.partition_point(|entry| entry.timestamp_ms < timestamp_ms);
    after.checked_sub(1).and_then(|at| entries.get(at)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_finds_the_last_entry_that_is_older() {
        let entries: Vec<_> = (1..40).map(|at| TimeEntry { timestamp_ms: i64::from(at) * 10, relative: at }).collect();
        let bytes = encode(&entries);
        for timestamp in 0..420 {
            let expected = entries.iter().rev().find(|entry| entry.timestamp_ms < timestamp).copied();
            assert_eq!(lookup(&bytes, timestamp), expected);
            assert_eq!(lookup_memory(&entries, timestamp), expected);
        }
        assert_eq!(lookup(b"short", 5), None);
    }
}

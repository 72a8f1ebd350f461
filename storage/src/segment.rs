//! One data file of a log as the log knows it: where it begins, how long it is, its newest timestamp, its indexes.
//!
//! Owns names of files and the facts that decide about rolling, reading and retention. Does not own bytes.
//! Invariant: `size` is at most `limits::SEGMENT_BYTES_MAX`, so a position in a segment is a u32.

use std::path::{Path, PathBuf};

use model::Offset;

use crate::offset_index::SegmentIndex;

/// Where a batch begins: the base offset of its segment and the byte in that file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    pub segment: Offset,
    pub position: u32,
}

/// The newest timestamp of a run of batches, and the last offset of the batch that reached it first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Newest {
    /// Milliseconds since 1970; −1 when nothing has a timestamp.
    pub timestamp_ms: i64,
    pub offset: i64,
    /// False after a truncation: then the timestamp is an upper bound.
    pub exact: bool,
}

impl Newest {
    pub const NONE: Newest = Newest { timestamp_ms: -1, offset: -1, exact: true };

    pub fn add(&mut self, timestamp_ms: i64, last_offset: i64) {
        if timestamp_ms > self.timestamp_ms {
            *self = Newest { timestamp_ms, offset: last_offset, exact: self.exact };
        }
    }
}

/// What checkpoint and log say of one segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentFacts {
    pub base: Offset,
    /// Bytes.
    pub size: u32,
    /// Newest timestamp of the first batch: rolling by time counts from there.
    pub first_timestamp_ms: i64,
    pub newest: Newest,
}

impl SegmentFacts {
    pub fn new(base: Offset) -> SegmentFacts {
        SegmentFacts { base, size: 0, first_timestamp_ms: -1, newest: Newest::NONE }
    }

    /// Accounts for a batch that was put at the end.
    pub(crate) fn add(&mut self, bytes: u32, timestamp_ms: i64, last_offset: i64) {
        if self.size == 0 {
            self.first_timestamp_ms = timestamp_ms;
        }
        self.size = self.size.checked_add(bytes).expect("the log rolls before a segment reaches SEGMENT_BYTES_MAX");
        self.newest.add(timestamp_ms, last_offset);
    }
}

/// A segment of an open log.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) facts: SegmentFacts,
    pub(crate) index: SegmentIndex,
    /// The file was created by a write that is done.
    pub(crate) created: bool,
    /// The name of the file is durable in its folder.
    pub(crate) named: bool,
    /// Written since the last sync that covers it.
    pub(crate) dirty: bool,
}

impl Segment {
    pub(crate) fn new(base: Offset) -> Segment {
        Segment {
            facts: SegmentFacts::new(base),
            index: SegmentIndex::default(),
            created: false,
            named: false,
            dirty: false,
        }
    }

    pub(crate) fn recovered(facts: SegmentFacts, index: SegmentIndex) -> Segment {
        Segment { facts, index, created: true, named: true, dirty: false }
    }
}

/// Which file of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    Data,
    OffsetIndex,
    TimeIndex,
}

impl FileKind {
    pub const ALL: [FileKind; 3] = [FileKind::Data, FileKind::OffsetIndex, FileKind::TimeIndex];

    fn extension(self) -> &'static str {
        match self {
            FileKind::Data => "log",
            FileKind::OffsetIndex => "index",
            FileKind::TimeIndex => "timeindex",
        }
    }
}

pub fn file_path(dir: &Path, base: Offset, kind: FileKind) -> PathBuf {
    dir.join(format!("{:020}.{}", base.get(), kind.extension()))
}

/// The base offset in the name of a segment's data file.
pub fn base_of(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().and_then(Offset::from_wire)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_base_offset_in_twenty_digits() {
        let path = file_path(Path::new("/d/t-0"), Offset::new(42), FileKind::Data);
        assert_eq!(path, Path::new("/d/t-0/00000000000000000042.log"));
        assert_eq!(base_of("00000000000000000042.log"), Some(Offset::new(42)));
        for name in ["42.log", "0000000000000000004x.log", "99999999999999999999.log", "00000000000000000042.index"] {
            assert_eq!(base_of(name), None, "{name}");
        }
    }
}

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
    /// How often it was rewritten.
    pub generation: u32,
    /// Bytes.
    pub size: u32,
    /// Newest timestamp of the first batch: rolling by time counts from there.
    pub first_timestamp_ms: i64,
    pub newest: Newest,
}

impl SegmentFacts {
    pub fn new(base: Offset) -> SegmentFacts {
        SegmentFacts::of(SegmentName::first(base))
    }

    /// Without a batch.
    pub(crate) fn of(name: SegmentName) -> SegmentFacts {
        let SegmentName { base, generation } = name;
        SegmentFacts { base, generation, size: 0, first_timestamp_ms: -1, newest: Newest::NONE }
    }

    pub fn name(&self) -> SegmentName {
        SegmentName { base: self.base, generation: self.generation }
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

/// The file of a segment that was never rewritten.
pub fn file_path(dir: &Path, base: Offset, kind: FileKind) -> PathBuf {
    SegmentName::first(base).path(dir, kind)
}

/// Names the files of one segment. A segment that compaction rewrites gets new files beside the old ones, so that no crash can leave
/// something between the two: `00000000000000000042.log` becomes `00000000000000000042.1.log`, which Kafka's tools read as well.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SegmentName {
    pub base: Offset,
    pub generation: u32,
}

impl SegmentName {
    /// As it was appended.
    pub fn first(base: Offset) -> SegmentName {
        SegmentName { base, generation: 0 }
    }

    pub fn path(self, dir: &Path, kind: FileKind) -> PathBuf {
        let (base, extension) = (self.base.get(), kind.extension());
        dir.join(match self.generation {
            0 => format!("{base:020}.{extension}"),
            generation => format!("{base:020}.{generation}.{extension}"),
        })
    }

    /// Of a data file's name.
    pub fn of_data(name: &str) -> Option<SegmentName> {
        let name = name.strip_suffix(".log")?;
        let (digits, generation) = match name.split_once('.') {
            None => (name, 0),
            Some((digits, generation)) => (digits, generation.parse().ok().filter(|parsed| *parsed > 0)?),
        };
        if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(SegmentName { base: digits.parse().ok().and_then(Offset::from_wire)?, generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_by_its_base_offset_in_twenty_digits() {
        let path = file_path(Path::new("/d/t-0"), Offset::new(42), FileKind::Data);
        assert_eq!(path, Path::new("/d/t-0/00000000000000000042.log"));
        let rewritten = SegmentName { base: Offset::new(42), generation: 7 };
        let path = rewritten.path(Path::new("/d"), FileKind::TimeIndex);
        assert_eq!(path, Path::new("/d/00000000000000000042.7.timeindex"));
        for name in [SegmentName::first(Offset::new(42)), rewritten] {
            let path = name.path(Path::new(""), FileKind::Data);
            assert_eq!(SegmentName::of_data(path.to_str().expect("text")), Some(name));
        }
        for name in [
            "42.log",
            "0000000000000000004x.log",
            "99999999999999999999.log",
            "00000000000000000042.index",
            "00000000000000000042.0.log",
            "00000000000000000042.x.log",
            "00000000000000000042.1.2.log",
        ] {
            assert_eq!(SegmentName::of_data(name), None, "{name}");
        }
    }
}

//! The segment that takes the place of others, while it is written.
//!
//! Owns its bytes, facts and indexes, and the steps that write them. Does not own what is in it.
//! Invariant: its data is synced, and its name in the folder too, before anybody relies on it: the last steps do that.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use model::batch::BatchHeader;
use model::limits;

use crate::disk::{Disk, FileId, Step};
use crate::offset_index::{IndexFiles, SegmentIndex};
use crate::segment::{FileKind, SegmentFacts, SegmentName};

#[derive(Debug)]
pub(super) struct Output {
    dir: Arc<Path>,
    interval: u32,
    facts: SegmentFacts,
    index: SegmentIndex,
    /// Behind `written`.
    waiting: Vec<Bytes>,
    written: u64,
    created: bool,
}

impl Output {
    pub(super) fn new(dir: Arc<Path>, name: SegmentName, first_timestamp_ms: i64, interval: u32) -> Output {
        let facts = SegmentFacts { first_timestamp_ms, ..SegmentFacts::of(name) };
        Output { dir, interval, facts, index: SegmentIndex::default(), waiting: Vec::new(), written: 0, created: false }
    }

    /// Takes a batch. False when the segment would become too large.
    #[must_use]
    pub(super) fn push(&mut self, header: &BatchHeader, bytes: Bytes) -> bool {
        let Ok(size) = u32::try_from(bytes.len()) else { return false };
        if u64::from(self.facts.size) + u64::from(size) > limits::SEGMENT_BYTES_MAX {
            return false;
        }
        let (base, position) = (self.facts.base.get(), self.facts.size);
        self.index.add(base, header, position, size, self.facts.newest, self.interval);
        let first_timestamp_ms = self.facts.first_timestamp_ms;
        self.facts.add(size, header.newest_timestamp(), header.last_offset());
        // The age of its records is that of the first segment.
        self.facts.first_timestamp_ms = first_timestamp_ms;
        self.waiting.push(bytes);
        true
    }

    fn file(&self, disk: &dyn Disk, kind: FileKind) -> FileId {
        disk.file(&self.facts.name().path(&self.dir, kind))
    }

    /// Steps that write what waits.
    pub(super) fn write_steps(&mut self, disk: &dyn Disk) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.waiting.is_empty() {
            return steps;
        }
        let file = self.file(disk, FileKind::Data);
        if !self.created {
            self.created = true;
            steps.push(Step::Create { file });
            // What an attempt before a crash has left.
            steps.push(Step::SetLen { file, len: 0 });
        }
        let parts = std::mem::take(&mut self.waiting);
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        steps.push(Step::Write { file, at: self.written, parts, cached: false });
        self.written += bytes as u64;
        steps
    }

    /// Steps that complete the segment. Indexes are caches: their CRC says whether they survived.
    pub(super) fn end_steps(&mut self, disk: &dyn Disk) -> Vec<Step> {
        let mut steps = self.write_steps(disk);
        if !self.created {
            return steps;
        }
        self.index.seal(self.facts.base.get(), self.facts.newest);
        let mut files = IndexFiles::default();
        if let Some(suffix) = self.index.suffix(u32::MAX, u32::MAX) {
            for (kind, bytes) in [(FileKind::OffsetIndex, suffix.offsets), (FileKind::TimeIndex, suffix.times)] {
                let (file, len) = (self.file(disk, kind), bytes.len() as u64);
                steps.push(Step::Create { file });
                steps.push(Step::SetLen { file, len });
                if len > 0 {
                    steps.push(Step::Write { file, at: 0, parts: vec![bytes], cached: true });
                }
            }
            files = suffix.files;
        }
        self.index = SegmentIndex { files, last_time_ms: self.index.last_time_ms, ..SegmentIndex::default() };
        steps.push(Step::Sync { file: self.file(disk, FileKind::Data), awaited: false });
        steps.push(Step::SyncDir { dir: self.dir.to_path_buf() });
        steps
    }

    /// `None`: nothing was left to write.
    pub(super) fn into_segment(self) -> Option<(SegmentFacts, SegmentIndex)> {
        assert!(self.waiting.is_empty());
        assert!(self.written == u64::from(self.facts.size));
        self.created.then_some((self.facts, self.index))
    }

    /// Steps that remove what was written: nobody relies on it.
    pub(super) fn remove_steps(&self, disk: &dyn Disk) -> Vec<Step> {
        if !self.created {
            return Vec::new();
        }
        remove_steps(disk, &self.dir, self.facts.name())
    }
}

pub(super) fn remove_steps(disk: &dyn Disk, dir: &Path, name: SegmentName) -> Vec<Step> {
    let paths = FileKind::ALL.map(|kind| name.path(dir, kind));
    let forget = paths.clone().map(|path| Step::Forget { file: disk.file(&path) });
    paths.map(|path| Step::RemoveFile { path }).into_iter().chain(forget).collect()
}

//! Steps that change names and lengths of a log's files, and those that write its index and text files.
//!
//! Owns these steps. Does not own when they are due (`write`, `sync`).
//! Invariant: a folder is made before anything in it; whatever an earlier life left in a file does not show behind our bytes.

use std::path::PathBuf;

use bytes::Bytes;
use model::Offset;
use model::ids::base64;

use super::Log;
use super::files::FileChange;
use crate::disk::Step;
use crate::offset_index::IndexFiles;
use crate::segment::{FileKind, SegmentName};

/// Index entries kept in memory for one segment before they go to its index files.
const INDEX_ENTRIES_MAX: usize = 512;

impl Log {
    pub(super) fn change_steps(&mut self, changes: &[FileChange], removals: &[(u64, SegmentName)]) -> Vec<Step> {
        let mut steps = Vec::new();
        let removed = removals.iter().map(|(_, name)| FileChange::Remove(*name));
        for change in removed.chain(changes.iter().copied()) {
            if steps.is_empty() {
                self.folder_steps(&mut steps);
            }
            self.files.names_dirty = true;
            match change {
                FileChange::Remove(name) => self.remove_steps(name, &mut steps),
                FileChange::SetLen(name, len) => {
                    let file = self.file_of(name, FileKind::Data);
                    // Nobody may have made the file yet: then there is nothing to cut.
                    steps.push(Step::Create { file });
                    steps.push(Step::SetLen { file, len: u64::from(len) });
                    if let Some(segment) = self.segments.iter_mut().find(|segment| segment.facts.name() == name) {
                        segment.dirty = true;
                    }
                }
            }
        }
        steps
    }

    fn remove_steps(&self, name: SegmentName, steps: &mut Vec<Step>) {
        let paths = FileKind::ALL.map(|kind| name.path(&self.dir, kind));
        steps.extend(paths.map(|path| Step::RemoveFile { path }));
        // The id of one that comes again under this name is needed on.
        if self.segments.iter().all(|segment| segment.facts.name() != name) {
            let files = FileKind::ALL.map(|kind| self.file_of(name, kind));
            steps.extend(files.map(|file| Step::Forget { file }));
        }
    }

    pub(super) fn folder_steps(&mut self, steps: &mut Vec<Step>) {
        if self.files.folder_made {
            return;
        }
        self.files.folder_made = true;
        let dir = self.dir.to_path_buf();
        steps.push(Step::CreateDir { dir: dir.clone() });
        if self.id != model::LogId::METADATA {
            let text = format!("version: 0\ntopic_id: {}", base64(&self.id.partition.topic.0));
            self.text_file(dir.join("partition.metadata"), text, steps);
        }
    }

    pub(super) fn epochs_steps(&self, steps: &mut Vec<Step>) {
        self.text_file(self.dir.join("leader-epoch-checkpoint"), self.epochs.to_text(), steps);
    }

    /// A file for Kafka's tools, which Weir itself does not read back.
    fn text_file(&self, path: PathBuf, text: String, steps: &mut Vec<Step>) {
        let file = self.shared.disk.file(&path);
        let len = text.len() as u64;
        steps.push(Step::Create { file });
        steps.push(Step::Write { file, at: 0, parts: vec![Bytes::from(text)], cached: true });
        steps.push(Step::SetLen { file, len });
        steps.push(Step::Forget { file });
    }

    /// Index entries that go to their files: those of sealed segments, and of the last one when they are many.
    pub(super) fn index_steps(&mut self, steps: &mut Vec<Step>) -> Vec<(Offset, IndexFiles)> {
        let Some(written) = self.written.at else { return Vec::new() };
        let mut indexes = Vec::new();
        let last = self.segments.len().saturating_sub(1);
        for (at, segment) in
            self.segments.iter().enumerate().rev().take_while(|(_, segment)| segment.index.memory.is_some())
        {
            let base = segment.facts.base;
            let is_last = at == last;
            if base > written.segment || (is_last && segment.index.memory_entries() < INDEX_ENTRIES_MAX) {
                continue;
            }
            let limits = if base == written.segment {
                let relative = u32::try_from(self.written.end.since(base)).unwrap_or(u32::MAX);
                (written.position, relative)
            } else {
                (u32::MAX, u32::MAX)
            };
            if let Some(files) = self.index_suffix_steps(at, limits, steps) {
                indexes.push((base, files));
            }
        }
        indexes
    }

    pub(super) fn index_suffix_steps(
        &self,
        at: usize,
        limits: (u32, u32),
        steps: &mut Vec<Step>,
    ) -> Option<IndexFiles> {
        let segment = self.segments.get(at)?;
        let suffix = segment.index.suffix(limits.0, limits.1)?;
        let base = segment.facts.base;
        let writes = [
            (FileKind::OffsetIndex, suffix.offsets_at, suffix.offsets),
            (FileKind::TimeIndex, suffix.times_at, suffix.times),
        ];
        for (kind, at, bytes) in writes {
            let file = self.file(base, kind);
            let end = at + bytes.len() as u64;
            steps.push(Step::Create { file });
            if !bytes.is_empty() {
                steps.push(Step::Write { file, at, parts: vec![bytes], cached: true });
            }
            // Whatever an earlier life of this file left behind.
            steps.push(Step::SetLen { file, len: end });
        }
        Some(suffix.files)
    }
}

//! From the segment files to the disk.
//!
//! Owns which files and folders a sync has to cover. Does not run it.
//! Invariant: at most one sync of a log is in flight; what was written or cut while it ran takes part in the next one.

use std::path::PathBuf;

use model::planted::{self, Bug};

use super::{Log, Position};
use crate::disk::{DiskError, FileId, Step};
use crate::offset_index::IndexFiles;
use crate::segment::FileKind;

/// Files of one log to be made durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncWork {
    pub files: Vec<FileId>,
    pub dirs: Vec<PathBuf>,
}

impl SyncWork {
    pub fn steps(self) -> Vec<Step> {
        let files = self.files.into_iter().map(|file| Step::Sync { file, awaited: false });
        let dirs = self.dirs.into_iter().map(|dir| Step::SyncDir { dir });
        files.chain(dirs).collect()
    }
}

impl Log {
    /// Bytes in the files that no sync covers.
    pub fn needs_sync(&self) -> bool {
        self.files.syncing.is_none()
            && (self.files.names_dirty
                || self.synced.operation < self.written.operation
                || self.segments.iter().any(|segment| segment.dirty))
    }

    /// What to sync so that everything written by now is durable without the journal. `None` when nothing is or a sync is in
    /// flight. Its end is told to `sync_done`. The caller may use one `SyncAll` for many logs instead.
    pub fn sync_work(&mut self) -> Option<SyncWork> {
        if !self.needs_sync() {
            return None;
        }
        let mut work = SyncWork { files: Vec::new(), dirs: Vec::new() };
        let dir = self.dir.to_path_buf();
        let mut unnamed = std::mem::take(&mut self.files.names_dirty);
        for segment in self.segments.iter_mut().filter(|segment| segment.dirty) {
            let path = segment.facts.name().path(&dir, FileKind::Data);
            work.files.push(self.shared.disk.file(&path));
            unnamed |= !segment.named;
            segment.named = true;
            segment.dirty = false;
        }
        if unnamed && self.files.folder_made && !planted::is(Bug::FolderNotSynced) {
            work.dirs.push(dir.clone());
        }
        if self.files.folder_made && !self.files.folder_named {
            self.files.folder_named = true;
            work.dirs.extend(dir.parent().map(PathBuf::from));
        }
        let index =
            self.segments.iter().find(|segment| self.written.at.is_some_and(|at| at.segment == segment.facts.base));
        let index = index.map_or_else(IndexFiles::default, |segment| segment.index.files);
        self.files.syncing = Some(Position { index, ..self.written });
        Some(work)
    }

    /// The sync has ended. A failure is final: the caller takes the disk out of use.
    pub fn sync_done(&mut self, result: &Result<(), DiskError>) {
        let reached = self.files.syncing.take().expect("a sync was in flight");
        // What was cut meanwhile takes part in the next one.
        if result.is_ok() && reached.operation >= self.files.cut_operation {
            self.synced = reached;
        }
        self.check_invariants();
    }

    /// Index files for a clean stop: everything of them that is in memory. For the caller to run when all is written.
    pub fn close_steps(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        assert!(self.files.in_flight.is_none());
        if let Some(last) = self.segments.last_mut()
            && last.index.memory.is_some()
        {
            last.index.seal(last.facts.base.get(), last.facts.newest);
        }
        for at in 0..self.segments.len() {
            if let Some(files) = self.index_suffix_steps(at, (u32::MAX, u32::MAX), &mut steps) {
                self.segments[at].index.wrote(files);
            }
        }
        steps
    }
}

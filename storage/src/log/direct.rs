//! Large appends that go to their segment beside the journal, which then holds their place and CRC only.
//!
//! Owns which batches may go that way and their steps. Does not own the decision by size: `journal` takes it.
//! Invariant: no other write of the log runs beside a direct one that creates a file, and none that cuts beside any.

use model::planted::{self, Bug};

use super::Log;
use super::write::Run;
use crate::disk::{DiskError, Step};
use crate::segment::{FileKind, Place};

/// A direct write of one log, to run beside the journal's own write. The group is durable when both are done.
#[derive(Debug)]
pub struct DirectWrite {
    before: Vec<Step>,
    runs: Vec<Run>,
    after: Vec<Step>,
}

impl DirectWrite {
    /// May be asked for again: a full disk is no end. So nothing is forgotten before the last step is done.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for step in &self.before {
            steps.push(copy(step));
        }
        for run in &self.runs {
            run.steps(&mut steps);
        }
        steps.extend(self.after.iter().map(copy));
        steps
    }
}

/// Steps around a direct write hold names only.
fn copy(step: &Step) -> Step {
    match step {
        Step::Create { file } => Step::Create { file: *file },
        Step::CreateDir { dir } => Step::CreateDir { dir: dir.clone() },
        Step::Write { file, at, parts, cached } => {
            Step::Write { file: *file, at: *at, parts: parts.clone(), cached: *cached }
        }
        Step::SetLen { file, len } => Step::SetLen { file: *file, len: *len },
        Step::Sync { file, awaited } => Step::Sync { file: *file, awaited: *awaited },
        Step::SyncDir { dir } => Step::SyncDir { dir: dir.clone() },
        Step::Forget { file } => Step::Forget { file: *file },
        Step::WriteThrough { .. }
        | Step::SyncAll
        | Step::Rename { .. }
        | Step::RemoveFile { .. }
        | Step::RemoveDir { .. }
        | Step::Reserve { .. }
        | Step::Carry { .. } => {
            unreachable!("no direct write asks for this")
        }
    }
}

impl Log {
    /// Takes the batches of these operations for a direct write. `None` when they must go through the journal: some were cut away
    /// meanwhile, or another write makes the file just now.
    pub fn direct(&mut self, operations: &[u64]) -> Option<DirectWrite> {
        if self.files.directs > 0 || !self.direct_allowed() {
            return None;
        }
        let items: Vec<_> = self
            .tail
            .unwritten()
            .filter(|item| operations.binary_search(&item.operation).is_ok() && !item.direct)
            .cloned()
            .collect();
        if items.len() != operations.len() {
            return None;
        }
        let makes_file = items.iter().any(|item| self.must_create(item.at.segment));
        if makes_file && self.write_in_flight() {
            return None;
        }
        let mut write = DirectWrite { before: Vec::new(), runs: Vec::new(), after: Vec::new() };
        let mut created = Vec::new();
        let (cached, mut last_end) = (self.near.are_believed(), None);
        for item in &items {
            if last_end != Some(item.at) || write.runs.is_empty() {
                let base = item.at.segment;
                let create = self.must_create(base) && !created.contains(&base);
                if create {
                    created.push(base);
                }
                let file = self.file(base, FileKind::Data);
                let at = u64::from(item.at.position);
                write.runs.push(Run { create, file, at, batches: Vec::new(), cached });
            }
            if let Some(run) = write.runs.last_mut() {
                run.batches.push(item.batch.clone());
            }
            last_end = Some(Place { segment: item.at.segment, position: item.end_position() });
        }
        self.direct_syncs(&mut write, !created.is_empty());
        self.files.direct_created = created;
        for item in self.tail.unwritten_mut().filter(|item| operations.binary_search(&item.operation).is_ok()) {
            item.direct = true;
        }
        self.files.directs += 1;
        Some(write)
    }

    fn direct_syncs(&mut self, write: &mut DirectWrite, creates: bool) {
        let mut before = Vec::new();
        if creates {
            self.folder_steps(&mut before);
        }
        let (forgets, before) = before.into_iter().partition(|step| matches!(step, Step::Forget { .. }));
        write.before = before;
        let mut files: Vec<_> = write.runs.iter().map(|run| run.file).collect();
        files.dedup();
        write.after.extend(files.into_iter().map(|file| Step::Sync { file, awaited: true }));
        // Names are not known to be durable before a sync of the log says so; a name that is lost takes the bytes with it.
        let unnamed = self.segments.iter().any(|segment| !segment.named) && !planted::is(Bug::FolderNotSynced);
        if unnamed {
            let dir = self.dir.to_path_buf();
            write.after.extend(dir.parent().map(|parent| Step::SyncDir { dir: parent.into() }));
            write.after.push(Step::SyncDir { dir });
        }
        let forgets: Vec<Step> = forgets;
        write.after.extend(forgets);
    }

    /// A direct write is on its way.
    pub fn has_direct(&self) -> bool {
        self.files.directs > 0
    }

    /// The direct write has ended; to be told before `durable_to` names its operations.
    pub fn direct_done(&mut self, _write: &DirectWrite, result: &Result<(), DiskError>) {
        assert!(self.files.directs > 0);
        self.files.directs -= 1;
        let created = std::mem::take(&mut self.files.direct_created);
        if result.is_err() {
            return;
        }
        for base in created {
            if let Some(segment) = self.segments.iter_mut().find(|segment| segment.facts.base == base) {
                segment.created = true;
                segment.dirty = true;
            }
        }
    }
}

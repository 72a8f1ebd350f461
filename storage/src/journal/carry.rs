//! What the journal holds for logs that cannot be written any more, taken along so that its files are free for the others.
//!
//! Owns the file it goes to: groups as in the journal, with the entries of these logs alone. Does not own when it is needed: a
//! checkpoint that cannot cover a log says so.
//! Invariant: for each log, the checkpoint that names the file has the entry of the checkpoint before, and the file all that the
//! journal had behind that; so a start finds such a log as if no checkpoint had been taken since it failed.
//! Invariant: a file is written once, synced before a checkpoint names it, and removed after one no longer does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use model::LogId;

use super::entry::{Replayed, ReplayedChange};
use super::files::JournalFile;
use super::group::Head;
use super::replay;
use crate::checkpoint::{CarriedFile, Checkpoint, LogCheckpoint};
use crate::disk::{Disk, DiskError, FileId, Step};
use crate::durable;
use crate::store::checkpoint_path;

const PREFIX: &str = "carried-";

pub(crate) fn carried_path(root: &Path, number: u64) -> PathBuf {
    root.join(".weir").join(format!("{PREFIX}{number:08}"))
}

/// What was taken along, for the checkpoint that names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Carried {
    pub(crate) file: CarriedFile,
    pub(crate) logs: Vec<LogCheckpoint>,
}

/// One taking along; carried out by `Step::Carry`.
#[derive(Debug)]
pub struct Carry {
    pub(super) root: PathBuf,
    pub(super) salt: u64,
    /// All groups of this range are durable, and stay where they are until the checkpoint is over.
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) files: Vec<JournalFile>,
    pub(super) logs: BTreeSet<LogId>,
    /// What the checkpoint before took along.
    pub(super) before: Option<CarriedFile>,
    pub(super) number: u64,
    pub(super) file: FileId,
    pub(super) done: Mutex<Option<Carried>>,
}

/// Bytes of the new file, and the first operation of logs that no checkpoint knows.
#[derive(Default)]
struct Taken {
    position: u64,
    groups: u32,
    seen: u64,
    created: BTreeMap<LogId, LogCheckpoint>,
}

impl Carry {
    /// Lane `Segments`. When they are done, `take` gives what they found.
    pub fn steps(self: &Arc<Self>) -> Vec<Step> {
        let file = self.file;
        vec![
            Step::Create { file },
            Step::SetLen { file, len: 0 },
            Step::Carry { carry: Arc::clone(self) },
            Step::Sync { file, awaited: false },
            Step::SyncDir { dir: self.root.join(".weir") },
        ]
    }

    /// # Panics
    /// When the steps were not carried out, or it was taken.
    pub fn take(&self) -> Carried {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).take().expect("the steps were carried out")
    }

    /// Reads the journal and writes the file. One group is in memory at a time.
    pub(crate) fn run(&self, disk: &dyn Disk) -> Result<(), DiskError> {
        let checkpoint = self.checkpoint(disk)?;
        let mut taken = Taken::default();
        if let Some(before) = self.before {
            let file = disk.file(&carried_path(&self.root, before.number));
            let len = disk.len(file)?;
            self.take_from(disk, &JournalFile { number: before.number, file, len }, 0, &mut taken)?;
            if taken.seen != u64::from(before.groups) {
                return Err(self.broken(format!("{} groups, not {}", taken.seen, before.groups)));
            }
            taken.seen = 0;
        }
        for file in &self.files {
            self.take_from(disk, file, self.from, &mut taken)?;
        }
        if taken.seen != self.to - self.from {
            let message = format!("{} of the groups {}..{} were found", taken.seen, self.from, self.to);
            return Err(self.broken(message));
        }
        let mut logs = taken.created;
        logs.extend(checkpoint.logs.into_iter().filter(|log| self.logs.contains(&log.id)).map(|log| (log.id, log)));
        let file = CarriedFile { number: self.number, groups: taken.groups };
        let carried = Carried { file, logs: logs.into_values().collect() };
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = Some(carried);
        Ok(())
    }

    fn take_from(&self, disk: &dyn Disk, file: &JournalFile, from: u64, taken: &mut Taken) -> Result<(), DiskError> {
        replay::scan(disk, file, self.salt, from, &mut |head, bytes| {
            if head.sequence < self.to { self.take_group(disk, &head, &bytes, taken) } else { Ok(()) }
        })
    }

    fn take_group(&self, disk: &dyn Disk, head: &Head, bytes: &Bytes, taken: &mut Taken) -> Result<(), DiskError> {
        taken.seen += 1;
        let created = &mut taken.created;
        let group = head.filtered(bytes, self.salt, &mut |entry| match entry {
            Replayed::Log { log, operation, what } if self.logs.contains(log) => match what {
                // The checkpoint itself says that there is such a log: one that it does not name was deleted.
                ReplayedChange::Create { start, journalled, folder } => {
                    created.insert(*log, LogCheckpoint::created(*log, *operation, *start, *journalled, folder));
                    false
                }
                _ => true,
            },
            Replayed::Log { .. } | Replayed::Note { .. } | Replayed::EndOfUnit => false,
        });
        let Some(group) = group.map_err(|error| self.broken(format!("group {}: {error}", head.sequence)))? else {
            return Ok(());
        };
        let len = group.len() as u64;
        disk.write_at(self.file, taken.position, &[Bytes::from_owner(group)])?;
        taken.position += len;
        taken.groups += 1;
        Ok(())
    }

    fn checkpoint(&self, disk: &dyn Disk) -> Result<Checkpoint, DiskError> {
        let path = checkpoint_path(&self.root);
        let bytes = durable::read(disk, &path, u64::MAX)?.ok_or(DiskError::NotFound { path })?;
        let checkpoint = Checkpoint::decode(&bytes).map_err(|error| self.broken(error.to_string()))?;
        if checkpoint.salt != self.salt || checkpoint.from_sequence != self.from || checkpoint.carried != self.before {
            return Err(self.broken("the checkpoint is another one".to_owned()));
        }
        Ok(checkpoint)
    }

    fn broken(&self, message: String) -> DiskError {
        DiskError::Io { path: self.root.join(".weir"), what: "carry", message }
    }
}

/// After a new life's first checkpoint: all files of the one before go. Where logs are damaged they are what a repair may need.
pub(crate) fn clear(disk: &dyn Disk, root: &Path, keep: bool) -> Result<(), DiskError> {
    let dir = root.join(".weir");
    let aside = dir.join("set-aside");
    for entry in disk.list(&dir)?.into_iter().filter(|entry| entry.name.starts_with(PREFIX)) {
        let path = dir.join(&entry.name);
        if !keep {
            disk.remove_file(&path)?;
            continue;
        }
        disk.create_dir(&aside)?;
        let taken = disk.list(&aside)?.len();
        disk.rename(&path, &aside.join(format!("carried.{taken:08}")))?;
        disk.sync_dir(&aside)?;
        disk.sync_dir(&dir)?;
    }
    Ok(())
}

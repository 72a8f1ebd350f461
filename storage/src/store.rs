//! A data directory in use: makes logs, writes checkpoints, knows which folders are whose.
//!
//! Owns the names in the data directory. Does not own the logs and the journal: whoever opened the store does.
//! Invariant: nothing in the directory is removed that is not ours by name; what nobody knows is set aside.
//!
//! ```text
//! DIR/meta.properties            whose directory this is, and its version
//! DIR/TOPIC-PARTITION/…          segments
//! DIR/TOPIC-PARTITION.ID-delete  a deleted one on its way out
//! DIR/.weir/checkpoint  DIR/.weir/journal/NNNNNNNN  DIR/.weir/metadata/…  DIR/.weir/set-aside/…
//! DIR/.weir/journal-files        which files the journal has (`journal::manifest`)
//! DIR/.weir/carried-N            groups of logs that could not be written (`journal::carry`)
//! DIR/.weir/ballast              room for a disk that another program fills up
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use model::{LogId, Offset, PartitionIndex, TopicName};

use crate::checkpoint::{Checkpoint, LogCheckpoint};
use crate::disk::{Disk, DiskError, Step};
use crate::journal::Journal;
use crate::journal::carry::Carried;
use crate::journal::entry::{Entry, LogChange, LogEntry};
use crate::log::{Log, Shared};

/// The folder of the metadata log.
pub const METADATA_FOLDER: &str = ".weir/metadata";

/// What opening a data directory needs from outside.
#[derive(Clone, Debug)]
pub struct Options {
    /// Random: sets this life of the journal apart from earlier ones, also against bytes that a client made up.
    pub salt: u64,
    /// The identity that a new directory gets. Random.
    pub directory_id: [u8; 16],
    /// Nobody else has these logs: a damaged one is an error, and then checkpoint and journal stay as they are.
    pub only_copy: bool,
}

#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    directory_id: [u8; 16],
}

/// The folder of a topic's partition.
pub fn partition_folder(topic: &TopicName, partition: PartitionIndex) -> String {
    format!("{topic}-{partition}")
}

impl Store {
    pub(crate) fn new(shared: Arc<Shared>, directory_id: [u8; 16]) -> Store {
        Store { shared, directory_id }
    }

    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.shared.disk
    }

    /// The identity of the directory, given when it was made.
    pub fn directory_id(&self) -> [u8; 16] {
        self.directory_id
    }

    /// A new log. It may be used at once; its entry goes to the journal before any of its appends. Its folder is made with its
    /// first write.
    ///
    /// `folder`: see `partition_folder`, or `METADATA_FOLDER`.
    pub fn create_log(&self, id: LogId, folder: &str, journalled: bool, start: Offset) -> (Log, Entry) {
        let mut log = Log::new(id, Arc::clone(&self.shared), folder, journalled, start);
        let operation = log.next_operation();
        let what = LogChange::Create { start, journalled, folder: folder.into() };
        (log, Entry::Log(LogEntry { log: id, operation, what }))
    }

    /// Steps that make a checkpoint durable; lane `Segments`. `from_sequence` was `Journal::next_sequence` before the logs were
    /// flushed and synced; after the steps `Journal::recycle(from_sequence, carried)`. `carried`: what the journal has of logs that
    /// are not among `logs`, because they cannot be written.
    ///
    /// # Panics
    /// When the journal is not durable up to `from_sequence`.
    pub fn checkpoint_steps(
        &self,
        journal: &Journal,
        from_sequence: u64,
        mut logs: Vec<LogCheckpoint>,
        carried: Option<&Carried>,
        clean: bool,
    ) -> Vec<Step> {
        // A note of a group that counts no more must be in the checkpoint.
        assert!(from_sequence <= journal.durable() + 1);
        let operations = self.shared.operations.load(Ordering::Relaxed);
        let notes = journal.notes().clone();
        logs.extend(carried.iter().flat_map(|carried| carried.logs.iter().cloned()));
        let carried = carried.map(|carried| carried.file);
        // A clean one says that nothing is to be read but the segments.
        let clean = clean && carried.is_none();
        let checkpoint = Checkpoint { salt: journal.salt(), from_sequence, operations, clean, carried, notes, logs };
        let mut steps = self.replace_checkpoint(&checkpoint);
        steps.extend(journal.forget_carried(carried));
        steps
    }

    pub(crate) fn replace_checkpoint(&self, checkpoint: &Checkpoint) -> Vec<Step> {
        let path = checkpoint_path(&self.shared.root);
        crate::durable::replace_steps(&*self.shared.disk, &path, vec![checkpoint.encode()])
    }

    /// Steps that make the ballast: room on the disk that can be had back when another program has taken the rest. Lane `Segments`.
    pub fn ballast_steps(&self, bytes: u64) -> Vec<Step> {
        let file = self.shared.disk.file(&ballast_path(&self.shared.root));
        vec![Step::Create { file }, Step::Reserve { file, len: bytes }, Step::Forget { file }]
    }

    /// Whether there is a ballast of this size.
    pub fn has_ballast(&self, bytes: u64) -> bool {
        let file = self.shared.disk.file(&ballast_path(&self.shared.root));
        let len = self.shared.disk.len(file);
        self.shared.disk.forget(file);
        len.is_ok_and(|len| len >= bytes)
    }

    /// Gives the ballast's room back.
    pub fn drop_ballast_step(root: &Path) -> Step {
        Step::RemoveFile { path: ballast_path(root) }
    }

    /// Moves folders that look like partitions and belong to none of `known` to `.weir/set-aside`. Gives what was moved.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn set_aside(&self, known: &BTreeSet<String>) -> Result<Vec<String>, DiskError> {
        let disk = &*self.shared.disk;
        let aside = self.shared.root.join(".weir").join("set-aside");
        let mut moved = Vec::new();
        for entry in disk.list(&self.shared.root)? {
            let is_ours = entry.is_dir && partition_of(&entry.name).is_some() && !known.contains(&entry.name);
            if !is_ours {
                continue;
            }
            disk.create_dir(&aside)?;
            let target = free_name(disk, &aside, &entry.name)?;
            disk.rename(&self.shared.root.join(&entry.name), &target)?;
            moved.push(entry.name);
        }
        if !moved.is_empty() {
            disk.sync_dir(&aside)?;
            disk.sync_dir(&self.shared.root)?;
        }
        Ok(moved)
    }
}

fn free_name(disk: &dyn Disk, aside: &Path, name: &str) -> Result<PathBuf, DiskError> {
    let taken: BTreeSet<String> = disk.list(aside)?.into_iter().map(|entry| entry.name).collect();
    let names = std::iter::once(name.to_owned()).chain((2u64..).map(|count| format!("{name}.{count}")));
    let free = names.into_iter().find(|name| !taken.contains(name));
    Ok(aside.join(free.expect("a folder has finitely many entries")))
}

pub(crate) fn checkpoint_path(root: &Path) -> PathBuf {
    root.join(".weir").join("checkpoint")
}

fn ballast_path(root: &Path) -> PathBuf {
    root.join(".weir").join("ballast")
}

/// Topic and partition in a folder's name.
pub fn partition_of(folder: &str) -> Option<(TopicName, PartitionIndex)> {
    let (topic, partition) = folder.rsplit_once('-')?;
    let topic = TopicName::new(topic).ok()?;
    let digits = !partition.is_empty() && partition.bytes().all(|byte| byte.is_ascii_digit());
    let partition = digits.then(|| partition.parse().ok()).flatten().and_then(PartitionIndex::from_wire)?;
    Some((topic, partition))
}

pub(crate) const DELETED_SUFFIX: &str = "-delete";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_names_its_topic_and_partition() {
        assert_eq!(partition_of("a-b-12"), Some((TopicName::new("a-b").unwrap(), PartitionIndex::new(12))));
        for other in ["a", "a-", "-1", "a-x", ".weir", "a-1.00-delete"] {
            assert_eq!(partition_of(other), None, "{other}");
        }
    }
}

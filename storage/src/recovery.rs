//! Opening a data directory: checkpoint + journal in order, whatever happened before.
//!
//! Owns what is believed. Does not own layouts.
//! Invariant: a crash at any point of the recovery leaves the old checkpoint and journal, so that the next one begins from there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use model::batch::BatchHeader;
use model::{LogId, Offset};

use crate::checkpoint::{CheckpointError, ProducerSnapshot};
use crate::disk::{Disk, DiskError};
use crate::journal::Journal;
use crate::journal::entry::EntryError;
use crate::log::Log;
use crate::lost::LostNoteError;
use crate::store::{Options, Store};

/// A log as it is after recovery, and what the node needs to go on with it.
#[derive(Debug)]
pub struct RecoveredLog {
    pub log: Log,
    /// As the last checkpoint knew it, at most the log's end.
    pub high_watermark: Offset,
    pub producers: Option<ProducerSnapshot>,
    /// Headers of the batches behind the snapshot (all when there is none), in order.
    pub since: Vec<BatchHeader>,
}

#[derive(Debug)]
pub struct Recovered {
    pub store: Store,
    pub journal: Journal,
    pub logs: BTreeMap<LogId, RecoveredLog>,
    /// Logs whose files do not hold what the checkpoint says; they were left as they are.
    pub damaged: BTreeMap<LogId, Damage>,
    /// Logs that this start or an earlier one gave up, and of which the cluster may not know that yet (`crate::lost`).
    pub lost: BTreeSet<LogId>,
    pub notes: BTreeMap<String, Bytes>,
    /// The process before stopped in order.
    pub clean: bool,
    pub report: Report,
}

/// What a recovery did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// The directory was new.
    pub fresh: bool,
    pub groups: u64,
    pub units: u64,
    /// Units at the end that were not whole.
    pub cut_units: u64,
    /// Bytes written again from the journal.
    pub bytes_written: u64,
    /// Bytes behind the ends of segments that were cut.
    pub bytes_cut: u64,
    /// Folders of deleted topics that were removed.
    pub removed: Vec<String>,
}

/// What is known when damaged logs are judged.
#[derive(Debug)]
pub struct Look<'a> {
    pub store: &'a Store,
    /// The log of the metadata group, unless it is damaged itself.
    pub metadata: Option<&'a Log>,
    pub notes: &'a BTreeMap<String, Bytes>,
    pub damaged: &'a BTreeMap<LogId, Damage>,
}

/// Names the damaged logs that may be given up, because other nodes have what they held.
pub type Judge<'a> = dyn Fn(&Look<'_>) -> BTreeSet<LogId> + 'a;

/// Why a log cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    #[error("segment {segment} has {has} bytes, the checkpoint says {says}")]
    Short { segment: Offset, has: u64, says: u64 },
    #[error("segment {segment} is missing")]
    Missing { segment: Offset },
    #[error("segment {segment} holds bytes at {at} that are no batch of it")]
    Bytes { segment: Offset, at: u64 },
    #[error("the journal's operation {operation} does not fit the log: it ends at {end}")]
    Order { operation: u64, end: Offset },
    #[error(
        "the journal says that {first} to {end} went to segment {segment} at {at} and was durable, but the bytes are others"
    )]
    Direct { segment: Offset, at: u32, first: Offset, end: Offset },
}

/// What whoever runs the node can do about a data directory that is not whole.
pub const WAY_OUT: &str = "put back what is missing or damaged from a copy; where other nodes have all that this one holds, empty the \
                           directory and start it with the same node id and --join: it fetches everything again; with neither, what it \
                           held is lost";

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(
        "{dir}: this directory holds the data of another program ({found}); nothing was changed: give weir one of its own with --data-dir"
    )]
    Foreign { dir: PathBuf, found: String },
    #[error(
        "{dir}: written by a newer weir (version {version}, known {known}); nothing was changed: start the version of weir that wrote it"
    )]
    Newer { dir: PathBuf, version: u32, known: u32 },
    #[error(
        "{path}: written by a newer weir (version {version}, known {known}); nothing was changed: start the version of weir that wrote it; \
         if none newer than this one ever ran here, the file is damaged: put it back from a copy"
    )]
    NewerCheckpoint { path: PathBuf, version: u32, known: u32 },
    #[error("{dir}/meta.properties: {what}; nothing was changed: {WAY_OUT}")]
    Meta { dir: PathBuf, what: &'static str },
    #[error(
        "{path}: directory.id={directory} was changed: its checksum is {stored}, these bytes give {computed}; under another id the \
         cluster would take this node's partitions for lost, so nothing was changed: put the file back as it was"
    )]
    Identity { path: PathBuf, directory: String, stored: String, computed: String },
    #[error(
        "{path}: missing, but {dir} has the checkpoint and the journal of a directory in use; nothing was changed: put the file back, or \
         empty the directory to start as a new one"
    )]
    NoIdentity { path: PathBuf, dir: PathBuf },
    #[error("{path}: {error}; nothing was changed: {WAY_OUT}")]
    Checkpoint { path: PathBuf, error: CheckpointError },
    #[error("{path}: the checkpoint is missing; nothing was changed: {WAY_OUT}")]
    NoCheckpoint { path: PathBuf },
    #[error(
        "{path}: the journal is missing; after a crash it holds what the segments do not have yet; nothing was changed: {WAY_OUT}"
    )]
    NoJournal { path: PathBuf },
    #[error("{} damaged, and by what is on this disk nobody else has what was in {}: {first}; nothing was given up: {WAY_OUT}", logs_are(*count), them(*count))]
    Damaged { count: usize, first: String },
    #[error(transparent)]
    Lost(#[from] LostNoteError),
    #[error(
        "{file}: this file of the journal has {has} of {says} bytes; after a crash it may hold what was acknowledged and what no segment \
         has yet, so nothing was changed: put it back; if it is lost, empty this directory where other nodes have copies, or else \
         remove {path}, which starts without what the file held if it was the newest one"
    )]
    JournalFile { file: PathBuf, has: u64, says: u64, path: PathBuf },
    #[error(
        "group {missing} of the journal (.weir/journal) is damaged, but group {known} was durable; nothing was changed: {WAY_OUT}"
    )]
    Journal { missing: u64, known: u64 },
    #[error(
        "{path}: {has} groups of logs that could not be written, the checkpoint says {says}; nothing was changed: {WAY_OUT}"
    )]
    Carried { path: PathBuf, has: usize, says: usize },
    #[error("group {sequence} of the journal (.weir/journal) cannot be read: {error}; nothing was changed: {WAY_OUT}")]
    Entry { sequence: u64, error: EntryError },
}

fn logs_are(count: usize) -> String {
    if count == 1 { "1 log is".to_owned() } else { format!("{count} logs are") }
}

fn them(count: usize) -> &'static str {
    if count == 1 { "it" } else { "them" }
}

impl Store {
    /// Opens a data directory, a new one too. Blocks: reads the journal, writes what it holds to the segments, syncs, writes a new
    /// checkpoint. The caller holds the directory's lock.
    ///
    /// # Errors
    /// When the directory is not ours, the disk fails, or checkpoint or journal are damaged below what was known to be durable;
    /// with `Options::only_copy` also when a log is damaged. Whatever the error, the next start finds the same checkpoint and journal.
    pub fn open(disk: Arc<dyn Disk>, root: &Path, options: Options) -> Result<Recovered, OpenError> {
        Store::open_judged(disk, root, options, None)
    }

    /// As `open`; with `Options::only_copy` the damaged logs that `judge` names are given up instead: `Recovered::lost` has them, they
    /// are no longer known, and their folders are left for `set_aside`.
    ///
    /// # Errors
    /// As `open`, for the logs that `judge` does not name.
    pub fn open_judged(
        disk: Arc<dyn Disk>,
        root: &Path,
        options: Options,
        judge: Option<&Judge<'_>>,
    ) -> Result<Recovered, OpenError> {
        let opened = open::open(Arc::clone(&disk), root, options.clone(), judge);
        let Err(OpenError::Disk(error @ DiskError::Full { .. })) = opened else { return opened };
        // What the segments do not have yet needs room, and this is what the ballast is for.
        tracing::warn!(%error, "the disk is full: the start goes on with the room that was kept for that");
        Store::drop_ballast_step(root).run(&*disk)?;
        open::open(disk, root, options, judge)
    }
}

mod fold;
mod identity;
mod open;
mod rewrite;
mod scan;
mod settle;

//! What the files of a log need apart from new batches, and what is under way.
//!
//! Owns that bookkeeping. Does not own steps (`write`, `steps`, `sync`).
//! Invariant: what a failed write was to do is still to be done.

use model::Offset;

use super::Position;
use crate::offset_index::IndexFiles;
use crate::segment::SegmentName;

/// What the files of a log need apart from new batches.
#[derive(Debug, Default)]
pub(super) struct FileState {
    pub(super) folder_made: bool,
    pub(super) folder_named: bool,
    /// The operation that must be durable before the files may be cut.
    pub(super) cut_operation: u64,
    /// In order, before the next write.
    pub(super) pending: Vec<FileChange>,
    /// Removed when the operation is durable.
    pub(super) removals: Vec<(u64, SegmentName)>,
    pub(super) epochs_written: Option<model::LeaderEpoch>,
    pub(super) in_flight: Option<InFlight>,
    pub(super) directs: u32,
    /// Segments whose files the direct write under way makes.
    pub(super) direct_created: Vec<Offset>,
    pub(super) syncing: Option<Position>,
    /// Something was removed or cut since the last sync.
    pub(super) names_dirty: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum FileChange {
    Remove(SegmentName),
    SetLen(SegmentName, u32),
}

#[derive(Debug, Default)]
pub(super) struct InFlight {
    pub(super) batches: usize,
    pub(super) operation: u64,
    pub(super) created: Vec<Offset>,
    pub(super) indexes: Vec<(Offset, IndexFiles)>,
    /// Asked for again when the write fails.
    pub(super) removals: Vec<(u64, SegmentName)>,
    pub(super) changes: Vec<FileChange>,
    pub(super) made_folder: bool,
    /// False when the log was cut since: then what was written says nothing about the log as it is now.
    pub(super) valid: bool,
}

impl FileState {
    pub(super) fn recovered(folder_made: bool) -> FileState {
        FileState { folder_made, folder_named: folder_made, ..FileState::default() }
    }

    pub(super) fn folder_made(&self) -> bool {
        self.folder_made
    }

    pub(super) fn cut_is_over(&self, synced_operation: u64) -> bool {
        synced_operation >= self.cut_operation
    }

    pub(super) fn cut_operation(&self) -> u64 {
        self.cut_operation
    }

    pub(super) fn cut(&mut self, operation: u64) {
        self.cut_operation = operation;
    }

    pub(super) fn remove_in_order(&mut self, name: SegmentName) {
        self.pending.push(FileChange::Remove(name));
        // A segment that comes again under this name has a file of its own to make.
        self.direct_created.retain(|created| *created != name.base);
        if let Some(in_flight) = self.in_flight.as_mut() {
            in_flight.created.retain(|created| *created != name.base);
        }
    }

    /// A cut waits for the next write, or the write under way carries it out.
    pub(super) fn is_cutting(&self) -> bool {
        !self.pending.is_empty() || self.in_flight.as_ref().is_some_and(|in_flight| !in_flight.changes.is_empty())
    }

    pub(super) fn set_len_in_order(&mut self, name: SegmentName, len: u32) {
        self.pending.push(FileChange::SetLen(name, len));
    }

    pub(super) fn remove_when_durable(&mut self, operation: u64, name: SegmentName) {
        self.removals.push((operation, name));
    }

    /// Cuts in their order, and removals that the journal holds by now.
    pub(super) fn take_changes(&mut self, durable: u64) -> (Vec<FileChange>, Vec<(u64, SegmentName)>) {
        let (removals, later) =
            std::mem::take(&mut self.removals).into_iter().partition(|(operation, _)| *operation <= durable);
        self.removals = later;
        (std::mem::take(&mut self.pending), removals)
    }

    /// A write failed: what it was to do is still to be done.
    pub(super) fn restore(&mut self, failed: InFlight) {
        self.removals.extend(failed.removals);
        let newer = std::mem::replace(&mut self.pending, failed.changes);
        self.pending.extend(newer);
        self.folder_made &= !failed.made_folder;
        self.epochs_written = None;
    }

    pub(super) fn after_cut(&mut self) {
        if let Some(in_flight) = self.in_flight.as_mut() {
            in_flight.valid = false;
        }
        self.epochs_written = None;
    }
}

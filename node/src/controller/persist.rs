//! The metadata log and its snapshot on the disk: what Raft wants persisted becomes units of the journal.
//!
//! Owns the order of these. Does not own what Raft wants (`replication::controller`), nor when a log's tail is written (`cold`).
//! Invariants: units go out in the order in which Raft wants them persisted; the log is cut only when the snapshot that replaces it is
//! durable.

use std::path::PathBuf;

use bytes::Bytes;
use model::Now;
use replication::controller::raft_node::Persist;
use storage::disk::{DiskError, Step};
use storage::durable::replace_steps;
use storage::log::{Log, SegmentWrite};
use storage::{Entry, ReadError, Unit};

use super::driver::{ControllerDriver, ControllerOut, HARD_STATE, MetadataDisk, MetadataUnit};
use super::entries::{self, offset_of};

/// Memory that the written tail keeps: a follower's conflict is cut without a read.
const TAIL_KEPT_BYTES: u64 = 256 << 10;
const WRITE_BYTES_MAX: u64 = 8 << 20;

impl ControllerDriver {
    pub(super) fn write_backlog(&mut self, now: Now, out: &mut ControllerOut) {
        while !self.installing {
            let Some(persist) = self.backlog.pop_front() else { return };
            if let Some(point) = &persist.snapshot {
                // The file first: the journal must not drop the log before the snapshot is there.
                let steps = self.snapshot_steps(point.file.clone());
                out.disk.push((MetadataDisk::Install { index: point.index }, steps));
                self.installing = true;
                self.backlog.push_front(persist);
            } else {
                self.write_unit(now, Vec::new(), &persist, out);
            }
        }
    }

    /// One unit: all of it counts after a crash, or nothing.
    fn write_unit(&mut self, now: Now, before: Vec<Entry>, persist: &Persist, out: &mut ControllerOut) {
        let mut entries = before;
        if let Some(index) = persist.truncate_from {
            match self.cut(index) {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    out.fatal = Some(format!("the metadata log cannot be cut at {index}: {error}"));
                    return;
                }
            }
        }
        for entry in &persist.entries {
            let batch = entries::to_batch(entry, now.wall_ms);
            entries.push(self.log.append(batch, now.wall_ms));
        }
        if let Some(value) = &persist.hard_state {
            entries.push(Entry::Note { key: HARD_STATE.to_owned(), value: value.clone() });
        }
        self.push_unit(entries, persist.number, out);
    }

    fn cut(&mut self, index: u64) -> Result<Entry, ReadError> {
        let point = match self.log.cut_point(offset_of(index))? {
            Ok(point) => point,
            Err(plan) => plan.run(&*self.disk)?,
        };
        Ok(self.log.truncate_to(point))
    }

    pub(super) fn push_unit(&mut self, entries: Vec<Entry>, number: u64, out: &mut ControllerOut) {
        let operation = self.log.last_operation();
        out.units.push(MetadataUnit { unit: Unit { entries }, number, operation });
    }

    pub(super) fn snapshot_if_due(&mut self, out: &mut ControllerOut) {
        if self.snapshot_in_flight || self.installing {
            return;
        }
        if let Some(point) = self.controller.snapshot_due() {
            let steps = self.snapshot_steps(point.file);
            out.disk.push((MetadataDisk::Snapshot { index: point.index }, steps));
            self.snapshot_in_flight = true;
            self.controller.snapshot_begun();
        }
    }

    /// The new snapshot in the place of the one before. Whichever is there after a crash, the log reaches back to it.
    fn snapshot_steps(&self, file: Bytes) -> Vec<Step> {
        let dir = self.snapshot_path.parent().map(PathBuf::from);
        let mut steps: Vec<Step> = dir.iter().map(|dir| Step::CreateDir { dir: dir.clone() }).collect();
        steps.extend(replace_steps(&*self.disk, &self.snapshot_path, vec![file]));
        // The folder's own name: it may be the first file in it.
        steps.extend(dir.iter().filter_map(|dir| dir.parent()).map(|above| Step::SyncDir { dir: above.into() }));
        steps
    }

    /// A disk operation of `ControllerOut::disk` is over.
    pub(crate) fn disk_done(
        &mut self,
        now: Now,
        what: MetadataDisk,
        result: &Result<(), DiskError>,
        out: &mut ControllerOut,
    ) {
        match (what, result) {
            (MetadataDisk::Snapshot { index }, Ok(())) => {
                self.snapshot_in_flight = false;
                self.controller.snapshot_durable(index);
                let start = offset_of(index + 1);
                if let Some(entry) = self.log.delete_before(start) {
                    self.push_unit(vec![entry], 0, out);
                }
            }
            (MetadataDisk::Snapshot { .. }, Err(DiskError::Full { .. })) => {
                // The log goes on growing; the next one is due soon enough.
                tracing::warn!("no room for a snapshot of the metadata");
                self.snapshot_in_flight = false;
            }
            (MetadataDisk::Install { index }, Ok(())) => {
                let persist = self.backlog.pop_front().expect("it waits for its snapshot");
                self.installing = false;
                let reset = self.log.reset(offset_of(index + 1));
                self.write_unit(now, vec![reset], &persist, out);
                self.write_backlog(now, out);
            }
            (MetadataDisk::Snapshot { .. } | MetadataDisk::Install { .. }, Err(error)) => {
                out.fatal = Some(format!("a snapshot of the metadata cannot be written: {error}"));
            }
        }
    }

    /// For checkpoint and stop: flushing, syncing, and what the checkpoint says of this log.
    pub(crate) fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// A write of the log's tail to its segment, when it is worth one, or with `all`.
    pub(crate) fn next_write(&mut self, flush_bytes: u64, all: bool) -> Option<SegmentWrite> {
        let due = all || self.log.unwritten_bytes() >= flush_bytes;
        due.then(|| self.log.next_write(WRITE_BYTES_MAX)).flatten()
    }

    /// The write that `next_write` gave is over.
    pub(crate) fn written(&mut self, result: &Result<(), DiskError>, out: &mut ControllerOut) {
        self.log.write_done(result);
        match result {
            Ok(()) => {
                self.log.evict_tail(TAIL_KEPT_BYTES);
            }
            Err(error) if Log::is_final(error) => {
                out.fatal = Some(format!("the metadata log cannot be written: {error}"));
            }
            Err(error) => tracing::warn!(%error, "the metadata log stays in the journal until there is room"),
        }
    }
}

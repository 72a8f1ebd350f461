//! From a partition's tail to its segment files, and from there to the disk.
//!
//! Owns when a tail is written and when a log that is not journalled is synced. Does not own which steps that takes: `storage::log`.
//! Invariant: one write and one sync of a log at a time. A full disk is waited out; any other failure is final.

use std::sync::Arc;
use std::time::Duration;

use model::Now;
use replication::partition::replica::{Event, Settings};
use storage::disk::DiskError;
use storage::log::Log;

use super::handle::{Deletion, Partition, Snapshot, State};
use super::lifecycle::durability;
use crate::core::{Core, FULL_RETRY};
use crate::effects::Effects;

/// Memory that a written tail may keep for readers at the end, while the node has room.
const TAIL_KEPT_BYTES: u64 = 1024 * 1024;
/// One write of one log.
const WRITE_BYTES_MAX: u64 = 8 * 1024 * 1024;

impl Partition {
    /// Starts a write of the tail when enough has gathered, or when it has waited long enough.
    pub(super) fn write_if_due(&self, core: &Core, now: Now, state: &mut State) {
        let unwritten = state.log.unwritten_bytes();
        let resting = state.full_until.is_some_and(|until| now.mono < until);
        if state.deletion == Deletion::Done {
            // The folder is gone, or a namesake's.
            return;
        }
        if state.writing || resting || state.replica.failure().is_some() {
            return;
        }
        // Without anything to write no folder is made.
        if state.log.has_write() && state.awaits_folder(core) {
            return;
        }
        let old = state.dirty_since.is_some_and(|since| now.mono >= since.saturating_add(core.config.flush_age));
        // In a log that is not journalled, answers wait for this write.
        let relaxed = !state.log.journalled() && unwritten > 0;
        let scarce = unwritten > 0 && core.memory.wants_writes();
        if relaxed
            || old
            || scarce
            || unwritten >= core.config.flush_bytes
            || state.write_target.is_some()
            || state.files_go
        {
            start_write(now, state);
        }
        self.sync_if_due(core, now, state);
    }

    /// A checkpoint begins: all that this log has done by now is to reach the segment files. Returns whether that is so already;
    /// else `Inward::Written` follows.
    /// `last`: nothing is appended any more; in a log that is not journalled it would come behind the checkpoint unseen.
    pub(crate) fn begin_checkpoint(self: &Arc<Self>, core: &Core, now: Now, last: bool, fx: &mut Effects) -> Began {
        let began = self.guarded(core, fx, |state, _| {
            if state.replica.failure().is_some() {
                return Began::Offline;
            }
            state.in_checkpoint = true;
            state.closed = last || state.switch_to.is_some();
            let operation = state.log.last_operation();
            // What the producers sent by now is in the files when the checkpoint is written, never more than that: a batch that
            // a crash takes away must not be known as a duplicate.
            if state.snapshot.as_ref().is_none_or(|snapshot| snapshot.operation != operation) {
                let bytes = state.replica.producers().encode();
                let before = state.usable_snapshot().cloned();
                state.snapshot_before = before;
                state.snapshot = Some(Snapshot { operation, end: state.log.log_end(), bytes });
            }
            if state.log.written_operation() < operation || state.syncing {
                state.write_target = Some(operation);
                self.write_if_due(core, now, state);
            }
            if take_reached(state) || state.write_target.is_none() { Began::Written } else { Began::Waiting }
        });
        began.unwrap_or(Began::Offline)
    }

    /// The checkpoint that waits for this log need not wait for what is in no group of the journal. Returns whether the log waits
    /// for room on the disk.
    pub(crate) fn relax_checkpoint(self: &Arc<Self>, core: &Core, fx: &mut Effects) -> bool {
        let grouped = self.grouped();
        let waits = self.guarded(core, fx, |state, _| {
            if state.log.journalled() && state.write_target.is_some_and(|target| target > grouped) {
                state.write_target = Some(grouped);
            }
            state.write_target.is_some() && state.full_until.is_some()
        });
        waits.unwrap_or(false)
    }

    /// The write that was started is over.
    pub(crate) fn written(self: &Arc<Self>, core: &Core, now: Now, result: &Result<(), DiskError>, fx: &mut Effects) {
        let _offline = self.guarded(core, fx, |state, fx| {
            state.writing = false;
            let before = state.log.unwritten_bytes();
            state.log.write_done(result);
            match result {
                Ok(()) => {
                    self.wrote(core, now, state, before.saturating_sub(state.log.unwritten_bytes()));
                    let end = state.log.written_end();
                    self.step_locked(core, now, state, Event::Written { end }, fx);
                }
                Err(error) if !Log::is_final(error) => {
                    tracing::warn!(partition = %self.id, %error, "appends are refused until there is room");
                    core.room.found_full(now);
                    state.full_until = Some(now.mono.saturating_add(FULL_RETRY));
                    state.dirty_since.get_or_insert(now.mono);
                    self.activate_if_needed(core, now, state, fx);
                }
                Err(error) => self.fail(core, now, state, error, fx),
            }
        });
    }

    fn wrote(&self, core: &Core, now: Now, state: &mut State, bytes: u64) {
        if !state.log.journalled() && bytes > 0 {
            state.unsynced_since.get_or_insert(now.mono);
            state.unsynced_bytes = state.unsynced_bytes.saturating_add(bytes);
        }
        if state.log.unwritten_bytes() == 0 {
            state.dirty_since = None;
        }
        state.log.evict_tail(if core.memory.wants_eviction() { 0 } else { TAIL_KEPT_BYTES });
    }

    /// A log that is not journalled has only its own sync against a power cut: at least every few seconds.
    fn sync_if_due(&self, core: &Core, now: Now, state: &mut State) {
        let Some(since) = state.unsynced_since.filter(|_| !state.in_checkpoint && !state.syncing) else { return };
        let interval = core.config.relaxed_sync_interval.min(Duration::from_millis(state.log.config().flush_ms));
        let due = now.mono >= since.saturating_add(interval);
        if !due && state.unsynced_bytes < core.config.relaxed_sync_bytes {
            return;
        }
        (state.unsynced_since, state.unsynced_bytes) = (None, 0);
        if let Some(sync) = state.log.sync_work() {
            state.syncing = true;
            state.sync_out = Some(sync);
        }
    }

    /// The sync that was started is over.
    pub(crate) fn synced(self: &Arc<Self>, core: &Core, now: Now, result: &Result<(), DiskError>, fx: &mut Effects) {
        let _offline = self.guarded(core, fx, |state, fx| {
            state.syncing = false;
            state.log.sync_done(result);
            match result {
                Ok(()) if !state.log.journalled() => {
                    if !state.in_checkpoint {
                        core.note_relaxed_sync();
                    } else if state.log.synced_end() == state.log.log_end() {
                        (state.unsynced_since, state.unsynced_bytes) = (None, 0);
                    }
                    let end = state.log.synced_end();
                    self.step_locked(core, now, state, Event::Synced { end }, fx);
                }
                Ok(()) => {}
                Err(error) => self.fail(core, now, state, error, fx),
            }
        });
    }

    /// The log is deleted and no checkpoint covers it any more. Returns whether the one under way waited for it.
    pub(crate) fn leave_checkpoint(self: &Arc<Self>, core: &Core, fx: &mut Effects) -> bool {
        let awaited = self.guarded(core, fx, |state, _| {
            state.in_checkpoint = false;
            state.write_target.take().is_some()
        });
        awaited.unwrap_or(false)
    }

    /// The checkpoint that `begin_checkpoint` began is over; `saved`: it is on the disk. Returns whether the partition was held
    /// back until then.
    pub(crate) fn end_checkpoint(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        (saved, last): (bool, bool),
        fx: &mut Effects,
    ) -> bool {
        let released = self.guarded(core, fx, |state, fx| {
            state.in_checkpoint = false;
            state.write_target = None;
            state.closed &= last;
            if saved {
                state.log.checkpoint_saved();
            }
            self.end_switch(core, now, state, saved, fx);
            if state.usable_snapshot().map(|usable| usable.operation)
                == state.snapshot.as_ref().map(|newest| newest.operation)
            {
                state.snapshot_before = None;
            }
            saved && std::mem::take(&mut state.held)
        });
        released.unwrap_or(false)
    }
}

impl Partition {
    /// All is synced, and nothing was appended since the checkpoint began: it may say that the log has another flush policy.
    pub(crate) fn begin_switch(self: &Arc<Self>, core: &Core, fx: &mut Effects) {
        let _offline = self.guarded(core, fx, |state, _| {
            let ready = state.closed && state.log.synced_end() == state.log.log_end();
            let Some(journalled) = state.switch_to.filter(|_| ready && state.replica.failure().is_none()) else {
                return;
            };
            state.log.set_journalled(journalled);
            state.switching = true;
        });
    }

    /// From now on the other position counts; or the old policy goes on, as the checkpoint before says.
    fn end_switch(self: &Arc<Self>, core: &Core, now: Now, state: &mut State, saved: bool, fx: &mut Effects) {
        if !std::mem::take(&mut state.switching) {
            return;
        }
        let journalled = state.log.journalled();
        if !saved {
            return state.log.set_journalled(!journalled);
        }
        state.switch_to = None;
        tracing::info!(partition = %self.id, journalled, "the topic's flush policy is followed from now on");
        let settings = Settings { durability: durability(journalled), ..state.replica.settings().clone() };
        self.step_locked(core, now, state, Event::Configured(settings), fx);
    }
}

/// What a log says to a checkpoint that begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Began {
    Written,
    Waiting,
    /// Nothing of it can be written any more: no checkpoint may cover it.
    Offline,
}

fn start_write(now: Now, state: &mut State) {
    let write = state.log.next_write(WRITE_BYTES_MAX);
    if write.is_some() {
        assert!(state.write_out.is_none(), "one write at a time");
        state.writing = true;
        state.full_until = None;
    }
    let waits = state.log.unwritten_bytes() > 0;
    state.dirty_since = if write.is_some() { waits.then_some(now.mono) } else { state.dirty_since.filter(|_| waits) };
    state.files_go = state.files_go && write.is_none() && state.log.has_write();
    state.write_out = write;
}

/// Whether the log has just reached what a checkpoint waits for, or has failed and never will: the checkpoint finds that out
/// and gives up, where it would wait for ever.
pub(super) fn take_reached(state: &mut State) -> bool {
    let failed = state.replica.failure().is_some();
    let over = state.write_target.is_some_and(|target| failed || state.log.written_operation() >= target);
    let reached = over && !state.syncing;
    if reached {
        state.write_target = None;
    }
    reached
}

//! Checkpoints: what the journal holds goes to the segment files, these to the disk, and then the journal's files are free again.
//!
//! Owns when a checkpoint is due and its phases. Does not own layouts (`storage::checkpoint`) nor the writes of a log (`partition`).
//! Invariant: in this order: note the journal's next group; every log writes what it has done by then; the files are synced; the
//! checkpoint is saved; the journal recycles what came before that group. A crash in between leaves the old checkpoint and journal.
//! Invariant: a log that cannot be written any more holds nobody up: the checkpoint says of it what the one before said, and takes
//! along what the journal has behind that (`storage::journal::carry`). The next start finds it as it was acknowledged.
//! Invariant: a checkpoint waits for nothing that waits for room in the journal, since that room may come from no other place.
//! Invariant: no checkpoint leaves out a log that recovery found and no topic has claimed yet: the next start would not know it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::planted::{self, Bug};
use model::{LogId, Now};
use storage::checkpoint::{LogCheckpoint, ProducerSnapshot};
use storage::disk::{DiskError, Lane, Step};
use storage::log::SyncWork;
use storage::{Carried, Carry, Store};

use crate::cold::Cold;
use crate::core::{Core, FULL_RETRY, Inward, Pending};
use crate::effects::{Effect, Effects};
use crate::partition::handle::Partition;
use crate::partition::writes::Began;

/// With more files than this, the whole file system is synced in one call instead.
const SYNC_FILES_MAX: usize = 64;

#[derive(Debug)]
pub(crate) struct Checkpointer {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// No checkpoint begins before.
    next_at: Duration,
    done: u64,
    /// What began is the last one before the process ends.
    last: bool,
    wanted: bool,
    /// The logs that it covers: those that were there when it began. What came later is in the journal behind it.
    logs: Vec<Arc<Partition>>,
    /// Those that cannot be written any more: what the journal has of them is taken along.
    offline: BTreeMap<LogId, Arc<Partition>>,
    /// Those that no topic had claimed when it began. They are as recovery left them, which is in their files.
    unclaimed: BTreeSet<LogId>,
    taken: Taken,
}

/// What was taken along for logs that are offline.
#[derive(Debug, Default)]
struct Taken {
    carried: Option<Arc<Carried>>,
    /// How far each log was when that was begun.
    marks: BTreeMap<LogId, Mark>,
    /// They were as far at the time before: all that they will ever have in the journal was taken.
    complete: bool,
}

/// A log's newest operation, and the newest one that is in a group.
type Mark = (u64, u64);

#[derive(Debug)]
enum Phase {
    Idle,
    /// So many logs still write.
    Writing {
        from_sequence: u64,
        left: usize,
    },
    Syncing {
        from_sequence: u64,
    },
    Carrying {
        from_sequence: u64,
        carry: Arc<Carry>,
    },
    Saving {
        from_sequence: u64,
    },
    /// The last one is saved.
    Closed,
}

impl Checkpointer {
    pub(crate) fn new(now: Now, core: &Core) -> Checkpointer {
        let next_at = now.mono.saturating_add(core.config.checkpoint_interval);
        Checkpointer {
            state: Mutex::new(State {
                phase: Phase::Idle,
                next_at,
                done: 0,
                last: false,
                wanted: false,
                logs: Vec::new(),
                offline: BTreeMap::new(),
                unclaimed: BTreeSet::new(),
                taken: Taken::default(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checkpoints since the start.
    pub(crate) fn done(&self) -> u64 {
        self.lock().done
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.lock().phase, Phase::Closed)
    }

    /// The journal has no room: the next checkpoint begins as soon as it can.
    pub(crate) fn want(&self) {
        self.lock().wanted = true;
    }

    /// When a checkpoint should begin; `None` while nothing has changed since the last one.
    pub(crate) fn due_at(&self, core: &Core, now: Now) -> Option<Duration> {
        let state = self.lock();
        if !matches!(state.phase, Phase::Idle) || state.last {
            return None;
        }
        let (next_at, wanted) = (state.next_at, state.wanted);
        drop(state);
        let writing = core.commit.writing();
        let used = writing.journal.used_bytes();
        let pressing = wanted || writing.journal.wants_checkpoint() || used >= core.config.checkpoint_journal_bytes;
        let changed = used > 0 || core.has_relaxed_sync();
        // After a failed one, even a pressing one waits for its turn.
        let soon = if pressing && next_at > now.mono.saturating_add(FULL_RETRY) { now.mono } else { next_at };
        (changed || pressing).then_some(soon)
    }

    /// Begins a checkpoint, unless one is under way.
    pub(crate) fn begin(&self, parts: &mut Parts<'_>, now: Now, fx: &mut Effects) {
        let core = parts.core;
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Idle) {
            return;
        }
        let from_sequence = core.commit.writing().journal.next_sequence();
        core.take_relaxed_sync();
        state.next_at = now.mono.saturating_add(core.config.checkpoint_interval);
        state.wanted = false;
        // One more than there are: nothing goes on before all were asked.
        state.phase = Phase::Writing { from_sequence, left: 1 };
        drop(state);
        let mut logs = core.table.all();
        logs.extend(core.leaving());
        let mut state = self.lock();
        state.logs = logs.clone();
        state.offline.clear();
        state.unclaimed = parts.cold.unclaimed.keys().copied().collect();
        let last = state.last;
        drop(state);
        let mut waiting = usize::from(!parts.cold.begin_checkpoint(core, fx));
        for partition in logs {
            match partition.begin_checkpoint(core, now, last, fx) {
                Began::Written | Began::Offline => {}
                Began::Waiting => waiting += 1,
            }
        }
        let mut state = self.lock();
        if let Phase::Writing { left, .. } = &mut state.phase {
            *left += waiting;
        }
        drop(state);
        if core.commit.is_stuck() {
            self.relax(parts, fx);
        }
        self.log_written(parts, now, fx);
    }

    /// Appends find no room in the journal: what waits for that is left to the next checkpoint.
    pub(crate) fn relax(&self, parts: &mut Parts<'_>, fx: &mut Effects) {
        let state = self.lock();
        if !matches!(state.phase, Phase::Writing { .. }) {
            return;
        }
        let logs = state.logs.clone();
        drop(state);
        let waiting = logs.iter().filter(|partition| partition.relax_checkpoint(parts.core, fx)).count();
        if waiting > 0 {
            // Appends wait for the journal, that for the checkpoint, and that for room on the disk.
            parts.core.drop_ballast(fx);
        }
        let grouped = parts.core.commit.writing().metadata_grouped();
        parts.cold.relax_checkpoint(parts.core, grouped);
    }

    /// One of the logs that were waited for is in its files.
    pub(crate) fn log_written(&self, parts: &mut Parts<'_>, now: Now, fx: &mut Effects) {
        let mut state = self.lock();
        let Phase::Writing { from_sequence, left } = &mut state.phase else { return };
        let from_sequence = *from_sequence;
        *left = left.saturating_sub(1);
        // Groups before it that held notes only are not seen in any log.
        if *left > 0 {
            return;
        }
        if parts.core.commit.writing().journal.durable() + 1 < from_sequence {
            *left = 1;
            parts.core.commit.tell_next_group();
            return;
        }
        state.phase = Phase::Syncing { from_sequence };
        let last = state.last;
        drop(state);
        self.start_sync(parts, last, now, fx);
    }

    /// The journal holds a log's deletion. A checkpoint that still waits for writes goes on without the log: its folder may be what
    /// another one waits for.
    pub(crate) fn log_deleted(&self, parts: &mut Parts<'_>, gone: &Arc<Partition>, now: Now, fx: &mut Effects) {
        let mut state = self.lock();
        let covered = state.logs.iter().position(|log| Arc::ptr_eq(log, gone));
        let Some(at) = covered.filter(|_| matches!(state.phase, Phase::Writing { .. })) else { return };
        state.logs.remove(at);
        drop(state);
        if gone.leave_checkpoint(parts.core, fx) {
            self.log_written(parts, now, fx);
        }
    }

    fn start_sync(&self, parts: &mut Parts<'_>, last: bool, now: Now, fx: &mut Effects) {
        let core = parts.core;
        let all = self.lock().logs.clone();
        let (offline, all): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|partition| partition.lock().replica.failure().is_some());
        // Checked before anything is begun: what a log gave out to be synced is not asked for twice.
        let unfit = |partition: &Arc<Partition>| {
            let state = partition.lock();
            // A target that was not reached: what came in place of it was meant for a checkpoint before.
            let unwritten = state.write_target.is_some() || (last && state.writing);
            state.syncing || unwritten
        };
        if all.iter().any(unfit) {
            return self.give_up(core, "a log is written still", now, fx);
        }
        self.lock().offline = offline.into_iter().map(|partition| (LogId::records(partition.id), partition)).collect();
        let (mut files, mut dirs, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        let mut works: Vec<SyncWork> = parts.cold.sync_work(last, &mut steps).into_iter().collect();
        for partition in all {
            let mut state = partition.lock();
            if last {
                steps.extend(state.log.close_steps());
            }
            if let Some(work) = state.log.sync_work() {
                state.syncing = true;
                works.push(work);
            }
        }
        for work in works {
            files.extend(work.files);
            dirs.extend(work.dirs);
        }
        if files.len() > SYNC_FILES_MAX {
            steps.push(Step::SyncAll);
        } else {
            steps.extend(files.into_iter().map(|file| Step::Sync { file, awaited: false }));
            dirs.sort();
            dirs.dedup();
            steps.extend(dirs.into_iter().map(|dir| Step::SyncDir { dir }));
        }
        steps.retain(|_| !planted::is(Bug::JournalRecycledEarly));
        core.tickets.start(Lane::Segments, steps, Pending::Checkpoint, fx);
    }

    /// The step that was started is over.
    pub(crate) fn stepped(&self, parts: &mut Parts<'_>, now: Now, result: Result<(), DiskError>, fx: &mut Effects) {
        let mut state = self.lock();
        match state.phase {
            Phase::Syncing { from_sequence } => {
                if let Err(error) = &result {
                    // Which file failed is not known, and no sync is tried twice and believed.
                    let reason = format!("a sync of the segments failed: {error}");
                    return fx.push(Effect::Fatal { reason });
                }
                drop(state);
                self.finish_sync(parts, &result, now, fx);
                self.carry(parts, from_sequence, now, fx);
            }
            Phase::Carrying { from_sequence, ref carry } => match result {
                Ok(()) => {
                    let carried = Arc::new(carry.take());
                    state.taken.carried = Some(carried);
                    drop(state);
                    self.save(parts, from_sequence, now, fx);
                }
                Err(error @ DiskError::Full { .. }) => {
                    drop(state);
                    parts.core.drop_ballast(fx);
                    self.give_up(parts.core, &error.to_string(), now, fx);
                }
                Err(error) => {
                    let reason = format!("what the journal has of logs that are offline cannot be kept: {error}");
                    fx.push(Effect::Fatal { reason });
                }
            },
            Phase::Saving { from_sequence } => {
                drop(state);
                self.saved(parts, from_sequence, result, now, fx);
            }
            Phase::Idle | Phase::Writing { .. } | Phase::Closed => unreachable!("no step was started"),
        }
    }

    /// Takes along what the journal has of logs that are offline, unless that was done and nothing was added.
    fn carry(&self, parts: &mut Parts<'_>, from_sequence: u64, now: Now, fx: &mut Effects) {
        let mut state = self.lock();
        let mark = |partition: &Arc<Partition>| (partition.lock().log.last_operation(), partition.grouped());
        let marks: BTreeMap<LogId, Mark> = state.offline.iter().map(|(log, offline)| (*log, mark(offline))).collect();
        let same = state.taken.marks == marks;
        if marks.is_empty() {
            state.taken = Taken::default();
        }
        if marks.is_empty() || (same && state.taken.complete) {
            drop(state);
            return self.save(parts, from_sequence, now, fx);
        }
        let logs = marks.keys().copied().collect();
        // What was in a queue at the time before may have come to a group since; then the marks have moved.
        state.taken.complete = same;
        state.taken.marks = marks;
        let carry = parts.core.commit.writing().journal.carry(logs, from_sequence);
        let steps = carry.steps();
        state.phase = Phase::Carrying { from_sequence, carry };
        drop(state);
        parts.core.tickets.start(Lane::Segments, steps, Pending::Checkpoint, fx);
    }

    fn save(&self, parts: &mut Parts<'_>, from_sequence: u64, now: Now, fx: &mut Effects) {
        let core = parts.core;
        let mut state = self.lock();
        state.phase = Phase::Saving { from_sequence };
        let (last, carried) = (state.last, state.taken.carried.clone());
        let covered: Vec<_> =
            state.logs.iter().filter(|log| !state.offline.contains_key(&LogId::records(log.id))).cloned().collect();
        let claimed = !state.unclaimed.iter().eq(parts.cold.unclaimed.keys());
        drop(state);
        if claimed {
            return self.give_up(core, "a log has found its topic meanwhile", now, fx);
        }
        let mut logs: Vec<LogCheckpoint> = Vec::new();
        let metadata = parts.cold.driver.log_mut();
        let of_metadata = metadata.checkpoint(metadata.log_end(), None);
        let mut complete = of_metadata.is_some();
        logs.extend(of_metadata);
        for found in parts.cold.unclaimed.values() {
            let of_log = found.log.checkpoint(found.high_watermark, found.producers.clone());
            complete &= of_log.is_some();
            logs.extend(of_log);
        }
        for partition in covered {
            let of_log = checkpoint_of(&partition);
            complete &= of_log.is_some();
            logs.extend(of_log);
        }
        if !complete {
            return self.give_up(core, "a log is being cut or went offline", now, fx);
        }
        // Appends that were let in just before the stop, and what clients ask of the controller meanwhile.
        if last && !core.commit.close(from_sequence) {
            return self.give_up(core, "something came in behind the last one", now, fx);
        }
        let writing = core.commit.writing();
        let steps = parts.store.checkpoint_steps(&writing.journal, from_sequence, logs, carried.as_deref(), last);
        drop(writing);
        core.tickets.start(Lane::Segments, steps, Pending::Checkpoint, fx);
    }

    fn saved(
        &self,
        parts: &mut Parts<'_>,
        from_sequence: u64,
        result: Result<(), DiskError>,
        now: Now,
        fx: &mut Effects,
    ) {
        let core = parts.core;
        match result {
            Ok(()) => {
                let mut state = self.lock();
                core.commit.writing().journal.recycle(from_sequence, state.taken.carried.as_deref());
                state.done += 1;
                state.phase = if state.last { Phase::Closed } else { Phase::Idle };
                drop(state);
                self.release_all(core, now, true, fx);
                core.commit.unstick(core, fx);
            }
            Err(error @ DiskError::Full { .. }) => {
                core.drop_ballast(fx);
                self.give_up(core, &error.to_string(), now, fx);
            }
            Err(error) => fx.push(Effect::Fatal { reason: format!("the checkpoint cannot be written: {error}") }),
        }
    }

    /// This time it does not work; the journal keeps everything, and there is a next time.
    fn give_up(&self, core: &Core, reason: &str, now: Now, fx: &mut Effects) {
        tracing::warn!(reason, "no checkpoint this time");
        let mut state = self.lock();
        state.phase = Phase::Idle;
        state.next_at = now.mono.saturating_add(FULL_RETRY);
        drop(state);
        self.release_all(core, now, false, fx);
    }

    fn release_all(&self, core: &Core, now: Now, saved: bool, fx: &mut Effects) {
        let mut state = self.lock();
        let (logs, last) = (std::mem::take(&mut state.logs), state.last);
        drop(state);
        let released = logs.iter().filter(|partition| partition.end_checkpoint(core, now, (saved, last), fx)).count();
        if released > 0 {
            core.inward(Inward::Released);
        }
    }

    fn finish_sync(&self, parts: &mut Parts<'_>, result: &Result<(), DiskError>, now: Now, fx: &mut Effects) {
        parts.cold.synced(result);
        let covered = self.lock().logs.clone();
        for partition in covered {
            let syncing = partition.lock().syncing;
            if syncing {
                partition.synced(parts.core, now, result, fx);
            }
            partition.begin_switch(parts.core, fx);
        }
    }

    /// No checkpoint is under way, and none failed just now.
    pub(crate) fn may_begin(&self, now: Now) -> bool {
        let state = self.lock();
        matches!(state.phase, Phase::Idle) && (!state.last || now.mono >= state.next_at)
    }

    /// Begins the last one: with the indexes of the active segments, marked as clean.
    pub(crate) fn begin_last(&self, parts: &mut Parts<'_>, now: Now, fx: &mut Effects) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Idle) {
            return;
        }
        state.last = true;
        drop(state);
        self.begin(parts, now, fx);
    }
}

/// What a checkpoint is made of.
pub(crate) struct Parts<'a> {
    pub(crate) core: &'a Core,
    pub(crate) store: &'a Store,
    /// Nothing is created or deleted meanwhile: its lock is held.
    pub(crate) cold: &'a mut Cold,
}

/// `None` when what the log says of itself cannot be used now.
fn checkpoint_of(partition: &Arc<Partition>) -> Option<LogCheckpoint> {
    let state = partition.lock();
    if state.replica.failure().is_some() {
        return None;
    }
    let producers = state.usable_snapshot();
    let producers = producers.map(|snapshot| ProducerSnapshot { offset: snapshot.end, bytes: snapshot.bytes.clone() });
    state.log.checkpoint(state.replica.high_watermark(), producers)
}

#[cfg(test)]
mod tests;

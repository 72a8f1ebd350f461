//! The cleaner: compacts one log at a time, in small steps, where waiting for the disk harms nobody.
//!
//! Owns which log is next, the pace, and what becomes of a run that fails. Does not own what is kept: `storage::log::compact`.
//! Invariant: one run at a time, one step of it under way; between two steps nothing is locked. A step reads at most a megabyte or
//! writes what that leaves, so that reads for followers and writes of tails get their turn.
//! Invariant: a run that is given up leaves nothing behind, and no log is the worse for it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::Now;
use replication::metadata::BrokerConfig;
use storage::disk::{Disk, DiskError, Lane, Step};
use storage::log::compact::{CleanError, Cleaning, Means, Stepped, Tally};
use storage::reader::ReadError;

use crate::core::Pending;
use crate::effects::{Effect, Effects};
use crate::node::Node;
use crate::partition::handle::Partition;
use crate::replica::ReadWork;

/// Logs are not looked through more often.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// How long a log rests after a run that found the disk full.
const FULL_REST: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Cleaner {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Draws the secrets of runs.
    seed: u64,
    phase: Phase,
    /// What was read and written in the second that began then.
    second: (Duration, u64),
    tally: Tally,
    runs: u64,
}

#[derive(Debug)]
enum Phase {
    /// Logs are looked through then.
    Idle { look_at: Duration },
    /// A step is under way.
    Working,
    /// The disk has done enough in this second.
    Resting { until: Duration, task: Box<CleanTask> },
}

/// A run and its log.
#[derive(Debug)]
pub(crate) struct CleanTask {
    partition: Arc<Partition>,
    cleaning: Cleaning,
    swaps: u64,
    counted: u64,
}

/// A step of a run, to be carried out where waiting harms nobody.
#[derive(Debug)]
pub(crate) struct CleanWork(Box<CleanTask>);

#[derive(Debug)]
pub(crate) struct CleanDone {
    task: Box<CleanTask>,
    stepped: Result<Stepped, Failure>,
}

#[derive(Debug)]
enum Failure {
    Clean(CleanError),
    /// An assertion failed: the log is left as it is.
    Panicked,
}

impl CleanWork {
    pub(crate) fn run(self, disk: &dyn Disk) -> CleanDone {
        let CleanWork(mut task) = self;
        let stepped = catch_unwind(AssertUnwindSafe(|| task.cleaning.step(disk)));
        let stepped = stepped.map_or(Err(Failure::Panicked), |stepped| stepped.map_err(Failure::Clean));
        CleanDone { task, stepped }
    }
}

impl Cleaner {
    pub(crate) fn new(seed: u64, now: Now, statics: &BrokerConfig) -> Cleaner {
        let phase = Phase::Idle { look_at: now.mono.saturating_add(backoff(statics)) };
        let state = State { seed, phase, second: (now.mono, 0), tally: Tally::default(), runs: 0 };
        Cleaner { state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When `Node::clean_if_due` must be called; `None` while a step is under way.
    pub(crate) fn due(&self) -> Option<Duration> {
        match self.lock().phase {
            Phase::Idle { look_at } => Some(look_at),
            Phase::Working => None,
            Phase::Resting { until, .. } => Some(until),
        }
    }

    /// Runs that came to their end, and what they did.
    pub(crate) fn done(&self) -> (u64, Tally) {
        let state = self.lock();
        (state.runs, state.tally)
    }

    fn look_again(&self, at: Duration) {
        self.lock().phase = Phase::Idle { look_at: at };
    }
}

impl State {
    fn secret(&mut self) -> (u64, u64) {
        let mut next = || {
            self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^ (mixed >> 31)
        };
        (next(), next())
    }

    /// When the next step may begin, after so many bytes more.
    fn pace(&mut self, now: Now, bytes: u64, bytes_per_second: u64) -> Option<Duration> {
        let (since, spent) = self.second;
        let over = since.saturating_add(Duration::from_secs(1));
        self.second = if now.mono >= over { (now.mono, bytes) } else { (since, spent.saturating_add(bytes)) };
        (self.second.1 > bytes_per_second).then(|| self.second.0.saturating_add(Duration::from_secs(1)))
    }
}

fn backoff(statics: &BrokerConfig) -> Duration {
    Duration::from_millis(statics.cleaner_backoff_ms).max(BACKOFF_MIN)
}

impl Node {
    /// Begins a run, or goes on with one that rested.
    pub(crate) fn clean_if_due(&self, now: Now, fx: &mut Effects) {
        let statics = &self.core.config.statics;
        let mut state = self.cleaner.lock();
        let due = match &state.phase {
            Phase::Idle { look_at } => *look_at,
            Phase::Working => return,
            Phase::Resting { until, .. } => *until,
        };
        if now.mono < due {
            return;
        }
        let idle = Phase::Idle { look_at: now.mono.saturating_add(backoff(statics)) };
        let phase = std::mem::replace(&mut state.phase, idle);
        drop(state);
        if let Phase::Resting { task, .. } = phase {
            return self.go_on_cleaning(now, task, fx);
        }
        if statics.cleaner_enabled && self.is_ready() && !self.is_stopping() {
            self.begin_cleaning(now, fx);
        }
    }

    fn begin_cleaning(&self, now: Now, fx: &mut Effects) {
        let core = &self.core;
        let all = core.table.all().into_iter();
        let worth = all.filter_map(|partition| Some((partition.worth_cleaning(core, now)?, partition)));
        let Some((worth, partition)) = worth.max_by(|(one, _), (other, _)| one.cmp(other)) else { return };
        let memory = core.config.statics.cleaner_memory_bytes.min(core.config.limits.tail_bytes);
        let means = Means {
            now_ms: core.wall.read(now),
            secret: self.cleaner.lock().secret(),
            memory_bytes: usize::try_from(memory).unwrap_or(usize::MAX),
            producers: BTreeMap::new(),
        };
        let Some(cleaning) = partition.begin_cleaning(means) else { return };
        tracing::info!(partition = %partition.id, dirty = worth.dirty_ratio / 10_000, "compaction begins; dirty is in percent");
        let task = Box::new(CleanTask { partition, cleaning, swaps: 0, counted: 0 });
        self.go_on_cleaning(now, task, fx);
    }

    /// The next step, now or when the disk may do more.
    fn go_on_cleaning(&self, now: Now, mut task: Box<CleanTask>, fx: &mut Effects) {
        if self.is_stopping() {
            return self.give_up_cleaning(now, task, Some(Duration::ZERO), fx);
        }
        let done = task.cleaning.done.bytes_read + task.cleaning.done.bytes_written;
        let bytes = done - std::mem::replace(&mut task.counted, done);
        let mut state = self.cleaner.lock();
        if let Some(until) = state.pace(now, bytes, self.core.config.statics.cleaner_bytes_per_second) {
            state.phase = Phase::Resting { until, task };
            drop(state);
            return self.core.timer.by(until, fx);
        }
        state.phase = Phase::Working;
        drop(state);
        fx.push(Effect::Read(ReadWork::clean(CleanWork(task))));
    }

    /// A step of a run was carried out.
    pub(crate) fn cleaning_stepped(&self, now: Now, done: CleanDone, fx: &mut Effects) {
        let CleanDone { mut task, stepped } = done;
        let rest = now.mono.saturating_add(backoff(&self.core.config.statics));
        match stepped {
            Ok(Stepped::Read) => self.go_on_cleaning(now, task, fx),
            Ok(Stepped::Write(steps)) if steps.is_empty() => self.go_on_cleaning(now, task, fx),
            Ok(Stepped::Write(steps)) => {
                self.core.tickets.start(Lane::Segments, steps, Pending::Clean { task }, fx);
            }
            Ok(Stepped::Swap(swap)) => match task.partition.adopt(&self.core, swap, fx) {
                Ok(()) => {
                    task.swaps += 1;
                    self.go_on_cleaning(now, task, fx);
                }
                Err(steps) => {
                    self.remove_leftover(steps, fx);
                    self.give_up_cleaning(now, task, Some(rest), fx);
                }
            },
            Ok(Stepped::Done) => self.cleaned(now, &task, rest, fx),
            // It was cut or deleted meanwhile.
            Err(Failure::Clean(CleanError::Read(ReadError::Disk(DiskError::NotFound { .. })))) => {
                self.give_up_cleaning(now, task, Some(rest), fx);
            }
            Err(Failure::Clean(error)) => {
                if let CleanError::Read(ReadError::Corrupt { segment, at }) = error {
                    task.partition.found_damage(&self.core, segment, at);
                }
                tracing::error!(partition = %task.partition.id, %error, "the log is not compacted until the next start");
                self.give_up_cleaning(now, task, None, fx);
            }
            Err(Failure::Panicked) => {
                tracing::error!(partition = %task.partition.id, "an assertion failed: not compacted until the next start");
                self.give_up_cleaning(now, task, None, fx);
            }
        }
    }

    fn cleaned(&self, now: Now, task: &CleanTask, rest: Duration, fx: &mut Effects) {
        let Tally { bytes_read, bytes_written, batches_dropped, batches_rewritten, batches_unreadable } =
            task.cleaning.done;
        let (partition, swaps) = (&task.partition, task.swaps);
        tracing::info!(partition = %partition.id, swaps, bytes_read, bytes_written, batches_dropped, batches_rewritten,
            batches_unreadable, "compacted");
        if swaps == 0 {
            // All waits for the end of one transaction, perhaps.
            partition.rest_cleaning(Some(rest));
        }
        let mut state = self.cleaner.lock();
        state.runs += 1;
        state.tally = Tally {
            bytes_read: state.tally.bytes_read + bytes_read,
            bytes_written: state.tally.bytes_written + bytes_written,
            batches_dropped: state.tally.batches_dropped + batches_dropped,
            batches_rewritten: state.tally.batches_rewritten + batches_rewritten,
            batches_unreadable: state.tally.batches_unreadable + batches_unreadable,
        };
        // There may be another log.
        state.phase = Phase::Idle { look_at: now.mono };
        drop(state);
        self.core.timer.by(now.mono, fx);
    }

    /// Steps of a run were carried out by the disk.
    pub(crate) fn cleaning_written(
        &self,
        now: Now,
        task: Box<CleanTask>,
        result: &Result<(), DiskError>,
        fx: &mut Effects,
    ) {
        match result {
            Ok(()) => self.go_on_cleaning(now, task, fx),
            Err(error @ DiskError::Full { .. }) => {
                tracing::warn!(partition = %task.partition.id, %error, "compaction waits for room");
                self.give_up_cleaning(now, task, Some(now.mono.saturating_add(FULL_REST)), fx);
            }
            Err(error) => {
                tracing::error!(partition = %task.partition.id, %error, "the log is not compacted until the next start");
                self.give_up_cleaning(now, task, None, fx);
            }
        }
    }

    fn give_up_cleaning(&self, now: Now, task: Box<CleanTask>, rest: Option<Duration>, fx: &mut Effects) {
        let CleanTask { partition, cleaning, .. } = *task;
        partition.rest_cleaning(rest);
        self.remove_leftover(cleaning.abandon(&*self.core.disk), fx);
        let at = now.mono.saturating_add(backoff(&self.core.config.statics));
        self.cleaner.look_again(at);
        self.core.timer.by(at, fx);
    }

    fn remove_leftover(&self, steps: Vec<Step>, fx: &mut Effects) {
        if !steps.is_empty() {
            self.core.tickets.start(Lane::Segments, steps, Pending::CleanLeftover, fx);
        }
    }
}

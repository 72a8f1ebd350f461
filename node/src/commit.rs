//! Group commit: what waits for the journal, and who is told when it is durable.
//!
//! Owns the queue of units and their order, and the journal itself. Does not own logs: `Told` names whom to tell.
//! Invariant: units reach the journal in the order in which they were queued; each is told about once, in that order.
//! Invariant: who is told of a group is told by one thread at a time, and never before those of the group before it, whichever
//! thread's disk operation completed it.
//! Invariant: a group is formed at once when the journal is idle, else from all that gathered meanwhile. One whose bytes would go beside
//! the journal also waits for the direct write of the same log before it: it could not be acknowledged earlier, and would be written twice.
//! Locks: the journal before a partition, a partition before the queue; the queue's lock is never held while bytes are copied.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use model::planted::{self, Bug};
use model::{LogId, LogKind, Now, Offset, TopicPartition};
use storage::disk::{DiskError, Lane};
use storage::log::DirectWrite;
use storage::{GroupPart, Journal, Unit};

use crate::core::{Core, Inward, Pending};
use crate::effects::{Effect, Effects};
use crate::partition::handle::Partition;

/// Whom to tell that a unit is durable.
#[derive(Debug)]
pub(crate) enum Told {
    /// Records below `end`, if the unit was an append.
    Partition { partition: Arc<Partition>, operation: u64, end: Option<Offset> },
    /// The metadata Raft: its output with this number.
    Metadata { number: u64, operation: u64 },
    /// A log that was deleted: its files may go.
    Deleted { partition: Arc<Partition>, operation: u64 },
}

#[derive(Debug)]
pub(crate) struct Commit {
    queue: Mutex<Queue>,
    journal: Mutex<Writing>,
    /// Durable, and not told yet. Filled with the journal locked.
    durable: Mutex<VecDeque<Told>>,
    /// Held by the thread that tells.
    teller: Mutex<()>,
    /// A checkpoint waits for the next group.
    tell_next: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    units: VecDeque<Unit>,
    told: VecDeque<Told>,
    /// A group is being formed or written.
    busy: bool,
    /// Units were taken that found no room in the journal.
    stuck: bool,
    /// How often the journal was given room: it may come between the attempt that found none and the note of it.
    rooms: u64,
    /// Units were taken that wait for a direct write.
    held: bool,
    /// How often a direct write has ended: as `rooms`.
    directs_ended: u64,
    /// Units were taken that the last group could not hold.
    left_over: bool,
    /// The last checkpoint is being saved: no group is started any more.
    closed: bool,
}

#[derive(Debug)]
pub(crate) struct Writing {
    pub(crate) journal: Journal,
    /// Taken from the queue, in no group yet.
    units: VecDeque<Unit>,
    /// Of all units that are not durable, groups first.
    told: VecDeque<Told>,
    /// How many of them are in groups.
    grouped: usize,
    /// The metadata log's newest operation that is in a group.
    metadata_grouped: u64,
    /// Whose direct writes the journal knows, until a group carries them.
    directs: BTreeMap<LogId, Arc<Partition>>,
    /// Direct writes on their way.
    directs_in_flight: usize,
    /// The last direct write found the disk full: nothing waits for the next attempt.
    directs_stalled: bool,
}

impl Commit {
    pub(crate) fn new(journal: Journal) -> Commit {
        let writing = Writing {
            journal,
            units: VecDeque::new(),
            told: VecDeque::new(),
            grouped: 0,
            metadata_grouped: 0,
            directs: BTreeMap::new(),
            directs_in_flight: 0,
            directs_stalled: false,
        };
        Commit {
            queue: Mutex::default(),
            journal: Mutex::new(writing),
            durable: Mutex::default(),
            teller: Mutex::default(),
            tell_next: AtomicBool::new(false),
        }
    }

    /// Puts a unit at the end of the queue. A partition calls this with its lock held, so the queue has the log's order.
    pub(crate) fn push(&self, unit: Unit, told: Told) {
        let mut queue = self.queue();
        queue.units.push_back(unit);
        queue.told.push_back(told);
    }

    /// Nothing waits, and no group is on its way.
    pub(crate) fn is_idle(&self) -> bool {
        let queue = self.queue();
        let idle = !queue.busy && queue.units.is_empty();
        drop(queue);
        idle && self.writing().told.is_empty()
    }

    /// What waits finds no room in the journal.
    pub(crate) fn is_stuck(&self) -> bool {
        self.queue().stuck
    }

    /// Starts no group any more, for the last checkpoint, which covers the groups before `next_sequence`: after a clean stop the
    /// journal is not read, so what came later must not be acknowledged. `false`, and open again, when something came already.
    pub(crate) fn close(&self, next_sequence: u64) -> bool {
        let mut queue = self.queue();
        queue.closed = !queue.busy && queue.units.is_empty();
        let closed = queue.closed;
        // The journal's lock comes before the queue's.
        drop(queue);
        let writing = self.writing();
        let closed = closed && writing.told.is_empty() && writing.journal.next_sequence() == next_sequence;
        drop(writing);
        self.queue().closed = closed;
        closed
    }

    pub(crate) fn writing(&self) -> MutexGuard<'_, Writing> {
        // A panic in here is one of the journal's own state: whoever called the node ends the process. Others may still look.
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forms and starts the next group, unless one is on its way. To be called without a partition's lock.
    pub(crate) fn kick(&self, core: &Core, fx: &mut Effects) {
        let mut queue = self.queue();
        while !queue.closed
            && !queue.busy
            && !queue.stuck
            && !queue.held
            && (queue.left_over || !queue.units.is_empty())
        {
            queue = self.kick_once(core, queue, fx);
        }
    }

    /// The journal has room again: what found none is tried again.
    pub(crate) fn unstick(&self, core: &Core, fx: &mut Effects) {
        let mut queue = self.queue();
        queue.rooms += 1;
        queue.stuck = false;
        drop(queue);
        self.kick(core, fx);
    }

    fn kick_once<'a>(
        &'a self,
        core: &Core,
        mut queue: MutexGuard<'a, Queue>,
        fx: &mut Effects,
    ) -> MutexGuard<'a, Queue> {
        let (units, told) = (std::mem::take(&mut queue.units), std::mem::take(&mut queue.told));
        queue.busy = true;
        let (rooms, directs_ended) = (queue.rooms, queue.directs_ended);
        drop(queue);
        let (started, left_over) = self.form_group(core, units, told, fx);
        let mut queue = self.queue();
        queue.left_over = left_over;
        queue.busy = started == Started::Yes;
        queue.stuck = started == Started::NoRoom && queue.rooms == rooms;
        queue.held = started == Started::Held && queue.directs_ended == directs_ended;
        queue
    }

    /// Also says whether units are left for the next group.
    fn form_group(
        &self,
        core: &Core,
        units: VecDeque<Unit>,
        told: VecDeque<Told>,
        fx: &mut Effects,
    ) -> (Started, bool) {
        let mut writing = self.writing();
        writing.units.extend(units);
        writing.told.extend(told);
        let started = start_group(core, &mut writing, fx);
        // Room is made while the journal still has some. Near the disk's reserve it does with the files that it has, as long as
        // checkpoints free them in time.
        let must_grow = started == Started::NoRoom;
        let growth = writing.journal.growth_bytes();
        let may_grow = growth.is_some_and(|bytes| must_grow || core.room.take_growth(&*core.disk, bytes));
        if may_grow && let Some(steps) = writing.journal.grow() {
            core.tickets.start(Lane::Segments, steps, Pending::JournalGrowth, fx);
        }
        (started, !writing.units.is_empty())
    }

    /// The journal's own write of a group is over.
    pub(crate) fn written(
        &self,
        core: &Core,
        now: Now,
        sequence: u64,
        result: Result<(), DiskError>,
        fx: &mut Effects,
    ) {
        if let Err(error) = result.or_else(|error| planted::is(Bug::FailedSyncBelieved).then_some(()).ok_or(error)) {
            fx.push(Effect::Fatal { reason: format!("the journal cannot be written: {error}") });
            return;
        }
        self.part_done(sequence, GroupPart::Journal);
        if self.tell_next.swap(false, Ordering::Relaxed) {
            core.inward(Inward::Written);
        }
        // The next group first: the disk works while the answers go out.
        self.queue().busy = false;
        self.kick(core, fx);
        self.tell(core, now, fx);
    }

    /// A direct write of a group is over.
    pub(crate) fn direct_written(&self, core: &Core, now: Now, done: DirectDone, fx: &mut Effects) {
        let DirectDone { sequence, partition, write, result } = done;
        match &result {
            Ok(()) => {}
            Err(error @ DiskError::Full { .. }) => {
                tracing::warn!(partition = %partition.id, %error, "a large append waits for room on the disk");
                core.room.found_full(now);
                core.drop_ballast(fx);
                core.retry_later(now, Pending::Direct { sequence, partition, write }, fx);
                self.writing().directs_stalled = true;
                return self.direct_ended(core, fx);
            }
            Err(error) => {
                // It is a part of the journal that lies elsewhere.
                let reason = format!("a direct write of {} failed: {error}", partition.id);
                return fx.push(Effect::Fatal { reason });
            }
        }
        partition.lock().log.direct_done(&write, &result);
        self.part_done(sequence, GroupPart::Direct);
        let mut writing = self.writing();
        writing.directs_in_flight -= 1;
        writing.directs_stalled = false;
        drop(writing);
        if self.tell_next.swap(false, Ordering::Relaxed) {
            core.inward(Inward::Written);
        }
        self.direct_ended(core, fx);
        self.tell(core, now, fx);
    }

    /// What was held for a direct write is looked at again.
    fn direct_ended(&self, core: &Core, fx: &mut Effects) {
        let mut queue = self.queue();
        queue.directs_ended += 1;
        queue.held = false;
        drop(queue);
        self.kick(core, fx);
    }

    /// `Inward::Written` follows when the next part of a group is done.
    pub(crate) fn tell_next_group(&self) {
        self.tell_next.store(true, Ordering::Relaxed);
    }

    fn part_done(&self, sequence: u64, part: GroupPart) {
        let mut writing = self.writing();
        let durable = writing.journal.part_done(sequence, part);
        writing.grouped -= durable.units;
        let told = writing.told.drain(..durable.units);
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).extend(told);
    }

    /// Tells who has become durable, unless another thread is at it: that one looks again when it has given the lock back.
    fn tell(&self, core: &Core, now: Now, fx: &mut Effects) {
        let durable = || self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        while !durable().is_empty() {
            let _teller = match self.teller.try_lock() {
                Ok(teller) => teller,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let told = std::mem::take(&mut *durable());
            tell(core, now, told, fx);
        }
    }

    /// The journal has another file, or could not make one.
    pub(crate) fn grown(&self, core: &Core, result: &Result<(), DiskError>, fx: &mut Effects) {
        if let Err(error) = result {
            tracing::warn!(%error, "the journal cannot grow");
            if self.is_stuck() {
                core.drop_ballast(fx);
            }
            let steps = self.writing().journal.undo_growth();
            return core.tickets.start(Lane::Segments, steps, Pending::JournalGrowthUndone, fx);
        }
        self.writing().journal.grown(result);
        self.unstick(core, fx);
    }

    /// What a growth that failed has left is gone; the next attempt waits a little.
    pub(crate) fn growth_undone(&self, core: &Core, now: Now, result: &Result<(), DiskError>, fx: &mut Effects) {
        if let Err(error) = result {
            tracing::warn!(%error, "half a file of the journal stays until the next attempt");
        }
        core.retry_later(now, Pending::JournalGrowth, fx);
    }

    /// The journal may try to grow again.
    pub(crate) fn growth_rested(&self, core: &Core, fx: &mut Effects) {
        self.writing().journal.growth_failed();
        self.unstick(core, fx);
    }
}

impl Writing {
    /// The metadata log's operations up to this one are in groups.
    pub(crate) fn metadata_grouped(&self) -> u64 {
        self.metadata_grouped
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Started {
    Yes,
    Nothing,
    NoRoom,
    /// A direct write comes first.
    Held,
}

/// Whether a log that would be written directly has such a write on its way.
fn is_held(core: &Core, writing: &Writing) -> bool {
    if writing.directs_in_flight == 0 || writing.directs_stalled {
        return false;
    }
    let mut large = writing.journal.direct_candidates(&writing.units);
    large.any(|log| core.table.get(log.partition).is_some_and(|partition| partition.lock().log.has_direct()))
}

fn start_group(core: &Core, writing: &mut Writing, fx: &mut Effects) -> Started {
    if is_held(core, writing) {
        return Started::Held;
    }
    let Writing { journal, units, directs, .. } = &mut *writing;
    let mut direct = |log: LogId, operations: &[u64]| -> Option<DirectWrite> {
        let partition = core.table.get(log.partition).filter(|_| log.kind == LogKind::RECORDS)?;
        let mut state = partition.lock();
        if state.awaits_folder(core) {
            return None;
        }
        let write = state.log.direct(operations)?;
        drop(state);
        directs.insert(log, partition);
        Some(write)
    };
    let group = match journal.group(units, &mut direct) {
        Ok(Some(group)) => group,
        Ok(None) => return Started::Nothing,
        Err(full) => {
            // A checkpoint frees files, or a new one is made: either kicks again.
            tracing::debug!(%full, "appends wait for the journal");
            if full.used > 0 {
                core.inward(Inward::CheckpointWanted);
            }
            return Started::NoRoom;
        }
    };
    let sequence = group.sequence;
    note_grouped(writing, group.units);
    writing.directs_in_flight += group.directs.len();
    core.tickets.start(Lane::Journal, group.steps, Pending::Journal { sequence }, fx);
    for (log, write) in group.directs {
        let partition = writing.directs.remove(&log).expect("its log was asked for the write");
        let steps = write.steps();
        core.tickets.start(Lane::Segments, steps, Pending::Direct { sequence, partition, write }, fx);
    }
    Started::Yes
}

/// Notes in each log how far it is in groups: what a checkpoint can wait for without waiting for room in the journal.
fn note_grouped(writing: &mut Writing, units: usize) {
    let from = writing.grouped;
    writing.grouped += units;
    let Writing { told, metadata_grouped, .. } = writing;
    for told in told.range(from..from + units) {
        match told {
            Told::Partition { partition, operation, .. } | Told::Deleted { partition, operation } => {
                partition.note_grouped(*operation);
            }
            Told::Metadata { operation, .. } => *metadata_grouped = (*metadata_grouped).max(*operation),
        }
    }
}

pub(crate) struct DirectDone {
    pub(crate) sequence: u64,
    pub(crate) partition: Arc<Partition>,
    pub(crate) write: DirectWrite,
    pub(crate) result: Result<(), DiskError>,
}

/// Tells each partition once, however many of its units became durable.
fn tell(core: &Core, now: Now, told: VecDeque<Told>, fx: &mut Effects) {
    let mut partitions: BTreeMap<TopicPartition, (Arc<Partition>, u64, Option<Offset>)> = BTreeMap::new();
    for told in told {
        match told {
            Told::Partition { partition, operation, end } => {
                let entry = partitions.entry(partition.id).or_insert_with(|| (partition, 0, None));
                entry.1 = entry.1.max(operation);
                // Not the maximum: a truncation moves it back, and nothing is acknowledged twice by the last one.
                entry.2 = end.or(entry.2);
            }
            Told::Metadata { number, operation } => core.inward(Inward::MetadataDurable { number, operation }),
            Told::Deleted { partition, .. } => core.inward(Inward::LogDeleted(partition)),
        }
    }
    for (partition, operation, end) in partitions.into_values() {
        partition.journalled(core, now, operation, end, fx);
    }
}

#[cfg(test)]
pub(crate) mod tests;

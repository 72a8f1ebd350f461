//! Carries a partition's actions out: bytes to the log's tail and the journal, answers to who waits, limits to readers.
//!
//! Owns the order of these steps and what happens when one fails. Takes no decision about offsets, acks or duplicates.
//! Invariant: a batch is on the tail and in the commit queue before the lock is given back, so the queue has the log's order.
//! Invariant: a failed assertion takes this partition offline and no other; who waits for it is answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use model::batch::Batch;
use model::planted::{self, Bug};
use model::{Now, Offset};
use replication::partition::replica::{Action, Event, Origin};
use storage::Unit;
use storage::disk::{DiskError, Lane};

use super::handle::{Partition, PublishedRole, State};
use super::lifecycle::take_removal;
use super::produce::Waiter;
use super::writes::take_reached;
use crate::commit::Told;
use crate::core::{Core, Inward, Pending};
use crate::effects::Effects;
use crate::requests::{Acks, AppendError, Appended};

pub(crate) struct Append {
    pub(crate) batch: Batch,
    pub(crate) acks: Acks,
    pub(crate) timeout: Duration,
    pub(crate) origin: Origin,
    pub(crate) waiter: Waiter,
}

impl Partition {
    pub(crate) fn append(self: &Arc<Self>, core: &Core, now: Now, append: Append, fx: &mut Effects) {
        let Append { batch, acks, timeout, origin, waiter } = append;
        let spare = waiter.clone();
        let done = self.guarded(core, fx, |state, fx| {
            if let Some(until) = state.full_until.filter(|until| now.mono < *until) {
                let (waiting, wait) = (state.log.unwritten_bytes(), until.saturating_sub(now.mono).as_millis());
                let reason = format!("no space left for {waiting} bytes that wait; it is tried again in {wait} ms");
                return answer(core, waiter, Err(AppendError::Disk { reason }), fx);
            }
            if state.closed {
                let refused = AppendError::NotLeader { leader: None, epoch: self.published.epoch() };
                return answer(core, waiter, Err(refused), fx);
            }
            let event = Event::Produced { batch, acks, timeout, origin, waiter };
            self.step_locked(core, now, state, event, fx);
            if planted::is(Bug::AckBeforeJournalSync) {
                self.step_locked(core, now, state, Event::Synced { end: state.log.log_end() }, fx);
            }
        });
        if let Err(reason) = done {
            answer_unless_done(core, spare, AppendError::Disk { reason }, fx);
        }
    }

    /// Hands an event that no request waits for to the state machine.
    pub(crate) fn step(self: &Arc<Self>, core: &Core, now: Now, event: Event<Waiter>, fx: &mut Effects) {
        // A failure is logged and answered where it is caught, here and below.
        let _offline = self.guarded(core, fx, |state, fx| self.step_locked(core, now, state, event, fx));
    }

    /// The journal holds the log's operations up to `operation`; `end` says that there were records among them.
    pub(crate) fn journalled(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        operation: u64,
        end: Option<Offset>,
        fx: &mut Effects,
    ) {
        let _offline = self.guarded(core, fx, |state, fx| {
            state.log.durable_to(operation);
            // Not `end`: the log may have been cut since.
            let event = end.map_or(Event::Tick, |_| Event::Synced { end: state.log.durable_end() });
            self.step_locked(core, now, state, event, fx);
        });
    }

    /// Does something with the lock held, and then starts what was decided under it.
    ///
    /// # Errors
    /// When an assertion failed: the partition is offline by then, and who waited is answered.
    pub(crate) fn guarded<T>(
        self: &Arc<Self>,
        core: &Core,
        fx: &mut Effects,
        act: impl FnOnce(&mut State, &mut Effects) -> T,
    ) -> Result<T, String> {
        let mut state = self.lock();
        let done = catch_unwind(AssertUnwindSafe(|| act(&mut state, fx)));
        let done = done.map_err(|panic| {
            let reason = panic_text(panic.as_ref());
            tracing::error!(partition = %self.id, reason, "an assertion failed: offline until the next start");
            self.abandon(core, &mut state, &reason, fx);
            reason
        });
        self.release(core, state, fx);
        done
    }

    pub(crate) fn step_locked(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        state: &mut State,
        event: Event<Waiter>,
        fx: &mut Effects,
    ) {
        let mut actions = std::mem::take(&mut state.actions);
        state.replica.step(now, event, &mut actions);
        self.carry_out_all(core, now, state, actions, fx);
    }

    /// Carries out what a step of the replica asked for. `actions` is given back to the state for the next one.
    pub(crate) fn carry_out_all(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        state: &mut State,
        mut actions: Vec<Action<Waiter>>,
        fx: &mut Effects,
    ) {
        let before = state.log.log_end();
        for action in actions.drain(..) {
            self.carry_out(core, now, state, action, fx);
        }
        state.actions = actions;
        // A journalled log is written behind the journal's sync: the bug takes for written what the journal was only given.
        let end = state.log.log_end();
        if planted::is(Bug::WatermarkFromWritten) && end > before {
            self.step_locked(core, now, state, Event::Written { end }, fx);
        }
        self.published.set_fresh(state.replica.is_fresh());
        self.settle_deletions(now, state, fx);
        self.report_start(core, state);
        self.write_if_due(core, now, state);
        self.activate_if_needed(core, now, state, fx);
    }

    fn carry_out(self: &Arc<Self>, core: &Core, now: Now, state: &mut State, action: Action<Waiter>, fx: &mut Effects) {
        match action {
            Action::StartEpoch { epoch, start } => {
                // The log notes the epoch with its first batch; readers know it from now on.
                assert!(start == state.log.log_end());
                self.stop_pulling(core, state, false);
                self.end_outflows(core, state);
                self.published.set_fresh(state.replica.is_fresh());
                self.published.set_epoch(epoch);
                self.published.set_role(PublishedRole::Leading, Some(core.config.id));
                state.registrations.moved(fx);
            }
            Action::Append { batch } => {
                let end = batch.next_offset();
                let entry = state.log.append(batch, now.wall_ms);
                if state.log.journalled() {
                    let operation = state.log.last_operation();
                    let told = Told::Partition { partition: Arc::clone(self), operation, end: Some(end) };
                    core.commit.push(Unit::one(entry), told);
                }
                self.published.set_log_end(end);
                state.dirty_since.get_or_insert(now.mono);
                self.mark_to_send(core, state);
            }
            Action::DeleteBefore { start } => self.delete_before(core, state, start),
            Action::Reply { waiter, result } => answer(core, waiter, result, fx),
            Action::Publish(limits) => {
                self.published.set_limits(limits);
                state.registrations.moved(fx);
                self.mark_lazily(core, now, state, fx);
            }
            Action::Report(position) => self.report(core, state, position),
            Action::AlterIsr(wish) => core.replicas.asks().alter_isr(self.id, wish),
            // Damage that a read meets takes the same way: `found_damage`.
            Action::HandOver => {
                tracing::warn!(partition = %self.id, "the disk of this leader hangs: another replica is to lead");
                core.replicas.asks().hand_over(self.id);
            }
        }
    }

    /// Takes the partition out of use: its own state can no longer be trusted.
    fn abandon(&self, core: &Core, state: &mut State, reason: &str, fx: &mut Effects) {
        self.published.set_role(PublishedRole::Failed, None);
        let mut actions = Vec::new();
        state.replica.abandon(reason, &mut actions);
        for action in actions {
            match action {
                Action::Reply { waiter: Waiter::Client { request, part }, result } => {
                    request.answer_once(part, result, fx);
                }
                Action::Reply { waiter, result } => answer(core, waiter, result, fx),
                Action::StartEpoch { .. }
                | Action::Append { .. }
                | Action::DeleteBefore { .. }
                | Action::Publish(_)
                | Action::Report(_)
                | Action::AlterIsr(_)
                | Action::HandOver => {}
            }
        }
        Self::refuse_deletions(state, reason, fx);
        self.stop_pulling(core, state, true);
        self.end_outflows(core, state);
        state.registrations.moved(fx);
    }

    /// The disk failed: no write or sync of this log is believed any more.
    pub(super) fn fail(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        state: &mut State,
        error: &DiskError,
        fx: &mut Effects,
    ) {
        tracing::error!(partition = %self.id, %error, "the partition is offline until the next start");
        self.published.set_role(PublishedRole::Failed, None);
        self.stop_pulling(core, state, true);
        self.end_outflows(core, state);
        self.step_locked(core, now, state, Event::Failed { reason: error.to_string() }, fx);
        state.registrations.moved(fx);
    }

    /// What a tick does for a partition that has something due. Afterwards it is either active still, or idle and lean.
    pub(crate) fn tick(self: &Arc<Self>, core: &Core, now: Now, fx: &mut Effects) {
        let _offline = self.guarded(core, fx, |state, fx| {
            state.active = false;
            self.step_locked(core, now, state, Event::Tick, fx);
            if !state.active {
                // A batch of a hundred bytes may keep a frame of a megabyte alive.
                state.log.evict_tail(0);
            }
        });
    }

    pub(super) fn activate_if_needed(self: &Arc<Self>, core: &Core, now: Now, state: &mut State, fx: &mut Effects) {
        let failed = state.replica.failure().is_some();
        let due = state.replica.waiting() > 0
            || !state.deletions.is_empty()
            || state.replica.is_measuring()
            || (!failed && (state.log.unwritten_bytes() > 0 || state.unsynced_since.is_some()));
        if due && !state.active {
            state.active = true;
            core.activate(self, now, fx);
        }
    }

    /// Gives the lock back, and then starts what was decided under it.
    pub(super) fn release(
        self: &Arc<Self>,
        core: &Core,
        mut state: std::sync::MutexGuard<'_, State>,
        fx: &mut Effects,
    ) {
        let write = state.write_out.take();
        let sync = state.sync_out.take();
        let removal = take_removal(core, &mut state);
        if state.replica.failure().is_some() {
            // The next start has it from the journal; nobody reads it before.
            state.log.let_go();
        }
        let (unwritten, tail) = (state.log.unwritten_bytes(), state.log.tail_bytes());
        core.memory.moved(&mut state.counted, unwritten, tail);
        if take_reached(&mut state) {
            core.inward(Inward::Written);
        }
        drop(state);
        if let Some(write) = write {
            core.tickets.start(Lane::Segments, write.steps(), Pending::Write(Arc::clone(self)), fx);
        }
        if let Some(sync) = sync {
            core.tickets.start(Lane::Segments, sync.steps(), Pending::Sync(Arc::clone(self)), fx);
        }
        if let Some((folder, steps)) = removal {
            core.tickets.start(Lane::Segments, steps, Pending::Removal { folder }, fx);
        }
    }
}

pub(crate) fn answer(core: &Core, waiter: Waiter, result: Result<Appended, AppendError>, fx: &mut Effects) {
    match waiter {
        Waiter::Client { request, part } => request.answer(part, result, fx),
        Waiter::Internal { token } => core.inward(Inward::Appended { token, result }),
    }
}

fn answer_unless_done(core: &Core, waiter: Waiter, error: AppendError, fx: &mut Effects) {
    match waiter {
        Waiter::Client { request, part } => request.answer_once(part, Err(error), fx),
        // A coordinator does not know a token any more that it was answered about.
        Waiter::Internal { token } => core.inward(Inward::Appended { token, result: Err(error) }),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "an assertion failed".to_owned())
}

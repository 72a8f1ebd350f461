//! A partition is configured, loses its leadership, loses old records, is deleted.
//!
//! Owns the order of these steps. Does not own their reasons: the image and retention.
//! Invariant: files go only when the journal says so durably, and when no write, sync or checkpoint of the log is under way.

use std::sync::Arc;

use model::{LeaderEpoch, NodeId, Now};
use replication::partition::leader::{Event, Settings};
use storage::disk::Step;
use storage::{LogConfig, Unit};

use super::handle::{Deletion, Partition, PublishedRole, State};
use crate::commit::Told;
use crate::core::Core;
use crate::effects::Effects;

impl Partition {
    pub(crate) fn configure(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        config: &Arc<LogConfig>,
        settings: Settings,
        fx: &mut Effects,
    ) {
        let mut state = self.lock();
        if state.log.config() != config {
            state.log.configure(Arc::clone(config));
        }
        if *state.leader.settings() != settings {
            let _offline = self.step_locked(core, now, &mut state, Event::Configured(settings), fx);
        }
        self.release(core, state, fx);
    }

    /// Another node leads, or none does.
    pub(crate) fn step_down(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        epoch: LeaderEpoch,
        leader: Option<NodeId>,
        fx: &mut Effects,
    ) {
        let mut state = self.lock();
        let _offline = self.step_locked(core, now, &mut state, Event::StepDown { epoch, leader }, fx);
        if state.leader.failure().is_none() {
            self.published.set_epoch(epoch);
            self.published.set_role(PublishedRole::NotLeading, leader);
        }
        state.registrations.moved(fx);
        self.release(core, state, fx);
    }

    /// The metadata has deleted it: who waits is answered, then the journal is told, then the files go.
    pub(crate) fn delete(self: &Arc<Self>, core: &Core, now: Now, fx: &mut Effects) {
        self.step_down(core, now, self.published.epoch(), None, fx);
        let mut state = self.lock();
        assert!(state.deletion == Deletion::No, "a topic's id is never used again");
        state.deletion = Deletion::Asked;
        core.leaves(self);
        let entry = state.log.delete();
        core.commit.push(Unit::one(entry), 0, Told::Deleted { partition: Arc::clone(self) });
        self.release(core, state, fx);
    }

    /// The journal holds the deletion.
    pub(crate) fn deletion_durable(self: &Arc<Self>, core: &Core, fx: &mut Effects) {
        let mut state = self.lock();
        let operation = state.log.last_operation();
        state.log.durable_to(operation);
        state.deletion = Deletion::Durable;
        core.has_left(self);
        self.release(core, state, fx);
    }

    /// Lets go what is older or more than the topic keeps.
    pub(crate) fn retain(self: &Arc<Self>, core: &Core, now: Now, fx: &mut Effects) {
        let mut state = self.lock();
        if state.leader.failure().is_some() || state.deletion != Deletion::No {
            return;
        }
        let high_watermark = state.leader.high_watermark();
        let Some(start) = state.log.retention_start(now.wall_ms, high_watermark) else { return };
        let Some(entry) = state.log.delete_before(start) else { return };
        tracing::info!(partition = %self.id, %start, "records before this offset are older or more than the topic keeps");
        let operation = state.log.last_operation();
        state.files_go = true;
        let told = Told::Partition { partition: Arc::clone(self), operation, end: None };
        core.commit.push(Unit::one(entry), 0, told);
        let _offline = self.step_locked(core, now, &mut state, Event::LogStartMoved { start }, fx);
        self.release(core, state, fx);
    }
}

/// The steps that remove the files, when it is time for them.
pub(super) fn take_removal(state: &mut State) -> Option<Vec<Step>> {
    let busy = state.writing || state.syncing || state.in_checkpoint || state.write_out.is_some();
    if state.deletion != Deletion::Durable || busy {
        return None;
    }
    state.deletion = Deletion::Done;
    Some(state.log.removal_steps())
}

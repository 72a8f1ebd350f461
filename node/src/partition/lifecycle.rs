//! A partition is configured, loses its leadership, loses old records, is deleted.
//!
//! Owns the order of these steps. Does not own their reasons: the image and retention.
//! Invariant: files go only when the journal says so durably, and when no write, sync or checkpoint of the log is under way.

use std::sync::Arc;

use model::{LeaderEpoch, NodeId, Now};
use replication::partition::isr::Durability;
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
        let _offline = self.guarded(core, fx, |state, fx| {
            if state.log.config() != config {
                state.log.configure(Arc::clone(config));
            }
            // The log's own policy holds until it is opened anew.
            let durability = durability(state.log.journalled());
            let settings = Settings { durability, ..settings };
            if *state.leader.settings() != settings {
                self.step_locked(core, now, state, Event::Configured(settings), fx);
            }
        });
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
        let _offline = self.guarded(core, fx, |state, fx| {
            self.step_locked(core, now, state, Event::StepDown { epoch, leader }, fx);
            if state.leader.failure().is_none() {
                self.published.set_epoch(epoch);
                self.published.set_role(PublishedRole::NotLeading, leader);
            }
            state.registrations.moved(fx);
        });
    }

    /// The metadata has deleted it: who waits is answered, then the journal is told, then the files go.
    pub(crate) fn delete(self: &Arc<Self>, core: &Core, now: Now, fx: &mut Effects) {
        self.step_down(core, now, self.published.epoch(), None, fx);
        let _offline = self.guarded(core, fx, |state, _| {
            assert!(state.deletion == Deletion::No, "a topic's id is never used again");
            state.deletion = Deletion::Asked;
            core.leaves(self, state.log.folder());
            let entry = state.log.delete();
            let operation = state.log.last_operation();
            core.commit.push(Unit::one(entry), Told::Deleted { partition: Arc::clone(self), operation });
        });
    }

    /// The journal holds the deletion.
    pub(crate) fn deletion_durable(self: &Arc<Self>, core: &Core, fx: &mut Effects) {
        let _offline = self.guarded(core, fx, |state, _| {
            let operation = state.log.last_operation();
            state.log.durable_to(operation);
            state.deletion = Deletion::Durable;
            core.has_left(self);
        });
    }

    /// Lets go what is older or more than the topic keeps.
    pub(crate) fn retain(self: &Arc<Self>, core: &Core, now: Now, fx: &mut Effects) {
        let _offline = self.guarded(core, fx, |state, fx| {
            if state.leader.failure().is_some() || state.deletion != Deletion::No {
                return;
            }
            let high_watermark = state.leader.high_watermark();
            let Some(start) = state.log.retention_start(now.wall_ms, high_watermark) else { return };
            let Some(entry) = state.log.delete_before(start) else { return };
            tracing::info!(partition = %self.id, %start, "records below are older or more than the topic keeps");
            let operation = state.log.last_operation();
            state.files_go = true;
            let told = Told::Partition { partition: Arc::clone(self), operation, end: None };
            core.commit.push(Unit::one(entry), told);
            self.step_locked(core, now, state, Event::LogStartMoved { start }, fx);
        });
    }
}

/// Which position counts in a log.
pub(crate) fn durability(journalled: bool) -> Durability {
    if journalled { Durability::Synced } else { Durability::Written }
}

/// The folder, and the steps that remove it, when it is time for them.
pub(super) fn take_removal(core: &Core, state: &mut State) -> Option<(String, Vec<Step>)> {
    let busy = state.writing || state.syncing || state.in_checkpoint || state.write_out.is_some();
    if state.deletion != Deletion::Durable || busy {
        return None;
    }
    state.deletion = Deletion::Done;
    let folder = state.log.folder().to_owned();
    if !state.set_aside {
        return Some((folder, state.log.removal_steps()));
    }
    let root = &core.config.data_dir;
    let aside = root.join(".weir").join("set-aside");
    let target = aside.join(format!("{folder}.{}", state.log.id().partition.topic));
    let steps = vec![
        Step::CreateDir { dir: aside.clone() },
        Step::Rename { from: state.log.dir().to_path_buf(), to: target },
        Step::SyncDir { dir: aside },
        Step::SyncDir { dir: root.clone() },
    ];
    Some((folder, steps))
}

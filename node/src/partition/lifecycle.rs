//! A partition is configured, loses its leadership, loses old records, is deleted.
//!
//! Owns the order of these steps. Does not own their reasons: the image and retention.
//! Invariant: files go only when the journal says so durably, and when no write, sync or checkpoint of the log is under way.

use std::sync::Arc;

use model::{Now, Offset};
use replication::partition::isr::Durability;
use replication::partition::replica::{Event, Settings};
use storage::disk::Step;
use storage::{LogConfig, Unit};

use super::handle::{Deletion, Partition, PublishedRole, State};
use crate::commit::Told;
use crate::core::{Core, Inward};
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
            // The log's own policy holds until a checkpoint says otherwise: before, its records would be looked for in the wrong place.
            let journalled = settings.durability == Durability::Synced;
            state.switch_to = (journalled != state.log.journalled()).then_some(journalled);
            if state.switch_to.is_some() && !state.held {
                core.inward(Inward::CheckpointWanted);
            }
            let durability = durability(state.log.journalled());
            let settings = Settings { durability, ..settings };
            if *state.replica.settings() != settings {
                self.step_locked(core, now, state, Event::Configured(settings), fx);
            }
        });
    }

    /// The metadata has deleted it: who waits is answered, then the journal is told, then the files go.
    pub(crate) fn delete(self: &Arc<Self>, core: &Core, now: Now, fx: &mut Effects) {
        self.follow(core, now, self.published.epoch(), None, fx);
        let _offline = self.guarded(core, fx, |state, _| {
            self.published.set_role(PublishedRole::NotLeading, None);
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
            // The replica may be wanted here again by now.
            core.inward(Inward::Follow(self.id.topic));
        });
    }

    /// Lets go what is older or more than the topic keeps. Followers lose what their leader lost.
    pub(crate) fn retain(self: &Arc<Self>, core: &Core, now: Now, fx: &mut Effects) {
        let _offline = self.guarded(core, fx, |state, fx| {
            if !state.replica.leads() || state.deletion != Deletion::No {
                return;
            }
            let high_watermark = state.replica.high_watermark();
            let Some(start) = state.log.retention_start(core.wall.read(now), high_watermark) else { return };
            if start <= state.log.log_start() {
                return;
            }
            tracing::info!(partition = %self.id, %start, "records below are older or more than the topic keeps");
            self.delete_before(core, state, start);
            self.step_locked(core, now, state, Event::LogStartMoved { start }, fx);
        });
    }

    /// The log begins at `start` from now on.
    pub(super) fn delete_before(self: &Arc<Self>, core: &Core, state: &mut State, start: Offset) {
        let Some(entry) = state.log.delete_before(start) else { return };
        let operation = state.log.last_operation();
        state.files_go = true;
        let told = Told::Partition { partition: Arc::clone(self), operation, end: None };
        core.commit.push(Unit::one(entry), told);
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
    if !state.log.has_folder() && core.is_folder_shared(&folder) {
        // What lies there is a namesake's, which may still write or sync it. The last of them removes what is left.
        return Some((folder, Vec::new()));
    }
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

//! The cold side of a node: metadata, topics that come and go, retention.
//!
//! Owns how the controller's output is carried out. Does not own the decisions in it.
//! Invariant: units go to the journal in the order in which the controller wants them, since its lock is held until they are queued;
//! an answer goes out after the partitions that it speaks of are led.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use model::{Now, TopicName};
use replication::controller::topics::OFFSETS_TOPIC;
use replication::metadata::{Fact, Image};
use replication::partition::replica::Event;
use storage::disk::{DiskError, Lane, Step};
use storage::log::SyncWork;

use crate::checkpoint::Parts;
use crate::commit::Told;
use crate::controller::driver::{ControllerDriver, ControllerOut};
use crate::core::{Core, Inward, Pending};
use crate::effects::{Effect, Effects};
use crate::node::{Node, retention_interval};
use crate::peer::PeerLane;
use crate::topics::{Changed, Follow, Unclaimed, changed_by};

/// Behind the controller's lock. The controller's driver owns the metadata log and says what is to be done with its bytes
/// (`ControllerOut::units` and `disk`); here is only when.
pub(crate) struct Cold {
    pub(crate) driver: ControllerDriver,
    pub(crate) unclaimed: Unclaimed,
    /// This incarnation is registered.
    pub(crate) registered: bool,
    /// A checkpoint waits until the metadata log's file holds the operations up to this one.
    write_target: Option<u64>,
    writing: bool,
    syncing: bool,
}

impl Cold {
    pub(crate) fn new(driver: ControllerDriver, unclaimed: Unclaimed) -> Cold {
        Cold { driver, unclaimed, registered: false, write_target: None, writing: false, syncing: false }
    }

    /// Starts a write of the metadata log's tail when it is worth one or a checkpoint waits for it.
    pub(crate) fn write_if_due(&mut self, core: &Core, fx: &mut Effects) {
        if self.writing {
            return;
        }
        let write = self.driver.next_write(core.config.flush_bytes, self.write_target.is_some());
        if self.write_target.is_some_and(|target| self.driver.log_mut().written_operation() >= target) {
            self.write_target = None;
            core.inward(Inward::Written);
        }
        if let Some(write) = write {
            self.writing = true;
            core.tickets.start(Lane::Segments, write.steps(), Pending::MetadataWrite, fx);
        }
    }

    /// A checkpoint begins. Returns whether all is in the file already; else `Inward::Written` follows.
    pub(crate) fn begin_checkpoint(&mut self, core: &Core, fx: &mut Effects) -> bool {
        let log = self.driver.log_mut();
        let operation = log.last_operation();
        if log.written_operation() >= operation {
            return true;
        }
        self.write_target = Some(operation);
        self.write_if_due(core, fx);
        false
    }

    /// The checkpoint that waits need not wait for operations behind `grouped`.
    pub(crate) fn relax_checkpoint(&mut self, core: &Core, grouped: u64) {
        if self.write_target.is_none_or(|target| target <= grouped) {
            return;
        }
        let reached = self.driver.log_mut().written_operation() >= grouped;
        self.write_target = (!reached).then_some(grouped);
        if reached {
            core.inward(Inward::Written);
        }
    }

    /// What a checkpoint has to sync; `last`: the index files too.
    pub(crate) fn sync_work(&mut self, last: bool, steps: &mut Vec<Step>) -> Option<SyncWork> {
        let log = self.driver.log_mut();
        if last {
            steps.extend(log.close_steps());
        }
        let work = log.sync_work();
        self.syncing = work.is_some();
        work
    }

    pub(crate) fn synced(&mut self, result: &Result<(), DiskError>) {
        if std::mem::take(&mut self.syncing) {
            self.driver.log_mut().sync_done(result);
        }
    }
}

impl Node {
    /// Lets the controller act and carries out what it wants.
    pub(crate) fn with_controller(
        &self,
        now: Now,
        fx: &mut Effects,
        act: impl FnOnce(&mut ControllerDriver, &mut ControllerOut),
    ) {
        let mut cold = self.cold();
        let mut out = ControllerOut::default();
        act(&mut cold.driver, &mut out);
        self.carry_out(&mut cold, now, out, fx);
    }

    pub(crate) fn carry_out(&self, cold: &mut Cold, now: Now, out: ControllerOut, fx: &mut Effects) {
        let core = &self.core;
        for unit in out.units {
            let told = Told::Metadata { number: unit.number, operation: unit.operation };
            core.commit.push(unit.unit, told);
        }
        for (what, steps) in out.disk {
            core.tickets.start(Lane::Segments, steps, Pending::Metadata(what), fx);
        }
        fx.extend(out.frames.into_iter().map(|(to, frame)| Effect::Send { to, lane: PeerLane::Control, frame }));
        let newly_registered = out.registered && !cold.registered;
        cold.registered |= out.registered;
        if out.image.is_some() || newly_registered {
            let image = out.image.unwrap_or_else(|| Arc::clone(cold.driver.image()));
            let changed = if out.replaced || newly_registered { Changed::All } else { changed_by(&out.facts) };
            self.follow_image(cold, &image, changed, &out.facts, now, fx);
        }
        if newly_registered {
            self.ready.store(true, Ordering::Relaxed);
            let image = self.image();
            let follow = Follow { core, store: &self.store, image: &image, registered: true };
            follow.set_aside(std::mem::take(&mut cold.unclaimed), now, fx);
            fx.push(Effect::Ready);
        }
        fx.extend(out.answers.into_iter().map(|(to, answer)| Effect::Reply { to, answer }));
        out.for_replicas.into_iter().for_each(|answer| core.inward(Inward::ReplicasAnswered(answer)));
        if out.left {
            self.stop_now(now, fx);
        }
        if let Some(reason) = out.fatal {
            fx.push(Effect::Fatal { reason });
        }
        if let Some(at) = cold.driver.due() {
            core.timer.by(at, fx);
        }
        cold.write_if_due(core, fx);
    }

    fn follow_image(
        &self,
        cold: &mut Cold,
        image: &Arc<Image>,
        changed: Changed,
        facts: &[Fact],
        now: Now,
        fx: &mut Effects,
    ) {
        let before = self.image();
        self.departed.note(now, &before, image);
        self.follow_throttles(now, image);
        let follow = Follow { core: &self.core, store: &self.store, image, registered: cold.registered };
        follow.follow(changed, &mut cold.unclaimed, now, fx);
        // Only now: who finds a topic in the image finds its partitions.
        self.image.store(Arc::clone(image));
        self.image_version.fetch_add(1, Ordering::AcqRel);
        self.replicas_follow_image(now, fx);
        self.link_peers(fx);
        if cold.registered {
            self.lead_groups(image, now, fx);
        }
        let deleted: BTreeSet<TopicName> = facts
            .iter()
            .filter_map(|fact| if let Fact::TopicDeleted { id } = fact { before.topic_by_id(*id) } else { None })
            .map(|topic| topic.name.clone())
            .collect();
        if !deleted.is_empty() {
            self.coordinators.topics_deleted(now, &deleted, &self.group_logs(), fx);
        }
    }

    /// A coordinator for each partition of the topic for groups that this node leads.
    fn lead_groups(&self, image: &Image, now: Now, fx: &mut Effects) {
        let name = TopicName::new(OFFSETS_TOPIC).expect("it is a valid name");
        let Some(topic) = image.topic(&name) else { return self.coordinators.set_partition_count(0, fx) };
        self.coordinators.set_partition_count(u32::try_from(topic.partitions.len()).unwrap_or(0), fx);
        for (index, info) in topic.partitions() {
            if info.leader == Some(self.id()) {
                self.coordinators.lead(now, index, info.leader_epoch, &self.group_logs(), fx);
            } else {
                self.coordinators.resign(index, fx);
            }
        }
    }

    /// Partitions that were held back for a checkpoint may be led.
    pub(crate) fn lead_released(&self, now: Now, fx: &mut Effects) {
        let mut cold = self.cold();
        let image = Arc::clone(cold.driver.image());
        self.follow_image(&mut cold, &image, Changed::All, &[], now, fx);
    }

    /// A replica of this topic could not be made before: the log of an earlier one was in the way.
    pub(crate) fn follow_again(&self, now: Now, topic: model::TopicId, fx: &mut Effects) {
        let mut cold = self.cold();
        let image = Arc::clone(cold.driver.image());
        self.follow_image(&mut cold, &image, Changed::topic(topic), &[], now, fx);
    }

    /// A write of the metadata log's tail is over.
    pub(crate) fn metadata_written(&self, now: Now, result: &Result<(), DiskError>, fx: &mut Effects) {
        let mut cold = self.cold();
        let mut out = ControllerOut::default();
        cold.writing = false;
        cold.driver.written(result, &mut out);
        if result.is_err() && out.fatal.is_none() {
            return self.core.retry_later(now, Pending::MetadataWrite, fx);
        }
        self.carry_out(&mut cold, now, out, fx);
    }

    pub(crate) fn parts<'a>(&'a self, cold: &'a mut Cold) -> Parts<'a> {
        Parts { core: &self.core, store: &self.store, cold }
    }

    pub(crate) fn retention_at(&self) -> Duration {
        *self.retention_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Lets go what is older or more than the topics keep.
    pub(crate) fn retain_if_due(&self, now: Now, fx: &mut Effects) {
        let mut at = self.retention_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if now.mono < *at {
            return;
        }
        *at = now.mono.saturating_add(retention_interval(&self.core));
        drop(at);
        for partition in self.core.table.all() {
            partition.retain(&self.core, now, fx);
            // Producers of a partition that is idle expire too.
            partition.step(&self.core, now, Event::Tick, fx);
        }
    }
}

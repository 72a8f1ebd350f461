//! The public face of a node: requests, ticks and disk completions go in, effects come out.
//!
//! Owns the parts and their wiring. Does not own decisions: the state machines in `replication` take them.
//! Invariant: no method blocks on the disk, except reads with another `ReadMode` than `CachedOnly` and the loading of a coordinator in
//! `tick`; no system call is made with a partition's lock held.
//! Invariant: the same calls in the same order give the same effects.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use model::{GroupId, LeaderEpoch, NodeId, Now, TopicPartition};
use replication::controller::requests::ControllerRequest;
use replication::controller::topics::OFFSETS_TOPIC;
use replication::group::GroupRequest;
use replication::metadata::Image;
use storage::Store;
use storage::disk::{DiskError, Lane, Ticket};

use crate::budget::BudgetLimits;
use crate::checkpoint::Checkpointer;
use crate::clean::Cleaner;
use crate::cold::Cold;
use crate::commit::DirectDone;
use crate::coordinator::Coordinators;
use crate::core::{Core, Inward, Pending};
use crate::departed::Departed;
use crate::effects::{Effect, Effects, ReplyTo};
use crate::group_log::GroupLogs;
use crate::partition::handle::Partition;
use crate::peer::Peers;
use crate::requests::{Answer, NewTopic, TopicRef};

/// A tick comes at least so often, although an idle node has nothing to do in it.
const IDLE_TICK: Duration = Duration::from_secs(60);
/// How often a stop looks whether all is written.
const STOP_TICK: Duration = Duration::from_millis(20);

pub struct Node {
    pub(crate) core: Core,
    pub(crate) store: Store,
    /// What the clients are told; `cold` has the same one or a newer one for a moment.
    pub(crate) image: ArcSwap<Image>,
    /// Counts the images that were stored.
    pub(crate) image_version: AtomicU64,
    pub(crate) cold: Mutex<Cold>,
    pub(crate) coordinators: Coordinators,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) cleaner: Cleaner,
    pub(crate) peers: Peers,
    pub(crate) departed: Departed,
    pub(crate) ready: AtomicBool,
    stopping: AtomicBool,
    stop: Mutex<Option<ReplyTo>>,
    pub(crate) retention_at: Mutex<Duration>,
}

/// Figures for `/metrics`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeStats {
    pub partitions: u64,
    pub partitions_offline: u64,
    /// Those in use in which a read met bytes that are not what was written, and that are there still.
    pub partitions_damaged: u64,
    pub groups: u64,
    pub append_bytes_in_flight: u64,
    pub tail_bytes_unwritten: u64,
    pub journal_bytes_since_checkpoint: u64,
    pub journal_groups: u64,
    pub checkpoints: u64,
    /// Runs of the cleaner, and the bytes that they read and wrote.
    pub compactions: u64,
    pub compaction_bytes_read: u64,
    pub compaction_bytes_written: u64,
    pub disk_operations_in_flight: u64,
    /// Loaded indexes of segments that are kept, their bytes, and how many made room for others.
    pub indexes_kept: u64,
    pub index_bytes_kept: u64,
    pub index_evictions: u64,
}

/// What is known of one partition on this node, for metrics and DescribeLogDirs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionStatus {
    pub log_start: model::Offset,
    pub high_watermark: model::Offset,
    pub log_end: model::Offset,
    pub bytes: u64,
    pub epoch: LeaderEpoch,
    pub online: bool,
}

impl Node {
    pub(crate) fn assemble(
        core: Core,
        store: Store,
        cold: Cold,
        coordinators: Coordinators,
        peers: Peers,
        cleaner: Cleaner,
        now: Now,
    ) -> Node {
        let image = ArcSwap::new(Arc::clone(cold.driver.image()));
        let ballast = core.room.ballast_bytes();
        if ballast > 0 && store.has_ballast(ballast) {
            core.room.found_ballast();
        }
        let checkpointer = Checkpointer::new(now, &core);
        let retention_at = now.mono.saturating_add(retention_interval(&core));
        Node {
            core,
            store,
            image,
            image_version: AtomicU64::new(0),
            cold: Mutex::new(cold),
            coordinators,
            checkpointer,
            cleaner,
            peers,
            departed: Departed::default(),
            ready: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            stop: Mutex::default(),
            retention_at: Mutex::new(retention_at),
        }
    }

    pub fn id(&self) -> NodeId {
        self.core.config.id
    }

    /// Whether `Effect::Ready` was emitted.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// For how long this node has heard of no controller, which is what a cluster without a majority of its voters has. `None`: there is one.
    pub fn without_controller(&self, now: Now) -> Option<Duration> {
        self.cold().driver.without_controller(now)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// The metadata as of now. Lock-free.
    pub fn image(&self) -> Arc<Image> {
        self.image.load_full()
    }

    pub(crate) fn cold(&self) -> MutexGuard<'_, Cold> {
        // A panic in there has ended the process through `Effect::Fatal`, or is about to.
        self.cold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers with `Answer::ProducerId`.
    pub fn init_producer_id(&self, now: Now, reply: ReplyTo, fx: &mut Effects) {
        self.with_controller(now, fx, |driver, out| driver.init_producer_id(now, reply, out));
        self.settle(now, fx);
    }

    /// Asks the active controller, wherever it is. Answers with `Answer::Controller`: with success once this node's image holds what was
    /// decided. Tries again where a controller is lost and asking twice does no harm; else NOT_CONTROLLER. After `timeout`:
    /// REQUEST_TIMED_OUT, and it may still take effect.
    pub fn ask_controller(
        &self,
        now: Now,
        request: ControllerRequest,
        timeout: Duration,
        reply: ReplyTo,
        fx: &mut Effects,
    ) {
        self.with_controller(now, fx, |driver, out| driver.ask_controller(now, request, timeout, reply, out));
        self.settle(now, fx);
    }

    /// Answers with `Answer::TopicsCreated` once they are in the image and led.
    pub fn create_topics(
        &self,
        now: Now,
        topics: Vec<NewTopic>,
        validate_only: bool,
        reply: ReplyTo,
        fx: &mut Effects,
    ) {
        self.with_controller(now, fx, |driver, out| driver.create_topics(now, topics, validate_only, reply, out));
        self.settle(now, fx);
    }

    /// Answers with `Answer::TopicsDeleted` once they are out of the image.
    pub fn delete_topics(&self, now: Now, topics: Vec<TopicRef>, reply: ReplyTo, fx: &mut Effects) {
        self.with_controller(now, fx, |driver, out| driver.delete_topics(now, topics, reply, out));
        self.settle(now, fx);
    }

    /// The node that coordinates this group. `None` while the topic for groups is being made, which this begins.
    pub fn group_coordinator(&self, now: Now, group: &GroupId, fx: &mut Effects) -> Option<NodeId> {
        let image = self.image();
        let name = model::TopicName::new(OFFSETS_TOPIC).expect("it is a valid name");
        let Some(topic) = image.topic(&name) else {
            self.with_controller(now, fx, |driver, out| driver.ensure_offsets_topic(now, out));
            self.settle(now, fx);
            return None;
        };
        let count = u32::try_from(topic.partitions.len()).ok()?;
        let partition = crate::coordinator::partition_of(group, count)?;
        topic.partition(partition)?.leader
    }

    /// Answers with `Answer::Group`.
    pub fn group(&self, now: Now, group: GroupId, request: GroupRequest, reply: ReplyTo, fx: &mut Effects) {
        self.coordinators.request(now, &group, &request, reply, &self.group_logs(), fx);
        self.settle(now, fx);
    }

    pub(crate) fn group_logs(&self) -> GroupLogs<'_> {
        // The version first: an image that is newer than its number is looked at once more, an older one never again.
        let image_version = self.image_version.load(Ordering::Acquire);
        let image = self.image();
        let name = model::TopicName::new(OFFSETS_TOPIC).expect("it is a valid name");
        let topic = image.topic(&name).map(|topic| topic.id);
        GroupLogs { core: &self.core, topic, stopping: self.is_stopping(), image, image_version }
    }

    /// Timers. Returns how long until the next call is needed; `Effect::TickBy` may ask for an earlier one meanwhile.
    pub fn tick(&self, now: Now, fx: &mut Effects) -> Duration {
        self.core.timer.begin();
        for partition in self.core.take_active(now).into_values() {
            partition.tick(&self.core, now, fx);
        }
        for pending in self.core.take_retries(now) {
            self.retry(pending, fx);
        }
        if !self.is_stopping() {
            self.with_controller(now, fx, |driver, out| driver.tick(now, out));
        }
        let replicas = self.tick_replicas(now);
        let groups = self.coordinators.tick(now, &self.group_logs(), fx);
        self.retain_if_due(now, fx);
        self.clean_if_due(now, fx);
        if self.is_ready() && !self.is_stopping() && self.core.room.take_ballast(&*self.core.disk, now) {
            let steps = self.store.ballast_steps(self.core.room.ballast_bytes());
            self.core.tickets.start(Lane::Segments, steps, Pending::Ballast { made: true }, fx);
        }
        if self.checkpointer.due_at(&self.core, now).is_some_and(|at| at <= now.mono) {
            self.begin_checkpoint(now, fx);
        }
        self.settle(now, fx);
        let due = [
            self.cold().driver.due().filter(|_| !self.is_stopping()),
            groups,
            self.core.next_retry(),
            // A stop begins its checkpoints by itself.
            self.checkpointer.due_at(&self.core, now).filter(|_| !self.is_stopping()),
            Some(self.retention_at()),
            self.cleaner.due(),
            self.core.active_at(),
            replicas,
            self.is_stopping().then(|| now.mono.saturating_add(STOP_TICK)),
        ];
        let idle = now.mono.saturating_add(IDLE_TICK);
        let next = due.into_iter().flatten().fold(idle, Duration::min);
        self.core.timer.promise(next).saturating_sub(now.mono)
    }

    /// The completion of an `Effect::Disk`.
    pub fn disk_done(&self, now: Now, ticket: Ticket, result: Result<(), DiskError>, fx: &mut Effects) {
        let core = &self.core;
        let Some(pending) = core.tickets.redeem(ticket) else { return };
        match pending {
            Pending::Journal { sequence } => core.commit.written(core, now, sequence, result, fx),
            Pending::Direct { sequence, partition, write } => {
                core.commit.direct_written(core, now, DirectDone { sequence, partition, write, result }, fx);
            }
            Pending::JournalGrowth => core.commit.grown(core, &result, fx),
            Pending::JournalGrowthUndone => core.commit.growth_undone(core, now, &result, fx),
            Pending::Ballast { made } => {
                if let Err(error) = &result {
                    tracing::warn!(%error, made, "the room that is kept for a full disk");
                }
                core.room.ballast_made(now, made && result.is_ok());
            }
            Pending::Write(partition) => partition.written(core, now, &result, fx),
            Pending::Sync(partition) => partition.synced(core, now, &result, fx),
            Pending::MetadataWrite => self.metadata_written(now, &result, fx),
            Pending::Metadata(what) => {
                self.with_controller(now, fx, |driver, out| driver.disk_done(now, what, &result, out));
            }
            Pending::Checkpoint => self.checkpointer.stepped(&mut self.parts(&mut self.cold()), now, result, fx),
            Pending::Clean { task } => self.cleaning_written(now, task, &result, fx),
            Pending::CleanLeftover => {
                if let Err(error) = result {
                    tracing::warn!(%error, "half a segment stays until the log is compacted again");
                }
            }
            Pending::Removal { folder } => {
                if let Err(error) = result {
                    tracing::warn!(%error, folder, "the files of a deleted log stay until the next start");
                }
                core.free_folder(&folder);
            }
        }
        self.settle(now, fx);
    }

    /// Does what has become due: groups of the journal, messages to the cold parts. To be called last, without a lock.
    pub(crate) fn settle(&self, now: Now, fx: &mut Effects) {
        let core = &self.core;
        loop {
            core.commit.kick(core, fx);
            match core.next_inward() {
                Some(message) => self.take_inward(now, message, fx),
                None if self.settle_replicas(now, fx) => {}
                None => break,
            }
        }
        if self.is_stopping() {
            self.go_on_stopping(now, fx);
        }
    }

    fn take_inward(&self, now: Now, message: Inward, fx: &mut Effects) {
        let core = &self.core;
        match message {
            Inward::Appended { token, result } => {
                self.coordinators.appended(now, token, result.map(|_| ()), &self.group_logs(), fx);
            }
            Inward::MetadataDurable { number, operation } => {
                self.with_controller(now, fx, |driver, out| driver.persisted(now, number, operation, out));
            }
            Inward::LogDeleted(partition) => {
                partition.deletion_durable(core, fx);
                self.checkpointer.log_deleted(&mut self.parts(&mut self.cold()), &partition, now, fx);
            }
            Inward::Released => self.lead_released(now, fx),
            Inward::Written => self.checkpointer.log_written(&mut self.parts(&mut self.cold()), now, fx),
            Inward::CheckpointWanted => {
                self.checkpointer.want();
                self.begin_checkpoint(now, fx);
                self.checkpointer.relax(&mut self.parts(&mut self.cold()), fx);
            }
            Inward::ReplicasAnswered(answer) => self.replica_ask_answered(now, answer, fx),
            Inward::Follow(topic) => self.follow_again(now, topic, fx),
        }
    }

    fn retry(&self, pending: Pending, fx: &mut Effects) {
        match pending {
            Pending::Direct { sequence, partition, write } => {
                let steps = write.steps();
                self.core.tickets.start(Lane::Segments, steps, Pending::Direct { sequence, partition, write }, fx);
            }
            Pending::MetadataWrite => self.cold().write_if_due(&self.core, fx),
            Pending::JournalGrowth => self.core.commit.growth_rested(&self.core, fx),
            Pending::Journal { .. }
            | Pending::JournalGrowthUndone
            | Pending::Ballast { .. }
            | Pending::Write(_)
            | Pending::Sync(_)
            | Pending::Metadata(_)
            | Pending::Checkpoint
            | Pending::Clean { .. }
            | Pending::CleanLeftover
            | Pending::Removal { .. } => unreachable!("these are not tried again in this way"),
        }
    }

    /// Hands over what it leads (150 ms at most), takes no more appends, writes all down, makes the last checkpoint and answers
    /// `Answer::ShutDown`.
    pub fn shutdown(&self, now: Now, reply: ReplyTo, fx: &mut Effects) {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(reply);
        self.with_controller(now, fx, |driver, out| driver.leave(now, out));
        self.settle(now, fx);
    }

    /// What could be handed over is.
    pub(crate) fn stop_now(&self, now: Now, fx: &mut Effects) {
        self.stopping.store(true, Ordering::Relaxed);
        self.core.timer.by(now.mono.saturating_add(STOP_TICK), fx);
    }

    fn go_on_stopping(&self, now: Now, fx: &mut Effects) {
        if self.checkpointer.is_closed() {
            let reply = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
            fx.extend(reply.map(|to| Effect::Reply { to, answer: Answer::ShutDown }));
        } else if !self.checkpointer.may_begin(now) {
        } else if self.core.commit.is_idle() {
            self.checkpointer.begin_last(&mut self.parts(&mut self.cold()), now, fx);
        } else if self.core.commit.is_stuck() {
            // What waits for room in the journal gets it by a checkpoint only, and the last one waits for that.
            self.checkpointer.begin(&mut self.parts(&mut self.cold()), now, fx);
        }
    }

    fn begin_checkpoint(&self, now: Now, fx: &mut Effects) {
        if !self.is_stopping() {
            self.checkpointer.begin(&mut self.parts(&mut self.cold()), now, fx);
        }
    }

    /// How the memory that clients may use is split.
    pub fn memory_limits(&self) -> &BudgetLimits {
        self.core.budget.limits()
    }

    pub fn stats(&self) -> NodeStats {
        let all = self.core.table.all();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let is_damaged = |partition: &&Arc<Partition>| {
            let published = &partition.published;
            !published.is_failed() && published.has_met_damage() && partition.lock().damage().is_some()
        };
        let writing = self.core.commit.writing();
        let (used, groups) = (writing.journal.used_bytes(), writing.journal.durable());
        drop(writing);
        let (compactions, cleaned) = self.cleaner.done();
        let (indexes_kept, index_bytes_kept, index_evictions) = self.core.indexes.figures();
        NodeStats {
            partitions: count(all.len()),
            partitions_offline: count(all.iter().filter(|partition| partition.published.is_failed()).count()),
            partitions_damaged: count(all.iter().filter(is_damaged).count()),
            groups: count(self.coordinators.group_count()),
            append_bytes_in_flight: self.core.budget.append_bytes(),
            tail_bytes_unwritten: self.core.memory.unwritten_bytes(),
            journal_bytes_since_checkpoint: used,
            journal_groups: groups,
            checkpoints: self.checkpointer.done(),
            compactions,
            compaction_bytes_read: cleaned.bytes_read,
            compaction_bytes_written: cleaned.bytes_written,
            disk_operations_in_flight: count(self.core.tickets.len()),
            indexes_kept,
            index_bytes_kept,
            index_evictions,
        }
    }

    pub fn partition_status(&self, partition: TopicPartition) -> Option<PartitionStatus> {
        let partition = self.core.table.get(partition)?;
        let limits = partition.published.limits();
        Some(PartitionStatus {
            log_start: limits.log_start,
            high_watermark: limits.high_watermark,
            log_end: partition.published.log_end(),
            bytes: partition.lock().log.size_bytes(),
            epoch: partition.published.epoch(),
            online: !partition.published.is_failed(),
        })
    }
}

pub(crate) fn retention_interval(core: &Core) -> Duration {
    Duration::from_millis(core.config.statics.retention_check_interval_ms)
}

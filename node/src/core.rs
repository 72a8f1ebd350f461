//! What all parts of a node share: configuration, disk, tickets, the commit queue, the inbox of the cold parts.
//!
//! Owns the wiring only. Invariant: locks are taken in this order: controller, coordinators, partition, commit queue; the inbox,
//! the tickets and the set of active partitions come last and nothing is locked below them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Now, TopicId, TopicPartition};
use replication::controller::requests::{ControllerAnswer, Refusal};
use storage::disk::{Disk, Lane};
use storage::log::DirectWrite;
use storage::{Journal, Store};

use crate::budget::{Budget, TailMemory};
use crate::clean::CleanTask;
use crate::commit::Commit;
use crate::config::NodeConfig;
use crate::controller::driver::MetadataDisk;
use crate::effects::Effects;
use crate::indexes::Indexes;
use crate::partition::handle::Partition;
use crate::partition::table::Table;
use crate::replica::Replicas;
use crate::requests::{AppendError, Appended};
use crate::room::Room;
use crate::tickets::{Tickets, Timer};
use crate::wall::TrustedWall;

/// How often a partition is looked at while something waits in it.
pub(crate) const ACTIVE_TICK: Duration = Duration::from_millis(100);
/// How long after a full disk a write is tried again.
pub(crate) const FULL_RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Core {
    pub(crate) config: NodeConfig,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) memory: TailMemory,
    pub(crate) room: Room,
    pub(crate) indexes: Indexes,
    pub(crate) tickets: Tickets<Pending>,
    pub(crate) timer: Timer,
    pub(crate) wall: TrustedWall,
    pub(crate) commit: Commit,
    pub(crate) table: Table,
    pub(crate) replicas: Replicas,
    /// A log that is not journalled was synced since the last checkpoint.
    relaxed_sync: AtomicBool,
    inbox: Mutex<VecDeque<Inward>>,
    retries: Mutex<Vec<(Duration, Pending)>>,
    active: Mutex<Active>,
    /// Deleted, but the journal does not hold that yet.
    leaving: Mutex<BTreeMap<TopicPartition, Arc<Partition>>>,
    /// Folders of deleted logs whose files are not gone yet. A new log of that name waits.
    folders: Mutex<BTreeMap<String, usize>>,
}

/// Partitions that a tick looks at.
#[derive(Debug, Default)]
struct Active {
    partitions: BTreeMap<TopicPartition, Arc<Partition>>,
    look_at: Option<Duration>,
}

/// What a disk operation in flight is for.
#[derive(Debug)]
pub(crate) enum Pending {
    /// A group of the journal.
    Journal { sequence: u64 },
    /// A part of a group that goes to a segment beside the journal.
    Direct { sequence: u64, partition: Arc<Partition>, write: DirectWrite },
    /// Another file for the journal.
    JournalGrowth,
    /// What is left of one that could not be made goes.
    JournalGrowthUndone,
    /// A write of a partition's tail.
    Write(Arc<Partition>),
    /// A sync of a log that is not journalled.
    Sync(Arc<Partition>),
    /// A write of the metadata log's tail.
    MetadataWrite,
    /// A step of the checkpoint that is under way.
    Checkpoint,
    /// The ballast is made, or given up.
    Ballast { made: bool },
    /// What a run of the cleaner writes.
    Clean { task: Box<CleanTask> },
    /// What is left of a run that was given up goes.
    CleanLeftover,
    /// The files of a deleted log go.
    Removal { folder: String },
    /// A snapshot of the metadata.
    Metadata(MetadataDisk),
}

/// What a cold part (controller, coordinators, checkpoint) is to be told once no lock is held.
#[derive(Debug)]
pub(crate) enum Inward {
    /// An internal append is committed, or will not be.
    Appended { token: u64, result: Result<Appended, AppendError> },
    /// The journal holds the metadata Raft's output with this number, and its log's operations up to `operation`.
    MetadataDurable { number: u64, operation: u64 },
    /// The journal holds the deletion of this log.
    LogDeleted(Arc<Partition>),
    /// A checkpoint was saved that some partitions waited for: they may be led.
    Released,
    /// A log has written what a checkpoint waits for.
    Written,
    /// The journal has no room.
    CheckpointWanted,
    /// What the leaders of partitions asked of the controller.
    ReplicasAnswered(Result<ControllerAnswer, Refusal>),
    /// The image may be followed where it could not be before: the log of a replica that was taken away is gone.
    Follow(TopicId),
}

impl Core {
    /// Bytes of clients that were let in and that may not be in files yet.
    pub(crate) fn owed_bytes(&self) -> u64 {
        self.memory.unwritten_bytes().saturating_add(self.budget.append_bytes())
    }

    pub(crate) fn new(config: NodeConfig, disk: Arc<dyn Disk>, journal: Journal) -> Core {
        let limits = config.limits;
        Core {
            room: Room::new(&*disk),
            indexes: Indexes::new(config.indexes),
            config,
            disk,
            budget: Arc::new(Budget::new(limits)),
            memory: TailMemory::new(limits),
            tickets: Tickets::new(),
            timer: Timer::new(),
            wall: TrustedWall::default(),
            commit: Commit::new(journal),
            table: Table::default(),
            replicas: Replicas::default(),
            relaxed_sync: AtomicBool::new(false),
            inbox: Mutex::default(),
            retries: Mutex::default(),
            active: Mutex::default(),
            leaving: Mutex::default(),
            folders: Mutex::default(),
        }
    }

    pub(crate) fn inward(&self, message: Inward) {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).push_back(message);
    }

    pub(crate) fn next_inward(&self) -> Option<Inward> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(crate) fn note_relaxed_sync(&self) {
        self.relaxed_sync.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_relaxed_sync(&self) -> bool {
        self.relaxed_sync.load(Ordering::Relaxed)
    }

    pub(crate) fn take_relaxed_sync(&self) {
        self.relaxed_sync.store(false, Ordering::Relaxed);
    }

    /// Something that cannot wait met a full disk: the room that was kept for that is given back.
    pub(crate) fn drop_ballast(&self, fx: &mut Effects) {
        if self.room.drop_ballast() {
            tracing::warn!("the disk is full: what was kept for that is used now");
            let step = Store::drop_ballast_step(&self.config.data_dir);
            self.tickets.start(Lane::Segments, vec![step], Pending::Ballast { made: false }, fx);
        }
    }

    /// A write that met a full disk is tried again.
    pub(crate) fn retry_later(&self, now: Now, pending: Pending, fx: &mut Effects) {
        let at = now.mono.saturating_add(FULL_RETRY);
        self.retries.lock().unwrap_or_else(PoisonError::into_inner).push((at, pending));
        self.timer.by(at, fx);
    }

    /// Those whose time has come.
    pub(crate) fn take_retries(&self, now: Now) -> Vec<Pending> {
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let (due, later) = std::mem::take(&mut *retries).into_iter().partition(|(at, _)| *at <= now.mono);
        *retries = later;
        let due: Vec<(Duration, Pending)> = due;
        due.into_iter().map(|(_, pending)| pending).collect()
    }

    pub(crate) fn next_retry(&self) -> Option<Duration> {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(at, _)| *at).min()
    }

    /// From now on the ticks look at this partition, until it has nothing due.
    pub(crate) fn activate(&self, partition: &Arc<Partition>, now: Now, fx: &mut Effects) {
        let mut active = self.active();
        active.partitions.insert(partition.id, Arc::clone(partition));
        let at = *active.look_at.get_or_insert(now.mono.saturating_add(ACTIVE_TICK));
        drop(active);
        self.timer.by(at, fx);
    }

    /// Those that were activated, when it is time to look at them.
    pub(crate) fn take_active(&self, now: Now) -> BTreeMap<TopicPartition, Arc<Partition>> {
        let mut active = self.active();
        if active.look_at.is_none_or(|at| now.mono < at) {
            return BTreeMap::new();
        }
        active.look_at = None;
        std::mem::take(&mut active.partitions)
    }

    /// When the active partitions are looked at next.
    pub(crate) fn active_at(&self) -> Option<Duration> {
        self.active().look_at
    }

    fn active(&self) -> MutexGuard<'_, Active> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn leaves(&self, partition: &Arc<Partition>, folder: &str) {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).insert(partition.id, Arc::clone(partition));
        *self.folders().entry(folder.to_owned()).or_default() += 1;
    }

    /// Folders of logs that go, and how many of them have each: namesakes that came and went meanwhile.
    fn folders(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_folder_taken(&self, folder: &str) -> bool {
        self.folders().contains_key(folder)
    }

    /// Whether more than one of the logs that go has this folder.
    pub(crate) fn is_folder_shared(&self, folder: &str) -> bool {
        self.folders().get(folder).is_some_and(|logs| *logs > 1)
    }

    /// One of the logs that go with this folder is gone.
    pub(crate) fn free_folder(&self, folder: &str) {
        let mut folders = self.folders();
        let logs = folders.get_mut(folder).expect("what is removed was noted as going");
        *logs -= 1;
        if *logs == 0 {
            folders.remove(folder);
        }
    }

    pub(crate) fn has_left(&self, partition: &Partition) {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).remove(&partition.id);
    }

    /// Whether the log of an earlier replica of this partition is still in the journal.
    pub(crate) fn is_leaving(&self, partition: TopicPartition) -> bool {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&partition)
    }

    pub(crate) fn leaving(&self) -> Vec<Arc<Partition>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).values().map(Arc::clone).collect()
    }
}

//! A partition on this node: its state machine and its log's tail behind one short lock, its limits in atomics beside it.
//!
//! Owns what is shared between the threads that use a partition. Does not own decisions (`replication::partition`) nor bytes (`storage`).
//! Invariant: the published limits are what the state machine published last; a reader who sees a high watermark finds the
//! records below it in the log.
//! Invariant: no system call is made with the lock held.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use model::{LeaderEpoch, NodeId, Offset, TopicPartition};
use replication::partition::replica::{Action, Limits, Replica};
use storage::Entry;
use storage::log::{CutPoint, Log, SegmentWrite, SyncWork};

use super::delete_records::WaitingDeletion;
use super::produce::Waiter;
use super::waiters::Registrations;
use crate::budget::Counted;
use crate::core::Core;
use crate::replica::{Outflow, Pull};
use crate::requests::FetchError;

#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) id: TopicPartition,
    pub(crate) published: Published,
    /// The newest operation that is in a group of the journal.
    grouped: AtomicU64,
    state: Mutex<State>,
}

/// Under the lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) replica: Replica<Waiter>,
    pub(crate) log: Log,
    /// Whom we follow, and by which stream.
    pub(crate) pull: Option<Pull>,
    /// The start that the leader was told.
    pub(crate) reported_start: Offset,
    /// Who waits for the log's start to move on all replicas.
    pub(crate) deletions: Vec<WaitingDeletion>,
    /// Who follows us.
    pub(crate) outflows: Vec<Outflow>,
    /// It is among those that have something to send; among those whose limits are told later; they are to be told now.
    pub(crate) marked: bool,
    pub(crate) marked_lazily: bool,
    pub(crate) tell_limits: bool,
    pub(crate) registrations: Registrations,
    /// A write of the tail is under way.
    pub(crate) writing: bool,
    /// A checkpoint waits until the segment files hold the operations up to this one.
    pub(crate) write_target: Option<u64>,
    /// A checkpoint is under way: it syncs this log itself.
    pub(crate) in_checkpoint: bool,
    /// A sync of this log alone is under way.
    pub(crate) syncing: bool,
    /// On its way out, or not.
    pub(crate) deletion: Deletion,
    /// Retention has taken segments: their files are to go.
    pub(crate) files_go: bool,
    /// The producers as of an operation, encoded for the checkpoint.
    pub(crate) snapshot: Option<Snapshot>,
    /// The one before, in case a checkpoint covers less than the newest counts.
    pub(crate) snapshot_before: Option<Snapshot>,
    /// The last checkpoint has begun, or one that changes the flush policy: nothing is appended.
    pub(crate) closed: bool,
    /// The flush policy that the topic has by now, where the log has another one still: whether it is journalled.
    pub(crate) switch_to: Option<bool>,
    /// The checkpoint under way says so of the log.
    pub(crate) switching: bool,
    /// Since when the tail holds what no segment file has, at the earliest.
    pub(crate) dirty_since: Option<Duration>,
    /// The disk was full at the last write: when to try again.
    pub(crate) full_until: Option<Duration>,
    /// Where a read met other bytes than were written.
    damage: Option<Damage>,
    /// Since when a log that is not journalled has what no sync covers, and how much.
    pub(crate) unsynced_since: Option<Duration>,
    pub(crate) unsynced_bytes: u64,
    /// Nothing was written in its folder yet: a namesake's files may still be there.
    pub(crate) fresh: bool,
    /// Its flush policy has changed: it must not be led before a checkpoint says so.
    pub(crate) held: bool,
    /// Nobody knows it: its files are moved away, not removed.
    pub(crate) set_aside: bool,
    /// It is not compacted before.
    pub(crate) clean_after: Option<Duration>,
    /// It is in the node's set of partitions that a tick looks at.
    pub(crate) active: bool,
    /// To be started when the lock is given back.
    pub(crate) write_out: Option<SegmentWrite>,
    pub(crate) sync_out: Option<SyncWork>,
    /// What the node's memory budget counts for this log.
    pub(crate) counted: Counted,
    pub(crate) actions: Vec<Action<Waiter>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Deletion {
    No,
    /// The journal is asked to note it.
    Asked,
    /// The journal has it: the files go as soon as nobody writes them.
    Durable,
    Done,
}

/// The producers of a partition as of one operation of its log.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) operation: u64,
    /// Behind the last batch that it counts.
    pub(crate) end: Offset,
    pub(crate) bytes: Bytes,
}

impl Partition {
    pub(crate) fn new(id: TopicPartition, replica: Replica<Waiter>, log: Log) -> Partition {
        let published = Published::new(replica.limits(), replica.log_end());
        let state = State {
            replica,
            log,
            pull: None,
            reported_start: Offset::ZERO,
            deletions: Vec::new(),
            outflows: Vec::new(),
            marked: false,
            marked_lazily: false,
            tell_limits: false,
            registrations: Registrations::default(),
            writing: false,
            write_target: None,
            in_checkpoint: false,
            syncing: false,
            deletion: Deletion::No,
            files_go: false,
            snapshot: None,
            snapshot_before: None,
            closed: false,
            switch_to: None,
            switching: false,
            dirty_since: None,
            full_until: None,
            damage: None,
            unsynced_since: None,
            unsynced_bytes: 0,
            fresh: true,
            held: false,
            set_aside: false,
            clean_after: None,
            active: false,
            write_out: None,
            sync_out: None,
            counted: Counted::default(),
            actions: Vec::new(),
        };
        Partition { id, published, grouped: AtomicU64::new(0), state: Mutex::new(state) }
    }

    /// The log's operations up to this one are in groups of the journal.
    pub(crate) fn note_grouped(&self, operation: u64) {
        self.grouped.fetch_max(operation, Ordering::Relaxed);
    }

    pub(crate) fn grouped(&self) -> u64 {
        self.grouped.load(Ordering::Relaxed)
    }

    /// A poisoned lock is taken all the same: the driver marks the partition as failed before anything else uses it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        match self.state.lock() {
            Ok(state) => state,
            Err(poisoned) => {
                self.published.set_role(PublishedRole::Failed, None);
                poisoned.into_inner()
            }
        }
    }
}

/// A file below the data directory that holds other bytes than were written to it.
#[derive(Debug)]
struct Damage {
    segment: Offset,
    file: PathBuf,
    at: u64,
}

impl State {
    /// The first place is kept while it is there.
    pub(super) fn note_damage(&mut self, segment: Offset, file: &Path, at: u64) {
        if self.damage().is_none() {
            self.damage = Some(Damage { segment, file: file.to_owned(), at });
        }
    }

    /// Where the log is damaged, as far as reads have met it: until retention or compaction takes the file away, or a cut the place.
    pub(crate) fn damage(&self) -> Option<(&Path, u64)> {
        let Damage { segment, file, at } = self.damage.as_ref()?;
        self.log.has_data_file(*segment, file, *at).then_some((file, *at))
    }

    /// As of `Log::truncate_to`. What takes the place of damage that is cut away is not damaged.
    pub(crate) fn truncate_to(&mut self, point: CutPoint) -> Entry {
        let entry = self.log.truncate_to(point);
        self.forget_damage_cut_away();
        entry
    }

    /// As of `Log::reset`.
    pub(crate) fn reset(&mut self, start: Offset) -> Entry {
        let entry = self.log.reset(start);
        self.forget_damage_cut_away();
        entry
    }

    fn forget_damage_cut_away(&mut self) {
        if self.damage().is_none() {
            self.damage = None;
        }
    }

    /// What the producers were, of which all is in the synced files and nothing was cut away since.
    pub(crate) fn usable_snapshot(&self) -> Option<&Snapshot> {
        let usable = |snapshot: &&Snapshot| {
            snapshot.end <= self.log.synced_end() && snapshot.operation >= self.log.cut_operation()
        };
        let newest = self.snapshot.as_ref().filter(usable);
        newest.or_else(|| self.snapshot_before.as_ref().filter(usable))
    }

    /// Whether a deleted namesake's files are still in the folder that this log is going to make.
    pub(crate) fn awaits_folder(&mut self, core: &Core) -> bool {
        self.fresh = self.fresh && core.is_folder_taken(self.log.folder());
        self.fresh
    }
}

/// What readers learn without the lock.
#[derive(Debug)]
pub(crate) struct Published {
    log_start: AtomicI64,
    high_watermark: AtomicI64,
    last_stable: AtomicI64,
    log_end: AtomicI64,
    epoch: AtomicI32,
    role: AtomicU8,
    /// A leader that does not know yet how much was acknowledged before it led.
    fresh: AtomicBool,
    /// −1: nobody.
    leader: AtomicI32,
    /// Reads that met bytes in a segment that are not what was written.
    damaged_reads: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PublishedRole {
    /// The image has not said anything yet, or nobody leads that could be followed.
    NotLeading,
    Leading,
    Following,
    Failed,
}

impl Published {
    fn new(limits: Limits, log_end: Offset) -> Published {
        Published {
            log_start: AtomicI64::new(limits.log_start.get()),
            high_watermark: AtomicI64::new(limits.high_watermark.get()),
            last_stable: AtomicI64::new(limits.last_stable.get()),
            log_end: AtomicI64::new(log_end.get()),
            epoch: AtomicI32::new(0),
            role: AtomicU8::new(0),
            fresh: AtomicBool::new(false),
            leader: AtomicI32::new(-1),
            damaged_reads: AtomicU64::new(0),
        }
    }

    pub(crate) fn set_limits(&self, limits: Limits) {
        self.log_start.store(limits.log_start.get(), Ordering::Release);
        self.high_watermark.store(limits.high_watermark.get(), Ordering::Release);
        self.last_stable.store(limits.last_stable.get(), Ordering::Release);
    }

    pub(crate) fn set_log_end(&self, log_end: Offset) {
        self.log_end.store(log_end.get(), Ordering::Release);
    }

    pub(crate) fn set_epoch(&self, epoch: LeaderEpoch) {
        self.epoch.store(epoch.get(), Ordering::Release);
    }

    pub(crate) fn set_role(&self, role: PublishedRole, leader: Option<NodeId>) {
        self.leader.store(leader.map_or(-1, |leader| leader.0), Ordering::Release);
        let role = match role {
            PublishedRole::NotLeading => 0,
            PublishedRole::Leading => 1,
            PublishedRole::Following => 2,
            PublishedRole::Failed => 3,
        };
        self.role.store(role, Ordering::Release);
    }

    pub(crate) fn role(&self) -> PublishedRole {
        match self.role.load(Ordering::Acquire) {
            0 => PublishedRole::NotLeading,
            1 => PublishedRole::Leading,
            2 => PublishedRole::Following,
            _ => PublishedRole::Failed,
        }
    }

    pub(crate) fn set_fresh(&self, fresh: bool) {
        self.fresh.store(fresh, Ordering::Release);
    }

    /// The high watermark is none that may be told as the end: more may have been acknowledged (K7, K9).
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh.load(Ordering::Acquire)
    }

    /// Counts a read that met damage, and returns how many did before.
    pub(super) fn count_damaged_read(&self) -> u64 {
        self.damaged_reads.fetch_add(1, Ordering::Relaxed)
    }

    /// A read has met damage since the start.
    pub(crate) fn has_met_damage(&self) -> bool {
        self.damaged_reads.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.role() == PublishedRole::Failed
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leader = self.leader.load(Ordering::Acquire);
        (leader >= 0).then_some(NodeId(leader))
    }

    pub(crate) fn limits(&self) -> Limits {
        // The start is read last and the stable offset first: each only grows, so they come out in their order.
        let last_stable = Offset::new(self.last_stable.load(Ordering::Acquire));
        let high_watermark = Offset::new(self.high_watermark.load(Ordering::Acquire));
        let log_start = Offset::new(self.log_start.load(Ordering::Acquire));
        Limits { log_start, high_watermark: high_watermark.max(last_stable), last_stable }
    }

    pub(crate) fn log_end(&self) -> Offset {
        Offset::new(self.log_end.load(Ordering::Acquire))
    }

    pub(crate) fn epoch(&self) -> LeaderEpoch {
        LeaderEpoch::new(self.epoch.load(Ordering::Acquire))
    }

    /// Whether a reader who believes in `current_epoch` may read here. `at_follower`: a replica that follows will do (KIP-392).
    pub(crate) fn check_reader(
        &self,
        current_epoch: Option<LeaderEpoch>,
        at_follower: bool,
    ) -> Result<PublishedRole, FetchError> {
        let current = self.epoch();
        let role = self.role();
        match role {
            PublishedRole::Failed => return Err(FetchError::Disk { reason: "the partition is offline".to_owned() }),
            PublishedRole::Leading => {}
            PublishedRole::Following if at_follower => {}
            PublishedRole::NotLeading | PublishedRole::Following => {
                return Err(FetchError::NotLeader { leader: self.leader(), epoch: current });
            }
        }
        match current_epoch {
            Some(got) if got < current => Err(FetchError::FencedEpoch { current, got }),
            Some(got) if got > current => Err(FetchError::UnknownEpoch { current, got }),
            Some(_) | None => Ok(role),
        }
    }
}

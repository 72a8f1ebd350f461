//! All coordinators of a node: finds the shard of a group and hands it what arrives.
//!
//! Owns which partitions have a shard here, and the lock of each. Does not own what a shard does: `driver`.
//! Invariant: the lock of one shard is never held while another's is taken, nor while the log is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{GroupId, LeaderEpoch, Now, PartitionIndex, TopicName};
use replication::group::{GroupAnswer, GroupConfig, GroupError, GroupRequest, ListFilter};

use super::driver::{Driver, send};
use super::log::GroupLog;
use crate::effects::{Effects, ReplyTo};
use crate::requests::AppendError;

/// Pieces of a log that one call reads before other work gets its turn.
const LOAD_PIECES_MAX: usize = 8;

/// The partition of `__consumer_offsets` that keeps a group, of `count`. Kafka's own rule, so that its tools agree: the
/// absolute value of Java's hash of the string, and 0 for the one number that has none.
pub fn partition_of(group: &GroupId, count: u32) -> Option<PartitionIndex> {
    let hash =
        group.as_str().encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let hash = hash.checked_abs().unwrap_or(0);
    u32::try_from(hash).ok()?.checked_rem(count).map(PartitionIndex::new)
}

pub struct Coordinators {
    config: GroupConfig,
    seed: u64,
    shards: Mutex<Shards>,
}

#[derive(Default)]
struct Shards {
    /// Of the topic; 0 while it does not exist.
    count: u32,
    drivers: BTreeMap<PartitionIndex, Arc<Mutex<Driver>>>,
}

impl Coordinators {
    /// `seed` draws member ids: it must differ between starts.
    pub fn new(config: GroupConfig, seed: u64) -> Coordinators {
        Coordinators { config, seed, shards: Mutex::new(Shards::default()) }
    }

    /// How many partitions `__consumer_offsets` has; 0 while it does not exist. Shards of partitions that are gone end.
    pub fn set_partition_count(&self, count: u32, fx: &mut Effects) {
        let gone = {
            let mut shards = lock(&self.shards);
            shards.count = count;
            match i32::try_from(count) {
                Ok(_) => shards.drivers.split_off(&PartitionIndex::new(count)),
                Err(_) => BTreeMap::new(),
            }
        };
        gone.values().for_each(|driver| lock(driver).resign(fx));
    }

    /// Groups that the shards of this node hold.
    pub fn group_count(&self) -> usize {
        self.all().iter().map(|driver| lock(driver).group_count()).sum()
    }

    /// This node leads the partition from now on: to be called when its log takes appends in this epoch.
    pub fn lead(&self, now: Now, partition: PartitionIndex, epoch: LeaderEpoch, log: &dyn GroupLog, fx: &mut Effects) {
        let driver = {
            let mut shards = lock(&self.shards);
            let driver = shards.drivers.entry(partition).or_insert_with(|| {
                let seed = self.seed ^ (u64::from(partition.get()) << 32) ^ u64::from(partition.get());
                Arc::new(Mutex::new(Driver::new(partition, self.config.clone(), seed)))
            });
            Arc::clone(driver)
        };
        lock(&driver).lead(now, epoch, log, fx);
    }

    /// This node does not lead the partition any more.
    pub fn resign(&self, partition: PartitionIndex, fx: &mut Effects) {
        let driver = lock(&self.shards).drivers.remove(&partition);
        if let Some(driver) = driver {
            lock(&driver).resign(fx);
        }
    }

    /// Answers with `Answer::Group`, now or later.
    pub fn request(
        &self,
        now: Now,
        group: &GroupId,
        request: &GroupRequest,
        to: ReplyTo,
        log: &dyn GroupLog,
        fx: &mut Effects,
    ) {
        if let GroupRequest::List(filter) = request {
            return send(to, self.list(filter), fx);
        }
        let driver = {
            let shards = lock(&self.shards);
            partition_of(group, shards.count).and_then(|partition| shards.drivers.get(&partition).map(Arc::clone))
        };
        match driver {
            Some(driver) => lock(&driver).request(now, group, request, to, log, fx),
            None => send(to, request.refused(GroupError::NotCoordinator), fx),
        }
    }

    /// What became of the append with this token.
    pub fn appended(
        &self,
        now: Now,
        token: u64,
        result: Result<(), AppendError>,
        log: &dyn GroupLog,
        fx: &mut Effects,
    ) {
        let partition = u32::try_from(token >> 32).ok().filter(|raw| i32::try_from(*raw).is_ok());
        let partition = PartitionIndex::new(partition.expect("tokens are made of a partition and a number"));
        let driver = lock(&self.shards).drivers.get(&partition).map(Arc::clone);
        if let Some(driver) = driver {
            lock(&driver).appended(now, token, result, log, fx);
        }
    }

    /// These topics are gone from the image.
    pub fn topics_deleted(&self, now: Now, topics: &BTreeSet<TopicName>, log: &dyn GroupLog, fx: &mut Effects) {
        for driver in self.all() {
            lock(&driver).step(now, log, fx, |shard, out| shard.topics_deleted(topics, out));
        }
    }

    /// Timers and loading. Returns when the next call is needed, at the latest. May read from disk.
    pub fn tick(&self, now: Now, log: &dyn GroupLog, fx: &mut Effects) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        for driver in self.all() {
            lock(&driver).tick(now, log, fx);
            for _ in 0..LOAD_PIECES_MAX {
                let Some(work) = lock(&driver).load_work(now) else { break };
                let done = work.run(log);
                if !lock(&driver).load_done(now, done, log, fx) {
                    break;
                }
            }
            next = next.into_iter().chain(lock(&driver).next_deadline()).min();
        }
        next
    }

    fn list(&self, filter: &ListFilter) -> GroupAnswer {
        let mut groups = Vec::new();
        for driver in self.all() {
            match lock(&driver).list(filter) {
                Some(some) => groups.extend(some),
                None => return GroupAnswer::List(Err(GroupError::Loading)),
            }
        }
        groups.sort_by(|one, other| one.group.cmp(&other.group));
        GroupAnswer::List(Ok(groups))
    }

    fn all(&self) -> Vec<Arc<Mutex<Driver>>> {
        lock(&self.shards).drivers.values().map(Arc::clone).collect()
    }
}

impl std::fmt::Debug for Coordinators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Coordinators({} shards)", lock(&self.shards).drivers.len())
    }
}

/// A panic inside a driver is caught there; what could poison a lock beyond that left no half-made state behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

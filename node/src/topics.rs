//! Follows the image: makes, configures, leads and deletes the partitions of this node as the metadata says.
//!
//! Owns the translation of topics into logs and state machines. Does not own the metadata: facts are applied before this is called.
//! Invariant: a partition is led only in an epoch that this incarnation was given: one that lost an unsynced tail in a crash must not
//! continue the epoch in which it wrote it.
//! Invariant: what the metadata does not know is never deleted, only set aside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::batch::TimestampType;
use model::{LogId, NodeId, Now, Offset, PartitionIndex, TopicId, TopicPartition};
use replication::metadata::{Fact, Image, PartitionInfo, Resource, Topic};
use replication::partition::producers::{Producers, Sequenced};
use replication::partition::replica::{Event, Leadership, Recovered, Replica, Settings};
use storage::log::compact::CompactConfig;
use storage::store::partition_folder;
use storage::{Log, LogConfig, RecoveredLog, Store, Unit};

use crate::commit::Told;
use crate::core::{Core, Inward};
use crate::effects::Effects;
use crate::partition::handle::Partition;
use crate::partition::lifecycle::durability;

/// What recovery found and no topic has claimed yet.
pub(crate) type Unclaimed = BTreeMap<LogId, RecoveredLog>;

/// What may be another than before. A change costs what it touches, not what its topic holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Changed {
    All,
    Topics(BTreeMap<TopicId, Touched>),
}

/// Partitions of one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Touched {
    All,
    Some(BTreeSet<PartitionIndex>),
}

impl Changed {
    pub(crate) fn topic(id: TopicId) -> Changed {
        Changed::Topics(BTreeMap::from([(id, Touched::All)]))
    }
}

/// What a list of facts may have changed.
pub(crate) fn changed_by(facts: &[Fact]) -> Changed {
    let mut topics = BTreeMap::new();
    for fact in facts {
        match fact {
            Fact::TopicCreated { id, .. } | Fact::TopicDeleted { id } => {
                topics.insert(*id, Touched::All);
            }
            Fact::PartitionChanged { topic, partition, .. } => {
                let touched = topics.entry(*topic).or_insert_with(|| Touched::Some(BTreeSet::new()));
                // The first one's replicas say what the topic's factor is, and so what is configured for all.
                if *partition == PartitionIndex::new(0) {
                    *touched = Touched::All;
                } else if let Touched::Some(partitions) = touched {
                    partitions.insert(*partition);
                }
            }
            Fact::ConfigChanged { resource: Resource::Topic(id), .. } => {
                topics.insert(*id, Touched::All);
            }
            // A default of all topics, or a node that registered: its partitions may be led from now on.
            Fact::ConfigChanged { resource: Resource::EveryNode | Resource::Node(_), .. }
            | Fact::NodeRegistered { .. }
            | Fact::ClusterFounded { .. } => return Changed::All,
            Fact::ConfigChanged { resource: Resource::Group(_) | Resource::ClientMetrics(_), .. }
            | Fact::NodeFenced { .. }
            | Fact::NodeUnfenced { .. }
            | Fact::NodeUnregistered { .. }
            | Fact::NodeOrdered { .. }
            | Fact::UncleanLeaderElected { .. }
            | Fact::FeatureLevelSet { .. }
            | Fact::ProducerIdsAllocated { .. } => {}
        }
    }
    Changed::Topics(topics)
}

/// The image as this node is to follow it.
pub(crate) struct Follow<'a> {
    pub(crate) core: &'a Core,
    pub(crate) store: &'a Store,
    pub(crate) image: &'a Image,
    /// This incarnation is registered: what the image says of leaders is meant for it.
    pub(crate) registered: bool,
}

impl Follow<'_> {
    /// Brings what has `changed` in line with the image.
    pub(crate) fn follow(&self, changed: Changed, unclaimed: &mut Unclaimed, now: Now, fx: &mut Effects) {
        let topics = match changed {
            Changed::Topics(topics) => topics,
            Changed::All => {
                let here = self.core.table.topics();
                let all = here.keys().copied().chain(self.image.topics().map(|topic| topic.id));
                all.map(|id| (id, Touched::All)).collect()
            }
        };
        let mut changes = Vec::new();
        let mut gone: Vec<Arc<Partition>> = Vec::new();
        for (id, touched) in &topics {
            let known = self.core.table.topic(*id);
            let before = known.as_deref();
            let Some(mut after) = self.follow_topic(*id, touched, before, unclaimed, now) else { continue };
            let before = before.into_iter().flatten();
            gone.extend(before.filter(|(index, _)| !after.contains_key(index)).map(|(_, gone)| Arc::clone(gone)));
            changes.push((*id, (!after.is_empty()).then(|| Arc::new(std::mem::take(&mut after)))));
        }
        self.core.table.change(changes);
        for partition in gone {
            self.delete(&partition, now, fx);
        }
        for (id, touched) in &topics {
            self.assign_topic(*id, touched, now, fx);
        }
    }

    /// The topic's replicas here: those that were here `before` and stay, and new ones. `None`: the same as before.
    fn follow_topic(
        &self,
        id: TopicId,
        touched: &Touched,
        before: Option<&BTreeMap<PartitionIndex, Arc<Partition>>>,
        unclaimed: &mut Unclaimed,
        now: Now,
    ) -> Option<BTreeMap<PartitionIndex, Arc<Partition>>> {
        let Some(topic) = self.image.topic_by_id(id) else { return before.map(|_| BTreeMap::new()) };
        let here = |index: &PartitionIndex| before.is_some_and(|before| before.contains_key(index));
        let moves = |index: PartitionIndex, info: &PartitionInfo| {
            let wanted = info.is_replica(self.core.config.id);
            let may_come = || !self.core.is_leaving(TopicPartition { topic: id, partition: index });
            (wanted != here(&index) && (!wanted || may_come())).then_some((index, wanted))
        };
        let moving: Vec<(PartitionIndex, bool)> = match touched {
            Touched::All => topic.partitions().filter_map(|(index, info)| moves(index, info)).collect(),
            Touched::Some(some) => some.iter().filter_map(|index| moves(*index, topic.partition(*index)?)).collect(),
        };
        if moving.is_empty() {
            return None;
        }
        let config = Arc::new(log_config(topic));
        let mut after = before.cloned().unwrap_or_default();
        for (index, comes) in moving {
            if comes {
                after.insert(index, self.make(topic, index, &config, unclaimed, now));
            } else {
                after.remove(&index);
            }
        }
        Some(after)
    }

    fn make(
        &self,
        topic: &Topic,
        index: PartitionIndex,
        config: &Arc<LogConfig>,
        unclaimed: &mut Unclaimed,
        now: Now,
    ) -> Arc<Partition> {
        let id = TopicPartition { topic: topic.id, partition: index };
        let settings = self.settings(topic, topic.partition(index));
        let node = self.core.config.id;
        if let Some(found) = unclaimed.remove(&LogId::records(id)) {
            let (mut log, recovered) = recovered(found, self.core.budget.limits().producers, now);
            log.configure(Arc::clone(config));
            let held = log.journalled() != topic.config.is_journalled();
            if held {
                // The journal is told by a checkpoint, and before that nothing may be appended.
                log.set_journalled(topic.config.is_journalled());
                self.core.inward(Inward::CheckpointWanted);
            }
            let partition = Partition::new(id, Replica::new(node, recovered, settings), log);
            partition.lock().held = held;
            return Arc::new(partition);
        }
        let folder = partition_folder(&topic.name, index);
        let (mut log, entry) =
            self.store.create_log(LogId::records(id), &folder, topic.config.is_journalled(), Offset::ZERO);
        log.configure(Arc::clone(config));
        let operation = log.last_operation();
        let recovered = Recovered {
            log_start: Offset::ZERO,
            log_end: Offset::ZERO,
            high_watermark: Offset::ZERO,
            latest_epoch: None,
            producers: Producers::new(self.core.budget.limits().producers),
        };
        let partition = Arc::new(Partition::new(id, Replica::new(node, recovered, settings), log));
        let told = Told::Partition { partition: Arc::clone(&partition), operation, end: None };
        self.core.commit.push(Unit::one(entry), told);
        partition
    }

    /// Tells the partitions of a topic who leads them, and what is configured.
    fn assign_topic(&self, id: TopicId, touched: &Touched, now: Now, fx: &mut Effects) {
        let (Some(topic), Some(here)) = (self.image.topic_by_id(id), self.core.table.topic(id)) else { return };
        let config = Arc::new(log_config(topic));
        let mut tell = |index: PartitionIndex, partition: &Arc<Partition>| {
            if let Some(info) = topic.partition(index) {
                let settings = self.settings(topic, Some(info));
                partition.configure(self.core, now, &config, settings, fx);
                self.assign(partition, info, now, fx);
            }
        };
        match touched {
            Touched::All => here.iter().for_each(|(index, partition)| tell(*index, partition)),
            Touched::Some(some) => {
                let found = some.iter().filter_map(|index| here.get_key_value(index));
                found.for_each(|(index, partition)| tell(*index, partition));
            }
        }
    }

    fn assign(&self, partition: &Arc<Partition>, info: &PartitionInfo, now: Now, fx: &mut Effects) {
        let node = self.core.config.id;
        // A follower that is ahead of this image has said that somebody else leads by now.
        if info.leader_epoch < partition.published.epoch() {
            return;
        }
        let held = partition.lock().held;
        if info.leader != Some(node) {
            let leader = info.leader.filter(|_| !held);
            return partition.follow(self.core, now, info.leader_epoch, leader, fx);
        }
        if self.registered && !held {
            let isr: BTreeSet<NodeId> = info.isr.iter().copied().collect();
            let leadership = Leadership {
                epoch: info.leader_epoch,
                partition_epoch: info.partition_epoch,
                replicas: info.replicas.iter().copied().collect(),
                isr,
            };
            partition.step(self.core, now, Event::Lead(leadership), fx);
        }
    }

    /// The metadata has deleted it, or has given it to other nodes: who waits is answered, then the journal is told, then the files go.
    fn delete(&self, partition: &Arc<Partition>, now: Now, fx: &mut Effects) {
        partition.delete(self.core, now, fx);
    }

    /// Logs that no topic claims: the deletion of their topic was committed, but not carried out, or this is not the metadata that
    /// they were written under. They are moved to `.weir/set-aside`.
    pub(crate) fn set_aside(&self, unclaimed: Unclaimed, now: Now, fx: &mut Effects) {
        for (id, found) in unclaimed {
            tracing::warn!(log = %id, folder = found.log.folder(), "no topic has this log: it goes to .weir/set-aside");
            let (log, recovered) = recovered(found, self.core.budget.limits().producers, now);
            let settings = Settings {
                durability: durability(log.journalled()),
                min_in_sync: 1,
                batch_bytes_max: 0,
                timestamp_type: TimestampType::CreateTime,
                producer_expiry: Duration::MAX,
                waiters_max: 0,
            };
            let replica = Replica::new(self.core.config.id, recovered, settings);
            let partition = Arc::new(Partition::new(id.partition, replica, log));
            partition.lock().set_aside = true;
            self.delete(&partition, now, fx);
        }
    }

    /// The minimum of the ISR is each partition's own: the controller keeps its ELR by the same number, and a leader that committed with
    /// fewer would make that a lie.
    fn settings(&self, topic: &Topic, info: Option<&Arc<PartitionInfo>>) -> Settings {
        let statics = self.image.statics();
        Settings {
            durability: durability(topic.config.is_journalled()),
            min_in_sync: info.map_or_else(|| topic.min_insync_replicas(), |info| topic.min_insync_replicas_of(info)),
            batch_bytes_max: u64::from(topic.config.max_message_bytes),
            timestamp_type: topic.config.timestamp_type,
            producer_expiry: Duration::from_millis(statics.producer_id_expiration_ms),
            waiters_max: self.core.budget.limits().waiters,
        }
    }
}

fn log_config(topic: &Topic) -> LogConfig {
    let config = &topic.config;
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    LogConfig {
        segment_bytes: config.segment_bytes,
        // What is in the segment that grows is not compacted, so it must not grow for longer than a record may wait.
        segment_ms: if config.cleanup.compact {
            signed(config.segment_ms.min(config.max_compaction_lag_ms))
        } else {
            signed(config.segment_ms)
        },
        segment_jitter_ms: signed(config.segment_jitter_ms),
        index_bytes: config.segment_index_bytes,
        flush_ms: config.flush_ms,
        index_interval_bytes: config.index_interval_bytes,
        // A topic that is only compacted keeps its newest record of each key for ever.
        retention_ms: config.retention_ms.filter(|_| config.cleanup.delete).map(signed),
        retention_bytes: config.retention_bytes.filter(|_| config.cleanup.delete),
        compact: config.cleanup.compact.then(|| CompactConfig {
            delete_retention_ms: signed(config.delete_retention_ms),
            lag_min_ms: signed(config.min_compaction_lag_ms),
            lag_max_ms: signed(config.max_compaction_lag_ms),
            dirty_ratio_min: millionths(config.min_cleanable_dirty_ratio),
        }),
    }
}

/// A ratio from 0 to 1: whole numbers compare the same on every machine.
fn millionths(ratio: f64) -> u64 {
    format!("{:.0}", ratio.clamp(0.0, 1.0) * 1_000_000.0).parse().unwrap_or(u64::MAX)
}

/// The log, and what its partition knows by it: producers from the snapshot and the batches behind that.
fn recovered(found: RecoveredLog, producers_max: usize, now: Now) -> (Log, Recovered) {
    let RecoveredLog { log, high_watermark, producers: snapshot, since } = found;
    let decoded = snapshot.map(|snapshot| Producers::decode(&snapshot.bytes, producers_max));
    let mut producers = match decoded {
        Some(Ok(producers)) => producers,
        Some(Err(error)) => {
            tracing::warn!(log = %log.id(), %error, "the producers are known from the log's newest batches only");
            Producers::new(producers_max)
        }
        None => Producers::new(producers_max),
    };
    for header in &since {
        if let (Some(sequenced), Some(base)) = (Sequenced::of(header), Offset::from_wire(header.base_offset)) {
            // A client's timestamp may be any; it was heard of at this start.
            producers.replayed(sequenced, base, header.max_timestamp, now.wall_ms);
        }
    }
    let recovered = Recovered {
        log_start: log.log_start(),
        log_end: log.log_end(),
        high_watermark,
        latest_epoch: log.epochs().latest(),
        producers,
    };
    (log, recovered)
}

//! The offsets that one group has committed.
//!
//! Owns where they are kept, who may commit, and when they expire. Invariant: only `put` and `remove`, called by
//! `Shard::apply`, change them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use model::{GroupId, Now, PartitionIndex, TopicName};

use super::classic::Classic;
use super::codec::{CodecError, Reader};
use super::config::GroupConfig;
use super::error::GroupError;
use super::record::GroupRecord;
use super::shard::Group;
use super::types::{
    CommitOffset, CommitOffsets, CommittedOffset, FetchOffsets, FetchTopic, FetchedOffset, FetchedTopic, GroupState,
};

/// The protocol type of consumers: the only one whose subscriptions can be read.
const CONSUMER: &str = "consumer";

/// One offset without its metadata, about.
const OFFSET_BYTES: usize = 160;

fn cost(value: &CommittedOffset) -> usize {
    OFFSET_BYTES + value.metadata.len()
}

#[derive(Clone, Debug, Default)]
pub(super) struct Offsets {
    topics: BTreeMap<TopicName, BTreeMap<PartitionIndex, CommittedOffset>>,
    count: usize,
    /// What they cost in memory, about.
    bytes: usize,
}

impl Offsets {
    pub(super) fn put(&mut self, topic: &TopicName, partition: PartitionIndex, value: CommittedOffset) {
        let partitions = self.topics.entry(topic.clone()).or_default();
        self.bytes += cost(&value);
        match partitions.insert(partition, value) {
            Some(before) => self.bytes -= cost(&before),
            None => self.count += 1,
        }
    }

    pub(super) fn remove(&mut self, topic: &TopicName, partition: PartitionIndex) {
        let Some(partitions) = self.topics.get_mut(topic) else { return };
        if let Some(before) = partitions.remove(&partition) {
            self.count -= 1;
            self.bytes -= cost(&before);
        }
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a commit would add, at most.
    pub(super) fn bytes_added(&self, commit: &CommitOffsets) -> usize {
        let added = |offset: &CommitOffset| {
            let is_new = !self.has(&offset.topic, offset.partition);
            offset.metadata.len() + if is_new { OFFSET_BYTES } else { 0 }
        };
        commit.offsets.iter().map(added).sum()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&TopicName, PartitionIndex, &CommittedOffset)> {
        self.topics
            .iter()
            .flat_map(|(topic, partitions)| partitions.iter().map(move |(partition, value)| (topic, *partition, value)))
    }

    fn has(&self, topic: &TopicName, partition: PartitionIndex) -> bool {
        self.topics.get(topic).is_some_and(|partitions| partitions.contains_key(&partition))
    }

    /// The records of a commit and one answer for each of its offsets. Whether the caller may commit was checked.
    pub(super) fn decide_commit(
        &self,
        group: &GroupId,
        now: Now,
        commit: &CommitOffsets,
        config: &GroupConfig,
    ) -> (Vec<GroupRecord>, Vec<Option<GroupError>>) {
        let expire_timestamp_ms = commit.retention_ms.map(|keep| now.wall_ms.saturating_add(keep));
        let mut records = Vec::with_capacity(commit.offsets.len());
        let mut errors = Vec::with_capacity(commit.offsets.len());
        let mut count = self.count;
        for offset in &commit.offsets {
            let is_new = !self.has(&offset.topic, offset.partition);
            let error = check_offset(offset, config, count + usize::from(is_new));
            if error.is_none() {
                count += usize::from(is_new);
                let value = CommittedOffset {
                    offset: offset.offset,
                    // The record that has room for an expire time has none for an epoch.
                    leader_epoch: offset.leader_epoch.filter(|_| expire_timestamp_ms.is_none()),
                    metadata: Arc::from(offset.metadata.as_str()),
                    commit_timestamp_ms: now.wall_ms,
                    expire_timestamp_ms,
                };
                let (topic, partition) = (offset.topic.clone(), offset.partition);
                records.push(GroupRecord::Offset { group: group.clone(), topic, partition, value: Some(value) });
            }
            errors.push(error);
        }
        (records, errors)
    }

    pub(super) fn fetch(&self, fetch: &FetchOffsets) -> Vec<FetchedTopic> {
        let found = |partition: PartitionIndex, committed: Option<&CommittedOffset>| FetchedOffset {
            partition,
            committed: committed.cloned(),
            error: None,
        };
        match &fetch.topics {
            None => {
                let all = self.topics.iter().map(|(topic, partitions)| FetchedTopic {
                    topic: topic.clone(),
                    partitions: partitions.iter().map(|(at, value)| found(*at, Some(value))).collect(),
                });
                all.collect()
            }
            Some(topics) => {
                let one = |wanted: &FetchTopic| {
                    let ours = self.topics.get(&wanted.topic);
                    let get = |at: &PartitionIndex| found(*at, ours.and_then(|partitions| partitions.get(at)));
                    FetchedTopic {
                        topic: wanted.topic.clone(),
                        partitions: wanted.partitions.iter().map(get).collect(),
                    }
                };
                topics.iter().map(one).collect()
            }
        }
    }

    /// Tombstones for the offsets of these topics, which are gone.
    pub(super) fn decide_topics_deleted(&self, group: &GroupId, topics: &BTreeSet<TopicName>) -> Vec<GroupRecord> {
        let gone = self.all().filter(|(topic, ..)| topics.contains(*topic));
        gone.map(|(topic, partition, _)| tombstone(group, topic, partition)).collect()
    }

    /// Tombstones for all of it.
    pub(super) fn decide_all_deleted(&self, group: &GroupId) -> Vec<GroupRecord> {
        self.all().map(|(topic, partition, _)| tombstone(group, topic, partition)).collect()
    }

    /// Tombstones for these offsets, and one answer for each. What members of the group read is in use.
    pub(super) fn decide_deleted(
        &self,
        group: &GroupId,
        wanted: &[(TopicName, PartitionIndex)],
        in_use: &BTreeSet<String>,
    ) -> (Vec<GroupRecord>, Vec<Option<GroupError>>) {
        let mut records = Vec::new();
        let mut errors = Vec::with_capacity(wanted.len());
        for (topic, partition) in wanted {
            let subscribed = in_use.contains(topic.as_str());
            if !subscribed && self.has(topic, *partition) {
                records.push(tombstone(group, topic, *partition));
            }
            errors.push(subscribed.then(|| GroupError::Subscribed { topic: topic.clone() }));
        }
        (records, errors)
    }

    /// Tombstones for what has outlived its retention.
    pub(super) fn decide_expiry(
        &self,
        group: &GroupId,
        now: Now,
        expiry: Option<Expiry>,
        config: &GroupConfig,
    ) -> Vec<GroupRecord> {
        let Some(expiry) = expiry else { return Vec::new() };
        let expired = |topic: &TopicName, value: &CommittedOffset| {
            if expiry.subscribed.contains(topic.as_str()) {
                return false;
            }
            if let Some(at) = value.expire_timestamp_ms {
                return now.wall_ms >= at;
            }
            let since = expiry.empty_since_ms.unwrap_or(value.commit_timestamp_ms);
            now.wall_ms.saturating_sub(since) >= config.offsets_retention_ms
        };
        let gone = self.all().filter(|(topic, _, value)| expired(topic, value));
        gone.map(|(topic, partition, _)| tombstone(group, topic, partition)).collect()
    }
}

fn check_offset(offset: &CommitOffset, config: &GroupConfig, count: usize) -> Option<GroupError> {
    let limit = config.offset_metadata_max;
    let length = offset.metadata.encode_utf16().count();
    // Whatever is configured, a record has room for so many bytes only.
    if length > limit || i16::try_from(offset.metadata.len()).is_err() {
        return Some(GroupError::MetadataTooLarge { length, limit });
    }
    let limit = config.group_offsets_max;
    (count > limit).then_some(GroupError::TooManyOffsets { limit })
}

fn tombstone(group: &GroupId, topic: &TopicName, partition: PartitionIndex) -> GroupRecord {
    GroupRecord::Offset { group: group.clone(), topic: topic.clone(), partition, value: None }
}

/// From when on the offsets of a group age, and which do not (KIP-211).
pub(super) struct Expiry {
    /// `None`: each from its own commit.
    empty_since_ms: Option<i64>,
    /// Topics whose offsets are in use.
    subscribed: BTreeSet<String>,
}

impl Expiry {
    /// `None`: nothing of the group expires now.
    pub(super) fn of(group: &Group) -> Option<Expiry> {
        if let Some(consumer) = &group.consumer {
            let subscribed = consumer.subscribed().into_iter().map(str::to_owned).collect();
            return Some(Expiry { empty_since_ms: None, subscribed });
        }
        let classic = &group.classic;
        match (&classic.protocol_type, classic.state) {
            // A simple consumer only stores offsets here.
            (None, _) => Some(Expiry { empty_since_ms: None, subscribed: BTreeSet::new() }),
            (Some(_), GroupState::Empty) => {
                Some(Expiry { empty_since_ms: classic.state_timestamp_ms, subscribed: BTreeSet::new() })
            }
            (Some(kind), GroupState::Stable) if kind == CONSUMER => {
                Some(Expiry { empty_since_ms: None, subscribed: subscribed_topics(classic)? })
            }
            (Some(_), _) => None,
        }
    }
}

/// Topics whose offsets members of the group need.
pub(super) fn topics_in_use(group: &Group) -> Result<BTreeSet<String>, GroupError> {
    if let Some(consumer) = &group.consumer {
        return Ok(consumer.subscribed().into_iter().map(str::to_owned).collect());
    }
    let classic = &group.classic;
    if classic.is_idle() {
        return Ok(BTreeSet::new());
    }
    let is_consumer = classic.protocol_type.as_deref() == Some(CONSUMER);
    let subscribed = subscribed_topics(classic).filter(|_| is_consumer);
    subscribed.ok_or(GroupError::NotEmpty { state: classic.state.name() })
}

/// `None` where a member's subscription cannot be read: then each topic may be in use.
fn subscribed_topics(classic: &Classic) -> Option<BTreeSet<String>> {
    let protocol = classic.protocol.as_deref()?;
    let mut topics = BTreeSet::new();
    for member in classic.members.values() {
        topics.extend(subscription_topics(member.metadata(protocol)).ok()?);
    }
    Some(topics)
}

/// Version 0 of the consumer's subscription is the start of each later one.
fn subscription_topics(metadata: Bytes) -> Result<Vec<String>, CodecError> {
    let mut reader = Reader::new(metadata);
    reader.i16()?;
    (0..reader.count()?).map(|_| reader.string()).collect()
}

impl Classic {
    /// Whether this commit may be taken. The commit also counts as a sign of life.
    pub(super) fn on_commit(&mut self, commit: &CommitOffsets, now: Now) -> Result<(), GroupError> {
        let Some(got) = commit.generation else {
            return self.check_simple_commit(commit);
        };
        let id = self.check_member(commit.member_id.as_ref(), commit.instance_id.as_ref())?;
        if got != self.generation {
            return Err(GroupError::IllegalGeneration { current: self.generation, got });
        }
        if self.is(GroupState::CompletingRebalance) {
            return Err(GroupError::RebalanceInProgress);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.heard(now.mono);
        }
        Ok(())
    }

    /// Who takes no part in the group may commit only while nobody does.
    fn check_simple_commit(&self, commit: &CommitOffsets) -> Result<(), GroupError> {
        if self.is(GroupState::Empty) {
            return Ok(());
        }
        if commit.member_id.is_none() && commit.instance_id.is_none() {
            return Err(GroupError::UnknownMember { member: None });
        }
        self.check_member(commit.member_id.as_ref(), commit.instance_id.as_ref())?;
        Err(GroupError::IllegalGeneration { current: self.generation, got: -1 })
    }
}

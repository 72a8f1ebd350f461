//! One shard of the group coordinator: the groups whose records go to one partition of `__consumer_offsets`.
//!
//! Owns the groups, what of them is replicated, and their timers. Does not own the log: it hands out records, already
//! applied, and answers that may leave only when those records are committed. If they cannot be committed the shard is
//! thrown away (`unload`) and built again from the log.
//! Invariant: replicated state (`GroupMetadata`, offsets) changes in `apply` only, live and while loading.
//! Invariant: each request gets one answer, at once or later; `unload` answers what still waits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{GroupId, Now, PartitionIndex, TopicName};

use super::classic::{Classic, Reply, Step};
use super::config::{GROUP_ID_BYTES_MAX, GroupConfig, LEAVING_MAX};
use super::consumer::{Catalog, Consumer};
use super::error::GroupError;
use super::join::check_join;
use super::member::{MemberIds, Token, protocols_bytes};
use super::offsets::{Expiry, Offsets, topics_in_use};
use super::record::{GroupMetadata, GroupRecord};
use super::types::{CommitOffsets, GroupAnswer, GroupRequest, Heartbeat, Join, Leave, Left, MemberId, Sync};

/// What a shard brings forth.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Output {
    /// For the log, in this order.
    pub records: Vec<GroupRecord>,
    /// May leave when all records that the shard has handed out so far are committed: they show state that a crash
    /// could otherwise take back.
    pub replies: Vec<Reply>,
    /// May leave now.
    pub replies_at_once: Vec<Reply>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    /// As the log has it.
    pub(super) metadata: Option<GroupMetadata>,
    pub(super) offsets: Offsets,
    pub(super) classic: Classic,
    /// There for a group of the consumer protocol only.
    pub(super) consumer: Option<Box<Consumer>>,
    /// When `tick` looks at it, at the latest.
    wake: Option<Duration>,
}

impl Group {
    fn bytes(&self) -> usize {
        let consumer = self.consumer.as_ref().map_or(0, |consumer| consumer.bytes());
        self.classic.bytes() + self.offsets.bytes() + consumer
    }

    /// Nothing of it is left to remember.
    fn is_vacant(&self) -> bool {
        let no_consumer = self.consumer.as_ref().is_none_or(|consumer| consumer.is_vacant());
        self.metadata.is_none() && self.offsets.is_empty() && self.classic.is_idle() && no_consumer
    }
}

#[derive(Clone, Debug)]
pub struct Shard {
    pub(super) config: GroupConfig,
    pub(super) ids: MemberIds,
    pub(super) groups: BTreeMap<GroupId, Group>,
    wakes: BTreeSet<(Duration, GroupId)>,
    /// Of members and offsets, about.
    pub(super) bytes: usize,
    /// `None` while the log is being read.
    cleanup_at: Option<Duration>,
}

impl Shard {
    /// An empty shard that waits for the records of its log (`apply`, then `loaded`). `seed` must differ between
    /// shards and starts: member ids come from it.
    pub fn new(config: GroupConfig, seed: u64) -> Shard {
        Shard {
            config,
            ids: MemberIds::new(seed),
            groups: BTreeMap::new(),
            wakes: BTreeSet::new(),
            bytes: 0,
            cleanup_at: None,
        }
    }

    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// The only way replicated state changes.
    pub fn apply(&mut self, record: &GroupRecord) {
        let group = self.groups.entry(record.group().clone()).or_default();
        let before = group.bytes();
        match record {
            GroupRecord::Offset { topic, partition, value: Some(value), .. } => {
                group.offsets.put(topic, *partition, value.clone());
            }
            GroupRecord::Offset { topic, partition, value: None, .. } => group.offsets.remove(topic, *partition),
            GroupRecord::Metadata { value, .. } => {
                group.metadata.clone_from(value);
                if value.is_none() && group.classic.is_idle() {
                    group.classic = Classic::default();
                }
            }
            GroupRecord::Consumer { record, .. } => {
                let consumer = group.consumer.get_or_insert_default();
                consumer.apply(record);
                if consumer.is_vacant() {
                    group.consumer = None;
                }
            }
        }
        self.bytes = self.bytes + group.bytes() - before;
        self.drop_if_vacant(record.group());
    }

    /// The log has been read to its end: sessions begin, requests may come.
    pub fn loaded(&mut self, now: Now) {
        assert!(self.cleanup_at.is_none(), "a shard is loaded once");
        let session = super::member::milliseconds(self.config.consumer.session_timeout_ms);
        for group in self.groups.values_mut() {
            if let Some(consumer) = &mut group.consumer {
                consumer.begin(now.mono, session);
            } else if let Some(metadata) = &group.metadata {
                group.classic = Classic::loaded(metadata, now.mono);
                group.classic.check_invariants();
            }
        }
        self.bytes = self.groups.values().map(Group::bytes).sum();
        self.cleanup_at = Some(now.mono + self.config.offsets_retention_check);
        let ids: Vec<GroupId> = self.groups.keys().cloned().collect();
        ids.iter().for_each(|id| self.schedule(id));
    }

    /// Answers all that waits with `error`; the shard is of no use after.
    pub fn unload(mut self, error: &GroupError) -> Vec<Reply> {
        let mut replies = Vec::new();
        for member in self.groups.values_mut().flat_map(|group| group.classic.members.values_mut()) {
            if let Some(token) = member.join.take() {
                replies.push(Reply { token, answer: GroupAnswer::Join(Err(error.clone())) });
            }
            if let Some(token) = member.sync.take() {
                replies.push(Reply { token, answer: GroupAnswer::Sync(Err(error.clone())) });
            }
        }
        replies
    }

    /// One request. `token` comes back in exactly one reply, of this call or a later one.
    pub fn step(
        &mut self,
        now: Now,
        catalog: Catalog<'_>,
        id: &GroupId,
        request: &GroupRequest,
        token: Token,
        out: &mut Output,
    ) {
        assert!(self.cleanup_at.is_some(), "requests come when the log has been read");
        if let Err(error) = check_id(id, request) {
            return out.replies.push(Reply { token, answer: request.refused(error) });
        }
        let answer = match request {
            GroupRequest::Join(join) => return self.join(now, catalog, id, (join, token), out),
            GroupRequest::Sync(sync) if self.is_consumer(id) => {
                GroupAnswer::Sync(self.consumer_sync(now, catalog, id, sync, out))
            }
            GroupRequest::Sync(sync) => return self.sync(now, id, sync, token, out),
            GroupRequest::Heartbeat(heartbeat) if self.is_consumer(id) => {
                GroupAnswer::Heartbeat(self.consumer_heartbeat_classic(now, catalog, id, heartbeat, out))
            }
            GroupRequest::Heartbeat(heartbeat) => {
                let answer = GroupAnswer::Heartbeat(self.heartbeat(now, id, heartbeat));
                return out.replies_at_once.push(Reply { token, answer });
            }
            GroupRequest::Leave(leave) => GroupAnswer::Leave(self.leave(now, catalog, id, leave, out)),
            GroupRequest::CommitOffsets(commit) => {
                GroupAnswer::CommitOffsets(self.commit(now, catalog, id, commit, out))
            }
            GroupRequest::FetchOffsets(fetch) => GroupAnswer::FetchOffsets(self.fetch(id, fetch)),
            GroupRequest::ConsumerHeartbeat(beat) => {
                GroupAnswer::ConsumerHeartbeat(self.consumer_heartbeat(now, catalog, id, beat, out))
            }
            GroupRequest::DescribeConsumer => GroupAnswer::DescribeConsumer(self.describe_consumer(id)),
            GroupRequest::Describe => GroupAnswer::Describe(self.describe(id)),
            GroupRequest::Delete => GroupAnswer::Delete(self.delete(id, out)),
            GroupRequest::DeleteOffsets(wanted) => GroupAnswer::DeleteOffsets(self.delete_offsets(id, wanted, out)),
            GroupRequest::List(filter) => GroupAnswer::List(Ok(self.list(filter))),
        };
        out.replies.push(Reply { token, answer });
    }

    /// Sessions, rebalances and retention whose time has come.
    pub fn tick(&mut self, now: Now, catalog: Catalog<'_>, out: &mut Output) {
        let due: Vec<GroupId> =
            self.wakes.iter().take_while(|(at, _)| *at <= now.mono).map(|(_, id)| id.clone()).collect();
        for id in &due {
            match self.is_consumer(id) {
                true => self.tick_consumer(now, catalog, id, out),
                false => drop(self.with_group(now, id, out, |classic, step| classic.on_tick(step))),
            }
        }
        if self.cleanup_at.is_some_and(|at| at <= now.mono) {
            self.cleanup_at = Some(now.mono + self.config.offsets_retention_check);
            self.clean_up(now, out);
        }
    }

    /// When `tick` has something to do, at the earliest. It may turn out to be nothing.
    pub fn next_deadline(&self) -> Option<Duration> {
        let wake = self.wakes.first().map(|(at, _)| *at);
        wake.into_iter().chain(self.cleanup_at).min()
    }

    /// These topics are gone: so are their offsets.
    pub fn topics_deleted(&mut self, topics: &BTreeSet<TopicName>, out: &mut Output) {
        let of = |(id, group): (&GroupId, &Group)| group.offsets.decide_topics_deleted(id, topics);
        let records: Vec<GroupRecord> = self.groups.iter().flat_map(of).collect();
        self.write(records, out);
    }

    /// The records that would bring an empty shard to this one's replicated state.
    pub fn snapshot(&self) -> Vec<GroupRecord> {
        let mut records = Vec::new();
        for (id, group) in &self.groups {
            if group.metadata.is_some() {
                records.push(GroupRecord::Metadata { group: id.clone(), value: group.metadata.clone() });
            }
            records.extend(group.consumer.iter().flat_map(|consumer| consumer.snapshot(id)));
            records.extend(group.offsets.all().map(|(topic, partition, value)| GroupRecord::Offset {
                group: id.clone(),
                topic: topic.clone(),
                partition,
                value: Some(value.clone()),
            }));
        }
        records
    }

    /// One move of a group that exists, and all that follows from it.
    pub(super) fn with_group<R>(
        &mut self,
        now: Now,
        id: &GroupId,
        out: &mut Output,
        act: impl FnOnce(&mut Classic, &mut Step<'_>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(id)?;
        let mut step =
            Step { now, config: &self.config, ids: &mut self.ids, replies: &mut out.replies, generations: Vec::new() };
        let before = group.classic.bytes();
        let result = act(&mut group.classic, &mut step);
        if group.classic.next_deadline().is_some_and(|at| at <= now.mono) {
            // With no delay configured the first rebalance is over at once.
            group.classic.on_tick(&mut step);
        }
        group.classic.check_invariants();
        self.bytes = self.bytes + group.classic.bytes() - before;
        let generations = step.generations;
        let of = |value| GroupRecord::Metadata { group: id.clone(), value: Some(value) };
        self.write(generations.into_iter().map(of).collect(), out);
        self.schedule(id);
        self.drop_if_vacant(id);
        Some(result)
    }

    pub(super) fn write(&mut self, records: Vec<GroupRecord>, out: &mut Output) {
        records.iter().for_each(|record| self.apply(record));
        out.records.extend(records);
    }

    pub(super) fn schedule(&mut self, id: &GroupId) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let wake = group.next_deadline();
        let before = std::mem::replace(&mut group.wake, wake);
        if before == wake {
            return;
        }
        if let Some(at) = before {
            self.wakes.remove(&(at, id.clone()));
        }
        if let Some(at) = wake {
            self.wakes.insert((at, id.clone()));
        }
    }

    pub(super) fn drop_if_vacant(&mut self, id: &GroupId) {
        if self.groups.get(id).is_some_and(Group::is_vacant)
            && let Some(Group { wake: Some(at), .. }) = self.groups.remove(id)
        {
            self.wakes.remove(&(at, id.clone()));
        }
    }

    fn join(&mut self, now: Now, catalog: Catalog<'_>, id: &GroupId, (join, token): (&Join, Token), out: &mut Output) {
        let limit = self.config.groups_max;
        let known = self.groups.contains_key(id);
        let checked = check_join(join, &self.config).and_then(|()| self.room_for(protocols_bytes(&join.protocols)));
        let refused = match checked {
            Err(error) => Some(error),
            Ok(()) if known => None,
            Ok(()) if join.member_id.is_some() => Some(GroupError::UnknownMember { member: join.member_id.clone() }),
            Ok(()) => (self.groups.len() >= limit).then_some(GroupError::TooManyGroups { limit }),
        };
        if let Some(error) = refused {
            return out.replies.push(Reply { token, answer: GroupAnswer::Join(Err(error)) });
        }
        self.end_empty_consumer(id, out);
        if self.is_consumer(id) {
            return self.consumer_join(now, catalog, id, (join, token), out);
        }
        self.groups.entry(id.clone()).or_default();
        self.with_group(now, id, out, |classic, step| classic.on_join(join, token, step));
    }

    /// Who leaves, heartbeats or commits again needs none.
    pub(super) fn room_for(&self, added: usize) -> Result<(), GroupError> {
        let (bytes, limit) = (self.bytes + added, self.config.shard_bytes_max);
        if added > 0 && bytes > limit { Err(GroupError::ShardFull { bytes, limit }) } else { Ok(()) }
    }

    fn sync(&mut self, now: Now, id: &GroupId, sync: &Sync, token: Token, out: &mut Output) {
        let moved = self.with_group(now, id, out, |classic, step| classic.on_sync(sync, token, step));
        if moved.is_none() {
            let error = GroupError::UnknownMember { member: sync.member_id.clone() };
            out.replies.push(Reply { token, answer: GroupAnswer::Sync(Err(error)) });
        }
    }

    /// Moves a deadline back, so the wake that is set stays good: it comes early and finds nothing.
    fn heartbeat(&mut self, now: Now, id: &GroupId, heartbeat: &Heartbeat) -> Result<(), GroupError> {
        match self.groups.get_mut(id) {
            Some(group) => group.classic.on_heartbeat(heartbeat, now.mono),
            None => Err(GroupError::UnknownMember { member: heartbeat.member_id.clone() }),
        }
    }

    fn leave(
        &mut self,
        now: Now,
        catalog: Catalog<'_>,
        id: &GroupId,
        leave: &Leave,
        out: &mut Output,
    ) -> Result<Vec<Left>, GroupError> {
        if leave.members.len() > LEAVING_MAX {
            return Err(GroupError::TooManyLeaving { count: leave.members.len(), limit: LEAVING_MAX });
        }
        if self.is_consumer(id) {
            return self.consumer_leave_classic(now, catalog, id, leave, out);
        }
        if let Some(left) = self.with_group(now, id, out, |classic, step| classic.on_leave(leave, step)) {
            return Ok(left);
        }
        let unknown = |member_id: &Option<MemberId>| GroupError::UnknownMember { member: member_id.clone() };
        let one = |leaving: &super::Leaving| Left {
            member_id: leaving.member_id.clone(),
            instance_id: leaving.instance_id.clone(),
            error: Some(unknown(&leaving.member_id)),
        };
        Ok(leave.members.iter().map(one).collect())
    }

    fn commit(
        &mut self,
        now: Now,
        catalog: Catalog<'_>,
        id: &GroupId,
        commit: &CommitOffsets,
        out: &mut Output,
    ) -> Result<Vec<Option<GroupError>>, GroupError> {
        let added = match self.groups.get(id) {
            Some(group) => group.offsets.bytes_added(commit),
            None => Offsets::default().bytes_added(commit),
        };
        self.room_for(added)?;
        let (records, errors) = match self.groups.get_mut(id) {
            Some(group) => {
                match &mut group.consumer {
                    None => group.classic.on_commit(commit, now)?,
                    Some(consumer) => {
                        consumer.check_commit(commit, |topic| catalog.id(topic))?;
                        consumer.heard_commit(commit, now);
                    }
                }
                group.offsets.decide_commit(id, now, commit, &self.config)
            }
            None if commit.generation.is_some() => {
                return Err(GroupError::GroupIdNotFound { group: id.clone() });
            }
            None => {
                let limit = self.config.groups_max;
                if self.groups.len() >= limit {
                    return Err(GroupError::TooManyGroups { limit });
                }
                Offsets::default().decide_commit(id, now, commit, &self.config)
            }
        };
        self.write(records, out);
        Ok(errors)
    }

    fn delete(&mut self, id: &GroupId, out: &mut Output) -> Result<(), GroupError> {
        let group = self.groups.get(id).ok_or_else(|| GroupError::GroupIdNotFound { group: id.clone() })?;
        if !group.is_idle() {
            return Err(GroupError::NotEmpty { state: group.state() });
        }
        let mut records = group.offsets.decide_all_deleted(id);
        records.extend(ended(id, group));
        self.write(records, out);
        Ok(())
    }

    fn delete_offsets(
        &mut self,
        id: &GroupId,
        wanted: &[(TopicName, PartitionIndex)],
        out: &mut Output,
    ) -> Result<Vec<Option<GroupError>>, GroupError> {
        let group = self.groups.get(id).ok_or_else(|| GroupError::GroupIdNotFound { group: id.clone() })?;
        let (records, errors) = group.offsets.decide_deleted(id, wanted, &topics_in_use(group)?);
        self.write(records, out);
        Ok(errors)
    }

    /// Offsets that are too old go, and then groups that nobody is in and that have none.
    fn clean_up(&mut self, now: Now, out: &mut Output) {
        let expired: Vec<GroupRecord> = {
            let of =
                |(id, group): (&GroupId, &Group)| group.offsets.decide_expiry(id, now, Expiry::of(group), &self.config);
            self.groups.iter().flat_map(of).collect()
        };
        self.write(expired, out);
        let unused = self.groups.iter().filter(|(_, group)| group.offsets.is_empty() && group.is_idle());
        let gone: Vec<GroupRecord> = unused.flat_map(|(id, group)| ended(id, group)).collect();
        self.write(gone, out);
    }
}

/// The records after which nothing of the group is left but its offsets.
fn ended(id: &GroupId, group: &Group) -> Vec<GroupRecord> {
    let metadata = group.metadata.is_some().then(|| GroupRecord::Metadata { group: id.clone(), value: None });
    let consumer = group.consumer.iter().flat_map(|consumer| consumer.tombstones(id));
    metadata.into_iter().chain(consumer).collect()
}

/// The empty id is allowed for offsets only, as in Kafka.
fn check_id(id: &GroupId, request: &GroupRequest) -> Result<(), GroupError> {
    let bytes = id.as_str().len();
    let may_be_empty = match request {
        GroupRequest::Join(_) | GroupRequest::Sync(_) | GroupRequest::Heartbeat(_) | GroupRequest::Leave(_) => false,
        GroupRequest::ConsumerHeartbeat(_) => false,
        GroupRequest::CommitOffsets(_) | GroupRequest::FetchOffsets(_) | GroupRequest::DescribeConsumer => true,
        GroupRequest::Describe | GroupRequest::Delete | GroupRequest::DeleteOffsets(_) | GroupRequest::List(_) => true,
    };
    if bytes > GROUP_ID_BYTES_MAX || (bytes == 0 && !may_be_empty) {
        return Err(GroupError::InvalidGroupId { bytes, bytes_max: GROUP_ID_BYTES_MAX });
    }
    Ok(())
}

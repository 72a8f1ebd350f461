//! ConsumerGroupHeartbeat: members join, say what they want and have, and learn what they are meant to have.
//!
//! Owns the order: the member's own words, then the group's epoch, then a target for that epoch, then the member's next
//! step towards it. Does not own how targets are chosen (`assign`) nor the steps (`reconcile`), nor leaving (`leave`).
//! Invariant: what can be refused is refused before the first record.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{GroupId, Now, PartitionIndex, TopicId};

use super::super::config::{CLIENT_ID_BYTES_MAX, GroupConfig, MEMBERS_MAX, NAME_BYTES_MAX, RECORD_SLACK_BYTES};
use super::super::error::GroupError;
use super::super::member::{MemberIds, clipped, milliseconds};
use super::super::record::GroupRecord;
use super::super::types::{InstanceId, MemberId};
use super::assign::{Assignor, Layout, Subscriber, assign};
use super::catalog::Catalog;
use super::config::Settings;
use super::patterns::compile;
use super::reconcile::Reconciliation;
use super::state::{
    AWAY_EPOCH, Consumer, ConsumerRecord, Current, GONE_EPOCH, GroupEpoch, Member, MemberInfo, MemberState, Owned,
    Partitions, Resolved, TargetEpoch, each, plain,
};
use super::types::{ConsumerBeat, ConsumerHeartbeat};

/// Topics that one member may name.
const TOPICS_MAX: usize = 10_000;
/// Between two looks at all topics for one group, unless its members want something else: the metadata changes for many reasons.
const PATTERN_PAUSE: Duration = Duration::from_secs(1);
/// A partition in a record: its number and the epoch in which it was assigned.
const PARTITION_BYTES: usize = 8;

/// What a move of a group may use and brings forth.
pub(in super::super) struct Move<'a> {
    pub(in super::super) group: &'a GroupId,
    pub(in super::super) now: Now,
    pub(in super::super) config: &'a GroupConfig,
    pub(in super::super) settings: Settings,
    pub(in super::super) catalog: Catalog<'a>,
    pub(in super::super) ids: &'a mut MemberIds,
    /// For the log, in this order; applied already.
    pub(in super::super) records: Vec<GroupRecord>,
}

impl Layout for Catalog<'_> {
    fn count(&self, topic: TopicId) -> u32 {
        Catalog::count(self, topic)
    }

    fn racks(&self, topic: TopicId, partition: PartitionIndex) -> BTreeSet<&str> {
        Catalog::racks(self, topic, partition)
    }
}

/// What can be said about a heartbeat without looking at its group.
pub(in super::super) fn check_heartbeat(beat: &ConsumerHeartbeat, config: &GroupConfig) -> Result<(), GroupError> {
    let invalid = |why: &'static str| Err(GroupError::InvalidHeartbeat { why });
    let joins = beat.member_epoch == 0;
    if beat.member_epoch < AWAY_EPOCH {
        return invalid("MemberEpoch is invalid.");
    }
    if beat.member_id.is_none() && (!joins || beat.member_id_required) {
        return invalid("MemberId can't be empty.");
    }
    if beat.instance_id.as_ref().is_some_and(|id| id.as_str().is_empty()) {
        return invalid("InstanceId can't be empty.");
    }
    if beat.instance_id.is_none() && beat.member_epoch == AWAY_EPOCH {
        return invalid("InstanceId can't be null.");
    }
    if beat.rack.as_ref().is_some_and(String::is_empty) {
        return invalid("RackId can't be empty.");
    }
    if joins && beat.rebalance_timeout_ms.is_none() {
        return invalid("RebalanceTimeoutMs must be provided in first request.");
    }
    if joins && beat.owned.as_ref().is_none_or(|owned| !owned.is_empty()) {
        return invalid("TopicPartitions must be empty when (re-)joining.");
    }
    if joins && beat.topics.is_none() && beat.pattern.as_ref().is_none_or(String::is_empty) {
        return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
    }
    let names = beat.topics.iter().flatten().map(String::len);
    let ids = [beat.instance_id.as_ref().map_or(0, |id| id.as_str().len()), beat.rack.as_ref().map_or(0, String::len)];
    let member = beat.member_id.as_ref().map_or(0, |id| id.as_str().len());
    let longest = names.chain(ids).chain([member]).max().unwrap_or(0);
    if longest > NAME_BYTES_MAX {
        return Err(GroupError::NameTooLong { bytes: longest, limit: NAME_BYTES_MAX });
    }
    let count = beat.topics.as_ref().map_or(0, Vec::len);
    if count > TOPICS_MAX {
        return Err(GroupError::TooManySubscriptions { count, limit: TOPICS_MAX });
    }
    if let Some(assignor) = &beat.assignor
        && !config.consumer.assignors.iter().any(|known| known.name() == assignor)
    {
        let known = config.consumer.assignors.iter().map(|known| known.name()).collect::<Vec<_>>().join(", ");
        return Err(GroupError::UnsupportedAssignor { assignor: assignor.clone(), known });
    }
    if let Some(pattern) = beat.pattern.as_ref().filter(|pattern| !pattern.is_empty()) {
        compile(pattern)?;
    }
    Ok(())
}

impl Member {
    /// A sign of life of the member that it is, and no more.
    fn says_nothing_new(&self, beat: &ConsumerHeartbeat) -> bool {
        let info = &self.info;
        let silent = beat.topics.is_none() && beat.pattern.is_none() && beat.owned.is_none();
        let same = beat.member_epoch == self.current.epoch && info.classic.is_none();
        let same = same && info.client_id == beat.client_id && info.client_host == beat.client_host;
        let same = same && (beat.instance_id.is_none() || beat.instance_id == info.instance_id);
        let same = same && (beat.rack.is_none() || beat.rack == info.rack);
        let same = same && (beat.assignor.is_none() || beat.assignor == info.assignor);
        silent && same && beat.rebalance_timeout_ms.is_none_or(|ms| ms == info.rebalance_timeout_ms)
    }
}

impl Consumer {
    /// A heartbeat of somebody who joins or stays.
    pub(in super::super) fn on_heartbeat(
        &mut self,
        beat: &ConsumerHeartbeat,
        step: &mut Move<'_>,
    ) -> Result<ConsumerBeat, GroupError> {
        let id = match &beat.member_id {
            Some(id) => id.clone(),
            None => step.ids.next(&beat.client_id, beat.instance_id.as_ref()),
        };
        if let Some(member) = self.members.get_mut(&id).filter(|member| member.says_nothing_new(beat))
            && member.current.is_reconciled_to(self.epoch.epoch)
            && self.seen_version == Some(step.catalog.version)
        {
            member.session_deadline = step.now.mono + step.settings.session_timeout();
            let member_epoch = member.current.epoch;
            let heartbeat_interval_ms = step.settings.heartbeat_interval_ms(self.members.len(), false);
            return Ok(ConsumerBeat { member_id: Some(id), member_epoch, heartbeat_interval_ms, assignment: None });
        }
        self.check_room(&id, beat.instance_id.as_ref(), step)?;
        let info = self.told(&id, beat);
        let bytes = info.bytes() + RECORD_SLACK_BYTES;
        if bytes > step.config.record_bytes_max {
            return Err(GroupError::GroupTooLarge { bytes, limit: step.config.record_bytes_max });
        }
        self.take_in(&id, beat, step)?;
        let before = self.members.get(&id).map(|member| member.current.assigned.clone()).unwrap_or_default();
        let changed = self.put_member(&id, info, step);
        self.advance_epoch(changed, step);
        self.compute_target(step)?;
        self.reconcile(&id, beat.owned.as_ref(), changed, step);
        let members = self.members.len();
        let member = self.members.get_mut(&id).expect("it was taken in");
        member.session_deadline = step.now.mono + step.settings.session_timeout();
        let waits = member.current.state != MemberState::Stable;
        let is_full = beat.rebalance_timeout_ms.is_some()
            && (beat.topics.is_some() || beat.pattern.is_some())
            && beat.owned.is_some();
        let tells = beat.member_epoch == 0 || is_full || !each(&before).eq(each(&member.current.assigned));
        Ok(ConsumerBeat {
            member_id: Some(id),
            member_epoch: member.current.epoch,
            heartbeat_interval_ms: step.settings.heartbeat_interval_ms(members, waits),
            assignment: tells.then(|| plain(&member.current.assigned)),
        })
    }

    pub(super) fn check_room(
        &self,
        id: &MemberId,
        instance: Option<&InstanceId>,
        step: &Move<'_>,
    ) -> Result<(), GroupError> {
        let limit = step.config.consumer.members_max.min(MEMBERS_MAX);
        let known = self.members.contains_key(id) || instance.is_some_and(|one| self.instances.contains_key(one));
        if !known && self.members.len() >= limit { Err(GroupError::GroupFull { limit }) } else { Ok(()) }
    }

    /// What the member says of itself, on top of what it said before.
    fn told(&self, id: &MemberId, beat: &ConsumerHeartbeat) -> MemberInfo {
        let replaced = beat.instance_id.as_ref().and_then(|instance| self.instances.get(instance));
        let known = self.members.get(id).or_else(|| self.members.get(replaced?)).map(|member| &member.info);
        let mut info =
            known.cloned().unwrap_or_else(|| MemberInfo { rebalance_timeout_ms: -1, ..MemberInfo::default() });
        info.instance_id = beat.instance_id.clone().or(info.instance_id);
        info.rack = beat.rack.clone().or(info.rack);
        info.client_id = clipped(&beat.client_id, CLIENT_ID_BYTES_MAX).to_owned();
        info.client_host = clipped(&beat.client_host, CLIENT_ID_BYTES_MAX).to_owned();
        info.rebalance_timeout_ms = beat.rebalance_timeout_ms.unwrap_or(info.rebalance_timeout_ms);
        info.assignor = beat.assignor.clone().or(info.assignor);
        if let Some(topics) = &beat.topics {
            info.topics = topics.iter().cloned().collect();
        }
        if let Some(pattern) = &beat.pattern {
            info.pattern = Some(pattern.clone()).filter(|pattern| !pattern.is_empty());
        }
        info.classic = None;
        info
    }

    /// Afterwards the member is there, under this id, and its epoch was the right one.
    fn take_in(&mut self, id: &MemberId, beat: &ConsumerHeartbeat, step: &mut Move<'_>) -> Result<(), GroupError> {
        let joins = beat.member_epoch == 0;
        let Some(instance) = &beat.instance_id else {
            return match self.members.get(id) {
                Some(member) if member.info.classic.is_some() && joins => Ok(()),
                Some(member) => check_epoch(&member.current, beat),
                None if joins => Ok(()),
                None => Err(GroupError::UnknownMember { member: Some(id.clone()) }),
            };
        };
        match self.instances.get(instance).cloned() {
            None if joins => Ok(()),
            None => Err(GroupError::UnknownInstance { instance: instance.clone() }),
            Some(owner) if owner == *id => {
                let member = self.members.get(id).expect("instances are of members");
                check_epoch(&member.current, beat)
            }
            Some(owner) if joins => {
                let old = self.members.get(&owner).expect("instances are of members");
                if old.current.epoch != AWAY_EPOCH && !old.is_classic() {
                    return Err(GroupError::UnreleasedInstance { instance: instance.clone(), owner });
                }
                self.replace(&owner, id, step);
                Ok(())
            }
            Some(_) => Err(GroupError::FencedInstance { instance: instance.clone(), got: Some(id.clone()) }),
        }
    }

    /// A static member goes on under another id, with what it had.
    pub(super) fn replace(&mut self, old: &MemberId, new: &MemberId, step: &mut Move<'_>) {
        let member = self.members.get(old).expect("who is replaced is a member").clone();
        let target = self.targets.get(old).cloned().unwrap_or_default();
        super::state::gone(old).into_iter().for_each(|record| self.put(record, step));
        let current = Current { epoch: 0, previous_epoch: 0, ..member.current };
        self.put(ConsumerRecord::Member { member: new.clone(), value: Some(member.info) }, step);
        self.put(ConsumerRecord::Target { member: new.clone(), value: Some(target) }, step);
        self.put(ConsumerRecord::Current { member: new.clone(), value: Some(current) }, step);
    }

    /// True: it subscribes to something else than before.
    pub(super) fn put_member(&mut self, id: &MemberId, info: MemberInfo, step: &mut Move<'_>) -> bool {
        let known = self.members.get(id).map(|member| &member.info);
        if known == Some(&info) {
            return false;
        }
        let same = known.is_some_and(|known| known.topics == info.topics && known.pattern == info.pattern);
        self.put(ConsumerRecord::Member { member: id.clone(), value: Some(info) }, step);
        !same
    }

    /// The epoch grows with each change of who is there, of what they want, and of the topics that they want.
    pub(super) fn advance_epoch(&mut self, changed: bool, step: &mut Move<'_>) {
        if !changed && self.seen_version == Some(step.catalog.version) {
            return;
        }
        let soon = self.patterns.resolved_at() + PATTERN_PAUSE;
        if !changed && !self.resolved.is_empty() && step.now.mono < soon {
            return;
        }
        self.resolve_patterns(step);
        self.seen_version = Some(step.catalog.version);
        let metadata_hash = step.catalog.hash(self.subscribed().into_iter());
        if changed || metadata_hash != self.epoch.metadata_hash {
            let epoch = self.epoch.epoch.checked_add(1).unwrap_or(1);
            self.put(ConsumerRecord::Epoch(Some(GroupEpoch { epoch, metadata_hash })), step);
        }
    }

    fn resolve_patterns(&mut self, step: &mut Move<'_>) {
        let patterns = self.members.values().filter_map(|member| member.info.pattern.clone());
        let used: BTreeSet<String> = patterns.collect();
        let unused: Vec<String> = self.resolved.keys().filter(|pattern| !used.contains(*pattern)).cloned().collect();
        for pattern in unused {
            self.put(ConsumerRecord::Pattern { pattern, value: None }, step);
        }
        self.patterns.begin(step.now.mono, &used);
        for pattern in used {
            let topics = self.patterns.resolve(&pattern, &step.catalog);
            let known = self.resolved.get(&pattern);
            if known.is_none_or(|known| known.topics != topics) {
                let version = known.map_or(0, |known| known.version) + 1;
                let value = Some(Resolved { topics, version, timestamp_ms: step.now.wall_ms });
                self.put(ConsumerRecord::Pattern { pattern, value }, step);
            }
        }
    }

    /// Ids of the topics that a member wants and that exist.
    pub(super) fn wanted(&self, info: &MemberInfo, catalog: &Catalog<'_>) -> BTreeSet<TopicId> {
        let resolved = info.pattern.as_ref().and_then(|pattern| self.resolved.get(pattern));
        let names = info.topics.iter().chain(resolved.into_iter().flat_map(|resolved| &resolved.topics));
        names.filter_map(|name| catalog.id(name)).collect()
    }

    /// The assignor that most members ask for.
    pub(super) fn assignor(&self, config: &GroupConfig) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        let names = self.members.values().filter_map(|member| member.info.assignor.as_deref());
        for assignor in names.filter_map(Assignor::find) {
            *votes.entry(assignor).or_default() += 1;
        }
        let most = votes.into_iter().max_by_key(|(_, count)| *count).map(|(assignor, _)| assignor);
        most.or_else(|| config.consumer.assignors.first().copied()).unwrap_or(Assignor::Uniform)
    }

    /// A target for the present epoch, unless the last one is too young.
    pub(super) fn compute_target(&mut self, step: &mut Move<'_>) -> Result<(), GroupError> {
        let (epoch, last) = (self.epoch.epoch, self.target_epoch);
        let interval = step.settings.assignment_interval_ms(self.members.len());
        if epoch <= last.epoch || step.now.wall_ms.abs_diff(last.timestamp_ms) < interval.unsigned_abs() {
            return Ok(());
        }
        let mut subscribers = BTreeMap::new();
        for (id, member) in &self.members {
            let topics = self.wanted(&member.info, &step.catalog);
            let (rack, instance_id) = (member.info.rack.as_deref(), member.info.instance_id.as_ref());
            subscribers.insert(id.clone(), Subscriber { topics, rack, instance_id, target: self.targets.get(id) });
        }
        let targets = assign(self.assignor(step.config), &subscribers, &step.catalog);
        let largest = targets.values().map(|target| target.values().map(|all| 24 + all.len() * PARTITION_BYTES).sum());
        let (bytes, limit) = (largest.max().unwrap_or(0), step.config.record_bytes_max / 2);
        if bytes > limit {
            return Err(GroupError::GroupTooLarge { bytes, limit });
        }
        for (member, target) in targets {
            if self.targets.get(&member) != Some(&target) {
                self.put(ConsumerRecord::Target { member, value: Some(target) }, step);
            }
        }
        let timestamp_ms = step.now.wall_ms;
        self.put(ConsumerRecord::TargetEpoch(Some(TargetEpoch { epoch, timestamp_ms })), step);
        Ok(())
    }

    /// The member's next step, if there is one.
    pub(super) fn reconcile(
        &mut self,
        id: &MemberId,
        reported: Option<&Partitions>,
        drops_unsubscribed: bool,
        step: &mut Move<'_>,
    ) {
        let member = self.members.get(id).expect("only members are reconciled");
        if member.current.is_reconciled_to(self.target_epoch.epoch) && !drops_unsubscribed {
            return;
        }
        let none = Partitions::new();
        let next = Reconciliation {
            current: &member.current,
            subscribed: &self.wanted(&member.info, &step.catalog),
            target_epoch: self.target_epoch.epoch,
            target: self.targets.get(id).unwrap_or(&none),
            reported,
            is_free: |topic, partition| self.owner(topic, partition).is_none_or(|owner| owner == id),
            drops_unsubscribed,
        }
        .next();
        if next == member.current {
            return;
        }
        let (unrevoked, epoch) = (next.state == MemberState::Unrevoked, next.epoch);
        let wait = milliseconds(member.info.rebalance_timeout_ms);
        let speaks_classic = member.is_classic();
        self.put(ConsumerRecord::Current { member: id.clone(), value: Some(next) }, step);
        let member = self.members.get_mut(id).expect("it is still there");
        member.rebalance_deadline = (unrevoked && !speaks_classic).then(|| (epoch, step.now.mono + wait));
    }

    pub(super) fn put(&mut self, record: ConsumerRecord, step: &mut Move<'_>) {
        self.apply(&record);
        step.records.push(GroupRecord::Consumer { group: step.group.clone(), record });
    }
}

/// The epoch is the member's; or the one before, if the answer with the newer one may have been lost.
fn check_epoch(current: &Current, beat: &ConsumerHeartbeat) -> Result<(), GroupError> {
    let (known, got) = (current.epoch, beat.member_epoch);
    let has_only = |owned: &Owned| {
        beat.owned.as_ref().is_some_and(|reported| {
            reported.iter().all(|(topic, partitions)| {
                let ours = owned.get(topic);
                partitions.iter().all(|partition| ours.is_some_and(|ours| ours.contains_key(partition)))
            })
        })
    };
    // Who begins anew has nothing: it may, whatever it was before.
    let may = got == known || got == 0 || got == current.previous_epoch && got < known && has_only(&current.assigned);
    if may && known != GONE_EPOCH { Ok(()) } else { Err(GroupError::FencedMemberEpoch { known, got }) }
}

//! A group of the consumer protocol (KIP-848) as its log has it, and what follows from that.
//!
//! Owns the shapes, `apply`, and the questions that need nothing else. Does not own decisions (`heartbeat`, `assign`,
//! `reconcile`) nor the bytes of records (`record`).
//! Invariants: replicated fields change in `apply` only; a partition has at most one owner, who has it assigned or
//! still has to give it up. Deadlines are not replicated: a new coordinator begins them anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{GroupId, PartitionIndex, TopicId};

use super::super::config::RECORD_SLACK_BYTES;
use super::super::record::GroupRecord;
use super::super::types::{InstanceId, MemberId, Protocol};
use super::patterns::Patterns;

/// Partitions without saying whose.
pub type Partitions = BTreeMap<TopicId, BTreeSet<PartitionIndex>>;
/// Partitions of a member, each with the member epoch in which it was assigned (KIP-1251).
pub type Owned = BTreeMap<TopicId, BTreeMap<PartitionIndex, i32>>;

/// The epoch that a static member shows while it is away for a restart.
pub const AWAY_EPOCH: i32 = -2;
/// The epoch of a member that is gone.
pub const GONE_EPOCH: i32 = -1;

/// A change of the replicated state of one group of the consumer protocol. `None` is a tombstone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConsumerRecord {
    Epoch(Option<GroupEpoch>),
    Member { member: MemberId, value: Option<MemberInfo> },
    TargetEpoch(Option<TargetEpoch>),
    Target { member: MemberId, value: Option<Partitions> },
    Current { member: MemberId, value: Option<Current> },
    Pattern { pattern: String, value: Option<Resolved> },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupEpoch {
    pub epoch: i32,
    /// Of the topics that are subscribed to, their partitions and racks. 0: not known.
    pub metadata_hash: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TargetEpoch {
    pub epoch: i32,
    /// When it was computed, in milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}

/// What a member says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemberInfo {
    pub instance_id: Option<InstanceId>,
    pub rack: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub topics: BTreeSet<String>,
    pub pattern: Option<String>,
    pub rebalance_timeout_ms: i32,
    pub assignor: Option<String>,
    /// Set while the member speaks the classic protocol.
    pub classic: Option<ClassicInfo>,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClassicInfo {
    pub session_timeout_ms: i32,
    /// In the order of the member's preference.
    pub protocols: Vec<Protocol>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MemberState {
    #[default]
    Stable,
    /// Has to give up partitions before it goes on to the next epoch.
    Unrevoked,
    /// Waits for partitions that others have not given up yet.
    Unreleased,
    /// Written by a newer version.
    Unknown,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Current {
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: Owned,
    pub revoking: Owned,
}

impl Default for Current {
    fn default() -> Current {
        let (assigned, revoking) = (Owned::new(), Owned::new());
        Current { epoch: 0, previous_epoch: -1, state: MemberState::Stable, assigned, revoking }
    }
}

impl Current {
    pub(super) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }
}

/// The topics that a pattern stands for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resolved {
    pub topics: BTreeSet<String>,
    /// Of the metadata that it was resolved with; grows.
    pub version: i64,
    pub timestamp_ms: i64,
}

#[derive(Clone, Debug, Default)]
pub(in super::super) struct Member {
    pub(super) info: MemberInfo,
    pub(super) current: Current,
    pub(super) session_deadline: Duration,
    /// By when it must have left the epoch, which is the first.
    pub(super) rebalance_deadline: Option<(i32, Duration)>,
    /// A classic member that was told to join again, and one that has joined and must fetch its assignment.
    pub(super) join_deadline: Option<Duration>,
    pub(super) sync_deadline: Option<Duration>,
}

impl Member {
    pub(super) fn is_classic(&self) -> bool {
        self.info.classic.is_some()
    }

    pub(super) fn next_deadline(&self) -> Duration {
        let rebalance = self.rebalance_deadline.map(|(_, at)| at);
        let others = [rebalance, self.join_deadline, self.sync_deadline].into_iter().flatten();
        others.fold(self.session_deadline, Duration::min)
    }

    /// What it costs in memory, about.
    fn bytes(&self) -> usize {
        let owned = |owned: &Owned| owned.values().map(|partitions| 24 + 24 * partitions.len()).sum::<usize>();
        MEMBER_BYTES + self.info.bytes() + owned(&self.current.assigned) + owned(&self.current.revoking)
    }
}

/// A member without its names and partitions, about.
const MEMBER_BYTES: usize = 512;

impl MemberInfo {
    /// Of its record, an upper bound.
    pub(super) fn bytes(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let instance = self.instance_id.as_ref().map_or(0, |id| id.as_str().len());
        let topics: usize = self.topics.iter().map(|topic| topic.len() + 8).sum();
        let protocols = self.classic.iter().flat_map(|classic| &classic.protocols);
        let protocols: usize = protocols.map(|one| one.name.len() + one.metadata.len() + 16).sum();
        let names = self.client_id.len() + self.client_host.len() + instance;
        names + length(&self.rack) + length(&self.pattern) + length(&self.assignor) + topics + protocols
    }
}

fn partitions_bytes(partitions: &Partitions) -> usize {
    partitions.values().map(|indices| 24 + 12 * indices.len()).sum::<usize>() + RECORD_SLACK_BYTES
}

#[derive(Clone, Debug, Default)]
pub(in super::super) struct Consumer {
    pub(super) epoch: GroupEpoch,
    pub(super) target_epoch: TargetEpoch,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) targets: BTreeMap<MemberId, Partitions>,
    pub(super) resolved: BTreeMap<String, Resolved>,
    pub(super) instances: BTreeMap<InstanceId, MemberId>,
    owners: BTreeMap<TopicId, BTreeMap<PartitionIndex, MemberId>>,
    bytes: usize,
    /// Version of the metadata that the group was last compared with.
    pub(super) seen_version: Option<u64>,
    pub(super) patterns: Patterns,
}

impl Consumer {
    pub(in super::super) fn apply(&mut self, record: &ConsumerRecord) {
        match record {
            ConsumerRecord::Epoch(value) => self.epoch = value.unwrap_or_default(),
            ConsumerRecord::TargetEpoch(value) => self.target_epoch = value.unwrap_or_default(),
            ConsumerRecord::Member { member, value: Some(info) } => self.put_info(member, info),
            ConsumerRecord::Member { member, value: None } => self.remove(member),
            ConsumerRecord::Target { member, value } => self.put_target(member, value.as_ref()),
            ConsumerRecord::Current { member, value } => {
                // A tombstone comes before the member's own: until that it is a member that is gone.
                let gone = || Current { epoch: GONE_EPOCH, ..Current::default() };
                let known = value.is_some() || self.members.contains_key(member);
                if known {
                    self.put_current(member, value.clone().unwrap_or_else(gone));
                }
            }
            ConsumerRecord::Pattern { pattern, value: Some(resolved) } => {
                self.resolved.insert(pattern.clone(), resolved.clone());
            }
            ConsumerRecord::Pattern { pattern, value: None } => {
                self.resolved.remove(pattern);
            }
        }
    }

    fn put_info(&mut self, id: &MemberId, info: &MemberInfo) {
        let old_instance = self.change(id, |member| std::mem::replace(&mut member.info, info.clone()).instance_id);
        if let Some(old) = old_instance.filter(|old| info.instance_id.as_ref() != Some(old)) {
            self.forget_instance(&old, id);
        }
        if let Some(instance) = &info.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
    }

    fn put_current(&mut self, id: &MemberId, current: Current) {
        let old = self.change(id, |member| std::mem::replace(&mut member.current, current.clone()));
        self.disown(id, &old);
        for (topic, partition) in each(&current.assigned).chain(each(&current.revoking)) {
            self.owners.entry(topic).or_default().insert(partition, id.clone());
        }
    }

    /// Changes a member, which is made where the log names it first.
    fn change<R>(&mut self, id: &MemberId, act: impl FnOnce(&mut Member) -> R) -> R {
        let before = self.members.get(id).map_or(0, Member::bytes);
        let member = self.members.entry(id.clone()).or_default();
        let result = act(member);
        self.bytes = self.bytes + member.bytes() - before;
        result
    }

    fn put_target(&mut self, id: &MemberId, value: Option<&Partitions>) {
        let before = match value {
            Some(target) => {
                self.bytes += partitions_bytes(target);
                self.targets.insert(id.clone(), target.clone())
            }
            None => self.targets.remove(id),
        };
        self.bytes -= before.map_or(0, |before| partitions_bytes(&before));
    }

    fn remove(&mut self, id: &MemberId) {
        let Some(member) = self.members.remove(id) else { return };
        self.bytes -= member.bytes();
        self.disown(id, &member.current);
        if let Some(instance) = &member.info.instance_id {
            self.forget_instance(instance, id);
        }
    }

    fn forget_instance(&mut self, instance: &InstanceId, id: &MemberId) {
        if self.instances.get(instance) == Some(id) {
            self.instances.remove(instance);
        }
    }

    fn disown(&mut self, id: &MemberId, current: &Current) {
        for (topic, partition) in each(&current.assigned).chain(each(&current.revoking)) {
            let Some(owners) = self.owners.get_mut(&topic) else { continue };
            if owners.get(&partition) == Some(id) {
                owners.remove(&partition);
            }
            if owners.is_empty() {
                self.owners.remove(&topic);
            }
        }
    }

    pub(super) fn owner(&self, topic: TopicId, partition: PartitionIndex) -> Option<&MemberId> {
        self.owners.get(&topic)?.get(&partition)
    }

    pub(in super::super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(in super::super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Nothing of it was ever written, or all of it is gone again.
    pub(in super::super) fn is_vacant(&self) -> bool {
        let nothing = self.members.is_empty() && self.targets.is_empty() && self.resolved.is_empty();
        nothing && self.epoch == GroupEpoch::default() && self.target_epoch == TargetEpoch::default()
    }

    /// The members of a log that was read begin their sessions.
    pub(in super::super) fn begin(&mut self, now: Duration, session: Duration) {
        for member in self.members.values_mut() {
            let own = member.info.classic.as_ref();
            let session = own.map_or(session, |classic| super::super::member::milliseconds(classic.session_timeout_ms));
            member.session_deadline = now + session;
            if member.current.state == MemberState::Unrevoked {
                let wait = super::super::member::milliseconds(member.info.rebalance_timeout_ms);
                member.rebalance_deadline = Some((member.current.epoch, now + wait));
            }
        }
    }

    pub(in super::super) fn next_deadline(&self) -> Option<Duration> {
        self.members.values().map(Member::next_deadline).min()
    }

    /// Kafka's name for where the group stands.
    pub(in super::super) fn state(&self) -> &'static str {
        let target = self.target_epoch.epoch;
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch.epoch > target {
            "Assigning"
        } else if self.members.values().all(|member| member.current.is_reconciled_to(target)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// Topics that some member subscribes to, by name or pattern.
    pub(in super::super) fn subscribed(&self) -> BTreeSet<&str> {
        let named = self.members.values().flat_map(|member| &member.info.topics);
        let patterns = self.members.values().filter_map(|member| member.info.pattern.as_ref());
        let resolved = patterns.collect::<BTreeSet<_>>().into_iter().filter_map(|pattern| self.resolved.get(pattern));
        named.map(String::as_str).chain(resolved.flat_map(|one| one.topics.iter().map(String::as_str))).collect()
    }

    /// The records that would bring an empty group to this state.
    pub(in super::super) fn snapshot(&self, group: &GroupId) -> Vec<GroupRecord> {
        let mut all = Vec::new();
        for (id, member) in &self.members {
            all.push(ConsumerRecord::Member { member: id.clone(), value: Some(member.info.clone()) });
        }
        for (pattern, resolved) in &self.resolved {
            all.push(ConsumerRecord::Pattern { pattern: pattern.clone(), value: Some(resolved.clone()) });
        }
        all.push(ConsumerRecord::Epoch(Some(self.epoch)));
        for (id, target) in &self.targets {
            all.push(ConsumerRecord::Target { member: id.clone(), value: Some(target.clone()) });
        }
        all.push(ConsumerRecord::TargetEpoch(Some(self.target_epoch)));
        for (id, member) in &self.members {
            all.push(ConsumerRecord::Current { member: id.clone(), value: Some(member.current.clone()) });
        }
        all.into_iter().map(|record| GroupRecord::Consumer { group: group.clone(), record }).collect()
    }

    /// The records after which nothing of the group is left.
    pub(in super::super) fn tombstones(&self, group: &GroupId) -> Vec<GroupRecord> {
        // The log is not believed blindly: it may know a target of somebody who never was a member.
        let ids: BTreeSet<&MemberId> = self.members.keys().chain(self.targets.keys()).collect();
        let mut all: Vec<ConsumerRecord> = ids.into_iter().flat_map(gone).collect();
        let patterns = self.resolved.keys();
        all.extend(patterns.map(|pattern| ConsumerRecord::Pattern { pattern: pattern.clone(), value: None }));
        all.extend([ConsumerRecord::TargetEpoch(None), ConsumerRecord::Epoch(None)]);
        all.into_iter().map(|record| GroupRecord::Consumer { group: group.clone(), record }).collect()
    }

    pub(in super::super) fn check_invariants(&self) {
        // A request of a static member would reach nobody.
        assert!(self.instances.values().all(|id| self.members.contains_key(id)));
        // An assignment of an epoch that the group has not reached could never be followed by the next one.
        assert!(self.target_epoch.epoch <= self.epoch.epoch);
    }
}

/// The records after which a member is gone, in Kafka's order.
pub(super) fn gone(member: &MemberId) -> [ConsumerRecord; 3] {
    [
        ConsumerRecord::Current { member: member.clone(), value: None },
        ConsumerRecord::Target { member: member.clone(), value: None },
        ConsumerRecord::Member { member: member.clone(), value: None },
    ]
}

pub(super) fn each(owned: &Owned) -> impl Iterator<Item = (TopicId, PartitionIndex)> {
    owned.iter().flat_map(|(topic, partitions)| partitions.keys().map(move |partition| (*topic, *partition)))
}

/// Without the epochs.
pub(super) fn plain(owned: &Owned) -> Partitions {
    owned.iter().map(|(topic, partitions)| (*topic, partitions.keys().copied().collect())).collect()
}

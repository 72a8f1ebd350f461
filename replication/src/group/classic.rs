//! A group of the classic protocol: its members, its generation and where it stands in a rebalance.
//!
//! Owns the questions about such a group and the changes that keep it consistent. The moves of the protocol are in
//! `join`, `sync` and `leave`. All of this is lost with the leadership, as in Kafka: the log keeps generations
//! (`GroupMetadata`), not joins in flight.
//! Invariant: the leader is a member; static members map to members; a member that is pending is not yet a member.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::Now;

use super::config::{GroupConfig, RECORD_SLACK_BYTES};
use super::error::GroupError;
use super::member::{Member, MemberIds, Token, protocols_bytes};
use super::record::GroupMetadata;
use super::types::{GroupAnswer, GroupState, InstanceId, Joined, MemberId, Protocol};

/// An answer of the state machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    pub token: Token,
    pub answer: GroupAnswer,
}

/// What one move of a group may use and brings forth.
pub(super) struct Step<'a> {
    pub(super) now: Now,
    pub(super) config: &'a GroupConfig,
    pub(super) ids: &'a mut MemberIds,
    pub(super) replies: &'a mut Vec<Reply>,
    /// Generations to write to the log, oldest first.
    pub(super) generations: Vec<GroupMetadata>,
}

impl Step<'_> {
    pub(super) fn reply(&mut self, token: Token, answer: GroupAnswer) {
        self.replies.push(Reply { token, answer });
    }
}

/// When a rebalance stops waiting for joins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum JoinTimer {
    /// The first generation after being empty: waits on while new members come, `left` at most.
    Initial {
        at: Duration,
        delay: Duration,
        left: Duration,
    },
    Normal {
        at: Duration,
    },
}

impl JoinTimer {
    pub(super) fn at(self) -> Duration {
        match self {
            JoinTimer::Initial { at, .. } | JoinTimer::Normal { at } => at,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Classic {
    pub(super) state: GroupState,
    pub(super) was_empty: bool,
    pub(super) state_timestamp_ms: Option<i64>,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<MemberId>,
    pub(super) members: BTreeMap<MemberId, Member>,
    pub(super) instances: BTreeMap<InstanceId, MemberId>,
    /// Told their id, not yet joined with it (KIP-394), and when each is forgotten.
    pub(super) pending: BTreeMap<MemberId, Duration>,
    pub(super) pending_sync: BTreeSet<MemberId>,
    pub(super) join_timer: Option<JoinTimer>,
    pub(super) sync_timer: Option<Duration>,
    pub(super) new_member_added: bool,
    /// How many members offer each protocol.
    protocol_counts: BTreeMap<String, usize>,
    /// Sum of `Member::bytes`, and of what pending members cost.
    bytes: usize,
}

impl Default for Classic {
    fn default() -> Classic {
        Classic {
            state: GroupState::Empty,
            was_empty: true,
            state_timestamp_ms: None,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            join_timer: None,
            sync_timer: None,
            new_member_added: false,
            protocol_counts: BTreeMap::new(),
            bytes: 0,
        }
    }
}

impl Classic {
    /// The group as a new coordinator finds it in the log: its members get a whole session to be heard of.
    pub(super) fn loaded(metadata: &GroupMetadata, now: Duration) -> Classic {
        let mut group = Classic {
            state: if metadata.members.is_empty() { GroupState::Empty } else { GroupState::Stable },
            was_empty: metadata.members.is_empty(),
            state_timestamp_ms: metadata.state_timestamp_ms,
            generation: metadata.generation,
            protocol_type: Some(metadata.protocol_type.clone()).filter(|name| !name.is_empty()),
            protocol: metadata.protocol.clone(),
            ..Classic::default()
        };
        let protocol = metadata.protocol.as_deref().unwrap_or_default();
        for member in &metadata.members {
            // Twice the same name would be damage; the log is not believed blindly.
            group.remove(&member.member_id);
            group.insert(member.member_id.clone(), Member::loaded(member, protocol, now));
        }
        let leader = metadata.leader.clone().filter(|leader| group.members.contains_key(leader));
        group.leader = leader.or_else(|| group.members.keys().next().cloned());
        group
    }

    pub(super) fn to_record(&self) -> GroupMetadata {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp_ms: self.state_timestamp_ms,
            members: self.members.iter().map(|(id, member)| member.to_record(id, protocol)).collect(),
        }
    }

    /// Bytes of `to_record` in the log, an upper bound.
    pub(super) fn record_bytes(&self) -> usize {
        let ids: usize = self.members.keys().map(|id| id.as_str().len() + RECORD_SLACK_BYTES).sum();
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let of =
            |member: &Member| member.bytes() - protocols_bytes(&member.protocols) + member.metadata(protocol).len();
        ids + self.members.values().map(of).sum::<usize>() + 4 * RECORD_SLACK_BYTES + 2 * protocol.len()
    }

    pub(super) fn is(&self, state: GroupState) -> bool {
        self.state == state
    }

    /// Nobody is in it or about to be.
    pub(super) fn is_idle(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty() && self.is(GroupState::Empty)
    }

    pub(super) fn transition(&mut self, now: Now, to: GroupState) {
        let allowed = match to {
            GroupState::Empty | GroupState::CompletingRebalance => self.is(GroupState::PreparingRebalance),
            GroupState::PreparingRebalance => self.can_rebalance(),
            GroupState::Stable => self.is(GroupState::CompletingRebalance),
            GroupState::Dead => true,
        };
        assert!(allowed, "a group does not go from {:?} to {to:?}", self.state);
        self.was_empty = self.is(GroupState::Empty);
        self.state = to;
        self.state_timestamp_ms = Some(now.wall_ms);
    }

    pub(super) fn can_rebalance(&self) -> bool {
        matches!(self.state, GroupState::Stable | GroupState::CompletingRebalance | GroupState::Empty)
    }

    pub(super) fn is_leader(&self, id: &MemberId) -> bool {
        self.leader.as_ref() == Some(id)
    }

    pub(super) fn waiting_joins(&self) -> usize {
        self.members.values().filter(|member| member.join.is_some()).count()
    }

    pub(super) fn all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|member| member.join.is_some())
    }

    /// The longest of the members' timeouts.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        let longest = self.members.values().map(|member| member.rebalance_timeout_ms).max();
        super::member::milliseconds(longest.unwrap_or(0))
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn insert_pending(&mut self, id: MemberId, deadline: Duration) {
        self.bytes += pending_bytes(&id);
        let before = self.pending.insert(id, deadline);
        assert!(before.is_none(), "ids are given out once");
    }

    fn remove_pending(&mut self, id: &MemberId) {
        if self.pending.remove(id).is_some() {
            self.bytes -= pending_bytes(id);
        }
    }

    pub(super) fn insert(&mut self, id: MemberId, member: Member) {
        assert!(!self.members.contains_key(&id));
        if let Some(instance) = &member.instance_id {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        self.remove_pending(&id);
        self.count(&member.protocols, 1);
        self.bytes += member.bytes();
        self.members.insert(id, member);
    }

    pub(super) fn remove(&mut self, id: &MemberId) -> Option<Member> {
        self.remove_pending(id);
        self.pending_sync.remove(id);
        let member = self.members.remove(id)?;
        self.count(&member.protocols, -1);
        self.bytes -= member.bytes();
        if let Some(instance) = &member.instance_id
            && self.instances.get(instance) == Some(id)
        {
            self.instances.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    pub(super) fn set_assignment(&mut self, id: &MemberId, assignment: bytes::Bytes) {
        if let Some(member) = self.members.get_mut(id) {
            self.bytes = self.bytes + assignment.len() - member.assignment.len();
            member.assignment = assignment;
        }
    }

    pub(super) fn set_protocols(&mut self, id: &MemberId, protocols: Vec<Protocol>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let old = std::mem::replace(&mut member.protocols, protocols.clone());
        self.bytes = self.bytes + protocols_bytes(&protocols) - protocols_bytes(&old);
        self.count(&old, -1);
        self.count(&protocols, 1);
    }

    fn count(&mut self, protocols: &[Protocol], change: isize) {
        for protocol in protocols {
            let count = self.protocol_counts.entry(protocol.name.clone()).or_default();
            *count = count.checked_add_signed(change).expect("a protocol is counted once for each member");
            if *count == 0 {
                self.protocol_counts.remove(&protocol.name);
            }
        }
    }

    fn all_offer(&self, name: &str) -> bool {
        self.protocol_counts.get(name).copied().unwrap_or(0) == self.members.len()
    }

    /// Whether a member with these could take part beside those that are there.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.is(GroupState::Empty) {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let same_type = self.protocol_type.as_deref() == Some(protocol_type);
        same_type && protocols.iter().any(|protocol| self.all_offer(&protocol.name))
    }

    /// The protocol with the most votes among those that all members offer; the first by name where votes are equal.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            *votes.entry(member.vote(|name| self.all_offer(name))?).or_default() += 1;
        }
        let most = votes.values().max().copied()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
    }

    /// A request of a member that names itself: known, and not replaced by another with its instance id.
    pub(super) fn check_member(
        &self,
        member: Option<&MemberId>,
        instance: Option<&InstanceId>,
    ) -> Result<MemberId, GroupError> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(GroupError::UnknownInstance { instance: instance.clone() }),
                Some(current) if Some(current) != member => {
                    return Err(GroupError::FencedInstance { instance: instance.clone(), got: member.cloned() });
                }
                Some(_) => {}
            }
        }
        match member {
            Some(id) if self.members.contains_key(id) => Ok(id.clone()),
            _ => Err(GroupError::UnknownMember { member: member.cloned() }),
        }
    }

    /// The answer to a join, for the generation that the group is in.
    pub(super) fn joined(&self, id: &MemberId) -> Joined {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = match self.is_leader(id) {
            true => self.members.iter().map(|(id, member)| member.joined(id, protocol)).collect(),
            false => Vec::new(),
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            skip_assignment: false,
            member_id: id.clone(),
            members,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let members = self.members.values().filter_map(Member::expires_at).min();
        let pending = self.pending.values().min().copied();
        let timers = [members, pending, self.join_timer.map(JoinTimer::at), self.sync_timer];
        timers.into_iter().flatten().min()
    }

    pub(super) fn check_invariants(&self) {
        // A leader that is no member would never send the assignment that everybody waits for.
        assert!(self.leader.as_ref().is_none_or(|leader| self.members.contains_key(leader)));
        assert!(self.leader.is_some() || self.members.is_empty());
        assert!(self.instances.values().all(|id| self.members.contains_key(id)));
        assert!(self.pending.keys().all(|id| !self.members.contains_key(id)));
        assert!(self.pending_sync.iter().all(|id| self.members.contains_key(id)));
        // In these states each member was promised a generation.
        let settled = matches!(self.state, GroupState::Stable | GroupState::CompletingRebalance);
        assert!(!settled || !self.members.is_empty());
        assert!(!self.is(GroupState::Empty) || self.members.is_empty());
        // Else nothing would ever end the rebalance.
        assert!(!self.is(GroupState::PreparingRebalance) || self.join_timer.is_some());
    }
}

fn pending_bytes(id: &MemberId) -> usize {
    id.as_str().len() + RECORD_SLACK_BYTES
}

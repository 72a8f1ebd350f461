//! How members of a consumer group leave: by their own word, or by silence; and what others may do with its offsets.
//!
//! Owns who is given up when, and whose commits and reads are taken. Does not own what a group becomes when the last
//! member of the consumer protocol is gone (`migrate`).

use std::time::Duration;

use model::{Now, PartitionIndex, TopicId};

use super::super::error::GroupError;
use super::super::types::{CommitOffsets, FetchOffsets, InstanceId, MemberId};
use super::heartbeat::Move;
use super::state::{AWAY_EPOCH, Consumer, ConsumerRecord, Current, Member, Owned, gone};
use super::types::ConsumerHeartbeat;

/// The first version of OffsetCommit that knows member epochs.
const COMMIT_VERSION_MIN: i16 = 9;

impl Consumer {
    /// Who a leaving heartbeat means.
    pub(in super::super) fn leaving(&self, beat: &ConsumerHeartbeat) -> Result<MemberId, GroupError> {
        self.known(beat.member_id.as_ref(), beat.instance_id.as_ref())
    }

    /// A member that is there, and not replaced by another with its instance id.
    pub(super) fn known(&self, id: Option<&MemberId>, instance: Option<&InstanceId>) -> Result<MemberId, GroupError> {
        let Some(instance) = instance else {
            let found = id.filter(|id| self.members.contains_key(*id)).cloned();
            return found.ok_or_else(|| GroupError::UnknownMember { member: id.cloned() });
        };
        match self.instances.get(instance) {
            None => Err(GroupError::UnknownInstance { instance: instance.clone() }),
            Some(owner) if Some(owner) == id => Ok(owner.clone()),
            Some(_) => Err(GroupError::FencedInstance { instance: instance.clone(), got: id.cloned() }),
        }
    }

    /// A static member stops and will be back: nobody is given its partitions before its session ends.
    pub(in super::super) fn go_away(&mut self, id: &MemberId, step: &mut Move<'_>) {
        let member = self.members.get_mut(id).expect("it was looked up");
        member.rebalance_deadline = None;
        let current = Current { epoch: AWAY_EPOCH, revoking: Owned::new(), ..member.current.clone() };
        self.put(ConsumerRecord::Current { member: id.clone(), value: Some(current) }, step);
    }

    /// These are out, at once; the others learn of it by their heartbeats.
    pub(in super::super) fn remove_members(&mut self, ids: &[MemberId], step: &mut Move<'_>) {
        for record in ids.iter().flat_map(gone) {
            self.put(record, step);
        }
        if !ids.is_empty() {
            self.advance_epoch(true, step);
        }
    }

    /// Who was silent for too long, or has not done in time what it was asked to.
    pub(in super::super) fn overdue(&self, now: Duration) -> Vec<MemberId> {
        let late = |member: &Member| {
            let stuck = member.rebalance_deadline.is_some_and(|(epoch, at)| at <= now && epoch == member.current.epoch);
            let timers = [member.join_deadline, member.sync_deadline].into_iter().flatten();
            member.session_deadline <= now || stuck || timers.min().is_some_and(|at| at <= now)
        };
        self.members.iter().filter(|(_, member)| late(member)).map(|(id, _)| id.clone()).collect()
    }

    /// What no member can be late for any more must not wake anybody again.
    pub(in super::super) fn forget_deadlines(&mut self, now: Duration) {
        for member in self.members.values_mut() {
            member.rebalance_deadline = member.rebalance_deadline.filter(|(_, at)| *at > now);
        }
    }

    /// Whether this commit may be taken. `named` tells a topic's id.
    pub(in super::super) fn check_commit(
        &self,
        commit: &CommitOffsets,
        named: impl Fn(&str) -> Option<TopicId>,
    ) -> Result<(), GroupError> {
        let Some(got) = commit.generation else {
            // The tools, and consumers that take no part in the group.
            return match self.members.is_empty() {
                true => Ok(()),
                false => Err(self.stale(commit.member_id.as_ref(), -1)),
            };
        };
        let id = self.known(commit.member_id.as_ref(), None)?;
        let member = self.members.get(&id).expect("it was looked up");
        if !member.is_classic() && commit.version < COMMIT_VERSION_MIN {
            return Err(GroupError::OldCommit { version: commit.version, min: COMMIT_VERSION_MIN });
        }
        if got == member.current.epoch {
            return Ok(());
        }
        if member.is_classic() {
            return Err(GroupError::IllegalGeneration { current: member.current.epoch, got });
        }
        // The answer with the newer epoch is under way: what the member has had since is still its own (KIP-1251).
        let current = &member.current;
        let has = |topic: TopicId, partition: PartitionIndex| {
            let since = [&current.assigned, &current.revoking].map(|owned| owned.get(&topic)?.get(&partition).copied());
            since.into_iter().flatten().any(|since| since <= got)
        };
        let mine = |topic: &str, partition| named(topic).is_some_and(|topic| has(topic, partition));
        let all = commit.offsets.iter().all(|offset| mine(offset.topic.as_str(), offset.partition));
        if got < current.epoch && all { Ok(()) } else { Err(GroupError::StaleEpoch { known: current.epoch, got }) }
    }

    pub(in super::super) fn check_fetch(&self, fetch: &FetchOffsets) -> Result<(), GroupError> {
        if fetch.member_id.is_none() && fetch.member_epoch < 0 {
            return Ok(());
        }
        let id = self.known(fetch.member_id.as_ref(), None)?;
        let member = self.members.get(&id).expect("it was looked up");
        if fetch.member_epoch == member.current.epoch {
            return Ok(());
        }
        Err(self.stale(Some(&id), fetch.member_epoch))
    }

    fn stale(&self, id: Option<&MemberId>, got: i32) -> GroupError {
        match id.and_then(|id| self.members.get(id)) {
            None => GroupError::UnknownMember { member: id.cloned() },
            Some(member) if member.is_classic() => GroupError::IllegalGeneration { current: member.current.epoch, got },
            Some(member) => GroupError::StaleEpoch { known: member.current.epoch, got },
        }
    }

    /// A commit of a classic member counts as a sign of life.
    pub(in super::super) fn heard_commit(&mut self, commit: &CommitOffsets, now: Now) {
        let id = commit.member_id.as_ref().filter(|_| commit.generation.is_some());
        if let Some(member) = id.and_then(|id| self.members.get_mut(id)) {
            member.heard_classic(now.mono);
        }
    }
}

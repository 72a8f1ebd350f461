//! SyncGroup and Heartbeat: members learn their assignment and show that they live.
//!
//! Owns how the leader's assignment becomes a generation in the log, and what a heartbeat is answered.
//! Invariant: a sync is answered at once, with the leader's, or when a new rebalance begins.

use std::collections::BTreeMap;

use super::classic::{Classic, Step};
use super::error::GroupError;
use super::member::Token;
use super::types::{GroupAnswer, GroupState, Heartbeat, MemberId, Sync, Synced};

impl Classic {
    pub(super) fn on_sync(&mut self, sync: &Sync, token: Token, step: &mut Step<'_>) {
        match self.try_sync(sync, token, step) {
            Ok(None) => {}
            Ok(Some(synced)) => step.reply(token, GroupAnswer::Sync(Ok(synced))),
            Err(error) => step.reply(token, GroupAnswer::Sync(Err(error))),
        }
    }

    fn try_sync(&mut self, sync: &Sync, token: Token, step: &mut Step<'_>) -> Result<Option<Synced>, GroupError> {
        let id = self.check_member(sync.member_id.as_ref(), sync.instance_id.as_ref())?;
        self.check_generation(sync.generation)?;
        self.check_protocol(sync)?;
        match self.state {
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            GroupState::CompletingRebalance => {
                self.received_sync(&id);
                let member = self.members.get_mut(&id).expect("check_member found it");
                if let Some(older) = member.sync.replace(token) {
                    step.reply(older, GroupAnswer::Sync(Err(GroupError::RebalanceInProgress)));
                }
                if self.is_leader(&id) {
                    self.assign(sync, step);
                }
                Ok(None)
            }
            GroupState::Stable => {
                self.received_sync(&id);
                Ok(Some(self.synced(&id)))
            }
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMember { member: Some(id) }),
        }
    }

    fn check_generation(&self, got: i32) -> Result<(), GroupError> {
        let current = self.generation;
        if got == current { Ok(()) } else { Err(GroupError::IllegalGeneration { current, got }) }
    }

    fn check_protocol(&self, sync: &Sync) -> Result<(), GroupError> {
        let differs = |got: &Option<String>, ours: &Option<String>| got.is_some() && ours.is_some() && got != ours;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            let got = sync.protocol_type.clone().unwrap_or_default();
            return Err(GroupError::InconsistentProtocol { group: self.protocol_type.clone(), got });
        }
        Ok(())
    }

    fn received_sync(&mut self, id: &MemberId) {
        self.pending_sync.remove(id);
        if self.pending_sync.is_empty() {
            self.sync_timer = None;
        }
    }

    fn synced(&self, id: &MemberId) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }

    /// The leader's assignment: a member that it does not mention gets an empty one, one that it invents is ignored.
    fn assign(&mut self, sync: &Sync, step: &mut Step<'_>) {
        let mut given: BTreeMap<&MemberId, _> = sync.assignments.iter().map(|(id, bytes)| (id, bytes)).collect();
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in &ids {
            let assignment = given.remove(id).map(model::ids::detached).unwrap_or_default();
            self.set_assignment(id, assignment);
        }
        let (bytes, limit) = (self.record_bytes(), step.config.record_bytes_max);
        if bytes > limit {
            self.abort_syncs(&GroupError::GroupTooLarge { bytes, limit }, step);
            return self.prepare_rebalance(step);
        }
        self.transition(step.now, GroupState::Stable);
        step.generations.push(self.to_record());
        for id in &ids {
            let synced = self.synced(id);
            let member = self.members.get_mut(id).expect("these are the members");
            if let Some(token) = member.sync.take() {
                member.heard(step.now.mono);
                step.reply(token, GroupAnswer::Sync(Ok(synced)));
            }
        }
    }

    /// Whoever waits for an assignment of this generation is told that there will be none.
    pub(super) fn abort_syncs(&mut self, error: &GroupError, step: &mut Step<'_>) {
        if !self.is(GroupState::CompletingRebalance) {
            return;
        }
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in &ids {
            self.set_assignment(id, bytes::Bytes::new());
            let member = self.members.get_mut(id).expect("these are the members");
            if let Some(token) = member.sync.take() {
                member.heard(step.now.mono);
                step.reply(token, GroupAnswer::Sync(Err(error.clone())));
            }
        }
    }

    pub(super) fn on_heartbeat(&mut self, heartbeat: &Heartbeat, now: std::time::Duration) -> Result<(), GroupError> {
        let id = self.check_member(heartbeat.member_id.as_ref(), heartbeat.instance_id.as_ref())?;
        self.check_generation(heartbeat.generation)?;
        let member = self.members.get_mut(&id).expect("check_member found it");
        member.heard(now);
        match self.state {
            GroupState::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
            GroupState::Empty | GroupState::Dead => Err(GroupError::UnknownMember { member: Some(id) }),
        }
    }
}

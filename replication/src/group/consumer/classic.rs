//! Members that speak the classic protocol within a group of the consumer protocol.
//!
//! Owns JoinGroup, SyncGroup, Heartbeat and LeaveGroup for them: a join is a heartbeat that says what the member wants and
//! has, a sync fetches what it is to have, a heartbeat that finds the group changed tells it to join again. All are
//! answered at once: nobody waits for others. Their generation is their member epoch.

use std::time::Duration;

use super::super::config::{CLIENT_ID_BYTES_MAX, RECORD_SLACK_BYTES};
use super::super::error::GroupError;
use super::super::member::{clipped, milliseconds};
use super::super::types::{
    Heartbeat, InstanceId, Join, Joined, Leave, Leaving, Left, MemberId, Protocol, Sync, Synced,
};
use super::embedded::{Subscription, encode_assignment, subscription, with_ids};
use super::heartbeat::Move;
use super::state::{ClassicInfo, Consumer, Member, MemberInfo, MemberState, plain};

/// The protocol type of consumers.
pub(super) const CONSUMER: &str = "consumer";

impl Member {
    pub(super) fn heard_classic(&mut self, now: Duration) {
        if let Some(classic) = &self.info.classic {
            self.session_deadline = now + milliseconds(classic.session_timeout_ms);
        }
    }

    /// What was chosen when it joined.
    fn protocol(&self) -> Option<&Protocol> {
        self.info.classic.as_ref()?.protocols.first()
    }
}

impl Consumer {
    pub(in super::super) fn join_classic(&mut self, join: &Join, step: &mut Move<'_>) -> Result<Joined, GroupError> {
        let inconsistent =
            || GroupError::InconsistentProtocol { group: Some(CONSUMER.to_owned()), got: join.protocol_type.clone() };
        let id = match &join.member_id {
            Some(id) => id.clone(),
            None => step.ids.next(&join.client_id, join.instance_id.as_ref()),
        };
        self.check_room(&id, join.instance_id.as_ref(), step)?;
        let first = join.protocols.first().filter(|_| self.supports(&join.protocol_type, &join.protocols));
        let first = first.ok_or_else(inconsistent)?;
        let wanted = subscription(&first.metadata).map_err(|_| inconsistent())?;
        if join.member_id.is_none() && join.instance_id.is_none() && join.member_id_required {
            return Err(GroupError::MemberIdRequired { member_id: id });
        }
        let info = info_of(join, &wanted);
        let bytes = info.bytes() + RECORD_SLACK_BYTES;
        if bytes > step.config.record_bytes_max {
            return Err(GroupError::GroupTooLarge { bytes, limit: step.config.record_bytes_max });
        }
        self.take_in_classic(&id, join, step)?;
        let changed = self.put_member(&id, info, step);
        self.advance_epoch(changed, step);
        self.compute_target(step)?;
        self.reconcile(&id, Some(&with_ids(&wanted.owned, &step.catalog)), changed, step);
        let now = step.now.mono;
        let member = self.members.get_mut(&id).expect("it was taken in");
        member.heard_classic(now);
        member.join_deadline = None;
        member.sync_deadline = Some(now + milliseconds(join.rebalance_timeout_ms));
        Ok(Joined {
            generation: member.current.epoch,
            protocol_type: Some(CONSUMER.to_owned()),
            protocol: Some(first.name.clone()),
            leader: None,
            skip_assignment: false,
            member_id: id,
            members: Vec::new(),
        })
    }

    fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        let offered: Vec<&ClassicInfo> =
            self.members.values().filter_map(|member| member.info.classic.as_ref()).collect();
        let by_all = |name: &str| offered.iter().all(|one| one.protocols.iter().any(|known| known.name == name));
        protocol_type == CONSUMER && protocols.iter().any(|protocol| by_all(&protocol.name))
    }

    fn take_in_classic(&mut self, id: &MemberId, join: &Join, step: &mut Move<'_>) -> Result<(), GroupError> {
        let Some(instance) = &join.instance_id else { return Ok(()) };
        match (self.instances.get(instance).cloned(), &join.member_id) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(GroupError::UnknownInstance { instance: instance.clone() }),
            (Some(owner), Some(_)) if owner == *id => Ok(()),
            (Some(_), Some(_)) => Err(GroupError::FencedInstance { instance: instance.clone(), got: Some(id.clone()) }),
            (Some(owner), None) => {
                self.replace(&owner, id, step);
                Ok(())
            }
        }
    }

    fn classic(&self, id: Option<&MemberId>, instance: Option<&InstanceId>) -> Result<MemberId, GroupError> {
        let id = self.known(id, instance)?;
        let is_classic = self.members.get(&id).is_some_and(Member::is_classic);
        if is_classic { Ok(id) } else { Err(GroupError::UnknownMember { member: Some(id) }) }
    }

    pub(in super::super) fn sync_classic(&mut self, sync: &Sync, step: &mut Move<'_>) -> Result<Synced, GroupError> {
        let id = self.classic(sync.member_id.as_ref(), sync.instance_id.as_ref())?;
        let epoch = self.epoch.epoch;
        let member = self.members.get_mut(&id).expect("it was looked up");
        check_generation(member, sync.generation)?;
        let protocol = member.protocol().cloned();
        let differs = |got: &Option<String>, ours: &str| got.as_ref().is_some_and(|got| got != ours);
        let name = protocol.as_ref().map_or("", |protocol| protocol.name.as_str());
        if differs(&sync.protocol_type, CONSUMER) || differs(&sync.protocol, name) {
            let got = sync.protocol.clone().unwrap_or_default();
            return Err(GroupError::InconsistentProtocol { group: Some(CONSUMER.to_owned()), got });
        }
        // Who still has to give something up has joined already: it does that first.
        if epoch > member.current.epoch && member.current.state != MemberState::Unrevoked {
            member.asked_to_join(step.now.mono);
            return Err(GroupError::RebalanceInProgress);
        }
        member.sync_deadline = None;
        member.heard_classic(step.now.mono);
        let version =
            protocol.as_ref().and_then(|one| subscription(&one.metadata).ok()).map_or(0, |wanted| wanted.version);
        let assignment = encode_assignment(version, &plain(&member.current.assigned), &step.catalog);
        Ok(Synced { protocol_type: Some(CONSUMER.to_owned()), protocol: Some(name.to_owned()), assignment })
    }

    pub(in super::super) fn heartbeat_classic(
        &mut self,
        heartbeat: &Heartbeat,
        step: &mut Move<'_>,
    ) -> Result<(), GroupError> {
        let id = self.classic(heartbeat.member_id.as_ref(), heartbeat.instance_id.as_ref())?;
        // The topics may have changed, and the others may all be silent classic members.
        self.advance_epoch(false, step);
        let member = self.members.get(&id).expect("it was looked up");
        check_generation(member, heartbeat.generation)?;
        let must_join = match member.current.state {
            _ if member.current.epoch < self.epoch.epoch => true,
            MemberState::Unrevoked => true,
            MemberState::Unreleased => !self.waits_for_others(&id),
            MemberState::Stable | MemberState::Unknown => false,
        };
        let member = self.members.get_mut(&id).expect("it was looked up");
        member.heard_classic(step.now.mono);
        if must_join {
            member.asked_to_join(step.now.mono);
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// Some partition of its target is another's.
    fn waits_for_others(&self, id: &MemberId) -> bool {
        let target = self.targets.get(id).into_iter().flatten();
        let mut places = target.flat_map(|(topic, all)| all.iter().map(move |at| (*topic, *at)));
        places.any(|(topic, at)| self.owner(topic, at).is_some_and(|owner| owner != id))
    }

    pub(in super::super) fn leave_classic(&mut self, leave: &Leave, step: &mut Move<'_>) -> Vec<Left> {
        let mut gone = Vec::new();
        let mut left = Vec::with_capacity(leave.members.len());
        for leaving in &leave.members {
            let found = self.leaving_classic(leaving).and_then(|id| match gone.contains(&id) {
                true => Err(GroupError::UnknownMember { member: Some(id) }),
                false => Ok(id),
            });
            let (member_id, error) = match found {
                Ok(id) => {
                    gone.push(id.clone());
                    (Some(id), None)
                }
                Err(error) => (leaving.member_id.clone(), Some(error)),
            };
            left.push(Left { member_id, instance_id: leaving.instance_id.clone(), error });
        }
        self.remove_members(&gone, step);
        left
    }

    /// An administrator names a static member by its instance id alone.
    fn leaving_classic(&self, leaving: &Leaving) -> Result<MemberId, GroupError> {
        match (&leaving.member_id, &leaving.instance_id) {
            (None, Some(instance)) => {
                let owner = self.instances.get(instance);
                let unknown = || GroupError::UnknownInstance { instance: instance.clone() };
                self.classic(Some(owner.ok_or_else(unknown)?), Some(instance))
            }
            (id, instance) => self.classic(id.as_ref(), instance.as_ref()),
        }
    }
}

impl Member {
    fn asked_to_join(&mut self, now: Duration) {
        let wait = milliseconds(self.info.rebalance_timeout_ms);
        self.join_deadline.get_or_insert(now + wait);
    }
}

fn check_generation(member: &Member, got: i32) -> Result<(), GroupError> {
    let current = member.current.epoch;
    if got == current { Ok(()) } else { Err(GroupError::IllegalGeneration { current, got }) }
}

fn info_of(join: &Join, wanted: &Subscription) -> MemberInfo {
    let kept = |protocol: &Protocol| Protocol {
        name: protocol.name.clone(),
        metadata: model::ids::detached(&protocol.metadata),
    };
    MemberInfo {
        instance_id: join.instance_id.clone(),
        rack: wanted.rack.clone(),
        client_id: clipped(&join.client_id, CLIENT_ID_BYTES_MAX).to_owned(),
        client_host: clipped(&join.client_host, CLIENT_ID_BYTES_MAX).to_owned(),
        topics: wanted.topics.clone(),
        pattern: None,
        rebalance_timeout_ms: join.rebalance_timeout_ms,
        assignor: None,
        classic: Some(ClassicInfo {
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols.iter().map(kept).collect(),
        }),
    }
}

//! A group changes its protocol while its members go on: from classic to consumer when the first member of the new
//! protocol joins, and back when the last one is gone.
//!
//! Owns what becomes of members, generations and assignments. Does not own when (`group::consumer_groups`).
//! Invariant: nobody loses a partition by the change itself: members keep what they were assigned.

use model::{GroupId, Now};

use super::super::classic::Classic;
use super::super::codec::CodecError;
use super::super::member::{self, milliseconds};
use super::super::record::GroupRecord;
use super::super::types::{GroupState, MemberId};
use super::catalog::Catalog;
use super::classic::CONSUMER;
use super::embedded::{assignment, encode_assignment, subscription};
use super::state::{
    ClassicInfo, Consumer, ConsumerRecord, Current, GroupEpoch, Member, MemberInfo, MemberState, Owned, Partitions,
    TargetEpoch,
};

/// The records of a group that goes on in the consumer protocol. Fails where the members are no consumers.
pub(in super::super) fn upgraded(
    group: &GroupId,
    classic: &Classic,
    catalog: &Catalog<'_>,
) -> Result<Vec<GroupRecord>, CodecError> {
    let epoch = classic.generation;
    let protocol = classic.protocol.as_deref();
    let mut consumer = Consumer::default();
    consumer.apply(&ConsumerRecord::Epoch(Some(GroupEpoch { epoch, metadata_hash: 0 })));
    consumer.apply(&ConsumerRecord::TargetEpoch(Some(TargetEpoch { epoch, timestamp_ms: 0 })));
    for (id, member) in &classic.members {
        // Before the first generation none is chosen; all of a consumer's protocols say the same.
        let name = protocol.or_else(|| member.protocols.first().map(|first| first.name.as_str())).unwrap_or_default();
        let wanted = subscription(&member.metadata(name))?;
        let assigned = assignment(&member.assignment, catalog)?;
        let info = MemberInfo {
            instance_id: member.instance_id.clone(),
            rack: wanted.rack,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            topics: wanted.topics,
            pattern: None,
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            assignor: None,
            classic: Some(ClassicInfo {
                session_timeout_ms: member.session_timeout_ms,
                protocols: member.protocols.clone(),
            }),
        };
        let current = Current {
            epoch,
            previous_epoch: epoch,
            state: MemberState::Stable,
            assigned: owned_since(epoch, &assigned),
            revoking: Owned::new(),
        };
        let member = id.clone();
        consumer.apply(&ConsumerRecord::Member { member: member.clone(), value: Some(info) });
        consumer.apply(&ConsumerRecord::Target { member: member.clone(), value: Some(assigned) });
        consumer.apply(&ConsumerRecord::Current { member, value: Some(current) });
    }
    Ok(consumer.snapshot(group))
}

fn owned_since(epoch: i32, partitions: &Partitions) -> Owned {
    partitions.iter().map(|(topic, all)| (*topic, all.iter().map(|partition| (*partition, epoch)).collect())).collect()
}

impl Consumer {
    /// Somebody is in it, and nobody speaks the consumer protocol.
    pub(in super::super) fn is_all_classic(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(Member::is_classic)
    }

    pub(in super::super) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// The group as its members go on with the classic protocol.
    pub(in super::super) fn downgraded(&self, catalog: &Catalog<'_>, now: Now) -> Classic {
        let mut classic = Classic::default();
        (classic.state, classic.was_empty) = (GroupState::Stable, false);
        classic.state_timestamp_ms = Some(now.wall_ms);
        classic.generation = self.epoch.epoch;
        classic.protocol_type = Some(CONSUMER.to_owned());
        for (id, member) in &self.members {
            if let Some(info) = &member.info.classic {
                classic.insert(id.clone(), self.classic_member(id, member, info, catalog, now));
            }
        }
        classic.protocol = classic.select_protocol();
        classic
    }

    fn classic_member(
        &self,
        id: &MemberId,
        member: &Member,
        classic: &ClassicInfo,
        catalog: &Catalog<'_>,
        now: Now,
    ) -> member::Member {
        let version = classic.protocols.first().and_then(|one| subscription(&one.metadata).ok());
        let none = Partitions::new();
        let target = self.targets.get(id).unwrap_or(&none);
        member::Member {
            instance_id: member.info.instance_id.clone(),
            client_id: member.info.client_id.clone(),
            client_host: member.info.client_host.clone(),
            rebalance_timeout_ms: member.info.rebalance_timeout_ms,
            session_timeout_ms: classic.session_timeout_ms,
            protocols: classic.protocols.clone(),
            assignment: encode_assignment(version.map_or(0, |wanted| wanted.version), target, catalog),
            is_new: false,
            join: None,
            sync: None,
            deadline: now.mono + milliseconds(classic.session_timeout_ms),
        }
    }
}

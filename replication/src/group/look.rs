//! What can be seen of a shard without changing it: the list of its groups, what one holds, who is in it.
//!
//! Owns the answers to ListGroups, OffsetFetch and DescribeGroups. Does not own ConsumerGroupDescribe (`consumer_groups`).

use model::GroupId;

use super::error::GroupError;
use super::shard::{Group, Shard};
use super::types::{
    DescribedGroup, DescribedMember, FetchOffsets, FetchTopic, FetchedOffset, FetchedTopic, GroupState, ListFilter,
    ListedGroup,
};

const CLASSIC: &str = "classic";
const CONSUMER: &str = "consumer";

impl Shard {
    pub fn list(&self, filter: &ListFilter) -> Vec<ListedGroup> {
        let named = |names: &[String], name: &str| {
            names.is_empty() || names.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(name))
        };
        let one = |(id, group): (&GroupId, &Group)| {
            let (group_type, protocol_type) = match &group.consumer {
                Some(_) => (CONSUMER, CONSUMER.to_owned()),
                None => (CLASSIC, group.classic.protocol_type.clone().unwrap_or_default()),
            };
            ListedGroup { group: id.clone(), protocol_type, state: group.state(), group_type }
        };
        let wanted = |group: &ListedGroup| named(&filter.types, group.group_type) && named(&filter.states, group.state);
        self.groups.iter().map(one).filter(wanted).collect()
    }

    pub(super) fn fetch(&self, id: &GroupId, fetch: &FetchOffsets) -> Result<Vec<FetchedTopic>, GroupError> {
        if let Some(group) = self.groups.get(id) {
            if let Some(consumer) = &group.consumer {
                consumer.check_fetch(fetch)?;
            }
            return Ok(group.offsets.fetch(fetch));
        }
        let none =
            |partition: &model::PartitionIndex| FetchedOffset { partition: *partition, committed: None, error: None };
        let topics = fetch.topics.iter().flatten();
        let one = |wanted: &FetchTopic| FetchedTopic {
            topic: wanted.topic.clone(),
            partitions: wanted.partitions.iter().map(none).collect(),
        };
        Ok(topics.map(one).collect())
    }

    pub(super) fn describe(&self, id: &GroupId) -> Result<DescribedGroup, GroupError> {
        let missing = || GroupError::GroupIdNotFound { group: id.clone() };
        let group = self.groups.get(id).ok_or_else(missing)?;
        if group.consumer.is_some() {
            return Err(GroupError::NotClassicGroup { group: id.clone() });
        }
        let classic = &group.classic;
        // Before the group is stable its metadata is still being agreed on.
        let protocol = classic.protocol.as_deref().filter(|_| classic.is(GroupState::Stable));
        let members = classic.members.iter().map(|(member_id, member)| DescribedMember {
            member_id: member_id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: protocol.map(|name| member.metadata(name)).unwrap_or_default(),
            assignment: protocol.map(|_| member.assignment.clone()).unwrap_or_default(),
        });
        Ok(DescribedGroup {
            state: classic.state,
            protocol_type: classic.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.unwrap_or_default().to_owned(),
            members: members.collect(),
        })
    }
}

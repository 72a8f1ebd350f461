//! Consumer groups from outside: which there are, who is in them, what they committed.
//!
//! Owns the requests to coordinators and both kinds of groups, classic and of the consumer protocol, shown as one. Does not own being a
//! member: `member` does.

use std::collections::BTreeMap;

use super::range::{self, Assigned};
use super::refused::{AskError, Refused, check};
use super::router::{Router, TopicPartition};
use crate::wire::StrBytes;
use crate::wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use crate::wire::messages::offset_fetch_request::OffsetFetchRequestGroup;
use crate::wire::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetFetchRequest,
};

/// OffsetFetch takes several groups from this version on; version 10 names topics by their ids.
const FETCH_GROUPS: i16 = 8;
const FETCH_NEWEST: i16 = 9;
const COMMIT_NEWEST: i16 = 9;
const GROUP_ID_NOT_FOUND: i16 = 69;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupListed {
    pub id: String,
    /// `classic` or `consumer`, or what else the cluster has.
    pub kind: String,
    pub protocol: String,
    /// Empty where the cluster is too old to say it.
    pub state: String,
    /// The node that coordinates it.
    pub coordinator: i32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupSeen {
    pub id: String,
    pub kind: &'static str,
    pub state: String,
    pub assignor: String,
    pub coordinator: i32,
    pub members: Vec<MemberSeen>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberSeen {
    pub id: String,
    pub instance: Option<String>,
    pub client: String,
    pub host: String,
    pub assigned: Assigned,
}

/// Who commits: nobody of the group, or a member of a generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committer {
    pub generation: i32,
    pub member: String,
}

impl Committer {
    /// Somebody outside: only an empty group takes its word.
    pub fn outside() -> Committer {
        Committer { generation: -1, member: String::new() }
    }
}

/// All groups of all nodes, by name.
pub fn list(router: &mut Router) -> Result<Vec<GroupListed>, AskError> {
    let mut groups = BTreeMap::new();
    let nodes: Vec<i32> = router.nodes().map(|node| node.id).collect();
    for node in nodes {
        let answer = router.node(node)?.call(|_| ListGroupsRequest::default())?;
        check(|| format!("the groups of node {node}"), answer.error_code, None)?;
        for group in answer.groups {
            let kind = if group.group_type.is_empty() { "classic".to_owned() } else { group.group_type.to_string() };
            let listed = GroupListed {
                id: group.group_id.0.to_string(),
                kind: kind.to_lowercase(),
                protocol: group.protocol_type.to_string(),
                state: group.group_state.to_string(),
                coordinator: node,
            };
            groups.insert(listed.id.clone(), listed);
        }
    }
    Ok(groups.into_values().collect())
}

/// One group, of either protocol. A group that is not there is refused.
pub fn describe(router: &mut Router, group: &str) -> Result<GroupSeen, AskError> {
    if router.any().version::<ConsumerGroupDescribeRequest>().is_some() {
        match describe_consumer(router, group) {
            // Not of that protocol: the classic answer decides.
            Err(AskError::Refused(Refused { code: GROUP_ID_NOT_FOUND, .. })) => {}
            other => return other,
        }
    }
    describe_classic(router, group)
}

fn describe_consumer(router: &mut Router, group: &str) -> Result<GroupSeen, AskError> {
    let ids = vec![StrBytes::from_string(group.to_owned()).into()];
    let (seen, coordinator) = router.coordinator(group, |client| {
        let answer = client.call(|_| ConsumerGroupDescribeRequest::default().with_group_ids(ids.clone()))?;
        let found = answer.groups.into_iter().next();
        let code = found.as_ref().map_or(0, |found| found.error_code);
        Ok(((found, client.address().to_owned()), code))
    })?;
    let seen = seen.ok_or(AskError::Incomplete { node: coordinator.clone(), what: "the group it was asked for" })?;
    check(|| format!("group {group}"), seen.error_code, seen.error_message.as_ref())?;
    let member = |member: crate::wire::messages::consumer_group_describe_response::Member| {
        let topics = member.assignment.topic_partitions.into_iter();
        MemberSeen {
            id: member.member_id.to_string(),
            instance: member.instance_id.map(|instance| instance.to_string()),
            client: member.client_id.to_string(),
            host: member.client_host.to_string(),
            assigned: topics.map(|topic| (topic.topic_name.0.to_string(), topic.partitions)).collect(),
        }
    };
    Ok(GroupSeen {
        id: group.to_owned(),
        kind: "consumer",
        state: seen.group_state.to_string(),
        assignor: seen.assignor_name.to_string(),
        coordinator: number_of(router, &coordinator),
        members: seen.members.into_iter().map(member).collect(),
    })
}

fn describe_classic(router: &mut Router, group: &str) -> Result<GroupSeen, AskError> {
    let ids = vec![StrBytes::from_string(group.to_owned()).into()];
    let (seen, coordinator) = router.coordinator(group, |client| {
        let answer = client.call(|_| DescribeGroupsRequest::default().with_groups(ids.clone()))?;
        let found = answer.groups.into_iter().next();
        let code = found.as_ref().map_or(0, |found| found.error_code);
        Ok(((found, client.address().to_owned()), code))
    })?;
    let seen = seen.ok_or(AskError::Incomplete { node: coordinator.clone(), what: "the group it was asked for" })?;
    // Older brokers call a group that is not there dead.
    let code =
        if seen.error_code == 0 && seen.group_state.as_str() == "Dead" { GROUP_ID_NOT_FOUND } else { seen.error_code };
    check(|| format!("group {group}"), code, seen.error_message.as_ref())?;
    let member = |member: crate::wire::messages::describe_groups_response::DescribedGroupMember| MemberSeen {
        id: member.member_id.to_string(),
        instance: member.group_instance_id.map(|instance| instance.to_string()),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        assigned: range::take_assignment(member.member_assignment).unwrap_or_default(),
    };
    Ok(GroupSeen {
        id: group.to_owned(),
        kind: "classic",
        state: seen.group_state.to_string(),
        assignor: seen.protocol_data.to_string(),
        coordinator: number_of(router, &coordinator),
        members: seen.members.into_iter().map(member).collect(),
    })
}

fn number_of(router: &Router, address: &str) -> i32 {
    router.nodes().find(|node| node.address == address).map_or(-1, |node| node.id)
}

/// What a group committed, by partition. A group that is not there committed nothing.
pub fn committed(router: &mut Router, group: &str) -> Result<BTreeMap<TopicPartition, i64>, AskError> {
    let answer = router.coordinator(group, |client| {
        let answer = client.call_at_most(FETCH_NEWEST, |version| {
            let id = StrBytes::from_string(group.to_owned());
            if version < FETCH_GROUPS {
                return OffsetFetchRequest::default().with_group_id(id.into()).with_topics(None);
            }
            let mut one = OffsetFetchRequestGroup::default().with_group_id(id.into()).with_topics(None);
            one.member_epoch = -1;
            OffsetFetchRequest::default().with_groups(vec![one])
        })?;
        let code = answer.groups.first().map_or(answer.error_code, |group| group.error_code);
        Ok((answer, code))
    })?;
    let code = answer.groups.first().map_or(answer.error_code, |group| group.error_code);
    if code == GROUP_ID_NOT_FOUND {
        return Ok(BTreeMap::new());
    }
    check(|| format!("the offsets of group {group}"), code, None)?;
    let mut found = BTreeMap::new();
    let mut put = |topic: String, partition: i32, offset: i64| {
        if offset >= 0 {
            found.insert((topic, partition), offset);
        }
    };
    for topic in &answer.topics {
        topic
            .partitions
            .iter()
            .for_each(|one| put(topic.name.0.to_string(), one.partition_index, one.committed_offset));
    }
    for topic in answer.groups.iter().flat_map(|group| &group.topics) {
        topic
            .partitions
            .iter()
            .for_each(|one| put(topic.name.0.to_string(), one.partition_index, one.committed_offset));
    }
    Ok(found)
}

/// Commits offsets.
pub fn commit(
    router: &mut Router,
    group: &str,
    committer: &Committer,
    offsets: &BTreeMap<TopicPartition, i64>,
) -> Result<(), AskError> {
    if offsets.is_empty() {
        return Ok(());
    }
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition), offset) in offsets {
        let one = OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(StrBytes::default()));
        topics.entry(topic).or_default().push(one);
    }
    let topics: Vec<OffsetCommitRequestTopic> = topics
        .into_iter()
        .map(|(name, partitions)| {
            let name = StrBytes::from_string(name.to_owned()).into();
            OffsetCommitRequestTopic::default().with_name(name).with_partitions(partitions)
        })
        .collect();
    let request = OffsetCommitRequest::default()
        .with_group_id(StrBytes::from_string(group.to_owned()).into())
        .with_generation_id_or_member_epoch(committer.generation)
        .with_member_id(StrBytes::from_string(committer.member.clone()))
        .with_topics(topics);
    let answer = router.coordinator(group, |client| {
        let answer = client.call_at_most(COMMIT_NEWEST, |_| request.clone())?;
        let parts = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let code = parts.map(|part| part.error_code).find(|code| *code != 0).unwrap_or(0);
        Ok((answer, code))
    })?;
    for topic in &answer.topics {
        for part in &topic.partitions {
            let what =
                || format!("committing {} partition {} for group {group}", topic.name.0.as_str(), part.partition_index);
            check(what, part.error_code, None)?;
        }
    }
    Ok(())
}

/// Deletes a group that has no members, and what it committed.
pub fn delete(router: &mut Router, group: &str) -> Result<(), AskError> {
    let names = vec![StrBytes::from_string(group.to_owned()).into()];
    let answer = router.coordinator(group, |client| {
        let answer = client.call(|_| DeleteGroupsRequest::default().with_groups_names(names.clone()))?;
        let code = answer.results.first().map_or(0, |result| result.error_code);
        Ok((answer, code))
    })?;
    for result in &answer.results {
        check(|| format!("deleting group {group}"), result.error_code, result.error_message.as_ref())?;
    }
    Ok(())
}

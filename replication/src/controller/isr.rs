//! AlterPartition: a leader wants another in-sync set (KIP-497, incarnations as KIP-903).
//!
//! Owns which changes are allowed. Does not own when a leader wants one, nor what follows from it (`change`: ELR, reassignment).
//! Invariant: nobody enters an ISR in another incarnation than the one that was seen to keep up, or while it is fenced or stops.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{ErrorCode, NodeId, TopicId, TopicPartition};

use super::change::{Draft, View, changed};
use super::nodes::known;
use super::requests::{IsrChange, Refusal};
use super::topics::Decided;
use crate::metadata::{Fact, Image, Incarnation, PartitionInfo, Topic};

/// One answer for each change: the partition epoch that now holds.
///
/// # Errors
/// BrokerIdNotRegistered; StaleBrokerEpoch where the node was fenced or started anew since.
pub fn alter(
    image: &Image,
    node: NodeId,
    incarnation: Incarnation,
    changes: &[IsrChange],
) -> Result<Decided<u32>, Refusal> {
    known(image, node)?;
    if !image.is_live_incarnation(node, incarnation) {
        let message = format!("node {node} is fenced, or a later start of it is registered");
        return Err(Refusal::new(ErrorCode::StaleBrokerEpoch, message));
    }
    let mut times: BTreeMap<TopicPartition, usize> = BTreeMap::new();
    changes.iter().for_each(|change| *times.entry(change.partition).or_default() += 1);
    let mut decided = Decided { facts: Vec::new(), answers: Vec::with_capacity(changes.len()) };
    for change in changes {
        let answer = match times.get(&change.partition) {
            Some(2..) => Err(refuse(ErrorCode::InvalidRequest, change, "it is named twice")),
            _ => alter_one(image, node, change),
        };
        decided.answers.push(answer.map(|(epoch, facts)| {
            decided.facts.push(facts);
            epoch
        }));
    }
    Ok(decided)
}

fn alter_one(image: &Image, node: NodeId, change: &IsrChange) -> Result<(u32, Vec<Fact>), Refusal> {
    let (topic, before) = find(image, change)?;
    check_state(node, change, before)?;
    check_members(image, node, change, before)?;
    let mut draft = Draft::new(View::of(image), topic, before);
    // In the order of preference, whatever order the leader has.
    let wanted = |replica: &NodeId| change.isr.iter().any(|(member, _)| member == replica);
    draft.after.isr = before.replicas.iter().copied().filter(wanted).collect();
    match draft.finish() {
        Some(state) => Ok((state.partition_epoch, vec![changed(topic.id, change.partition.partition, state)])),
        None => Ok((before.partition_epoch, Vec::new())),
    }
}

fn find<'a>(image: &'a Image, change: &IsrChange) -> Result<(&'a Arc<Topic>, &'a Arc<PartitionInfo>), Refusal> {
    let TopicPartition { topic: id, partition } = change.partition;
    let topic = image.topic_by_id(id).ok_or_else(|| unknown_topic(id))?;
    let missing = || refuse(ErrorCode::UnknownTopicOrPartition, change, "the topic has no such partition");
    Ok((topic, topic.partition(partition).ok_or_else(missing)?))
}

/// What the leader knows of the partition must be what holds.
fn check_state(node: NodeId, change: &IsrChange, before: &PartitionInfo) -> Result<(), Refusal> {
    if change.leader_epoch > before.leader_epoch || change.partition_epoch > before.partition_epoch {
        let why = format!(
            "leader epoch {} and partition epoch {} are not known here yet, {} and {} are",
            change.leader_epoch, change.partition_epoch, before.leader_epoch, before.partition_epoch
        );
        return Err(refuse(ErrorCode::NotController, change, &why));
    }
    if change.leader_epoch < before.leader_epoch {
        let why = format!("leader epoch {} is over, {} began", change.leader_epoch, before.leader_epoch);
        return Err(refuse(ErrorCode::FencedLeaderEpoch, change, &why));
    }
    if before.leader != Some(node) {
        return Err(refuse(ErrorCode::InvalidRequest, change, &format!("node {node} does not lead it")));
    }
    if change.partition_epoch < before.partition_epoch {
        let why = format!("partition epoch {} is over, {} holds", change.partition_epoch, before.partition_epoch);
        return Err(refuse(ErrorCode::InvalidUpdateVersion, change, &why));
    }
    Ok(())
}

fn check_members(image: &Image, node: NodeId, change: &IsrChange, before: &PartitionInfo) -> Result<(), Refusal> {
    if !change.isr.iter().any(|(member, _)| *member == node) {
        return Err(refuse(ErrorCode::InvalidRequest, change, "its leader is not in the new ISR"));
    }
    for (at, (member, incarnation)) in change.isr.iter().enumerate() {
        if !before.is_replica(*member) {
            return Err(refuse(ErrorCode::InvalidRequest, change, &format!("node {member} is no replica")));
        }
        if change.isr.iter().take(at).any(|(earlier, _)| earlier == member) {
            return Err(refuse(ErrorCode::InvalidRequest, change, &format!("node {member} is named twice")));
        }
        let joins = !before.isr.contains(member);
        if !image.is_live_incarnation(*member, *incarnation) || joins && image.is_stopping(*member) {
            let why = format!("node {member} is fenced, stops, or started anew since it was seen to keep up");
            return Err(refuse(ErrorCode::IneligibleReplica, change, &why));
        }
    }
    Ok(())
}

fn unknown_topic(id: TopicId) -> Refusal {
    Refusal::new(ErrorCode::UnknownTopicId, format!("no topic has the id {id}"))
}

fn refuse(code: ErrorCode, change: &IsrChange, why: &str) -> Refusal {
    Refusal::new(code, format!("the ISR of {} cannot change: {why}", change.partition))
}

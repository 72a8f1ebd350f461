//! CreatePartitions: a topic gets more of them.
//!
//! Owns every reason to refuse; what scripts look for in the output of Kafka's tools is said in Kafka's words. Changes nothing.
//! Invariant: partitions are only ever added; a topic whose keys are mapped to partitions by Weir itself keeps its number.

use std::collections::BTreeMap;

use model::{ErrorCode, NodeId, PartitionIndex, TopicName};

use super::change::changed;
use super::random::Random;
use super::requests::{MorePartitions, Refusal};
use super::topics::{
    CLUSTER_PARTITIONS_MAX, Decided, TOPIC_PARTITIONS_MAX, born, check_assignment, check_total, choose_replicas,
};
use crate::metadata::{Fact, Image, Topic};

/// Refuses a request that asks for more new partitions, in all its topics, than one may make.
///
/// # Errors
/// PolicyViolation for the whole request.
pub fn check_size(image: &Image, topics: &[MorePartitions]) -> Result<(), Refusal> {
    // What no topic may have is refused topic by topic, and makes nothing.
    let possible = topics.iter().filter(|wanted| wanted.total <= TOPIC_PARTITIONS_MAX);
    check_total(possible.filter_map(|wanted| {
        let now = image.topic(&wanted.topic)?.partitions.len();
        Some(wanted.total.saturating_sub(u32::try_from(now).unwrap_or(u32::MAX)))
    }))
}

/// One answer for each topic, in their order.
pub fn create(image: &Image, topics: &[MorePartitions], random: &mut Random) -> Decided<()> {
    let mut times: BTreeMap<&TopicName, usize> = BTreeMap::new();
    topics.iter().for_each(|topic| *times.entry(&topic.topic).or_default() += 1);
    let mut decided = Decided { facts: Vec::new(), answers: Vec::new() };
    let mut count = image.partition_count();
    for topic in topics {
        let answer = match times.get(&topic.topic) {
            Some(2..) => Err(refuse(ErrorCode::InvalidRequest, "Duplicate topic name.".to_owned())),
            _ => create_one(image, topic, count, random),
        };
        decided.answers.push(answer.map(|facts| {
            count += facts.len();
            decided.facts.push(facts);
        }));
    }
    decided
}

fn create_one(image: &Image, wanted: &MorePartitions, count: usize, random: &mut Random) -> Result<Vec<Fact>, Refusal> {
    let missing = || {
        let message = format!("topic '{}' does not exist", wanted.topic);
        refuse(ErrorCode::UnknownTopicOrPartition, message)
    };
    let topic = image.topic(&wanted.topic).ok_or_else(missing)?;
    let more = additional(topic, wanted, count)?;
    let replicas = match wanted.assignment.as_slice() {
        [] => {
            let factor = u16::try_from(topic.replication_factor()).unwrap_or(u16::MAX);
            choose_replicas(image, more, factor, random)?
        }
        assignment => {
            check_count(assignment, more)?;
            check_assignment(image, assignment, topic.replication_factor())?;
            assignment.to_vec()
        }
    };
    let first = u32::try_from(topic.partitions.len()).expect("bounded by TOPIC_PARTITIONS_MAX");
    let fact =
        |(partition, replicas): (PartitionIndex, Vec<NodeId>)| changed(topic.id, partition, born(image, replicas));
    Ok((first..).map(PartitionIndex::new).zip(replicas).map(fact).collect())
}

fn additional(topic: &Topic, wanted: &MorePartitions, count: usize) -> Result<u32, Refusal> {
    let (now, total) = (topic.partitions.len(), usize::try_from(wanted.total).unwrap_or(usize::MAX));
    let refuse = |message: String| Err(refuse(ErrorCode::InvalidPartitions, message));
    if topic.name.is_internal() {
        return refuse(format!(
            "The number of partitions for {} cannot be changed: groups would be looked for in other partitions",
            topic.name
        ));
    }
    if total == now {
        return refuse(format!("Topic already has {now} partition(s)."));
    }
    if total < now {
        return refuse(format!(
            "The topic {} currently has {now} partition(s); {total} would not be an increase.",
            topic.name
        ));
    }
    if wanted.total > TOPIC_PARTITIONS_MAX || count + total - now > CLUSTER_PARTITIONS_MAX {
        return refuse(format!(
            "{total} partitions are too many: a topic may have {TOPIC_PARTITIONS_MAX}, and the cluster, which has {count}, may have \
             {CLUSTER_PARTITIONS_MAX}"
        ));
    }
    Ok(u32::try_from(total - now).expect("below TOPIC_PARTITIONS_MAX"))
}

fn check_count(assignment: &[Vec<NodeId>], more: u32) -> Result<(), Refusal> {
    if u32::try_from(assignment.len()) == Ok(more) {
        return Ok(());
    }
    let message = format!(
        "Attempted to add {more} additional partition(s), but only {} assignment(s) were specified.",
        assignment.len()
    );
    Err(refuse(ErrorCode::InvalidReplicaAssignment, message))
}

fn refuse(code: ErrorCode, message: String) -> Refusal {
    Refusal::new(code, message)
}

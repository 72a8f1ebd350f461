//! Creating and deleting topics: the decisions.
//!
//! Owns every reason to refuse; what scripts look for in the output of Kafka's tools is said in Kafka's words.
//! Changes nothing: what was decided is facts, and `apply` is the only way that they take effect.
//! Invariant: the facts of one topic form one group, which is never split over two entries of the log.

use std::collections::{BTreeMap, BTreeSet};

use model::limits::REQUEST_PARTITIONS_MAX;
use model::{ErrorCode, LeaderEpoch, NodeId, PartitionIndex, TopicId, TopicName};

use super::placement::{Candidate, place};
use super::random::Random;
use super::requests::{CreatedTopic, NewTopic, Refusal, TopicRef};
use crate::metadata::{Fact, Image, PartitionInfo, Topic, TopicConfig};

/// Of one topic: its creation is one entry of the log, which must stay small enough to be sent whole.
pub const TOPIC_PARTITIONS_MAX: u32 = 20_000;
/// Of the cluster: what a node keeps in memory for each is bounded.
pub const CLUSTER_PARTITIONS_MAX: usize = 1_000_000;
const _: () = {
    // The largest topic can be made.
    assert!(TOPIC_PARTITIONS_MAX as usize <= REQUEST_PARTITIONS_MAX);
    assert!(REQUEST_PARTITIONS_MAX <= CLUSTER_PARTITIONS_MAX);
};
/// What a topic without a number of replicas gets where there are enough nodes.
pub const REPLICATION_FACTOR_DEFAULT: usize = 3;

/// What was decided for a request: the facts, and the answer once they are committed.
#[derive(Clone, PartialEq, Debug)]
pub struct Decided<T> {
    pub facts: Vec<Vec<Fact>>,
    pub answers: Vec<Result<T, Refusal>>,
}

/// Refuses a request that asks for more partitions, in all its topics, than one may make.
///
/// # Errors
/// PolicyViolation, as in Kafka for the whole request.
pub fn check_size(image: &Image, topics: &[NewTopic]) -> Result<(), Refusal> {
    let by_default = image.statics().partitions_default;
    let of = |topic: &NewTopic| match topic.assignment.len() {
        0 => topic.partitions.unwrap_or(by_default),
        assigned => u32::try_from(assigned).unwrap_or(u32::MAX),
    };
    // What no topic may have is refused topic by topic, and makes nothing.
    check_total(topics.iter().map(of).filter(|count| *count <= TOPIC_PARTITIONS_MAX))
}

/// As `check_size`, from how many each of its topics would get.
pub(super) fn check_total(counts: impl Iterator<Item = u32>) -> Result<(), Refusal> {
    let asked: u64 = counts.map(u64::from).sum();
    if asked <= REQUEST_PARTITIONS_MAX as u64 {
        return Ok(());
    }
    let message = format!(
        "Excessively large number of partitions per request: {asked} are asked for, one request makes at most {REQUEST_PARTITIONS_MAX}; \
         spread the topics over several requests"
    );
    Err(refuse(ErrorCode::PolicyViolation, message))
}

/// One answer for each topic, in their order.
pub fn create(image: &Image, topics: &[NewTopic], random: &mut Random) -> Decided<CreatedTopic> {
    let mut ahead = image.clone();
    let mut decided = Decided { facts: Vec::new(), answers: Vec::new() };
    let mut times: BTreeMap<&TopicName, usize> = BTreeMap::new();
    topics.iter().for_each(|topic| *times.entry(&topic.name).or_default() += 1);
    for topic in topics {
        let answer = match times.get(&topic.name) {
            Some(2..) => Err(refuse(ErrorCode::InvalidRequest, format!("topic '{}' is named twice", topic.name))),
            _ => create_one(&ahead, topic, random),
        };
        decided.answers.push(answer.map(|(created, facts)| {
            // Later topics of the request must see it: names collide, and limits add up.
            ahead = ahead.with(&facts).expect("what was decided on an image applies to it");
            decided.facts.push(facts);
            created
        }));
    }
    decided
}

fn create_one(image: &Image, topic: &NewTopic, random: &mut Random) -> Result<(CreatedTopic, Vec<Fact>), Refusal> {
    check_name(image, &topic.name)?;
    TopicConfig::validate(&topic.config).map_err(|error| refuse(ErrorCode::InvalidConfig, error.to_string()))?;
    let replicas = match topic.assignment.as_slice() {
        [] => placed(image, topic, random)?,
        _ => assigned(image, topic)?,
    };
    let partitions = u32::try_from(replicas.len()).unwrap_or(u32::MAX);
    if partitions > TOPIC_PARTITIONS_MAX || image.partition_count() + replicas.len() > CLUSTER_PARTITIONS_MAX {
        let message = format!(
            "{partitions} partitions are too many: a topic may have {TOPIC_PARTITIONS_MAX}, and the cluster, which has {}, may have \
             {CLUSTER_PARTITIONS_MAX}",
            image.partition_count()
        );
        return Err(refuse(ErrorCode::InvalidPartitions, message));
    }
    let id = unused_id(image, random);
    let mut facts = vec![Fact::TopicCreated {
        id,
        name: topic.name.clone(),
        configs: topic.config.clone().into_iter().collect(),
        default_replication: follows_cluster(image, topic),
    }];
    let factor = replicas.first().map_or(0, Vec::len);
    facts.extend((0..).map(PartitionIndex::new).zip(replicas).map(|(partition, replicas)| Fact::PartitionChanged {
        topic: id,
        partition,
        state: born(image, replicas),
    }));
    let replication_factor = u16::try_from(factor).expect("a factor is at most the number of nodes asked for");
    Ok((CreatedTopic { id, partitions, replication_factor }, facts))
}

/// The factor was left open all the way, or the cluster makes the topic for itself: it is raised as nodes join.
fn follows_cluster(image: &Image, topic: &NewTopic) -> bool {
    let open = topic.replication_factor.is_none() && image.statics().replication_factor_default.is_none();
    topic.assignment.is_empty() && (open || topic.name.is_internal())
}

/// What a topic whose factor was left to the cluster has where there are enough nodes.
pub fn factor_wanted(image: &Image, topic: &Topic) -> usize {
    let nodes = image.nodes().keys().filter(|node| image.may_hold(**node)).count();
    let set = image.statics().offsets_topic_replication_factor.filter(|_| topic.name.is_internal());
    set.map_or(REPLICATION_FACTOR_DEFAULT, usize::from).min(nodes)
}

fn check_name(image: &Image, name: &TopicName) -> Result<(), Refusal> {
    if image.topic(name).is_some() {
        return Err(refuse(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
    }
    match image.colliding_topic(name) {
        // Metrics replace '.' by '_': two such topics could not be told apart there.
        Some(other) => Err(refuse(
            ErrorCode::InvalidTopicException,
            format!("Topic '{name}' collides with existing topic: {other}, they differ in '.' and '_' only"),
        )),
        None => Ok(()),
    }
}

/// Replicas chosen by the cluster.
fn placed(image: &Image, topic: &NewTopic, random: &mut Random) -> Result<Vec<Vec<NodeId>>, Refusal> {
    let partitions = topic.partitions.unwrap_or(image.statics().partitions_default);
    if partitions == 0 || partitions > TOPIC_PARTITIONS_MAX {
        let message = format!("{partitions} partitions were asked for, 1 to {TOPIC_PARTITIONS_MAX} are allowed");
        return Err(refuse(ErrorCode::InvalidPartitions, message));
    }
    let live = candidates(image).len();
    let by_default = || u16::try_from(live.min(REPLICATION_FACTOR_DEFAULT)).expect("at most 3");
    let factor = topic.replication_factor.or(image.statics().replication_factor_default).unwrap_or_else(by_default);
    choose_replicas(image, partitions, factor, random)
}

/// Who may be given new replicas: neither fenced nor about to go.
pub(super) fn candidates(image: &Image) -> Vec<Candidate<'_>> {
    let live = image.live_nodes().filter(|(node, _)| image.may_hold(*node));
    live.map(|(node, info)| Candidate { node, rack: info.rack.as_deref() }).collect()
}

/// Replicas of `partitions` new partitions.
pub(super) fn choose_replicas(
    image: &Image,
    partitions: u32,
    factor: u16,
    random: &mut Random,
) -> Result<Vec<Vec<NodeId>>, Refusal> {
    let candidates = candidates(image);
    if factor == 0 || usize::from(factor) > candidates.len() {
        let message = format!(
            "a replication factor of {factor} was asked for, from 1 to the number of live nodes is possible, which is {}",
            candidates.len()
        );
        return Err(refuse(ErrorCode::InvalidReplicationFactor, message));
    }
    let start = random.below(candidates.len());
    Ok(place(&candidates, partitions, factor, start))
}

/// Replicas chosen by the client.
fn assigned(image: &Image, topic: &NewTopic) -> Result<Vec<Vec<NodeId>>, Refusal> {
    if topic.partitions.is_some() || topic.replication_factor.is_some() {
        let message = "with replicas named by hand, neither partitions nor a replication factor may be given";
        return Err(refuse(ErrorCode::InvalidRequest, message.to_owned()));
    }
    check_assignment(image, &topic.assignment, topic.assignment.first().map_or(0, Vec::len))?;
    Ok(topic.assignment.clone())
}

/// Replicas named by hand, `factor` of each partition.
pub(super) fn check_assignment(image: &Image, assignment: &[Vec<NodeId>], factor: usize) -> Result<(), Refusal> {
    for (partition, replicas) in assignment.iter().enumerate() {
        let refuse =
            |why: String| Err(refuse(ErrorCode::InvalidReplicaAssignment, format!("partition {partition}: {why}")));
        let distinct: BTreeSet<NodeId> = replicas.iter().copied().collect();
        if replicas.is_empty() {
            return refuse("no replica is named".to_owned());
        }
        if distinct.len() != replicas.len() {
            return refuse("a node is named twice".to_owned());
        }
        if replicas.len() != factor {
            return refuse(format!("{} replicas are named, the others have {factor}", replicas.len()));
        }
        if let Some(unknown) = replicas.iter().find(|node| image.node(**node).is_none()) {
            return refuse(format!("node {unknown} is not known"));
        }
        if !replicas.iter().any(|node| takes_part(image, *node)) {
            return refuse("none of the named nodes is alive".to_owned());
        }
    }
    Ok(())
}

/// A new partition: its live replicas are in sync, since there is nothing to have missed.
pub(super) fn born(image: &Image, replicas: Vec<NodeId>) -> PartitionInfo {
    let isr: Vec<NodeId> = replicas.iter().copied().filter(|node| takes_part(image, *node)).collect();
    let willing = isr.iter().copied().find(|node| image.may_lead(*node));
    PartitionInfo {
        leader: willing.or(isr.first().copied()),
        leader_epoch: LeaderEpoch::ZERO,
        replicas,
        isr,
        ..PartitionInfo::default()
    }
}

fn takes_part(image: &Image, node: NodeId) -> bool {
    image.is_live(node) && !image.is_stopping(node)
}

fn unused_id(image: &Image, random: &mut Random) -> TopicId {
    loop {
        let id = random.topic_id();
        if image.topic_by_id(id).is_none() {
            return id;
        }
    }
}

/// One answer for each topic, in their order.
pub fn delete(image: &Image, topics: &[TopicRef]) -> Decided<(TopicName, TopicId)> {
    let mut decided = Decided { facts: Vec::new(), answers: Vec::new() };
    let mut gone = BTreeSet::new();
    for topic in topics {
        let found = match topic {
            TopicRef::Name(name) => image
                .topic(name)
                .ok_or_else(|| refuse(ErrorCode::UnknownTopicOrPartition, format!("topic '{name}' does not exist"))),
            TopicRef::Id(id) => image
                .topic_by_id(*id)
                .ok_or_else(|| refuse(ErrorCode::UnknownTopicId, format!("no topic has the id {id}"))),
        };
        decided.answers.push(found.and_then(|topic| {
            if !image.statics().delete_topics {
                let message = "topics cannot be deleted: delete.topic.enable is false".to_owned();
                return Err(refuse(ErrorCode::TopicDeletionDisabled, message));
            }
            if !gone.insert(topic.id) {
                return Err(refuse(ErrorCode::InvalidRequest, format!("topic '{}' is named twice", topic.name)));
            }
            decided.facts.push(vec![Fact::TopicDeleted { id: topic.id }]);
            Ok((topic.name.clone(), topic.id))
        }));
    }
    decided
}

/// How the topic is made in which groups keep their offsets.
pub fn offsets_topic(image: &Image) -> NewTopic {
    let statics = image.statics();
    let config = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", statics.offsets_topic_segment_bytes.to_string()),
    ];
    // What was set for a cluster of three must not keep the first node from working.
    let live = u16::try_from(image.live_nodes().count()).unwrap_or(u16::MAX);
    NewTopic {
        name: TopicName::new(OFFSETS_TOPIC).expect("it is a valid name"),
        partitions: Some(statics.offsets_topic_partitions),
        replication_factor: statics.offsets_topic_replication_factor.map(|factor| factor.min(live)),
        assignment: Vec::new(),
        config: config.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}

pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

fn refuse(code: ErrorCode, message: String) -> Refusal {
    Refusal::new(code, message)
}

//! Metadata (API key 3), versions 0..=13.
//!
//! Owns what clients see of nodes, topics and partitions, and topics made on first use.
//! Does not own the image. Invariant: each topic of the request has one entry in the answer, in its order.
//! Versions: up to 0 an empty list means all topics, later null does; 4 lets the client forbid making topics;
//! 10 names topics by id (from 12 on without a name, KIP-516); 13 has an error for the whole (KIP-1102).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use model::limits::REQUEST_PARTITIONS_MAX;
use model::{ErrorCode, NodeId, PartitionIndex, TopicId, TopicName, TopicPartition};
use replication::metadata::{Image, NodeInfo, PartitionInfo, Topic};

use super::admin::ids;
use super::context::{Api, Reply, RequestContext};
use super::topics::{create_on_use, id_of, text, uuid_of};
use crate::clock;
use crate::wire::StrBytes;
use crate::wire::messages::metadata_request::MetadataRequestTopic;
use crate::wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::wire::messages::{MetadataRequest, MetadataResponse};

/// Bits of what everybody may do with a topic while nothing is forbidden: read, write, create, delete, alter,
/// describe, and describe and alter its configuration.
pub const TOPIC_OPERATIONS: i32 = 0x0df8;
/// The same for the cluster: create, alter, describe, cluster action, configurations, idempotent write.
pub const CLUSTER_OPERATIONS: i32 = 0x1fa0;
/// Topics that one request may make; a client asks again for the rest.
const CREATED_MAX: usize = 100;
/// Between two looks at what became of a leader; the node bounds how long one is in doubt.
const LOOK_AGAIN: Duration = Duration::from_millis(4);
/// A client may see that a node's connections broke before the nodes see it whose links to that one broke at the same moment.
const SEEN_BY_ALL: Duration = Duration::from_millis(10);

/// A partition or a topic, in memory and encoded.
const SHOWN_BYTES: usize = 256;

pub struct Metadata;

impl Api for Metadata {
    type Request = MetadataRequest;
    const NAME: &'static str = "Metadata";
    const VERSIONS: RangeInclusive<i16> = 0..=13;

    async fn handle(ctx: RequestContext, request: MetadataRequest) -> Reply<MetadataResponse> {
        let topics = match request.topics {
            Some(topics) if ctx.version == 0 && topics.is_empty() => None,
            topics => topics.map(by_id),
        };
        // Before anything is waited for: fetches behind this request in the same connection hold theirs until it is answered.
        let expected = answer_bytes(&ctx.broker.image(), topics.as_deref());
        let charge = ctx.broker.answer_memory.take_for_answer(expected).await;
        let may_create = ctx.version < 4 || request.allow_auto_topic_creation;
        let made = match &topics {
            Some(topics) if may_create => create_missing(&ctx, topics).await,
            _ => BTreeSet::new(),
        };
        until_leaders_are_certain(&ctx, topics.as_deref()).await;
        let image = ctx.broker.image();
        let show = |topic: &Topic| show_topic(&ctx, &image, topic, request.include_topic_authorized_operations);
        let shown: Vec<_> = match &topics {
            None => image.topics().map(|topic| show(topic)).collect(),
            Some(topics) => topics.iter().map(|named| show_named(&ctx, &image, named, &made, &show)).collect(),
        };
        let mut response = MetadataResponse::default()
            .with_brokers(brokers(&ctx, &image, topics.as_ref().is_none_or(|named| !named.is_empty())))
            .with_controller_id(controller(&ctx, &image).0.into())
            .with_topics(shown);
        if ctx.version >= 2 {
            response.cluster_id = Some(text(image.cluster_id()));
        }
        if (8..=10).contains(&ctx.version) && request.include_cluster_authorized_operations {
            response.cluster_authorized_operations = CLUSTER_OPERATIONS;
        }
        Reply::Large { response, charge }
    }
}

/// About what the answer takes while it is built.
fn answer_bytes(image: &Image, topics: Option<&[MetadataRequestTopic]>) -> usize {
    let partitions_of = |named| named_topic(image, named).map_or(0, |topic| topic.partitions.len());
    let shown = match topics {
        None => image.topic_count() + image.partition_count(),
        Some(named) => named.iter().map(|named| 1 + partitions_of(named)).sum(),
    };
    shown * SHOWN_BYTES
}

/// Waits while a leader may have died a moment ago and nobody has decided that yet. A client whose connection broke asks at once, and
/// the next time only after its own pause, which is a second with librdkafka: what it would be told now is of no use to it.
async fn until_leaders_are_certain(ctx: &RequestContext, topics: Option<&[MetadataRequestTopic]>) {
    if is_led_elsewhere(ctx, topics) {
        tokio::time::sleep(SEEN_BY_ALL).await;
    }
    loop {
        let image = ctx.broker.image();
        let doubted: BTreeSet<NodeId> = image
            .live_nodes()
            .map(|(node, _)| node)
            .filter(|node| ctx.broker.node.may_have_died(clock::now(), *node))
            .collect();
        let doubtful = |topic: &Topic| {
            topic.partitions().any(|(_, partition)| partition.leader.is_some_and(|leader| doubted.contains(&leader)))
        };
        let is_doubtful = !doubted.is_empty() && any_topic(&image, topics, doubtful);
        drop(image);
        if !is_doubtful {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Whether another node leads something of what is asked about.
fn is_led_elsewhere(ctx: &RequestContext, topics: Option<&[MetadataRequestTopic]>) -> bool {
    let (image, own) = (ctx.broker.image(), ctx.broker.node.id());
    let is_elsewhere = |partition: &PartitionInfo| partition.leader.is_some_and(|leader| leader != own);
    any_topic(&image, topics, |topic| topic.partitions().any(|(_, partition)| is_elsewhere(partition)))
}

fn any_topic(image: &Image, topics: Option<&[MetadataRequestTopic]>, holds: impl Fn(&Topic) -> bool) -> bool {
    match topics {
        None => image.topics().any(|topic| holds(topic)),
        Some(named) => named.iter().any(|named| named_topic(image, named).is_some_and(&holds)),
    }
}

/// Java names a topic that it knows by id only with the empty name.
/// As they are found, each once.
fn by_id(topics: Vec<MetadataRequestTopic>) -> Vec<MetadataRequestTopic> {
    let nameless = |topic: MetadataRequestTopic| {
        let is_named = topic.topic_id.is_nil() || topic.name.as_ref().is_some_and(|name| !name.is_empty());
        if is_named { topic } else { topic.with_name(None) }
    };
    let mut seen = BTreeSet::new();
    let first = |topic: &MetadataRequestTopic| seen.insert((topic.name.clone(), topic.topic_id));
    topics.into_iter().map(nameless).filter(first).collect()
}

fn named_topic<'a>(image: &'a Image, named: &MetadataRequestTopic) -> Option<&'a Topic> {
    match &named.name {
        Some(raw) => image.topic(&TopicName::new(raw.as_str()).ok()?).map(Arc::as_ref),
        None => image.topic_by_id(id_of(named.topic_id)).map(Arc::as_ref),
    }
}

/// Makes the topics that are named and missing. Gives those that are there soon: the client asks for them again.
async fn create_missing(ctx: &RequestContext, topics: &[MetadataRequestTopic]) -> BTreeSet<TopicName> {
    let image = ctx.broker.image();
    if !image.statics().auto_create_topics {
        return BTreeSet::new();
    }
    let named = topics.iter().filter_map(|topic| TopicName::new(topic.name.as_ref()?.as_str()).ok());
    let mut missing: BTreeSet<TopicName> = named.filter(|name| image.topic(name).is_none()).collect();
    if missing.is_empty() {
        return missing;
    }
    let names: Vec<TopicName> = missing.iter().take(created_max(image.statics().partitions_default)).cloned().collect();
    drop(image);
    let results = create_on_use(ctx, &names).await;
    for (name, result) in names.iter().zip(results) {
        // The rest, beyond the bound or not led yet, is answered with "ask again".
        if result.is_err_and(|refusal| refusal.code != ErrorCode::TopicAlreadyExists) {
            missing.remove(name);
        }
    }
    missing
}

/// How many topics of so many partitions one request makes.
fn created_max(partitions: u32) -> usize {
    let partitions = usize::try_from(partitions).unwrap_or(usize::MAX).max(1);
    (REQUEST_PARTITIONS_MAX / partitions).clamp(1, CREATED_MAX)
}

fn show_named(
    ctx: &RequestContext,
    image: &Image,
    named: &MetadataRequestTopic,
    made: &BTreeSet<TopicName>,
    show: &impl Fn(&Topic) -> MetadataResponseTopic,
) -> MetadataResponseTopic {
    let id = id_of(named.topic_id);
    let unknown = MetadataResponseTopic::default().with_name(named.name.clone()).with_topic_id(named.topic_id);
    match &named.name {
        Some(raw) => match TopicName::new(raw.as_str()) {
            Err(_) => unknown.with_error_code(ErrorCode::InvalidTopicException.to_wire()),
            Ok(name) => match image.topic(&name) {
                Some(topic) => show(topic),
                None if made.contains(&name) => unknown.with_error_code(ErrorCode::LeaderNotAvailable.to_wire()),
                None => unknown.with_error_code(ErrorCode::UnknownTopicOrPartition.to_wire()),
            },
        },
        None => match image.topic_by_id(id) {
            Some(topic) => show(topic),
            None => {
                let name = (ctx.version < 12).then(|| StrBytes::new().into());
                unknown.with_name(name).with_error_code(ErrorCode::UnknownTopicId.to_wire())
            }
        },
    }
}

/// The controller as clients are told: where they would not reach it, this node, which passes on what it is asked.
pub fn controller(ctx: &RequestContext, image: &Image) -> NodeId {
    image.controller().filter(|node| image.is_live(*node)).unwrap_or(ctx.broker.node.id())
}

fn show_topic(ctx: &RequestContext, image: &Image, topic: &Topic, with_operations: bool) -> MetadataResponseTopic {
    let partitions =
        topic.partitions().map(|(index, partition)| show_partition(ctx, image, topic.id, index, partition));
    let mut shown = MetadataResponseTopic::default()
        .with_name(Some(text(topic.name.as_str()).into()))
        .with_is_internal(topic.name.is_internal())
        .with_partitions(partitions.collect());
    if ctx.version >= 10 {
        shown.topic_id = uuid_of(topic.id);
    }
    if ctx.version >= 8 && with_operations {
        shown.topic_authorized_operations = TOPIC_OPERATIONS;
    }
    shown
}

fn show_partition(
    ctx: &RequestContext,
    image: &Image,
    topic: TopicId,
    index: PartitionIndex,
    partition: &PartitionInfo,
) -> MetadataResponsePartition {
    let (live, offline): (Vec<NodeId>, Vec<NodeId>) = partition.replicas.iter().partition(|node| image.is_live(**node));
    let newer = ctx.broker.node.newer_leadership(TopicPartition { topic, partition: index }, partition.leader_epoch);
    let (leader_epoch, leader) = newer.unwrap_or((partition.leader_epoch, partition.leader));
    let leader = leader.filter(|leader| image.is_live(*leader));
    // Version 0 has no place for replicas that cannot be reached: it leaves them out and says so.
    let left_out = ctx.version == 0 && !offline.is_empty();
    let error = match leader {
        None => ErrorCode::LeaderNotAvailable,
        Some(_) if left_out => ErrorCode::ReplicaNotAvailable,
        Some(_) => ErrorCode::None,
    };
    let mut shown = MetadataResponsePartition::default()
        .with_error_code(error.to_wire())
        .with_partition_index(index.to_wire())
        .with_leader_id(leader.map_or(-1, |node| node.0).into())
        .with_replica_nodes(ids(if left_out { &live } else { &partition.replicas }))
        .with_isr_nodes(ids(&partition.isr));
    if ctx.version >= 7 {
        shown.leader_epoch = leader_epoch.get();
    }
    if ctx.version >= 5 {
        shown.offline_replicas = ids(&offline);
    }
    shown
}

/// The live nodes. Who asks about topics is told of those as well that led some of them until a moment ago (`node::departed`).
fn brokers(ctx: &RequestContext, image: &Image, with_topics: bool) -> Vec<MetadataResponseBroker> {
    let departed = if with_topics { ctx.broker.node.departed_lately(clock::now(), image) } else { Vec::new() };
    let broker = |(node, info): (NodeId, &NodeInfo)| {
        let endpoint = ctx.broker.endpoint_of(node, Some(info), ctx.connection.local, ctx.connection.peer);
        MetadataResponseBroker::default()
            .with_node_id(node.0.into())
            .with_host(text(&endpoint.host))
            .with_port(endpoint.port.into())
            .with_rack(info.rack.as_deref().map(text))
    };
    let listed = |node: &NodeId, info: &NodeInfo| !info.fenced || departed.contains(node);
    image.nodes().iter().filter(|(node, info)| listed(node, info)).map(|(node, info)| broker((*node, info))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_made_on_first_use_are_no_more_than_one_request_makes() {
        let made = [1, 1_000, 1_001, 20_000, u32::MAX].map(created_max);
        assert_eq!(made, [100, 100, 99, 5, 1]);
    }
}

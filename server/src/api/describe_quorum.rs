//! DescribeQuorum (API key 55), versions 0..=2.
//!
//! Owns how the metadata group is shown: as Kafka's topic `__cluster_metadata`, partition 0, whose offsets are the
//! places in the Raft log. Does not own the figures: the active controller has them, and any node asks it.
//! Versions: 1 has times (KIP-836), 2 directories, messages and the listeners of the nodes (KIP-853).

use std::ops::RangeInclusive;
use std::time::Duration;

use model::{ErrorCode, NodeId};
use node::requests::{ControllerAnswer, ControllerRequest, QuorumMember, QuorumStatus, Refusal};
use replication::metadata::{Image, NodeInfo};

use super::admin::unexpected;
use super::context::{Api, Reply, RequestContext};
use super::topics::{text, uuid_of};
use crate::clock;
use crate::wire::messages::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};
use crate::wire::messages::{DescribeQuorumRequest, DescribeQuorumResponse};

pub struct DescribeQuorum;

/// Who asks wants to know whether there is a controller: an election takes far less.
const WAIT: Duration = Duration::from_secs(3);
const TOPIC: &str = "__cluster_metadata";

impl Api for DescribeQuorum {
    type Request = DescribeQuorumRequest;
    const NAME: &'static str = "DescribeQuorum";
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(ctx: RequestContext, request: DescribeQuorumRequest) -> Reply<DescribeQuorumResponse> {
        let only_it = match request.topics.as_slice() {
            [topic] => {
                topic.topic_name.as_str() == TOPIC && matches!(&topic.partitions[..], [one] if one.partition_index == 0)
            }
            _ => false,
        };
        if !only_it {
            return unknown(&ctx, &request).into();
        }
        match ask(&ctx).await {
            Ok(quorum) => show(&ctx, &quorum).into(),
            Err(refusal) => {
                let mut response = DescribeQuorumResponse::default().with_error_code(refusal.code.to_wire());
                if ctx.version >= 2 {
                    response.error_message = Some(text(&refusal.message));
                }
                response.into()
            }
        }
    }
}

async fn ask(ctx: &RequestContext) -> Result<QuorumStatus, Refusal> {
    match ctx.controller(ControllerRequest::DescribeQuorum, WAIT).await? {
        ControllerAnswer::Quorum(quorum) => Ok(quorum),
        other => Err(unexpected(&other)),
    }
}

/// Only the metadata can be asked about.
fn unknown(ctx: &RequestContext, request: &DescribeQuorumRequest) -> DescribeQuorumResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let mut shown = PartitionData::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(ErrorCode::UnknownTopicOrPartition.to_wire());
            if ctx.version >= 2 {
                shown.error_message = Some(text("only partition 0 of __cluster_metadata can be described"));
            }
            shown
        });
        TopicData::default().with_topic_name(topic.topic_name.clone()).with_partitions(partitions.collect())
    });
    DescribeQuorumResponse::default().with_topics(topics.collect()).with_error_message(None)
}

fn show(ctx: &RequestContext, quorum: &QuorumStatus) -> DescribeQuorumResponse {
    let image = ctx.broker.image();
    let replicas = |votes: bool| {
        let members = quorum.members.iter().filter(|member| member.votes == votes);
        members.map(|member| replica(ctx, &image, member)).collect()
    };
    let partition = PartitionData::default()
        .with_error_message(None)
        .with_leader_id(quorum.leader.0.into())
        .with_leader_epoch(i32::try_from(quorum.term).unwrap_or(i32::MAX))
        .with_high_watermark(offset(quorum.committed))
        .with_current_voters(replicas(true))
        .with_observers(replicas(false));
    let topic = TopicData::default().with_topic_name(text(TOPIC).into()).with_partitions(vec![partition]);
    let mut response = DescribeQuorumResponse::default().with_error_message(None).with_topics(vec![topic]);
    if ctx.version >= 2 {
        let known = quorum.members.iter().filter_map(|member| Some(node(member.node, image.node(member.node)?)));
        response.nodes = known.collect();
    }
    response
}

/// Kafka's positions lie behind what they count.
fn offset(index: u64) -> i64 {
    i64::try_from(index.saturating_add(1)).unwrap_or(i64::MAX)
}

fn replica(ctx: &RequestContext, image: &Image, member: &QuorumMember) -> ReplicaState {
    let now_ms = clock::now().wall_ms;
    let time = |ago: Option<Duration>| ago.map_or(-1, |ago| now_ms - i64::try_from(ago.as_millis()).unwrap_or(now_ms));
    let mut shown =
        ReplicaState::default().with_replica_id(member.node.0.into()).with_log_end_offset(offset(member.matched));
    if ctx.version >= 1 {
        shown.last_fetch_timestamp = time(member.heard_ago);
        shown.last_caught_up_timestamp = time(member.caught_up_ago);
    }
    if ctx.version >= 2 {
        let directory = image.node(member.node).map(|info| info.directory).unwrap_or_default();
        shown.replica_directory_id = uuid_of(model::TopicId(directory));
    }
    shown
}

/// With the listeners that other nodes use.
fn node(node: NodeId, info: &NodeInfo) -> Node {
    let peers = info.listeners.iter().filter(|listener| listener.name == "PEER").map(|listener| {
        Listener::default().with_name(text(&listener.name)).with_host(text(&listener.host)).with_port(listener.port)
    });
    Node::default().with_node_id(node.0.into()).with_listeners(peers.collect())
}

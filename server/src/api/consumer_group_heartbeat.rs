//! ConsumerGroupHeartbeat (API key 68), versions 0..=1 (KIP-848).
//!
//! Owns the shapes; `replication::group` decides. Versions: 1 has subscriptions by regular expression, and clients choose
//! their member ids.

use std::ops::RangeInclusive;

use model::{ErrorCode, PartitionIndex, TopicId};
use replication::controller::features::GROUP_VERSION;
use replication::group::{ConsumerBeat, ConsumerHeartbeat, GroupAnswer, GroupRequest, MemberId, Partitions};

use super::context::{Api, Reply, RequestContext};
use super::groups::{instance, owned};
use super::topics::{message, text, uuid_of};
use crate::wire::messages::consumer_group_heartbeat_request::TopicPartitions as Reported;
use crate::wire::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use crate::wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

pub struct ConsumerGroupHeartbeat;

impl Api for ConsumerGroupHeartbeat {
    type Request = ConsumerGroupHeartbeatRequest;
    const NAME: &'static str = "ConsumerGroupHeartbeat";
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    async fn handle(
        ctx: RequestContext,
        request: ConsumerGroupHeartbeatRequest,
    ) -> Reply<ConsumerGroupHeartbeatResponse> {
        let image = ctx.broker.image();
        let protocols = image.statics().get("group.coordinator.rebalance.protocols");
        let switched_off = protocols.is_some_and(|list| !list.split(',').any(|one| one.trim() == "consumer"));
        if switched_off || image.features().get(GROUP_VERSION).is_none_or(|level| *level < 1) {
            let code = ErrorCode::UnsupportedVersion.to_wire();
            return ConsumerGroupHeartbeatResponse::default().with_error_code(code).into();
        }
        let topics = request.subscribed_topic_names.as_ref();
        let beat = ConsumerHeartbeat {
            client_id: ctx.client_id().to_owned(),
            client_host: ctx.client_host(),
            member_id: MemberId::from_wire(request.member_id.as_str()),
            member_id_required: ctx.version >= 1,
            member_epoch: request.member_epoch,
            instance_id: instance(request.instance_id.as_ref()),
            rack: owned(request.rack_id.as_ref()),
            rebalance_timeout_ms: (request.rebalance_timeout_ms != -1).then_some(request.rebalance_timeout_ms),
            topics: topics.map(|topics| topics.iter().map(|topic| topic.to_string()).collect()),
            pattern: owned(request.subscribed_topic_regex.as_ref()).filter(|_| ctx.version >= 1),
            assignor: owned(request.server_assignor.as_ref()),
            owned: request.topic_partitions.as_deref().map(reported),
        };
        let group = request.group_id.0.clone();
        match ctx.group(group.as_str(), GroupRequest::ConsumerHeartbeat(beat)).await {
            GroupAnswer::ConsumerHeartbeat(Ok(beat)) => show(&beat).into(),
            GroupAnswer::ConsumerHeartbeat(Err(error)) => ConsumerGroupHeartbeatResponse::default()
                .with_error_code(error.code().to_wire())
                .with_error_message(message(&error))
                .into(),
            other => unreachable!("a heartbeat was answered with {other:?}"),
        }
    }
}

fn reported(topics: &[Reported]) -> Partitions {
    let mut partitions = Partitions::new();
    for topic in topics {
        let indices = topic.partitions.iter().filter_map(|index| PartitionIndex::from_wire(*index));
        partitions.entry(TopicId(*topic.topic_id.as_bytes())).or_default().extend(indices);
    }
    partitions
}

fn show(beat: &ConsumerBeat) -> ConsumerGroupHeartbeatResponse {
    let topics = |partitions: &Partitions| {
        let topic = |(topic, indices): (&TopicId, &std::collections::BTreeSet<PartitionIndex>)| {
            TopicPartitions::default()
                .with_topic_id(uuid_of(*topic))
                .with_partitions(indices.iter().map(|index| index.to_wire()).collect())
        };
        Assignment::default().with_topic_partitions(partitions.iter().map(topic).collect())
    };
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(beat.member_id.as_ref().map(|id| text(id.as_str())))
        .with_member_epoch(beat.member_epoch)
        .with_heartbeat_interval_ms(beat.heartbeat_interval_ms)
        .with_assignment(beat.assignment.as_ref().map(topics))
}

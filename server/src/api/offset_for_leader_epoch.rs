//! OffsetForLeaderEpoch (API key 23), versions 2..=4.
//!
//! Owns nothing but the shapes: where an epoch ends decides how far a consumer goes back after a change of leaders
//! (KIP-320). Versions: 3 has a replica id, which is refused here: nodes do not use the Kafka protocol.

use std::ops::RangeInclusive;

use model::{ErrorCode, LeaderEpoch, PartitionIndex, TopicPartition};
use node::requests::EpochEnd;

use super::context::{Api, Reply, RequestContext};
use super::leaders::code_elsewhere;
use super::topics::find_name;
use crate::wire::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use crate::wire::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use crate::wire::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

pub struct OffsetForLeaderEpoch;

impl Api for OffsetForLeaderEpoch {
    type Request = OffsetForLeaderEpochRequest;
    const NAME: &'static str = "OffsetForLeaderEpoch";
    const VERSIONS: RangeInclusive<i16> = 2..=4;

    async fn handle(ctx: RequestContext, request: OffsetForLeaderEpochRequest) -> Reply<OffsetForLeaderEpochResponse> {
        let is_replica = ctx.version >= 3 && request.replica_id.0 >= 0;
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let end = if is_replica {
                    Err(ErrorCode::ClusterAuthorizationFailed)
                } else {
                    find(&ctx, topic.topic.as_str(), asked)
                };
                show(asked.partition, end)
            });
            OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
        });
        OffsetForLeaderEpochResponse::default().with_topics(topics.collect()).into()
    }
}

fn find(ctx: &RequestContext, topic: &str, asked: &OffsetForLeaderPartition) -> Result<Option<EpochEnd>, ErrorCode> {
    let image = ctx.broker.image();
    let topic = find_name(&image, topic)?;
    let index = PartitionIndex::from_wire(asked.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = TopicPartition { topic: topic.id, partition: index };
    let Some(epoch) = LeaderEpoch::from_wire(asked.leader_epoch) else { return Ok(None) };
    let current = LeaderEpoch::from_wire(asked.current_leader_epoch);
    ctx.broker.node.epoch_end(partition, current, epoch).map_err(|error| code_elsewhere(error.code()))
}

fn show(index: i32, end: Result<Option<EpochEnd>, ErrorCode>) -> EpochEndOffset {
    let shown = EpochEndOffset::default().with_partition(index);
    match end {
        Ok(Some(end)) => shown.with_leader_epoch(end.epoch.get()).with_end_offset(end.end.get()),
        Ok(None) => shown,
        Err(code) => shown.with_error_code(code.to_wire()),
    }
}

//! DescribeProducers (API key 61), version 0 (KIP-664).
//!
//! Owns the shapes. Does not own producers: a partition's replica remembers them. No transaction is ever open here, so
//! none is told. Invariant: one answer for each partition that is named.

use std::ops::RangeInclusive;

use model::{ErrorCode, PartitionIndex, TopicPartition};
use node::KnownProducer;

use super::context::{Api, Reply, RequestContext};
use super::leaders::code_elsewhere;
use super::once::once;
use super::topics::find_name;
use crate::wire::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use crate::wire::messages::{DescribeProducersRequest, DescribeProducersResponse};

pub struct DescribeProducers;

impl Api for DescribeProducers {
    type Request = DescribeProducersRequest;
    const NAME: &'static str = "DescribeProducers";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(ctx: RequestContext, request: DescribeProducersRequest) -> Reply<DescribeProducersResponse> {
        let topics = once(&request.topics, |topic| topic.name.as_str()).map(|topic| {
            let partitions = once(&topic.partition_indexes, |index| *index).map(|index| {
                let shown = PartitionResponse::default().with_partition_index(*index).with_error_message(None);
                match find(&ctx, topic.name.as_str(), *index) {
                    Ok(producers) => shown.with_active_producers(producers.iter().map(show).collect()),
                    Err(code) => shown.with_error_code(code.to_wire()),
                }
            });
            TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        DescribeProducersResponse::default().with_topics(topics.collect()).into()
    }
}

fn find(ctx: &RequestContext, topic: &str, index: i32) -> Result<Vec<KnownProducer>, ErrorCode> {
    let image = ctx.broker.image();
    let topic = find_name(&image, topic)?;
    let partition = PartitionIndex::from_wire(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    topic.partition(partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let held = ctx.broker.node.producers(TopicPartition { topic: topic.id, partition });
    held.ok_or(code_elsewhere(ErrorCode::UnknownTopicOrPartition))
}

fn show(producer: &KnownProducer) -> ProducerState {
    ProducerState::default()
        .with_producer_id(producer.id.0.into())
        .with_producer_epoch(producer.epoch.0.into())
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp_ms)
        .with_coordinator_epoch(-1)
        .with_current_txn_start_offset(-1)
}

//! OffsetDelete (API key 47), version 0 (KIP-496).
//!
//! Owns the shapes and topics that are not there; `replication::group` decides.
//! Invariant: one answer for each partition that is named, unless the whole is refused.

use std::ops::RangeInclusive;

use model::{ErrorCode, PartitionIndex, TopicName};
use replication::group::{GroupAnswer, GroupRequest};

use super::context::{Api, Reply, RequestContext};
use super::groups::optional_code;
use super::topics::find_name;
use crate::wire::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use crate::wire::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

pub struct OffsetDelete;

impl Api for OffsetDelete {
    type Request = OffsetDeleteRequest;
    const NAME: &'static str = "OffsetDelete";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(ctx: RequestContext, request: OffsetDeleteRequest) -> Reply<OffsetDeleteResponse> {
        let image = ctx.broker.image();
        let known = |topic: &str, index: i32| -> Option<(TopicName, PartitionIndex)> {
            let name = find_name(&image, topic).ok()?.name.clone();
            Some((name, PartitionIndex::from_wire(index)?))
        };
        let flat = request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| known(topic.name.as_str(), partition.partition_index))
        });
        let asked: Vec<_> = flat.collect();
        let wanted = asked.iter().flatten().cloned().collect();
        let answer = ctx.group(request.group_id.as_str(), GroupRequest::DeleteOffsets(wanted)).await;
        let GroupAnswer::DeleteOffsets(deleted) = answer else {
            unreachable!("a delete of offsets was answered with {answer:?}");
        };
        let results = match deleted {
            Ok(results) => results,
            Err(error) => return OffsetDeleteResponse::default().with_error_code(error.code().to_wire()).into(),
        };
        let mut results = results.into_iter();
        let mut codes = asked.into_iter().map(|known| match known {
            Some(_) => optional_code(results.next().flatten().as_ref()),
            None => ErrorCode::UnknownTopicOrPartition.to_wire(),
        });
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().zip(&mut codes).map(|(partition, code)| {
                OffsetDeleteResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code)
            });
            OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        OffsetDeleteResponse::default().with_topics(topics.collect()).into()
    }
}

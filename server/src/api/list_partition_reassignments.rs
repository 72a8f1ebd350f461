//! ListPartitionReassignments (API key 46), version 0.
//!
//! Owns which partitions are shown: those on their way from one set of replicas to another, all or among those named.
//! What is named and does not move, or is not there, is left out.

use std::ops::RangeInclusive;

use model::PartitionIndex;
use replication::metadata::PartitionInfo;

use super::admin::ids;
use super::context::{Api, Reply, RequestContext};
use super::topics::{find_name, text};
use crate::wire::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use crate::wire::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

pub struct ListPartitionReassignments;

impl Api for ListPartitionReassignments {
    type Request = ListPartitionReassignmentsRequest;
    const NAME: &'static str = "ListPartitionReassignments";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(
        ctx: RequestContext,
        request: ListPartitionReassignmentsRequest,
    ) -> Reply<ListPartitionReassignmentsResponse> {
        let image = ctx.broker.image();
        let mut topics = Vec::new();
        let mut put = |name: &str, partitions: Vec<OngoingPartitionReassignment>| {
            if !partitions.is_empty() {
                let topic = OngoingTopicReassignment::default().with_name(text(name).into());
                topics.push(topic.with_partitions(partitions));
            }
        };
        match &request.topics {
            None => image.topics().for_each(|topic| {
                let moving = topic.partitions().filter_map(|(index, partition)| show(index, partition));
                put(topic.name.as_str(), moving.collect());
            }),
            Some(named) => named.iter().for_each(|named| {
                let Ok(topic) = find_name(&image, named.name.as_str()) else { return };
                let moving = named.partition_indexes.iter().filter_map(|index| {
                    let index = PartitionIndex::from_wire(*index)?;
                    show(index, topic.partition(index)?)
                });
                put(named.name.as_str(), moving.collect());
            }),
        }
        ListPartitionReassignmentsResponse::default().with_error_message(None).with_topics(topics).into()
    }
}

fn show(index: PartitionIndex, partition: &PartitionInfo) -> Option<OngoingPartitionReassignment> {
    if partition.adding.is_empty() && partition.removing.is_empty() {
        return None;
    }
    let shown = OngoingPartitionReassignment::default()
        .with_partition_index(index.to_wire())
        .with_replicas(ids(&partition.replicas))
        .with_adding_replicas(ids(&partition.adding))
        .with_removing_replicas(ids(&partition.removing));
    Some(shown)
}

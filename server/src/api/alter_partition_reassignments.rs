//! AlterPartitionReassignments (API key 45), versions 0..=1.
//!
//! Owns the shapes. Does not own what may be assigned: the controller decides.
//! Versions: 1 can forbid a change of the replication factor (KIP-860).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use model::ErrorCode;
use node::requests::{ControllerAnswer, ControllerRequest, Reassignment, Refusal};

use super::admin::{merge, named, nodes, refused, shown, unexpected, wait};
use super::context::{Api, Reply, RequestContext};
use crate::wire::messages::alter_partition_reassignments_request::ReassignableTopic;
use crate::wire::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use crate::wire::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};

pub struct AlterPartitionReassignments;

impl Api for AlterPartitionReassignments {
    type Request = AlterPartitionReassignmentsRequest;
    const NAME: &'static str = "AlterPartitionReassignments";
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    async fn handle(
        ctx: RequestContext,
        request: AlterPartitionReassignmentsRequest,
    ) -> Reply<AlterPartitionReassignmentsResponse> {
        let allow_factor_change = ctx.version == 0 || request.allow_replication_factor_change;
        let asked = asked(&request.topics);
        let known: Vec<Reassignment> = asked.iter().filter_map(|one| one.as_ref().ok()).cloned().collect();
        let reassigned = if known.is_empty() {
            Ok(Vec::new())
        } else {
            reassign(&ctx, known, allow_factor_change, request.timeout_ms).await
        };
        let mut response =
            AlterPartitionReassignmentsResponse::default().with_error_message(None).with_responses(Vec::new());
        if ctx.version >= 1 {
            response.allow_replication_factor_change = allow_factor_change;
        }
        if let Err(refusal) = &reassigned {
            (response.error_code, response.error_message) = shown(&Err::<(), _>(refusal.clone()));
            return response.into();
        }
        let mut results = merge(refused(asked), reassigned).into_iter();
        for topic in &request.topics {
            let partitions = topic.partitions.iter().zip(&mut results).map(|(partition, result)| {
                let (code, message) = shown(&result);
                ReassignablePartitionResponse::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code)
                    .with_error_message(message)
            });
            let shown = ReassignableTopicResponse::default().with_name(topic.name.clone());
            response.responses.push(shown.with_partitions(partitions.collect()));
        }
        response.into()
    }
}

/// In the order of the request; a partition that is named twice is not moved at all.
fn asked(topics: &[ReassignableTopic]) -> Vec<Result<Reassignment, Refusal>> {
    let flat = || topics.iter().flat_map(|topic| topic.partitions.iter().map(move |partition| (topic, partition)));
    let mut times: BTreeMap<(&str, i32), usize> = BTreeMap::new();
    for (topic, partition) in flat() {
        *times.entry((topic.name.as_str(), partition.partition_index)).or_default() += 1;
    }
    let one = |(topic, partition): (&ReassignableTopic, &_)| {
        let partition: &crate::wire::messages::alter_partition_reassignments_request::ReassignablePartition = partition;
        if times.get(&(topic.name.as_str(), partition.partition_index)).is_some_and(|times| *times > 1) {
            return Err(Refusal::new(ErrorCode::InvalidRequest, "the partition is named more than once"));
        }
        let replicas = partition.replicas.as_deref().map(nodes);
        Ok(Reassignment { partition: named(topic.name.as_str(), partition.partition_index)?, replicas })
    };
    flat().map(one).collect()
}

async fn reassign(
    ctx: &RequestContext,
    partitions: Vec<Reassignment>,
    allow_factor_change: bool,
    timeout_ms: i32,
) -> Result<Vec<Result<(), Refusal>>, Refusal> {
    let request = ControllerRequest::Reassign { partitions, allow_factor_change };
    match ctx.controller(request, wait(timeout_ms)).await? {
        ControllerAnswer::Reassigned(results) => Ok(results),
        other => Err(unexpected(&other)),
    }
}

//! ElectLeaders (API key 43), versions 0..=2.
//!
//! Owns the shapes. Does not own who may lead: the controller decides.
//! Versions: 0 knows preferred leaders only, 1 has unclean elections (KIP-460) and an error for the whole.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use model::ErrorCode;
use node::requests::{ControllerAnswer, ControllerRequest, Election, NamedPartition, Refusal};
use tracing::warn;

use super::admin::{merge, named, refused, shown, unexpected, wait};
use super::context::{Api, Reply, RequestContext};
use super::topics::text;
use crate::net::shown::Shown;
use crate::wire::messages::elect_leaders_request::TopicPartitions;
use crate::wire::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use crate::wire::messages::{ElectLeadersRequest, ElectLeadersResponse};

pub struct ElectLeaders;

type Elected = Vec<(NamedPartition, Result<(), Refusal>)>;

impl Api for ElectLeaders {
    type Request = ElectLeadersRequest;
    const NAME: &'static str = "ElectLeaders";
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(ctx: RequestContext, request: ElectLeadersRequest) -> Reply<ElectLeadersResponse> {
        let election = match request.election_type {
            _ if ctx.version == 0 => Election::Preferred,
            0 => Election::Preferred,
            1 => Election::Unclean,
            _ => return failed(&ctx, &request, ErrorCode::InvalidRequest).into(),
        };
        if election == Election::Unclean {
            // It may lose records that were acknowledged: the log says who asked for it.
            let (client, peer) = (Shown(ctx.client_id()), ctx.connection.peer);
            warn!("client '{client}' from {peer} asks for an unclean election");
        }
        let Some(topics) = &request.topic_partitions else {
            return match elect(&ctx, election, None, request.timeout_ms).await {
                Ok(elected) => ElectLeadersResponse::default().with_replica_election_results(by_topic(&elected)).into(),
                Err(refusal) => failed(&ctx, &request, refusal.code).into(),
            };
        };
        let asked: Vec<_> = flat(topics).map(|(topic, index)| named(topic, index)).collect();
        let known = asked.iter().filter_map(|named| named.as_ref().ok()).cloned().collect();
        let elected = elect(&ctx, election, Some(known), request.timeout_ms).await;
        let elected = elected.map(|elected| elected.into_iter().map(|(_, result)| result).collect());
        let results = merge(refused(asked), elected);
        show(topics, results).into()
    }
}

fn flat(topics: &[TopicPartitions]) -> impl Iterator<Item = (&str, i32)> {
    topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic.as_str(), *index)))
}

async fn elect(
    ctx: &RequestContext,
    election: Election,
    partitions: Option<Vec<NamedPartition>>,
    timeout_ms: i32,
) -> Result<Elected, Refusal> {
    let request = ControllerRequest::ElectLeaders { election, partitions };
    match ctx.controller(request, wait(timeout_ms)).await? {
        ControllerAnswer::LeadersElected(elected) => Ok(elected),
        other => Err(unexpected(&other)),
    }
}

/// The same error for the whole, or for all that is named where the version has no error for the whole.
fn failed(ctx: &RequestContext, request: &ElectLeadersRequest, code: ErrorCode) -> ElectLeadersResponse {
    if ctx.version >= 1 {
        return ElectLeadersResponse::default().with_error_code(code.to_wire());
    }
    let topics = request.topic_partitions.as_deref().unwrap_or_default();
    let refusal = Refusal::new(code, "the election was not held");
    show(topics, flat(topics).map(|_| Err(refusal.clone())).collect())
}

fn show(topics: &[TopicPartitions], results: Vec<Result<(), Refusal>>) -> ElectLeadersResponse {
    let mut results = results.into_iter();
    let topics = topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(&mut results).map(|(index, result)| partition(*index, &result));
        ReplicaElectionResult::default().with_topic(topic.topic.clone()).with_partition_result(partitions.collect())
    });
    ElectLeadersResponse::default().with_replica_election_results(topics.collect())
}

fn partition(index: i32, result: &Result<(), Refusal>) -> PartitionResult {
    let (code, message) = shown(result);
    PartitionResult::default().with_partition_id(index).with_error_code(code).with_error_message(message)
}

fn by_topic(elected: &Elected) -> Vec<ReplicaElectionResult> {
    let mut topics: BTreeMap<&str, Vec<PartitionResult>> = BTreeMap::new();
    for (named, result) in elected {
        let place = topics.entry(named.topic.as_str()).or_default();
        place.push(partition(named.partition.to_wire(), result));
    }
    let show = |(name, partitions): (&str, Vec<_>)| {
        ReplicaElectionResult::default().with_topic(text(name).into()).with_partition_result(partitions)
    };
    topics.into_iter().map(show).collect()
}

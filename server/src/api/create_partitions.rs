//! CreatePartitions (API key 37), versions 0..=3.
//!
//! Owns the shapes and topics that are named twice. Does not own placement nor bounds: the controller decides.
//! Invariant: each topic of the request has one entry in the answer.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use model::{ErrorCode, TopicName};
use node::requests::{ControllerAnswer, ControllerRequest, MorePartitions, Refusal};

use super::admin::{merge, nodes, refused, shown, unexpected, wait};
use super::context::{Api, Reply, RequestContext};
use super::topics::text;
use crate::wire::messages::create_partitions_request::CreatePartitionsTopic;
use crate::wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use crate::wire::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

pub struct CreatePartitions;

impl Api for CreatePartitions {
    type Request = CreatePartitionsRequest;
    const NAME: &'static str = "CreatePartitions";
    const VERSIONS: RangeInclusive<i16> = 0..=3;

    async fn handle(ctx: RequestContext, request: CreatePartitionsRequest) -> Reply<CreatePartitionsResponse> {
        let mut named = BTreeMap::<&str, (&CreatePartitionsTopic, usize)>::new();
        for topic in &request.topics {
            named.entry(topic.name.as_str()).or_insert((topic, 0)).1 += 1;
        }
        let mut asked = Vec::new();
        let mut names = Vec::new();
        for (name, (topic, times)) in named {
            names.push(name);
            asked.push(if times > 1 {
                Err(Refusal::new(ErrorCode::InvalidRequest, "the topic is named more than once"))
            } else {
                check(topic)
            });
        }
        let known: Vec<MorePartitions> = asked.iter().filter_map(|one| one.as_ref().ok()).cloned().collect();
        let created = if known.is_empty() {
            Ok(Vec::new())
        } else {
            create(&ctx, known, request.validate_only, request.timeout_ms).await
        };
        let results = merge(refused(asked), created);
        let shown = names.into_iter().zip(results).map(|(name, result)| {
            let (code, message) = shown(&result);
            CreatePartitionsTopicResult::default()
                .with_name(text(name).into())
                .with_error_code(code)
                .with_error_message(message)
        });
        CreatePartitionsResponse::default().with_results(shown.collect()).into()
    }
}

fn check(topic: &CreatePartitionsTopic) -> Result<MorePartitions, Refusal> {
    let unknown = |error| Refusal::new(ErrorCode::UnknownTopicOrPartition, format!("no topic has this name: {error}"));
    let name = TopicName::new(topic.name.as_str()).map_err(unknown)?;
    let too_few =
        || Refusal::new(ErrorCode::InvalidPartitions, format!("{} partitions: 1 or more are needed", topic.count));
    let total = u32::try_from(topic.count).ok().filter(|count| *count > 0).ok_or_else(too_few)?;
    let assignments = topic.assignments.as_deref().unwrap_or_default();
    if topic.assignments.is_some() && assignments.is_empty() {
        let message = "an assignment by hand names the replicas of no partition";
        return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    let assignment = assignments.iter().map(|assignment| nodes(&assignment.broker_ids)).collect();
    Ok(MorePartitions { topic: name, total, assignment })
}

async fn create(
    ctx: &RequestContext,
    topics: Vec<MorePartitions>,
    validate_only: bool,
    timeout_ms: i32,
) -> Result<Vec<Result<(), Refusal>>, Refusal> {
    let request = ControllerRequest::CreatePartitions { topics, validate_only };
    match ctx.controller(request, wait(timeout_ms)).await? {
        ControllerAnswer::PartitionsCreated(results) => Ok(results),
        other => Err(unexpected(&other)),
    }
}

//! CreateTopics (API key 19), versions 2..=7.
//!
//! Owns what can be refused without asking the controller: names, duplicates, assignments that are none.
//! Invariant: each topic of the request has one entry in the answer; one that is named twice is made zero times.
//! Versions: 4 allows defaults (−1), 5 answers with what was made, 7 with its id.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use model::{ErrorCode, NodeId, TopicName};
use node::requests::{Answer, CreatedTopic, NewTopic, Refusal};
use replication::metadata::resolve::describe_topic;

use super::context::{Api, Reply, RequestContext};
use super::topics::{text, uuid_of};
use crate::net::reply::ReplyCell;
use crate::wire::messages::create_topics_request::CreatableTopic;
use crate::wire::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use crate::wire::messages::{CreateTopicsRequest, CreateTopicsResponse};

/// Topics of one request: they are made in one step of the controller, which does nothing else meanwhile (Kafka's controller takes
/// 10,000 records of one request).
const TOPICS_MAX: usize = 10_000;

pub struct CreateTopics;

impl Api for CreateTopics {
    type Request = CreateTopicsRequest;
    const NAME: &'static str = "CreateTopics";
    const VERSIONS: RangeInclusive<i16> = 2..=7;

    async fn handle(ctx: RequestContext, request: CreateTopicsRequest) -> Reply<CreateTopicsResponse> {
        let mut named = BTreeMap::<&str, (&CreatableTopic, usize)>::new();
        for topic in &request.topics {
            named.entry(topic.name.as_str()).or_insert((topic, 0)).1 += 1;
        }
        let mut refused = Vec::new();
        let mut asked = Vec::new();
        let count = named.len();
        for (name, (topic, times)) in named {
            let checked = if count > TOPICS_MAX {
                let message = format!("{count} topics: one request makes at most {TOPICS_MAX}");
                Err(refuse(ErrorCode::PolicyViolation, message))
            } else if times > 1 {
                Err(refuse(ErrorCode::InvalidRequest, "the topic is named more than once"))
            } else {
                check(topic)
            };
            match checked {
                Ok(topic) => asked.push(topic),
                Err(refusal) => refused.push(failed(name, &refusal)),
            }
        }
        let results = ask(&ctx, &asked, request.validate_only).await;
        let made = asked.iter().zip(results).map(|(topic, result)| match result {
            Ok(created) => show(&ctx, topic, &created),
            Err(refusal) => failed(topic.name.as_str(), &refusal),
        });
        let topics = made.chain(refused).collect();
        CreateTopicsResponse::default().with_topics(topics).into()
    }
}

async fn ask(ctx: &RequestContext, topics: &[NewTopic], validate_only: bool) -> Vec<Result<CreatedTopic, Refusal>> {
    if topics.is_empty() {
        return Vec::new();
    }
    let cell = ReplyCell::new();
    let to = cell.reply_to();
    ctx.broker.call(|node, now, fx| node.create_topics(now, topics.to_vec(), validate_only, to, fx));
    match cell.answer().await {
        Answer::TopicsCreated(results) => results,
        other => unreachable!("create_topics was answered with {other:?}"),
    }
}

fn refuse(code: ErrorCode, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into() }
}

fn check(topic: &CreatableTopic) -> Result<NewTopic, Refusal> {
    let name = TopicName::new(topic.name.as_str())
        .map_err(|error| refuse(ErrorCode::InvalidTopicException, error.to_string()))?;
    let partitions = match topic.num_partitions {
        -1 => None,
        count => Some(u32::try_from(count).ok().filter(|count| *count > 0).ok_or_else(|| {
            refuse(
                ErrorCode::InvalidPartitions,
                format!("{count} partitions: 1 or more are needed, or -1 for the default"),
            )
        })?),
    };
    let replication_factor = match topic.replication_factor {
        -1 => None,
        factor => Some(u16::try_from(factor).ok().filter(|factor| *factor > 0).ok_or_else(|| {
            refuse(
                ErrorCode::InvalidReplicationFactor,
                format!("replication factor {factor}: 1 or more is needed, or -1 for the default"),
            )
        })?),
    };
    if !topic.assignments.is_empty() && (partitions.is_some() || replication_factor.is_some()) {
        let message = "with an assignment by hand, partitions and replication factor must be -1";
        return Err(refuse(ErrorCode::InvalidRequest, message));
    }
    let mut config = BTreeMap::new();
    for entry in &topic.configs {
        let Some(value) = &entry.value else {
            return Err(refuse(
                ErrorCode::InvalidConfig,
                format!("{} has no value", crate::net::shown::Shown(&entry.name)),
            ));
        };
        config.insert(entry.name.to_string(), value.to_string());
    }
    Ok(NewTopic { name, partitions, replication_factor, assignment: assignment(topic)?, config })
}

/// Replicas of each partition, from 0 on without a gap.
fn assignment(topic: &CreatableTopic) -> Result<Vec<Vec<NodeId>>, Refusal> {
    let mut by_index = BTreeMap::new();
    for assignment in &topic.assignments {
        let replicas: Vec<NodeId> = assignment.broker_ids.iter().map(|id| NodeId(id.0)).collect();
        if by_index.insert(assignment.partition_index, replicas).is_some() {
            let message = format!("partition {} is assigned twice", assignment.partition_index);
            return Err(refuse(ErrorCode::InvalidReplicaAssignment, message));
        }
    }
    if !by_index.keys().copied().eq((0..).take(by_index.len())) {
        return Err(refuse(ErrorCode::InvalidReplicaAssignment, "partitions must be numbered from 0 without a gap"));
    }
    Ok(by_index.into_values().collect())
}

fn failed(name: &str, refusal: &Refusal) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(text(name).into())
        .with_error_code(refusal.code.to_wire())
        .with_error_message(Some(text(&refusal.message)))
        .with_configs(None)
}

fn show(ctx: &RequestContext, topic: &NewTopic, created: &CreatedTopic) -> CreatableTopicResult {
    let mut result = CreatableTopicResult::default().with_name(text(topic.name.as_str()).into());
    if ctx.version >= 7 {
        result.topic_id = uuid_of(created.id);
    }
    if ctx.version >= 5 {
        result.num_partitions = i32::try_from(created.partitions).unwrap_or(i32::MAX);
        result.replication_factor = i16::try_from(created.replication_factor).unwrap_or(i16::MAX);
        result.configs = Some(configs(ctx, topic));
    }
    result
}

fn configs(ctx: &RequestContext, topic: &NewTopic) -> Vec<CreatableTopicConfigs> {
    let image = ctx.broker.image();
    let Some(made) = image.topic(&topic.name) else { return Vec::new() };
    let config = |described: replication::metadata::resolve::Described| {
        CreatableTopicConfigs::default()
            .with_name(text(described.name))
            .with_value(described.value.as_deref().map(text))
            .with_read_only(described.read_only)
            .with_config_source(described.source.to_wire())
            .with_is_sensitive(described.sensitive)
    };
    describe_topic(&image, made).into_iter().map(config).collect()
}

//! DeleteTopics (API key 20), versions 1..=6.
//!
//! Owns the two ways to name a topic. Invariant: one answer for each name or id of the request.
//! Versions: 5 has messages, 6 names topics by name or by id.

use std::ops::RangeInclusive;

use model::{ErrorCode, TopicName};
use node::requests::{Answer, Refusal, TopicRef};

use super::context::{Api, Reply, RequestContext};
use super::topics::{id_of, text, uuid_of};
use crate::net::reply::ReplyCell;
use crate::wire::messages::delete_topics_request::DeleteTopicState;
use crate::wire::messages::delete_topics_response::DeletableTopicResult;
use crate::wire::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

pub struct DeleteTopics;

impl Api for DeleteTopics {
    type Request = DeleteTopicsRequest;
    const NAME: &'static str = "DeleteTopics";
    const VERSIONS: RangeInclusive<i16> = 1..=6;

    async fn handle(ctx: RequestContext, request: DeleteTopicsRequest) -> Reply<DeleteTopicsResponse> {
        let named: Vec<DeleteTopicState> = if ctx.version >= 6 {
            request.topics
        } else {
            request.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name))).collect()
        };
        let enabled = ctx.broker.image().statics().delete_topics;
        let mut answers: Vec<Option<DeletableTopicResult>> = Vec::with_capacity(named.len());
        let mut asked = Vec::new();
        for topic in &named {
            let checked = if enabled { check(topic) } else { Err(disabled()) };
            match checked {
                Ok(reference) => {
                    asked.push(reference);
                    answers.push(None);
                }
                Err(refusal) => answers.push(Some(failed(&ctx, topic, &refusal))),
            }
        }
        let mut results = ask(&ctx, asked).await.into_iter();
        for (topic, answer) in named.iter().zip(&mut answers) {
            if answer.is_none() {
                *answer = results.next().map(|result| match result {
                    Ok((name, id)) => {
                        let result = DeletableTopicResult::default().with_name(Some(text(name.as_str()).into()));
                        if ctx.version >= 6 { result.with_topic_id(uuid_of(id)) } else { result }
                    }
                    Err(refusal) => failed(&ctx, topic, &refusal),
                });
            }
        }
        DeleteTopicsResponse::default().with_responses(answers.into_iter().flatten().collect()).into()
    }
}

fn check(topic: &DeleteTopicState) -> Result<TopicRef, Refusal> {
    let refuse = |code, message: String| Err(Refusal { code, message });
    let Some(name) = &topic.name else { return Ok(TopicRef::Id(id_of(topic.topic_id))) };
    if !topic.topic_id.is_nil() {
        return refuse(ErrorCode::InvalidRequest, "a topic is named by its name or by its id, not by both".to_owned());
    }
    match TopicName::new(name.as_str()) {
        Ok(name) => Ok(TopicRef::Name(name)),
        Err(_) => refuse(ErrorCode::UnknownTopicOrPartition, "no topic has this name".to_owned()),
    }
}

fn disabled() -> Refusal {
    Refusal { code: ErrorCode::TopicDeletionDisabled, message: "delete.topic.enable is false".to_owned() }
}

async fn ask(ctx: &RequestContext, topics: Vec<TopicRef>) -> Vec<Result<(TopicName, model::TopicId), Refusal>> {
    if topics.is_empty() {
        return Vec::new();
    }
    let cell = ReplyCell::new();
    let to = cell.reply_to();
    ctx.broker.call(|node, now, fx| node.delete_topics(now, topics, to, fx));
    match cell.answer().await {
        Answer::TopicsDeleted(results) => results,
        other => unreachable!("delete_topics was answered with {other:?}"),
    }
}

fn failed(ctx: &RequestContext, topic: &DeleteTopicState, refusal: &Refusal) -> DeletableTopicResult {
    let mut result =
        DeletableTopicResult::default().with_name(topic.name.clone()).with_error_code(refusal.code.to_wire());
    if ctx.version >= 5 {
        result.error_message = Some(text(&refusal.message));
    }
    if ctx.version >= 6 {
        result.topic_id = topic.topic_id;
    }
    result
}

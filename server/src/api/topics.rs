//! Finding topics that requests name, and making those that may be made on first use.
//!
//! Owns the change between wire names and checked ones. Does not own the metadata.

use std::sync::Arc;

use model::{ErrorCode, TopicId, TopicName};
use node::requests::{Answer, CreatedTopic, NewTopic, Refusal};
use replication::controller::topics::{OFFSETS_TOPIC, offsets_topic};
use replication::metadata::{Image, Topic};
use tracing::{info, warn};

use super::context::RequestContext;
use crate::net::reply::ReplyCell;
use crate::net::shown::Shown;
use crate::wire::{StrBytes, Uuid};

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn message(error: &impl std::fmt::Display) -> Option<StrBytes> {
    Some(StrBytes::from_string(error.to_string()))
}

pub fn id_of(uuid: Uuid) -> TopicId {
    TopicId(uuid.into_bytes())
}

pub fn uuid_of(id: TopicId) -> Uuid {
    Uuid::from_bytes(id.0)
}

/// The topic that a request names, by id where its version has ids.
pub fn find<'a>(image: &'a Image, name: &str, id: Uuid, by_id: bool) -> Result<&'a Arc<Topic>, ErrorCode> {
    if by_id {
        return image.topic_by_id(id_of(id)).ok_or(ErrorCode::UnknownTopicId);
    }
    find_name(image, name)
}

pub fn find_name<'a>(image: &'a Image, name: &str) -> Result<&'a Arc<Topic>, ErrorCode> {
    // A name that no topic can have is, here, one that no topic has.
    let name = TopicName::new(name).map_err(|_| ErrorCode::UnknownTopicOrPartition)?;
    image.topic(&name).ok_or(ErrorCode::UnknownTopicOrPartition)
}

/// Makes topics with the cluster's defaults, one result for each. Those that are there already are no failure.
pub async fn create_on_use(ctx: &RequestContext, names: &[TopicName]) -> Vec<Result<CreatedTopic, Refusal>> {
    let image = ctx.broker.image();
    let new = |name: &TopicName| match name.as_str() {
        OFFSETS_TOPIC => offsets_topic(&image),
        _ => NewTopic::with_defaults(name.clone()),
    };
    let cell = ReplyCell::new();
    let to = cell.reply_to();
    let topics = names.iter().map(new).collect();
    ctx.broker.call(|node, now, fx| node.create_topics(now, topics, false, to, fx));
    let Answer::TopicsCreated(results) = cell.answer().await else {
        unreachable!("create_topics answers with TopicsCreated");
    };
    for (name, result) in names.iter().zip(&results) {
        match result {
            Ok(created) => info!(
                "topic {name} with {} partitions was created on first use by client '{}' from {}",
                created.partitions,
                Shown(ctx.client_id()),
                ctx.connection.peer
            ),
            Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => {}
            Err(refusal) => warn!(
                "topic {name} could not be created on first use by client '{}' from {}: {refusal}",
                Shown(ctx.client_id()),
                ctx.connection.peer
            ),
        }
    }
    results
}

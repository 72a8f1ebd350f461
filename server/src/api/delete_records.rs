//! DeleteRecords (API key 21), versions 0..=2.
//!
//! Owns the checks that need no partition state: topic known, not an internal one, a policy that deletes. Does not own the move:
//! `node::partition`. Invariant: one answer for each partition that is named.
//! Versions: 1 is about quotas, 2 is flexible.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use model::{ErrorCode, Offset, PartitionIndex, TopicPartition};
use node::requests::{Answer, DeletePart};
use replication::controller::topics::OFFSETS_TOPIC;
use replication::metadata::Image;

use super::context::{Api, Reply, RequestContext};
use super::leaders::code_elsewhere;
use super::topics::find_name;
use crate::net::reply::ReplyCell;
use crate::wire::messages::delete_records_request::DeleteRecordsPartition;
use crate::wire::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use crate::wire::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

pub struct DeleteRecords;

/// All that is committed.
const HIGH_WATERMARK: i64 = -1;
/// What a refused partition is answered with in place of its start.
const NO_START: i64 = -1;

impl Api for DeleteRecords {
    type Request = DeleteRecordsRequest;
    const NAME: &'static str = "DeleteRecords";
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(ctx: RequestContext, request: DeleteRecordsRequest) -> Reply<DeleteRecordsResponse> {
        let image = ctx.broker.image();
        // A partition that is named twice is asked for once, with what was said last.
        let mut asked = BTreeMap::new();
        for topic in &request.topics {
            for partition in &topic.partitions {
                let checked = check(&image, topic.name.as_str(), partition);
                asked.insert((topic.name.clone(), partition.partition_index), checked);
            }
        }
        let parts: Vec<DeletePart> = asked.values().filter_map(|checked| checked.as_ref().ok().copied()).collect();
        let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
        let mut deleted = ask(&ctx, parts, timeout).await.into_iter();
        let mut topics: Vec<DeleteRecordsTopicResult> = Vec::new();
        for ((topic, index), checked) in asked {
            let start = match checked {
                Ok(_) => deleted.next().unwrap_or(Err(ErrorCode::UnknownServerError)),
                Err(code) => Err(code),
            };
            if topics.last().is_none_or(|last| last.name != topic) {
                topics.push(DeleteRecordsTopicResult::default().with_name(topic));
            }
            if let Some(last) = topics.last_mut() {
                last.partitions.push(show(index, start));
            }
        }
        DeleteRecordsResponse::default().with_topics(topics).into()
    }
}

fn check(image: &Image, topic: &str, asked: &DeleteRecordsPartition) -> Result<DeletePart, ErrorCode> {
    let topic = find_name(image, topic)?;
    let index = PartitionIndex::from_wire(asked.partition_index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topic.name.as_str() == OFFSETS_TOPIC {
        return Err(ErrorCode::InvalidTopicException);
    }
    // What is only compacted promises its newest record of each key for ever.
    if topic.config.cleanup.compact && !topic.config.cleanup.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let before = match asked.offset {
        HIGH_WATERMARK => None,
        offset => Some(Offset::from_wire(offset).ok_or(ErrorCode::OffsetOutOfRange)?),
    };
    Ok(DeletePart { partition: TopicPartition { topic: topic.id, partition: index }, before })
}

async fn ask(ctx: &RequestContext, parts: Vec<DeletePart>, timeout: Duration) -> Vec<Result<Offset, ErrorCode>> {
    if parts.is_empty() {
        return Vec::new();
    }
    let cell = ReplyCell::new();
    let to = cell.reply_to();
    ctx.broker.call(|node, now, fx| node.delete_records(now, &parts, timeout, to, fx));
    match cell.answer().await {
        Answer::RecordsDeleted(results) => {
            results.into_iter().map(|result| result.map_err(|error| code_elsewhere(error.code()))).collect()
        }
        other => unreachable!("delete_records was answered with {other:?}"),
    }
}

fn show(index: i32, start: Result<Offset, ErrorCode>) -> DeleteRecordsPartitionResult {
    let shown = DeleteRecordsPartitionResult::default().with_partition_index(index);
    match start {
        Ok(start) => shown.with_low_watermark(start.get()),
        Err(code) => shown.with_low_watermark(NO_START).with_error_code(code.to_wire()),
    }
}

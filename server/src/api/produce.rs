//! Produce (API key 0), versions 3..=13.
//!
//! Owns the checks that need no partition state: topic known, one batch, CRC, size, records.
//! Does not own offsets, duplicates or acks: `replication::partition` decides those.
//! Invariants: each partition named in the request gets exactly one answer; with acks=0, none, and a failure that is
//! known here closes the connection, as Kafka does. A partition named twice is appended to zero times.
//! Versions: 7 allows zstd, 8 adds per-record errors (KIP-467), 9 is flexible, 10 names the new leader (KIP-951),
//! 13 names topics by id.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use bytes::Bytes;
use model::batch::{Batch, BatchError, Codec, split_batches};
use model::units::wait_from_wire;
use model::{ErrorCode, PartitionIndex, TopicPartition};
use node::requests::{Acks, Answer, AppendError, Appended, Produce as NodeProduce, ProducePart};
use replication::metadata::topic_config::Compression;
use replication::metadata::{Topic, TopicConfig};
use storage::codec::DecompressLimits;
use storage::record::{ProduceRules, ValidateError, validate_records};

use super::context::{Api, Reply, RequestContext};
use super::leaders::Leaders;
use super::recompress::{RecompressError, recompress};
use super::topics::{find, message};
use crate::clock;
use crate::metrics::add;
use crate::net::reply::ReplyCell;
use crate::wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use crate::wire::messages::produce_response::{
    BatchIndexAndErrorMessage, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use crate::wire::messages::{ProduceRequest, ProduceResponse};
use crate::wire::{StrBytes, Uuid};

pub struct Produce;

impl Api for Produce {
    type Request = ProduceRequest;
    const NAME: &'static str = "Produce";
    const VERSIONS: RangeInclusive<i16> = 3..=13;

    async fn handle(ctx: RequestContext, request: ProduceRequest) -> Reply<ProduceResponse> {
        let acks = match request.acks {
            0 => Ok(Acks::None),
            1 => Ok(Acks::Leader),
            -1 => Ok(Acks::All),
            acks => Err(PartError::Acks { acks }),
        };
        let refusal = match (&acks, &request.transactional_id) {
            (Err(error), _) => Some(error.clone()),
            (Ok(_), Some(_)) => Some(PartError::Append(AppendError::TransactionsNotServed)),
            (Ok(_), None) => None,
        };
        let (shape, parts) = split(&ctx, request.topic_data, refusal.as_ref());
        let acks = acks.unwrap_or(Acks::All);
        if acks == Acks::None {
            return produce_silently(&ctx, &shape, parts);
        }
        let cell = ReplyCell::new();
        let results = if parts.is_empty() {
            Vec::new()
        } else {
            let produce =
                NodeProduce { acks, timeout: wait_from_wire(request.timeout_ms), parts, reply: cell.reply_to() };
            ctx.broker.call(|node, now, fx| node.produce(now, produce, fx));
            match cell.answer().await {
                Answer::Produced(answer) => answer.parts,
                other => unreachable!("a produce was answered with {other:?}"),
            }
        };
        respond(&ctx, shape, results).into()
    }
}

/// Why one partition of a request was not appended to.
#[derive(Clone, Debug, thiserror::Error)]
enum PartError {
    #[error("acks is {acks}, only -1, 0 and 1 mean something")]
    Acks { acks: i16 },
    #[error("there is no such topic or partition here")]
    Unknown { by_id: bool },
    #[error("the topic is written by the cluster itself only")]
    Internal,
    #[error("the partition is named more than once in this request")]
    Twice,
    #[error("{batches} batches, exactly one is allowed for each partition")]
    Batches { batches: &'static str },
    #[error("{0}")]
    Batch(#[from] BatchError),
    #[error("zstd needs Produce version 7 or later")]
    ZstdTooEarly,
    #[error("{0}")]
    Records(#[from] ValidateError),
    #[error("{0}")]
    Recompress(#[from] RecompressError),
    #[error("{0}")]
    Append(#[from] AppendError),
}

impl PartError {
    fn code(&self) -> ErrorCode {
        match self {
            PartError::Acks { .. } => ErrorCode::InvalidRequiredAcks,
            PartError::Unknown { by_id: true } => ErrorCode::UnknownTopicId,
            PartError::Unknown { by_id: false } => ErrorCode::UnknownTopicOrPartition,
            PartError::Internal => ErrorCode::InvalidTopicException,
            PartError::Twice => ErrorCode::InvalidRequest,
            PartError::Batches { .. } => ErrorCode::InvalidRecord,
            PartError::Batch(error) => error.code(),
            PartError::ZstdTooEarly => ErrorCode::UnsupportedCompressionType,
            PartError::Records(error) => error.code(),
            PartError::Recompress(RecompressError::Codec(error)) => error.code(),
            PartError::Recompress(RecompressError::Batch(error)) => error.code(),
            PartError::Append(error) => error.code(),
        }
    }
}

/// The request as it must be answered: what was submitted has no error yet.
struct TopicShape {
    name: crate::wire::messages::TopicName,
    id: Uuid,
    partitions: Vec<(i32, Option<PartError>)>,
}

fn split(
    ctx: &RequestContext,
    topics: Vec<TopicProduceData>,
    refusal: Option<&PartError>,
) -> (Vec<TopicShape>, Vec<ProducePart>) {
    let image = ctx.broker.image();
    let twice = named_twice(&topics);
    let mut answered = BTreeSet::new();
    let mut parts = Vec::with_capacity(topics.iter().map(|topic| topic.partition_data.len()).sum());
    let mut shape = Vec::with_capacity(topics.len());
    for data in topics {
        let topic = find(&image, data.name.as_str(), data.topic_id, ctx.version >= 13).ok();
        let mut partitions = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let index = partition.index;
            let named = (data.name.0.clone(), data.topic_id, index);
            let error = if twice.contains(&named) {
                if !answered.insert(named) {
                    continue;
                }
                Some(PartError::Twice)
            } else {
                match part(ctx, topic.map(|topic| &**topic), partition, refusal) {
                    Ok(part) => {
                        parts.push(part);
                        None
                    }
                    Err(error) => Some(error),
                }
            };
            partitions.push((index, error));
        }
        shape.push(TopicShape { name: data.name, id: data.topic_id, partitions });
    }
    (shape, parts)
}

/// Partitions that the request names more than once.
fn named_twice(topics: &[TopicProduceData]) -> BTreeSet<(StrBytes, Uuid, i32)> {
    if let [topic] = topics
        && topic.partition_data.len() < 2
    {
        return BTreeSet::new();
    }
    let mut seen = BTreeSet::new();
    let named = topics.iter().flat_map(|topic| {
        topic.partition_data.iter().map(|partition| (topic.name.0.clone(), topic.topic_id, partition.index))
    });
    named.filter(|named| !seen.insert(named.clone())).collect()
}

fn part(
    ctx: &RequestContext,
    topic: Option<&Topic>,
    data: PartitionProduceData,
    refusal: Option<&PartError>,
) -> Result<ProducePart, PartError> {
    if let Some(refusal) = refusal {
        return Err(refusal.clone());
    }
    let topic = topic.ok_or(PartError::Unknown { by_id: ctx.version >= 13 })?;
    if topic.name.is_internal() {
        return Err(PartError::Internal);
    }
    let index = PartitionIndex::from_wire(data.index).ok_or(PartError::Unknown { by_id: false })?;
    topic.partition(index).ok_or(PartError::Unknown { by_id: false })?;
    let records = data.records.unwrap_or_default();
    add(&ctx.broker.metrics.records_bytes_in, records.len() as u64);
    let batch = check(ctx, &topic.config, records)?;
    Ok(ProducePart { partition: TopicPartition { topic: topic.id, partition: index }, batch })
}

/// One batch whose records are as the topic wants them.
fn check(ctx: &RequestContext, config: &TopicConfig, records: Bytes) -> Result<Batch, PartError> {
    let mut batches = split_batches(records);
    let batch = batches.next().ok_or(PartError::Batches { batches: "no" })??;
    if batches.next().is_some() {
        return Err(PartError::Batches { batches: "several" });
    }
    let codec = batch.header().attributes.codec()?;
    if codec == Codec::Zstd && ctx.version < 7 {
        return Err(PartError::ZstdTooEarly);
    }
    if batch.header().attributes.is_transactional() {
        return Err(AppendError::TransactionsNotServed.into());
    }
    let rules = rules(config);
    let limits = DecompressLimits {
        output_bytes_max: DecompressLimits::DEFAULT.output_bytes_max.min(config.max_decompressed_message_bytes.into()),
        ..DecompressLimits::DEFAULT
    };
    let summary = validate_records(&batch, limits, &rules)?;
    let batch = match config.compression {
        Compression::Codec { codec: wanted, level } if wanted != codec => {
            recompress(&batch, wanted, Some(level), limits)?
        }
        Compression::Codec { .. } | Compression::Producer => batch,
    };
    // The producer's own maximum may be wrong, and time indexes are made from it.
    Ok(batch.with_max_timestamp(config.timestamp_type, summary.max_timestamp))
}

fn rules(config: &TopicConfig) -> ProduceRules {
    let bound = |ms: u64| i64::try_from(ms).ok().filter(|ms| *ms != i64::MAX);
    ProduceRules {
        batch_bytes_max: usize::try_from(config.max_message_bytes).unwrap_or(usize::MAX),
        keys_required: config.cleanup.compact,
        timestamp_type: config.timestamp_type,
        now_ms: clock::now().wall_ms,
        timestamp_before_max_ms: bound(config.timestamp_before_max_ms),
        timestamp_after_max_ms: bound(config.timestamp_after_max_ms),
    }
}

fn produce_silently(ctx: &RequestContext, shape: &[TopicShape], parts: Vec<ProducePart>) -> Reply<ProduceResponse> {
    if !parts.is_empty() {
        let reply = ReplyCell::new().reply_to();
        let produce = NodeProduce { acks: Acks::None, timeout: std::time::Duration::ZERO, parts, reply };
        ctx.broker.call(|node, now, fx| node.produce(now, produce, fx));
    }
    let failed = || shape.iter().flat_map(|topic| &topic.partitions).filter_map(|(_, error)| error.as_ref());
    failed().for_each(|error| ctx.broker.metrics.refused(error.code()));
    match failed().next() {
        Some(error) => Reply::Close { reason: error.to_string() },
        None => Reply::Silent,
    }
}

fn respond(
    ctx: &RequestContext,
    shape: Vec<TopicShape>,
    results: Vec<Result<Appended, AppendError>>,
) -> ProduceResponse {
    let mut leaders = Leaders::default();
    let mut results = results.into_iter();
    let mut responses = Vec::with_capacity(shape.len());
    let image = ctx.broker.image();
    for topic in shape {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (index, error) in topic.partitions {
            let result = match error {
                Some(error) => Err(error),
                None => {
                    let result = results.next().expect("one result for each part");
                    let named = find(&image, topic.name.as_str(), topic.id, ctx.version >= 13).ok();
                    result.map_err(|error| PartError::Append(elsewhere(named.map(|topic| &**topic), index, error)))
                }
            };
            partitions.push(match result {
                Ok(appended) => succeeded(ctx, index, &appended),
                Err(error) => {
                    ctx.broker.metrics.refused(error.code());
                    failed(ctx, index, &error, &mut leaders)
                }
            });
        }
        let mut response = TopicProduceResponse::default().with_partition_responses(partitions);
        if ctx.version >= 13 {
            response.topic_id = topic.id;
        } else {
            response.name = topic.name;
        }
        responses.push(response);
    }
    let mut response = ProduceResponse::default().with_responses(responses);
    if ctx.version >= 10 {
        response.node_endpoints = leaders
            .into_endpoints()
            .map(|(node, endpoint, rack)| {
                NodeEndpoint::default()
                    .with_node_id(node.0.into())
                    .with_host(StrBytes::from_string(endpoint.host))
                    .with_port(endpoint.port.into())
                    .with_rack(rack.map(StrBytes::from_string))
            })
            .collect();
    }
    response
}

/// A partition that is not on this node, and that the metadata has, is led elsewhere: the client is to go there.
fn elsewhere(topic: Option<&Topic>, index: i32, error: AppendError) -> AppendError {
    let known = || topic?.partition(PartitionIndex::from_wire(index)?);
    match (error, known()) {
        (AppendError::UnknownPartition, Some(partition)) => {
            AppendError::NotLeader { leader: partition.leader, epoch: partition.leader_epoch }
        }
        (error, _) => error,
    }
}

fn succeeded(ctx: &RequestContext, index: i32, appended: &Appended) -> PartitionProduceResponse {
    let mut response = PartitionProduceResponse::default()
        .with_index(index)
        .with_base_offset(appended.base_offset.get())
        .with_log_append_time_ms(appended.log_append_time_ms.unwrap_or(-1));
    if ctx.version >= 5 {
        response.log_start_offset = appended.log_start.get();
    }
    response
}

fn failed(ctx: &RequestContext, index: i32, error: &PartError, leaders: &mut Leaders) -> PartitionProduceResponse {
    let mut response = PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(error.code().to_wire())
        .with_base_offset(-1);
    if ctx.version >= 8 {
        response.error_message = message(error);
        if let PartError::Records(refused) = error
            && let Some(record) = refused.record_index()
        {
            let named = BatchIndexAndErrorMessage::default()
                .with_batch_index(record)
                .with_batch_index_error_message(message(refused));
            response.record_errors = vec![named];
        }
    }
    if let PartError::Append(AppendError::NotLeader { leader, epoch }) = error
        && ctx.version >= 10
    {
        let (leader, epoch) = leaders.note(ctx, *leader, *epoch);
        response.current_leader.leader_id = leader.into();
        response.current_leader.leader_epoch = epoch;
    }
    response
}

//! OffsetCommit (API key 8), versions 2..=10.
//!
//! Owns which topics and partitions exist; `replication::group` decides about the rest.
//! Invariant: one answer for each partition; one that is named twice is committed zero times.
//! Versions: up to 4 the client names a retention, 6 has leader epochs, 7 static members, 10 names topics by id.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use model::{ErrorCode, PartitionIndex};
use replication::group::{CommitOffset, CommitOffsets, GroupAnswer, GroupError, GroupRequest, MemberId};
use replication::metadata::{Image, Topic};

use super::context::{Api, Reply, RequestContext};
use super::groups::{instance, optional_code};
use super::topics::find;
use crate::wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use crate::wire::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use crate::wire::messages::{OffsetCommitRequest, OffsetCommitResponse};
use crate::wire::{StrBytes, Uuid};

pub struct OffsetCommit;

impl Api for OffsetCommit {
    type Request = OffsetCommitRequest;
    const NAME: &'static str = "OffsetCommit";
    const VERSIONS: RangeInclusive<i16> = 2..=10;

    async fn handle(ctx: RequestContext, request: OffsetCommitRequest) -> Reply<OffsetCommitResponse> {
        let (mut topics, offsets) = split(&ctx, &ctx.broker.image(), &request.topics);
        let generation = request.generation_id_or_member_epoch;
        let commit = CommitOffsets {
            version: ctx.version,
            member_id: MemberId::from_wire(request.member_id.as_str()),
            instance_id: instance(request.group_instance_id.as_ref()),
            generation: (generation >= 0).then_some(generation),
            retention_ms: Some(request.retention_time_ms).filter(|ms| ctx.version <= 4 && *ms >= 0),
            offsets,
        };
        let submitted = commit.offsets.len();
        let mut results = if submitted > 0 {
            match ctx.group(request.group_id.as_str(), GroupRequest::CommitOffsets(commit)).await {
                GroupAnswer::CommitOffsets(Ok(results)) => results,
                // Clients of older versions only know that their generation is none of the group's.
                GroupAnswer::CommitOffsets(Err(GroupError::GroupIdNotFound { .. })) if ctx.version < 9 => {
                    vec![Some(GroupError::IllegalGeneration { current: -1, got: generation }); submitted]
                }
                GroupAnswer::CommitOffsets(Err(error)) => vec![Some(error); submitted],
                other => unreachable!("a commit was answered with {other:?}"),
            }
        } else {
            Vec::new()
        }
        .into_iter();
        for partition in
            topics.iter_mut().flat_map(|topic| &mut topic.partitions).filter(|one| one.error_code == PENDING)
        {
            let result: Option<GroupError> = results.next().expect("one result for each offset");
            partition.error_code = optional_code(result.as_ref());
        }
        OffsetCommitResponse::default().with_topics(topics).into()
    }
}

/// Stands for "submitted" until the result is there; no error code has it.
const PENDING: i16 = i16::MIN;

fn split(
    ctx: &RequestContext,
    image: &Image,
    topics: &[OffsetCommitRequestTopic],
) -> (Vec<OffsetCommitResponseTopic>, Vec<CommitOffset>) {
    let twice = named_twice(topics);
    let mut answered = BTreeSet::new();
    let mut offsets = Vec::new();
    let mut shown = Vec::with_capacity(topics.len());
    for topic in topics {
        let found = find(image, topic.name.as_str(), topic.topic_id, ctx.version >= 10);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let named = (topic.name.0.clone(), topic.topic_id, partition.partition_index);
            let code = if twice.contains(&named) {
                if !answered.insert(named) {
                    continue;
                }
                ErrorCode::InvalidRequest.to_wire()
            } else {
                match found.and_then(|topic| offset(topic, partition)) {
                    Ok(offset) => {
                        offsets.push(offset);
                        PENDING
                    }
                    Err(code) => code.to_wire(),
                }
            };
            let shown = OffsetCommitResponsePartition::default();
            partitions.push(shown.with_partition_index(partition.partition_index).with_error_code(code));
        }
        let answer = OffsetCommitResponseTopic::default().with_partitions(partitions);
        shown.push(if ctx.version >= 10 {
            answer.with_topic_id(topic.topic_id)
        } else {
            answer.with_name(topic.name.clone())
        });
    }
    (shown, offsets)
}

fn named_twice(topics: &[OffsetCommitRequestTopic]) -> BTreeSet<(StrBytes, Uuid, i32)> {
    let mut seen = BTreeSet::new();
    let named = topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| (topic.name.0.clone(), topic.topic_id, partition.partition_index))
    });
    named.filter(|named| !seen.insert(named.clone())).collect()
}

fn offset(topic: &Topic, partition: &OffsetCommitRequestPartition) -> Result<CommitOffset, ErrorCode> {
    let index = PartitionIndex::from_wire(partition.partition_index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    Ok(CommitOffset {
        topic: topic.name.clone(),
        partition: index,
        offset: partition.committed_offset,
        leader_epoch: Some(partition.committed_leader_epoch).filter(|epoch| *epoch >= 0),
        metadata: partition.committed_metadata.as_ref().map(|text| text.to_string()).unwrap_or_default(),
    })
}

//! ListOffsets (API key 2), versions 1..=11.
//!
//! Owns the special timestamps. Does not own the search. Invariant: one answer per partition that is asked for.
//! Versions: 2 has an isolation level, 4 leader epochs, 7 the maximum timestamp (−3, KIP-734), 8 and 9 the positions of
//! tiered logs (−4, −5), 10 a timeout, 11 the earliest offset that is still to be tiered (−6, KIP-1023).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use model::{ErrorCode, LeaderEpoch, PartitionIndex, TopicPartition};
use node::requests::{FoundOffset, ListError, Position};
use storage::disk::ReadMode;

use super::context::{Api, Reply, RequestContext};
use super::leaders::code_elsewhere;
use super::topics::find_name;
use crate::wire::messages::list_offsets_request::ListOffsetsPartition;
use crate::wire::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use crate::wire::messages::{ListOffsetsRequest, ListOffsetsResponse};

pub struct ListOffsets;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

impl Api for ListOffsets {
    type Request = ListOffsetsRequest;
    const NAME: &'static str = "ListOffsets";
    const VERSIONS: RangeInclusive<i16> = 1..=11;

    async fn handle(ctx: RequestContext, request: ListOffsetsRequest) -> Reply<ListOffsetsResponse> {
        let committed_only = request.isolation_level == 1;
        let is_replica = request.replica_id.0 >= 0;
        let mut seen = BTreeSet::new();
        let twice: BTreeSet<(&str, i32)> = request
            .topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.name.as_str(), partition.partition_index)))
            .filter(|named| !seen.insert(*named))
            .collect();
        let mut answered = BTreeSet::new();
        let mut topics = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            // Not as many as are asked for: those that are named twice get one answer between them.
            let mut partitions = Vec::new();
            for partition in &topic.partitions {
                let named = (topic.name.as_str(), partition.partition_index);
                let found = if twice.contains(&named) {
                    if !answered.insert(named) {
                        continue;
                    }
                    Err(ErrorCode::InvalidRequest)
                } else if is_replica {
                    Err(ErrorCode::ClusterAuthorizationFailed)
                } else {
                    find(&ctx, named.0, partition, committed_only).await
                };
                partitions.push(show(&ctx, partition.partition_index, found));
            }
            topics.push(ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
        }
        ListOffsetsResponse::default().with_topics(topics).into()
    }
}

async fn find(
    ctx: &RequestContext,
    topic: &str,
    asked: &ListOffsetsPartition,
    committed_only: bool,
) -> Result<FoundOffset, ErrorCode> {
    let image = ctx.broker.image();
    let topic = find_name(&image, topic)?;
    let index = PartitionIndex::from_wire(asked.partition_index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    topic.partition(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = TopicPartition { topic: topic.id, partition: index };
    let epoch = if ctx.version >= 4 { LeaderEpoch::from_wire(asked.current_leader_epoch) } else { None };
    let Some(position) = position(asked.timestamp, committed_only, ctx.version)? else {
        return Ok(FoundOffset { offset: None, timestamp_ms: -1, epoch: None });
    };
    match ctx.broker.node.list_offset(partition, epoch, position, ReadMode::CachedOnly) {
        Err(ListError::Cold) => {
            let node = Arc::clone(&ctx.broker.node);
            let read = move || node.list_offset(partition, epoch, position, ReadMode::InTurn);
            let found = ctx.broker.cold.run(read).await.ok_or(ErrorCode::UnknownServerError)?;
            found.map_err(|error| code_elsewhere(error.code()))
        }
        found => found.map_err(|error| code_elsewhere(error.code())),
    }
}

/// `None`: a position that no log here has.
fn position(timestamp: i64, committed_only: bool, version: i16) -> Result<Option<Position>, ErrorCode> {
    Ok(Some(match timestamp {
        LATEST => Position::Latest { committed_only },
        EARLIEST => Position::Earliest,
        MAX_TIMESTAMP if version >= 7 => Position::MaxTimestamp,
        EARLIEST_LOCAL if version >= 8 => Position::EarliestLocal,
        LATEST_TIERED if version >= 9 => Position::LatestTiered,
        // Nothing is tiered, so nothing waits for it.
        EARLIEST_PENDING_UPLOAD if version >= 11 => return Ok(None),
        time if time >= 0 => Position::AtTime(time),
        _ => return Err(ErrorCode::UnsupportedVersion),
    }))
}

fn show(ctx: &RequestContext, index: i32, found: Result<FoundOffset, ErrorCode>) -> ListOffsetsPartitionResponse {
    let mut shown = ListOffsetsPartitionResponse::default().with_partition_index(index);
    match found {
        Ok(found) => {
            shown.offset = found.offset.map_or(-1, |offset| offset.get());
            shown.timestamp = found.timestamp_ms;
            if ctx.version >= 4 {
                shown.leader_epoch = found.epoch.map_or(-1, |epoch| epoch.get());
            }
        }
        Err(code) => shown.error_code = code.to_wire(),
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_timestamps_are_those_of_the_version() {
        assert_eq!(position(-3, false, 6), Err(ErrorCode::UnsupportedVersion));
        assert_eq!(position(-3, false, 7), Ok(Some(Position::MaxTimestamp)));
        assert_eq!(position(-1, true, 2), Ok(Some(Position::Latest { committed_only: true })));
        assert_eq!(position(-6, false, 11), Ok(None));
        assert_eq!(position(i64::MIN, false, 11), Err(ErrorCode::UnsupportedVersion));
        assert_eq!(position(0, false, 1), Ok(Some(Position::AtTime(0))));
    }
}

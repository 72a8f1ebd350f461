//! Offsets of partitions: where they begin and end, and what stood where at a time.
//!
//! Owns ListOffsets, sent to each leader. Does not own committed offsets: `group` does.

use std::collections::BTreeMap;

use super::refused::{AskError, check, is_passing};
use super::router::{Patience, Router, TopicPartition};
use crate::wire::StrBytes;
use crate::wire::messages::ListOffsetsRequest;
use crate::wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};

/// What ListOffsets calls the end and the start.
pub const END: i64 = -1;
pub const START: i64 = -2;
/// And the record with the newest time, from version 7 on.
const NEWEST_TIME: i64 = -3;
/// Version 8 and later know times that are not asked for here; version 2 has isolation levels.
const ISOLATION: i16 = 2;
const NEWEST: i16 = 9;

/// The offset of each partition's first record at or after a time in milliseconds since 1970, or its [`START`] or [`END`]. A time after
/// the last record gives `None`. `committed`: the end is that of the last stable offset.
pub fn list(
    router: &mut Router,
    wanted: &BTreeMap<TopicPartition, i64>,
    committed: bool,
) -> Result<BTreeMap<TopicPartition, Option<i64>>, AskError> {
    let found = ask(router, wanted, committed)?;
    Ok(found.into_iter().map(|(at, (offset, _))| (at, (offset >= 0).then_some(offset))).collect())
}

/// The newest time of each partition's records in milliseconds since 1970. Partitions without records are left out.
pub fn newest_times(
    router: &mut Router,
    partitions: impl IntoIterator<Item = TopicPartition>,
) -> Result<BTreeMap<TopicPartition, i64>, AskError> {
    let wanted = partitions.into_iter().map(|at| (at, NEWEST_TIME)).collect();
    let found = ask(router, &wanted, false)?;
    Ok(found.into_iter().filter(|(_, (offset, _))| *offset >= 0).map(|(at, (_, time))| (at, time)).collect())
}

/// Offset and time, as the leaders answer.
fn ask(
    router: &mut Router,
    wanted: &BTreeMap<TopicPartition, i64>,
    committed: bool,
) -> Result<BTreeMap<TopicPartition, (i64, i64)>, AskError> {
    let patience = Patience::new();
    let mut found = BTreeMap::new();
    let mut left: BTreeMap<TopicPartition, i64> = wanted.clone();
    while !left.is_empty() {
        let mut by_leader: BTreeMap<i32, Vec<(&TopicPartition, i64)>> = BTreeMap::new();
        for (at, time) in &left {
            by_leader.entry(router.leader(&at.0, at.1)?).or_default().push((at, *time));
        }
        let mut again = BTreeMap::new();
        for (leader, asked) in by_leader {
            let topics = request_topics(&asked);
            let answer = router.node(leader)?.call_at_most(NEWEST, |version| {
                let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(topics);
                let level = i8::from(committed && version >= ISOLATION);
                request.with_isolation_level(level)
            })?;
            for topic in &answer.topics {
                for partition in &topic.partitions {
                    let at = (topic.name.0.to_string(), partition.partition_index);
                    if is_passing(partition.error_code) && patience.wait() {
                        router.forget_leaders(&at.0);
                        let time = wanted.get(&at).copied().unwrap_or(END);
                        again.insert(at, time);
                        continue;
                    }
                    check(|| format!("{} partition {}", at.0, at.1), partition.error_code, None)?;
                    found.insert(at, (partition.offset, partition.timestamp));
                }
            }
        }
        left = again;
    }
    Ok(found)
}

fn request_topics(asked: &[(&TopicPartition, i64)]) -> Vec<ListOffsetsTopic> {
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for ((topic, partition), time) in asked {
        let one = ListOffsetsPartition::default()
            .with_partition_index(*partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(*time);
        topics.entry(topic).or_default().push(one);
    }
    let topic = |(name, partitions): (&str, Vec<ListOffsetsPartition>)| {
        let name = StrBytes::from_string(name.to_owned()).into();
        ListOffsetsTopic::default().with_name(name).with_partitions(partitions)
    };
    topics.into_iter().map(topic).collect()
}

/// One position of all partitions of topics.
pub fn list_all(
    router: &mut Router,
    partitions: impl IntoIterator<Item = TopicPartition>,
    time: i64,
) -> Result<BTreeMap<TopicPartition, i64>, AskError> {
    let wanted = partitions.into_iter().map(|at| (at, time)).collect();
    let found = list(router, &wanted, false)?;
    Ok(found.into_iter().filter_map(|(at, offset)| Some((at, offset?))).collect())
}

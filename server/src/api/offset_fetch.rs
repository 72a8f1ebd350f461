//! OffsetFetch (API key 9), versions 1..=10.
//!
//! Owns the two shapes (one group, many groups) and the names; `replication::group` knows the offsets.
//! Versions: 2 can ask for all topics, 5 has leader epochs, 7 waits for transactions, 8 asks for many groups,
//! 10 names topics by id.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use model::{ErrorCode, PartitionIndex, TopicName};
use replication::group::{
    FetchOffsets, FetchTopic, FetchedOffset, FetchedTopic, GroupAnswer, GroupError, GroupRequest, MemberId,
};

use super::context::{Api, Reply, RequestContext};
use super::groups::optional_code;
use super::topics::{find, text, uuid_of};
use crate::wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use crate::wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use crate::wire::messages::{OffsetFetchRequest, OffsetFetchResponse};

pub struct OffsetFetch;

impl Api for OffsetFetch {
    type Request = OffsetFetchRequest;
    const NAME: &'static str = "OffsetFetch";
    const VERSIONS: RangeInclusive<i16> = 1..=10;

    async fn handle(ctx: RequestContext, request: OffsetFetchRequest) -> Reply<OffsetFetchResponse> {
        let require_stable = ctx.version >= 7 && request.require_stable;
        if ctx.version >= 8 {
            let mut groups = Vec::new();
            let mut whole = BTreeSet::new();
            for group in &request.groups {
                // All that a group has, once.
                if group.topics.is_none() && !whole.insert(group.group_id.as_str()) {
                    continue;
                }
                groups.push(fetch(&ctx, group, require_stable).await);
            }
            return OffsetFetchResponse::default().with_groups(groups).into();
        }
        let named = |topic: &crate::wire::messages::offset_fetch_request::OffsetFetchRequestTopic| {
            OffsetFetchRequestTopics::default()
                .with_name(topic.name.clone())
                .with_partition_indexes(topic.partition_indexes.clone())
        };
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(request.group_id)
            .with_member_epoch(-1)
            .with_topics(request.topics.as_ref().map(|topics| topics.iter().map(named).collect()));
        let answer = fetch(&ctx, &group, require_stable).await;
        let topics = answer.topics.into_iter().map(single_group_topic);
        let mut response = OffsetFetchResponse::default().with_topics(topics.collect());
        if ctx.version >= 2 {
            response.error_code = answer.error_code;
        }
        response.into()
    }
}

async fn fetch(
    ctx: &RequestContext,
    group: &OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let asked = group.topics.as_ref().map(|topics| Asked::new(ctx, topics));
    let fetch = FetchOffsets {
        member_id: group.member_id.as_ref().and_then(|id| MemberId::from_wire(id.as_str())),
        member_epoch: if ctx.version >= 9 { group.member_epoch } else { -1 },
        topics: asked.as_ref().map(Asked::valid),
        require_stable,
    };
    let shown = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
    match ctx.group(group.group_id.as_str(), GroupRequest::FetchOffsets(fetch)).await {
        GroupAnswer::FetchOffsets(Ok(found)) => shown.with_topics(match asked {
            Some(asked) => asked.answer(ctx, found),
            None => found.into_iter().filter_map(|topic| show_all(ctx, topic)).collect(),
        }),
        GroupAnswer::FetchOffsets(Err(error)) => refuse(ctx, shown, group, &error),
        other => unreachable!("an offset fetch was answered with {other:?}"),
    }
}

/// Version 1 has no error for the whole: it stands in each partition.
fn refuse(
    ctx: &RequestContext,
    shown: OffsetFetchResponseGroup,
    group: &OffsetFetchRequestGroup,
    error: &GroupError,
) -> OffsetFetchResponseGroup {
    let code = error.code().to_wire();
    if ctx.version >= 2 {
        return shown.with_error_code(code);
    }
    let topics = group.topics.iter().flatten().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| missing(*index).with_error_code(code));
        OffsetFetchResponseTopics::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    shown.with_topics(topics.collect())
}

/// The topics of a request, in its order, each with the name that its offsets are kept under.
struct Asked<'a>(Vec<(&'a OffsetFetchRequestTopics, Result<TopicName, ErrorCode>)>);

impl<'a> Asked<'a> {
    fn new(ctx: &RequestContext, topics: &'a [OffsetFetchRequestTopics]) -> Asked<'a> {
        let image = ctx.broker.image();
        let name = |topic: &OffsetFetchRequestTopics| {
            if ctx.version >= 10 {
                return find(&image, "", topic.topic_id, true).map(|topic| topic.name.clone());
            }
            // Offsets outlive their topic: it need not exist.
            TopicName::new(topic.name.as_str()).map_err(|_| ErrorCode::UnknownTopicOrPartition)
        };
        Asked(topics.iter().map(|topic| (topic, name(topic))).collect())
    }

    fn valid(&self) -> Vec<FetchTopic> {
        let valid = self.0.iter().filter_map(|(topic, name)| {
            let partitions = topic.partition_indexes.iter().filter_map(|index| PartitionIndex::from_wire(*index));
            Some(FetchTopic { topic: name.as_ref().ok()?.clone(), partitions: partitions.collect() })
        });
        valid.collect()
    }

    fn answer(self, ctx: &RequestContext, found: Vec<FetchedTopic>) -> Vec<OffsetFetchResponseTopics> {
        let mut by_name = BTreeMap::<TopicName, BTreeMap<i32, FetchedOffset>>::new();
        for topic in found {
            let offsets = topic.partitions.into_iter().map(|offset| (offset.partition.to_wire(), offset));
            by_name.entry(topic.topic).or_default().extend(offsets);
        }
        let show = |(topic, name): (&OffsetFetchRequestTopics, Result<TopicName, ErrorCode>)| {
            let partitions = topic.partition_indexes.iter().map(|index| match &name {
                Err(code) => missing(*index).with_error_code(code.to_wire()),
                Ok(name) => match by_name.get(name).and_then(|offsets| offsets.get(index)) {
                    Some(offset) => show_offset(ctx, *index, offset),
                    None => missing(*index),
                },
            });
            let shown = OffsetFetchResponseTopics::default().with_partitions(partitions.collect());
            if ctx.version >= 10 { shown.with_topic_id(topic.topic_id) } else { shown.with_name(topic.name.clone()) }
        };
        self.0.into_iter().map(show).collect()
    }
}

/// All that a group has committed. With ids, topics that are gone cannot be named.
fn show_all(ctx: &RequestContext, topic: FetchedTopic) -> Option<OffsetFetchResponseTopics> {
    let partitions = topic.partitions.iter().map(|offset| show_offset(ctx, offset.partition.to_wire(), offset));
    let shown = OffsetFetchResponseTopics::default().with_partitions(partitions.collect());
    if ctx.version >= 10 {
        let image = ctx.broker.image();
        return Some(shown.with_topic_id(uuid_of(image.topic(&topic.topic)?.id)));
    }
    Some(shown.with_name(text(topic.topic.as_str()).into()))
}

fn missing(index: i32) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(-1)
        .with_metadata(Some(text("")))
}

fn show_offset(ctx: &RequestContext, index: i32, offset: &FetchedOffset) -> OffsetFetchResponsePartitions {
    let mut shown = missing(index).with_error_code(optional_code(offset.error.as_ref()));
    if let Some(committed) = &offset.committed {
        shown.committed_offset = committed.offset;
        shown.metadata = Some(text(&committed.metadata));
        if ctx.version >= 5 {
            shown.committed_leader_epoch = committed.leader_epoch.unwrap_or(-1);
        }
    }
    shown
}

fn single_group_topic(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partition = |one: OffsetFetchResponsePartitions| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(one.partition_index)
            .with_committed_offset(one.committed_offset)
            .with_committed_leader_epoch(one.committed_leader_epoch)
            .with_metadata(one.metadata)
            .with_error_code(one.error_code)
    };
    OffsetFetchResponseTopic::default()
        .with_name(topic.name)
        .with_partitions(topic.partitions.into_iter().map(partition).collect())
}

//! DescribeTopicPartitions (API key 75), version 0 (KIP-966).
//!
//! Owns the pages: topics ascending by name, at most so many partitions in one answer, a cursor to what comes next.
//! Does not own the metadata. Invariant: following the cursor gives each partition once, as long as nothing changes.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use model::{ErrorCode, NodeId, PartitionIndex, TopicName};
use replication::metadata::{Image, PartitionInfo, Topic};

use super::admin::ids;
use super::context::{Api, Reply, RequestContext};
use super::metadata::TOPIC_OPERATIONS;
use super::topics::{text, uuid_of};
use crate::wire::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use crate::wire::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};

pub struct DescribeTopicPartitions;

/// Kafka's default of `max.request.partition.size.limit`.
const PARTITIONS_MAX: usize = 2000;

impl Api for DescribeTopicPartitions {
    type Request = DescribeTopicPartitionsRequest;
    const NAME: &'static str = "DescribeTopicPartitions";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(
        ctx: RequestContext,
        request: DescribeTopicPartitionsRequest,
    ) -> Reply<DescribeTopicPartitionsResponse> {
        let image = ctx.broker.image();
        let named: BTreeSet<&str> = request.topics.iter().map(|topic| topic.name.as_str()).collect();
        let cursor = request.cursor.as_ref().map(|cursor| (cursor.topic_name.as_str(), cursor.partition_index));
        let Some(cursor) = check_cursor(cursor, &named) else {
            let refused = named.iter().map(|name| failed(name, ErrorCode::InvalidRequest));
            return DescribeTopicPartitionsResponse::default().with_topics(refused.collect()).into();
        };
        let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, partitions_max(&image));
        let mut pages = Pages { image: &image, left: limit, response: DescribeTopicPartitionsResponse::default() };
        let mut full = false;
        if named.is_empty() {
            let from = cursor.and_then(|(name, _)| TopicName::new(name).ok());
            let all: Box<dyn Iterator<Item = _>> = match &from {
                Some(from) => Box::new(image.topics_from(from)),
                None => Box::new(image.topics()),
            };
            for topic in all {
                full = full || pages.put(topic.name.as_str(), Some(topic), cursor);
                if full {
                    break;
                }
            }
        }
        for name in named.into_iter().filter(|name| cursor.is_none_or(|(from, _)| *name >= from)) {
            let topic = TopicName::new(name).ok().and_then(|name| image.topic(&name));
            full = full || pages.put(name, topic.map(|topic| &**topic), cursor);
        }
        pages.response.into()
    }
}

/// Where to begin. `None`: it points to nowhere.
fn check_cursor<'a>(cursor: Option<(&'a str, i32)>, named: &BTreeSet<&str>) -> Option<Option<(&'a str, u32)>> {
    let Some((name, partition)) = cursor else { return Some(None) };
    let among_them = named.is_empty() || named.contains(name);
    let partition = u32::try_from(partition).ok().filter(|_| among_them)?;
    Some(Some((name, partition)))
}

fn partitions_max(image: &Image) -> usize {
    let set = image.statics().get("max.request.partition.size.limit").and_then(|text| text.parse().ok());
    set.unwrap_or(PARTITIONS_MAX).max(1)
}

struct Pages<'a> {
    image: &'a Image,
    /// Partitions that the answer may still hold.
    left: usize,
    response: DescribeTopicPartitionsResponse,
}

impl Pages<'_> {
    /// Adds a topic, from the cursor on. True: the answer is full.
    fn put(&mut self, name: &str, topic: Option<&Topic>, cursor: Option<(&str, u32)>) -> bool {
        if self.left == 0 {
            self.go_on_at(name, 0);
            return true;
        }
        let Some(topic) = topic else {
            let code = match TopicName::new(name) {
                Ok(_) => ErrorCode::UnknownTopicOrPartition,
                Err(_) => ErrorCode::InvalidTopicException,
            };
            self.response.topics.push(failed(name, code));
            return false;
        };
        let first = cursor.filter(|(from, _)| *from == name).map_or(0, |(_, partition)| partition);
        let from_cursor = topic.partitions().filter(|(index, _)| index.get() >= first);
        let shown: Vec<_> =
            from_cursor.take(self.left).map(|(index, partition)| show(self.image, index, partition)).collect();
        self.left -= shown.len();
        let next = first.saturating_add(u32::try_from(shown.len()).unwrap_or(u32::MAX));
        self.response.topics.push(
            DescribeTopicPartitionsResponseTopic::default()
                .with_name(Some(text(name).into()))
                .with_topic_id(uuid_of(topic.id))
                .with_is_internal(topic.name.is_internal())
                .with_topic_authorized_operations(TOPIC_OPERATIONS)
                .with_partitions(shown),
        );
        let rest = usize::try_from(next).is_ok_and(|next| next < topic.partitions.len());
        if rest {
            self.go_on_at(name, next);
        }
        rest
    }

    fn go_on_at(&mut self, name: &str, partition: u32) {
        let cursor = Cursor::default()
            .with_topic_name(text(name).into())
            .with_partition_index(i32::try_from(partition).unwrap_or(i32::MAX));
        self.response.next_cursor = Some(cursor);
    }
}

fn failed(name: &str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(text(name).into()))
        .with_error_code(code.to_wire())
        .with_topic_authorized_operations(i32::MIN)
}

fn show(image: &Image, index: PartitionIndex, partition: &PartitionInfo) -> DescribeTopicPartitionsResponsePartition {
    let leader = partition.leader.filter(|leader| image.is_live(*leader));
    let error = if leader.is_some() { ErrorCode::None } else { ErrorCode::LeaderNotAvailable };
    let offline: Vec<NodeId> = partition.replicas.iter().copied().filter(|node| !image.is_live(*node)).collect();
    DescribeTopicPartitionsResponsePartition::default()
        .with_error_code(error.to_wire())
        .with_partition_index(index.to_wire())
        .with_leader_id(leader.map_or(-1, |leader| leader.0).into())
        .with_leader_epoch(partition.leader_epoch.get())
        .with_replica_nodes(ids(&partition.replicas))
        .with_isr_nodes(ids(&partition.isr))
        .with_eligible_leader_replicas(Some(ids(&partition.elr)))
        .with_last_known_elr(Some(ids(&partition.last_known_elr)))
        .with_offline_replicas(ids(&offline))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_must_name_one_of_the_topics_and_a_partition() {
        let named = BTreeSet::from(["a", "b"]);
        assert_eq!(check_cursor(None, &named), Some(None));
        assert_eq!(check_cursor(Some(("a", 3)), &named), Some(Some(("a", 3))));
        assert_eq!(check_cursor(Some(("c", 3)), &named), None);
        assert_eq!(check_cursor(Some(("a", -1)), &named), None);
        assert_eq!(check_cursor(Some(("c", 0)), &BTreeSet::new()), Some(Some(("c", 0))));
    }
}

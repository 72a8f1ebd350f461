//! DescribeLogDirs (API key 35), versions 1..=5.
//!
//! Owns what is told of the one data directory of a node. Does not own the logs.
//! What is wrong with the directory or a log is in tagged fields of our own, which `weir doctor` reads and other clients pass over.
//! Versions: 2 has tagged fields, 3 has an error for the whole, 4 the size of the file system (KIP-827), 5 cordoned directories (KIP-1066).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use model::{PartitionIndex, TopicPartition};
use node::LogTrouble;
use replication::metadata::Topic;

use super::context::{Api, Reply, RequestContext};
use super::topics::{find_name, text};
use crate::scrape::{disk_full, disk_space};
use crate::wire::messages::DescribeLogDirsRequest;
use crate::wire::messages::describe_log_dirs_request::DescribableLogDirTopic;
use crate::wire::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::wire::{
    DIR_FULL_TAG, DescribeLogDirsResponse, LOG_DAMAGED_TAG, LOG_DIRS_TAGGED_MIN, LOG_OFFLINE_TAG, LogDir,
};

pub struct DescribeLogDirs;

impl Api for DescribeLogDirs {
    type Request = DescribeLogDirsRequest;
    const NAME: &'static str = "DescribeLogDirs";
    const VERSIONS: RangeInclusive<i16> = 1..=5;

    async fn handle(ctx: RequestContext, request: DescribeLogDirsRequest) -> Reply<DescribeLogDirsResponse> {
        let space = disk_space(&ctx.broker).await;
        let image = ctx.broker.image();
        let topics: Vec<DescribeLogDirsTopic> = match &request.topics {
            None => image.topics().filter_map(|topic| show(&ctx, topic, None)).collect(),
            Some(named) => named
                .iter()
                .filter_map(|named| show(&ctx, find_name(&image, named.topic.as_str()).ok()?, Some(named)))
                .collect(),
        };
        let dir = ctx.broker.node.data_dir().display().to_string();
        let mut shown = DescribeLogDirsResult::default().with_log_dir(text(&dir)).with_topics(topics);
        if ctx.version >= 4
            && let Some(space) = space
        {
            shown.total_bytes = i64::try_from(space.total_bytes).unwrap_or(i64::MAX);
            shown.usable_bytes = i64::try_from(space.free_bytes).unwrap_or(i64::MAX);
        }
        if ctx.version >= LOG_DIRS_TAGGED_MIN
            && let Some(full) = space.and_then(|space| disk_full(&space))
        {
            shown.unknown_tagged_fields.insert(DIR_FULL_TAG, full.into());
        }
        DescribeLogDirsResponse { results: vec![LogDir { shown, is_cordoned: false }], ..Default::default() }.into()
    }
}

/// The topic's partitions that this node holds, among the named ones. `None`: it has none of them.
fn show(ctx: &RequestContext, topic: &Topic, named: Option<&DescribableLogDirTopic>) -> Option<DescribeLogDirsTopic> {
    let wanted: Option<BTreeSet<i32>> = named.map(|named| named.partitions.iter().copied().collect());
    let is_wanted = |index: PartitionIndex| wanted.as_ref().is_none_or(|wanted| wanted.contains(&index.to_wire()));
    let partitions = topic.partitions().filter(|(index, _)| is_wanted(*index)).filter_map(|(index, _)| {
        let at = TopicPartition { topic: topic.id, partition: index };
        let status = ctx.broker.node.partition_status(at)?;
        // As Kafka has it: what this replica lacks of what is known to be committed.
        let lag = status.high_watermark.get().saturating_sub(status.log_end.get()).max(0);
        let mut shown = DescribeLogDirsPartition::default()
            .with_partition_index(index.to_wire())
            .with_partition_size(i64::try_from(status.bytes).unwrap_or(i64::MAX))
            .with_offset_lag(lag);
        if ctx.version >= LOG_DIRS_TAGGED_MIN
            && let Some(trouble) = ctx.broker.node.log_trouble(at)
        {
            let tag = match trouble {
                LogTrouble::Offline { .. } => LOG_OFFLINE_TAG,
                LogTrouble::Damaged { .. } => LOG_DAMAGED_TAG,
            };
            shown.unknown_tagged_fields.insert(tag, trouble.to_string().into());
        }
        Some(shown)
    });
    let partitions: Vec<_> = partitions.collect();
    let named = DescribeLogDirsTopic::default().with_name(text(topic.name.as_str()).into());
    (!partitions.is_empty()).then(|| named.with_partitions(partitions))
}

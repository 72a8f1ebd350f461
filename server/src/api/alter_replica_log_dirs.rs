//! AlterReplicaLogDirs (API key 34), versions 1..=2.
//!
//! Owns the answers of a node that has one data directory: a partition that lies in it may be told to stay there, and
//! nothing else can be done. Invariant: one answer for each partition that is named.

use std::ops::RangeInclusive;
use std::path::Path;

use model::{ErrorCode, PartitionIndex, TopicPartition};

use super::context::{Api, Reply, RequestContext};
use super::topics::find_name;
use crate::wire::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use crate::wire::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};

pub struct AlterReplicaLogDirs;

impl Api for AlterReplicaLogDirs {
    type Request = AlterReplicaLogDirsRequest;
    const NAME: &'static str = "AlterReplicaLogDirs";
    const VERSIONS: RangeInclusive<i16> = 1..=2;

    async fn handle(ctx: RequestContext, request: AlterReplicaLogDirsRequest) -> Reply<AlterReplicaLogDirsResponse> {
        let mut results = Vec::new();
        for dir in &request.dirs {
            let is_ours = Path::new(dir.path.as_str()) == ctx.broker.node.data_dir();
            for topic in &dir.topics {
                let partitions = topic.partitions.iter().map(|index| {
                    let judged = judge(&ctx, topic.name.as_str(), *index);
                    let code = if is_ours { judged.err().unwrap_or_default() } else { ErrorCode::LogDirNotFound };
                    AlterReplicaLogDirPartitionResult::default()
                        .with_partition_index(*index)
                        .with_error_code(code.to_wire())
                });
                results.push(
                    AlterReplicaLogDirTopicResult::default()
                        .with_topic_name(topic.name.clone())
                        .with_partitions(partitions.collect()),
                );
            }
        }
        AlterReplicaLogDirsResponse::default().with_results(results).into()
    }
}

fn judge(ctx: &RequestContext, topic: &str, index: i32) -> Result<(), ErrorCode> {
    let image = ctx.broker.image();
    let topic = find_name(&image, topic)?;
    let partition = PartitionIndex::from_wire(index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    topic.partition(partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let held = ctx.broker.node.partition_status(TopicPartition { topic: topic.id, partition });
    held.map(drop).ok_or(ErrorCode::ReplicaNotAvailable)
}

//! The public face of a node: requests, ticks and disk completions go in, effects come out.
//!
//! Owns the parts and their wiring. Does not own decisions: the state machines in `replication` take them.
//! Invariant: no method blocks on the disk, except reads with `ReadMode::Blocking`; no system call is made with a lock held.
//! Invariant: the same calls in the same order give the same effects.

use std::sync::Arc;
use std::time::Duration;

use model::{GroupId, LeaderEpoch, NodeId, Now, TopicPartition};
use replication::group::GroupRequest;
use replication::metadata::Image;
use storage::disk::{Disk, DiskError, ReadMode, Ticket};

use crate::config::NodeConfig;
use crate::effects::{Effects, ReplyTo};
use crate::partition::waiters::Watcher;
use crate::requests::{
    EpochEnd, FetchError, FetchLimits, FetchPart, FetchRead, FoundOffset, ListError, NewTopic, Position, Produce,
    TopicRef,
};

pub struct Node {}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("data directory: {reason}")]
    Storage { reason: String },
}

/// Figures for `/metrics`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeStats {
    pub partitions: u64,
    pub partitions_offline: u64,
    pub append_bytes_in_flight: u64,
    pub journal_bytes_since_checkpoint: u64,
    pub journal_groups: u64,
    pub checkpoints: u64,
}

/// What is known of one partition on this node, for metrics and DescribeLogDirs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartitionStatus {
    pub log_start: model::Offset,
    pub high_watermark: model::Offset,
    pub log_end: model::Offset,
    pub bytes: u64,
    pub epoch: LeaderEpoch,
    pub online: bool,
}

impl Node {
    /// Recovers what is on the disk and begins to register with the cluster. `Effect::Ready` comes later, once this node leads
    /// its partitions. `seed` draws ids and the incarnation: it must differ between starts.
    pub fn open(
        config: NodeConfig,
        disk: Arc<dyn Disk>,
        seed: u64,
        now: Now,
        fx: &mut Effects,
    ) -> Result<Node, OpenError> {
        unimplemented!("follows")
    }

    pub fn id(&self) -> NodeId {
        unimplemented!("follows")
    }
    /// Whether `Effect::Ready` was emitted.
    pub fn is_ready(&self) -> bool {
        unimplemented!("follows")
    }
    /// The metadata as of now. Lock-free.
    pub fn image(&self) -> Arc<Image> {
        unimplemented!("follows")
    }

    /// Appends. Answers with `Answer::Produced`, unless acks is none.
    pub fn produce(&self, now: Now, produce: Produce, fx: &mut Effects) {
        unimplemented!("follows")
    }
    /// Reads what lies below the published limits; never waits for records to come.
    pub fn fetch(&self, parts: &[FetchPart], limits: FetchLimits, mode: ReadMode) -> FetchRead {
        unimplemented!("follows")
    }
    /// Registers for moves of the partition's limits, epoch or start under `slot`, until `unwatch`. Unknown partition: false.
    #[must_use]
    pub fn watch(&self, watcher: &Arc<Watcher>, partition: TopicPartition, slot: u32) -> bool {
        unimplemented!("follows")
    }
    pub fn unwatch(&self, watcher: &Arc<Watcher>, partition: TopicPartition, slot: u32) {
        unimplemented!("follows")
    }
    pub fn list_offset(
        &self,
        partition: TopicPartition,
        current_epoch: Option<LeaderEpoch>,
        position: Position,
        mode: ReadMode,
    ) -> Result<FoundOffset, ListError> {
        unimplemented!("follows")
    }
    /// Where the largest epoch at or below `epoch` ends here (OffsetForLeaderEpoch). `None`: no such epoch is known.
    pub fn epoch_end(
        &self,
        partition: TopicPartition,
        current_epoch: Option<LeaderEpoch>,
        epoch: LeaderEpoch,
    ) -> Result<Option<EpochEnd>, FetchError> {
        unimplemented!("follows")
    }

    /// Answers with `Answer::ProducerId`.
    pub fn init_producer_id(&self, now: Now, reply: ReplyTo, fx: &mut Effects) {
        unimplemented!("follows")
    }
    /// Answers with `Answer::TopicsCreated` once they are in the image and led.
    pub fn create_topics(
        &self,
        now: Now,
        topics: Vec<NewTopic>,
        validate_only: bool,
        reply: ReplyTo,
        fx: &mut Effects,
    ) {
        unimplemented!("follows")
    }
    /// Answers with `Answer::TopicsDeleted` once they are out of the image.
    pub fn delete_topics(&self, now: Now, topics: Vec<TopicRef>, reply: ReplyTo, fx: &mut Effects) {
        unimplemented!("follows")
    }
    /// Answers with `Answer::Group`.
    pub fn group(&self, now: Now, group: GroupId, request: GroupRequest, reply: ReplyTo, fx: &mut Effects) {
        unimplemented!("follows")
    }

    /// Timers. Returns how long until the next call is needed; `Effect::TickBy` may ask for an earlier one meanwhile.
    pub fn tick(&self, now: Now, fx: &mut Effects) -> Duration {
        unimplemented!("follows")
    }
    /// The completion of an `Effect::Disk`.
    pub fn disk_done(&self, now: Now, ticket: Ticket, result: Result<(), DiskError>, fx: &mut Effects) {
        unimplemented!("follows")
    }
    /// Takes no more appends, writes all down, makes the last checkpoint and answers `Answer::ShutDown`.
    pub fn shutdown(&self, now: Now, reply: ReplyTo, fx: &mut Effects) {
        unimplemented!("follows")
    }

    pub fn stats(&self) -> NodeStats {
        unimplemented!("follows")
    }
    pub fn partition_status(&self, partition: TopicPartition) -> Option<PartitionStatus> {
        unimplemented!("follows")
    }
}

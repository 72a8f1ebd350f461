//! What can be asked of a node, and what it answers. Wire types stop before here; these are checked values.
//!
//! Owns the shapes only. Invariant: each request handed to the node with a `ReplyTo` gets exactly one `Answer`.

use std::time::Duration;

use bytes::Bytes;
use model::batch::Batch;
use model::{ErrorCode, LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, TopicId, TopicName, TopicPartition};
pub use replication::controller::quorum::{QuorumMember, QuorumStatus};
pub use replication::controller::requests::{
    ConfigAlteration, ConfigOperation, ConfigTarget, ControllerAnswer, ControllerRequest, CreatedTopic, Election,
    FeatureUpdate, LevelChange, MorePartitions, NamedPartition, NewTopic, Reassignment, Refusal, TopicRef,
};
use replication::group::GroupAnswer;
pub use replication::partition::{Acks, AppendError, Appended};

use crate::effects::ReplyTo;

/// Checked batches, at most one for each partition, all of one request.
#[derive(Debug)]
pub struct Produce {
    pub acks: Acks,
    pub timeout: Duration,
    pub parts: Vec<ProducePart>,
    /// With `Acks::None` nothing is sent there.
    pub reply: ReplyTo,
}

#[derive(Debug)]
pub struct ProducePart {
    pub partition: TopicPartition,
    /// Structure, CRC and records were checked.
    pub batch: Batch,
}

/// In the order of the request's parts.
#[derive(Debug)]
pub struct ProduceAnswer {
    pub parts: Vec<Result<Appended, AppendError>>,
}

/// One partition of a fetch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchPart {
    pub partition: TopicPartition,
    /// As the client sent it; a negative one is out of range.
    pub from: i64,
    pub bytes_max: u32,
    pub current_epoch: Option<LeaderEpoch>,
    pub last_fetched_epoch: Option<LeaderEpoch>,
}

/// What one fetch may hand out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FetchLimits {
    /// Over all parts. The first part that has records gets one whole batch even so (KIP-74).
    pub bytes_max: u64,
    /// Read up to the last stable offset instead of the high watermark.
    pub committed_only: bool,
    /// A replica that follows may answer (KIP-392), with what it knows to be committed.
    pub at_follower: bool,
}

/// What a fetch found, in the order of its parts.
#[derive(Debug)]
pub struct FetchRead {
    pub parts: Vec<FetchedPart>,
    pub record_bytes: u64,
    /// Indexes of the parts that need the device, when it was read with `ReadMode::CachedOnly`: ask for them again with
    /// `InTurn` where waiting harms nobody. Their entries in `parts` have no records and no error.
    pub cold: Vec<usize>,
}

#[derive(Debug)]
pub struct FetchedPart {
    pub error: Option<FetchError>,
    pub high_watermark: Option<Offset>,
    pub last_stable: Option<Offset>,
    pub log_start: Option<Offset>,
    /// Logically one run of whole batches.
    pub records: Vec<Bytes>,
    pub record_bytes: usize,
    /// There are records, and the first batch was larger than what was left to give.
    pub is_too_large: bool,
    /// Where the fetcher's log departs from ours (KIP-595).
    pub diverging: Option<EpochEnd>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochEnd {
    pub epoch: LeaderEpoch,
    pub end: Offset,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FetchError {
    #[error("this node has no such partition")]
    UnknownPartition,
    #[error("this node does not lead the partition; leader {leader:?}, epoch {epoch}")]
    NotLeader { leader: Option<NodeId>, epoch: LeaderEpoch },
    #[error("epoch {got} is older than {current}")]
    FencedEpoch { current: LeaderEpoch, got: LeaderEpoch },
    #[error("epoch {got} is newer than {current}, which is the newest known here")]
    UnknownEpoch { current: LeaderEpoch, got: LeaderEpoch },
    #[error("offset {got} lies outside of {start} to {end}")]
    OutOfRange { start: Offset, end: Offset, got: i64 },
    #[error("offset {got} lies behind {end}, and how much was acknowledged is not known here yet")]
    OffsetNotAvailable { end: Offset, got: i64 },
    #[error("the disk refused: {reason}")]
    Disk { reason: String },
    #[error("the segment {segment} holds bytes at {at} that are no batch")]
    Corrupt { segment: Offset, at: u64 },
}

impl FetchError {
    pub fn code(&self) -> ErrorCode {
        match self {
            FetchError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            FetchError::NotLeader { .. } => ErrorCode::NotLeaderOrFollower,
            FetchError::FencedEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            FetchError::UnknownEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            FetchError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            FetchError::OffsetNotAvailable { .. } => ErrorCode::OffsetNotAvailable,
            FetchError::Disk { .. } => ErrorCode::KafkaStorageError,
            FetchError::Corrupt { .. } => ErrorCode::CorruptMessage,
        }
    }
}

/// Why a position could not be found.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ListError {
    #[error("this node has no such partition")]
    UnknownPartition,
    #[error("this node does not lead the partition; leader {leader:?}, epoch {epoch}")]
    NotLeader { leader: Option<NodeId>, epoch: LeaderEpoch },
    #[error("epoch {got} is older than {current}")]
    FencedEpoch { current: LeaderEpoch, got: LeaderEpoch },
    #[error("epoch {got} is newer than {current}, which is the newest known here")]
    UnknownEpoch { current: LeaderEpoch, got: LeaderEpoch },
    #[error("how much behind {end} was acknowledged is not known here yet")]
    OffsetNotAvailable { end: Offset },
    /// Only with `ReadMode::CachedOnly`: ask again with `InTurn` where waiting harms nobody.
    #[error("the answer is not in memory")]
    Cold,
    #[error("the disk refused: {reason}")]
    Disk { reason: String },
    #[error("the segment {segment} holds bytes at {at} that are no batch")]
    Corrupt { segment: Offset, at: u64 },
}

impl ListError {
    pub fn code(&self) -> ErrorCode {
        match self {
            ListError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            ListError::NotLeader { .. } => ErrorCode::NotLeaderOrFollower,
            ListError::FencedEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            ListError::UnknownEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            ListError::OffsetNotAvailable { .. } => ErrorCode::OffsetNotAvailable,
            ListError::Cold | ListError::Disk { .. } => ErrorCode::KafkaStorageError,
            ListError::Corrupt { .. } => ErrorCode::CorruptMessage,
        }
    }
}

/// Why records were not deleted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DeleteRecordsError {
    #[error("this node has no such partition")]
    UnknownPartition,
    #[error("this node does not lead the partition")]
    NotLeader,
    #[error("offset {got} lies behind {high_watermark}, up to which records are committed")]
    OutOfRange { high_watermark: Offset, got: i64 },
    #[error("a replica in sync begins at {low_watermark} still, {asked} was asked for; it is on its way")]
    TimedOut { low_watermark: Offset, asked: Offset },
    #[error("the disk refused: {reason}")]
    Disk { reason: String },
}

impl DeleteRecordsError {
    pub fn code(&self) -> ErrorCode {
        match self {
            DeleteRecordsError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            DeleteRecordsError::NotLeader => ErrorCode::NotLeaderOrFollower,
            DeleteRecordsError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            DeleteRecordsError::TimedOut { .. } => ErrorCode::RequestTimedOut,
            DeleteRecordsError::Disk { .. } => ErrorCode::KafkaStorageError,
        }
    }
}

/// One partition of a DeleteRecords.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeletePart {
    pub partition: TopicPartition,
    /// `None`: all that is committed.
    pub before: Option<Offset>,
}

/// The special positions of ListOffsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Position {
    Earliest,
    /// The high watermark, or the last stable offset for readers of committed records.
    Latest {
        committed_only: bool,
    },
    MaxTimestamp,
    /// The first record whose timestamp is at least this.
    AtTime(i64),
    EarliestLocal,
    LatestTiered,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundOffset {
    /// `None`: no such record.
    pub offset: Option<Offset>,
    /// −1 where the position has none.
    pub timestamp_ms: i64,
    pub epoch: Option<LeaderEpoch>,
}

#[derive(Debug)]
pub enum Answer {
    Produced(ProduceAnswer),
    /// In the order of the request.
    TopicsCreated(Vec<Result<CreatedTopic, Refusal>>),
    TopicsDeleted(Vec<Result<(TopicName, TopicId), Refusal>>),
    ProducerId(Result<(ProducerId, ProducerEpoch), Refusal>),
    Controller(Result<ControllerAnswer, Refusal>),
    Group(GroupAnswer),
    /// Where the logs begin now, in the order of the request.
    RecordsDeleted(Vec<Result<Offset, DeleteRecordsError>>),
    /// All is on disk; the process may end.
    ShutDown,
}

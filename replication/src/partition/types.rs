//! What a producer asks of a partition and what it is told.

use model::{ErrorCode, LeaderEpoch, NodeId, Offset};

/// When the answer leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// Never.
    None,
    /// When the leader's kernel has the bytes, or its journal.
    Leader,
    /// When the high watermark has passed them.
    All,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    pub base_offset: Offset,
    /// Only where the topic stamps records itself.
    pub log_append_time_ms: Option<i64>,
    pub log_start: Offset,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AppendError {
    #[error("this node has no such partition")]
    UnknownPartition,
    #[error("this node does not lead the partition; leader {leader:?}, epoch {epoch}")]
    NotLeader { leader: Option<NodeId>, epoch: LeaderEpoch },
    #[error("batch of {bytes} bytes, {allowed} are allowed here (max.message.bytes)")]
    TooLarge { bytes: u64, allowed: u64 },
    #[error("producer {producer} sent sequence {got} where {expected} was next")]
    OutOfOrder { producer: i64, expected: i32, got: i32 },
    #[error("producer {producer} sent sequence {got}, which was appended before and is no longer remembered")]
    Duplicate { producer: i64, got: i32 },
    #[error("producer {producer} sent epoch {got}, {current} is current")]
    StaleEpoch { producer: i64, current: i16, got: i16 },
    #[error("transactions are not served by this version")]
    TransactionsNotServed,
    #[error("{in_sync} replicas are in sync, {needed} are needed (min.insync.replicas)")]
    NotEnoughReplicas { in_sync: usize, needed: usize },
    #[error("not acknowledged within {waited_ms} ms")]
    TimedOut { waited_ms: u64 },
    #[error("the memory for appends in flight is used up ({limit} bytes)")]
    Busy { limit: u64 },
    #[error("{limit} requests wait for this partition already")]
    TooManyWaiting { limit: usize },
    #[error("the disk refused: {reason}")]
    Disk { reason: String },
    #[error("the log has reached its last offset")]
    OffsetsUsedUp,
}

impl AppendError {
    pub fn code(&self) -> ErrorCode {
        match self {
            AppendError::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
            AppendError::NotLeader { .. } => ErrorCode::NotLeaderOrFollower,
            AppendError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            AppendError::OutOfOrder { .. } => ErrorCode::OutOfOrderSequenceNumber,
            AppendError::Duplicate { .. } => ErrorCode::DuplicateSequenceNumber,
            AppendError::StaleEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            AppendError::TransactionsNotServed => ErrorCode::InvalidTxnState,
            AppendError::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
            AppendError::TimedOut { .. } => ErrorCode::RequestTimedOut,
            AppendError::Busy { .. }
            | AppendError::TooManyWaiting { .. }
            | AppendError::Disk { .. }
            | AppendError::OffsetsUsedUp => ErrorCode::KafkaStorageError,
        }
    }
}

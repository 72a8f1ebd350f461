//! The vocabulary of Weir: numbers that must not be mixed, names, batches, error codes, limits.
//!
//! Owns no state and no behaviour beyond checking a value where it is made.
//! Depends on nothing of Weir; everything else depends on it.

pub mod batch;
pub mod error_code;
pub mod ids;
pub mod limits;
pub mod offset;
pub mod planted;
pub mod time;
pub mod units;

pub use error_code::ErrorCode;
pub use ids::{
    GroupId, LogId, LogKind, NodeId, PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicName, TopicPartition,
};
pub use offset::{LeaderEpoch, Offset};
pub use time::Now;

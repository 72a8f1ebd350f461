//! Consumer groups: one shard of the group coordinator as a pure state machine.
//!
//! Owns what a group is: members, generations, assignments, committed offsets, and the records that keep them.
//! Does not own the log that the records go to, nor the moment at which an answer leaves: `node::coordinator` does.
//! Deliberately absent: offsets committed in transactions.

mod classic;
mod codec;
mod config;
mod consumer;
mod consumer_groups;
mod error;
mod join;
mod leave;
mod look;
mod member;
mod offsets;
mod record;
mod shard;
mod sync;
mod types;

pub use classic::Reply;
pub use codec::CodecError;
pub use config::{GroupConfig, MEMBERS_MAX};
pub use consumer::{
    ASSIGNMENT_INTERVAL, Assignor, Catalog, ClassicInfo, ConsumerBeat, ConsumerConfig, ConsumerHeartbeat,
    ConsumerRecord, Current, DescribedConsumer, DescribedConsumerGroup, GroupEpoch, HEARTBEAT_INTERVAL, MemberInfo,
    MemberState, Owned, Partitions, Resolved, SESSION_TIMEOUT, TargetEpoch,
};
pub use error::GroupError;
pub use member::Token;
pub use record::{GroupMetadata, GroupRecord, MemberMetadata, RecordError};
pub use shard::{Output, Shard};
pub use types::*;

#[cfg(test)]
mod tests;

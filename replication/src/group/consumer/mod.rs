//! Groups of the consumer protocol (KIP-848): the coordinator assigns, members follow with their heartbeats.
//!
//! Owns such a group as a pure state machine. Does not own which groups there are (`group::shard`) nor which protocol a
//! request meets (`group::consumer_groups`).

mod assign;
mod catalog;
mod classic;
mod config;
mod describe;
mod embedded;
mod heartbeat;
mod leave;
mod migrate;
mod patterns;
mod reconcile;
mod record;
mod state;
mod types;

pub use assign::Assignor;
pub use catalog::Catalog;
pub use config::{ASSIGNMENT_INTERVAL, ConsumerConfig, HEARTBEAT_INTERVAL, SESSION_TIMEOUT};
pub use state::{
    ClassicInfo, ConsumerRecord, Current, GroupEpoch, MemberInfo, MemberState, Owned, Partitions, Resolved, TargetEpoch,
};
pub use types::{ConsumerBeat, ConsumerHeartbeat, DescribedConsumer, DescribedConsumerGroup};

pub(super) use config::Settings;
pub(super) use heartbeat::{Move, check_heartbeat};
pub(super) use migrate::upgraded;
pub(super) use state::{AWAY_EPOCH, Consumer, GONE_EPOCH};

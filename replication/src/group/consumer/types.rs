//! What can be asked of a group of the consumer protocol, and what it answers.
//!
//! Owns the shapes only, independent of wire versions.

use super::super::types::{InstanceId, MemberId};
use super::state::{MemberInfo, Partitions};

/// ConsumerGroupHeartbeat (key 68).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerHeartbeat {
    pub client_id: String,
    pub client_host: String,
    pub member_id: Option<MemberId>,
    /// Versions 1 and up: the client chooses its member id, and does so before it joins.
    pub member_id_required: bool,
    /// 0 to join, -1 to leave, -2 when a static member leaves for a while.
    pub member_epoch: i32,
    pub instance_id: Option<InstanceId>,
    pub rack: Option<String>,
    /// `None`, here and below: as it was.
    pub rebalance_timeout_ms: Option<i32>,
    pub topics: Option<Vec<String>>,
    /// The empty text ends a subscription by pattern.
    pub pattern: Option<String>,
    pub assignor: Option<String>,
    pub owned: Option<Partitions>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerBeat {
    pub member_id: Option<MemberId>,
    pub member_epoch: i32,
    /// 0 for who leaves.
    pub heartbeat_interval_ms: i32,
    /// `None`: as it was told last.
    pub assignment: Option<Partitions>,
}

/// ConsumerGroupDescribe (key 69).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedConsumerGroup {
    pub state: &'static str,
    pub epoch: i32,
    pub assignment_epoch: i32,
    pub assignor: &'static str,
    pub members: Vec<DescribedConsumer>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedConsumer {
    pub member_id: MemberId,
    pub info: MemberInfo,
    pub epoch: i32,
    pub assignment: Partitions,
    pub target: Partitions,
}

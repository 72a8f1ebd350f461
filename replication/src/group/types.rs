//! What can be asked of a group coordinator, and what it answers.
//!
//! Owns the shapes only: independent of wire versions, each request about one group. Where versions differ in
//! behaviour, the request says so by a flag. Does not own the mapping to the wire: `server::api` does.
//! Invariant: each request gets exactly one answer, of the variant with the same name.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use model::{GroupId, PartitionIndex, TopicName};

use super::consumer::{ConsumerBeat, ConsumerHeartbeat, DescribedConsumerGroup};
use super::error::GroupError;

/// A member's name within its group. Never empty: the wire's "" is `None`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(Arc<str>);

impl MemberId {
    pub fn from_wire(raw: &str) -> Option<MemberId> {
        (!raw.is_empty()).then(|| MemberId(raw.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_debug())
    }
}

/// The name that a static member keeps over restarts (`group.instance.id`, KIP-345).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// The wire's null is `None` before; "" is a name like others.
    pub fn new(raw: &str) -> InstanceId {
        InstanceId(raw.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_debug())
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupRequest {
    Join(Join),
    Sync(Sync),
    Heartbeat(Heartbeat),
    Leave(Leave),
    CommitOffsets(CommitOffsets),
    FetchOffsets(FetchOffsets),
    Describe,
    ConsumerHeartbeat(ConsumerHeartbeat),
    DescribeConsumer,
    /// DeleteGroups (key 42): the group with all its offsets.
    Delete,
    /// OffsetDelete (key 47): these offsets, in the order of the answers.
    DeleteOffsets(Vec<(TopicName, PartitionIndex)>),
    /// Goes to every shard of the node; the group id it is sent with means nothing.
    List(ListFilter),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupAnswer {
    Join(Result<Joined, GroupError>),
    Sync(Result<Synced, GroupError>),
    Heartbeat(Result<(), GroupError>),
    /// One for each member of the request, in its order.
    Leave(Result<Vec<Left>, GroupError>),
    /// One for each offset of the request, in its order; `None` is success.
    CommitOffsets(Result<Vec<Option<GroupError>>, GroupError>),
    FetchOffsets(Result<Vec<FetchedTopic>, GroupError>),
    /// `GroupError::GroupIdNotFound`: DescribeGroups up to version 5 shows such a group as `Dead` without an error.
    Describe(Result<DescribedGroup, GroupError>),
    ConsumerHeartbeat(Result<ConsumerBeat, GroupError>),
    DescribeConsumer(Result<DescribedConsumerGroup, GroupError>),
    Delete(Result<(), GroupError>),
    /// One for each offset of the request; `None` is success, also where there was none.
    DeleteOffsets(Result<Vec<Option<GroupError>>, GroupError>),
    List(Result<Vec<ListedGroup>, GroupError>),
}

impl GroupRequest {
    /// The answer to this request that says `error` for all of it.
    pub fn refused(&self, error: GroupError) -> GroupAnswer {
        match self {
            GroupRequest::Join(_) => GroupAnswer::Join(Err(error)),
            GroupRequest::Sync(_) => GroupAnswer::Sync(Err(error)),
            GroupRequest::Heartbeat(_) => GroupAnswer::Heartbeat(Err(error)),
            GroupRequest::Leave(_) => GroupAnswer::Leave(Err(error)),
            GroupRequest::CommitOffsets(_) => GroupAnswer::CommitOffsets(Err(error)),
            GroupRequest::FetchOffsets(_) => GroupAnswer::FetchOffsets(Err(error)),
            GroupRequest::Describe => GroupAnswer::Describe(Err(error)),
            GroupRequest::ConsumerHeartbeat(_) => GroupAnswer::ConsumerHeartbeat(Err(error)),
            GroupRequest::DescribeConsumer => GroupAnswer::DescribeConsumer(Err(error)),
            GroupRequest::Delete => GroupAnswer::Delete(Err(error)),
            GroupRequest::DeleteOffsets(_) => GroupAnswer::DeleteOffsets(Err(error)),
            GroupRequest::List(_) => GroupAnswer::List(Err(error)),
        }
    }
}

impl GroupAnswer {
    /// The answer to the same request that says `error` for all of it.
    pub fn refused(&self, error: GroupError) -> GroupAnswer {
        match self {
            GroupAnswer::Join(_) => GroupAnswer::Join(Err(error)),
            GroupAnswer::Sync(_) => GroupAnswer::Sync(Err(error)),
            GroupAnswer::Heartbeat(_) => GroupAnswer::Heartbeat(Err(error)),
            GroupAnswer::Leave(_) => GroupAnswer::Leave(Err(error)),
            GroupAnswer::CommitOffsets(_) => GroupAnswer::CommitOffsets(Err(error)),
            GroupAnswer::FetchOffsets(_) => GroupAnswer::FetchOffsets(Err(error)),
            GroupAnswer::Describe(_) => GroupAnswer::Describe(Err(error)),
            GroupAnswer::ConsumerHeartbeat(_) => GroupAnswer::ConsumerHeartbeat(Err(error)),
            GroupAnswer::DescribeConsumer(_) => GroupAnswer::DescribeConsumer(Err(error)),
            GroupAnswer::Delete(_) => GroupAnswer::Delete(Err(error)),
            GroupAnswer::DeleteOffsets(_) => GroupAnswer::DeleteOffsets(Err(error)),
            GroupAnswer::List(_) => GroupAnswer::List(Err(error)),
        }
    }
}

/// JoinGroup (key 11).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Join {
    pub client_id: String,
    /// Where the connection comes from, as Kafka shows it: "/127.0.0.1".
    pub client_host: String,
    pub member_id: Option<MemberId>,
    pub instance_id: Option<InstanceId>,
    pub protocol_type: String,
    /// In the order of the member's preference.
    pub protocols: Vec<Protocol>,
    pub session_timeout_ms: i32,
    /// Version 0 has none: pass the session timeout, as Kafka does.
    pub rebalance_timeout_ms: i32,
    /// Versions 4 and up: a new dynamic member is first told its id and must join again with it (KIP-394).
    pub member_id_required: bool,
    /// Versions 9 and up: a static leader that comes back can be told to skip the assignment (KIP-814).
    pub can_skip_assignment: bool,
    pub reason: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Protocol {
    pub name: String,
    pub metadata: Bytes,
}

/// A refused join is answered with the member id of the request, except
/// `GroupError::MemberIdRequired { member_id }`, which carries the new one. The generation is then −1, the leader "".
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Joined {
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: Option<MemberId>,
    pub skip_assignment: bool,
    pub member_id: MemberId,
    /// Filled for the leader only.
    pub members: Vec<JoinedMember>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinedMember {
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
    pub metadata: Bytes,
}

/// SyncGroup (key 14).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sync {
    pub member_id: Option<MemberId>,
    pub instance_id: Option<InstanceId>,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignments: Vec<(MemberId, Bytes)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Synced {
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Bytes,
}

/// Heartbeat (key 12).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    pub member_id: Option<MemberId>,
    pub instance_id: Option<InstanceId>,
    pub generation: i32,
}

/// LeaveGroup (key 13). Up to version 2 there is one member, and its error is the error of the response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leave {
    pub members: Vec<Leaving>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leaving {
    pub member_id: Option<MemberId>,
    pub instance_id: Option<InstanceId>,
    pub reason: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Left {
    pub member_id: Option<MemberId>,
    pub instance_id: Option<InstanceId>,
    pub error: Option<GroupError>,
}

/// OffsetCommit (key 8), for partitions that exist. Topic ids are resolved and unknown topics answered before.
/// `GroupError::GroupIdNotFound` goes out as error 22 up to version 8, as Kafka does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitOffsets {
    /// Of the request: members of the consumer protocol must use one that knows their epochs.
    pub version: i16,
    pub member_id: Option<MemberId>,
    pub instance_id: Option<InstanceId>,
    /// `None`: a simple consumer that does not take part in the group's protocol (−1 on the wire).
    pub generation: Option<i32>,
    /// Versions 2 to 4: how long these offsets are kept, counted from now. `None`: as the cluster is configured.
    pub retention_ms: Option<i64>,
    pub offsets: Vec<CommitOffset>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitOffset {
    pub topic: TopicName,
    pub partition: PartitionIndex,
    /// As the client sent it.
    pub offset: i64,
    /// `None` is −1 on the wire.
    pub leader_epoch: Option<i32>,
    /// The wire's null is the empty string.
    pub metadata: String,
}

/// OffsetFetch (key 9), one group of it. Topics need not exist; names that no topic can have are answered before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchOffsets {
    /// Member and epoch of the consumer protocol (versions 9 and up): `None`, −1 for others.
    pub member_id: Option<MemberId>,
    pub member_epoch: i32,
    /// `None`: all that the group has committed.
    pub topics: Option<Vec<FetchTopic>>,
    pub require_stable: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchTopic {
    pub topic: TopicName,
    pub partitions: Vec<PartitionIndex>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedTopic {
    pub topic: TopicName,
    pub partitions: Vec<FetchedOffset>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedOffset {
    pub partition: PartitionIndex,
    /// `None` goes out as offset −1, epoch −1, metadata "", without an error.
    pub committed: Option<CommittedOffset>,
    pub error: Option<GroupError>,
}

/// An offset as the group's log has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedOffset {
    pub offset: i64,
    pub leader_epoch: Option<i32>,
    pub metadata: Arc<str>,
    pub commit_timestamp_ms: i64,
    /// Set only where the commit named its own retention.
    pub expire_timestamp_ms: Option<i64>,
}

/// The states of a group in the classic protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    Dead,
}

impl GroupState {
    /// Kafka's name.
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Dead => "Dead",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedGroup {
    pub state: GroupState,
    /// "" where the group has none.
    pub protocol_type: String,
    /// Only while the group is stable, else "".
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedMember {
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// ListGroups (key 16). Compared without regard to case; empty lists take all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListFilter {
    pub states: Vec<String>,
    pub types: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedGroup {
    pub group: GroupId,
    pub protocol_type: String,
    /// Kafka's name.
    pub state: &'static str,
    /// "classic" or "consumer".
    pub group_type: &'static str,
}

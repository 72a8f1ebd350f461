//! Why a group coordinator refuses.
//!
//! Owns the refusals of the group APIs and their Kafka codes. Invariant: each says its numbers, so that a client's log
//! explains itself.

use model::{ErrorCode, GroupId, TopicName};

use super::types::{InstanceId, MemberId};

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GroupError {
    #[error("the coordinator of this group is reading its log")]
    Loading,
    #[error("this node does not coordinate the group")]
    NotCoordinator,
    #[error("the coordinator could not write to its log: {reason}")]
    NotAvailable { reason: String },
    #[error("not written to the log of the coordinator within {waited_ms} ms")]
    TimedOut { waited_ms: u64 },
    #[error("a group id is 1 to {bytes_max} bytes long, this one has {bytes}")]
    InvalidGroupId { bytes: usize, bytes_max: usize },
    #[error("session timeout {got_ms} ms lies outside of {min_ms} to {max_ms} ms")]
    InvalidSessionTimeout { got_ms: i32, min_ms: i32, max_ms: i32 },
    #[error("member id required; join again as {member_id}")]
    MemberIdRequired { member_id: MemberId },
    #[error("the group has no member {member:?}")]
    UnknownMember { member: Option<MemberId> },
    #[error("the group has no member with instance id {instance}")]
    UnknownInstance { instance: InstanceId },
    #[error("member {got:?} was replaced by another with instance id {instance}")]
    FencedInstance { instance: InstanceId, got: Option<MemberId> },
    #[error("generation {got} is not the current one, {current}")]
    IllegalGeneration { current: i32, got: i32 },
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("protocol type {got:?} or its protocols do not fit the group's, {group:?}")]
    InconsistentProtocol { group: Option<String>, got: String },
    #[error("the group is full with {limit} members (group.max.size)")]
    GroupFull { limit: usize },
    #[error("the group's members hold {bytes} bytes of metadata, {limit} are allowed")]
    GroupTooLarge { bytes: usize, limit: usize },
    #[error("the coordinator holds {limit} groups, no more are allowed")]
    TooManyGroups { limit: usize },
    #[error("the coordinator holds {bytes} bytes of members and offsets, {limit} are allowed")]
    ShardFull { bytes: usize, limit: usize },
    #[error("the group has offsets for {limit} partitions, no more are allowed")]
    TooManyOffsets { limit: usize },
    #[error("a name of {bytes} bytes, {limit} are allowed")]
    NameTooLong { bytes: usize, limit: usize },
    #[error("{count} protocols offered, {limit} are allowed")]
    TooManyProtocols { count: usize, limit: usize },
    #[error("{count} members named to leave, {limit} are allowed")]
    TooManyLeaving { count: usize, limit: usize },
    #[error("offset metadata of {length} characters, {limit} are allowed (offset.metadata.max.bytes)")]
    MetadataTooLarge { length: usize, limit: usize },
    /// In Kafka's words: scripts look for them in what the tools print.
    #[error("Group {group} not found.")]
    GroupIdNotFound { group: GroupId },
    /// In Kafka's words.
    #[error("Group {group} is not a consumer group.")]
    NotConsumerGroup { group: GroupId },
    #[error("Group {group} is not a classic group.")]
    NotClassicGroup { group: GroupId },
    #[error("the group is {state}, not empty")]
    NotEmpty { state: &'static str },
    #[error("the group is subscribed to topic {topic}")]
    Subscribed { topic: TopicName },
    #[error("{why}")]
    InvalidHeartbeat { why: &'static str },
    #[error("the member's epoch is {known}, not {got}; it must give up its partitions and join again")]
    FencedMemberEpoch { known: i32, got: i32 },
    #[error("the member's epoch is {known}, not {got}")]
    StaleEpoch { known: i32, got: i32 },
    #[error("instance id {instance} is held by member {owner}, which has not left")]
    UnreleasedInstance { instance: InstanceId, owner: MemberId },
    #[error("ServerAssignor {assignor} is not supported. Supported assignors: {known}.")]
    UnsupportedAssignor { assignor: String, known: String },
    #[error("SubscribedTopicRegex `{}` is not a valid regular expression: {why}.", pattern.escape_debug())]
    InvalidPattern { pattern: String, why: String },
    #[error("{count} topics subscribed to, {limit} are allowed")]
    TooManySubscriptions { count: usize, limit: usize },
    #[error("members of the consumer protocol commit with version {min} and above, this is {version}")]
    OldCommit { version: i16, min: i16 },
    #[error("an open transaction has offsets for this partition")]
    UnstableOffset,
}

impl GroupError {
    pub fn code(&self) -> ErrorCode {
        match self {
            GroupError::Loading => ErrorCode::CoordinatorLoadInProgress,
            GroupError::NotCoordinator => ErrorCode::NotCoordinator,
            GroupError::NotAvailable { .. } | GroupError::TimedOut { .. } => ErrorCode::CoordinatorNotAvailable,
            GroupError::InvalidGroupId { .. } => ErrorCode::InvalidGroupId,
            GroupError::InvalidSessionTimeout { .. } => ErrorCode::InvalidSessionTimeout,
            GroupError::MemberIdRequired { .. } => ErrorCode::MemberIdRequired,
            GroupError::UnknownMember { .. } | GroupError::UnknownInstance { .. } => ErrorCode::UnknownMemberId,
            GroupError::FencedInstance { .. } => ErrorCode::FencedInstanceId,
            GroupError::IllegalGeneration { .. } => ErrorCode::IllegalGeneration,
            GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
            GroupError::InconsistentProtocol { .. } => ErrorCode::InconsistentGroupProtocol,
            GroupError::GroupFull { .. } | GroupError::GroupTooLarge { .. } => ErrorCode::GroupMaxSizeReached,
            // Kafka has no code for these limits; this one is final for every client.
            GroupError::TooManyGroups { .. } | GroupError::TooManyOffsets { .. } | GroupError::ShardFull { .. } => {
                ErrorCode::PolicyViolation
            }
            GroupError::NameTooLong { .. }
            | GroupError::TooManyProtocols { .. }
            | GroupError::TooManyLeaving { .. }
            | GroupError::TooManySubscriptions { .. }
            | GroupError::InvalidHeartbeat { .. } => ErrorCode::InvalidRequest,
            GroupError::MetadataTooLarge { .. } => ErrorCode::OffsetMetadataTooLarge,
            GroupError::GroupIdNotFound { .. }
            | GroupError::NotConsumerGroup { .. }
            | GroupError::NotClassicGroup { .. } => ErrorCode::GroupIdNotFound,
            GroupError::NotEmpty { .. } => ErrorCode::NonEmptyGroup,
            GroupError::Subscribed { .. } => ErrorCode::GroupSubscribedToTopic,
            GroupError::FencedMemberEpoch { .. } => ErrorCode::FencedMemberEpoch,
            GroupError::StaleEpoch { .. } => ErrorCode::StaleMemberEpoch,
            GroupError::UnreleasedInstance { .. } => ErrorCode::UnreleasedInstanceId,
            GroupError::UnsupportedAssignor { .. } => ErrorCode::UnsupportedAssignor,
            GroupError::InvalidPattern { .. } => ErrorCode::InvalidRegularExpression,
            GroupError::OldCommit { .. } => ErrorCode::UnsupportedVersion,
            GroupError::UnstableOffset => ErrorCode::UnstableOffsetCommit,
        }
    }
}

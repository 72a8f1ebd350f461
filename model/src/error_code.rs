//! The error codes of the Kafka protocol, as of 4.4.
//!
//! Owns the numbers only; which error means what is decided where the error is made.

const FIRST: i16 = ErrorCode::UnknownServerError.to_wire();

/// Ascending without a gap, from `FIRST` on.
#[rustfmt::skip]
const ALL: [ErrorCode; 138] = [
        ErrorCode::UnknownServerError, ErrorCode::None, ErrorCode::OffsetOutOfRange, ErrorCode::CorruptMessage,
        ErrorCode::UnknownTopicOrPartition, ErrorCode::InvalidFetchSize, ErrorCode::LeaderNotAvailable,
        ErrorCode::NotLeaderOrFollower, ErrorCode::RequestTimedOut, ErrorCode::BrokerNotAvailable,
        ErrorCode::ReplicaNotAvailable, ErrorCode::MessageTooLarge, ErrorCode::StaleControllerEpoch,
        ErrorCode::OffsetMetadataTooLarge, ErrorCode::NetworkException, ErrorCode::CoordinatorLoadInProgress,
        ErrorCode::CoordinatorNotAvailable, ErrorCode::NotCoordinator, ErrorCode::InvalidTopicException,
        ErrorCode::RecordListTooLarge, ErrorCode::NotEnoughReplicas, ErrorCode::NotEnoughReplicasAfterAppend,
        ErrorCode::InvalidRequiredAcks, ErrorCode::IllegalGeneration, ErrorCode::InconsistentGroupProtocol,
        ErrorCode::InvalidGroupId, ErrorCode::UnknownMemberId, ErrorCode::InvalidSessionTimeout,
        ErrorCode::RebalanceInProgress, ErrorCode::InvalidCommitOffsetSize, ErrorCode::TopicAuthorizationFailed,
        ErrorCode::GroupAuthorizationFailed, ErrorCode::ClusterAuthorizationFailed, ErrorCode::InvalidTimestamp,
        ErrorCode::UnsupportedSaslMechanism, ErrorCode::IllegalSaslState, ErrorCode::UnsupportedVersion,
        ErrorCode::TopicAlreadyExists, ErrorCode::InvalidPartitions, ErrorCode::InvalidReplicationFactor,
        ErrorCode::InvalidReplicaAssignment, ErrorCode::InvalidConfig, ErrorCode::NotController,
        ErrorCode::InvalidRequest, ErrorCode::UnsupportedForMessageFormat, ErrorCode::PolicyViolation,
        ErrorCode::OutOfOrderSequenceNumber, ErrorCode::DuplicateSequenceNumber, ErrorCode::InvalidProducerEpoch,
        ErrorCode::InvalidTxnState, ErrorCode::InvalidProducerIdMapping, ErrorCode::InvalidTransactionTimeout,
        ErrorCode::ConcurrentTransactions, ErrorCode::TransactionCoordinatorFenced,
        ErrorCode::TransactionalIdAuthorizationFailed, ErrorCode::SecurityDisabled, ErrorCode::OperationNotAttempted,
        ErrorCode::KafkaStorageError, ErrorCode::LogDirNotFound, ErrorCode::SaslAuthenticationFailed,
        ErrorCode::UnknownProducerId, ErrorCode::ReassignmentInProgress, ErrorCode::DelegationTokenAuthDisabled,
        ErrorCode::DelegationTokenNotFound, ErrorCode::DelegationTokenOwnerMismatch,
        ErrorCode::DelegationTokenRequestNotAllowed, ErrorCode::DelegationTokenAuthorizationFailed,
        ErrorCode::DelegationTokenExpired, ErrorCode::InvalidPrincipalType, ErrorCode::NonEmptyGroup,
        ErrorCode::GroupIdNotFound, ErrorCode::FetchSessionIdNotFound, ErrorCode::InvalidFetchSessionEpoch,
        ErrorCode::ListenerNotFound, ErrorCode::TopicDeletionDisabled, ErrorCode::FencedLeaderEpoch,
        ErrorCode::UnknownLeaderEpoch, ErrorCode::UnsupportedCompressionType, ErrorCode::StaleBrokerEpoch,
        ErrorCode::OffsetNotAvailable, ErrorCode::MemberIdRequired, ErrorCode::PreferredLeaderNotAvailable,
        ErrorCode::GroupMaxSizeReached, ErrorCode::FencedInstanceId, ErrorCode::EligibleLeadersNotAvailable,
        ErrorCode::ElectionNotNeeded, ErrorCode::NoReassignmentInProgress, ErrorCode::GroupSubscribedToTopic,
        ErrorCode::InvalidRecord, ErrorCode::UnstableOffsetCommit, ErrorCode::ThrottlingQuotaExceeded,
        ErrorCode::ProducerFenced, ErrorCode::ResourceNotFound, ErrorCode::DuplicateResource,
        ErrorCode::UnacceptableCredential, ErrorCode::InconsistentVoterSet, ErrorCode::InvalidUpdateVersion,
        ErrorCode::FeatureUpdateFailed, ErrorCode::PrincipalDeserializationFailure, ErrorCode::SnapshotNotFound,
        ErrorCode::PositionOutOfRange, ErrorCode::UnknownTopicId, ErrorCode::DuplicateBrokerRegistration,
        ErrorCode::BrokerIdNotRegistered, ErrorCode::InconsistentTopicId, ErrorCode::InconsistentClusterId,
        ErrorCode::TransactionalIdNotFound, ErrorCode::FetchSessionTopicIdError, ErrorCode::IneligibleReplica,
        ErrorCode::NewLeaderElected, ErrorCode::OffsetMovedToTieredStorage, ErrorCode::FencedMemberEpoch,
        ErrorCode::UnreleasedInstanceId, ErrorCode::UnsupportedAssignor, ErrorCode::StaleMemberEpoch,
        ErrorCode::MismatchedEndpointType, ErrorCode::UnsupportedEndpointType, ErrorCode::UnknownControllerId,
        ErrorCode::UnknownSubscriptionId, ErrorCode::TelemetryTooLarge, ErrorCode::InvalidRegistration,
        ErrorCode::TransactionAbortable, ErrorCode::InvalidRecordState, ErrorCode::ShareSessionNotFound,
        ErrorCode::InvalidShareSessionEpoch, ErrorCode::FencedStateEpoch, ErrorCode::InvalidVoterKey,
        ErrorCode::DuplicateVoter, ErrorCode::VoterNotFound, ErrorCode::InvalidRegularExpression,
        ErrorCode::RebootstrapRequired, ErrorCode::StreamsInvalidTopology, ErrorCode::StreamsInvalidTopologyEpoch,
        ErrorCode::StreamsTopologyFenced, ErrorCode::ShareSessionLimitReached, ErrorCode::GroupDeletionFailed,
        ErrorCode::StreamsTopologyDescriptionUpdateFailed, ErrorCode::ControllerIdNotRegistered,
];

/// A Kafka error code. `None` is success.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(i16)]
pub enum ErrorCode {
    UnknownServerError = -1,
    #[default]
    None = 0,
    OffsetOutOfRange = 1,
    CorruptMessage = 2,
    UnknownTopicOrPartition = 3,
    InvalidFetchSize = 4,
    LeaderNotAvailable = 5,
    NotLeaderOrFollower = 6,
    RequestTimedOut = 7,
    BrokerNotAvailable = 8,
    ReplicaNotAvailable = 9,
    MessageTooLarge = 10,
    StaleControllerEpoch = 11,
    OffsetMetadataTooLarge = 12,
    NetworkException = 13,
    CoordinatorLoadInProgress = 14,
    CoordinatorNotAvailable = 15,
    NotCoordinator = 16,
    InvalidTopicException = 17,
    RecordListTooLarge = 18,
    NotEnoughReplicas = 19,
    NotEnoughReplicasAfterAppend = 20,
    InvalidRequiredAcks = 21,
    IllegalGeneration = 22,
    InconsistentGroupProtocol = 23,
    InvalidGroupId = 24,
    UnknownMemberId = 25,
    InvalidSessionTimeout = 26,
    RebalanceInProgress = 27,
    InvalidCommitOffsetSize = 28,
    TopicAuthorizationFailed = 29,
    GroupAuthorizationFailed = 30,
    ClusterAuthorizationFailed = 31,
    InvalidTimestamp = 32,
    UnsupportedSaslMechanism = 33,
    IllegalSaslState = 34,
    UnsupportedVersion = 35,
    TopicAlreadyExists = 36,
    InvalidPartitions = 37,
    InvalidReplicationFactor = 38,
    InvalidReplicaAssignment = 39,
    InvalidConfig = 40,
    NotController = 41,
    InvalidRequest = 42,
    UnsupportedForMessageFormat = 43,
    PolicyViolation = 44,
    OutOfOrderSequenceNumber = 45,
    DuplicateSequenceNumber = 46,
    InvalidProducerEpoch = 47,
    InvalidTxnState = 48,
    InvalidProducerIdMapping = 49,
    InvalidTransactionTimeout = 50,
    ConcurrentTransactions = 51,
    TransactionCoordinatorFenced = 52,
    TransactionalIdAuthorizationFailed = 53,
    SecurityDisabled = 54,
    OperationNotAttempted = 55,
    KafkaStorageError = 56,
    LogDirNotFound = 57,
    SaslAuthenticationFailed = 58,
    UnknownProducerId = 59,
    ReassignmentInProgress = 60,
    DelegationTokenAuthDisabled = 61,
    DelegationTokenNotFound = 62,
    DelegationTokenOwnerMismatch = 63,
    DelegationTokenRequestNotAllowed = 64,
    DelegationTokenAuthorizationFailed = 65,
    DelegationTokenExpired = 66,
    InvalidPrincipalType = 67,
    NonEmptyGroup = 68,
    GroupIdNotFound = 69,
    FetchSessionIdNotFound = 70,
    InvalidFetchSessionEpoch = 71,
    ListenerNotFound = 72,
    TopicDeletionDisabled = 73,
    FencedLeaderEpoch = 74,
    UnknownLeaderEpoch = 75,
    UnsupportedCompressionType = 76,
    StaleBrokerEpoch = 77,
    OffsetNotAvailable = 78,
    MemberIdRequired = 79,
    PreferredLeaderNotAvailable = 80,
    GroupMaxSizeReached = 81,
    FencedInstanceId = 82,
    EligibleLeadersNotAvailable = 83,
    ElectionNotNeeded = 84,
    NoReassignmentInProgress = 85,
    GroupSubscribedToTopic = 86,
    InvalidRecord = 87,
    UnstableOffsetCommit = 88,
    ThrottlingQuotaExceeded = 89,
    ProducerFenced = 90,
    ResourceNotFound = 91,
    DuplicateResource = 92,
    UnacceptableCredential = 93,
    InconsistentVoterSet = 94,
    InvalidUpdateVersion = 95,
    FeatureUpdateFailed = 96,
    PrincipalDeserializationFailure = 97,
    SnapshotNotFound = 98,
    PositionOutOfRange = 99,
    UnknownTopicId = 100,
    DuplicateBrokerRegistration = 101,
    BrokerIdNotRegistered = 102,
    InconsistentTopicId = 103,
    InconsistentClusterId = 104,
    TransactionalIdNotFound = 105,
    FetchSessionTopicIdError = 106,
    IneligibleReplica = 107,
    NewLeaderElected = 108,
    OffsetMovedToTieredStorage = 109,
    FencedMemberEpoch = 110,
    UnreleasedInstanceId = 111,
    UnsupportedAssignor = 112,
    StaleMemberEpoch = 113,
    MismatchedEndpointType = 114,
    UnsupportedEndpointType = 115,
    UnknownControllerId = 116,
    UnknownSubscriptionId = 117,
    TelemetryTooLarge = 118,
    InvalidRegistration = 119,
    TransactionAbortable = 120,
    InvalidRecordState = 121,
    ShareSessionNotFound = 122,
    InvalidShareSessionEpoch = 123,
    FencedStateEpoch = 124,
    InvalidVoterKey = 125,
    DuplicateVoter = 126,
    VoterNotFound = 127,
    InvalidRegularExpression = 128,
    RebootstrapRequired = 129,
    StreamsInvalidTopology = 130,
    StreamsInvalidTopologyEpoch = 131,
    StreamsTopologyFenced = 132,
    ShareSessionLimitReached = 133,
    GroupDeletionFailed = 134,
    StreamsTopologyDescriptionUpdateFailed = 135,
    ControllerIdNotRegistered = 136,
}

impl ErrorCode {
    /// `None`: Kafka 4.4 has no such code.
    pub fn from_wire(raw: i16) -> Option<ErrorCode> {
        let at = usize::try_from(raw.checked_sub(FIRST)?).ok()?;
        ALL.get(at).copied()
    }

    pub const fn to_wire(self) -> i16 {
        self as i16
    }

    pub const fn is_ok(self) -> bool {
        matches!(self, ErrorCode::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_found_by_its_number_and_no_other() {
        assert!((FIRST..).zip(ALL).all(|(number, code)| code.to_wire() == number));
        for code in ALL {
            assert_eq!(ErrorCode::from_wire(code.to_wire()), Some(code));
        }
        assert_eq!([-2, 137, i16::MIN, i16::MAX].map(ErrorCode::from_wire), [None; 4]);
    }
}

//! Why a request was not carried out, and what to do next.
//!
//! Owns the names of error codes and the advice on them. Invariant: every refusal names the thing that was refused, Kafka's name and number of
//! the error, and what the server said about it.

use model::ErrorCode;

use super::ClientError;
use crate::wire::StrBytes;

/// A code that a server answered instead of doing what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {}", explained(*.code, .message.as_deref()))]
pub struct Refused {
    pub what: String,
    pub code: i16,
    pub message: Option<String>,
}

/// Why something that was asked of a cluster was not done.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("none of {bootstrap} answers: {last}")]
    Bootstrap { bootstrap: String, last: ClientError },
    #[error(
        "{topic} partition {partition} has had no leader for {seconds} s; `weir doctor` and `weir topic describe {topic}` show which nodes are missing"
    )]
    Leaderless { topic: String, partition: i32, seconds: u64 },
    #[error("node {node} leads or coordinates something and is not in the cluster's list of nodes")]
    UnknownNode { node: i32 },
    #[error("node {node} answered without {what}")]
    Incomplete { node: String, what: &'static str },
    #[error("{topic} partition {partition} holds bytes that are no batch of records: {reason}")]
    Records { topic: String, partition: i32, reason: String },
    #[error("{topic} has {partitions} partitions, 0 to {}; there is no {partition}", partitions - 1)]
    NoPartition { topic: String, partitions: i32, partition: i32 },
}

impl AskError {
    /// The code that a server gave, if it was one.
    pub fn code(&self) -> Option<i16> {
        match self {
            AskError::Refused(refused) => Some(refused.code),
            _ => None,
        }
    }
}

/// An error unless the code is 0.
pub fn check(what: impl FnOnce() -> String, code: i16, message: Option<&StrBytes>) -> Result<(), Refused> {
    match code {
        0 => Ok(()),
        code => Err(Refused { what: what(), code, message: message.map(ToString::to_string) }),
    }
}

/// Whether the same request may succeed in a moment: leaders and coordinators move.
pub fn is_passing(code: i16) -> bool {
    ErrorCode::from_wire(code).is_some_and(|code| {
        matches!(
            code,
            ErrorCode::LeaderNotAvailable
                | ErrorCode::NotLeaderOrFollower
                | ErrorCode::FencedLeaderEpoch
                | ErrorCode::UnknownLeaderEpoch
                | ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::NotCoordinator
                | ErrorCode::OffsetNotAvailable
                | ErrorCode::ReplicaNotAvailable
                | ErrorCode::KafkaStorageError
        )
    })
}

/// `UNKNOWN_TOPIC_OR_PARTITION`, as Kafka writes it.
pub fn name(code: i16) -> String {
    let Some(code) = ErrorCode::from_wire(code) else { return "an error that Kafka 4.4 does not know".to_owned() };
    let mut name = String::new();
    for character in format!("{code:?}").chars() {
        if character.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(character.to_ascii_uppercase());
    }
    name
}

fn explained(code: i16, message: Option<&str>) -> String {
    let message = message.map(|message| message.trim_end_matches('.')).filter(|message| !message.is_empty());
    let said = message.map(|message| format!(": {message}")).unwrap_or_default();
    let advice = advice(code).map(|advice| format!("; {advice}")).unwrap_or_default();
    format!("{} (error {code}){said}{advice}", name(code))
}

/// What to do next, where there is something.
fn advice(code: i16) -> Option<&'static str> {
    Some(match ErrorCode::from_wire(code)? {
        ErrorCode::UnknownTopicOrPartition => "`weir topic list` shows the topics, `weir topic create` makes one",
        ErrorCode::TopicAlreadyExists => "`weir topic alter` changes it, --if-not-exists takes it as it is",
        ErrorCode::InvalidTopicException => "a name has 1 to 249 of the characters a-z A-Z 0-9 . _ -",
        ErrorCode::InvalidReplicationFactor => "`weir node list` shows how many nodes there are to hold replicas",
        ErrorCode::InvalidPartitions => "a topic has at least one partition, and never fewer than before",
        ErrorCode::InvalidConfig => "`weir config explain KEY` says what a key takes",
        ErrorCode::NotEnoughReplicas | ErrorCode::NotEnoughReplicasAfterAppend => {
            "fewer replicas are in sync than min.insync.replicas asks for: `weir doctor` shows which node is missing"
        }
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
            "the topic's max.message.bytes is the limit: `weir config set topic/NAME max.message.bytes=N`"
        }
        ErrorCode::KafkaStorageError => "the disk of that node is full or failing: see `weir doctor` and its log",
        ErrorCode::GroupIdNotFound => "`weir group list` shows the groups",
        ErrorCode::NonEmptyGroup => "stop its consumers first; `weir group describe` names them",
        ErrorCode::UnknownMemberId => {
            "the group has members: stop its consumers first; `weir group describe` names them"
        }
        ErrorCode::GroupSubscribedToTopic => "a consumer of the group still reads the topic: stop it first",
        ErrorCode::OffsetOutOfRange => "`weir topic describe` shows which offsets there are",
        ErrorCode::TopicDeletionDisabled => "the nodes were started with delete.topic.enable=false",
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed => "an administrator of the cluster has to permit it",
        ErrorCode::CoordinatorNotAvailable | ErrorCode::CoordinatorLoadInProgress | ErrorCode::NotCoordinator => {
            "the partition of __consumer_offsets that holds the group has no leader yet: try again, then `weir doctor`"
        }
        ErrorCode::UnsupportedVersion => "the cluster is too old for it, or has the feature switched off",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_was_refused_by_which_error_and_what_to_do_next() {
        let error = check(|| "topic orders".to_owned(), 3, None).expect_err("a code");
        assert_eq!(
            error.to_string(),
            "topic orders: UNKNOWN_TOPIC_OR_PARTITION (error 3); `weir topic list` shows the topics, `weir topic create` makes one"
        );
        let said = StrBytes::from_static_str("no such thing");
        let error = check(|| "x".to_owned(), 42, Some(&said)).expect_err("a code");
        assert_eq!(error.to_string(), "x: INVALID_REQUEST (error 42): no such thing");
        assert_eq!(check(|| "x".to_owned(), 0, None), Ok(()));
    }

    #[test]
    fn what_moves_passes_and_what_is_wrong_stays() {
        assert!([5, 6, 14, 15, 16].into_iter().all(is_passing));
        assert!(![0, 3, 10, 42, -1, 999].into_iter().any(is_passing));
    }
}

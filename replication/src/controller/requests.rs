//! What the active controller is asked, and what it answers.
//!
//! Owns the shapes only: checked values, no wire types.

use std::collections::BTreeMap;

use model::{ErrorCode, NodeId, TopicId, TopicName};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTopic {
    pub name: TopicName,
    /// `None`: the default (`num.partitions`).
    pub partitions: Option<u32>,
    /// `None`: the default, which grows with the cluster.
    pub replication_factor: Option<u16>,
    /// By hand: replicas of each partition, from 0 on.
    pub assignment: Vec<Vec<NodeId>>,
    pub config: BTreeMap<String, String>,
}

impl NewTopic {
    /// All left to the cluster.
    pub fn with_defaults(name: TopicName) -> NewTopic {
        NewTopic { name, partitions: None, replication_factor: None, assignment: Vec::new(), config: BTreeMap::new() }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatedTopic {
    pub id: TopicId,
    pub partitions: u32,
    pub replication_factor: u16,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TopicRef {
    Name(TopicName),
    Id(TopicId),
}

/// A refusal by the controller: what the client is told.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }
}

//! What the active controller is asked, and what it answers.
//!
//! Owns the shapes only: checked values, no wire types. Does not own their encoding between nodes (`requests_codec`) nor what is
//! decided (`decide`). Invariant: an answer that holds a list has one entry for each thing that was asked for, in the same order
//! (`LeadersElected` names its partitions, since all of the cluster may have been asked for).

use std::collections::{BTreeMap, BTreeSet};

use model::{ErrorCode, LeaderEpoch, NodeId, PartitionIndex, TopicId, TopicName, TopicPartition};

use super::quorum::QuorumStatus;
use crate::metadata::{Duty, Incarnation, NodeInfo};

/// Any node may ask; the active controller decides.
#[derive(Clone, PartialEq, Debug)]
pub enum ControllerRequest {
    /// A process start. `clean`: the earlier one ended with everything on disk. `lost`: partitions of which its disk holds nothing any
    /// more. Answered with `Done`.
    Register { node: NodeId, info: NodeInfo, clean: bool, lost: BTreeSet<TopicPartition> },
    /// This incarnation turned up again. `Done`, or StaleBrokerEpoch where a later one registered.
    Unfence { node: NodeId, incarnation: Incarnation },
    /// Kafka's UnregisterBroker: a node that is dead is forgotten; partitions may still name it as a replica. If it was a member of the
    /// metadata group, it leaves that next. `Done`.
    UnregisterNode { node: NodeId },
    /// `weir node remove`: as above, refused while a partition has it as a replica. `Done`.
    RemoveNode { node: NodeId },
    /// Answered with `ProducerIds`.
    AllocateProducerIds { node: NodeId },
    /// `TopicsCreated`.
    CreateTopics { topics: Vec<NewTopic>, validate_only: bool },
    /// `TopicsDeleted`.
    DeleteTopics { topics: Vec<TopicRef> },
    /// `PartitionsCreated`.
    CreatePartitions { topics: Vec<MorePartitions>, validate_only: bool },
    /// The leader `node`, in this incarnation, wants other in-sync sets. `IsrAltered`; a stale incarnation refuses the whole request
    /// with StaleBrokerEpoch.
    AlterIsr { node: NodeId, incarnation: Incarnation, changes: Vec<IsrChange> },
    /// `partitions: None`: every partition. `LeadersElected`.
    ElectLeaders { election: Election, partitions: Option<Vec<NamedPartition>> },
    /// `Reassigned`. Without `allow_factor_change` the number of replicas must stay.
    Reassign { partitions: Vec<Reassignment>, allow_factor_change: bool },
    /// `ConfigsAltered`. All operations on a resource hold, or none.
    AlterConfigs { resources: Vec<ConfigAlteration>, validate_only: bool },
    /// `FeaturesUpdated`: all hold, or none.
    UpdateFeatures { updates: Vec<FeatureUpdate>, validate_only: bool },
    /// `Done` once it is decided. The members of the group follow soon after, when the node has caught up; the image shows them.
    /// `directory`: checked where it is given.
    AddVoter { node: NodeId, directory: Option<[u8; 16]> },
    /// `Done`. It stays out until it is added by hand.
    RemoveVoter { node: NodeId, directory: Option<[u8; 16]> },
    /// `weir node drain`, `decommission`, and back. `Done`. How far it is, `progress` reads from the image.
    SetDuty { node: NodeId, duty: Duty },
    /// `HandedOver`.
    HandOver { node: NodeId, incarnation: Incarnation, what: HandOver },
    /// `Quorum`. Nothing is decided: the driver of the active controller reads it off the metadata group.
    DescribeQuorum,
}

/// What was decided; true once the image has reached the place in the log that came with it.
#[derive(Clone, PartialEq, Debug)]
pub enum ControllerAnswer {
    Done,
    ProducerIds {
        first: i64,
        count: u32,
    },
    TopicsCreated(Vec<Result<CreatedTopic, Refusal>>),
    TopicsDeleted(Vec<Result<(TopicName, TopicId), Refusal>>),
    PartitionsCreated(Vec<Result<(), Refusal>>),
    /// The partition epoch of the state that now holds. What else it holds (another leader, a finished reassignment), the image says.
    IsrAltered(Vec<Result<u32, Refusal>>),
    /// Where every partition was asked for, those that needed no election are left out.
    LeadersElected(Vec<(NamedPartition, Result<(), Refusal>)>),
    Reassigned(Vec<Result<(), Refusal>>),
    ConfigsAltered(Vec<Result<(), Refusal>>),
    FeaturesUpdated(Vec<Result<(), Refusal>>),
    /// How many partitions the node still leads, of those that were asked for: nobody else is in sync.
    HandedOver {
        left: u64,
    },
    Quorum(QuorumStatus),
}

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

/// A topic shall have `total` partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MorePartitions {
    pub topic: TopicName,
    pub total: u32,
    /// Replicas of each new partition; empty: chosen by the cluster.
    pub assignment: Vec<Vec<NodeId>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IsrChange {
    pub partition: TopicPartition,
    /// As the leader knows them: an older state is refused.
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: u32,
    /// The whole set, the leader included. The incarnation is the one that was seen to keep up (KIP-903).
    pub isr: Vec<(NodeId, Incarnation)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Election {
    Preferred,
    /// Where nobody is eligible: whoever lives. Acknowledged records may be lost.
    Unclean,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NamedPartition {
    pub topic: TopicName,
    pub partition: PartitionIndex,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reassignment {
    pub partition: NamedPartition,
    /// `None`: cancel what is under way.
    pub replicas: Option<Vec<NodeId>>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ConfigTarget {
    Topic(TopicName),
    /// The cluster-wide default of all nodes.
    EveryNode,
    Node(NodeId),
    Group(String),
    /// A subscription to the metrics of clients.
    ClientMetrics(String),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigOperation {
    Set {
        key: String,
        value: String,
    },
    Delete {
        key: String,
    },
    /// Of a list: adds what is not in it.
    Append {
        key: String,
        value: String,
    },
    Subtract {
        key: String,
        value: String,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigAlteration {
    pub target: ConfigTarget,
    pub operations: Vec<ConfigOperation>,
    /// Kafka's older AlterConfigs: what is not named goes back to its default. Only `Set` may be used then.
    pub replace: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LevelChange {
    Upgrade,
    SafeDowngrade,
    UnsafeDowngrade,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeatureUpdate {
    pub name: String,
    pub level: i16,
    pub change: LevelChange,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HandOver {
    /// The process ends: everything that it leads, and it is not elected again before it starts anew.
    Stopping,
    /// Its own sync hangs: it leaves their ISRs, whether it leads them or follows.
    Partitions(Vec<TopicPartition>),
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

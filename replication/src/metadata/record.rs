//! The facts of the metadata log, checked, and their form on disk.
//!
//! Owns the translation between checked values and `proto/metadata.proto`. Does not own what a fact changes: `apply` does.
//! Invariants: a batch that needs a newer level, or holds a fact this version does not know, is refused whole; what was decoded is
//! checked (ids of 16 bytes, names that are names, numbers in range).

mod numbers;

use bytes::Bytes;
use model::{NodeId, PartitionIndex, TopicId, TopicName, TopicPartition};
use prost::Message;

use super::image::{Duty, Listener, NodeInfo, NodeOrders, PartitionInfo, Resource, UncleanElection, Voting};

pub(crate) use numbers::{id_bytes, id16, incarnation, leader_epoch, node_id, node_numbers, partition_index, topic_id};

/// The generated shapes of `proto/metadata.proto`.
pub mod proto {
    #![allow(missing_docs, clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/weir.metadata.v1.rs"));
}

/// The newest level of facts that this version knows. What it writes is bounded by the level that the cluster has finalised.
/// Level 2 adds `NodeOrdered`, `UncleanLeaderElected` and the configuration of clients' metrics. A build with
/// `--cfg previous_level` stands for the version before, so that a rolling upgrade can be tried: it neither writes nor reads what is newer.
pub const LEVEL: u32 = if cfg!(previous_level) { 1 } else { 2 };
/// The level that every version reads.
const LEVEL_FIRST: u32 = 1;
/// The feature that carries that level, so that a cluster of mixed versions writes only what all of them read.
pub const LEVEL_FEATURE: &str = "weir.metadata";

/// Something that happened. Deciding is over; every node applies it alike.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    ClusterFounded {
        cluster_id: String,
        voters: Vec<NodeId>,
    },
    /// A process start: replaces the node's earlier incarnation.
    NodeRegistered {
        node: NodeId,
        info: NodeInfo,
    },
    NodeFenced {
        node: NodeId,
        incarnation: Incarnation,
    },
    NodeUnfenced {
        node: NodeId,
        incarnation: Incarnation,
    },
    NodeUnregistered {
        node: NodeId,
    },
    /// Its partitions follow as `PartitionChanged`, from 0 on.
    TopicCreated {
        id: TopicId,
        name: TopicName,
        configs: Vec<(String, String)>,
        default_replication: bool,
    },
    TopicDeleted {
        id: TopicId,
    },
    /// The whole new state of a partition; one that is not known yet is the topic's next.
    PartitionChanged {
        topic: TopicId,
        partition: PartitionIndex,
        state: PartitionInfo,
    },
    /// `value: None` is back to the default.
    ConfigChanged {
        resource: Resource,
        key: String,
        value: Option<String>,
    },
    /// The whole new state of what a node was asked to do. Level 2.
    NodeOrdered {
        node: NodeId,
        orders: NodeOrders,
    },
    /// The audit of an unclean election; the partition's new state follows. Level 2.
    UncleanLeaderElected {
        election: UncleanElection,
    },
    FeatureLevelSet {
        name: String,
        level: i16,
    },
    /// Producer ids below `next` are handed out, the newest block to `node`.
    ProducerIdsAllocated {
        node: NodeId,
        next: i64,
    },
}

impl Fact {
    /// The level that a reader needs.
    pub fn level(&self) -> u32 {
        match self {
            Fact::NodeOrdered { .. }
            | Fact::UncleanLeaderElected { .. }
            | Fact::ConfigChanged { resource: Resource::ClientMetrics(_), .. } => 2,
            Fact::ClusterFounded { .. }
            | Fact::NodeRegistered { .. }
            | Fact::NodeFenced { .. }
            | Fact::NodeUnfenced { .. }
            | Fact::NodeUnregistered { .. }
            | Fact::TopicCreated { .. }
            | Fact::TopicDeleted { .. }
            | Fact::PartitionChanged { .. }
            | Fact::ConfigChanged { .. }
            | Fact::FeatureLevelSet { .. }
            | Fact::ProducerIdsAllocated { .. } => LEVEL_FIRST,
        }
    }
}

/// One start of a process. What an earlier start promised is void.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Incarnation(pub [u8; 16]);

/// Where a batch of facts is cut into entries.
pub const ENTRY_BYTES: usize = 1 << 20;
/// Tag and length of a fact within its batch, at most.
const FACT_HEAD_BYTES: usize = 6;

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FactError {
    #[error("not a metadata record: {0}")]
    Encoding(String),
    #[error("the record needs metadata level {needed}, this version reads up to {LEVEL}")]
    LevelTooNew { needed: u32 },
    #[error("the record holds a fact of a kind that this version does not know")]
    UnknownFact,
    #[error("{field} is {length} bytes long, 16 are an id")]
    Id { field: &'static str, length: usize },
    #[error("{field} is {value}, which is out of range")]
    Number { field: &'static str, value: i64 },
    #[error("'{name}' cannot be a topic: {source}")]
    TopicName { name: String, source: model::ids::TopicNameError },
    #[error("'{name}' does not name a resource of kind {kind}")]
    Resource { kind: i32, name: String },
    #[error("a {0} without its content")]
    Missing(&'static str),
}

/// One entry of the metadata log.
pub fn encode_batch(facts: &[Fact]) -> Bytes {
    let level = facts.iter().map(Fact::level).max().unwrap_or(LEVEL_FIRST);
    let batch = proto::FactBatch { level, facts: facts.iter().map(to_proto).collect() };
    batch.encode_to_vec().into()
}

/// Entries of at most `ENTRY_BYTES` each, as long as no group alone is larger: a group is never split.
pub fn batches(groups: &[Vec<Fact>]) -> Vec<Bytes> {
    let mut done = Vec::new();
    let mut open = proto::FactBatch { level: LEVEL_FIRST, facts: Vec::new() };
    let mut bytes = 0;
    for group in groups {
        let facts: Vec<proto::Fact> = group.iter().map(to_proto).collect();
        let size: usize = facts.iter().map(|fact| fact.encoded_len() + FACT_HEAD_BYTES).sum();
        if bytes + size > ENTRY_BYTES && !open.facts.is_empty() {
            done.push(open.encode_to_vec().into());
            open.facts.clear();
            (open.level, bytes) = (LEVEL_FIRST, 0);
        }
        open.level = group.iter().map(Fact::level).fold(open.level, u32::max);
        open.facts.extend(facts);
        bytes += size;
    }
    if !open.facts.is_empty() {
        done.push(open.encode_to_vec().into());
    }
    done
}

pub fn decode_batch(bytes: Bytes) -> Result<Vec<Fact>, FactError> {
    let batch = proto::FactBatch::decode(bytes).map_err(|error| FactError::Encoding(error.to_string()))?;
    if batch.level > LEVEL {
        return Err(FactError::LevelTooNew { needed: batch.level });
    }
    batch.facts.into_iter().map(|fact| from_proto(fact.kind.ok_or(FactError::UnknownFact)?)).collect()
}

fn to_proto(fact: &Fact) -> proto::Fact {
    use proto::fact::Kind;
    let kind = match fact {
        Fact::ClusterFounded { cluster_id, voters } => {
            Kind::ClusterFounded(proto::ClusterFounded { cluster_id: cluster_id.clone(), voters: node_numbers(voters) })
        }
        Fact::NodeRegistered { node, info } => Kind::NodeRegistered(node_to_proto(*node, info)),
        Fact::NodeFenced { node, incarnation } => {
            Kind::NodeFenced(proto::NodeFenced { node: node.0, incarnation: id_bytes(&incarnation.0) })
        }
        Fact::NodeUnfenced { node, incarnation } => {
            Kind::NodeUnfenced(proto::NodeUnfenced { node: node.0, incarnation: id_bytes(&incarnation.0) })
        }
        Fact::NodeOrdered { node, orders } => Kind::NodeOrdered(orders_to_proto(*node, orders)),
        Fact::UncleanLeaderElected { election } => Kind::UncleanLeaderElected(unclean_to_proto(election)),
        Fact::NodeUnregistered { node } => Kind::NodeUnregistered(proto::NodeUnregistered { node: node.0 }),
        Fact::TopicCreated { id, name, configs, default_replication } => {
            Kind::TopicCreated(topic_to_proto(*id, name, configs.iter().cloned(), *default_replication))
        }
        Fact::TopicDeleted { id } => Kind::TopicDeleted(proto::TopicDeleted { id: id_bytes(&id.0) }),
        Fact::PartitionChanged { topic, partition, state } => {
            Kind::PartitionChanged(partition_to_proto(*topic, *partition, state))
        }
        Fact::ConfigChanged { resource, key, value } => {
            Kind::ConfigChanged(config_to_proto(resource, key.clone(), value.clone()))
        }
        Fact::FeatureLevelSet { name, level } => {
            Kind::FeatureLevelSet(proto::FeatureLevelSet { name: name.clone(), level: i32::from(*level) })
        }
        Fact::ProducerIdsAllocated { node, next } => {
            Kind::ProducerIdsAllocated(proto::ProducerIdsAllocated { node: node.0, next: *next })
        }
    };
    proto::Fact { kind: Some(kind) }
}

fn from_proto(kind: proto::fact::Kind) -> Result<Fact, FactError> {
    use proto::fact::Kind;
    Ok(match kind {
        Kind::ClusterFounded(fact) => Fact::ClusterFounded {
            cluster_id: fact.cluster_id,
            voters: fact.voters.into_iter().map(node_id).collect::<Result<_, _>>()?,
        },
        Kind::NodeRegistered(fact) => {
            let (node, info) = node_from_proto(fact)?;
            Fact::NodeRegistered { node, info }
        }
        Kind::NodeFenced(fact) => {
            Fact::NodeFenced { node: node_id(fact.node)?, incarnation: incarnation(&fact.incarnation)? }
        }
        Kind::NodeUnfenced(fact) => {
            Fact::NodeUnfenced { node: node_id(fact.node)?, incarnation: incarnation(&fact.incarnation)? }
        }
        Kind::NodeOrdered(fact) => {
            let (node, orders) = orders_from_proto(fact)?;
            Fact::NodeOrdered { node, orders }
        }
        Kind::UncleanLeaderElected(fact) => Fact::UncleanLeaderElected { election: unclean_from_proto(fact)? },
        Kind::NodeUnregistered(fact) => Fact::NodeUnregistered { node: node_id(fact.node)? },
        Kind::TopicCreated(fact) => topic_from_proto(fact)?,
        Kind::TopicDeleted(fact) => Fact::TopicDeleted { id: topic_id(&fact.id)? },
        Kind::PartitionChanged(fact) => {
            let (topic, partition, state) = partition_from_proto(fact)?;
            Fact::PartitionChanged { topic, partition, state }
        }
        Kind::ConfigChanged(fact) => config_from_proto(fact)?,
        Kind::FeatureLevelSet(fact) => {
            let level = i16::try_from(fact.level)
                .map_err(|_| FactError::Number { field: "level", value: i64::from(fact.level) })?;
            Fact::FeatureLevelSet { name: fact.name, level }
        }
        Kind::ProducerIdsAllocated(fact) if fact.next >= 0 => {
            Fact::ProducerIdsAllocated { node: node_id(fact.node)?, next: fact.next }
        }
        Kind::ProducerIdsAllocated(fact) => return Err(FactError::Number { field: "next", value: fact.next }),
    })
}

pub(crate) fn duty_to_proto(duty: Duty) -> proto::node_ordered::Duty {
    match duty {
        Duty::Full => proto::node_ordered::Duty::Full,
        Duty::Drained => proto::node_ordered::Duty::Drained,
        Duty::Leaving => proto::node_ordered::Duty::Leaving,
        Duty::Joining => proto::node_ordered::Duty::Joining,
    }
}

pub(crate) fn duty_from_proto(raw: i32) -> Result<Duty, FactError> {
    match proto::node_ordered::Duty::try_from(raw) {
        Ok(proto::node_ordered::Duty::Full) => Ok(Duty::Full),
        Ok(proto::node_ordered::Duty::Drained) => Ok(Duty::Drained),
        Ok(proto::node_ordered::Duty::Leaving) => Ok(Duty::Leaving),
        Ok(proto::node_ordered::Duty::Joining) => Ok(Duty::Joining),
        Err(_) => Err(FactError::Number { field: "duty", value: i64::from(raw) }),
    }
}

fn voting_to_proto(voting: Voting) -> proto::node_ordered::Voting {
    match voting {
        Voting::AsChosen => proto::node_ordered::Voting::AsChosen,
        Voting::Never => proto::node_ordered::Voting::Never,
        Voting::Always => proto::node_ordered::Voting::Always,
    }
}

fn voting_from_proto(raw: i32) -> Result<Voting, FactError> {
    match proto::node_ordered::Voting::try_from(raw) {
        Ok(proto::node_ordered::Voting::AsChosen) => Ok(Voting::AsChosen),
        Ok(proto::node_ordered::Voting::Never) => Ok(Voting::Never),
        Ok(proto::node_ordered::Voting::Always) => Ok(Voting::Always),
        Err(_) => Err(FactError::Number { field: "voting", value: i64::from(raw) }),
    }
}

pub(super) fn orders_to_proto(node: NodeId, orders: &NodeOrders) -> proto::NodeOrdered {
    proto::NodeOrdered {
        node: node.0,
        duty: duty_to_proto(orders.duty).into(),
        stopping: orders.stopping.map(|incarnation| id_bytes(&incarnation.0)).unwrap_or_default(),
        voting: voting_to_proto(orders.voting).into(),
    }
}

pub(super) fn orders_from_proto(fact: proto::NodeOrdered) -> Result<(NodeId, NodeOrders), FactError> {
    let stopping = (!fact.stopping.is_empty()).then(|| incarnation(&fact.stopping)).transpose()?;
    let orders = NodeOrders { duty: duty_from_proto(fact.duty)?, stopping, voting: voting_from_proto(fact.voting)? };
    Ok((node_id(fact.node)?, orders))
}

pub(super) fn unclean_to_proto(election: &UncleanElection) -> proto::UncleanLeaderElected {
    proto::UncleanLeaderElected {
        topic_id: id_bytes(&election.partition.topic.0),
        partition: election.partition.partition.get(),
        leader: election.leader.0,
        leader_epoch: election.leader_epoch.get(),
        at_ms: election.at_ms,
    }
}

pub(super) fn unclean_from_proto(fact: proto::UncleanLeaderElected) -> Result<UncleanElection, FactError> {
    Ok(UncleanElection {
        partition: TopicPartition { topic: topic_id(&fact.topic_id)?, partition: partition_index(fact.partition)? },
        leader: node_id(fact.leader)?,
        leader_epoch: leader_epoch(fact.leader_epoch)?,
        at_ms: fact.at_ms,
    })
}

pub(crate) fn node_to_proto(node: NodeId, info: &NodeInfo) -> proto::NodeRegistered {
    let listener =
        |of: &Listener| proto::Listener { name: of.name.clone(), host: of.host.clone(), port: u32::from(of.port) };
    proto::NodeRegistered {
        node: node.0,
        incarnation: id_bytes(&info.incarnation.0),
        directory: id_bytes(&info.directory),
        boot: info.boot.clone(),
        listeners: info.listeners.iter().map(listener).collect(),
        rack: info.rack.clone(),
        features: info
            .features
            .iter()
            .map(|(name, (min, max))| proto::FeatureRange {
                name: name.clone(),
                min: i32::from(*min),
                max: i32::from(*max),
            })
            .collect(),
        fenced: info.fenced,
    }
}

pub(crate) fn node_from_proto(fact: proto::NodeRegistered) -> Result<(NodeId, NodeInfo), FactError> {
    let listener = |of: proto::Listener| {
        let port = u16::try_from(of.port);
        let port = port.map_err(|_| FactError::Number { field: "port", value: i64::from(of.port) })?;
        Ok(Listener { name: of.name, host: of.host, port })
    };
    let feature = |of: proto::FeatureRange| {
        let level =
            |raw: i32| i16::try_from(raw).map_err(|_| FactError::Number { field: "feature", value: i64::from(raw) });
        Ok((of.name, (level(of.min)?, level(of.max)?)))
    };
    let info = NodeInfo {
        incarnation: incarnation(&fact.incarnation)?,
        directory: id16("directory", &fact.directory)?,
        boot: fact.boot,
        listeners: fact.listeners.into_iter().map(listener).collect::<Result<_, FactError>>()?,
        rack: fact.rack,
        features: fact.features.into_iter().map(feature).collect::<Result<_, FactError>>()?,
        fenced: fact.fenced,
    };
    Ok((node_id(fact.node)?, info))
}

pub(super) fn topic_to_proto(
    id: TopicId,
    name: &TopicName,
    configs: impl Iterator<Item = (String, String)>,
    default_replication: bool,
) -> proto::TopicCreated {
    proto::TopicCreated {
        id: id_bytes(&id.0),
        name: name.as_str().to_owned(),
        configs: configs.map(|(key, value)| proto::Setting { key, value }).collect(),
        default_replication,
    }
}

pub(super) fn topic_from_proto(fact: proto::TopicCreated) -> Result<Fact, FactError> {
    let name = TopicName::new(&fact.name).map_err(|source| FactError::TopicName { name: fact.name, source })?;
    Ok(Fact::TopicCreated {
        id: topic_id(&fact.id)?,
        name,
        configs: fact.configs.into_iter().map(|setting| (setting.key, setting.value)).collect(),
        default_replication: fact.default_replication,
    })
}

pub(super) fn partition_to_proto(
    topic: TopicId,
    partition: PartitionIndex,
    state: &PartitionInfo,
) -> proto::PartitionChanged {
    proto::PartitionChanged {
        topic_id: id_bytes(&topic.0),
        partition: partition.get(),
        leader: state.leader.map(|node| node.0),
        leader_epoch: state.leader_epoch.get(),
        partition_epoch: state.partition_epoch,
        replicas: node_numbers(&state.replicas),
        isr: node_numbers(&state.isr),
        elr: node_numbers(&state.elr),
        last_known_elr: node_numbers(&state.last_known_elr),
        adding: node_numbers(&state.adding),
        removing: node_numbers(&state.removing),
    }
}

pub(super) fn partition_from_proto(
    fact: proto::PartitionChanged,
) -> Result<(TopicId, PartitionIndex, PartitionInfo), FactError> {
    let nodes = |raw: Vec<i32>| raw.into_iter().map(node_id).collect::<Result<Vec<_>, _>>();
    let state = PartitionInfo {
        leader: fact.leader.map(node_id).transpose()?,
        leader_epoch: leader_epoch(fact.leader_epoch)?,
        partition_epoch: fact.partition_epoch,
        replicas: nodes(fact.replicas)?,
        isr: nodes(fact.isr)?,
        elr: nodes(fact.elr)?,
        last_known_elr: nodes(fact.last_known_elr)?,
        adding: nodes(fact.adding)?,
        removing: nodes(fact.removing)?,
    };
    Ok((topic_id(&fact.topic_id)?, partition_index(fact.partition)?, state))
}

pub(super) fn config_to_proto(resource: &Resource, key: String, value: Option<String>) -> proto::ConfigChanged {
    use proto::config_changed::Resource as Kind;
    let (kind, name) = match resource {
        Resource::Topic(id) => (Kind::Topic, id.to_string()),
        Resource::EveryNode => (Kind::Node, String::new()),
        Resource::Node(node) => (Kind::Node, node.to_string()),
        Resource::Group(group) => (Kind::Group, group.clone()),
        Resource::ClientMetrics(name) => (Kind::ClientMetrics, name.clone()),
    };
    proto::ConfigChanged { resource: kind.into(), name, key, value }
}

pub(super) fn config_from_proto(fact: proto::ConfigChanged) -> Result<Fact, FactError> {
    use proto::config_changed::Resource as Kind;
    let resource = match fact.resource() {
        Kind::Unspecified => None,
        Kind::Topic => topic_from_hex(&fact.name).map(Resource::Topic),
        Kind::Node if fact.name.is_empty() => Some(Resource::EveryNode),
        Kind::Node => fact.name.parse().ok().filter(|number| *number >= 0).map(|number| Resource::Node(NodeId(number))),
        Kind::Group => Some(Resource::Group(fact.name.clone())),
        Kind::ClientMetrics => Some(Resource::ClientMetrics(fact.name.clone())),
    };
    let refused = FactError::Resource { kind: fact.resource, name: fact.name };
    Ok(Fact::ConfigChanged { resource: resource.ok_or(refused)?, key: fact.key, value: fact.value })
}

fn topic_from_hex(text: &str) -> Option<TopicId> {
    let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)?;
    Some(TopicId(number.to_be_bytes()))
}

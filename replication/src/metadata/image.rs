//! The image: all metadata of the cluster at one place of the metadata log.
//!
//! Owns the shapes and the look-ups. Does not own how facts change it (`apply`), nor the encoding (`snapshot`).
//! Invariants: what a copy holds never changes; a change copies what it changes (one topic, one chunk of a map); topics by name and by
//! id are the same topics. `statics` is this node's own configuration: no fact, not in a snapshot, used to resolve what facts leave open.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{LeaderEpoch, NodeId, PartitionIndex, TopicId, TopicName, TopicPartition};

use super::broker_config::BrokerConfig;
use super::record::{Incarnation, LEVEL_FEATURE};
use super::sorted_map::SortedMap;
use super::topic_config::TopicConfig;

#[derive(Clone, Debug, Default)]
pub struct Image {
    pub(super) cluster_id: Arc<str>,
    /// The active controller as this node knows it: from Raft, not from a fact.
    pub(super) controller: Option<NodeId>,
    pub(super) voters: Arc<Vec<NodeId>>,
    pub(super) learners: Arc<Vec<NodeId>>,
    /// Members of the Raft group whose data directory was replaced since they became one, or may be: they were unregistered.
    pub(super) replaced: Arc<BTreeSet<NodeId>>,
    pub(super) orders: Arc<BTreeMap<NodeId, NodeOrders>>,
    /// The newest `UNCLEAN_KEPT`, oldest first.
    pub(super) unclean: Arc<Vec<UncleanElection>>,
    pub(super) nodes: Arc<BTreeMap<NodeId, NodeInfo>>,
    pub(super) topics: SortedMap<TopicId, Arc<Topic>>,
    pub(super) names: SortedMap<TopicName, TopicId>,
    /// Names that hold a '.' or '_', by what they are with '_' alone.
    pub(super) lookalikes: SortedMap<String, TopicName>,
    pub(super) partitions: usize,
    /// Overrides of nodes and groups; those of topics are in the topics.
    pub(super) configs: Arc<BTreeMap<Resource, BTreeMap<String, String>>>,
    pub(super) features: Arc<BTreeMap<String, i16>>,
    pub(super) features_epoch: u64,
    pub(super) next_producer_id: i64,
    pub(super) statics: Arc<BrokerConfig>,
}

/// What a configuration entry belongs to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Resource {
    Topic(TopicId),
    /// The cluster-wide default of all nodes.
    EveryNode,
    Node(NodeId),
    /// A subscription to the metrics of clients, by its name.
    ClientMetrics(String),
    /// Last: `Image::has_configured_groups` looks at the end.
    Group(String),
}

/// The name of the listener for other nodes; all others are for clients.
pub const PEER_LISTENER: &str = "PEER";

/// A node as its newest incarnation registered it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeInfo {
    pub incarnation: Incarnation,
    /// The identity of its data directory.
    pub directory: [u8; 16],
    /// The machine's boot; empty where the platform tells none.
    pub boot: String,
    /// Clients are told the one whose name their connection's listener has, else the first that is for clients.
    pub listeners: Vec<Listener>,
    pub rack: Option<String>,
    /// Per feature the lowest and highest level that it can work at.
    pub features: BTreeMap<String, (i16, i16)>,
    /// May lead nothing and is in no ISR.
    pub fenced: bool,
}

/// What an operator asked of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Duty {
    #[default]
    Full,
    /// It came to a cluster that holds data: replicas move to it until it has its share.
    Joining,
    /// Leads nothing that another can lead, and takes no new replica.
    Drained,
    /// Its replicas move away as well; then it can be removed.
    Leaving,
}

/// Whether a node votes in the metadata group, as far as somebody said so by hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Voting {
    /// The cluster chooses.
    #[default]
    AsChosen,
    /// It was removed by hand and is not chosen again.
    Never,
    /// It was added by hand.
    Always,
}

/// What a node was asked to do or not to do. Outlives its registrations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeOrders {
    pub duty: Duty,
    /// This incarnation is about to stop: it is not elected again.
    pub stopping: Option<Incarnation>,
    pub voting: Voting,
}

/// An election that may have lost acknowledged records: who was made leader, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UncleanElection {
    pub partition: TopicPartition,
    pub leader: NodeId,
    pub leader_epoch: LeaderEpoch,
    /// Milliseconds since the Unix epoch, by the controller's clock.
    pub at_ms: i64,
}

/// So many unclean elections are remembered.
pub const UNCLEAN_KEPT: usize = 256;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    pub name: String,
    pub host: String,
    pub port: u16,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Topic {
    pub id: TopicId,
    pub name: TopicName,
    /// The index is the partition's number.
    pub partitions: Vec<Arc<PartitionInfo>>,
    /// What holds for this topic, with the defaults of cluster and node in it.
    pub config: Arc<TopicConfig>,
    /// What was set for this topic itself.
    pub overrides: BTreeMap<String, String>,
    /// The replication factor was left to the cluster.
    pub default_replication: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartitionInfo {
    pub leader: Option<NodeId>,
    pub leader_epoch: LeaderEpoch,
    /// Counts every change of this partition.
    pub partition_epoch: u32,
    /// In order of preference.
    pub replicas: Vec<NodeId>,
    pub isr: Vec<NodeId>,
    /// Out of the ISR, but known to hold everything below the high watermark (KIP-966).
    pub elr: Vec<NodeId>,
    pub last_known_elr: Vec<NodeId>,
    pub adding: Vec<NodeId>,
    pub removing: Vec<NodeId>,
}

impl Image {
    /// Nothing is known yet; `statics` resolves what facts leave open.
    pub fn empty(statics: Arc<BrokerConfig>) -> Image {
        Image { statics, ..Image::default() }
    }

    /// 22 characters of base64; empty before the cluster is founded.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    pub fn is_founded(&self) -> bool {
        !self.cluster_id.is_empty()
    }

    pub fn controller(&self) -> Option<NodeId> {
        self.controller
    }

    /// Which node leads the Raft group: not a fact, so the driver sets it.
    pub fn set_controller(&mut self, controller: Option<NodeId>) {
        self.controller = controller;
    }

    /// Of the metadata group, ascending.
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// Members of the metadata group that do not vote, ascending.
    pub fn learners(&self) -> &[NodeId] {
        &self.learners
    }

    /// From the membership of the Raft group: its changes are no facts of ours. Both ascending.
    pub fn set_members(&mut self, voters: Vec<NodeId>, learners: Vec<NodeId>) {
        // Who is no member is one that never was: its next membership begins with what it then holds.
        self.replaced_mut(|replaced| replaced.retain(|node| voters.contains(node) || learners.contains(node)));
        self.voters = Arc::new(voters);
        self.learners = Arc::new(learners);
    }

    /// Copies the set only where the change shows.
    pub(super) fn replaced_mut(&mut self, change: impl FnOnce(&mut BTreeSet<NodeId>)) {
        let mut replaced = (*self.replaced).clone();
        change(&mut replaced);
        if replaced != *self.replaced {
            self.replaced = Arc::new(replaced);
        }
    }

    /// A member of the metadata group that came back with another data directory: what it once held and promised is gone, so it must
    /// leave the group before it may be a member again.
    pub fn is_replaced_member(&self, node: NodeId) -> bool {
        self.replaced.contains(&node)
    }

    pub fn nodes(&self) -> &BTreeMap<NodeId, NodeInfo> {
        &self.nodes
    }

    pub fn node(&self, node: NodeId) -> Option<&NodeInfo> {
        self.nodes.get(&node)
    }

    /// Registered and not fenced, ascending.
    pub fn live_nodes(&self) -> impl Iterator<Item = (NodeId, &NodeInfo)> {
        self.nodes.iter().filter(|(_, info)| !info.fenced).map(|(node, info)| (*node, info))
    }

    /// Registered and not fenced.
    pub fn is_live(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|info| !info.fenced)
    }

    /// Registered, not fenced, and in this incarnation.
    pub fn is_live_incarnation(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.nodes.get(&node).is_some_and(|info| !info.fenced && info.incarnation == incarnation)
    }

    /// What was asked of the node; the default where nothing was.
    pub fn orders(&self, node: NodeId) -> NodeOrders {
        self.orders.get(&node).copied().unwrap_or_default()
    }

    pub fn duty(&self, node: NodeId) -> Duty {
        self.orders(node).duty
    }

    /// Its present incarnation said that it stops.
    pub fn is_stopping(&self, node: NodeId) -> bool {
        let stopping = self.orders.get(&node).and_then(|orders| orders.stopping);
        stopping.is_some() && stopping == self.nodes.get(&node).map(|info| info.incarnation)
    }

    /// Lives, and nothing speaks against giving it leaderships.
    pub fn may_lead(&self, node: NodeId) -> bool {
        self.is_live(node) && !self.is_stopping(node) && self.duty(node) < Duty::Drained
    }

    /// May be given replicas: it lives and is not meant to go.
    pub fn may_hold(&self, node: NodeId) -> bool {
        self.may_lead(node)
    }

    /// The newest elections that may have lost acknowledged records, oldest first.
    pub fn unclean_elections(&self) -> &[UncleanElection] {
        &self.unclean
    }

    /// The finalised level of the metadata: facts that need a higher one are not decided.
    pub fn level(&self) -> u32 {
        self.features.get(LEVEL_FEATURE).and_then(|level| u32::try_from(*level).ok()).unwrap_or(1)
    }

    pub fn topic(&self, name: &TopicName) -> Option<&Arc<Topic>> {
        self.topics.get(self.names.get(name)?)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    pub fn partition(&self, of: TopicPartition) -> Option<&Arc<PartitionInfo>> {
        self.topic_by_id(of.topic)?.partition(of.partition)
    }

    /// A topic whose name differs from this one in '.' and '_' only.
    pub fn colliding_topic(&self, name: &TopicName) -> Option<&TopicName> {
        self.lookalikes.get(&lookalike(name)?).filter(|other| *other != name)
    }

    /// Ascending by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.names.values().filter_map(|id| self.topics.get(id))
    }

    /// Ascending by name, from the first that is at least `name`.
    pub fn topics_from<'a>(&'a self, name: &TopicName) -> impl Iterator<Item = &'a Arc<Topic>> + use<'a> {
        self.names.iter_from(name).filter_map(|(_, id)| self.topics.get(id))
    }

    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    pub fn partition_count(&self) -> usize {
        self.partitions
    }

    /// What was set with the tools for every node, one node or a group. Empty where nothing was. (A topic's are in the topic.)
    pub fn overrides(&self, resource: &Resource) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.configs.get(resource).unwrap_or(&NONE)
    }

    pub fn has_configured_groups(&self) -> bool {
        self.configs.keys().next_back().is_some_and(|resource| matches!(resource, Resource::Group(_)))
    }

    /// Groups for which something was set, ascending.
    pub fn configured_groups(&self) -> impl Iterator<Item = &str> {
        self.configs.keys().filter_map(|resource| match resource {
            Resource::Group(group) => Some(group.as_str()),
            Resource::Topic(_) | Resource::EveryNode | Resource::Node(_) | Resource::ClientMetrics(_) => None,
        })
    }

    /// The subscriptions to the metrics of clients, with what was set for each; ascending by name.
    pub fn client_metrics(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, String>)> {
        self.configs.iter().filter_map(|(resource, values)| match resource {
            Resource::ClientMetrics(name) => Some((name.as_str(), values)),
            Resource::Topic(_) | Resource::EveryNode | Resource::Node(_) | Resource::Group(_) => None,
        })
    }

    /// The finalised features.
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.features
    }

    /// Grows with each change of a feature.
    pub fn features_epoch(&self) -> u64 {
        self.features_epoch
    }

    /// The lowest producer id that no node was given.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// This node's own configuration, as it was started with.
    pub fn statics(&self) -> &Arc<BrokerConfig> {
        &self.statics
    }
}

/// What collides with the name; `None`: nothing can.
pub(super) fn lookalike(name: &TopicName) -> Option<String> {
    name.as_str().contains(['.', '_']).then(|| name.as_str().replace('.', "_"))
}

impl NodeInfo {
    /// What clients are told, unless the edge knows better.
    pub fn client_listener(&self) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.name != PEER_LISTENER)
    }

    pub fn listener(&self, name: &str) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.name == name)
    }
}

impl Topic {
    pub fn partition(&self, partition: PartitionIndex) -> Option<&Arc<PartitionInfo>> {
        self.partitions.get(usize::try_from(partition.get()).ok()?)
    }

    /// With their numbers, ascending.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionIndex, &Arc<PartitionInfo>)> {
        (0..).map(PartitionIndex::new).zip(&self.partitions)
    }

    /// Of the first partition, without what a reassignment is adding.
    pub fn replication_factor(&self) -> usize {
        self.partitions.first().map_or(0, |partition| partition.replication_factor())
    }

    /// How many members the ISR needs: what was set, else half of the replication factor, rounded up (1 of 2, 2 of 3).
    pub fn min_insync_replicas(&self) -> usize {
        let half = self.replication_factor().div_ceil(2).max(1);
        self.config.min_insync_replicas.map_or(half, usize::from)
    }

    /// Of one partition: what was set, but not more than it has replicas; else half of its own factor, rounded up. While partitions
    /// are given more replicas one after the other, each has its own minimum.
    pub fn min_insync_replicas_of(&self, partition: &PartitionInfo) -> usize {
        let factor = partition.replication_factor().max(1);
        self.config.min_insync_replicas.map_or(factor.div_ceil(2), |set| usize::from(set).min(factor))
    }
}

impl PartitionInfo {
    /// Without what a reassignment is adding: those count once they are in sync and the reassignment is complete.
    pub fn replication_factor(&self) -> usize {
        self.replicas.len().saturating_sub(self.adding.len())
    }

    /// A reassignment is under way.
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }

    /// The replicas as they were before the reassignment that is under way; all where none is.
    pub fn original_replicas(&self) -> Vec<NodeId> {
        self.replicas.iter().copied().filter(|node| !self.adding.contains(node)).collect()
    }

    /// The replicas as they are to be in the end.
    pub fn target_replicas(&self) -> Vec<NodeId> {
        self.replicas.iter().copied().filter(|node| !self.removing.contains(node)).collect()
    }

    /// The first in order of preference; it ought to lead.
    pub fn preferred_leader(&self) -> Option<NodeId> {
        self.replicas.first().copied()
    }

    pub fn is_replica(&self, node: NodeId) -> bool {
        self.replicas.contains(&node)
    }
}

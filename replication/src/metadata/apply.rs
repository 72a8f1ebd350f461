//! Facts into the image: the only way that the replicated part of an image changes.
//!
//! Owns what each fact means. Decides nothing: a fact that cannot be applied shows that image and log do not belong together.
//! Invariants: the same facts in the same order give the same image on every node; partitions of a topic are numbered without a gap; a
//! leader is a replica and in the ISR; leader epochs never go back.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{NodeId, PartitionIndex, TopicId, TopicName};

use super::image::{
    Image, NodeInfo, NodeOrders, PartitionInfo, Resource, Topic, UNCLEAN_KEPT, UncleanElection, lookalike,
};
use super::record::{Fact, Incarnation};
use super::resolve;

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("the cluster is {known} and cannot be founded again as {got}")]
    FoundedTwice { known: String, got: String },
    #[error("node {node} is not registered")]
    UnknownNode { node: NodeId },
    #[error("topic {id} is not known")]
    UnknownTopic { id: TopicId },
    #[error("topic {name} or its id {id} is there already")]
    TopicTwice { name: TopicName, id: TopicId },
    #[error("partition {partition} of topic {topic} would leave a gap, {known} are known")]
    PartitionGap { topic: TopicId, partition: PartitionIndex, known: usize },
    #[error("partition {partition} of topic {topic}: {why}")]
    PartitionState { topic: TopicId, partition: PartitionIndex, why: &'static str },
    #[error("producer ids up to {known} are handed out, {got} would go back")]
    ProducerIds { known: i64, got: i64 },
}

impl Image {
    /// The image after the facts; `self` stays as it was. What did not change is shared.
    pub fn with(&self, facts: &[Fact]) -> Result<Image, ApplyError> {
        let mut next = self.clone();
        facts.iter().try_for_each(|fact| next.apply(fact))?;
        Ok(next)
    }

    /// After an error the image is as it was before the fact.
    pub fn apply(&mut self, fact: &Fact) -> Result<(), ApplyError> {
        match fact {
            Fact::ClusterFounded { cluster_id, voters } => self.found(cluster_id, voters),
            Fact::NodeRegistered { node, info } => {
                self.register(*node, info);
                Ok(())
            }
            Fact::NodeFenced { node, incarnation } => self.set_fenced(*node, *incarnation, true),
            Fact::NodeUnfenced { node, incarnation } => self.set_fenced(*node, *incarnation, false),
            Fact::NodeUnregistered { node } => self.unregister(*node),
            Fact::NodeOrdered { node, orders } => {
                self.order(*node, *orders);
                Ok(())
            }
            Fact::UncleanLeaderElected { election } => {
                self.remember_unclean(*election);
                Ok(())
            }
            Fact::TopicCreated { id, name, configs, default_replication } => {
                self.create_topic(*id, name, configs, *default_replication)
            }
            Fact::TopicDeleted { id } => self.delete_topic(*id),
            Fact::PartitionChanged { topic, partition, state } => self.change_partition(*topic, *partition, state),
            Fact::ConfigChanged { resource, key, value } => self.change_config(resource, key, value.as_deref()),
            Fact::FeatureLevelSet { name, level } => {
                let features = Arc::make_mut(&mut self.features);
                match level {
                    0 => features.remove(name),
                    _ => features.insert(name.clone(), *level),
                };
                self.features_epoch += 1;
                Ok(())
            }
            Fact::ProducerIdsAllocated { next, .. } => {
                if *next < self.next_producer_id {
                    return Err(ApplyError::ProducerIds { known: self.next_producer_id, got: *next });
                }
                self.next_producer_id = *next;
                Ok(())
            }
        }
    }

    fn found(&mut self, cluster_id: &str, voters: &[NodeId]) -> Result<(), ApplyError> {
        if self.is_founded() {
            return Err(ApplyError::FoundedTwice { known: self.cluster_id.to_string(), got: cluster_id.to_owned() });
        }
        self.cluster_id = cluster_id.into();
        self.voters = Arc::new(voters.to_vec());
        Ok(())
    }

    fn register(&mut self, node: NodeId, info: &NodeInfo) {
        let before = Arc::make_mut(&mut self.nodes).insert(node, info.clone());
        let is_member = self.voters.contains(&node) || self.learners.contains(&node);
        if is_member && before.is_some_and(|before| before.directory != info.directory) {
            self.replaced_mut(|replaced| {
                replaced.insert(node);
            });
        }
    }

    /// With it goes the identity of its disk: whether it is the same one when the node returns, nobody can tell.
    fn unregister(&mut self, node: NodeId) -> Result<(), ApplyError> {
        if Arc::make_mut(&mut self.nodes).remove(&node).is_none() {
            return Err(ApplyError::UnknownNode { node });
        }
        self.order(node, NodeOrders::default());
        if self.voters.contains(&node) || self.learners.contains(&node) {
            self.replaced_mut(|replaced| {
                replaced.insert(node);
            });
        }
        Ok(())
    }

    fn order(&mut self, node: NodeId, orders: NodeOrders) {
        if self.orders(node) == orders {
            return;
        }
        let all = Arc::make_mut(&mut self.orders);
        match orders == NodeOrders::default() {
            true => all.remove(&node),
            false => all.insert(node, orders),
        };
    }

    pub(super) fn remember_unclean(&mut self, election: UncleanElection) {
        let unclean = Arc::make_mut(&mut self.unclean);
        if unclean.len() == UNCLEAN_KEPT {
            unclean.remove(0);
        }
        unclean.push(election);
    }

    /// A fact about an earlier incarnation says nothing about the present one.
    fn set_fenced(&mut self, node: NodeId, incarnation: Incarnation, fenced: bool) -> Result<(), ApplyError> {
        let nodes = Arc::make_mut(&mut self.nodes);
        let info: &mut NodeInfo = nodes.get_mut(&node).ok_or(ApplyError::UnknownNode { node })?;
        if info.incarnation == incarnation {
            info.fenced = fenced;
        }
        Ok(())
    }

    fn create_topic(
        &mut self,
        id: TopicId,
        name: &TopicName,
        configs: &[(String, String)],
        default_replication: bool,
    ) -> Result<(), ApplyError> {
        if self.topics.get(&id).is_some() || self.names.get(name).is_some() {
            return Err(ApplyError::TopicTwice { name: name.clone(), id });
        }
        let overrides: BTreeMap<String, String> = configs.iter().cloned().collect();
        let config = Arc::new(resolve::topic_config(self, &overrides));
        let topic = Topic { id, name: name.clone(), partitions: Vec::new(), config, overrides, default_replication };
        self.topics.insert(id, Arc::new(topic));
        self.names.insert(name.clone(), id);
        if let Some(lookalike) = lookalike(name) {
            self.lookalikes.insert(lookalike, name.clone());
        }
        Ok(())
    }

    fn delete_topic(&mut self, id: TopicId) -> Result<(), ApplyError> {
        let topic = self.topics.remove(&id).ok_or(ApplyError::UnknownTopic { id })?;
        self.names.remove(&topic.name);
        if let Some(lookalike) = lookalike(&topic.name) {
            self.lookalikes.remove(&lookalike);
        }
        self.partitions -= topic.partitions.len();
        Ok(())
    }

    fn change_partition(
        &mut self,
        id: TopicId,
        partition: PartitionIndex,
        state: &PartitionInfo,
    ) -> Result<(), ApplyError> {
        let refuse = |why| Err(ApplyError::PartitionState { topic: id, partition, why });
        let topic = self.topics.get_mut(&id).ok_or(ApplyError::UnknownTopic { id })?;
        let known = topic.partitions.len();
        let at = usize::try_from(partition.get()).unwrap_or(usize::MAX);
        if at > known {
            return Err(ApplyError::PartitionGap { topic: id, partition, known });
        }
        if state.replicas.is_empty() {
            return refuse("it has no replica");
        }
        if state.leader.is_some_and(|leader| !state.isr.contains(&leader)) {
            return refuse("its leader is not in its ISR");
        }
        if !state.isr.iter().all(|node| state.replicas.contains(node)) {
            return refuse("its ISR holds a node that is no replica");
        }
        if topic.partitions.get(at).is_some_and(|before| before.leader_epoch > state.leader_epoch) {
            return refuse("its leader epoch would go back");
        }
        let topic = Arc::make_mut(topic);
        match topic.partitions.get_mut(at) {
            Some(slot) => *slot = Arc::new(state.clone()),
            None => {
                topic.partitions.push(Arc::new(state.clone()));
                self.partitions += 1;
            }
        }
        Ok(())
    }

    fn change_config(&mut self, resource: &Resource, key: &str, value: Option<&str>) -> Result<(), ApplyError> {
        let set = |values: &mut BTreeMap<String, String>| match value {
            Some(value) => values.insert(key.to_owned(), value.to_owned()),
            None => values.remove(key),
        };
        match resource {
            Resource::Topic(id) => {
                let mut overrides =
                    self.topic_by_id(*id).ok_or(ApplyError::UnknownTopic { id: *id })?.overrides.clone();
                set(&mut overrides);
                let config = Arc::new(resolve::topic_config(self, &overrides));
                let topic = self.topics.get_mut(id).ok_or(ApplyError::UnknownTopic { id: *id })?;
                let topic = Arc::make_mut(topic);
                topic.overrides = overrides;
                topic.config = config;
            }
            Resource::EveryNode | Resource::Node(_) | Resource::ClientMetrics(_) | Resource::Group(_) => {
                let configs = Arc::make_mut(&mut self.configs);
                let values = configs.entry(resource.clone()).or_default();
                set(values);
                if values.is_empty() {
                    configs.remove(resource);
                }
                if *resource == Resource::EveryNode {
                    self.resolve_topics_again();
                }
            }
        }
        Ok(())
    }

    /// A default of the whole cluster has changed: it may show in every topic.
    fn resolve_topics_again(&mut self) {
        let ids: Vec<TopicId> = self.topics.iter().map(|(id, _)| *id).collect();
        for id in ids {
            let resolved = self.topic_by_id(id).map(|topic| resolve::topic_config(self, &topic.overrides));
            if let (Some(config), Some(topic)) = (resolved, self.topics.get_mut(&id))
                && *topic.config != config
            {
                Arc::make_mut(topic).config = Arc::new(config);
            }
        }
    }
}

//! A cluster as a client sees it: who leads what, who coordinates which group, one connection to each node.
//!
//! Owns the bootstrap, the metadata it remembers, and waiting for leaders and coordinators that move. Does not own what is asked of them.
//! Invariants: what may pass by itself is tried again until `PATIENCE` is over, everything else is told at once. What coordinators are asked
//! is sent again where a connection broke, so it is only what may be carried out twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::refused::{AskError, check, is_passing};
use super::{Client, ClientError};
use crate::config::Endpoint;
use crate::near::near;
use crate::wire::messages::metadata_request::MetadataRequestTopic;
use crate::wire::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use crate::wire::messages::{FindCoordinatorRequest, MetadataRequest, MetadataResponse};
use crate::wire::{Request, StrBytes, Uuid};

/// How long leaders and coordinators that move are waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);
/// Metadata from this version on can refuse to create a topic.
const METADATA_NO_CREATE: i16 = 4;
/// FindCoordinator takes several keys from this version on.
const COORDINATORS: i16 = 4;

pub type TopicPartition = (String, i32);

/// A topic as the cluster describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicSeen {
    pub name: String,
    pub id: Uuid,
    pub internal: bool,
    /// Ascending.
    pub partitions: Vec<PartitionSeen>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionSeen {
    pub index: i32,
    pub leader: Option<i32>,
    pub epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub offline: Vec<i32>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeSeen {
    pub id: i32,
    pub address: String,
    pub rack: Option<String>,
}

/// Time that is left for something that may pass.
#[derive(Debug)]
pub struct Patience(Instant);

impl Patience {
    pub fn new() -> Patience {
        Patience(Instant::now())
    }

    /// Pauses; `false` when it is over.
    pub fn wait(&self) -> bool {
        std::thread::sleep(PAUSE);
        self.0.elapsed() < PATIENCE
    }
}

impl Default for Patience {
    fn default() -> Patience {
        Patience::new()
    }
}

pub struct Router {
    bootstrap: String,
    any: Client,
    nodes: BTreeMap<i32, NodeSeen>,
    cluster: String,
    topics: BTreeMap<String, TopicSeen>,
    connections: BTreeMap<i32, Client>,
}

impl Router {
    /// Connects to the first of `HOST:PORT,…` that answers.
    pub fn connect(bootstrap: &str) -> Result<Router, AskError> {
        let any = first_of(bootstrap)?;
        let bootstrap = bootstrap.to_owned();
        let (nodes, topics, connections) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut router = Router { bootstrap, any, nodes, topics, connections, cluster: String::new() };
        // An empty list of topics: the nodes only.
        let seen = router.any.call(|_| MetadataRequest::default().with_topics(Some(Vec::new())))?;
        router.learn_nodes(&seen);
        Ok(router)
    }

    /// Any node, for what every node answers or passes on.
    pub fn any(&mut self) -> &mut Client {
        &mut self.any
    }

    /// Asks any node; connects again to another one where the connection breaks. For requests that change nothing.
    pub fn ask<R: Request>(&mut self, request: impl Fn(i16) -> R) -> Result<R::Response, AskError> {
        match self.any.call(&request) {
            Err(ClientError::Io { .. }) => {
                self.any = first_of(&self.bootstrap)?;
                Ok(self.any.call(request)?)
            }
            other => Ok(other?),
        }
    }

    pub fn nodes(&self) -> impl Iterator<Item = &NodeSeen> {
        self.nodes.values()
    }

    /// Empty where the cluster does not say it.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The node's connection.
    pub fn node(&mut self, node: i32) -> Result<&mut Client, AskError> {
        if !self.connections.contains_key(&node) {
            let address = self.nodes.get(&node).ok_or(AskError::UnknownNode { node })?.address.clone();
            self.connections.insert(node, Client::connect(&address)?);
        }
        self.connections.get_mut(&node).ok_or(AskError::UnknownNode { node })
    }

    /// Forgets a connection that broke.
    pub fn forget(&mut self, node: i32) {
        self.connections.remove(&node);
    }

    /// All topics, by name.
    pub fn all_topics(&mut self) -> Result<Vec<TopicSeen>, AskError> {
        let seen = self.ask(|version| metadata_request(version, None, false))?;
        self.learn_nodes(&seen);
        let mut topics: Vec<TopicSeen> =
            seen.topics.iter().filter(|topic| topic.error_code == 0).map(topic_seen).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        for topic in &topics {
            self.topics.insert(topic.name.clone(), topic.clone());
        }
        Ok(topics)
    }

    /// One topic, asked for now. `create`: makes it, if the cluster is set to create topics on first use.
    pub fn topic(&mut self, name: &str, create: bool) -> Result<TopicSeen, AskError> {
        let patience = Patience::new();
        loop {
            let seen = self.ask(|version| metadata_request(version, Some(name), create))?;
            self.learn_nodes(&seen);
            let node = self.any.address().to_owned();
            let topic = seen.topics.first().ok_or(AskError::Incomplete { node, what: "the topic it was asked for" })?;
            let passing = is_passing(topic.error_code) || create && topic.error_code == UNKNOWN_TOPIC;
            if topic.error_code != 0 && passing && patience.wait() {
                continue;
            }
            let meant = if topic.error_code == UNKNOWN_TOPIC { self.similar(name) } else { None };
            check(|| format!("topic {name}"), topic.error_code, meant.map(StrBytes::from_string).as_ref())?;
            let topic = topic_seen(topic);
            self.topics.insert(name.to_owned(), topic.clone());
            return Ok(topic);
        }
    }

    /// A question about the topics that somebody may have meant who asked for this one.
    fn similar(&mut self, name: &str) -> Option<String> {
        let topics = self.all_topics().ok()?;
        let found = near(name, topics.iter().map(|topic| topic.name.as_str()), 3);
        (!found.is_empty()).then(|| format!("did you mean {}?", found.join(" or ")))
    }

    /// Who leads a partition, as far as is known; asks where it is not.
    pub fn leader(&mut self, topic: &str, partition: i32) -> Result<i32, AskError> {
        let patience = Patience::new();
        loop {
            let known = self.topics.get(topic);
            if let Some(leader) = known.and_then(|known| leader_in(known, partition)) {
                return Ok(leader);
            }
            let seen = self.topic(topic, false)?;
            let found = seen.partitions.iter().find(|one| one.index == partition);
            match found {
                None => {
                    let partitions = i32::try_from(seen.partitions.len()).unwrap_or(i32::MAX);
                    return Err(AskError::NoPartition { topic: topic.to_owned(), partitions, partition });
                }
                Some(found) if found.leader.is_none() && !patience.wait() => {
                    let seconds = PATIENCE.as_secs();
                    return Err(AskError::Leaderless { topic: topic.to_owned(), partition, seconds });
                }
                Some(_) => {}
            }
        }
    }

    /// Forgets who leads a topic's partitions: they moved.
    pub fn forget_leaders(&mut self, topic: &str) {
        self.topics.remove(topic);
    }

    /// Asks the node that coordinates a group until it answers with something that stays. `ask` gives the answer and its error code.
    pub fn coordinator<T>(
        &mut self,
        group: &str,
        mut ask: impl FnMut(&mut Client) -> Result<(T, i16), ClientError>,
    ) -> Result<T, AskError> {
        let patience = Patience::new();
        loop {
            let node = self.find_coordinator(group, &patience)?;
            let (answer, code) = match self.node(node).and_then(|client| Ok(ask(client)?)) {
                // The coordinator may be gone; another one takes its place.
                Err(AskError::Client(error @ (ClientError::Io { .. } | ClientError::Connect { .. }))) => {
                    self.forget(node);
                    if !patience.wait() {
                        return Err(error.into());
                    }
                    continue;
                }
                other => other?,
            };
            if !is_passing(code) || !patience.wait() {
                return Ok(answer);
            }
        }
    }

    /// The number of the node that coordinates a group.
    pub fn find_coordinator(&mut self, group: &str, patience: &Patience) -> Result<i32, AskError> {
        loop {
            let answer = self.ask(|version| find_coordinator_request(version, group))?;
            let found = answer.coordinators.first();
            let (code, message, node, host, port) = match found {
                Some(one) => (one.error_code, one.error_message.as_ref(), one.node_id.0, &one.host, one.port),
                None => (answer.error_code, answer.error_message.as_ref(), answer.node_id.0, &answer.host, answer.port),
            };
            if is_passing(code) && patience.wait() {
                continue;
            }
            check(|| format!("the coordinator of group {group}"), code, message)?;
            let address = address(host, port);
            self.nodes.entry(node).or_insert(NodeSeen { id: node, address, rack: None });
            return Ok(node);
        }
    }

    fn learn_nodes(&mut self, seen: &MetadataResponse) {
        if let Some(cluster) = &seen.cluster_id {
            self.cluster = cluster.to_string();
        }
        let node = |broker: &crate::wire::messages::metadata_response::MetadataResponseBroker| NodeSeen {
            id: broker.node_id.0,
            address: address(&broker.host, broker.port),
            rack: broker.rack.as_ref().map(ToString::to_string),
        };
        self.nodes = seen.brokers.iter().map(|broker| (broker.node_id.0, node(broker))).collect();
        // A node that came back may listen elsewhere.
        self.connections.retain(|id, client| self.nodes.get(id).is_none_or(|node| node.address == client.address()));
    }
}

const UNKNOWN_TOPIC: i16 = 3;

/// Connects to the first of `HOST:PORT,…` that answers.
pub fn first_of(bootstrap: &str) -> Result<Client, AskError> {
    let mut last = None;
    for address in bootstrap.split(',').map(str::trim).filter(|address| !address.is_empty()) {
        match Client::connect(address) {
            Ok(client) => return Ok(client),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) if !bootstrap.contains(',') => Err(error.into()),
        Some(last) => Err(AskError::Bootstrap { bootstrap: bootstrap.to_owned(), last }),
        None => Ok(Client::connect(bootstrap)?),
    }
}

fn leader_in(topic: &TopicSeen, partition: i32) -> Option<i32> {
    topic.partitions.iter().find(|one| one.index == partition)?.leader
}

fn metadata_request(version: i16, topic: Option<&str>, create: bool) -> MetadataRequest {
    let named =
        |name: &str| MetadataRequestTopic::default().with_name(Some(StrBytes::from_string(name.to_owned()).into()));
    let request = MetadataRequest::default().with_topics(topic.map(|name| vec![named(name)]));
    // Older versions create always, and cannot be told otherwise.
    if version >= METADATA_NO_CREATE { request.with_allow_auto_topic_creation(create) } else { request }
}

fn find_coordinator_request(version: i16, group: &str) -> FindCoordinatorRequest {
    let key = StrBytes::from_string(group.to_owned());
    let request = FindCoordinatorRequest::default();
    if version >= COORDINATORS { request.with_coordinator_keys(vec![key]) } else { request.with_key(key) }
}

fn topic_seen(topic: &MetadataResponseTopic) -> TopicSeen {
    let name = topic.name.as_ref().map(|name| name.0.to_string()).unwrap_or_default();
    let mut partitions: Vec<PartitionSeen> = topic.partitions.iter().map(partition_seen).collect();
    partitions.sort_by_key(|partition| partition.index);
    TopicSeen { name, id: topic.topic_id, internal: topic.is_internal, partitions }
}

fn partition_seen(partition: &MetadataResponsePartition) -> PartitionSeen {
    let numbers = |nodes: &[crate::wire::messages::BrokerId]| nodes.iter().map(|node| node.0).collect();
    PartitionSeen {
        index: partition.partition_index,
        leader: (partition.leader_id.0 >= 0 && partition.error_code != LEADER_NOT_AVAILABLE)
            .then_some(partition.leader_id.0),
        epoch: partition.leader_epoch,
        replicas: numbers(&partition.replica_nodes),
        isr: numbers(&partition.isr_nodes),
        offline: numbers(&partition.offline_replicas),
    }
}

const LEADER_NOT_AVAILABLE: i16 = 5;

fn address(host: &str, port: i32) -> String {
    Endpoint { host: host.to_owned(), port: u16::try_from(port).unwrap_or(0) }.to_string()
}

//! The nodes of a cluster as the command line shows them, gathered over the Kafka protocol.
//!
//! Owns the requests, the table and the JSON. Does not own what an operator wants of a node (`node`).
//! Invariant: every node that is registered has one row, fenced ones too.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, bail, ensure};

use super::show::{Table, quoted};
use crate::api::config_resources::{DUTY_KEY, NODE};
use crate::client::Client;
use crate::client::refused::check;
use crate::config::Endpoint;
use crate::wire::StrBytes;
use crate::wire::messages::describe_configs_request::DescribeConfigsResource;
use crate::wire::messages::describe_quorum_request::{PartitionData, TopicData};
use crate::wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use crate::wire::messages::{
    DescribeClusterRequest, DescribeConfigsRequest, DescribeQuorumRequest, IncrementalAlterConfigsRequest,
    ListPartitionReassignmentsRequest, MetadataRequest, MetadataResponse,
};

/// REQUEST_TIMED_OUT and NOT_CONTROLLER: nobody was found who decides.
const NO_CONTROLLER: [i16; 2] = [7, 41];

/// One node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeShown {
    pub id: i32,
    pub address: String,
    pub rack: Option<String>,
    pub fenced: bool,
    pub controller: bool,
    /// In the metadata group.
    pub votes: bool,
    /// How far its metadata lags behind, in records.
    pub metadata_lag: Option<i64>,
    /// What the operator wants of it: full, joining, drained or leaving.
    pub duty: String,
    pub leaders: usize,
    pub replicas: usize,
    /// Replicas that are not in sync.
    pub behind: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    pub id: String,
    /// Ascending by number.
    pub nodes: Vec<NodeShown>,
    pub under_replicated: usize,
    pub leaderless: usize,
    pub reassigning: usize,
    /// Why the metadata group could not be asked: without it, nothing is decided, and what is shown is what the asked node knew last.
    pub no_quorum: Option<String>,
}

impl Cluster {
    /// Asks one node for all of it.
    pub fn ask(client: &mut Client) -> anyhow::Result<Cluster> {
        let described = client.call(|version| {
            let mut request = DescribeClusterRequest::default().with_endpoint_type(1);
            request.include_fenced_brokers = version >= 2;
            request
        })?;
        check(|| "the cluster".to_owned(), described.error_code, described.error_message.as_ref())?;
        let controller = described.controller_id.0;
        let row = |broker: &crate::wire::messages::describe_cluster_response::DescribeClusterBroker| NodeShown {
            id: broker.broker_id.0,
            address: address(&broker.host, broker.port),
            rack: broker.rack.as_ref().map(ToString::to_string),
            fenced: broker.is_fenced,
            controller: broker.broker_id.0 == controller,
            duty: "full".to_owned(),
            ..NodeShown::default()
        };
        let mut nodes: BTreeMap<i32, NodeShown> =
            described.brokers.iter().map(|broker| (broker.broker_id.0, row(broker))).collect();
        let metadata = client.call(|_| MetadataRequest::default().with_topics(None))?;
        let (under_replicated, leaderless) = count(&metadata, &mut nodes);
        let no_quorum = put_quorum(client, &mut nodes)?;
        put_duties(client, &mut nodes)?;
        let moving = client.call(|_| ListPartitionReassignmentsRequest::default().with_topics(None))?;
        let reassigning = moving.topics.iter().map(|topic| topic.partitions.len()).sum();
        let id = described.cluster_id.to_string();
        let nodes = nodes.into_values().collect();
        Ok(Cluster { id, nodes, under_replicated, leaderless, reassigning, no_quorum })
    }

    pub fn node(&self, id: i32) -> Option<&NodeShown> {
        self.nodes.iter().find(|node| node.id == id)
    }
}

fn address(host: &str, port: i32) -> String {
    let port = u16::try_from(port).unwrap_or(0);
    Endpoint { host: host.to_owned(), port }.to_string()
}

/// Counts what each node leads and holds. Gives how many partitions lack a replica and how many have no leader.
fn count(metadata: &MetadataResponse, nodes: &mut BTreeMap<i32, NodeShown>) -> (usize, usize) {
    let (mut under_replicated, mut leaderless) = (0, 0);
    for partition in metadata.topics.iter().flat_map(|topic| &topic.partitions) {
        under_replicated += usize::from(partition.isr_nodes.len() < partition.replica_nodes.len());
        match nodes.get_mut(&partition.leader_id.0) {
            Some(node) => node.leaders += 1,
            None => leaderless += 1,
        }
        for replica in &partition.replica_nodes {
            if let Some(node) = nodes.get_mut(&replica.0) {
                node.replicas += 1;
                node.behind += usize::from(!partition.isr_nodes.contains(replica));
            }
        }
    }
    (under_replicated, leaderless)
}

/// Says why, where the group has no controller that answers.
fn put_quorum(client: &mut Client, nodes: &mut BTreeMap<i32, NodeShown>) -> anyhow::Result<Option<String>> {
    let response = client.call(|_| {
        let topic = TopicData::default()
            .with_topic_name(StrBytes::from_static_str("__cluster_metadata").into())
            .with_partitions(vec![PartitionData::default()]);
        DescribeQuorumRequest::default().with_topics(vec![topic])
    })?;
    let what = || "the metadata group".to_owned();
    match check(what, response.error_code, response.error_message.as_ref()) {
        Err(refused) if NO_CONTROLLER.contains(&refused.code) => return Ok(Some(refused.to_string())),
        other => other?,
    }
    let quorum = response.topics.first().and_then(|topic| topic.partitions.first());
    let quorum = quorum.context("DescribeQuorum was answered without the metadata group")?;
    let leader_end = quorum.current_voters.iter().find(|voter| voter.replica_id == quorum.leader_id);
    let leader_end = leader_end.map(|leader| leader.log_end_offset);
    let voters = quorum.current_voters.iter().map(|replica| (true, replica));
    for (votes, replica) in voters.chain(quorum.observers.iter().map(|replica| (false, replica))) {
        if let Some(node) = nodes.get_mut(&replica.replica_id.0) {
            node.votes = votes;
            node.metadata_lag = leader_end.map(|end| end.saturating_sub(replica.log_end_offset).max(0));
        }
    }
    Ok(None)
}

fn resource_name(node: i32) -> StrBytes {
    StrBytes::from_string(node.to_string())
}

fn put_duties(client: &mut Client, nodes: &mut BTreeMap<i32, NodeShown>) -> anyhow::Result<()> {
    let key = StrBytes::from_static_str(DUTY_KEY);
    let resource = |node: &i32| {
        DescribeConfigsResource::default()
            .with_resource_type(NODE)
            .with_resource_name(resource_name(*node))
            .with_configuration_keys(Some(vec![key.clone()]))
    };
    let resources = nodes.keys().map(resource).collect();
    let response = client.call(|_| DescribeConfigsRequest::default().with_resources(resources))?;
    for result in &response.results {
        let node = result.resource_name.parse().ok().and_then(|node: i32| nodes.get_mut(&node));
        let duty = result.configs.iter().find(|config| config.name == key).and_then(|config| config.value.as_ref());
        if let (Some(node), Some(duty)) = (node, duty) {
            node.duty = duty.to_string();
        }
    }
    Ok(())
}

/// Tells the cluster what is wanted of a node.
pub fn set_duty(client: &mut Client, node: i32, duty: &str) -> anyhow::Result<()> {
    let config = AlterableConfig::default()
        .with_name(StrBytes::from_static_str(DUTY_KEY))
        .with_config_operation(0)
        .with_value(Some(StrBytes::from_string(duty.to_owned())));
    let resource = AlterConfigsResource::default()
        .with_resource_type(NODE)
        .with_resource_name(resource_name(node))
        .with_configs(vec![config]);
    let response = client.call(|_| IncrementalAlterConfigsRequest::default().with_resources(vec![resource]))?;
    let Some(result) = response.responses.first() else { bail!("the cluster said nothing to it") };
    let message = result.error_message.as_ref().map(ToString::to_string).unwrap_or_default();
    ensure!(result.error_code == 0, "node {node} cannot be set to '{duty}': {message} (error {})", result.error_code);
    Ok(())
}

fn state(node: &NodeShown) -> &'static str {
    if node.fenced { "dead" } else { "alive" }
}

fn role(node: &NodeShown, no_quorum: bool) -> &'static str {
    match (node.controller, node.votes) {
        (true, _) => "controller",
        (false, true) => "voter",
        (false, false) if no_quorum => "-",
        (false, false) => "observer",
    }
}

/// Columns, and a line about the partitions.
pub fn table(cluster: &Cluster, wide: bool) -> String {
    let mut table = Table::new(head(wide));
    let no_quorum = cluster.no_quorum.is_some();
    cluster.nodes.iter().for_each(|node| table.row(row(node, wide, no_quorum)));
    let mut text = table.text();
    let Cluster { id, under_replicated, leaderless, reassigning, .. } = cluster;
    let _ = writeln!(
        text,
        "cluster {id}: {under_replicated} partitions under-replicated, {leaderless} without leader, {reassigning} moving"
    );
    if let Some(why) = &cluster.no_quorum {
        let _ = writeln!(
            text,
            "no controller answers, so nothing is decided and this is what the asked node knew last: {why}"
        );
    }
    text
}

fn head(wide: bool) -> Vec<&'static str> {
    let mut cells = vec!["NODE", "STATE", "DUTY", "ROLE", "LEADERS", "REPLICAS", "BEHIND", "ADDRESS"];
    if wide {
        cells.extend(["RACK", "METADATA-LAG"]);
    }
    cells
}

fn row(node: &NodeShown, wide: bool, no_quorum: bool) -> Vec<String> {
    let mut cells = vec![
        node.id.to_string(),
        state(node).to_owned(),
        node.duty.clone(),
        role(node, no_quorum).to_owned(),
        node.leaders.to_string(),
        node.replicas.to_string(),
        node.behind.to_string(),
        node.address.clone(),
    ];
    if wide {
        cells.push(node.rack.clone().unwrap_or_else(|| "-".to_owned()));
        cells.push(node.metadata_lag.map_or_else(|| "-".to_owned(), |lag| lag.to_string()));
    }
    cells
}

/// One object; names and types of its members are kept from version to version.
pub fn json(cluster: &Cluster) -> String {
    let node = |node: &NodeShown| {
        format!(
            "{{\"node\":{},\"state\":{},\"duty\":{},\"role\":{},\"leaders\":{},\"replicas\":{},\"behind\":{},\
             \"address\":{},\"rack\":{},\"metadata_lag\":{}}}",
            node.id,
            quoted(state(node)),
            quoted(&node.duty),
            quoted(role(node, cluster.no_quorum.is_some())),
            node.leaders,
            node.replicas,
            node.behind,
            quoted(&node.address),
            node.rack.as_deref().map_or_else(|| "null".to_owned(), quoted),
            node.metadata_lag.map_or_else(|| "null".to_owned(), |lag| lag.to_string()),
        )
    };
    let nodes = cluster.nodes.iter().map(node).collect::<Vec<_>>().join(",");
    format!(
        "{{\"cluster\":{},\"nodes\":[{nodes}],\"under_replicated\":{},\"leaderless\":{},\"reassigning\":{},\
         \"quorum\":{}}}\n",
        quoted(&cluster.id),
        cluster.under_replicated,
        cluster.leaderless,
        cluster.reassigning,
        cluster.no_quorum.is_none()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};

    fn cluster() -> Cluster {
        let node = NodeShown { id: 1, address: "h:1".to_owned(), duty: "full".to_owned(), ..NodeShown::default() };
        let second = NodeShown { id: 12, fenced: true, rack: Some("a\"b".to_owned()), ..node.clone() };
        let first = NodeShown { controller: true, votes: true, leaders: 3, metadata_lag: Some(0), ..node };
        let nodes = vec![first, second];
        Cluster { id: "c".to_owned(), nodes, under_replicated: 2, leaderless: 1, reassigning: 0, no_quorum: None }
    }

    #[test]
    fn nodes_are_a_table() {
        let expected = "NODE  STATE  DUTY  ROLE        LEADERS  REPLICAS  BEHIND  ADDRESS\n\
                        1     alive  full  controller  3        0         0       h:1\n\
                        12    dead   full  observer    0        0         0       h:1\n\
                        cluster c: 2 partitions under-replicated, 1 without leader, 0 moving\n";
        assert_eq!(table(&cluster(), false), expected);
        assert!(table(&cluster(), true).contains("a\"b"));
    }

    #[test]
    fn a_cluster_without_controller_shows_what_is_known_and_says_so() {
        let mut cluster = cluster();
        cluster.no_quorum = Some("REQUEST_TIMED_OUT (error 7)".to_owned());
        let text = table(&cluster, false);
        assert!(text.contains("no controller answers") && text.contains("REQUEST_TIMED_OUT"), "{text}");
        assert!(!text.contains("observer"), "who votes is not known: {text}");
        assert!(json(&cluster).ends_with("\"quorum\":false}\n"));
    }

    #[test]
    fn nodes_are_json() {
        let text = json(&cluster());
        assert!(text.starts_with("{\"cluster\":\"c\",\"nodes\":[{\"node\":1,\"state\":\"alive\",\"duty\":\"full\""));
        assert!(text.contains("\"rack\":null,\"metadata_lag\":0}"));
        assert!(text.contains("\"rack\":\"a\\\"b\",\"metadata_lag\":null}"));
        assert!(text.ends_with("],\"under_replicated\":2,\"leaderless\":1,\"reassigning\":0,\"quorum\":true}\n"));
    }

    #[test]
    fn leaders_replicas_and_what_is_behind_are_counted() {
        let partition = |leader: i32, replicas: &[i32], isr: &[i32]| {
            let ids = |nodes: &[i32]| nodes.iter().map(|node| (*node).into()).collect();
            MetadataResponsePartition::default()
                .with_leader_id(leader.into())
                .with_replica_nodes(ids(replicas))
                .with_isr_nodes(ids(isr))
        };
        let partitions = vec![partition(1, &[1, 12], &[1, 12]), partition(-1, &[12, 1], &[12])];
        let topic = MetadataResponseTopic::default().with_partitions(partitions);
        let mut nodes: BTreeMap<i32, NodeShown> =
            [1, 12].map(|id| (id, NodeShown { id, ..NodeShown::default() })).into();
        assert_eq!(count(&MetadataResponse::default().with_topics(vec![topic]), &mut nodes), (1, 1));
        let shown = |id: i32| nodes.get(&id).map(|node| (node.leaders, node.replicas, node.behind));
        assert_eq!((shown(1), shown(12)), (Some((1, 2, 1)), Some((0, 2, 0))));
    }
}

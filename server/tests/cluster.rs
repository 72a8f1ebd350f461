//! Processes that form a cluster: what any of them tells of it, what they pass on, and whom they send clients to.
//!
//! Owns the processes, on loopback and on directories of their own. Does not own failures: those are simulated, and run
//! on real processes by `compat-tests`. Invariant: every wait has a condition and a deadline.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Client, PATIENCE, batch, produce, text};
use server::wire::messages::create_partitions_request::CreatePartitionsTopic;
use server::wire::messages::create_topics_request::CreatableTopic;
use server::wire::messages::describe_quorum_request::{PartitionData, TopicData};
use server::wire::messages::fetch_request::{FetchPartition, FetchTopic};
use server::wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use server::wire::messages::metadata_request::MetadataRequestTopic;
use server::wire::messages::*;
use tempfile::TempDir;

const SELECTOR: &str = "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector";

struct Process {
    id: i32,
    address: SocketAddr,
    child: Child,
    _dir: TempDir,
}

impl Process {
    fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// SIGTERM, and the end of the process.
    fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Addresses that were free a moment ago.
fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("bound")).collect()
}

fn start(id: i32, peer: SocketAddr, join: &[SocketAddr]) -> Process {
    let dir = tempfile::tempdir().expect("a directory");
    let join = join.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--set", SELECTOR])
        .args(["--node-id", &id.to_string(), "--peer-listen", &peer.to_string(), "--join", &join])
        .args(["--set", &format!("broker.rack=rack-{id}")])
        .arg("--data-dir")
        .arg(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    // All nodes are started before one of them can be ready: the line is waited for by another thread.
    let (sender, line) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = stdout.read_line(&mut line);
        let _ = sender.send(read.map(|_| line));
        // Until the process ends, so that it can always write.
        let _ = stdout.read_to_string(&mut String::new());
    });
    let line = line.recv_timeout(PATIENCE).expect("ready in time").expect("stdout is text");
    let at = line.split_whitespace().find_map(|word| word.strip_prefix("kafka=")).expect("the ready line");
    Process { id, address: at.parse().expect("an address"), child, _dir: dir }
}

/// Nodes from 1 on that found a cluster together, once all of them are alive for all of them.
fn cluster(count: usize) -> (Vec<Process>, Vec<SocketAddr>) {
    let peers = free_addresses(count);
    let starts: Vec<_> = (1..)
        .zip(peers.clone())
        .map(|(id, peer)| {
            let join = peers.clone();
            std::thread::spawn(move || start(id, peer, &join))
        })
        .collect();
    let nodes: Vec<Process> = starts.into_iter().map(|start| start.join().expect("it is ready")).collect();
    for node in &nodes {
        wait("all are alive", || alive(&mut node.client()) == count);
    }
    (nodes, peers)
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn alive(client: &mut Client) -> usize {
    client.call(2, &DescribeClusterRequest::default().with_endpoint_type(1)).brokers.len()
}

fn metadata(client: &mut Client, topic: &str) -> MetadataResponse {
    let named = MetadataRequestTopic::default().with_name(Some(text(topic).into()));
    let request = MetadataRequest::default().with_topics(Some(vec![named])).with_allow_auto_topic_creation(false);
    client.call(13, &request)
}

fn create(client: &mut Client, topic: &str, partitions: i32, factor: i16) {
    let topic = CreatableTopic::default()
        .with_name(text(topic).into())
        .with_num_partitions(partitions)
        .with_replication_factor(factor);
    let response = client.call(7, &CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000));
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
}

fn by_id(nodes: &[Process], id: i32) -> &Process {
    nodes.iter().find(|node| node.id == id).expect("a node of the cluster")
}

/// Produces until the leader has heard of its leadership.
fn produce_to_leader(nodes: &[Process], topic: &str) -> i32 {
    let mut leader = -1;
    wait("a leader takes records", || {
        leader = metadata(&mut nodes[0].client(), topic).topics[0].partitions[0].leader_id.0;
        let Some(node) = nodes.iter().find(|node| node.id == leader) else { return false };
        let response = node.client().call(9, &produce(topic, 0, -1, batch(&["a", "b"])));
        response.responses[0].partition_responses[0].error_code == 0
    });
    leader
}

fn fetch(client: &mut Client, version: i16, topic: &str, rack: &str) -> FetchResponse {
    let mut shown = FetchTopic::default();
    match version {
        13.. => shown.topic_id = metadata(client, topic).topics[0].topic_id,
        _ => shown.topic = text(topic).into(),
    }
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20).with_current_leader_epoch(-1);
    let request = FetchRequest::default()
        .with_max_wait_ms(100)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_rack_id(text(rack))
        .with_topics(vec![shown.with_partitions(vec![partition])]);
    let request = if version < 15 { request.with_replica_id((-1).into()) } else { request };
    client.call(version, &request)
}

#[test]
fn every_node_tells_the_same_of_the_cluster() {
    let (nodes, peers) = cluster(3);
    let mut told = Vec::new();
    for node in &nodes {
        let mut client = node.client();
        let all = metadata(&mut client, "none");
        let mut brokers: Vec<_> = all
            .brokers
            .iter()
            .map(|broker| (broker.node_id.0, broker.port, broker.rack.as_ref().map(ToString::to_string)))
            .collect();
        brokers.sort();
        let expected: Vec<_> = nodes
            .iter()
            .map(|node| (node.id, i32::from(node.address.port()), Some(format!("rack-{}", node.id))))
            .collect();
        assert_eq!(brokers, expected);
        let topic = TopicData::default()
            .with_topic_name(text("__cluster_metadata").into())
            .with_partitions(vec![PartitionData::default()]);
        let quorum = client.call(2, &DescribeQuorumRequest::default().with_topics(vec![topic]));
        let partition = &quorum.topics[0].partitions[0];
        assert_eq!((quorum.error_code, partition.current_voters.len(), partition.observers.len()), (0, 3, 0));
        assert!(partition.current_voters.iter().all(|voter| voter.log_end_offset > 1));
        let ports: Vec<u16> = quorum.nodes.iter().map(|node| node.listeners[0].port).collect();
        assert_eq!(ports, peers.iter().map(SocketAddr::port).collect::<Vec<_>>());
        let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("group")]);
        let mut coordinator = -1;
        wait("the group has a coordinator", || {
            let found = client.call(4, &find);
            coordinator = found.coordinators[0].node_id.0;
            found.coordinators[0].error_code == 0
        });
        told.push((all.cluster_id, all.controller_id, partition.leader_id, coordinator));
    }
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
    assert_eq!(told[0].1, told[0].2);
}

#[test]
fn any_node_passes_on_what_changes_the_cluster_and_then_sees_it() {
    let (nodes, _) = cluster(3);
    for node in &nodes {
        let mut client = node.client();
        let name = format!("by-{}", node.id);
        create(&mut client, &name, 1, 3);
        assert_eq!(metadata(&mut client, &name).topics[0].partitions[0].replica_nodes.len(), 3);
        let more = CreatePartitionsTopic::default().with_name(text(&name).into()).with_count(4).with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![more]).with_timeout_ms(30_000);
        assert_eq!(client.call(3, &request).results[0].error_code, 0);
        assert_eq!(metadata(&mut client, &name).topics[0].partitions.len(), 4);
        let id = client.call(4, &InitProducerIdRequest::default().with_transactional_id(None));
        assert_eq!(id.error_code, 0);
    }
}

#[test]
fn a_node_that_does_not_lead_names_the_leader_and_a_rack_its_replica() {
    let (nodes, _) = cluster(3);
    create(&mut nodes[1].client(), "t", 1, 3);
    let leader = produce_to_leader(&nodes, "t");
    let port = i32::from(by_id(&nodes, leader).address.port());
    let follower = nodes.iter().find(|node| node.id != leader).expect("two of three");
    let mut client = follower.client();
    let refused = client.call(10, &produce("t", 0, -1, batch(&["c"])));
    let partition = &refused.responses[0].partition_responses[0];
    assert_eq!((partition.error_code, partition.current_leader.leader_id.0), (6, leader));
    assert_eq!((refused.node_endpoints[0].node_id.0, refused.node_endpoints[0].port), (leader, port));
    let elsewhere = fetch(&mut client, 16, "t", "");
    let partition = &elsewhere.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.current_leader.leader_id.0), (6, leader));
    assert_eq!(elsewhere.node_endpoints[0].port, port);
    let wanted = ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(-1);
    let topic = ListOffsetsTopic::default().with_name(text("t").into()).with_partitions(vec![wanted]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    assert_eq!(client.call(9, &request).topics[0].partitions[0].error_code, 6);

    let rack = format!("rack-{}", follower.id);
    let told = fetch(&mut by_id(&nodes, leader).client(), 12, "t", &rack);
    assert_eq!(told.responses[0].partitions[0].preferred_read_replica.0, follower.id);
    wait("the follower hands out what is committed", || {
        let read = fetch(&mut client, 12, "t", &rack);
        let partition = &read.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        partition.records.as_ref().is_some_and(|records| *records == with_epoch(&batch(&["a", "b"]), partition))
    });
}

/// The leader's epoch lies outside of what the producer sealed.
fn with_epoch(batch: &[u8], read: &fetch_response::PartitionData) -> bytes::Bytes {
    let mut batch = batch.to_vec();
    let stored = read.records.as_ref().and_then(|records| records.get(12..16));
    if let (Some(stored), Some(place)) = (stored, batch.get_mut(12..16)) {
        place.copy_from_slice(stored);
    }
    batch.into()
}

fn weir(at: &Process, args: &[&str]) -> String {
    let bootstrap = at.address.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("node")
        .args(args)
        .args(["--bootstrap", &bootstrap])
        .output()
        .expect("it runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{out}{err}")
}

#[test]
fn a_node_joins_is_drained_decommissioned_and_removed_by_hand() {
    let (mut nodes, peers) = cluster(3);
    create(&mut nodes[0].client(), "t", 6, 3);
    nodes.push(start(4, free_addresses(1)[0], &peers));
    wait("the fourth is known", || alive(&mut nodes[0].client()) == 4);
    let wish = |at: &Process, verb: &str, node: &str, said: &str| {
        let output = weir(at, &[verb, node, "--timeout", "30"]);
        assert!(output.contains(said), "{verb} {node}: {output}{}", weir(at, &["list"]));
    };
    wish(&nodes[1], "add", "4", "node 4 takes its share");
    wish(&nodes[1], "drain", "3", "node 3 leads nothing");
    let led = |id: i32| {
        let shown = metadata(&mut nodes[0].client(), "t");
        let partitions = &shown.topics[0].partitions;
        let replicas = partitions.iter().filter(|one| one.replica_nodes.iter().any(|node| node.0 == id)).count();
        (partitions.iter().filter(|one| one.leader_id.0 == id).count(), replicas)
    };
    assert_eq!(led(3).0, 0);
    wish(&nodes[0], "remove", "3", "cannot be set to 'removed'");
    wish(&nodes[1], "decommission", "3", "node 3 holds nothing");
    assert_eq!(led(3), (0, 0));
    nodes[2].stop();
    wait("the third is dead", || alive(&mut nodes[0].client()) == 3);
    wish(&nodes[1], "remove", "3", "node 3 is forgotten");
    let list = weir(&nodes[0], &["list"]);
    let ids: Vec<&str> = list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(ids, ["1", "2", "4", "cluster"], "{list}");
}

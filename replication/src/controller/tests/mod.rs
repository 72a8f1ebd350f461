//! Tests of the controller: Raft on one and three nodes in memory, and its decisions as tables.

mod chaos;
mod decisions;
mod members;

use std::collections::BTreeSet;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use model::{ErrorCode, LeaderEpoch, NodeId, TopicName};

use super::raft_node::{ELECTION_TICKS, RaftError};
use super::*;
use crate::metadata::{Incarnation, NodeInfo, PartitionInfo};

fn name(raw: &str) -> TopicName {
    TopicName::new(raw).expect("a valid name")
}

fn new_topic(raw: &str) -> NewTopic {
    NewTopic::with_defaults(name(raw))
}

fn options(node: i32, founders: &[i32]) -> ControllerOptions {
    ControllerOptions {
        node: NodeId(node),
        seed: 11 + u64::try_from(node).expect("not negative"),
        statics: Arc::default(),
        founders: founders.iter().copied().map(NodeId).collect(),
    }
}

/// What a node's disk holds.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Stored {
    hard_state: Option<Bytes>,
    snapshot: Option<Bytes>,
    entries: Vec<LogEntry>,
}

impl Stored {
    fn write(&mut self, persist: Persist) {
        if let Some(snapshot) = persist.snapshot {
            self.snapshot = Some(snapshot.file);
            self.entries.clear();
        }
        if let Some(from) = persist.truncate_from {
            self.entries.retain(|entry| entry.index < from);
        }
        self.entries.extend(persist.entries);
        self.hard_state = persist.hard_state.or(self.hard_state.take());
    }

    fn recovered(&self) -> Recovered {
        Recovered {
            hard_state: self.hard_state.clone(),
            snapshot: self.snapshot.clone(),
            entries: self.entries.clone(),
        }
    }
}

/// A controller whose disk is done at once.
struct Host {
    controller: Controller,
    stored: Stored,
    outcomes: Vec<(Token, Outcome)>,
    facts: Vec<Fact>,
    outbox: Vec<(NodeId, Bytes)>,
    /// Groups that had to be written one after the other.
    writes: usize,
}

impl Host {
    fn open(options: ControllerOptions, stored: Stored) -> Host {
        let controller = Controller::open(options, stored.recovered()).expect("what was stored can be opened");
        let mut host =
            Host { controller, stored, outcomes: Vec::new(), facts: Vec::new(), outbox: Vec::new(), writes: 0 };
        host.settle();
        host
    }

    fn settle(&mut self) {
        let mut out = Output::default();
        self.controller.collect(&mut out).expect("facts of our own");
        loop {
            self.outcomes.append(&mut out.outcomes);
            self.facts.append(&mut out.facts);
            self.outbox.append(&mut out.messages);
            let Some(last) = out.persist.last().map(|persist| persist.number) else { return };
            out.persist.drain(..).for_each(|persist| self.stored.write(persist));
            self.writes += 1;
            self.controller.persisted(last, &mut out).expect("facts of our own");
        }
    }

    fn propose(&mut self, groups: &[Vec<Fact>], token: u64) {
        self.controller.propose(groups, Token(token)).expect("it is active");
        self.settle();
    }

    /// Founds where nothing is founded, and registers a start.
    fn start(&mut self, clean: bool) {
        let node = self.controller.node();
        let (image, random) = self.controller.decide().expect("it is active");
        let mut groups = Vec::new();
        if !image.is_founded() {
            groups.push(vec![nodes::found(random.cluster_id(), vec![node])]);
        }
        let info = NodeInfo { incarnation: random.incarnation(), ..NodeInfo::default() };
        groups.extend(nodes::register(image, node, info, clean, &BTreeSet::new()));
        self.propose(&groups, 1);
    }

    fn create(&mut self, topics: &[NewTopic], token: u64) -> Vec<Result<CreatedTopic, Refusal>> {
        let (image, random) = self.controller.decide().expect("it is active");
        let decided = topics::create(image, topics, random);
        self.propose(&decided.facts, token);
        decided.answers
    }
}

fn one_node() -> Host {
    let mut host = Host::open(options(1, &[1]), Stored::default());
    host.start(true);
    host
}

#[test]
fn a_sole_voter_founds_and_registers_with_one_write() {
    let mut host = Host {
        controller: Controller::open(options(0, &[0]), Recovered::default()).expect("nothing is stored"),
        stored: Stored::default(),
        outcomes: Vec::new(),
        facts: Vec::new(),
        outbox: Vec::new(),
        writes: 0,
    };
    let mut out = Output::default();
    host.controller.collect(&mut out).expect("nothing to apply");
    // Node 0 is a node like any other, and it may decide before its election is on disk: nothing leaves before that.
    assert!(host.controller.is_active());
    assert!(out.facts.is_empty());
    host.stored.write(out.persist.remove(0));
    host.start(true);
    assert_eq!(host.outcomes, [(Token(1), Outcome::Committed)]);
    assert_eq!(host.writes, 1);
    assert_eq!(host.controller.image().cluster_id().len(), 22);
    assert_eq!(host.controller.image().voters(), [NodeId(0)]);
    assert_eq!(host.controller.image().controller(), Some(NodeId(0)));
    assert!(!host.controller.needs_ticks());
}

#[test]
fn nothing_is_committed_before_it_is_on_disk() {
    let mut host = one_node();
    let (image, random) = host.controller.decide().expect("it is active");
    let decided = topics::create(image, &[new_topic("t")], random);
    host.controller.propose(&decided.facts, Token(5)).expect("it is active");
    let mut out = Output::default();
    host.controller.collect(&mut out).expect("facts of our own");
    assert_eq!(out.persist.len(), 1);
    assert!(out.facts.is_empty() && out.outcomes.is_empty());
    assert!(host.controller.image().topic(&name("t")).is_none());
    host.controller.persisted(out.persist[0].number, &mut out).expect("facts of our own");
    assert_eq!(out.outcomes, [(Token(5), Outcome::Committed)]);
    assert!(out.image.is_some_and(|image| image.topic(&name("t")).is_some()));
}

#[test]
fn several_writes_may_be_under_way_and_are_done_in_order() {
    let mut host = one_node();
    let mut out = Output::default();
    for at in 0..3u64 {
        let (image, random) = host.controller.decide().expect("it is active");
        let decided = topics::create(image, &[new_topic(&format!("t{at}"))], random);
        host.controller.propose(&decided.facts, Token(at)).expect("it is active");
        host.controller.collect(&mut out).expect("facts of our own");
    }
    assert_eq!(out.persist.len(), 3);
    host.controller.persisted(out.persist[1].number, &mut out).expect("facts of our own");
    assert_eq!(out.outcomes, [(Token(0), Outcome::Committed), (Token(1), Outcome::Committed)]);
    host.controller.persisted(out.persist[2].number, &mut out).expect("facts of our own");
    assert_eq!(out.outcomes.len(), 3);
}

#[test]
fn a_restart_finds_everything_again_and_begins_new_leader_epochs() {
    let mut host = one_node();
    assert!(host.create(&[new_topic("t")], 2).iter().all(Result::is_ok));
    let before = Arc::clone(host.controller.image());
    let mut host = Host::open(options(1, &[]), host.stored);
    assert_eq!(**host.controller.image(), *before);
    let first = host.controller.image().node(NodeId(1)).map(|info| info.incarnation);
    host.start(false);
    let image = host.controller.image();
    assert_eq!(host.writes, 2, "the election, then the registration");
    assert_ne!(image.node(NodeId(1)).map(|info| info.incarnation), first);
    let partition = &image.topic(&name("t")).expect("it was created").partitions[0];
    assert_eq!((partition.leader, partition.leader_epoch), (Some(NodeId(1)), LeaderEpoch::new(1)));
    assert_eq!(image.cluster_id(), before.cluster_id());
}

#[test]
fn the_election_of_a_restart_and_its_registration_can_share_one_write() {
    let stored = one_node().stored;
    let mut controller = Controller::open(options(1, &[]), stored.recovered()).expect("it was stored");
    let mut out = Output::default();
    controller.collect(&mut out).expect("facts of our own");
    // All that is on the only voter's disk is committed, so the image is there before anything is written.
    let (image, random) = controller.decide().expect("it is active");
    assert!(image.is_founded());
    let info = NodeInfo { incarnation: random.incarnation(), ..NodeInfo::default() };
    let groups = nodes::register(image, NodeId(1), info, true, &BTreeSet::new());
    controller.propose(&groups, Token(9)).expect("it is active");
    controller.collect(&mut out).expect("facts of our own");
    let last = out.persist.last().expect("there is something to write").number;
    controller.persisted(last, &mut out).expect("facts of our own");
    assert_eq!(out.outcomes, [(Token(9), Outcome::Committed)]);
}

#[test]
fn a_log_that_is_cut_or_has_a_hole_is_an_error_not_a_smaller_cluster() {
    let mut host = one_node();
    assert!(host.create(&[new_topic("t")], 2).iter().all(Result::is_ok));
    host.create(&[new_topic("u")], 3);
    let mut hole = host.stored.clone();
    hole.entries.remove(1);
    let opened = Controller::open(options(1, &[]), hole.recovered());
    assert!(matches!(opened.err(), Some(ControllerError::Raft(RaftError::Gap { expected: 2, got: 3 }))));
    let mut cut = host.stored.clone();
    cut.entries.clear();
    let opened = Controller::open(options(1, &[]), cut.recovered());
    assert!(matches!(opened.err(), Some(ControllerError::Raft(RaftError::Lost { last: 0, .. }))));
    let damaged = Recovered { hard_state: Some(Bytes::from_static(&[0xff])), ..Recovered::default() };
    assert!(Controller::open(options(1, &[1]), damaged).is_err());
}

#[test]
fn a_snapshot_and_the_log_behind_it_give_the_same_image() {
    let mut host = one_node();
    host.create(&[new_topic("t")], 2);
    let point = host.controller.raft().snapshot_file(host.controller.image().encode());
    host.create(&[new_topic("u")], 3);
    host.controller.snapshot_durable(point.index);
    let stored = Stored {
        snapshot: Some(point.file),
        entries: host.stored.entries.iter().filter(|entry| entry.index > point.index).cloned().collect(),
        hard_state: host.stored.hard_state.clone(),
    };
    let again = Host::open(options(1, &[]), stored.clone());
    assert_eq!(**again.controller.image(), **host.controller.image());
    // A crash between the snapshot and the cut of the log leaves both: the overlap is passed over.
    let both = Stored { entries: host.stored.entries.clone(), ..stored };
    assert_eq!(**Host::open(options(1, &[]), both).controller.image(), **host.controller.image());
    host.create(&[new_topic("v")], 4);
    assert_eq!(host.outcomes.last(), Some(&(Token(4), Outcome::Committed)));
}

#[test]
fn a_version_that_the_cluster_has_left_behind_does_not_start_on_its_data() {
    let host = one_node();
    let raised = Fact::FeatureLevelSet {
        name: LEVEL_FEATURE.to_owned(),
        level: i16::try_from(LEVEL + 1).expect("levels are small"),
    };
    let image = host.controller.image().with(&[raised]).expect("it applies");
    let file = host.controller.raft().snapshot_file(image.encode()).file;
    let stored = Stored { snapshot: Some(file), entries: Vec::new(), hard_state: host.stored.hard_state };
    let refused = Controller::open(options(1, &[]), stored.recovered()).err();
    assert_eq!(refused, Some(ControllerError::Level { finalised: LEVEL + 1 }));
}

/// Three controllers and the messages between them, in order.
struct Cluster {
    hosts: BTreeMap<NodeId, Host>,
    cut_off: Option<NodeId>,
    trace: u64,
}

impl Cluster {
    fn new() -> Cluster {
        let open = |node| (NodeId(node), Host::open(options(node, &[1, 2, 3]), Stored::default()));
        Cluster { hosts: [1, 2, 3].map(open).into(), cut_off: None, trace: 0 }
    }

    fn deliver(&mut self) {
        let mut queue: VecDeque<(NodeId, NodeId, Bytes)> = VecDeque::new();
        loop {
            for (from, host) in &mut self.hosts {
                host.settle();
                queue.extend(host.outbox.drain(..).map(|(to, message)| (*from, to, message)));
            }
            let Some((from, to, message)) = queue.pop_front() else { return };
            for byte in message.iter() {
                self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
            if self.cut_off.is_some_and(|node| node == from || node == to) {
                continue;
            }
            self.hosts.get_mut(&to).expect("one of three").controller.step(&message).expect("our own message");
        }
    }

    fn tick(&mut self, times: usize) {
        for _ in 0..times {
            self.hosts.values_mut().for_each(|host| host.controller.tick());
            self.deliver();
        }
    }

    fn active(&mut self) -> &mut Host {
        let cut_off = self.cut_off;
        let is_active = |host: &&mut Host| host.controller.is_active() && Some(host.controller.node()) != cut_off;
        self.hosts.values_mut().find(is_active).expect("one is active")
    }

    fn elect(&mut self) -> NodeId {
        self.tick(6 * ELECTION_TICKS);
        self.active().controller.node()
    }

    fn images(&self) -> Vec<Arc<Image>> {
        self.hosts.values().map(|host| Arc::clone(host.controller.image())).collect()
    }
}

fn run_of_three() -> (u64, Vec<Arc<Image>>) {
    let mut cluster = Cluster::new();
    let first = cluster.elect();
    cluster.active().start(true);
    cluster.deliver();
    cluster.active().create(&[new_topic("t")], 2);
    cluster.tick(5);
    cluster.cut_off = Some(first);
    let second = cluster.elect();
    assert_ne!(first, second);
    cluster.active().create(&[new_topic("u")], 3);
    cluster.tick(5);
    cluster.cut_off = None;
    cluster.tick(3 * ELECTION_TICKS);
    (cluster.trace, cluster.images())
}

#[test]
fn three_nodes_agree_through_a_change_of_leaders() {
    let (_, images) = run_of_three();
    for image in &images {
        assert_eq!(**image, *images[0]);
        assert_eq!(image.topics().map(|topic| topic.name.as_str()).collect::<Vec<_>>(), ["t", "u"]);
    }
}

#[test]
fn the_same_seeds_give_the_same_messages() {
    let (first, second) = (run_of_three(), run_of_three());
    assert_eq!(first.0, second.0);
    assert_eq!(first.1, second.1);
}

#[test]
fn a_proposal_of_a_leader_that_is_cut_off_ends_as_unknown_and_its_entry_is_replaced() {
    let mut cluster = Cluster::new();
    let first = cluster.elect();
    cluster.active().start(true);
    cluster.tick(5);
    cluster.hosts.values_mut().for_each(|host| host.outcomes.clear());
    let lonely = cluster.hosts.get_mut(&first).expect("one of three");
    lonely.create(&[new_topic("lost")], 7);
    lonely.outbox.clear();
    cluster.cut_off = Some(first);
    cluster.elect();
    cluster.active().create(&[new_topic("kept")], 8);
    cluster.cut_off = None;
    cluster.tick(3 * ELECTION_TICKS);
    assert_eq!(cluster.hosts[&first].outcomes, [(Token(7), Outcome::Unknown)]);
    let images = cluster.images();
    for image in &images {
        assert!(image.topic(&name("lost")).is_none() && image.topic(&name("kept")).is_some());
    }
    let logs: Vec<_> = cluster.hosts.values().map(|host| host.stored.entries.clone()).collect();
    assert!(logs.windows(2).all(|pair| pair[0] == pair[1]), "the stored logs are the same");
}

#[test]
fn a_follower_that_is_too_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::new();
    let first = cluster.elect();
    cluster.active().start(true);
    cluster.tick(5);
    let slow = *cluster.hosts.keys().find(|node| **node != first).expect("one of three");
    cluster.cut_off = Some(slow);
    cluster.active().create(&[new_topic("t")], 2);
    cluster.tick(5);
    let leader = cluster.active();
    let point = leader.controller.raft().snapshot_file(leader.controller.image().encode());
    leader.controller.snapshot_durable(point.index);
    cluster.cut_off = None;
    cluster.tick(6 * ELECTION_TICKS);
    assert!(cluster.hosts[&slow].stored.snapshot.is_some());
    assert!(cluster.hosts[&slow].controller.image().topic(&name("t")).is_some());
    let stored = cluster.hosts[&slow].stored.clone();
    let again = Host::open(options(slow.0, &[]), stored);
    assert!(again.controller.image().topic(&name("t")).is_some());
}

fn three_live_nodes() -> Image {
    let register = |node: i32| {
        let incarnation = Incarnation([u8::try_from(node).expect("small"); 16]);
        Fact::NodeRegistered { node: NodeId(node), info: NodeInfo { incarnation, ..NodeInfo::default() } }
    };
    let dead = NodeInfo { fenced: true, ..NodeInfo::default() };
    let mut facts: Vec<Fact> = [1, 2, 3].map(register).into();
    facts.push(Fact::NodeRegistered { node: NodeId(4), info: dead });
    Image::empty(Arc::default()).with(&facts).expect("the facts apply")
}

fn nodes_of(raw: &[i32]) -> Vec<NodeId> {
    raw.iter().copied().map(NodeId).collect()
}

#[test]
fn what_cannot_be_created_is_refused_with_kafkas_code() {
    let mut random = Random::new(1);
    let decided = topics::create(&three_live_nodes(), &[new_topic("a.b")], &mut random);
    let image = three_live_nodes().with(&decided.facts.concat()).expect("the facts apply");
    let assigned = |replicas: &[&[i32]]| NewTopic {
        assignment: replicas.iter().map(|nodes| nodes_of(nodes)).collect(),
        ..new_topic("t")
    };
    let config = |key: &str, value: &str| NewTopic {
        config: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        ..new_topic("t")
    };
    let table = [
        (new_topic("a.b"), ErrorCode::TopicAlreadyExists),
        (new_topic("a_b"), ErrorCode::InvalidTopicException),
        (NewTopic { partitions: Some(0), ..new_topic("t") }, ErrorCode::InvalidPartitions),
        (NewTopic { partitions: Some(20_001), ..new_topic("t") }, ErrorCode::InvalidPartitions),
        (NewTopic { replication_factor: Some(0), ..new_topic("t") }, ErrorCode::InvalidReplicationFactor),
        (NewTopic { replication_factor: Some(4), ..new_topic("t") }, ErrorCode::InvalidReplicationFactor),
        (NewTopic { partitions: Some(1), ..assigned(&[&[1]]) }, ErrorCode::InvalidRequest),
        (NewTopic { replication_factor: Some(1), ..assigned(&[&[1]]) }, ErrorCode::InvalidRequest),
        (assigned(&[&[1], &[]]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[&[1, 1]]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[&[1], &[1, 2]]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[&[9]]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[&[4]]), ErrorCode::InvalidReplicaAssignment),
        (config("retention.ms", "soon"), ErrorCode::InvalidConfig),
        (config("retention", "1"), ErrorCode::InvalidConfig),
    ];
    for (topic, code) in table {
        let decided = topics::create(&image, std::slice::from_ref(&topic), &mut random);
        let answer = decided.answers.first().expect("one answer for each topic");
        assert_eq!(answer.as_ref().err().map(|refusal| refusal.code), Some(code), "{topic:?}: {answer:?}");
        assert!(decided.facts.is_empty());
    }
}

#[test]
fn refusals_that_tools_print_begin_with_the_words_of_kafka() {
    let mut random = Random::new(1);
    let decided = topics::create(&three_live_nodes(), &[new_topic("a.b")], &mut random);
    let image = three_live_nodes().with(&decided.facts.concat()).expect("the facts apply");
    let config =
        |key: &str| NewTopic { config: BTreeMap::from([(key.to_owned(), "soon".to_owned())]), ..new_topic("t") };
    for (topic, words) in [
        (new_topic("a.b"), "Topic 'a.b' already exists."),
        (new_topic("a_b"), "Topic 'a_b' collides with existing topic: a.b"),
        (config("retention"), "Unknown topic config name: retention"),
        (config("retention.ms"), "Invalid value soon for configuration retention.ms: "),
    ] {
        let decided = topics::create(&image, &[topic], &mut random);
        let refusal = decided.answers[0].as_ref().expect_err("it is refused");
        assert!(refusal.message.starts_with(words), "{refusal:?}");
    }
}

#[test]
fn topics_of_one_request_see_each_other() {
    let topics = ["x.y", "x_y", "twice", "twice", "fine"].map(new_topic);
    let decided = topics::create(&three_live_nodes(), &topics, &mut Random::new(1));
    let codes: Vec<_> =
        decided.answers.iter().map(|answer| answer.as_ref().err().map(|refusal| refusal.code)).collect();
    let (collides, twice) = (Some(ErrorCode::InvalidTopicException), Some(ErrorCode::InvalidRequest));
    assert_eq!(codes, [None, collides, twice, twice, None]);
    assert_eq!(decided.facts.len(), 2);
}

#[test]
fn what_is_left_open_follows_the_cluster_and_the_nodes_defaults() {
    let statics = BTreeMap::from([("num.partitions".to_owned(), "4".to_owned())]);
    let statics = Arc::new(BrokerConfig::new(statics).expect("valid settings"));
    let image = Image::decode(three_live_nodes().encode(), statics).expect("our own snapshot");
    let decided = topics::create(&image, &[new_topic("t")], &mut Random::new(1));
    let created = decided.answers[0].as_ref().expect("it can be created");
    assert_eq!((created.partitions, created.replication_factor), (4, 3));
    assert!(!created.id.is_zero());
    let image = image.with(&decided.facts.concat()).expect("the facts apply");
    let topic = image.topic(&name("t")).expect("it was created");
    assert!(topic.default_replication);
    for (_, partition) in topic.partitions() {
        assert_eq!(
            (partition.leader, partition.leader_epoch),
            (partition.replicas.first().copied(), LeaderEpoch::ZERO)
        );
        assert_eq!(partition.isr.len(), 3);
    }
}

#[test]
fn a_hand_made_assignment_is_kept_and_only_its_live_nodes_are_in_sync() {
    let topic = NewTopic { assignment: vec![nodes_of(&[4, 2]), nodes_of(&[3, 1])], ..new_topic("t") };
    let decided = topics::create(&three_live_nodes(), &[topic], &mut Random::new(1));
    let image = three_live_nodes().with(&decided.facts.concat()).expect("the facts apply");
    let topic = image.topic(&name("t")).expect("it was created");
    assert!(!topic.default_replication);
    let first = &topic.partitions[0];
    assert_eq!((first.leader, &first.isr), (Some(NodeId(2)), &nodes_of(&[2])));
    assert_eq!(first.replicas, nodes_of(&[4, 2]));
}

#[test]
fn what_is_deleted_is_found_by_name_or_id_and_only_once() {
    let decided = topics::create(&three_live_nodes(), &["a", "b"].map(new_topic), &mut Random::new(1));
    let image = three_live_nodes().with(&decided.facts.concat()).expect("the facts apply");
    let id = |raw| image.topic(&name(raw)).expect("it was created").id;
    let decided = topics::delete(
        &image,
        &[
            TopicRef::Name(name("a")),
            TopicRef::Id(id("b")),
            TopicRef::Name(name("b")),
            TopicRef::Name(name("c")),
            TopicRef::Id(model::TopicId([1; 16])),
        ],
    );
    let answers: Vec<_> = decided.answers.into_iter().map(|answer| answer.map_err(|refusal| refusal.code)).collect();
    let expected = [
        Ok((name("a"), id("a"))),
        Ok((name("b"), id("b"))),
        Err(ErrorCode::InvalidRequest),
        Err(ErrorCode::UnknownTopicOrPartition),
        Err(ErrorCode::UnknownTopicId),
    ];
    assert_eq!(answers, expected);
    let after = image.with(&decided.facts.concat()).expect("the facts apply");
    assert_eq!((after.topic_count(), after.partition_count()), (0, 0));
}

#[test]
fn topics_are_kept_where_deleting_is_switched_off() {
    let statics = BTreeMap::from([("delete.topic.enable".to_owned(), "false".to_owned())]);
    let statics = Arc::new(BrokerConfig::new(statics).expect("valid settings"));
    let decided = topics::create(&three_live_nodes(), &[new_topic("a")], &mut Random::new(1));
    let image = three_live_nodes().with(&decided.facts.concat()).expect("the facts apply");
    let image = Image::decode(image.encode(), statics).expect("our own snapshot");
    let decided = topics::delete(&image, &[TopicRef::Name(name("a"))]);
    assert_eq!(decided.answers[0].as_ref().map_err(|refusal| refusal.code), Err(ErrorCode::TopicDeletionDisabled));
}

#[test]
fn the_offsets_topic_is_compacted_and_fits_the_cluster() {
    let topic = topics::offsets_topic(&three_live_nodes());
    let decided = topics::create(&three_live_nodes(), &[topic], &mut Random::new(1));
    let created = decided.answers[0].as_ref().expect("it can be created");
    assert_eq!((created.partitions, created.replication_factor), (50, 3));
    let image = three_live_nodes().with(&decided.facts.concat()).expect("the facts apply");
    let config = &image.topic(&name(topics::OFFSETS_TOPIC)).expect("it was created").config;
    assert!(config.cleanup.compact && !config.cleanup.delete);
    assert_eq!(config.segment_bytes, 104_857_600);
    assert!(config.is_journalled());
}

/// Registers node 1 again, after `change` on what it registered before; gives the only partition.
fn after_restart(
    state: PartitionInfo,
    clean: bool,
    config: &[(&str, &str)],
    change: impl Fn(&mut NodeInfo),
) -> PartitionInfo {
    let id = model::TopicId([1; 16]);
    let configs = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let facts = [
        Fact::TopicCreated { id, name: name("t"), configs, default_replication: false },
        Fact::PartitionChanged { topic: id, partition: model::PartitionIndex::new(0), state },
    ];
    let image = three_live_nodes().with(&facts).expect("the facts apply");
    let mut info = image.node(NodeId(1)).expect("it is registered").clone();
    info.incarnation = Incarnation([99; 16]);
    change(&mut info);
    let groups = nodes::register(&image, NodeId(1), info, clean, &BTreeSet::new());
    let image = image.with(&groups.concat()).expect("the facts apply");
    assert_eq!(image.node(NodeId(1)).map(|info| info.incarnation), Some(Incarnation([99; 16])));
    PartitionInfo::clone(&image.topic(&name("t")).expect("it was created").partitions[0])
}

fn led_by_one(isr: &[i32]) -> PartitionInfo {
    PartitionInfo {
        leader: Some(NodeId(1)),
        leader_epoch: LeaderEpoch::new(4),
        replicas: nodes_of(&[1, 2]),
        isr: nodes_of(isr),
        ..PartitionInfo::default()
    }
}

#[test]
fn a_start_takes_no_leadership_over_from_the_last_one() {
    let reboot: fn(&mut NodeInfo) = |info| info.boot = "later".into();
    let replaced: fn(&mut NodeInfo) = |info| info.directory = [5; 16];
    let same: fn(&mut NodeInfo) = |_| ();
    let relaxed = [("flush.messages", "100")];
    let journalled: [(&str, &str); 0] = [];
    // Starts cleanly?, topic's flushing, what changed, ISR before; leader and ISR after. The epoch is always a new one.
    type Row<'a> = (bool, &'a [(&'a str, &'a str)], fn(&mut NodeInfo), &'a [i32], i32, &'a [i32]);
    let table: [Row<'_>; 7] = [
        (true, &journalled, same, &[1], 1, &[1]),
        (false, &journalled, same, &[1, 2], 1, &[1, 2]),
        (false, &journalled, reboot, &[1, 2], 1, &[1, 2]),
        (false, &relaxed, reboot, &[1, 2], 2, &[2]),
        (true, &relaxed, reboot, &[1, 2], 1, &[1, 2]),
        (true, &journalled, replaced, &[1, 2], 2, &[2]),
        (false, &relaxed, reboot, &[1], 1, &[1]),
    ];
    for (clean, config, change, isr, leader, isr_after) in table {
        let after = after_restart(led_by_one(isr), clean, config, change);
        assert_eq!(after.leader_epoch, LeaderEpoch::new(5));
        assert_eq!((after.leader, after.isr, after.partition_epoch), (Some(NodeId(leader)), nodes_of(isr_after), 1));
    }
}

#[test]
fn a_start_leaves_partitions_alone_that_others_lead_and_takes_up_those_without_a_leader() {
    let elsewhere = PartitionInfo { leader: Some(NodeId(2)), ..led_by_one(&[1, 2]) };
    assert_eq!(after_restart(elsewhere.clone(), true, &[], |_| ()), elsewhere);
    let orphan = PartitionInfo { leader: None, ..led_by_one(&[1]) };
    let after = after_restart(orphan, true, &[], |_| ());
    assert_eq!((after.leader, after.leader_epoch), (Some(NodeId(1)), LeaderEpoch::new(5)));
}

#[test]
fn a_dead_node_hands_its_leaderships_to_the_isr_and_is_remembered_below_the_minimum() {
    let id = model::TopicId([1; 16]);
    let three = PartitionInfo { replicas: nodes_of(&[1, 2, 3]), ..led_by_one(&[1, 2, 3]) };
    let facts = [
        Fact::TopicCreated { id, name: name("t"), configs: Vec::new(), default_replication: false },
        Fact::PartitionChanged { topic: id, partition: model::PartitionIndex::new(0), state: three },
    ];
    let mut image = three_live_nodes().with(&facts).expect("the facts apply");
    let mut seen = Vec::new();
    for node in [1, 2, 3] {
        let incarnation = Incarnation([u8::try_from(node).expect("small"); 16]);
        assert!(nodes::fence(&image, NodeId(node), Incarnation::default()).is_empty(), "another incarnation");
        image = image.with(&nodes::fence(&image, NodeId(node), incarnation).concat()).expect("the facts apply");
        let partition = &image.topic(&name("t")).expect("it was created").partitions[0];
        seen.push((partition.leader.map(|node| node.0), partition.isr.clone(), partition.elr.clone()));
    }
    let expected = [
        (Some(2), nodes_of(&[2, 3]), nodes_of(&[])),
        (Some(3), nodes_of(&[3]), nodes_of(&[2])),
        (None, nodes_of(&[]), nodes_of(&[2, 3])),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn blocks_of_producer_ids_never_overlap() {
    let mut host = one_node();
    let mut firsts = Vec::new();
    for token in 10..13 {
        let (image, _) = host.controller.decide().expect("it is active");
        let (fact, first) = nodes::allocate_producer_ids(image, NodeId(1));
        firsts.push(first);
        host.propose(&[vec![fact]], token);
    }
    assert_eq!(firsts, [0, 1_000, 2_000]);
    assert_eq!(host.controller.image().next_producer_id(), 3_000);
}

#[test]
fn a_start_with_ten_thousand_partitions_is_one_entry_of_less_than_a_mebibyte() {
    let mut host = one_node();
    for at in 0..10 {
        let topic = NewTopic { partitions: Some(1_000), ..new_topic(&format!("t{at}")) };
        assert!(host.create(&[topic], 2).iter().all(Result::is_ok));
    }
    let mut host = Host::open(options(1, &[]), host.stored);
    let before = host.stored.entries.len();
    host.start(true);
    let added = &host.stored.entries[before..];
    assert_eq!(added.len(), 1);
    assert!(added.iter().all(|entry| entry.payload.len() < 1 << 20), "{}", added[0].payload.len());
}

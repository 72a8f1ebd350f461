//! Tests of the controller: Raft on one and three nodes in memory, and its decisions as tables.

mod bed;
mod chaos;
mod creation;
mod decisions;
mod members;
mod starts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use model::{ErrorCode, LeaderEpoch, NodeId, TopicName};

use super::raft_node::{ELECTION_TICKS, RaftError};
use super::*;
use crate::metadata::{Incarnation, NodeInfo, PartitionInfo};
use bed::*;

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

//! Several nodes in one process: how records get to all replicas, what an acknowledgement waits for, and what a new leader has.
//!
//! All time is the time of that world.

mod cluster;

use std::time::Duration;

use cluster::bed::{Bed, THREE};
use cluster::name;
use model::batch::BatchBuilder;
use model::{GroupId, LeaderEpoch, NodeId, Offset, PartitionIndex, TopicPartition};
use node::requests::{Acks, Answer, ControllerAnswer, ControllerRequest, FetchError, NewTopic, Produce, ProducePart};
use replication::controller::requests::{Election, Reassignment};
use replication::group::{
    CommitOffset, CommitOffsets, FetchOffsets, FetchTopic, FetchedTopic, GroupAnswer, GroupRequest,
};

#[test]
fn an_acknowledged_record_is_on_the_disk_of_all_replicas() {
    let mut bed = Bed::new();
    let batch = bed.batch("a");
    let leader = bed.leader();
    let request = bed.send(leader, Acks::All, batch);
    let took = bed.cluster.until("it is acknowledged", 1_000, |cluster| cluster.answers.contains_key(&request));
    // Two trips and a write, while the leader writes itself.
    assert!(took < Duration::from_millis(3), "{took:?}");
    for node in THREE {
        assert_eq!(bed.log_end(node), Offset::new(1), "node {node}");
    }
    bed.until_equal(&["a"], 100);
}

#[test]
fn followers_learn_what_is_committed_soon_after_the_last_record() {
    let mut bed = Bed::new();
    assert_eq!(bed.append("a"), 0);
    for follower in bed.followers() {
        assert_eq!(bed.high_watermark(follower), 0);
    }
    bed.until_equal(&["a"], 15);
}

#[test]
fn nothing_is_acknowledged_while_a_member_of_the_isr_is_silent_and_then_it_leaves() {
    let mut bed = Bed::new();
    bed.append("a");
    let silent = bed.followers()[1];
    bed.cluster.pause(silent);
    let batch = bed.batch("b");
    let leader = bed.leader();
    let request = bed.send(leader, Acks::All, batch);
    let took = bed.cluster.until("it is acknowledged", 3_000, |cluster| cluster.answers.contains_key(&request));
    assert!(took > Duration::from_millis(1_000), "{took:?}");
    bed.result(request, 1).expect("acknowledged by the two that are left");
    bed.append("c");
    bed.cluster.resume(silent);
    bed.until_in_sync(&THREE, 3_000);
    bed.until_equal(&["a", "b", "c"], 100);
}

#[test]
fn the_next_leader_has_what_was_acknowledged_and_knows_its_producers() {
    let mut bed = Bed::new();
    for value in ["a", "b", "c"] {
        bed.append(value);
    }
    let (gone, epoch) = (bed.leader(), bed.info(1).leader_epoch);
    bed.cluster.kill(gone);
    let partition = bed.partition;
    let took = bed.cluster.until("another one leads", 1_000, |cluster| {
        cluster.running().into_iter().all(|node| {
            let image = cluster.image(node);
            image.partition(partition).is_some_and(|info| info.leader.is_some_and(|leader| leader.0 != gone))
        })
    });
    assert!(took < Duration::from_millis(300), "{took:?}");
    assert!(bed.info(bed.leader()).leader_epoch > epoch);
    // A retry of the last batch, whose answer may have been lost.
    bed.sequence -= 1;
    assert_eq!(bed.append("c"), 2, "it is known already");
    assert_eq!(bed.append("d"), 3);
    bed.cluster.start(gone);
    bed.until_in_sync(&THREE, 3_000);
    bed.until_equal(&["a", "b", "c", "d"], 1_000);
}

#[test]
fn what_only_a_dead_leader_had_is_cut_when_it_comes_back() {
    let mut bed = Bed::new();
    bed.append("a");
    let leader = bed.leader();
    for follower in bed.followers() {
        bed.cluster.pause(follower);
    }
    let batch = bed.batch("lost");
    bed.send(leader, Acks::Leader, batch);
    bed.cluster.pass(20);
    assert_eq!(bed.log_end(leader), Offset::new(2));
    bed.cluster.kill(leader);
    for follower in bed.cluster.running() {
        bed.cluster.resume(follower);
    }
    let partition = bed.partition;
    bed.cluster.until("another one leads", 5_000, |cluster| {
        let running = cluster.running();
        let image = cluster.image(running[0]);
        image.partition(partition).is_some_and(|info| info.leader.is_some_and(|other| other.0 != leader))
    });
    bed.sequence -= 1;
    let batch = bed.batch("kept");
    let next = bed.leader();
    let request = bed.send(next, Acks::All, batch);
    assert_eq!(bed.result(request, 3_000).expect("acknowledged").base_offset, Offset::new(1));
    bed.cluster.start(leader);
    bed.until_in_sync(&THREE, 3_000);
    bed.until_equal(&["a", "kept"], 1_000);
}

#[test]
fn all_of_them_killed_at_once_lose_nothing() {
    let mut bed = Bed::new();
    let values: Vec<String> = (0..50).map(|at| format!("v{at}")).collect();
    for value in &values {
        bed.append(value);
    }
    THREE.into_iter().for_each(|node| bed.cluster.kill(node));
    THREE.into_iter().for_each(|node| bed.cluster.start(node));
    bed.cluster.until("all are ready", 3_000, |cluster| THREE.into_iter().all(|node| cluster.is_ready(node)));
    bed.until_in_sync(&THREE, 3_000);
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    bed.until_equal(&values, 1_000);
}

#[test]
fn a_follower_serves_what_it_knows_to_be_committed_to_those_that_may_read_there() {
    let mut bed = Bed::new();
    bed.append("a");
    bed.until_equal(&["a"], 100);
    let follower = bed.followers()[0];
    let epoch = bed.info(follower).leader_epoch;
    let refused = bed.fetch(follower, 0, false, None);
    assert!(matches!(refused.error, Some(FetchError::NotLeader { .. })), "{refused:?}");
    assert!(bed.fetch(follower, 0, true, Some(epoch)).record_bytes > 0);
    let ahead = bed.fetch(follower, 5, true, Some(epoch));
    assert!(matches!(ahead.error, Some(FetchError::OffsetNotAvailable { .. })), "{ahead:?}");
    let fenced = bed.fetch(follower, 0, true, Some(LeaderEpoch::ZERO));
    assert!(epoch == LeaderEpoch::ZERO || matches!(fenced.error, Some(FetchError::FencedEpoch { .. })), "{fenced:?}");
    let unknown = bed.fetch(follower, 0, true, Some(epoch.next()));
    assert!(matches!(unknown.error, Some(FetchError::UnknownEpoch { .. })), "{unknown:?}");
}

#[test]
fn a_replica_that_was_wiped_is_filled_from_the_disk_of_its_leader() {
    let mut bed = Bed::new();
    let values: Vec<String> = (0..300).map(|at| format!("{at:0>9000}")).collect();
    for value in &values {
        bed.append(value);
    }
    let gone = bed.followers()[0];
    bed.cluster.kill(gone);
    bed.cluster.pass(3_000);
    bed.append("last");
    // Idle partitions let their tails go: what is needed is on the disk only.
    bed.cluster.pass(20_000);
    bed.cluster.wipe(gone);
    bed.cluster.start(gone);
    bed.until_in_sync(&THREE, 10_000);
    let mut values: Vec<&str> = values.iter().map(String::as_str).collect();
    values.push("last");
    bed.until_equal(&values, 1_000);
}

#[test]
fn a_replica_moves_to_another_node_and_its_log_goes() {
    let mut bed = Bed::new();
    bed.append("a");
    bed.cluster.start(4);
    bed.cluster.until("the fourth is ready", 3_000, |cluster| cluster.is_ready(4));
    let leaves = bed.followers()[0];
    let stays = bed.followers()[1];
    let replicas = vec![NodeId(bed.leader()), NodeId(stays), NodeId(4)];
    let partitions = vec![Reassignment { partition: bed.named(), replicas: Some(replicas.clone()) }];
    match bed.ask_controller(1, ControllerRequest::Reassign { partitions, allow_factor_change: true }) {
        ControllerAnswer::Reassigned(answers) => assert_eq!(answers, [Ok(())]),
        other => panic!("{other:?}"),
    }
    let id = bed.partition;
    let took = bed.cluster.until("it has moved", 5_000, |cluster| {
        let image = cluster.image(1);
        let info = image.partition(id).expect("it is there");
        let here = |node: i32| cluster.node(node).partition_status(id).is_some();
        info.replicas == replicas && info.adding.is_empty() && info.removing.is_empty() && !here(leaves) && here(4)
    });
    assert!(took < Duration::from_secs(2), "{took:?}");
    let batch = bed.batch("b");
    let leader = bed.leader();
    let request = bed.send(leader, Acks::All, batch);
    bed.result(request, 1_000).expect("acknowledged");
    bed.cluster.pass(50);
    assert_eq!(bed.read(4).1, ["a", "b"]);
    // And back again: a new log under the old name.
    let back: Vec<NodeId> = vec![NodeId(leader), NodeId(stays), NodeId(leaves)];
    let partitions = vec![Reassignment { partition: bed.named(), replicas: Some(back.clone()) }];
    bed.ask_controller(1, ControllerRequest::Reassign { partitions, allow_factor_change: true });
    bed.cluster.until("it is back", 5_000, |cluster| {
        let image = cluster.image(1);
        let info = image.partition(id).expect("it is there");
        info.replicas == back && info.isr.len() == 3
    });
    bed.cluster.pass(50);
    assert_eq!(bed.read(leaves).1, ["a", "b"]);
}

/// The controller's own node knows of a decision first. Its wish was taken before, but it was never in sync.
#[test]
fn a_replica_that_hears_of_its_assignment_before_its_leader_does_comes_into_the_isr() {
    for leader in THREE {
        let assignment = vec![vec![NodeId(leader)]];
        let mut bed = Bed::of(NewTopic { assignment, ..NewTopic::with_defaults(name("t")) }, &[], &[leader]);
        let controller = bed.cluster.controller().expect("one is active");
        if controller == leader {
            continue;
        }
        bed.append("a");
        let replicas = vec![NodeId(leader), NodeId(controller)];
        let partitions = vec![Reassignment { partition: bed.named(), replicas: Some(replicas) }];
        bed.cluster.keep_uninformed(leader);
        bed.ask_controller(controller, ControllerRequest::Reassign { partitions, allow_factor_change: true });
        bed.cluster.pass(50);
        bed.cluster.heal();
        let mut both = [leader, controller];
        both.sort_unstable();
        bed.until_in_sync(&both, 2_000);
    }
}

#[test]
fn a_leader_that_is_alone_below_the_minimum_takes_no_acks_all_and_readers_see_no_end() {
    let mut bed = Bed::new();
    bed.append("a");
    let followers = bed.followers();
    followers.iter().for_each(|node| bed.cluster.kill(*node));
    bed.cluster.pass(300);
    let leader = bed.leader();
    let batch = bed.batch("b");
    let request = bed.send(leader, Acks::All, batch);
    // Without a quorum of the controllers nobody can shrink the set: what is not acknowledged is not answered.
    bed.cluster.pass(1_000);
    assert!(!bed.cluster.answers.contains_key(&request));
    followers.iter().for_each(|node| bed.cluster.start(*node));
    bed.until_in_sync(&THREE, 5_000);
    let values = bed.read(bed.leader()).1;
    assert_eq!(values.first().map(String::as_str), Some("a"));
}

#[test]
fn a_relaxed_topic_is_acknowledged_from_the_page_cache_of_all_replicas() {
    let mut bed = Bed::with(1, &[("flush.messages", "1000")]);
    for value in ["a", "b", "c"] {
        bed.append(value);
    }
    bed.until_equal(&["a", "b", "c"], 1_000);
    let gone = bed.leader();
    bed.cluster.kill(gone);
    let partition = bed.partition;
    bed.cluster.until("another one leads", 1_000, |cluster| {
        let image = cluster.image(cluster.running()[0]);
        image.partition(partition).is_some_and(|info| info.leader.is_some_and(|leader| leader.0 != gone))
    });
    bed.append("d");
    bed.cluster.start(gone);
    bed.until_in_sync(&THREE, 3_000);
    bed.until_equal(&["a", "b", "c", "d"], 1_000);
}

#[test]
fn what_retention_takes_from_the_leader_goes_from_its_followers() {
    let mut bed = Bed::with(1, &[("segment.bytes", "1048576"), ("retention.bytes", "1048576")]);
    let value = "x".repeat(100_000);
    for _ in 0..40 {
        bed.append(&value);
    }
    bed.cluster.pass(400_000);
    bed.append("last");
    bed.cluster.pass(1_000);
    let start = |bed: &Bed, node| bed.cluster.node(node).partition_status(bed.partition).expect("it is here").log_start;
    let of_leader = start(&bed, bed.leader());
    assert!(of_leader > Offset::ZERO);
    for follower in bed.followers() {
        assert_eq!(start(&bed, follower), of_leader, "node {follower}");
    }
    // One that begins anew begins where the leader does.
    let gone = bed.followers()[0];
    bed.cluster.kill(gone);
    bed.cluster.pass(1_000);
    bed.cluster.wipe(gone);
    bed.cluster.start(gone);
    bed.until_in_sync(&THREE, 10_000);
    assert_eq!(start(&bed, gone), of_leader);
    assert_eq!(bed.log_end(gone), Offset::new(41));
}

#[test]
fn after_an_unclean_election_the_others_cut_what_was_acknowledged() {
    let topic = NewTopic { assignment: vec![vec![NodeId(2), NodeId(3)]], ..NewTopic::with_defaults(name("t")) };
    let mut bed = Bed::of(topic, &[("min.insync.replicas", "1")], &[2, 3]);
    bed.append("a");
    let leader = bed.leader();
    let stale = 5 - leader;
    bed.cluster.pause(stale);
    let partition = bed.partition;
    bed.cluster.until("the silent one is out", 5_000, |cluster| {
        cluster.image(leader).partition(partition).is_some_and(|info| info.isr == [NodeId(leader)])
    });
    bed.append("b");
    bed.append("c");
    bed.cluster.kill(leader);
    bed.cluster.resume(stale);
    bed.cluster.until("the other two have a controller", 10_000, |cluster| cluster.controller().is_some());
    bed.cluster.pass(1_000);
    assert_eq!(bed.info(stale).leader, None, "it lacks what was acknowledged");
    let partitions = Some(vec![bed.named()]);
    bed.ask_controller(stale, ControllerRequest::ElectLeaders { election: Election::Unclean, partitions });
    bed.cluster.until("the stale one leads", 5_000, |cluster| {
        cluster.image(stale).partition(partition).is_some_and(|info| info.leader == Some(NodeId(stale)))
    });
    bed.sequence = 1;
    assert_eq!(bed.append("d"), 1);
    bed.cluster.start(leader);
    bed.until_in_sync(&[2, 3], 10_000);
    bed.cluster.pass(100);
    for node in [2, 3] {
        assert_eq!(bed.read(node).1, ["a", "d"], "node {node}");
    }
}

fn commit(offset: i64) -> GroupRequest {
    let offset = CommitOffset {
        topic: name("t"),
        partition: PartitionIndex::new(0),
        offset,
        leader_epoch: None,
        metadata: String::new(),
    };
    GroupRequest::CommitOffsets(CommitOffsets {
        version: 10,
        member_id: None,
        instance_id: None,
        generation: None,
        retention_ms: None,
        offsets: vec![offset],
    })
}

#[test]
fn groups_go_on_at_another_node_when_their_coordinator_dies() {
    let mut bed = Bed::new();
    let group = GroupId::new("g");
    let mut coordinator = None;
    bed.cluster.until("the group has a coordinator", 5_000, |cluster| {
        coordinator = cluster.call(1, |node, now, fx| node.group_coordinator(now, &group, fx));
        coordinator.is_some()
    });
    let first = coordinator.expect("found").0;
    let ask = |bed: &mut Bed, node: i32, request: GroupRequest| {
        let group = GroupId::new("g");
        let asked = bed.cluster.ask(node, |node, now, reply, fx| node.group(now, group, request, reply, fx));
        match bed.cluster.answer(asked, 5_000) {
            Answer::Group(answer) => answer,
            other => panic!("{other:?}"),
        }
    };
    bed.cluster.pass(500);
    for offset in [7, 8, 9] {
        match ask(&mut bed, first, commit(offset)) {
            GroupAnswer::CommitOffsets(Ok(errors)) => assert_eq!(errors, [None]),
            other => panic!("{other:?}"),
        }
    }
    let elsewhere = THREE.into_iter().find(|node| *node != first).expect("three");
    let refused = ask(&mut bed, elsewhere, commit(10));
    assert!(matches!(refused, GroupAnswer::CommitOffsets(Err(_))), "{refused:?}");
    bed.cluster.kill(first);
    let mut next = first;
    let took = bed.cluster.until("another node coordinates", 2_000, |cluster| {
        let group = GroupId::new("g");
        let found = cluster.call(elsewhere, |node, now, fx| node.group_coordinator(now, &group, fx));
        next = found.map_or(first, |found| found.0);
        next != first
    });
    assert!(took < Duration::from_millis(500), "{took:?}");
    bed.cluster.pass(100);
    let topics = Some(vec![FetchTopic { topic: name("t"), partitions: vec![PartitionIndex::new(0)] }]);
    let fetch = FetchOffsets { member_id: None, member_epoch: -1, topics, require_stable: false };
    match ask(&mut bed, next, GroupRequest::FetchOffsets(fetch)) {
        GroupAnswer::FetchOffsets(Ok(topics)) => {
            let of = |topic: &FetchedTopic| topic.partitions[0].committed.as_ref().map(|found| found.offset);
            assert_eq!(topics.iter().map(of).collect::<Vec<_>>(), [Some(9)]);
        }
        other => panic!("{other:?}"),
    }
    match ask(&mut bed, next, commit(11)) {
        GroupAnswer::CommitOffsets(Ok(errors)) => assert_eq!(errors, [None]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn many_partitions_are_replicated_at_once() {
    let mut bed = Bed::with(60, &[]);
    let image = bed.cluster.image(1);
    let topic = image.topic(&name("t")).expect("created");
    let mut requests = Vec::new();
    for (index, info) in topic.partitions() {
        let partition = TopicPartition { topic: topic.id, partition: index };
        let batch = BatchBuilder::new().record(1_000, None, Some(b"v"), &[]).finish();
        let leader = info.leader.expect("led").0;
        requests.push(bed.cluster.ask(leader, |node, now, reply, fx| {
            let parts = vec![ProducePart { partition, batch }];
            node.produce(now, Produce { acks: Acks::All, timeout: Duration::from_secs(9), parts, reply }, fx);
        }));
    }
    for request in requests {
        assert!(bed.result(request, 1_000).is_ok());
    }
}

#[test]
fn two_runs_of_one_script_are_the_same_to_the_byte() {
    let run = || {
        let mut bed = Bed::new();
        for value in ["a", "b", "c"] {
            bed.append(value);
        }
        let gone = bed.leader();
        bed.cluster.kill(gone);
        bed.cluster.pass(500);
        bed.cluster.start(gone);
        bed.until_in_sync(&THREE, 3_000);
        bed.cluster.trace
    };
    assert_eq!(run(), run());
}

//! Several nodes in one process: how they found a cluster, elect a controller, register, and notice who dies.
//!
//! All time is the time of that world: the figures are what the protocols need, with 0.15 ms a frame and 0.4 ms a write.

mod cluster;

use std::time::Duration;

use cluster::{Cluster, name};
use model::{ErrorCode, NodeId};
use node::requests::{Answer, ControllerAnswer, ControllerRequest};

const THREE: [i32; 3] = [1, 2, 3];

fn millis(time: Duration) -> u128 {
    time.as_millis()
}

fn others(of: i32) -> Vec<i32> {
    THREE.into_iter().filter(|node| *node != of).collect()
}

fn is_fenced(cluster: &Cluster, seen_by: i32, node: i32) -> bool {
    cluster.image(seen_by).node(NodeId(node)).is_some_and(|info| info.fenced)
}

/// How many partitions of the topic lead nowhere, or to this node, as another one sees it.
fn led_badly(cluster: &Cluster, seen_by: i32, topic: &str, gone: i32) -> usize {
    let image = cluster.image(seen_by);
    let topic = image.topic(&name(topic)).expect("it is there");
    let bad = |leader: Option<NodeId>| leader.is_none_or(|leader| leader == NodeId(gone));
    topic.partitions.iter().filter(|partition| bad(partition.leader)).count()
}

/// Three founders with a topic of 12 partitions that all nodes know.
fn with_topic() -> Cluster {
    let mut cluster = Cluster::founded(&THREE);
    let request = cluster.create_topic(2, "t", 12);
    assert!(matches!(cluster.answer(request, 1_000), Answer::TopicsCreated(answers) if answers[0].is_ok()));
    cluster.until("all know the topic", 200, |cluster| {
        THREE.iter().all(|node| cluster.image(*node).topic(&name("t")).is_some())
    });
    cluster
}

#[test]
fn three_empty_nodes_are_one_cluster_in_less_than_half_a_second() {
    let mut cluster = Cluster::new(&THREE);
    THREE.iter().for_each(|node| cluster.start(*node));
    let time = cluster.until("all are ready", 500, |cluster| THREE.iter().all(|node| cluster.is_ready(*node)));
    assert!(millis(time) < 200, "{time:?}");
    let images = THREE.map(|node| cluster.image(node));
    assert!(images.iter().all(|image| image.cluster_id() == images[0].cluster_id()));
    assert_eq!(images[0].voters(), THREE.map(NodeId));
    cluster
        .until("all know all", 500, |cluster| THREE.iter().all(|node| cluster.image(*node).live_nodes().count() == 3));
    assert_eq!(cluster.controller(), Some(1));
}

#[test]
fn while_one_founder_is_silent_nothing_is_founded() {
    let mut cluster = Cluster::new(&THREE);
    [1, 2].iter().for_each(|node| cluster.start(*node));
    cluster.pass(3_000);
    assert!(!cluster.is_ready(1) && !cluster.is_ready(2));
    assert!(cluster.node(1).waiting().is_some_and(|why| why.to_string().contains("node3:9093")));
    cluster.start(3);
    cluster.until("all are ready", 1_500, |cluster| THREE.iter().all(|node| cluster.is_ready(*node)));
}

#[test]
fn a_topic_that_any_node_was_asked_for_is_in_its_image_when_it_answers() {
    let mut cluster = Cluster::founded(&THREE);
    for node in THREE {
        let topic = format!("t{node}");
        let request = cluster.create_topic(node, &topic, 6);
        match cluster.answer(request, 500) {
            Answer::TopicsCreated(answers) => {
                assert_eq!(answers[0].as_ref().map(|topic| topic.replication_factor), Ok(3))
            }
            other => panic!("{other:?}"),
        }
        let image = cluster.image(node);
        let topic = image.topic(&name(&topic)).expect("its own writes are read");
        assert!(topic.partitions.iter().all(|partition| partition.isr.len() == 3 && partition.leader.is_some()));
    }
}

#[test]
fn producer_ids_that_all_nodes_hand_out_are_distinct() {
    let mut cluster = Cluster::founded(&THREE);
    let mut ids = Vec::new();
    for round in 0..3 {
        for node in THREE {
            let request = cluster.ask(node, |node, now, reply, fx| node.init_producer_id(now, reply, fx));
            match cluster.answer(request, 500) {
                Answer::ProducerId(Ok((id, _))) => ids.push(id),
                other => panic!("round {round}: {other:?}"),
            }
        }
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), count), (9, 9));
}

#[test]
fn a_killed_controller_is_followed_by_another_within_200_ms_and_all_partitions_are_led() {
    let mut cluster = with_topic();
    let gone = cluster.controller().expect("they agree");
    cluster.kill(gone);
    let time = cluster.until("the partitions are led by others", 500, |cluster| {
        others(gone).iter().all(|node| led_badly(cluster, *node, "t", gone) == 0)
    });
    assert!(millis(time) <= 200, "{time:?}");
    assert!(others(gone).iter().all(|node| is_fenced(&cluster, *node, gone)));
    assert!(cluster.controller().is_some_and(|controller| controller != gone));
}

#[test]
fn a_node_that_hears_of_no_controller_says_for_how_long() {
    let mut cluster = Cluster::founded(&THREE);
    let without = |cluster: &mut Cluster, node| cluster.call(node, |node, now, _| node.without_controller(now));
    cluster.pass(2_000);
    for node in THREE {
        assert_eq!(without(&mut cluster, node), None);
    }
    let controller = cluster.controller().expect("they agree");
    let [left, gone] = others(controller)[..] else { panic!("three nodes") };
    // One of three changes nothing for the rest.
    cluster.kill(controller);
    cluster.pass(2_000);
    assert_eq!((without(&mut cluster, left), without(&mut cluster, gone)), (None, None));
    cluster.kill(gone);
    cluster.pass(12_000);
    let lost = without(&mut cluster, left).expect("it is alone");
    assert!((8_000..=12_000).contains(&millis(lost)), "{lost:?}");
    cluster.start(gone);
    cluster.until("there is one again", 3_000, |cluster| without(cluster, left).is_none());
}

#[test]
fn a_killed_node_that_does_not_control_is_fenced_within_100_ms() {
    let mut cluster = with_topic();
    let controller = cluster.controller().expect("they agree");
    let gone = others(controller)[0];
    cluster.kill(gone);
    let time = cluster.until("it is fenced", 500, |cluster| is_fenced(cluster, controller, gone));
    assert!(millis(time) <= 100, "{time:?}");
    assert_eq!(led_badly(&cluster, controller, "t", gone), 0);
}

#[test]
fn a_restarted_node_is_a_member_again_under_a_new_start() {
    let mut cluster = with_topic();
    let before = cluster.image(1).node(NodeId(3)).map(|info| info.incarnation);
    cluster.kill(3);
    cluster.until("it is fenced", 500, |cluster| is_fenced(cluster, 1, 3));
    cluster.start(3);
    cluster.until("it is ready", 500, |cluster| cluster.is_ready(3));
    cluster.until("the others see it", 500, |cluster| !is_fenced(cluster, 1, 3) && !is_fenced(cluster, 2, 3));
    assert_ne!(cluster.image(1).node(NodeId(3)).map(|info| info.incarnation), before);
    assert!(cluster.image(3).topic(&name("t")).is_some());
}

#[test]
fn a_node_that_restarts_faster_than_it_is_missed_leads_nothing_in_its_old_epochs() {
    let mut cluster = with_topic();
    let controller = cluster.controller().expect("they agree");
    for node in [others(controller)[0], controller] {
        let before = cluster.image(node);
        cluster.kill(node);
        cluster.pass(10);
        cluster.start(node);
        cluster.until("it is ready", 1_000, |cluster| cluster.is_ready(node));
        let after = cluster.image(node);
        let topic =
            |image: &replication::metadata::Image| image.topic(&name("t")).map(|topic| topic.partitions.clone());
        let both = topic(&before).expect("it was there").into_iter().zip(topic(&after).expect("it is there"));
        for (before, after) in both.filter(|(before, _)| before.leader == Some(NodeId(node))) {
            assert!(after.leader_epoch > before.leader_epoch, "{before:?} {after:?}");
        }
    }
}

#[test]
fn a_paused_controller_is_replaced_within_2_5_s_and_is_let_in_again() {
    let mut cluster = with_topic();
    let stopped = cluster.controller().expect("they agree");
    let rest = others(stopped);
    cluster.pause(stopped);
    let time = cluster.until("the partitions are led by others", 4_000, |cluster| {
        rest.iter().all(|node| led_badly(cluster, *node, "t", stopped) == 0)
    });
    assert!(millis(time) <= 2_000, "{time:?}");
    cluster.pass(3_000);
    cluster.resume(stopped);
    cluster.until("it is a member again", 2_000, |cluster| {
        THREE.iter().all(|node| cluster.image(*node).live_nodes().count() == 3) && cluster.controller().is_some()
    });
    assert_ne!(cluster.controller(), Some(stopped));
    assert_eq!(cluster.fatal(stopped), None);
}

#[test]
fn a_paused_follower_is_fenced_and_comes_back() {
    let mut cluster = with_topic();
    let controller = cluster.controller().expect("they agree");
    let stopped = others(controller)[1];
    cluster.pause(stopped);
    let time = cluster.until("it is fenced", 3_000, |cluster| is_fenced(cluster, controller, stopped));
    assert!((1_400..=1_700).contains(&millis(time)), "{time:?}");
    cluster.resume(stopped);
    cluster.until("it is let in", 1_000, |cluster| !is_fenced(cluster, controller, stopped));
    assert_eq!(cluster.controller(), Some(controller));
}

#[test]
fn idle_nodes_stay_members() {
    let mut cluster = with_topic();
    let controller = cluster.controller();
    for _ in 0..40 {
        cluster.pass(500);
        assert!(THREE.iter().all(|node| cluster.image(*node).live_nodes().count() == 3));
        assert_eq!(cluster.controller(), controller);
    }
}

#[test]
fn after_all_were_killed_at_once_they_are_ready_in_half_a_second() {
    let mut cluster = with_topic();
    THREE.iter().for_each(|node| cluster.kill(*node));
    cluster.pass(100);
    THREE.iter().for_each(|node| cluster.start(*node));
    let time = cluster.until("all are ready", 2_000, |cluster| THREE.iter().all(|node| cluster.is_ready(*node)));
    assert!(millis(time) <= 500, "{time:?}");
    cluster.until("all partitions are led", 500, |cluster| led_badly(cluster, 1, "t", 0) == 0);
}

#[test]
fn a_node_that_was_no_founder_joins_and_learns() {
    let mut cluster = with_topic();
    cluster.start(4);
    let time = cluster.until("it is ready", 1_000, |cluster| cluster.is_ready(4));
    assert!(millis(time) <= 500, "{time:?}");
    assert!(cluster.image(4).topic(&name("t")).is_some());
    let request = cluster.create_topic(4, "u", 3);
    assert!(matches!(cluster.answer(request, 500), Answer::TopicsCreated(answers) if answers[0].is_ok()));
    assert_eq!(cluster.image(1).voters(), THREE.map(NodeId));
}

#[test]
fn a_node_that_does_not_know_where_the_controller_is_joins_even_so() {
    let mut cluster = with_topic();
    let controller = cluster.controller().expect("they agree");
    cluster.set_join(&others(controller)[..1]);
    cluster.start(4);
    cluster.until("it is ready", 1_000, |cluster| cluster.is_ready(4));
    assert!(!is_fenced(&cluster, controller, 4));
}

#[test]
fn a_cluster_of_one_that_grows_to_three_survives_its_founder() {
    let mut cluster = Cluster::founded(&[1]);
    let request = cluster.create_topic(1, "t", 3);
    assert!(matches!(cluster.answer(request, 500), Answer::TopicsCreated(answers) if answers[0].is_ok()));
    [2, 3].iter().for_each(|node| cluster.start(*node));
    let voters = |cluster: &Cluster, node: i32| cluster.image(node).voters().to_vec();
    cluster.until("three vote", 2_000, |cluster| THREE.iter().all(|node| voters(cluster, *node) == THREE.map(NodeId)));
    // Until the change is over, the sole voter before it must agree to everything.
    cluster.pass(100);
    cluster.kill(1);
    cluster.until("there is another controller", 500, |cluster| cluster.controller().is_some_and(|node| node != 1));
    cluster.start(1);
    cluster.until("it is back", 1_500, |cluster| cluster.is_ready(1));
}

#[test]
fn a_wiped_voter_is_a_new_member_and_votes_only_when_it_was_made_a_voter_again() {
    let mut cluster = with_topic();
    let controller = cluster.controller().expect("they agree");
    let wiped = others(controller)[0];
    cluster.kill(wiped);
    cluster.until("it is fenced", 500, |cluster| is_fenced(cluster, controller, wiped));
    cluster.wipe(wiped);
    cluster.start(wiped);
    cluster.until("it is ready", 3_000, |cluster| cluster.is_ready(wiped));
    cluster.until("it votes again", 5_000, |cluster| cluster.image(controller).voters() == THREE.map(NodeId));
    cluster.kill(others(controller)[1]);
    let request = cluster.create_topic(wiped, "u", 3);
    assert!(matches!(cluster.answer(request, 1_000), Answer::TopicsCreated(answers) if answers[0].is_ok()));
}

#[test]
fn a_controller_that_is_told_to_stop_hands_over_first() {
    let mut cluster = with_topic();
    let leaving = cluster.controller().expect("they agree");
    let rest = others(leaving);
    let request = cluster.ask(leaving, |node, now, reply, fx| node.shutdown(now, reply, fx));
    let time = cluster.until("others control and lead", 500, |cluster| {
        rest.iter().all(|node| {
            led_badly(cluster, *node, "t", leaving) == 0
                && cluster.image(*node).controller().is_some_and(|controller| controller != NodeId(leaving))
        })
    });
    assert!(millis(time) <= 150, "{time:?}");
    assert!(matches!(cluster.answer(request, 2_000), Answer::ShutDown));
    cluster.kill(leaving);
    cluster.start(leaving);
    cluster.until("it is back", 1_000, |cluster| cluster.is_ready(leaving));
}

#[test]
fn without_a_majority_requests_are_answered_when_their_time_is_over() {
    let mut cluster = with_topic();
    [2, 3].iter().for_each(|node| cluster.kill(*node));
    cluster.pass(200);
    let request = cluster.ask(1, |node, now, reply, fx| {
        let request = ControllerRequest::AllocateProducerIds { node: NodeId(1) };
        node.ask_controller(now, request, Duration::from_secs(2), reply, fx);
    });
    match cluster.answer(request, 2_500) {
        Answer::Controller(Err(refusal)) => assert_eq!(refusal.code, ErrorCode::RequestTimedOut),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_that_was_on_its_way_to_a_controller_that_dies_is_asked_again() {
    let mut cluster = with_topic();
    let gone = cluster.controller().expect("they agree");
    let from = others(gone)[1];
    let request = cluster.ask(from, |node, now, reply, fx| {
        let request = ControllerRequest::AllocateProducerIds { node: NodeId(from) };
        node.ask_controller(now, request, Duration::from_secs(5), reply, fx);
    });
    cluster.kill(gone);
    match cluster.answer(request, 500) {
        Answer::Controller(Ok(ControllerAnswer::ProducerIds { .. })) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_a_topic_that_was_on_its_way_it_is_said_that_nothing_is_certain() {
    let mut cluster = with_topic();
    let gone = cluster.controller().expect("they agree");
    let request = cluster.create_topic(others(gone)[0], "u", 1);
    cluster.kill(gone);
    match cluster.answer(request, 500) {
        Answer::TopicsCreated(answers) => {
            assert_eq!(answers[0].as_ref().map_err(|refusal| refusal.code), Err(ErrorCode::NotController));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_controller_that_is_cut_off_decides_nothing_and_follows_the_next_one() {
    let mut cluster = with_topic();
    let alone = cluster.controller().expect("they agree");
    let rest = others(alone);
    cluster.cut_off(alone);
    let lost = cluster.create_topic(alone, "lost", 1);
    cluster.until("there is another controller", 3_000, |cluster| {
        let seen = |node: &i32| cluster.image(*node).controller();
        rest.iter().all(|node| seen(node).is_some_and(|controller| controller != NodeId(alone)))
    });
    cluster.until("it is fenced", 2_000, |cluster| is_fenced(cluster, rest[0], alone));
    let made = cluster.create_topic(rest[0], "made", 1);
    assert!(matches!(cluster.answer(made, 1_000), Answer::TopicsCreated(answers) if answers[0].is_ok()));
    cluster.heal();
    match cluster.answer(lost, 2_000) {
        Answer::TopicsCreated(answers) => {
            assert_eq!(answers[0].as_ref().map_err(|refusal| refusal.code), Err(ErrorCode::NotController));
        }
        other => panic!("{other:?}"),
    }
    cluster.until("it is let in and knows what was decided", 2_000, |cluster| {
        !is_fenced(cluster, alone, alone) && cluster.image(alone).topic(&name("made")).is_some()
    });
    assert!(THREE.iter().all(|node| cluster.image(*node).topic(&name("lost")).is_none()));
}

#[test]
fn a_forwarded_request_that_the_controller_could_not_finish_is_not_asked_twice() {
    let mut cluster = with_topic();
    let alone = cluster.controller().expect("they agree");
    let from = others(alone)[0];
    let request = cluster.create_topic(from, "u", 1);
    // It arrives and is decided; the others get the entry, but what they say of it is not heard.
    cluster.pass_micros(200);
    cluster.cut_off(alone);
    match cluster.answer(request, 5_000) {
        Answer::TopicsCreated(answers) => {
            assert_eq!(answers[0].as_ref().map_err(|refusal| refusal.code), Err(ErrorCode::NotController));
        }
        other => panic!("{other:?}"),
    }
    cluster.until("the next controller commits it", 3_000, |cluster| cluster.image(from).topic(&name("u")).is_some());
}

#[test]
fn the_same_script_is_the_same_run() {
    let run = || {
        let mut cluster = with_topic();
        cluster.kill(1);
        cluster.pass(1_000);
        cluster.start(1);
        cluster.pass(1_000);
        cluster.trace
    };
    assert_eq!(run(), run());
}

#[test]
fn ten_thousand_partitions_have_leaders_soon_after_a_node_died() {
    let mut cluster = Cluster::founded(&THREE);
    for topic in 0..10 {
        let request = cluster.create_topic(1, &format!("t{topic}"), 1_000);
        assert!(matches!(cluster.answer(request, 20_000), Answer::TopicsCreated(answers) if answers[0].is_ok()));
    }
    let gone = cluster.controller().expect("they agree");
    let seen_by = others(gone);
    cluster.kill(gone);
    let led = |cluster: &mut Cluster| {
        seen_by.iter().all(|node| (0..10).all(|topic| led_badly(cluster, *node, &format!("t{topic}"), gone) == 0))
    };
    let until_fenced =
        |cluster: &mut Cluster| is_fenced(cluster, seen_by[0], gone) && is_fenced(cluster, seen_by[1], gone);
    let time = cluster.until("the node is fenced", 2_000, until_fenced);
    assert!(led(&mut cluster) && millis(time) <= 500, "{time:?}");
}

#[test]
fn a_silent_node_may_have_died_until_that_is_decided() {
    let mut cluster = Cluster::founded(&THREE);
    let doubted = |cluster: &Cluster| cluster.node(1).may_have_died(cluster.now, NodeId(3));
    cluster.pass(2_000);
    assert!(!doubted(&cluster), "it has nothing to say, and says so");
    cluster.pause(3);
    cluster.until("it is doubted", 1_000, |cluster| doubted(cluster));
    assert!(cluster.image(1).is_live(NodeId(3)));
    cluster.until("that is decided", 1_200, |cluster| !cluster.image(1).is_live(NodeId(3)));
    cluster.until("there is no doubt left", 1_000, |cluster| !doubted(cluster));
    cluster.resume(3);
    cluster.until("it lives", 2_000, |cluster| cluster.image(1).is_live(NodeId(3)));
    assert!(!doubted(&cluster));
}

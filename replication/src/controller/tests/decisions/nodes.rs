//! Deaths, returns, starts, orders and goodbyes of nodes.

use super::*;

/// What the partition `before` becomes when the nodes die one after the other.
fn check_deaths(config: &[(&str, &str)], before: &str, deaths: &str, expected: &str) {
    let mut world = World::new(4).topic("t", config, &[before]);
    nodes_of(deaths).into_iter().for_each(|node| world.fence(node.0));
    assert_eq!(world.show("t"), [expected], "{before}, dead: {deaths}");
}

#[test]
fn the_isr_leads_while_one_of_it_lives_and_then_nobody() {
    let min_1 = [("min.insync.replicas", "1")];
    check_deaths(&[], "123 isr 123 led 1", "1", "123 isr 23 led 2");
    check_deaths(&[], "123 isr 123 led 1", "2", "123 isr 13 led 1");
    check_deaths(&[], "123 isr 123 led 1", "12", "123 isr 3 elr 2 led 3");
    check_deaths(&[], "123 isr 123 led 1", "123", "123 elr 23");
    check_deaths(&min_1, "123 isr 123 led 1", "12", "123 isr 3 led 3");
    check_deaths(&min_1, "123 isr 123 led 1", "123", "123 elr 3");
    check_deaths(&[], "1 isr 1 led 1", "1", "1 elr 1");
    check_deaths(&[], "123 isr 13 led 1", "1", "123 isr 3 elr 1 led 3");
    check_deaths(&[], "123 isr 13 led 1", "2", "123 isr 13 led 1");
    check_deaths(&[], "123 isr 123 led 1", "4", "123 isr 123 led 1");
    // A reassignment goes on without the one that died.
    check_deaths(&[], "3412 +3 -12 isr 412 led 1", "1", "3412 +3 -12 isr 42 led 4");
}

#[test]
fn whoever_holds_all_that_was_acknowledged_leads_when_it_returns() {
    let table = [
        ("123 elr 23", "1", "123 elr 23"),
        ("123 elr 23", "2", "123 isr 2 elr 3 led 2"),
        ("123 elr 23", "3", "123 isr 3 elr 2 led 3"),
        ("123 elr 23", "12", "123 isr 2 elr 3 led 2"),
        ("1 elr 1", "1", "1 isr 1 led 1"),
        // Nobody is known to have everything: nobody leads by itself.
        ("123 last 1", "123", "123 last 1"),
        ("123", "123", "123"),
    ];
    for (before, returns, expected) in table {
        let mut world = World::new(3).dead("123").topic("t", &[], &[before]);
        nodes_of(returns).into_iter().for_each(|node| world.unfence(node.0));
        assert_eq!(world.show("t"), [expected], "{before}, back: {returns}");
        let led = world.partition("t", 0).leader.is_some();
        assert_eq!(world.partition("t", 0).leader_epoch, LeaderEpoch::new(if led { 5 } else { 4 }));
    }
}

#[test]
fn a_topic_that_does_not_flush_goes_on_with_its_last_leader_and_a_journalled_one_does_not() {
    for (flush, expected) in [("9", "123 isr 1 last 1 led 1"), ("1", "123 last 1")] {
        let mut world = World::new(3).dead("123").topic("t", &[("flush.messages", flush)], &["123 last 1"]);
        [2, 3, 1].into_iter().for_each(|node| world.unfence(node));
        assert_eq!(world.show("t"), [expected], "flush.messages={flush}");
    }
}

#[test]
fn a_replaced_disk_is_no_replica_that_has_anything() {
    let start = |world: &mut World, node: i32| {
        let info = NodeInfo { directory: [99; 16], incarnation: incarnation(90 + node), ..World::info(node) };
        assert_eq!(
            world.refused(&ControllerRequest::Register {
                node: NodeId(node),
                info,
                clean: false,
                lost: BTreeSet::new()
            }),
            None
        );
    };
    let table = [
        ("123 isr 123 led 1", "", 1, "123 isr 23 led 2"),
        ("123 isr 123 led 1", "", 3, "123 isr 12 led 1"),
        // Not even in the ELR: it does not hold what it held.
        ("123 isr 12 led 1", "", 1, "123 isr 2 led 2"),
        // Its records are gone, and no command said that the partition may go on without them.
        ("1 isr 1 led 1", "", 1, "1"),
        ("123 elr 13", "123", 1, "123 elr 3"),
        ("123 last 1", "123", 1, "123"),
    ];
    for (before, dead, node, expected) in table {
        let mut world = World::new(3).topic("t", &[("min.insync.replicas", "2")], &[before]).dead(dead);
        start(&mut world, node);
        assert_eq!(world.show("t"), [expected], "{before}, replaced: {node}");
        assert_eq!(world.image.duty(NodeId(node)), Duty::Joining, "it is to be given its share again");
    }
}

#[test]
fn a_start_without_what_one_partition_held_counts_for_the_others_only() {
    let held = "123 isr 123 led 1";
    let table = [
        (held, 1, "123 isr 23 led 2"),
        (held, 3, "123 isr 12 led 1"),
        ("123 isr 12 led 1", 1, "123 isr 2 led 2"),
        ("1 isr 1 led 1", 1, "1"),
    ];
    for (before, node, expected) in table {
        let mut world = World::new(3).topic("t", &[("min.insync.replicas", "2")], &[held, before]);
        let lost = BTreeSet::from([TopicPartition { topic: TopicId([1; 16]), partition: PartitionIndex::new(1) }]);
        let info = NodeInfo { incarnation: incarnation(90 + node), ..World::info(node) };
        assert_eq!(world.refused(&ControllerRequest::Register { node: NodeId(node), info, clean: true, lost }), None);
        assert_eq!(world.show("t"), [held, expected], "{before}, lost by {node}");
        assert_eq!(world.image.duty(NodeId(node)), Duty::Full, "the rest of its share is there");
    }
}

#[test]
fn a_start_that_cannot_work_at_a_finalised_level_is_refused() {
    let mut world = World::new(1);
    let old = NodeInfo { features: BTreeMap::from([("weir.metadata".into(), (1, 1))]), ..World::info(2) };
    let register = |info| ControllerRequest::Register { node: NodeId(2), info, clean: true, lost: BTreeSet::new() };
    assert_eq!(world.refused(&register(old)), Some(ErrorCode::UnsupportedVersion));
    assert_eq!(world.refused(&register(World::info(2))), None);
}

#[test]
fn a_later_start_cannot_be_fenced_or_unfenced_in_the_name_of_an_earlier_one() {
    let mut world = World::new(2).topic("t", &[], &["12 isr 12 led 1"]);
    let late = Incarnation([77; 16]);
    assert!(node_decisions::fence(&world.image, &[(NodeId(1), late)]).is_empty());
    let unfence = ControllerRequest::Unfence { node: NodeId(1), incarnation: late };
    assert_eq!(world.refused(&unfence), Some(ErrorCode::StaleBrokerEpoch));
    let unknown = ControllerRequest::Unfence { node: NodeId(9), incarnation: late };
    assert_eq!(world.refused(&unknown), Some(ErrorCode::BrokerIdNotRegistered));
}

#[test]
fn all_who_are_found_dead_at_the_same_time_are_known_to_have_all() {
    let table = [("1", "12 isr 12 led 1", "12 elr 12"), ("2", "123 isr 123 led 1", "123 isr 3 elr 12 led 3")];
    for (min, before, expected) in table {
        let mut world = World::new(3).topic("t", &[("min.insync.replicas", min)], &[before]);
        let dead = [1, 2].map(|node| (NodeId(node), World::info(node).incarnation));
        let groups = node_decisions::fence(&world.image, &dead);
        world.apply(&groups);
        assert_eq!(world.show("t"), [expected], "{before}");
        assert!(node_decisions::fence(&world.image, &dead).is_empty(), "they are fenced");
    }
}

#[test]
fn a_decision_that_was_cut_by_the_death_of_the_controller_is_repaired() {
    let table = [
        ("3", "123 isr 123 led 1", "123 isr 12 led 1"),
        ("1", "123 isr 123 led 1", "123 isr 23 led 2"),
        ("12", "123 isr 123 led 1", "123 isr 3 elr 12 led 3"),
        ("", "123 elr 23", "123 isr 2 elr 3 led 2"),
        ("", "123 isr 123 led 1", "123 isr 123 led 1"),
    ];
    for (dead, before, expected) in table {
        let mut world = World::new(3).topic("t", &[], &[before]).dead(dead);
        let groups = node_decisions::repair(&world.image);
        world.apply(&groups);
        assert_eq!(world.show("t"), [expected], "{before}, dead: {dead}");
        assert!(node_decisions::repair(&world.image).is_empty(), "an image that is whole needs no repair");
    }
}

#[test]
fn a_node_that_stops_hands_over_what_others_can_lead_and_is_not_elected_again() {
    let before = ["123 isr 123 led 1", "123 isr 12 led 2", "12 isr 1 elr 2 led 1", "1 isr 1 led 1", "123 isr 13 led 1"];
    let mut world = World::new(3).topic("t", &[("min.insync.replicas", "2")], &before);
    let request =
        |node: i32, what| ControllerRequest::HandOver { node: NodeId(node), incarnation: incarnation(node), what };
    let answer = world.ask(&request(1, HandOver::Stopping));
    assert_eq!(answer, Ok(ControllerAnswer::HandedOver { left: 2 }), "nobody else is in sync for two of them");
    let after =
        ["123 isr 23 led 2", "123 isr 2 elr 1 led 2", "12 isr 1 elr 2 led 1", "1 isr 1 led 1", "123 isr 3 elr 1 led 3"];
    assert_eq!(world.show("t"), after);
    assert!(!world.image.may_lead(NodeId(1)));
    assert!(election::balance_leaders(&world.image, 9).is_empty(), "it gets nothing back while it stops");
    // Once it started anew it may lead again.
    let info = NodeInfo { incarnation: incarnation(41), ..World::info(1) };
    assert_eq!(
        world.refused(&ControllerRequest::Register { node: NodeId(1), info, clean: true, lost: BTreeSet::new() }),
        None
    );
    assert!(world.image.may_lead(NodeId(1)));
    assert_eq!(world.refused(&request(1, HandOver::Stopping)), Some(ErrorCode::StaleBrokerEpoch));
}

#[test]
fn a_node_whose_disk_hangs_hands_over_and_leaves_the_isr_of_the_partitions_that_it_names() {
    let before = ["123 isr 123 led 1", "123 isr 123 led 1", "123 isr 123 led 2"];
    let mut world = World::new(3).topic("t", &[], &before);
    let topic = world.image.topic(&name("t")).expect("it is there").id;
    let place = |partition| TopicPartition { topic, partition: PartitionIndex::new(partition) };
    let what = HandOver::Partitions(vec![place(0), place(2), place(9)]);
    let request = ControllerRequest::HandOver { node: NodeId(1), incarnation: incarnation(1), what };
    assert_eq!(world.ask(&request), Ok(ControllerAnswer::HandedOver { left: 0 }));
    assert_eq!(world.show("t"), ["123 isr 23 led 2", "123 isr 123 led 1", "123 isr 23 led 2"]);
    assert_eq!(world.partition("t", 0).leader_epoch, LeaderEpoch::new(5));
}

#[test]
fn a_drained_node_leads_only_what_nobody_else_can() {
    let before = ["123 isr 123 led 1", "1 isr 1 led 1", "213 isr 213 led 2"];
    let mut world = World::new(3).topic("t", &[], &before);
    world.order(1, Duty::Drained);
    assert_eq!(world.show("t"), ["123 isr 123 led 2", "1 isr 1 led 1", "213 isr 213 led 2"]);
    world.fence(2);
    assert_eq!(world.show("t"), ["123 isr 13 led 3", "1 isr 1 led 1", "213 isr 13 led 3"]);
    world.fence(3);
    assert_eq!(world.show("t")[0], "123 isr 1 elr 3 led 1", "better the drained one than none");
    let create = ControllerRequest::CreateTopics {
        topics: vec![NewTopic { replication_factor: Some(1), ..NewTopic::with_defaults(name("n")) }],
        validate_only: false,
    };
    assert_eq!(world.refused(&create), Some(ErrorCode::InvalidReplicationFactor), "it takes no new replicas");
    world.order(1, Duty::Full);
    assert_eq!(world.refused(&create), None);
    let progress = orders::progress(&world.image);
    assert_eq!((progress[&NodeId(1)].leads, progress[&NodeId(1)].replicas), (4, 4));
}

#[test]
fn a_dead_node_is_forgotten_unless_it_is_the_last_that_holds_something() {
    let unregister = ControllerRequest::UnregisterNode { node: NodeId(3) };
    let remove = ControllerRequest::RemoveNode { node: NodeId(3) };
    let mut world = World::new(3).topic("t", &[], &["123 isr 123 led 1"]);
    assert_eq!(world.refused(&unregister), Some(ErrorCode::InvalidRequest), "it lives");
    world.fence(3);
    assert_eq!(world.refused(&remove), Some(ErrorCode::InvalidRequest), "it is a replica");
    assert_eq!(world.refused(&unregister), None);
    assert_eq!((world.show("t"), world.image.node(NodeId(3))), (vec!["123 isr 12 led 1".to_owned()], None));
    assert_eq!(world.refused(&unregister), Some(ErrorCode::BrokerIdNotRegistered));

    let mut world = World::new(3).topic("t", &[], &["123 elr 3"]).dead("3");
    assert_eq!(world.refused(&unregister), Some(ErrorCode::InvalidRequest), "its records would be lost");
    let mut world = World::new(3).topic("t", &[], &["123 isr 1 elr 3 led 1"]).dead("3");
    assert_eq!(world.refused(&unregister), None);
    assert_eq!(world.show("t"), ["123 isr 1 led 1"]);
    let mut world = World::new(3).topic("t", &[], &["12 isr 12 led 1"]).dead("3");
    assert_eq!(world.refused(&remove), None);
}

#[test]
fn orders_need_the_level_of_the_metadata_that_has_them() {
    let mut world = World::new(2).topic("t", &[], &["12 isr 12 led 1"]);
    world.apply(&[vec![Fact::FeatureLevelSet { name: "weir.metadata".into(), level: 1 }]]);
    let order = ControllerRequest::SetDuty { node: NodeId(1), duty: Duty::Drained };
    assert_eq!(world.refused(&order), Some(ErrorCode::UnsupportedVersion));
    // A stop hands over all the same.
    let stop = ControllerRequest::HandOver { node: NodeId(1), incarnation: incarnation(1), what: HandOver::Stopping };
    assert_eq!(world.refused(&stop), None);
    assert_eq!(world.show("t"), ["12 isr 2 led 2"]);
    assert!(world.image.may_lead(NodeId(1)));
}

//! CreatePartitions, and where new partitions and topics go.

use super::*;

fn more(topic: &str, total: u32, assignment: &[&str]) -> ControllerRequest {
    let assignment = assignment.iter().map(|nodes| nodes_of(nodes)).collect();
    let topics = vec![MorePartitions { topic: name(topic), total, assignment }];
    ControllerRequest::CreatePartitions { topics, validate_only: false }
}

#[test]
fn partitions_are_added_with_the_factor_of_the_topic() {
    let mut world = World::new(4).topic("t", &[], &["123 isr 123 led 1"]);
    assert_eq!(world.refused(&more("t", 4, &[])), None);
    let shown = world.show("t");
    assert_eq!((shown.len(), shown[0].as_str()), (4, "123 isr 123 led 1"));
    let topic = world.image.topic(&name("t")).expect("it is there");
    assert!(topic.partitions.iter().all(|partition| partition.replicas.len() == 3 && partition.isr.len() == 3));
    assert_eq!(world.refused(&more("t", 6, &["124", "431"])), None);
    assert_eq!(world.show("t")[4..], ["124 isr 124 led 1", "431 isr 431 led 4"]);
}

#[test]
fn what_cannot_be_added_is_refused_with_kafkas_code() {
    let table = [
        (more("t", 2, &[]), ErrorCode::InvalidPartitions),
        (more("t", 1, &[]), ErrorCode::InvalidPartitions),
        (more("t", 1_000_000, &[]), ErrorCode::InvalidPartitions),
        (more("x", 9, &[]), ErrorCode::UnknownTopicOrPartition),
        (more("t", 4, &["12"]), ErrorCode::InvalidReplicaAssignment),
        (more("t", 3, &["1"]), ErrorCode::InvalidReplicaAssignment),
        (more("t", 3, &["19"]), ErrorCode::InvalidReplicaAssignment),
        (more("t", 3, &["11"]), ErrorCode::InvalidReplicaAssignment),
        (more("t", 3, &["33"]), ErrorCode::InvalidReplicaAssignment),
        (more("__consumer_offsets", 3, &[]), ErrorCode::InvalidPartitions),
    ];
    for (request, code) in table {
        let mut world = World::new(3).topic("t", &[], &["12 isr 12 led 1", "12 isr 12 led 1"]).topic(
            "__consumer_offsets",
            &[],
            &["1 isr 1 led 1"],
        );
        assert_eq!(world.refused(&request), Some(code), "{request:?}");
    }
    let mut world = World::new(3).topic("t", &[], &["12 isr 12 led 1"]);
    let ControllerRequest::CreatePartitions { topics, .. } = more("t", 2, &[]) else { panic!("CreatePartitions") };
    let validated = ControllerRequest::CreatePartitions { topics: topics.clone(), validate_only: true };
    assert_eq!((world.refused(&validated), world.show("t").len()), (None, 1));
    let twice = ControllerRequest::CreatePartitions { topics: [topics.clone(), topics].concat(), validate_only: false };
    assert_eq!(world.refused(&twice), Some(ErrorCode::InvalidRequest));
    let mut world = World::new(3).topic("t", &[], &["123 isr 12 led 1"]).dead("3");
    assert_eq!(world.refused(&more("t", 2, &[])), Some(ErrorCode::InvalidReplicationFactor), "two nodes live");
}

#[test]
fn new_replicas_go_neither_to_dead_nodes_nor_to_those_that_stop_or_leave_and_to_all_racks() {
    let mut world = World::in_racks(&[(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c"), (6, "c"), (7, "a")]);
    world.fence(1);
    world.order(3, Duty::Drained);
    world.order(5, Duty::Leaving);
    let stop = ControllerRequest::HandOver { node: NodeId(7), incarnation: incarnation(7), what: HandOver::Stopping };
    assert_eq!(world.refused(&stop), None);
    let topic = NewTopic { partitions: Some(12), ..NewTopic::with_defaults(name("t")) };
    assert_eq!(world.refused(&ControllerRequest::CreateTopics { topics: vec![topic], validate_only: false }), None);
    let topic = world.image.topic(&name("t")).expect("it was created");
    for partition in &topic.partitions {
        let mut replicas = partition.replicas.clone();
        replicas.sort_unstable();
        assert_eq!(replicas, nodes_of("246"));
        assert_eq!(partition.leader, partition.replicas.first().copied());
    }
}

#[test]
fn one_request_makes_a_bounded_number_of_partitions_in_all_its_topics() {
    let new = |at: u32, count| NewTopic { partitions: count, ..NewTopic::with_defaults(name(&format!("n{at}"))) };
    let create = |topics: &[NewTopic]| {
        let topics = topics.to_vec();
        ControllerRequest::CreateTopics { topics, validate_only: false }
    };
    let mut world = World::new(3);
    let largest: Vec<NewTopic> = (0..5).map(|at| new(at, Some(20_000))).collect();
    assert_eq!(topics::check_size(&world.image, &largest), Ok(()));
    let beyond = [largest.clone(), vec![new(5, None)]].concat();
    let by_hand = NewTopic { assignment: vec![nodes_of("123")], ..new(5, None) };
    for request in [create(&beyond), create(&[largest.clone(), vec![by_hand]].concat())] {
        let refusal = world.ask(&request).expect_err("100,001 partitions");
        assert_eq!(refusal.code, ErrorCode::PolicyViolation);
        for told in ["100001 are asked for", "at most 100000", "several requests"] {
            assert!(refusal.message.contains(told), "{refusal}");
        }
    }
    // What no topic may have is that topic's fault alone.
    let request = create(&[beyond[4].clone(), new(9, Some(200_000))]);
    let ControllerAnswer::TopicsCreated(answers) = world.ask(&request).expect("it is small") else { panic!("topics") };
    assert!(answers[0].is_ok() && answers[1].as_ref().is_err_and(|one| one.code == ErrorCode::InvalidPartitions));
}

#[test]
fn one_request_adds_a_bounded_number_of_partitions_to_all_its_topics() {
    let mut world = (0..6).fold(World::new(3), |world, at| world.topic(&format!("t{at}"), &[], &["1 isr 1 led 1"]));
    let more = |totals: &[u32]| -> Vec<MorePartitions> {
        let one = |(at, total): (usize, &u32)| MorePartitions {
            topic: name(&format!("t{at}")),
            total: *total,
            assignment: Vec::new(),
        };
        totals.iter().enumerate().map(one).collect()
    };
    let largest = more(&[20_000, 20_000, 20_000, 20_000, 20_000, 6, 20_000]);
    assert_eq!(more_partitions::check_size(&world.image, &largest), Ok(()), "t6 does not exist");
    let topics = more(&[20_000, 20_000, 20_000, 20_000, 20_000, 7]);
    let refusal = world.ask(&ControllerRequest::CreatePartitions { topics, validate_only: true });
    let refusal = refusal.expect_err("100,001 new partitions");
    assert_eq!(refusal.code, ErrorCode::PolicyViolation);
    assert!(refusal.message.contains("100001 are asked for"), "{refusal}");
}

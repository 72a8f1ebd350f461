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

//! AlterPartitionReassignments: begun, carried on, replaced, cancelled, completed.

use super::*;

/// What is asked, one after the other: `>345` moves there, `x` cancels, `345` is the leader's next ISR. What holds in the end.
fn check(before: &str, steps: &[&str], expected: &str) {
    let mut world = World::new(6).topic("t", &[], &[before]);
    for step in steps {
        match step.strip_prefix('>') {
            Some(target) => assert_eq!(world.refused(&move_to("t", 0, Some(target))), None, "{before} {step}"),
            None if *step == "x" => assert_eq!(world.refused(&move_to("t", 0, None)), None, "{before} {step}"),
            None => world.set_isr("t", 0, step),
        }
    }
    assert_eq!(world.show("t"), [expected], "{before} {steps:?}");
}

#[test]
fn old_replicas_stay_until_all_the_new_ones_are_in_sync() {
    let before = "123 isr 123 led 1";
    check(before, &[">456"], "456123 +456 -123 isr 123 led 1");
    check(before, &[">456", "4123"], "456123 +456 -123 isr 4123 led 1");
    check(before, &[">456", "4123", "45123"], "456123 +456 -123 isr 45123 led 1");
    check(before, &[">456", "456123"], "456 isr 456 led 4");
    check(before, &[">134", "1234"], "134 isr 134 led 1");
    check(before, &[">412", "1234"], "412 isr 412 led 1");
    // Another order alone, or fewer: at once.
    check(before, &[">321"], "321 isr 321 led 1");
    check(before, &[">12"], "12 isr 12 led 1");
    check(before, &[">2"], "2 isr 2 led 2");
    check("123 isr 13 led 1", &[">1"], "1 isr 1 led 1");
    // The only one that stays is not in sync.
    check("123 isr 13 led 1", &[">2"], "213 -13 isr 13 led 1");
    check("123 isr 13 led 1", &[">2", "123"], "2 isr 2 led 2");
    // More of them.
    check("1 isr 1 led 1", &[">123"], "123 +23 isr 1 led 1");
    check("1 isr 1 led 1", &[">123", "12"], "123 +23 isr 12 led 1");
    check("1 isr 1 led 1", &[">123", "123"], "123 isr 123 led 1");
}

#[test]
fn a_cancelled_reassignment_leaves_what_was_before() {
    let before = "123 isr 123 led 1";
    check(before, &[">145", "x"], "123 isr 123 led 1");
    check(before, &[">145", "1234", "x"], "123 isr 123 led 1");
    check(before, &[">12", ">123", "123"], "123 isr 123 led 1");
    check("123 isr 13 led 1", &[">2", "x"], "213 isr 13 led 1");
}

#[test]
fn another_reassignment_takes_the_place_of_the_one_under_way() {
    let before = "123 isr 123 led 1";
    check(before, &[">145", ">126"], "1263 +6 -3 isr 123 led 1");
    // What was added and is not wanted any more goes at once; what is still wanted keeps its place in the ISR.
    check(before, &[">145", "1234", ">146"], "14623 +46 -23 isr 1423 led 1");
    check(before, &[">145", "1234", ">126"], "1263 +6 -3 isr 123 led 1");
    check(before, &[">145", ">123"], "123 isr 123 led 1");
}

#[test]
fn a_reassignment_waits_for_the_minimum_of_the_isr_as_well() {
    let config = [("min.insync.replicas", "2")];
    let mut world = World::new(4).topic("t", &config, &["123 isr 123 led 1"]);
    assert_eq!(world.refused(&move_to("t", 0, Some("34"))), None);
    world.set_isr("t", 0, "124");
    assert_eq!(world.show("t"), ["3412 +4 -12 isr 412 led 1"], "4 alone would be fewer than 2");
    world.set_isr("t", 0, "1234");
    assert_eq!(world.show("t"), ["34 isr 34 led 3"]);
    // A lower minimum frees one that waits.
    let mut world = World::new(4).topic("t", &config, &["123 isr 123 led 1"]);
    assert_eq!(world.refused(&move_to("t", 0, Some("34"))), None);
    world.set_isr("t", 0, "124");
    assert_eq!(world.refused(&set(ConfigTarget::Topic(name("t")), "min.insync.replicas", "1")), None);
    assert_eq!(world.show("t"), ["34 isr 4 led 4"]);
}

#[test]
fn the_minimum_does_not_grow_with_replicas_that_are_only_being_added() {
    let mut world = World::new(6).topic("t", &[], &["123 isr 123 led 1", "1 isr 1 led 1"]);
    assert_eq!(world.refused(&move_to("t", 0, Some("456"))), None);
    assert_eq!(world.refused(&move_to("t", 1, Some("123"))), None);
    let topic = world.image.topic(&name("t")).expect("it is there");
    let min: Vec<usize> = topic.partitions.iter().map(|partition| topic.min_insync_replicas_of(partition)).collect();
    assert_eq!((min, topic.min_insync_replicas()), (vec![2, 1], 2));
}

#[test]
fn what_cannot_be_asked_for_is_refused_with_kafkas_code() {
    let fixed = |replicas: &str| {
        let one = Reassignment { partition: named("t", 0), replicas: Some(nodes_of(replicas)) };
        ControllerRequest::Reassign { partitions: vec![one], allow_factor_change: false }
    };
    let table = [
        (move_to("t", 0, None), ErrorCode::NoReassignmentInProgress),
        (move_to("t", 0, Some("")), ErrorCode::InvalidReplicaAssignment),
        (move_to("t", 0, Some("11")), ErrorCode::InvalidReplicaAssignment),
        (move_to("t", 0, Some("19")), ErrorCode::InvalidReplicaAssignment),
        (move_to("t", 9, Some("12")), ErrorCode::UnknownTopicOrPartition),
        (move_to("x", 0, Some("12")), ErrorCode::UnknownTopicOrPartition),
        (fixed("12"), ErrorCode::InvalidReplicationFactor),
    ];
    for (request, code) in table {
        let mut world = World::new(4).topic("t", &[], &["123 isr 123 led 1"]);
        assert_eq!(world.refused(&request), Some(code), "{request:?}");
    }
    let mut world = World::new(4).topic("t", &[], &["123 isr 123 led 1"]);
    assert_eq!(world.refused(&fixed("423")), None);
    assert_eq!(world.refused(&fixed("421")), None, "the factor is what it was before the one under way");
}

#[test]
fn the_last_that_are_in_sync_are_never_given_up_with_a_cancel() {
    // All of the old ones died while the new one was in sync: cancelling would leave nobody.
    let mut world = World::new(4).topic("t", &[], &["412 +4 -12 isr 4 led 4"]).dead("12");
    assert_eq!(world.refused(&move_to("t", 0, None)), Some(ErrorCode::InvalidReplicaAssignment));
    assert_eq!(world.refused(&move_to("t", 0, Some("3"))), Some(ErrorCode::InvalidReplicaAssignment));
}

#[test]
fn a_replica_that_left_is_fenced_off_by_a_new_leader_epoch() {
    let mut world = World::new(4).topic("t", &[], &["123 isr 123 led 1"]);
    assert_eq!(world.refused(&move_to("t", 0, Some("134"))), None);
    assert_eq!(world.partition("t", 0).leader_epoch, LeaderEpoch::new(4));
    world.set_isr("t", 0, "1234");
    assert_eq!(world.partition("t", 0).leader_epoch, LeaderEpoch::new(5));
}

//! AlterPartition, and the ELR that follows from it.

use super::*;

fn world() -> World {
    World::new(4).topic("t", &[], &["123 isr 123 led 1"])
}

#[test]
fn an_isr_shrinks_below_the_minimum_and_the_elr_remembers_who_left() {
    // ISR that the leader asks for, one after the other; what holds then. The minimum is 2.
    let table = [
        (&["12"][..], "123 isr 12 led 1"),
        (&["1"], "123 isr 1 elr 23 led 1"),
        (&["12", "1"], "123 isr 1 elr 2 led 1"),
        (&["12", "1", "13"], "123 isr 13 led 1"),
        (&["1", "12"], "123 isr 12 led 1"),
        (&["31"], "123 isr 13 led 1"),
        (&["123"], "123 isr 123 led 1"),
    ];
    for (wanted, expected) in table {
        let mut world = world();
        wanted.iter().for_each(|isr| world.set_isr("t", 0, isr));
        assert_eq!(world.show("t"), [expected], "{wanted:?}");
        assert_eq!(world.partition("t", 0).leader_epoch, LeaderEpoch::new(4), "the leader goes on");
    }
}

#[test]
fn each_change_is_a_new_partition_epoch_and_no_change_is_none() {
    let mut world = world();
    for (isr, epoch) in [("123", 7), ("12", 8), ("12", 8), ("123", 9)] {
        let request = world.isr_change("t", 0, isr);
        assert_eq!(world.ask(&request), Ok(ControllerAnswer::IsrAltered(vec![Ok(epoch)])));
        assert_eq!(world.partition("t", 0).partition_epoch, epoch);
    }
}

type Spoil = fn(&mut IsrChange);

#[test]
fn what_the_leader_knows_must_be_what_holds() {
    let table: [(Spoil, ErrorCode); 9] = [
        (|change| change.leader_epoch = LeaderEpoch::new(3), ErrorCode::FencedLeaderEpoch),
        (|change| change.leader_epoch = LeaderEpoch::new(5), ErrorCode::NotController),
        (|change| change.partition_epoch = 6, ErrorCode::InvalidUpdateVersion),
        (|change| change.partition_epoch = 8, ErrorCode::NotController),
        (|change| change.partition.topic = TopicId([9; 16]), ErrorCode::UnknownTopicId),
        (|change| change.partition.partition = PartitionIndex::new(1), ErrorCode::UnknownTopicOrPartition),
        (|change| change.isr.retain(|(node, _)| *node != NodeId(1)), ErrorCode::InvalidRequest),
        (|change| change.isr.push((NodeId(4), incarnation(4))), ErrorCode::InvalidRequest),
        (|change| change.isr.push((NodeId(2), incarnation(2))), ErrorCode::InvalidRequest),
    ];
    for (at, (spoil, code)) in table.into_iter().enumerate() {
        let mut world = world();
        let ControllerRequest::AlterIsr { node, incarnation, mut changes } = world.isr_change("t", 0, "12") else {
            panic!("it is an AlterIsr");
        };
        changes.iter_mut().for_each(spoil);
        let request = ControllerRequest::AlterIsr { node, incarnation, changes };
        assert_eq!(world.refused(&request), Some(code), "row {at}");
    }
}

#[test]
fn nobody_but_the_leader_in_its_present_incarnation_changes_an_isr() {
    let table = [
        (NodeId(2), incarnation(2), ErrorCode::InvalidRequest),
        (NodeId(1), incarnation(9), ErrorCode::StaleBrokerEpoch),
        (NodeId(9), incarnation(9), ErrorCode::BrokerIdNotRegistered),
    ];
    for (node, incarnation, code) in table {
        let mut world = world();
        let ControllerRequest::AlterIsr { changes, .. } = world.isr_change("t", 0, "12") else { panic!("AlterIsr") };
        assert_eq!(world.refused(&ControllerRequest::AlterIsr { node, incarnation, changes }), Some(code));
    }
}

#[test]
fn a_member_must_live_in_the_incarnation_that_kept_up_and_must_not_be_about_to_stop() {
    let shrunk = || World::new(3).topic("t", &[], &["123 isr 12 led 1"]);
    let mut world = shrunk().dead("3");
    let request = world.isr_change("t", 0, "123");
    assert_eq!(world.refused(&request), Some(ErrorCode::IneligibleReplica));
    // It started anew since it was seen to keep up.
    let mut world = shrunk();
    let request = world.isr_change("t", 0, "123");
    let info = NodeInfo { incarnation: incarnation(33), ..World::info(3) };
    assert_eq!(
        world.refused(&ControllerRequest::Register { node: NodeId(3), info, clean: true, lost: BTreeSet::new() }),
        None
    );
    assert_eq!(world.refused(&request), Some(ErrorCode::IneligibleReplica));
    let request = world.isr_change("t", 0, "123");
    assert_eq!(world.refused(&request), None);
    // One that stops may stay, not come.
    let mut world = shrunk();
    let stop = ControllerRequest::HandOver { node: NodeId(3), incarnation: incarnation(3), what: HandOver::Stopping };
    assert_eq!(world.refused(&stop), None);
    let request = world.isr_change("t", 0, "123");
    assert_eq!(world.refused(&request), Some(ErrorCode::IneligibleReplica));
}

#[test]
fn one_partition_that_is_refused_does_not_hold_up_the_others() {
    let mut world = World::new(3).topic("t", &[], &["123 isr 123 led 1", "123 isr 123 led 1", "123 isr 123 led 1"]);
    let mut all = Vec::new();
    for (partition, isr) in [(0, "12"), (1, "23"), (2, "13"), (2, "13")] {
        let ControllerRequest::AlterIsr { changes, .. } = world.isr_change("t", partition, isr) else {
            panic!("AlterIsr")
        };
        all.extend(changes);
    }
    let request = ControllerRequest::AlterIsr { node: NodeId(1), incarnation: incarnation(1), changes: all };
    let Ok(ControllerAnswer::IsrAltered(answers)) = world.ask(&request) else { panic!("it is answered one by one") };
    let codes: Vec<Option<ErrorCode>> =
        answers.iter().map(|answer| answer.as_ref().err().map(|refusal| refusal.code)).collect();
    let refused = Some(ErrorCode::InvalidRequest);
    assert_eq!(codes, [None, refused, refused, refused]);
    assert_eq!(world.show("t"), ["123 isr 12 led 1", "123 isr 123 led 1", "123 isr 123 led 1"]);
}

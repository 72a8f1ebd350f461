//! Who is chosen to vote.

use super::*;
use crate::controller::voters::{Membership, VoterChange, VoterStep};

/// Voters and learners as digits; of the rest nothing is under way, everybody has caught up, nobody is silent.
fn members(voters: &str, learners: &str) -> Membership {
    let set = |digits: &str| nodes_of(digits).into_iter().collect();
    Membership {
        voters: set(voters),
        learners: set(learners),
        caught_up: set(&[voters, learners].concat()),
        ..Membership::default()
    }
}

fn chosen(world: &World, members: &Membership) -> String {
    let change = group::choose(&world.image, members, NodeId(1));
    let step = |step: &VoterStep| match step {
        VoterStep::Vote(node) => format!("vote {node}"),
        VoterStep::Learn(node) => format!("learn {node}"),
        VoterStep::Leave(node) => format!("leave {node}"),
    };
    change.map(|VoterChange(steps)| steps.iter().map(step).collect::<Vec<_>>().join(", ")).unwrap_or_default()
}

#[test]
fn three_vote_where_there_are_three_and_newcomers_learn_first() {
    // Nodes, voters, learners; what is due.
    let table = [
        (1, "1", "", ""),
        (2, "1", "", "learn 2"),
        (2, "1", "2", ""),
        (3, "1", "2", "learn 3"),
        (3, "1", "23", "vote 2, vote 3"),
        (3, "12", "3", "vote 3"),
        (2, "12", "", "learn 2"),
        (3, "12", "", "learn 3"),
        (3, "123", "", ""),
        (4, "123", "", "learn 4"),
        (4, "123", "4", ""),
        (5, "1234", "5", ""),
    ];
    for (nodes, voters, learners, expected) in table {
        assert_eq!(chosen(&World::new(nodes), &members(voters, learners)), expected, "{voters} and {learners}");
    }
    let behind = Membership { caught_up: nodes_of("12").into_iter().collect(), ..members("1", "23") };
    assert_eq!(chosen(&World::new(3), &behind), "");
    let changing = Membership { changing: true, ..members("1", "2") };
    assert_eq!(chosen(&World::new(3), &changing), "");
}

#[test]
fn a_voter_that_is_silent_for_long_or_leaves_is_replaced_by_a_learner() {
    let silent = Membership { silent: nodes_of("2").into_iter().collect(), ..members("123", "4") };
    assert_eq!(chosen(&World::new(4).dead("2"), &silent), "vote 4, learn 2");
    let nobody = Membership { learners: Default::default(), ..silent };
    assert_eq!(chosen(&World::new(3).dead("2"), &nobody), "");
    let mut world = World::new(4);
    world.order(3, Duty::Leaving);
    assert_eq!(chosen(&world, &members("123", "4")), "vote 4, learn 3");
    world.order(4, Duty::Drained);
    assert_eq!(chosen(&world, &members("123", "4")), "", "no other node is there to stay");
}

#[test]
fn one_in_a_rack_of_its_own_is_chosen_before_the_others() {
    let world = World::in_racks(&[(1, "a"), (2, "b"), (3, "a"), (4, "c")]);
    assert_eq!(chosen(&world, &members("12", "34")), "vote 4");
}

#[test]
fn one_that_was_removed_by_hand_stays_out_and_one_that_was_added_comes_in() {
    let vote = |node: i32, add: bool| match add {
        true => ControllerRequest::AddVoter { node: NodeId(node), directory: Some(incarnation(node).0) },
        false => ControllerRequest::RemoveVoter { node: NodeId(node), directory: None },
    };
    let mut world = World::new(3);
    world.image.set_members(nodes_of("123"), Vec::new());
    assert_eq!(world.refused(&vote(2, false)), None);
    assert_eq!(world.image.orders(NodeId(2)).voting, Voting::Never);
    assert_eq!(chosen(&world, &members("123", "")), "learn 2");
    assert_eq!(chosen(&world, &members("13", "2")), "");
    world.image.set_members(nodes_of("13"), nodes_of("2"));
    assert_eq!(world.refused(&vote(2, false)), Some(ErrorCode::VoterNotFound));
    assert_eq!(world.refused(&vote(1, true)), Some(ErrorCode::DuplicateVoter));
    assert_eq!(world.refused(&vote(9, true)), Some(ErrorCode::BrokerIdNotRegistered));
    let other = ControllerRequest::AddVoter { node: NodeId(2), directory: Some([99; 16]) };
    assert_eq!(world.refused(&other), Some(ErrorCode::InvalidVoterKey));
    assert_eq!(world.refused(&vote(2, true)), None);
    assert_eq!(chosen(&world, &members("13", "2")), "vote 2");
    let mut alone = World::new(1);
    alone.image.set_members(nodes_of("1"), Vec::new());
    assert_eq!(alone.refused(&vote(1, false)), Some(ErrorCode::InvalidRequest));
    // By hand there may be more than three.
    let mut world = World::new(5);
    world.image.set_members(nodes_of("123"), nodes_of("45"));
    assert_eq!(world.refused(&vote(4, true)), None);
    assert_eq!(chosen(&world, &members("123", "45")), "vote 4");
    assert_eq!(chosen(&world, &members("1234", "5")), "");
}

#[test]
fn a_voter_that_lives_votes_on_while_the_others_could_not_decide() {
    let remove = ControllerRequest::RemoveVoter { node: NodeId(1), directory: None };
    let removed = |nodes| {
        let mut world = World::new(nodes);
        world.image.set_members(nodes_of("123"), Vec::new());
        assert_eq!(world.refused(&remove), None);
        world
    };
    let world = removed(3).dead("2");
    assert_eq!(chosen(&world, &members("123", "")), "", "2 is dead, and 3 alone decides nothing");
    let silent = |nodes, members| Membership { silent: nodes_of(nodes).into_iter().collect(), ..members };
    assert_eq!(chosen(&removed(4).dead("2"), &members("123", "4")), "vote 4, learn 1");
    // A founder that is late counts as well.
    assert_eq!(chosen(&removed(2), &members("123", "")), "");
    assert_eq!(chosen(&removed(2), &silent("3", members("123", ""))), "leave 3");
    assert_eq!(chosen(&removed(2), &members("12", "")), "learn 1");
    // One that is decommissioned waits too.
    let mut world = World::new(5).dead("34");
    world.order(1, Duty::Leaving);
    assert_eq!(chosen(&world, &members("1234", "5")), "", "of 2, 3 and 4 only one lives");
    let mut world = World::new(5).dead("4");
    world.order(1, Duty::Leaving);
    assert_eq!(chosen(&world, &members("1234", "5")), "learn 1");
    assert_eq!(chosen(&world, &members("124", "35")), "vote 3, learn 1");
}

#[test]
fn a_voter_that_was_unregistered_leaves_at_once_and_before_another_one_may() {
    let mut world = World::new(3).dead("3");
    world.image.set_members(nodes_of("123"), Vec::new());
    let remove = ControllerRequest::RemoveVoter { node: NodeId(1), directory: None };
    assert_eq!(world.refused(&remove), None);
    assert_eq!(world.refused(&ControllerRequest::UnregisterNode { node: NodeId(3) }), None);
    assert_eq!(chosen(&world, &members("123", "")), "leave 3");
    // It comes back sooner, with an empty disk.
    let info = NodeInfo { directory: [99; 16], incarnation: incarnation(42), ..World::info(3) };
    let register = ControllerRequest::Register { node: NodeId(3), info, clean: true, lost: BTreeSet::new() };
    assert_eq!(world.refused(&register), None);
    assert!(world.image.is_replaced_member(NodeId(3)));
    assert_eq!(chosen(&world, &members("123", "")), "leave 3");
}

#[test]
fn a_member_with_another_disk_leaves_before_it_may_return() {
    let mut world = World::new(3);
    world.image.set_members(nodes_of("123"), Vec::new());
    let info = NodeInfo { directory: [99; 16], incarnation: incarnation(42), ..World::info(2) };
    assert_eq!(
        world.refused(&ControllerRequest::Register { node: NodeId(2), info, clean: true, lost: BTreeSet::new() }),
        None
    );
    assert!(world.image.is_replaced_member(NodeId(2)));
    let add = ControllerRequest::AddVoter { node: NodeId(2), directory: None };
    assert_eq!(world.refused(&add), Some(ErrorCode::DuplicateVoter));
    assert_eq!(chosen(&world, &members("123", "")), "leave 2");
    let others = World { image: world.image.clone(), random: Random::new(5) }.dead("3");
    assert_eq!(chosen(&others, &members("123", "")), "", "without 2, the group waits for 3");
    assert_eq!(chosen(&others, &members("1", "2")), "leave 2");
    world.image.set_members(nodes_of("13"), Vec::new());
    assert!(!world.image.is_replaced_member(NodeId(2)));
    assert_eq!(chosen(&world, &members("13", "")), "learn 2");
    assert_eq!(chosen(&world, &members("13", "2")), "vote 2");
}

#[test]
fn who_is_not_registered_any_more_leaves_and_a_late_founder_is_waited_for() {
    let world = World::new(2);
    assert_eq!(chosen(&world, &members("12", "3")), "leave 3");
    assert_eq!(chosen(&world, &members("12", "")), "learn 2", "of two, the death of either would stop the cluster");
    assert_eq!(chosen(&world, &members("123", "")), "");
    let silent = Membership { silent: nodes_of("3").into_iter().collect(), ..members("123", "") };
    assert_eq!(chosen(&world, &silent), "leave 3");
}

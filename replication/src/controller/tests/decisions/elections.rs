//! ElectLeaders, and the balance of leaders without a command.

use super::*;

fn elect(election: Election, partitions: &[(&str, u32)]) -> ControllerRequest {
    let partitions = partitions.iter().map(|(topic, partition)| named(topic, *partition)).collect();
    ControllerRequest::ElectLeaders { election, partitions: Some(partitions) }
}

/// One partition and one command: the code, and what holds afterwards.
fn check(election: Election, dead: &str, before: &str, code: Option<ErrorCode>, after: &str) -> World {
    let mut world = World::new(3).topic("t", &[], &[before]).dead(dead);
    assert_eq!(world.refused(&elect(election, &[("t", 0)])), code, "{election:?} of {before}, dead: {dead}");
    assert_eq!(world.show("t"), [after]);
    let epoch = if code.is_none() { 5 } else { 4 };
    assert_eq!(world.partition("t", 0).leader_epoch, LeaderEpoch::new(epoch));
    world
}

#[test]
fn the_preferred_replica_leads_by_command_where_it_is_in_sync() {
    use Election::Preferred;
    let not_available = Some(ErrorCode::PreferredLeaderNotAvailable);
    check(Preferred, "", "123 isr 123 led 2", None, "123 isr 123 led 1");
    check(Preferred, "", "123 isr 123 led 1", Some(ErrorCode::ElectionNotNeeded), "123 isr 123 led 1");
    check(Preferred, "", "123 isr 23 led 2", not_available, "123 isr 23 led 2");
    check(Preferred, "1", "123 isr 23 led 2", not_available, "123 isr 23 led 2");
    check(Preferred, "123", "123 elr 23", not_available, "123 elr 23");
}

#[test]
fn an_unclean_election_happens_by_command_only_where_nobody_leads_and_is_audited() {
    use Election::Unclean;
    check(Unclean, "", "123 isr 12 led 1", Some(ErrorCode::ElectionNotNeeded), "123 isr 12 led 1");
    check(Unclean, "123", "123 elr 23", Some(ErrorCode::EligibleLeadersNotAvailable), "123 elr 23");
    // Whoever holds everything goes before one that may not.
    let world = check(Unclean, "12", "123 elr 23", None, "123 isr 3 elr 2 led 3");
    assert!(world.image.unclean_elections().is_empty(), "nothing was lost");
    let world = check(Unclean, "23", "123 elr 23", None, "123 isr 1 led 1");
    let audit = world.image.unclean_elections();
    assert_eq!((audit.len(), audit[0].leader, audit[0].at_ms), (1, NodeId(1), 1_000));
    assert_eq!(audit[0].leader_epoch, LeaderEpoch::new(5));
    // The last leader has the most.
    check(Unclean, "2", "123 last 3", None, "123 isr 3 led 3");
    check(Unclean, "3", "123 last 3", None, "123 isr 1 led 1");
}

#[test]
fn nobody_is_elected_uncleanly_whatever_the_topic_says() {
    let config = [("unclean.leader.election.enable", "true")];
    let mut world = World::new(3).topic("t", &config, &["123 isr 12 led 1"]);
    world.fence(1);
    world.fence(2);
    assert_eq!(world.show("t"), ["123 elr 12"]);
    assert!(node_decisions::repair(&world.image).is_empty());
}

#[test]
fn each_partition_is_answered_and_unknown_ones_are_named() {
    let mut world = World::new(3).topic("t", &[], &["123 isr 123 led 2", "123 isr 123 led 1"]);
    let request = elect(Election::Preferred, &[("t", 0), ("t", 1), ("t", 2), ("x", 0), ("t", 0)]);
    let Ok(ControllerAnswer::LeadersElected(answers)) = world.ask(&request) else { panic!("elections are answered") };
    let codes: Vec<Option<ErrorCode>> =
        answers.iter().map(|(_, answer)| answer.as_ref().err().map(|refusal| refusal.code)).collect();
    let unknown = Some(ErrorCode::UnknownTopicOrPartition);
    assert_eq!(codes, [None, Some(ErrorCode::ElectionNotNeeded), unknown, unknown, Some(ErrorCode::InvalidRequest)]);
    assert_eq!(world.show("t"), ["123 isr 123 led 1", "123 isr 123 led 1"]);
}

#[test]
fn all_partitions_at_once_answer_only_where_an_election_was_wanted() {
    let mut world = World::new(3)
        .topic("t", &[], &["123 isr 123 led 2", "123 isr 123 led 1", "123 isr 23 led 2"])
        .topic("u", &[], &["213 isr 123 led 3"]);
    let request = ControllerRequest::ElectLeaders { election: Election::Preferred, partitions: None };
    let Ok(ControllerAnswer::LeadersElected(answers)) = world.ask(&request) else { panic!("elections are answered") };
    let answered: Vec<(String, bool)> =
        answers.iter().map(|(of, answer)| (format!("{}{}", of.topic, of.partition), answer.is_ok())).collect();
    assert_eq!(answered, [("t0".into(), true), ("t2".into(), false), ("u0".into(), true)]);
    assert_eq!(world.show("u"), ["213 isr 123 led 2"]);
}

#[test]
fn leaderships_return_to_the_preferred_replicas_a_few_at_a_time() {
    let mut world = World::new(3).topic("t", &[], &["123 isr 123 led 2"; 5]).topic("u", &[], &["123 isr 23 led 2"]);
    let mut passes = Vec::new();
    loop {
        let groups = election::balance_leaders(&world.image, 2);
        if groups.is_empty() {
            break;
        }
        passes.push(groups.len());
        world.apply(&groups);
    }
    assert_eq!(passes, [2, 2, 1]);
    assert_eq!(world.show("t"), ["123 isr 123 led 1"; 5]);
    assert_eq!(world.show("u"), ["123 isr 23 led 2"]);
}

//! Ten thousand partitions and more: what a death costs.

use super::*;
use crate::metadata::record::{ENTRY_BYTES, batches};

/// Three nodes, `topics` topics of 1,000 partitions with three replicas each.
fn large(topics: usize) -> World {
    let mut world = World::new(3);
    for topic in 0..topics {
        let wanted = NewTopic { partitions: Some(1_000), ..NewTopic::with_defaults(name(&format!("t{topic}"))) };
        assert_eq!(
            world.refused(&ControllerRequest::CreateTopics { topics: vec![wanted], validate_only: false }),
            None
        );
    }
    world
}

#[test]
fn the_death_of_one_of_three_nodes_gives_every_partition_a_leader_in_a_few_entries() {
    let mut world = large(10);
    let incarnation = world.image.node(NodeId(1)).expect("it is registered").incarnation;
    let groups = node_decisions::fence(&world.image, &[(NodeId(1), incarnation)]);
    let facts: usize = groups.iter().map(Vec::len).sum();
    assert_eq!(facts, 10_001, "each partition lost a replica");
    let entries = batches(&groups);
    assert!(entries.len() <= 2 && entries.iter().all(|entry| entry.len() <= ENTRY_BYTES), "{}", entries.len());
    world.apply(&groups);
    let all = world.image.topics().flat_map(|topic| &topic.partitions);
    assert!(all.into_iter().all(|info| info.leader.is_some_and(|leader| leader != NodeId(1)) && info.isr.len() == 2));
}

#[test]
fn one_change_copies_one_topic_and_shares_all_others() {
    let world = large(5);
    let before = world.image.clone();
    let request = world.isr_change("t3", 500, "123");
    let ControllerRequest::AlterIsr { mut changes, node, incarnation } = request else { panic!("AlterIsr") };
    changes[0].isr.truncate(2);
    if !changes[0].isr.iter().any(|(member, _)| *member == node) {
        changes[0].isr[0] = (node, incarnation);
    }
    let mut after = world;
    let request = ControllerRequest::AlterIsr { node, incarnation, changes };
    assert_eq!(after.refused(&request), None);
    let copied = before.topics().zip(after.image.topics()).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
    assert_eq!(copied, 1);
    let topics = [&before, &after.image].map(|image| Arc::clone(image.topic(&name("t3")).expect("it is there")));
    let partitions = topics[0].partitions.iter().zip(&topics[1].partitions);
    assert_eq!(partitions.filter(|(a, b)| !Arc::ptr_eq(a, b)).count(), 1);
}

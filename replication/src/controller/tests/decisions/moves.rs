//! What the cluster moves by itself: factors that grow, nodes that leave, nodes that come.

use super::*;

/// Carries out what upkeep wants, with replicas that catch up at once, until nothing is left; gives how many moves were under way at
/// most, and how many passes it took.
fn settle(world: &mut World, moves_max: usize) -> (usize, usize) {
    let (mut most, mut passes) = (0, 0);
    loop {
        let groups = upkeep::moves(&world.image, moves_max);
        if groups.is_empty() {
            return (most, passes);
        }
        passes += 1;
        assert!(passes < 1_000, "it comes to an end");
        world.apply(&groups);
        let under_way = |world: &World| {
            let all = world.image.topics().flat_map(|topic| {
                topic.partitions().map(move |(at, info)| (topic.name.clone(), at, PartitionInfo::clone(info)))
            });
            all.filter(|(_, _, info)| info.is_reassigning()).collect::<Vec<_>>()
        };
        let moving = under_way(world);
        most = most.max(moving.len());
        for (topic, at, info) in moving {
            let live: String =
                info.replicas.iter().filter(|node| world.image.is_live(**node)).map(NodeId::to_string).collect();
            let at = usize::try_from(at.get()).expect("small");
            world.set_isr(topic.as_str(), at, &live);
        }
        assert!(under_way(world).is_empty());
    }
}

fn create(world: &mut World, topic: &str, partitions: u32) {
    let wanted = NewTopic { partitions: Some(partitions), ..NewTopic::with_defaults(name(topic)) };
    assert_eq!(world.refused(&ControllerRequest::CreateTopics { topics: vec![wanted], validate_only: false }), None);
}

fn counts(world: &World) -> BTreeMap<i32, (usize, usize)> {
    let mut counts: BTreeMap<i32, (usize, usize)> = BTreeMap::new();
    for partition in world.image.topics().flat_map(|topic| &topic.partitions) {
        for (at, node) in partition.replicas.iter().enumerate() {
            let count = counts.entry(node.0).or_default();
            count.0 += 1;
            count.1 += usize::from(at == 0);
        }
    }
    counts
}

#[test]
fn a_factor_that_was_left_to_the_cluster_grows_with_it_and_others_do_not() {
    let mut world = World::new(1).topic("fixed", &[], &["1 isr 1 led 1"]);
    create(&mut world, "open", 12);
    create(&mut world, "__consumer_offsets", 6);
    world.start(2);
    let (most, passes) = settle(&mut world, 5);
    assert!(most == 5 && passes >= 18 / 5, "a few at a time: {most} in {passes}");
    let factor =
        |world: &World, topic: &str| world.image.topic(&name(topic)).expect("it is there").replication_factor();
    assert_eq!((factor(&world, "open"), factor(&world, "__consumer_offsets"), factor(&world, "fixed")), (2, 2, 1));
    world.start(3);
    world.start(4);
    settle(&mut world, 5);
    assert_eq!((factor(&world, "open"), factor(&world, "__consumer_offsets"), factor(&world, "fixed")), (3, 3, 1));
    // Nobody is preferred for ever because it was there first.
    let preferred: Vec<usize> = counts(&world).values().map(|(_, preferred)| *preferred).collect();
    assert!(preferred.iter().all(|count| (3..=8).contains(count)), "{preferred:?}");
    loop {
        let groups = election::balance_leaders(&world.image, 10);
        if groups.is_empty() {
            break;
        }
        world.apply(&groups);
    }
    let all = world.image.topics().flat_map(|topic| &topic.partitions);
    assert!(all.into_iter().all(|partition| partition.leader == partition.preferred_leader()));
}

#[test]
fn a_node_that_comes_is_given_its_share_and_then_left_alone() {
    let mut world = World::new(3);
    create(&mut world, "t", 40);
    world.start(4);
    assert_eq!(world.image.duty(NodeId(4)), Duty::Joining);
    let (most, _) = settle(&mut world, 4);
    assert_eq!((most, world.image.duty(NodeId(4))), (4, Duty::Full));
    let counts = counts(&world);
    assert!(counts.values().all(|(replicas, _)| (29..=31).contains(replicas)), "{counts:?}");
    assert!((8..=12).contains(&counts[&4].1), "{counts:?}");
    // What an operator puts elsewhere later stays there.
    for partition in 0..40 {
        assert_eq!(world.refused(&move_to("t", partition, Some("123"))), None);
    }
    let under_way =
        world.image.topics().flat_map(|topic| &topic.partitions).filter(|info| info.is_reassigning()).count();
    assert!(under_way == 0 || upkeep::moves(&world.image, 100).is_empty());
}

#[test]
fn a_node_that_leaves_is_emptied_and_can_then_be_removed() {
    let mut world = World::new(4);
    create(&mut world, "t", 20);
    world.order(2, Duty::Leaving);
    let led = || orders::progress(&world.image)[&NodeId(2)];
    assert!(led().leads == 0 && led().replicas > 0);
    settle(&mut world, 3);
    assert_eq!(orders::progress(&world.image)[&NodeId(2)], orders::NodeProgress::default());
    let remove = ControllerRequest::RemoveNode { node: NodeId(2) };
    assert_eq!(world.refused(&remove), Some(ErrorCode::InvalidRequest), "it still lives");
    world.fence(2);
    assert_eq!(world.refused(&remove), None);
    assert_eq!((world.image.node(NodeId(2)), world.image.duty(NodeId(2))), (None, Duty::Full));
}

#[test]
fn a_dead_node_that_leaves_is_emptied_too() {
    let mut world = World::new(4).topic("t", &[], &["123 isr 123 led 1", "214 isr 214 led 2"]);
    world.fence(2);
    world.order(2, Duty::Leaving);
    settle(&mut world, 3);
    assert_eq!(world.show("t"), ["143 isr 143 led 1", "314 isr 314 led 1"]);
}

#[test]
fn where_no_other_node_is_left_only_a_factor_that_was_left_to_the_cluster_falls() {
    let mut world = World::new(3).topic("fixed", &[], &["123 isr 123 led 1"]);
    create(&mut world, "open", 1);
    world.order(3, Duty::Leaving);
    settle(&mut world, 3);
    assert_eq!(world.show("fixed"), ["123 isr 123 led 1"]);
    let open = world.partition("open", 0);
    assert!(open.replicas.len() == 2 && !open.replicas.contains(&NodeId(3)));
}

#[test]
fn a_replica_moves_to_a_rack_of_its_own() {
    let mut world = World::in_racks(&[(1, "a"), (2, "b"), (3, "c"), (4, "a"), (5, "b"), (6, "c")]);
    world = world.topic("t", &[], &["123 isr 123 led 1"; 6]);
    world.order(2, Duty::Leaving);
    settle(&mut world, 2);
    assert!(world.image.topics().flat_map(|topic| &topic.partitions).all(|info| info.replicas == nodes_of("153")));
}

#[test]
fn nothing_moves_that_nobody_asked_for_or_that_somebody_moves_already() {
    let lopsided = World::new(3).topic("t", &[], &["12 isr 12 led 1"; 9]);
    assert!(upkeep::moves(&lopsided.image, 9).is_empty());
    let mut world = World::new(4).topic("t", &[], &["123 isr 123 led 1"; 4]);
    assert_eq!(world.refused(&move_to("t", 0, Some("124"))), None);
    world.order(3, Duty::Leaving);
    assert!(upkeep::moves(&world.image, 1).is_empty(), "the one by hand counts");
    assert_eq!(upkeep::moves(&world.image, 9).len(), 3);
}

//! The flush policy of a topic changes while it is used.

mod world;

use std::time::Duration;

use model::TopicName;
use node::requests::Acks;
use replication::controller::requests::{ConfigAlteration, ConfigOperation, ConfigTarget, ControllerRequest};
use world::{World, batch};

fn set_flush_messages(world: &mut World, value: &str) {
    let operations = vec![ConfigOperation::Set { key: "flush.messages".to_owned(), value: value.to_owned() }];
    let target = ConfigTarget::Topic(TopicName::new("t").expect("a name"));
    let resources = vec![ConfigAlteration { target, operations, replace: false }];
    let request = ControllerRequest::AlterConfigs { resources, validate_only: false };
    let to = world.request();
    let number = to.request;
    world.call(|node, now, fx| node.ask_controller(now, request, Duration::from_secs(5), to, fx));
    world.run();
    assert!(world.answers.remove(&number).is_some());
}

/// Whether an append of a topic takes a group of the journal.
fn is_journalled(world: &mut World, value: &str) -> bool {
    let before = world.node.stats().journal_groups;
    let partition = world.partition("t", 0);
    world.produce(partition, Acks::All, batch(&[value]));
    world.node.stats().journal_groups > before
}

#[test]
fn a_topic_that_is_relaxed_and_made_strict_again_follows_at_once_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 1, &[]);
    let partition = world.partition("t", 0);
    assert!(is_journalled(&mut world, "a"));
    set_flush_messages(&mut world, "1000");
    assert!(!is_journalled(&mut world, "b"));
    set_flush_messages(&mut world, "1");
    assert!(is_journalled(&mut world, "c"));
    let values = |world: &World| world.read_all(partition, 0).into_iter().map(|(_, value)| value).collect::<Vec<_>>();
    assert_eq!(values(&world), ["a", "b", "c"]);
    drop(world);
    let mut world = World::open(dir.path(), 2);
    assert_eq!(values(&world), ["a", "b", "c"]);
    assert!(is_journalled(&mut world, "d"));
    set_flush_messages(&mut world, "1000");
    assert!(!is_journalled(&mut world, "e"));
    drop(world.shut_down());
    let world = World::open(dir.path(), 3);
    assert_eq!(values(&world), ["a", "b", "c", "d", "e"]);
}

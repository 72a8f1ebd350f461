//! A log that can no longer be written: the others go on, and the next start has all of it that was acknowledged.

mod world;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::units::MIB;
use model::{Now, TopicPartition};
use node::requests::{Acks, Answer, AppendError, FetchError, TopicRef};
use storage::disk::{Disk, DiskError, Step};
use world::fault_disk::FaultDisk;
use world::{World, batch, config, sequenced};

fn open(dir: &Path, seed: u64) -> (World, Arc<FaultDisk>) {
    let faulty = Arc::new(FaultDisk::new(dir));
    let disk: Arc<dyn Disk> = Arc::clone(&faulty) as Arc<dyn Disk>;
    (World::open_on(config(dir), disk, seed), faulty)
}

fn values(world: &World, partition: TopicPartition) -> Vec<String> {
    world.read_all(partition, 0).into_iter().map(|(_, value)| value).collect()
}

/// Appends that one start has acknowledged, and the log goes offline when they are written to its segment.
fn go_offline(world: &mut World, disk: &FaultDisk, bad: TopicPartition, more: &[&str]) {
    for value in more {
        world.produce(bad, Acks::All, batch(&[value]));
    }
    disk.break_paths(Some("bad-0"));
    world.pass(Duration::from_secs(3));
    assert_eq!(world.node.stats().partitions_offline, 1);
    assert!(matches!(world.fetch(bad, 0).error, Some(FetchError::Disk { .. })));
}

/// Several times what the journal's files hold, with time for checkpoints.
fn fill_journal(world: &mut World, good: TopicPartition) -> usize {
    let value = "g".repeat(100_000);
    for _ in 0..100 {
        world.produce(good, Acks::All, batch(&[&value]));
        world.pass(Duration::from_millis(500));
    }
    100
}

fn carried_files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir.join(".weir")).expect("it is there");
    entries
        .filter(|entry| entry.as_ref().expect("an entry").file_name().to_string_lossy().starts_with("carried"))
        .count()
}

#[test]
fn checkpoints_go_on_without_a_log_that_is_offline_and_it_is_whole_after_the_next_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, disk) = open(dir.path(), 1);
    world.create_topic("bad", 1, &[]);
    world.create_topic("good", 1, &[]);
    let (bad, good) = (world.partition("bad", 0), world.partition("good", 0));
    world.produce(bad, Acks::All, sequenced(7, 0, 0, &["a", "b"]));
    world.pass(Duration::from_secs(15));
    world.produce(bad, Acks::All, sequenced(7, 0, 2, &["c"]));
    go_offline(&mut world, &disk, bad, &["d", "e"]);
    let before = world.node.stats().checkpoints;
    let count = fill_journal(&mut world, good);
    world.pass(Duration::from_secs(15));
    let stats = world.node.stats();
    assert!(stats.checkpoints >= before + 3, "{} checkpoints", stats.checkpoints - before);
    assert_eq!(stats.journal_bytes_since_checkpoint, 0);
    let journal = std::fs::read_dir(dir.path().join(".weir/journal")).expect("it is there");
    let bytes: u64 = journal.map(|entry| entry.expect("an entry").metadata().expect("a file").len()).sum();
    assert!(bytes <= 16 * MIB, "{bytes}");
    drop(world);
    let (mut world, _) = open(dir.path(), 2);
    assert_eq!(values(&world, bad), ["a", "b", "c", "d", "e"]);
    assert_eq!(world.read_all(good, 0).len(), count);
    assert_eq!(world.produce(bad, Acks::All, sequenced(7, 0, 2, &["c"])), 2, "the producer is known");
    assert_eq!(world.produce(bad, Acks::All, batch(&["f"])), 5);
    assert_eq!(carried_files(dir.path()), 0);
    drop(world);
    let (world, _) = open(dir.path(), 3);
    assert_eq!(values(&world, bad), ["a", "b", "c", "d", "e", "f"]);
}

#[test]
fn a_log_that_goes_offline_before_its_first_checkpoint_is_whole_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, disk) = open(dir.path(), 1);
    world.create_topic("good", 1, &[]);
    world.pass(Duration::from_secs(15));
    world.create_topic("bad", 1, &[]);
    let (bad, good) = (world.partition("bad", 0), world.partition("good", 0));
    go_offline(&mut world, &disk, bad, &["a", "b"]);
    fill_journal(&mut world, good);
    drop(world);
    let (world, _) = open(dir.path(), 2);
    assert_eq!(values(&world, bad), ["a", "b"]);
}

#[test]
fn large_appends_of_a_log_that_goes_offline_are_found_where_they_went() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, disk) = open(dir.path(), 1);
    world.create_topic("bad", 1, &[]);
    world.create_topic("good", 1, &[]);
    let (bad, good) = (world.partition("bad", 0), world.partition("good", 0));
    let large = "l".repeat(700_000);
    go_offline(&mut world, &disk, bad, &["a", &large, "b", &large, "c"]);
    fill_journal(&mut world, good);
    drop(world);
    let (world, _) = open(dir.path(), 2);
    assert_eq!(values(&world, bad), ["a", &large, "b", &large, "c"]);
}

#[test]
fn a_node_with_a_log_that_is_offline_stops_in_order_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, disk) = open(dir.path(), 1);
    world.create_topic("bad", 1, &[]);
    world.create_topic("good", 1, &[]);
    let (bad, good) = (world.partition("bad", 0), world.partition("good", 0));
    go_offline(&mut world, &disk, bad, &["a", "b"]);
    world.produce(good, Acks::All, batch(&["g"]));
    drop(world.shut_down());
    let (mut world, _) = open(dir.path(), 2);
    assert_eq!(values(&world, bad), ["a", "b"]);
    assert_eq!(values(&world, good), ["g"]);
    world.produce(bad, Acks::All, batch(&["c"]));
    drop(world.shut_down());
    let (world, _) = open(dir.path(), 3);
    assert_eq!(values(&world, bad), ["a", "b", "c"]);
}

#[test]
fn a_relaxed_log_that_goes_offline_keeps_what_was_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, disk) = open(dir.path(), 1);
    world.create_topic("bad", 1, &[("flush.messages", "1000")]);
    world.create_topic("good", 1, &[]);
    let (bad, good) = (world.partition("bad", 0), world.partition("good", 0));
    world.produce(bad, Acks::All, batch(&["a"]));
    world.produce(bad, Acks::All, batch(&["b"]));
    disk.break_paths(Some("bad-0"));
    let refused = world.send(bad, Acks::All, batch(&["c"]));
    world.run();
    assert!(world.answer(refused).expect("answered").is_err());
    assert_eq!(world.node.stats().partitions_offline, 1);
    fill_journal(&mut world, good);
    assert!(world.node.stats().checkpoints > 2);
    drop(world);
    let (world, _) = open(dir.path(), 2);
    assert_eq!(values(&world, bad), ["a", "b"]);
}

#[test]
fn a_topic_that_is_offline_can_be_deleted() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, disk) = open(dir.path(), 1);
    world.create_topic("bad", 1, &[]);
    world.create_topic("good", 1, &[]);
    let (bad, good) = (world.partition("bad", 0), world.partition("good", 0));
    go_offline(&mut world, &disk, bad, &["a", "b"]);
    fill_journal(&mut world, good);
    assert_eq!(carried_files(dir.path()), 1);
    let to = world.request();
    let request = to.request;
    let topic = TopicRef::Name(model::TopicName::new("bad").expect("a name"));
    world.call(|node, now: Now, fx| node.delete_topics(now, vec![topic], to, fx));
    world.pass(Duration::from_secs(25));
    assert!(matches!(world.answers.remove(&request), Some(Answer::TopicsDeleted(answers)) if answers[0].is_ok()));
    assert_eq!(carried_files(dir.path()), 0);
    assert!(!dir.path().join("bad-0").exists());
    drop(world);
    let (world, _) = open(dir.path(), 2);
    assert!(world.node.partition_status(bad).is_none());
    assert!(!dir.path().join("bad-0").exists());
}

#[test]
fn logs_that_go_offline_one_after_the_other_are_all_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, disk) = open(dir.path(), 1);
    for topic in ["bad", "worse", "good"] {
        world.create_topic(topic, 1, &[]);
    }
    let [bad, worse, good] = ["bad", "worse", "good"].map(|topic| world.partition(topic, 0));
    go_offline(&mut world, &disk, bad, &["a"]);
    fill_journal(&mut world, good);
    world.produce(worse, Acks::All, batch(&["w"]));
    disk.break_paths(Some("worse-0"));
    world.pass(Duration::from_secs(3));
    assert_eq!(world.node.stats().partitions_offline, 2);
    fill_journal(&mut world, good);
    assert_eq!(carried_files(dir.path()), 1);
    drop(world);
    let (world, _) = open(dir.path(), 2);
    assert_eq!((values(&world, bad), values(&world, worse)), (vec!["a".to_owned()], vec!["w".to_owned()]));
}

#[test]
fn a_write_error_takes_one_partition_offline_and_the_others_go_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 2, &[("flush.messages", "5")]);
    let (bad, good) = (world.partition("t", 0), world.partition("t", 1));
    world.fail = Some(|step| match step {
        Step::Write { .. } => Some(DiskError::Io { path: "/bad".into(), what: "write", message: "EIO".into() }),
        _ => None,
    });
    let waiting = world.send(bad, Acks::All, batch(&["a"]));
    world.run();
    world.fail = None;
    assert!(matches!(world.answer(waiting), Some(Err(AppendError::Disk { .. }))));
    assert!(matches!(world.fetch(bad, 0).error, Some(FetchError::Disk { .. })));
    assert_eq!(world.produce(good, Acks::All, batch(&["b"])), 0);
    assert_eq!(world.node.stats().partitions_offline, 1);
}

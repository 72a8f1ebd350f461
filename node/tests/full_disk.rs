//! A disk that fills up: clients are refused in time, everything else goes on, and it heals by itself.

mod world;

use std::sync::Arc;
use std::time::Duration;

use model::units::MIB;
use node::requests::{Acks, Answer, AppendError, TopicRef};
use replication::group::{CommitOffset, CommitOffsets, GroupAnswer, GroupRequest};
use storage::disk::{Disk, DiskError, Step};
use world::fault_disk::FaultDisk;
use world::small_disk::SmallDisk;
use world::{World, batch, config};

/// An eighth of the disk.
const RESERVE: u64 = 10 * MIB;

fn world_on(dir: &std::path::Path) -> (World, Arc<SmallDisk>) {
    let small = Arc::new(SmallDisk::new(dir, 8 * RESERVE));
    let disk: Arc<dyn Disk> = Arc::clone(&small) as Arc<dyn Disk>;
    (World::open_on(config(dir), disk, 1), small)
}

fn space(world: &World) -> node::DiskSpace {
    world.node.disk_space(world.now).expect("this disk tells")
}

fn reason(answer: Option<Result<node::requests::Appended, AppendError>>) -> String {
    match answer {
        Some(Err(AppendError::Disk { reason })) => reason,
        other => panic!("{other:?}"),
    }
}

fn commit_an_offset(world: &mut World, group: &model::GroupId) {
    let offset = CommitOffset {
        topic: model::TopicName::new("t").expect("a name"),
        partition: model::PartitionIndex::new(0),
        offset: 42,
        leader_epoch: None,
        metadata: String::new(),
    };
    let commit = CommitOffsets {
        version: 10,
        member_id: None,
        instance_id: None,
        generation: None,
        retention_ms: None,
        offsets: vec![offset],
    };
    let to = world.request();
    let number = to.request;
    world.call(|node, now, fx| node.group(now, group.clone(), GroupRequest::CommitOffsets(commit), to, fx));
    world.run();
    match world.answers.remove(&number) {
        Some(Answer::Group(GroupAnswer::CommitOffsets(Ok(each)))) => assert_eq!(each, [None]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn with_little_room_clients_are_refused_and_groups_metadata_deletes_and_reads_go_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, disk) = world_on(dir.path());
    world.create_topic("t", 1, &[]);
    world.create_topic("old", 1, &[]);
    let partition = world.partition("t", 0);
    world.produce(partition, Acks::All, batch(&["a"]));
    let group = model::GroupId::new("g");
    world.call(|node, now, fx| node.group_coordinator(now, &group, fx));
    world.pass(Duration::from_secs(2));

    assert_eq!(space(&world).refuses_above, None);
    disk.set_free(RESERVE / 2);
    assert_eq!(space(&world).refuses_above, Some(0), "also before somebody was refused");
    let refused = world.send(partition, Acks::All, batch(&["b"]));
    let reason = reason(world.answer(refused));
    let space_now = space(&world);
    assert_eq!((space_now.free_bytes, space_now.reserve_bytes), (RESERVE / 2, RESERVE));
    assert!(reason.contains("5242880") && reason.contains("10485760"), "{reason}");
    assert!(world.operations.is_empty(), "nothing was queued");
    commit_an_offset(&mut world, &group);
    world.create_topic("new", 1, &[]);
    let to = world.request();
    let request = to.request;
    let old = TopicRef::Name(model::TopicName::new("old").expect("a name"));
    world.call(|node, now, fx| node.delete_topics(now, vec![old], to, fx));
    world.run();
    assert!(matches!(world.answers.remove(&request), Some(Answer::TopicsDeleted(answers)) if answers[0].is_ok()));
    assert_eq!(world.read_all(partition, 0), [(0, "a".to_owned())]);
    let checkpoints = world.node.stats().checkpoints;
    world.pass(Duration::from_secs(120));
    assert!(world.node.stats().checkpoints > checkpoints);
    assert!(!dir.path().join("old-0").exists());

    assert_eq!(space(&world).refuses_above, Some(0));
    disk.set_free(8 * RESERVE);
    assert_eq!(space(&world).refuses_above, None, "also before somebody has tried again");
    world.pass(Duration::from_secs(2));
    assert_eq!(world.produce(partition, Acks::All, batch(&["c"])), 1);
}

#[test]
fn that_large_appends_alone_find_no_room_is_told_as_well() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, disk) = world_on(dir.path());
    world.create_topic("t", 1, &[]);
    let partition = world.partition("t", 0);
    disk.set_free(RESERVE + 100_000);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.produce(partition, Acks::All, batch(&["a"])), 0);
    assert_eq!(space(&world).refuses_above, None);
    let refused = world.send(partition, Acks::All, batch(&[&"v".repeat(600_000)]));
    reason(world.answer(refused));
    let refuses_some = |world: &World| matches!(space(world).refuses_above, Some(1..=100_000));
    assert!(refuses_some(&world));
    disk.set_free(RESERVE + MIB);
    assert_eq!(space(&world).refuses_above, None);
    disk.set_free(RESERVE + 100_000);
    assert!(refuses_some(&world), "nobody has tried again");
    for offset in 1..=10 {
        assert!(refuses_some(&world));
        world.pass(Duration::from_secs(1));
        assert_eq!(world.produce(partition, Acks::All, batch(&["smaller"])), offset);
    }
    assert_eq!(space(&world).refuses_above, None, "smaller ones were not refused");
}

#[test]
fn what_was_let_in_since_the_last_look_counts() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, disk) = world_on(dir.path());
    world.create_topic("t", 1, &[]);
    let partition = world.partition("t", 0);
    let value = "v".repeat(600_000);
    disk.set_free(RESERVE + MIB);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.produce(partition, Acks::All, batch(&[&value])), 0);
    let refused = world.send(partition, Acks::All, batch(&[&value]));
    reason(world.answer(refused));
    world.pass(Duration::from_secs(10));
    assert_eq!(world.produce(partition, Acks::All, batch(&[&value])), 1);
}

#[test]
fn a_large_append_that_finds_the_disk_full_keeps_others_from_queueing_behind_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, _disk) = world_on(dir.path());
    world.create_topic("t", 2, &[]);
    let (large, small) = (world.partition("t", 0), world.partition("t", 1));
    world.fail = Some(|step| match step {
        Step::Write { .. } => Some(DiskError::Full { path: "/full".into(), what: "write" }),
        _ => None,
    });
    let waiting = world.send(large, Acks::All, batch(&[&"v".repeat(600_000)]));
    world.run();
    assert!(world.answer(waiting).is_none());
    let refused = world.send(small, Acks::All, batch(&["a"]));
    reason(world.answer(refused));
    world.fail = None;
    world.pass(Duration::from_secs(2));
    assert!(world.answer(waiting).expect("answered").is_ok());
    assert_eq!(world.produce(small, Acks::All, batch(&["b"])), 0);
    assert_eq!(space(&world).refuses_above, Some(0), "it may be full again at once");
    world.pass(Duration::from_secs(2));
    assert_eq!(space(&world).refuses_above, None);
}

#[test]
fn near_the_reserve_the_journal_does_with_the_files_it_has() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, disk) = world_on(dir.path());
    world.create_topic("t", 1, &[]);
    let partition = world.partition("t", 0);
    let value = "v".repeat(100_000);
    let files = || std::fs::read_dir(dir.path().join(".weir/journal")).expect("it is there").count();
    // A second file would have 4 MiB.
    disk.set_free(RESERVE + 4 * MIB - 1);
    for offset in 0..120 {
        world.pass(Duration::from_millis(200));
        assert_eq!(world.produce(partition, Acks::All, batch(&[&value])), offset);
    }
    assert_eq!(files(), 1);
    disk.set_free(8 * RESERVE);
    for offset in 120..240 {
        world.pass(Duration::from_millis(200));
        assert_eq!(world.produce(partition, Acks::All, batch(&[&value])), offset);
    }
    assert!(files() > 1);
}

/// A disk of 512 MiB with a ballast of 32.
fn world_on_faulty(dir: &std::path::Path) -> (World, Arc<FaultDisk>) {
    let faulty = Arc::new(FaultDisk::new(dir));
    faulty.set_size(512 * MIB);
    let mut world = World::open_on(config(dir), Arc::clone(&faulty) as Arc<dyn Disk>, 1);
    world.pass(Duration::from_secs(1));
    assert!(has_ballast(dir));
    (world, faulty)
}

fn has_ballast(dir: &std::path::Path) -> bool {
    std::fs::metadata(dir.join(".weir/ballast")).is_ok_and(|ballast| ballast.len() == 32 * MIB)
}

fn refused(world: &mut World, partition: model::TopicPartition) {
    let request = world.send(partition, Acks::All, batch(&["refused"]));
    reason(world.answer(request));
}

#[test]
fn a_large_append_under_way_when_another_program_fills_the_disk_holds_nobody_up() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, disk) = world_on_faulty(dir.path());
    for topic in ["large", "small", "old"] {
        world.create_topic(topic, 1, &[]);
    }
    let [large, small] = ["large", "small"].map(|topic| world.partition(topic, 0));
    world.produce(small, Acks::All, batch(&["a"]));
    let group = model::GroupId::new("g");
    world.call(|node, now, fx| node.group_coordinator(now, &group, fx));
    world.pass(Duration::from_secs(2));

    let value = "v".repeat(600_000);
    let waiting = world.send(large, Acks::All, batch(&[&value]));
    disk.fill_up();
    world.run();
    refused(&mut world, small);
    world.pass(Duration::from_secs(2));
    assert!(world.answer(waiting).expect("answered").is_ok());
    assert!(!has_ballast(dir.path()));
    let checkpoints = world.node.stats().checkpoints;
    // More than the journal holds: it is freed by checkpoints, and these need room for the logs.
    for _ in 0..1_200 {
        commit_an_offset(&mut world, &group);
        world.pass(Duration::from_millis(20));
    }
    assert!(world.node.stats().checkpoints > checkpoints);
    refused(&mut world, small);
    let to = world.request();
    let request = to.request;
    let old = TopicRef::Name(model::TopicName::new("old").expect("a name"));
    world.call(|node, now, fx| node.delete_topics(now, vec![old], to, fx));
    world.run();
    assert!(matches!(world.answers.remove(&request), Some(Answer::TopicsDeleted(answers)) if answers[0].is_ok()));
    assert_eq!(world.read_all(small, 0), [(0, "a".to_owned())]);

    drop(world);
    let mut world = World::open_on(config(dir.path()), Arc::clone(&disk) as Arc<dyn Disk>, 2);
    assert_eq!(world.read_all(large, 0), [(0, value)]);
    refused(&mut world, small);
    disk.give_back();
    world.pass(Duration::from_secs(2));
    assert_eq!(world.produce(small, Acks::All, batch(&["b"])), 1);
    world.pass(Duration::from_secs(12));
    assert!(has_ballast(dir.path()));
}

#[test]
fn a_node_starts_on_a_disk_that_another_program_has_filled_up() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, disk) = world_on_faulty(dir.path());
    world.create_topic("t", 20, &[]);
    let value = "v".repeat(50_000);
    // In the journal alone: no time passes in which they are written to their segments.
    for index in 0..20 {
        world.produce(world.partition("t", index), Acks::All, batch(&[&value]));
    }
    let first = world.partition("t", 0);
    disk.fill_up();
    drop(world);
    let mut world = World::open_on(config(dir.path()), Arc::clone(&disk) as Arc<dyn Disk>, 2);
    for index in 0..20 {
        assert_eq!(world.read_all(world.partition("t", index), 0).len(), 1);
    }
    refused(&mut world, first);
    disk.give_back();
    world.pass(Duration::from_secs(2));
    assert_eq!(world.produce(first, Acks::All, batch(&["b"])), 1);
}

#[test]
fn a_full_disk_refuses_appends_and_heals_by_itself() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 1, &[("flush.messages", "5")]);
    let partition = world.partition("t", 0);
    world.produce(partition, Acks::All, batch(&["a"]));
    world.fail = Some(|step| match step {
        Step::Write { .. } => Some(DiskError::Full { path: "/full".into(), what: "write" }),
        _ => None,
    });
    let waiting = world.send(partition, Acks::All, batch(&["b"]));
    world.run();
    assert!(world.answer(waiting).is_none());
    let refused = world.send(partition, Acks::All, batch(&["c"]));
    assert!(matches!(world.answer(refused), Some(Err(AppendError::Disk { .. }))));
    world.fail = None;
    world.pass(Duration::from_secs(2));
    assert!(world.answer(waiting).expect("answered").is_ok());
    assert_eq!(world.produce(partition, Acks::All, batch(&["d"])), 2);
    let values: Vec<String> = world.read_all(partition, 0).into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["a", "b", "d"]);
}

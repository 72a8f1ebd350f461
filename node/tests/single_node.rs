//! One node on a real disk: what clients see, and what is there again after a crash or a stop.

mod world;

use std::time::Duration;

use model::LeaderEpoch;
use node::partition::waiters::Watcher;
use node::requests::{Acks, Answer, AppendError, FetchError, FetchLimits, FetchPart, Position};
use replication::group::{CommitOffset, CommitOffsets, FetchOffsets, GroupAnswer, GroupRequest};
use storage::disk::{DiskError, ReadMode, Step};
use world::{World, batch, batch_at, end_of, epoch_of, sequenced};

fn values(read: &[(i64, String)]) -> Vec<&str> {
    read.iter().map(|(_, value)| value.as_str()).collect()
}

#[test]
fn an_empty_directory_becomes_a_cluster_of_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let world = World::open(dir.path(), 1);
    let image = world.node.image();
    assert_eq!(image.cluster_id().len(), 22);
    assert_eq!(image.controller(), Some(world.node.id()));
    assert_eq!(world.node.stats().partitions, 0);
}

#[test]
fn what_was_produced_is_read_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 2, &[]);
    let partition = world.partition("t", 1);
    assert_eq!(world.produce(partition, Acks::All, batch(&["a", "b"])), 0);
    assert_eq!(world.produce(partition, Acks::Leader, batch(&["c"])), 2);
    assert_eq!(values(&world.read_all(partition, 0)), ["a", "b", "c"]);
    assert_eq!(world.read_all(partition, 2), [(2, "c".to_owned())]);
    assert_eq!(world.read_all(world.partition("t", 0), 0), []);
}

#[test]
fn an_answer_waits_for_the_journal_and_so_do_readers() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 1, &[]);
    let partition = world.partition("t", 0);
    let request = world.send(partition, Acks::All, batch(&["a"]));
    assert!(world.answer(request).is_none());
    assert_eq!(world.read_all(partition, 0), []);
    // Two more gather while the first group is on its way, and share one group.
    let later = [world.send(partition, Acks::All, batch(&["b"])), world.send(partition, Acks::All, batch(&["c"]))];
    assert_eq!(world.operations.len(), 1);
    world.step();
    assert!(world.answer(request).expect("answered").is_ok());
    assert!(later.iter().all(|request| world.answer(*request).is_none()));
    world.step();
    assert!(later.iter().all(|request| world.answer(*request).expect("answered").is_ok()));
    assert_eq!(values(&world.read_all(partition, 0)), ["a", "b", "c"]);
}

#[test]
fn acked_records_survive_a_crash_and_the_epoch_is_a_new_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 1, &[]);
    let partition = world.partition("t", 0);
    for count in 0..50 {
        world.produce(partition, Acks::All, batch(&[&format!("v{count}")]));
    }
    let unsynced = world.send(partition, Acks::All, batch(&["lost"]));
    assert!(world.answer(unsynced).is_none());
    let epoch = epoch_of(&world, partition);
    drop(world);
    let mut world = World::open(dir.path(), 2);
    assert_eq!(partition, world.partition("t", 0));
    assert!(epoch_of(&world, partition) > epoch);
    assert_eq!(world.read_all(partition, 0).len(), 50);
    assert_eq!(world.produce(partition, Acks::All, batch(&["after"])), 50);
    let ends = world.node.epoch_end(partition, None, epoch).expect("led").expect("known");
    assert_eq!((ends.epoch, ends.end.get()), (epoch, 50));
}

#[test]
fn a_clean_stop_leaves_everything_in_the_files() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 3, &[]);
    for partition in 0..3 {
        let partition = world.partition("t", partition);
        world.produce(partition, Acks::All, batch(&["a", "b"]));
    }
    let world = world.shut_down();
    assert_eq!(world.node.stats().journal_bytes_since_checkpoint, 0);
    drop(world);
    for suffix in ["log", "index", "timeindex"] {
        let file = dir.path().join("t-1").join(format!("00000000000000000000.{suffix}"));
        assert!(file.exists(), "{}", file.display());
    }
    let world = World::open(dir.path(), 2);
    for partition in 0..3 {
        assert_eq!(values(&world.read_all(world.partition("t", partition), 0)), ["a", "b"]);
    }
}

#[test]
fn an_idempotent_producer_is_known_after_a_crash_and_after_a_stop() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 1, &[]);
    let partition = world.partition("t", 0);
    assert_eq!(world.produce(partition, Acks::All, sequenced(7, 0, 0, &["a", "b"])), 0);
    assert_eq!(world.produce(partition, Acks::All, sequenced(7, 0, 2, &["c"])), 2);
    assert_eq!(world.produce(partition, Acks::All, sequenced(7, 0, 0, &["a", "b"])), 0);
    // Past a checkpoint, so that the snapshot is what remembers.
    world.pass(Duration::from_secs(15));
    assert!(world.node.stats().checkpoints > 0);
    assert_eq!(world.produce(partition, Acks::All, sequenced(7, 0, 3, &["d"])), 3);
    drop(world);
    let mut world = World::open(dir.path(), 2);
    assert_eq!(world.produce(partition, Acks::All, sequenced(7, 0, 2, &["c"])), 2);
    assert_eq!(world.produce(partition, Acks::All, sequenced(7, 0, 3, &["d"])), 3);
    drop(world.shut_down());
    let mut world = World::open(dir.path(), 3);
    assert_eq!(world.produce(partition, Acks::All, sequenced(7, 0, 3, &["d"])), 3);
    assert_eq!(world.produce(partition, Acks::All, sequenced(7, 0, 4, &["e"])), 4);
    let request = world.send(partition, Acks::All, sequenced(7, 0, 9, &["x"]));
    let refused = world.answer(request).expect("answered");
    assert_eq!(refused, Err(AppendError::OutOfOrder { producer: 7, expected: 5, got: 9 }));
    assert_eq!(values(&world.read_all(partition, 0)), ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_topic_that_does_not_flush_is_acknowledged_by_its_segment_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("relaxed", 1, &[("flush.messages", "10000")]);
    let partition = world.partition("relaxed", 0);
    assert_eq!(world.produce(partition, Acks::All, batch(&["a"])), 0);
    assert_eq!(world.produce(partition, Acks::Leader, batch(&["b"])), 1);
    assert_eq!(values(&world.read_all(partition, 0)), ["a", "b"]);
    world.pass(Duration::from_secs(20));
    drop(world.shut_down());
    let world = World::open(dir.path(), 2);
    assert_eq!(values(&world.read_all(partition, 0)), ["a", "b"]);
}

#[test]
fn a_long_poll_is_woken_when_the_high_watermark_moves_and_not_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 2, &[]);
    let (one, other) = (world.partition("t", 0), world.partition("t", 1));
    let watcher = Watcher::new();
    assert!(world.node.watch(&watcher, one, 0));
    assert!(world.node.watch(&watcher, other, 1));
    let waiter = world.request();
    let request = waiter.request;
    assert!(watcher.park(waiter));
    world.send(other, Acks::All, batch(&["a"]));
    assert!(world.woken.is_empty());
    world.run();
    assert_eq!(world.woken, [request]);
    let mut slots = Vec::new();
    watcher.take_ready(&mut slots);
    assert_eq!(slots, [1]);
    world.node.unwatch(&watcher, other, 1);
    let waiter = world.request();
    assert!(watcher.park(waiter));
    world.produce(other, Acks::All, batch(&["b"]));
    assert_eq!(world.woken, [request]);
}

#[test]
fn offsets_are_found_by_time_and_position() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 1, &[]);
    let partition = world.partition("t", 0);
    for (time, value) in [(1_000, "a"), (3_000, "b"), (2_000, "c")] {
        world.produce(partition, Acks::All, batch_at(time, &[value]));
    }
    let find = |world: &World, position| {
        let found = world.node.list_offset(partition, None, position, ReadMode::Blocking).expect("found");
        (found.offset.map(model::Offset::get), found.timestamp_ms)
    };
    for _ in 0..2 {
        assert_eq!(find(&world, Position::Earliest), (Some(0), -1));
        assert_eq!(find(&world, Position::Latest { committed_only: false }), (Some(3), -1));
        assert_eq!(find(&world, Position::AtTime(0)), (Some(0), 1_000));
        assert_eq!(find(&world, Position::AtTime(1_001)), (Some(1), 3_000));
        assert_eq!(find(&world, Position::AtTime(3_001)), (None, -1));
        assert_eq!(find(&world, Position::MaxTimestamp), (Some(1), 3_000));
        assert_eq!(find(&world, Position::LatestTiered), (None, -1));
        // Once from memory, once from the files.
        world.pass(Duration::from_secs(15));
    }
}

#[test]
fn a_reader_is_told_what_is_wrong_with_its_offset_or_epoch() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 1, &[]);
    let partition = world.partition("t", 0);
    world.produce(partition, Acks::All, batch(&["a"]));
    assert!(world.fetch(partition, 1).error.is_none());
    for from in [-1, 2] {
        let fetched = world.fetch(partition, from);
        assert!(matches!(fetched.error, Some(FetchError::OutOfRange { got, .. }) if got == from), "{fetched:?}");
    }
    let current = epoch_of(&world, partition);
    let newer = LeaderEpoch::new(current.get() + 1);
    let refused = world.node.epoch_end(partition, Some(newer), current);
    assert_eq!(refused, Err(FetchError::UnknownEpoch { current, got: newer }));
}

#[test]
fn a_deleted_topic_is_gone_with_its_files_and_its_name_is_free() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 1, &[]);
    let old = world.partition("t", 0);
    world.produce(old, Acks::All, batch(&["a"]));
    world.pass(Duration::from_secs(15));
    assert!(dir.path().join("t-0").exists());
    let waiting = world.send(old, Acks::All, batch(&["b"]));
    let to = world.request();
    let request = to.request;
    let topic = node::requests::TopicRef::Name(model::TopicName::new("t").expect("a name"));
    world.call(|node, now, fx| node.delete_topics(now, vec![topic], to, fx));
    world.run();
    assert!(matches!(world.answers.remove(&request), Some(Answer::TopicsDeleted(answers)) if answers[0].is_ok()));
    assert!(world.answer(waiting).is_some(), "who waited is answered");
    world.pass(Duration::from_secs(2));
    assert!(!dir.path().join("t-0").exists());
    assert_eq!(world.fetch(old, 0).error, Some(FetchError::UnknownPartition));
    world.create_topic("t", 1, &[]);
    let new = world.partition("t", 0);
    assert_ne!(new, old);
    assert_eq!(world.produce(new, Acks::All, batch(&["c"])), 0);
    drop(world);
    let world = World::open(dir.path(), 2);
    assert_eq!(values(&world.read_all(new, 0)), ["c"]);
}

#[test]
fn retention_by_size_moves_the_start_and_removes_the_files() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 1, &[("segment.bytes", "1048576"), ("retention.bytes", "2000000")]);
    let partition = world.partition("t", 0);
    let value = "x".repeat(100_000);
    for _ in 0..50 {
        world.produce(partition, Acks::All, batch_at(world.now.wall_ms, &[&value]));
    }
    world.pass(Duration::from_secs(400));
    let status = world.node.partition_status(partition).expect("here");
    assert!(status.log_start.get() > 0, "{status:?}");
    assert!(status.bytes < 4_000_000, "{status:?}");
    assert!(!dir.path().join("t-0/00000000000000000000.log").exists());
    let start = status.log_start.get();
    assert!(matches!(world.fetch(partition, 0).error, Some(FetchError::OutOfRange { .. })));
    assert_eq!(world.read_all(partition, start).len(), usize::try_from(50 - start).expect("small"));
    drop(world);
    let world = World::open(dir.path(), 2);
    assert_eq!(world.node.partition_status(partition).expect("here").log_start.get(), start);
}

#[test]
fn an_idle_node_does_nothing_and_makes_no_checkpoints() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 3, &[]);
    world.pass(Duration::from_secs(60));
    let (steps, checkpoints) = (world.steps_run, world.node.stats().checkpoints);
    world.pass(Duration::from_secs(3_600));
    assert_eq!((world.steps_run, world.node.stats().checkpoints), (steps, checkpoints));
}

#[test]
fn a_journal_error_ends_the_process() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 1, &[]);
    let partition = world.partition("t", 0);
    world.fail = Some(|step| match step {
        Step::WriteThrough { .. } => Some(DiskError::Io { path: "/bad".into(), what: "write", message: "EIO".into() }),
        _ => None,
    });
    let waiting = world.send(partition, Acks::All, batch(&["a"]));
    world.run();
    assert!(world.fatal.is_some());
    assert!(world.answer(waiting).is_none());
}

#[test]
fn large_appends_go_beside_the_journal_and_survive() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 1, &[]);
    let partition = world.partition("t", 0);
    let value = "y".repeat(700_000);
    for _ in 0..10 {
        world.produce(partition, Acks::All, batch(&[&value]));
    }
    drop(world);
    let world = World::open(dir.path(), 2);
    assert_eq!(world.read_all(partition, 0).len(), 10);
    assert_eq!(end_of(&world, partition).get(), 10);
}

#[test]
fn an_answer_that_does_not_come_in_time_is_a_timeout() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 1, &[]);
    let partition = world.partition("t", 0);
    let request = world.send(partition, Acks::All, batch(&["a"]));
    let held = std::mem::take(&mut world.operations);
    world.pass(Duration::from_secs(31));
    assert!(matches!(world.answer(request), Some(Err(AppendError::TimedOut { .. }))));
    world.operations = held;
    world.run();
    assert_eq!(values(&world.read_all(partition, 0)), ["a"]);
}

#[test]
fn producer_ids_differ_also_over_a_crash() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut seen = std::collections::BTreeSet::new();
    for seed in 1..4 {
        let mut world = World::open(dir.path(), seed);
        for _ in 0..3 {
            let to = world.request();
            let request = to.request;
            world.call(|node, now, fx| node.init_producer_id(now, to, fx));
            world.run();
            let Some(Answer::ProducerId(Ok((id, _)))) = world.answers.remove(&request) else { panic!("no id") };
            assert!(seen.insert(id), "{id:?} was given twice");
        }
    }
}

#[test]
fn a_flush_policy_that_changed_between_two_starts_loses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 1, &[]);
    let partition = world.partition("t", 0);
    world.produce(partition, Acks::All, batch(&["a"]));
    drop(world);
    for (seed, policy, value) in [(2, "100", "b"), (3, "1", "c"), (4, "100", "d")] {
        let settings = [("log.flush.interval.messages".to_owned(), policy.to_owned())];
        let statics = replication::metadata::BrokerConfig::new(settings.into()).expect("valid");
        let config = node::config::NodeConfig { statics: std::sync::Arc::new(statics), ..world::config(dir.path()) };
        let mut world = World::open_with(config, seed);
        world.produce(partition, Acks::All, batch(&[value]));
        // No checkpoint and no stop: only what the policy itself promises.
        drop(world);
    }
    let world = World::open(dir.path(), 5);
    assert_eq!(values(&world.read_all(partition, 0)), ["a", "b", "c", "d"]);
}

#[test]
fn a_topic_made_anew_writes_nothing_before_its_namesakes_files_are_gone() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 1, &[]);
    let old = world.partition("t", 0);
    world.produce(old, Acks::All, batch(&["old"]));
    world.pass(Duration::from_secs(15));
    let to = world.request();
    let topic = node::requests::TopicRef::Name(model::TopicName::new("t").expect("a name"));
    world.call(|node, now, fx| node.delete_topics(now, vec![topic], to, fx));
    // Everything but the removal happens.
    let mut removals = Vec::new();
    let is_removal = |op: &storage::disk::DiskOp| {
        op.steps.iter().any(|step| matches!(step, Step::Rename { to, .. } if to.to_string_lossy().ends_with("-delete")))
    };
    while let Some(op) = world.operations.pop_front() {
        if is_removal(&op) {
            removals.push(op);
            continue;
        }
        world.operations.push_front(op);
        world.step();
    }
    assert_eq!(removals.len(), 1);
    world.create_topic("t", 1, &[]);
    let new = world.partition("t", 0);
    let large = "n".repeat(600_000);
    world.produce(new, Acks::All, batch(&["new", &large]));
    world.pass(Duration::from_secs(3));
    let file = std::fs::read(dir.path().join("t-0/00000000000000000000.log")).expect("the old file");
    assert!(file.len() < 1_000, "nobody wrote to it");
    world.operations.extend(removals);
    world.pass(Duration::from_secs(15));
    assert!(world.node.stats().tail_bytes_unwritten == 0);
    assert_eq!(values(&world.read_all(new, 0)), ["new", &large]);
    drop(world);
    let world = World::open(dir.path(), 2);
    assert_eq!(values(&world.read_all(new, 0)), ["new", &large]);
}

#[test]
fn a_group_finds_its_offsets_again_after_a_crash() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 1, &[]);
    let group = model::GroupId::new("g");
    assert_eq!(world.call(|node, now, fx| node.group_coordinator(now, &group, fx)), None);
    world.run();
    assert_eq!(world.call(|node, now, fx| node.group_coordinator(now, &group, fx)), Some(world.node.id()));
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
    let answer = ask(&mut world, &group, GroupRequest::CommitOffsets(commit));
    assert!(matches!(answer, GroupAnswer::CommitOffsets(Ok(ref each)) if each == &[None]), "{answer:?}");
    drop(world);
    let mut world = World::open(dir.path(), 2);
    world.pass(Duration::from_secs(1));
    let fetch = FetchOffsets { member_id: None, member_epoch: -1, topics: None, require_stable: false };
    let answer = ask(&mut world, &group, GroupRequest::FetchOffsets(fetch));
    let GroupAnswer::FetchOffsets(Ok(topics)) = answer else { panic!("{answer:?}") };
    let found = topics.iter().flat_map(|topic| &topic.partitions).filter_map(|found| found.committed.as_ref());
    assert_eq!(found.map(|committed| committed.offset).collect::<Vec<_>>(), [42]);
}

fn ask(world: &mut World, group: &model::GroupId, request: GroupRequest) -> GroupAnswer {
    let to = world.request();
    let number = to.request;
    world.call(|node, now, fx| node.group(now, group.clone(), request, to, fx));
    world.run();
    match world.answers.remove(&number) {
        Some(Answer::Group(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_topic_is_found_as_soon_as_its_creation_is_answered_and_a_second_one_of_its_name_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    let topic = || node::requests::NewTopic::with_defaults(model::TopicName::new("t").expect("a name"));
    let (first, second) = (world.request(), world.request());
    let numbers = [first.request, second.request];
    world.call(|node, now, fx| node.create_topics(now, vec![topic()], false, first, fx));
    world.call(|node, now, fx| node.create_topics(now, vec![topic()], false, second, fx));
    world.run();
    let mut created = numbers.map(|number| match world.answers.remove(&number) {
        Some(Answer::TopicsCreated(mut answers)) => answers.pop().expect("one"),
        other => panic!("{other:?}"),
    });
    assert!(created[0].is_ok());
    let refusal = created[1].as_mut().expect_err("it is there");
    assert_eq!(refusal.code, model::ErrorCode::TopicAlreadyExists);
    assert_eq!(world.produce(world.partition("t", 0), Acks::All, batch(&["a"])), 0);
}

#[test]
fn a_fetch_in_turn_gives_nothing_behind_a_batch_that_did_not_fit() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 3, &[]);
    let large = "x".repeat(300);
    for (index, value) in [&large, &large, "small"].into_iter().enumerate() {
        let partition = world.partition("t", u32::try_from(index).expect("three"));
        world.produce(partition, Acks::All, batch(&[value]));
    }
    let part = |index| FetchPart {
        partition: world.partition("t", index),
        from: 0,
        bytes_max: 1 << 20,
        current_epoch: None,
        last_fetched_epoch: None,
    };
    let limits = FetchLimits { bytes_max: 500, committed_only: false, at_follower: false };
    let given = |mode| {
        let read = world.node.fetch(&[part(0), part(1), part(2)], limits, mode);
        read.parts.iter().map(|part| (part.record_bytes > 0, part.is_too_large)).collect::<Vec<_>>()
    };
    assert_eq!(given(ReadMode::CachedOnly), [(true, false), (false, true), (true, false)]);
    assert_eq!(given(ReadMode::InTurn), [(true, false), (false, true), (false, false)]);
}

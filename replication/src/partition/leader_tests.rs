//! Tables for the leader: a script of events on one side, what came out on the other.

use super::*;
use model::batch::BatchBuilder;

const NODE: NodeId = NodeId(1);

fn settings() -> Settings {
    Settings {
        durability: Durability::Synced,
        min_in_sync: 1,
        batch_bytes_max: 10_000,
        timestamp_type: TimestampType::CreateTime,
        producer_expiry: Duration::from_secs(3_600),
        waiters_max: 100,
    }
}

struct World {
    leader: Leader<&'static str>,
    now: Now,
    /// What came out since it was last looked at, in words.
    out: Vec<String>,
}

fn ids(nodes: &[i32]) -> BTreeSet<NodeId> {
    nodes.iter().map(|node| NodeId(*node)).collect()
}

fn at(offset: i64) -> Offset {
    Offset::new(offset)
}

impl World {
    fn empty(settings: Settings) -> World {
        let recovered =
            Recovered { log_start: at(0), log_end: at(0), high_watermark: at(0), producers: Producers::new(10) };
        World { leader: Leader::new(NODE, recovered, settings), now: Now::default(), out: Vec::new() }
    }

    fn leading(settings: Settings, isr: &[i32]) -> World {
        let mut world = World::empty(settings);
        world.step(Event::Lead { epoch: LeaderEpoch::new(1), replicas: 3, isr: ids(isr) });
        world.out.clear();
        world
    }

    fn step(&mut self, event: Event<&'static str>) -> &mut World {
        let mut actions = Vec::new();
        self.leader.step(self.now, event, &mut actions);
        self.out.extend(actions.into_iter().map(|action| match action {
            Action::StartEpoch { epoch, start } => format!("epoch {epoch} from {start}"),
            Action::Append { batch } => format!("append {}-{}", batch.base_offset(), batch.last_offset()),
            Action::Reply { waiter, result: Ok(appended) } => format!("{waiter} at {}", appended.base_offset),
            Action::Reply { waiter, result: Err(error) } => format!("{waiter}: {error}"),
            Action::Publish(limits) => format!("readable to {}", limits.high_watermark),
        }));
        self
    }

    /// Sends `count` records; with a producer `(id, epoch, first sequence)` an idempotent batch.
    fn send(&mut self, waiter: &'static str, acks: Acks, count: i32, producer: Option<(i64, i16, i32)>) -> &mut World {
        let mut builder = BatchBuilder::new();
        if let Some((id, epoch, first)) = producer {
            builder = builder.producer(id, epoch, first);
        }
        for _ in 0..count {
            builder.push(1_000, None, Some(b"v"), &[]);
        }
        let (timeout, origin) = (Duration::from_secs(30), Origin::Client);
        self.step(Event::Produced { batch: builder.finish(), acks, timeout, origin, waiter })
    }

    fn synced(&mut self, end: i64) -> &mut World {
        self.step(Event::Synced { end: at(end) })
    }

    fn follower(&mut self, node: i32, written: i64, synced: i64) -> &mut World {
        let position = Position { written: at(written), synced: at(synced) };
        self.step(Event::FollowerHas { node: NodeId(node), position })
    }

    fn expect(&mut self, want: &[&str]) -> &mut World {
        assert_eq!(self.out, want);
        self.out.clear();
        self
    }
}

#[test]
fn a_record_is_acknowledged_by_what_its_acks_ask_for() {
    let mut world = World::leading(settings(), &[1]);
    world.send("none", Acks::None, 1, None).expect(&["append 0-0", "none at 0"]);
    world.send("one", Acks::Leader, 2, None).expect(&["append 1-2"]);
    world.send("all", Acks::All, 1, None).expect(&["append 3-3"]);
    world.step(Event::Written { end: at(4) }).expect(&["one at 1"]);
    world.synced(3).expect(&["readable to 3"]);
    world.synced(4).expect(&["readable to 4", "all at 3"]);
}

#[test]
fn a_group_of_appends_is_acknowledged_by_one_sync_in_order() {
    let mut world = World::leading(settings(), &[1]);
    world.send("a", Acks::All, 1, None).send("b", Acks::All, 1, None).send("c", Acks::All, 1, None);
    world.expect(&["append 0-0", "append 1-1", "append 2-2"]);
    world.synced(2).expect(&["readable to 2", "a at 0", "b at 1"]);
    world.synced(2).expect(&[]);
    world.synced(3).expect(&["readable to 3", "c at 2"]);
}

#[test]
fn a_relaxed_topic_counts_what_is_written() {
    let mut world = World::leading(Settings { durability: Durability::Written, ..settings() }, &[1]);
    world.send("all", Acks::All, 1, None).step(Event::Written { end: at(1) });
    world.expect(&["append 0-0", "readable to 1", "all at 0"]);
}

#[test]
fn a_duplicate_is_answered_with_the_original_offset_and_no_earlier() {
    let mut world = World::leading(settings(), &[1]);
    let first = Some((7, 0, 0));
    world.send("original", Acks::All, 2, first).send("other", Acks::All, 1, None).send("again", Acks::All, 2, first);
    world.expect(&["append 0-1", "append 2-2"]);
    world.synced(2).expect(&["readable to 2", "original at 0", "again at 0"]);
    world.send("third", Acks::All, 2, first).expect(&["third at 0"]);
    world.send("gap", Acks::All, 1, Some((7, 0, 5)));
    world.expect(&["gap: producer 7 sent sequence 5 where 2 was next"]);
    world.send("next", Acks::All, 1, Some((7, 0, 2))).expect(&["append 3-3"]);
    world.send("new epoch", Acks::All, 1, Some((7, 1, 0))).expect(&["append 4-4"]);
    world.send("old epoch", Acks::All, 1, Some((7, 0, 3)));
    world.expect(&["old epoch: producer 7 sent epoch 0, 1 is current"]);
}

#[test]
fn a_batch_that_was_refused_leaves_no_trace() {
    let mut world = World::leading(Settings { batch_bytes_max: 100, ..settings() }, &[1]);
    world.send("large", Acks::All, 20, Some((7, 0, 0)));
    assert!(world.out[0].starts_with("large: batch of 2"), "{:?}", world.out);
    assert_eq!((world.leader.log_end(), world.leader.producers().len()), (at(0), 0));
    world.out.clear();
    world.send("small", Acks::All, 1, Some((7, 0, 20))).expect(&["append 0-0"]);
}

#[test]
fn three_replicas_are_acknowledged_by_the_slowest_in_sync() {
    let mut world = World::leading(Settings { min_in_sync: 2, ..settings() }, &[1, 2, 3]);
    world.send("a", Acks::All, 1, None).send("b", Acks::All, 1, None).expect(&["append 0-0", "append 1-1"]);
    world.synced(2).follower(2, 2, 2).expect(&[]);
    world.follower(3, 2, 1).expect(&["readable to 1", "a at 0"]);
    // The others may be ahead of our own disk.
    world.send("c", Acks::All, 1, None).follower(2, 3, 3).follower(3, 3, 3).expect(&[
        "append 2-2",
        "readable to 2",
        "b at 1",
    ]);
    world.synced(3).expect(&["readable to 3", "c at 2"]);
}

#[test]
fn a_removal_counts_when_it_is_committed_and_an_addition_at_once() {
    let mut world = World::leading(Settings { min_in_sync: 1, ..settings() }, &[1, 2]);
    world.send("a", Acks::All, 1, None).synced(1).expect(&["append 0-0"]);
    world.step(Event::IsrProposed { isr: ids(&[1]) }).expect(&[]);
    world.step(Event::IsrCommitted { isr: ids(&[1]) }).expect(&["readable to 1", "a at 0"]);
    world.step(Event::IsrProposed { isr: ids(&[1, 3]) });
    world.send("b", Acks::All, 1, None).synced(2).expect(&["append 1-1"]);
    world.follower(3, 2, 2).expect(&["readable to 2", "b at 1"]);
}

#[test]
fn below_the_minimum_appends_are_refused_and_the_high_watermark_stands() {
    let mut world = World::leading(Settings { min_in_sync: 2, ..settings() }, &[1, 2]);
    world.send("a", Acks::All, 1, None).synced(1).expect(&["append 0-0"]);
    world.step(Event::IsrCommitted { isr: ids(&[1]) }).expect(&[]);
    world.send("b", Acks::All, 1, None).expect(&["b: 1 replicas are in sync, 2 are needed (min.insync.replicas)"]);
    world.send("c", Acks::Leader, 1, None).synced(2).expect(&["append 1-1", "c at 1"]);
    world.step(Event::IsrCommitted { isr: ids(&[1, 2]) }).follower(2, 2, 2).expect(&["readable to 2", "a at 0"]);
}

#[test]
fn the_minimum_is_never_more_than_there_are_replicas() {
    let mut world = World::empty(Settings { min_in_sync: 2, ..settings() });
    world.step(Event::Lead { epoch: LeaderEpoch::ZERO, replicas: 1, isr: ids(&[1]) });
    world.send("a", Acks::All, 1, None).synced(1);
    world.expect(&["epoch 0 from 0", "append 0-0", "readable to 1", "a at 0"]);
}

#[test]
fn an_append_is_taken_only_once_the_image_says_who_leads() {
    let mut world = World::empty(settings());
    world.send("early", Acks::All, 1, None);
    assert!(world.out[0].starts_with("early: this node does not lead"), "{:?}", world.out);
    world.out.clear();
    world.step(Event::Lead { epoch: LeaderEpoch::new(4), replicas: 1, isr: ids(&[1]) }).expect(&["epoch 4 from 0"]);
    world.send("a", Acks::All, 1, None).expect(&["append 0-0"]);
    world.step(Event::StepDown { epoch: LeaderEpoch::new(5), leader: Some(NodeId(2)) });
    world.expect(&["a: this node does not lead the partition; leader Some(NodeId(2)), epoch 5"]);
    world.send("late", Acks::Leader, 1, None);
    world.expect(&["late: this node does not lead the partition; leader Some(NodeId(2)), epoch 5"]);
}

#[test]
fn an_epoch_that_is_told_twice_starts_once() {
    let mut world = World::empty(settings());
    let lead = |epoch| Event::Lead { epoch: LeaderEpoch::new(epoch), replicas: 1, isr: ids(&[1]) };
    world.step(lead(1)).step(lead(1)).expect(&["epoch 1 from 0"]);
    world.send("a", Acks::None, 3, None).step(lead(2));
    world.expect(&["append 0-2", "a at 0", "epoch 2 from 3"]);
}

#[test]
fn what_was_recovered_is_readable_as_soon_as_it_is_led() {
    let recovered =
        Recovered { log_start: at(5), log_end: at(20), high_watermark: at(3), producers: Producers::new(10) };
    let mut world = World { leader: Leader::new(NODE, recovered, settings()), now: Now::default(), out: Vec::new() };
    assert_eq!(world.leader.high_watermark(), at(5));
    world.step(Event::Lead { epoch: LeaderEpoch::new(2), replicas: 1, isr: ids(&[1]) });
    world.expect(&["epoch 2 from 20", "readable to 20"]);
}

#[test]
fn an_answer_that_comes_too_late_is_a_timeout_and_the_records_stay() {
    let mut world = World::leading(settings(), &[1]);
    world.send("a", Acks::All, 1, None);
    world.now.mono = Duration::from_secs(10);
    world.send("b", Acks::All, 1, None).expect(&["append 0-0", "append 1-1"]);
    assert_eq!(world.leader.deadline(), Some(Duration::from_secs(30)));
    world.now.mono = Duration::from_secs(30);
    world.step(Event::Tick).expect(&["a: not acknowledged within 30000 ms"]);
    assert_eq!(world.leader.deadline(), Some(Duration::from_secs(40)));
    world.synced(2).expect(&["readable to 2", "b at 1"]);
    assert_eq!(world.leader.deadline(), None);
}

#[test]
fn a_failed_disk_answers_who_waits_and_ends_the_partition() {
    let mut world = World::leading(settings(), &[1]);
    world.send("a", Acks::All, 1, None).step(Event::Failed { reason: "sync failed".to_owned() });
    world.expect(&["append 0-0", "a: the disk refused: sync failed"]);
    world.synced(1).expect(&[]);
    world.step(Event::Lead { epoch: LeaderEpoch::new(9), replicas: 1, isr: ids(&[1]) }).expect(&[]);
    world.send("b", Acks::All, 1, None).expect(&["b: the disk refused: sync failed"]);
}

#[test]
fn too_many_waiting_answers_are_refused_with_the_limit() {
    let mut world = World::leading(Settings { waiters_max: 1, ..settings() }, &[1]);
    world.send("a", Acks::All, 1, None).send("b", Acks::All, 1, None);
    world.expect(&["append 0-0", "b: 1 requests wait for this partition already"]);
}

#[test]
fn a_topic_that_stamps_says_when() {
    let mut world = World::leading(Settings { timestamp_type: TimestampType::LogAppendTime, ..settings() }, &[1]);
    world.now.wall_ms = 5_000;
    let batch = BatchBuilder::new().producer(7, 0, 0).record(1, None, Some(b"v"), &[]).finish();
    let produced = |batch| Event::Produced {
        batch,
        acks: Acks::None,
        timeout: Duration::ZERO,
        origin: Origin::Client,
        waiter: "w",
    };
    let mut actions = Vec::new();
    world.leader.step(world.now, produced(batch.clone()), &mut actions);
    world.now.wall_ms = 6_000;
    world.leader.step(world.now, produced(batch), &mut actions);
    let [
        Action::Append { batch: stored },
        Action::Reply { result: Ok(first), .. },
        Action::Reply { result: Ok(again), .. },
    ] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!((stored.max_timestamp(), first.log_append_time_ms), (5_000, Some(5_000)));
    assert_eq!(again.log_append_time_ms, Some(5_000), "the time of the original");
}

#[test]
fn a_transactional_batch_is_refused() {
    let mut world = World::leading(settings(), &[1]);
    let batch = BatchBuilder::new().producer(7, 0, 0).transactional().record(1, None, Some(b"v"), &[]).finish();
    let (acks, timeout, origin) = (Acks::All, Duration::ZERO, Origin::Client);
    world.step(Event::Produced { batch, acks, timeout, origin, waiter: "t" });
    world.expect(&["t: transactions are not served by this version"]);
}

#[test]
fn a_producer_that_was_silent_for_the_whole_expiry_is_forgotten() {
    let mut world = World::leading(settings(), &[1]);
    world.send("a", Acks::None, 1, Some((7, 0, 0))).step(Event::Tick);
    for (minutes, known) in [(30, 1), (59, 1), (61, 0)] {
        world.now =
            Now { mono: Duration::from_secs(minutes * 60), wall_ms: i64::try_from(minutes).expect("few") * 60_000 };
        world.step(Event::Tick);
        assert_eq!(world.leader.producers().len(), known, "after {minutes} minutes");
    }
}

//! Tables for a leader: a script of events on one side, what came out on the other.

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
    leader: Replica<&'static str>,
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

fn lead(epoch: i32, replicas: &[i32], isr: &[i32]) -> Event<&'static str> {
    decided(epoch, 0, replicas, isr)
}

fn decided(epoch: i32, partition_epoch: u32, replicas: &[i32], isr: &[i32]) -> Event<&'static str> {
    let epoch = LeaderEpoch::new(epoch);
    Event::Lead(Leadership { epoch, partition_epoch, replicas: ids(replicas), isr: ids(isr) })
}

impl World {
    fn empty(settings: Settings) -> World {
        let recovered = Recovered {
            log_start: at(0),
            log_end: at(0),
            high_watermark: at(0),
            latest_epoch: None,
            producers: Producers::new(10),
        };
        World { leader: Replica::new(NODE, recovered, settings), now: Now::default(), out: Vec::new() }
    }

    fn leading(settings: Settings, isr: &[i32]) -> World {
        let mut world = World::empty(settings);
        world.step(lead(1, &[1, 2, 3], isr));
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
            Action::AlterIsr(wish) => {
                let isr: Vec<i32> = wish.isr.iter().map(|(node, _)| node.0).collect();
                format!("isr {isr:?} against {}", wish.partition_epoch)
            }
            Action::HandOver => "hand over".to_owned(),
            Action::DeleteBefore { start } => format!("delete before {start}"),
            Action::Report(position) => format!("report {} {}", position.written, position.synced),
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

    /// The first time, its stream begins with it.
    fn follower(&mut self, node: i32, written: i64, synced: i64) -> &mut World {
        let (node, position) = (NodeId(node), Position { written: at(written), synced: at(synced) });
        if self.leader.pace.incarnation(node).is_none() {
            return self.step(Event::Joined { node, incarnation: Incarnation([7; 16]), position });
        }
        self.step(Event::FollowerHas { node, position })
    }

    fn pass(&mut self, milliseconds: u64) -> &mut World {
        self.now.mono += Duration::from_millis(milliseconds);
        self.now.wall_ms += i64::try_from(milliseconds).expect("short");
        self.step(Event::Tick)
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
fn a_replica_that_keeps_up_is_taken_in_and_counts_from_the_moment_it_is_asked_for() {
    let mut world = World::leading(settings(), &[1]);
    world.send("a", Acks::All, 1, None).synced(1).expect(&["append 0-0", "readable to 1", "a at 0"]);
    world.follower(2, 1, 1).expect(&["isr [1, 2] against 0"]);
    world.send("b", Acks::All, 1, None).synced(2).expect(&["append 1-1"]);
    world.follower(2, 2, 2).expect(&["readable to 2", "b at 1"]);
    world.step(decided(1, 1, &[1, 2, 3], &[1, 2])).send("c", Acks::All, 1, None).synced(3).expect(&["append 2-2"]);
    world.follower(2, 3, 3).expect(&["readable to 3", "c at 2"]);
}

#[test]
fn one_that_is_a_moment_behind_is_waited_for() {
    let mut world = World::leading(settings(), &[1]);
    world.send("a", Acks::All, 2, None).synced(2).expect(&["append 0-1", "readable to 2", "a at 0"]);
    world.follower(2, 2, 1).expect(&[]);
    world.send("b", Acks::All, 1, None).synced(3).expect(&["append 2-2"]);
    world.follower(2, 3, 3).expect(&["readable to 3", "b at 2", "isr [1, 2] against 0"]);
}

#[test]
fn one_that_stops_while_it_is_waited_for_is_waited_for_no_more() {
    let mut world = World::leading(settings(), &[1]);
    world.send("a", Acks::All, 2, None).synced(2).follower(2, 2, 1);
    world.send("b", Acks::All, 1, None).synced(3);
    world.expect(&["append 0-1", "readable to 2", "a at 0", "append 2-2"]);
    world.pass(100).expect(&["readable to 3", "b at 2"]);
}

#[test]
fn a_refusal_gives_the_high_watermark_free_and_the_question_comes_again_later() {
    let mut world = World::leading(settings(), &[1]);
    world.follower(2, 0, 0).expect(&["isr [1, 2] against 0"]);
    world.send("a", Acks::All, 1, None).synced(1).expect(&["append 0-0"]);
    world.step(Event::IsrRefused { partition_epoch: 0 }).expect(&["readable to 1", "a at 0"]);
    world.follower(2, 1, 1).expect(&[]);
    world.pass(1_000).expect(&["isr [1, 2] against 0"]);
    // Nobody answered: the fate of the change is not known, so it counts on.
    world.pass(1_000).expect(&["isr [1, 2] against 0"]);
}

#[test]
fn news_that_decide_nothing_about_a_partition_take_no_proposal_of_it_back() {
    let mut world = World::leading(settings(), &[1]);
    world.follower(2, 0, 0).expect(&["isr [1, 2] against 0"]);
    // Another partition of the topic has changed, and all of them are told what holds.
    world.step(decided(1, 0, &[1, 2, 3], &[1])).expect(&[]);
    world.send("a", Acks::All, 1, None).synced(1).expect(&["append 0-0"]);
    world.follower(2, 1, 1).expect(&["readable to 1", "a at 0"]);
}

#[test]
fn a_replica_that_is_slow_for_two_seconds_leaves_and_is_back_after_ten() {
    let mut world = World::leading(settings(), &[1, 2, 3]);
    world.follower(2, 0, 0).follower(3, 0, 0);
    let mut end = 0;
    let mut second = |world: &mut World, slow: bool| {
        for _ in 0..10 {
            end += 1;
            world.send("w", Acks::None, 1, None).synced(end).follower(2, end, end);
            if !slow {
                world.follower(3, end, end);
            }
            world.pass(100);
        }
        std::mem::take(&mut world.out).into_iter().filter(|line| line.starts_with("isr")).collect::<Vec<_>>()
    };
    assert!(second(&mut world, false).is_empty());
    assert!(second(&mut world, true).is_empty());
    let mut asked = second(&mut world, true);
    asked.extend(second(&mut world, true));
    assert_eq!(asked.first().map(String::as_str), Some("isr [1, 2] against 0"));
    world.step(decided(1, 1, &[1, 2, 3], &[1, 2]));
    for _ in 0..9 {
        assert!(second(&mut world, false).is_empty());
    }
    assert_eq!(second(&mut world, false).first().map(String::as_str), Some("isr [1, 2, 3] against 1"));
}

#[test]
fn a_removal_counts_when_it_is_committed() {
    let mut world = World::leading(settings(), &[1, 2]);
    world.follower(2, 0, 0).send("a", Acks::All, 1, None).synced(1).expect(&["append 0-0"]);
    world.step(Event::Left { node: NodeId(2), offline: true }).expect(&["isr [1] against 0"]);
    world.step(decided(1, 1, &[1, 2, 3], &[1])).expect(&["readable to 1", "a at 0"]);
}

#[test]
fn what_another_leader_may_have_acknowledged_must_be_there_before_a_replica_is_taken_in() {
    let recovered = Recovered {
        log_start: at(0),
        log_end: at(10),
        high_watermark: at(4),
        latest_epoch: None,
        producers: Producers::new(10),
    };
    let settings = Settings { min_in_sync: 2, ..settings() };
    let mut world = World { leader: Replica::new(NODE, recovered, settings), now: Now::default(), out: Vec::new() };
    world.step(lead(3, &[1, 2, 3], &[1])).expect(&["epoch 3 from 10"]);
    assert!(world.leader.is_fresh());
    world.follower(2, 8, 8).expect(&[]);
    world.follower(2, 10, 10).expect(&["isr [1, 2] against 0"]);
    world.step(decided(3, 1, &[1, 2, 3], &[1, 2])).expect(&["readable to 10"]);
    assert!(!world.leader.is_fresh());
}

#[test]
fn a_new_epoch_forgets_what_the_followers_had() {
    let mut world = World::leading(settings(), &[1, 2]);
    world.follower(2, 0, 0).send("a", Acks::All, 2, None).synced(2).follower(2, 2, 1);
    world.expect(&["append 0-1", "readable to 1"]);
    world.step(lead(2, &[1, 2], &[1, 2])).expect(&["epoch 2 from 2"]);
    world.step(Event::FollowerHas { node: NodeId(2), position: Position { written: at(2), synced: at(2) } });
    world.expect(&[]);
    world.follower(2, 2, 2).expect(&["readable to 2", "a at 0"]);
}

#[test]
fn a_leader_whose_disk_hangs_for_a_second_hands_over() {
    let mut world = World::leading(settings(), &[1, 2]);
    world.follower(2, 0, 0).send("a", Acks::All, 1, None).pass(900).expect(&["append 0-0"]);
    world.follower(2, 1, 1).expect(&[]);
    world.pass(100).expect(&["hand over"]);
    world.pass(500).expect(&[]);
    world.pass(500).expect(&["hand over"]);
    world.synced(1).expect(&["readable to 1", "a at 0"]);
    world.pass(2_000).expect(&[]);
}

#[test]
fn below_the_minimum_appends_are_refused_and_the_high_watermark_stands() {
    let mut world = World::leading(Settings { min_in_sync: 2, ..settings() }, &[1, 2]);
    world.send("a", Acks::All, 1, None).synced(1).expect(&["append 0-0"]);
    world.step(decided(1, 1, &[1, 2, 3], &[1])).expect(&[]);
    world.send("b", Acks::All, 1, None).expect(&["b: 1 replicas are in sync, 2 are needed (min.insync.replicas)"]);
    world.send("c", Acks::Leader, 1, None).synced(2).expect(&["append 1-1", "c at 1"]);
    world.step(decided(1, 2, &[1, 2, 3], &[1, 2])).follower(2, 2, 2).expect(&["readable to 2", "a at 0"]);
}

#[test]
fn the_minimum_is_never_more_than_there_are_replicas() {
    let mut world = World::empty(Settings { min_in_sync: 2, ..settings() });
    world.step(lead(0, &[1], &[1]));
    world.send("a", Acks::All, 1, None).synced(1);
    world.expect(&["epoch 0 from 0", "append 0-0", "readable to 1", "a at 0"]);
}

#[test]
fn an_append_is_taken_only_once_the_image_says_who_leads() {
    let mut world = World::empty(settings());
    world.send("early", Acks::All, 1, None);
    assert!(world.out[0].starts_with("early: this node does not lead"), "{:?}", world.out);
    world.out.clear();
    world.step(lead(4, &[1], &[1])).expect(&["epoch 4 from 0"]);
    world.send("a", Acks::All, 1, None).expect(&["append 0-0"]);
    world.step(Event::Follow { epoch: LeaderEpoch::new(5), leader: Some(NodeId(2)) });
    world.expect(&["a: this node does not lead the partition; leader Some(NodeId(2)), epoch 5"]);
    world.send("late", Acks::Leader, 1, None);
    world.expect(&["late: this node does not lead the partition; leader Some(NodeId(2)), epoch 5"]);
}

#[test]
fn an_epoch_that_is_told_twice_starts_once() {
    let mut world = World::empty(settings());
    world.step(lead(1, &[1], &[1])).step(lead(1, &[1], &[1])).expect(&["epoch 1 from 0"]);
    world.send("a", Acks::None, 3, None).step(lead(2, &[1], &[1]));
    world.expect(&["append 0-2", "a at 0", "epoch 2 from 3"]);
}

#[test]
fn what_was_recovered_is_readable_as_soon_as_it_is_led() {
    let recovered = Recovered {
        log_start: at(5),
        log_end: at(20),
        high_watermark: at(3),
        latest_epoch: None,
        producers: Producers::new(10),
    };
    let mut world = World { leader: Replica::new(NODE, recovered, settings()), now: Now::default(), out: Vec::new() };
    assert_eq!(world.leader.high_watermark(), at(5));
    world.step(lead(2, &[1], &[1]));
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
    world.step(lead(9, &[1], &[1])).expect(&[]);
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

/// A replica whose data went when it was reassigned away, and that comes back, has what its new stream says and nothing else.
#[test]
fn a_replica_that_went_and_comes_again_has_nothing_until_it_follows_anew() {
    let mut world = World::leading(settings(), &[1, 2, 3]);
    world.send("a", Acks::All, 5, None).synced(5).follower(2, 5, 5).follower(3, 5, 5);
    world.step(decided(1, 1, &[1, 2], &[1, 2])).out.clear();
    world.step(decided(1, 2, &[1, 2, 3], &[1, 2])).pass(100).expect(&[]);
    world.follower(3, 0, 0).expect(&[]);
    world.follower(3, 5, 5).expect(&["isr [1, 2, 3] against 2"]);
}

//! Tests of the coordinators: when answers leave, what a load finds, what a failed append costs.

mod bed;

use model::batch::{BatchBuilder, StoredBatch};
use model::{ErrorCode, GroupId, LeaderEpoch, Offset, PartitionIndex};
use replication::group::*;

use super::*;
use crate::effects::Effects;
use bed::*;

#[test]
fn a_group_is_kept_in_the_partition_that_javas_hash_of_its_name_says() {
    // "polygenelubricants" is known to hash to the one number that has no absolute value.
    let hashes = [("", 0), ("a", 97), ("hello", 99_162_322), ("polygenelubricants", 0), ("😀", 1_772_899)];
    for (name, hash) in hashes {
        for count in [1, 7, 50] {
            assert_eq!(partition_of(&GroupId::new(name), count), Some(PartitionIndex::new(hash % count)), "{name}");
        }
    }
    // A negative hash (-1906497762) counts by its absolute value, not by its lower 31 bits.
    assert_eq!(partition_of(&GroupId::new("my-group"), 50), Some(PartitionIndex::new(1_906_497_762 % 50)));
    assert_eq!(partition_of(&GroupId::new("g"), 0), None);
}

#[test]
fn an_answer_leaves_when_its_records_are_committed_and_a_reader_of_them_waits_too() {
    let mut bed = Bed::leading(&["g"]);
    let (first, read, beat) = (bed.ask("g", commit(5)), bed.ask("g", fetch()), bed.ask("g", heartbeat()));
    assert_eq!([first, read, beat].map(|request| bed.said(request)), ["waits", "waits", "25"]);
    assert!(bed.complete(Ok(())));
    assert_eq!([first, read].map(|request| bed.said(request)), ["ok", "5"]);
    let after = bed.ask("g", fetch());
    assert_eq!(bed.said(after), "5");
}

#[test]
fn what_is_decided_while_an_append_is_under_way_goes_into_one_batch() {
    let mut bed = Bed::leading(&["g"]);
    let requests: Vec<u64> = (0..100).map(|offset| bed.ask("g", commit(offset))).collect();
    assert_eq!(bed.batches("g"), 1);
    assert!(bed.complete(Ok(())));
    assert_eq!(bed.batches("g"), 2);
    assert_eq!((bed.said(requests[0]), bed.said(requests[1])), ("ok".to_owned(), "waits".to_owned()));
    assert!(bed.complete(Ok(())));
    assert_eq!(bed.batches("g"), 2);
    assert!(requests.iter().all(|request| bed.said(*request) == "ok"));
}

#[test]
fn a_heartbeat_writes_nothing() {
    let mut bed = Bed::leading(&["g"]);
    bed.ask("g", heartbeat());
    assert!(!bed.complete(Ok(())));
    assert_eq!(bed.batches("g"), 0);
}

#[test]
fn a_failed_append_refuses_all_who_wait_and_the_log_is_read_again() {
    let mut bed = Bed::leading(&["g"]);
    let first = bed.ask("g", commit(5));
    assert!(bed.complete(Ok(())));
    let parked = bed.ask(&neighbour("g"), join());
    let requests = [bed.ask("g", commit(6)), bed.ask("g", commit(7)), bed.ask("g", fetch())];
    assert!(bed.complete(Err(disk_full())));
    assert_eq!(requests.map(|request| bed.said(request)), ["15", "15", "16"]);
    assert_eq!((bed.said(first), bed.said(parked)), ("ok".to_owned(), "15".to_owned()));
    let (meanwhile, beat) = (bed.ask("g", fetch()), bed.ask("g", heartbeat()));
    assert_eq!((bed.said(meanwhile), bed.said(beat)), ("14".to_owned(), "ok".to_owned()));
    bed.tick(1000);
    let after = bed.ask("g", fetch());
    assert_eq!(bed.said(after), "5");
}

#[test]
fn a_new_leader_finds_what_was_committed_and_nothing_is_served_before() {
    let mut bed = Bed::leading(&["g"]);
    for offset in 0..20 {
        bed.ask("g", commit(offset));
        assert!(bed.complete(Ok(())));
    }
    bed.coordinators = Coordinators::new(GroupConfig::default(), 2);
    bed.coordinators.set_partition_count(COUNT, &mut Effects::new());
    bed.lead("g", 1);
    let early = [bed.ask("g", fetch()), bed.ask("g", join()), bed.ask("g", GroupRequest::List(ListFilter::default()))];
    assert_eq!(early.map(|request| bed.said(request)), ["14", "14", "14"]);
    while bed.said(bed.next_request - 1) == "14" {
        bed.tick(0);
        bed.ask("g", fetch());
    }
    assert_eq!(bed.said(bed.next_request - 1), "19");
}

#[test]
fn a_load_waits_until_the_end_of_the_log_is_committed() {
    let mut bed = Bed::leading(&["g"]);
    bed.ask("g", commit(1));
    assert!(bed.complete(Ok(())));
    bed.ask("g", commit(2));
    // The leadership goes and comes back while the second commit is in the log but not committed.
    bed.lead("g", 1);
    bed.tick(50);
    let early = bed.ask("g", fetch());
    assert_eq!(bed.said(early), "14");
    // The old leadership's completion means nothing to the new one, but the log's commit does.
    assert!(bed.complete(Ok(())));
    bed.tick(50);
    bed.tick(50);
    let late = bed.ask("g", fetch());
    assert_eq!(bed.said(late), "2");
}

#[test]
fn without_leadership_nothing_is_answered_but_not_coordinator() {
    let mut bed = Bed::leading(&["g"]);
    let waits = [bed.ask(&neighbour("g"), join()), bed.ask("g", commit(1))];
    let mut fx = Effects::new();
    bed.coordinators.resign(partition("g"), &mut fx);
    bed.take(fx);
    assert_eq!(waits.map(|request| bed.said(request)), ["16", "16"]);
    assert!(bed.complete(Ok(())));
    let after = [bed.ask("g", fetch()), bed.ask("g", heartbeat()), bed.ask("other", commit(1))];
    assert_eq!(after.map(|request| bed.said(request)), ["16", "16", "16"]);
}

#[test]
fn a_topic_that_is_made_anew_begins_without_groups() {
    let mut bed = Bed::leading(&["g"]);
    bed.ask("g", commit(1));
    assert!(bed.complete(Ok(())));
    let parked = bed.ask(&neighbour("g"), join());
    let mut fx = Effects::new();
    bed.coordinators.set_partition_count(0, &mut fx);
    bed.take(fx);
    let nowhere = bed.ask("g", fetch());
    assert_eq!([parked, nowhere].map(|request| bed.said(request)), ["16", "16"]);
    bed.log = FakeLog::default();
    bed.coordinators.set_partition_count(COUNT, &mut Effects::new());
    bed.lead("g", 0);
    let anew = bed.ask("g", fetch());
    assert_eq!(bed.said(anew), "-1");
}

#[test]
fn groups_of_all_shards_are_listed() {
    let mut bed = Bed::leading(&["g", "h", "i"]);
    for group in ["i", "g", "h"] {
        bed.ask(group, commit(1));
        assert!(bed.complete(Ok(())));
    }
    let listed = bed.ask("", GroupRequest::List(ListFilter::default()));
    assert_eq!(bed.said(listed), "g h i");
}

#[test]
fn a_parked_join_is_answered_by_the_tick_that_ends_its_gathering() {
    let mut bed = Bed::leading(&["g"]);
    let joined = bed.ask("g", join());
    assert_eq!(bed.said(joined), "waits");
    bed.tick(100);
    assert_eq!(bed.said(joined), "ok");
}

#[test]
fn damaged_records_and_those_of_other_protocols_are_passed_over() {
    let mut bed = Bed::new();
    let good = |offset: i64| GroupRecord::Offset {
        group: GroupId::new("g"),
        topic: topic(),
        partition: PartitionIndex::new(0),
        value: Some(CommittedOffset {
            offset,
            leader_epoch: None,
            metadata: "".into(),
            commit_timestamp_ms: 0,
            expire_timestamp_ms: None,
        }),
    };
    let mut builder = BatchBuilder::new();
    let add = |builder: &mut BatchBuilder, record: &GroupRecord| {
        builder.push(0, Some(&record.key()), record.value().as_deref(), &[]);
    };
    add(&mut builder, &good(1));
    builder.push(0, Some(&[0, 3, 0, 1, b'g']), Some(&[0, 0]), &[]);
    builder.push(0, Some(&[0, 1, 0]), Some(&[0, 0]), &[]);
    builder.push(0, None, None, &[]);
    add(&mut builder, &good(2));
    {
        let mut partitions = bed.log.partitions.lock().expect("ours");
        let log = partitions.entry(partition("g")).or_default();
        log.batches.push(builder.finish().place(Offset::ZERO, LeaderEpoch::ZERO));
        log.committed = 1;
    }
    bed.lead("g", 0);
    bed.tick(0);
    let read = bed.ask("g", fetch());
    assert_eq!(bed.said(read), "2");
}

#[test]
fn a_large_commit_is_split_into_batches_and_answered_after_the_last() {
    let mut bed = Bed::leading(&["g"]);
    let GroupRequest::CommitOffsets(mut request) = commit(1) else { panic!("a commit") };
    let one = request.offsets[0].clone();
    request.offsets = (0..2000)
        .map(|at| CommitOffset { partition: PartitionIndex::new(at), metadata: "x".repeat(1000), ..one.clone() })
        .collect();
    let asked = bed.ask("g", GroupRequest::CommitOffsets(request));
    let mut appends = 0;
    while bed.said(asked) == "waits" {
        assert!(bed.complete(Ok(())));
        appends += 1;
    }
    assert!((8..=10).contains(&appends), "{appends} batches for 2 MB");
    let partitions = bed.log.partitions.lock().expect("ours");
    let largest = partitions[&partition("g")].batches.iter().map(StoredBatch::size).max();
    assert!(largest.is_some_and(|bytes| bytes <= 256 * 1024 + 100), "{largest:?}");
}

#[test]
fn no_acknowledged_commit_is_lost_whatever_fails_in_between() {
    let mut served = 0;
    for seed in 0..200u64 {
        let mut dice = seed;
        let mut roll = |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % sides
        };
        let mut bed = Bed::leading(&["g"]);
        let mut commits: Vec<(u64, i64)> = Vec::new();
        let mut reads: Vec<(u64, i64)> = Vec::new();
        let mut epoch = 0;
        for round in 0..400 {
            let acknowledged = |bed: &Bed, commits: &[(u64, i64)]| {
                commits.iter().filter(|(request, _)| bed.said(*request) == "ok").map(|(_, offset)| *offset).max()
            };
            match roll(12) {
                0..4 => commits.push((bed.ask("g", commit(round)), round)),
                4 | 5 => {
                    let least = acknowledged(&bed, &commits).unwrap_or(-1);
                    reads.push((bed.ask("g", fetch()), least));
                }
                6..10 => {
                    bed.complete(Ok(()));
                }
                10 => {
                    if roll(3) == 0 {
                        bed.complete(Err(disk_full()));
                        bed.log.appends.lock().expect("ours").clear();
                    } else {
                        bed.tick(600);
                    }
                }
                _ if roll(4) == 0 => {
                    // A crash: what is not committed is gone with the process.
                    epoch += 1;
                    bed.log.appends.lock().expect("ours").clear();
                    for log in bed.log.partitions.lock().expect("ours").values_mut() {
                        let keep = log.committed;
                        log.batches.truncate(keep);
                    }
                    bed.coordinators = Coordinators::new(GroupConfig::default(), seed + round.unsigned_abs());
                    bed.coordinators.set_partition_count(COUNT, &mut Effects::new());
                    bed.lead("g", epoch);
                }
                _ => bed.tick(30),
            }
        }
        for (request, least) in reads {
            if let Ok(read) = bed.said(request).parse::<i64>()
                && matches!(bed.answers.get(&request), Some(GroupAnswer::FetchOffsets(Ok(_))))
            {
                served += 1;
                assert!(read >= least, "seed {seed}: request {request} read {read} after {least} was acknowledged");
            }
        }
    }
    assert!(served > 3000, "only {served} reads");
}

#[test]
fn errors_have_the_codes_that_clients_act_upon() {
    let loading = GroupError::Loading.code();
    let away = GroupError::NotCoordinator.code();
    assert_eq!((loading, away), (ErrorCode::CoordinatorLoadInProgress, ErrorCode::NotCoordinator));
}

#[test]
fn the_records_of_one_move_are_in_one_batch() {
    let mut bed = Bed::leading(&["g"]);
    // The member's own record alone fills a batch of small moves.
    let topics = (0..4_000).map(|number| format!("{number:0>100}")).collect();
    let joined = bed.ask(
        "g",
        GroupRequest::ConsumerHeartbeat(ConsumerHeartbeat {
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            member_id: MemberId::from_wire("m"),
            member_id_required: true,
            member_epoch: 0,
            instance_id: None,
            rack: None,
            rebalance_timeout_ms: Some(60_000),
            topics: Some(topics),
            pattern: None,
            assignor: None,
            owned: Some(Partitions::new()),
        }),
    );
    assert_eq!((bed.said(joined).as_str(), bed.batches("g")), ("waits", 1));
    assert!(bed.complete(Ok(())));
    assert!(!bed.complete(Ok(())), "a second append was begun");
    let answer = bed.answers.get(&joined).expect("its records are committed");
    assert!(matches!(answer, GroupAnswer::ConsumerHeartbeat(Ok(beat)) if beat.member_epoch == 1), "{answer:?}");
}

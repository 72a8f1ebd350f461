//! Tables for the duplicate check.

use super::*;

fn batch(producer: i64, epoch: i16, first: i32, count: i32) -> Sequenced {
    Sequenced { producer, epoch, first, last: first.wrapping_add(count - 1) & i32::MAX }
}

/// One step of a table: a batch `(epoch, first sequence, count)` and what is to come of it.
enum Want {
    New,
    Duplicate(i64),
    OutOfOrder(i32),
    Stale(i16),
}

/// Sends the batches one after the other; accepted ones are appended at rising offsets.
fn check(steps: &[(i16, i32, i32, Want)]) {
    let mut producers = Producers::new(10);
    let mut end = Offset::ZERO;
    for (at, (epoch, first, count, want)) in steps.iter().enumerate() {
        let sent = batch(7, *epoch, *first, *count);
        match (producers.check(sent), want) {
            (Ok(Checked::New), Want::New) => {
                producers.appended(sent, end, 1_000, 5);
                end = end.plus(count.cast_unsigned());
            }
            (Ok(Checked::Duplicate { base_offset, next_offset, .. }), Want::Duplicate(offset)) => {
                assert_eq!(base_offset, Offset::new(*offset), "step {at}");
                assert_eq!(next_offset, base_offset.plus(count.cast_unsigned()), "step {at}");
            }
            (Err(SequenceError::OutOfOrder { expected, got, .. }), Want::OutOfOrder(next)) => {
                assert_eq!((expected, got), (*next, *first), "step {at}");
            }
            (Err(SequenceError::StaleEpoch { current, .. }), Want::Stale(want)) => {
                assert_eq!(current, *want, "step {at}")
            }
            (got, _) => panic!("step {at}: {got:?}"),
        }
    }
}

#[test]
fn consecutive_batches_are_accepted_and_gaps_are_not() {
    check(&[(0, 0, 3, Want::New), (0, 3, 1, Want::New), (0, 5, 1, Want::OutOfOrder(4)), (0, 4, 2, Want::New)]);
}

#[test]
fn an_unknown_producer_may_begin_with_any_sequence() {
    check(&[(3, 1_000, 2, Want::New), (3, 1_002, 1, Want::New)]);
}

#[test]
fn each_of_the_last_five_batches_is_recognised_and_the_sixth_is_not() {
    let mut steps: Vec<_> = (0..6).map(|at| (0, at * 2, 2, Want::New)).collect();
    steps.extend((1..6).map(|at| (0, at * 2, 2, Want::Duplicate(i64::from(at) * 2))));
    steps.push((0, 0, 2, Want::OutOfOrder(12)));
    check(&steps);
}

#[test]
fn a_batch_that_overlaps_a_remembered_one_without_being_it_is_out_of_order() {
    check(&[
        (0, 0, 4, Want::New),
        (0, 0, 3, Want::OutOfOrder(4)),
        (0, 1, 3, Want::OutOfOrder(4)),
        (0, 2, 4, Want::OutOfOrder(4)),
    ]);
}

#[test]
fn the_sequence_wraps_to_zero() {
    let last = i32::MAX;
    check(&[
        (0, last - 1, 2, Want::New),
        (0, 0, 1, Want::New),
        (0, last - 1, 2, Want::Duplicate(0)),
        (0, 2, 1, Want::OutOfOrder(1)),
    ]);
    check(&[(0, last - 1, 5, Want::New), (0, 3, 1, Want::New), (0, last - 1, 5, Want::Duplicate(0))]);
}

#[test]
fn a_new_epoch_begins_at_zero_and_the_old_one_is_fenced() {
    check(&[
        (0, 0, 2, Want::New),
        (1, 2, 1, Want::OutOfOrder(0)),
        (1, 0, 1, Want::New),
        (0, 2, 1, Want::Stale(1)),
        (0, 0, 2, Want::Stale(1)),
        (1, 0, 1, Want::Duplicate(2)),
    ]);
}

#[test]
fn a_silent_producer_is_forgotten_and_may_begin_anywhere() {
    let mut producers = Producers::new(10);
    producers.appended(batch(1, 0, 0, 1), Offset::ZERO, 0, 100);
    producers.appended(batch(2, 0, 0, 1), Offset::new(1), 0, 200);
    assert_eq!(producers.expire(200), 1);
    assert_eq!(producers.check(batch(1, 0, 77, 1)), Ok(Checked::New));
    assert!(producers.check(batch(2, 0, 77, 1)).is_err());
}

#[test]
fn over_the_limit_the_longest_silent_ones_go_first() {
    let mut producers = Producers::new(16);
    for id in 0..17 {
        producers.appended(batch(id, 0, 0, 1), Offset::new(id), 0, 1_000 - id);
    }
    assert_eq!(producers.len(), 15);
    // The last of the first sixteen had the oldest times.
    assert_eq!(producers.check(batch(15, 0, 9, 1)), Ok(Checked::New));
    assert_eq!(producers.check(batch(14, 0, 9, 1)), Ok(Checked::New));
    assert!(producers.check(batch(13, 0, 9, 1)).is_err());
    assert!(producers.check(batch(16, 0, 9, 1)).is_err());
}

#[test]
fn a_snapshot_gives_back_what_went_in() {
    let mut producers = Producers::new(100);
    let mut end = Offset::ZERO;
    for step in 0..40 {
        let sent = batch(step % 7, 1, i32::try_from(step / 7 * 3).expect("small"), 3);
        producers.appended(sent, end, 1_000 + step, 2_000 + step);
        end = end.plus(3);
    }
    let snapshot = producers.encode();
    assert_eq!(Producers::decode(&snapshot, 100), Ok(producers));
    assert_eq!(Producers::new(5).encode(), Bytes::new());
    assert_eq!(Producers::decode(&[], 5), Ok(Producers::new(5)));
    for cut in 2..snapshot.len() {
        // A cut between two producers is a shorter snapshot; the checkpoint's checksum guards against that.
        if let Err(error) = Producers::decode(snapshot.get(..cut).expect("in range"), 100) {
            assert_eq!(error, SnapshotError::Torn { bytes: cut });
        }
    }
    assert_eq!(Producers::decode(&[9, 0], 5), Err(SnapshotError::Version { got: 9 }));
}

#[test]
fn a_replay_that_begins_before_the_snapshot_counts_nothing_twice() {
    let mut producers = Producers::new(10);
    producers.appended(batch(1, 0, 0, 2), Offset::ZERO, 0, 0);
    producers.appended(batch(1, 0, 2, 2), Offset::new(2), 0, 0);
    let before = producers.clone();
    producers.replayed(batch(1, 0, 0, 2), Offset::ZERO, 0, 0);
    producers.replayed(batch(1, 0, 2, 2), Offset::new(2), 0, 0);
    assert_eq!(producers, before);
    producers.replayed(batch(1, 0, 4, 1), Offset::new(4), 0, 0);
    assert!(matches!(producers.check(batch(1, 0, 4, 1)), Ok(Checked::Duplicate { .. })));
}

#[test]
fn the_first_released_snapshot_is_still_read() {
    let hex =
        "01000000000000002b000000000000000700020000000000000064010000000a0000000b000000000000002a00000000000003e8";
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect();
    let producers = Producers::decode(&bytes, 5).expect("version 1");
    let want = Checked::Duplicate { base_offset: Offset::new(42), next_offset: Offset::new(44), timestamp_ms: 1_000 };
    assert_eq!(producers.check(batch(7, 2, 10, 2)), Ok(want));
    assert_eq!(producers.encode(), bytes);
}

#[test]
fn a_cut_takes_back_what_was_sent_behind_it() {
    let mut producers = Producers::new(10);
    for at in 0..7 {
        producers.appended(batch(7, 0, at, 1), Offset::new(i64::from(at)), 0, 0);
    }
    producers.appended(batch(8, 0, 0, 1), Offset::new(7), 0, 0);
    assert!(producers.loses_any(Offset::new(7)));
    assert!(!producers.loses_any(Offset::new(8)));
    producers.cut(Offset::new(5));
    assert_eq!(producers.len(), 1, "of the other nothing is known any more");
    assert_eq!(producers.check(batch(7, 0, 5, 1)), Ok(Checked::New));
    assert!(matches!(producers.check(batch(7, 0, 4, 1)), Ok(Checked::Duplicate { .. })));
    // What is read again counts from the cut on.
    producers.replayed(batch(7, 0, 5, 1), Offset::new(5), 0, 0);
    assert_eq!(producers.check(batch(7, 0, 6, 1)), Ok(Checked::New));
}

//! Tables for comparing and cutting logs, and for what a follower takes.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::isr::Durability;
use super::super::replica::{Event, Recovered, Settings};
use super::*;
use model::batch::{BatchBuilder, TimestampType};

/// `(epoch, start offset)` in order, and the log's end.
struct Epochs(Vec<(i32, i64)>, i64);

impl EpochView for Epochs {
    fn latest(&self) -> Option<LeaderEpoch> {
        self.0.last().map(|(epoch, _)| LeaderEpoch::new(*epoch))
    }

    fn end_offset_for(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        let at = self.0.iter().rposition(|(have, _)| *have <= epoch.get())?;
        let end = self.0.get(at + 1).map_or(self.1, |(_, start)| *start);
        Some(EpochEnd { epoch: LeaderEpoch::new(self.0[at].0), end: Offset::new(end) })
    }
}

fn log(epochs: &[(i32, i64)], start: i64, end: i64) -> (Epochs, LogBounds) {
    let view = Epochs(epochs.to_vec(), end);
    let latest = view.latest();
    (view, LogBounds { start: Offset::new(start), end: Offset::new(end), latest })
}

fn parted(epoch: i32, end: i64) -> Agreement {
    Agreement::Parted(EpochEnd { epoch: LeaderEpoch::new(epoch), end: Offset::new(end) })
}

fn begin_at(start: i64) -> Agreement {
    Agreement::BeginAt(Offset::new(start))
}

/// The leader's log from 0 unless its first epoch says otherwise.
fn check_compare(leader: &[(i32, i64)], leader_end: i64, follower: &[(i32, i64)], end: i64, want: Agreement) {
    let start = leader.first().map_or(0, |(_, start)| *start);
    let (view, ours) = log(leader, start, leader_end);
    let (_, theirs) = log(follower, 0, end);
    assert_eq!(compare(ours, &view, theirs), want, "{leader:?} to {leader_end}, {follower:?} to {end}");
}

#[test]
fn a_log_that_is_a_beginning_of_the_leaders_agrees() {
    check_compare(&[(0, 0), (2, 5)], 12, &[(0, 0), (2, 5)], 12, Agreement::Agrees);
    check_compare(&[(0, 0), (2, 5)], 12, &[(0, 0), (2, 5)], 7, Agreement::Agrees);
    check_compare(&[(0, 0), (2, 5)], 12, &[(0, 0)], 5, Agreement::Agrees);
    check_compare(&[(0, 0), (2, 5)], 12, &[], 0, Agreement::Agrees);
    check_compare(&[], 0, &[], 0, Agreement::Agrees);
}

#[test]
fn a_log_with_other_records_has_parted() {
    check_compare(&[(0, 0), (2, 5)], 12, &[(0, 0)], 7, parted(0, 5));
    check_compare(&[(0, 0), (2, 5)], 12, &[(0, 0), (1, 3)], 7, parted(0, 5));
    check_compare(&[(0, 0), (2, 5)], 12, &[(0, 0), (3, 5)], 9, parted(2, 12));
    check_compare(&[(0, 0), (2, 5)], 12, &[(0, 0), (2, 5)], 13, parted(2, 12));
}

#[test]
fn a_log_that_the_leaders_does_not_reach_begins_anew() {
    check_compare(&[(2, 50)], 60, &[(0, 0)], 20, begin_at(50));
    check_compare(&[(2, 50)], 60, &[(0, 0)], 55, begin_at(50));
    check_compare(&[(2, 50)], 60, &[], 0, begin_at(50));
    check_compare(&[(2, 50)], 60, &[(0, 0)], 50, Agreement::Agrees);
    check_compare(&[], 0, &[(0, 0)], 5, begin_at(0));
}

fn check_cut(ours: &[(i32, i64)], log_end: i64, answer: (i32, i64), want: i64) {
    let (view, bounds) = log(ours, 0, log_end);
    let answer = EpochEnd { epoch: LeaderEpoch::new(answer.0), end: Offset::new(answer.1) };
    assert_eq!(choose_cut(bounds, &view, answer), Offset::new(want));
}

#[test]
fn a_log_is_cut_where_the_leaders_epoch_ended() {
    check_cut(&[(0, 0), (1, 5)], 12, (1, 9), 9);
    check_cut(&[(0, 0), (1, 5)], 12, (1, 20), 12);
    check_cut(&[(0, 0), (2, 5)], 12, (0, 7), 5);
    check_cut(&[(0, 0), (2, 5)], 12, (0, 3), 3);
}

#[test]
fn an_epoch_that_the_leader_never_had_goes_as_a_whole() {
    check_cut(&[(0, 0), (3, 5)], 12, (2, 8), 5);
    check_cut(&[(3, 0)], 12, (2, 8), 0);
}

/// Two logs meet after finitely many rounds, on the longest beginning that they have in common.
#[test]
fn any_two_logs_meet_where_they_part() {
    let histories: &[&[(i32, i64)]] = &[
        &[(0, 0), (1, 4), (4, 9)],
        &[(0, 0), (2, 4), (3, 6)],
        &[(0, 0), (1, 4), (8, 7)],
        &[(6, 0), (7, 3)],
        &[(5, 0)],
    ];
    for leader in histories {
        for follower in histories {
            let (view, ours) = log(leader, 0, 12);
            let (mut epochs, mut end) = (follower.to_vec(), 12);
            let common = epochs.iter().zip(*leader).take_while(|(one, other)| one == other).count();
            let mut rounds = 0;
            loop {
                let (theirs_view, theirs) = log(&epochs, 0, end);
                match compare(ours, &view, theirs) {
                    Agreement::Agrees => break,
                    Agreement::BeginAt(start) => (epochs, end) = (Vec::new(), start.get()),
                    Agreement::Parted(answer) => {
                        let cut = choose_cut(theirs, &theirs_view, answer).get();
                        assert!(cut < end, "each round takes something: {epochs:?} to {end}, {answer:?}");
                        epochs.retain(|(_, start)| *start < cut);
                        end = cut;
                    }
                }
                rounds += 1;
                assert!(rounds < 10);
            }
            assert_eq!(epochs.len().min(common), epochs.len(), "only what is common: {leader:?} {follower:?}");
            // Nothing that was common is lost: the last common epoch is kept up to where either ended it.
            let kept = common.checked_sub(1).map_or(0, |last| {
                let ends = |history: &[(i32, i64)]| history.get(last + 1).map_or(12, |(_, start)| *start);
                ends(leader).min(ends(follower))
            });
            assert_eq!(end, kept, "{leader:?} {follower:?}");
        }
    }
}

fn following(log_end: i64, high_watermark: i64, latest: Option<i32>) -> Replica<()> {
    let settings = Settings {
        durability: Durability::Synced,
        min_in_sync: 1,
        batch_bytes_max: 10_000,
        timestamp_type: TimestampType::CreateTime,
        producer_expiry: Duration::from_secs(60),
        waiters_max: 10,
    };
    let recovered = Recovered {
        log_start: Offset::ZERO,
        log_end: Offset::new(log_end),
        high_watermark: Offset::new(high_watermark),
        latest_epoch: latest.map(LeaderEpoch::new),
        producers: Producers::new(10),
    };
    let mut replica = Replica::new(NodeId(1), recovered, settings);
    let event = Event::Follow { epoch: LeaderEpoch::new(3), leader: Some(NodeId(2)) };
    replica.step(Now::default(), event, &mut Vec::new());
    replica
}

fn batch(at: i64, epoch: i32) -> StoredBatch {
    BatchBuilder::new().record(0, None, Some(b"x"), &[]).finish().place(Offset::new(at), LeaderEpoch::new(epoch))
}

fn limits(high_watermark: i64, log_start: i64) -> LeaderLimits {
    LeaderLimits { high_watermark: Offset::new(high_watermark), log_start: Offset::new(log_start) }
}

fn receive(replica: &mut Replica<()>, batches: Vec<StoredBatch>, at: LeaderLimits) -> Result<Vec<String>, FollowError> {
    let from = batches.first().map_or(replica.bounds().end, StoredBatch::base_offset);
    receive_from(replica, from, batches, at)
}

fn receive_from(
    replica: &mut Replica<()>,
    from: Offset,
    batches: Vec<StoredBatch>,
    at: LeaderLimits,
) -> Result<Vec<String>, FollowError> {
    let mut actions = Vec::new();
    replica.receive(Now::default(), from, batches, at, &mut actions)?;
    Ok(words(actions))
}

fn words(actions: Vec<Action<()>>) -> Vec<String> {
    let word = |action| match action {
        Action::Append { batch } => format!("append {}", batch.base_offset()),
        Action::DeleteBefore { start } => format!("delete before {start}"),
        Action::Publish(limits) => format!("readable {} to {}", limits.log_start, limits.high_watermark),
        Action::Report(position) => format!("report {} {}", position.written, position.synced),
        other => panic!("{other:?}"),
    };
    actions.into_iter().map(word).collect()
}

#[test]
fn holes_that_compaction_has_left_are_taken_over_and_lost_frames_are_not() {
    let mut replica = following(10, 0, Some(2));
    let batches = || vec![batch(14, 2), batch(20, 3)];
    let gap = |got: i64, end: i64| FollowError::Gap { got: Offset::new(got), log_end: Offset::new(end) };
    let from = |replica: &mut _, at: i64, batches| receive_from(replica, Offset::new(at), batches, limits(0, 0));
    assert_eq!(from(&mut replica, 12, batches()), Err(gap(12, 10)), "a frame is missing");
    let taken = from(&mut replica, 10, batches()).expect("it is all that the leader has");
    assert_eq!(taken, ["append 14", "append 20"]);
    assert_eq!(from(&mut replica, 21, vec![batch(20, 3)]), Err(gap(20, 21)));
}

#[test]
fn only_a_batch_that_continues_the_log_is_taken() {
    let mut replica = following(10, 0, Some(2));
    assert_eq!(receive(&mut replica, vec![batch(10, 2)], limits(0, 0)), Ok(vec!["append 10".to_owned()]));
    assert!(matches!(receive(&mut replica, vec![batch(10, 2)], limits(0, 0)), Err(FollowError::Gap { .. })));
    assert!(matches!(receive(&mut replica, vec![batch(12, 2)], limits(0, 0)), Err(FollowError::Gap { .. })));
    assert!(matches!(receive(&mut replica, vec![batch(11, 1)], limits(0, 0)), Err(FollowError::EpochWentBack { .. })));
    assert!(matches!(receive(&mut replica, vec![batch(11, 4)], limits(0, 0)), Err(FollowError::EpochOfNobody { .. })));
    let taken = receive(&mut replica, vec![batch(11, 3), batch(12, 3)], limits(99, 4)).expect("it continues");
    assert_eq!(taken, ["append 11", "append 12", "delete before 4", "readable 4 to 13"]);
}

#[test]
fn the_start_moves_no_further_than_what_is_known_to_be_committed() {
    let mut replica = following(10, 3, Some(2));
    let taken = receive(&mut replica, Vec::new(), limits(5, 8)).expect("nothing to refuse");
    assert_eq!(taken, ["delete before 5", "readable 5 to 5"]);
    assert_eq!(receive(&mut replica, Vec::new(), limits(4, 2)), Ok(Vec::new()), "neither goes back");
}

#[test]
fn positions_are_reported_when_the_one_that_counts_moves() {
    let mut replica = following(0, 0, None);
    receive(&mut replica, vec![batch(0, 3), batch(1, 3)], limits(0, 0)).expect("taken");
    let mut actions = Vec::new();
    replica.step(Now::default(), Event::Written { end: Offset::new(2) }, &mut actions);
    replica.step(Now::default(), Event::Synced { end: Offset::new(1) }, &mut actions);
    replica.step(Now::default(), Event::Synced { end: Offset::new(1) }, &mut actions);
    assert_eq!(words(actions), ["report 2 1"]);
}

#[test]
fn what_is_committed_is_cut_only_when_it_is_lost() {
    let replica = following(12, 6, Some(0));
    let to = Offset::new(5);
    let want = FollowError::CutsCommitted { to, high_watermark: Offset::new(6) };
    assert_eq!(replica.may_cut(to, false), Err(want));
    assert_eq!(replica.may_cut(to, true), Ok(()));
    assert_eq!(replica.may_cut(Offset::new(6), false), Ok(()));
}

#[test]
fn a_cut_takes_positions_and_producers_back() {
    let mut replica = following(0, 0, None);
    let sequenced = |at: i64, first: i32| {
        let builder = BatchBuilder::new().producer(7, 0, first).record(0, None, Some(b"x"), &[]);
        builder.finish().place(Offset::new(at), LeaderEpoch::new(3))
    };
    receive(&mut replica, vec![sequenced(0, 0), sequenced(1, 1), sequenced(2, 2)], limits(1, 0)).expect("taken");
    replica.step(Now::default(), Event::Synced { end: Offset::new(3) }, &mut Vec::new());
    replica.cut(Offset::new(2), Some(LeaderEpoch::new(3)), None, &mut Vec::new());
    assert_eq!((replica.log_end(), replica.position().synced), (Offset::new(2), Offset::new(2)));
    // What the disk says about the log before the cut is no longer said of this one.
    replica.step(Now::default(), Event::Synced { end: Offset::new(3) }, &mut Vec::new());
    assert_eq!(replica.position().synced, Offset::new(2));
    let lead = super::super::replica::Leadership {
        epoch: LeaderEpoch::new(4),
        partition_epoch: 9,
        replicas: BTreeSet::from([NodeId(1)]),
        isr: BTreeSet::from([NodeId(1)]),
    };
    replica.step(Now::default(), Event::Lead(lead), &mut Vec::new());
    let again = sequenced(0, 2);
    let next = Sequenced::of(again.header()).expect("it has a sequence");
    assert_eq!(replica.producers().check(next), Ok(super::super::producers::Checked::New), "it was cut away");
}

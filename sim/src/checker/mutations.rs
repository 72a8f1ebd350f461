//! The tester is tested: each mutation makes a good history wrong in one way, and the checker must say so.

use std::collections::BTreeMap;
use std::time::Duration;

use model::TopicId;

use super::good::{self, History, place};
use super::{Checker, Event, FoundTime, Keyed, Read, Record, Sent, Value, Violation, told};
use crate::rng::Rng;

const STEPS: usize = 150;

fn judge(history: &History) -> Result<(), Violation> {
    let mut checker = Checker::new();
    history.iter().try_for_each(|(at, event)| checker.observe(*at, event))?;
    checker.finish()
}

#[test]
fn a_thousand_good_histories_pass() {
    for seed in 0..1_000 {
        let history = good::history(seed, STEPS);
        if let Err(violation) = judge(&history) {
            panic!("seed {seed}: {violation}");
        }
    }
}

/// Makes the history wrong; `None` where it has nothing that this could be done to.
type Mutation = fn(&mut History, &mut Rng) -> Option<()>;

/// Over many histories every single mutated one must be refused; and by the invariant named, at least in some.
fn check(invariant: &str, mutate: Mutation) {
    let (mut applied, mut by_name) = (0, 0);
    for seed in 0..60 {
        let mut history = good::history(seed, STEPS);
        if mutate(&mut history, &mut Rng::new(seed ^ 0xBAD)).is_none() {
            continue;
        }
        applied += 1;
        match judge(&history) {
            Ok(()) => panic!("seed {seed}: a history that is wrong passed ({invariant})"),
            Err(violation) => by_name += u64::from(violation.invariant.starts_with(&format!("{invariant} "))),
        }
    }
    assert!(applied > 0, "no history had what this mutation needs ({invariant})");
    assert!(by_name > 0, "{applied} were refused, none of them by {invariant}");
}

/// The positions of the events that this takes.
fn all(history: &History, of: impl Fn(&Event) -> bool) -> Vec<usize> {
    (0..history.len()).filter(|at| of(&history[*at].1)).collect()
}

fn some(history: &History, rng: &mut Rng, of: impl Fn(&Event) -> bool) -> Option<usize> {
    let found = all(history, of);
    (!found.is_empty()).then(|| found[rng.index(found.len())])
}

fn final_of<'a>(history: &'a mut History, rng: &mut Rng, least: usize) -> Option<(&'a mut Vec<Record>, &'a mut i64)> {
    let at = some(history, rng, |event| matches!(event, Event::Final { records, .. } if records.len() >= least))?;
    match &mut history[at].1 {
        Event::Final { records, high_watermark, .. } => Some((records, high_watermark)),
        _ => None,
    }
}

fn read_of<'a>(history: &'a mut History, rng: &mut Rng, least: usize) -> Option<&'a mut Read> {
    let at = some(history, rng, |event| matches!(event, Event::Read(read) if read.records.len() >= least))?;
    match &mut history[at].1 {
        Event::Read(read) => Some(read),
        _ => None,
    }
}

/// Two values take each other's place wherever the history tells of them; that they were sent stays as it is.
fn swap(history: &mut History, one: Value, other: Value) {
    let swapped = |value: Value| {
        if value == one {
            other
        } else if value == other {
            one
        } else {
            value
        }
    };
    for (_, event) in history {
        match event {
            Event::Acked { sent, .. } => sent.values = sent.values.iter().map(|value| swapped(*value)).collect(),
            Event::Read(Read { records, .. }) | Event::Final { records, .. } => {
                records.iter_mut().for_each(|record| record.value = swapped(record.value));
            }
            _ => {}
        }
    }
}

fn sent_by(history: &History) -> BTreeMap<Value, u32> {
    let sent = history.iter().filter_map(|(_, event)| if let Event::Send(sent) = event { Some(sent) } else { None });
    sent.flat_map(|sent| sent.values.iter().map(|value| (*value, sent.client))).collect()
}

#[test]
fn an_acknowledged_tail_that_is_gone() {
    check("I1", |history, rng| {
        let acked = some(history, rng, |event| matches!(event, Event::Acked { .. }))?;
        let Event::Acked { sent, base } = history[acked].1.clone() else { return None };
        let at = all(history, |event| matches!(event, Event::Final { place, .. } if *place == sent.place)).pop()?;
        let Event::Final { records, high_watermark, .. } = &mut history[at].1 else { return None };
        records.retain(|record| record.offset < base);
        *high_watermark = base;
        Some(())
    });
}

#[test]
fn records_that_only_a_reader_saw_and_that_are_gone() {
    check("I1", |history, rng| {
        let read = read_of(history, rng, 1)?.clone();
        history.retain(|(_, event)| !matches!(event, Event::Acked { .. }));
        let at = all(history, |event| matches!(event, Event::Final { place, .. } if *place == read.place)).pop()?;
        let Event::Final { records, high_watermark, .. } = &mut history[at].1 else { return None };
        records.truncate(usize::try_from(read.from).ok()?);
        *high_watermark = read.from;
        Some(())
    });
}

#[test]
fn a_partition_that_is_not_there_at_the_end() {
    check("I1", |history, rng| {
        let acked = some(history, rng, |event| matches!(event, Event::Acked { .. }))?;
        let Event::Acked { sent, .. } = history[acked].1.clone() else { return None };
        history.retain(|(_, event)| !matches!(event, Event::Final { place, .. } if *place == sent.place));
        Some(())
    });
}

#[test]
fn retention_that_takes_what_is_young() {
    check("I1", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Final { records, .. } if records.len() > 20))?;
        let Event::Final { records, log_start, .. } = &mut history[at].1 else { return None };
        *log_start = 15;
        records.retain(|record| record.offset >= 15);
        Some(())
    });
}

#[test]
fn another_value_at_the_same_offset() {
    check("I2", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Read(read) if read.records.len() > 1))?;
        let (time, Event::Read(read)) = history[at].clone() else { return None };
        let mut again = Read { epoch: None, ..read };
        again.records[0].value = again.records[1].value;
        history.insert(at + 1, (time, Event::Read(again)));
        Some(())
    });
}

#[test]
fn an_answer_with_a_wrong_offset() {
    check("I2", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Acked { .. }))?;
        let Event::Acked { base, .. } = &mut history[at].1 else { return None };
        *base += 1;
        Some(())
    });
}

#[test]
fn a_record_that_is_there_twice() {
    check("I3", |history, rng| {
        let (records, high_watermark) = final_of(history, rng, 2)?;
        let again = Record { offset: *high_watermark, ..records[0] };
        records.push(again);
        *high_watermark += 1;
        Some(())
    });
}

#[test]
fn a_record_in_another_partition() {
    check("I3", |history, rng| {
        let values: Vec<Value> = history.iter().flat_map(|(_, event)| told(event)).map(|(_, value)| value).collect();
        let at = some(history, rng, |event| matches!(event, Event::Final { .. }))?;
        let Event::Final { records, high_watermark, .. } = &mut history[at].1 else { return None };
        let value = values.into_iter().find(|value| records.iter().all(|record| record.value != *value))?;
        records.push(Record { offset: *high_watermark, value, timestamp_ms: 0 });
        *high_watermark += 1;
        Some(())
    });
}

#[test]
fn a_record_that_nobody_sent() {
    check("I3", |history, rng| {
        let (records, high_watermark) = final_of(history, rng, 0)?;
        records.push(Record { offset: *high_watermark, value: u64::MAX, timestamp_ms: 0 });
        *high_watermark += 1;
        Some(())
    });
}

#[test]
fn two_records_of_one_producer_that_changed_places() {
    check("I4", |history, rng| {
        let clients = sent_by(history);
        let (records, _) = final_of(history, rng, 5)?;
        let pair = records.windows(2).find(|pair| clients.get(&pair[0].value) == clients.get(&pair[1].value))?;
        let (one, other) = (pair[0].value, pair[1].value);
        swap(history, one, other);
        Some(())
    });
}

#[test]
fn a_record_that_stands_before_one_acknowledged_before_it_was_sent() {
    check("I5", |history, _| {
        // It is sent later than it was: behind the acknowledgement of a record that stands behind it.
        let mut acked = history.iter().enumerate().filter_map(|(at, (_, event))| match event {
            Event::Acked { sent, base } => Some((at, sent.clone(), *base)),
            _ => None,
        });
        let (later, of_later, base) = acked.find(|(_, _, base)| *base > 3)?;
        let seen_before =
            |value: Value| history[..later].iter().any(|(_, event)| told(event).iter().any(|(_, told)| *told == value));
        let early = history[..later].iter().position(|(_, event)| match event {
            Event::Send(sent) => sent.place == of_later.place && !seen_before(sent.values[0]),
            _ => false,
        })?;
        let Event::Send(sent) = history[early].1.clone() else { return None };
        let stands = history.iter().flat_map(|(_, event)| told(event)).find(|(_, value)| *value == sent.values[0])?;
        if stands.0 >= base {
            return None;
        }
        let (at, event) = (history[later].0, history.remove(early).1);
        history.insert(later, (at, event));
        Some(())
    });
}

#[test]
fn a_poll_with_a_gap() {
    check("I6", |history, rng| {
        read_of(history, rng, 3)?.records.remove(1);
        Some(())
    });
}

#[test]
fn a_poll_that_begins_too_late() {
    check("I6", |history, rng| {
        read_of(history, rng, 2)?.records.remove(0);
        Some(())
    });
}

#[test]
fn a_record_above_the_high_watermark() {
    check("I6", |history, rng| {
        let read = read_of(history, rng, 2)?;
        read.high_watermark = read.records.last()?.offset;
        Some(())
    });
}

#[test]
fn a_record_of_a_producer_that_was_fenced() {
    check("I10", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Acked { sent, .. } if sent.identity.epoch > 0))?;
        let (time, Event::Acked { sent, .. }) = history[at].clone() else { return None };
        let mut zombie = Sent { client: 99, values: [u64::MAX - 1].into(), ..sent };
        zombie.identity.epoch -= 1;
        let end = history.iter().position(|(_, event)| matches!(event, Event::Healed))?;
        history.insert(at + 1, (time, Event::Send(zombie.clone())));
        let high = history.iter().rev().find_map(|(_, event)| match event {
            Event::Final { place, high_watermark, .. } if *place == zombie.place => Some(*high_watermark),
            _ => None,
        })?;
        history.insert(end + 1, (history[end].0, Event::Acked { sent: zombie, base: high }));
        Some(())
    });
}

#[test]
fn a_high_watermark_that_goes_back() {
    check("I11", |history, rng| {
        let at = some(
            history,
            rng,
            |event| matches!(event, Event::Read(read) if read.epoch.is_some() && read.high_watermark > 2),
        )?;
        let (time, Event::Read(read)) = history[at].clone() else { return None };
        let later = time + Duration::from_nanos(3);
        let high_watermark = read.high_watermark - 1;
        let invoked = time + Duration::from_nanos(1);
        let back = Read { invoked, high_watermark, records: Vec::new(), ..read };
        history.insert(at + 1, (later, Event::Read(back)));
        Some(())
    });
}

#[test]
fn an_offset_that_was_read_and_is_called_out_of_range() {
    check("I11", |history, rng| {
        let at = some(
            history,
            rng,
            |event| matches!(event, Event::Read(read) if read.epoch.is_some() && read.high_watermark > 2),
        )?;
        let (time, Event::Read(read)) = history[at].clone() else { return None };
        let (invoked, epoch) = (time + Duration::from_nanos(1), read.epoch?);
        let refused = Event::OutOfRange { place: read.place, invoked, epoch, from: read.high_watermark };
        history.insert(at + 1, (time + Duration::from_nanos(3), refused));
        Some(())
    });
}

#[test]
fn a_log_start_that_goes_back() {
    check("I11", |history, rng| {
        let at =
            some(history, rng, |event| matches!(event, Event::Read(read) if read.epoch.is_some() && read.from > 0))?;
        let Event::Read(read) = &mut history[at].1 else { return None };
        read.log_start = read.from;
        let place = read.place;
        let more = history[at + 1..]
            .iter()
            .any(|(_, event)| matches!(event, Event::Read(read) if read.place == place && read.epoch.is_some()));
        more.then_some(())
    });
}

#[test]
fn a_log_that_starts_above_its_high_watermark() {
    check("I11", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Read(read) if read.records.is_empty()))?;
        let Event::Read(read) = &mut history[at].1 else { return None };
        read.log_start = read.high_watermark + 1;
        Some(())
    });
}

fn replica<'a>(history: &'a mut History, rng: &mut Rng) -> Option<&'a mut Vec<super::BatchDigest>> {
    let at = some(history, rng, |event| matches!(event, Event::Replica { batches, .. } if batches.len() > 2))?;
    match &mut history[at].1 {
        Event::Replica { batches, .. } => Some(batches),
        _ => None,
    }
}

#[test]
fn a_replica_with_other_bytes() {
    check("I12", |history, rng| {
        replica(history, rng)?[1].digest ^= 1;
        Some(())
    });
}

#[test]
fn a_replica_with_a_batch_twice() {
    check("I12", |history, rng| {
        let batches = replica(history, rng)?;
        batches.insert(1, batches[1]);
        Some(())
    });
}

fn compacted<'a>(history: &'a mut History, rng: &mut Rng) -> Option<&'a mut Vec<Keyed>> {
    let at = some(history, rng, |event| matches!(event, Event::Compacted { records, .. } if records.len() > 2))?;
    match &mut history[at].1 {
        Event::Compacted { records, .. } => Some(records),
        _ => None,
    }
}

#[test]
fn a_compacted_replica_without_the_newest_value_of_a_key() {
    check("I12", |history, rng| {
        let records = compacted(history, rng)?;
        let newest = records.iter().rposition(|record| !record.tombstone).filter(|at| {
            let key = records[*at].key;
            records[at + 1..].iter().all(|later| later.key != key)
        })?;
        records.remove(newest);
        Some(())
    });
}

#[test]
fn a_compacted_replica_with_another_record_at_an_offset() {
    check("I12", |history, rng| {
        let last = compacted(history, rng)?.last_mut()?;
        if last.tombstone {
            return None;
        }
        last.digest ^= 1;
        Some(())
    });
}

#[test]
fn a_compacted_replica_that_dropped_a_tombstone_before_the_value_below_it() {
    check("I12", |history, rng| {
        let records = compacted(history, rng)?;
        let newest = *records.iter().rfind(|record| !record.tombstone)?;
        let key = newest.key;
        if records.last()?.key == key {
            return None;
        }
        // The others have a tombstone behind it that this one has lost.
        let (offset, epoch) = (i64::MAX, i32::MAX);
        let tombstone = Keyed { offset, epoch, key, digest: 0, tombstone: true };
        let copies = all(history, |event| matches!(event, Event::Compacted { .. }));
        let lost = copies[rng.index(copies.len())];
        for at in copies.into_iter().filter(|at| *at != lost) {
            if let Event::Compacted { records, .. } = &mut history[at].1 {
                records.push(tombstone);
            }
        }
        let Event::Compacted { records, .. } = &history[lost].1 else { return None };
        records.iter().any(|record| record.key == key).then_some(())
    });
}

#[test]
fn a_replica_whose_epochs_go_back() {
    check("I12", |history, rng| {
        replica(history, rng)?[1].epoch = -1;
        Some(())
    });
}

#[test]
fn an_epoch_that_two_processes_acknowledged_under() {
    check("I18", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::AckedUnder { .. }))?;
        let mut again = history[at].clone();
        let Event::AckedUnder { start, .. } = &mut again.1 else { return None };
        *start += 1;
        history.insert(at + 1, again);
        Some(())
    });
}

#[test]
fn ends_that_go_back_for_one_client() {
    check("I11", |history, rng| {
        let at =
            some(history, rng, |event| matches!(event, Event::Ends { high_watermark, .. } if *high_watermark > 0))?;
        let (told_at, mut again) = history[at].clone();
        let Event::Ends { invoked, high_watermark, .. } = &mut again else { return None };
        (*invoked, *high_watermark) = (told_at, *high_watermark - 1);
        history.insert(at + 1, (told_at, again));
        Some(())
    });
}

#[test]
fn a_replica_that_lacks_a_batch() {
    check("I12", |history, rng| {
        replica(history, rng)?.remove(1);
        Some(())
    });
}

#[test]
fn a_replica_that_ends_early() {
    check("I12", |history, rng| {
        replica(history, rng)?.pop();
        Some(())
    });
}

fn found_committed<'a>(history: &'a mut History, rng: &mut Rng, least: i64) -> Option<&'a mut Option<i64>> {
    let is = |event: &Event| matches!(event, Event::FoundCommitted { offset: Some(offset), .. } if *offset > least);
    let at = some(history, rng, is)?;
    match &mut history[at].1 {
        Event::FoundCommitted { offset, .. } => Some(offset),
        _ => None,
    }
}

#[test]
fn a_committed_offset_that_goes_back() {
    check("I13", |history, _| {
        let known: Vec<(Duration, i64)> = history
            .iter()
            .filter_map(|(at, event)| match event {
                Event::Committed { place: at_place, offset, .. } if *at_place == place(0) => Some((*at, *offset)),
                _ => None,
            })
            .collect();
        let (first, last) = (known.first()?, known.last()?);
        if first.1 == last.1 {
            return None;
        }
        let (at, event) = history.iter_mut().rev().find(
            |(_, event)| matches!(event, Event::FinalCommitted { place: at_place, .. } if *at_place == place(0)),
        )?;
        *event = Event::FoundCommitted { group: 0, place: place(0), invoked: *at, offset: Some(first.1) };
        Some(())
    });
}

#[test]
fn a_committed_offset_that_nobody_asked_for() {
    check("I13", |history, rng| {
        *found_committed(history, rng, 0)? = Some(1_000_000);
        Some(())
    });
}

#[test]
fn a_committed_offset_that_is_gone() {
    check("I13", |history, _| {
        history.iter().find(|(_, event)| matches!(event, Event::Committed { place: at, .. } if *at == place(0)))?;
        let (_, event) = history
            .iter_mut()
            .rev()
            .find(|(_, event)| matches!(event, Event::FinalCommitted { place: at, .. } if *at == place(0)))?;
        *event = Event::FinalCommitted { group: 0, place: place(0), offset: None };
        Some(())
    });
}

#[test]
fn a_partition_with_two_owners() {
    check("I13", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Assigned { .. }))?;
        let (time, Event::Assigned { group, generation, member, places }) = history[at].clone() else { return None };
        history.insert(at + 1, (time, Event::Assigned { group, generation, member: member + 1, places }));
        Some(())
    });
}

#[test]
fn a_partition_that_can_be_read_only_after_half_a_minute() {
    check("I17", |history, _| {
        let healed = history.iter().position(|(_, event)| matches!(event, Event::Healed))?;
        history[healed + 1..].iter_mut().for_each(|(at, _)| *at += Duration::from_secs(31));
        Some(())
    });
}

#[test]
fn an_epoch_with_two_leaders() {
    check("I18", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Led { .. }))?;
        let Event::Led { leader, .. } = &mut history[at].1 else { return None };
        *leader += 1;
        Some(())
    });
}

#[test]
fn a_topic_that_a_node_does_not_know() {
    check("I18", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Topics { .. }))?;
        let Event::Topics { topics, .. } = &mut history[at].1 else { return None };
        topics.clear();
        Some(())
    });
}

#[test]
fn a_deleted_topic_that_is_back() {
    check("I18", |history, rng| {
        let at = some(history, rng, |event| matches!(event, Event::Topics { .. }))?;
        let Event::Topics { topics, .. } = &mut history[at].1 else { return None };
        topics.push(TopicId([8; 16]));
        Some(())
    });
}

fn search(found: Option<(i64, i64)>, wanted_ms: i64, after: Duration) -> Event {
    let invoked = after + Duration::from_nanos(1);
    Event::FoundTime(FoundTime { place: place(0), invoked, epoch: i32::MAX, wanted_ms, found })
}

/// A record that was read and is not the first, with the place of that poll in the history.
fn read_record(history: &History) -> Option<(usize, Record)> {
    history.iter().enumerate().find_map(|(at, (_, event))| match event {
        Event::Read(read) if read.place == place(0) && read.epoch.is_some() && read.records.len() > 2 => {
            Some((at, read.records[1]))
        }
        _ => None,
    })
}

#[test]
fn a_search_by_time_that_misses_a_record() {
    check("I19", |history, _| {
        let (at, record) = read_record(history)?;
        let time = history[at].0;
        history.insert(at + 1, (time + Duration::from_nanos(2), search(None, record.timestamp_ms, time)));
        Some(())
    });
}

#[test]
fn a_search_by_time_that_finds_what_is_too_old() {
    check("I19", |history, _| {
        let (at, record) = read_record(history)?;
        let time = history[at].0;
        let found = Some((record.offset, record.timestamp_ms));
        let wanted = 1_000_000_000;
        history.insert(at + 1, (time + Duration::from_nanos(2), search(found, wanted, time)));
        Some(())
    });
}

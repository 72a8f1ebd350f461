//! A history of real clients as the events that the checker judges, in the order of time.
//!
//! Owns what a line stands for. A real client tells less than a simulated one: not under which leader epoch it was answered, nor the high
//! watermark of a poll; what it does not tell proves nothing. What cannot be ordered by its time stands so that it proves less.
//! Invariant: a good history gives events that the checker accepts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{PartitionIndex, TopicId, TopicPartition};
use sim::checker::{BatchDigest, Event, ProducerIdentity, Read, Record, Sent};

use super::history::{Batch, History, Marks, Name, Poll, Send, Value};

/// Numbers of one producer.
const NUMBER_BITS: u32 = 40;

/// At one time: what begins, what ended, what was seen; so nothing seems to be ordered that is not.
const BEGUN: u8 = 0;
const ENDED: u8 = 1;
const SEEN: u8 = 2;

/// The events in order. `batches`: counts those of replicas that are compared.
pub(super) fn of(history: &History, batches: &mut u64) -> Vec<(Duration, Event)> {
    let mut timed: Vec<(u64, u8, Event)> = Vec::new();
    let mut sends: Vec<&Send> = history.sends.iter().collect();
    sends.sort_by_key(|send| (send.begun, send.value));
    for send in sends {
        let sent = sent(send);
        timed.extend(send.offset.map(|base| (send.ended, ENDED, Event::Acked { sent: sent.clone(), base })));
        timed.push((send.begun, BEGUN, Event::Send(sent)));
    }
    timed.extend(polls(&history.polls));
    timed.extend(history.marks.iter().map(|marks| (marks.ended, SEEN, told(marks))));
    // Stable: what is equal stays in the order in which it was written down.
    timed.sort_by_key(|(at, rank, _)| (*at, *rank));
    let end = timed.last().map_or(0, |(at, ..)| *at) + 1;
    let mut events: Vec<(Duration, Event)> =
        timed.into_iter().map(|(at, _, event)| (Duration::from_nanos(at), event)).collect();
    let at_the_end = Some(Event::Healed).into_iter().chain(finals(history)).chain(replicas(history, batches));
    events.extend(at_the_end.map(|event| (Duration::from_nanos(end), event)));
    events
}

fn place(key: Name) -> TopicPartition {
    TopicPartition { topic: TopicId(u128::from(key).to_be_bytes()), partition: PartitionIndex::new(0) }
}

fn value(of: Value) -> u64 {
    assert!(of.number < 1 << NUMBER_BITS, "a producer that sent so many records");
    (u64::from(of.producer) + 1) << NUMBER_BITS | of.number
}

fn sent(send: &Send) -> Sent {
    let producer = send.value.producer;
    let identity = ProducerIdentity { id: producer.into(), epoch: 0 };
    Sent { client: producer, identity, place: place(send.key), values: Arc::from([value(send.value)]) }
}

fn records(rows: &[(i64, Value)]) -> Vec<Record> {
    rows.iter().map(|(offset, of)| Record { offset: *offset, value: value(*of), timestamp_ms: 0 }).collect()
}

/// Each goes on where the one before ended, unless the consumer was assigned anew.
fn polls(polls: &[Poll]) -> Vec<(u64, u8, Event)> {
    let mut positions: BTreeMap<(Name, Name), i64> = BTreeMap::new();
    let mut events = Vec::new();
    for poll in polls {
        let Some(((first, _), (last, _))) = poll.rows.first().zip(poll.rows.last()) else {
            positions.retain(|(process, _), _| *process != poll.process);
            continue;
        };
        let from = positions.insert((poll.process, poll.key), last + 1).unwrap_or(*first);
        let read = Read {
            client: poll.process,
            place: place(poll.key),
            invoked: Duration::ZERO,
            epoch: None,
            from,
            records: records(&poll.rows),
            high_watermark: i64::MAX,
            log_start: 0,
        };
        events.push((poll.ended, SEEN, Event::Read(read)));
    }
    events
}

fn told(marks: &Marks) -> Event {
    Event::Ends {
        client: marks.process,
        place: place(marks.key),
        invoked: Duration::from_nanos(marks.begun),
        log_start: marks.low,
        high_watermark: marks.high,
    }
}

fn finals(history: &History) -> impl Iterator<Item = Event> {
    let keys: std::collections::BTreeSet<Name> = history.finals.keys().chain(history.ends.keys()).copied().collect();
    keys.into_iter().map(|key| {
        let records = history.finals.get(&key).map(|rows| records(rows)).unwrap_or_default();
        let high_watermark = history.ends.get(&key).copied().unwrap_or(0);
        Event::Final { place: place(key), log_start: 0, high_watermark, records }
    })
}

/// Below the high watermark.
fn replicas(history: &History, count: &mut u64) -> Vec<Event> {
    let mut events = Vec::new();
    for ((key, node), batches) in &history.replicas {
        let high = history.ends.get(key).copied().unwrap_or(i64::MAX);
        let below: Vec<BatchDigest> = batches.iter().filter(|batch| batch.last < high).map(digest).collect();
        *count += below.len() as u64;
        let node = i32::try_from(*node).unwrap_or(i32::MAX);
        events.push(Event::Replica { node, place: place(*key), start: 0, batches: below });
    }
    events
}

fn digest(batch: &Batch) -> BatchDigest {
    BatchDigest { base: batch.first, last: batch.last, epoch: batch.epoch, digest: batch.hash }
}

/// What the checker says, with the names of the history for its partitions and values.
pub(super) fn in_words(history: &History, what: &str) -> String {
    let mut words = what.to_owned();
    let keys = history.finals.keys().chain(history.ends.keys()).chain(history.sends.iter().map(|send| &send.key));
    let keys: std::collections::BTreeSet<Name> = keys.copied().collect();
    for key in keys {
        words = words.replace(&place(key).to_string(), history.text(key));
    }
    let mut told = String::new();
    for part in words.split_inclusive(|letter: char| !letter.is_ascii_digit()) {
        let digits = part.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        match digits.parse::<u64>().ok().and_then(named) {
            Some(value) => {
                told.push_str(&history.show(value));
                told.push_str(part.strip_prefix(digits).unwrap_or_default());
            }
            None => told.push_str(part),
        }
    }
    told
}

/// The value that a number stands for, where it is one.
fn named(number: u64) -> Option<Value> {
    let producer = (number >> NUMBER_BITS).checked_sub(1).and_then(|producer| Name::try_from(producer).ok())?;
    Some(Value { producer, number: number & ((1 << NUMBER_BITS) - 1) })
}

//! Random histories of a system that does all right: what a checker must never refuse.
//!
//! Owns an ideal cluster in which every append is at once everywhere. Answers may be lost, come late, and cross each other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use model::{PartitionIndex, TopicId, TopicPartition};

use super::{BatchDigest, Event, FoundTime, Keyed, ProducerIdentity, Read, Record, Sent};
use crate::rng::Rng;

pub(super) type History = Vec<(Duration, Event)>;

const TOPIC: TopicId = TopicId([7; 16]);
const SCRATCH: TopicId = TopicId([8; 16]);
const CLIENTS: u32 = 3;
const NODES: i32 = 3;
/// Of the topic's partitions, the one that is compacted, and how many keys it has.
const COMPACTED: u32 = 2;
const KEYS: u64 = 12;

#[derive(Default)]
struct Log {
    records: Vec<Record>,
    batches: Vec<BatchDigest>,
    epoch: i32,
}

struct Ideal {
    rng: Rng,
    at: Duration,
    history: History,
    logs: BTreeMap<TopicPartition, Log>,
    /// Handed over and not appended yet, in each producer's order.
    sending: BTreeMap<(TopicPartition, u32), VecDeque<Sent>>,
    unanswered: Vec<(Sent, i64)>,
    positions: BTreeMap<(u32, TopicPartition), i64>,
    epochs: BTreeMap<u32, i16>,
    committed: BTreeMap<TopicPartition, i64>,
    generation: i32,
    last_value: u64,
}

pub(super) fn place(partition: u32) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition: PartitionIndex::new(partition) }
}

/// One good history of about so many steps.
pub(super) fn history(seed: u64, steps: usize) -> History {
    let mut ideal = Ideal {
        rng: Rng::new(seed),
        at: Duration::from_secs(1),
        history: Vec::new(),
        logs: (0..2).map(|partition| (place(partition), Log { epoch: 1, ..Log::default() })).collect(),
        sending: BTreeMap::new(),
        unanswered: Vec::new(),
        positions: BTreeMap::new(),
        epochs: BTreeMap::new(),
        committed: BTreeMap::new(),
        generation: 0,
        last_value: 0,
    };
    ideal.note(Event::TopicCreated { topic: TOPIC });
    ideal.note(Event::TopicCreated { topic: SCRATCH });
    ideal.note(Event::TopicDeleting { topic: SCRATCH });
    ideal.note(Event::TopicDeleted { topic: SCRATCH });
    for _ in 0..steps {
        ideal.step();
    }
    ideal.finish();
    ideal.history
}

impl Ideal {
    fn note(&mut self, event: Event) {
        self.at += Duration::from_micros(1 + self.rng.below(900));
        self.history.push((self.at, event));
    }

    fn step(&mut self) {
        let place = place(u32::try_from(self.rng.below(2)).expect("small"));
        let client = u32::try_from(self.rng.below(u64::from(CLIENTS))).expect("small");
        match self.rng.below(20) {
            0..4 => self.send(place, client),
            4..9 => self.append(place, client),
            9..13 => self.answer(),
            13..16 => self.read(place, client),
            16 => self.search(place),
            17 => self.commit(place),
            18 => self.change_leader(place),
            _ => {
                // A newer epoch begins when all that was sent under the one before is answered.
                if self.sending.iter().all(|((_, of), queue)| *of != client || queue.is_empty()) {
                    *self.epochs.entry(client).or_default() += 1;
                }
                self.assign(client);
            }
        }
    }

    fn send(&mut self, place: TopicPartition, client: u32) {
        let count = 1 + self.rng.below(3);
        let values: Arc<[u64]> = (0..count).map(|more| self.last_value + 1 + more).collect();
        self.last_value += count;
        let identity = ProducerIdentity { id: client.into(), epoch: self.epochs.get(&client).copied().unwrap_or(0) };
        let sent = Sent { client, identity, place, values };
        self.sending.entry((place, client)).or_default().push_back(sent.clone());
        self.note(Event::Send(sent));
    }

    fn append(&mut self, place: TopicPartition, client: u32) {
        let Some(sent) = self.sending.entry((place, client)).or_default().pop_front() else { return };
        let timestamp_ms =
            i64::try_from(self.at.as_millis()).expect("short") - i64::try_from(self.rng.below(50)).expect("small");
        let log = self.logs.get_mut(&place).expect("both are there");
        let base = i64::try_from(log.records.len()).expect("small");
        let offsets = (base..).zip(sent.values.iter());
        log.records.extend(offsets.map(|(offset, value)| Record { offset, value: *value, timestamp_ms }));
        let last = base + i64::try_from(sent.values.len()).expect("small") - 1;
        log.batches.push(BatchDigest { base, last, epoch: log.epoch, digest: self.rng.next_u64() });
        self.unanswered.push((sent, base));
    }

    fn answer(&mut self) {
        if self.unanswered.is_empty() {
            return;
        }
        let (sent, base) = self.unanswered.remove(self.rng.index(self.unanswered.len()));
        let (place, epoch) = (sent.place, self.logs[&sent.place].epoch);
        self.note(Event::AckedUnder { place, epoch, node: 1 + epoch_leader(epoch), start: 1 });
        // Some answers are lost.
        if self.rng.chance(9, 10) {
            self.note(Event::Acked { sent, base });
        }
    }

    fn read(&mut self, place: TopicPartition, client: u32) {
        let from = self.positions.get(&(client, place)).copied().unwrap_or(0);
        let invoked = self.at + Duration::from_nanos(1);
        let (log, follower) = (&self.logs[&place], self.rng.chance(1, 4));
        let all = i64::try_from(log.records.len()).expect("small");
        // A follower may not have heard of the newest watermark.
        let high_watermark = if follower { from + (all - from) / 2 } else { all };
        let count = self.rng.below(u64::try_from(high_watermark - from).expect("positive") + 1);
        let skip = usize::try_from(from).expect("positive");
        let records: Vec<Record> =
            log.records.iter().skip(skip).take(usize::try_from(count).expect("small")).copied().collect();
        let epoch = (!follower).then_some(log.epoch);
        if epoch.is_some() {
            self.note(Event::Ends { client, place, invoked, log_start: 0, high_watermark: all });
        }
        self.positions.insert((client, place), records.last().map_or(from, |last| last.offset + 1));
        if self.rng.chance(1, 10) {
            self.positions.insert((client, place), 0);
        }
        self.note(Event::Read(Read { client, place, invoked, epoch, from, records, high_watermark, log_start: 0 }));
    }

    fn search(&mut self, place: TopicPartition) {
        let wanted_ms = i64::try_from(self.rng.below(self.at.as_millis() as u64)).expect("small");
        let invoked = self.at + Duration::from_nanos(1);
        let epoch = self.logs[&place].epoch;
        let found = self.logs[&place].records.iter().find(|record| record.timestamp_ms >= wanted_ms);
        let found = found.map(|record| (record.offset, record.timestamp_ms));
        self.note(Event::FoundTime(FoundTime { place, invoked, epoch, wanted_ms, found }));
    }

    fn commit(&mut self, place: TopicPartition) {
        let before = self.committed.get(&place).copied();
        let all = i64::try_from(self.logs[&place].records.len()).expect("small");
        let offset = before.unwrap_or(0).max(all);
        self.note(Event::Committing { group: 0, place, offset });
        self.committed.insert(place, offset);
        if self.rng.chance(4, 5) {
            self.note(Event::Committed { group: 0, place, offset });
        }
        let invoked = self.at + Duration::from_nanos(1);
        self.note(Event::FoundCommitted { group: 0, place, invoked, offset: Some(offset) });
    }

    fn assign(&mut self, client: u32) {
        self.generation += 1;
        let generation = self.generation;
        for (member, partition) in [(client, 0), ((client + 1) % CLIENTS, 1)] {
            self.note(Event::Assigned { group: 0, generation, member, places: vec![place(partition)] });
        }
    }

    fn change_leader(&mut self, place: TopicPartition) {
        let log = self.logs.get_mut(&place).expect("both are there");
        log.epoch += 1;
        let (epoch, leader) = (log.epoch, 1 + epoch_leader(log.epoch));
        for node in 1..=NODES {
            self.note(Event::Led { node, place, epoch, leader });
        }
    }

    fn finish(&mut self) {
        self.note(Event::Healed);
        for node in 1..=NODES {
            self.note(Event::Topics { node, topics: vec![TOPIC] });
        }
        for (place, log) in std::mem::take(&mut self.logs) {
            let high_watermark = i64::try_from(log.records.len()).expect("small");
            self.note(Event::Final { place, log_start: 0, high_watermark, records: log.records });
            for node in 1..=NODES {
                self.note(Event::Replica { node, place, start: 0, batches: log.batches.clone() });
            }
            let offset = self.committed.get(&place).copied();
            self.note(Event::FinalCommitted { group: 0, place, offset });
        }
        self.compact();
    }

    /// One log with keys, and what each node has compacted of it.
    fn compact(&mut self) {
        let length = 30 + self.rng.below(30);
        let mut log = Vec::new();
        for offset in 0..length {
            let (key, digest) = (self.rng.below(KEYS), self.rng.next_u64());
            let (offset, epoch) = (offset.cast_signed(), i32::try_from(offset / 10).expect("small"));
            log.push(Keyed { offset, epoch, key, digest, tombstone: self.rng.chance(1, 5) });
        }
        for node in 1..=NODES {
            let cleaned = self.rng.below(length + 1).cast_signed();
            let horizon = self.rng.below(cleaned.cast_unsigned() + 1).cast_signed();
            let stays = |record: &&Keyed| {
                let newer = |other: &Keyed| other.key == record.key && other.offset > record.offset;
                let superseded = log.iter().any(|other| newer(other) && other.offset < cleaned);
                !(superseded || record.tombstone && record.offset < horizon)
            };
            let records = log.iter().filter(stays).copied().collect();
            self.note(Event::Compacted { node, place: place(COMPACTED), start: 0, records });
        }
    }
}

fn epoch_leader(epoch: i32) -> i32 {
    epoch % NODES
}

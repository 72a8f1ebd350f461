//! The checker itself: a thousand good histories pass, and each way of breaking one is found as what it is.

use anyhow::{Context, Result, ensure};
use compat_tests::checker::history::{Batch, History, Marks, Poll, Send, Value};
use compat_tests::checker::judge;
use std::fmt::Write as _;

const KEYS: usize = 3;
const PRODUCERS: usize = 3;

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound.max(1) as u64).expect("below a usize")
    }
}

/// A log as it should be, with clients at work on it; `lines` is what they write down.
struct World {
    random: Random,
    time: u64,
    numbers: [u64; PRODUCERS],
    /// Begun and not yet written: partition, value, time.
    waiting: [Vec<(usize, u64, u64)>; PRODUCERS],
    /// Written and not yet acknowledged.
    written: Vec<(usize, usize, u64, u64, usize)>,
    logs: [Vec<(usize, u64)>; KEYS],
    position: [usize; KEYS],
    /// Nothing new is sent.
    is_ending: bool,
    lines: String,
}

impl World {
    fn step(&mut self) {
        self.time += 1 + self.random.below(5) as u64;
        let producer = self.random.below(PRODUCERS);
        match self.random.below(10) {
            0..3 if !self.is_ending => {
                let key = self.random.below(KEYS);
                self.waiting[producer].push((key, self.numbers[producer], self.time));
                self.numbers[producer] += 1;
            }
            3..6 if !self.waiting[producer].is_empty() => {
                let (key, number, begun) = self.waiting[producer].remove(0);
                if self.random.below(20) == 0 {
                    return self.open(producer, number, key, begun); // never written
                }
                self.logs[key].push((producer, number));
                self.written.push((producer, key, number, begun, self.logs[key].len() - 1));
            }
            6..8 if !self.written.is_empty() => {
                let at = self.random.below(self.written.len());
                let (producer, key, number, begun, offset) = self.written.remove(at);
                if self.random.below(20) == 0 {
                    return self.open(producer, number, key, begun); // written, and nobody was told
                }
                let time = self.time;
                let send = format!(r#""p":"p{producer}","n":{number},"k":"t-{key}","t0":{begun},"t1":{time}"#);
                self.line(&format!(r#"{{"f":"send",{send},"e":"ok","o":{offset}}}"#));
            }
            8 => self.poll(),
            _ => self.marks(),
        }
    }

    fn line(&mut self, line: &str) {
        self.lines.push_str(line);
        self.lines.push('\n');
    }

    fn open(&mut self, producer: usize, number: u64, key: usize, begun: u64) {
        let time = self.time;
        let send = format!(r#""p":"p{producer}","n":{number},"k":"t-{key}","t0":{begun},"t1":{time}"#);
        self.line(&format!(r#"{{"f":"send",{send},"e":"info"}}"#));
    }

    fn rows(&self, key: usize, from: usize, count: usize) -> String {
        let rows = self.logs[key].iter().enumerate().skip(from).take(count);
        rows.map(|(offset, (p, n))| format!(r#"[{offset},"p{p}:{n}"]"#)).collect::<Vec<_>>().join(",")
    }

    fn poll(&mut self) {
        let key = self.random.below(KEYS);
        if self.random.below(15) == 0 {
            self.line(&format!(r#"{{"f":"assign","p":"c","t1":{}}}"#, self.time));
            self.position = [0; KEYS];
        }
        let count = 1 + self.random.below(6);
        let rows = self.rows(key, self.position[key], count);
        self.position[key] = (self.position[key] + count).min(self.logs[key].len());
        let (begun, time) = (self.time - 1, self.time);
        self.line(&format!(r#"{{"f":"poll","p":"c","k":"t-{key}","t0":{begun},"t1":{time},"rs":[{rows}]}}"#));
    }

    fn marks(&mut self) {
        let key = self.random.below(KEYS);
        let (time, high) = (self.time, self.logs[key].len());
        self.line(&format!(r#"{{"f":"marks","p":"w","k":"t-{key}","t0":{time},"t1":{time},"lo":0,"hi":{high}}}"#));
    }

    fn end(&mut self) {
        self.is_ending = true;
        while !self.waiting.iter().all(Vec::is_empty) || !self.written.is_empty() {
            self.step();
        }
        for key in 0..KEYS {
            let (high, time) = (self.logs[key].len(), self.time);
            let rows = self.rows(key, 0, high);
            self.line(&format!(r#"{{"f":"final","p":"r","k":"t-{key}","t1":{time},"rs":[{rows}]}}"#));
            self.line(&format!(r#"{{"f":"end","p":"r","k":"t-{key}","t1":{time},"hi":{high}}}"#));
            let mut batches = String::new();
            let (mut first, mut epoch) = (0, 0);
            while first < high {
                let last = (first + self.random.below(4)).min(high - 1);
                epoch += self.random.below(8) / 7;
                let hash = self.random.below(1 << 40);
                let _ = write!(batches, r#""o":{first},"l":{last},"ep":{epoch},"h":{hash}"#);
                batches.push('\n');
                first = last + 1;
            }
            for node in 1..=3 {
                self.line(&format!(r#"{{"f":"replica","node":{node},"k":"t-{key}"}}"#));
                for batch in batches.lines() {
                    self.line(&format!(r#"{{"f":"batch","node":{node},"k":"t-{key}",{batch}}}"#));
                }
            }
        }
    }
}

fn good(seed: u64) -> Result<History> {
    let mut world = World {
        random: Random(seed),
        time: 10,
        numbers: [0; PRODUCERS],
        waiting: Default::default(),
        written: Vec::new(),
        logs: Default::default(),
        position: [0; KEYS],
        is_ending: false,
        lines: String::new(),
    };
    (0..1000).for_each(|_| world.step());
    world.end();
    let mut history = History::default();
    history.add(&world.lines)?;
    Ok(history)
}

#[test]
fn a_thousand_good_histories_pass() -> Result<()> {
    for seed in 0..1000 {
        let verdict = judge(&good(seed)?);
        ensure!(verdict.is_clean(), "seed {seed}: {verdict}");
        ensure!(verdict.acked > 200 && verdict.polled > 100 && verdict.batches > 150, "seed {seed}: {verdict}");
    }
    Ok(())
}

/// What a mutation looks at: the history, and chance.
type Mutation = fn(&mut History, &mut Random) -> Option<()>;

fn key(h: &mut History, random: &mut Random) -> u32 {
    let key = random.below(KEYS);
    h.name(&format!("t-{key}"))
}

fn rows<'a>(h: &'a mut History, random: &mut Random) -> Option<&'a mut Vec<(i64, Value)>> {
    let key = key(h, random);
    h.finals.get_mut(&key).filter(|rows| rows.len() > 20)
}

/// An acknowledged send.
fn acked<'a>(h: &'a mut History, random: &mut Random) -> Option<&'a mut Send> {
    let count = h.sends.len();
    let from = random.below(count);
    h.sends.iter_mut().skip(from).find(|send| send.offset.is_some())
}

/// A poll with at least three rows.
fn polled<'a>(h: &'a mut History, random: &mut Random) -> Option<&'a mut Poll> {
    let from = random.below(h.polls.len());
    h.polls.iter_mut().skip(from).find(|poll| poll.rows.len() >= 3)
}

fn copy<'a>(h: &'a mut History, random: &mut Random) -> Option<&'a mut Vec<Batch>> {
    let (key, node) = (key(h, random), u32::try_from(1 + random.below(3)).ok()?);
    h.replicas.get_mut(&(key, node)).filter(|batches| batches.len() > 6)
}

fn marked<'a>(h: &'a mut History, random: &mut Random) -> Option<&'a mut Marks> {
    let key = key(h, random);
    let mut of_key: Vec<&mut Marks> = h.marks.iter_mut().filter(|marks| marks.key == key && marks.high > 5).collect();
    of_key.pop()
}

/// Every place where one of two values stands gets the other, as if the log had taken them the other way round.
fn exchange(h: &mut History, key: u32, one: i64, other: i64) -> Option<()> {
    let rows = h.finals.get_mut(&key)?;
    let (a, b) = (usize::try_from(one).ok()?, usize::try_from(other).ok()?);
    let (left, right) = (rows.get(a)?.1, rows.get(b)?.1);
    rows.get_mut(a)?.1 = right;
    rows.get_mut(b)?.1 = left;
    for send in h.sends.iter_mut().filter(|send| send.key == key) {
        send.offset = send.offset.map(|offset| {
            if offset == one {
                other
            } else if offset == other {
                one
            } else {
                offset
            }
        });
    }
    let polled = h.polls.iter_mut().filter(|poll| poll.key == key).flat_map(|poll| &mut poll.rows);
    for (offset, value) in polled {
        if *offset == one {
            *value = right;
        } else if *offset == other {
            *value = left;
        }
    }
    Some(())
}

/// Two acknowledged sends of one partition, the second begun after the first was acknowledged.
fn apart(h: &History, random: &mut Random, same_producer: bool) -> Option<(u32, i64, i64)> {
    let from = random.below(h.sends.len() / 2);
    let first = h.sends.iter().skip(from).find(|send| send.offset.is_some())?;
    let second = h.sends.iter().find(|send| {
        let same = (send.value.producer == first.value.producer) == same_producer;
        same && send.key == first.key && send.offset.is_some() && send.begun > first.ended
    })?;
    Some((first.key, first.offset?, second.offset?))
}

const MUTATIONS: &[(&str, &str, Mutation)] = &[
    ("the last acknowledged record is gone", "I1", |h, r| {
        let (key, offset) = acked(h, r).map(|send| (send.key, send.offset))?;
        h.finals.get_mut(&key)?.retain(|(at, _)| Some(*at) < offset);
        Some(())
    }),
    ("a record in the middle is gone and the rest moved up", "I1", |h, r| {
        let at = r.below(10);
        let rows = rows(h, r)?;
        rows.remove(at);
        rows.iter_mut().skip(at).for_each(|(offset, _)| *offset -= 1);
        Some(())
    }),
    ("a record in the middle is gone and left a hole", "I1", |h, r| {
        let (key, offset) = acked(h, r).map(|send| (send.key, send.offset))?;
        h.finals.get_mut(&key)?.retain(|(at, _)| Some(*at) != offset);
        Some(())
    }),
    ("a whole partition is gone", "I1", |h, r| {
        let key = key(h, r);
        h.finals.remove(&key).map(|_| ())
    }),
    ("an acknowledged record was never written", "I1", |h, r| {
        acked(h, r)?.offset = Some(1_000_000);
        Some(())
    }),
    ("a consumer saw a record that is not there any more", "I1", |h, r| {
        let poll = polled(h, r)?;
        let (key, last) = (poll.key, poll.rows.last()?.0);
        h.finals.get_mut(&key)?.retain(|(at, _)| *at != last);
        h.sends.retain(|send| send.key != key || send.offset != Some(last));
        Some(())
    }),
    ("two records changed places", "I2", |h, r| {
        let at = r.below(10);
        let rows = rows(h, r)?;
        let (left, right) = (rows[at].1, rows[at + 3].1);
        (rows[at].1, rows[at + 3].1) = (right, left);
        Some(())
    }),
    ("an offset was given out twice", "I2", |h, r| {
        let (key, offset) = acked(h, r).map(|send| (send.key, send.offset))?;
        h.sends.iter_mut().find(|send| send.key == key && send.offset.is_some() && send.offset != offset)?.offset =
            offset;
        Some(())
    }),
    ("an acknowledgement named another offset", "I2", |h, r| {
        let send = acked(h, r)?;
        send.offset = send.offset.map(|offset| if offset > 0 { offset - 1 } else { 1 });
        Some(())
    }),
    ("a consumer read another value", "I2", |h, r| {
        polled(h, r)?.rows[1].1.number += 1000;
        Some(())
    }),
    ("a consumer read what was not committed", "I2", |h, r| {
        let poll = polled(h, r)?;
        let last = poll.rows.len() - 1;
        poll.rows[last].1 = poll.rows[0].1;
        Some(())
    }),
    ("a record is there twice, next to each other", "I3", |h, r| {
        let at = r.below(10);
        let rows = rows(h, r)?;
        rows[at + 1].1 = rows[at].1;
        Some(())
    }),
    ("a retried batch was appended again at the end", "I3", |h, r| {
        let rows = rows(h, r)?;
        let (next, again) = (rows.last()?.0 + 1, rows[rows.len() - 2].1);
        rows.push((next, again));
        Some(())
    }),
    ("a record without an answer is there twice", "I3", |h, r| {
        let open: Vec<Value> = h.sends.iter().filter(|send| send.offset.is_none()).map(|send| send.value).collect();
        let rows = rows(h, r)?;
        let (_, value) = *rows.iter().find(|(_, value)| open.contains(value))?;
        let next = rows.last()?.0 + 1;
        rows.push((next, value));
        Some(())
    }),
    ("a producer's records are in another order", "I4", |h, r| {
        let (key, one, other) = apart(h, r, true)?;
        exchange(h, key, one, other)
    }),
    ("a record that was acknowledged early lies behind a late one", "I5", |h, r| {
        let (key, one, other) = apart(h, r, false)?;
        exchange(h, key, one, other)
    }),
    ("a consumer skipped a record", "I6", |h, r| {
        polled(h, r)?.rows.remove(1);
        Some(())
    }),
    ("a consumer got a record twice", "I6", |h, r| {
        let poll = polled(h, r)?;
        poll.rows.insert(1, poll.rows[0]);
        Some(())
    }),
    ("a consumer went back", "I6", |h, r| {
        polled(h, r)?.rows.reverse();
        Some(())
    }),
    ("a consumer got the same answer twice", "I6", |h, r| {
        let at = r.below(h.polls.len());
        let at = h.polls.iter().skip(at).position(|poll| !poll.rows.is_empty())? + at;
        let again = h.polls[at].clone();
        h.polls.insert(at, again);
        Some(())
    }),
    ("the high watermark went back", "I11", |h, r| {
        let marks = marked(h, r)?;
        let again = Marks { begun: marks.ended + 1, ended: marks.ended + 2, high: marks.high - 1, ..marks.clone() };
        h.marks.push(again);
        Some(())
    }),
    ("the start went back", "I11", |h, r| {
        let marks = marked(h, r)?;
        marks.low = 2;
        let again = Marks { begun: marks.ended + 1, ended: marks.ended + 2, low: 1, ..marks.clone() };
        h.marks.push(again);
        Some(())
    }),
    ("the start is behind the end", "I11", |h, r| {
        let marks = marked(h, r)?;
        marks.low = marks.high + 1;
        Some(())
    }),
    ("the end is below what was acknowledged", "I11", |h, r| {
        let key = key(h, r);
        *h.ends.get_mut(&key)? -= 20;
        Some(())
    }),
    ("a replica has other bytes", "I12", |h, r| {
        copy(h, r)?[3].hash ^= 1;
        Some(())
    }),
    ("a replica lacks its tail", "I12", |h, r| copy(h, r)?.pop().map(|_| ())),
    ("a replica has a hole", "I12", |h, r| {
        copy(h, r)?.remove(2);
        Some(())
    }),
    ("a replica has a batch twice", "I12", |h, r| {
        let batches = copy(h, r)?;
        let again = batches[2].clone();
        batches.insert(2, again);
        Some(())
    }),
    ("a replica has a batch of another epoch", "I12", |h, r| {
        copy(h, r)?.last_mut()?.epoch += 1;
        Some(())
    }),
    ("an epoch went back on all replicas", "I12", |h, r| {
        let key = key(h, r);
        h.replicas.iter_mut().filter(|((of, _), _)| *of == key).try_for_each(|(_, batches)| {
            batches.get_mut(4)?.epoch = -1;
            Some(())
        })
    }),
    ("a replica is empty", "I12", |h, r| {
        copy(h, r)?.clear();
        Some(())
    }),
    ("a producer was ended by an error", "T", |h, _| {
        h.troubles.push("p0: fenced".into());
        Some(())
    }),
];

#[test]
fn every_way_of_breaking_a_history_is_found_as_what_it_is() -> Result<()> {
    for (what, invariant, mutate) in MUTATIONS {
        let mut applied = 0;
        for seed in 0..20 {
            let (mut history, mut random) = (good(seed)?, Random(seed ^ 0xabcd));
            if mutate(&mut history, &mut random).is_none() {
                continue;
            }
            applied += 1;
            let verdict = judge(&history);
            ensure!(verdict.breaks(invariant), "{what}, seed {seed}: expected {invariant}, got {verdict}");
        }
        ensure!(applied >= 5, "{what}: could be done to {applied} histories only");
    }
    ensure!(MUTATIONS.len() >= 25, "{} mutations", MUTATIONS.len());
    Ok(())
}

#[test]
fn a_verdict_says_which_record_was_lost_and_where() -> Result<()> {
    let mut history = History::default();
    history.add("{\"f\":\"send\",\"p\":\"java\",\"n\":7,\"k\":\"t-0\",\"t0\":1,\"t1\":2,\"e\":\"ok\",\"o\":5}\n")?;
    let text = judge(&history).to_string();
    let line = text.lines().find(|line| line.contains("java:7")).context("the record is named")?;
    assert_eq!(line.trim(), "t-0: offset 5 held value java:7, and 0 more were there: the partition is gone");
    Ok(())
}

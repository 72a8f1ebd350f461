//! The tester is tested: each mutation makes a good history wrong in one way, and the checker must say so.

use std::collections::BTreeMap;
use std::time::Duration;

use model::TopicId;

use super::good::{self, History, place};
use super::{BatchDigest, Checker, Event, FoundTime, Keyed, Read, Record, Sent, Value, Violation, told};
use crate::rng::Rng;

mod promises;
mod records;
mod replicas;

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

//! I1-I5: what was sent against what is read at the end.

use std::collections::BTreeMap;

use super::history::{History, Name, Send, Value};
use super::{Invariant, Verdict};

/// Partition and offset to the value that was first seen there, and by whom.
type Seen = BTreeMap<(Name, i64), (Value, &'static str)>;

pub(super) fn judge(history: &History, verdict: &mut Verdict) {
    let mut seen = Seen::new();
    for (key, rows) in &history.finals {
        verdict.read += rows.len() as u64;
        for (offset, value) in rows {
            one_value(history, (*key, *offset), *value, "the last reading", &mut seen, verdict);
        }
        twice_and_order(history, *key, rows, verdict);
    }
    let last: Seen = seen.clone();
    for send in &history.sends {
        let Some(offset) = send.offset else {
            verdict.open += 1;
            continue;
        };
        verdict.acked += 1;
        one_value(history, (send.key, offset), send.value, "an acknowledgement", &mut seen, verdict);
        if last.get(&(send.key, offset)).map(|(value, _)| *value) != Some(send.value) {
            verdict.found(Invariant::Lost, || {
                let there = last.get(&(send.key, offset)).map_or("nothing".into(), |(value, _)| history.show(*value));
                let (value, key) = (history.show(send.value), history.text(send.key));
                format!("{value} was acknowledged at {key} offset {offset}; at the end there is {there}")
            });
        }
    }
    for poll in &history.polls {
        for (offset, value) in &poll.rows {
            one_value(history, (poll.key, *offset), *value, "a consumer", &mut seen, verdict);
        }
    }
    real_time(history, verdict);
}

fn one_value(
    history: &History,
    place: (Name, i64),
    value: Value,
    who: &'static str,
    seen: &mut Seen,
    verdict: &mut Verdict,
) {
    let (known, first) = *seen.entry(place).or_insert((value, who));
    if known != value {
        verdict.found(Invariant::OneValue, || {
            let (key, known, value) = (history.text(place.0), history.show(known), history.show(value));
            format!("{key} offset {}: {known} for {first}, {value} for {who}", place.1)
        });
    }
}

/// I3 and I4 on the rows of one partition, by offset.
fn twice_and_order(history: &History, key: Name, rows: &[(i64, Value)], verdict: &mut Verdict) {
    let by_offset: BTreeMap<i64, Value> = rows.iter().copied().collect();
    if by_offset.len() != rows.len() {
        verdict.found(Invariant::Poll, || format!("{}: the last reading met an offset twice", history.text(key)));
    }
    let mut places: BTreeMap<Value, i64> = BTreeMap::new();
    let mut newest: BTreeMap<Name, (u64, i64)> = BTreeMap::new();
    for (offset, value) in &by_offset {
        if let Some(first) = places.insert(*value, *offset) {
            verdict.found(Invariant::Twice, || {
                format!("{} is in {} at {first} and at {offset}", history.show(*value), history.text(key))
            });
        }
        let (number, at) = *newest.entry(value.producer).or_insert((value.number, *offset));
        if number > value.number {
            verdict.found(Invariant::Order, || {
                let (name, key) = (history.text(value.producer), history.text(key));
                format!("{key}: {name}:{number} at {at} lies before {name}:{} at {offset}", value.number)
            });
        } else {
            newest.insert(value.producer, (value.number, *offset));
        }
    }
}

/// I5: by the time a send began, everything acknowledged lies below it.
fn real_time(history: &History, verdict: &mut Verdict) {
    let mut by_key: BTreeMap<Name, Vec<&Send>> = BTreeMap::new();
    for send in history.sends.iter().filter(|send| send.offset.is_some()) {
        by_key.entry(send.key).or_default().push(send);
    }
    for sends in by_key.values() {
        let mut ended: Vec<&Send> = sends.clone();
        ended.sort_by_key(|send| send.ended);
        let mut begun: Vec<&Send> = sends.clone();
        begun.sort_by_key(|send| send.begun);
        let (mut done, mut highest) = (ended.into_iter().peekable(), None::<&Send>);
        for send in begun {
            while let Some(earlier) = done.next_if(|earlier| earlier.ended < send.begun) {
                highest = highest.filter(|high| high.offset > earlier.offset).or(Some(earlier));
            }
            if let Some(high) = highest.filter(|high| high.offset >= send.offset) {
                verdict.found(Invariant::RealTime, || {
                    let (late, early) = (history.show(send.value), history.show(high.value));
                    let key = history.text(send.key);
                    format!(
                        "{key}: {early} was acknowledged at {:?} before {late} began, which got {:?}",
                        high.offset, send.offset
                    )
                });
            }
        }
    }
}

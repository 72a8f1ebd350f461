//! What clients were told, and whether a disk after a crash still agrees.
//!
//! Owns the events of one run, each with the count of disk mutations at which it was known, and the judgement of a recovered node's
//! content. Does not own how the content is read.
//! Invariant: `judge` never calls content wrong that a correct node could show: what was not answered may or may not be there.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use super::clients::{COMPACTED, is_tombstone, key_of};

/// The topic's number within the run and the partition's.
pub type Place = (usize, u32);

/// One record's value: no two are equal in a run.
pub type Value = u64;

#[derive(Clone, Debug)]
pub enum Event {
    /// A topic's creation was answered.
    Created { topic: usize, partitions: u32 },
    /// Handed to the node; may or may not be there later.
    Sent { place: Place, producer: usize, value: Value },
    /// Answered with acks=all.
    Acked { place: Place, offset: i64, value: Value },
    /// Read by a consumer: it lay below the high watermark.
    Seen { place: Place, offset: i64, value: Value },
    /// A group's commit was answered.
    Committed { place: Place, offset: i64 },
}

#[derive(Debug, Default)]
pub struct History {
    events: Vec<(u64, Event)>,
    pub acked: u64,
    pub seen: u64,
}

/// What a node shows after it recovered: values in order of offset, and committed offsets.
#[derive(Debug, Default)]
pub struct Content {
    pub records: BTreeMap<Place, Vec<(i64, Value)>>,
    pub committed: BTreeMap<Place, i64>,
}

impl History {
    pub fn push(&mut self, mutations: u64, event: Event) {
        self.acked += u64::from(matches!(event, Event::Acked { .. }));
        self.seen += u64::from(matches!(event, Event::Seen { .. }));
        self.events.push((mutations, event));
    }

    /// Compares what a node shows, recovered from a crash behind so many mutations, with what clients had been told by then.
    pub fn judge(&self, mutations: u64, content: &Content) -> Result<()> {
        let mut known = Known::new(self);
        known.advance(mutations)?;
        known.judge(content)
    }
}

/// What clients had been told at some point of a run; that point only moves on.
#[derive(Debug)]
pub struct Known<'a> {
    rest: std::slice::Iter<'a, (u64, Event)>,
    /// All that is ever sent: it is noted when it is handed over, before its first mutation.
    sent: BTreeMap<Value, (Place, usize)>,
    must: BTreeMap<Place, BTreeMap<i64, Value>>,
    committed: BTreeMap<Place, i64>,
    places: Vec<Place>,
}

impl<'a> Known<'a> {
    pub fn new(history: &'a History) -> Known<'a> {
        let sent = history.events.iter().filter_map(|(_, event)| match event {
            Event::Sent { place, producer, value } => Some((*value, (*place, *producer))),
            _ => None,
        });
        Known {
            rest: history.events.iter(),
            sent: sent.collect(),
            must: BTreeMap::new(),
            committed: BTreeMap::new(),
            places: Vec::new(),
        }
    }

    /// Takes in what clients were told up to then. An offset that two of them saw with different values is an error at once.
    pub fn advance(&mut self, mutations: u64) -> Result<()> {
        while let Some((at, event)) = self.rest.as_slice().first() {
            if *at > mutations {
                break;
            }
            self.rest.next();
            match event {
                Event::Acked { place, offset, value } | Event::Seen { place, offset, value } => {
                    let before = self.must.entry(*place).or_default().insert(*offset, *value);
                    ensure!(
                        before.is_none_or(|before| before == *value),
                        "{place:?}: offset {offset} was {before:?} and then {value}"
                    );
                }
                Event::Committed { place, offset } => {
                    self.committed.insert(*place, *offset);
                }
                Event::Created { topic, partitions } => {
                    self.places.extend((0..*partitions).map(|partition| (*topic, partition)))
                }
                Event::Sent { .. } => {}
            }
        }
        Ok(())
    }

    /// The partitions of the topics whose creation was answered.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    pub fn judge(&self, content: &Content) -> Result<()> {
        let nothing = BTreeMap::new();
        for (place, records) in &content.records {
            let must = self.must.get(place).unwrap_or(&nothing);
            if place.0 == COMPACTED {
                judge_compacted(*place, records, must, &self.sent)?;
            } else {
                judge_partition(*place, records, must, &self.sent)?;
            }
        }
        if let Some((place, records)) = self.must.iter().find(|(place, _)| !content.records.contains_key(place)) {
            anyhow::bail!("{place:?}: {} acknowledged records and the partition is gone", records.len());
        }
        for (place, offset) in &self.committed {
            let got = content.committed.get(place).copied();
            ensure!(got >= Some(*offset), "{place:?}: offset {offset} was committed, {got:?} is there");
        }
        Ok(())
    }
}

fn judge_partition(
    place: Place,
    records: &[(i64, Value)],
    must: &BTreeMap<i64, Value>,
    sent: &BTreeMap<Value, (Place, usize)>,
) -> Result<()> {
    let at: BTreeMap<i64, Value> = records.iter().copied().collect();
    ensure!(at.len() == records.len(), "{place:?}: an offset is served twice");
    for (offset, value) in must {
        let got = at.get(offset);
        ensure!(got == Some(value), "{place:?}: offset {offset} held {value} for a client, now {got:?}");
    }
    let mut values = BTreeSet::new();
    let mut newest: BTreeMap<usize, Value> = BTreeMap::new();
    for (position, (offset, value)) in records.iter().enumerate() {
        let first = records.first().map_or(0, |(offset, _)| *offset);
        ensure!(*offset == first + position as i64, "{place:?}: a hole before offset {offset}");
        ensure!(values.insert(*value), "{place:?}: value {value} is there twice, again at offset {offset}");
        let Some((to, producer)) = sent.get(value) else { anyhow::bail!("{place:?}: value {value} was never sent") };
        ensure!(*to == place, "{place:?}: value {value} was sent to {to:?}");
        let before = newest.insert(*producer, *value);
        ensure!(
            before.is_none_or(|before| before < *value),
            "{place:?}: producer {producer}: {value} stands behind {before:?}"
        );
    }
    Ok(())
}

/// Of each key the newest record that a client was told of is there, unless a tombstone may have come behind it; every record stands
/// where it was appended.
fn judge_compacted(
    place: Place,
    records: &[(i64, Value)],
    must: &BTreeMap<i64, Value>,
    sent: &BTreeMap<Value, (Place, usize)>,
) -> Result<()> {
    let mut values = BTreeSet::new();
    let mut newest: BTreeMap<usize, Value> = BTreeMap::new();
    for pair in records.windows(2) {
        let [(offset, _), (next, _)] = pair else { continue };
        ensure!(offset < next, "{place:?}: offset {next} is served behind {offset}");
    }
    for (offset, value) in records {
        let told = must.get(offset);
        ensure!(told.is_none_or(|told| told == value), "{place:?}: offset {offset} held {told:?}, now {value}");
        ensure!(values.insert(*value), "{place:?}: value {value} is there twice, again at offset {offset}");
        let Some((to, producer)) = sent.get(value) else { anyhow::bail!("{place:?}: value {value} was never sent") };
        ensure!(*to == place, "{place:?}: value {value} was sent to {to:?}");
        let before = newest.insert(*producer, *value);
        ensure!(before.is_none_or(|before| before < *value), "{place:?}: {value} stands behind {before:?}");
    }
    let mut last_of: BTreeMap<Value, i64> = BTreeMap::new();
    last_of.extend(records.iter().map(|(offset, value)| (key_of(*value), *offset)));
    let offset_of: BTreeMap<Value, i64> = must.iter().map(|(offset, value)| (*value, *offset)).collect();
    for (offset, value) in must.iter().filter(|(_, value)| !values.contains(value)) {
        let key = key_of(*value);
        let is_replaced = last_of.get(&key).is_some_and(|last| last > offset);
        let deletes = |(other, (to, _)): (&Value, &(Place, usize))| {
            let behind = offset_of.get(other).is_none_or(|at| at > offset);
            *to == place && key_of(*other) == key && is_tombstone(*other) && behind
        };
        let excused = is_replaced || is_tombstone(*value) || sent.iter().any(deletes);
        ensure!(
            excused,
            "{place:?}: value {value} of key {key} was told to be at {offset}, and nothing came behind it"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = (0, 0);

    /// Five records of one producer, the first four acknowledged, two committed.
    fn history() -> History {
        let mut history = History::default();
        history.push(1, Event::Created { topic: 0, partitions: 1 });
        for value in 0..5 {
            history.push(2 + value, Event::Sent { place: PLACE, producer: 0, value });
        }
        for value in 0..4u64 {
            history.push(10 + value, Event::Acked { place: PLACE, offset: value as i64, value });
        }
        history.push(20, Event::Committed { place: PLACE, offset: 2 });
        history
    }

    fn shows(records: &[(i64, Value)], committed: i64) -> Content {
        Content { records: [(PLACE, records.to_vec())].into(), committed: [(PLACE, committed)].into() }
    }

    fn check(records: &[(i64, Value)], committed: i64, holds: bool) {
        let judged = history().judge(20, &shows(records, committed));
        assert_eq!(judged.is_ok(), holds, "{records:?}: {judged:?}");
    }

    #[test]
    fn what_was_acknowledged_and_a_record_more_is_right() {
        check(&[(0, 0), (1, 1), (2, 2), (3, 3)], 2, true);
        check(&[(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)], 2, true);
    }

    #[test]
    fn each_wrong_content_is_caught() {
        check(&[(0, 0), (1, 1), (2, 2)], 2, false);
        check(&[(0, 0), (1, 1), (3, 3)], 2, false);
        check(&[(0, 0), (1, 1), (2, 3), (3, 2)], 2, false);
        check(&[(0, 0), (1, 1), (2, 2), (3, 3), (4, 3)], 2, false);
        check(&[(0, 0), (1, 1), (2, 2), (3, 3), (4, 9)], 2, false);
        check(&[(0, 0), (1, 1), (2, 2), (3, 3), (5, 4)], 2, false);
        check(&[(0, 0), (1, 1), (2, 2), (3, 3)], 1, false);
        check(&[], 2, false);
    }

    #[test]
    fn of_a_compacted_topic_the_newest_record_of_each_key_must_be_there() {
        let place = (COMPACTED, 0);
        let mut history = History::default();
        history.push(1, Event::Created { topic: COMPACTED, partitions: 1 });
        // 1, 8, 15 and 22 have one key, 2 and 9 another; 22 deletes.
        for (offset, value) in [1, 2, 8, 9, 15].into_iter().enumerate() {
            history.push(2, Event::Sent { place, producer: 0, value });
            history.push(3, Event::Acked { place, offset: offset as i64, value });
        }
        let holds = |history: &History, records: &[(i64, Value)]| {
            let records = [(place, records.to_vec())].into();
            history.judge(10, &Content { records, committed: BTreeMap::new() }).is_ok()
        };
        assert!(holds(&history, &[(0, 1), (1, 2), (2, 8), (3, 9), (4, 15)]));
        assert!(holds(&history, &[(3, 9), (4, 15)]));
        assert!(!holds(&history, &[(3, 9)]), "the newest of a key is gone");
        assert!(!holds(&history, &[(2, 9), (4, 15)]), "at another offset");
        assert!(!holds(&history, &[(3, 9), (4, 15), (5, 16)]), "never sent");
        history.push(4, Event::Sent { place, producer: 0, value: 22 });
        assert!(holds(&history, &[(3, 9)]), "perhaps it was deleted");
        assert!(!holds(&history, &[(4, 15)]));
    }

    #[test]
    fn a_crash_before_the_answer_may_lose_the_record() {
        assert!(history().judge(11, &shows(&[(0, 0), (1, 1)], -1)).is_ok());
        assert!(history().judge(12, &shows(&[(0, 0), (1, 1)], -1)).is_err());
    }
}

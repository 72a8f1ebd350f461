//! The checker: judges a history event by event, while it happens.
//!
//! Owns the list of invariants; each lives in its own file, under the number that it has in the project's list. Does not own how a history
//! is made: the simulator and the fault runs on real processes feed the same one.
//! Invariant: a history of a correct system is never refused: what was not answered may or may not have happened.

mod by_offset;
pub mod event;
#[cfg(test)]
mod good;
mod i01_acked;
mod i02_one_value;
mod i03_duplicates;
mod i04_order;
mod i05_real_time;
mod i06_polls;
mod i10_fencing;
mod i11_watermarks;
mod i12_compacted;
mod i12_replicas;
mod i13_groups;
mod i17_liveness;
mod i18_metadata;
mod i19_times;
#[cfg(test)]
mod mutations;

use std::collections::BTreeMap;
use std::time::Duration;

use by_offset::ByOffset;
use model::TopicPartition;

pub use event::{BatchDigest, ClientId, Event, FoundTime, Keyed, ProducerIdentity, Read, Record, Sent, Value};

/// One thing that must always hold.
trait Invariant {
    /// Its number and what it is about.
    fn name(&self) -> &'static str;
    /// Takes in what happened at `at`; `told`: the offsets and values that the event tells of, in order. A read tells of those alone that
    /// nobody was told of before. `Err` says what is wrong.
    fn observe(&mut self, at: Duration, event: &Event, told: &[(i64, Value)]) -> Result<(), String>;
    /// The history is over.
    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{invariant}, at {at:?}: {what}")]
pub struct Violation {
    pub invariant: &'static str,
    pub at: Duration,
    pub what: String,
}

pub struct Checker {
    invariants: Vec<Box<dyn Invariant>>,
    /// What all of them have found right. Most of what is read was read before.
    known: BTreeMap<TopicPartition, ByOffset<Value>>,
    now: Duration,
}

impl Default for Checker {
    fn default() -> Checker {
        Checker::new()
    }
}

impl Checker {
    pub fn new() -> Checker {
        let invariants: Vec<Box<dyn Invariant>> = vec![
            Box::<i01_acked::Acked>::default(),
            Box::<i02_one_value::OneValue>::default(),
            Box::<i03_duplicates::Duplicates>::default(),
            Box::<i04_order::Order>::default(),
            Box::<i05_real_time::RealTime>::default(),
            Box::<i06_polls::Polls>::default(),
            Box::<i10_fencing::Fencing>::default(),
            Box::<i11_watermarks::Watermarks>::default(),
            Box::<i12_replicas::Replicas>::default(),
            Box::<i12_compacted::Compacted>::default(),
            Box::<i13_groups::Groups>::default(),
            Box::<i17_liveness::Liveness>::default(),
            Box::<i18_metadata::Metadata>::default(),
            Box::<i19_times::Times>::default(),
        ];
        Checker { invariants, known: BTreeMap::new(), now: Duration::ZERO }
    }

    /// Takes in one event. The times of a history never go back.
    pub fn observe(&mut self, at: Duration, event: &Event) -> Result<(), Violation> {
        self.now = self.now.max(at);
        let told = self.told(event);
        for invariant in &mut self.invariants {
            let name = invariant.name();
            invariant.observe(at, event, &told).map_err(|what| Violation { invariant: name, at, what })?;
        }
        self.found_right(event, &told);
        Ok(())
    }

    /// As `observe`, and goes on behind what is wrong: for the report on a history that is there as a whole.
    pub fn observe_all(&mut self, at: Duration, event: &Event, found: &mut Vec<Violation>) {
        self.now = self.now.max(at);
        let (told, before) = (self.told(event), found.len());
        for invariant in &mut self.invariants {
            if let Err(what) = invariant.observe(at, event, &told) {
                found.push(Violation { invariant: invariant.name(), at, what });
            }
        }
        if found.len() == before {
            self.found_right(event, &told);
        }
    }

    /// As `finish`, all that is wrong.
    pub fn finish_all(&mut self, found: &mut Vec<Violation>) {
        let at = self.now;
        for invariant in &mut self.invariants {
            found.extend(invariant.finish().err().map(|what| Violation { invariant: invariant.name(), at, what }));
        }
    }

    /// The history is over: what must have happened by now?
    pub fn finish(&mut self) -> Result<(), Violation> {
        let at = self.now;
        for invariant in &mut self.invariants {
            let name = invariant.name();
            invariant.finish().map_err(|what| Violation { invariant: name, at, what })?;
        }
        Ok(())
    }

    /// What an event tells of; of a read what is new.
    fn told(&self, event: &Event) -> Vec<(i64, Value)> {
        let mut told = told(event);
        if let Event::Read(read) = event
            && let Some(known) = self.known.get(&read.place)
        {
            told.retain(|(offset, value)| known.get(*offset) != Some(*value));
        }
        told
    }

    fn found_right(&mut self, event: &Event, told: &[(i64, Value)]) {
        if let (Event::Acked { .. } | Event::Read(_), Some(place)) = (event, place_of(event)) {
            let known = self.known.entry(place).or_default();
            told.iter().for_each(|(offset, value)| known.set(*offset, *value));
        }
    }
}

/// The offsets and values that an event tells of, in order.
fn told(event: &Event) -> Vec<(i64, Value)> {
    match event {
        Event::Acked { sent, base } => (*base..).zip(sent.values.iter().copied()).collect(),
        Event::Read(read) => read.records.iter().map(|record| (record.offset, record.value)).collect(),
        Event::Final { records, .. } => records.iter().map(|record| (record.offset, record.value)).collect(),
        _ => Vec::new(),
    }
}

/// The partition whose records an event tells of.
fn place_of(event: &Event) -> Option<model::TopicPartition> {
    match event {
        Event::Acked { sent, .. } | Event::Send(sent) => Some(sent.place),
        Event::Read(read) => Some(read.place),
        Event::FoundTime(found) => Some(found.place),
        Event::Ends { place, .. } => Some(*place),
        Event::Final { place, .. } | Event::Replica { place, .. } | Event::Compacted { place, .. } => Some(*place),
        _ => None,
    }
}

//! I19: a search by time finds the first record whose timestamp is at least the one wanted.
//!
//! Owns the timestamps that readers saw. A record that is not known to the searcher proves nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use model::TopicPartition;

use super::{Event, FoundTime, Invariant, Record};

#[derive(Default)]
pub(super) struct Times {
    /// By offset: timestamp, and since when a reader knew it.
    known: BTreeMap<TopicPartition, BTreeMap<i64, (i64, Duration)>>,
    start: BTreeMap<TopicPartition, i64>,
}

impl Invariant for Times {
    fn name(&self) -> &'static str {
        "I19 search by time"
    }

    fn observe(&mut self, at: Duration, event: &Event) -> Result<(), String> {
        match event {
            Event::Read(read) => self.learn(at, read.place, read.log_start, &read.records),
            Event::Final { place, log_start, records, .. } => self.learn(at, *place, *log_start, records),
            Event::FoundTime(found) => return self.judge(found),
            _ => {}
        }
        Ok(())
    }
}

impl Times {
    fn learn(&mut self, at: Duration, place: TopicPartition, log_start: i64, records: &[Record]) {
        let known = self.known.entry(place).or_default();
        for record in records {
            known.entry(record.offset).or_insert((record.timestamp_ms, at));
        }
        let start = self.start.entry(place).or_insert(log_start);
        *start = (*start).max(log_start);
    }

    fn judge(&self, found: &FoundTime) -> Result<(), String> {
        let place = found.place;
        let Some(known) = self.known.get(&place) else { return Ok(()) };
        let end = found.found.map_or(i64::MAX, |(offset, _)| offset);
        let start = self.start.get(&place).copied().unwrap_or(0).min(end);
        let missed = known.range(start..end).find(|(_, (timestamp, since))| {
            *timestamp >= found.wanted_ms && *since < found.invoked
        });
        if let Some((offset, (timestamp, _))) = missed {
            return Err(format!(
                "{place}: offset {offset} has time {timestamp}, a search for {} found {:?}",
                found.wanted_ms, found.found
            ));
        }
        let Some((offset, timestamp)) = found.found else { return Ok(()) };
        if timestamp < found.wanted_ms {
            return Err(format!("{place}: a search for {} found {timestamp} at {offset}", found.wanted_ms));
        }
        match known.get(&offset) {
            Some((real, _)) if *real != timestamp => {
                Err(format!("{place}: offset {offset} has time {real}, a search gave {timestamp}"))
            }
            _ => Ok(()),
        }
    }
}

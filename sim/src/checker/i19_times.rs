//! I19: a search by time finds the first record whose timestamp is at least the one wanted.
//!
//! Owns the timestamps that readers saw. A record that is not known to the searcher proves nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use model::TopicPartition;

use super::by_offset::ByOffset;
use super::{Event, FoundTime, Invariant, Record, Value};

#[derive(Default)]
pub(super) struct Times {
    /// By offset: timestamp, since when a reader knew it, and of which leader epoch.
    known: BTreeMap<TopicPartition, ByOffset<(i64, Duration, i32)>>,
}

impl Invariant for Times {
    fn name(&self) -> &'static str {
        "I19 search by time"
    }

    fn observe(&mut self, at: Duration, event: &Event, _told: &[(i64, Value)]) -> Result<(), String> {
        match event {
            Event::Read(read) => {
                if let Some(epoch) = read.epoch {
                    self.learn(at, read.place, epoch, &read.records);
                }
            }
            Event::FoundTime(found) => return self.judge(found),
            _ => {}
        }
        Ok(())
    }
}

impl Times {
    fn learn(&mut self, at: Duration, place: TopicPartition, epoch: i32, records: &[Record]) {
        let known = self.known.entry(place).or_default();
        for record in records {
            known.get_or_set(record.offset, (record.timestamp_ms, at, epoch));
        }
    }

    fn judge(&self, found: &FoundTime) -> Result<(), String> {
        let place = found.place;
        let Some(known) = self.known.get(&place) else { return Ok(()) };
        let end = found.found.map_or(i64::MAX, |(offset, _)| offset);
        // A leader that was deposed and does not know it has only what is of its epoch.
        let missed = known.iter().take_while(|(offset, _)| *offset < end).find(|(_, (timestamp, since, epoch))| {
            *timestamp >= found.wanted_ms && *since < found.invoked && *epoch <= found.epoch
        });
        if let Some((offset, (timestamp, ..))) = missed {
            return Err(format!(
                "{place}: offset {offset} has time {timestamp}, a search for {} found {:?}",
                found.wanted_ms, found.found
            ));
        }
        let Some((offset, timestamp)) = found.found else { return Ok(()) };
        if timestamp < found.wanted_ms {
            return Err(format!("{place}: a search for {} found {timestamp} at {offset}", found.wanted_ms));
        }
        match known.get(offset) {
            Some((real, ..)) if real != timestamp => {
                Err(format!("{place}: offset {offset} has time {real}, a search gave {timestamp}"))
            }
            _ => Ok(()),
        }
    }
}

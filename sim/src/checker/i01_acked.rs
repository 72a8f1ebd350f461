//! I1: no acknowledged write is lost, and nothing that a reader saw goes away again.
//!
//! Owns what must be there at the end: every offset that an answer or a poll named. Topics whose deletion was asked for owe nothing; a
//! history takes less time than its topics keep records, so none may be gone for its age.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{TopicId, TopicPartition};

use super::by_offset::ByOffset;
use super::{Event, Invariant, Value, place_of};

#[derive(Default)]
pub(super) struct Acked {
    must: BTreeMap<TopicPartition, ByOffset<Value>>,
    seen_final: BTreeSet<TopicPartition>,
    deleted: BTreeSet<TopicId>,
    healed: bool,
}

impl Invariant for Acked {
    fn name(&self) -> &'static str {
        "I1 acknowledged writes stay"
    }

    fn observe(&mut self, _at: Duration, event: &Event, told: &[(i64, Value)]) -> Result<(), String> {
        match event {
            Event::Acked { .. } | Event::Read(_) => {
                let Some(place) = place_of(event) else { return Ok(()) };
                let must = self.must.entry(place).or_default();
                told.iter().for_each(|(offset, value)| must.set(*offset, *value));
            }
            Event::Final { place, records, .. } => return self.judge(*place, records),
            Event::TopicDeleting { topic } => drop(self.deleted.insert(*topic)),
            Event::Healed => self.healed = true,
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        let missing = self
            .must
            .iter()
            .find(|(place, _)| self.healed && !self.deleted.contains(&place.topic) && !self.seen_final.contains(place));
        missing.map_or(Ok(()), |(place, records)| {
            let (offset, value) = records.iter().next().unwrap_or_default();
            let more = records.iter().count().saturating_sub(1);
            Err(format!(
                "{place}: offset {offset} held value {value}, and {more} more were there: the partition is gone"
            ))
        })
    }
}

impl Acked {
    fn judge(&mut self, place: TopicPartition, records: &[super::Record]) -> Result<(), String> {
        self.seen_final.insert(place);
        let there: BTreeMap<i64, Value> = records.iter().map(|record| (record.offset, record.value)).collect();
        let Some(must) = self.must.get(&place) else { return Ok(()) };
        for (offset, value) in must.iter() {
            let got = there.get(&offset);
            if got != Some(&value) {
                let (first, last) =
                    (records.first().map(|record| record.offset), records.last().map(|record| record.offset));
                return Err(format!(
                    "{place}: offset {offset} held value {value}, at the end it holds {got:?}; {} records from {first:?} to {last:?}",
                    records.len()
                ));
            }
        }
        Ok(())
    }
}

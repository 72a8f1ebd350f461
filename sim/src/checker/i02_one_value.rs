//! I2: an offset has one value for ever, whoever tells of it.

use std::collections::BTreeMap;
use std::time::Duration;

use model::TopicPartition;

use super::{Event, Invariant, Value, place_of, told};

#[derive(Default)]
pub(super) struct OneValue {
    known: BTreeMap<TopicPartition, BTreeMap<i64, Value>>,
}

impl Invariant for OneValue {
    fn name(&self) -> &'static str {
        "I2 an offset has one value"
    }

    fn observe(&mut self, _at: Duration, event: &Event) -> Result<(), String> {
        let records = told(event);
        let Some(place) = place_of(event).filter(|_| !records.is_empty()) else { return Ok(()) };
        let known = self.known.entry(place).or_default();
        for (offset, value) in records {
            let before = *known.entry(offset).or_insert(value);
            if before != value {
                return Err(format!("{place}: offset {offset} was value {before} and is now value {value}"));
            }
        }
        Ok(())
    }
}

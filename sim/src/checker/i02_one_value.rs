//! I2: an offset has one value for ever, whoever tells of it.

use std::collections::BTreeMap;
use std::time::Duration;

use model::TopicPartition;

use super::by_offset::ByOffset;
use super::{Event, Invariant, Value, place_of};

#[derive(Default)]
pub(super) struct OneValue {
    known: BTreeMap<TopicPartition, ByOffset<Value>>,
}

impl Invariant for OneValue {
    fn name(&self) -> &'static str {
        "I2 an offset has one value"
    }

    fn observe(&mut self, _at: Duration, event: &Event, told: &[(i64, Value)]) -> Result<(), String> {
        let Some(place) = place_of(event).filter(|_| !told.is_empty()) else { return Ok(()) };
        let known = self.known.entry(place).or_default();
        for (offset, value) in told {
            let before = known.get_or_set(*offset, *value);
            if before != *value {
                return Err(format!("{place}: offset {offset} was value {before} and is now value {value}"));
            }
        }
        Ok(())
    }
}

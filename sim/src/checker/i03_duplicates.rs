//! I3: a value of an idempotent producer lies at one offset, in the partition that it was sent to.

use std::collections::HashMap;
use std::time::Duration;

use model::TopicPartition;

use super::{Event, Invariant, Value, place_of};

#[derive(Default)]
pub(super) struct Duplicates {
    sent: HashMap<Value, (TopicPartition, Option<i64>)>,
}

impl Invariant for Duplicates {
    fn name(&self) -> &'static str {
        "I3 no duplicates"
    }

    fn observe(&mut self, _at: Duration, event: &Event, told: &[(i64, Value)]) -> Result<(), String> {
        if let Event::Send(sent) = event {
            for value in sent.values.iter() {
                if self.sent.insert(*value, (sent.place, None)).is_some() {
                    return Err(format!("the history is wrong: value {value} was sent twice"));
                }
            }
        }
        let Some(place) = place_of(event) else { return Ok(()) };
        for (offset, value) in told.iter().copied() {
            let Some((to, at)) = self.sent.get_mut(&value) else {
                return Err(format!("{place}: value {value} at offset {offset} was never sent"));
            };
            if *to != place {
                return Err(format!("{place}: value {value} at offset {offset} was sent to {to}"));
            }
            let before = *at.get_or_insert(offset);
            if before != offset {
                return Err(format!("{place}: value {value} lies at offset {before} and again at {offset}"));
            }
        }
        Ok(())
    }
}

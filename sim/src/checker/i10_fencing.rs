//! I10: once a partition has acknowledged a producer's newer epoch, nothing that is sent later under an older one takes effect.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::TopicPartition;

use super::{Event, Invariant, Value, place_of};

#[derive(Default)]
pub(super) struct Fencing {
    newest: BTreeMap<(TopicPartition, i64), i16>,
    fenced: BTreeSet<Value>,
}

impl Invariant for Fencing {
    fn name(&self) -> &'static str {
        "I10 fencing"
    }

    fn observe(&mut self, _at: Duration, event: &Event, told: &[(i64, Value)]) -> Result<(), String> {
        match event {
            Event::Send(sent) => {
                let newest = self.newest.get(&(sent.place, sent.identity.id));
                if newest.is_some_and(|newest| *newest > sent.identity.epoch) {
                    self.fenced.extend(sent.values.iter());
                }
            }
            Event::Acked { sent, .. } => {
                let newest = self.newest.entry((sent.place, sent.identity.id)).or_insert(sent.identity.epoch);
                *newest = (*newest).max(sent.identity.epoch);
            }
            _ => {}
        }
        if self.fenced.is_empty() {
            return Ok(());
        }
        match told.iter().find(|(_, value)| self.fenced.contains(value)) {
            Some((offset, value)) => {
                let place = place_of(event).map(|place| place.to_string()).unwrap_or_default();
                Err(format!("{place}: value {value} at offset {offset} was sent under an epoch that was fenced"))
            }
            None => Ok(()),
        }
    }
}

//! I4: what one producer sends to one partition stands there in the order in which it was sent.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use model::TopicPartition;

use super::{ClientId, Event, Invariant, Value, place_of};

#[derive(Default)]
pub(super) struct Order {
    /// Who sent a value, and as which of its values.
    sent: HashMap<Value, (ClientId, u64)>,
    count: u64,
    stands: BTreeMap<(TopicPartition, ClientId), BTreeMap<i64, u64>>,
}

impl Invariant for Order {
    fn name(&self) -> &'static str {
        "I4 a producer's order"
    }

    fn observe(&mut self, _at: Duration, event: &Event, told: &[(i64, Value)]) -> Result<(), String> {
        if let Event::Send(sent) = event {
            for value in sent.values.iter() {
                self.count += 1;
                self.sent.insert(*value, (sent.client, self.count));
            }
        }
        let Some(place) = place_of(event) else { return Ok(()) };
        for (offset, value) in told.iter().copied() {
            let Some((client, number)) = self.sent.get(&value).copied() else { continue };
            let stands = self.stands.entry((place, client)).or_default();
            if stands.insert(offset, number).is_some() {
                continue;
            }
            let before = stands.range(..offset).next_back().map(|(_, number)| *number);
            let behind = stands.range(offset + 1..).next().map(|(_, number)| *number);
            if before.is_some_and(|before| before >= number) || behind.is_some_and(|behind| behind <= number) {
                return Err(format!(
                    "{place}: value {value} of client {client} at offset {offset} is out of its order"
                ));
            }
        }
        Ok(())
    }
}

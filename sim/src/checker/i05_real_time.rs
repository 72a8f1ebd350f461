//! I5: what was sent after another record was acknowledged stands behind it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use model::TopicPartition;

use super::{Event, Invariant, Value, place_of};

#[derive(Default)]
pub(super) struct RealTime {
    acked: BTreeMap<TopicPartition, i64>,
    /// The highest offset that was acknowledged when a value was sent.
    floor: HashMap<Value, i64>,
}

impl Invariant for RealTime {
    fn name(&self) -> &'static str {
        "I5 real time"
    }

    fn observe(&mut self, _at: Duration, event: &Event, told: &[(i64, Value)]) -> Result<(), String> {
        if let Event::Send(sent) = event
            && let Some(acked) = self.acked.get(&sent.place)
        {
            self.floor.extend(sent.values.iter().map(|value| (*value, *acked)));
        }
        let Some(place) = place_of(event) else { return Ok(()) };
        for (offset, value) in told {
            if let Some(floor) = self.floor.get(value)
                && offset <= floor
            {
                return Err(format!(
                    "{place}: value {value} was sent after offset {floor} was acknowledged, and is at {offset}"
                ));
            }
        }
        if let (Event::Acked { .. }, Some((last, _))) = (event, told.last()) {
            let acked = self.acked.entry(place).or_insert(*last);
            *acked = (*acked).max(*last);
        }
        Ok(())
    }
}

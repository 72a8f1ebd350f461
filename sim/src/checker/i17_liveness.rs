//! I17: within 30 seconds after all faults are over everything that was told of can be read to the high watermark.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{TopicId, TopicPartition};

use super::{Event, Invariant, Value, place_of};

pub(super) const RECOVERY_MAX: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Liveness {
    healed: Option<Duration>,
    owed: BTreeSet<TopicPartition>,
    read: BTreeSet<TopicPartition>,
    deleted: BTreeSet<TopicId>,
}

impl Invariant for Liveness {
    fn name(&self) -> &'static str {
        "I17 recovery"
    }

    fn observe(&mut self, at: Duration, event: &Event, _told: &[(i64, Value)]) -> Result<(), String> {
        match event {
            Event::Healed => self.healed = Some(at),
            Event::Acked { .. } | Event::Read(_) => self.owed.extend(place_of(event)),
            Event::TopicDeleting { topic } => drop(self.deleted.insert(*topic)),
            Event::Final { place, .. } => {
                self.read.insert(*place);
                let took = at.saturating_sub(self.healed.unwrap_or(at));
                if took > RECOVERY_MAX {
                    return Err(format!(
                        "{place}: it could be read to its end only {took:?} after all faults were over"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        let unread = self.owed.difference(&self.read).find(|place| !self.deleted.contains(&place.topic));
        match (self.healed, unread) {
            (Some(_), Some(place)) => Err(format!("{place}: it was never read to its end after all faults were over")),
            _ => Ok(()),
        }
    }
}

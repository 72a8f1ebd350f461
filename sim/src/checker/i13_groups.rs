//! I13: what a group has committed never goes back nor away, and one generation gives a partition to one member.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{TopicId, TopicPartition};

use super::{ClientId, Event, Invariant, Value};

type Key = (u32, TopicPartition);

#[derive(Default)]
pub(super) struct Groups {
    asked: BTreeMap<Key, BTreeSet<i64>>,
    /// The highest that a client knew to be committed, and since when; only growing ones.
    known: BTreeMap<Key, Vec<(Duration, i64)>>,
    owners: BTreeMap<(u32, i32, TopicPartition), ClientId>,
    deleted: BTreeSet<TopicId>,
    final_seen: BTreeSet<Key>,
    healed: bool,
}

impl Invariant for Groups {
    fn name(&self) -> &'static str {
        "I13 groups"
    }

    fn observe(&mut self, at: Duration, event: &Event, _told: &[(i64, Value)]) -> Result<(), String> {
        match event {
            Event::Committing { group, place, offset } => {
                self.asked.entry((*group, *place)).or_default().insert(*offset);
            }
            Event::Committed { group, place, offset } => self.know(at, (*group, *place), *offset),
            Event::FoundCommitted { group, place, invoked, offset } => {
                self.found((*group, *place), *invoked, *offset)?;
                if let Some(offset) = offset {
                    self.know(at, (*group, *place), *offset);
                }
            }
            Event::FinalCommitted { group, place, offset } => {
                self.final_seen.insert((*group, *place));
                self.found((*group, *place), at, *offset)?;
            }
            Event::Assigned { group, generation, member, places } => {
                for place in places {
                    let owner = *self.owners.entry((*group, *generation, *place)).or_insert(*member);
                    if owner != *member {
                        return Err(format!(
                            "{place}: generation {generation} of group {group} gave it to members {owner} and {member}"
                        ));
                    }
                }
            }
            Event::TopicDeleting { topic } => drop(self.deleted.insert(*topic)),
            Event::Healed => self.healed = true,
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        let missing = self.known.keys().find(|(group, place)| {
            self.healed && !self.deleted.contains(&place.topic) && !self.final_seen.contains(&(*group, *place))
        });
        missing.map_or(Ok(()), |(group, place)| Err(format!("{place}: what group {group} committed was not to be had")))
    }
}

impl Groups {
    fn know(&mut self, at: Duration, key: Key, offset: i64) {
        let known = self.known.entry(key).or_default();
        if known.last().is_none_or(|(_, last)| *last < offset) {
            known.push((at, offset));
        }
    }

    fn found(&self, key: Key, invoked: Duration, offset: Option<i64>) -> Result<(), String> {
        let (group, place) = key;
        if self.deleted.contains(&place.topic) {
            return Ok(());
        }
        if let Some(offset) = offset
            && !self.asked.get(&key).is_some_and(|asked| asked.contains(&offset))
        {
            return Err(format!("{place}: group {group} has offset {offset} committed, which nobody asked for"));
        }
        let known = self.known.get(&key).into_iter().flatten();
        let floor = known.rev().find(|(at, _)| *at < invoked).map(|(_, offset)| *offset);
        if floor > offset {
            return Err(format!("{place}: group {group} had committed {floor:?}, later {offset:?} is found"));
        }
        Ok(())
    }
}

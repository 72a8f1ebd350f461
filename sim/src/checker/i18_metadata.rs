//! I18: a leader epoch has one leader, and one process of it; a topic that was created is known to all nodes, and one that was deleted
//! to none.
//!
//! A leader that went on under its epoch after a restart could have lost a tail that its followers still hold under the same epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{TopicId, TopicPartition};

use super::{Event, Invariant, Value};

#[derive(Default)]
pub(super) struct Metadata {
    leaders: BTreeMap<(TopicPartition, i32), (i32, i32)>,
    /// Of each epoch: the node and its process that acknowledged under it.
    processes: BTreeMap<(TopicPartition, i32), (i32, u64)>,
    created: BTreeSet<TopicId>,
    deleting: BTreeSet<TopicId>,
    deleted: BTreeSet<TopicId>,
}

impl Invariant for Metadata {
    fn name(&self) -> &'static str {
        "I18 metadata"
    }

    fn observe(&mut self, _at: Duration, event: &Event, _told: &[(i64, Value)]) -> Result<(), String> {
        match event {
            Event::Led { node, place, epoch, leader } => {
                let (known, by) = *self.leaders.entry((*place, *epoch)).or_insert((*leader, *node));
                if known != *leader {
                    return Err(format!(
                        "{place}: epoch {epoch} is led by {known}, says node {by}, and by {leader}, says node {node}"
                    ));
                }
            }
            Event::AckedUnder { place, epoch, node, start } => {
                let (known, first) = *self.processes.entry((*place, *epoch)).or_insert((*node, *start));
                if (known, first) != (*node, *start) {
                    return Err(format!(
                        "{place}: under epoch {epoch} start {first} of node {known} acknowledged, and now start {start} of node {node}"
                    ));
                }
            }
            Event::TopicCreated { topic } => drop(self.created.insert(*topic)),
            Event::TopicDeleting { topic } => drop(self.deleting.insert(*topic)),
            Event::TopicDeleted { topic } => drop(self.deleted.insert(*topic)),
            Event::Topics { node, topics } => {
                let topics: BTreeSet<TopicId> = topics.iter().copied().collect();
                let mut owed = self.created.difference(&self.deleting);
                if let Some(missing) = owed.find(|topic| !topics.contains(topic)) {
                    return Err(format!("node {node} does not know topic {missing}, which was created"));
                }
                if let Some(back) = self.deleted.intersection(&topics).next() {
                    return Err(format!("node {node} knows topic {back}, which was deleted"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

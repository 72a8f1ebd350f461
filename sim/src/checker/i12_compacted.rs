//! I12 for compacted partitions: replicas are compacted each by itself, so they are compared by records, below the high watermark.
//!
//! At an offset that two replicas hold, they hold the same record. Of each key both have the same newest record; where that is a
//! tombstone, one of them may have dropped the key altogether, but never hold an older record of it.

use std::collections::BTreeMap;
use std::time::Duration;

use model::TopicPartition;

use super::{Event, Invariant, Keyed, Value};

#[derive(Default)]
pub(super) struct Compacted {
    first: BTreeMap<TopicPartition, (i32, Vec<Keyed>, i64)>,
}

impl Invariant for Compacted {
    fn name(&self) -> &'static str {
        "I12 compacted replicas are equal"
    }

    fn observe(&mut self, _at: Duration, event: &Event, _told: &[(i64, Value)]) -> Result<(), String> {
        let Event::Compacted { node, place, start, records } = event else { return Ok(()) };
        for pair in records.windows(2) {
            let [earlier, later] = pair else { continue };
            if later.offset <= earlier.offset || later.epoch < earlier.epoch {
                return Err(format!("{place}: on node {node} {earlier:?} is followed by {later:?}"));
            }
        }
        let Some((other, known, other_start)) = self.first.get(place) else {
            self.first.insert(*place, (*node, records.clone(), *start));
            return Ok(());
        };
        let from = (*start).max(*other_start);
        let here: Vec<&Keyed> = records.iter().filter(|record| record.offset >= from).collect();
        let there: Vec<&Keyed> = known.iter().filter(|record| record.offset >= from).collect();
        compare(&here, &there).map_err(|(left, right)| {
            format!("{place}: node {node} holds {left:?} where node {other} holds {right:?}, both from {from} on")
        })
    }
}

type Pair<'a> = (Option<&'a Keyed>, Option<&'a Keyed>);

fn compare<'a>(here: &[&'a Keyed], there: &[&'a Keyed]) -> Result<(), Pair<'a>> {
    let by_offset: BTreeMap<i64, &Keyed> = there.iter().map(|record| (record.offset, *record)).collect();
    for record in here {
        let same = by_offset.get(&record.offset).copied();
        if same.is_some_and(|same| same != *record) {
            return Err((Some(record), same));
        }
    }
    let (newest_here, newest_there) = (newest(here), newest(there));
    for key in newest_here.keys().chain(newest_there.keys()) {
        let pair = (newest_here.get(key).copied(), newest_there.get(key).copied());
        let equal = match pair {
            (Some(one), Some(other)) => one.offset == other.offset,
            (Some(only), None) | (None, Some(only)) => only.tombstone,
            (None, None) => true,
        };
        if !equal {
            return Err(pair);
        }
    }
    Ok(())
}

fn newest<'a>(records: &[&'a Keyed]) -> BTreeMap<u64, &'a Keyed> {
    records.iter().map(|record| (record.key, *record)).collect()
}

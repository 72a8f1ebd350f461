//! I12: below the high watermark all replicas hold the same batches, byte for byte, leader epochs included.

use std::collections::BTreeMap;
use std::time::Duration;

use model::TopicPartition;

use super::{BatchDigest, Event, Invariant, Value};

#[derive(Default)]
pub(super) struct Replicas {
    first: BTreeMap<TopicPartition, (i32, BTreeMap<i64, u64>, i64)>,
}

impl Invariant for Replicas {
    fn name(&self) -> &'static str {
        "I12 replicas are equal"
    }

    fn observe(&mut self, _at: Duration, event: &Event, _told: &[(i64, Value)]) -> Result<(), String> {
        let Event::Replica { node, place, start, batches } = event else { return Ok(()) };
        let digests = |batches: &[BatchDigest]| batches.iter().map(|batch| (batch.base, batch.digest)).collect();
        let Some((other, known, other_start)) = self.first.get(place) else {
            self.first.insert(*place, (*node, digests(batches), *start));
            return Ok(());
        };
        let from = (*start).max(*other_start);
        let here: BTreeMap<i64, u64> = digests(batches);
        let (mut here, mut there) = (here.range(from..), known.range(from..));
        loop {
            match (here.next(), there.next()) {
                (None, None) => return Ok(()),
                (left, right) if left == right => {}
                (left, right) => {
                    return Err(format!("{place}: node {node} holds {left:?} where node {other} holds {right:?}"));
                }
            }
        }
    }
}

//! I12: below the high watermark all replicas hold the same batches, byte for byte, leader epochs included; no batch lies over another,
//! and epochs only grow.

use std::collections::BTreeMap;
use std::time::Duration;

use model::TopicPartition;

use super::{BatchDigest, Event, Invariant, Value};

#[derive(Default)]
pub(super) struct Replicas {
    first: BTreeMap<TopicPartition, (i32, Digests, i64)>,
}

type Digests = BTreeMap<i64, BatchDigest>;

impl Invariant for Replicas {
    fn name(&self) -> &'static str {
        "I12 replicas are equal"
    }

    fn observe(&mut self, _at: Duration, event: &Event, _told: &[(i64, Value)]) -> Result<(), String> {
        let Event::Replica { node, place, start, batches } = event else { return Ok(()) };
        for pair in batches.windows(2) {
            let [earlier, later] = pair else { continue };
            if later.base <= earlier.last || later.epoch < earlier.epoch {
                return Err(format!("{place}: on node {node} {earlier:?} is followed by {later:?}"));
            }
        }
        let digests = |batches: &[BatchDigest]| batches.iter().map(|batch| (batch.base, *batch)).collect::<Digests>();
        let Some((other, known, other_start)) = self.first.get(place) else {
            self.first.insert(*place, (*node, digests(batches), *start));
            return Ok(());
        };
        let from = (*start).max(*other_start);
        let here = digests(batches);
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

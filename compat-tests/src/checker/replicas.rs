//! I12: the batches of all replicas, below the high watermark.

use std::collections::BTreeMap;

use super::history::{Batch, History, Name};
use super::{Invariant, Verdict};

pub(super) fn judge(history: &History, verdict: &mut Verdict) {
    let mut copies: BTreeMap<Name, Vec<(u32, Vec<&Batch>)>> = BTreeMap::new();
    for ((key, node), batches) in &history.replicas {
        let Some(high) = history.ends.get(key) else {
            verdict.found(Invariant::Replicas, || format!("{}: no high watermark is known", history.text(*key)));
            continue;
        };
        let below: Vec<&Batch> = batches.iter().filter(|batch| batch.last < *high).collect();
        verdict.batches += below.len() as u64;
        let reached = below.last().map_or(0, |batch| batch.last + 1);
        let name = || format!("{} on node {node}", history.text(*key));
        if reached != *high {
            verdict.found(Invariant::Replicas, || format!("{}: holds up to {reached} of {high}", name()));
        }
        for pair in below.windows(2) {
            let [earlier, later] = pair else { continue };
            if later.first != earlier.last + 1 {
                verdict.found(Invariant::Replicas, || {
                    format!("{}: {} is followed by {}", name(), earlier.last, later.first)
                });
            }
            if later.epoch < earlier.epoch {
                verdict.found(Invariant::Replicas, || {
                    format!("{}: epoch {} at {} after {}", name(), later.epoch, later.first, earlier.epoch)
                });
            }
        }
        copies.entry(*key).or_default().push((*node, below));
    }
    for (key, copies) in copies {
        let Some(((first, reference), others)) = copies.split_first() else { continue };
        for (node, batches) in others {
            let differ = reference.iter().zip(batches).find(|(one, other)| one != other);
            if let Some((one, other)) = differ {
                verdict.found(Invariant::Replicas, || {
                    format!("{}: node {first} has {one:?}, node {node} has {other:?}", history.text(key))
                });
            }
        }
    }
}

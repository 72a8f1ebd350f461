//! AlterPartitionReassignments: other replicas for a partition (KIP-455, KIP-860).
//!
//! Owns what may be asked and the state while it is under way: `replicas` are the wanted ones followed by those that go, `adding`
//! and `removing` say which are which. Does not own when it is complete (`change`). The throttle is a configuration.
//! Invariant: no replica goes before the added ones are in sync; cancelling gives back what was before.

use model::{ErrorCode, NodeId};

use super::change::{Draft, View, changed};
use super::requests::{Reassignment, Refusal};
use super::topics::Decided;
use crate::metadata::{Fact, Image, PartitionInfo, Topic};

/// One answer for each partition, in their order.
pub fn reassign(image: &Image, partitions: &[Reassignment], allow_factor_change: bool) -> Decided<()> {
    let mut decided = Decided { facts: Vec::new(), answers: Vec::with_capacity(partitions.len()) };
    let mut seen = std::collections::BTreeSet::new();
    for wanted in partitions {
        let answer = match seen.insert(&wanted.partition) {
            true => reassign_one(image, wanted, allow_factor_change),
            false => Err(refuse(ErrorCode::InvalidRequest, "the partition is named twice".to_owned())),
        };
        decided.answers.push(answer.map(|facts| decided.facts.push(facts)));
    }
    decided
}

fn reassign_one(image: &Image, wanted: &Reassignment, allow_factor_change: bool) -> Result<Vec<Fact>, Refusal> {
    let partition = wanted.partition.partition;
    let unknown = || {
        refuse(
            ErrorCode::UnknownTopicOrPartition,
            format!("there is no partition {}-{partition}", wanted.partition.topic),
        )
    };
    let topic = image.topic(&wanted.partition.topic).ok_or_else(unknown)?;
    let before = topic.partition(partition).ok_or_else(unknown)?;
    let state = match &wanted.replicas {
        None => cancelled(image, topic, before)?,
        Some(replicas) => {
            check_replicas(image, replicas)?;
            if !allow_factor_change && replicas.len() != before.replication_factor() {
                let message = format!(
                    "The replication factor is changed from {} to {}",
                    before.replication_factor(),
                    replicas.len()
                );
                return Err(refuse(ErrorCode::InvalidReplicationFactor, message));
            }
            begun(image, topic, before, replicas)?
        }
    };
    Ok(state.map(|state| changed(topic.id, partition, state)).into_iter().collect())
}

fn check_replicas(image: &Image, replicas: &[NodeId]) -> Result<(), Refusal> {
    let refuse = |message: String| Err(refuse(ErrorCode::InvalidReplicaAssignment, message));
    if replicas.is_empty() {
        return refuse("The manual partition assignment includes an empty replica list.".to_owned());
    }
    for (at, node) in replicas.iter().enumerate() {
        if image.node(*node).is_none() {
            return refuse(format!(
                "The manual partition assignment includes broker {node}, but no such broker is registered."
            ));
        }
        if replicas.iter().take(at).any(|earlier| earlier == node) {
            return refuse(format!("The manual partition assignment includes the broker {node} more than once."));
        }
    }
    Ok(())
}

/// The state with which a move to `target` begins, or that it already is. A move that is under way is given up for it: what it was
/// adding and `target` does not name goes at once.
///
/// # Errors
/// InvalidReplicaAssignment where nobody in sync would be left.
pub(super) fn begun(
    image: &Image,
    topic: &Topic,
    before: &PartitionInfo,
    target: &[NodeId],
) -> Result<Option<PartitionInfo>, Refusal> {
    let original = before.original_replicas();
    let removing: Vec<NodeId> = original.iter().copied().filter(|node| !target.contains(node)).collect();
    let adding: Vec<NodeId> = target.iter().copied().filter(|node| !original.contains(node)).collect();
    let replicas: Vec<NodeId> = target.iter().chain(&removing).copied().collect();
    with_replicas(image, topic, before, replicas, adding, removing)
}

fn cancelled(image: &Image, topic: &Topic, before: &PartitionInfo) -> Result<Option<PartitionInfo>, Refusal> {
    if !before.is_reassigning() {
        let message = "No partition reassignment is in progress.".to_owned();
        return Err(refuse(ErrorCode::NoReassignmentInProgress, message));
    }
    with_replicas(image, topic, before, before.original_replicas(), Vec::new(), Vec::new())
}

fn with_replicas(
    image: &Image,
    topic: &Topic,
    before: &PartitionInfo,
    replicas: Vec<NodeId>,
    adding: Vec<NodeId>,
    removing: Vec<NodeId>,
) -> Result<Option<PartitionInfo>, Refusal> {
    let isr: Vec<NodeId> = replicas.iter().copied().filter(|node| before.isr.contains(node)).collect();
    let elr: Vec<NodeId> = before.elr.iter().copied().filter(|node| replicas.contains(node)).collect();
    let held = !before.isr.is_empty() || !before.elr.is_empty();
    if held && isr.is_empty() && elr.is_empty() {
        let message = "no replica that is in sync would be left: acknowledged records would be lost".to_owned();
        return Err(refuse(ErrorCode::InvalidReplicaAssignment, message));
    }
    let mut draft = Draft::new(View::of(image), topic, before);
    draft.after = PartitionInfo { replicas, adding, removing, isr, elr, ..before.clone() };
    Ok(draft.finish())
}

fn refuse(code: ErrorCode, message: String) -> Refusal {
    Refusal::new(code, message)
}

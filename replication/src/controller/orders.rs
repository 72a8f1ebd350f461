//! What nodes are told by an operator, and what a node says before it stops: drain, decommission, remove, hand over.
//!
//! Owns the decisions and how far they are (`progress`). Does not own the moves of replicas that follow (`upkeep`).
//! Invariant: no node is forgotten that is the last to hold what a partition has acknowledged.

use model::{ErrorCode, NodeId, PartitionIndex, TopicPartition};

use super::change::{Draft, Mode, Seen, View, changed, for_all};
use super::nodes::known;
use super::requests::{HandOver, Refusal};
use crate::metadata::{Duty, Fact, Image, Incarnation, NodeOrders, PartitionInfo, Topic};

/// What a node has to do with partitions, for `weir node list` and to see how far an order is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeProgress {
    pub leads: usize,
    /// Partitions that it is a replica of, without those that it is about to leave or was only just given.
    pub replicas: usize,
    /// Being moved to it.
    pub arriving: usize,
    /// Being moved away from it.
    pub leaving: usize,
}

/// Of every node that is registered or named by a partition, in one walk over all partitions.
pub fn progress(image: &Image) -> std::collections::BTreeMap<NodeId, NodeProgress> {
    let mut all: std::collections::BTreeMap<NodeId, NodeProgress> =
        image.nodes().keys().map(|node| (*node, NodeProgress::default())).collect();
    for partition in image.topics().flat_map(|topic| &topic.partitions) {
        for node in &partition.replicas {
            let progress = all.entry(*node).or_default();
            let (arrives, leaves) = (partition.adding.contains(node), partition.removing.contains(node));
            progress.leads += usize::from(partition.leader == Some(*node));
            progress.arriving += usize::from(arrives);
            progress.leaving += usize::from(leaves);
            progress.replicas += usize::from(!arrives && !leaves);
        }
    }
    all
}

/// # Errors
/// BrokerIdNotRegistered; UnsupportedVersion before level 2 is finalised.
pub fn set_duty(image: &Image, node: NodeId, duty: Duty) -> Result<Vec<Vec<Fact>>, Refusal> {
    known(image, node)?;
    let before = image.orders(node);
    if before.duty == duty {
        return Ok(Vec::new());
    }
    needs_level_2(image, "orders to nodes")?;
    let orders = NodeOrders { duty, ..before };
    let mut groups = vec![vec![Fact::NodeOrdered { node, orders }]];
    if duty >= Duty::Drained {
        groups.extend(led_elsewhere(image, node));
    }
    Ok(groups)
}

pub(super) fn needs_level_2(image: &Image, what: &str) -> Result<(), Refusal> {
    if image.level() >= 2 {
        return Ok(());
    }
    let message = format!(
        "{what} need level 2 of weir.metadata, this cluster has finalised {}: once every node runs a version that can, \
         `kafka-features upgrade --feature weir.metadata=2` raises it",
        image.level()
    );
    Err(Refusal::new(ErrorCode::UnsupportedVersion, message))
}

/// Everything that the node leads and another can lead.
fn led_elsewhere(image: &Image, node: NodeId) -> Vec<Vec<Fact>> {
    let view = View::with(image, node, Seen::Unwilling);
    for_all(image, |topic, before| match before.leader == Some(node) {
        true => Draft::new(view, topic, before).mode(Mode::Willing).finish(),
        false => None,
    })
}

/// Leaderships go to other in-sync replicas, and the node leaves the ISRs that have others: it acknowledges nothing more. Gives the
/// facts, and how many of the partitions it still leads afterwards.
///
/// # Errors
/// BrokerIdNotRegistered; StaleBrokerEpoch for another incarnation than the one that is registered.
pub fn hand_over(
    image: &Image,
    node: NodeId,
    incarnation: Incarnation,
    what: &HandOver,
) -> Result<(Vec<Vec<Fact>>, u64), Refusal> {
    if known(image, node)?.incarnation != incarnation {
        let message = format!("a later start of node {node} is registered");
        return Err(Refusal::new(ErrorCode::StaleBrokerEpoch, message));
    }
    let view = View::with(image, node, Seen::Unwilling);
    let left = std::cell::Cell::new(0);
    let hand_over = |topic: &Topic, before: &PartitionInfo| {
        let state = handed_over(view, topic, before, node);
        let leader = state.as_ref().map_or(before.leader, |state| state.leader);
        left.set(left.get() + u64::from(leader == Some(node)));
        state
    };
    let mut groups = Vec::new();
    match what {
        HandOver::Stopping => {
            let before = image.orders(node);
            let orders = NodeOrders { stopping: Some(incarnation), ..before };
            if image.level() >= 2 && orders != before {
                groups.push(vec![Fact::NodeOrdered { node, orders }]);
            }
            groups.extend(for_all(image, hand_over));
        }
        HandOver::Partitions(partitions) => {
            for TopicPartition { topic: id, partition } in partitions {
                let Some(topic) = image.topic_by_id(*id) else { continue };
                let state = topic.partition(*partition).and_then(|before| hand_over(topic, before));
                groups.extend(state.map(|state| vec![changed(*id, *partition, state)]));
            }
        }
    }
    Ok((groups, left.get()))
}

fn handed_over(view: View<'_>, topic: &Topic, before: &PartitionInfo, node: NodeId) -> Option<PartitionInfo> {
    if !before.isr.contains(&node) {
        return None;
    }
    if !before.isr.iter().any(|member| *member != node && view.is_live(*member)) {
        return None;
    }
    let mut draft = Draft::new(view, topic, before);
    draft.leave_isr(node);
    draft.finish()
}

/// Kafka's UnregisterBroker. Partitions may still name the node as a replica; it is out of their ISRs and ELRs.
///
/// # Errors
/// BrokerIdNotRegistered; InvalidRequest while it lives, or where it is the last that holds what a partition acknowledged.
pub fn unregister(image: &Image, node: NodeId) -> Result<Vec<Vec<Fact>>, Refusal> {
    if !known(image, node)?.fenced {
        let message = format!("node {node} is alive: stop it first");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let last = |(topic, partition, info): &(&Topic, PartitionIndex, &PartitionInfo)| {
        let others = info.isr.iter().chain(&info.elr).any(|member| *member != node);
        let holds = info.isr.contains(&node) || info.elr.contains(&node);
        (holds && !others).then(|| format!("{}-{partition}", topic.name))
    };
    let all = image
        .topics()
        .flat_map(|topic| topic.partitions().map(move |(partition, info)| (topic.as_ref(), partition, info.as_ref())));
    let only_here: Vec<String> = all.filter_map(|one| last(&one)).collect();
    if let Some(first) = only_here.first() {
        let message = format!(
            "node {node} is the last that holds all records of {} partitions, {first} among them: start it, or give them up by an \
             unclean election",
            only_here.len()
        );
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let view = View::with(image, node, Seen::Dead);
    let mut groups = for_all(image, |topic, before| {
        let named = before.isr.contains(&node) || before.elr.contains(&node) || before.last_known_elr.contains(&node);
        if !named {
            return None;
        }
        let mut draft = Draft::new(view, topic, before);
        draft.distrust(node);
        draft.after.last_known_elr.retain(|last| *last != node);
        draft.finish()
    });
    groups.push(vec![Fact::NodeUnregistered { node }]);
    Ok(groups)
}

/// `weir node remove`: as `unregister`, for a node that no partition names any more.
///
/// # Errors
/// As `unregister`; InvalidRequest while partitions name it.
pub fn remove(image: &Image, node: NodeId) -> Result<Vec<Vec<Fact>>, Refusal> {
    known(image, node)?;
    let partitions = image.topics().flat_map(|topic| &topic.partitions);
    let left = partitions.filter(|partition| partition.is_replica(node)).count();
    if left > 0 {
        let message = format!("node {node} holds replicas of {left} partitions: decommission it first");
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    unregister(image, node)
}

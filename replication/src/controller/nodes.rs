//! Nodes that start, stop and vanish; and the ranges of producer ids that they are given: the decisions.
//!
//! Owns what a start means for the partitions that the node held. Changes nothing.
//! Invariant: a node that starts continues no leadership: every partition that it led, or can lead now, gets a new leader epoch, also
//! with one replica. A leader that lost an unsynced tail would else write other records under the same epoch.

use std::sync::Arc;

use model::{LeaderEpoch, NodeId, PartitionIndex, TopicId};

use crate::metadata::{Fact, Image, Incarnation, NodeInfo, PartitionInfo, Topic};

/// How many producer ids a node takes at once: each block costs an entry of the log.
pub const PRODUCER_ID_BLOCK: i64 = 1_000;

/// What a start may have cost the node of its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trust {
    All,
    /// The machine rebooted after an unclean stop: what no journal held may be gone.
    Journalled,
    /// It is another directory.
    Nothing,
}

/// A new cluster with these voters.
pub fn found(cluster_id: String, voters: Vec<NodeId>) -> Fact {
    Fact::ClusterFounded { cluster_id, voters }
}

/// A process start. `clean`: the earlier one ended with everything on disk. One group for the node, one for each topic after it.
pub fn register(image: &Image, node: NodeId, info: NodeInfo, clean: bool) -> Vec<Vec<Fact>> {
    let trust = match image.node(node) {
        Some(before) if before.directory != info.directory => Trust::Nothing,
        Some(before) if !clean && before.boot != info.boot => Trust::Journalled,
        _ => Trust::All,
    };
    let mut groups = vec![vec![Fact::NodeRegistered { node, info }]];
    let changes = image.topics().map(|topic| {
        let trusted = match trust {
            Trust::All => true,
            Trust::Journalled => topic.config.is_journalled(),
            Trust::Nothing => false,
        };
        changes(topic, |before| started(image, before, node, trusted))
    });
    groups.extend(changes.filter(|group| !group.is_empty()));
    groups
}

/// A node that is dead to the cluster: it leads nothing and is in no ISR that has other members.
pub fn fence(image: &Image, node: NodeId, incarnation: Incarnation) -> Vec<Vec<Fact>> {
    let current = image.node(node).is_some_and(|info| info.incarnation == incarnation && !info.fenced);
    if !current {
        return Vec::new();
    }
    let mut groups = vec![vec![Fact::NodeFenced { node, incarnation }]];
    let changes = image.topics().map(|topic| changes(topic, |before| without(image, topic, before, node)));
    groups.extend(changes.filter(|group| !group.is_empty()));
    groups
}

/// The next block of producer ids for a node: the fact, and the first of `PRODUCER_ID_BLOCK` ids.
pub fn allocate_producer_ids(image: &Image, node: NodeId) -> (Fact, i64) {
    let first = image.next_producer_id();
    let next = first.checked_add(PRODUCER_ID_BLOCK).expect("2^63 producer ids");
    (Fact::ProducerIdsAllocated { node, next }, first)
}

fn changes(topic: &Arc<Topic>, change: impl Fn(&PartitionInfo) -> Option<PartitionInfo>) -> Vec<Fact> {
    let fact = |(partition, before): (PartitionIndex, &Arc<PartitionInfo>)| {
        change(before).map(|state| changed(topic.id, partition, before, state))
    };
    topic.partitions().filter_map(fact).collect()
}

fn changed(topic: TopicId, partition: PartitionIndex, before: &PartitionInfo, state: PartitionInfo) -> Fact {
    let state = PartitionInfo { partition_epoch: before.partition_epoch.wrapping_add(1), ..state };
    Fact::PartitionChanged { topic, partition, state }
}

/// What the start of a replica changes; `None`: nothing.
fn started(image: &Image, before: &PartitionInfo, node: NodeId, trusted: bool) -> Option<PartitionInfo> {
    if !before.replicas.contains(&node) {
        return None;
    }
    let mut after = before.clone();
    if !trusted {
        // The last member stays: what it holds is all there is.
        if after.isr.len() > 1 {
            after.isr.retain(|member| *member != node);
        }
        after.elr.retain(|member| *member != node);
    }
    let led = before.leader == Some(node);
    let can_lead = before.leader.is_none() && after.isr.contains(&node);
    if led || can_lead {
        let preferred = if after.isr.contains(&node) { Some(node) } else { live_member(image, &after, node) };
        after.leader = preferred;
        after.leader_epoch = next_epoch(before);
    }
    (after != *before).then_some(after)
}

/// What the death of a replica changes; `None`: nothing.
fn without(image: &Image, topic: &Topic, before: &PartitionInfo, node: NodeId) -> Option<PartitionInfo> {
    let led = before.leader == Some(node);
    if !before.isr.contains(&node) && !led {
        return None;
    }
    let mut after = before.clone();
    if after.isr.len() > 1 {
        after.isr.retain(|member| *member != node);
        // Below the minimum nothing more is committed without it: it holds all that was (KIP-966).
        if after.isr.len() < topic.min_insync_replicas() && !after.elr.contains(&node) {
            after.elr.push(node);
        }
    }
    if led {
        after.leader = live_member(image, &after, node);
        after.leader_epoch = next_epoch(before);
    }
    (after != *before).then_some(after)
}

/// The first of the ISR, in order of preference, that lives.
fn live_member(image: &Image, partition: &PartitionInfo, except: NodeId) -> Option<NodeId> {
    let lives = |node: NodeId| node != except && image.node(node).is_some_and(|info| !info.fenced);
    partition.replicas.iter().copied().find(|node| partition.isr.contains(node) && lives(*node))
}

fn next_epoch(before: &PartitionInfo) -> LeaderEpoch {
    before.leader_epoch.next()
}

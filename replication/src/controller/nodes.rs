//! Nodes that start, stop and vanish; and the ranges of producer ids that they are given: the decisions.
//!
//! Owns what a start or a death means for the partitions that the node held. Changes nothing.
//! Invariants: a node that starts continues no leadership: every partition that it led, or can lead now, gets a new leader epoch, also
//! with one replica. A leader that lost an unsynced tail would else write other records under the same epoch. What a decision says of
//! the node itself comes behind what it says of its partitions: it may be cut anywhere by the death of the controller, and is decided
//! once more then.

use std::collections::BTreeSet;

use model::planted::{self, Bug};
use model::{ErrorCode, NodeId, TopicPartition};

use super::change::{Draft, Mode, Seen, View, for_all, for_each};
use super::requests::Refusal;
use crate::metadata::record::{LEVEL, LEVEL_FEATURE};
use crate::metadata::{Duty, Fact, Image, Incarnation, NodeInfo, NodeOrders, PartitionInfo, Topic};

/// How many producer ids a node takes at once: each block costs an entry of the log.
pub const PRODUCER_ID_BLOCK: i64 = 1_000;

/// What a start may have cost the node of its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trust {
    All,
    /// The machine rebooted after an unclean stop: what no journal held may be gone.
    Journalled,
    /// It is another directory, or the partition's log was damaged and given up.
    Nothing,
}

/// A new cluster with these voters.
pub fn found(cluster_id: String, voters: Vec<NodeId>) -> Fact {
    Fact::ClusterFounded { cluster_id, voters }
}

/// A new cluster: who votes, and at which levels it begins. `metadata_level`: the highest that every founder can work at.
pub fn found_cluster(cluster_id: String, voters: Vec<NodeId>, metadata_level: u32) -> Vec<Fact> {
    let level = i16::try_from(metadata_level.clamp(1, LEVEL)).expect("levels are small");
    let mut facts = vec![found(cluster_id, voters), Fact::FeatureLevelSet { name: LEVEL_FEATURE.to_owned(), level }];
    facts.extend(super::features::founding());
    facts
}

/// As `register`, for a node that asks: one that cannot work at a finalised level is refused.
///
/// # Errors
/// UnsupportedVersion.
pub fn register_checked(
    image: &Image,
    node: NodeId,
    info: &NodeInfo,
    clean: bool,
    lost: &BTreeSet<TopicPartition>,
) -> Result<Vec<Vec<Fact>>, Refusal> {
    for (feature, level) in image.features() {
        let (min, max) = info.features.get(feature).copied().unwrap_or((0, 0));
        if !(min..=max).contains(level) {
            let message = format!(
                "node {node} can work at {feature} {min} to {max}, this cluster has finalised {level}: start a version of Weir on it \
                 that can"
            );
            return Err(Refusal::new(ErrorCode::UnsupportedVersion, message));
        }
    }
    Ok(register(image, node, info.clone(), clean, lost))
}

/// A process start. `clean`: the earlier one ended with everything on disk. `lost`: nothing of these is on the disk any more. One group
/// for each topic, then one for the node.
pub fn register(
    image: &Image,
    node: NodeId,
    info: NodeInfo,
    clean: bool,
    lost: &BTreeSet<TopicPartition>,
) -> Vec<Vec<Fact>> {
    let trust = match image.node(node) {
        None => Trust::Nothing,
        Some(before) if before.directory != info.directory => Trust::Nothing,
        Some(before) if !clean && before.boot != info.boot => Trust::Journalled,
        Some(_) => Trust::All,
    };
    let view = View::with(image, node, if info.fenced { Seen::Dead } else { Seen::Back });
    let fenced = info.fenced;
    let mut groups = for_each(image, |topic, partition, before| {
        let is_lost = lost.contains(&TopicPartition { topic: topic.id, partition });
        started(view, topic, before, node, if is_lost { Trust::Nothing } else { trust }, fenced)
    });
    let mut last = vec![Fact::NodeRegistered { node, info }];
    last.extend(orders_at_start(image, node, trust));
    groups.push(last);
    groups
}

/// A stop that was announced is over; and a node that holds nothing of a cluster that holds data is given its share.
fn orders_at_start(image: &Image, node: NodeId, trust: Trust) -> Option<Fact> {
    let before = image.orders(node);
    let is_new = trust == Trust::Nothing && image.partition_count() > 0;
    let duty = if is_new && before.duty == Duty::Full { Duty::Joining } else { before.duty };
    let orders = NodeOrders { duty, stopping: None, ..before };
    (image.level() >= 2 && orders != before).then_some(Fact::NodeOrdered { node, orders })
}

/// What the start of a replica changes; `None`: nothing.
fn started(
    view: View<'_>,
    topic: &Topic,
    before: &PartitionInfo,
    node: NodeId,
    trust: Trust,
    fenced: bool,
) -> Option<PartitionInfo> {
    if !before.is_replica(node) {
        return None;
    }
    let mut draft = Draft::new(view, topic, before);
    match trust {
        Trust::All => {}
        Trust::Nothing if planted::is(Bug::LostTailStaysInSync) => {}
        Trust::Journalled if topic.config.is_journalled() => {}
        Trust::Journalled => {
            draft.distrust(node);
            // It was the last: a topic that does not flush goes on with what is there.
            if draft.after.isr.is_empty() && draft.after.elr.is_empty() && before.last_known_elr.is_empty() {
                draft.after.last_known_elr = vec![node];
            }
        }
        Trust::Nothing => {
            draft.distrust(node);
            draft.after.last_known_elr.retain(|last| *last != node);
            draft.forget_leader(node);
        }
    }
    if fenced {
        draft.leave_isr(node);
    }
    if before.leader == Some(node) && !planted::is(Bug::EpochContinuedAfterRestart) {
        draft = draft.new_epoch();
    }
    draft.finish()
}

/// Nodes that are dead to the cluster: they lead nothing and are in no ISR. Nothing for one of which another incarnation is registered.
/// Who is found dead at the same time is fenced at once: one after the other, the last of them would lead, and alone be known to have all.
pub fn fence(image: &Image, dead: &[(NodeId, Incarnation)]) -> Vec<Vec<Fact>> {
    let registered = |(node, incarnation): &(NodeId, Incarnation)| {
        image.node(*node).is_some_and(|info| info.incarnation == *incarnation)
    };
    let dead: Vec<(NodeId, Incarnation)> = dead.iter().copied().filter(registered).collect();
    let nodes: Vec<NodeId> = dead.iter().map(|(node, _)| *node).collect();
    let view = View::without(image, &nodes);
    let mut groups = for_all(image, |topic, before| {
        let concerns = |node: &NodeId| before.isr.contains(node) || before.leader == Some(*node);
        if !nodes.iter().any(concerns) {
            return None;
        }
        let mut draft = Draft::new(view, topic, before);
        nodes.iter().for_each(|node| draft.leave_isr(*node));
        draft.finish()
    });
    let unfenced = dead.into_iter().filter(|(node, _)| image.node(*node).is_some_and(|info| !info.fenced));
    groups.extend(unfenced.map(|(node, incarnation)| vec![Fact::NodeFenced { node, incarnation }]));
    groups
}

/// A fenced node turned up again: it may lead what nobody leads, and returns to the ISRs by catching up.
///
/// # Errors
/// BrokerIdNotRegistered; StaleBrokerEpoch where a later start registered.
pub fn unfence(image: &Image, node: NodeId, incarnation: Incarnation) -> Result<Vec<Vec<Fact>>, Refusal> {
    let info = known(image, node)?;
    if info.incarnation != incarnation {
        let message = format!("a later start of node {node} is registered: this process must end");
        return Err(Refusal::new(ErrorCode::StaleBrokerEpoch, message));
    }
    if !info.fenced {
        return Ok(Vec::new());
    }
    let view = View::with(image, node, Seen::Back);
    let mut groups = vec![vec![Fact::NodeUnfenced { node, incarnation }]];
    groups.extend(for_all(image, |topic, before| match before.leader {
        None if before.is_replica(node) => Draft::new(view, topic, before).finish(),
        _ => None,
    }));
    Ok(groups)
}

/// What a controller that died in the middle of a decision left behind: members of ISRs that are not live, leaders that are not,
/// partitions that somebody could lead. Nothing on an image that is whole.
pub fn repair(image: &Image) -> Vec<Vec<Fact>> {
    let view = View::of(image);
    for_all(image, |topic, before| {
        let mut draft = Draft::new(view, topic, before);
        draft.after.isr.retain(|node| view.is_live(*node));
        draft.mode(Mode::Keep).finish()
    })
}

/// The next block of producer ids for a node: the fact, and the first of `PRODUCER_ID_BLOCK` ids.
pub fn allocate_producer_ids(image: &Image, node: NodeId) -> (Fact, i64) {
    let first = image.next_producer_id();
    let next = first.checked_add(PRODUCER_ID_BLOCK).expect("2^63 producer ids");
    (Fact::ProducerIdsAllocated { node, next }, first)
}

/// # Errors
/// BrokerIdNotRegistered.
pub(super) fn known(image: &Image, node: NodeId) -> Result<&NodeInfo, Refusal> {
    let missing = || Refusal::new(ErrorCode::BrokerIdNotRegistered, format!("node {node} is not registered"));
    image.node(node).ok_or_else(missing)
}

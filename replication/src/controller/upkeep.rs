//! What the cluster does with replicas by itself: factors that were left to it grow with it, nodes that leave are emptied, nodes that
//! come are given their share.
//!
//! Owns which moves are due, a few at a time. Each is a reassignment like one by hand: visible to Kafka's tools, slowed by the same
//! throttles, and to be cancelled by nobody but an operator. Does not own leaders (`election::balance_leaders`).
//! Invariants: a partition that is being reassigned is left alone; nothing moves between nodes that nobody asked anything of.

use std::collections::BTreeMap;

use model::{NodeId, PartitionIndex};

use super::change::changed;
use super::reassign::begun;
use super::topics::factor_wanted;
use crate::metadata::{Duty, Fact, Image, NodeOrders, PartitionInfo, Topic};

/// So many partitions are moved at a time unless the caller knows better.
pub const MOVES_AT_ONCE: usize = 32;

/// How much a node has, or will have once all that is under way is done.
#[derive(Clone, Copy, Default)]
struct Load {
    replicas: usize,
    preferred: usize,
}

struct Plan<'a> {
    image: &'a Image,
    /// Of the nodes that may hold replicas.
    loads: BTreeMap<NodeId, Load>,
    /// How many more may begin.
    free: usize,
    groups: Vec<Vec<Fact>>,
}

/// The moves that are due, while at most `moves_max` partitions are being reassigned, by hand included. To be asked for every second
/// or so by the active controller; nothing where all is as it should be.
pub fn moves(image: &Image, moves_max: usize) -> Vec<Vec<Fact>> {
    let all = || {
        image.topics().flat_map(|topic| topic.partitions().map(move |(at, info)| (topic.as_ref(), at, info.as_ref())))
    };
    let under_way = all().filter(|(_, _, info)| info.is_reassigning()).count();
    let mut plan = Plan {
        image,
        loads: loads(image, all().map(|(_, _, info)| info)),
        free: moves_max.saturating_sub(under_way),
        groups: Vec::new(),
    };
    let leaving: Vec<NodeId> =
        image.nodes().keys().copied().filter(|node| image.duty(*node) == Duty::Leaving).collect();
    for (topic, partition, info) in all().filter(|(_, _, info)| !info.is_reassigning()) {
        if plan.free == 0 {
            return plan.groups;
        }
        if let Some(node) = info.replicas.iter().find(|node| leaving.contains(node)) {
            plan.replace(topic, partition, info, *node);
        } else if topic.default_replication && info.replicas.len() < factor_wanted(image, topic) {
            plan.raise(topic, partition, info);
        }
    }
    let joining = image.nodes().keys().copied().filter(|node| image.duty(*node) == Duty::Joining);
    for node in joining.filter(|node| image.may_hold(*node)) {
        let busy = all().any(|(_, _, info)| info.adding.contains(&node));
        plan.fill(node, busy, all().filter(|(_, _, info)| !info.is_reassigning()));
    }
    plan.groups
}

fn loads<'a>(image: &Image, partitions: impl Iterator<Item = &'a PartitionInfo>) -> BTreeMap<NodeId, Load> {
    let able = image.nodes().keys().filter(|node| image.may_hold(**node));
    let mut loads: BTreeMap<NodeId, Load> = able.map(|node| (*node, Load::default())).collect();
    for info in partitions {
        let target = info.replicas.iter().filter(|node| !info.removing.contains(node));
        for (at, node) in target.enumerate() {
            if let Some(load) = loads.get_mut(node) {
                load.replicas += 1;
                load.preferred += usize::from(at == 0);
            }
        }
    }
    loads
}

impl Plan<'_> {
    /// The node with the least to do that is not a replica yet, in a rack of its own where there is one.
    fn best(&self, others: &[NodeId]) -> Option<NodeId> {
        let rack = |node: NodeId| self.image.node(node).and_then(|info| info.rack.as_deref());
        let used = |node: NodeId| rack(node).is_some_and(|own| others.iter().any(|other| rack(*other) == Some(own)));
        let free = self.loads.iter().filter(|(node, _)| !others.contains(node));
        free.min_by_key(|(node, load)| (used(**node), load.replicas, **node)).map(|(node, _)| *node)
    }

    fn begin(&mut self, topic: &Topic, partition: PartitionIndex, before: &PartitionInfo, target: &[NodeId]) {
        // Refused where nobody in sync would be left: then it waits until somebody is.
        let Ok(Some(state)) = begun(self.image, topic, before, target) else { return };
        for (at, node) in before.replicas.iter().enumerate() {
            if let Some(load) = self.loads.get_mut(node) {
                load.replicas = load.replicas.saturating_sub(1);
                load.preferred = load.preferred.saturating_sub(usize::from(at == 0));
            }
        }
        for (at, node) in target.iter().enumerate() {
            if let Some(load) = self.loads.get_mut(node) {
                load.replicas += 1;
                load.preferred += usize::from(at == 0);
            }
        }
        self.free -= 1;
        self.groups.push(vec![changed(topic.id, partition, state)]);
    }

    /// Another node takes its place; where there is none, a factor that was left to the cluster falls.
    fn replace(&mut self, topic: &Topic, partition: PartitionIndex, before: &PartitionInfo, leaving: NodeId) {
        let mut others = before.replicas.clone();
        others.retain(|node| *node != leaving);
        let target: Vec<NodeId> = match self.best(&before.replicas) {
            Some(_) => {
                // Racks are looked at without the one that goes.
                let mut taken = others.clone();
                taken.push(leaving);
                let next = self.best_of(&others, &taken);
                before.replicas.iter().map(|node| if *node == leaving { next } else { *node }).collect()
            }
            None if topic.default_replication && !others.is_empty() => others,
            None => return,
        };
        self.begin(topic, partition, before, &target);
    }

    /// As `best` by the racks of `others`, not one of `taken`.
    ///
    /// # Panics
    /// When there is none: the caller has looked.
    fn best_of(&self, others: &[NodeId], taken: &[NodeId]) -> NodeId {
        let rack = |node: NodeId| self.image.node(node).and_then(|info| info.rack.as_deref());
        let used = |node: NodeId| rack(node).is_some_and(|own| others.iter().any(|other| rack(*other) == Some(own)));
        let free = self.loads.iter().filter(|(node, _)| !taken.contains(node));
        let best = free.min_by_key(|(node, load)| (used(**node), load.replicas, **node));
        *best.expect("the caller found one").0
    }

    /// One more replica, and as many as are wanted where there are nodes. The one with the fewest leaderships is preferred from now on:
    /// all partitions that one node held alone would be led by it for ever.
    fn raise(&mut self, topic: &Topic, partition: PartitionIndex, before: &PartitionInfo) {
        let mut target = before.replicas.clone();
        while target.len() < factor_wanted(self.image, topic) {
            let Some(next) = self.best(&target) else { break };
            target.push(next);
        }
        if target.len() == before.replicas.len() {
            return;
        }
        let preferred = |node: &NodeId| self.loads.get(node).map_or(usize::MAX, |load| load.preferred);
        let own = target.first().map_or(0, preferred);
        let least = target.iter().copied().enumerate().min_by_key(|(_, node)| preferred(node));
        if let Some((at, _)) = least.filter(|(_, node)| preferred(node) < own) {
            target.rotate_left(at);
        }
        self.begin(topic, partition, before, &target);
    }

    /// Takes from those that have more than the mean until the node has the mean; then it is a node like any other.
    fn fill<'b>(
        &mut self,
        node: NodeId,
        busy: bool,
        partitions: impl Iterator<Item = (&'b Topic, PartitionIndex, &'b PartitionInfo)>,
    ) {
        let mean = |of: fn(&Load) -> usize, loads: &BTreeMap<NodeId, Load>| {
            loads.values().map(of).sum::<usize>() / loads.len().max(1)
        };
        let (replicas, preferred) = (mean(|load| load.replicas, &self.loads), mean(|load| load.preferred, &self.loads));
        let mut moved = false;
        let begun_already = self.groups.len();
        for (topic, partition, info) in partitions {
            let load = self.loads.get(&node).copied().unwrap_or_default();
            if self.free == 0 || load.replicas >= replicas {
                break;
            }
            if info.is_replica(node) || self.has_begun(topic, partition, begun_already) {
                continue;
            }
            let wants_lead = load.preferred < preferred;
            if let Some(victim) = self.victim(info, node, replicas, wants_lead) {
                let target: Vec<NodeId> =
                    info.replicas.iter().map(|replica| if *replica == victim { node } else { *replica }).collect();
                self.begin(topic, partition, info, &target);
                moved = true;
            }
        }
        if !moved && !busy && self.free > 0 {
            let orders = NodeOrders { duty: Duty::Full, ..self.image.orders(node) };
            self.groups.push(vec![Fact::NodeOrdered { node, orders }]);
        }
    }

    /// A move of this pass has it already.
    fn has_begun(&self, topic: &Topic, partition: PartitionIndex, before: usize) -> bool {
        self.groups.iter().take(before).flatten().any(|fact| {
            matches!(fact, Fact::PartitionChanged { topic: id, partition: at, .. } if *id == topic.id && *at == partition)
        })
    }

    /// The replica that gives its place to `node`: one that has more than the mean, and whose rack is no loss.
    fn victim(&self, info: &PartitionInfo, node: NodeId, mean: usize, wants_lead: bool) -> Option<NodeId> {
        let rack = |node: NodeId| self.image.node(node).and_then(|info| info.rack.as_deref());
        let over = info.replicas.iter().copied().enumerate().filter(|(at, replica)| {
            let load = self.loads.get(replica).map_or(0, |load| load.replicas);
            let others = info.replicas.iter().copied().filter(|other| other != replica);
            let crowded = rack(node).is_some() && others.into_iter().any(|other| rack(other) == rack(node));
            load > mean && !crowded && (*at == 0) == wants_lead
        });
        over.max_by_key(|(_, replica)| self.loads.get(replica).map_or(0, |load| load.replicas)).map(|(_, node)| node)
    }
}

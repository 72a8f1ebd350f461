//! One partition from one state to the next: the rules that every decision about it obeys.
//!
//! Owns who may lead, what the ELR holds (KIP-966), when a reassignment is complete, and when epochs grow. Does not own why a change
//! is wanted: the caller changes the draft, `finish` makes it whole.
//! Invariants of what comes out: the leader is in the ISR and lives; ISR and ELR are disjoint sets of replicas; the ELR is empty while
//! the ISR has its minimum; another leader, or fewer replicas, is another leader epoch; every change is another partition epoch; a
//! replica that a reassignment removes stays until the added ones are in sync and the minimum is.

use std::sync::Arc;

use model::planted::{self, Bug};
use model::{NodeId, PartitionIndex, TopicId};

use crate::metadata::{Duty, Fact, Image, PartitionInfo, Topic};

/// The nodes as they are once the decision holds: the image, what is about to be different in one of them, and who is dead by then.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    image: &'a Image,
    changed: Option<(NodeId, Seen)>,
    dead: &'a [NodeId],
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Dead,
    /// Lives, in a new incarnation or again.
    Back,
    /// Lives, and ought not to lead.
    Unwilling,
}

impl<'a> View<'a> {
    pub(super) fn of(image: &'a Image) -> View<'a> {
        View { image, changed: None, dead: &[] }
    }

    pub(super) fn without(image: &'a Image, dead: &'a [NodeId]) -> View<'a> {
        View { image, changed: None, dead }
    }

    pub(super) fn with(image: &'a Image, node: NodeId, seen: Seen) -> View<'a> {
        View { image, changed: Some((node, seen)), dead: &[] }
    }

    pub(super) fn is_live(&self, node: NodeId) -> bool {
        match self.changed {
            Some((changed, seen)) if changed == node => seen != Seen::Dead,
            _ => self.image.is_live(node) && !self.dead.contains(&node),
        }
    }

    /// Lives, and nothing speaks against its leading.
    pub(super) fn may_lead(&self, node: NodeId) -> bool {
        match self.changed {
            Some((changed, Seen::Back)) if changed == node => self.image.duty(node) < Duty::Drained,
            Some((changed, Seen::Dead | Seen::Unwilling)) if changed == node => false,
            _ => self.image.may_lead(node) && !self.dead.contains(&node),
        }
    }
}

/// When the leader changes though it could go on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Keep,
    /// One that ought not to lead gives way to an in-sync replica that may.
    Willing,
    /// The first replica leads where it is in sync and may.
    Preferred,
    /// Where nobody else is left, a live replica that may lack acknowledged records.
    Unclean,
}

pub(super) struct Draft<'a> {
    view: View<'a>,
    topic: &'a Topic,
    before: &'a PartitionInfo,
    pub(super) after: PartitionInfo,
    mode: Mode,
    new_epoch: bool,
    distrusted: Option<NodeId>,
    forgotten: Option<NodeId>,
    unclean: bool,
}

impl<'a> Draft<'a> {
    pub(super) fn new(view: View<'a>, topic: &'a Topic, before: &'a PartitionInfo) -> Draft<'a> {
        let after = before.clone();
        Draft {
            view,
            topic,
            before,
            after,
            mode: Mode::Keep,
            new_epoch: false,
            distrusted: None,
            forgotten: None,
            unclean: false,
        }
    }

    pub(super) fn mode(mut self, mode: Mode) -> Draft<'a> {
        self.mode = mode;
        self
    }

    /// Whoever leads begins a new epoch.
    pub(super) fn new_epoch(mut self) -> Draft<'a> {
        self.new_epoch = true;
        self
    }

    pub(super) fn leave_isr(&mut self, node: NodeId) {
        self.after.isr.retain(|member| *member != node);
    }

    /// It may have lost records that it acknowledged: it is no candidate for anything before it has caught up.
    pub(super) fn distrust(&mut self, node: NodeId) {
        self.leave_isr(node);
        self.after.elr.retain(|member| *member != node);
        self.distrusted = Some(node);
    }

    /// Not even as the last that led does it count: its disk is another.
    pub(super) fn forget_leader(&mut self, node: NodeId) {
        self.forgotten = Some(node);
    }

    /// The new state, whole; `None`: nothing changes.
    pub(super) fn finish(mut self) -> Option<PartitionInfo> {
        // Twice: a leader from the ELR is a new ISR, which may complete a reassignment.
        for _ in 0..2 {
            self.complete_reassignment();
            self.fill_elr();
            self.choose_leader();
        }
        self.fill_elr();
        if self.unclean {
            // What they hold may be what the new leader lacks: they follow it like everybody else.
            self.after.elr.clear();
            self.after.last_known_elr.clear();
        }
        let before = self.before;
        let replica_left = !before.replicas.iter().all(|node| self.after.replicas.contains(node));
        if self.new_epoch || replica_left || self.after.leader != before.leader {
            self.after.leader_epoch = before.leader_epoch.next();
        }
        if self.after == *before {
            return None;
        }
        self.after.partition_epoch = before.partition_epoch.wrapping_add(1);
        self.check_invariants();
        Some(self.after)
    }

    fn complete_reassignment(&mut self) {
        let after = &mut self.after;
        if !after.is_reassigning() {
            return;
        }
        let target = after.target_replicas();
        let in_sync = |node: &NodeId| after.isr.contains(node) || planted::is(Bug::ReplicaDroppedEarly);
        let isr: Vec<NodeId> = target.iter().copied().filter(in_sync).collect();
        let whole = PartitionInfo { replicas: target, isr, ..PartitionInfo::default() };
        let added = after.adding.iter().all(|node| whole.isr.contains(node));
        if !added || whole.isr.is_empty() || whole.isr.len() < self.topic.min_insync_replicas_of(&whole) {
            return;
        }
        after.elr.retain(|node| whole.replicas.contains(node));
        after.last_known_elr.retain(|node| whole.replicas.contains(node));
        after.adding.clear();
        after.removing.clear();
        (after.replicas, after.isr) = (whole.replicas, whole.isr);
    }

    /// Below the minimum nothing is committed: whoever was in sync then holds all that was (KIP-966).
    fn fill_elr(&mut self) {
        let after = &mut self.after;
        if after.isr.len() >= self.topic.min_insync_replicas_of(after) {
            after.elr.clear();
            after.last_known_elr.clear();
            return;
        }
        let held = self.before.elr.iter().chain(&self.before.isr);
        let trusted = held.copied().filter(|node| Some(*node) != self.distrusted);
        let mut elr: Vec<NodeId> = Vec::new();
        for node in trusted.filter(|node| after.replicas.contains(node) && !after.isr.contains(node)) {
            if !elr.contains(&node) {
                elr.push(node);
            }
        }
        // What was emptied by hand stays so.
        elr.retain(|node| self.before.isr.contains(node) || after.elr.contains(node));
        after.elr = elr;
        if after.isr.is_empty()
            && let Some(leader) = self.before.leader.filter(|leader| Some(*leader) != self.forgotten)
        {
            after.last_known_elr = vec![leader];
        }
        after.last_known_elr.retain(|node| after.replicas.contains(node) && !after.elr.contains(node));
    }

    fn choose_leader(&mut self) {
        let view = self.view;
        let current = self.after.leader.filter(|node| self.after.isr.contains(node) && view.is_live(*node));
        let preferred = self.after.preferred_leader();
        let in_sync = |node: &NodeId| self.after.isr.contains(node);
        let keeps = match self.mode {
            Mode::Keep | Mode::Unclean => current.is_some(),
            Mode::Willing => current.is_some_and(|node| view.may_lead(node)),
            Mode::Preferred => {
                let able = preferred.is_some_and(|node| in_sync(&node) && view.may_lead(node));
                current.is_some() && (current == preferred || !able)
            }
        };
        if keeps {
            return;
        }
        let find = |wanted: &dyn Fn(NodeId) -> bool| self.after.replicas.iter().copied().find(|node| wanted(*node));
        let isr = &self.after.isr;
        let elr = &self.after.elr;
        let eligible = find(&|node| isr.contains(&node) && view.may_lead(node))
            .or(current)
            .or_else(|| find(&|node| isr.contains(&node) && view.is_live(node)));
        if eligible.is_some() {
            self.after.leader = eligible;
            return;
        }
        let chosen = find(&|node| elr.contains(&node) && view.may_lead(node))
            .or_else(|| find(&|node| elr.contains(&node) && view.is_live(node)))
            .or_else(|| self.last_leader_of_relaxed());
        let forced = if chosen.is_none() && self.mode == Mode::Unclean { self.any_live() } else { None };
        self.unclean |= forced.is_some();
        self.after.leader = chosen.or(forced);
        if let Some(leader) = self.after.leader {
            // The others follow anew and come back one by one.
            self.after.isr = vec![leader];
        }
    }

    /// A topic that does not flush takes over Kafka's promise: when nobody is left who certainly has everything, the last leader
    /// goes on with what its disk kept. A journalled one never does so.
    fn last_leader_of_relaxed(&self) -> Option<NodeId> {
        let nobody = self.after.isr.is_empty() && self.after.elr.is_empty();
        match self.after.last_known_elr.as_slice() {
            [last] if nobody && !self.topic.config.is_journalled() && self.view.is_live(*last) => Some(*last),
            _ => None,
        }
    }

    fn any_live(&self) -> Option<NodeId> {
        let last = self.after.last_known_elr.iter().chain(&self.after.replicas);
        let mut live = last.copied().filter(|node| self.after.replicas.contains(node) && self.view.is_live(*node));
        live.next()
    }

    fn check_invariants(&self) {
        let after = &self.after;
        // A leader outside of the ISR could acknowledge what only it holds.
        assert!(after.leader.is_none_or(|leader| after.isr.contains(&leader)));
        assert!(after.isr.iter().chain(&after.elr).all(|node| after.replicas.contains(node)));
        assert!(after.isr.iter().all(|node| !after.elr.contains(node)));
        // Two leaders of one epoch could write two tails.
        assert!(after.leader == self.before.leader || after.leader_epoch > self.before.leader_epoch);
    }
}

/// The facts of one decision about every partition: one group for each topic that changes.
pub(super) fn for_all(
    image: &Image,
    change: impl Fn(&Topic, &PartitionInfo) -> Option<PartitionInfo>,
) -> Vec<Vec<Fact>> {
    for_each(image, |topic, _, before| change(topic, before))
}

/// As `for_all`, where it matters which partition it is.
pub(super) fn for_each(
    image: &Image,
    change: impl Fn(&Topic, PartitionIndex, &PartitionInfo) -> Option<PartitionInfo>,
) -> Vec<Vec<Fact>> {
    let of_topic = |topic: &Arc<Topic>| -> Vec<Fact> {
        let fact = |(partition, before): (PartitionIndex, &Arc<PartitionInfo>)| {
            change(topic, partition, before).map(|state| changed(topic.id, partition, state))
        };
        topic.partitions().filter_map(fact).collect()
    };
    image.topics().map(of_topic).filter(|group| !group.is_empty()).collect()
}

pub(super) fn changed(topic: TopicId, partition: PartitionIndex, state: PartitionInfo) -> Fact {
    Fact::PartitionChanged { topic, partition, state }
}

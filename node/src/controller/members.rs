//! What the active controller does by itself: it founds the cluster, fences the dead, lets the living back in, and keeps the group of
//! voters and learners in line with the nodes. And what voters do about a dead controller.
//!
//! Owns when. Does not own who is dead (`liveness`), when a voter stands (`elect`), nor the decisions (`replication::controller`).
//! Invariant: everything is decided on the image that is ahead of the log, so nothing is proposed twice.

use model::{NodeId, Now};
use replication::controller::nodes;
use replication::controller::requests::ControllerRequest;

use super::driver::{ControllerDriver, ControllerOut};
use super::elect::{Campaign, View};

/// What a node knows of the leadership of the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Role {
    leader: Option<NodeId>,
    term: u64,
    /// This node is the active controller.
    active: bool,
}

impl ControllerDriver {
    /// Notices whether this node is the active controller, or another one is.
    pub(super) fn look_at_role(&mut self, now: Now, out: &mut ControllerOut) {
        let leader = self.controller.leader();
        let active = self.controller.is_active();
        let role = Role { leader, term: self.controller.raft().term(), active };
        if role != self.role {
            if active && !self.role.active {
                tracing::info!(term = role.term, "this node is the active controller");
                self.liveness.begin_afresh(now.mono, self.led_last);
                self.upkeep.begin(now.mono);
                // Before anybody's request: it may be the first controller.
                self.keep_house(now);
                self.repair();
            }
            self.led_last = leader.or(self.led_last);
            // Whoever leads has just been heard.
            self.leader_start = leader.and_then(|leader| self.liveness.heard(leader));
            self.role = role;
            self.registration.hurry(now.mono);
            self.controller_changed(now, out);
        }
        if active {
            self.keep_house(now);
        }
    }

    /// Stands for election where the leader was seen dying, or there is none.
    pub(super) fn look_at_elections(&mut self, now: Now) {
        let leader = self.controller.leader();
        let voters = self.controller.raft().voters();
        let reached = |voter: &&NodeId| **voter == self.node || self.contacts.is_connected(**voter);
        let view = View {
            me: self.node,
            voters: &voters,
            term: self.controller.raft().term(),
            leader,
            leader_dead: leader.is_some_and(|leader| self.is_leader_dead(leader)),
            reachable: voters.iter().filter(reached).count(),
        };
        let Some(how) = self.elections.look(now.mono, &view) else { return };
        if self.elections.is_first() {
            tracing::info!(?how, ?leader, term = view.term, "this node stands for election as controller");
        }
        let result = match how {
            Campaign::Asking => self.controller.campaign(),
            Campaign::Forced => self.controller.take_over(),
        };
        if let Err(error) = result {
            tracing::debug!("this node cannot stand for election: {error}");
        }
        self.dirty = true;
    }

    /// The start that became the leader was seen dying, or another one has taken its place.
    fn is_leader_dead(&self, leader: NodeId) -> bool {
        self.leader_start.is_some_and(|start| {
            self.liveness.is_dead(leader, start) || self.liveness.heard(leader).is_some_and(|heard| heard != start)
        })
    }

    /// Proposes what has become due.
    fn keep_house(&mut self, now: Now) {
        let Ok((image, _)) = self.controller.decide() else { return };
        if !image.is_founded() {
            return self.found();
        }
        let (mut dead, mut due) = (Vec::new(), Vec::new());
        for (node, info) in image.nodes() {
            let (node, incarnation) = (*node, info.incarnation);
            let own = node == self.node && incarnation == self.registration.info.incarnation;
            if !info.fenced && self.liveness.is_dead(node, incarnation) {
                dead.push((node, incarnation));
            } else if info.fenced && !image.is_stopping(node) {
                let alive = own || self.liveness.is_alive(now.mono, node, incarnation);
                due.extend(alive.then_some(ControllerRequest::Unfence { node, incarnation }));
            }
        }
        let fences = if dead.is_empty() { Vec::new() } else { nodes::fence(image, &dead) };
        if !fences.is_empty() && self.propose(&fences).is_some() {
            tracing::info!(?dead, "the controller fences nodes");
        }
        for request in &due {
            if self.decide_own(now, request) {
                tracing::info!(?request, "the controller acts by itself");
            }
        }
        self.look_after(now);
    }

    /// What a controller that died in the middle of a decision has left half done.
    fn repair(&mut self) {
        let Ok((image, _)) = self.controller.decide() else { return };
        let groups = if image.is_founded() { nodes::repair(image) } else { Vec::new() };
        if !groups.is_empty() {
            tracing::info!(groups = groups.len(), "what the controller before began is completed");
            self.propose_own(&groups);
        }
    }

    fn found(&mut self) {
        let Some(founding) = &self.founding else { return };
        let voters = founding.founders.iter().map(|founder| founder.node).collect();
        let level = u32::try_from(founding.level).unwrap_or(1);
        let facts = nodes::found_cluster(founding.cluster_id.clone(), voters, level);
        self.propose_own(&[facts]);
    }
}

//! Who votes and who learns: changes of the group's members, and how far each member is.
//!
//! Owns proposing a change and ending one that a former leader began. Does not own which change is wanted (`voters`).
//! Invariant: one change at a time.

use std::collections::{BTreeMap, BTreeSet};

use model::NodeId;
use raft::Progress;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2};

use super::RaftNode;
use crate::controller::raft_codec::{learners_of, node_id, node_ids, raft_id};
use crate::controller::voters::{Membership, VoterChange, VoterStep};

/// A log that ends so near to the leader's counts as caught up.
const CAUGHT_UP_ENTRIES: u64 = 64;

/// Why the members cannot be changed now. Another change that is on its way will be done soon.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MembersRefused {
    #[error("this node is not the active controller")]
    NotLeader,
    #[error("another change of the voters is under way")]
    Changing,
}

/// How far one member of the group is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberProgress {
    pub node: NodeId,
    pub votes: bool,
    /// The last entry that it is known to have.
    pub matched: u64,
}

impl RaftNode {
    /// Puts a change of the members at the end of the log. Returns its index and term, as `propose`.
    ///
    /// # Errors
    /// When this node does not lead, or another change is on its way.
    pub fn propose_members(&mut self, change: &VoterChange) -> Result<(u64, u64), MembersRefused> {
        if !self.is_leader() {
            return Err(MembersRefused::NotLeader);
        }
        if self.is_changing() {
            return Err(MembersRefused::Changing);
        }
        self.propose_change(ConfChangeV2 { changes: change.0.iter().map(single).collect(), ..ConfChangeV2::default() })
    }

    fn propose_change(&mut self, change: ConfChangeV2) -> Result<(u64, u64), MembersRefused> {
        let proposed = self.raw.propose_conf_change(Vec::new(), change);
        proposed.map_err(|_| MembersRefused::Changing)?;
        Ok((self.raw.raft.raft_log.last_index(), self.raw.raft.term))
    }

    /// A leader that took over between the two halves of a change ends it: `raft` does so only for its own.
    ///
    /// Returns whether there was one to end.
    pub fn finish_change(&mut self) -> bool {
        let joint = !self.raw.store().conf_state().voters_outgoing.is_empty();
        let open = joint && self.is_leader() && !self.raw.raft.has_pending_conf();
        open && self.propose_change(ConfChangeV2::default()).is_ok()
    }

    fn is_changing(&self) -> bool {
        self.raw.raft.has_pending_conf() || !self.raw.store().conf_state().voters_outgoing.is_empty()
    }

    /// The group as this leader knows it; `silent` is left empty.
    pub fn membership(&self) -> Membership {
        let last = self.raw.raft.raft_log.last_index();
        // A learner that has nothing is near the end of a short log too. It must know itself as a member of now: before that it votes for
        // nobody, and a group that needs its vote would wait for ever.
        let knows = |progress: &Progress| progress.committed_index >= self.members_changed;
        let near = |progress: &Progress| {
            progress.recent_active && progress.matched + CAUGHT_UP_ENTRIES >= last && knows(progress)
        };
        let caught_up = self.raw.raft.prs().iter().filter(|(_, progress)| near(progress));
        Membership {
            voters: self.voters().into_iter().collect(),
            learners: self.learners().into_iter().collect(),
            changing: self.is_changing(),
            caught_up: caught_up.filter_map(|(id, _)| node_id(*id)).collect(),
            silent: BTreeSet::new(),
        }
    }

    /// Voters and learners, ascending, with what each is known to have. Only a leader knows it of others.
    pub fn progress(&self) -> Vec<MemberProgress> {
        let conf = self.raw.store().conf_state();
        let one = |(id, progress): (&u64, &Progress)| {
            let votes = conf.voters.contains(id);
            node_id(*id).map(|node| MemberProgress { node, votes, matched: progress.matched })
        };
        let members: BTreeMap<NodeId, MemberProgress> =
            self.raw.raft.prs().iter().filter_map(one).map(|member| (member.node, member)).collect();
        members.into_values().collect()
    }

    pub fn voters(&self) -> Vec<NodeId> {
        node_ids(&self.raw.store().conf_state().voters)
    }

    pub fn learners(&self) -> Vec<NodeId> {
        learners_of(self.raw.store().conf_state())
    }

    /// Whether time matters: a sole voter has nobody to wait for.
    pub fn needs_ticks(&self) -> bool {
        let conf = self.raw.store().conf_state();
        conf.voters.len() > 1 || !conf.learners.is_empty() || !conf.voters_outgoing.is_empty()
    }
}

fn single(step: &VoterStep) -> ConfChangeSingle {
    let (kind, node) = match step {
        VoterStep::Vote(node) => (ConfChangeType::AddNode, node),
        VoterStep::Learn(node) => (ConfChangeType::AddLearnerNode, node),
        VoterStep::Leave(node) => (ConfChangeType::RemoveNode, node),
    };
    let mut single = ConfChangeSingle { node_id: raft_id(*node), ..ConfChangeSingle::default() };
    single.set_change_type(kind);
    single
}

//! What the active controller tells of the metadata group (DescribeQuorum).
//!
//! Owns since when each member has had the whole log. Does not own how far they are: Raft knows.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{NodeId, Now};
use replication::controller::quorum::{QuorumMember, QuorumStatus};

use super::driver::ControllerDriver;

/// When each member was last known to have all that the leader had. Empty while this node does not lead.
#[derive(Debug, Default)]
pub(super) struct CaughtUp {
    at: BTreeMap<NodeId, Duration>,
}

impl ControllerDriver {
    /// To be called with every tick of Raft.
    pub(super) fn note_caught_up(&mut self, now: Now) {
        if !self.controller.is_active() {
            self.caught_up.at.clear();
            return;
        }
        let raft = self.controller.raft();
        let last = raft.last_index();
        for member in raft.progress() {
            if member.matched >= last {
                self.caught_up.at.insert(member.node, now.mono);
            }
        }
    }

    /// To be asked of the active controller only.
    pub(super) fn quorum(&self, now: Now) -> QuorumStatus {
        let raft = self.controller.raft();
        let ago = |at: Duration| now.mono.saturating_sub(at);
        let members = raft.progress().into_iter().map(|member| {
            let own = member.node == self.node;
            let (heard, caught_up) = (self.liveness.heard_at(member.node), self.caught_up.at.get(&member.node));
            QuorumMember {
                node: member.node,
                votes: member.votes,
                matched: if own { raft.last_index() } else { member.matched },
                heard_ago: if own { Some(Duration::ZERO) } else { heard.map(ago) },
                caught_up_ago: if own { Some(Duration::ZERO) } else { caught_up.copied().map(ago) },
            }
        });
        QuorumStatus { leader: self.node, term: raft.term(), committed: raft.committed(), members: members.collect() }
    }
}

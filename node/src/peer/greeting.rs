//! Who may have a link with this node: the check of a handshake.
//!
//! Owns the refusals, with what to do about each. Does not own what is known of the others (`peers`) nor the handshake's bytes (`hello`).
//! Invariants: two clusters never have a link; a process that was replaced by a newer start of its node never gets one again.

use model::NodeId;

use super::peers::{Incoming, State};
use super::{Hello, PeerLane};

/// Why a node gets no link: for the logs of both.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    #[error(
        "node {node} belongs to cluster {theirs}, node {me} to cluster {ours}; clusters never merge: correct the addresses, or start \
         one of them with an empty data directory"
    )]
    OtherCluster { node: NodeId, theirs: String, me: NodeId, ours: String },
    #[error("node {wanted} was expected at this address, but node {me} is there: correct the address, or the node id")]
    OtherNode { wanted: NodeId, me: NodeId },
    #[error("node id {node} is used by two processes: give each an id of its own")]
    SameId { node: NodeId },
    #[error(
        "node id {node} is used by another process, with another data directory, that is alive: stop that one, or take another id"
    )]
    Alive { node: NodeId },
    #[error("a newer start of node {node} is registered: this process is stale, stop it")]
    Stale { node: NodeId },
    #[error(
        "the cluster works at metadata level {cluster}, node {node} knows {min} to {max}: start it with a version that knows that level"
    )]
    Level { node: NodeId, min: i16, max: i16, cluster: i16 },
}

impl State {
    /// `to`: whom the other side means to reach.
    pub(super) fn greet(&self, hello: &Hello, to: Option<NodeId>) -> Result<(), Refused> {
        let (node, me) = (hello.node, self.me.node);
        if let (Some(theirs), Some(ours)) = (&hello.cluster_id, &self.me.cluster_id)
            && theirs != ours
        {
            return Err(Refused::OtherCluster { node, theirs: theirs.clone(), me, ours: ours.clone() });
        }
        if let Some(wanted) = to.filter(|wanted| *wanted != me) {
            return Err(Refused::OtherNode { wanted, me });
        }
        if node == me {
            let same = hello.incarnation == self.me.incarnation;
            return if same { Ok(()) } else { Err(Refused::SameId { node }) };
        }
        if self.retired.get(&node).is_some_and(|retired| retired.contains(&hello.incarnation)) {
            return Err(Refused::Stale { node });
        }
        // A restart has the same directory. With another one, and the one before still there, somebody gave an id twice.
        let alive =
            |incoming: &Incoming| incoming.incarnation != hello.incarnation && incoming.directory != hello.directory;
        if self.incoming.get(&(node, PeerLane::Control)).is_some_and(alive) {
            return Err(Refused::Alive { node });
        }
        let (min, max) = hello.levels;
        if self.level > 0 && !(min..=max).contains(&self.level) {
            return Err(Refused::Level { node, min, max, cluster: self.level });
        }
        Ok(())
    }
}

//! What the active controller knows of the members of the metadata group: who has how much of the log.
//!
//! Owns the shapes, and their form between nodes (`proto/controller.proto`). Does not own the times: the driver has a clock.
//! Invariant: whoever answers is the leader, and is one of the members.

use std::time::Duration;

use model::NodeId;

use super::requests_codec::CodecError;
use crate::metadata::record::{node_id, proto};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumStatus {
    pub leader: NodeId,
    pub term: u64,
    /// The last entry of the log that is committed.
    pub committed: u64,
    /// Ascending by node, voters and learners.
    pub members: Vec<QuorumMember>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuorumMember {
    pub node: NodeId,
    pub votes: bool,
    /// The last entry of the log that it is known to have.
    pub matched: u64,
    /// How long ago anything was heard of it; `None`: nothing was.
    pub heard_ago: Option<Duration>,
    /// How long ago it had all that the leader had; `None`: never since this leader leads.
    pub caught_up_ago: Option<Duration>,
}

fn millis(ago: Duration) -> u64 {
    u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn to_proto(quorum: &QuorumStatus) -> proto::Quorum {
    let member = |member: &QuorumMember| proto::QuorumMember {
        node: member.node.0,
        votes: member.votes,
        matched: member.matched,
        heard_ago_ms: member.heard_ago.map(millis),
        caught_up_ago_ms: member.caught_up_ago.map(millis),
    };
    proto::Quorum {
        leader: quorum.leader.0,
        term: quorum.term,
        committed: quorum.committed,
        members: quorum.members.iter().map(member).collect(),
    }
}

pub(super) fn from_proto(quorum: proto::Quorum) -> Result<QuorumStatus, CodecError> {
    let member = |member: proto::QuorumMember| -> Result<QuorumMember, CodecError> {
        Ok(QuorumMember {
            node: node_id(member.node)?,
            votes: member.votes,
            matched: member.matched,
            heard_ago: member.heard_ago_ms.map(Duration::from_millis),
            caught_up_ago: member.caught_up_ago_ms.map(Duration::from_millis),
        })
    };
    Ok(QuorumStatus {
        leader: node_id(quorum.leader)?,
        term: quorum.term,
        committed: quorum.committed,
        members: quorum.members.into_iter().map(member).collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_reads_back_as_it_was_written() {
        let member = |node: i32, ago: Option<u64>| QuorumMember {
            node: NodeId(node),
            votes: node < 3,
            matched: 40,
            heard_ago: ago.map(Duration::from_millis),
            caught_up_ago: None,
        };
        let members = vec![member(1, Some(0)), member(2, Some(77)), member(3, None)];
        let quorum = QuorumStatus { leader: NodeId(1), term: 7, committed: 41, members };
        assert_eq!(from_proto(to_proto(&quorum)), Ok(quorum));
    }
}

//! Who votes in the metadata group: commands, and the choice that the cluster makes by itself.
//!
//! Owns which change is due. Does not own how it is carried out (`raft_node`), nor when a node counts as silent.
//! Invariants: a node becomes a voter only as a caught-up learner; a member whose data directory was replaced leaves before it may
//! return, since its log is not what the others believe, and so does one that was unregistered; one that was removed by hand is not
//! chosen again; three voters where there are three nodes, else one: of two, the death of either stops the cluster. A voter that lives
//! goes only while most of those that then vote live: else nothing would be decided any more, and nobody could be elected.
//! What cannot be had: while the only voter makes two others voters, its own vote is needed until that is committed (a joint group needs
//! the majority of the old one and of the new one). If it dies in these milliseconds, the cluster waits for it, as it would have before.

use std::collections::BTreeSet;

use model::{ErrorCode, NodeId};

use super::nodes::known;
use super::orders::needs_level_2;
use super::requests::Refusal;
use crate::metadata::{Duty, Fact, Image, NodeOrders, Voting};

/// So many are chosen where there are as many nodes.
pub const VOTERS_WANTED: usize = 3;
/// So many are allowed by hand.
pub const VOTERS_MAX: usize = 5;

/// What becomes of a node in the metadata group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum VoterStep {
    Vote(NodeId),
    /// Receives the log and does not vote.
    Learn(NodeId),
    Leave(NodeId),
}

/// All steps at once. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VoterChange(pub Vec<VoterStep>);

/// The metadata group as its leader knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Membership {
    pub voters: BTreeSet<NodeId>,
    pub learners: BTreeSet<NodeId>,
    /// A change is on its way: another one must wait.
    pub changing: bool,
    /// Their logs end near the leader's.
    pub caught_up: BTreeSet<NodeId>,
    /// Not live for so long that another one should vote in their place.
    pub silent: BTreeSet<NodeId>,
}

/// AddRaftVoter.
///
/// # Errors
/// BrokerIdNotRegistered, DuplicateVoter, InvalidVoterKey (another directory), InvalidRequest (dead, or too many), UnsupportedVersion
/// before level 2.
pub fn add(image: &Image, node: NodeId, directory: Option<[u8; 16]>) -> Result<Vec<Vec<Fact>>, Refusal> {
    let info = known(image, node)?;
    let refuse = |code, message: String| Err(Refusal::new(code, message));
    if image.voters().contains(&node) {
        return refuse(ErrorCode::DuplicateVoter, format!("node {node} is a voter already"));
    }
    if directory.is_some_and(|directory| directory != info.directory) {
        return refuse(ErrorCode::InvalidVoterKey, format!("node {node} has another directory id"));
    }
    if info.fenced || image.is_replaced_member(node) {
        return refuse(ErrorCode::InvalidRequest, format!("node {node} is dead, or has not caught up"));
    }
    if image.voters().len() >= VOTERS_MAX {
        return refuse(ErrorCode::InvalidRequest, format!("{VOTERS_MAX} voters are the most"));
    }
    wanted(image, node, Voting::Always)
}

/// RemoveRaftVoter.
///
/// # Errors
/// VoterNotFound; InvalidRequest for the last; UnsupportedVersion before level 2.
pub fn remove(image: &Image, node: NodeId, directory: Option<[u8; 16]>) -> Result<Vec<Vec<Fact>>, Refusal> {
    let refuse = |code, message: String| Err(Refusal::new(code, message));
    let other = |directory| image.node(node).is_some_and(|info| info.directory != directory);
    if !image.voters().contains(&node) || directory.is_some_and(other) {
        return refuse(ErrorCode::VoterNotFound, format!("node {node} with that directory is not a voter"));
    }
    if image.voters().len() == 1 {
        return refuse(ErrorCode::InvalidRequest, "the last voter cannot be removed".to_owned());
    }
    wanted(image, node, Voting::Never)
}

/// The members follow (`choose`), one change after the other.
fn wanted(image: &Image, node: NodeId, voting: Voting) -> Result<Vec<Vec<Fact>>, Refusal> {
    needs_level_2(image, "voters by hand")?;
    let before = image.orders(node);
    let fact = Fact::NodeOrdered { node, orders: NodeOrders { voting, ..before } };
    Ok(if before.voting == voting { Vec::new() } else { vec![vec![fact]] })
}

/// The change that is due; `None`: all is as it should be, or another change is on its way.
pub fn choose(image: &Image, members: &Membership, leader: NodeId) -> Option<VoterChange> {
    if members.changing || !image.is_founded() {
        return None;
    }
    let one = |step| Some(VoterChange(vec![step]));
    if let Some(node) = stranger(image, members, leader) {
        return one(VoterStep::Leave(node));
    }
    let is_member = |node: &NodeId| members.voters.contains(node) || members.learners.contains(node);
    if let Some((node, _)) = image.live_nodes().find(|(node, _)| !is_member(node)) {
        return one(VoterStep::Learn(node));
    }
    let candidates = candidates(image, members);
    let (voters, by_hand) = (members.voters.len(), |node: &NodeId| image.orders(*node).voting);
    if let Some(node) = candidates.iter().find(|node| by_hand(node) == Voting::Always)
        && voters < VOTERS_MAX
    {
        return one(VoterStep::Vote(*node));
    }
    let instead = candidates.first().copied().filter(|_| voters <= VOTERS_WANTED);
    let mut may_go = members.voters.iter().copied().filter(|node| may_decide(image, members, *node, instead));
    let unwanted = may_go.clone().find(|node| by_hand(node) == Voting::Never && voters > 1);
    let gone = || {
        let goes = |node: &NodeId| members.silent.contains(node) || image.duty(*node) == Duty::Leaving;
        may_go.find(goes).filter(|_| !candidates.is_empty())
    };
    if let Some(node) = unwanted.or_else(gone) {
        let step = if image.node(node).is_some() { VoterStep::Learn(node) } else { VoterStep::Leave(node) };
        return Some(VoterChange(instead.map(VoterStep::Vote).into_iter().chain([step]).collect()));
    }
    if let Some(node) = needless(image, members, leader) {
        return one(VoterStep::Learn(node));
    }
    // From one to three at once: of two voters, the death of either stops the cluster.
    let missing = VOTERS_WANTED.saturating_sub(voters);
    let enough = missing > 0 && candidates.len() >= missing;
    enough.then(|| VoterChange(candidates.into_iter().take(missing).map(VoterStep::Vote).collect()))
}

/// Whether those that would vote without this one could go on: most of them live.
fn may_decide(image: &Image, members: &Membership, without: NodeId, instead: Option<NodeId>) -> bool {
    let left: BTreeSet<NodeId> =
        members.voters.iter().copied().filter(|voter| *voter != without).chain(instead).collect();
    let live = left.iter().filter(|voter| image.is_live(**voter) && !image.is_replaced_member(**voter)).count();
    2 * live > left.len()
}

/// A member that must go: its log is not what it was, or nobody knows it any more. A voter only while others remain; one that never
/// registered (a founder that is late) only after it was silent for long, and one that lives only where the rest can go on: an empty disk
/// acknowledges too.
fn stranger(image: &Image, members: &Membership, leader: NodeId) -> Option<NodeId> {
    let all = members.voters.iter().chain(&members.learners).copied();
    let mut others = all.filter(|node| *node != leader);
    others.find(|node| {
        let is_voter = members.voters.contains(node);
        let unknown = image.node(*node).is_none() && (!is_voter || members.silent.contains(node));
        let spared = || members.voters.len() > 1 && (!image.is_live(*node) || may_decide(image, members, *node, None));
        (image.is_replaced_member(*node) || unknown) && (!is_voter || spared())
    })
}

/// The other one of two voters, where nobody else could vote.
fn needless(image: &Image, members: &Membership, leader: NodeId) -> Option<NodeId> {
    let alone = members.voters.len() == 2 && image.nodes().keys().all(|node| members.voters.contains(node));
    let mut others = members.voters.iter().copied().filter(|node| *node != leader);
    others.next().filter(|node| alone && image.orders(*node).voting != Voting::Always)
}

/// Learners that may become voters, the best first: those in racks without a voter before the others.
fn candidates(image: &Image, members: &Membership) -> Vec<NodeId> {
    let rack = |node: NodeId| image.node(node).and_then(|info| info.rack.clone());
    let used: BTreeSet<String> =
        members.voters.iter().filter(|node| image.is_live(**node)).filter_map(|node| rack(*node)).collect();
    let able = |node: &NodeId| {
        let orders = image.orders(*node);
        image.may_hold(*node) && orders.voting != Voting::Never && members.caught_up.contains(node)
    };
    let mut able: Vec<NodeId> = members.learners.iter().copied().filter(able).collect();
    able.sort_by_key(|node| (rack(*node).is_some_and(|rack| used.contains(&rack)), *node));
    able
}

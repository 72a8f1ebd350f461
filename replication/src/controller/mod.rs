//! The controller: this node's part in the metadata group, and the image that its log adds up to.
//!
//! Owns the order of facts (through Raft), their application, and which proposal was committed. Only the active controller decides, on an
//! image that is ahead of the committed one by what it has proposed. Does not own the disk: `Output::persist` goes out, `persisted` comes
//! back. Pure: no clock, no I/O; randomness from the seed.
//! Invariants: every proposal gets exactly one outcome; the image holds committed facts only; a fact that does not apply ends the
//! process, since this node's image would no longer be the cluster's.

mod change;
pub mod configs;
pub mod decide;
pub mod election;
pub mod features;
pub mod isr;
pub mod nodes;
pub mod orders;
pub mod partitions;
pub mod placement;
pub mod quorum;
mod raft_codec;
mod raft_log;
pub mod raft_node;
pub mod random;
pub mod reassign;
pub mod requests;
pub mod requests_codec;
mod snapshot_file;
pub mod topics;
pub mod upkeep;
pub mod voters;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use model::NodeId;

use crate::metadata::record::{FactError, LEVEL, LEVEL_FEATURE, batches, decode_batch};
use crate::metadata::snapshot::SnapshotError;
use crate::metadata::{BrokerConfig, Fact, Image};
pub use decide::{Decision, decide};
use raft_node::{Committed, NotLeader, Persist, RaftError, RaftNode, RaftOptions, RaftOutput, SnapshotPoint};
pub use raft_node::{LogEntry, Recovered};
pub use random::Random;
pub use requests::{ControllerAnswer, ControllerRequest, CreatedTopic, NewTopic, Refusal, TopicRef};

/// What a snapshot covers may be dropped from the log once so many entries or bytes were added since the last.
pub const SNAPSHOT_ENTRIES: u64 = 10_000;
pub const SNAPSHOT_BYTES: u64 = 8 << 20;

#[derive(Clone, Debug)]
pub struct ControllerOptions {
    pub node: NodeId,
    pub seed: u64,
    /// This node's own settings.
    pub statics: Arc<BrokerConfig>,
    /// With nothing on disk: these found a cluster. Empty: wait to be found.
    pub founders: Vec<NodeId>,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ControllerError {
    #[error(transparent)]
    Raft(#[from] RaftError),
    #[error("metadata record {index}: {source}")]
    Record { index: u64, source: FactError },
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(
        "the cluster has finalised level {finalised} of {LEVEL_FEATURE}, this version works up to {LEVEL}: start a version of Weir on \
         this directory that can"
    )]
    Level { finalised: u32 },
}

/// Names a proposal; chosen by the caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Token(pub u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Committed,
    /// Another leader took over before it was certain: it may or may not take effect later.
    Unknown,
}

#[derive(Debug, Default)]
pub struct Output {
    /// In this order.
    pub persist: Vec<Persist>,
    pub messages: Vec<(NodeId, Bytes)>,
    /// The image after `facts`, if any are new.
    pub image: Option<Arc<Image>>,
    /// What was committed since the last output, in order. After a snapshot of a leader they are not known one by one: `replaced`.
    pub facts: Vec<Fact>,
    pub replaced: bool,
    pub outcomes: Vec<(Token, Outcome)>,
}

/// A voter that is not live for so many ticks is replaced where another node can vote: 30 s.
const VOTER_SILENT_TICKS: u32 = 600;

pub struct Controller {
    node: NodeId,
    /// The identity of this node's data directory, once the driver has told it.
    directory: Option<[u8; 16]>,
    /// For how many ticks members of the group were not live.
    silent: BTreeMap<NodeId, u32>,
    raft: RaftNode,
    random: Random,
    statics: Arc<BrokerConfig>,
    image: Arc<Image>,
    /// The image with everything that was proposed in this term: what decisions are taken on. `None`: this node is not active.
    ahead: Option<Image>,
    proposals: VecDeque<Proposal>,
    entries_since_snapshot: u64,
    bytes_since_snapshot: u64,
}

/// What the cluster writes from then on, this version may not be able to read.
fn check_level(image: &Image) -> Result<(), ControllerError> {
    let finalised = image.level();
    if finalised > LEVEL { Err(ControllerError::Level { finalised }) } else { Ok(()) }
}

struct Proposal {
    token: Token,
    index: u64,
    term: u64,
}

impl Controller {
    pub fn open(options: ControllerOptions, recovered: Recovered) -> Result<Controller, ControllerError> {
        let image = match &recovered.snapshot {
            Some(file) => {
                let (_, image) = raft_codec::read_snapshot(file.clone())?;
                Image::decode(image, Arc::clone(&options.statics))?
            }
            None => Image::empty(Arc::clone(&options.statics)),
        };
        let mut random = Random::new(options.seed);
        let raft_options = RaftOptions { node: options.node, seed: random.next_u64() };
        let raft = RaftNode::open(raft_options, recovered, &options.founders)?;
        check_level(&image)?;
        let mut image = image;
        image.set_members(raft.voters(), raft.learners());
        Ok(Controller {
            node: options.node,
            directory: None,
            silent: BTreeMap::new(),
            raft,
            random,
            statics: options.statics,
            image: Arc::new(image),
            ahead: None,
            proposals: VecDeque::new(),
            entries_since_snapshot: 0,
            bytes_since_snapshot: 0,
        })
    }

    /// Committed facts only.
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    /// The image as it is if all that the log holds was committed. To look at; nothing is decided on it.
    pub fn image_of_log(&self) -> Image {
        let mut image = Image::clone(&self.image);
        let facts = self.raft.unapplied().into_iter().map_while(|data| decode_batch(data).ok()).flatten();
        for fact in facts {
            if image.apply(&fact).is_err() {
                break;
            }
        }
        image
    }

    /// Whether this node decides. It must also have applied all that earlier controllers decided.
    pub fn is_active(&self) -> bool {
        // While it hands the leadership on, the group takes no entries.
        self.ahead.is_some() && !self.raft.is_transferring()
    }

    /// What decisions are taken on, and what ids are drawn from.
    pub fn decide(&mut self) -> Result<(&Image, &mut Random), NotLeader> {
        let leader = self.raft.leader();
        match &self.ahead {
            Some(ahead) if !self.raft.is_transferring() => Ok((ahead, &mut self.random)),
            Some(_) | None => Err(NotLeader { leader }),
        }
    }

    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    pub fn leader(&self) -> Option<NodeId> {
        self.raft.leader()
    }

    pub fn raft(&self) -> &RaftNode {
        &self.raft
    }

    /// Every so often (`HEARTBEAT_TICKS`, `ELECTION_TICKS` count these), while `needs_ticks`.
    pub fn tick(&mut self) {
        self.raft.tick();
        if self.is_active() {
            self.count_silence();
            // What began is collected with the rest.
            let _began = self.manage_members();
        }
    }

    fn count_silence(&mut self) {
        let members = self.raft.voters().into_iter().chain(self.raft.learners());
        let silent = members.filter(|node| !self.image.is_live(*node));
        self.silent =
            silent.map(|node| (node, self.silent.get(&node).copied().unwrap_or(0).saturating_add(1))).collect();
    }

    /// Brings the members of the group nearer to what they should be, one change after the other. The active controller does this by
    /// itself, on every tick and when facts were applied.
    ///
    /// Returns whether a change began.
    fn manage_members(&mut self) -> bool {
        if self.raft.finish_change() {
            return true;
        }
        if !self.raft.voters().contains(&self.node) {
            // It was removed and still leads: another one must, before this one may forget.
            return self.raft.resign();
        }
        let silent = self.silent.iter().filter(|(_, ticks)| **ticks >= VOTER_SILENT_TICKS);
        let silent = silent.map(|(node, _)| *node).collect();
        let members = voters::Membership { silent, ..self.raft.membership() };
        let Some(change) = voters::choose(&self.image, &members, self.node) else { return false };
        tracing::info!(?change, "the members of the metadata group change");
        // Refused while another change is on its way: it is looked at again.
        self.raft.propose_members(&change).is_ok()
    }

    /// The identity of this node's data directory. Until it is told, a node that began empty in a cluster that exists does not vote.
    pub fn set_directory(&mut self, directory: [u8; 16]) {
        self.directory = Some(directory);
        self.admit_if_voter();
    }

    /// A node that began empty may vote once the group knows it with this very disk, and no longer as the member that it was before: what
    /// an earlier process under its id voted for is not known here. It need not know yet that it was made a voter: whoever made it one
    /// may depend on its vote.
    fn admit_if_voter(&mut self) {
        if !self.raft.is_newcomer() {
            return;
        }
        let image = &self.image;
        let same_disk = image.node(self.node).is_some_and(|info| Some(info.directory) == self.directory);
        if same_disk && !image.is_replaced_member(self.node) {
            self.raft.admit();
        }
    }

    /// Asks another voter to lead: this node is about to stop. `false`: there is none that could, or this node does not lead.
    pub fn resign(&mut self) -> bool {
        self.raft.resign()
    }

    /// The last entry that the image holds. An answer is true for whoever has applied as much as the one who gives it.
    pub fn applied(&self) -> u64 {
        self.raft.applied()
    }

    pub fn needs_ticks(&self) -> bool {
        self.raft.needs_ticks()
    }

    /// A Raft message of another node.
    pub fn step(&mut self, message: &Bytes) -> Result<(), RaftError> {
        self.raft.step(message)
    }

    /// Stands for election at once.
    pub fn campaign(&mut self) -> Result<(), RaftError> {
        self.raft.campaign()
    }

    /// Stands for election at once, against the lease of a leader that was seen dying.
    pub fn take_over(&mut self) -> Result<(), RaftError> {
        self.raft.take_over()
    }

    /// Hands the leadership to the candidate that has most of the log.
    pub fn transfer_to_best(&mut self, candidates: &[NodeId]) {
        self.raft.transfer_to_best(candidates);
    }

    /// A link to the node stands anew: what was sent before may be lost.
    pub fn reconnected(&mut self, node: NodeId) {
        self.raft.reconnected(node);
    }

    /// Puts decided facts at the end of the log; a group is never split. The outcome of the last of them answers for all: it comes when
    /// all before it are committed too.
    ///
    /// # Panics
    /// When they do not apply to the image that `decide` gave: then they were not decided on it.
    pub fn propose(&mut self, groups: &[Vec<Fact>], token: Token) -> Result<(), NotLeader> {
        let refused = NotLeader { leader: self.raft.leader() };
        let mut ahead = self.ahead.clone().ok_or(refused)?;
        for fact in groups.iter().flatten() {
            ahead.apply(fact).expect("what was decided on an image applies to it");
        }
        let mut place = None;
        for batch in batches(groups) {
            place = Some(self.raft.propose(batch)?);
        }
        // Nothing to change is true once all before it is: an empty entry stands for it.
        let (index, term) = match place {
            Some(place) => place,
            None => self.raft.propose(Bytes::new())?,
        };
        self.ahead = Some(ahead);
        self.proposals.push_back(Proposal { token, index, term });
        Ok(())
    }

    /// As `propose`.
    ///
    /// # Errors
    /// When this node is not active.
    pub fn propose_decision(&mut self, decision: &Decision, token: Token) -> Result<(), NotLeader> {
        self.propose(&decision.groups, token)
    }

    /// Everything up to this `Persist::number` is on disk.
    pub fn persisted(&mut self, number: u64, out: &mut Output) -> Result<(), ControllerError> {
        let mut raft_out = RaftOutput::default();
        self.raft.persisted(number, &mut raft_out);
        self.collect_into(raft_out, out)
    }

    /// Collects what has become due: after `open`, and after each `tick`, `step`, `propose` and `campaign`.
    pub fn collect(&mut self, out: &mut Output) -> Result<(), ControllerError> {
        self.collect_into(RaftOutput::default(), out)
    }

    fn collect_into(&mut self, mut raft_out: RaftOutput, out: &mut Output) -> Result<(), ControllerError> {
        loop {
            self.raft.collect(&mut raft_out);
            if raft_out.snapshot_wanted {
                self.raft.offer_snapshot(self.image.encode());
                self.raft.collect(&mut raft_out);
            }
            out.persist.append(&mut raft_out.persist);
            out.messages.append(&mut raft_out.messages);
            let applied = self.apply(std::mem::take(&mut raft_out.committed), out)?;
            self.follow_role(out);
            // A change of the members that was begun just now wants to be collected too.
            if !applied || !self.is_active() || !self.manage_members() {
                return Ok(());
            }
            raft_out = RaftOutput::default();
        }
    }

    /// Returns whether the image is another now.
    fn apply(&mut self, committed: Vec<Committed>, out: &mut Output) -> Result<bool, ControllerError> {
        let mut image = (*self.image).clone();
        let mut changed = false;
        for one in committed {
            match one {
                Committed::Entry { index, term, data } => {
                    self.entries_since_snapshot += 1;
                    self.bytes_since_snapshot += u64::try_from(data.len()).unwrap_or(u64::MAX);
                    let facts = decode_batch(data).map_err(|source| ControllerError::Record { index, source })?;
                    for fact in &facts {
                        image.apply(fact).expect("a committed fact applies: it was decided on this image");
                    }
                    changed |= !facts.is_empty();
                    out.facts.extend(facts);
                    self.settle(index, term, out);
                }
                Committed::Voters { index, term, voters, learners } => {
                    image.set_members(voters, learners);
                    changed = true;
                    self.settle(index, term, out);
                }
                Committed::Snapshot { image: bytes, voters, learners, .. } => {
                    image = Image::decode(bytes, Arc::clone(&self.statics))?;
                    image.set_members(voters, learners);
                    out.facts.clear();
                    (changed, out.replaced) = (true, true);
                }
            }
        }
        check_level(&image)?;
        let controller = self.raft.leader();
        let is_new = changed || image.controller() != controller;
        if is_new {
            image.set_controller(controller);
            if let Some(ahead) = &mut self.ahead {
                ahead.set_members(image.voters().to_vec(), image.learners().to_vec());
            }
            self.image = Arc::new(image);
            out.image = Some(Arc::clone(&self.image));
            self.admit_if_voter();
        }
        Ok(is_new)
    }

    /// Answers the proposals that this committed entry decides.
    fn settle(&mut self, index: u64, term: u64, out: &mut Output) {
        while let Some(first) = self.proposals.front() {
            if first.index > index {
                break;
            }
            let ours = first.index == index && first.term == term;
            let outcome = if ours { Outcome::Committed } else { Outcome::Unknown };
            out.outcomes.push((first.token, outcome));
            self.proposals.pop_front();
        }
    }

    /// Becomes active once everything before its own term is applied; ceases to be when it leads no more.
    fn follow_role(&mut self, out: &mut Output) {
        if !self.raft.is_leader() {
            self.ahead = None;
            let lost = self.proposals.drain(..).map(|proposal| (proposal.token, Outcome::Unknown));
            out.outcomes.extend(lost);
        } else if self.ahead.is_none() && self.raft.knows_all_before_term()
            || self.ahead.is_some() && self.proposals.is_empty()
        {
            // Nothing is on its way: the two share everything again.
            self.ahead = Some((*self.image).clone());
        }
    }

    /// The content of a snapshot file when one is due.
    pub fn snapshot_due(&self) -> Option<SnapshotPoint> {
        let due = self.entries_since_snapshot >= SNAPSHOT_ENTRIES || self.bytes_since_snapshot >= SNAPSHOT_BYTES;
        (due && !self.raft.is_restoring()).then(|| self.raft.snapshot_file(self.image.encode()))
    }

    /// A snapshot was begun: count anew, so that no second one is due meanwhile.
    pub fn snapshot_begun(&mut self) {
        (self.entries_since_snapshot, self.bytes_since_snapshot) = (0, 0);
    }

    /// The snapshot file up to `index` is durable under its name: the log up to there may go.
    pub fn snapshot_durable(&mut self, index: u64) {
        self.raft.compact(index);
    }

    pub fn node(&self) -> NodeId {
        self.node
    }
}

#[cfg(test)]
mod tests;

//! The metadata Raft group's part on this node. Only `raft_*` know the crate `raft`.
//!
//! Owns elections, and what comes in: messages, proposals, time. What goes out is in `output`, who belongs to the group in `members`, and
//! `snapshots` brings those on who are behind. Does not own what entries mean.
//! Invariant: all randomness comes from the seed (the crate draws election timeouts from the thread's generator: they are overwritten
//! after every call).
//! A broken storage invariant panics inside `raft`: it ends the process.

mod members;
mod output;
mod snapshots;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use model::NodeId;
use model::planted::{self, Bug};
use protobuf::Message as _;
use raft::eraftpb::{EntryType, Message, MessageType};
use raft::{Config, GetEntriesContext, INVALID_ID, RawNode, SnapshotStatus, StateRole};
use slog::{Discard, Logger, o};

use super::raft_codec::{FORMAT, len, node_id, raft_id, read_state};
use super::raft_log::RaftLog;
use super::random::Random;
pub use members::{MemberProgress, MembersRefused};
use output::Waiting;
pub use output::{Committed, Persist, RaftOutput};
pub use snapshots::SnapshotPoint;

/// A leader says that it lives every so many ticks.
pub const HEARTBEAT_TICKS: usize = 2;
/// A follower waits for its leader at least so many ticks, at most twice as many.
pub const ELECTION_TICKS: usize = 20;
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
const MESSAGES_IN_FLIGHT_MAX: usize = 256;

/// Who this node is in the group.
#[derive(Clone, Copy, Debug)]
pub struct RaftOptions {
    pub node: NodeId,
    pub seed: u64,
}

/// What was on disk.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// As `Persist::hard_state` last was.
    pub hard_state: Option<Bytes>,
    /// The newest snapshot file's content.
    pub snapshot: Option<Bytes>,
    /// Consecutive; those that the snapshot holds are passed over.
    pub entries: Vec<LogEntry>,
}

/// An entry of the Raft log as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    pub index: u64,
    pub term: u64,
    pub payload: Bytes,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RaftError {
    #[error("the {what} of the metadata log cannot be read: {why}")]
    Damaged { what: &'static str, why: String },
    #[error("the {what} of the metadata log has format {got}, this version reads up to {FORMAT}")]
    TooNew { what: &'static str, got: u32 },
    #[error("the metadata log has entry {got} where {expected} must be")]
    Gap { expected: u64, got: u64 },
    #[error("the metadata log ends at {last}, but {commit} entries were committed")]
    Lost { last: u64, commit: u64 },
    #[error(
        "the metadata log is of node {stored}, this is node {given}: start it with the id that it had, or with another data directory"
    )]
    OtherNode { stored: NodeId, given: NodeId },
    #[error("raft refused: {0}")]
    Refused(String),
}

/// This node is not the one that orders entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this node is not the active controller")]
pub struct NotLeader {
    pub leader: Option<NodeId>,
}

pub struct RaftNode {
    node: NodeId,
    raw: RawNode<RaftLog>,
    random: Random,
    election: (u64, StateRole, u64),
    election_ticks: usize,
    founders: Vec<NodeId>,
    /// Handed out and not yet persisted: the number, and what may only be sent then.
    waiting: VecDeque<Waiting>,
    /// The last committed entry that was handed out.
    applied: u64,
    /// The one of them that changed the members last, or the snapshot that it is in.
    members_changed: u64,
    /// A leader's snapshot that was handed out and is not on disk: `raft` may count it as applied only then. Number and index.
    restoring: Option<(u64, u64)>,
    /// Followers to whom a snapshot is on its way, and for how long.
    snapshot_ticks: BTreeMap<u64, usize>,
    /// It began empty in a group that exists: an earlier process under this id may have voted. Until the group knows it with this disk it votes
    /// for nobody and stands for nothing.
    newcomer: bool,
    /// It was the sole voter when it stopped, as far as its snapshot knows: see `stand_alone`.
    may_stand_alone: bool,
}

impl RaftNode {
    /// `founders`: with nothing on disk, the group begins with these voters. Empty: wait to be found.
    pub fn open(options: RaftOptions, recovered: Recovered, founders: &[NodeId]) -> Result<RaftNode, RaftError> {
        let me = raft_id(options.node);
        let state = read_state(options.node, recovered, founders)?;
        let alone = state.conf.voters == [me] && state.conf.voters_outgoing.is_empty();
        // An entry that changes the voters may have taken effect: then the disk alone is no majority.
        let sole = alone && state.entries.iter().all(|entry| entry.get_entry_type() == EntryType::EntryNormal);
        let (founders, newcomer) = (state.founders, state.newcomer);
        let (snapshot_index, last) = (state.snapshot.0, state.snapshot.0 + len(&state.entries));
        let mut hard_state = state.hard_state;
        if hard_state.commit > last {
            return Err(RaftError::Lost { last, commit: hard_state.commit });
        }
        if sole {
            // The only voter's disk is a majority: all that is on it is committed.
            hard_state.commit = last;
            hard_state.term = hard_state.term.max(state.entries.last().map_or(state.snapshot.1, |entry| entry.term));
        }
        hard_state.commit = hard_state.commit.max(snapshot_index);
        let log = RaftLog::new(hard_state, state.conf, state.snapshot, state.entries);
        let config = Config {
            id: me,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: snapshot_index,
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: MESSAGES_IN_FLIGHT_MAX,
            check_quorum: true,
            pre_vote: true,
            batch_append: true,
            ..Config::default()
        };
        let logger = Logger::root(Discard, o!());
        let raw = RawNode::new(&config, log, &logger).map_err(|error| RaftError::Refused(error.to_string()))?;
        let mut node = RaftNode {
            node: options.node,
            raw,
            random: Random::new(options.seed),
            election: (0, StateRole::Follower, INVALID_ID),
            election_ticks: ELECTION_TICKS,
            founders,
            waiting: VecDeque::new(),
            applied: snapshot_index,
            members_changed: snapshot_index,
            restoring: None,
            snapshot_ticks: BTreeMap::new(),
            newcomer,
            may_stand_alone: alone && !sole && !newcomer,
        };
        node.draw_election_timeout();
        node.overwrite_election_timeout();
        if sole {
            // Nobody else can answer: waiting for a timeout would only delay the start.
            node.raw.campaign().map_err(|error| RaftError::Refused(error.to_string()))?;
            node.overwrite_election_timeout();
            assert!(node.is_leader(), "a sole voter elects itself");
        }
        Ok(node)
    }

    pub fn tick(&mut self) {
        if self.newcomer {
            return;
        }
        self.raw.tick();
        self.doubt_snapshots();
        self.overwrite_election_timeout();
    }

    /// A message of another voter or learner. What cannot be read, or is out of place, is dropped with the reason.
    pub fn step(&mut self, message: &Bytes) -> Result<(), RaftError> {
        let damaged = |error: protobuf::ProtobufError| RaftError::Damaged { what: "message", why: error.to_string() };
        let mut message = Message::parse_from_carllerche_bytes(message).map_err(damaged)?;
        if self.newcomer && asks_for_a_vote(&message) && !planted::is(Bug::WipedNodeVotes) {
            return Ok(());
        }
        if self.newcomer && message.get_msg_type() == MessageType::MsgHeartbeat {
            // The leader may believe that it speaks to the earlier process, which had entries that this disk has not: `raft` ends the
            // process over a commit beyond its log.
            message.commit = message.commit.min(self.raw.raft.raft_log.last_index());
        }
        if self.asks_for_snapshot(&message) {
            return Ok(());
        }
        self.note_snapshot_taken(&message);
        let result = self.raw.step(message);
        self.overwrite_election_timeout();
        result.map_err(|error| RaftError::Refused(error.to_string()))
    }

    /// Puts an entry at the end of the log. Returns its index and term: it is committed when exactly these come back.
    pub fn propose(&mut self, data: Bytes) -> Result<(u64, u64), NotLeader> {
        let refused = NotLeader { leader: self.leader() };
        if !self.is_leader() {
            return Err(refused);
        }
        self.raw.propose(Vec::new(), data.to_vec()).map_err(|_| refused)?;
        Ok((self.raw.raft.raft_log.last_index(), self.raw.raft.term))
    }

    /// Asks the caught-up voter with the longest log to lead in this node's place. `false`: there is none, or this node does not lead.
    pub fn resign(&mut self) -> bool {
        let me = raft_id(self.node);
        let voters = &self.raw.store().conf_state().voters;
        let others = self
            .raw
            .raft
            .prs()
            .iter()
            .filter(|(id, progress)| **id != me && voters.contains(id) && progress.recent_active);
        let Some(next) = others.max_by_key(|(id, progress)| (progress.matched, u64::MAX - **id)).map(|(id, _)| *id)
        else {
            return false;
        };
        if !self.is_leader() {
            return false;
        }
        self.raw.transfer_leader(next);
        self.overwrite_election_timeout();
        true
    }

    /// It may not vote yet.
    pub fn is_newcomer(&self) -> bool {
        self.newcomer
    }

    /// The group knows this node with this disk.
    pub fn admit(&mut self) {
        self.newcomer = false;
        self.overwrite_election_timeout();
    }

    /// Stands for election at once (a dead controller was seen).
    pub fn campaign(&mut self) -> Result<(), RaftError> {
        if self.newcomer {
            return Err(RaftError::Refused("a newcomer does not stand for election".to_owned()));
        }
        let result = self.raw.campaign();
        self.overwrite_election_timeout();
        result.map_err(|error| RaftError::Refused(error.to_string()))
    }

    /// Stands for election at once and against the lease of the leader, which was seen dying: as if that one had asked for it.
    pub fn take_over(&mut self) -> Result<(), RaftError> {
        if self.newcomer {
            return Err(RaftError::Refused("a newcomer does not stand for election".to_owned()));
        }
        let raft = &mut self.raw.raft;
        if raft.state != StateRole::Follower && raft.state != StateRole::Leader {
            // A candidate would not listen.
            raft.become_follower(raft.term, INVALID_ID);
        }
        let (id, term) = (raft.id, raft.term);
        let message = Message { msg_type: MessageType::MsgTimeoutNow, from: id, to: id, term, ..Message::default() };
        let result = self.raw.step(message);
        self.overwrite_election_timeout();
        result.map_err(|error| RaftError::Refused(error.to_string()))
    }

    /// Makes the candidate that has most of the log the leader, as soon as it has all of it. Nothing is proposed meanwhile.
    pub fn transfer_to_best(&mut self, candidates: &[NodeId]) {
        let matched = |node: &NodeId| self.raw.raft.prs().get(raft_id(*node)).map_or(0, |progress| progress.matched);
        if let Some(best) = candidates.iter().max_by_key(|node| (matched(node), std::cmp::Reverse(**node))) {
            self.raw.transfer_leader(raft_id(*best));
            self.overwrite_election_timeout();
        }
    }

    pub fn is_transferring(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// A link to the node stands anew: what was sent before may be lost, a snapshot too.
    pub fn reconnected(&mut self, node: NodeId) {
        let id = raft_id(node);
        self.raw.report_unreachable(id);
        self.raw.report_snapshot(id, SnapshotStatus::Failure);
        self.snapshot_ticks.remove(&id);
        // Who answers the heartbeat is sent what it lacks.
        self.raw.ping();
        self.overwrite_election_timeout();
    }

    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// The leader has applied every entry of earlier terms: what it decides contradicts none of them. A sole voter knows that all on its
    /// disk is committed; others wait for the first entry of their own term.
    pub fn knows_all_before_term(&self) -> bool {
        let log = &self.raw.raft.raft_log;
        let next_is_ours = log.term(self.applied + 1).is_ok_and(|term| term == self.raw.raft.term);
        self.is_leader() && (next_is_ours || log.term(self.applied).is_ok_and(|term| term == self.raw.raft.term))
    }

    pub fn leader(&self) -> Option<NodeId> {
        node_id(self.raw.raft.leader_id)
    }

    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// What the log holds behind the last applied entry: it may have been committed, but this node was not told yet.
    pub(super) fn unapplied(&self) -> Vec<Bytes> {
        let context = GetEntriesContext::empty(false);
        let entries = self.raw.raft.raft_log.entries(self.applied + 1, None, context).unwrap_or_default();
        let facts = entries.into_iter().filter(|entry| entry.get_entry_type() == EntryType::EntryNormal);
        facts.map(|entry| entry.data).collect()
    }

    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// The last entry that is committed.
    pub fn committed(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    fn draw_election_timeout(&mut self) {
        self.election_ticks = ELECTION_TICKS + self.random.below(ELECTION_TICKS);
    }

    /// A new one is drawn where `raft` drew one: with another term, role or leader. It is set after every call, so that no draw of the
    /// crate is ever used.
    fn overwrite_election_timeout(&mut self) {
        let raft = &self.raw.raft;
        let election = (raft.term, raft.state, raft.leader_id);
        if election != self.election {
            self.election = election;
            self.draw_election_timeout();
        }
        self.raw.raft.set_randomized_election_timeout(self.election_ticks);
    }
}

/// Whether a message of the group is one that a leader or a candidate sends, and not the answer to one. What cannot be read asks for nothing.
pub fn asks(message: &Bytes) -> bool {
    use MessageType::{MsgAppend, MsgHeartbeat, MsgRequestPreVote, MsgRequestVote, MsgSnapshot, MsgTimeoutNow};
    let Ok(message) = Message::parse_from_carllerche_bytes(message) else { return false };
    matches!(
        message.get_msg_type(),
        MsgAppend | MsgHeartbeat | MsgSnapshot | MsgRequestVote | MsgRequestPreVote | MsgTimeoutNow
    )
}

fn asks_for_a_vote(message: &Message) -> bool {
    use MessageType::{MsgRequestPreVote, MsgRequestVote, MsgTimeoutNow};
    matches!(message.get_msg_type(), MsgRequestVote | MsgRequestPreVote | MsgTimeoutNow)
}

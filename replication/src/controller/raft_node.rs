//! The metadata Raft group's part on this node. Only `raft_*` know the crate `raft`.
//!
//! Owns elections, the order of entries, and what must be on disk before what may be sent. Does not own what entries mean.
//! Invariants: nothing is sent that promises what is not persisted; entries are handed out committed, once, in order; all randomness
//! comes from the seed (the crate draws election timeouts from the thread's generator: they are overwritten after every call).
//! A broken storage invariant panics inside `raft`: it ends the process.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use model::NodeId;
use model::planted::{self, Bug};
use protobuf::Message as _;
use raft::eraftpb::{
    ConfChange, ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType, Message, MessageType, Snapshot,
};
use raft::{Config, GetEntriesContext, INVALID_ID, Progress, ProgressState, RawNode, SnapshotStatus, StateRole};
use slog::{Discard, Logger, o};

use super::raft_codec::{
    FORMAT, hard_state_note, learners_of, len, node_id, node_ids, point_of, raft_id, read_state, restored, stored_entry,
};
use super::raft_log::RaftLog;
use super::random::Random;
use super::voters::{Membership, VoterChange, VoterStep};

/// A leader says that it lives every so many ticks.
pub const HEARTBEAT_TICKS: usize = 2;
/// A follower waits for its leader at least so many ticks, at most twice as many.
pub const ELECTION_TICKS: usize = 20;
/// A snapshot that was not taken after so many ticks is sent again.
const SNAPSHOT_TICKS: usize = 2 * ELECTION_TICKS;
/// A log that ends so near to the leader's counts as caught up.
const CAUGHT_UP_ENTRIES: u64 = 64;
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

/// To be written, all or nothing, in the order in which it was handed out; then `persisted(number)` is called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Persist {
    pub number: u64,
    /// The leader's: replaces the log and all before it; the parts below come after it.
    pub snapshot: Option<SnapshotPoint>,
    /// Stored entries from this index on were never committed and go first.
    pub truncate_from: Option<u64>,
    pub entries: Vec<LogEntry>,
    pub hard_state: Option<Bytes>,
}

/// What is committed, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Committed {
    Entry {
        index: u64,
        term: u64,
        data: Bytes,
    },
    /// Who votes and who only learns from here on.
    Voters {
        index: u64,
        term: u64,
        voters: Vec<NodeId>,
        learners: Vec<NodeId>,
    },
    /// Replaces all state (a leader's snapshot).
    Snapshot {
        index: u64,
        term: u64,
        image: Bytes,
        voters: Vec<NodeId>,
        learners: Vec<NodeId>,
    },
}

#[derive(Debug, Default)]
pub struct RaftOutput {
    pub persist: Vec<Persist>,
    pub messages: Vec<(NodeId, Bytes)>,
    pub committed: Vec<Committed>,
    /// A follower is so far behind that it needs a snapshot: call `offer_snapshot`.
    pub snapshot_wanted: bool,
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

/// Why the members cannot be changed now. Another change that is on its way will be done soon.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MembersRefused {
    #[error("this node is not the active controller")]
    NotLeader,
    #[error("another change of the voters is under way")]
    Changing,
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

struct Waiting {
    number: u64,
    must_sync: bool,
    messages: Vec<Message>,
}

impl RaftNode {
    /// `founders`: with nothing on disk, the group begins with these voters. Empty: wait to be found.
    pub fn open(options: RaftOptions, recovered: Recovered, founders: &[NodeId]) -> Result<RaftNode, RaftError> {
        let me = raft_id(options.node);
        let state = read_state(options.node, recovered, founders)?;
        let alone = state.conf.voters == [me] && state.conf.voters_outgoing.is_empty();
        // An entry that changes the voters may have taken effect: then the disk alone is no majority.
        let sole = alone && state.entries.iter().all(|entry| entry.get_entry_type() == EntryType::EntryNormal);
        let (founders, newcomer) = (state.founders, state.newcomer && !planted::is(Bug::WipedNodeVotes));
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

    /// `raft` sends a follower nothing while a snapshot is on its way. It may be lost: after a while it is sent again.
    fn doubt_snapshots(&mut self) {
        let on_its_way = |progress: &Progress| progress.state == ProgressState::Snapshot;
        let all = self.raw.raft.prs().iter();
        let waiting: BTreeSet<u64> = all.filter(|(_, progress)| on_its_way(progress)).map(|(id, _)| *id).collect();
        self.snapshot_ticks.retain(|id, _| waiting.contains(id));
        for id in waiting {
            let ticks = self.snapshot_ticks.entry(id).or_insert(0);
            *ticks += 1;
            if *ticks > SNAPSHOT_TICKS {
                self.snapshot_ticks.remove(&id);
                self.raw.report_snapshot(id, SnapshotStatus::Failure);
            }
        }
    }

    /// A message of another voter or learner. What cannot be read, or is out of place, is dropped with the reason.
    pub fn step(&mut self, message: &Bytes) -> Result<(), RaftError> {
        let damaged = |error: protobuf::ProtobufError| RaftError::Damaged { what: "message", why: error.to_string() };
        let mut message = Message::parse_from_carllerche_bytes(message).map_err(damaged)?;
        if self.newcomer && asks_for_a_vote(&message) {
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

    /// `raft` goes on sending a snapshot that was asked for until it is told that it arrived.
    fn note_snapshot_taken(&mut self, message: &Message) {
        let answer = message.get_msg_type() == MessageType::MsgAppendResponse && !message.reject;
        let progress = self.raw.raft.prs().get(message.from);
        let waited_for = progress.filter(|progress| progress.state == ProgressState::Snapshot);
        if answer && waited_for.is_some_and(|progress| message.index >= progress.pending_snapshot) {
            self.raw.report_snapshot(message.from, SnapshotStatus::Finish);
        }
    }

    /// A node that knows no voters cannot follow the log from its first entry: who voted before that, only a snapshot says. Its rejection
    /// asks for one that is at least as new as the entry that made it a member.
    fn asks_for_snapshot(&mut self, message: &Message) -> bool {
        let knows_nobody = self.raw.store().conf_state().voters.is_empty() && self.restoring.is_none();
        let raft = &mut self.raw.raft;
        if !knows_nobody || message.get_msg_type() != MessageType::MsgAppend || message.term < raft.term {
            return false;
        }
        raft.become_follower(message.term, message.from);
        raft.msgs.push(Message {
            msg_type: MessageType::MsgAppendResponse,
            from: raft.id,
            to: message.from,
            term: message.term,
            index: message.index,
            reject: true,
            request_snapshot: message.commit.max(1),
            ..Message::default()
        });
        self.overwrite_election_timeout();
        true
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

    /// Everything up to this `Persist::number` is on disk.
    pub fn persisted(&mut self, number: u64, out: &mut RaftOutput) {
        let mut reached = 0;
        while let Some(first) = self.waiting.front() {
            // What needed no sync follows what it stands behind.
            if first.number > number && first.must_sync {
                break;
            }
            let done = self.waiting.pop_front().expect("it was just looked at");
            reached = done.number;
            done.messages.into_iter().for_each(|message| send(message, out));
        }
        if reached > 0 {
            self.raw.on_persist_ready(reached);
        }
        if let Some((_, index)) = self.restoring.take_if(|(number, _)| *number <= reached) {
            self.raw.advance_apply_to(index);
        }
        self.overwrite_election_timeout();
    }

    /// Collects all that has become due.
    pub fn collect(&mut self, out: &mut RaftOutput) {
        self.collect_ready(out);
        if std::mem::take(&mut self.may_stand_alone) && self.stands_alone() {
            // Nobody else can answer: waiting for a timeout would only delay the start.
            if self.campaign().is_ok() {
                self.collect_ready(out);
            }
        }
        out.snapshot_wanted |= self.raw.store().take_snapshot_wanted();
        self.overwrite_election_timeout();
    }

    /// What was known to be committed is applied, and nobody else votes.
    fn stands_alone(&self) -> bool {
        let conf = self.raw.store().conf_state();
        conf.voters == [raft_id(self.node)] && conf.voters_outgoing.is_empty() && self.raw.raft.leader_id == INVALID_ID
    }

    fn collect_ready(&mut self, out: &mut RaftOutput) {
        while self.raw.has_ready() {
            self.collect_one(out);
            if self.waiting.front().is_some_and(|first| !first.must_sync) {
                self.persisted(0, out);
            }
        }
    }

    fn collect_one(&mut self, out: &mut RaftOutput) {
        let mut ready = self.raw.ready();
        ready.take_messages().into_iter().for_each(|message| send(message, out));
        let mut messages = ready.take_persisted_messages();
        let number = ready.number();
        let must_sync = ready.must_sync();
        let last_before = self.raw.store().last();
        let snapshot = (!ready.snapshot().is_empty()).then(|| ready.snapshot().clone());
        if let Some(snapshot) = &snapshot {
            self.raw.mut_store().restore(snapshot);
            self.applied = snapshot.get_metadata().index;
            self.members_changed = self.applied;
            self.restoring = Some((number, self.applied));
            out.committed.push(restored(snapshot));
        }
        if let Some(hard_state) = ready.hs() {
            let hard_state = hard_state.clone();
            self.raw.mut_store().set_hard_state(hard_state);
        }
        let entries = ready.take_entries();
        let changes = |entry: &&Entry| entry.get_entry_type() == EntryType::EntryConfChangeV2;
        for entry in entries.iter().filter(|_| planted::is(Bug::VotersBeforeCommit)).filter(changes) {
            let change = ConfChangeV2::parse_from_carllerche_bytes(&entry.data);
            let _ = self.raw.apply_conf_change(&change.expect("raft wrote it"));
        }
        self.raw.mut_store().append(&entries);
        if must_sync {
            let truncate_from = entries.first().map(|entry| entry.index).filter(|index| *index <= last_before);
            out.persist.push(Persist {
                number,
                truncate_from: truncate_from.filter(|_| snapshot.is_none()),
                snapshot: snapshot.as_ref().map(point_of),
                entries: entries.iter().map(stored_entry).collect(),
                hard_state: Some(hard_state_note(
                    self.node,
                    &self.raw.raft.hard_state(),
                    &self.founders,
                    self.newcomer,
                )),
            });
        }
        let committed = ready.take_committed_entries();
        self.raw.advance_append_async(ready);
        let early = if planted::is(Bug::VoteBeforePersisted) { messages.len() } else { 0 };
        messages.drain(..early).for_each(|message| send(message, out));
        self.waiting.push_back(Waiting { number, must_sync, messages });
        self.take_committed(committed, out);
    }

    fn take_committed(&mut self, entries: Vec<Entry>, out: &mut RaftOutput) {
        let Some(last) = entries.last().map(|entry| entry.index) else { return };
        for entry in entries {
            assert!(entry.index == self.applied + 1, "committed entries come once and in order");
            self.applied = entry.index;
            let voters = match entry.get_entry_type() {
                EntryType::EntryNormal => {
                    let (index, term) = (entry.index, entry.term);
                    out.committed.push(Committed::Entry { index, term, data: entry.data });
                    continue;
                }
                EntryType::EntryConfChange => {
                    let change = ConfChange::parse_from_carllerche_bytes(&entry.data);
                    self.raw.apply_conf_change(&change.expect("raft wrote it"))
                }
                EntryType::EntryConfChangeV2 => {
                    let change = ConfChangeV2::parse_from_carllerche_bytes(&entry.data);
                    self.raw.apply_conf_change(&change.expect("raft wrote it"))
                }
            };
            let voters = voters.expect("a committed change of voters is valid");
            self.members_changed = entry.index;
            let (index, term) = (entry.index, entry.term);
            let learners = learners_of(&voters);
            out.committed.push(Committed::Voters { index, term, voters: node_ids(&voters.voters), learners });
            self.raw.mut_store().set_conf_state(voters);
        }
        self.raw.advance_apply_to(last);
    }

    /// The content of a snapshot file at the last applied entry, around `image`.
    pub fn snapshot_file(&self, image: Bytes) -> SnapshotPoint {
        let snapshot = self.snapshot_at_applied(image);
        point_of(&snapshot)
    }

    /// A snapshot of a leader is on its way to the disk: until then none can be taken here.
    pub fn is_restoring(&self) -> bool {
        self.restoring.is_some()
    }

    /// The snapshot up to `index` is on disk: entries up to there are forgotten.
    pub fn compact(&mut self, index: u64) {
        // `raft` looks through what it has not applied before it campaigns.
        assert!(index <= self.raw.raft.raft_log.applied, "only what was applied is in a snapshot");
        self.raw.mut_store().compact(index);
    }

    /// For followers that need what the log no longer has.
    pub fn offer_snapshot(&mut self, image: Bytes) {
        let snapshot = self.snapshot_at_applied(image);
        self.raw.mut_store().offer(snapshot);
        let first = self.raw.store().first();
        let raft = &mut self.raw.raft;
        let waits = |progress: &Progress| progress.pending_request_snapshot > 0 || progress.next_idx < first;
        let waiting: Vec<u64> = raft.prs().iter().filter(|(_, progress)| waits(progress)).map(|(id, _)| *id).collect();
        for id in waiting {
            // Without this they would be sent it after the next heartbeat.
            if let Some(progress) = raft.mut_prs().get_mut(id) {
                progress.resume();
            }
            raft.send_append(id);
        }
    }

    fn snapshot_at_applied(&self, image: Bytes) -> Snapshot {
        let mut snapshot = Snapshot { data: image, ..Snapshot::default() };
        let term = self.raw.raft.raft_log.term(self.applied).expect("what was applied last is in the log");
        let metadata = snapshot.mut_metadata();
        metadata.index = self.applied;
        metadata.term = term;
        metadata.set_conf_state(self.raw.store().conf_state().clone());
        snapshot
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

/// How far one member of the group is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberProgress {
    pub node: NodeId,
    pub votes: bool,
    /// The last entry that it is known to have.
    pub matched: u64,
}

/// A snapshot file's content and the place in the log that it stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotPoint {
    pub index: u64,
    pub file: Bytes,
}

fn asks_for_a_vote(message: &Message) -> bool {
    use MessageType::{MsgRequestPreVote, MsgRequestVote, MsgTimeoutNow};
    matches!(message.get_msg_type(), MsgRequestVote | MsgRequestPreVote | MsgTimeoutNow)
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

fn send(message: Message, out: &mut RaftOutput) {
    let to = node_id(message.to).expect("raft sends to nodes only");
    out.messages.push((to, message.write_to_bytes().expect("a message of ours can be encoded").into()));
}

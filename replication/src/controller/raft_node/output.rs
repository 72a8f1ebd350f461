//! What the group hands out: what must be on disk, what may be sent, what is committed.
//!
//! Owns the order of the three. Does not own what makes them due (`raft_node`).
//! Invariants: what promises something is sent when that is persisted, and not before; entries are handed out committed, once, in order.

use bytes::Bytes;
use model::NodeId;
use model::planted::{self, Bug};
use protobuf::Message as _;
use raft::INVALID_ID;
use raft::eraftpb::{ConfChange, ConfChangeV2, Entry, EntryType, Message};

use super::snapshots::SnapshotPoint;
use super::{LogEntry, RaftNode};
use crate::controller::raft_codec::{
    hard_state_note, learners_of, node_id, node_ids, point_of, raft_id, restored, stored_entry,
};

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

pub(super) struct Waiting {
    pub(super) number: u64,
    must_sync: bool,
    messages: Vec<Message>,
}

impl RaftNode {
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
}

fn send(message: Message, out: &mut RaftOutput) {
    let to = node_id(message.to).expect("raft sends to nodes only");
    out.messages.push((to, message.write_to_bytes().expect("a message of ours can be encoded").into()));
}

//! Snapshots of the metadata between the members of the group.
//!
//! Owns who needs one, when one is sent again, and what the log forgets for one. Does not own an image's content (`snapshot_file`).
//! Invariant: a snapshot is of what was applied, never of more.

use std::collections::BTreeSet;

use bytes::Bytes;
use raft::eraftpb::{Message, MessageType, Snapshot};
use raft::{Progress, ProgressState, SnapshotStatus};

use super::{ELECTION_TICKS, RaftNode};
use crate::controller::raft_codec::point_of;

/// A snapshot that was not taken after so many ticks is sent again.
const SNAPSHOT_TICKS: usize = 2 * ELECTION_TICKS;

/// A snapshot file's content and the place in the log that it stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotPoint {
    pub index: u64,
    pub file: Bytes,
}

impl RaftNode {
    /// `raft` sends a follower nothing while a snapshot is on its way. It may be lost: after a while it is sent again.
    pub(super) fn doubt_snapshots(&mut self) {
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

    /// `raft` goes on sending a snapshot that was asked for until it is told that it arrived.
    pub(super) fn note_snapshot_taken(&mut self, message: &Message) {
        let answer = message.get_msg_type() == MessageType::MsgAppendResponse && !message.reject;
        let progress = self.raw.raft.prs().get(message.from);
        let waited_for = progress.filter(|progress| progress.state == ProgressState::Snapshot);
        if answer && waited_for.is_some_and(|progress| message.index >= progress.pending_snapshot) {
            self.raw.report_snapshot(message.from, SnapshotStatus::Finish);
        }
    }

    /// A node that knows no voters cannot follow the log from its first entry: who voted before that, only a snapshot says. Its rejection
    /// asks for one that is at least as new as the entry that made it a member.
    pub(super) fn asks_for_snapshot(&mut self, message: &Message) -> bool {
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
}

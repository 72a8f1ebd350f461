//! What Raft reads of its own past: entries, hard state and snapshot in memory.
//!
//! Owns the copy in memory, which may be ahead of the disk; `raft` knows from `persisted` how far the disk is. Does not own the disk.
//! Invariants: entries are consecutive and begin right behind the snapshot; terms never fall.

use std::cell::Cell;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

#[derive(Default)]
pub(super) struct RaftLog {
    hard_state: HardState,
    /// Who votes at the last applied entry.
    conf_state: ConfState,
    snapshot_index: u64,
    snapshot_term: u64,
    entries: Vec<Entry>,
    /// A follower needs what is no longer in the log.
    snapshot_wanted: Cell<bool>,
    /// Made when it was wanted.
    offered: Option<Snapshot>,
}

impl RaftLog {
    pub(super) fn new(
        hard_state: HardState,
        conf_state: ConfState,
        snapshot: (u64, u64),
        entries: Vec<Entry>,
    ) -> RaftLog {
        let (snapshot_index, snapshot_term) = snapshot;
        let log = RaftLog { hard_state, conf_state, snapshot_index, snapshot_term, entries, ..RaftLog::default() };
        log.check_invariants();
        log
    }

    pub(super) fn first(&self) -> u64 {
        self.snapshot_index + 1
    }

    pub(super) fn last(&self) -> u64 {
        self.snapshot_index + u64::try_from(self.entries.len()).expect("usize has at most 64 bits")
    }

    /// Takes new entries; older ones from the first new index on are replaced.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.snapshot_index, "an entry behind the snapshot was committed and cannot change");
        assert!(first.index <= self.last() + 1, "the log has no gaps");
        self.entries.truncate(self.position(first.index));
        self.entries.extend_from_slice(entries);
        self.check_invariants();
    }

    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub(super) fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    pub(super) fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
        // Whoever is not named in a snapshot refuses it.
        self.offered = None;
    }

    /// Forgets entries up to and with `index`, which a snapshot holds.
    pub(super) fn compact(&mut self, index: u64) {
        if index <= self.snapshot_index {
            return;
        }
        self.snapshot_term = self.term(index).expect("only what was applied is compacted");
        self.entries.drain(..self.position(index + 1));
        self.snapshot_index = index;
        self.offered = None;
        self.check_invariants();
    }

    /// Everything is replaced by a snapshot that the leader sent.
    pub(super) fn restore(&mut self, snapshot: &Snapshot) {
        let metadata = snapshot.get_metadata();
        self.entries.clear();
        self.snapshot_index = metadata.index;
        self.snapshot_term = metadata.term;
        self.conf_state = metadata.get_conf_state().clone();
        self.offered = None;
    }

    pub(super) fn take_snapshot_wanted(&self) -> bool {
        self.snapshot_wanted.take()
    }

    pub(super) fn offer(&mut self, snapshot: Snapshot) {
        self.offered = Some(snapshot);
    }

    fn position(&self, index: u64) -> usize {
        usize::try_from(index - self.first()).expect("the log is in memory")
    }

    fn check_invariants(&self) {
        let expected = (self.first()..).zip(&self.entries);
        // `raft` finds entries by arithmetic: a gap would give it another entry's content.
        assert!(expected.into_iter().all(|(index, entry)| index == entry.index));
        assert!(self.entries.windows(2).all(|pair| pair[0].term <= pair[1].term));
    }
}

impl Storage for RaftLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState { hard_state: self.hard_state.clone(), conf_state: self.conf_state.clone() })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(StorageError::Compacted.into());
        }
        assert!(high <= self.last() + 1, "raft asks for entries that it has");
        let mut found = self.entries[self.position(low)..self.position(high)].to_vec();
        raft::util::limit_size(&mut found, max_size.into());
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.snapshot_index {
            return Ok(self.snapshot_term);
        }
        if index < self.first() {
            return Err(StorageError::Compacted.into());
        }
        match self.entries.get(self.position(index)) {
            Some(entry) => Ok(entry.term),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        match &self.offered {
            Some(snapshot) if snapshot.get_metadata().index >= request_index.max(self.snapshot_index) => {
                Ok(snapshot.clone())
            }
            _ => {
                self.snapshot_wanted.set(true);
                Err(StorageError::SnapshotTemporarilyUnavailable.into())
            }
        }
    }
}

//! What `raft` keeps, as bytes that outlast it: hard state, entries, snapshots.
//!
//! Owns the translation to and from `proto/metadata.proto`. Does not own Raft's behaviour (`raft_node`).
//! Invariants: what is written reads back equal; a state that contradicts itself (a gap, another node's) is refused.

use bytes::Bytes;
use model::NodeId;
use prost::Message as _;
use raft::eraftpb::{ConfState, Entry, EntryType, HardState, Snapshot};

use super::raft_node::{Committed, LogEntry, RaftError, Recovered, SnapshotPoint};
use super::snapshot_file;
use crate::metadata::record::proto;

pub(super) const FORMAT: u32 = 1;

pub(super) fn hard_state_note(node: NodeId, state: &HardState, founders: &[NodeId], newcomer: bool) -> Bytes {
    let note = proto::HardState {
        version: FORMAT,
        term: state.term,
        vote: state.vote,
        commit: state.commit,
        founders: founders.iter().map(|node| node.0).collect(),
        node: node.0,
        newcomer,
    };
    note.encode_to_vec().into()
}

/// The image in a snapshot file, and the index up to which it goes.
pub fn read_snapshot(file: Bytes) -> Result<(u64, Bytes), RaftError> {
    let file = snapshot_file::decode(file)?;
    Ok((file.index, file.image))
}

pub(super) struct State {
    pub(super) hard_state: HardState,
    pub(super) founders: Vec<NodeId>,
    pub(super) newcomer: bool,
    pub(super) conf: ConfState,
    pub(super) snapshot: (u64, u64),
    pub(super) entries: Vec<Entry>,
}

pub(super) fn read_state(node: NodeId, recovered: Recovered, founders: &[NodeId]) -> Result<State, RaftError> {
    let damaged = |what, error: prost::DecodeError| RaftError::Damaged { what, why: error.to_string() };
    let is_empty = recovered.hard_state.is_none() && recovered.snapshot.is_none() && recovered.entries.is_empty();
    let note = proto::HardState::decode(recovered.hard_state.unwrap_or_default());
    let note = note.map_err(|error| damaged("hard state", error))?;
    if note.version > FORMAT {
        return Err(RaftError::TooNew { what: "hard state", got: note.version });
    }
    if !is_empty && note.node != node.0 {
        return Err(RaftError::OtherNode { stored: NodeId(note.node), given: node });
    }
    let founders = if is_empty { founders.to_vec() } else { note.founders.iter().copied().map(NodeId).collect() };
    let newcomer = if is_empty { founders.is_empty() } else { note.newcomer };
    let (conf, snapshot) = match recovered.snapshot {
        Some(file) => {
            let file = snapshot_file::decode(file)?;
            let conf = ConfState {
                voters: file.voters,
                learners: file.learners,
                voters_outgoing: file.voters_outgoing,
                learners_next: file.learners_next,
                auto_leave: file.auto_leave,
                ..ConfState::default()
            };
            (conf, (file.index, file.term))
        }
        None => {
            let voters = founders.iter().copied().map(raft_id).collect();
            (ConfState { voters, ..ConfState::default() }, (0, 0))
        }
    };
    let mut entries = Vec::new();
    for stored in recovered.entries.into_iter().filter(|entry| entry.index > snapshot.0) {
        let expected = snapshot.0 + 1 + len(&entries);
        if stored.index != expected {
            return Err(RaftError::Gap { expected, got: stored.index });
        }
        entries.push(read_entry(stored)?);
    }
    let hard_state = HardState { term: note.term, vote: note.vote, commit: note.commit, ..HardState::default() };
    Ok(State { hard_state, founders, newcomer, conf, snapshot, entries })
}

fn file_of(snapshot: &Snapshot) -> Bytes {
    let metadata = snapshot.get_metadata();
    let conf = metadata.get_conf_state();
    let file = proto::SnapshotFile {
        index: metadata.index,
        term: metadata.term,
        voters: conf.voters.clone(),
        learners: conf.learners.clone(),
        voters_outgoing: conf.voters_outgoing.clone(),
        learners_next: conf.learners_next.clone(),
        auto_leave: conf.auto_leave,
        image: snapshot.data.clone(),
    };
    snapshot_file::encode(&file)
}

pub(super) fn point_of(snapshot: &Snapshot) -> SnapshotPoint {
    SnapshotPoint { index: snapshot.get_metadata().index, file: file_of(snapshot) }
}

pub(super) fn restored(snapshot: &Snapshot) -> Committed {
    let metadata = snapshot.get_metadata();
    Committed::Snapshot {
        index: metadata.index,
        term: metadata.term,
        image: snapshot.data.clone(),
        voters: node_ids(&metadata.get_conf_state().voters),
        learners: learners_of(metadata.get_conf_state()),
    }
}

pub(super) fn stored_entry(entry: &Entry) -> LogEntry {
    use proto::log_entry::Kind;
    let kind = match entry.get_entry_type() {
        EntryType::EntryNormal => Kind::Normal,
        EntryType::EntryConfChange => Kind::Voters,
        EntryType::EntryConfChangeV2 => Kind::VotersV2,
    };
    let payload = proto::LogEntry { kind: kind.into(), data: entry.data.clone(), context: entry.context.clone() };
    LogEntry { index: entry.index, term: entry.term, payload: payload.encode_to_vec().into() }
}

fn read_entry(stored: LogEntry) -> Result<Entry, RaftError> {
    use proto::log_entry::Kind;
    let read = proto::LogEntry::decode(stored.payload);
    let read = read.map_err(|error| RaftError::Damaged { what: "entry", why: error.to_string() })?;
    let mut entry = Entry { index: stored.index, term: stored.term, ..Entry::default() };
    entry.set_entry_type(match Kind::try_from(read.kind) {
        Ok(Kind::Normal) => EntryType::EntryNormal,
        Ok(Kind::Voters) => EntryType::EntryConfChange,
        Ok(Kind::VotersV2) => EntryType::EntryConfChangeV2,
        Err(_) => return Err(RaftError::Damaged { what: "entry", why: format!("kind {} is not known", read.kind) }),
    });
    entry.data = read.data;
    entry.context = read.context;
    Ok(entry)
}

/// Raft's 0 means nobody; a node's number may be 0.
pub(super) fn raft_id(node: NodeId) -> u64 {
    u64::try_from(node.0).expect("a node's number is not negative") + 1
}

pub(super) fn node_id(id: u64) -> Option<NodeId> {
    i32::try_from(id.checked_sub(1)?).ok().map(NodeId)
}

pub(super) fn node_ids(ids: &[u64]) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = ids.iter().copied().filter_map(node_id).collect();
    nodes.sort_unstable();
    nodes
}

/// Those that will be learners once a change is done included.
pub(super) fn learners_of(conf: &ConfState) -> Vec<NodeId> {
    node_ids(&[conf.learners.as_slice(), conf.learners_next.as_slice()].concat())
}

pub(super) fn len<T>(of: &[T]) -> u64 {
    u64::try_from(of.len()).expect("usize has at most 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_state_that_the_first_version_wrote_is_read() {
        // version 1, term 5, vote 3, commit 9, founders 0 and 2, node 2
        let stored: &'static [u8] = &[8, 1, 16, 5, 24, 3, 32, 9, 42, 2, 0, 2, 48, 2];
        let recovered = Recovered { hard_state: Some(Bytes::from_static(stored)), ..Recovered::default() };
        let state = read_state(NodeId(2), recovered, &[]).expect("the first format");
        assert_eq!((state.hard_state.term, state.hard_state.vote, state.hard_state.commit), (5, 3, 9));
        assert_eq!((state.founders.clone(), state.conf.voters), (vec![NodeId(0), NodeId(2)], vec![1, 3]));
        assert_eq!(hard_state_note(NodeId(2), &state.hard_state, &state.founders, state.newcomer), stored);
    }

    #[test]
    fn the_data_of_another_node_is_refused() {
        let stored = hard_state_note(NodeId(1), &HardState::default(), &[NodeId(1)], false);
        let recovered = Recovered { hard_state: Some(stored), ..Recovered::default() };
        let refused = RaftError::OtherNode { stored: NodeId(1), given: NodeId(2) };
        assert_eq!(read_state(NodeId(2), recovered, &[NodeId(2)]).err(), Some(refused));
    }
}

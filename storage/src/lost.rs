//! The note of logs that were given up because they were damaged: until the cluster knows, a new empty log in such a place must not
//! be taken for all that there ever was.
//!
//! Owns the note's layout: for each log 16 bytes of topic id, 4 of partition, 1 of kind, in their order. Does not own who is told.
//! Invariant: the note is in the first checkpoint that does not have the logs, and stays until `settled` is durable.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::{LogId, LogKind, PartitionIndex, TopicId, TopicPartition};

use crate::journal::entry::Entry;

const NOTE: &str = "lost-logs";
const LOG_BYTES: usize = 16 + 4 + 1;

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the note of logs that were given up has {bytes} bytes, which is no multiple of {LOG_BYTES}")]
pub struct LostNoteError {
    bytes: usize,
}

/// For the journal: the cluster knows that these logs were given up.
pub fn settled() -> Entry {
    Entry::Note { key: NOTE.to_owned(), value: Bytes::new() }
}

pub(crate) fn read(notes: &BTreeMap<String, Bytes>) -> Result<BTreeSet<LogId>, LostNoteError> {
    let Some(note) = notes.get(NOTE) else { return Ok(BTreeSet::new()) };
    if !note.len().is_multiple_of(LOG_BYTES) {
        return Err(LostNoteError { bytes: note.len() });
    }
    let mut rest = note.clone();
    let mut lost = BTreeSet::new();
    while rest.has_remaining() {
        let mut topic = [0; 16];
        rest.copy_to_slice(&mut topic);
        let partition = PartitionIndex::new(rest.get_u32());
        let partition = TopicPartition { topic: TopicId(topic), partition };
        lost.insert(LogId { partition, kind: LogKind(rest.get_u8()) });
    }
    Ok(lost)
}

pub(crate) fn write(notes: &mut BTreeMap<String, Bytes>, lost: &BTreeSet<LogId>) {
    let mut note = BytesMut::with_capacity(lost.len() * LOG_BYTES);
    for log in lost {
        note.put_slice(&log.partition.topic.0);
        note.put_u32(log.partition.partition.get());
        note.put_u8(log.kind.0);
    }
    notes.insert(NOTE.to_owned(), note.freeze());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_reads_back_and_a_note_of_another_length_is_an_error() {
        let log = |topic: u8, partition: u32| {
            let partition = TopicPartition { topic: TopicId([topic; 16]), partition: PartitionIndex::new(partition) };
            LogId::records(partition)
        };
        let lost = BTreeSet::from([log(1, 0), log(1, 70_000), log(9, 2)]);
        let mut notes = BTreeMap::new();
        assert_eq!(read(&notes), Ok(BTreeSet::new()));
        write(&mut notes, &lost);
        assert_eq!(read(&notes), Ok(lost));
        let Entry::Note { key, value } = settled() else { panic!("it is a note") };
        notes.insert(key, value);
        assert_eq!(read(&notes), Ok(BTreeSet::new()));
        notes.insert(NOTE.to_owned(), Bytes::from_static(&[0; 22]));
        assert_eq!(read(&notes), Err(LostNoteError { bytes: 22 }));
    }
}

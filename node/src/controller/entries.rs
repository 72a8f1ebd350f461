//! Entries of the Raft log as record batches of the metadata log, and back; and the file of the snapshot.
//!
//! Owns the layout: one batch with one record for each entry; its offset is the entry's index, its leader epoch the term, its value the
//! entry as `replication` encoded it. So Kafka's tools and our own see an ordinary segment.
//! Invariant: what is written reads back equal.

use bytes::{Bytes, BytesMut};
use model::batch::{BatchBuilder, BatchError, StoredBatch, split_stored};
use model::{LeaderEpoch, Offset};
use replication::controller::LogEntry;
use storage::ReadError;
use storage::disk::{Disk, ReadMode};
use storage::log::Log;
use storage::record::{ReadLimits, RecordError, RecordReader};

/// How much is read at once when a node starts.
const READ_BYTES: u32 = 4 << 20;

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EntriesError {
    #[error("the metadata log cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error("the metadata log holds bytes that are no batch: {0}")]
    Batch(#[from] BatchError),
    #[error("entry {index} of the metadata log cannot be read: {source}")]
    Record { index: i64, source: RecordError },
    #[error("entry {index} of the metadata log is not one record with a value")]
    Shape { index: i64 },
}

/// # Panics
/// With an index above 2^62 or a term above 2^31: no log gets there.
pub(super) fn to_batch(entry: &LogEntry, wall_ms: i64) -> StoredBatch {
    let term = i32::try_from(entry.term).expect("fewer than 2^31 elections");
    let batch = BatchBuilder::new().record(wall_ms, None, Some(&entry.payload), &[]).finish();
    batch.place(offset_of(entry.index), LeaderEpoch::new(term))
}

pub(super) fn offset_of(index: u64) -> Offset {
    Offset::new(i64::try_from(index).expect("an index that was counted up from 1"))
}

fn from_batch(batch: &StoredBatch) -> Result<LogEntry, EntriesError> {
    let index = batch.base_offset().get();
    let shape = || EntriesError::Shape { index };
    let records = batch.records();
    let record = |source| EntriesError::Record { index, source };
    let mut reader = RecordReader::new(batch.header(), &records, ReadLimits::default()).map_err(record)?;
    let first = reader.next().map_err(record)?.ok_or_else(shape)?;
    let payload = Bytes::copy_from_slice(first.value.ok_or_else(shape)?);
    if batch.count() != 1 {
        return Err(shape());
    }
    let term = batch.leader_epoch().and_then(|epoch| u64::try_from(epoch.get()).ok()).ok_or_else(shape)?;
    Ok(LogEntry { index: u64::try_from(index).map_err(|_| shape())?, term, payload })
}

/// All entries that the log holds. Blocks: for the start of a node only.
pub(super) fn read_all(log: &Log, disk: &dyn Disk) -> Result<Vec<LogEntry>, EntriesError> {
    let mut entries = Vec::new();
    let mut from = log.log_start();
    while from < log.log_end() {
        let read = log.plan_read(from, log.log_end(), READ_BYTES)?.run(disk, ReadMode::Blocking)?;
        let Some(next) = read.next else { break };
        assert!(next > from, "a read below the end gives something");
        from = next;
        let mut bytes = BytesMut::with_capacity(read.bytes);
        read.pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
        for batch in split_stored(bytes.freeze()) {
            entries.push(from_batch(&batch?)?);
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_its_batch_also_when_it_is_empty() {
        for payload in ["", "some facts"] {
            let entry = LogEntry { index: 7, term: 3, payload: Bytes::from_static(payload.as_bytes()) };
            let batch = to_batch(&entry, 1_700_000_000_000);
            assert_eq!((batch.base_offset(), batch.next_offset()), (Offset::new(7), Offset::new(8)));
            assert_eq!(from_batch(&batch), Ok(entry));
        }
    }

    #[test]
    fn a_batch_that_is_no_entry_is_an_error() {
        let null = BatchBuilder::new().record(0, None, None, &[]).finish();
        let two = BatchBuilder::new().record(0, None, Some(b"a"), &[]).record(0, None, Some(b"b"), &[]).finish();
        for batch in [null, two] {
            let placed = batch.place(Offset::new(4), LeaderEpoch::new(1));
            assert_eq!(from_batch(&placed), Err(EntriesError::Shape { index: 4 }));
        }
    }
}

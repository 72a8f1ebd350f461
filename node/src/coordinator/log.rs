//! What a coordinator needs of the log of its partition, and how that log is read back.
//!
//! Owns the shape of that need and the way from batches to records. Does not own the log.
//! Invariant: what cannot be read is counted and passed over, never believed: one bad record must not keep thousands of
//! groups from loading.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use model::batch::{Batch, StoredBatch, split_stored};
use model::{Now, Offset, PartitionIndex};
use replication::group::{GroupRecord, RecordError, Shard};
use replication::metadata::Image;
use storage::record::{ReadLimits, RecordReader};

use crate::effects::Effects;

/// The partitions of `__consumer_offsets`, as far as coordinators see them.
pub trait GroupLog {
    /// Begins an append that is complete when the high watermark passes it. `Coordinators::appended` is called with
    /// `token` later, once, and never from within this call.
    fn append(&self, now: Now, partition: PartitionIndex, batch: Batch, token: u64, fx: &mut Effects);
    /// Where the log begins and ends. `None`: this node does not lead the partition.
    fn ends(&self, partition: PartitionIndex) -> Option<LogEnds>;
    /// Whole batches below the high watermark, the first of which holds or follows `from`; may read from disk.
    fn read(&self, partition: PartitionIndex, from: Offset, bytes_max: u32) -> Result<Committed, LogError>;
    /// The metadata as this node follows it, and a number that is another one for each other image.
    fn metadata(&self) -> (Arc<Image>, u64);
    /// A tick is needed by then.
    fn tick_by(&self, mono: Duration, fx: &mut Effects);
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogEnds {
    pub start: Offset,
    pub end: Offset,
}

/// Pieces of one run of batches; empty where nothing is committed at or beyond the offset.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Committed {
    pub pieces: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LogError {
    #[error("this node does not lead the partition")]
    NotLeader,
    #[error("the log begins at {start} only")]
    Gone { start: Offset },
    #[error("the log cannot be read: {reason}")]
    Unreadable { reason: String },
}

/// What was read of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Loaded {
    pub(super) records: u64,
    /// Of groups of other protocols.
    pub(super) others: u64,
    pub(super) damaged: u64,
}

/// Applies all records of `committed` to `shard`. Returns the offset behind the last batch.
pub(super) fn replay(
    committed: Committed,
    from: Offset,
    shard: &mut Shard,
    loaded: &mut Loaded,
) -> Result<Offset, LogError> {
    let mut next = from;
    let unreadable = |reason: String| LogError::Unreadable { reason };
    for batch in split_stored(joined(committed.pieces)) {
        let batch = batch.map_err(|error| unreadable(error.to_string()))?;
        let end = batch.next_offset();
        if end <= next {
            return Err(unreadable(format!("batch ends at {end} where {next} was next")));
        }
        next = end;
        // Markers of transactions, and offsets that wait for one: neither is served yet, nothing writes them.
        if !batch.is_control() && !batch.is_transactional() {
            replay_batch(&batch, shard, loaded);
        }
    }
    Ok(next)
}

fn joined(pieces: Vec<Bytes>) -> Bytes {
    let mut pieces = pieces;
    if pieces.len() == 1
        && let Some(only) = pieces.pop()
    {
        return only;
    }
    let mut all = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.iter().for_each(|piece| all.extend_from_slice(piece));
    all.freeze()
}

fn replay_batch(batch: &StoredBatch, shard: &mut Shard, loaded: &mut Loaded) {
    let records = batch.records();
    let Ok(mut reader) = RecordReader::new(batch.header(), &records, ReadLimits::default()) else {
        loaded.damaged += 1;
        return;
    };
    loop {
        let record = match reader.next() {
            Ok(Some(record)) => record,
            Ok(None) => return,
            Err(_) => {
                loaded.damaged += 1;
                return;
            }
        };
        let copied = |field: Option<&[u8]>| field.map(Bytes::copy_from_slice);
        match GroupRecord::decode(copied(record.key), copied(record.value)) {
            Ok(record) => {
                loaded.records += 1;
                shard.apply(&record);
            }
            Err(RecordError::OtherKey { .. }) => loaded.others += 1,
            Err(_) => loaded.damaged += 1,
        }
    }
}

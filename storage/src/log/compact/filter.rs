//! What becomes of one batch.
//!
//! Owns which of its records stay, and the batch that is left. Does not own the table of keys (`map`) nor files.
//! Invariant: offsets never change: a batch keeps its base offset, its last offset, its producer, epoch and sequence, whatever it loses.
//! A batch that loses nothing stays as it is, byte for byte.
//! Invariant: of each key at least the newest record below `end` stays, and a tombstone stays until its horizon has passed; whatever lies
//! at or behind `end` was not compared with anything, and stays.

use bytes::{BufMut, Bytes, BytesMut};
use model::batch::{
    BatchHeader, Codec, HEADER_BYTES, NO_TIMESTAMP, StoredBatch, TimestampType, crc32c, put_varint, put_varlong,
};
use model::{Offset, limits};

use super::map::OffsetMap;
use crate::codec::{CodecError, compress};
use crate::record::{ReadLimits, Record, RecordError, RecordReader};

/// Where the bytes begin that the CRC covers.
const CRC_COVERS_FROM: usize = 21;
/// Bytes that the length field of a batch does not count.
const LENGTH_COUNTS_FROM: usize = 12;

pub(super) struct Rules<'a> {
    pub(super) map: &'a OffsetMap,
    /// Behind the last record whose key is in the table.
    pub(super) end: Offset,
    pub(super) now_ms: i64,
    pub(super) delete_retention_ms: i64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Keep,
    Replace(Bytes),
    Drop,
}

impl Rules<'_> {
    fn keeps(&self, record: &Record<'_>, horizon_ms: Option<i64>) -> bool {
        if record.offset >= self.end {
            return true;
        }
        // Kafka refuses such records at produce; they are from before the topic was compacted, and nothing would ever replace them.
        let Some(key) = record.key else { return false };
        if self.map.latest(key).is_some_and(|latest| record.offset < latest) {
            return false;
        }
        record.value.is_some() || horizon_ms.is_none_or(|horizon| self.now_ms < horizon)
    }

    fn new_horizon(&self) -> i64 {
        self.now_ms.saturating_add(self.delete_retention_ms).max(0)
    }

    /// A batch of records. `retain`: it stays even when it has lost all of them.
    pub(super) fn data(&self, batch: &StoredBatch, retain: bool) -> Result<Fate, RecordError> {
        let horizon = horizon_of(batch.header());
        let mut kept = Kept::default();
        let records = batch.records();
        let mut reader = RecordReader::new(batch.header(), &records, ReadLimits::default())?;
        while let Some(record) = reader.next()? {
            let keeps = self.keeps(&record, horizon);
            // The time of one behind the end begins when it was compared.
            kept.tombstones |= keeps && record.value.is_none() && record.offset < self.end;
            kept.newest_ms = kept.newest_ms.max(if keeps { record.timestamp } else { NO_TIMESTAMP });
            kept.count += i32::from(keeps);
        }
        if kept.count == 0 {
            return Ok(self.emptied(batch, retain));
        }
        let horizon_is_new = kept.tombstones && horizon.is_none();
        if kept.count == batch.count() && !horizon_is_new {
            return Ok(Fate::Keep);
        }
        let horizon = if horizon_is_new { Some(self.new_horizon()) } else { horizon };
        self.rewritten(batch, &kept, horizon)
    }

    /// A batch of which nothing counts any more.
    pub(super) fn emptied(&self, batch: &StoredBatch, retain: bool) -> Fate {
        match (retain, batch.count()) {
            (true, 0) => Fate::Keep,
            (true, _) => Fate::Replace(empty(batch.header())),
            (false, _) => Fate::Drop,
        }
    }

    /// The outcome of a transaction: it goes when nothing of that transaction is left and its horizon has passed.
    pub(super) fn marker(&self, batch: &StoredBatch, has_records: bool, retain: bool) -> Result<Fate, RecordError> {
        if has_records || batch.base_offset() >= self.end {
            return Ok(Fate::Keep);
        }
        match horizon_of(batch.header()) {
            Some(horizon) if self.now_ms >= horizon && !retain => Ok(Fate::Drop),
            Some(_) => Ok(Fate::Keep),
            None => {
                let kept = Kept { count: batch.count(), newest_ms: batch.max_timestamp(), tombstones: false };
                self.encode(batch, &kept, Some(self.new_horizon()), &|_| true)
            }
        }
    }

    fn rewritten(&self, batch: &StoredBatch, kept: &Kept, horizon: Option<i64>) -> Result<Fate, RecordError> {
        let old_horizon = horizon_of(batch.header());
        self.encode(batch, kept, horizon, &|record| self.keeps(record, old_horizon))
    }

    fn encode(
        &self,
        batch: &StoredBatch,
        kept: &Kept,
        horizon: Option<i64>,
        keeps: &dyn Fn(&Record<'_>) -> bool,
    ) -> Result<Fate, RecordError> {
        let old = batch.header();
        let base_timestamp = horizon.unwrap_or(old.base_timestamp);
        let records = batch.records();
        let mut reader = RecordReader::new(old, &records, ReadLimits::default())?;
        let (mut plain, mut scratch) = (BytesMut::new(), BytesMut::new());
        while let Some(record) = reader.next()? {
            if keeps(&record) {
                put_record(&mut plain, &mut scratch, &record, old.base_offset, base_timestamp);
            }
        }
        let codec = old.attributes.codec().unwrap_or(Codec::None);
        let body = if codec == Codec::None { plain.freeze() } else { Bytes::from(compress(codec, &plain)) };
        let max_timestamp = match old.attributes.timestamp_type() {
            TimestampType::CreateTime => kept.newest_ms,
            TimestampType::LogAppendTime => old.max_timestamp,
        };
        let header = BatchHeader {
            attributes: old.attributes.with_delete_horizon(horizon.is_some()),
            base_timestamp,
            max_timestamp,
            record_count: kept.count,
            ..*old
        };
        let size = HEADER_BYTES.saturating_add(body.len());
        if size as u64 > limits::BATCH_BYTES_MAX {
            // A codec of ours packs worse than the producer's. The records stay as they are; the next time may find fewer.
            return Err(RecordError::Codec(CodecError::OutputTooLarge { codec, limit: limits::BATCH_BYTES_MAX }));
        }
        Ok(Fate::Replace(finish(header, &body)))
    }
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    count: i32,
    newest_ms: i64,
    tombstones: bool,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept { count: 0, newest_ms: NO_TIMESTAMP, tombstones: false }
    }
}

/// From when on tombstones of the batch may go (KIP-534): it stands where the base timestamp stood.
fn horizon_of(header: &BatchHeader) -> Option<i64> {
    header.attributes.has_delete_horizon().then_some(header.base_timestamp)
}

fn put_record(out: &mut BytesMut, scratch: &mut BytesMut, record: &Record<'_>, base_offset: i64, base_timestamp: i64) {
    scratch.clear();
    scratch.put_u8(0); // attributes: no bit is in use
    put_varlong(scratch, record.timestamp.wrapping_sub(base_timestamp));
    let delta = record.offset.get() - base_offset;
    put_varint(scratch, i32::try_from(delta).expect("read as an offset of this batch"));
    put_field(scratch, record.key);
    put_field(scratch, record.value);
    put_varint(scratch, length(record.headers.len()));
    for (name, value) in record.headers {
        put_field(scratch, Some(name));
        put_field(scratch, value);
    }
    put_varint(out, length(scratch.len()));
    out.extend_from_slice(scratch);
}

fn put_field(out: &mut BytesMut, field: Option<&[u8]>) {
    put_varint(out, field.map_or(-1, |field| length(field.len())));
    out.extend_from_slice(field.unwrap_or_default());
}

fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("a part of a batch is smaller than 2 GiB")
}

/// The batch without records: what is left says who wrote it, how far its offsets and sequences went, and when.
fn empty(old: &BatchHeader) -> Bytes {
    let attributes = old.attributes.with_codec(Codec::None).with_delete_horizon(false);
    finish(BatchHeader { attributes, base_timestamp: old.max_timestamp, record_count: 0, ..*old }, &[])
}

fn finish(mut header: BatchHeader, body: &[u8]) -> Bytes {
    header.batch_length = length(HEADER_BYTES - LENGTH_COUNTS_FROM + body.len());
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + body.len());
    bytes.put_slice(&header.to_bytes());
    bytes.put_slice(body);
    header.crc = crc32c(&bytes[CRC_COVERS_FROM..]);
    bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    bytes.freeze()
}

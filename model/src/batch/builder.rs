//! Builds small uncompressed batches: for our own internal topics, control records and tests.
//!
//! Owns the encoding of records. Does not own compression: `storage::codec` does, and `finish_with` takes the result.
//! Invariant: what it builds passes `Batch::check`, and its records have the consecutive offsets 0, 1, 2, …

use super::header::{Attributes, BatchHeader, Codec, HEADER_BYTES};
use super::{Batch, CRC_COVERS_FROM, NO_TIMESTAMP, crc32c};
use bytes::{Bytes, BytesMut};

/// Collects records and makes a [`Batch`] of them.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    records: BytesMut,
    /// One record without its length, kept to reuse its memory.
    scratch: BytesMut,
    attributes: Attributes,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    producer: (i64, i16, i32),
    count: i32,
}

impl Default for BatchBuilder {
    fn default() -> BatchBuilder {
        BatchBuilder::new()
    }
}

impl BatchBuilder {
    pub fn new() -> BatchBuilder {
        BatchBuilder {
            records: BytesMut::new(),
            scratch: BytesMut::new(),
            attributes: Attributes::default(),
            base_timestamp: None,
            max_timestamp: NO_TIMESTAMP,
            producer: (-1, -1, -1),
            count: 0,
        }
    }

    /// Names the idempotent producer and the sequence number of the first record.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> BatchBuilder {
        self.producer = (id, epoch, base_sequence);
        self
    }

    pub fn transactional(mut self) -> BatchBuilder {
        self.attributes = self.attributes.with_transactional();
        self
    }

    pub fn control(mut self) -> BatchBuilder {
        self.attributes = self.attributes.with_control();
        self
    }

    /// Adds a record. `timestamp_ms` is milliseconds since 1970; a header without value has a null value.
    pub fn record(
        mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> BatchBuilder {
        self.push(timestamp_ms, key, value, headers);
        self
    }

    /// As [`BatchBuilder::record`], for a loop.
    pub fn push(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        let base = *self.base_timestamp.get_or_insert(timestamp_ms);
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let scratch = &mut self.scratch;
        scratch.clear();
        scratch.extend_from_slice(&[0]); // attributes: no bit is in use
        put_varlong(scratch, timestamp_ms.wrapping_sub(base));
        put_varint(scratch, self.count);
        put_bytes(scratch, key);
        put_bytes(scratch, value);
        put_varint(scratch, length(headers.len()));
        for (name, value) in headers {
            put_bytes(scratch, Some(name));
            put_bytes(scratch, *value);
        }
        put_varint(&mut self.records, length(self.scratch.len()));
        self.records.extend_from_slice(&self.scratch);
        self.count = self.count.checked_add(1).expect("a batch we build has fewer than 2^31 records");
    }

    /// Bytes of the batch so far, uncompressed.
    pub fn size(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// Records so far.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// The encoded records, as a codec takes them.
    pub fn records(&self) -> &[u8] {
        &self.records
    }

    /// Makes the batch. Panics without a record: an empty batch is our own mistake.
    pub fn finish(self) -> Batch {
        let records = self.records.clone().freeze();
        self.finish_with(Codec::None, &records)
    }

    /// Makes the batch around records that the caller compressed with `codec`.
    pub fn finish_with(self, codec: Codec, records: &[u8]) -> Batch {
        assert!(self.count > 0);
        let bytes = self.encode(codec, records, |_| ());
        Batch::check(bytes).expect("the builder writes what the checker asks for")
    }

    /// The bytes of a batch whose header `change` may spoil before the length and CRC are computed: for tests of what
    /// a hostile client can send.
    pub fn encode(self, codec: Codec, records: &[u8], change: impl FnOnce(&mut BatchHeader)) -> Bytes {
        let (producer_id, producer_epoch, base_sequence) = self.producer;
        let mut header = BatchHeader {
            base_offset: 0,
            batch_length: length(HEADER_BYTES - 12 + records.len()),
            leader_epoch: -1,
            crc: 0,
            attributes: self.attributes.with_codec(codec),
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp.unwrap_or(NO_TIMESTAMP),
            max_timestamp: self.max_timestamp,
            producer_id,
            producer_epoch,
            base_sequence,
            record_count: self.count,
        };
        change(&mut header);
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES + records.len());
        bytes.extend_from_slice(&header.to_bytes());
        bytes.extend_from_slice(records);
        header.crc = crc32c(&bytes[CRC_COVERS_FROM..]);
        bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        bytes.freeze()
    }
}

fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("a batch we build is smaller than 2 GiB")
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, length(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

/// Appends a zigzag varint of at most 5 bytes.
pub fn put_varint(out: &mut BytesMut, value: i32) {
    put_varlong(out, i64::from(value));
}

/// Appends a zigzag varint of at most 10 bytes.
pub fn put_varlong(out: &mut BytesMut, value: i64) {
    let mut zigzag = (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned();
    loop {
        let low = (zigzag & 0x7f).to_le_bytes()[0];
        zigzag >>= 7;
        if zigzag == 0 {
            out.extend_from_slice(&[low]);
            return;
        }
        out.extend_from_slice(&[low | 0x80]);
    }
}

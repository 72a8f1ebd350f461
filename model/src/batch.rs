//! Record batches (Kafka's magic 2) as checked values.
//!
//! Owns the batch header, its CRC32C, and the two things that a server does with a batch: take it from a client
//! (`Batch`) and give it a place in a log (`StoredBatch`). Does not own the records inside: `storage::record` reads
//! those, and `storage::codec` decompresses them.
//! Invariant: a `Batch` or `StoredBatch` that exists has a whole header, a known codec and a correct CRC.
//! Invariant: placing a batch copies 16 bytes, never the records, because what changes lies outside the CRC.

mod builder;
mod error;
mod header;

use crate::ids::{ProducerEpoch, ProducerId};
use crate::limits::OFFSET_MAX;
use crate::offset::{LeaderEpoch, Offset};
use bytes::{Bytes, BytesMut};

pub use builder::{BatchBuilder, put_varint, put_varlong};
pub use error::BatchError;
pub use header::{Attributes, BatchHeader, Codec, HEADER_BYTES, TimestampType};

/// Bytes of a stored batch that a log writes itself: base offset, batch length, leader epoch.
pub const HEAD_BYTES: usize = 16;

/// The timestamp of a batch or record that has none, in milliseconds since 1970.
pub const NO_TIMESTAMP: i64 = -1;

/// Where the bytes begin that the CRC covers: at the attributes, behind the CRC itself.
const CRC_COVERS_FROM: usize = 21;

/// CRC-32C (Castagnoli) of the bytes, as Kafka stores it in a batch.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Reads the header of the batch that begins at `bytes[0]`, without looking at CRC or records.
///
/// `None` when fewer than 61 bytes are there; more may follow, so this is no error by itself. The batch itself
/// may be longer than `bytes`: compare with [`BatchHeader::size`].
pub fn peek(bytes: &[u8]) -> Result<Option<BatchHeader>, BatchError> {
    let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    BatchHeader::parse(head).map(Some)
}

/// A whole record batch as a client sent it. CRC, length, codec and counts are right; the records are not read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// Checks that the buffer is exactly one batch that a producer may send.
    ///
    /// Beyond what [`StoredBatch::parse`] asks, the counts must agree: a producer's batch has no gaps.
    pub fn check(bytes: Bytes) -> Result<Batch, BatchError> {
        let header = check_frame(&bytes)?;
        if header.record_count < 1 {
            return Err(BatchError::Count { count: header.record_count });
        }
        if i64::from(header.last_offset_delta) != i64::from(header.record_count) - 1 {
            return Err(BatchError::LastOffsetDelta {
                last_offset_delta: header.last_offset_delta,
                count: header.record_count,
            });
        }
        Ok(Batch { header, bytes })
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The batch from its first byte to its last.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records as they came: compressed if the codec says so.
    pub fn records(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES..)
    }

    /// Whole size in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The same batch with another maximum timestamp and timestamp type.
    ///
    /// Both lie inside the CRC, so unless they are right already this copies the batch and computes a new CRC.
    /// For `LogAppendTime` every record then has this timestamp, whatever its own delta says.
    pub fn with_max_timestamp(self, timestamp_type: TimestampType, max_timestamp_ms: i64) -> Batch {
        let attributes = self.header.attributes.with_timestamp_type(timestamp_type);
        if attributes == self.header.attributes && max_timestamp_ms == self.header.max_timestamp {
            return self;
        }
        let mut header = BatchHeader { attributes, max_timestamp: max_timestamp_ms, ..self.header };
        let mut copy = BytesMut::with_capacity(self.bytes.len());
        copy.extend_from_slice(&header.to_bytes());
        copy.extend_from_slice(&self.bytes[HEADER_BYTES..]);
        header.crc = crc32c(&copy[CRC_COVERS_FROM..]);
        copy[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        let bytes = copy.freeze();
        assert!(crc_of(&bytes) == header.crc);
        Batch { header, bytes }
    }

    /// Gives the batch its place in a log. Copies 16 bytes; the rest stays a slice of the frame.
    ///
    /// # Panics
    /// If an offset lies above `limits::OFFSET_MAX`: the log refuses such an append before.
    pub fn place(self, base_offset: Offset, leader_epoch: LeaderEpoch) -> StoredBatch {
        let header = BatchHeader { base_offset: base_offset.get(), leader_epoch: leader_epoch.get(), ..self.header };
        assert!(header.last_offset() <= OFFSET_MAX);
        StoredBatch { header, body: self.bytes.slice(HEAD_BYTES..) }
    }

    /// As [`Batch::place`], for a topic with `message.timestamp.type=LogAppendTime`. Copies the batch.
    pub fn place_at_append_time(
        self,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
        append_time_ms: i64,
    ) -> StoredBatch {
        self.with_max_timestamp(TimestampType::LogAppendTime, append_time_ms).place(base_offset, leader_epoch)
    }
}

/// A batch with its place in a log: 16 bytes of our own and the rest as it came.
///
/// Unlike a [`Batch`] it may have gaps or no records at all: compaction removes records and keeps the offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    header: BatchHeader,
    /// From the magic byte on. Its copies of base offset and epoch were cut away with the first 16 bytes.
    body: Bytes,
}

impl StoredBatch {
    /// Checks the bytes of exactly one batch that a log or a leader gave us, its CRC included.
    pub fn parse(bytes: Bytes) -> Result<StoredBatch, BatchError> {
        let header = check_frame(&bytes)?;
        let span = i64::from(header.last_offset_delta) + 1;
        if header.record_count < 0 || i64::from(header.record_count) > span {
            return Err(BatchError::Count { count: header.record_count });
        }
        Ok(StoredBatch { header, body: bytes.slice(HEAD_BYTES..) })
    }

    /// Base offset, batch length and leader epoch as they stand on disk and wire.
    pub fn head(&self) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head.copy_from_slice(&self.header.to_bytes()[..HEAD_BYTES]);
        head
    }

    /// Everything behind [`StoredBatch::head`], a slice of the frame that it came in.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The records: compressed if the codec says so.
    pub fn records(&self) -> Bytes {
        self.body.slice(HEADER_BYTES - HEAD_BYTES..)
    }

    /// Head and body in one new buffer: for tests and cold paths.
    pub fn to_bytes(&self) -> Bytes {
        let mut all = BytesMut::with_capacity(self.size());
        all.extend_from_slice(&self.head());
        all.extend_from_slice(&self.body);
        all.freeze()
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    pub fn base_offset(&self) -> Offset {
        Offset::new(self.header.base_offset)
    }

    /// Offset of the last record, or of the last one that was there before compaction.
    pub fn last_offset(&self) -> Offset {
        Offset::new(self.header.last_offset())
    }

    /// The offset behind the batch, where the next one may begin.
    pub fn next_offset(&self) -> Offset {
        Offset::new(self.header.next_offset())
    }

    /// `None` only for a batch that no leader has placed (-1 on the wire).
    pub fn leader_epoch(&self) -> Option<LeaderEpoch> {
        LeaderEpoch::from_wire(self.header.leader_epoch)
    }

    /// Milliseconds since 1970; [`NO_TIMESTAMP`] if the producer gave none.
    pub fn base_timestamp(&self) -> i64 {
        self.header.base_timestamp
    }

    /// Milliseconds since 1970; [`NO_TIMESTAMP`] if the producer gave none.
    pub fn max_timestamp(&self) -> i64 {
        self.header.max_timestamp
    }

    /// `None` for a batch of a producer without idempotence (-1 on the wire).
    pub fn producer_id(&self) -> Option<ProducerId> {
        self.header.producer_id().map(ProducerId)
    }

    /// Means nothing without a producer id.
    pub fn producer_epoch(&self) -> ProducerEpoch {
        ProducerEpoch(self.header.producer_epoch)
    }

    /// Means nothing without a producer id.
    pub fn base_sequence(&self) -> i32 {
        self.header.base_sequence
    }

    /// Records in the batch, as its header says.
    pub fn count(&self) -> i32 {
        self.header.record_count
    }

    /// Whole size in bytes on disk and wire.
    pub fn size(&self) -> usize {
        HEAD_BYTES + self.body.len()
    }

    pub fn is_control(&self) -> bool {
        self.header.attributes.is_control()
    }

    pub fn is_transactional(&self) -> bool {
        self.header.attributes.is_transactional()
    }
}

/// Cuts a buffer into producer's batches. Stops for good after the first error.
pub fn split_batches(buffer: Bytes) -> Split<Batch> {
    Split { rest: buffer, check: Batch::check }
}

/// Cuts a buffer of stored batches, for example a follower's fetch. Stops for good after the first error.
pub fn split_stored(buffer: Bytes) -> Split<StoredBatch> {
    Split { rest: buffer, check: StoredBatch::parse }
}

/// Iterator of [`split_batches`] and [`split_stored`].
#[derive(Debug)]
pub struct Split<T> {
    rest: Bytes,
    check: fn(Bytes) -> Result<T, BatchError>,
}

impl<T> Split<T> {
    fn cut(&mut self) -> Result<T, BatchError> {
        let available = self.rest.len();
        let Some(header) = peek(&self.rest)? else { return Err(BatchError::TooShort { bytes: available }) };
        let size = header.size();
        if size > available {
            return Err(BatchError::Length { header_says: size, bytes: available });
        }
        (self.check)(self.rest.split_to(size))
    }
}

impl<T> Iterator for Split<T> {
    type Item = Result<T, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = self.cut();
        if batch.is_err() {
            self.rest.clear();
        }
        Some(batch)
    }
}

fn check_frame(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let Some(header) = peek(bytes)? else { return Err(BatchError::TooShort { bytes: bytes.len() }) };
    if header.size() != bytes.len() {
        return Err(BatchError::Length { header_says: header.size(), bytes: bytes.len() });
    }
    let computed = crc_of(bytes);
    if computed != header.crc {
        return Err(BatchError::Crc { stored: header.crc, computed });
    }
    // After the CRC: a flipped bit is to be reported as damage, not as the fault of its producer.
    header.check_ranges()?;
    Ok(header)
}

fn crc_of(bytes: &[u8]) -> u32 {
    crc32c(bytes.get(CRC_COVERS_FROM..).unwrap_or_default())
}

#[cfg(test)]
mod tests;

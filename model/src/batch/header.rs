//! The 61 bytes before the records of a batch.
//!
//! Owns the layout and the ranges that hold for every batch. Does not own CRC or sizes of a buffer: `batch` does.
//! Invariant: `to_bytes` of a parsed header gives back its bytes.
//!
//! ```text
//!  0 base offset i64      16 magic i8          27 base timestamp i64   51 producer epoch i16
//!  8 batch length i32     17 crc u32           35 max timestamp i64    53 base sequence i32
//! 12 leader epoch i32     21 attributes i16    43 producer id i64      57 record count i32
//!                         23 last offset delta i32                     61 records
//! ```
//! All big-endian. The batch length counts from byte 12; the CRC covers everything from byte 21.

use super::NO_TIMESTAMP;
use super::error::BatchError;
use crate::limits::OFFSET_MAX;

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

/// Bytes that the batch length field does not count: base offset and itself.
const LENGTH_COUNTS_FROM: i32 = 12;
const LENGTH_MIN: i32 = 49;
const MAGIC: i8 = 2;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    /// By Kafka's number, 0 to 4.
    pub fn from_wire(raw: i16) -> Option<Codec> {
        match raw {
            0 => Some(Codec::None),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }

    pub fn to_wire(self) -> i16 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// The name in Kafka's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

/// Who set the timestamps of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer, per record.
    CreateTime,
    /// The leader at append: the maximum timestamp of the batch holds for each of its records.
    LogAppendTime,
}

/// The attribute bits of a batch. Unknown bits are kept, as Kafka keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    pub fn from_wire(raw: i16) -> Attributes {
        Attributes(raw)
    }

    pub fn to_wire(self) -> i16 {
        self.0
    }

    /// An error for the numbers 5 to 7, which no codec has.
    pub fn codec(self) -> Result<Codec, BatchError> {
        let codec = self.0 & Self::CODEC;
        Codec::from_wire(codec).ok_or(BatchError::UnknownCodec { codec })
    }

    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// A control batch holds a transaction marker (or a quorum's own record) and no client's data.
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// The base timestamp is the time from which compaction may drop the tombstones of this batch (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    pub fn with_codec(self, codec: Codec) -> Attributes {
        Attributes(self.0 & !Self::CODEC | codec.to_wire())
    }

    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Attributes {
        match timestamp_type {
            TimestampType::CreateTime => Attributes(self.0 & !Self::LOG_APPEND_TIME),
            TimestampType::LogAppendTime => Attributes(self.0 | Self::LOG_APPEND_TIME),
        }
    }

    pub fn with_transactional(self) -> Attributes {
        Attributes(self.0 | Self::TRANSACTIONAL)
    }

    pub fn with_delete_horizon(self, has: bool) -> Attributes {
        let bit = if has { Self::DELETE_HORIZON } else { 0 };
        Attributes(self.0 & !Self::DELETE_HORIZON | bit)
    }

    pub fn with_control(self) -> Attributes {
        Attributes(self.0 | Self::CONTROL)
    }
}

/// The header as it stands on the wire. Its numbers are the sender's: only magic and length are checked by `parse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Bytes behind this field, which are 12 fewer than the batch has.
    pub batch_length: i32,
    pub leader_epoch: i32,
    pub crc: u32,
    pub attributes: Attributes,
    pub last_offset_delta: i32,
    /// Milliseconds since 1970.
    pub base_timestamp: i64,
    /// Milliseconds since 1970.
    pub max_timestamp: i64,
    /// -1 without idempotence.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header. Fails on a magic or a length that no batch of ours can have; looks at nothing else.
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<BatchHeader, BatchError> {
        let mut fields = Fields { rest: bytes };
        let base_offset = i64::from_be_bytes(fields.take());
        let batch_length = i32::from_be_bytes(fields.take());
        let leader_epoch = i32::from_be_bytes(fields.take());
        let magic = i8::from_be_bytes(fields.take());
        if magic != MAGIC {
            return Err(BatchError::Magic { magic });
        }
        if !(LENGTH_MIN..=i32::MAX - LENGTH_COUNTS_FROM).contains(&batch_length) {
            return Err(BatchError::LengthField { length: batch_length });
        }
        Ok(BatchHeader {
            base_offset,
            batch_length,
            leader_epoch,
            crc: u32::from_be_bytes(fields.take()),
            attributes: Attributes::from_wire(i16::from_be_bytes(fields.take())),
            last_offset_delta: i32::from_be_bytes(fields.take()),
            base_timestamp: i64::from_be_bytes(fields.take()),
            max_timestamp: i64::from_be_bytes(fields.take()),
            producer_id: i64::from_be_bytes(fields.take()),
            producer_epoch: i16::from_be_bytes(fields.take()),
            base_sequence: i32::from_be_bytes(fields.take()),
            record_count: i32::from_be_bytes(fields.take()),
        })
    }

    /// The header as it stands on disk and wire.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.leader_epoch.to_be_bytes());
        bytes[16..17].copy_from_slice(&MAGIC.to_be_bytes());
        bytes[17..21].copy_from_slice(&self.crc.to_be_bytes());
        bytes[21..23].copy_from_slice(&self.attributes.to_wire().to_be_bytes());
        bytes[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        bytes[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        bytes[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        bytes
    }

    /// What must hold in every batch, also in one that was compacted: offsets in range and a codec that exists.
    pub(super) fn check_ranges(&self) -> Result<(), BatchError> {
        let BatchHeader { base_offset, last_offset_delta, record_count, .. } = *self;
        self.attributes.codec()?;
        if base_offset < 0 {
            return Err(BatchError::NegativeBaseOffset { base_offset });
        }
        if last_offset_delta < 0 {
            return Err(BatchError::LastOffsetDelta { last_offset_delta, count: record_count });
        }
        if self.last_offset() > OFFSET_MAX {
            return Err(BatchError::OffsetOverflow { base_offset, last_offset_delta });
        }
        Ok(())
    }

    /// Whole size of the batch in bytes, by its length field.
    pub fn size(&self) -> usize {
        usize::try_from(self.batch_length + LENGTH_COUNTS_FROM).expect("parse bounds the length field from both sides")
    }

    /// Offset of the last record. Saturates where a header is not from a checked batch.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset behind the batch. Saturates where a header is not from a checked batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// The newest timestamp of its records; −1 where compaction has left none. (An empty batch still says what the newest one was.)
    pub fn newest_timestamp(&self) -> i64 {
        if self.record_count > 0 { self.max_timestamp } else { NO_TIMESTAMP }
    }

    /// `None` for a batch of a producer without idempotence. Kafka sends -1; any negative number means the same.
    pub fn producer_id(&self) -> Option<i64> {
        (self.producer_id >= 0).then_some(self.producer_id)
    }

    /// Sequence number of the last record; it wraps from 2^31 - 1 to 0. `None` without idempotence.
    pub fn last_sequence(&self) -> Option<i32> {
        self.producer_id()?;
        (self.base_sequence >= 0).then(|| self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX)
    }
}

/// Takes fixed-size fields off a header, whose length the type already guarantees.
struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (field, rest) = self.rest.split_first_chunk::<N>().expect("the fields together are 61 bytes");
        self.rest = rest;
        *field
    }
}

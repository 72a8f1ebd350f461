//! Why some bytes are not a record batch.
//!
//! Owns the error of every check in `batch`. Does not own its Kafka code: `BatchError::code` says it once, so that
//! the edge need not know the cases.
//! Invariant: no text of a message comes from the bytes themselves, only numbers do.

use super::header::HEADER_BYTES;
use crate::error_code::ErrorCode;

/// What is wrong with the bytes of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("{bytes} bytes are too few for a batch header of {HEADER_BYTES}")]
    TooShort { bytes: usize },
    #[error("batch has magic {magic}, only 2 is served")]
    Magic { magic: i8 },
    /// The length field cannot be that of any batch.
    #[error("batch length field is {length}, the smallest possible is 49")]
    LengthField { length: i32 },
    #[error("batch header says {header_says} bytes, there are {bytes}")]
    Length { header_says: usize, bytes: usize },
    #[error("batch crc is {stored:#010x}, its bytes give {computed:#010x}")]
    Crc { stored: u32, computed: u32 },
    #[error("compression codec {codec} is unknown")]
    UnknownCodec { codec: i16 },
    #[error("batch says it has {count} records")]
    Count { count: i32 },
    #[error("last offset delta is {last_offset_delta} in a batch of {count} records")]
    LastOffsetDelta { last_offset_delta: i32, count: i32 },
    #[error("base offset {base_offset} is negative")]
    NegativeBaseOffset { base_offset: i64 },
    #[error("base offset {base_offset} with last offset delta {last_offset_delta} leaves the range of offsets")]
    OffsetOverflow { base_offset: i64, last_offset_delta: i32 },
}

impl BatchError {
    /// What Kafka answers: damaged bytes are another code than a producer's mistake.
    pub fn code(&self) -> ErrorCode {
        match self {
            BatchError::TooShort { .. }
            | BatchError::LengthField { .. }
            | BatchError::Length { .. }
            | BatchError::Crc { .. } => ErrorCode::CorruptMessage,
            // 0 and 1 are Kafka's old formats: an honest client that is too old.
            BatchError::Magic { magic: 0 | 1 } => ErrorCode::InvalidRecord,
            BatchError::Magic { .. } => ErrorCode::CorruptMessage,
            BatchError::UnknownCodec { .. } => ErrorCode::UnsupportedCompressionType,
            BatchError::Count { .. }
            | BatchError::LastOffsetDelta { .. }
            | BatchError::NegativeBaseOffset { .. }
            | BatchError::OffsetOverflow { .. } => ErrorCode::InvalidRecord,
        }
    }
}

//! The records inside a batch.
//!
//! Owns their layout, a reader over them (compressed or not) and, in `validate`, what a broker checks at produce.
//! Does not own batches (`model::batch`) nor decompression (`codec`).
//! Invariant: no count or length of the batch is believed: memory follows bytes that are really there.
//! Invariant: headers keep their order and their repeats.
//!
//! ```text
//! record: length varint · attributes i8 · timestamp delta varlong · offset delta varint · key · value
//!         · header count varint · { key · value }…          key, value: length varint (-1 is null) · bytes
//! ```
//! All varints are zigzag. The length counts what follows it.

mod source;
mod validate;
mod varint;

use crate::codec::{CodecError, DecompressLimits};
use model::batch::{BatchHeader, Codec, TimestampType};
use model::{ErrorCode, Offset};
use source::{Fault, SliceSource, Source, StreamSource};

pub use validate::{ProduceRules, RecordSummary, ValidateError, validate_records};

/// Why the records of a batch could not be read. `index` counts from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("record {index} has a varint that is cut or too long")]
    Varint { index: i32 },
    #[error("record {index} has a length of {length} where at most {left} bytes are left")]
    Length { index: i32, length: i32, left: usize },
    #[error("record {index} says it has {count} headers in {left} bytes")]
    HeaderCount { index: i32, count: i32, left: usize },
    #[error("record {index} has a header without a key")]
    NullHeaderKey { index: i32 },
    #[error("record {index} ends {left} bytes before its length says")]
    Leftover { index: i32, left: usize },
    #[error("record {index} has offset delta {got} where {least} to {most} is possible")]
    OffsetDelta { index: i32, got: i32, least: i32, most: i32 },
    #[error("record {index} has timestamp delta {delta}, which leaves the range of timestamps")]
    TimestampOverflow { index: i32, delta: i64 },
    #[error("record {index} has {length} bytes, more than the limit of {limit}")]
    TooLarge { index: i32, length: usize, limit: usize },
    #[error("batch says it has {header_says} records, there are {found}")]
    Count { header_says: i32, found: i32 },
    #[error("bytes follow the {count} records of a batch")]
    TrailingBytes { count: i32 },
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl RecordError {
    pub fn code(&self) -> ErrorCode {
        match self {
            RecordError::Varint { .. }
            | RecordError::Length { .. }
            | RecordError::HeaderCount { .. }
            | RecordError::NullHeaderKey { .. }
            | RecordError::Leftover { .. }
            | RecordError::OffsetDelta { .. }
            | RecordError::Count { .. }
            | RecordError::TrailingBytes { .. } => ErrorCode::InvalidRecord,
            RecordError::TimestampOverflow { .. } => ErrorCode::InvalidTimestamp,
            RecordError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            RecordError::Codec(error) => error.code(),
        }
    }
}

/// One record. Key, value and headers are slices of the batch or of the reader's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub offset: Offset,
    /// Milliseconds since 1970; of the append where the batch says so.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// The headers of a record in their order, repeats included: name and value. Already checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    left: i32,
}

impl<'a> Headers<'a> {
    pub fn len(&self) -> usize {
        usize::try_from(self.left).expect("a parsed header count is not negative")
    }

    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let mut source = SliceSource::inside(self.bytes);
        let key = take_field(&mut source).expect("checked when the record was read")?;
        let value = take_field(&mut source).expect("checked when the record was read");
        self.bytes = source.left_bytes();
        Some((key, value))
    }
}

/// Limits of a [`RecordReader`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    pub decompress: DecompressLimits,
    /// Bytes of one decompressed record, which the reader must hold in one piece.
    pub record_bytes_max: usize,
}

impl Default for ReadLimits {
    fn default() -> ReadLimits {
        ReadLimits { decompress: DecompressLimits::DEFAULT, record_bytes_max: 64 << 20 }
    }
}

/// Reads the records of a batch one after another, compressed or not.
///
/// Uncompressed records are slices of the batch; compressed ones live in the reader until the next call.
/// Gaps between offsets are accepted, since compaction leaves them.
pub struct RecordReader<'a> {
    header: BatchHeader,
    bytes: ReaderBytes<'a>,
    record_bytes_max: usize,
    /// Records read so far.
    index: i32,
    delta_least: i32,
}

enum ReaderBytes<'a> {
    Slice(SliceSource<'a>),
    Stream(Box<StreamSource<'a>>),
}

impl<'a> RecordReader<'a> {
    /// `header` and `records` are those of one batch that was checked, CRC included.
    pub fn new(header: &BatchHeader, records: &'a [u8], limits: ReadLimits) -> Result<RecordReader<'a>, RecordError> {
        let bytes = match header.attributes.codec() {
            Ok(Codec::None) => ReaderBytes::Slice(SliceSource::new(records)),
            Ok(codec) => ReaderBytes::Stream(Box::new(StreamSource::new(codec, records, limits.decompress)?)),
            // No header of a checked batch has another codec; an unchecked one is damage.
            Err(_) => return Err(RecordError::Codec(CodecError::Corrupt { codec: Codec::None })),
        };
        let record_bytes_max = limits.record_bytes_max;
        Ok(RecordReader { header: *header, bytes, record_bytes_max, index: 0, delta_least: 0 })
    }

    /// The next record, or `None` behind the last. After an error the reader is of no more use.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not lend its buffer")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, RecordError> {
        let index = self.index;
        if index >= self.header.record_count {
            let ended = match &mut self.bytes {
                ReaderBytes::Slice(slice) => slice.is_at_end(),
                ReaderBytes::Stream(stream) => stream.is_at_end(),
            };
            return match ended.map_err(|fault| fault.at(index))? {
                true => Ok(None),
                false => Err(RecordError::TrailingBytes { count: index }),
            };
        }
        let header_says = self.header.record_count;
        let body = match &mut self.bytes {
            ReaderBytes::Slice(slice) => slice.begin().map(|()| slice.take_rest()),
            ReaderBytes::Stream(stream) => stream.begin().and_then(|()| stream.take_rest(self.record_bytes_max)),
        };
        let body = body.map_err(|fault| fault.of_count(index, header_says))?;
        let (record, delta) = parse(&self.header, index, self.delta_least, body)?;
        self.index += 1;
        self.delta_least = delta.saturating_add(1);
        Ok(Some(record))
    }
}

fn parse<'b>(
    header: &BatchHeader,
    index: i32,
    delta_least: i32,
    body: &'b [u8],
) -> Result<(Record<'b>, i32), RecordError> {
    let mut source = SliceSource::inside(body);
    let start = read_start(&mut source, index, header)?;
    let delta = start.offset_delta;
    let most = header.last_offset_delta;
    let offset = Offset::from_wire(header.base_offset.saturating_add(i64::from(delta)));
    let Some(offset) = offset.filter(|_| (delta_least..=most).contains(&delta)) else {
        return Err(RecordError::OffsetDelta { index, got: delta, least: delta_least, most });
    };
    let at = |fault: Fault| fault.at(index);
    let key = take_field(&mut source).map_err(at)?;
    let value = take_field(&mut source).map_err(at)?;
    let left = read_header_count(&mut source, index)?;
    let bytes = source.left_bytes();
    skip_headers(&mut source, index, left)?;
    end(&source, index)?;
    Ok((Record { offset, timestamp: start.timestamp, key, value, headers: Headers { bytes, left } }, delta))
}

/// What stands before the key.
struct Start {
    timestamp: i64,
    offset_delta: i32,
}

fn read_start<S: Source>(source: &mut S, index: i32, header: &BatchHeader) -> Result<Start, RecordError> {
    let at = |fault: Fault| fault.at(index);
    source.skip(1).map_err(at)?; // attributes: no bit is in use
    let delta = source.varlong().map_err(at)?;
    let timestamp = timestamp_of(header, index, delta)?;
    Ok(Start { timestamp, offset_delta: source.varint().map_err(at)? })
}

#[inline]
fn timestamp_of(header: &BatchHeader, index: i32, delta: i64) -> Result<i64, RecordError> {
    match header.attributes.timestamp_type() {
        TimestampType::LogAppendTime => Ok(header.max_timestamp),
        TimestampType::CreateTime => {
            header.base_timestamp.checked_add(delta).ok_or(RecordError::TimestampOverflow { index, delta })
        }
    }
}

fn read_header_count<S: Source>(source: &mut S, index: i32) -> Result<i32, RecordError> {
    let count = source.varint().map_err(|fault| fault.at(index))?;
    let left = source.left();
    match usize::try_from(count) {
        // A header takes at least two bytes, so this bounds the loop that follows.
        Ok(some) if some <= left / 2 => Ok(count),
        _ => Err(RecordError::HeaderCount { index, count, left }),
    }
}

fn skip_headers<S: Source>(source: &mut S, index: i32, count: i32) -> Result<(), RecordError> {
    let at = |fault: Fault| fault.at(index);
    for _ in 0..count {
        if !skip_field(source).map_err(at)? {
            return Err(RecordError::NullHeaderKey { index });
        }
        skip_field(source).map_err(at)?;
    }
    Ok(())
}

fn end<S: Source>(source: &S, index: i32) -> Result<(), RecordError> {
    match source.left() {
        0 => Ok(()),
        left => Err(RecordError::Leftover { index, left }),
    }
}

/// Skips bytes with a length in front; says whether they were there (`false` for null).
#[inline]
fn skip_field<S: Source>(source: &mut S) -> Result<bool, Fault> {
    let length = source.varint()?;
    if length == -1 {
        return Ok(false);
    }
    let bytes = usize::try_from(length).map_err(|_| Fault::Length { length, left: source.left() })?;
    source.skip(bytes).map(|()| true)
}

fn take_field<'b>(source: &mut SliceSource<'b>) -> Result<Option<&'b [u8]>, Fault> {
    let before = source.left_bytes();
    if !skip_field(source)? {
        return Ok(None);
    }
    let after = source.left();
    let (taken, _) = before.split_at(before.len() - after);
    let mut field = taken;
    varint::take(&mut field).ok_or(Fault::Varint)?; // its length, which was just read
    Ok(Some(field))
}

#[cfg(test)]
mod tests;

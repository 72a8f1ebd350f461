//! What a leader checks in a batch from a client before it appends it.
//!
//! Owns the rules that need no state of the partition. Does not own sequences and duplicates: `replication` does.
//! Invariant: a batch that passes is readable by every client: counts, offsets and lengths are those of its records.
//! The rules are those of Kafka's validator, with one difference: offset deltas that are not 0, 1, 2, … are refused in
//! compressed batches as well, where Kafka would decompress and rewrite them (no client of this format needs that).

use super::source::{Fault, SliceSource, Source, StreamSource};
use super::{RecordError, end, read_header_count, read_start, skip_field, skip_headers, timestamp_of};
use crate::codec::{CodecError, DecompressLimits};
use model::ErrorCode;
use model::batch::{Batch, BatchHeader, Codec, NO_TIMESTAMP, TimestampType};

/// What a topic asks of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceRules {
    /// `max.message.bytes`: of the whole batch as it was sent, compressed.
    pub batch_bytes_max: usize,
    /// A compacted topic: records without a key are refused.
    pub keys_required: bool,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// The wall clock in milliseconds since 1970.
    pub now_ms: i64,
    /// `message.timestamp.before.max.ms`; `None` allows any past.
    pub timestamp_before_max_ms: Option<i64>,
    /// `message.timestamp.after.max.ms`; `None` allows any future.
    pub timestamp_after_max_ms: Option<i64>,
}

/// What a walk over the records found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSummary {
    pub count: i32,
    /// Milliseconds since 1970; [`NO_TIMESTAMP`] if no record has one. With `LogAppendTime` it is `now_ms`.
    /// Give it to `Batch::with_max_timestamp`: what the producer wrote there may be wrong.
    pub max_timestamp: i64,
    /// The first record with that timestamp, counted from the base offset.
    pub max_timestamp_delta: i32,
    pub has_null_key: bool,
    /// Bytes of the records without compression.
    pub record_bytes: u64,
}

/// Why a batch is refused at produce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidateError {
    #[error("batch has {bytes} bytes, max.message.bytes is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("base offset of a producer's batch must be 0, not {base_offset}")]
    BaseOffset { base_offset: i64 },
    #[error("clients may not write control batches")]
    Control,
    #[error("batch of producer {producer_id} has epoch {epoch}")]
    ProducerEpoch { producer_id: i64, epoch: i16 },
    #[error("batch of producer {producer_id} has base sequence {base_sequence}")]
    BaseSequence { producer_id: i64, base_sequence: i32 },
    #[error("transactional batch without a producer id")]
    TransactionalWithoutProducer,
    #[error("producers may not set the timestamp type to LogAppendTime")]
    AppendTimeFromProducer,
    #[error("record {index} has no key, which a compacted topic needs")]
    NullKey { index: i32 },
    #[error("record {index} has timestamp {timestamp}, outside of {least} to {most}")]
    Timestamp { index: i32, timestamp: i64, least: i64, most: i64 },
    #[error(transparent)]
    Records(#[from] RecordError),
}

impl ValidateError {
    pub fn code(&self) -> ErrorCode {
        match self {
            ValidateError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            ValidateError::BaseOffset { .. }
            | ValidateError::Control
            | ValidateError::ProducerEpoch { .. }
            | ValidateError::BaseSequence { .. }
            | ValidateError::TransactionalWithoutProducer
            | ValidateError::NullKey { .. } => ErrorCode::InvalidRecord,
            ValidateError::AppendTimeFromProducer | ValidateError::Timestamp { .. } => ErrorCode::InvalidTimestamp,
            ValidateError::Records(error) => error.code(),
        }
    }

    /// The record that KIP-467's `record_errors` should name, where a rule of the topic refused that one.
    pub fn record_index(&self) -> Option<i32> {
        match self {
            ValidateError::NullKey { index } | ValidateError::Timestamp { index, .. } => Some(*index),
            ValidateError::TooLarge { .. }
            | ValidateError::BaseOffset { .. }
            | ValidateError::Control
            | ValidateError::ProducerEpoch { .. }
            | ValidateError::BaseSequence { .. }
            | ValidateError::TransactionalWithoutProducer
            | ValidateError::AppendTimeFromProducer
            | ValidateError::Records(_) => None,
        }
    }
}

/// Checks a client's batch and every record in it. Allocates nothing if the records are not compressed.
pub fn validate_records(
    batch: &Batch,
    limits: DecompressLimits,
    rules: &ProduceRules,
) -> Result<RecordSummary, ValidateError> {
    check_header(batch, rules)?;
    let header = batch.header();
    let records = batch.records();
    match header.attributes.codec() {
        Ok(Codec::None) => walk(SliceSource::new(&records), header, rules),
        Ok(codec) => {
            let stream = StreamSource::new(codec, &records, limits).map_err(RecordError::Codec)?;
            walk(stream, header, rules)
        }
        // A `Batch` has a known codec, so this is never reached; it is an answer all the same.
        Err(_) => Err(RecordError::Codec(CodecError::Corrupt { codec: Codec::None }).into()),
    }
}

fn check_header(batch: &Batch, rules: &ProduceRules) -> Result<(), ValidateError> {
    let header = batch.header();
    if batch.size() > rules.batch_bytes_max {
        return Err(ValidateError::TooLarge { bytes: batch.size(), limit: rules.batch_bytes_max });
    }
    if header.base_offset != 0 {
        return Err(ValidateError::BaseOffset { base_offset: header.base_offset });
    }
    if header.attributes.is_control() {
        return Err(ValidateError::Control);
    }
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Err(ValidateError::AppendTimeFromProducer);
    }
    match header.producer_id() {
        None if header.attributes.is_transactional() => Err(ValidateError::TransactionalWithoutProducer),
        None => Ok(()),
        Some(producer_id) if header.producer_epoch < 0 => {
            Err(ValidateError::ProducerEpoch { producer_id, epoch: header.producer_epoch })
        }
        Some(producer_id) if header.base_sequence < 0 => {
            Err(ValidateError::BaseSequence { producer_id, base_sequence: header.base_sequence })
        }
        Some(_) => Ok(()),
    }
}

/// Timestamps that the rules allow, both ends included.
fn timestamp_range(rules: &ProduceRules) -> (i64, i64) {
    match rules.timestamp_type {
        TimestampType::LogAppendTime => (i64::MIN, i64::MAX),
        TimestampType::CreateTime => (
            rules.timestamp_before_max_ms.map_or(i64::MIN, |before| rules.now_ms.saturating_sub(before)),
            rules.timestamp_after_max_ms.map_or(i64::MAX, |after| rules.now_ms.saturating_add(after)),
        ),
    }
}

fn walk<S: Source>(mut source: S, header: &BatchHeader, rules: &ProduceRules) -> Result<RecordSummary, ValidateError> {
    let count = header.record_count;
    let (least, most) = timestamp_range(rules);
    let mut summary = RecordSummary {
        count,
        max_timestamp: NO_TIMESTAMP,
        max_timestamp_delta: 0,
        has_null_key: false,
        record_bytes: 0,
    };
    for index in 0..count {
        let record = walk_one(&mut source, header, index)?;
        if record.timestamp != NO_TIMESTAMP && !(least..=most).contains(&record.timestamp) {
            return Err(ValidateError::Timestamp { index, timestamp: record.timestamp, least, most });
        }
        if !record.has_key {
            if rules.keys_required {
                return Err(ValidateError::NullKey { index });
            }
            summary.has_null_key = true;
        }
        if record.timestamp > summary.max_timestamp {
            (summary.max_timestamp, summary.max_timestamp_delta) = (record.timestamp, index);
        }
        summary.record_bytes += record.bytes;
    }
    if !source.is_at_end().map_err(|fault| fault.at(count))? {
        return Err(RecordError::TrailingBytes { count }.into());
    }
    if rules.timestamp_type == TimestampType::LogAppendTime {
        (summary.max_timestamp, summary.max_timestamp_delta) = (rules.now_ms, 0);
    }
    Ok(summary)
}

struct Walked {
    timestamp: i64,
    has_key: bool,
    bytes: u64,
}

#[inline(always)]
fn walk_one<S: Source>(source: &mut S, header: &BatchHeader, index: i32) -> Result<Walked, RecordError> {
    match source.take_plain(index) {
        Some(plain) => Ok(Walked {
            timestamp: timestamp_of(header, index, plain.timestamp_delta)?,
            has_key: plain.has_key,
            bytes: u64::try_from(plain.bytes).unwrap_or(u64::MAX),
        }),
        None => walk_carefully(source, header, index),
    }
}

#[inline(never)]
fn walk_carefully<S: Source>(source: &mut S, header: &BatchHeader, index: i32) -> Result<Walked, RecordError> {
    let at = |fault: Fault| fault.at(index);
    source.begin().map_err(|fault| fault.of_count(index, header.record_count))?;
    // Without the length itself, which has 1 to 5 bytes.
    let bytes = u64::try_from(source.left()).unwrap_or(u64::MAX);
    let start = read_start(source, index, header)?;
    if start.offset_delta != index {
        return Err(RecordError::OffsetDelta { index, got: start.offset_delta, least: index, most: index });
    }
    let has_key = skip_field(source).map_err(at)?;
    skip_field(source).map_err(at)?;
    let headers = read_header_count(source, index)?;
    if headers > 0 {
        skip_headers(source, index, headers)?;
    }
    end(source, index)?;
    Ok(Walked { timestamp: start.timestamp, has_key, bytes })
}

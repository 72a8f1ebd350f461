//! The checkpoint: what every log is without the journal, and from where the journal counts.
//!
//! Owns its layout. Does not own when one is taken, nor what makes it true (segments synced before).
//! Invariant: for each log it says which operations the synced files cover; the journal's operations behind that are carried out
//! again, others are skipped. It is replaced as a whole (`durable`); a CRC covers all of it.
//!
//! ```text
//!  0 magic "weirckp1"   8
//!  8 version u32 · body length u64
//! 20 body:
//!      salt u64 · from sequence u64 · operations u64 · clean u8
//!      number of the carried file u64 (0: none) · its groups u32          (from version 2 on)
//!      notes u32 · { key size u32, key, value size u32, value }…
//!      logs  u32 · { log }…
//!    log: topic id 16, partition u32, kind u8 · folder size u32, folder · journalled u8 · operation u64
//!         log start i64 · log end i64 · high watermark i64
//!         cleaned i64                                                       (from version 3 on)
//!         producers offset i64 (−1: none) · producers size u32, bytes
//!         epochs u32 · { epoch i32, offset i64 }…
//!         segments u32 · { base i64, generation u32 (from version 3 on), size u32, first timestamp i64, newest timestamp i64,
//!                          newest offset i64, newest exact u8, offset index entries u32, crc u32, time index entries u32, crc u32 }…
//! 20 + body length: crc32c of everything before u32
//! ```

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use model::batch::crc32c;
use model::{LeaderEpoch, LogId, Offset};

use crate::epochs::{EpochsError, LeaderEpochs};
use crate::fields::{Fields, Short};
use crate::journal::entry::{EntryError, folder, log_id, offset, put_log_id};
use crate::offset_index::{IndexFile, IndexFiles};
use crate::segment::{Newest, SegmentFacts};

const MAGIC: &[u8; 8] = b"weirckp1";
pub(crate) const VERSION: u32 = 3;

/// What a producer table was, and up to which offset it counted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProducerSnapshot {
    pub offset: Offset,
    pub bytes: Bytes,
}

/// One log of a checkpoint. Made by `Log::checkpoint`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogCheckpoint {
    pub id: LogId,
    /// Below the data directory.
    pub folder: String,
    pub journalled: bool,
    /// Operations up to this one are in the synced files.
    pub operation: u64,
    pub log_start: Offset,
    /// Where the synced files end.
    pub log_end: Offset,
    pub high_watermark: Offset,
    /// Compaction has seen all that lies below.
    pub cleaned: Offset,
    pub producers: Option<ProducerSnapshot>,
    pub epochs: LeaderEpochs,
    pub segments: Vec<(SegmentFacts, IndexFiles)>,
}

impl LogCheckpoint {
    /// A log of which nothing but its creation is known.
    pub(crate) fn created(id: LogId, operation: u64, start: Offset, journalled: bool, folder: &str) -> LogCheckpoint {
        LogCheckpoint {
            id,
            folder: folder.into(),
            journalled,
            operation,
            log_start: start,
            log_end: start,
            high_watermark: start,
            cleaned: start,
            producers: None,
            epochs: LeaderEpochs::new(),
            segments: Vec::new(),
        }
    }
}

/// A file of groups that left the journal before their logs had them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CarriedFile {
    /// Never zero.
    pub number: u64,
    pub groups: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Checkpoint {
    /// Of the journal's life.
    pub salt: u64,
    /// The first group that counts.
    pub from_sequence: u64,
    /// The newest operation's number, over all logs.
    pub operations: u64,
    /// The process stopped in order: nothing behind the checkpoint is in any file.
    pub clean: bool,
    /// What the journal had for logs that could not be written, behind what this checkpoint says of them.
    pub carried: Option<CarriedFile>,
    pub notes: BTreeMap<String, Bytes>,
    pub logs: Vec<LogCheckpoint>,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("the file is no checkpoint")]
    Magic,
    #[error("checkpoint version {version} is newer than {VERSION}")]
    Version { version: u32 },
    #[error("checkpoint crc is {stored:#010x}, its bytes give {computed:#010x}")]
    Crc { stored: u32, computed: u32 },
    #[error("checkpoint ends early: {0}")]
    Short(#[from] Short),
    #[error("checkpoint of a log: {0}")]
    Entry(#[from] EntryError),
    #[error("checkpoint of a log: {0}")]
    Epochs(#[from] EpochsError),
    #[error("checkpoint has the epoch {epoch}")]
    Epoch { epoch: i32 },
    #[error("a note's name is not text")]
    Note,
    #[error("the segments of log {log} are not in order")]
    Segments { log: LogId },
    #[error("{left} bytes follow the checkpoint")]
    Trailing { left: usize },
}

impl Checkpoint {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(4096 + self.logs.len() * 192);
        out.put_slice(MAGIC);
        out.put_u32(VERSION);
        out.put_u64(0);
        out.put_u64(self.salt);
        out.put_u64(self.from_sequence);
        out.put_u64(self.operations);
        out.put_u8(u8::from(self.clean));
        out.put_u64(self.carried.map_or(0, |carried| carried.number));
        out.put_u32(self.carried.map_or(0, |carried| carried.groups));
        put_count(&mut out, self.notes.len());
        for (key, value) in &self.notes {
            put_sized(&mut out, key.as_bytes());
            put_sized(&mut out, value);
        }
        put_count(&mut out, self.logs.len());
        for log in &self.logs {
            put_log(&mut out, log);
        }
        let body = (out.len() - HEAD_BYTES) as u64;
        out[12..HEAD_BYTES].copy_from_slice(&body.to_be_bytes());
        let crc = crc32c(&out);
        out.put_u32(crc);
        out.freeze()
    }

    /// # Errors
    /// On anything but what `encode` writes. No length in the bytes is believed further than they go.
    pub fn decode(bytes: &Bytes) -> Result<Checkpoint, CheckpointError> {
        let mut fields = Fields::new(bytes.clone());
        if fields.array::<8>()? != *MAGIC {
            return Err(CheckpointError::Magic);
        }
        let version = fields.u32()?;
        if version > VERSION {
            return Err(CheckpointError::Version { version });
        }
        let body = usize::try_from(fields.u64()?).unwrap_or(usize::MAX);
        let mut body_fields = Fields::new(fields.take(body)?);
        let stored = fields.u32()?;
        let computed = crc32c(bytes.get(..HEAD_BYTES + body).unwrap_or_default());
        if stored != computed {
            return Err(CheckpointError::Crc { stored, computed });
        }
        if fields.left() > 0 {
            return Err(CheckpointError::Trailing { left: fields.left() });
        }
        decode_body(&mut body_fields, version)
    }
}

const HEAD_BYTES: usize = 20;

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32(u32::try_from(count).expect("fewer than 2^32 things of our own"));
}

fn put_sized(out: &mut BytesMut, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.put_slice(bytes);
}

fn put_log(out: &mut BytesMut, log: &LogCheckpoint) {
    put_log_id(out, log.id);
    put_sized(out, log.folder.as_bytes());
    out.put_u8(u8::from(log.journalled));
    out.put_u64(log.operation);
    out.put_i64(log.log_start.get());
    out.put_i64(log.log_end.get());
    out.put_i64(log.high_watermark.get());
    out.put_i64(log.cleaned.get());
    out.put_i64(log.producers.as_ref().map_or(-1, |producers| producers.offset.get()));
    put_sized(out, log.producers.as_ref().map_or(&[], |producers| &producers.bytes));
    put_count(out, log.epochs.starts().len());
    for (epoch, start) in log.epochs.starts() {
        out.put_i32(epoch.get());
        out.put_i64(start.get());
    }
    put_count(out, log.segments.len());
    for (facts, index) in &log.segments {
        out.put_slice(&segment_bytes(facts, index));
    }
}

/// Bytes of a segment, here and in the journal.
pub(crate) const SEGMENT_BYTES: usize = 57;

pub(crate) fn segment_bytes(facts: &SegmentFacts, index: &IndexFiles) -> [u8; SEGMENT_BYTES] {
    let mut bytes = [0; SEGMENT_BYTES];
    let mut out = &mut bytes[..];
    out.put_i64(facts.base.get());
    out.put_u32(facts.generation);
    out.put_u32(facts.size);
    out.put_i64(facts.first_timestamp_ms);
    out.put_i64(facts.newest.timestamp_ms);
    out.put_i64(facts.newest.offset);
    out.put_u8(u8::from(facts.newest.exact));
    for file in [index.offsets, index.times] {
        out.put_u32(file.entries);
        out.put_u32(file.crc);
    }
    assert!(out.is_empty());
    bytes
}

fn decode_body(fields: &mut Fields, version: u32) -> Result<Checkpoint, CheckpointError> {
    let mut checkpoint = Checkpoint {
        salt: fields.u64()?,
        from_sequence: fields.u64()?,
        operations: fields.u64()?,
        clean: fields.u8()? != 0,
        ..Checkpoint::default()
    };
    if version >= 2 {
        let carried = CarriedFile { number: fields.u64()?, groups: fields.u32()? };
        checkpoint.carried = (carried.number > 0).then_some(carried);
    }
    for _ in 0..fields.u32()? {
        let key = String::from_utf8(fields.sized()?.into()).map_err(|_| CheckpointError::Note)?;
        // A copy: a note lives on, and would keep the whole checkpoint in memory.
        let value = Bytes::copy_from_slice(&fields.sized()?);
        checkpoint.notes.insert(key, value);
    }
    for _ in 0..fields.u32()? {
        checkpoint.logs.push(decode_log(fields, version)?);
    }
    if fields.left() > 0 {
        return Err(CheckpointError::Trailing { left: fields.left() });
    }
    Ok(checkpoint)
}

fn decode_log(fields: &mut Fields, version: u32) -> Result<LogCheckpoint, CheckpointError> {
    let id = log_id(fields)?;
    let folder = folder(fields.sized()?)?;
    let journalled = fields.u8()? != 0;
    let operation = fields.u64()?;
    let (log_start, log_end, high_watermark) = (offset(fields)?, offset(fields)?, offset(fields)?);
    // Before there was compaction, nothing was compacted.
    let cleaned = if version >= 3 { offset(fields)? } else { log_start };
    let producers_offset = fields.i64()?;
    let producers_bytes = Bytes::copy_from_slice(&fields.sized()?);
    let producers =
        Offset::from_wire(producers_offset).map(|offset| ProducerSnapshot { offset, bytes: producers_bytes });
    let mut starts = Vec::new();
    for _ in 0..fields.u32()? {
        let raw = fields.i32()?;
        let epoch = LeaderEpoch::from_wire(raw).ok_or(CheckpointError::Epoch { epoch: raw })?;
        starts.push((epoch, offset(fields)?));
    }
    let epochs = LeaderEpochs::from_starts(starts)?;
    let mut segments: Vec<(SegmentFacts, IndexFiles)> = Vec::new();
    for _ in 0..fields.u32()? {
        let segment = decode_segment(fields, version >= 3)?;
        if segments.last().is_some_and(|(last, _)| last.base >= segment.0.base) {
            return Err(CheckpointError::Segments { log: id });
        }
        segments.push(segment);
    }
    let bounds_hold = log_start <= log_end && segments.last().is_none_or(|(last, _)| last.base <= log_end);
    if !bounds_hold {
        return Err(CheckpointError::Segments { log: id });
    }
    Ok(LogCheckpoint {
        id,
        folder,
        journalled,
        operation,
        log_start,
        log_end,
        high_watermark,
        cleaned,
        producers,
        epochs,
        segments,
    })
}

pub(crate) fn decode_segment(
    fields: &mut Fields,
    has_generation: bool,
) -> Result<(SegmentFacts, IndexFiles), EntryError> {
    let facts = SegmentFacts {
        base: offset(fields)?,
        generation: if has_generation { fields.u32()? } else { 0 },
        size: fields.u32()?,
        first_timestamp_ms: fields.i64()?,
        newest: Newest { timestamp_ms: fields.i64()?, offset: fields.i64()?, exact: fields.u8()? != 0 },
    };
    let mut file = || -> Result<IndexFile, Short> { Ok(IndexFile { entries: fields.u32()?, crc: fields.u32()? }) };
    Ok((facts, IndexFiles { offsets: file()?, times: file()? }))
}

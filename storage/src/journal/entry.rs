//! What the journal says, entry by entry, and how it is written.
//!
//! Owns the entries' layout. Does not own groups (`group`) nor what an entry does to a log (`recovery`).
//! Invariant: the operations of one log have growing numbers, so that a checkpoint can say which of them it covers.
//!
//! ```text
//! entry:  0 kind u8
//!         1 topic id 16, partition u32, log kind u8, operation u64        (all kinds but 0 and 9)
//! then by kind:
//!  0 end of unit   nothing
//!  1 append        segment i64, position u32, size u32, the batch as it is stored
//!  2 direct        segment i64, position u32, size u32, first offset i64, end offset i64, crc32c of the batch's header u32
//!  3 truncate      end offset i64, segment i64, position u32
//!  4 reset         start i64
//!  5 delete before start i64
//!  6 replace       first base i64, last base i64, cleaned i64, is there one u8, { segment as in the checkpoint }
//!  7 create        start i64, journalled u8, name size u32, folder below the data directory
//!  8 delete        nothing
//!  9 note          key size u32, key, value size u32, value
//! ```

use bytes::{BufMut, Bytes};
use model::batch::{StoredBatch, crc32c};
use model::{LogId, LogKind, Offset, PartitionIndex, TopicId, TopicPartition};

use crate::checkpoint::{SEGMENT_BYTES, decode_segment, segment_bytes};
use crate::fields::{Fields, Short};
use crate::offset_index::IndexFiles;
use crate::segment::{Place, SegmentFacts};

/// All or nothing, in order. Most have one entry.
#[derive(Clone, PartialEq, Debug)]
pub struct Unit {
    pub entries: Vec<Entry>,
}

impl Unit {
    pub fn one(entry: Entry) -> Unit {
        Unit { entries: vec![entry] }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub enum Entry {
    Log(LogEntry),
    /// A small named value; the newest one counts.
    Note {
        key: String,
        value: Bytes,
    },
}

/// An operation on one log. Made by the log when it carries the operation out in memory.
#[derive(Clone, PartialEq, Debug)]
pub struct LogEntry {
    pub log: LogId,
    /// Grows from operation to operation, over all logs of a data directory.
    pub operation: u64,
    pub what: LogChange,
}

#[derive(Clone, PartialEq, Debug)]
pub enum LogChange {
    Append {
        at: Place,
        batch: StoredBatch,
    },
    /// `end` is the log's new end; `cut` is where the last segment ends then (`None`: no segment is left).
    Truncate {
        end: Offset,
        cut: Option<Place>,
    },
    /// All is dropped; the log begins again at `start`.
    Reset {
        start: Offset,
    },
    DeleteBefore {
        start: Offset,
    },
    /// Compaction has put `new`, or nothing, in the place of the segments with bases from `first` to `last`. The file of `new` is
    /// durable already.
    Replace {
        first: Offset,
        last: Offset,
        cleaned: Offset,
        new: Option<Box<(SegmentFacts, IndexFiles)>>,
    },
    Create {
        start: Offset,
        journalled: bool,
        folder: String,
    },
    Delete,
}

impl Entry {
    /// What it takes in a group, when it is not written directly.
    pub(crate) fn size(&self) -> usize {
        match self {
            Entry::Note { key, value } => 9 + key.len() + value.len(),
            Entry::Log(entry) => {
                LOG_HEAD_BYTES
                    + match &entry.what {
                        LogChange::Append { batch, .. } => 16 + batch.size(),
                        LogChange::Truncate { .. } => 20,
                        LogChange::Reset { .. } | LogChange::DeleteBefore { .. } => 8,
                        LogChange::Replace { new, .. } => 25 + new.as_ref().map_or(0, |_| SEGMENT_BYTES),
                        LogChange::Create { folder, .. } => 13 + folder.len(),
                        LogChange::Delete => 0,
                    }
            }
        }
    }
}

/// Bytes of kind, log and operation.
const LOG_HEAD_BYTES: usize = 30;
/// Bytes of an append whose batch goes to the segment alone.
pub(crate) const DIRECT_BYTES: usize = LOG_HEAD_BYTES + 36;

pub(super) const END_OF_UNIT: u8 = 0;
const APPEND: u8 = 1;
const DIRECT: u8 = 2;
const TRUNCATE: u8 = 3;
const RESET: u8 = 4;
const DELETE_BEFORE: u8 = 5;
const REPLACE: u8 = 6;
const CREATE: u8 = 7;
const DELETE: u8 = 8;
const NOTE: u8 = 9;
/// Stands for "no segment is left" in a truncation.
const NO_SEGMENT: i64 = -1;

/// Where encoded entries go: the group's buffer.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for crate::disk::AlignedBuf {
    fn put(&mut self, bytes: &[u8]) {
        crate::disk::AlignedBuf::put(self, bytes);
    }
}

/// Encodes one entry. `direct`: the bytes of an append go to the segment alone, the journal gets their place and CRC.
pub(crate) fn encode(entry: &Entry, direct: bool, out: &mut impl Sink) {
    match entry {
        Entry::Note { key, value } => {
            out.put(&[NOTE]);
            put_sized(out, key.as_bytes());
            put_sized(out, value);
        }
        Entry::Log(entry) => encode_log(entry, direct, out),
    }
}

fn encode_log(entry: &LogEntry, direct: bool, out: &mut impl Sink) {
    let mut head = [0; 128];
    let mut put = &mut head[..];
    let room = put.len();
    let kind = match &entry.what {
        LogChange::Append { .. } if direct => DIRECT,
        LogChange::Append { .. } => APPEND,
        LogChange::Truncate { .. } => TRUNCATE,
        LogChange::Reset { .. } => RESET,
        LogChange::DeleteBefore { .. } => DELETE_BEFORE,
        LogChange::Replace { .. } => REPLACE,
        LogChange::Create { .. } => CREATE,
        LogChange::Delete => DELETE,
    };
    put.put_u8(kind);
    put_log_id(&mut put, entry.log);
    put.put_u64(entry.operation);
    match &entry.what {
        LogChange::Append { at, batch } => {
            put_place(&mut put, *at);
            put.put_u32(u32::try_from(batch.size()).expect("BATCH_BYTES_MAX"));
            if direct {
                put.put_i64(batch.base_offset().get());
                put.put_i64(batch.next_offset().get());
                put.put_u32(crc_of(batch));
            } else {
                put.put_slice(&batch.head());
            }
        }
        LogChange::Truncate { end, cut } => {
            put.put_i64(end.get());
            put.put_i64(cut.map_or(NO_SEGMENT, |cut| cut.segment.get()));
            put.put_u32(cut.map_or(0, |cut| cut.position));
        }
        LogChange::Reset { start } | LogChange::DeleteBefore { start } => put.put_i64(start.get()),
        LogChange::Replace { first, last, cleaned, new } => {
            put.put_i64(first.get());
            put.put_i64(last.get());
            put.put_i64(cleaned.get());
            put.put_u8(u8::from(new.is_some()));
            if let Some((facts, index)) = new.as_deref() {
                put.put_slice(&segment_bytes(facts, index));
            }
        }
        LogChange::Create { start, journalled, folder } => {
            put.put_i64(start.get());
            put.put_u8(u8::from(*journalled));
            put.put_u32(u32::try_from(folder.len()).expect("a folder's name is short"));
        }
        LogChange::Delete => {}
    }
    let len = room - put.len();
    out.put(&head[..len]);
    match &entry.what {
        LogChange::Append { batch, .. } if !direct => out.put(batch.body()),
        LogChange::Create { folder, .. } => out.put(folder.as_bytes()),
        _ => {}
    }
}

/// CRC-32C of a batch's header as it stands in its segment. The header holds the CRC of all that follows, so this vouches for the
/// whole batch without reading it again.
pub(crate) fn crc_of(batch: &StoredBatch) -> u32 {
    crc32c(&batch.header().to_bytes())
}

fn put_sized(out: &mut impl Sink, bytes: &[u8]) {
    out.put(&u32::try_from(bytes.len()).expect("our own short value").to_be_bytes());
    out.put(bytes);
}

pub(crate) fn put_log_id(out: &mut impl BufMut, log: LogId) {
    out.put_slice(&log.partition.topic.0);
    out.put_u32(log.partition.partition.get());
    out.put_u8(log.kind.0);
}

pub(crate) fn put_place(out: &mut impl BufMut, place: Place) {
    out.put_i64(place.segment.get());
    out.put_u32(place.position);
}

/// An entry as it is read back: batches are not parsed yet.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Replayed {
    EndOfUnit,
    Note { key: String, value: Bytes },
    Log { log: LogId, operation: u64, what: ReplayedChange },
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum ReplayedChange {
    Append { at: Place, bytes: Bytes },
    Direct { at: Place, direct: DirectRange },
    Truncate { end: Offset, cut: Option<Place> },
    Reset { start: Offset },
    DeleteBefore { start: Offset },
    Replace { first: Offset, last: Offset, cleaned: Offset, new: Option<Box<(SegmentFacts, IndexFiles)>> },
    Create { start: Offset, journalled: bool, folder: String },
    Delete,
}

/// Bytes that went to a segment alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DirectRange {
    pub(crate) size: u32,
    pub(crate) first: Offset,
    pub(crate) end: Offset,
    pub(crate) crc: u32,
}

/// Why an entry of a group whose CRC is right cannot be read: another version wrote it, or it is our mistake.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EntryError {
    #[error("entry ends early: {0}")]
    Short(#[from] Short),
    #[error("entry kind {kind} is unknown")]
    Kind { kind: u8 },
    #[error("entry has the negative offset {offset}")]
    Offset { offset: i64 },
    #[error("entry has the partition {partition}")]
    Partition { partition: u32 },
    #[error("a name in an entry is not text")]
    Text,
    #[error("a group of {says} units has another number of them")]
    Units { says: u32 },
    #[error("a folder in an entry leaves the data directory")]
    Folder,
}

pub(crate) fn decode(fields: &mut Fields) -> Result<Replayed, EntryError> {
    let kind = fields.u8()?;
    match kind {
        END_OF_UNIT => return Ok(Replayed::EndOfUnit),
        NOTE => {
            let key = text(fields.sized()?)?;
            return Ok(Replayed::Note { key, value: fields.sized()? });
        }
        _ => {}
    }
    let log = log_id(fields)?;
    let operation = fields.u64()?;
    let what = match kind {
        APPEND => {
            let at = place(fields)?;
            ReplayedChange::Append { at, bytes: fields.sized()? }
        }
        DIRECT => {
            let at = place(fields)?;
            let size = fields.u32()?;
            let (first, end) = (offset(fields)?, offset(fields)?);
            ReplayedChange::Direct { at, direct: DirectRange { size, first, end, crc: fields.u32()? } }
        }
        TRUNCATE => {
            let end = offset(fields)?;
            let segment = fields.i64()?;
            let position = fields.u32()?;
            let cut = match segment {
                NO_SEGMENT => None,
                segment => {
                    let segment = Offset::from_wire(segment).ok_or(EntryError::Offset { offset: segment })?;
                    Some(Place { segment, position })
                }
            };
            ReplayedChange::Truncate { end, cut }
        }
        RESET => ReplayedChange::Reset { start: offset(fields)? },
        DELETE_BEFORE => ReplayedChange::DeleteBefore { start: offset(fields)? },
        REPLACE => {
            let (first, last, cleaned) = (offset(fields)?, offset(fields)?, offset(fields)?);
            let new = if fields.u8()? == 0 { None } else { Some(Box::new(decode_segment(fields, true)?)) };
            ReplayedChange::Replace { first, last, cleaned, new }
        }
        CREATE => {
            let start = offset(fields)?;
            let journalled = fields.u8()? != 0;
            ReplayedChange::Create { start, journalled, folder: folder(fields.sized()?)? }
        }
        DELETE => ReplayedChange::Delete,
        kind => return Err(EntryError::Kind { kind }),
    };
    Ok(Replayed::Log { log, operation, what })
}

pub(crate) fn log_id(fields: &mut Fields) -> Result<LogId, EntryError> {
    let topic = TopicId(fields.array()?);
    let partition = fields.u32()?;
    let wire = i32::try_from(partition).map_err(|_| EntryError::Partition { partition })?;
    let partition = PartitionIndex::from_wire(wire).ok_or(EntryError::Partition { partition })?;
    Ok(LogId { partition: TopicPartition { topic, partition }, kind: LogKind(fields.u8()?) })
}

pub(crate) fn offset(fields: &mut Fields) -> Result<Offset, EntryError> {
    let raw = fields.i64()?;
    Offset::from_wire(raw).ok_or(EntryError::Offset { offset: raw })
}

pub(crate) fn place(fields: &mut Fields) -> Result<Place, EntryError> {
    Ok(Place { segment: offset(fields)?, position: fields.u32()? })
}

fn text(bytes: Bytes) -> Result<String, EntryError> {
    String::from_utf8(bytes.into()).map_err(|_| EntryError::Text)
}

/// A folder below the data directory: no byte of the disk may lead out of it.
pub(crate) fn folder(bytes: Bytes) -> Result<String, EntryError> {
    let folder = text(bytes)?;
    let leaves = |part: &str| matches!(part, "" | "." | "..") || part.contains('\0');
    if folder.split('/').any(leaves) { Err(EntryError::Folder) } else { Ok(folder) }
}

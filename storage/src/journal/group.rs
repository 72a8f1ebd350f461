//! One group as it is written: an aligned run of units behind a header.
//!
//! Owns the layout, and reading groups back. Does not own entries (`entry`) nor what a missing group means (`recovery`).
//! Invariant: a group that reads back is one that was written whole in this life of the journal: salt and CRC say so.
//!
//! ```text
//!  0 magic "weirjrn1"          8
//!  8 salt of the journal's life u64
//! 16 sequence                   u64
//! 24 known durable              u64   the newest group known to be durable when this one was written
//! 32 length                     u32   of header and entries, without the padding to 4096
//! 36 units                      u32
//! 40 crc32c                     u32   of bytes 0..40 and of all entries
//! 44 entries; each unit ends with an entry of kind 0
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use model::{LogId, limits};

use super::entry::{self, END_OF_UNIT, Entry, EntryError, LogChange, LogEntry, Replayed, Unit};
use crate::disk::AlignedBuf;
use crate::fields::Fields;

pub(crate) const HEAD_BYTES: usize = 44;
const CRC_AT: usize = 40;
/// What one group may send beside the journal.
const DIRECT_BYTES_MAX: u64 = 64 * 1024 * 1024;
const MAGIC: &[u8; 8] = b"weirjrn1";

/// Whether the bytes of this entry go to the segment alone.
pub(super) fn goes_direct(entry: &Entry, direct: &BTreeSet<LogId>) -> bool {
    match entry {
        Entry::Log(entry) => matches!(entry.what, LogChange::Append { .. }) && direct.contains(&entry.log),
        Entry::Note { .. } => false,
    }
}

pub(super) fn unit_size(unit: &Unit, direct: &BTreeSet<LogId>) -> usize {
    let size = |entry: &Entry| if goes_direct(entry, direct) { entry::DIRECT_BYTES } else { entry.size() };
    unit.entries.iter().map(size).sum::<usize>() + 1
}

/// How many units from the front fit in one group and in `room`, and the bytes of that group.
pub(super) fn count_units(queue: &VecDeque<Unit>, room: u64, direct: &BTreeSet<LogId>) -> (usize, usize) {
    let (mut bytes, mut count) = (HEAD_BYTES, 0);
    for unit in queue {
        let next = bytes + unit_size(unit, direct);
        let padded = next.next_multiple_of(AlignedBuf::ALIGN) as u64;
        // A single unit may be larger than a group should be.
        if padded > room || (count > 0 && padded > limits::JOURNAL_GROUP_BYTES_MAX) {
            break;
        }
        bytes = next;
        count += 1;
    }
    (count, bytes)
}

/// Logs that give so much to the next group that their bytes should go to their segments alone, and the operations of these appends.
pub(super) fn direct_candidates(queue: &VecDeque<Unit>, room: u64) -> Vec<(LogId, Vec<u64>)> {
    let mut logs: BTreeMap<LogId, (u64, Vec<u64>)> = BTreeMap::new();
    let (mut journal_bytes, mut direct_bytes) = (0, 0);
    for entry in queue.iter().flat_map(|unit| &unit.entries) {
        match entry {
            Entry::Log(LogEntry { log, operation, what: LogChange::Append { batch, .. } }) => {
                let (bytes, operations) = logs.entry(*log).or_default();
                *bytes += batch.size() as u64;
                operations.push(*operation);
                journal_bytes += entry.size() as u64;
                if *bytes >= limits::JOURNAL_DIRECT_BYTES {
                    // All of this log leaves the journal.
                    let now = if *bytes - (batch.size() as u64) < limits::JOURNAL_DIRECT_BYTES {
                        *bytes
                    } else {
                        batch.size() as u64
                    };
                    journal_bytes = journal_bytes.saturating_sub(now);
                    direct_bytes += now;
                }
            }
            _ => journal_bytes += entry.size() as u64,
        }
        if journal_bytes > room.min(limits::JOURNAL_GROUP_BYTES_MAX) || direct_bytes > DIRECT_BYTES_MAX {
            break;
        }
    }
    let large = logs.into_iter().filter(|(_, (bytes, _))| *bytes >= limits::JOURNAL_DIRECT_BYTES);
    large.map(|(log, (_, operations))| (log, operations)).collect()
}

/// Builds a group in the buffer that is handed to the disk: each batch is copied once.
pub(super) struct Writer {
    buffer: AlignedBuf,
    units: u32,
}

impl Writer {
    pub(super) fn new(salt: u64, sequence: u64, durable: u64, mut buffer: AlignedBuf) -> Writer {
        buffer.put(MAGIC);
        buffer.put(&salt.to_be_bytes());
        buffer.put(&sequence.to_be_bytes());
        buffer.put(&durable.to_be_bytes());
        buffer.put(&[0; HEAD_BYTES - 32]);
        Writer { buffer, units: 0 }
    }

    pub(super) fn entry(&mut self, entry: &Entry, direct: bool) {
        entry::encode(entry, direct, &mut self.buffer);
    }

    /// An entry as it stands in another group.
    fn copied(&mut self, entry: &[u8]) {
        self.buffer.put(entry);
    }

    pub(super) fn end_unit(&mut self) {
        self.buffer.put(&[END_OF_UNIT]);
        self.units += 1;
    }

    pub(super) fn finish(mut self) -> AlignedBuf {
        let len = u32::try_from(self.buffer.len()).expect("a group is far smaller than 4 GiB");
        let bytes = self.buffer.bytes_mut();
        bytes[32..36].copy_from_slice(&len.to_be_bytes());
        bytes[36..40].copy_from_slice(&self.units.to_be_bytes());
        let crc = crc_of(bytes);
        bytes[CRC_AT..HEAD_BYTES].copy_from_slice(&crc.to_be_bytes());
        self.buffer.pad();
        self.buffer
    }
}

fn crc_of(bytes: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(bytes.get(..CRC_AT).unwrap_or_default());
    digest.update(bytes.get(HEAD_BYTES..).unwrap_or_default());
    u32::try_from(digest.finalize()).expect("a 32-bit CRC")
}

/// A header that may be one of ours; the CRC is not checked yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub(crate) sequence: u64,
    pub(crate) known_durable: u64,
    pub(crate) length: u32,
    units: u32,
    crc: u32,
}

impl Head {
    /// `None` when the bytes do not begin a group of this life.
    pub(crate) fn parse(bytes: &Bytes, salt: u64) -> Option<Head> {
        let mut fields = Fields::new(bytes.clone());
        let magic: [u8; 8] = fields.array().ok()?;
        if magic != *MAGIC || fields.u64().ok()? != salt {
            return None;
        }
        let head = Head {
            sequence: fields.u64().ok()?,
            known_durable: fields.u64().ok()?,
            length: fields.u32().ok()?,
            units: fields.u32().ok()?,
            crc: fields.u32().ok()?,
        };
        (head.length as usize >= HEAD_BYTES).then_some(head)
    }

    /// Whether these are the group's bytes, header included.
    pub(crate) fn is_whole(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.length as usize && crc_of(bytes) == self.crc
    }

    pub(crate) fn padded(&self) -> u64 {
        u64::from(self.length).next_multiple_of(AlignedBuf::ALIGN as u64)
    }

    /// The units of a group that is whole.
    pub(crate) fn units(&self, bytes: &Bytes) -> Result<Vec<Vec<Replayed>>, EntryError> {
        let mut fields = Fields::new(bytes.slice(HEAD_BYTES.min(bytes.len())..));
        let mut units = Vec::new();
        let mut unit = Vec::new();
        while fields.left() > 0 {
            match entry::decode(&mut fields)? {
                Replayed::EndOfUnit => units.push(std::mem::take(&mut unit)),
                entry => unit.push(entry),
            }
        }
        if !unit.is_empty() || units.len() != self.units as usize {
            return Err(EntryError::Units { says: self.units });
        }
        Ok(units)
    }

    /// This group with the entries that `wanted` says yes to, or `None` when it does to none.
    pub(super) fn filtered(
        &self,
        bytes: &Bytes,
        salt: u64,
        wanted: &mut dyn FnMut(&Replayed) -> bool,
    ) -> Result<Option<AlignedBuf>, EntryError> {
        let mut fields = Fields::new(bytes.slice(HEAD_BYTES.min(bytes.len())..));
        let mut writer: Option<Writer> = None;
        let mut is_open = false;
        while fields.left() > 0 {
            let at = bytes.len() - fields.left();
            let entry = entry::decode(&mut fields)?;
            if entry == Replayed::EndOfUnit {
                if let Some(writer) = writer.as_mut().filter(|_| is_open) {
                    writer.end_unit();
                }
                is_open = false;
            } else if wanted(&entry) {
                let writer = writer.get_or_insert_with(|| {
                    Writer::new(salt, self.sequence, self.known_durable, AlignedBuf::with_capacity(0))
                });
                writer.copied(bytes.get(at..bytes.len() - fields.left()).unwrap_or_default());
                is_open = true;
            }
        }
        Ok(writer.map(Writer::finish))
    }
}

//! Carries out a planned read, without the log's lock.
//!
//! Owns finding the first batch (index, then headers) and cutting what was read at whole batches. Does not own what may be read: the
//! plan says so.
//! Invariant: what is given is a run of whole batches in offset order, each with the CRC that it was written with, so damage is an error
//! and not an answer: what is whole before it is given first, and the read that begins with it fails. Nothing at or beyond the limit is
//! given.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use model::batch::{BatchHeader, HEADER_BYTES, StoredBatch, crc32c, peek};
use model::{Offset, limits};

use crate::disk::{Disk, DiskError, FileId, ReadMode};
use crate::index_reader;
use crate::log::parts;
use crate::offset_index::{IndexFiles, LoadedIndex, SegmentIndex};
use crate::segment::{Newest, Place, SegmentName};

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    #[error("offset {got} lies below the start {start}")]
    BelowStart { start: Offset, got: Offset },
    #[error("offset {got} lies above the limit {limit}; the log ends at {end}")]
    AboveLimit { limit: Offset, end: Offset, got: Offset },
    #[error("the segment {segment} holds bytes at {at} that are no batch of it")]
    Corrupt { segment: Offset, at: u64 },
    /// It is as it was written: the disk is not to blame.
    #[error("a batch in the segment {segment} has the right checksum, but its records cannot be read")]
    Records { segment: Offset },
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A read that was planned under the log's lock. Holds on to tail batches, names files.
#[derive(Debug)]
pub struct ReadPlan {
    pub(crate) from: Offset,
    pub(crate) limit: Offset,
    pub(crate) bytes_max: usize,
    pub(crate) files: Vec<FilePart>,
    pub(crate) tail: Vec<StoredBatch>,
}

/// What a file holds of one segment.
#[derive(Debug)]
pub(crate) struct FilePart {
    pub(crate) base: Offset,
    pub(crate) generation: u32,
    pub(crate) dir: Arc<Path>,
    pub(crate) data: FileId,
    /// Bytes that are written.
    pub(crate) end: u32,
    pub(crate) newest: Newest,
    pub(crate) index: SegmentIndex,
}

/// An index that had to be loaded; hand it to `Log::learn`, and to whoever decides how many may stay.
#[derive(Clone, Debug)]
pub struct Learned {
    pub(crate) base: Offset,
    pub(crate) files: IndexFiles,
    pub(crate) index: Arc<LoadedIndex>,
}

impl Learned {
    /// The segment's base offset.
    pub fn segment(&self) -> Offset {
        self.base
    }

    pub fn index(&self) -> &Arc<LoadedIndex> {
        &self.index
    }
}

/// What was read: logically one run of whole batches.
#[derive(Debug, Default)]
pub struct Read {
    pub pieces: Vec<Bytes>,
    pub bytes: usize,
    /// Behind the last batch; `None` when nothing was read.
    pub next: Option<Offset>,
    pub learned: Vec<Learned>,
}

/// The first batch that holds or follows an offset.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) base: Offset,
    pub(crate) at: Place,
}

impl ReadPlan {
    /// Whether it needs no file.
    pub fn is_in_memory(&self) -> bool {
        self.files.is_empty()
    }

    /// Behind the last batch that it takes from memory; a plan that needs no file gives all of these.
    pub fn memory_end(&self) -> Option<Offset> {
        self.tail.last().map(StoredBatch::next_offset)
    }

    /// Of the batches that it takes from memory.
    pub fn memory_bytes(&self) -> u64 {
        self.tail.iter().map(|batch| u64::try_from(batch.size()).unwrap_or(u64::MAX)).sum()
    }

    /// What a plan that needs no file gives, small batches copied together.
    ///
    /// # Panics
    /// When it needs a file.
    pub fn memory_pieces(self) -> Vec<Bytes> {
        assert!(self.is_in_memory());
        parts(&self.tail)
    }

    /// Reads. With `CachedOnly` it fails with `NotCached` when a byte is not in the page cache; run it again on a thread that may wait.
    ///
    /// # Errors
    /// When the disk fails or a segment holds bytes that are no batch.
    pub fn run(&self, disk: &dyn Disk, mode: ReadMode) -> Result<Read, ReadError> {
        let mut read = Read::default();
        for part in &self.files {
            if read.bytes >= self.bytes_max && read.bytes > 0 {
                return Ok(read);
            }
            match self.read_part(disk, mode, part, &mut read) {
                Ok(true) => {}
                Ok(false) => return Ok(read),
                // The next read begins there.
                Err(ReadError::Corrupt { .. }) if read.bytes > 0 => return Ok(read),
                Err(error) => return Err(error),
            }
        }
        let mut batches = Vec::new();
        for batch in &self.tail {
            let follows = read.next.is_none_or(|next| batch.base_offset() >= next);
            if !follows || (read.bytes > 0 && read.bytes + batch.size() > self.bytes_max) {
                break;
            }
            read.bytes += batch.size();
            read.next = Some(batch.next_offset());
            batches.push(batch.clone());
        }
        read.pieces.extend(parts(&batches));
        Ok(read)
    }

    /// False when the read is complete.
    fn read_part(&self, disk: &dyn Disk, mode: ReadMode, part: &FilePart, read: &mut Read) -> Result<bool, ReadError> {
        let mut position = match read.next {
            Some(_) => 0,
            None => match part.find(disk, mode, self.from, &mut read.learned)? {
                Some(found) => found.at.position,
                None => return Ok(true),
            },
        };
        while position < part.end {
            let room = self.bytes_max.saturating_sub(read.bytes);
            if room == 0 && read.bytes > 0 {
                return Ok(false);
            }
            let wish = Wish {
                position,
                after: read.next.map(|next| next.get() - 1),
                room,
                limit: self.limit,
                first: read.bytes == 0,
            };
            let Some(chunk) = part.read_batches(disk, mode, wish)? else {
                return Ok(false);
            };
            position += u32::try_from(chunk.bytes.len()).unwrap_or(u32::MAX);
            read.bytes += chunk.bytes.len();
            read.next = Some(chunk.next);
            read.pieces.push(chunk.bytes);
            if chunk.complete {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The batch that holds `from`, or the next one.
    pub(crate) fn find_first(&self, disk: &dyn Disk, mode: ReadMode) -> Result<Found, ReadError> {
        for part in &self.files {
            if let Some(found) = part.find(disk, mode, self.from, &mut Vec::new())? {
                return Ok(found);
            }
        }
        let segment = self.files.first().map_or(self.from, |part| part.base);
        Err(ReadError::Corrupt { segment, at: 0 })
    }
}

/// Where the bytes begin that a batch's CRC covers.
const CRC_COVERS_FROM: usize = 21;

fn is_intact(batch: &[u8], header: &BatchHeader) -> bool {
    batch.get(CRC_COVERS_FROM..).is_some_and(|covered| crc32c(covered) == header.crc)
}

/// Which batches of one segment are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) position: u32,
    /// The last offset before `position`, where it is known: what comes must be behind it.
    pub(crate) after: Option<i64>,
    pub(crate) room: usize,
    pub(crate) limit: Offset,
    /// One batch is given however large it is.
    pub(crate) first: bool,
}

/// Whole batches of one segment.
pub(crate) struct Chunk {
    pub(crate) bytes: Bytes,
    next: Offset,
    /// The limit or the bound of bytes was met.
    complete: bool,
}

impl FilePart {
    pub(crate) fn name(&self) -> SegmentName {
        SegmentName { base: self.base, generation: self.generation }
    }

    pub(crate) fn corrupt(&self, at: u32) -> ReadError {
        ReadError::Corrupt { segment: self.base, at: u64::from(at) }
    }

    /// The first batch whose last offset is at least `from`.
    pub(crate) fn find(
        &self,
        disk: &dyn Disk,
        mode: ReadMode,
        from: Offset,
        learned: &mut Vec<Learned>,
    ) -> Result<Option<Found>, ReadError> {
        let hint = index_reader::position_for(self, disk, mode, from, learned)?;
        let mut found = None;
        self.walk(disk, mode, hint, &mut |at, header| {
            let Some(base) = Offset::from_wire(header.base_offset) else { return true };
            if header.last_offset() >= from.get() {
                found = Some(Found { base, at: Place { segment: self.base, position: at } });
            }
            found.is_some()
        })?;
        Ok(found)
    }

    /// Walks the headers from `position` on until `stop` says so or the part ends.
    pub(crate) fn walk(
        &self,
        disk: &dyn Disk,
        mode: ReadMode,
        position: u32,
        stop: &mut dyn FnMut(u32, &BatchHeader) -> bool,
    ) -> Result<(), ReadError> {
        // Enough for who has found its place in an index.
        const FIRST_BYTES: u32 = 16 * 1024;
        // Behind that headers lie close together, or each behind so much that only itself is worth reading.
        const WALK_BYTES: u32 = 256 * 1024;
        let mut position = position;
        let mut wanted = FIRST_BYTES;
        let mut last_offset = None;
        let mut buffer = Vec::new();
        while position < self.end {
            let len = wanted.min(self.end - position) as usize;
            buffer.resize(len, 0);
            let got = disk.read_at(self.data, u64::from(position), &mut buffer, mode)?;
            let mut at = 0;
            loop {
                let rest = buffer.get(at..got).unwrap_or_default();
                let here = position.saturating_add(u32::try_from(at).unwrap_or(u32::MAX));
                if rest.len() < HEADER_BYTES {
                    if at == 0 {
                        return Err(self.corrupt(here));
                    }
                    position = here;
                    break;
                }
                let (header, next) = self.header_at(rest, here)?;
                self.check_order(&header, here, last_offset)?;
                last_offset = Some(header.last_offset());
                wanted = if next - here < WALK_BYTES { WALK_BYTES } else { FIRST_BYTES };
                if stop(here, &header) {
                    return Ok(());
                }
                at = at.saturating_add(header.size());
                if next >= self.end || at > got {
                    position = next;
                    break;
                }
            }
        }
        Ok(())
    }

    /// The header at `here`, checked against its segment, and where the next one begins.
    fn header_at(&self, bytes: &[u8], here: u32) -> Result<(BatchHeader, u32), ReadError> {
        let header = peek(bytes).ok().flatten().ok_or_else(|| self.corrupt(here))?;
        let size = u32::try_from(header.size()).map_err(|_| self.corrupt(here))?;
        let next = here.checked_add(size).filter(|next| *next <= self.end).ok_or_else(|| self.corrupt(here))?;
        let plausible = header.base_offset >= self.base.get() && header.last_offset_delta >= 0;
        if !plausible || header.size() as u64 > limits::BATCH_BYTES_MAX {
            return Err(self.corrupt(here));
        }
        Ok((header, next))
    }

    /// The base offset is not covered by the CRC: where two batches are out of order, either may be the damaged one.
    fn check_order(&self, header: &BatchHeader, here: u32, last_offset: Option<i64>) -> Result<(), ReadError> {
        if last_offset.is_some_and(|last| header.base_offset <= last) { Err(self.corrupt(here)) } else { Ok(()) }
    }

    /// Whole batches, as many as there is room for. `None`: not even one. They end before bytes that are no batch; where these come first, or
    /// offsets are out of order, that is the error.
    pub(crate) fn read_batches(&self, disk: &dyn Disk, mode: ReadMode, wish: Wish) -> Result<Option<Chunk>, ReadError> {
        const READ_BYTES_MAX: usize = 1 << 20;
        let Wish { position, after, room, limit, first } = wish;
        let left = (self.end - position) as usize;
        let wanted = room.clamp(HEADER_BYTES.min(left), READ_BYTES_MAX).min(left);
        let mut bytes = self.read(disk, mode, position, wanted)?;
        let (mut header, _) = self.header_at(&bytes, position)?;
        if header.size() > bytes.len() {
            if header.size() > room && !first {
                return Ok(None);
            }
            bytes = self.read(disk, mode, position, header.size())?;
            (header, _) = self.header_at(&bytes, position)?;
        }
        let (mut at, mut here, mut next, mut complete, mut last_offset) = (0, position, None, false, after);
        loop {
            self.check_order(&header, here, last_offset)?;
            let beyond = header.last_offset() >= limit.get();
            let Some(batch) = bytes.get(at..at + header.size()) else {
                complete = beyond;
                break;
            };
            // What the device holds may be other than what was written: nothing of that is handed out.
            if !is_intact(batch, &header) {
                match at {
                    0 => return Err(self.corrupt(here)),
                    _ => break,
                }
            }
            // Only now: a header that is damaged may name any offset.
            if beyond {
                complete = true;
                break;
            }
            at += header.size();
            last_offset = Some(header.last_offset());
            next = Offset::from_wire(header.next_offset());
            let rest = bytes.get(at..).filter(|rest| rest.len() >= HEADER_BYTES);
            here = position.saturating_add(u32::try_from(at).unwrap_or(u32::MAX));
            match rest.map(|rest| self.header_at(rest, here)) {
                Some(Ok(found)) => header = found.0,
                Some(Err(_)) | None => break,
            }
        }
        let Some(next) = next else { return Ok(None) };
        bytes.truncate(at);
        Ok(Some(Chunk { bytes, next, complete }))
    }

    pub(crate) fn read(&self, disk: &dyn Disk, mode: ReadMode, position: u32, len: usize) -> Result<Bytes, ReadError> {
        let mut buffer = Vec::with_capacity(len);
        disk.read_append(self.data, u64::from(position), len, &mut buffer, mode)?;
        if buffer.len() < len {
            return Err(self.corrupt(position));
        }
        Ok(buffer.into())
    }
}

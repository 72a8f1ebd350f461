//! Where the bytes of records come from: a slice, or a decoder that gives them piece by piece.
//!
//! Owns bounds and refilling, so that one walk over the fields of a record serves both.
//! Invariant: between `begin` and the next `begin`, no more bytes are taken than the record's length says.
//! Invariant: a `StreamSource` holds 16 KiB, and more only for a record that is asked for in one piece.

use super::{RecordError, varint};
use crate::codec::{CodecError, Decoder, DecompressLimits};
use model::batch::Codec;

const BUFFER_BYTES: usize = 16 * 1024;
const VARINT_BYTES_MAX: usize = 10;

/// A [`RecordError`] that does not know yet at which record it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Varint,
    Length {
        length: i32,
        left: usize,
    },
    TooLarge {
        length: usize,
        limit: usize,
    },
    /// No byte is left where a record should begin.
    End,
    Codec(CodecError),
}

impl Fault {
    /// Where a field of record `index` was read.
    #[cold]
    pub(super) fn at(self, index: i32) -> RecordError {
        match self {
            Fault::Varint | Fault::End => RecordError::Varint { index },
            Fault::Length { length, left } => RecordError::Length { index, length, left },
            Fault::TooLarge { length, limit } => RecordError::TooLarge { index, length, limit },
            Fault::Codec(error) => RecordError::Codec(error),
        }
    }

    /// Where record `index` should begin: then the end means that the batch has too few.
    #[cold]
    pub(super) fn of_count(self, index: i32, header_says: i32) -> RecordError {
        match self {
            Fault::End => RecordError::Count { header_says, found: index },
            other => other.at(index),
        }
    }
}

/// A record that has nothing special about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain {
    pub(super) timestamp_delta: i64,
    pub(super) has_key: bool,
    /// As its length says.
    pub(super) bytes: usize,
}

/// Reads a whole record without headers from the front, if `bytes` holds it and it is right in every field; says what
/// is behind it. `None` decides nothing: the careful way then finds what is special or wrong.
/// (One function without errors to carry costs a third of the careful way, and nearly all records are such.)
#[inline(always)]
fn take_plain(bytes: &[u8], offset_delta: i32) -> Option<(Plain, &[u8])> {
    let mut rest = bytes;
    let length = usize::try_from(varint::take(&mut rest)?).ok()?;
    let (mut body, rest) = rest.split_at_checked(length)?;
    body = body.get(1..)?;
    let timestamp_delta = varint::take(&mut body)?;
    if varint::take(&mut body)? != i64::from(offset_delta) {
        return None;
    }
    let key = varint::take(&mut body)?;
    if key != -1 {
        body = body.get(usize::try_from(key).ok()?..)?;
    }
    let value = varint::take(&mut body)?;
    if value != -1 {
        body = body.get(usize::try_from(value).ok()?..)?;
    }
    // A header count of zero, and the end.
    (body == [0]).then_some((Plain { timestamp_delta, has_key: key != -1, bytes: length }, rest))
}

/// Bytes of records. `begin` enters one; the others stay inside it.
pub(super) trait Source {
    /// Reads the length of the next record.
    fn begin(&mut self) -> Result<(), Fault>;
    fn varlong(&mut self) -> Result<i64, Fault>;
    fn skip(&mut self, bytes: usize) -> Result<(), Fault>;
    /// Bytes of this record that were not taken yet.
    fn left(&self) -> usize;
    /// Whether nothing follows the record.
    fn is_at_end(&mut self) -> Result<bool, Fault>;
    /// Takes a whole plain record with this offset delta, or nothing at all.
    fn take_plain(&mut self, offset_delta: i32) -> Option<Plain>;

    #[inline]
    fn varint(&mut self) -> Result<i32, Fault> {
        i32::try_from(self.varlong()?).map_err(|_| Fault::Varint)
    }
}

pub(super) struct SliceSource<'a> {
    /// Behind the record.
    rest: &'a [u8],
    /// What is left of the record.
    body: &'a [u8],
}

impl<'a> SliceSource<'a> {
    pub(super) fn new(records: &'a [u8]) -> SliceSource<'a> {
        SliceSource { rest: records, body: &[] }
    }

    /// As if `begin` had just entered a record with this body.
    pub(super) fn inside(body: &'a [u8]) -> SliceSource<'a> {
        SliceSource { rest: &[], body }
    }

    pub(super) fn left_bytes(&self) -> &'a [u8] {
        self.body
    }

    pub(super) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.body)
    }
}

impl Source for SliceSource<'_> {
    #[inline]
    fn begin(&mut self) -> Result<(), Fault> {
        if self.rest.is_empty() {
            return Err(Fault::End);
        }
        let length = varint::take(&mut self.rest).and_then(|long| i32::try_from(long).ok()).ok_or(Fault::Varint)?;
        let split = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let (body, rest) = split.ok_or(Fault::Length { length, left: self.rest.len() })?;
        (self.body, self.rest) = (body, rest);
        Ok(())
    }

    #[inline]
    fn varlong(&mut self) -> Result<i64, Fault> {
        varint::take(&mut self.body).ok_or(Fault::Varint)
    }

    #[inline]
    fn skip(&mut self, bytes: usize) -> Result<(), Fault> {
        self.body = self.body.get(bytes..).ok_or_else(|| short(bytes, self.body.len()))?;
        Ok(())
    }

    #[inline]
    fn left(&self) -> usize {
        self.body.len()
    }

    fn is_at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.rest.is_empty())
    }

    #[inline(always)]
    fn take_plain(&mut self, offset_delta: i32) -> Option<Plain> {
        let (plain, rest) = take_plain(self.rest, offset_delta)?;
        self.rest = rest;
        Some(plain)
    }
}

#[cold]
fn short(bytes: usize, left: usize) -> Fault {
    Fault::Length { length: i32::try_from(bytes).unwrap_or(i32::MAX), left }
}

pub(super) struct StreamSource<'a> {
    decoder: Decoder<'a>,
    buffer: Vec<u8>,
    /// The bytes of `buffer` that were read from the decoder and not taken: `start..end`.
    start: usize,
    end: usize,
    /// Bytes left of the record, many of them perhaps still compressed.
    left: usize,
    decoder_ended: bool,
}

impl<'a> StreamSource<'a> {
    pub(super) fn new(
        codec: Codec,
        records: &'a [u8],
        limits: DecompressLimits,
    ) -> Result<StreamSource<'a>, CodecError> {
        let decoder = Decoder::new(codec, records, limits)?;
        Ok(StreamSource { decoder, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0, left: 0, decoder_ended: false })
    }

    fn buffered(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).expect("start <= end <= length of the buffer")
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        assert!(self.start <= self.end);
    }

    /// Has at least `wanted` bytes buffered, or all that there are.
    fn fill(&mut self, wanted: usize) -> Result<(), Fault> {
        while self.end - self.start < wanted && !self.decoder_ended {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            if self.end == self.buffer.len() {
                // Full, so as much as this has really come out: growth follows the data, not the claim.
                let grown = self.buffer.len().saturating_mul(2).min(wanted.max(BUFFER_BYTES));
                self.buffer.resize(grown, 0);
            }
            let space = self.buffer.get_mut(self.end..).expect("end <= length of the buffer");
            let count = self.decoder.read(space).map_err(Fault::Codec)?;
            self.end += count;
            self.decoder_ended = count == 0;
        }
        Ok(())
    }

    /// The record from here to its end, in one piece.
    pub(super) fn take_rest(&mut self, limit: usize) -> Result<&[u8], Fault> {
        let length = self.left;
        if length > limit {
            return Err(Fault::TooLarge { length, limit });
        }
        self.fill(length)?;
        let buffered = self.end - self.start;
        if buffered < length {
            return Err(short(length, buffered));
        }
        let from = self.start;
        self.consume(length);
        self.left = 0;
        Ok(self.buffer.get(from..from + length).expect("just buffered"))
    }
}

impl Source for StreamSource<'_> {
    fn begin(&mut self) -> Result<(), Fault> {
        self.fill(VARINT_BYTES_MAX)?;
        let mut bytes = self.buffered();
        let buffered = bytes.len();
        if buffered == 0 {
            return Err(Fault::End);
        }
        let length = varint::take(&mut bytes).and_then(|long| i32::try_from(long).ok()).ok_or(Fault::Varint)?;
        let taken = buffered - bytes.len();
        self.left = usize::try_from(length).map_err(|_| Fault::Length { length, left: bytes.len() })?;
        self.consume(taken);
        Ok(())
    }

    fn varlong(&mut self) -> Result<i64, Fault> {
        self.fill(VARINT_BYTES_MAX.min(self.left))?;
        let buffered = self.buffered();
        let mut bytes = buffered.get(..self.left).unwrap_or(buffered);
        let before = bytes.len();
        let number = varint::take(&mut bytes).ok_or(Fault::Varint)?;
        let taken = before - bytes.len();
        self.consume(taken);
        self.left -= taken;
        Ok(number)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Fault> {
        if bytes > self.left {
            return Err(short(bytes, self.left));
        }
        self.left -= bytes;
        let mut missing = bytes;
        loop {
            let now = missing.min(self.end - self.start);
            self.consume(now);
            missing -= now;
            if missing == 0 {
                return Ok(());
            }
            self.fill(1)?;
            if self.start == self.end {
                return Err(short(bytes, bytes - missing));
            }
        }
    }

    fn left(&self) -> usize {
        self.left
    }

    fn is_at_end(&mut self) -> Result<bool, Fault> {
        self.fill(1)?;
        Ok(self.start == self.end)
    }

    #[inline(always)]
    fn take_plain(&mut self, offset_delta: i32) -> Option<Plain> {
        let buffered = self.buffered();
        let (plain, rest) = take_plain(buffered, offset_delta)?;
        let taken = buffered.len() - rest.len();
        self.consume(taken);
        Some(plain)
    }
}

//! Kafka's primitive types, as the records of `__consumer_offsets` use them.
//!
//! Owns bounded reading and exact writing of i16, i32, i64, strings, bytes and (for flexible versions) their compact
//! forms. Invariant: nothing is allocated that is longer than the bytes at hand.

use bytes::{Buf, BufMut, Bytes, BytesMut};

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CodecError {
    #[error("ends after {left} bytes where {needed} are needed")]
    Short { needed: usize, left: usize },
    #[error("length {length} is not possible here")]
    Length { length: i64 },
    #[error("a name is not UTF-8")]
    Utf8,
    #[error("a name is null that must not be")]
    Null,
    #[error("{bytes} bytes follow the end")]
    Trailing { bytes: usize },
}

/// Reads from bytes that a log gave us.
pub(super) struct Reader {
    rest: Bytes,
    flexible: bool,
}

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Reader {
        Reader { rest: bytes, flexible: false }
    }

    /// Strings, bytes and arrays are in their compact forms from here on.
    pub(super) fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    fn need(&self, needed: usize) -> Result<(), CodecError> {
        let left = self.rest.len();
        if left < needed { Err(CodecError::Short { needed, left }) } else { Ok(()) }
    }

    pub(super) fn i8(&mut self) -> Result<i8, CodecError> {
        self.need(1)?;
        Ok(self.rest.get_i8())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let taken = self.take(N)?;
        <[u8; N]>::try_from(&taken[..]).map_err(|_| CodecError::Short { needed: N, left: taken.len() })
    }

    pub(super) fn i16(&mut self) -> Result<i16, CodecError> {
        self.need(2)?;
        Ok(self.rest.get_i16())
    }

    pub(super) fn i32(&mut self) -> Result<i32, CodecError> {
        self.need(4)?;
        Ok(self.rest.get_i32())
    }

    pub(super) fn i64(&mut self) -> Result<i64, CodecError> {
        self.need(8)?;
        Ok(self.rest.get_i64())
    }

    fn unsigned_varint(&mut self) -> Result<u32, CodecError> {
        let mut value: u64 = 0;
        for shift in [0, 7, 14, 21, 28] {
            self.need(1)?;
            let byte = self.rest.get_u8();
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| CodecError::Length { length: i64::from(byte) });
            }
        }
        Err(CodecError::Length { length: -1 })
    }

    /// `None` is null.
    fn length(&mut self, plain: fn(&mut Reader) -> Result<i64, CodecError>) -> Result<Option<usize>, CodecError> {
        let length = if self.flexible { i64::from(self.unsigned_varint()?) - 1 } else { plain(self)? };
        match length {
            -1 => Ok(None),
            _ => usize::try_from(length).map(Some).map_err(|_| CodecError::Length { length }),
        }
    }

    fn take(&mut self, length: usize) -> Result<Bytes, CodecError> {
        self.need(length)?;
        Ok(self.rest.split_to(length))
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<String>, CodecError> {
        let Some(length) = self.length(|reader| reader.i16().map(i64::from))? else { return Ok(None) };
        if i16::try_from(length).is_err() {
            // A flexible version has room for more, but what is written has not.
            return Err(CodecError::Length { length: i64::try_from(length).unwrap_or(i64::MAX) });
        }
        let raw = self.take(length)?;
        std::str::from_utf8(&raw).map(|text| Some(text.to_owned())).map_err(|_| CodecError::Utf8)
    }

    pub(super) fn string(&mut self) -> Result<String, CodecError> {
        self.nullable_string()?.ok_or(CodecError::Null)
    }

    /// A copy: what is kept must not keep the whole batch in memory.
    pub(super) fn bytes(&mut self) -> Result<Bytes, CodecError> {
        let length = self.length(|reader| reader.i32().map(i64::from))?.ok_or(CodecError::Null)?;
        Ok(model::ids::detached(&self.take(length)?))
    }

    pub(super) fn nullable_bytes(&mut self) -> Result<Option<Bytes>, CodecError> {
        let Some(length) = self.length(|reader| reader.i32().map(i64::from))? else { return Ok(None) };
        self.take(length).map(Some)
    }

    /// Each element is at least one byte long, so a count above what is left is a lie.
    pub(super) fn count(&mut self) -> Result<usize, CodecError> {
        let count = self.length(|reader| reader.i32().map(i64::from))?.unwrap_or(0);
        self.need(count)?;
        Ok(count)
    }

    /// Skips the tagged fields of a flexible version; none of them is known.
    pub(super) fn skip_tags(&mut self) -> Result<(), CodecError> {
        self.tags().map(drop)
    }

    /// The tagged fields of a flexible version; others have none.
    pub(super) fn tags(&mut self) -> Result<Vec<(u32, Bytes)>, CodecError> {
        let mut tags = Vec::new();
        if !self.flexible {
            return Ok(tags);
        }
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let size = usize::try_from(self.unsigned_varint()?).map_err(|_| CodecError::Length { length: -1 })?;
            tags.push((tag, self.take(size)?));
        }
        Ok(tags)
    }

    pub(super) fn end(self) -> Result<(), CodecError> {
        let bytes = self.rest.len();
        if bytes == 0 { Ok(()) } else { Err(CodecError::Trailing { bytes }) }
    }
}

/// Panics where a name is longer than i16 says: the state machine bounds all names before.
pub(super) fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i16(i16::try_from(text.len()).expect("names are bounded where they enter"));
    out.put_slice(text.as_bytes());
}

pub(super) fn put_nullable_string(out: &mut BytesMut, text: Option<&str>) {
    match text {
        None => out.put_i16(-1),
        Some(text) => put_string(out, text),
    }
}

/// Panics above 2 GiB: the state machine bounds a member's bytes before.
pub(super) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(i32::try_from(bytes.len()).expect("a member's bytes are bounded where they enter"));
    out.put_slice(bytes);
}

pub(super) fn put_unsigned_varint(out: &mut BytesMut, value: u32) {
    let mut rest = value;
    while rest >= 0x80 {
        out.put_u8(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
        rest >>= 7;
    }
    out.put_u8(u8::try_from(rest).expect("seven bits"));
}

/// The length of an array or text in a flexible version. Panics above 2 GiB: what is written is bounded where it enters.
pub(super) fn put_compact_count(out: &mut BytesMut, count: usize) {
    put_unsigned_varint(out, u32::try_from(count).expect("counts are bounded where they enter") + 1);
}

pub(super) fn put_compact_string(out: &mut BytesMut, text: &str) {
    put_compact_bytes(out, text.as_bytes());
}

pub(super) fn put_nullable_compact_string(out: &mut BytesMut, text: Option<&str>) {
    match text {
        None => put_unsigned_varint(out, 0),
        Some(text) => put_compact_string(out, text),
    }
}

pub(super) fn put_compact_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_compact_count(out, bytes.len());
    out.put_slice(bytes);
}

/// One tagged field; how many there are stands before them.
pub(super) fn put_tag(out: &mut BytesMut, tag: u32, value: &[u8]) {
    put_unsigned_varint(out, tag);
    put_unsigned_varint(out, u32::try_from(value.len()).expect("values are bounded where they enter"));
    out.put_slice(value);
}

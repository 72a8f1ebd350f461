//! The few building blocks of Kafka's encoding that this folder reads and writes by itself.
//!
//! Owns unsigned varints and a cursor over a frame. Invariant: a cursor never reads past its end and never panics;
//! what it hands out are slices of the frame.

use bytes::{BufMut, Bytes};

/// Longest unsigned varint of 32 bits.
const VARINT_BYTES_MAX: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VarintError {
    Truncated,
    /// More than 32 bits.
    Overlong,
}

/// Reads an unsigned varint at `*at` and moves past it.
#[inline]
pub(crate) fn read_varint(body: &[u8], at: &mut usize) -> Result<u32, VarintError> {
    let byte = *body.get(*at).ok_or(VarintError::Truncated)?;
    if byte < 0x80 {
        *at += 1;
        return Ok(u32::from(byte));
    }
    read_long_varint(body, at)
}

fn read_long_varint(body: &[u8], at: &mut usize) -> Result<u32, VarintError> {
    let mut value = 0_u32;
    for place in 0..VARINT_BYTES_MAX {
        let byte = *body.get(*at + place).ok_or(VarintError::Truncated)?;
        let bits = u32::from(byte & 0x7f);
        if place == VARINT_BYTES_MAX - 1 && byte > 0x0f {
            return Err(VarintError::Overlong);
        }
        value |= bits << (7 * place);
        if byte < 0x80 {
            *at += place + 1;
            return Ok(value);
        }
    }
    Err(VarintError::Overlong)
}

/// Writes an unsigned varint.
pub(crate) fn put_varint<B: BufMut + ?Sized>(out: &mut B, mut value: u32) {
    while value >= 0x80 {
        let low = u8::try_from(value & 0x7f).expect("seven bits fit a byte");
        out.put_u8(low | 0x80);
        value >>= 7;
    }
    out.put_u8(u8::try_from(value).expect("seven bits fit a byte"));
}

/// Reads a frame piece by piece; every method gives none at the end of the frame.
pub(crate) struct Cursor {
    frame: Bytes,
    at: usize,
}

impl Cursor {
    pub(crate) fn new(frame: Bytes) -> Cursor {
        Cursor { frame, at: 0 }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let end = self.at.checked_add(N)?;
        let bytes = self.frame.get(self.at..end)?.try_into().ok()?;
        self.at = end;
        Some(bytes)
    }

    pub(crate) fn slice(&mut self, len: usize) -> Option<Bytes> {
        let end = self.at.checked_add(len)?;
        if end > self.frame.len() {
            return None;
        }
        let bytes = self.frame.slice(self.at..end);
        self.at = end;
        Some(bytes)
    }

    pub(crate) fn varint(&mut self) -> Option<u32> {
        read_varint(&self.frame, &mut self.at).ok()
    }

    /// A compact length: none at the end, `Some(None)` for null.
    pub(crate) fn compact_length(&mut self) -> Option<Option<usize>> {
        match self.varint()? {
            0 => Some(None),
            length => Some(Some(usize::try_from(length - 1).ok()?)),
        }
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// What has not been read.
    pub(crate) fn rest(&self) -> Bytes {
        self.frame.slice(self.at..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_as_they_were_written() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 1 << 21, (1 << 28) - 1, 1 << 28, u32::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut at = 0;
            assert_eq!(read_varint(&out, &mut at), Ok(value));
            assert_eq!(at, out.len());
        }
    }

    #[test]
    fn a_varint_of_more_than_32_bits_is_overlong() {
        for bytes in [[0xff, 0xff, 0xff, 0xff, 0x1f, 0], [0x80, 0x80, 0x80, 0x80, 0x80, 0]] {
            assert_eq!(read_varint(&bytes, &mut 0), Err(VarintError::Overlong));
        }
        assert_eq!(read_varint(&[0x80, 0x80], &mut 0), Err(VarintError::Truncated));
    }
}

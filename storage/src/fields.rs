//! Fixed-width fields of our own files: written big-endian, read with bounds.
//!
//! Owns the cursor over bytes that came from a disk. Does not own any layout.
//! Invariant: reading never panics and never trusts a length further than the bytes that are left.

use bytes::{Buf, Bytes};

/// The bytes ended, or a length in them points behind their end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{needed} bytes expected, {left} are left")]
pub struct Short {
    pub needed: usize,
    pub left: usize,
}

/// Takes fields off the front.
pub(crate) struct Fields {
    rest: Bytes,
}

impl Fields {
    pub(crate) fn new(bytes: Bytes) -> Fields {
        Fields { rest: bytes }
    }

    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    fn need(&self, needed: usize) -> Result<(), Short> {
        if self.rest.len() < needed { Err(Short { needed, left: self.rest.len() }) } else { Ok(()) }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Short> {
        self.need(1)?;
        Ok(self.rest.get_u8())
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Short> {
        self.need(4)?;
        Ok(self.rest.get_u32())
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Short> {
        self.need(8)?;
        Ok(self.rest.get_u64())
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Short> {
        self.need(4)?;
        Ok(self.rest.get_i32())
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Short> {
        self.need(8)?;
        Ok(self.rest.get_i64())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        self.need(N)?;
        let mut array = [0; N];
        self.rest.copy_to_slice(&mut array);
        Ok(array)
    }

    /// A slice of the bytes themselves: no copy.
    pub(crate) fn take(&mut self, len: usize) -> Result<Bytes, Short> {
        self.need(len)?;
        Ok(self.rest.split_to(len))
    }

    /// Bytes behind a u32 length.
    pub(crate) fn sized(&mut self) -> Result<Bytes, Short> {
        let len = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        self.take(len)
    }
}

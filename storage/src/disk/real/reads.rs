//! Reads: from the page cache, in their turn from the device, or past the cache.
//!
//! Owns which of these a call is. Invariant: a read that must not wait asks the device for nothing, and one that waits asks in its turn.

use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rustix::io::Errno;

use super::super::calls::{is_cached, read_direct};
use super::super::turns::Reading;
use super::super::{AlignedBuf, Disk, DiskError, FileId, ReadMode};
use super::{Buffered, RealDisk, error_of};

/// A reader that may wait asks for so much at once whether the page cache has it.
const PROBED_BYTES: usize = 256 * 1024;

impl RealDisk {
    /// One call of a read of `left` bytes at `at`: `read` is told how many, and whether it may wait. `None`: to be tried again.
    pub(super) fn read_once(
        &self,
        (file, open): (FileId, &Buffered),
        (at, left): (u64, usize),
        mode: ReadMode,
        read: &mut dyn FnMut(usize, bool) -> io::Result<usize>,
    ) -> Result<Option<usize>, DiskError> {
        open.ahead.turn_off(&open.file);
        if !self.no_nowait.load(Ordering::Relaxed) {
            // Who may wait goes on part by part: the first ones may be there.
            let part = if mode == ReadMode::Blocking { left.min(PROBED_BYTES) } else { left };
            let tried = match is_cached(&open.file, at, part) {
                Some(false) => Err(io::Error::from(Errno::AGAIN)),
                _ => read(part, false),
            };
            match tried.map_err(|error| (error.raw_os_error().map(Errno::from_raw_os_error), error)) {
                Ok(read) => return Ok(Some(read)),
                Err((Some(Errno::INTR), _)) => return Ok(None),
                Err((Some(Errno::AGAIN), _)) if mode == ReadMode::CachedOnly => return Err(DiskError::NotCached),
                Err((Some(Errno::AGAIN), _)) => {}
                // Where the kernel cannot tell, a cached read is no different from one that waits.
                Err((Some(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL), _)) => {
                    self.no_nowait.store(true, Ordering::Relaxed);
                }
                Err((_, error)) => return Err(error_of(&self.path(file)?, "read", &error)),
            }
        }
        let turn = Reading::begin(&*self.turns);
        let part = turn.piece.map_or(left, |piece| piece.min(left));
        open.ahead.begin(&open.file, at, part, turn.piece.is_none());
        match read(part, true) {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error_of(&self.path(file)?, "read", &error)),
        }
    }

    /// Up to `len` bytes past the page cache, or as everybody can where the file system does not do that.
    pub(super) fn read_direct(&self, file: FileId, at: u64, len: usize) -> Result<Bytes, DiskError> {
        let path = self.path(file)?;
        let mut buffer = AlignedBuf::zeroed(len);
        match read_direct(&path, at, buffer.bytes_mut()) {
            Ok(got) => Ok(Bytes::from_owner(buffer).slice(..got.min(len))),
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                let mut bytes = Vec::with_capacity(len);
                self.read_append(file, at, len, &mut bytes, ReadMode::Blocking)?;
                Ok(bytes.into())
            }
            Err(error) => Err(error_of(&path, "read", &error)),
        }
    }
}

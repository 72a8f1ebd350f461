//! One call of a read: from the page cache, or in its turn from the device.
//!
//! Owns which of the two. Invariant: a read that must not wait asks the device for nothing, and one that waits asks in its turn.

use std::io;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use super::super::calls::is_cached;
use super::super::turns::Reading;
use super::super::{DiskError, FileId, ReadMode};
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
}

//! Reads: from the page cache, from the device at once or in turn, or past the cache.
//!
//! Owns which of these a call is. Does not own when a turn comes (`turns`) nor what is read ahead (`ahead`).
//! `cachestat` tells what the page cache has, but not everywhere: an old kernel or a sandbox does not know the call, and a file system with
//! a cache of its own is said to have nothing there. So "not cached" is believed only once it has said "cached" of this file system, and
//! as long as it has not, `RWF_NOWAIT` says so alone, the kernel reads ahead as it does for everybody, and no read takes a turn.
//! Invariant: a read that must not wait takes no turn. Where `cachestat` is believed it asks the device for nothing either.
//! Invariant: only reads in turn give way.

use std::io;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use rustix::io::Errno;

use super::super::calls::{is_cached, read_direct};
use super::super::{AlignedBuf, Disk, DiskError, FileId, ReadMode};
use super::{Buffered, RealDisk, error_of};

/// A reader that may wait asks for so much at once whether the page cache has it.
const PROBED_BYTES: usize = 256 * 1024;
/// Asked for behind what a reader in turn wants, where nobody writes.
const AHEAD_ALONE_BYTES: u64 = 8 << 20;
/// And behind what others want, who ask whether or not somebody writes.
const AHEAD_BYTES: u64 = 1 << 20;

impl RealDisk {
    /// One call of a read of `left` bytes at `at`: `read` is told how many, and whether it may wait. `None`: to be tried again.
    pub(super) fn read_once(
        &self,
        (file, open): (FileId, &Buffered),
        (at, left): (u64, usize),
        mode: ReadMode,
        read: &mut dyn FnMut(usize, bool) -> io::Result<usize>,
    ) -> Result<Option<usize>, DiskError> {
        if self.tells_cached() {
            open.ahead.turn_off(&open.file);
        }
        if mode != ReadMode::Blocking && !self.no_nowait.load(Ordering::Relaxed) {
            // Who may wait goes on part by part: the first ones may be there.
            let part = if mode == ReadMode::InTurn { left.min(PROBED_BYTES) } else { left };
            let tried = match self.is_cached(open, at, part) {
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
        match self.read_waiting(open, (at, left), mode, read) {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error_of(&self.path(file)?, "read", &error)),
        }
    }

    fn read_waiting(
        &self,
        open: &Buffered,
        (at, left): (u64, usize),
        mode: ReadMode,
        read: &mut dyn FnMut(usize, bool) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let in_turn = mode == ReadMode::InTurn && self.tells_cached();
        let piece = if in_turn { self.turns.read() } else { None };
        let part = piece.as_ref().map_or(left, |piece| piece.bytes.min(left));
        let ahead = match (&piece, in_turn) {
            (Some(_), _) => 0,
            (None, true) => AHEAD_ALONE_BYTES,
            (None, false) => AHEAD_BYTES,
        };
        if open.ahead.is_off() && self.is_cached(open, at, part) == Some(false) {
            open.ahead.begin(&open.file, at, part, ahead);
        }
        let got = read(part, true)?;
        drop(piece);
        if got > 0 && !self.cachestat_works.load(Ordering::Relaxed) {
            // What was just read is cached: does the kernel know?
            self.is_cached(open, at, got);
        }
        Ok(got)
    }

    /// Whether what is not in the page cache is known before it is read.
    fn tells_cached(&self) -> bool {
        self.cachestat_works.load(Ordering::Relaxed) && !self.no_nowait.load(Ordering::Relaxed)
    }

    /// `None`: not known.
    fn is_cached(&self, open: &Buffered, at: u64, len: usize) -> Option<bool> {
        let says = is_cached(&open.file, at, len)?;
        if says && len > 0 {
            self.cachestat_works.store(true, Ordering::Relaxed);
        }
        (says || self.cachestat_works.load(Ordering::Relaxed)).then_some(says)
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

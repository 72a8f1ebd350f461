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

use super::super::calls::{is_cached, open_direct, read_direct};
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
        let piece = if in_turn { self.turns.read(left) } else { None };
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

    /// Up to `len` bytes, fewer only at the end of the file: past the page cache, or as everybody can where the file system does not do
    /// that.
    pub(super) fn read_direct(&self, file: FileId, at: u64, len: usize) -> Result<Bytes, DiskError> {
        let path = self.path(file)?;
        let mut buffer = AlignedBuf::zeroed(len);
        // As for writes: whatever is wrong with the file itself, opening it as usual says so too.
        let open = if self.no_direct.load(Ordering::Relaxed) { None } else { open_direct(&path).ok() };
        let read = open.map_or(Ok(0), |open| read_direct(&open, at, buffer.bytes_mut()));
        let got = match read.map_err(|error| (error.raw_os_error().map(Errno::from_raw_os_error), error)) {
            Ok(got) => got.min(len),
            // Opened, but this file system does not read like that.
            Err((Some(Errno::INVAL | Errno::OPNOTSUPP), _)) => 0,
            Err((_, error)) => return Err(error_of(&path, "read", &error)),
        };
        let got = self.read_rest(file, at, &mut buffer.bytes_mut()[..len], got)?;
        Ok(Bytes::from_owner(buffer).slice(..got))
    }

    /// Reads what a direct read of a range has left of it, which began with `got` bytes. Returns how many there are now.
    fn read_rest(&self, file: FileId, at: u64, into: &mut [u8], got: usize) -> Result<usize, DiskError> {
        let from = at + got as u64;
        if got == into.len() || from >= self.len(file)? {
            return Ok(got);
        }
        Ok(got + self.read_at(file, from, &mut into[got..], ReadMode::Blocking)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of no whole number of pages.
    const BYTES: usize = 10_000;

    fn disk() -> (tempfile::TempDir, RealDisk, FileId, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..BYTES).map(|at| (at / 7) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let disk = RealDisk::new(dir.path(), 16);
        let file = disk.file(&path);
        (dir, disk, file, bytes)
    }

    #[test]
    fn a_direct_read_that_ends_early_is_not_taken_for_the_end_of_the_file() {
        let (_dir, disk, file, bytes) = disk();
        for (at, len, got) in [(0, 8192, 5000), (4096, 4096, 1), (0, 12_288, 4096), (8192, 4096, 0)] {
            let there = &bytes[at..BYTES.min(at + len)];
            let mut into = vec![0; len];
            into[..got].copy_from_slice(&there[..got]);
            assert_eq!(disk.read_rest(file, at as u64, &mut into, got), Ok(there.len()));
            assert!(into[..there.len()] == *there);
        }
    }

    #[test]
    fn what_lies_behind_the_end_of_a_file_is_not_asked_for() {
        let (_dir, disk, file, _) = disk();
        assert_eq!(disk.read_rest(file, 8192, &mut [0; 4096], BYTES - 8192), Ok(BYTES - 8192));
        assert_eq!(disk.read_rest(file, 12_288, &mut [0; 4096], 0), Ok(0));
        assert_eq!(disk.table().open, 0);
    }

    #[test]
    fn the_same_is_read_with_and_without_direct_reads() {
        let (_dir, disk, file, bytes) = disk();
        for no_direct in [false, true] {
            disk.no_direct.store(no_direct, Ordering::Relaxed);
            for (at, len) in [(0, 8192), (4096, 5000), (8192, 4096), (12_288, 4096)] {
                let there = &bytes[BYTES.min(at)..BYTES.min(at + len)];
                assert_eq!(disk.read_past_cache(file, at as u64, len).unwrap(), there);
            }
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_said_not_to_be_there() {
        let (dir, disk, _, _) = disk();
        let path = dir.path().join("none");
        let read = disk.read_past_cache(disk.file(&path), 0, 4096);
        assert_eq!(read, Err(DiskError::NotFound { path }));
    }
}

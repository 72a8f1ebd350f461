//! What is read ahead of a reader, on a device that nobody else waits for.
//!
//! Owns the advice to the kernel on one descriptor. Does not own who may read when (`turns`).
//! The kernel's own read-ahead asks for megabytes at once, whoever waits, and keeps itself going: what was read ahead asks for more when it
//! is met. So it is off, and we say what comes next.
//! Invariant: advice costs time, never an answer.

use std::fs::File;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{Advice, fadvise};

/// Asked for behind what a reader wants that goes through a file from front to back.
const AHEAD_BYTES: u64 = 8 << 20;
/// Who wants less looks for something, and does not go through the file.
const WANTED_BYTES_MIN: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// The kernel's own is off.
    off: AtomicBool,
    /// Where the last read ended that had to wait, and up to where we have asked.
    last_end: AtomicU64,
    asked_end: AtomicU64,
}

impl ReadAhead {
    /// To be called before the first read.
    pub(super) fn turn_off(&self, file: &File) {
        if !self.off.load(Ordering::Relaxed) && !self.off.swap(true, Ordering::Relaxed) {
            let _unsupported = fadvise(file, 0, None, Advice::Random);
        }
    }

    /// A read of `len` bytes at `at` is about to wait for the device. `freely`: more may be asked for.
    pub(super) fn begin(&self, file: &File, at: u64, len: usize, freely: bool) {
        let end = at.saturating_add(len as u64);
        let last_end = self.last_end.swap(end, Ordering::Relaxed);
        let goes_on = (last_end..=self.asked_end.load(Ordering::Relaxed).max(last_end)).contains(&at);
        if !freely || !goes_on || len < WANTED_BYTES_MIN {
            return;
        }
        self.asked_end.store(end.saturating_add(AHEAD_BYTES), Ordering::Relaxed);
        let _unsupported = fadvise(file, at, NonZeroU64::new(len as u64 + AHEAD_BYTES), Advice::WillNeed);
    }
}

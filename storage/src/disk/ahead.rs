//! What is read ahead of a reader, where the kernel does not do it.
//!
//! Owns the advice to the kernel on one descriptor. Does not own who may read when (`turns`).
//! The kernel's own read-ahead asks for megabytes at once, whoever waits, and keeps itself going: what was read ahead asks for more when it
//! is met. So it is off, and we say what comes next.
//! Invariant: advice costs time, never an answer.

use std::fs::File;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{Advice, fadvise};

#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// The kernel's own is off.
    off: AtomicBool,
    /// Where the last read ended that had to wait, and up to where we have asked.
    last_end: AtomicU64,
    asked_end: AtomicU64,
}

impl ReadAhead {
    /// From then on the kernel reads nothing ahead by itself. To be called with each read: a file may have been read before it was known
    /// that the kernel tells what is cached.
    pub(super) fn turn_off(&self, file: &File) {
        if !self.off.load(Ordering::Relaxed) && !self.off.swap(true, Ordering::Relaxed) {
            let _unsupported = fadvise(file, 0, None, Advice::Random);
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.off.load(Ordering::Relaxed)
    }

    /// A read of `len` bytes at `at` is about to wait for the device. Where it goes on with what was read before, however little it wants
    /// at once, `ahead` bytes behind it are asked for as well.
    pub(super) fn begin(&self, file: &File, at: u64, len: usize, ahead: u64) {
        let len = len as u64;
        let end = at.saturating_add(len);
        let last_end = self.last_end.swap(end, Ordering::Relaxed);
        let reached = self.asked_end.load(Ordering::Relaxed).max(last_end.saturating_add(len));
        // Who looks at headers steps back over the one that was cut off, and over what it need not see.
        let goes_on = end > last_end && at <= reached;
        if ahead == 0 || !goes_on {
            return;
        }
        self.asked_end.store(end.saturating_add(ahead), Ordering::Relaxed);
        let _unsupported = fadvise(file, at, NonZeroU64::new(len.saturating_add(ahead)), Advice::WillNeed);
    }
}

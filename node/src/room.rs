//! Room on the disk for what clients append: a reserve is kept for the journal, metadata, offsets of groups, deletes.
//!
//! Owns how much may still be appended and when the file system is asked again, and the ballast: a file that holds room which other
//! programs cannot take, given up when something must be written that cannot wait. Does not own who is refused: only clients are.
//! Invariant: between two readings no more is let in than the last one found above the reserve. Nothing is read while nobody
//! appends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::Now;
use model::units::MIB;
use storage::disk::Disk;

use crate::core::FULL_RETRY;

/// A file of the journal and a largest batch; on a small file system an eighth of it.
const RESERVE_BYTES_MAX: u64 = 128 * MIB;
/// On a small file system a sixteenth of it.
const BALLAST_BYTES_MAX: u64 = 32 * MIB;
/// So long an append counts that was refused: whoever still wants it has tried again by then.
const REFUSAL_COUNTS: Duration = Duration::from_secs(10);
/// So long it is told that a write found the disk full, so that the tries in between do not show.
const FOUND_FULL_TOLD: Duration = FULL_RETRY.saturating_mul(3);
/// How often the ballast is tried to be made while there is none.
const BALLAST_RETRY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Room {
    reserve: u64,
    /// By the last reading.
    free: AtomicU64,
    /// What clients may append before the next reading.
    left: AtomicU64,
    /// When the next append reads again, in nanoseconds of `Now::mono`.
    read_at: AtomicU64,
    refused: Mutex<Refused>,
    /// Until then all appends are called refused, since a write found the disk full, in nanoseconds of `Now::mono`.
    full_until: AtomicU64,
    ballast_bytes: u64,
    ballast: Mutex<Ballast>,
}

/// The largest append that was refused lately, since there was room for it.
#[derive(Clone, Copy, Default, Debug)]
struct Refused {
    bytes: u64,
    /// By `Now::mono`.
    until: Duration,
}

impl Refused {
    /// 0: none.
    fn bytes_at(self, now: Now) -> u64 {
        if now.mono < self.until { self.bytes } else { 0 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ballast {
    There,
    /// It is being made, or given up.
    Moving,
    None {
        try_at: Duration,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the disk has {free} bytes free; {reserve} are kept in reserve, so {asked} more cannot be appended")]
pub(crate) struct NoRoom {
    asked: u64,
    free: u64,
    reserve: u64,
}

impl Room {
    pub(crate) fn new(disk: &dyn Disk) -> Room {
        let size = disk.size_bytes().unwrap_or(u64::MAX);
        let room = Room {
            reserve: RESERVE_BYTES_MAX.min(size / 8),
            free: AtomicU64::default(),
            left: AtomicU64::default(),
            read_at: AtomicU64::default(),
            refused: Mutex::default(),
            full_until: AtomicU64::default(),
            ballast_bytes: if size == u64::MAX { 0 } else { BALLAST_BYTES_MAX.min(size / 16) },
            ballast: Mutex::new(Ballast::None { try_at: Duration::ZERO }),
        };
        room.read(disk, 0);
        room
    }

    /// Takes room for an append of a client. `owed`: bytes let in before that may not be in files yet. To be called without a lock:
    /// once a second it asks the file system.
    pub(crate) fn take(&self, disk: &dyn Disk, now: Now, owed: u64, bytes: u64) -> Result<(), NoRoom> {
        let mono = nanos(now.mono);
        let due = self.read_at.load(Ordering::Relaxed);
        if mono >= due {
            let next = nanos(now.mono.saturating_add(FULL_RETRY));
            if self.read_at.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                self.read(disk, owed);
            }
        }
        let taken = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        taken.map(drop).map_err(|_| {
            let mut refused = self.refused();
            let until = now.mono.saturating_add(REFUSAL_COUNTS);
            *refused = Refused { bytes: refused.bytes_at(now).max(bytes), until };
            NoRoom { asked: bytes, free: self.free.load(Ordering::Relaxed), reserve: self.reserve }
        })
    }

    /// What is kept free of appends.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        self.reserve
    }

    /// Appends of more bytes are refused: what is `free` now leaves nothing above the reserve, or less than one of them wanted lately, or
    /// a write has just found the disk full. `owed` as in `take`. `None`: none is refused.
    pub(crate) fn refuses_above(&self, now: Now, free: u64, owed: u64) -> Option<u64> {
        if nanos(now.mono) < self.full_until.load(Ordering::Relaxed) {
            return Some(0);
        }
        let room = free.saturating_sub(self.reserve).saturating_sub(owed);
        let wanted = self.refused().bytes_at(now).max(1);
        (room < wanted).then_some(room)
    }

    /// Takes room for another file of the journal, if that leaves the reserve alone.
    pub(crate) fn take_growth(&self, disk: &dyn Disk, bytes: u64) -> bool {
        let free = disk.free_bytes().unwrap_or(u64::MAX);
        if free.saturating_sub(self.reserve) < bytes {
            return false;
        }
        let less = |left: u64| Some(left.saturating_sub(bytes));
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// A write found the disk full: nothing is let in before the next reading.
    pub(crate) fn found_full(&self, now: Now) {
        self.read_at.store(nanos(now.mono.saturating_add(FULL_RETRY)), Ordering::Relaxed);
        self.full_until.store(nanos(now.mono.saturating_add(FOUND_FULL_TOLD)), Ordering::Relaxed);
        self.left.store(0, Ordering::Relaxed);
    }

    fn refused(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ballast(&self) -> MutexGuard<'_, Ballast> {
        self.ballast.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the ballast when there is one; 0: this disk does not tell its size, and gets none.
    pub(crate) fn ballast_bytes(&self) -> u64 {
        self.ballast_bytes
    }

    /// The ballast of an earlier start is there still.
    pub(crate) fn found_ballast(&self) {
        *self.ballast() = Ballast::There;
    }

    /// Whether to make the ballast now: then its end is told to `ballast_made`.
    pub(crate) fn take_ballast(&self, disk: &dyn Disk, now: Now) -> bool {
        let mut ballast = self.ballast();
        let Ballast::None { try_at } = *ballast else { return false };
        if self.ballast_bytes == 0 || now.mono < try_at {
            return false;
        }
        let free = disk.free_bytes().unwrap_or(0);
        let fits = free >= self.reserve.saturating_add(self.ballast_bytes.saturating_mul(2));
        *ballast =
            if fits { Ballast::Moving } else { Ballast::None { try_at: now.mono.saturating_add(BALLAST_RETRY) } };
        fits
    }

    pub(crate) fn ballast_made(&self, now: Now, made: bool) {
        let none = Ballast::None { try_at: now.mono.saturating_add(BALLAST_RETRY) };
        *self.ballast() = if made { Ballast::There } else { none };
    }

    /// Whether to give the ballast up now: something must be written. Its end is told to `ballast_made` with false.
    pub(crate) fn drop_ballast(&self) -> bool {
        let mut ballast = self.ballast();
        let is_there = *ballast == Ballast::There;
        if is_there {
            *ballast = Ballast::Moving;
        }
        is_there
    }

    fn read(&self, disk: &dyn Disk, owed: u64) {
        // A file system that does not tell stops nobody: its writes will say when it is full.
        let free = disk.free_bytes().unwrap_or(u64::MAX);
        self.free.store(free, Ordering::Relaxed);
        let left = free.saturating_sub(self.reserve).saturating_sub(owed);
        self.left.store(left, Ordering::Relaxed);
        let mut refused = self.refused();
        if refused.bytes <= left {
            *refused = Refused::default();
        }
    }
}

fn nanos(mono: Duration) -> u64 {
    u64::try_from(mono.as_nanos()).unwrap_or(u64::MAX)
}

//! What the machine's disk asks its device for.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::calls::cached_pages;
use super::{Disk, DiskError, ReadMode, RealDisk, Turns};

const BYTES: usize = 1 << 20;
const PIECE: usize = 64 * 1024;

/// Lets everybody read pieces, and counts.
#[derive(Default)]
struct Pieces {
    begun: AtomicU64,
    ended: AtomicU64,
    writes: AtomicU64,
}

impl Turns for Pieces {
    fn write_begins(&self) {}
    fn write_ends(&self) {
        self.writes.fetch_add(1, Ordering::Relaxed);
    }
    fn read_begins(&self) -> Option<usize> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Some(PIECE)
    }
    fn read_ends(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// A file whose bytes are on the device and not in the page cache, if that is known here.
fn cold_file(path: &Path) -> (Vec<u8>, bool) {
    let bytes: Vec<u8> = (0..BYTES).map(|at| (at / 7) as u8).collect();
    std::fs::write(path, &bytes).unwrap();
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    // A file system in memory keeps all of it.
    let is_cold = cached_pages(&file, 0, BYTES) == Some(0);
    (bytes, is_cold)
}

#[test]
fn a_read_that_must_not_wait_asks_the_device_for_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cold");
    let (_, is_cold) = cold_file(&path);
    let disk = RealDisk::new(dir.path(), 16);
    let result = disk.read_at(disk.file(&path), 0, &mut vec![0; BYTES / 2], ReadMode::CachedOnly);
    if is_cold {
        assert_eq!(result, Err(DiskError::NotCached));
        assert_eq!(cached_pages(&File::open(&path).unwrap(), 0, BYTES), Some(0));
    }
}

#[test]
fn a_read_that_waits_takes_a_turn_for_each_piece_and_reads_nothing_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cold");
    let (bytes, is_cold) = cold_file(&path);
    let turns = Arc::new(Pieces::default());
    let disk = RealDisk::new(dir.path(), 16).with_turns(turns.clone());
    let file = disk.file(&path);
    let mut read = Vec::new();
    disk.read_append(file, 0, BYTES / 2, &mut read, ReadMode::Blocking).unwrap();
    assert!(read == bytes[..BYTES / 2]);
    let (begun, ended) = (turns.begun.load(Ordering::Relaxed), turns.ended.load(Ordering::Relaxed));
    assert_eq!(begun, ended);
    if is_cold {
        assert_eq!(begun, (BYTES / 2 / PIECE) as u64);
        assert_eq!(cached_pages(&File::open(&path).unwrap(), 0, BYTES), Some((BYTES / 2 / 4096) as u64));
    }
    // What is cached by now takes none.
    disk.read_append(file, 0, BYTES / 2, &mut Vec::new(), ReadMode::Blocking).unwrap();
    assert_eq!(turns.begun.load(Ordering::Relaxed), begun);
}

#[test]
fn a_sync_is_told_to_those_who_give_way() {
    let dir = tempfile::tempdir().unwrap();
    let turns = Arc::new(Pieces::default());
    let disk = RealDisk::new(dir.path(), 16).with_turns(turns.clone());
    let file = disk.file(&dir.path().join("new"));
    disk.create(file).unwrap();
    disk.sync(file).unwrap();
    assert_eq!(turns.writes.load(Ordering::Relaxed), 1);
}

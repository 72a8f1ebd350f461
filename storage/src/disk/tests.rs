//! What the machine's disk asks its device for.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::calls::{cached_pages, pages_of};
use super::{DirEntry, Disk, DiskError, Piece, ReadMode, RealDisk, Step, Turn, Turns};

const BYTES: usize = 1 << 20;
const PIECE: usize = 64 * 1024;

/// Lets everybody read pieces, and counts.
#[derive(Default)]
struct Pieces {
    begun: AtomicU64,
    ended: AtomicU64,
    writes: AtomicU64,
}

struct Counts<'a>(&'a AtomicU64);

impl Turn for Counts<'_> {}

impl Drop for Counts<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Turns for Pieces {
    fn write(&self) -> Box<dyn Turn + '_> {
        Box::new(Counts(&self.writes))
    }
    fn read(&self, _: usize) -> Option<Piece<'_>> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Some(Piece { bytes: PIECE, turn: Box::new(Counts(&self.ended)) })
    }
}

/// A folder beside the program that tests: that of the system for such things is more often in memory.
fn folder() -> tempfile::TempDir {
    let program = std::env::current_exe().unwrap();
    tempfile::tempdir_in(program.parent().unwrap()).unwrap()
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
    if !is_cold {
        // Not by a macro: who tests is to see it though the test passes.
        writeln!(std::io::stderr(), "{}: not cold, what is asked of the device is not checked", path.display())
            .unwrap();
    }
    (bytes, is_cold)
}

/// A disk in a folder, whose page cache the kernel is known to tell about if it does.
fn disk_in(dir: &Path) -> (RealDisk, Arc<Pieces>) {
    let turns = Arc::new(Pieces::default());
    let disk = RealDisk::new(dir, 16).with_turns(turns.clone());
    let path = dir.join("warm");
    std::fs::write(&path, [1; 5000]).unwrap();
    disk.read_at(disk.file(&path), 0, &mut [0; 5000], ReadMode::Blocking).unwrap();
    (disk, turns)
}

fn cached_bytes(path: &Path) -> u64 {
    cached_pages(&File::open(path).unwrap(), 0, BYTES).unwrap() * rustix::param::page_size() as u64
}

#[test]
fn a_range_touches_pages_of_the_size_that_the_machine_has() {
    assert_eq!([pages_of(0, 4096, 4096), pages_of(4095, 2, 4096), pages_of(0, 0, 4096)], [1, 2, 0]);
    assert_eq!([pages_of(0, 65_537, 65_536), pages_of(4096, 8192, 65_536)], [2, 1]);
}

#[test]
fn a_read_that_must_not_wait_asks_the_device_for_nothing_and_takes_no_turn() {
    let dir = folder();
    let path = dir.path().join("cold");
    let (_, is_cold) = cold_file(&path);
    let (disk, turns) = disk_in(dir.path());
    let result = disk.read_at(disk.file(&path), 0, &mut vec![0; BYTES / 2], ReadMode::CachedOnly);
    if is_cold {
        assert_eq!(result, Err(DiskError::NotCached));
        assert_eq!(cached_bytes(&path), 0);
    }
    assert_eq!(turns.begun.load(Ordering::Relaxed), 0);
}

#[test]
fn a_file_system_that_refuses_reads_without_waiting_is_read_without_turns() {
    // One in memory does, where there is one.
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return };
    let path = dir.path().join("file");
    let bytes = vec![7; BYTES];
    std::fs::write(&path, &bytes).unwrap();
    let (disk, turns) = disk_in(dir.path());
    let mut read = vec![0; BYTES];
    for mode in [ReadMode::CachedOnly, ReadMode::InTurn, ReadMode::Blocking] {
        assert_eq!(disk.read_at(disk.file(&path), 0, &mut read, mode), Ok(BYTES));
        assert!(read == bytes);
    }
    assert_eq!(turns.begun.load(Ordering::Relaxed), 0);
}

#[test]
fn nothing_is_taken_for_cold_before_the_kernel_has_called_something_cached() {
    let dir = folder();
    let (bytes, is_cold) = cold_file(&dir.path().join("first"));
    cold_file(&dir.path().join("second"));
    let turns = Arc::new(Pieces::default());
    let disk = RealDisk::new(dir.path(), 16).with_turns(turns.clone());
    let mut read = vec![0; BYTES];
    assert_eq!(disk.read_at(disk.file(&dir.path().join("first")), 0, &mut read, ReadMode::InTurn), Ok(BYTES));
    assert!(read == bytes);
    assert_eq!(turns.begun.load(Ordering::Relaxed), 0);
    assert_eq!(disk.read_at(disk.file(&dir.path().join("second")), 0, &mut read, ReadMode::InTurn), Ok(BYTES));
    assert!(read == bytes);
    if is_cold {
        assert_eq!(turns.begun.load(Ordering::Relaxed), (BYTES / PIECE) as u64);
    }
}

#[test]
fn only_reads_in_turn_give_way_and_what_goes_on_is_read_ahead() {
    let dir = folder();
    let path = dir.path().join("cold");
    let (bytes, is_cold) = cold_file(&path);
    let (disk, turns) = disk_in(dir.path());
    let file = disk.file(&path);
    // As a scan looks at batches: the header, then the whole.
    let mut read = [0; 500];
    for at in (0..20_000).step_by(500) {
        for len in [61, 500] {
            assert_eq!(disk.read_at(file, at as u64, &mut read[..len], ReadMode::Blocking), Ok(len));
        }
        assert!(read == bytes[at..at + 500]);
    }
    assert_eq!(turns.begun.load(Ordering::Relaxed), 0);
    if is_cold {
        assert!(cached_bytes(&path) >= 100_000, "{} bytes", cached_bytes(&path));
    }
}

#[test]
fn who_looks_for_something_reads_nothing_ahead() {
    let dir = folder();
    let path = dir.path().join("cold");
    let (_, is_cold) = cold_file(&path);
    let (disk, _) = disk_in(dir.path());
    for at in [900_000, 100_000, 500_000] {
        disk.read_at(disk.file(&path), at, &mut [0; 61], ReadMode::Blocking).unwrap();
    }
    if is_cold {
        assert_eq!(cached_bytes(&path), 3 * rustix::param::page_size() as u64);
    }
}

#[test]
fn a_read_in_turn_takes_one_for_each_piece_and_reads_nothing_ahead() {
    let dir = folder();
    let path = dir.path().join("cold");
    let (bytes, is_cold) = cold_file(&path);
    let (disk, turns) = disk_in(dir.path());
    let file = disk.file(&path);
    let mut read = Vec::new();
    disk.read_append(file, 0, BYTES / 2, &mut read, ReadMode::InTurn).unwrap();
    assert!(read == bytes[..BYTES / 2]);
    let (begun, ended) = (turns.begun.load(Ordering::Relaxed), turns.ended.load(Ordering::Relaxed));
    assert_eq!(begun, ended);
    if is_cold {
        assert_eq!(begun, (BYTES / 2 / PIECE) as u64);
        assert_eq!(cached_bytes(&path), (BYTES / 2) as u64);
    }
    // What is cached by now takes none.
    disk.read_append(file, 0, BYTES / 2, &mut Vec::new(), ReadMode::InTurn).unwrap();
    assert_eq!(turns.begun.load(Ordering::Relaxed), begun);
}

#[test]
fn only_a_sync_that_an_answer_waits_for_is_given_way_to() {
    let dir = folder();
    let (disk, turns) = disk_in(dir.path());
    let file = disk.file(&dir.path().join("new"));
    disk.create(file).unwrap();
    Step::Sync { file, awaited: false }.run(&disk).unwrap();
    disk.sync_all().unwrap();
    assert_eq!(turns.writes.load(Ordering::Relaxed), 0);
    Step::Sync { file, awaited: true }.run(&disk).unwrap();
    assert_eq!(turns.writes.load(Ordering::Relaxed), 1);
}

#[test]
fn a_link_to_a_file_is_listed_with_the_length_of_the_file() {
    let dir = folder();
    let (folder, target) = (dir.path().join("folder"), dir.path().join("elsewhere"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&target, [1; 5000]).unwrap();
    std::os::unix::fs::symlink(&target, folder.join("link")).unwrap();
    let disk = RealDisk::new(dir.path(), 16);
    let entries = disk.list(&folder).unwrap();
    assert_eq!(entries, [DirEntry { name: "link".into(), is_dir: false, len: 5000 }]);
}

//! A real disk that can be full, and parts of which can be broken.
//!
//! Owns what fails. Room is what the folder's files take, and what other programs are said to hold. All else is the real disk's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use storage::disk::{AlignedBuf, DirEntry, Disk, DiskError, FileId, ReadMode, RealDisk};

pub struct FaultDisk {
    real: RealDisk,
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    paths: BTreeMap<FileId, PathBuf>,
    size: Option<u64>,
    others: u64,
    /// Writes and syncs of paths with this in them fail for good.
    broken: Option<&'static str>,
    /// Writes that would make a path with this in it longer find the disk full.
    full: Option<&'static str>,
    created: BTreeMap<PathBuf, usize>,
}

impl FaultDisk {
    pub fn new(root: &Path) -> FaultDisk {
        FaultDisk { real: RealDisk::new(root, 64), root: root.into(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }

    pub fn set_size(&self, bytes: u64) {
        self.state().size = Some(bytes);
    }

    /// Another program takes what is left.
    pub fn fill_up(&self) {
        let free = self.free();
        self.state().others += free;
    }

    pub fn give_back(&self) {
        self.state().others = 0;
    }

    pub fn break_paths(&self, part: Option<&'static str>) {
        self.state().broken = part;
    }

    pub fn fill_paths(&self, part: Option<&'static str>) {
        self.state().full = part;
    }

    /// How often files with this in their path were made.
    pub fn created(&self, part: &str) -> usize {
        let state = self.state();
        state.created.iter().filter(|(path, _)| path.to_string_lossy().contains(part)).map(|(_, count)| count).sum()
    }

    pub fn free(&self) -> u64 {
        let state = self.state();
        let Some(size) = state.size else { return u64::MAX };
        size.saturating_sub(state.others).saturating_sub(taken(&self.root))
    }

    fn path(&self, file: FileId) -> PathBuf {
        self.state().paths.get(&file).cloned().unwrap_or_default()
    }

    fn check_broken(&self, path: &Path, what: &'static str) -> Result<(), DiskError> {
        match self.state().broken {
            Some(part) if path.to_string_lossy().contains(part) => {
                Err(DiskError::Io { path: path.into(), what, message: "EIO".to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// How many of so many bytes behind the end of a file fit.
    fn room_for(&self, path: &Path, more: u64) -> u64 {
        let is_full = self.state().full.is_some_and(|part| path.to_string_lossy().contains(part));
        if is_full { 0 } else { more.min(self.free()) }
    }
}

/// In pages, as a file system counts.
fn taken(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let metadata = entry.metadata().ok()?;
            Some(if metadata.is_dir() { taken(&entry.path()) } else { metadata.len().next_multiple_of(4096) })
        })
        .sum()
}

impl Disk for FaultDisk {
    fn file(&self, path: &Path) -> FileId {
        let file = self.real.file(path);
        self.state().paths.insert(file, path.into());
        file
    }
    fn forget(&self, file: FileId) {
        self.real.forget(file);
    }
    fn create(&self, file: FileId) -> Result<(), DiskError> {
        let path = self.path(file);
        self.check_broken(&path, "open")?;
        if !path.exists() {
            *self.state().created.entry(path).or_default() += 1;
        }
        self.real.create(file)
    }
    fn len(&self, file: FileId) -> Result<u64, DiskError> {
        self.real.len(file)
    }
    fn read_at(&self, file: FileId, at: u64, into: &mut [u8], mode: ReadMode) -> Result<usize, DiskError> {
        self.real.read_at(file, at, into, mode)
    }
    fn write_at(&self, file: FileId, at: u64, parts: &[Bytes]) -> Result<(), DiskError> {
        let path = self.path(file);
        self.check_broken(&path, "write")?;
        let len = self.real.len(file)?.next_multiple_of(4096);
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let more = (at + bytes).saturating_sub(len);
        let room = self.room_for(&path, more);
        if room == more {
            return self.real.write_at(file, at, parts);
        }
        // As much as fits is written all the same.
        let fits = usize::try_from(bytes - more + room).expect("short");
        let part = Bytes::from(parts.concat()).slice(..fits);
        self.real.write_at(file, at, &[part])?;
        Err(DiskError::Full { path, what: "write" })
    }
    fn write_through(&self, file: FileId, at: u64, data: &AlignedBuf) -> Result<(), DiskError> {
        self.check_broken(&self.path(file), "write")?;
        self.real.write_through(file, at, data)
    }
    fn set_len(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        self.check_broken(&self.path(file), "truncate")?;
        self.real.set_len(file, len)
    }
    fn reserve(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        let path = self.path(file);
        if self.room_for(&path, len) < len {
            return Err(DiskError::Full { path, what: "reserve" });
        }
        self.real.set_len(file, len)
    }
    fn sync(&self, file: FileId) -> Result<(), DiskError> {
        self.check_broken(&self.path(file), "sync")?;
        self.real.sync(file)
    }
    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.real.sync_dir(dir)
    }
    fn sync_all(&self) -> Result<(), DiskError> {
        self.real.sync_all()
    }
    fn map(&self, file: FileId) -> Result<Bytes, DiskError> {
        self.real.map(file)
    }
    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, DiskError> {
        self.real.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.real.create_dir(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.real.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        self.real.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.real.remove_dir(path)
    }
    fn free_bytes(&self) -> Result<u64, DiskError> {
        Ok(self.free())
    }
    fn size_bytes(&self) -> Result<u64, DiskError> {
        Ok(self.state().size.unwrap_or(u64::MAX))
    }
}

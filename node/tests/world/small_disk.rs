//! A real disk that says what it is told about its size and its free bytes.
//!
//! Owns these two figures; all else is the real disk's.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use storage::disk::{AlignedBuf, DirEntry, Disk, DiskError, FileId, ReadMode, RealDisk};

pub struct SmallDisk {
    real: RealDisk,
    size: u64,
    free: AtomicU64,
}

impl SmallDisk {
    pub fn new(root: &Path, size: u64) -> SmallDisk {
        SmallDisk { real: RealDisk::new(root, 64), size, free: AtomicU64::new(size) }
    }

    pub fn set_free(&self, bytes: u64) {
        self.free.store(bytes, Ordering::Relaxed);
    }
}

impl Disk for SmallDisk {
    fn file(&self, path: &Path) -> FileId {
        self.real.file(path)
    }
    fn forget(&self, file: FileId) {
        self.real.forget(file);
    }
    fn create(&self, file: FileId) -> Result<(), DiskError> {
        self.real.create(file)
    }
    fn len(&self, file: FileId) -> Result<u64, DiskError> {
        self.real.len(file)
    }
    fn read_at(&self, file: FileId, at: u64, into: &mut [u8], mode: ReadMode) -> Result<usize, DiskError> {
        self.real.read_at(file, at, into, mode)
    }
    fn write_at(&self, file: FileId, at: u64, parts: &[Bytes]) -> Result<(), DiskError> {
        self.real.write_at(file, at, parts)
    }
    fn write_through(&self, file: FileId, at: u64, data: &AlignedBuf) -> Result<(), DiskError> {
        self.real.write_through(file, at, data)
    }
    fn set_len(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        self.real.set_len(file, len)
    }
    fn sync(&self, file: FileId) -> Result<(), DiskError> {
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
        Ok(self.free.load(Ordering::Relaxed))
    }
    fn size_bytes(&self) -> Result<u64, DiskError> {
        Ok(self.size)
    }
}

//! The disk as the rest of Weir sees it.
//!
//! `Disk` carries out single operations, blocking. What may overlap with appends (writes, syncs, file creation) is described as a
//! `DiskOp` and handed out as an effect: `server` runs it on a thread, `sim` step by step, with a crash between any two.
//! Invariant: a `FileId` is a registered path, not an open descriptor; descriptors are opened on use, under a budget.

mod ahead;
mod calls;
mod real;
#[cfg(test)]
mod tests;
mod turns;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::journal::carry::Carry;

pub use real::{OPEN_FILES_MAX, RealDisk};
pub use turns::{Piece, Turn, Turns};

/// A registered path. Registering makes no system call; the file is opened when it is first used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId(pub u64);

/// Pairs a `DiskOp` with its completion.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadMode {
    /// May wait for the device, and gives way to nobody.
    Blocking,
    /// May wait, also for those who write: for readers of cold data, who may be many and for whom nobody else waits.
    InTurn,
    /// Only what the page cache holds; else `DiskError::NotCached`.
    CachedOnly,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DiskError {
    #[error("not in the page cache")]
    NotCached,
    #[error("{path}: no such file or folder")]
    NotFound { path: PathBuf },
    #[error("{path}: no space left: {what}")]
    Full { path: PathBuf, what: &'static str },
    #[error("{path}: {what} failed: {message}")]
    Io { path: PathBuf, what: &'static str, message: String },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    pub name: String,
    pub is_dir: bool,
    pub len: u64,
}

/// A part of something larger.
pub type Job<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Threads of whoever makes the disk, for jobs that do not depend on each other.
pub trait Threads: Send + Sync + 'static {
    /// How many jobs are worth it.
    fn count(&self) -> usize;
    /// Runs them; all have ended when it returns.
    fn run_all(&self, jobs: Vec<Job<'_>>);
}

struct OneByOne;

impl Threads for OneByOne {
    fn count(&self) -> usize {
        1
    }
    fn run_all(&self, jobs: Vec<Job<'_>>) {
        jobs.into_iter().for_each(|job| job());
    }
}

/// Gives items out to jobs in runs of their order, and what came of the runs back in that order.
pub(crate) fn in_runs<T: Send, R: Send>(
    disk: &dyn Disk,
    items: impl ExactSizeIterator<Item = T>,
    work: &(dyn Fn(Vec<T>) -> R + Sync),
) -> Vec<R> {
    let run_max = items.len().div_ceil(disk.side_by_side().max(1)).max(1);
    let mut runs: Vec<Vec<T>> = Vec::new();
    for item in items {
        match runs.last_mut().filter(|run| run.len() < run_max) {
            Some(run) => run.push(item),
            None => runs.push(vec![item]),
        }
    }
    let mut results: Vec<Option<R>> = runs.iter().map(|_| None).collect();
    let jobs = runs
        .into_iter()
        .zip(&mut results)
        .map(|(run, result)| -> Job<'_> { Box::new(move || *result = Some(work(run))) });
    disk.run_all(jobs.collect());
    results.into_iter().map(|result| result.expect("all jobs have ended")).collect()
}

pub trait Disk: Send + Sync + 'static {
    /// Registers a path; the same path gives the same id. No system call.
    fn file(&self, path: &Path) -> FileId;
    /// Closes its descriptor if one is open and forgets the id: from then on it gives `NotFound`.
    fn forget(&self, file: FileId);
    /// Creates the file empty if it is not there.
    fn create(&self, file: FileId) -> Result<(), DiskError>;
    fn len(&self, file: FileId) -> Result<u64, DiskError>;
    /// Reads up to `into.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, file: FileId, at: u64, into: &mut [u8], mode: ReadMode) -> Result<usize, DiskError>;
    /// Puts up to `len` bytes at the end of `into`; fewer only at the end of the file. The memory need not be cleared before.
    fn read_append(
        &self,
        file: FileId,
        at: u64,
        len: usize,
        into: &mut Vec<u8>,
        mode: ReadMode,
    ) -> Result<(), DiskError> {
        let start = into.len();
        into.resize(start + len, 0);
        let got = self.read_at(file, at, &mut into[start..], mode)?;
        into.truncate(start + got);
        Ok(())
    }
    /// Up to `len` bytes, fewer only at the end of the file, past the page cache where the disk can: for what is read once. `at` is a
    /// multiple of 4096. May wait for the device.
    fn read_past_cache(&self, file: FileId, at: u64, len: usize) -> Result<Bytes, DiskError> {
        let mut bytes = Vec::with_capacity(len);
        self.read_append(file, at, len, &mut bytes, ReadMode::Blocking)?;
        Ok(bytes.into())
    }
    /// Writes all parts, one behind the other, from `at` on.
    fn write_at(&self, file: FileId, at: u64, parts: &[Bytes]) -> Result<(), DiskError>;
    /// As `write_at`, for bytes that nobody is expected to read soon: a disk that can does not keep them in memory.
    fn write_uncached(&self, file: FileId, at: u64, parts: &[Bytes]) -> Result<(), DiskError> {
        self.write_at(file, at, parts)
    }
    /// Writes and makes durable in one operation where the disk can (the journal's own write). `at` and the length are multiples of 4096.
    fn write_through(&self, file: FileId, at: u64, data: &AlignedBuf) -> Result<(), DiskError>;
    fn set_len(&self, file: FileId, len: u64) -> Result<(), DiskError>;
    /// Takes room for the first `len` bytes of a file without writing them. A disk that cannot takes none, and says nothing.
    fn reserve(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        let _none = (file, len);
        Ok(())
    }
    /// Makes the file's content and length durable. A failure is final: the pages may be marked clean.
    fn sync(&self, file: FileId) -> Result<(), DiskError>;
    /// The same, where an answer to a client waits for it.
    fn sync_awaited(&self, file: FileId) -> Result<(), DiskError> {
        self.sync(file)
    }
    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError>;
    /// Makes everything on the file system durable (`syncfs`): one call for many dirty files.
    fn sync_all(&self) -> Result<(), DiskError>;
    /// A read-only view of the whole file (index files only; never record data).
    fn map(&self, file: FileId) -> Result<Bytes, DiskError>;
    /// Sorted by name. An absent folder is `NotFound`.
    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, DiskError>;
    /// Creates the folder and its parents if they are not there.
    fn create_dir(&self, dir: &Path) -> Result<(), DiskError>;
    /// Renames a file or folder over what is there; ids below it follow.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;
    /// An absent file is not an error. Its id stays: the file may be created again.
    fn remove_file(&self, path: &Path) -> Result<(), DiskError>;
    /// Removes a folder with all that is in it, and forgets the ids below; an absent one is not an error.
    fn remove_dir(&self, path: &Path) -> Result<(), DiskError>;
    fn free_bytes(&self) -> Result<u64, DiskError>;
    /// How many jobs of `run_all` are worth it.
    fn side_by_side(&self) -> usize {
        OneByOne.count()
    }
    /// Runs jobs that do not depend on each other, on threads where whoever made the disk has some. All have ended when it returns.
    fn run_all(&self, jobs: Vec<Job<'_>>) {
        OneByOne.run_all(jobs);
    }
    /// Size of the file system; `u64::MAX` where it has none.
    fn size_bytes(&self) -> Result<u64, DiskError> {
        Ok(u64::MAX)
    }
}

/// A buffer whose start is aligned for direct I/O and whose length is a multiple of 4096.
pub struct AlignedBuf {
    storage: Vec<Page>,
    len: usize,
    /// Where its memory goes when it is dropped.
    pool: Option<Arc<BufferPool>>,
}

/// Memory of one buffer, kept for the next: fresh memory costs a page fault for each 4096 bytes.
#[derive(Default)]
pub struct BufferPool {
    spare: Mutex<Option<Vec<Page>>>,
}

impl BufferPool {
    /// A larger buffer is rare, and its memory is given back.
    const PAGES_MAX: usize = 1024;

    /// An empty buffer for about so many bytes.
    pub fn take(self: &Arc<Self>, bytes: usize) -> AlignedBuf {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut storage = spare.unwrap_or_default();
        storage.clear();
        storage.reserve(bytes.div_ceil(AlignedBuf::ALIGN));
        AlignedBuf { storage, len: 0, pool: Some(Arc::clone(self)) }
    }

    fn give(&self, storage: Vec<Page>) {
        if storage.capacity() <= Self::PAGES_MAX {
            *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(storage);
        }
    }
}

impl std::fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BufferPool")
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.give(std::mem::take(&mut self.storage));
        }
    }
}

#[derive(Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; 4096]);

impl AlignedBuf {
    pub const ALIGN: usize = 4096;

    pub fn with_capacity(bytes: usize) -> AlignedBuf {
        AlignedBuf { storage: Vec::with_capacity(bytes.div_ceil(Self::ALIGN)), len: 0, pool: None }
    }

    /// Of so many bytes, rounded up to whole pages.
    pub fn zeroed(bytes: usize) -> AlignedBuf {
        let storage = vec![Page([0; 4096]); bytes.div_ceil(Self::ALIGN)];
        AlignedBuf { len: storage.len() * Self::ALIGN, storage, pool: None }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn put(&mut self, bytes: &[u8]) {
        let (start, end) = (self.len, self.len + bytes.len());
        let (held, pages) = (self.storage.len() * Self::ALIGN, end.div_ceil(Self::ALIGN));
        self.storage.reserve(pages.saturating_sub(self.storage.len()));
        let unset = end.max(held);
        // SAFETY: the reserved pages hold `start..end` and all up to the end of the last page; the bytes given cannot lie in them, since
        // the buffer is borrowed alone. Every byte below the new length is written: by the copy, or set to zero here.
        unsafe {
            let base = self.storage.as_mut_ptr().cast::<u8>();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), base.add(start), bytes.len());
            std::ptr::write_bytes(base.add(unset), 0, (pages * Self::ALIGN).saturating_sub(unset));
            self.storage.set_len(pages.max(self.storage.len()));
        }
        self.len = end;
    }

    /// Fills up with zeros to the next multiple of 4096.
    pub fn pad(&mut self) {
        self.len = self.storage.len() * Self::ALIGN;
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let bytes = self.storage.len() * Self::ALIGN;
        // SAFETY: `Page` is plain bytes without padding, and the vector holds exactly that many of them, initialised.
        let all = unsafe { std::slice::from_raw_parts_mut(self.storage.as_mut_ptr().cast::<u8>(), bytes) };
        &mut all[..self.len]
    }
}

impl AsRef<[u8]> for AlignedBuf {
    fn as_ref(&self) -> &[u8] {
        let bytes = self.storage.len() * Self::ALIGN;
        // SAFETY: as in `bytes_mut`.
        let all = unsafe { std::slice::from_raw_parts(self.storage.as_ptr().cast::<u8>(), bytes) };
        &all[..self.len]
    }
}

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBuf({} bytes)", self.len)
    }
}

/// Which thread carries an operation out. Operations of one lane may run side by side, except in `Journal`, which keeps their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    Journal,
    Segments,
}

/// Steps done strictly one after the other; the first that fails ends the operation.
#[derive(Debug)]
pub struct DiskOp {
    pub ticket: Ticket,
    pub lane: Lane,
    pub steps: Vec<Step>,
}

#[derive(Debug)]
pub enum Step {
    Create {
        file: FileId,
    },
    CreateDir {
        dir: PathBuf,
    },
    Write {
        file: FileId,
        at: u64,
        parts: Vec<Bytes>,
        /// Somebody is expected to read them soon.
        cached: bool,
    },
    WriteThrough {
        file: FileId,
        at: u64,
        data: AlignedBuf,
    },
    SetLen {
        file: FileId,
        len: u64,
    },
    Reserve {
        file: FileId,
        len: u64,
    },
    Sync {
        file: FileId,
        /// An answer to a client waits for it.
        awaited: bool,
    },
    SyncDir {
        dir: PathBuf,
    },
    SyncAll,
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    RemoveFile {
        path: PathBuf,
    },
    RemoveDir {
        path: PathBuf,
    },
    Forget {
        file: FileId,
    },
    /// Copies what the journal has for some logs to a file; see `journal::carry`.
    Carry {
        carry: Arc<Carry>,
    },
}

impl Step {
    pub fn run(&self, disk: &dyn Disk) -> Result<(), DiskError> {
        match self {
            Step::Create { file } => disk.create(*file),
            Step::CreateDir { dir } => disk.create_dir(dir),
            Step::Write { file, at, parts, cached: true } => disk.write_at(*file, *at, parts),
            Step::Write { file, at, parts, cached: false } => disk.write_uncached(*file, *at, parts),
            Step::WriteThrough { file, at, data } => disk.write_through(*file, *at, data),
            Step::SetLen { file, len } => disk.set_len(*file, *len),
            Step::Reserve { file, len } => disk.reserve(*file, *len),
            Step::Sync { file, awaited: true } => disk.sync_awaited(*file),
            Step::Sync { file, awaited: false } => disk.sync(*file),
            Step::SyncDir { dir } => disk.sync_dir(dir),
            Step::SyncAll => disk.sync_all(),
            Step::Rename { from, to } => disk.rename(from, to),
            Step::RemoveFile { path } => disk.remove_file(path),
            Step::RemoveDir { path } => disk.remove_dir(path),
            Step::Forget { file } => {
                disk.forget(*file);
                Ok(())
            }
            Step::Carry { carry } => carry.run(disk),
        }
    }
}

impl DiskOp {
    /// Carries all steps out, blocking.
    pub fn run(&self, disk: &dyn Disk) -> Result<(), DiskError> {
        self.steps.iter().try_for_each(|step| step.run(disk))
    }
}

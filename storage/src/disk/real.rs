//! The disk of the machine.
//!
//! Owns descriptors: opened on use, closed when there are too many. Does not own what is written.
//! Invariant: no system call is made with the table of files locked. What a call leaves is
//! asked for again; a failed sync never is.

mod reads;
mod writes;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags};

use super::ahead::ReadAhead;
use super::calls::{DONT_CACHE, list, read_spare, retry, write_parts};
use super::turns::{AllAtOnce, Turns};
use super::{AlignedBuf, DirEntry, Disk, DiskError, FileId, Job, OneByOne, ReadMode, Threads};

/// A smaller write stays in the page cache until a sync: sent to the device at once, it would be written page by page.
const UNCACHED_BYTES_MIN: usize = 64 * 1024;

/// Descriptors kept open, unless told otherwise.
pub const OPEN_FILES_MAX: usize = 4096;

pub struct RealDisk {
    root: PathBuf,
    table: Mutex<Table>,
    open_max: usize,
    clock: AtomicU64,
    turns: Arc<dyn Turns>,
    threads: Arc<dyn Threads>,
    /// Direct I/O was refused once: the file system cannot.
    no_direct: AtomicBool,
    /// `RWF_NOWAIT` is not known here.
    no_nowait: AtomicBool,
    /// `cachestat` has said of something that it is cached.
    cachestat_works: AtomicBool,
    /// `RWF_DONTCACHE` is not known here, by the kernel or the file system.
    no_uncached: AtomicBool,
}

#[derive(Default)]
struct Table {
    next: u64,
    ids: BTreeMap<Arc<Path>, FileId>,
    files: BTreeMap<FileId, Entry>,
    open: usize,
}

struct Entry {
    path: Arc<Path>,
    buffered: Option<Arc<Buffered>>,
    through: Option<Arc<Through>>,
    map: Option<Bytes>,
    used: u64,
}

/// A descriptor for everything else, and what is read ahead on it.
struct Buffered {
    file: File,
    ahead: ReadAhead,
}

/// A descriptor for writes that are durable when they return.
struct Through {
    file: File,
    /// The file was opened for direct, synchronous writes; else a sync must follow.
    direct: bool,
}

impl RealDisk {
    /// `root`: the folder whose file system `sync_all` and `free_bytes` speak of.
    pub fn new(root: &Path, open_max: usize) -> RealDisk {
        RealDisk {
            root: root.into(),
            table: Mutex::default(),
            open_max: open_max.max(16),
            clock: AtomicU64::new(0),
            turns: Arc::new(AllAtOnce),
            threads: Arc::new(OneByOne),
            no_direct: AtomicBool::new(false),
            no_nowait: AtomicBool::new(false),
            cachestat_works: AtomicBool::new(false),
            no_uncached: AtomicBool::new(false),
        }
    }

    /// Reads in turn give way to writes that somebody waits for.
    #[must_use]
    pub fn with_turns(self, turns: Arc<dyn Turns>) -> RealDisk {
        RealDisk { turns, ..self }
    }

    /// What a start does for thousands of logs is done on these.
    #[must_use]
    pub fn with_threads(self, threads: Arc<dyn Threads>) -> RealDisk {
        RealDisk { threads, ..self }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, file: FileId) -> Result<Arc<Path>, DiskError> {
        let table = self.table();
        let path = table.files.get(&file).map(|entry| Arc::clone(&entry.path));
        path.ok_or_else(|| DiskError::NotFound { path: PathBuf::from(format!("file {}, forgotten", file.0)) })
    }

    fn buffered(&self, file: FileId, create: bool) -> Result<Arc<Buffered>, DiskError> {
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        if let Some(entry) = self.table().files.get_mut(&file) {
            entry.used = used;
            if let Some(open) = &entry.buffered {
                return Ok(Arc::clone(open));
            }
        }
        let path = self.path(file)?;
        let opened = retry(|| OpenOptions::new().read(true).write(true).create(create).truncate(false).open(&path));
        let opened = opened.map_err(|error| error_of(&path, "open", &error))?;
        let opened = Arc::new(Buffered { file: opened, ahead: ReadAhead::default() });
        let mut table = self.table();
        let Some(entry) = table.files.get_mut(&file) else { return Ok(opened) };
        if entry.buffered.replace(Arc::clone(&opened)).is_none() {
            table.open += 1;
        }
        let closed = table.close_idle(self.open_max, file);
        drop(table);
        drop(closed);
        Ok(opened)
    }

    /// Closes what is open of one path; its id stays.
    fn close(&self, path: &Path) {
        let mut table = self.table();
        let Some(id) = table.ids.get(path).copied() else { return };
        let Some(entry) = table.files.get_mut(&id) else { return };
        let closed = (entry.buffered.take(), entry.through.take(), entry.map.take());
        table.open -= usize::from(closed.0.is_some());
        drop(table);
        drop(closed);
    }

    /// Forgets what is registered of one path, or of all below a folder, and gives the ids another path if there is one.
    fn moved(&self, from: &Path, to: Option<&Path>) {
        let mut table = self.table();
        let below: Vec<(Arc<Path>, FileId)> = table
            .ids
            .range::<Path, _>((std::ops::Bound::Included(from), std::ops::Bound::Unbounded))
            .take_while(|(path, _)| path.starts_with(from))
            .map(|(path, id)| (Arc::clone(path), *id))
            .collect();
        for (path, id) in below {
            table.ids.remove(&path);
            let Some(to) = to else {
                if let Some(gone) = table.files.remove(&id) {
                    table.open -= usize::from(gone.buffered.is_some());
                }
                continue;
            };
            let rest = path.strip_prefix(from).unwrap_or(Path::new(""));
            let target: Arc<Path> = if rest.as_os_str().is_empty() { to.into() } else { to.join(rest).into() };
            // What was at the target is no more; its id, if it has one, names the newcomer from now on.
            if table.ids.contains_key(&target) {
                if let Some(gone) = table.files.remove(&id) {
                    table.open -= usize::from(gone.buffered.is_some());
                }
                let resident = table.ids.get(&target).copied();
                if let Some(entry) = resident.and_then(|resident| table.files.get_mut(&resident)) {
                    let was_open = entry.buffered.take().is_some();
                    entry.through = None;
                    entry.map = None;
                    table.open -= usize::from(was_open);
                }
                continue;
            }
            table.ids.insert(Arc::clone(&target), id);
            if let Some(entry) = table.files.get_mut(&id) {
                entry.path = target;
            }
        }
    }
}

impl Table {
    /// Takes the descriptors that were not used for longest out of the table; they close when the last user lets go.
    fn close_idle(&mut self, open_max: usize, keep: FileId) -> Vec<Arc<Buffered>> {
        if self.open <= open_max {
            return Vec::new();
        }
        let mut open: Vec<(u64, FileId)> = self
            .files
            .iter()
            .filter(|(id, entry)| entry.buffered.is_some() && **id != keep)
            .map(|(id, entry)| (entry.used, *id))
            .collect();
        open.sort_unstable();
        // A quarter at once, so that this search is rare.
        let goal = open_max - open_max / 4;
        let mut closed = Vec::new();
        for (_, id) in open {
            if self.open <= goal {
                break;
            }
            if let Some(file) = self.files.get_mut(&id).and_then(|entry| entry.buffered.take()) {
                closed.push(file);
                self.open -= 1;
            }
        }
        closed
    }
}

fn error_of(path: &Path, what: &'static str, error: &io::Error) -> DiskError {
    let path = path.to_path_buf();
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => DiskError::NotFound { path },
        Some(Errno::NOSPC | Errno::DQUOT) => DiskError::Full { path, what },
        _ => DiskError::Io { path, what, message: error.to_string() },
    }
}

impl Disk for RealDisk {
    fn file(&self, path: &Path) -> FileId {
        let mut table = self.table();
        if let Some(id) = table.ids.get(path) {
            return *id;
        }
        table.next += 1;
        let id = FileId(table.next);
        let path: Arc<Path> = path.into();
        table.ids.insert(Arc::clone(&path), id);
        table.files.insert(id, Entry { path, buffered: None, through: None, map: None, used: 0 });
        id
    }

    fn forget(&self, file: FileId) {
        let mut table = self.table();
        let gone = table.files.remove(&file);
        if let Some(gone) = &gone {
            table.ids.remove(&gone.path);
            table.open -= usize::from(gone.buffered.is_some());
        }
        drop(table);
        drop(gone);
    }

    fn create(&self, file: FileId) -> Result<(), DiskError> {
        self.buffered(file, true).map(|_| ())
    }

    fn len(&self, file: FileId) -> Result<u64, DiskError> {
        let path = self.path(file)?;
        let metadata = retry(|| std::fs::metadata(&path)).map_err(|error| error_of(&path, "stat", &error))?;
        Ok(metadata.len())
    }

    fn read_at(&self, file: FileId, at: u64, into: &mut [u8], mode: ReadMode) -> Result<usize, DiskError> {
        let open = self.buffered(file, false)?;
        let mut got = 0;
        while got < into.len() {
            let from = at + got as u64;
            let rest = &mut into[got..];
            let left = rest.len();
            let read = self.read_once((file, &open), (from, left), mode, &mut |len, may_wait| {
                let part = &mut rest[..len];
                match may_wait {
                    true => open.file.read_at(part, from),
                    false => {
                        let into = &mut [io::IoSliceMut::new(part)];
                        rustix::io::preadv2(&open.file, into, from, ReadWriteFlags::NOWAIT).map_err(io::Error::from)
                    }
                }
            })?;
            match read {
                Some(0) => break,
                Some(read) => got += read,
                None => {}
            }
        }
        Ok(got)
    }

    fn read_append(
        &self,
        file: FileId,
        at: u64,
        len: usize,
        into: &mut Vec<u8>,
        mode: ReadMode,
    ) -> Result<(), DiskError> {
        let open = self.buffered(file, false)?;
        into.reserve(len);
        let mut got = 0;
        while got < len {
            let (from, left) = (at + got as u64, len - got);
            let read = self.read_once((file, &open), (from, left), mode, &mut |len, may_wait| {
                read_spare(&open.file, from, len, into, may_wait)
            })?;
            match read {
                Some(0) => break,
                Some(read) => got += read,
                None => {}
            }
        }
        Ok(())
    }

    fn read_past_cache(&self, file: FileId, at: u64, len: usize) -> Result<Bytes, DiskError> {
        self.read_direct(file, at, len)
    }

    fn side_by_side(&self) -> usize {
        self.threads.count()
    }

    fn run_all(&self, jobs: Vec<Job<'_>>) {
        self.threads.run_all(jobs);
    }

    fn write_at(&self, file: FileId, at: u64, parts: &[Bytes]) -> Result<(), DiskError> {
        let open = self.buffered(file, false)?;
        let written = write_parts(&open.file, at, parts, ReadWriteFlags::empty());
        written.or_else(|error| Err(error_of(&self.path(file)?, "write", &error.into())))
    }

    fn write_uncached(&self, file: FileId, at: u64, parts: &[Bytes]) -> Result<(), DiskError> {
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        if bytes < UNCACHED_BYTES_MIN || self.no_uncached.load(Ordering::Relaxed) {
            return self.write_at(file, at, parts);
        }
        let open = self.buffered(file, false)?;
        match write_parts(&open.file, at, parts, DONT_CACHE) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.no_uncached.store(true, Ordering::Relaxed);
                self.write_at(file, at, parts)
            }
            written => written.or_else(|error| Err(error_of(&self.path(file)?, "write", &error.into()))),
        }
    }

    fn write_through(&self, file: FileId, at: u64, data: &AlignedBuf) -> Result<(), DiskError> {
        self.write_direct(file, at, data)
    }

    fn reserve(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        let open = self.buffered(file, true)?;
        match rustix::fs::fallocate(&open.file, rustix::fs::FallocateFlags::empty(), 0, len) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => Err(error_of(&self.path(file)?, "reserve", &error.into())),
        }
    }

    fn set_len(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        let open = self.buffered(file, false)?;
        retry(|| open.file.set_len(len)).or_else(|error| Err(error_of(&self.path(file)?, "set the length", &error)))
    }

    fn sync(&self, file: FileId) -> Result<(), DiskError> {
        let open = self.buffered(file, false)?;
        // Not repeated: after a failure the kernel may have marked the pages clean.
        open.file.sync_data().or_else(|error| Err(error_of(&self.path(file)?, "sync", &error)))
    }

    fn sync_awaited(&self, file: FileId) -> Result<(), DiskError> {
        let _turn = self.turns.write();
        self.sync(file)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let open = retry(|| File::open(dir)).map_err(|error| error_of(dir, "open", &error))?;
        open.sync_all().map_err(|error| error_of(dir, "sync", &error))
    }

    fn sync_all(&self) -> Result<(), DiskError> {
        let open = retry(|| File::open(&self.root)).map_err(|error| error_of(&self.root, "open", &error))?;
        rustix::fs::syncfs(&open).map_err(|error| error_of(&self.root, "sync", &error.into()))
    }

    fn map(&self, file: FileId) -> Result<Bytes, DiskError> {
        if let Some(map) = self.table().files.get(&file).and_then(|entry| entry.map.clone()) {
            return Ok(map);
        }
        let open = self.buffered(file, false)?;
        let path = self.path(file)?;
        if self.len(file)? == 0 {
            return Ok(Bytes::new());
        }
        // SAFETY: index files are written only at their end or replaced while nobody maps them; a reader checks the CRC of what it
        // uses, and another process that cuts the file breaks the lock on the data directory.
        let map = unsafe { memmap2::Mmap::map(&open.file) }.map_err(|error| error_of(&path, "map", &error))?;
        Ok(Bytes::from_owner(map))
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, DiskError> {
        list(dir).map_err(|error| error_of(dir, "list", &error))
    }

    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        retry(|| std::fs::create_dir_all(dir)).map_err(|error| error_of(dir, "create", &error))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        retry(|| std::fs::rename(from, to)).map_err(|error| error_of(from, "rename", &error))?;
        self.moved(from, Some(to));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        self.close(path);
        absent_is_fine(retry(|| std::fs::remove_file(path)), path)
    }

    fn remove_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.moved(path, None);
        absent_is_fine(retry(|| std::fs::remove_dir_all(path)), path)
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        let stats = rustix::fs::statvfs(&self.root).map_err(|error| error_of(&self.root, "statvfs", &error.into()))?;
        Ok(stats.f_bavail.saturating_mul(stats.f_frsize))
    }

    fn size_bytes(&self) -> Result<u64, DiskError> {
        let stats = rustix::fs::statvfs(&self.root).map_err(|error| error_of(&self.root, "statvfs", &error.into()))?;
        Ok(stats.f_blocks.saturating_mul(stats.f_frsize))
    }
}

fn absent_is_fine(result: io::Result<()>, path: &Path) -> Result<(), DiskError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error_of(path, "remove", &error)),
        _ => Ok(()),
    }
}

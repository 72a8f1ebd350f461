//! A disk in memory that forgets at a crash what was not synced.
//!
//! Owns two states of each file and folder: as the process sees it, and as it is on the platter. At a crash each sector of each file,
//! and each name in each folder, is taken from one of the two.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;

use crate::disk::{AlignedBuf, DirEntry, Disk, DiskError, FileId, ReadMode};

const SECTOR: usize = 512;

#[derive(Clone)]
enum Inode {
    File { now: Vec<u8>, synced: Vec<u8> },
    Dir { now: BTreeMap<String, u64>, synced: BTreeMap<String, u64> },
}

struct State {
    inodes: BTreeMap<u64, Inode>,
    next: u64,
    paths: Vec<Option<PathBuf>>,
    /// Effects until the crash.
    fuse: Option<u64>,
    full: bool,
    effects: u64,
    lists: u64,
    segment_reads: u64,
    random: u64,
}

pub(crate) struct MemDisk {
    state: Mutex<State>,
}

/// What a crash leaves of what was not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Crash {
    Everything,
    Nothing,
    Mixed,
}

const ROOT: u64 = 0;

impl MemDisk {
    pub(crate) fn new(random: u64) -> MemDisk {
        let root = Inode::Dir { now: BTreeMap::new(), synced: BTreeMap::new() };
        let inodes = BTreeMap::from([(ROOT, root)]);
        let state = State {
            inodes,
            next: 1,
            paths: Vec::new(),
            fuse: None,
            full: false,
            effects: 0,
            lists: 0,
            segment_reads: 0,
            random: random | 1,
        };
        MemDisk { state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn effects(&self) -> u64 {
        self.state().effects
    }

    /// How often a folder was listed.
    pub(crate) fn lists(&self) -> u64 {
        self.state().lists
    }

    /// How often bytes of a segment were asked for.
    pub(crate) fn segment_reads(&self) -> u64 {
        self.state().segment_reads
    }

    /// The power goes with the effect after `effects` more.
    pub(crate) fn set_fuse(&self, effects: u64) {
        self.state().fuse = Some(effects);
    }

    /// Writes fail for lack of space, some after a part.
    pub(crate) fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// The disk as the next start finds it.
    pub(crate) fn crashed(&self, crash: Crash) -> MemDisk {
        let mut state = self.state();
        let mut inodes = state.inodes.clone();
        for inode in inodes.values_mut() {
            match inode {
                Inode::File { now, synced } => {
                    let left = mix_bytes(now, synced, crash, &mut state);
                    (*now, *synced) = (left.clone(), left);
                }
                Inode::Dir { now, synced } => {
                    let mut left = BTreeMap::new();
                    let names: Vec<String> = now.keys().chain(synced.keys()).cloned().collect();
                    for name in names {
                        let from = if state.takes_new(crash) { &*now } else { &*synced };
                        // Asked twice for a name in both: either answer is a legal one.
                        left.remove(&name);
                        from.get(&name).map(|id| left.insert(name, *id));
                    }
                    (*now, *synced) = (left.clone(), left);
                }
            }
        }
        let random = state.next_random() | 1;
        let next = State {
            inodes,
            next: state.next,
            paths: Vec::new(),
            fuse: None,
            full: false,
            effects: 0,
            lists: 0,
            segment_reads: 0,
            random,
        };
        MemDisk { state: Mutex::new(next) }
    }
}

fn mix_bytes(now: &[u8], synced: &[u8], crash: Crash, state: &mut State) -> Vec<u8> {
    let len = if state.takes_new(crash) { now.len() } else { synced.len() };
    let mut left = vec![0; len];
    for at in (0..len).step_by(SECTOR) {
        let end = len.min(at + SECTOR);
        let from = if state.takes_new(crash) { now } else { synced };
        let part = from.get(at..end.min(from.len())).unwrap_or_default();
        left[at..at + part.len()].copy_from_slice(part);
    }
    left
}

impl State {
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }

    fn takes_new(&mut self, crash: Crash) -> bool {
        match crash {
            Crash::Everything => true,
            Crash::Nothing => false,
            Crash::Mixed => self.next_random().is_multiple_of(2),
        }
    }

    /// Counts an effect. `Err` when the power is gone.
    fn effect(&mut self) -> Result<(), DiskError> {
        self.effects += 1;
        match &mut self.fuse {
            Some(0) => Err(DiskError::Io { path: PathBuf::new(), what: "power", message: "gone".into() }),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn find(&self, path: &Path) -> Option<u64> {
        path.components().try_fold(ROOT, |at, part| match (part, self.inodes.get(&at)?) {
            (Component::RootDir, _) => Some(at),
            (Component::Normal(name), Inode::Dir { now, .. }) => now.get(name.to_str()?).copied(),
            _ => None,
        })
    }

    fn find_or(&self, path: &Path) -> Result<u64, DiskError> {
        self.find(path).ok_or_else(|| DiskError::NotFound { path: path.into() })
    }

    fn names(&mut self, path: &Path) -> Result<&mut BTreeMap<String, u64>, DiskError> {
        let id = self.find_or(path)?;
        match self.inodes.get_mut(&id) {
            Some(Inode::Dir { now, .. }) => Ok(now),
            _ => Err(DiskError::NotFound { path: path.into() }),
        }
    }

    fn path(&self, file: FileId) -> Result<PathBuf, DiskError> {
        let path = self.paths.get(usize::try_from(file.0).unwrap()).cloned().flatten();
        path.ok_or_else(|| DiskError::NotFound { path: "forgotten".into() })
    }

    fn content(&mut self, file: FileId) -> Result<(&mut Vec<u8>, &mut Vec<u8>), DiskError> {
        let path = self.path(file)?;
        let id = self.find_or(&path)?;
        match self.inodes.get_mut(&id) {
            Some(Inode::File { now, synced }) => Ok((now, synced)),
            _ => Err(DiskError::NotFound { path }),
        }
    }

    fn add(&mut self, path: &Path, inode: Inode) -> Result<(), DiskError> {
        let id = self.next;
        let name = name_of(path);
        let names = self.names(path.parent().unwrap())?;
        if names.contains_key(&name) {
            return Ok(());
        }
        names.insert(name, id);
        self.next += 1;
        self.inodes.insert(id, inode);
        Ok(())
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn put(content: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let at = usize::try_from(at).unwrap();
    content.resize(content.len().max(at + bytes.len()), 0);
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

impl Disk for MemDisk {
    fn file(&self, path: &Path) -> FileId {
        let mut state = self.state();
        let known = state.paths.iter().position(|known| known.as_deref() == Some(path));
        let id = known.unwrap_or(state.paths.len());
        if known.is_none() {
            state.paths.push(Some(path.into()));
        }
        FileId(id as u64)
    }

    fn forget(&self, file: FileId) {
        if let Some(path) = self.state().paths.get_mut(usize::try_from(file.0).unwrap()) {
            *path = None;
        }
    }

    fn create(&self, file: FileId) -> Result<(), DiskError> {
        let mut state = self.state();
        state.effect()?;
        let path = state.path(file)?;
        state.add(&path, Inode::File { now: Vec::new(), synced: Vec::new() })
    }

    fn len(&self, file: FileId) -> Result<u64, DiskError> {
        Ok(self.state().content(file)?.0.len() as u64)
    }

    /// One after the other, but in runs as a disk gives them out that has threads.
    fn side_by_side(&self) -> usize {
        3
    }

    fn read_at(&self, file: FileId, at: u64, into: &mut [u8], _mode: ReadMode) -> Result<usize, DiskError> {
        let mut state = self.state();
        let path = state.paths.get(usize::try_from(file.0).unwrap()).cloned().flatten();
        state.segment_reads += u64::from(path.is_some_and(|path| path.extension().is_some_and(|kind| kind == "log")));
        let content = state.content(file)?.0;
        let rest = content.get(usize::try_from(at).unwrap()..).unwrap_or_default();
        let len = rest.len().min(into.len());
        into[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    fn write_at(&self, file: FileId, at: u64, parts: &[Bytes]) -> Result<(), DiskError> {
        let mut state = self.state();
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
        let half = usize::try_from(state.next_random()).unwrap() % (bytes.len() + 1);
        let alive = state.effect();
        let full = state.full;
        let content = state.content(file)?.0;
        if alive.is_err() || full {
            put(content, at, &bytes[..half]);
            alive?;
            return Err(DiskError::Full { path: PathBuf::new(), what: "write" });
        }
        put(content, at, &bytes);
        Ok(())
    }

    fn write_through(&self, file: FileId, at: u64, data: &AlignedBuf) -> Result<(), DiskError> {
        let mut state = self.state();
        let alive = state.effect();
        let bytes = data.as_ref();
        for (number, sector) in bytes.chunks(SECTOR).enumerate() {
            // The power may go in the middle, and sectors are written in any order.
            if alive.is_ok() || state.next_random().is_multiple_of(2) {
                let (now, synced) = state.content(file)?;
                put(now, at + (number * SECTOR) as u64, sector);
                put(synced, at + (number * SECTOR) as u64, sector);
            }
        }
        alive
    }

    fn set_len(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        let mut state = self.state();
        state.effect()?;
        state.content(file)?.0.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync(&self, file: FileId) -> Result<(), DiskError> {
        let mut state = self.state();
        state.effect()?;
        let (now, synced) = state.content(file)?;
        synced.clone_from(now);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let mut state = self.state();
        state.effect()?;
        let id = state.find_or(dir)?;
        if let Some(Inode::Dir { now, synced }) = state.inodes.get_mut(&id) {
            synced.clone_from(now);
        }
        Ok(())
    }

    fn sync_all(&self) -> Result<(), DiskError> {
        let mut state = self.state();
        state.effect()?;
        for inode in state.inodes.values_mut() {
            match inode {
                Inode::File { now, synced } => synced.clone_from(now),
                Inode::Dir { now, synced } => synced.clone_from(now),
            }
        }
        Ok(())
    }

    fn map(&self, file: FileId) -> Result<Bytes, DiskError> {
        Ok(Bytes::from(self.state().content(file)?.0.clone()))
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, DiskError> {
        let mut state = self.state();
        state.lists += 1;
        let names = state.names(dir)?.clone();
        let entry = |(name, id): (String, u64)| match state.inodes.get(&id) {
            Some(Inode::File { now, .. }) => DirEntry { name, is_dir: false, len: now.len() as u64 },
            _ => DirEntry { name, is_dir: true, len: 0 },
        };
        Ok(names.into_iter().map(entry).collect())
    }

    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let mut state = self.state();
        state.effect()?;
        let missing: Vec<_> = dir.ancestors().filter(|path| path.parent().is_some()).collect();
        let dir = || Inode::Dir { now: BTreeMap::new(), synced: BTreeMap::new() };
        missing.into_iter().rev().try_for_each(|path| state.add(path, dir()))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut state = self.state();
        state.effect()?;
        let id = state.find_or(from)?;
        state.names(from.parent().unwrap())?.remove(&name_of(from));
        state.names(to.parent().unwrap())?.insert(name_of(to), id);
        for path in state.paths.iter_mut().flatten() {
            if let Ok(rest) = path.strip_prefix(from) {
                *path = if rest.as_os_str().is_empty() { to.into() } else { to.join(rest) };
            }
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.state();
        state.effect()?;
        if state.find(path).is_some() {
            state.names(path.parent().unwrap())?.remove(&name_of(path));
        }
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.remove_file(path)
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        Ok(u64::MAX)
    }
}

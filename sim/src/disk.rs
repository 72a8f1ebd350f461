//! A disk that forgets: what was not synced may be lost, torn or kept, as the seed decides.
//!
//! Owns the model of a POSIX file system under power loss: per file the durable content and the ordered operations since its last sync;
//! per folder the durable names and the ordered changes since its last sync. A crash keeps any subset of a file's pending operations
//! (each write cut at 512 byte sectors) and any prefix of a folder's pending name changes.
//! Does not own time: the world decides when a step runs and when the power goes.
//! Invariant: `crash` yields only states that the rules above allow; content that was synced under a durable name is always there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use storage::disk::{AlignedBuf, DirEntry, Disk, DiskError, FileId, ReadMode};

use crate::content::Content;
use crate::power::Mutation;
use crate::rng::Rng;

/// What a device writes as one piece.
pub const SECTOR: usize = 512;

pub(crate) type Inode = u64;

#[derive(Clone, Debug)]
pub(crate) enum Pending {
    Write { at: u64, data: Bytes },
    SetLen { len: u64 },
}

#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    pub(crate) durable: Content,
    current: Content,
    pub(crate) pending: Vec<Pending>,
}

impl File {
    fn apply(content: &mut Content, op: &Pending) {
        match op {
            Pending::Write { at, data } => content.write(*at, data),
            Pending::SetLen { len } => content.set_len(*len),
        }
    }

    /// The durable content with those pending operations on top that survive.
    pub(crate) fn durable_with(&self, mut survives: impl FnMut(&Pending) -> bool) -> Content {
        let mut content = self.durable.clone();
        self.pending.iter().filter(|op| survives(op)).for_each(|op| File::apply(&mut content, op));
        content
    }

    fn push(&mut self, op: Pending) {
        File::apply(&mut self.current, &op);
        self.pending.push(op);
    }

    /// Only what is pending reaches the device: what an earlier failed sync dropped stays in the page cache alone.
    fn sync(&mut self) {
        for op in std::mem::take(&mut self.pending) {
            File::apply(&mut self.durable, &op);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    File(Inode),
    Dir,
}

/// One change of names; both ends of a rename are one change, as in a journalling file system.
#[derive(Clone, Debug)]
pub(crate) enum NameChange {
    Put { path: PathBuf, entry: Entry },
    Remove { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
}

pub(crate) type Names = BTreeMap<PathBuf, Entry>;

fn apply_name_change(names: &mut Names, change: &NameChange) {
    match change {
        NameChange::Put { path, entry } => {
            names.insert(path.clone(), *entry);
        }
        NameChange::Remove { path } => names.retain(|name, _| !name.starts_with(path)),
        NameChange::Rename { from, to } => {
            let moved: Vec<_> =
                names.iter().filter(|(name, _)| name.starts_with(from)).map(|(n, e)| (n.clone(), *e)).collect();
            if moved.is_empty() {
                return;
            }
            names.retain(|name, _| !name.starts_with(from) && !name.starts_with(to));
            for (name, entry) in moved {
                let below = name.strip_prefix(from).expect("filtered by this prefix");
                let target = if below.as_os_str().is_empty() { to.clone() } else { to.join(below) };
                names.insert(target, entry);
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) files: BTreeMap<Inode, Arc<File>>,
    next_inode: Inode,
    names: Names,
    durable_names: Names,
    /// In the order in which they were made, over all folders.
    pub(crate) pending_names: Vec<NameChange>,
    ids: BTreeMap<FileId, PathBuf>,
    ids_by_path: BTreeMap<PathBuf, FileId>,
    next_id: u64,
    bytes_max: Option<u64>,
    failing_syncs: bool,
    /// Mutations still let through before the power goes; `None`: it stays.
    pub(crate) fuse: Option<u64>,
    pub(crate) trace: Option<Vec<Mutation>>,
    pub(crate) mutations: u64,
}

/// How much of what was pending survives a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survival {
    Nothing,
    Everything,
    /// Drawn by the seed, operation by operation and sector by sector.
    Drawn,
}

#[derive(Debug, Default)]
pub struct SimDisk {
    state: Mutex<State>,
}

impl SimDisk {
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("one thread uses it")
    }

    /// An independent copy, pending operations included. Cheap: contents are shared until written.
    #[must_use]
    pub fn fork(&self) -> SimDisk {
        SimDisk { state: Mutex::new(self.lock().clone()) }
    }

    /// The disk as a new process finds it after the power came back.
    #[must_use]
    pub fn after_crash(&self, survival: Survival, rng: &mut Rng) -> SimDisk {
        let state = self.lock();
        let kept = match survival {
            Survival::Nothing => 0,
            Survival::Everything => state.pending_names.len(),
            Survival::Drawn => rng.index(state.pending_names.len() + 1),
        };
        state.restarted(state.names_with(kept), |_, file| surviving_content(file, survival, rng))
    }

    /// After a kill of the process alone: the kernel still holds everything.
    #[must_use]
    pub fn after_kill(&self) -> SimDisk {
        let copy = self.fork();
        {
            let mut state = copy.lock();
            state.ids.clear();
            state.ids_by_path.clear();
        }
        copy
    }

    /// File operations and name changes that a crash could still lose.
    pub fn pending_operations(&self) -> usize {
        let state = self.lock();
        state.pending_names.len() + state.files.values().map(|file| file.pending.len()).sum::<usize>()
    }

    /// From now on the disk holds at most this much; `None` lifts the bound.
    pub fn set_capacity(&self, bytes_max: Option<u64>) {
        self.lock().bytes_max = bytes_max;
    }

    /// While set, every sync fails and, as on Linux, what was pending counts as clean although it never reached the device.
    pub fn set_failing_syncs(&self, failing: bool) {
        self.lock().failing_syncs = failing;
    }

    /// A write of which only some sectors arrived when the power went.
    pub fn tear_write(&self, file: FileId, at: u64, data: &[u8], through: bool, rng: &mut Rng) {
        let mut state = self.lock();
        let Ok(inode) = state.inode(file) else { return };
        let torn = torn_sectors(at, data, rng);
        let file = Arc::make_mut(state.files.entry(inode).or_default());
        for (at, piece) in torn {
            let op = Pending::Write { at, data: piece };
            if through {
                File::apply(&mut file.durable, &op);
                File::apply(&mut file.current, &op);
            } else {
                file.push(op);
            }
        }
    }

    /// A sync that had made only some of the pending operations durable when the power went.
    pub fn tear_sync(&self, file: FileId, rng: &mut Rng) {
        let mut state = self.lock();
        let Ok(inode) = state.inode(file) else { return };
        let file = Arc::make_mut(state.files.entry(inode).or_default());
        file.durable = surviving_content(file, Survival::Drawn, rng);
        file.current = file.durable.clone();
        file.pending.clear();
    }

    /// Flips one bit of a file's durable content; false where the file is shorter.
    pub fn flip_bit(&self, path: &Path, at: u64) -> bool {
        let mut state = self.lock();
        let Some(Entry::File(inode)) = state.names.get(path).copied() else { return false };
        let file = Arc::make_mut(state.files.entry(inode).or_default());
        let mut byte = [0u8; 1];
        if file.current.read(at, &mut byte) == 0 {
            return false;
        }
        let flipped = [byte[0] ^ 0x10];
        file.current.write(at, &flipped);
        file.durable.write(at, &flipped);
        true
    }

    /// All file paths with their lengths, sorted.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.lock();
        let length = |inode| state.files.get(inode).map_or(0, |file: &Arc<File>| file.current.len());
        state
            .names
            .iter()
            .filter_map(
                |(path, entry)| if let Entry::File(inode) = entry { Some((path.clone(), length(inode))) } else { None },
            )
            .collect()
    }
}

/// A name whose folder did not survive cannot be reached.
fn drop_unreachable(names: &mut Names) {
    let dirs: Vec<_> = names.iter().filter(|(_, entry)| **entry == Entry::Dir).map(|(path, _)| path.clone()).collect();
    let reachable = |path: &Path| {
        path.ancestors().skip(1).all(|dir| {
            dir.as_os_str().is_empty() || dir == Path::new("/") || dirs.binary_search(&dir.to_path_buf()).is_ok()
        })
    };
    names.retain(|path, _| reachable(path));
}

fn torn_sectors(at: u64, data: &[u8], rng: &mut Rng) -> Vec<(u64, Bytes)> {
    let mut kept = Vec::new();
    let mut start = 0;
    while start < data.len() {
        let into_sector = usize::try_from((at + start as u64) % SECTOR as u64).expect("below a sector");
        let end = (start + SECTOR - into_sector).min(data.len());
        if rng.chance(1, 2) {
            kept.push((at + start as u64, Bytes::copy_from_slice(&data[start..end])));
        }
        start = end;
    }
    kept
}

fn surviving_content(file: &File, survival: Survival, rng: &mut Rng) -> Content {
    match survival {
        Survival::Nothing => file.durable.clone(),
        Survival::Everything => file.durable_with(|_| true),
        Survival::Drawn => {
            let mut content = file.durable.clone();
            for op in &file.pending {
                match (rng.below(4), op) {
                    (0, _) => {}
                    (1, Pending::Write { at, data }) => {
                        for (at, piece) in torn_sectors(*at, data, rng) {
                            content.write(at, &piece);
                        }
                    }
                    _ => File::apply(&mut content, op),
                }
            }
            content
        }
    }
}

impl State {
    /// The durable names with the first `kept` pending changes.
    pub(crate) fn names_with(&self, kept: usize) -> Names {
        let mut names = self.durable_names.clone();
        self.pending_names.iter().take(kept).for_each(|change| apply_name_change(&mut names, change));
        names
    }

    /// The disk of a new process: these names, and of each file what is given.
    pub(crate) fn restarted(&self, mut names: Names, mut content_of: impl FnMut(Inode, &File) -> Content) -> SimDisk {
        drop_unreachable(&mut names);
        let inodes =
            names.values().filter_map(|entry| if let Entry::File(inode) = entry { Some(*inode) } else { None });
        let mut files = BTreeMap::new();
        for inode in inodes {
            if let Some(file) = self.files.get(&inode) {
                let content = content_of(inode, file);
                files.insert(inode, Arc::new(File { durable: content.clone(), current: content, pending: Vec::new() }));
            }
        }
        let after = State {
            files,
            next_inode: self.next_inode,
            durable_names: names.clone(),
            names,
            bytes_max: self.bytes_max,
            ..State::default()
        };
        SimDisk { state: Mutex::new(after) }
    }

    /// Counts and remembers a mutation that is about to be carried out; refuses it once the power is gone.
    fn begin(&mut self, mutation: impl FnOnce(&State) -> Mutation) -> Result<(), DiskError> {
        if let Some(left) = &mut self.fuse {
            if *left == 0 {
                return Err(DiskError::Io { path: PathBuf::new(), what: "power", message: "gone (simulated)".into() });
            }
            *left -= 1;
        }
        self.mutations += 1;
        if self.trace.is_some() {
            let mutation = mutation(self);
            self.trace.get_or_insert_default().push(mutation);
        }
        Ok(())
    }

    fn path(&self, file: FileId) -> PathBuf {
        self.ids.get(&file).cloned().unwrap_or_default()
    }

    fn inode(&self, file: FileId) -> Result<Inode, DiskError> {
        let path = self.path(file);
        match self.names.get(&path) {
            Some(Entry::File(inode)) => Ok(*inode),
            _ => Err(DiskError::NotFound { path }),
        }
    }

    fn change_names(&mut self, change: NameChange) {
        apply_name_change(&mut self.names, &change);
        self.pending_names.push(change);
    }

    fn parent_must_exist(&self, path: &Path) -> Result<(), DiskError> {
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() && parent != Path::new("/") => {
                match self.names.get(parent) {
                    Some(Entry::Dir) => Ok(()),
                    _ => Err(DiskError::NotFound { path: parent.to_path_buf() }),
                }
            }
            _ => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.files.values().map(|file| file.current.len()).sum()
    }

    fn room_for(&self, file: FileId, more: u64) -> Result<(), DiskError> {
        match self.bytes_max {
            Some(max) if self.used() + more > max => Err(DiskError::Full { path: self.path(file), what: "write" }),
            _ => Ok(()),
        }
    }

    fn file_mut(&mut self, file: FileId) -> Result<&mut File, DiskError> {
        let inode = self.inode(file)?;
        Ok(Arc::make_mut(self.files.entry(inode).or_default()))
    }

    fn refuse_sync(&mut self, file: FileId) -> DiskError {
        let path = self.path(file);
        if let Ok(file) = self.file_mut(file) {
            file.pending.clear();
        }
        DiskError::Io { path, what: "sync", message: "input/output error (simulated)".into() }
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new(""))
}

fn touches(change: &NameChange, dir: &Path) -> bool {
    match change {
        NameChange::Put { path, .. } | NameChange::Remove { path } => parent_of(path) == dir,
        NameChange::Rename { from, to } => parent_of(from) == dir || parent_of(to) == dir,
    }
}

impl Disk for SimDisk {
    fn file(&self, path: &Path) -> FileId {
        let mut state = self.lock();
        if let Some(id) = state.ids_by_path.get(path) {
            return *id;
        }
        state.next_id += 1;
        let id = FileId(state.next_id);
        state.ids.insert(id, path.to_path_buf());
        state.ids_by_path.insert(path.to_path_buf(), id);
        id
    }

    fn forget(&self, file: FileId) {
        let mut state = self.lock();
        if let Some(path) = state.ids.remove(&file) {
            state.ids_by_path.remove(&path);
        }
    }

    fn create(&self, file: FileId) -> Result<(), DiskError> {
        let mut state = self.lock();
        let path = state.path(file);
        if state.names.contains_key(&path) {
            return Ok(());
        }
        state.parent_must_exist(&path)?;
        state.begin(|_| Mutation::Create { path: path.clone() })?;
        state.next_inode += 1;
        let inode = state.next_inode;
        state.files.insert(inode, Arc::default());
        state.change_names(NameChange::Put { path, entry: Entry::File(inode) });
        Ok(())
    }

    fn len(&self, file: FileId) -> Result<u64, DiskError> {
        let state = self.lock();
        let inode = state.inode(file)?;
        Ok(state.files.get(&inode).map_or(0, |file| file.current.len()))
    }

    fn read_at(&self, file: FileId, at: u64, into: &mut [u8], _mode: ReadMode) -> Result<usize, DiskError> {
        let state = self.lock();
        let inode = state.inode(file)?;
        Ok(state.files.get(&inode).map_or(0, |file| file.current.read(at, into)))
    }

    fn write_at(&self, file: FileId, at: u64, parts: &[Bytes]) -> Result<(), DiskError> {
        let mut state = self.lock();
        let more = parts.iter().map(|part| part.len() as u64).sum();
        state.room_for(file, more)?;
        state.begin(|state| Mutation::Write { path: state.path(file), at, parts: parts.to_vec() })?;
        let target = state.file_mut(file)?;
        let mut position = at;
        for part in parts {
            target.push(Pending::Write { at: position, data: part.clone() });
            position += part.len() as u64;
        }
        Ok(())
    }

    fn write_through(&self, file: FileId, at: u64, data: &AlignedBuf) -> Result<(), DiskError> {
        let mut state = self.lock();
        if state.failing_syncs {
            return Err(state.refuse_sync(file));
        }
        let data = Bytes::copy_from_slice(data.as_ref());
        state.begin(|state| Mutation::WriteThrough { path: state.path(file), at, data: data.clone() })?;
        let target = state.file_mut(file)?;
        target.push(Pending::Write { at, data });
        target.sync();
        Ok(())
    }

    fn set_len(&self, file: FileId, len: u64) -> Result<(), DiskError> {
        let mut state = self.lock();
        state.begin(|state| Mutation::SetLen { path: state.path(file), len })?;
        state.file_mut(file)?.push(Pending::SetLen { len });
        Ok(())
    }

    fn sync(&self, file: FileId) -> Result<(), DiskError> {
        let mut state = self.lock();
        if state.failing_syncs {
            return Err(state.refuse_sync(file));
        }
        state.begin(|state| Mutation::Sync { path: state.path(file) })?;
        state.file_mut(file)?.sync();
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let mut state = self.lock();
        state.begin(|_| Mutation::SyncDir { dir: dir.to_path_buf() })?;
        let changes = std::mem::take(&mut state.pending_names);
        let mut kept = Vec::new();
        for change in changes {
            if touches(&change, dir) { apply_name_change(&mut state.durable_names, &change) } else { kept.push(change) }
        }
        state.pending_names = kept;
        Ok(())
    }

    fn sync_all(&self) -> Result<(), DiskError> {
        let mut state = self.lock();
        state.begin(|_| Mutation::SyncAll)?;
        let inodes: Vec<_> =
            state.files.iter().filter(|(_, file)| !file.pending.is_empty()).map(|(inode, _)| *inode).collect();
        for inode in inodes {
            Arc::make_mut(state.files.entry(inode).or_default()).sync();
        }
        state.durable_names = state.names.clone();
        state.pending_names.clear();
        Ok(())
    }

    fn map(&self, file: FileId) -> Result<Bytes, DiskError> {
        let length = usize::try_from(self.len(file)?).expect("simulated files are small");
        let mut content = vec![0; length];
        self.read_at(file, 0, &mut content, ReadMode::Blocking)?;
        Ok(content.into())
    }

    fn list(&self, dir: &Path) -> Result<Vec<DirEntry>, DiskError> {
        let state = self.lock();
        if !matches!(state.names.get(dir), Some(Entry::Dir)) {
            return Err(DiskError::NotFound { path: dir.to_path_buf() });
        }
        let below = state.names.range(dir.to_path_buf()..).take_while(|(path, _)| path.starts_with(dir));
        let direct = below.filter(|(path, _)| path.parent() == Some(dir));
        Ok(direct
            .filter_map(|(path, entry)| {
                let name = path.file_name()?.to_str()?.to_owned();
                let len = if let Entry::File(inode) = entry {
                    state.files.get(inode).map_or(0, |f| f.current.len())
                } else {
                    0
                };
                Some(DirEntry { name, is_dir: *entry == Entry::Dir, len })
            })
            .collect())
    }

    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        let mut state = self.lock();
        let mut missing: Vec<_> =
            dir.ancestors().filter(|path| !path.as_os_str().is_empty() && *path != Path::new("/")).collect();
        missing.reverse();
        if missing.iter().all(|path| state.names.contains_key(*path)) {
            return Ok(());
        }
        state.begin(|_| Mutation::CreateDir { dir: dir.to_path_buf() })?;
        for path in missing {
            if !state.names.contains_key(path) {
                state.change_names(NameChange::Put { path: path.to_path_buf(), entry: Entry::Dir });
            }
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut state = self.lock();
        if !state.names.contains_key(from) {
            return Err(DiskError::NotFound { path: from.to_path_buf() });
        }
        state.parent_must_exist(to)?;
        state.begin(|_| Mutation::Rename { from: from.to_path_buf(), to: to.to_path_buf() })?;
        state.change_names(NameChange::Rename { from: from.to_path_buf(), to: to.to_path_buf() });
        let moved: Vec<_> =
            state.ids.iter().filter(|(_, path)| path.starts_with(from)).map(|(id, p)| (*id, p.clone())).collect();
        for (id, path) in moved {
            let below = path.strip_prefix(from).expect("filtered by this prefix");
            let target = if below.as_os_str().is_empty() { to.to_path_buf() } else { to.join(below) };
            state.ids_by_path.remove(&path);
            state.ids_by_path.insert(target.clone(), id);
            state.ids.insert(id, target);
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.lock();
        if state.names.contains_key(path) {
            state.begin(|_| Mutation::Remove { path: path.to_path_buf() })?;
            state.change_names(NameChange::Remove { path: path.to_path_buf() });
        }
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> Result<(), DiskError> {
        self.remove_file(path)
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        let state = self.lock();
        Ok(state.bytes_max.map_or(1 << 40, |max| max.saturating_sub(state.used())))
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;

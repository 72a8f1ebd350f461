//! A disk that forgets: what was not synced may be lost, torn or kept, as the seed decides.
//!
//! Owns the model of a POSIX file system under power loss: per file the durable content and the ordered operations since its last sync;
//! per folder the durable names and the ordered changes since its last sync. A crash keeps any subset of a file's pending operations
//! (each write cut at 512 byte sectors) and any prefix of a folder's pending name changes.
//! Does not own time: the world decides when a step runs and when the power goes.
//! Invariant: `crash` yields only states that the rules above allow; content that was synced under a durable name is always there.

mod by_path;
pub mod content;
mod crash;
mod file;
mod names;
pub mod power;
mod state;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use storage::disk::{AlignedBuf, DirEntry, Disk, DiskError, FileId, ReadMode};

pub use crash::{SECTOR, Survival};
use file::{File, Pending};
use names::{Entry, NameChange, apply_name_change, moves_away, touches};
use power::Mutation;
use state::{Id, State};

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

    /// What all files take.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used()
    }

    /// How large the file system says that it is. Its bound is another: see `set_capacity`.
    pub fn set_size(&self, bytes: u64) {
        self.lock().size = Some(bytes);
    }

    /// From now on the disk holds at most this much; `None` lifts the bound.
    pub fn set_capacity(&self, bytes_max: Option<u64>) {
        self.lock().bytes_max = bytes_max;
    }

    /// While set, every sync fails and, as on Linux, what was pending counts as clean although it never reached the device.
    pub fn set_failing_syncs(&self, failing: bool) {
        self.lock().failing_syncs = failing;
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

    /// The device holds other bytes than were written, in its cache and for good; as far as the file reaches.
    pub fn overwrite(&self, path: &Path, at: u64, data: &[u8]) {
        let mut state = self.lock();
        let Some(Entry::File(inode)) = state.names.get(path).copied() else { return };
        let file = Arc::make_mut(state.files.entry(inode).or_default());
        let room = usize::try_from(file.current.len().saturating_sub(at)).unwrap_or(usize::MAX);
        let data = &data[..data.len().min(room)];
        file.current.write(at, data);
        file.durable.write(at, data);
    }

    /// What a file holds, as far as it reaches.
    pub fn bytes_of(&self, path: &Path) -> Vec<u8> {
        let state = self.lock();
        let Some(Entry::File(inode)) = state.names.get(path).copied() else { return Vec::new() };
        let Some(file) = state.files.get(&inode) else { return Vec::new() };
        let mut bytes = vec![0; usize::try_from(file.current.len()).expect("simulated files are small")];
        file.current.read(0, &mut bytes);
        bytes
    }

    /// All file paths with their lengths, sorted.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.lock();
        let length = |inode| state.files.get(inode).map_or(0, |file: &Arc<File>| file.current.len());
        state
            .names
            .iter()
            .filter_map(
                |(path, entry)| {
                    if let Entry::File(inode) = entry { Some((path.to_path_buf(), length(inode))) } else { None }
                },
            )
            .collect()
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
        state.ids.insert(id, Id::new(path.to_path_buf()));
        state.ids_by_path.insert(path.to_path_buf(), id);
        id
    }

    fn forget(&self, file: FileId) {
        let mut state = self.lock();
        if let Some(id) = state.ids.remove(&file) {
            state.ids_by_path.remove(&id.path);
        }
    }

    fn create(&self, file: FileId) -> Result<(), DiskError> {
        let mut state = self.lock();
        let path = state.path(file);
        if state.names.contains(&path) {
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
        let data = data.as_ref();
        state.begin(|state| Mutation::WriteThrough {
            path: state.path(file),
            at,
            data: Bytes::copy_from_slice(data),
        })?;
        state.file_mut(file)?.write_through(at, data);
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
            // An earlier folder of this name goes first, or what is in the new one would go with it.
            if touches(&change, dir) || moves_away(&change, dir) {
                apply_name_change(&mut state.durable_names, &change);
            } else {
                kept.push(change);
            }
        }
        state.pending_names = kept;
        state.collect();
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
        state.collect();
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
        let direct = state.names.below(dir).filter(|(path, _)| path.parent() == Some(dir));
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
        if missing.iter().all(|path| state.names.contains(path)) {
            return Ok(());
        }
        state.begin(|_| Mutation::CreateDir { dir: dir.to_path_buf() })?;
        for path in missing {
            if !state.names.contains(path) {
                state.change_names(NameChange::Put { path: path.to_path_buf(), entry: Entry::Dir });
            }
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut state = self.lock();
        if !state.names.contains(from) {
            return Err(DiskError::NotFound { path: from.to_path_buf() });
        }
        state.parent_must_exist(to)?;
        state.begin(|_| Mutation::Rename { from: from.to_path_buf(), to: to.to_path_buf() })?;
        state.change_names(NameChange::Rename { from: from.to_path_buf(), to: to.to_path_buf() });
        let below = state.ids.iter().filter(|(_, id)| id.path.starts_with(from));
        let moved: Vec<_> = below.map(|(number, id)| (*number, id.path.clone())).collect();
        for (id, path) in moved {
            let below = path.strip_prefix(from).expect("filtered by this prefix");
            let target = if below.as_os_str().is_empty() { to.to_path_buf() } else { to.join(below) };
            state.ids_by_path.remove(&path);
            state.ids_by_path.insert(target.clone(), id);
            state.ids.insert(id, Id::new(target));
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> Result<(), DiskError> {
        let mut state = self.lock();
        if state.names.contains(path) {
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
        let max = state.bytes_max.or(state.size).unwrap_or(1 << 40);
        Ok(max.saturating_sub(state.used()))
    }

    fn size_bytes(&self) -> Result<u64, DiskError> {
        Ok(self.lock().size.unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;

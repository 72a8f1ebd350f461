//! All that a simulated disk knows: files, names, the ids that processes use, and its troubles.
//!
//! Invariant: an id is looked up by name once; a change of names makes it look again.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use storage::disk::{DiskError, FileId};

use super::SimDisk;
use super::by_path::ByPath;
use super::content::Content;
use super::file::{File, Inode};
use super::names::{Entry, NameChange, Names, apply_name_change, drop_unreachable};
use super::power::Mutation;

#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) files: BTreeMap<Inode, Arc<File>>,
    pub(super) next_inode: Inode,
    pub(super) names: Names,
    pub(super) durable_names: Names,
    /// In the order in which they were made, over all folders.
    pub(crate) pending_names: Vec<NameChange>,
    pub(super) ids: BTreeMap<FileId, Id>,
    pub(super) ids_by_path: ByPath<FileId>,
    pub(super) next_id: u64,
    pub(super) bytes_max: Option<u64>,
    /// What a file system on it says that it holds.
    pub(super) size: Option<u64>,
    pub(super) failing_syncs: bool,
    /// Grows with every change of names.
    names_version: u64,
    /// Mutations still let through before the power goes; `None`: it stays.
    pub(crate) fuse: Option<u64>,
    pub(crate) trace: Option<Vec<Mutation>>,
    pub(crate) mutations: u64,
}

/// A registered path, and which file it named when that was last looked up.
#[derive(Clone, Debug)]
pub(crate) struct Id {
    pub(super) path: PathBuf,
    found: Cell<Option<(u64, Inode)>>,
}

impl Id {
    pub(super) fn new(path: PathBuf) -> Id {
        Id { path, found: Cell::new(None) }
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
                files.insert(inode, Arc::new(File { durable: content.clone(), current: content, ..File::default() }));
            }
        }
        let after = State {
            files,
            next_inode: self.next_inode,
            durable_names: names.clone(),
            names,
            bytes_max: self.bytes_max,
            size: self.size,
            ..State::default()
        };
        SimDisk { state: Mutex::new(after) }
    }

    /// Counts and remembers a mutation that is about to be carried out; refuses it once the power is gone.
    pub(super) fn begin(&mut self, mutation: impl FnOnce(&State) -> Mutation) -> Result<(), DiskError> {
        if let Some(left) = &mut self.fuse {
            if *left == 0 {
                return Err(DiskError::Io { path: PathBuf::new(), what: "power", message: "gone (simulated)".into() });
            }
            *left -= 1;
        }
        self.mutations += 1;
        if self.trace.is_some() || tracing::enabled!(tracing::Level::TRACE) {
            let mutation = mutation(self);
            tracing::trace!(?mutation, "the disk");
            self.trace.iter_mut().for_each(|trace| trace.push(mutation.clone()));
        }
        Ok(())
    }

    pub(super) fn path(&self, file: FileId) -> PathBuf {
        self.ids.get(&file).map(|id| id.path.clone()).unwrap_or_default()
    }

    pub(super) fn inode(&self, file: FileId) -> Result<Inode, DiskError> {
        let Some(id) = self.ids.get(&file) else { return Err(DiskError::NotFound { path: PathBuf::new() }) };
        if let Some((version, inode)) = id.found.get()
            && version == self.names_version
        {
            return Ok(inode);
        }
        match self.names.get(&id.path) {
            Some(Entry::File(inode)) => {
                id.found.set(Some((self.names_version, *inode)));
                Ok(*inode)
            }
            _ => Err(DiskError::NotFound { path: id.path.clone() }),
        }
    }

    pub(super) fn change_names(&mut self, change: NameChange) {
        apply_name_change(&mut self.names, &change);
        self.pending_names.push(change);
        self.names_version += 1;
    }

    /// Files that no name can lead to any more, whatever a crash does, are gone.
    pub(super) fn collect(&mut self) {
        if !self.pending_names.is_empty() {
            return;
        }
        let named = self.names.values().chain(self.durable_names.values());
        let named: BTreeSet<Inode> =
            named.filter_map(|entry| if let Entry::File(inode) = entry { Some(*inode) } else { None }).collect();
        self.files.retain(|inode, _| named.contains(inode));
    }

    pub(super) fn parent_must_exist(&self, path: &Path) -> Result<(), DiskError> {
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

    pub(super) fn used(&self) -> u64 {
        let length = |entry: &Entry| match entry {
            Entry::File(inode) => self.files.get(inode).map_or(0, |file| file.current.len()),
            Entry::Dir => 0,
        };
        self.names.values().map(length).sum()
    }

    pub(super) fn room_for(&self, file: FileId, more: u64) -> Result<(), DiskError> {
        match self.bytes_max {
            Some(max) if self.used() + more > max => Err(DiskError::Full { path: self.path(file), what: "write" }),
            _ => Ok(()),
        }
    }

    pub(super) fn file_mut(&mut self, file: FileId) -> Result<&mut File, DiskError> {
        let inode = self.inode(file)?;
        Ok(Arc::make_mut(self.files.entry(inode).or_default()))
    }

    pub(super) fn refuse_sync(&mut self, file: FileId) -> DiskError {
        let path = self.path(file);
        if let Ok(file) = self.file_mut(file) {
            file.drop_pending();
        }
        DiskError::Io { path, what: "sync", message: "input/output error (simulated)".into() }
    }
}

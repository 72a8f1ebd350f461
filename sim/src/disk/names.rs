//! The names of files and folders, and their changes.

use std::path::{Path, PathBuf};

use super::by_path::ByPath;
use super::file::Inode;

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

pub(crate) type Names = ByPath<Entry>;

pub(super) fn apply_name_change(names: &mut Names, change: &NameChange) {
    match change {
        NameChange::Put { path, entry } => {
            names.insert(path.clone(), *entry);
        }
        NameChange::Remove { path } => drop(take_below(names, path)),
        NameChange::Rename { from, to } => {
            let moved = take_below(names, from);
            if moved.is_empty() {
                return;
            }
            drop(take_below(names, to));
            for (name, entry) in moved {
                let below = name.strip_prefix(from).expect("filtered by this prefix");
                let target = if below.as_os_str().is_empty() { to.clone() } else { to.join(below) };
                names.insert(target, entry);
            }
        }
    }
}

/// Takes out a name and all below it, which follow one another in the order of paths.
fn take_below(names: &mut Names, path: &Path) -> Vec<(PathBuf, Entry)> {
    let found: Vec<_> = names.below(path).map(|(name, entry)| (name.to_path_buf(), *entry)).collect();
    for (name, _) in &found {
        names.remove(name);
    }
    found
}

/// A name whose folder did not survive cannot be reached.
pub(super) fn drop_unreachable(names: &mut Names) {
    let dirs: Vec<_> =
        names.iter().filter(|(_, entry)| **entry == Entry::Dir).map(|(path, _)| path.to_path_buf()).collect();
    let reachable = |path: &Path| {
        path.ancestors().skip(1).all(|dir| {
            dir.as_os_str().is_empty() || dir == Path::new("/") || dirs.binary_search(&dir.to_path_buf()).is_ok()
        })
    };
    names.retain(|path, _| reachable(path));
}

pub(super) fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new(""))
}

pub(super) fn touches(change: &NameChange, dir: &Path) -> bool {
    match change {
        NameChange::Put { path, .. } | NameChange::Remove { path } => parent_of(path) == dir,
        NameChange::Rename { from, to } => parent_of(from) == dir || parent_of(to) == dir,
    }
}

/// Whether what this path named before is gone from there by the change.
pub(super) fn moves_away(change: &NameChange, dir: &Path) -> bool {
    match change {
        NameChange::Put { .. } => false,
        NameChange::Remove { path } | NameChange::Rename { from: path, .. } => dir.starts_with(path),
    }
}

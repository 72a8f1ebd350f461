//! A map from paths, in their order: a folder stands right before what is in it.
//!
//! Paths here are plain (no `..`, no doubled `/`), so bytes are compared and not components, which takes a fraction of the time.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub(crate) struct ByPath<V> {
    entries: BTreeMap<Key, V>,
}

#[derive(Clone, Debug)]
struct Key(PathBuf);

/// What a key, and a path that is looked for, have in common.
trait Plain {
    fn bytes(&self) -> &[u8];
}

impl Plain for Key {
    fn bytes(&self) -> &[u8] {
        self.0.as_os_str().as_encoded_bytes()
    }
}

impl Plain for &Path {
    fn bytes(&self) -> &[u8] {
        self.as_os_str().as_encoded_bytes()
    }
}

/// As `Path` orders them: the end of a component comes before any byte.
fn order(one: &[u8], other: &[u8]) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    match one.iter().zip(other).find(|(one, other)| one != other) {
        Some((one, other)) => rank(*one).cmp(&rank(*other)),
        None => one.len().cmp(&other.len()),
    }
}

impl PartialEq for dyn Plain + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for dyn Plain + '_ {}

impl PartialOrd for dyn Plain + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Plain + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        order(self.bytes(), other.bytes())
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        order(self.bytes(), other.bytes())
    }
}

impl<'a> Borrow<dyn Plain + 'a> for Key {
    fn borrow(&self) -> &(dyn Plain + 'a) {
        self
    }
}

impl<V> Default for ByPath<V> {
    fn default() -> ByPath<V> {
        ByPath { entries: BTreeMap::new() }
    }
}

impl<V> ByPath<V> {
    pub(super) fn get(&self, path: &Path) -> Option<&V> {
        self.entries.get(&path as &dyn Plain)
    }

    pub(super) fn contains(&self, path: &Path) -> bool {
        self.get(path).is_some()
    }

    pub(super) fn insert(&mut self, path: PathBuf, value: V) {
        self.entries.insert(Key(path), value);
    }

    pub(super) fn remove(&mut self, path: &Path) -> Option<V> {
        self.entries.remove(&path as &dyn Plain)
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    pub(super) fn retain(&mut self, mut keeps: impl FnMut(&Path, &V) -> bool) {
        self.entries.retain(|key, value| keeps(&key.0, value));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Path, &V)> {
        self.entries.iter().map(|(key, value)| (key.0.as_path(), value))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values()
    }

    /// A path and all below it, which follow one another.
    pub(super) fn below(&self, path: &Path) -> impl Iterator<Item = (&Path, &V)> {
        let (from, to): (Bound<&dyn Plain>, Bound<&dyn Plain>) = (Bound::Included(&path), Bound::Unbounded);
        let found = self.entries.range::<dyn Plain, _>((from, to));
        found.map(|(key, value)| (key.0.as_path(), value)).take_while(move |(name, _)| name.starts_with(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_have_the_order_of_their_components() {
        let mut paths = ["/", "/a", "/a-b", "/a/b", "/a/b.log", "/a/b/c", "/a.b", "/b", "/a/b-c/d"].map(Path::new);
        paths.sort();
        let mut map = ByPath::default();
        paths.iter().rev().enumerate().for_each(|(number, path)| map.insert(path.to_path_buf(), number));
        assert!(map.iter().map(|(path, _)| path).eq(paths));
        let below: Vec<_> = map.below(Path::new("/a/b")).map(|(path, _)| path).collect();
        assert_eq!(below, [Path::new("/a/b"), Path::new("/a/b/c")]);
        assert_eq!(
            map.remove(Path::new("/a-b")),
            Some(paths.len() - 1 - paths.iter().position(|path| *path == Path::new("/a-b")).unwrap())
        );
        assert!(!map.contains(Path::new("/a-b")));
    }
}

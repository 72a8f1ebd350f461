//! A sorted map whose copy is one reference and whose change copies a few dozen entries.
//!
//! Owns the splitting into chunks. Does not own what the keys mean.
//! Invariants: keys ascend over all chunks and no chunk is empty; a chunk holds at most `CHUNK_MAX` entries.

use std::sync::Arc;

const CHUNK_MAX: usize = 128;

/// Sorted entries, shared between copies until one of them changes.
type Chunk<K, V> = Arc<Vec<(K, V)>>;

/// Cloning is O(1). A change to a shared map copies one chunk and the list of chunks (50,000 entries: about 800 references);
/// a change to an unshared one copies nothing.
pub struct SortedMap<K, V> {
    chunks: Arc<Vec<Chunk<K, V>>>,
    len: usize,
}

impl<K, V> Clone for SortedMap<K, V> {
    fn clone(&self) -> Self {
        SortedMap { chunks: Arc::clone(&self.chunks), len: self.len }
    }
}

impl<K, V> Default for SortedMap<K, V> {
    fn default() -> Self {
        SortedMap { chunks: Arc::new(Vec::new()), len: 0 }
    }
}

impl<K: std::fmt::Debug, V: std::fmt::Debug> std::fmt::Debug for SortedMap<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map()
            .entries(self.chunks.iter().flat_map(|chunk| chunk.iter().map(|(key, value)| (key, value))))
            .finish()
    }
}

impl<K: Ord + Clone, V: Clone> SortedMap<K, V> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        let chunk = self.chunks.get(self.chunk_of(key))?;
        let at = chunk.binary_search_by(|entry| entry.0.cmp(key)).ok()?;
        chunk.get(at).map(|entry| &entry.1)
    }

    /// The value for changing in place; what is shared with another copy of the map is copied first.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let chunk_at = self.chunk_of(key);
        let at = self.chunks.get(chunk_at)?.binary_search_by(|entry| entry.0.cmp(key)).ok()?;
        let chunk = Arc::make_mut(&mut self.chunks).get_mut(chunk_at)?;
        Arc::make_mut(chunk).get_mut(at).map(|entry| &mut entry.1)
    }

    /// Returns what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let chunk_at = self.chunk_of(&key);
        let chunks = Arc::make_mut(&mut self.chunks);
        let Some(chunk) = chunks.get_mut(chunk_at) else {
            chunks.push(Arc::new(vec![(key, value)]));
            self.len += 1;
            return None;
        };
        let entries = Arc::make_mut(chunk);
        match entries.binary_search_by(|entry| entry.0.cmp(&key)) {
            Ok(at) => entries.get_mut(at).map(|entry| std::mem::replace(&mut entry.1, value)),
            Err(at) => {
                entries.insert(at, (key, value));
                if entries.len() > CHUNK_MAX {
                    let upper = entries.split_off(CHUNK_MAX / 2);
                    chunks.insert(chunk_at + 1, Arc::new(upper));
                }
                self.len += 1;
                None
            }
        }
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let chunk_at = self.chunk_of(key);
        let at = self.chunks.get(chunk_at)?.binary_search_by(|entry| entry.0.cmp(key)).ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let entries = Arc::make_mut(chunks.get_mut(chunk_at)?);
        let (_, value) = entries.remove(at);
        if entries.is_empty() {
            chunks.remove(chunk_at);
        }
        self.len -= 1;
        Some(value)
    }

    /// In ascending order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().map(|(key, value)| (key, value)))
    }

    /// From the first key that is at least `from`, ascending.
    pub fn iter_from<'a>(&'a self, from: &K) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V> {
        let chunk_at = self.chunk_of(from);
        let skip = self.chunks.get(chunk_at).map_or(0, |chunk| chunk.partition_point(|entry| entry.0 < *from));
        let rest = self.chunks.get(chunk_at..).unwrap_or_default();
        rest.iter().flat_map(|chunk| chunk.iter().map(|(key, value)| (key, value))).skip(skip)
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The chunk that holds the key or would take it.
    fn chunk_of(&self, key: &K) -> usize {
        let after = self.chunks.partition_point(|chunk| chunk.first().is_some_and(|entry| entry.0 <= *key));
        after.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_behaves_like_a_btree_map_under_mixed_changes() {
        let mut map: SortedMap<u32, u32> = SortedMap::default();
        let mut model = BTreeMap::new();
        let mut state = 7u32;
        for step in 0..20_000u32 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let key = (state >> 8) % 1_500;
            if state % 5 < 3 {
                assert_eq!(map.insert(key, step), model.insert(key, step));
            } else {
                assert_eq!(map.remove(&key), model.remove(&key));
            }
            assert_eq!(map.len(), model.len());
            if step % 500 == 0 {
                assert!(map.iter().eq(model.iter()));
                assert!(map.iter_from(&key).eq(model.range(key..)));
                assert!((0..1_500).all(|key| map.get(&key) == model.get(&key)));
            }
        }
    }

    #[test]
    fn a_copy_does_not_see_later_changes() {
        let mut map: SortedMap<u32, u32> = SortedMap::default();
        (0..1_000).for_each(|key| assert_eq!(map.insert(key, key), None));
        let copy = map.clone();
        *map.get_mut(&500).expect("it was inserted") = 1;
        assert_eq!(map.remove(&501), Some(501));
        assert_eq!((copy.get(&500), copy.get(&501), copy.len()), (Some(&500), Some(&501), 1_000));
        assert_eq!((map.get(&500), map.get(&501), map.len()), (Some(&1), None, 999));
    }

    #[test]
    fn a_change_to_a_shared_map_copies_one_chunk() {
        let mut map: SortedMap<u32, u32> = SortedMap::default();
        (0..50_000).for_each(|key| assert_eq!(map.insert(key, key), None));
        let copy = map.clone();
        *map.get_mut(&25_000).expect("it was inserted") = 1;
        let copied = map.chunks.iter().zip(copy.chunks.iter()).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
        assert_eq!(copied, 1);
        assert!(map.chunks.len() < 1_000);
    }
}

//! The cluster's topics as a group sees them.
//!
//! Owns the look-ups that assignments need: names and ids, partitions, racks. Does not own the image.

use std::collections::BTreeSet;

use model::{PartitionIndex, TopicId, TopicName};

use crate::metadata::{Image, Topic};

#[derive(Clone, Copy, Debug)]
pub struct Catalog<'a> {
    pub image: &'a Image,
    /// Another number for each other image that this node has followed. Not replicated.
    pub version: u64,
}

impl<'a> Catalog<'a> {
    pub(in super::super) fn topic(&self, name: &str) -> Option<&'a Topic> {
        self.image.topic(&TopicName::new(name).ok()?).map(|topic| &**topic)
    }

    pub(in super::super) fn id(&self, name: &str) -> Option<TopicId> {
        self.topic(name).map(|topic| topic.id)
    }

    pub(in super::super) fn name(&self, id: TopicId) -> Option<&'a str> {
        self.image.topic_by_id(id).map(|topic| topic.name.as_str())
    }

    pub(in super::super) fn count(&self, id: TopicId) -> u32 {
        let count = self.image.topic_by_id(id).map_or(0, |topic| topic.partitions.len());
        u32::try_from(count).unwrap_or(0)
    }

    /// Racks of the nodes that hold a replica.
    pub(super) fn racks(&self, id: TopicId, partition: PartitionIndex) -> BTreeSet<&'a str> {
        let found = self.image.topic_by_id(id).and_then(|topic| topic.partition(partition));
        let nodes = found.into_iter().flat_map(|info| &info.replicas).filter_map(|node| self.image.node(*node));
        nodes.filter_map(|node| node.rack.as_deref()).collect()
    }

    /// One number for these topics, their partitions and racks: equal where nothing of them changed.
    pub(super) fn hash<'t>(&self, topics: impl Iterator<Item = &'t str>) -> i64 {
        let mut hash = Fnv::default();
        for topic in topics.filter_map(|name| self.topic(name)) {
            hash.add(topic.name.as_str().as_bytes());
            hash.add(&topic.id.0);
            hash.add(&topic.partitions.len().to_be_bytes());
            for (partition, _) in topic.partitions() {
                self.racks(topic.id, partition).iter().for_each(|rack| hash.add(rack.as_bytes()));
            }
        }
        hash.end()
    }
}

/// FNV-1a with 64 bits: the number is only compared with one of the same data.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().copied().chain([0xff]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn end(self) -> i64 {
        i64::from_be_bytes(self.0.to_be_bytes())
    }
}

//! All partitions on this node, found without a lock.
//!
//! Owns the map. Does not own when partitions come and go: `topics` follows the image.
//! Invariant: a reader sees the map before a change or after it. A change copies the topics' pointers, never the partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use model::{PartitionIndex, TopicId, TopicPartition};

use super::handle::Partition;

/// The partitions of one topic that are here.
pub(crate) type TopicPartitions = Arc<BTreeMap<PartitionIndex, Arc<Partition>>>;

#[derive(Debug, Default)]
pub(crate) struct Table {
    topics: ArcSwap<BTreeMap<TopicId, TopicPartitions>>,
}

impl Table {
    pub(crate) fn get(&self, partition: TopicPartition) -> Option<Arc<Partition>> {
        self.topics.load().get(&partition.topic)?.get(&partition.partition).map(Arc::clone)
    }

    pub(crate) fn topic(&self, topic: TopicId) -> Option<TopicPartitions> {
        self.topics.load().get(&topic).map(Arc::clone)
    }

    pub(crate) fn topics(&self) -> Arc<BTreeMap<TopicId, TopicPartitions>> {
        self.topics.load_full()
    }

    /// In order of topic id and number.
    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        self.topics.load().values().flat_map(|topic| topic.values().map(Arc::clone)).collect()
    }

    /// Changes many topics at once. Only one thread changes the table: the one that applies the image.
    pub(crate) fn change(&self, topics: Vec<(TopicId, Option<TopicPartitions>)>) {
        if topics.is_empty() {
            return;
        }
        let mut map = BTreeMap::clone(&self.topics.load());
        for (topic, partitions) in topics {
            match partitions {
                Some(partitions) => map.insert(topic, partitions),
                None => map.remove(&topic),
            };
        }
        self.topics.store(Arc::new(map));
    }
}

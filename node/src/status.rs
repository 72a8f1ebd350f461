//! What a node says of its data directory and of the producers it knows, to those who administrate it. Owns nothing.

use std::path::Path;

use model::TopicPartition;
pub use replication::partition::producers::KnownProducer;

use crate::node::Node;

/// The file system under the data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskSpace {
    pub total_bytes: u64,
    pub free_bytes: u64,
}

impl Node {
    pub fn data_dir(&self) -> &Path {
        &self.core.config.data_dir
    }

    /// The producers of a partition. `None`: it is not on this node.
    pub fn producers(&self, partition: TopicPartition) -> Option<Vec<KnownProducer>> {
        Some(self.core.table.get(partition)?.lock().replica.producers().all().collect())
    }

    /// A system call. `None`: the file system does not say.
    pub fn disk_space(&self) -> Option<DiskSpace> {
        let total_bytes = self.core.disk.size_bytes().ok()?;
        Some(DiskSpace { total_bytes, free_bytes: self.core.disk.free_bytes().ok()? })
    }
}

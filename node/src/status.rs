//! What a node says of its data directory, for DescribeLogDirs. Owns nothing: it asks the disk.

use std::path::Path;

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

    /// A system call. `None`: the file system does not say.
    pub fn disk_space(&self) -> Option<DiskSpace> {
        let total_bytes = self.core.disk.size_bytes().ok()?;
        Some(DiskSpace { total_bytes, free_bytes: self.core.disk.free_bytes().ok()? })
    }
}

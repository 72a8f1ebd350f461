//! What a node says of its data directory, of what is wrong with its logs and of the producers it knows, to those who administrate it.
//! Owns nothing.

use std::fmt;
use std::path::{Path, PathBuf};

use model::{Now, TopicPartition};
pub use replication::partition::producers::KnownProducer;

use crate::node::Node;

/// The file system under the data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskSpace {
    pub total_bytes: u64,
    pub free_bytes: u64,
    /// What is kept free of clients' appends, for all else that must go on.
    pub reserve_bytes: u64,
    /// Clients' appends of more bytes are refused for want of room; 0: all are. `None`: none that was tried lately.
    pub refuses_above: Option<u64>,
}

/// What is wrong with a log on this disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LogTrouble {
    /// It cannot be used before the next start.
    Offline { reason: String },
    /// A read met bytes that are not what was written: these are not served, all else is.
    Damaged { file: PathBuf, at: u64 },
}

impl fmt::Display for LogTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogTrouble::Offline { reason } => f.write_str(reason),
            LogTrouble::Damaged { file, at } => write!(f, "{} at byte {at}", file.display()),
        }
    }
}

impl Node {
    /// `None`: nothing that is known, or the partition is not on this node.
    pub fn log_trouble(&self, partition: TopicPartition) -> Option<LogTrouble> {
        let partition = self.core.table.get(partition)?;
        if partition.published.is_failed() {
            let state = partition.lock();
            let reason = state.replica.failure().unwrap_or("it cannot be used").to_owned();
            return Some(LogTrouble::Offline { reason });
        }
        if !partition.published.has_met_damage() {
            return None;
        }
        let state = partition.lock();
        let (file, at) = state.damage()?;
        Some(LogTrouble::Damaged { file: self.core.config.data_dir.join(file), at })
    }

    pub fn data_dir(&self) -> &Path {
        &self.core.config.data_dir
    }

    /// The producers of a partition. `None`: it is not on this node.
    pub fn producers(&self, partition: TopicPartition) -> Option<Vec<KnownProducer>> {
        Some(self.core.table.get(partition)?.lock().replica.producers().all().collect())
    }

    /// A system call. `None`: the file system does not say.
    pub fn disk_space(&self, now: Now) -> Option<DiskSpace> {
        let core = &self.core;
        let (total_bytes, free_bytes) = (core.disk.size_bytes().ok()?, core.disk.free_bytes().ok()?);
        let refuses_above = core.room.refuses_above(now, free_bytes, core.owed_bytes());
        Some(DiskSpace { total_bytes, free_bytes, reserve_bytes: core.room.reserve_bytes(), refuses_above })
    }
}

//! Group coordinators: the state machines of `replication::group`, fed from and written to `__consumer_offsets`.
//!
//! Owns one shard for each partition of that topic that this node leads. Does not own decisions (`replication::group`)
//! nor the partitions' logs, which it sees as a `GroupLog`.

mod driver;
mod handle;
mod log;

pub use handle::{Coordinators, partition_of};
pub use log::{Committed, GroupLog, LogEnds, LogError};

#[cfg(test)]
mod tests;

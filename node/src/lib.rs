//! One node without sockets: carries actions between the state machines and the disk. No tokio, thread, clock.

mod birth;
pub mod budget;
mod checkpoint;
mod clean;
mod cold;
mod commit;
pub mod config;
mod controller;
mod coordinator;
mod core;
mod departed;
pub mod effects;
mod group_log;
pub mod indexes;
mod liveness;
mod node;
mod open;
pub mod partition;
pub mod peer;
mod replica;
pub mod requests;
mod room;
mod serve;
mod status;
mod tickets;
mod topics;
mod wall;

pub use coordinator::partition_of;
pub use node::{Node, NodeStats, PartitionStatus};
pub use open::OpenError;
pub use replica::{ReadDone, ReadWork};
pub use status::{DiskSpace, KnownProducer, LogTrouble};

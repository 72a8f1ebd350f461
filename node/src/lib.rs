//! One node without sockets: carries actions between the state machines and the disk. No tokio, thread, clock.

pub mod budget;
pub mod config;
pub mod effects;
mod node;
pub mod partition;
pub mod requests;

pub use node::{Node, NodeStats, OpenError, PartitionStatus};

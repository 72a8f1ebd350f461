//! Partitions on this node: state machine and log tail behind one short lock.
//!
//! Owns the drivers of partitions. Does not own decisions (`replication::partition`) nor bytes (`storage::log`).

pub(crate) mod clean;
pub(crate) mod delete_records;
pub(crate) mod driver;
pub(crate) mod handle;
pub(crate) mod lifecycle;
pub(crate) mod produce;
mod read;
pub(crate) mod table;
pub mod waiters;
pub(crate) mod writes;

#[cfg(test)]
mod tests;

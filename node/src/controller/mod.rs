//! The controller on this node: the metadata Raft carried between `replication::controller` and the disk.
//!
//! Owns the metadata log, its snapshot, this start's registration, and who waits for which proposal. Decisions are
//! `replication::controller`'s.

pub(crate) mod driver;
mod entries;
mod propose;

#[cfg(test)]
mod tests;

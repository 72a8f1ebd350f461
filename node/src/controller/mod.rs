//! The controller on this node: the metadata Raft carried between `replication::controller`, the disk and the other nodes.
//!
//! Owns the metadata log, its snapshot, this start's registration, who waits for which decision, and who is taken for dead. Decisions
//! are `replication::controller`'s.

mod asks;
mod contacts;
pub(crate) mod copies;
pub(crate) mod driver;
mod elect;
mod entries;
mod forward;
mod leave;
mod links;
mod members;
mod persist;
mod propose;
mod quorum;
mod register;
mod upkeep;

#[cfg(test)]
mod tests;

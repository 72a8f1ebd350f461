//! replication
pub mod group;

//! replication
pub mod group;
pub mod metadata;

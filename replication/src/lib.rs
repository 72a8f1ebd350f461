//! replication
pub mod group;
pub mod metadata;
pub mod partition;

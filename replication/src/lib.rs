//! replication
pub mod controller;
pub mod group;
pub mod metadata;
pub mod partition;

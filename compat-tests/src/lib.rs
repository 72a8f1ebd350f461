//! Real clients and tools against the built binary.
//!
//! Owns starting and ending brokers, clusters and the programs that use them, breaking them in planned ways, and the judgement of
//! histories. Owns no expectations of tools and clients: those are in `tests/`.
//! Invariant: whatever a test starts is ended when the test ends, also when it fails.

pub mod admin;
pub mod broker;
pub mod checker;
pub mod clients;
pub mod cluster;
pub mod connect;
pub mod failover;
pub mod faults;
pub mod kafka_node;
pub mod kcat;
pub mod kill_all;
pub mod load;
pub mod page_cache;
pub mod paths;
pub mod program;
pub mod raw;
pub mod replicas;
pub mod toolbox;
pub mod tools;
pub mod transcript;
pub mod upgrade;

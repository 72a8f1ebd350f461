//! Partitions on this node: state machine and log tail behind one short lock.

pub mod waiters;

//! One partition of a topic as a replicated state machine: offsets, acks, high watermark, in-sync set, duplicates.
//!
//! Owns the decisions of leader and follower, which are two roles of one `Replica`. Does not own bytes: the driver in `node` carries the
//! actions to the log and to other nodes.
//! Invariant: pure. The time is handed in, and the same events in the same order give the same actions.

pub mod follower;
pub mod isr;
mod leader;
pub mod pace;
pub mod producers;
pub mod replica;
pub mod throttle;
mod types;

#[cfg(test)]
mod schedule_tests;

pub use types::{Acks, AppendError, Appended};

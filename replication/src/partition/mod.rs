//! One partition of a topic as a replicated state machine: offsets, acks, high watermark, duplicates.
//!
//! Owns the decisions of leader and follower. Does not own bytes: the driver in `node` carries the actions to the log.
//! Invariant: pure. The time is handed in, and the same events in the same order give the same actions.

pub mod follower;
pub mod isr;
pub mod leader;
pub mod producers;
mod types;

pub use types::{Acks, AppendError, Appended};

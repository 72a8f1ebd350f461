//! Consumer groups: one shard of the group coordinator as a pure state machine.
//!
//! Owns what a group is: members, generations, assignments, committed offsets, and the records that keep them.
//! Does not own the log that the records go to, nor the moment at which an answer leaves: `node::coordinator` does.

mod error;
mod types;

pub use error::GroupError;
pub use types::*;

//! Units of the wire made into units of Rust.

use std::time::Duration;

pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;
pub const GIB: u64 = 1024 * MIB;

/// A wait in milliseconds as a client sent it; negative means "do not wait".
pub fn wait_from_wire(raw_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(raw_ms).unwrap_or(0))
}

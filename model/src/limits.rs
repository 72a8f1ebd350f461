//! Limits that several crates share and that are no configuration key, related to each other at compile time.

use crate::units::{GIB, MIB};

/// The largest request frame accepted (Kafka's `socket.request.max.bytes`).
pub const REQUEST_BYTES_MAX: u64 = 100 * MIB;
/// The largest batch that any topic may allow (`max.message.bytes`).
pub const BATCH_BYTES_MAX: u64 = 64 * MIB;
/// The largest segment: the offset index stores file positions as u32 (signed in Kafka's tools).
pub const SEGMENT_BYTES_MAX: u64 = 2 * GIB - 1;
/// Appends are refused above: leaves room so that offset arithmetic cannot overflow.
pub const OFFSET_MAX: i64 = i64::MAX - (1 << 40);
/// One request may not hand out more bytes than this, whatever the client asks; except for one larger batch (KIP-74).
pub const FETCH_BYTES_MAX: u64 = 16 * MIB;
/// A long poll is capped: a client that asks for 2^31 ms gets this.
pub const FETCH_WAIT_SECONDS_MAX: u64 = 300;
/// Partitions that one request may make, in all its topics: the controller, which decides them in one step, does nothing else meanwhile.
pub const REQUEST_PARTITIONS_MAX: usize = 100_000;
/// What one journal group may hold, so that one write stays bounded.
pub const JOURNAL_GROUP_BYTES_MAX: u64 = 16 * MIB;
/// What a group holds for one log goes to its segment directly from here on.
pub const JOURNAL_DIRECT_BYTES: u64 = 256 * 1024;

const _: () = {
    // A batch is never split over two segments.
    assert!(BATCH_BYTES_MAX <= SEGMENT_BYTES_MAX);
    // A batch must fit in a request beside its head.
    assert!(BATCH_BYTES_MAX < REQUEST_BYTES_MAX);
    // The offset index must reach every byte of a segment.
    assert!(SEGMENT_BYTES_MAX <= u32::MAX as u64);
    // What goes direct must be smaller than what one group may hold.
    assert!(JOURNAL_DIRECT_BYTES < JOURNAL_GROUP_BYTES_MAX);
};

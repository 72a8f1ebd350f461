//! The time as it is handed in: nothing below `server` and `sim` reads a clock.

use std::time::Duration;

/// One reading of both clocks. Decisions about waiting use `mono`; timestamps use `wall_ms`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Since an arbitrary point before the process started; never goes back.
    pub mono: Duration,
    /// Milliseconds since the Unix epoch; may jump either way.
    pub wall_ms: i64,
}

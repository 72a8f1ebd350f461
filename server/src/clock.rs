//! The two clocks that everything below the edge is handed.
//!
//! Owns the only readings of the system's clocks in a running server. Invariant: `mono` never goes back.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::Now;

static START: OnceLock<Instant> = OnceLock::new();

/// Both clocks, read once.
pub fn now() -> Now {
    Now { mono: mono(), wall_ms: wall_ms() }
}

/// Since the first reading of this process.
pub fn mono() -> Duration {
    // An hour ahead, so that "long before the start" can be expressed.
    START.get_or_init(Instant::now).elapsed() + Duration::from_secs(3600)
}

/// The tokio instant of a point on the monotonic clock; points in the past give now.
pub fn instant_of(mono_at: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + mono_at.saturating_sub(mono())
}

fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

//! The wall clock as retention believes it: a clock that jumps ahead must not cost records that are to be kept.
//!
//! Owns how fast it may run. Invariant: it is never ahead of the clock itself, and advances at most a day in an hour of monotonic time:
//! a jump is believed once it has lasted. What the clock shows when the process starts is believed at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::Now;
use model::planted::{self, Bug};

/// How many times as fast as time it may run.
const CATCH_UP: u128 = 24;

#[derive(Debug, Default)]
pub(crate) struct TrustedWall {
    last: Mutex<Option<(Duration, i64)>>,
}

impl TrustedWall {
    /// Milliseconds since the Unix epoch. To be called at the start for the first time.
    pub(crate) fn read(&self, now: Now) -> i64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, wall_ms) = last.unwrap_or((now.mono, now.wall_ms));
        let elapsed = now.mono.saturating_sub(since).as_millis().saturating_mul(CATCH_UP);
        let ahead_max = wall_ms.saturating_add(i64::try_from(elapsed).unwrap_or(i64::MAX));
        let trusted = if planted::is(Bug::RetentionByJumpedClock) { now.wall_ms } else { now.wall_ms.min(ahead_max) };
        *last = Some((now.mono.max(since), trusted));
        trusted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    /// `(seconds of monotonic time, hours on the clock, hours that are believed)`, one reading after the other.
    fn check(readings: &[(u64, i64, i64)]) {
        let wall = TrustedWall::default();
        for (mono, clock, believed) in readings {
            let now = Now { mono: Duration::from_secs(*mono), wall_ms: clock * HOUR_MS };
            assert_eq!(wall.read(now), believed * HOUR_MS, "{readings:?} at {mono}");
        }
    }

    #[test]
    fn a_clock_that_runs_is_believed() {
        check(&[(0, 100, 100), (3_600, 101, 101), (7_200, 102, 102)]);
    }

    #[test]
    fn a_jump_ahead_is_believed_day_by_day() {
        check(&[(0, 100, 100), (3_600, 1_000, 124), (7_200, 1_000, 148), (7_200, 1_000, 148)]);
        check(&[(0, 100, 100), (3_600, 1_000, 124), (7_200, 102, 102)]);
    }

    #[test]
    fn a_jump_back_is_believed_at_once_and_its_end_too_when_it_was_short() {
        check(&[(0, 100, 100), (60, 90, 90), (3_600, 101, 101)]);
    }
}

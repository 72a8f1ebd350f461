//! A machine's two clocks, as its processes read them.
//!
//! Owns drift (both clocks run too fast or too slow) and jumps of the wall clock. Invariant: the monotonic clock never goes back.

use std::time::Duration;

use model::Now;

use super::queue::{At, MILLISECOND};

/// When every simulation begins: 14 November 2023.
const EPOCH_MS: i64 = 1_700_000_000_000;
/// The clock's own speed, in thousandths.
const TRUE_RATE: u64 = 1_000;

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The true time and the monotonic time at which the present rate began.
    since: At,
    mono: At,
    rate: u64,
    /// Wall time less monotonic time, in milliseconds.
    wall_offset_ms: i64,
}

impl Clock {
    /// A machine that has run for `uptime` at this moment, and whose clocks are right.
    pub fn new(at: At, uptime: At) -> Clock {
        Clock { since: at, mono: uptime, rate: TRUE_RATE, wall_offset_ms: EPOCH_MS + millis(at) - millis(uptime) }
    }

    fn mono(&self, at: At) -> At {
        self.mono + at.saturating_sub(self.since) * self.rate / TRUE_RATE
    }

    pub fn read(&self, at: At) -> Now {
        let mono = self.mono(at);
        Now { mono: Duration::from_nanos(mono), wall_ms: millis(mono) + self.wall_offset_ms }
    }

    /// The first true time at which the monotonic clock shows this.
    pub fn when(&self, mono: Duration) -> At {
        let wanted = u64::try_from(mono.as_nanos()).unwrap_or(u64::MAX / 4).min(u64::MAX / 4);
        let ahead = wanted.saturating_sub(self.mono);
        self.since + (u128::from(ahead) * u128::from(TRUE_RATE)).div_ceil(u128::from(self.rate)) as u64
    }

    /// From now on it runs at this many thousandths of its speed. What was lost or won stays.
    pub fn set_rate(&mut self, at: At, thousandths: u64) {
        self.mono = self.mono(at);
        self.since = at;
        self.rate = thousandths.max(1);
    }

    pub fn jump_wall(&mut self, by_ms: i64) {
        self.wall_offset_ms += by_ms;
    }

    /// Shows the true wall time again, and runs at its true speed.
    pub fn mend(&mut self, at: At) {
        self.set_rate(at, TRUE_RATE);
        self.wall_offset_ms = EPOCH_MS + millis(at) - millis(self.mono);
    }
}

/// What a right clock shows.
pub fn true_wall_ms(at: At) -> i64 {
    EPOCH_MS + millis(at)
}

fn millis(nanos: At) -> i64 {
    i64::try_from(nanos / MILLISECOND).expect("simulations are shorter than that")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::queue::SECOND;

    #[test]
    fn a_fast_clock_reaches_a_deadline_early_and_never_goes_back() {
        let mut clock = Clock::new(0, 5 * SECOND);
        clock.set_rate(2 * SECOND, 1_500);
        assert_eq!(clock.read(4 * SECOND).mono, Duration::from_secs(10));
        assert_eq!(clock.when(Duration::from_secs(10)), 4 * SECOND);
        clock.jump_wall(-86_400_000);
        clock.set_rate(4 * SECOND, 500);
        assert_eq!(clock.read(6 * SECOND).mono, Duration::from_secs(11));
        clock.mend(6 * SECOND);
        assert_eq!(clock.read(6 * SECOND).wall_ms, EPOCH_MS + 6_000);
    }

    #[test]
    fn a_deadline_is_never_met_too_early() {
        let mut clock = Clock::new(0, 7);
        clock.set_rate(11, 1_333);
        for nanos in 1_000..1_100 {
            let at = clock.when(Duration::from_nanos(nanos));
            assert!(clock.read(at).mono >= Duration::from_nanos(nanos));
        }
    }
}

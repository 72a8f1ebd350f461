//! How fast readers of cold data go on beside producers.
//!
//! Owns the arithmetic: who asks is told how long to rest. Reads no clock and waits for nothing.
//! Invariant: over any span no more is given than the pace allows for it and for `BEHIND_MAX`, and one read more.

use std::time::{Duration, Instant};

/// Who was held up, or comes after a pause, may go on without a rest until it has caught up on so much.
const BEHIND_MAX: Duration = Duration::from_millis(4);

#[derive(Debug)]
pub struct Pace {
    bytes_per_second: u64,
    /// When what was taken before is paid for.
    due: Option<Instant>,
}

impl Pace {
    /// `bytes_per_second` is at least 1.
    pub fn new(bytes_per_second: u64) -> Pace {
        assert!(bytes_per_second > 0, "a pace of nothing is no pace");
        Pace { bytes_per_second, due: None }
    }

    /// Takes bytes. Returns how long to rest before they are read.
    pub fn take(&mut self, now: Instant, bytes: usize) -> Duration {
        let oldest = now.checked_sub(BEHIND_MAX).unwrap_or(now);
        let from = self.due.map_or(oldest, |due| due.max(oldest));
        self.due = Some(from + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64));
        from.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: usize = 1_000_000;

    /// 100 MB/s: a megabyte in 10 ms.
    fn pace() -> (Pace, Instant) {
        (Pace::new(100 * MB as u64), Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn who_reads_on_and_on_gets_the_pace() {
        let (mut pace, begun) = pace();
        let mut now = begun;
        for _ in 0..100 {
            now += pace.take(now, MB);
        }
        // What the last one took is paid for by whoever comes next.
        assert_eq!(now - begun + BEHIND_MAX, Duration::from_millis(99 * 10));
    }

    #[test]
    fn a_small_read_now_and_then_rests_for_nothing() {
        let (mut pace, begun) = pace();
        for second in 0..100 {
            assert_eq!(pace.take(begun + Duration::from_secs(second), MB / 4), Duration::ZERO);
        }
    }

    #[test]
    fn what_a_pause_left_over_is_no_more_than_a_moment() {
        let (mut pace, begun) = pace();
        pace.take(begun, MB);
        let later = begun + Duration::from_secs(3600);
        assert_eq!(pace.take(later, MB), Duration::ZERO);
        assert_eq!(pace.take(later, MB), Duration::from_millis(10) - BEHIND_MAX);
    }
}

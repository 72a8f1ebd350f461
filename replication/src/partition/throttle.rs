//! A token bucket: how much may be sent now, and when there may be more.
//!
//! Owns the arithmetic. Does not own whose bytes these are (`metadata::throttles`). Pure: the time goes in.
//! Invariants: over any stretch of time no more is allowed than the rate, one second's worth, and what was taken beyond the allowance
//! (a batch is never split): that is paid back first.

use std::time::Duration;

/// What is saved up while nothing is sent.
const SAVED_MAX: Duration = Duration::from_secs(1);
/// With less than a tenth of a second's worth at hand it is waited: else each batch would be a read of its own.
const WORTH_PER_SECOND: u64 = 10;
/// But so much is always worth sending.
const WORTH_BYTES_MAX: u64 = 256 * 1024;
const NANOS: i128 = 1_000_000_000;

/// Bytes a second, on time that the caller passes in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    rate: u64,
    /// Bytes times 10^9, so that nothing is lost to rounding. Negative: what was taken beyond the allowance.
    saved: i128,
    at: Duration,
}

/// What a bucket allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allowed {
    /// So many bytes, at least one.
    Bytes(u64),
    /// None before then; `None`: none while the rate is 0.
    NotBefore(Option<Duration>),
}

impl Bucket {
    /// Empty at `now`. `rate`: bytes a second.
    pub fn new(now: Duration, rate: u64) -> Bucket {
        Bucket { rate, saved: 0, at: now }
    }

    /// Another rate from now on; what was taken beyond the allowance is still to be paid back, at the new rate.
    pub fn set_rate(&mut self, now: Duration, rate: u64) {
        self.refill(now);
        self.rate = rate;
        self.saved = self.saved.min(self.saved_max());
    }

    pub fn allowed(&mut self, now: Duration) -> Allowed {
        self.refill(now);
        let missing = i128::from(self.worth()) * NANOS - self.saved;
        if missing <= 0 {
            return Allowed::Bytes(u64::try_from(self.saved / NANOS).unwrap_or(u64::MAX));
        }
        if self.rate == 0 {
            return Allowed::NotBefore(None);
        }
        // Rounded up: at that time it must be there.
        let rate = i128::from(self.rate);
        let wait = u64::try_from((missing + rate - 1) / rate).unwrap_or(u64::MAX);
        Allowed::NotBefore(Some(now.saturating_add(Duration::from_nanos(wait))))
    }

    /// So much is sent, or about to be.
    pub fn take(&mut self, bytes: u64) {
        self.saved -= i128::from(bytes) * NANOS;
    }

    /// Of what was taken so much was not sent.
    pub fn give_back(&mut self, bytes: u64) {
        self.saved = (self.saved + i128::from(bytes) * NANOS).min(self.saved_max());
    }

    fn refill(&mut self, now: Duration) {
        let passed = i128::try_from(now.saturating_sub(self.at).as_nanos()).unwrap_or(i128::MAX / NANOS);
        self.at = self.at.max(now);
        self.saved = self.saved.saturating_add(passed.saturating_mul(i128::from(self.rate))).min(self.saved_max());
    }

    fn saved_max(&self) -> i128 {
        i128::from(self.rate) * i128::from(SAVED_MAX.as_secs()) * NANOS
    }

    fn worth(&self) -> u64 {
        (self.rate / WORTH_PER_SECOND).clamp(1, WORTH_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Sends as much as it may in pieces of `piece` bytes, looking when it is told to; what was sent by `until`.
    fn sent(rate: u64, piece: u64, until: Duration) -> u64 {
        let (mut bucket, mut now, mut total) = (Bucket::new(Duration::ZERO, rate), Duration::ZERO, 0);
        while now <= until {
            match bucket.allowed(now) {
                Allowed::Bytes(_) => {
                    bucket.take(piece);
                    total += piece;
                }
                Allowed::NotBefore(Some(at)) => {
                    assert!(at > now, "it would be asked again at once");
                    now = at;
                }
                Allowed::NotBefore(None) => return total,
            }
        }
        total
    }

    #[test]
    fn what_is_sent_follows_the_rate_whatever_the_size_of_the_pieces() {
        for rate in [1, 999, 10_000, 1_000_000, 50_000_000] {
            for piece in [1.max(rate / 1_000), 1 + rate / 20, 3 * rate] {
                let (total, ideal) = (sent(rate, piece, ms(60_000)), rate * 60);
                assert!(total <= ideal + piece, "{rate}/s in pieces of {piece}: {total}");
                assert!(total + rate / WORTH_PER_SECOND + 1 >= ideal, "{rate}/s in pieces of {piece}: {total}");
            }
        }
    }

    #[test]
    fn one_second_is_saved_up_and_no_more() {
        let mut bucket = Bucket::new(ms(0), 1_000);
        assert_eq!(bucket.allowed(ms(500)), Allowed::Bytes(500));
        assert_eq!(bucket.allowed(ms(3_600_000)), Allowed::Bytes(1_000));
        bucket.give_back(5_000);
        assert_eq!(bucket.allowed(ms(3_600_000)), Allowed::Bytes(1_000));
    }

    #[test]
    fn a_batch_that_is_too_large_is_paid_back_first() {
        let mut bucket = Bucket::new(ms(0), 1_000);
        assert_eq!(bucket.allowed(ms(1_000)), Allowed::Bytes(1_000));
        bucket.take(3_000);
        assert_eq!(bucket.allowed(ms(1_000)), Allowed::NotBefore(Some(ms(3_100))));
        bucket.give_back(500);
        assert_eq!(bucket.allowed(ms(2_600)), Allowed::Bytes(100));
    }

    #[test]
    fn nothing_passes_at_rate_0_until_there_is_another() {
        let mut bucket = Bucket::new(ms(0), 0);
        assert_eq!(bucket.allowed(ms(1_000_000)), Allowed::NotBefore(None));
        bucket.set_rate(ms(1_000_000), 10);
        assert_eq!(bucket.allowed(ms(1_000_100)), Allowed::Bytes(1));
    }

    #[test]
    fn time_that_goes_back_gives_nothing() {
        let mut bucket = Bucket::new(ms(1_000), 1_000);
        assert_eq!(bucket.allowed(ms(500)), Allowed::NotBefore(Some(ms(600))));
        assert_eq!(bucket.allowed(ms(1_000)), Allowed::NotBefore(Some(ms(1_100))));
    }
}

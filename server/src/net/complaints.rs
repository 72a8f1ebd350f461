//! What clients send that is no request of the protocol, said in the log.
//!
//! Owns how much of it is said: anybody who reaches the port can send rubbish, and must not fill the disk with it. Does not own what was
//! wrong. Invariant: at most `SAID_MAX` lines in each `EVERY`, and the next line after a pause says how many were left out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const SAID_MAX: u32 = 10;
const EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Complaints {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the time began in which `said` lines were said.
    since: Duration,
    said: u32,
    unsaid: u64,
}

impl Complaints {
    /// Whether one more may be said now, by the monotonic clock: then how many were not, since the last one that was.
    pub fn may_say(&self, now: Duration) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(state.since) >= EVERY {
            state.since = now;
            state.said = 0;
        }
        if state.said >= SAID_MAX {
            state.unsaid += 1;
            return None;
        }
        state.said += 1;
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_a_minute_are_said_and_the_rest_is_counted() {
        let complaints = Complaints::default();
        let at = |second: u64| Duration::from_secs(1_000 + second);
        let said = |second| complaints.may_say(at(second));
        for _ in 0..SAID_MAX {
            assert_eq!(said(0), Some(0));
        }
        for second in 0..59 {
            assert_eq!(said(second), None);
        }
        assert_eq!(said(60), Some(59));
        assert_eq!(said(61), Some(0));
    }
}

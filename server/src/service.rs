//! What the service manager (systemd) that started this process is told: ready, alive, stopping.
//!
//! Owns the messages. Does not own when they are due: `run` says so. Without a manager (`NOTIFY_SOCKET` is not set)
//! nothing is sent. Invariant: a message that cannot be sent harms nothing; it is logged.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// The node answers clients; `status` is shown beside the service.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The node hands over and writes down what it has; it may take `at_most`.
pub fn stopping(at_most: Duration) {
    let more = u32::try_from(at_most.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(more)]);
}

/// Says that the process is alive, twice in each interval that the manager watches (`WatchdogSec=`), for as long as the
/// runtime that it is spawned on makes progress. Ends at once where nobody watches.
pub async fn keep_alive() {
    let Some(watched) = sd_notify::watchdog_enabled() else { return };
    let mut due = tokio::time::interval(watched / 2);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("the service manager was not told {states:?}: {error}");
    }
}

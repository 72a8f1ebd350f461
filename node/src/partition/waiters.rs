//! Who waits for a partition's limits to move: fetch sessions, and long polls without one.
//!
//! Owns the registrations and the ready queue of each watcher. Does not own deadlines or byte counts: the caller that parks
//! has its own timer and looks again when it is woken.
//! Invariant: between `park` and the wake, a move of any registered partition emits exactly one `Wake`.
//! Invariant: a poll costs what moved, never what is registered: partitions push, watchers do not scan.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::effects::{Effect, Effects, ReplyTo};

/// One fetch session, or one long poll without a session. Registered with `Node::watch`.
#[derive(Debug, Default)]
pub struct Watcher {
    state: Mutex<WatcherState>,
}

#[derive(Debug, Default)]
struct WatcherState {
    /// Slots of the partitions that moved since they were last taken.
    ready: BTreeSet<u32>,
    parked: Option<ReplyTo>,
}

impl Watcher {
    pub fn new() -> Arc<Watcher> {
        Arc::new(Watcher::default())
    }

    /// Moves the slots whose partitions moved since the last call into `slots`, sorted.
    pub fn take_ready(&self, slots: &mut Vec<u32>) {
        let mut state = self.lock();
        slots.extend(std::mem::take(&mut state.ready));
    }

    /// From now on the first move wakes `waiter`. `false`, and nothing parked, when something moved already.
    #[must_use]
    pub fn park(&self, waiter: ReplyTo) -> bool {
        let mut state = self.lock();
        if !state.ready.is_empty() {
            return false;
        }
        state.parked = Some(waiter);
        true
    }

    /// Nobody waits any more (answered, timed out, or the connection is gone).
    pub fn unpark(&self) {
        self.lock().parked = None;
    }

    pub(crate) fn moved(&self, slot: u32, fx: &mut Effects) {
        let mut state = self.lock();
        state.ready.insert(slot);
        if let Some(waiter) = state.parked.take() {
            fx.push(Effect::Wake { waiter });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, WatcherState> {
        // The state is a set and an option: no panic can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The watchers of one partition.
#[derive(Debug, Default)]
pub(crate) struct Registrations {
    watchers: Vec<(Arc<Watcher>, u32)>,
}

impl Registrations {
    pub(crate) fn add(&mut self, watcher: &Arc<Watcher>, slot: u32) {
        self.remove(watcher, slot);
        self.watchers.push((Arc::clone(watcher), slot));
    }

    pub(crate) fn remove(&mut self, watcher: &Arc<Watcher>, slot: u32) {
        self.watchers.retain(|(have, at)| !(Arc::ptr_eq(have, watcher) && *at == slot));
    }

    pub(crate) fn moved(&self, fx: &mut Effects) {
        for (watcher, slot) in &self.watchers {
            watcher.moved(*slot, fx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::ReplySink;
    use crate::requests::Answer;

    struct NoSink;

    impl ReplySink for NoSink {
        fn reply(&self, _: u64, _: Answer) {}
        fn wake(&self, _: u64) {}
    }

    fn request(request: u64) -> ReplyTo {
        ReplyTo { sink: Arc::new(NoSink), request }
    }

    fn woken(fx: &Effects) -> Vec<u64> {
        fx.iter()
            .filter_map(|effect| if let Effect::Wake { waiter } = effect { Some(waiter.request) } else { None })
            .collect()
    }

    #[test]
    fn a_parked_request_is_woken_once_by_the_first_move() {
        let watcher = Watcher::new();
        let mut registrations = Registrations::default();
        registrations.add(&watcher, 3);
        registrations.add(&watcher, 8);
        let mut fx = Effects::new();
        assert!(watcher.park(request(1)));
        registrations.moved(&mut fx);
        registrations.moved(&mut fx);
        assert_eq!(woken(&fx), [1]);
        let mut slots = Vec::new();
        watcher.take_ready(&mut slots);
        assert_eq!(slots, [3, 8]);
    }

    #[test]
    fn parking_fails_when_something_moved_before() {
        let watcher = Watcher::new();
        let mut registrations = Registrations::default();
        registrations.add(&watcher, 0);
        let mut fx = Effects::new();
        registrations.moved(&mut fx);
        assert!(!watcher.park(request(1)));
        watcher.take_ready(&mut Vec::new());
        assert!(watcher.park(request(1)));
        assert!(woken(&fx).is_empty());
    }

    #[test]
    fn a_registration_that_was_removed_wakes_nobody() {
        let watcher = Watcher::new();
        let mut registrations = Registrations::default();
        registrations.add(&watcher, 0);
        registrations.remove(&watcher, 0);
        let mut fx = Effects::new();
        assert!(watcher.park(request(1)));
        registrations.moved(&mut fx);
        assert!(woken(&fx).is_empty());
    }
}

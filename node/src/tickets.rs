//! Which disk operation is for whom, and when the next tick is due.
//!
//! Owns ticket numbers and the table of operations in flight. Does not own what a completion means.
//! Invariant: a ticket is redeemed once; numbers are given in the order of the operations.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use storage::disk::{DiskOp, Lane, Step, Ticket};

use crate::effects::{Effect, Effects};

/// Operations in flight, each with what is to be done when it completes.
#[derive(Debug)]
pub(crate) struct Tickets<P> {
    table: Mutex<Table<P>>,
}

#[derive(Debug)]
struct Table<P> {
    next: u64,
    pending: BTreeMap<Ticket, P>,
}

impl<P> Tickets<P> {
    pub(crate) fn new() -> Tickets<P> {
        Tickets { table: Mutex::new(Table { next: 1, pending: BTreeMap::new() }) }
    }

    /// Hands the steps out as one operation.
    pub(crate) fn start(&self, lane: Lane, steps: Vec<Step>, pending: P, fx: &mut Effects) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let ticket = Ticket(table.next);
        table.next += 1;
        table.pending.insert(ticket, pending);
        drop(table);
        fx.push(Effect::Disk(DiskOp { ticket, lane, steps }));
    }

    pub(crate) fn redeem(&self, ticket: Ticket) -> Option<P> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).pending.remove(&ticket)
    }

    /// Operations in flight.
    pub(crate) fn len(&self) -> usize {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).pending.len()
    }
}

/// The time of the tick that the caller promised.
#[derive(Debug)]
pub(crate) struct Timer {
    promised_ns: AtomicU64,
}

impl Timer {
    pub(crate) fn new() -> Timer {
        Timer { promised_ns: AtomicU64::new(u64::MAX) }
    }

    /// Asks for a tick at `mono`, unless one is promised by then.
    pub(crate) fn by(&self, mono: Duration, fx: &mut Effects) {
        let at = nanos(mono);
        if self.promised_ns.fetch_min(at, Ordering::Relaxed) > at {
            fx.push(Effect::TickBy { mono });
        }
    }

    /// A tick begins: what was promised is kept.
    pub(crate) fn begin(&self) {
        self.promised_ns.store(u64::MAX, Ordering::Relaxed);
    }

    /// The tick returns `mono`: the caller promises the next one by then. Returns what is promised now.
    pub(crate) fn promise(&self, mono: Duration) -> Duration {
        let at = nanos(mono);
        Duration::from_nanos(self.promised_ns.fetch_min(at, Ordering::Relaxed).min(at))
    }
}

fn nanos(mono: Duration) -> u64 {
    u64::try_from(mono.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_tick_is_asked_for() {
        let timer = Timer::new();
        let mut fx = Effects::new();
        timer.begin();
        assert_eq!(timer.promise(Duration::from_secs(60)), Duration::from_secs(60));
        for seconds in [70, 30, 40, 20] {
            timer.by(Duration::from_secs(seconds), &mut fx);
        }
        let asked: Vec<u64> = fx
            .iter()
            .filter_map(|effect| if let Effect::TickBy { mono } = effect { Some(mono.as_secs()) } else { None })
            .collect();
        assert_eq!(asked, [30, 20]);
    }

    #[test]
    fn a_ticket_is_redeemed_once() {
        let tickets = Tickets::new();
        let mut fx = Effects::new();
        tickets.start(Lane::Segments, Vec::new(), "flush", &mut fx);
        let [Effect::Disk(op)] = &fx[..] else { panic!("{fx:?}") };
        assert_eq!((tickets.redeem(op.ticket), tickets.redeem(op.ticket)), (Some("flush"), None));
        assert_eq!(tickets.len(), 0);
    }
}

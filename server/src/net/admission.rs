//! How many connections of clients there may be, in all and of one address.
//!
//! Owns the counts. Does not own accepting, nor what becomes of a connection that is not let in.
//! Invariant: each ticket is counted once, in all and for its address, until it is dropped; an address without a
//! connection is not remembered.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Kafka's `max.connections`, `max.connections.per.ip` and `max.connections.per.ip.overrides`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectionLimits {
    pub all: usize,
    pub per_address: usize,
    /// Addresses with a limit of their own.
    pub overrides: HashMap<IpAddr, usize>,
}

impl ConnectionLimits {
    fn of(&self, address: IpAddr) -> usize {
        self.overrides.get(&address).copied().unwrap_or(self.per_address)
    }
}

/// Why a connection is closed at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotAdmitted {
    #[error("{limit} connections are open, max.connections allows no more")]
    All { limit: usize },
    #[error(
        "{address} has {limit} connections, max.connections.per.ip (or its entry in max.connections.per.ip.overrides) \
         allows no more"
    )]
    Address { address: IpAddr, limit: usize },
}

/// What is said of a connection that is not let in: a flood of them shall not flood the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    pub reason: NotAdmitted,
    /// The first one since there was room.
    pub first: bool,
}

#[derive(Clone, Debug)]
pub struct Admission {
    limits: Arc<ConnectionLimits>,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    all_said: bool,
    by_address: HashMap<IpAddr, OfAddress>,
    /// Addresses that may have no connection at all and were named already; there are as many as overrides of 0.
    none_said: bool,
}

#[derive(Debug, Default)]
struct OfAddress {
    open: usize,
    said: bool,
}

/// A connection that is counted.
#[derive(Debug)]
pub struct Ticket {
    address: IpAddr,
    counts: Arc<Mutex<Counts>>,
}

impl Admission {
    pub fn new(limits: ConnectionLimits) -> Admission {
        Admission { limits: Arc::new(limits), counts: Arc::default() }
    }

    /// Counts a connection, or says why there may be no more.
    pub fn admit(&self, peer: IpAddr) -> Result<Ticket, Refused> {
        let address = peer.to_canonical();
        let mut counts = lock(&self.counts);
        if counts.all >= self.limits.all {
            let first = !std::mem::replace(&mut counts.all_said, true);
            return Err(Refused { reason: NotAdmitted::All { limit: self.limits.all }, first });
        }
        let limit = self.limits.of(address);
        let reason = NotAdmitted::Address { address, limit };
        if limit == 0 {
            return Err(Refused { reason, first: !std::mem::replace(&mut counts.none_said, true) });
        }
        let of_address = counts.by_address.entry(address).or_default();
        if of_address.open >= limit {
            return Err(Refused { reason, first: !std::mem::replace(&mut of_address.said, true) });
        }
        of_address.open += 1;
        counts.all += 1;
        Ok(Ticket { address, counts: self.counts.clone() })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.all = counts.all.checked_sub(1).expect("a ticket is counted in all");
        counts.all_said = false;
        let of_address = counts.by_address.get_mut(&self.address).expect("a ticket is counted for its address");
        of_address.said = false;
        of_address.open = of_address.open.checked_sub(1).expect("an address is remembered while it has a ticket");
        if of_address.open == 0 {
            counts.by_address.remove(&self.address);
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn admission(all: usize, per_address: usize, overrides: &[(IpAddr, usize)]) -> Admission {
        Admission::new(ConnectionLimits { all, per_address, overrides: overrides.iter().copied().collect() })
    }

    #[test]
    fn over_the_limit_of_all_nobody_is_let_in_until_one_leaves() {
        let admission = admission(2, 10, &[]);
        let first = admission.admit(address(1)).expect("room");
        let second = admission.admit(address(2)).expect("room");
        let reason = NotAdmitted::All { limit: 2 };
        assert_eq!(admission.admit(address(3)).expect_err("full"), Refused { reason, first: true });
        assert_eq!(admission.admit(address(3)).expect_err("full"), Refused { reason, first: false });
        drop(first);
        let third = admission.admit(address(3)).expect("room again");
        assert!(admission.admit(address(4)).expect_err("full again").first, "each time it gets full is said");
        drop((second, third));
    }

    #[test]
    fn one_address_cannot_take_the_places_of_the_others() {
        let admission = admission(100, 2, &[(HOME, 3)]);
        let held: Vec<Ticket> = (0..2).map(|_| admission.admit(address(1)).expect("room")).collect();
        let refused = admission.admit(address(1)).expect_err("its limit");
        assert_eq!(refused.reason, NotAdmitted::Address { address: address(1), limit: 2 });
        let other = admission.admit(address(2)).expect("others have room");
        let home: Vec<Ticket> = (0..3).map(|_| admission.admit(HOME).expect("its own limit")).collect();
        assert!(admission.admit(HOME).is_err());
        drop((held, other, home));
        assert_eq!((lock(&admission.counts).all, lock(&admission.counts).by_address.len()), (0, 0));
    }

    #[test]
    fn an_address_of_four_bytes_is_the_same_one_in_sixteen() {
        let admission = admission(100, 1, &[]);
        let _held = admission.admit(address(1)).expect("room");
        let mapped = IpAddr::V6(std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
        assert!(admission.admit(mapped).is_err());
    }

    #[test]
    fn a_limit_of_zero_lets_only_the_exceptions_in() {
        let admission = admission(100, 0, &[(HOME, 1)]);
        assert!(admission.admit(address(1)).expect_err("none").first);
        assert!(!admission.admit(address(1)).expect_err("none").first);
        let _held = admission.admit(HOME).expect("an exception");
        assert_eq!(lock(&admission.counts).by_address.len(), 1, "those that have none are not remembered");
    }
}

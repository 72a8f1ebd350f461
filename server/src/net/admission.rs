//! How many connections of clients there may be, in all and of one address.
//!
//! Owns the counts. Does not own accepting, nor what becomes of a connection that is not let in.
//! Invariant: each permit is counted once, in all and for its address, until it is dropped; an address without a
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

#[derive(Clone, Debug)]
pub struct Admission {
    limits: Arc<ConnectionLimits>,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection that is counted.
#[derive(Debug)]
pub struct ConnectionPermit {
    address: IpAddr,
    counts: Arc<Mutex<Counts>>,
}

impl Admission {
    pub fn new(limits: ConnectionLimits) -> Admission {
        Admission { limits: Arc::new(limits), counts: Arc::default() }
    }

    /// Counts a connection, or says why there may be no more.
    pub fn admit(&self, peer: IpAddr) -> Result<ConnectionPermit, NotAdmitted> {
        let address = peer.to_canonical();
        let mut counts = lock(&self.counts);
        if counts.all >= self.limits.all {
            return Err(NotAdmitted::All { limit: self.limits.all });
        }
        let limit = self.limits.of(address);
        let open = counts.by_address.get(&address).copied().unwrap_or(0);
        if open >= limit {
            return Err(NotAdmitted::Address { address, limit });
        }
        counts.by_address.insert(address, open + 1);
        counts.all += 1;
        Ok(ConnectionPermit { address, counts: self.counts.clone() })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.all = counts.all.checked_sub(1).expect("a permit is counted in all");
        let open = counts.by_address.get_mut(&self.address).expect("a permit is counted for its address");
        *open -= 1;
        if *open == 0 {
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
        assert_eq!(admission.admit(address(3)).expect_err("full"), NotAdmitted::All { limit: 2 });
        drop(first);
        let third = admission.admit(address(3)).expect("room again");
        assert_eq!(admission.admit(address(4)).expect_err("full again"), NotAdmitted::All { limit: 2 });
        drop((second, third));
    }

    #[test]
    fn one_address_cannot_take_the_places_of_the_others() {
        let admission = admission(100, 2, &[(HOME, 3)]);
        let held: Vec<ConnectionPermit> = (0..2).map(|_| admission.admit(address(1)).expect("room")).collect();
        let refused = admission.admit(address(1)).expect_err("its limit");
        assert_eq!(refused, NotAdmitted::Address { address: address(1), limit: 2 });
        let other = admission.admit(address(2)).expect("others have room");
        let home: Vec<ConnectionPermit> = (0..3).map(|_| admission.admit(HOME).expect("its own limit")).collect();
        assert!(admission.admit(HOME).is_err());
        drop((held, other, home));
        let counts = lock(&admission.counts);
        assert_eq!((counts.all, counts.by_address.len()), (0, 0));
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
        assert!(admission.admit(address(1)).is_err());
        let _held = admission.admit(HOME).expect("an exception");
        assert_eq!(lock(&admission.counts).by_address.len(), 1, "those that have none are not remembered");
    }
}

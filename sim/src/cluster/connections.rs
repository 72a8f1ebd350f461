//! Connections between clients and hosts: one for each pair, as TCP keeps them.
//!
//! Owns who reaches whom, the order of what travels, and when a connection is over. Does not own requests (`world`).
//! Invariant: what is sent on one connection arrives in order, up to the first loss; behind that nothing arrives any more until the
//! client, out of patience, connects anew. So a host never sees a request whose predecessor was lost on the way.

use std::collections::BTreeMap;

use super::net::HostIndex;
use super::queue::At;
use super::world::ClientIndex;

/// Names one connection among all between a client and a host.
pub type Session = u64;

#[derive(Debug, Default)]
struct Connection {
    session: Session,
    /// The process that it was made to.
    start: Option<u64>,
    /// When the last request or answer arrives.
    last: At,
    /// Something was lost on it.
    broken: bool,
}

#[derive(Debug, Default)]
pub(super) struct Connections {
    all: BTreeMap<(ClientIndex, HostIndex), Connection>,
    /// Hosts that no client reaches, a bit for each.
    cut_off: u64,
    /// Hosts and clients of two sides, a bit for each: who is on one does not reach the other.
    sides: Option<(u64, u64)>,
}

impl Connections {
    /// The connection between the two, and whether it is to this process, and not to an earlier one.
    pub(super) fn use_one(&mut self, client: ClientIndex, host: HostIndex, start: u64) -> (Session, bool) {
        let connection = self.all.entry((client, host)).or_default();
        (connection.session, *connection.start.get_or_insert(start) == start)
    }

    fn reach(&self, client: ClientIndex, host: HostIndex) -> bool {
        let parted = self.sides.is_some_and(|(hosts, clients)| hosts >> host & 1 != clients >> client & 1);
        !parted && self.cut_off >> host & 1 == 0
    }

    /// Puts something on the way that takes so long. `None`: it is lost, and the connection with it.
    pub(super) fn carry(
        &mut self,
        (client, host): (ClientIndex, HostIndex),
        session: Session,
        at: At,
        takes: At,
    ) -> Option<At> {
        let reach = self.reach(client, host);
        let connection = self.all.entry((client, host)).or_default();
        if connection.session != session {
            return None;
        }
        connection.broken |= !reach;
        if connection.broken {
            return None;
        }
        connection.last = connection.last.max(at + takes) + 1;
        Some(connection.last)
    }

    /// Nothing arrives on it any more; its client does not know yet.
    pub(super) fn sever(&mut self, client: ClientIndex, host: HostIndex, session: Session) {
        let connection = self.all.entry((client, host)).or_default();
        connection.broken |= connection.session == session;
    }

    /// The client knows that the connection is over; the next request begins another one.
    pub(super) fn end(&mut self, client: ClientIndex, host: HostIndex, session: Session) {
        let connection = self.all.entry((client, host)).or_default();
        if connection.session == session {
            connection.session += 1;
            connection.start = None;
            connection.broken = false;
        }
    }

    pub(super) fn cut_off(&mut self, host: HostIndex) {
        self.cut_off |= 1 << host;
    }

    pub(super) fn part(&mut self, hosts: u64, clients: u64) {
        self.sides = Some((hosts, clients));
    }

    pub(super) fn heal(&mut self) {
        self.cut_off = 0;
        self.sides = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: (ClientIndex, HostIndex) = (0, 1);

    #[test]
    fn behind_a_loss_nothing_arrives_until_the_client_connects_anew() {
        let mut connections = Connections::default();
        let (session, _) = connections.use_one(0, 1, 7);
        assert_eq!(connections.carry(PAIR, session, 10, 5), Some(16));
        connections.part(0b10, 0b0);
        assert_eq!(connections.carry(PAIR, session, 20, 5), None);
        connections.heal();
        assert_eq!(connections.carry(PAIR, session, 30, 5), None);
        connections.end(0, 1, session);
        let (next, _) = connections.use_one(0, 1, 7);
        assert_eq!(connections.carry(PAIR, session, 40, 5), None, "the connection before is over");
        assert_eq!(connections.carry(PAIR, next, 40, 5), Some(46));
    }

    #[test]
    fn what_travels_on_one_connection_arrives_in_order() {
        let mut connections = Connections::default();
        let (session, _) = connections.use_one(0, 1, 7);
        assert_eq!(connections.carry(PAIR, session, 10, 50), Some(61));
        assert_eq!(connections.carry(PAIR, session, 11, 5), Some(62));
    }

    #[test]
    fn a_connection_to_an_earlier_process_is_none_to_a_later_one() {
        let mut connections = Connections::default();
        let (session, stands) = connections.use_one(0, 1, 7);
        assert!(stands);
        assert_eq!(connections.use_one(0, 1, 8), (session, false));
        connections.end(0, 1, session);
        assert_eq!(connections.use_one(0, 1, 8), (session + 1, true));
    }
}

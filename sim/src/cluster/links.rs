//! Links between nodes: made, used, broken, told of.
//!
//! Owns the order in which both sides learn of a link, as sockets would tell them. Does not own delays and blocks (`net`).
//! Invariant: a node is told of a frame only between the `Opened` and the `Closed` of its link.

use model::NodeId;
use node::peer::{Frame, Hello, Lost, PeerAddress, PeerEvent, PeerLane};

use super::host::Ending;
use super::net::{Carried, HostIndex, LinkKey, LinkState, address_of, host_at, host_of, node_id};
use super::queue::{At, MILLISECOND, SECOND};
use super::world::{Happening, World};

/// How long a connect, with its handshake, may take.
const CONNECT_MAX: At = 1_000 * MILLISECOND;
/// How long it takes until a socket gives up on a machine that says nothing.
const SILENT_END: At = 10 * SECOND;

impl World {
    fn peer_event(&mut self, host: HostIndex, event: PeerEvent) {
        self.with_node(host, |node, now, fx| node.peer(now, event, fx));
    }

    pub(super) fn want_links(&mut self, host: HostIndex, peers: &[PeerAddress]) {
        let reached: Vec<(HostIndex, Option<NodeId>)> =
            peers.iter().filter_map(|peer| Some((host_at(&peer.address)?, peer.node))).collect();
        let wanted: Vec<HostIndex> = reached.iter().map(|(to, _)| *to).filter(|to| *to < self.hosts.len()).collect();
        let (new, gone) = self.net.want(host, &wanted);
        for (to, node) in reached {
            for lane in PeerLane::ALL {
                let link = self.net.link(LinkKey { from: host, to, lane });
                link.known = node.or(link.known);
            }
        }
        for key in gone {
            if let Some(session) = self.net.break_link(key) {
                self.net.link(key).state = LinkState::Down;
                self.schedule(MILLISECOND, Happening::Ended { key, session });
            }
        }
        let start = self.hosts[host].start;
        for key in new {
            self.net.link(key).failures = 0;
            self.schedule(MILLISECOND / 4, Happening::Connect { key, start });
        }
    }

    pub(super) fn connect(&mut self, key: LinkKey, start: u64) {
        let LinkKey { from, to, lane } = key;
        if self.hosts[from].start != start || !self.net.is_wanted(key) || self.net.link(key).state != LinkState::Down {
            return;
        }
        let Some(hello) = self.hosts[from].node.as_ref().map(node::Node::hello) else { return };
        if from == to {
            return self
                .peer_event(from, PeerEvent::Connected { to: node_id(to), lane, address: address_of(to), hello });
        }
        let session = self.net.begin(key);
        let there = self.net.delay(from, to, 200);
        let back = self.net.delay(to, from, 200);
        let blocked = self.net.is_blocked(from, to) || self.net.is_blocked(to, from);
        let target = &self.hosts[to];
        if !blocked && target.powered && !target.is_up() {
            return self.schedule(there + back, Happening::Failed { key, session, why: Lost::Refused });
        }
        self.schedule(CONNECT_MAX, Happening::Failed { key, session, why: Lost::Unreachable });
        if !self.net.is_blocked(from, to) && self.hosts[to].is_up() {
            let known = self.net.link(key).known;
            self.schedule(there, Happening::Greeted { key, session, hello: Box::new(hello), to: known });
        }
    }

    pub(super) fn greeted(&mut self, key: LinkKey, session: u64, hello: &Hello, to: Option<NodeId>) {
        let Some(node) = &self.hosts[key.to].node else { return };
        let welcome = match node.greet(hello, to) {
            Ok(()) => Ok(Box::new(node.hello())),
            Err(refused) => {
                tracing::debug!(ms = self.at / MILLISECOND, ?key, %refused, "a link is refused");
                Err(refused.to_string())
            }
        };
        let back = self.net.delay(key.to, key.from, 200);
        if !self.net.is_blocked(key.to, key.from) {
            let start = self.hosts[key.to].start;
            self.schedule(back, Happening::Answered { key, session, start, welcome });
        }
    }

    pub(super) fn answered(&mut self, key: LinkKey, session: u64, welcome: Result<Box<Hello>, String>) {
        let LinkKey { from, to, lane } = key;
        let link = self.net.link(key);
        if link.session != session || link.state != LinkState::Greeting {
            return;
        }
        let known = link.known;
        let Some(node) = &self.hosts[from].node else { return };
        let hello = match welcome {
            Ok(hello) if hello.node == node_id(from) || node.greet(&hello, None).is_err() => return,
            Ok(hello) if known.is_some_and(|known| known != hello.node) => return,
            Ok(hello) => *hello,
            Err(_) => return,
        };
        let own = node.hello();
        let link = self.net.link(key);
        link.state = LinkState::Standing;
        link.known = Some(hello.node);
        link.failures = 0;
        self.hash.add(session);
        self.put_on(key, Carried::Confirm(Box::new(own)));
        self.peer_event(from, PeerEvent::Connected { to: hello.node, lane, address: address_of(to), hello });
    }

    fn put_on(&mut self, key: LinkKey, what: Carried) {
        if let Some((at, session, what)) = self.net.carry(self.at, key, what) {
            self.queue.push(at, Happening::Arrived { key, session, what });
        }
    }

    pub(super) fn send(&mut self, from: HostIndex, to: NodeId, lane: PeerLane, frame: Frame) {
        let key = LinkKey { from, to: host_of(to), lane };
        let raft = lane == PeerLane::Control && frame.head == self.raft_head;
        let copies = if raft { self.net.copies() } else { 1 };
        for _ in 0..copies {
            self.put_on(key, Carried::Frame(frame.clone()));
        }
    }

    pub(super) fn arrived(&mut self, key: LinkKey, session: u64, what: Carried) {
        let LinkKey { from, to, lane } = key;
        let node = node_id(from);
        if self.net.link(key).session != session || !self.hosts[to].is_up() {
            return;
        }
        match what {
            Carried::Confirm(hello) => {
                if self.hosts[to].node.as_ref().is_none_or(|node| node.greet(&hello, None).is_err()) {
                    return self.cut(key);
                }
                self.close_incoming(to, node, lane);
                self.hosts[to].incoming.insert((node, lane), session);
                self.peer_event(to, PeerEvent::Opened { from: node, lane, session, hello: *hello });
            }
            Carried::Frame(frame) => {
                if self.hosts[to].incoming.get(&(node, lane)) != Some(&session) {
                    return;
                }
                self.counts.frames += 1;
                self.hash.add(session ^ (frame.head.len() as u64) << 32);
                let Frame { head, records } = frame;
                let body = match <[bytes::Bytes; 1]>::try_from(records) {
                    Ok([one]) => one,
                    Err(pieces) => pieces.concat().into(),
                };
                self.hash.add_bytes(&head);
                self.peer_event(to, PeerEvent::Frame { from: node, lane, session, head, body });
            }
        }
    }

    fn close_incoming(&mut self, host: HostIndex, from: NodeId, lane: PeerLane) {
        if let Some(session) = self.hosts[host].incoming.remove(&(from, lane)) {
            self.peer_event(host, PeerEvent::Closed { from, lane, session });
        }
    }

    pub(super) fn link_ended(&mut self, key: LinkKey, session: u64) {
        let node = node_id(key.from);
        if self.hosts[key.to].incoming.get(&(node, key.lane)) == Some(&session) {
            self.close_incoming(key.to, node, key.lane);
        }
    }

    pub(super) fn link_failed(&mut self, key: LinkKey, session: u64, why: Lost) {
        let link = self.net.link(key);
        let over = match why {
            Lost::Closed => LinkState::Broken,
            Lost::Refused | Lost::Unreachable => LinkState::Greeting,
        };
        if link.session != session || link.state != over {
            return;
        }
        link.state = LinkState::Down;
        let known = link.known;
        let retry = if why == Lost::Closed { MILLISECOND } else { self.net.retry_after(key) };
        let start = self.hosts[key.from].start;
        self.schedule(retry, Happening::Connect { key, start });
        if let Some(to) = known {
            self.peer_event(key.from, PeerEvent::Lost { to, lane: key.lane, why });
        }
    }

    /// Ends a link that stands; what is on its way is lost. Both sides learn of it at once.
    pub(super) fn cut(&mut self, key: LinkKey) {
        self.break_in(key, MILLISECOND, MILLISECOND);
    }

    fn break_in(&mut self, key: LinkKey, sender_learns: At, receiver_learns: At) {
        let Some(session) = self.net.break_link(key) else { return };
        self.schedule(sender_learns, Happening::Failed { key, session, why: Lost::Closed });
        self.schedule(receiver_learns, Happening::Ended { key, session });
    }

    /// A process ended: its sockets close, unless its machine went with it.
    pub(super) fn links_of_the_dead(&mut self, host: HostIndex, ending: Ending) {
        let keys: Vec<LinkKey> =
            self.net.links.keys().filter(|key| key.from == host || key.to == host).copied().collect();
        for key in keys {
            let other = if key.from == host { key.to } else { key.from };
            let silent = ending != Ending::Killed || self.net.is_blocked(host, other);
            let learns = if silent { SILENT_END } else { MILLISECOND / 2 };
            self.break_in(key, learns, learns);
        }
        self.net.forget_wishes(host);
    }

    /// The ways of the network are as they should be again.
    pub fn heal_network(&mut self) {
        for key in self.net.unblock_all() {
            for what in self.net.take_stalled(key) {
                self.put_on(key, what);
            }
        }
        self.connections.heal();
    }

    /// Nothing gets from one host to the other. What stands there waits; after a while sockets give up.
    pub fn block(&mut self, from: HostIndex, to: HostIndex) {
        self.net.block(from, to);
    }

    /// Clients and a host cannot reach each other.
    pub fn cut_off_from_clients(&mut self, host: HostIndex) {
        self.connections.cut_off(host);
    }

    /// Each client is on one side, as each host is, and reaches only those.
    pub fn part_clients(&mut self, hosts: u64, clients: u64) {
        self.connections.part(hosts, clients);
    }

    pub fn slow_down(&mut self, from: HostIndex, to: HostIndex, by: At) {
        self.net.slow_down(from, to, by);
    }

    /// Ends what stands between two hosts, in both directions.
    pub fn cut_links(&mut self, one: HostIndex, other: HostIndex) {
        let between = |key: &LinkKey| (key.from, key.to) == (one, other) || (key.from, key.to) == (other, one);
        let keys: Vec<LinkKey> = self.net.links.keys().filter(|key| between(key)).copied().collect();
        keys.into_iter().for_each(|key| self.cut(key));
    }

    /// Sockets give up on ways that are blocked.
    pub fn cut_blocked_links(&mut self) {
        let keys: Vec<LinkKey> = self.net.links.keys().copied().collect();
        for key in keys {
            if self.net.is_blocked(key.from, key.to) {
                self.cut(key);
            }
        }
    }
}

//! The links between the nodes of a test: they stand while both processes run; a frame takes a while; a dead process refuses.
//!
//! Owns which links stand and which are tried again. Events of one link arrive in the order in which they happened.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::NodeId;
use node::peer::{Frame, Lost, PeerAddress, PeerEvent, PeerLane};

use super::{Cluster, Event, address};

/// What a frame takes.
const TRIP: Duration = Duration::from_micros(150);
/// How far attempts to connect are apart at first, and at most.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct Net {
    wanted: BTreeMap<NodeId, Vec<PeerAddress>>,
    /// Which links stand, with the number of each.
    links: BTreeMap<(NodeId, NodeId, PeerLane), u64>,
    /// Whom a node has ever known.
    known: BTreeSet<(NodeId, NodeId)>,
    retry: BTreeMap<(NodeId, NodeId), Duration>,
    /// Nothing reaches these or comes from them; links stay, as TCP's do, and what is sent arrives when it is over.
    cut_off: BTreeSet<NodeId>,
    /// These hear nothing of the controller and of each other's lives: the same, for lane `Control` alone.
    uninformed: BTreeSet<NodeId>,
    held: Vec<(NodeId, PeerEvent)>,
    next: u64,
}

fn at_address(address_wanted: &str) -> Option<NodeId> {
    (0..100).find(|node| address(*node) == address_wanted).map(NodeId)
}

impl Cluster {
    pub(super) fn net_started(&mut self, id: NodeId) {
        self.net.retry.retain(|(from, _), _| *from != id);
        self.net.wanted.remove(&id);
        // Whoever waits for it tries again soon.
        let all: Vec<NodeId> = self.members.keys().copied().filter(|node| *node != id).collect();
        for other in all {
            self.net.retry.remove(&(other, id));
            self.try_again(other, RETRY_MIN);
        }
    }

    pub(super) fn net_died(&mut self, id: NodeId) {
        let gone: Vec<(NodeId, NodeId, PeerLane)> =
            self.net.links.keys().copied().filter(|(from, to, _)| *from == id || *to == id).collect();
        for (from, to, lane) in gone {
            let session = self.net.links.remove(&(from, to, lane)).expect("it stood");
            if from == id {
                self.tell(to, PeerEvent::Closed { from, lane, session });
            } else {
                self.tell(from, PeerEvent::Lost { to, lane, why: Lost::Closed });
                self.net.retry.insert((from, to), RETRY_MIN);
                self.try_again(from, TRIP);
            }
        }
    }

    pub(super) fn net_link(&mut self, id: NodeId, peers: Vec<PeerAddress>) {
        self.net.wanted.insert(id, peers);
        self.try_again(id, TRIP);
    }

    fn try_again(&mut self, id: NodeId, after: Duration) {
        if let Some(process) = self.process(id).map(|process| process.number) {
            self.schedule(after, Event::Connect { node: id, process });
        }
    }

    pub fn cut_off(&mut self, node: i32) {
        self.net.cut_off.insert(NodeId(node));
    }

    pub fn keep_uninformed(&mut self, node: i32) {
        self.net.uninformed.insert(NodeId(node));
    }

    pub fn heal(&mut self) {
        self.net.cut_off.clear();
        self.net.uninformed.clear();
        for (id, event) in std::mem::take(&mut self.net.held) {
            self.tell(id, event);
        }
    }

    fn tell(&mut self, id: NodeId, event: PeerEvent) {
        if let PeerEvent::Frame { from, lane, .. } = &event
            && (self.net.cut_off.contains(from)
                || self.net.cut_off.contains(&id)
                || *lane == PeerLane::Control && self.net.uninformed.contains(&id))
        {
            return self.net.held.push((id, event));
        }
        if let Some(process) = self.process(id).map(|process| process.number) {
            self.schedule(TRIP, Event::Peer { node: id, process, event });
        }
    }

    /// Tries all links of a node that are wanted and do not stand.
    pub(super) fn net_connect(&mut self, id: NodeId) {
        let wanted = self.net.wanted.get(&id).cloned().unwrap_or_default();
        for peer in wanted {
            let Some(to) = peer.node.or_else(|| at_address(&peer.address)) else { continue };
            if self.net.links.contains_key(&(id, to, PeerLane::Control)) {
                continue;
            }
            if to != id && (self.net.cut_off.contains(&id) || self.net.cut_off.contains(&to)) {
                self.refused(id, to, Lost::Unreachable);
                continue;
            }
            let both = self.process(id).zip(self.process(to));
            let hellos = both.map(|(from, to)| (from.node.hello(), to.node.hello()));
            let agreed = both.zip(hellos.as_ref()).is_some_and(|((from, to), (ours, theirs))| {
                to.node.greet(ours, peer.node).is_ok() && from.node.greet(theirs, None).is_ok()
            });
            match hellos {
                Some((_, hello)) if to == id => {
                    let event = PeerEvent::Connected { to, lane: PeerLane::Control, address: peer.address, hello };
                    self.net.known.insert((id, to));
                    self.tell(id, event);
                    // No link is kept, and none is tried again.
                    self.net.wanted.entry(id).or_default().retain(|wanted| at_address(&wanted.address) != Some(id));
                }
                Some((ours, theirs)) if agreed => {
                    self.net.retry.remove(&(id, to));
                    self.net.known.insert((id, to));
                    for lane in PeerLane::ALL {
                        self.net.next += 1;
                        let session = self.net.next;
                        self.net.links.insert((id, to, lane), session);
                        let opened = PeerEvent::Opened { from: id, lane, session, hello: ours.clone() };
                        self.tell(to, opened);
                        let (address, hello) = (peer.address.clone(), theirs.clone());
                        self.tell(id, PeerEvent::Connected { to, lane, address, hello });
                    }
                }
                answered => {
                    let why = if answered.is_some() { Lost::Unreachable } else { Lost::Refused };
                    self.refused(id, to, why);
                }
            }
        }
    }

    fn refused(&mut self, id: NodeId, to: NodeId, why: Lost) {
        if self.net.known.contains(&(id, to)) {
            PeerLane::ALL.into_iter().for_each(|lane| self.tell(id, PeerEvent::Lost { to, lane, why }));
        }
        let wait = self.net.retry.entry((id, to)).or_insert(RETRY_MIN);
        let after = *wait;
        *wait = (*wait * 5 / 4).min(RETRY_MAX);
        self.try_again(id, after);
    }

    pub(super) fn net_send(&mut self, from: NodeId, to: NodeId, lane: PeerLane, frame: Frame) {
        let Some(session) = self.net.links.get(&(from, to, lane)).copied() else { return };
        let body: Vec<u8> = frame.records.concat();
        for byte in frame.head.iter().chain(&body) {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.tell(to, PeerEvent::Frame { from, lane, session, head: frame.head, body: body.into() });
    }

    /// What was on its way when its link ended is lost.
    pub(super) fn net_is_current(&self, id: NodeId, event: &PeerEvent) -> bool {
        match event {
            PeerEvent::Frame { from, lane, session, .. } | PeerEvent::Opened { from, lane, session, .. } => {
                self.net.links.get(&(*from, id, *lane)) == Some(session)
            }
            PeerEvent::Connected { .. } | PeerEvent::Lost { .. } | PeerEvent::Closed { .. } => true,
        }
    }
}

//! The network: directed links between nodes, and what happens to them.
//!
//! Owns which links stand, who cannot reach whom, how long a message takes, and what is stuck on its way. Does not own when things happen
//! (`world`) nor what goes wrong (`faults`). As with TCP, what travels on one standing link arrives in order and once; while the way is
//! blocked it waits, and it is lost when the link ends.
//! Invariant: a link's session number changes whenever it is begun anew, so what was on its way before never arrives.

use std::collections::{BTreeMap, BTreeSet};

use model::NodeId;
use node::peer::{Frame, Hello, PeerLane};

use super::queue::{At, MICROSECOND, MILLISECOND};
use crate::rng::Rng;

/// Index of a host. Node ids are one higher.
pub type HostIndex = usize;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LinkKey {
    pub from: HostIndex,
    pub to: HostIndex,
    pub lane: PeerLane,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LinkState {
    /// Nobody tries, or the next attempt is scheduled.
    Down,
    Greeting,
    Standing,
    /// It carries nothing any more, but its sender does not know yet.
    Broken,
}

/// What travels on a link.
#[derive(Debug)]
pub(super) enum Carried {
    /// The last part of the handshake.
    Confirm(Box<Hello>),
    Frame(Frame),
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) state: LinkState,
    pub(super) session: u64,
    /// Who is known to answer there.
    pub(super) known: Option<NodeId>,
    /// Attempts that failed since it last stood.
    pub(super) failures: u32,
    last_arrival: At,
    stalled: Vec<Carried>,
}

/// How the ways between nodes are.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub delay_min: At,
    pub jitter: At,
    /// So many of a thousand Raft messages are lost or come twice, as when a link is made anew between them.
    pub raft_lost: u64,
    pub raft_twice: u64,
}

impl Default for Weather {
    fn default() -> Weather {
        Weather { delay_min: 50 * MICROSECOND, jitter: 200 * MICROSECOND, raft_lost: 0, raft_twice: 0 }
    }
}

pub(super) struct Net {
    pub(super) links: BTreeMap<LinkKey, Link>,
    wanted: BTreeSet<LinkKey>,
    blocked: BTreeSet<(HostIndex, HostIndex)>,
    /// More delay on a way, one direction.
    slow: BTreeMap<(HostIndex, HostIndex), At>,
    pub(super) weather: Weather,
    next_session: u64,
    rng: Rng,
}

/// About a gigabit per second.
const NANOS_PER_BYTE: u64 = 8;

impl Net {
    pub(super) fn new(rng: Rng) -> Net {
        Net {
            links: BTreeMap::new(),
            wanted: BTreeSet::new(),
            blocked: BTreeSet::new(),
            slow: BTreeMap::new(),
            weather: Weather::default(),
            next_session: 1,
            rng,
        }
    }

    pub(super) fn is_blocked(&self, from: HostIndex, to: HostIndex) -> bool {
        self.blocked.contains(&(from, to))
    }

    pub(super) fn block(&mut self, from: HostIndex, to: HostIndex) {
        if from != to {
            self.blocked.insert((from, to));
        }
    }

    /// Gives the links whose stalled messages go on now.
    pub(super) fn unblock_all(&mut self) -> Vec<LinkKey> {
        self.blocked.clear();
        self.slow.clear();
        self.links.iter().filter(|(_, link)| !link.stalled.is_empty()).map(|(key, _)| *key).collect()
    }

    pub(super) fn slow_down(&mut self, from: HostIndex, to: HostIndex, by: At) {
        self.slow.insert((from, to), by);
    }

    pub(super) fn delay(&mut self, from: HostIndex, to: HostIndex, bytes: usize) -> At {
        let more = self.slow.get(&(from, to)).copied().unwrap_or(0);
        self.weather.delay_min + self.rng.below(self.weather.jitter) + more + bytes as u64 * NANOS_PER_BYTE
    }

    /// The links that a host wants from now on. Gives those that are new and those that are not wanted any more.
    pub(super) fn want(&mut self, from: HostIndex, to: &[HostIndex]) -> (Vec<LinkKey>, Vec<LinkKey>) {
        let wanted: BTreeSet<LinkKey> =
            to.iter().flat_map(|to| PeerLane::ALL.map(|lane| LinkKey { from, to: *to, lane })).collect();
        let before: BTreeSet<LinkKey> = self.wanted.iter().filter(|key| key.from == from).copied().collect();
        let gone: Vec<LinkKey> = before.difference(&wanted).copied().collect();
        let new: Vec<LinkKey> = wanted.difference(&before).copied().collect();
        self.wanted.retain(|key| key.from != from);
        self.wanted.extend(wanted);
        (new, gone)
    }

    /// A process ended: it wants nothing any more.
    pub(super) fn forget_wishes(&mut self, from: HostIndex) {
        self.wanted.retain(|key| key.from != from);
        self.links.retain(|key, _| key.from != from);
    }

    pub(super) fn is_wanted(&self, key: LinkKey) -> bool {
        self.wanted.contains(&key)
    }

    pub(super) fn link(&mut self, key: LinkKey) -> &mut Link {
        self.links.entry(key).or_insert_with(|| Link {
            state: LinkState::Down,
            session: 0,
            known: None,
            failures: 0,
            last_arrival: 0,
            stalled: Vec::new(),
        })
    }

    /// An attempt begins; gives its session.
    pub(super) fn begin(&mut self, key: LinkKey) -> u64 {
        self.next_session += 1;
        let session = self.next_session;
        let link = self.link(key);
        link.state = LinkState::Greeting;
        link.session = session;
        link.stalled.clear();
        session
    }

    /// When what is handed over now arrives. `None`: it waits for the way to open, if the link stands.
    pub(super) fn carry(&mut self, at: At, key: LinkKey, what: Carried) -> Option<(At, u64, Carried)> {
        let bytes = match &what {
            Carried::Confirm(_) => 100,
            Carried::Frame(frame) => frame.wire_bytes(),
        };
        let delay = self.delay(key.from, key.to, bytes);
        let blocked = self.is_blocked(key.from, key.to);
        let link = self.links.get_mut(&key).filter(|link| link.state == LinkState::Standing)?;
        if blocked {
            link.stalled.push(what);
            return None;
        }
        link.last_arrival = link.last_arrival.max(at + delay) + 1;
        Some((link.last_arrival, link.session, what))
    }

    pub(super) fn take_stalled(&mut self, key: LinkKey) -> Vec<Carried> {
        self.links.get_mut(&key).map(|link| std::mem::take(&mut link.stalled)).unwrap_or_default()
    }

    /// Ends a link in either direction. Whether it stood; its sender is told later.
    pub(super) fn break_link(&mut self, key: LinkKey) -> Option<u64> {
        let link = self.links.get_mut(&key).filter(|link| link.state == LinkState::Standing)?;
        link.state = LinkState::Broken;
        link.stalled.clear();
        Some(link.session)
    }

    /// How long until the next attempt.
    pub(super) fn retry_after(&mut self, key: LinkKey) -> At {
        let link = self.link(key);
        link.failures += 1;
        if link.failures <= 20 { 50 * MILLISECOND } else { 1_000 * MILLISECOND }
    }

    /// How often a Raft message arrives: mostly once.
    pub(super) fn copies(&mut self) -> u32 {
        let weather = self.weather;
        if weather.raft_lost + weather.raft_twice == 0 {
            return 1;
        }
        let drawn = self.rng.below(1_000);
        if drawn < weather.raft_lost { 0 } else { 1 + u32::from(drawn < weather.raft_lost + weather.raft_twice) }
    }
}

/// What a host's peers call it.
pub fn address_of(host: HostIndex) -> String {
    format!("node-{}:9093", host + 1)
}

pub fn host_at(address: &str) -> Option<HostIndex> {
    let number: usize = address.strip_prefix("node-")?.strip_suffix(":9093")?.parse().ok()?;
    number.checked_sub(1)
}

pub fn node_id(host: HostIndex) -> NodeId {
    NodeId(i32::try_from(host + 1).expect("few nodes"))
}

pub fn host_of(node: NodeId) -> HostIndex {
    usize::try_from(node.0 - 1).expect("node ids begin at 1")
}

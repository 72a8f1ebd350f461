//! What a node knows of the others through its links.
//!
//! Owns this node's own hello, the birth of an empty node, and the account of links and starts. Does not own who may have a link
//! (`greeting`), which links are wanted (`wanted`), liveness, nor what frames mean.
//! Invariant: until this node belongs to a cluster it says who it is, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{NodeId, Now};
use replication::controller::Random;
use replication::metadata::record::LEVEL_FEATURE;
use replication::metadata::{Image, Incarnation};

use super::greeting::Refused;
use super::{Founding, Frame, Hello, Origin, PeerAddress, PeerEvent, PeerLane, proto};
use crate::birth::{Birth, Unborn, Waiting};
use crate::effects::{Effect, Effects};
use crate::liveness::{ALIVE_INTERVAL, SILENCE_MAX};
use crate::node::Node;

/// Starts of a node that were replaced are remembered, the newest so many.
const RETIRED_MAX: usize = 16;
/// A node whose links broke is fenced within this time, or it lives: two refused connects, and the election of another controller if it
/// was that too.
const DECIDED_SOON: Duration = Duration::from_millis(500);
/// More than one word of life is missing: what a client is told now about what it leads may be wrong in a moment.
const SILENT: Duration = Duration::from_millis(700);

const _: () = {
    assert!(SILENT.as_millis() > 2 * ALIVE_INTERVAL.as_millis());
    assert!(SILENT.as_millis() < SILENCE_MAX.as_millis());
};

pub(crate) struct Peers {
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) me: Hello,
    /// `None`: this node belongs to a cluster.
    unborn: Option<Unborn>,
    /// What was last said about it.
    waiting: Option<Waiting>,
    random: Random,
    /// At which the cluster works; 0: not known yet.
    pub(super) level: i16,
    pub(super) incoming: BTreeMap<(NodeId, PeerLane), Incoming>,
    /// Nodes to which a link of lane `Control` stands.
    outgoing: BTreeSet<NodeId>,
    /// When that link was lost, for those that had one.
    lost_at: BTreeMap<NodeId, Duration>,
    /// When a frame of theirs came last, for those whose link to us stands.
    heard_at: BTreeMap<NodeId, Duration>,
    linked: Option<Vec<PeerAddress>>,
    registered: BTreeMap<NodeId, Incarnation>,
    pub(super) retired: BTreeMap<NodeId, Vec<Incarnation>>,
}

pub(super) struct Incoming {
    session: u64,
    pub(super) incarnation: Incarnation,
    pub(super) directory: [u8; 16],
    pub(super) cluster_id: Option<String>,
    pub(super) address: Option<String>,
}

impl Peers {
    /// `founding`: of this directory's note.
    pub(crate) fn new(me: Hello, founding: Option<Founding>, image: &Image, seed: u64) -> Peers {
        let noted = founding.as_ref().map(|founding| founding.cluster_id.clone());
        let cluster_id = noted.or_else(|| image.is_founded().then(|| image.cluster_id().to_owned()));
        let founding = founding.filter(|founding| !founding.founders.is_empty());
        let unborn = cluster_id.is_none().then(|| Unborn::new(me.clone()));
        let state = State {
            me: Hello { cluster_id, founding, ..me },
            unborn,
            waiting: None,
            random: Random::new(seed),
            level: 0,
            incoming: BTreeMap::new(),
            outgoing: BTreeSet::new(),
            lost_at: BTreeMap::new(),
            heard_at: BTreeMap::new(),
            linked: None,
            registered: BTreeMap::new(),
            retired: BTreeMap::new(),
        };
        Peers { state: Mutex::new(state) }
    }

    /// A frame came over the lane on which silence counts.
    pub(super) fn heard(&self, now: Now, node: NodeId) {
        self.lock().heard_at.insert(node, now.mono);
    }

    /// Nothing is locked below it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_born(&self) -> bool {
        self.lock().unborn.is_none()
    }
}

impl Node {
    /// What this node says of itself at a handshake.
    pub fn hello(&self) -> Hello {
        self.peers.lock().me.clone()
    }

    /// Whether a node that says this of itself may have a link with this one; the handshake asks on both sides. `to`: whom the
    /// other side means to reach.
    ///
    /// # Errors
    /// Who is refused, why, and what to do: for both logs.
    pub fn greet(&self, hello: &Hello, to: Option<NodeId>) -> Result<(), Refused> {
        self.peers.lock().greet(hello, to)
    }

    /// Why this node belongs to no cluster yet. `None`: it does.
    pub fn waiting(&self) -> Option<Waiting> {
        // What would be founded does not matter here.
        self.peers.lock().unborn.as_ref()?.decide(&mut Random::new(0)).err()
    }

    /// Whether the link to a node broke a moment ago, or it is silent: it may have died, and whether it did is decided in a moment.
    pub fn may_have_died(&self, now: Now, node: NodeId) -> bool {
        let peers = self.peers.lock();
        let since = |at: &Duration| now.mono.saturating_sub(*at);
        let broke = peers.lost_at.get(&node).is_some_and(|at| since(at) < DECIDED_SOON);
        let silent = peers.heard_at.get(&node).map(since);
        broke || silent.is_some_and(|silent| silent >= SILENT && silent < SILENCE_MAX + DECIDED_SOON)
    }

    /// Keeps account of a link; lets an empty node be born.
    pub(super) fn note_link(&self, now: Now, event: &PeerEvent, fx: &mut Effects) {
        let mut state = self.peers.lock();
        state.doubt(now, event);
        state.note(event);
        let born = state.try_birth();
        // What the handshake said of this node may be older than its birth.
        let announcement = if born.is_none() { state.announcement_for(event) } else { None };
        drop(state);
        fx.extend(announcement);
        self.follow_birth(now, born, fx);
        if matches!(event, PeerEvent::Opened { lane: PeerLane::Control, .. }) {
            self.link_peers(fx);
        }
    }

    /// Another node says anew who it is.
    pub(super) fn announced(&self, now: Now, origin: Origin, hello: &Hello, fx: &mut Effects) {
        let mut state = self.peers.lock();
        let of_link = state.incoming.get(&(origin.from, origin.lane)).map(|incoming| incoming.incarnation);
        let refused = state.greet(hello, None).err();
        if of_link != Some(hello.incarnation) || refused.is_some() {
            drop(state);
            tracing::warn!(node = %origin.from, ?refused, "an announcement was dropped");
            return;
        }
        if let Some(unborn) = &mut state.unborn {
            unborn.announced(hello);
        }
        let born = state.try_birth();
        drop(state);
        self.follow_birth(now, born, fx);
    }

    fn follow_birth(&self, now: Now, born: Option<(Founding, Frame, Vec<NodeId>)>, fx: &mut Effects) {
        let Some((founding, announcement, outgoing)) = born else { return };
        // First: who is not born yet hears nothing of what a founder does next.
        let send = |to| Effect::Send { to, lane: PeerLane::Control, frame: announcement.clone() };
        fx.extend(outgoing.into_iter().map(send));
        self.with_controller(now, fx, |driver, out| driver.born(now, founding, out));
        self.link_peers(fx);
    }

    /// The links that the newest image wants. To be called after each change of the nodes in it.
    pub(crate) fn link_peers(&self, fx: &mut Effects) {
        let image = self.image();
        let mut state = self.peers.lock();
        state.follow(&image);
        let wanted = state.wanted(&image);
        if state.linked.as_ref() != Some(&wanted) {
            state.linked = Some(wanted.clone());
            fx.push(Effect::Link { peers: wanted });
        }
    }
}

impl State {
    /// Before `note`: that a link broke is told once, that it cannot be made again comes after each try.
    fn doubt(&mut self, now: Now, event: &PeerEvent) {
        match event {
            PeerEvent::Connected { to, lane: PeerLane::Control, .. } => drop(self.lost_at.remove(to)),
            PeerEvent::Lost { to, lane: PeerLane::Control, .. } if self.outgoing.contains(to) => {
                self.lost_at.insert(*to, now.mono);
            }
            PeerEvent::Closed { from, lane: PeerLane::Control, .. } => drop(self.heard_at.remove(from)),
            _ => {}
        }
    }

    fn note(&mut self, event: &PeerEvent) {
        match event {
            PeerEvent::Connected { to, lane, address, hello } => {
                if let Some(unborn) = &mut self.unborn {
                    unborn.answered(address, hello.clone());
                }
                if *lane == PeerLane::Control && *to != self.me.node {
                    self.outgoing.insert(*to);
                }
            }
            PeerEvent::Lost { to, lane, .. } => {
                if *lane == PeerLane::Control {
                    self.outgoing.remove(to);
                    if let Some(unborn) = &mut self.unborn {
                        unborn.lost(*to);
                    }
                }
            }
            PeerEvent::Opened { from, lane, session, hello } => {
                if let Some(unborn) = &mut self.unborn {
                    unborn.announced(hello);
                }
                let incoming = Incoming {
                    session: *session,
                    incarnation: hello.incarnation,
                    directory: hello.directory,
                    cluster_id: hello.cluster_id.clone(),
                    address: hello.address.clone(),
                };
                self.incoming.insert((*from, *lane), incoming);
            }
            PeerEvent::Closed { from, lane, session } => {
                let key = (*from, *lane);
                if self.incoming.get(&key).is_some_and(|incoming| incoming.session == *session) {
                    self.incoming.remove(&key);
                }
            }
            PeerEvent::Frame { .. } => {}
        }
    }

    /// To one that belongs to no cluster, when the link to it stands and this node belongs to one.
    fn announcement_for(&self, event: &PeerEvent) -> Option<Effect> {
        let PeerEvent::Connected { to, lane: PeerLane::Control, hello, .. } = event else { return None };
        let wanted = self.me.cluster_id.is_some() && hello.cluster_id.is_none() && *to != self.me.node;
        wanted.then(|| Effect::Send { to: *to, lane: PeerLane::Control, frame: Frame::announce(&self.me) })
    }

    /// What was founded or joined, what to say about it, and to whom.
    fn try_birth(&mut self) -> Option<(Founding, Frame, Vec<NodeId>)> {
        match self.unborn.as_ref()?.decide(&mut self.random) {
            Ok(birth) => {
                say(&birth);
                let founding = birth.founding();
                self.unborn = None;
                self.waiting = None;
                self.me.cluster_id = Some(founding.cluster_id.clone());
                self.me.founding = Some(founding.clone()).filter(|founding| !founding.founders.is_empty());
                Some((founding, Frame::announce(&self.me), self.outgoing.iter().copied().collect()))
            }
            Err(waiting) => {
                if self.waiting.as_ref() != Some(&waiting) {
                    // Who only waits for others to be started says so when it takes long: `waiting` is asked for it.
                    if !waiting.is_usual() {
                        tracing::warn!("this node belongs to no cluster: {waiting}");
                    }
                    self.waiting = Some(waiting);
                }
                None
            }
        }
    }

    fn follow(&mut self, image: &Image) {
        self.level = image.features().get(LEVEL_FEATURE).copied().unwrap_or(0);
        for (node, info) in image.nodes() {
            let before = self.registered.insert(*node, info.incarnation);
            if let Some(before) = before.filter(|before| *before != info.incarnation) {
                let retired = self.retired.entry(*node).or_default();
                retired.push(before);
                if retired.len() > RETIRED_MAX {
                    retired.remove(0);
                }
            }
        }
    }
}

fn say(birth: &Birth) {
    match birth {
        Birth::Founds(founding) => tracing::info!(
            cluster = founding.cluster_id,
            voters = ?founding.founders.iter().map(|founder| founder.node.0).collect::<Vec<_>>(),
            "all of the join list are empty: this node founds the cluster"
        ),
        Birth::Adopts(founding) => {
            tracing::info!(cluster = founding.cluster_id, "this node is a founder of the cluster")
        }
        Birth::Joins(founding) => tracing::info!(cluster = founding.cluster_id, "this node joins the cluster"),
    }
}

impl Frame {
    fn announce(me: &Hello) -> Frame {
        Frame::new(proto::peer_frame::Kind::Announce(proto::Announce { hello: Some(me.to_proto()) }), Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use replication::metadata::{BrokerConfig, Fact, Listener, NodeInfo, PEER_LISTENER};

    use super::super::Lost;
    use super::*;

    const CLUSTER: &str = "cluster";

    fn hello(node: i32, start: u8, directory: u8) -> Hello {
        Hello {
            node: NodeId(node),
            incarnation: Incarnation([start; 16]),
            directory: [directory; 16],
            cluster_id: Some(CLUSTER.to_owned()),
            join: Vec::new(),
            levels: (1, 1),
            founding: None,
            address: Some(format!("h:{node}")),
        }
    }

    fn registered(image: &mut Image, node: i32, start: u8, peer_port: u16) {
        let listener = |name: &str, port| Listener { name: name.to_owned(), host: "h".to_owned(), port };
        let info = NodeInfo {
            incarnation: Incarnation([start; 16]),
            listeners: vec![listener("PLAINTEXT", 1), listener(PEER_LISTENER, peer_port)],
            ..NodeInfo::default()
        };
        image.apply(&Fact::NodeRegistered { node: NodeId(node), info }).expect("it applies");
    }

    /// Node 1 of the cluster, with nodes 1 to 3 registered.
    fn member(join: &[&str]) -> (Peers, Image) {
        let mut image = Image::empty(Arc::new(BrokerConfig::default()));
        for node in 1..=3u8 {
            registered(&mut image, node.into(), node, u16::from(node));
        }
        let join = join.iter().map(|address| (*address).to_owned()).collect();
        let me = Hello { cluster_id: None, join, ..hello(1, 1, 1) };
        let founding = Founding { cluster_id: CLUSTER.to_owned(), founders: Vec::new(), level: 1 };
        let peers = Peers::new(me, Some(founding), &image, 1);
        peers.lock().follow(&image);
        (peers, image)
    }

    fn unborn(join: &[&str]) -> Peers {
        let join = join.iter().map(|address| (*address).to_owned()).collect();
        let image = Image::empty(Arc::new(BrokerConfig::default()));
        Peers::new(Hello { cluster_id: None, join, ..hello(1, 1, 1) }, None, &image, 1)
    }

    fn opened(hello: &Hello, session: u64) -> PeerEvent {
        PeerEvent::Opened { from: hello.node, lane: PeerLane::Control, session, hello: hello.clone() }
    }

    #[test]
    fn another_cluster_is_refused_and_none_at_all_is_let_in() {
        let (peers, _) = member(&[]);
        let other = Hello { cluster_id: Some("other".to_owned()), ..hello(4, 4, 4) };
        assert!(matches!(peers.lock().greet(&other, None), Err(Refused::OtherCluster { .. })));
        let empty = Hello { cluster_id: None, ..hello(4, 4, 4) };
        assert_eq!(peers.lock().greet(&empty, None), Ok(()));
    }

    #[test]
    fn a_start_that_was_replaced_is_refused() {
        let (peers, mut image) = member(&[]);
        assert_eq!(peers.lock().greet(&hello(2, 2, 2), None), Ok(()));
        registered(&mut image, 2, 22, 2);
        peers.lock().follow(&image);
        assert_eq!(peers.lock().greet(&hello(2, 2, 2), None), Err(Refused::Stale { node: NodeId(2) }));
        assert_eq!(peers.lock().greet(&hello(2, 22, 2), None), Ok(()));
        assert_eq!(peers.lock().greet(&hello(2, 23, 2), None), Ok(()), "a start that is newer still");
    }

    #[test]
    fn a_second_process_with_a_living_nodes_id_is_refused_until_that_one_is_gone() {
        let (peers, _) = member(&[]);
        peers.lock().note(&opened(&hello(2, 2, 2), 7));
        let second = hello(2, 9, 9);
        assert_eq!(peers.lock().greet(&second, None), Err(Refused::Alive { node: NodeId(2) }));
        assert_eq!(peers.lock().greet(&hello(2, 3, 2), None), Ok(()), "a restart has the same directory");
        peers.lock().note(&PeerEvent::Closed { from: NodeId(2), lane: PeerLane::Control, session: 6 });
        assert!(peers.lock().greet(&second, None).is_err(), "an older link ended");
        peers.lock().note(&PeerEvent::Closed { from: NodeId(2), lane: PeerLane::Control, session: 7 });
        assert_eq!(peers.lock().greet(&second, None), Ok(()));
    }

    #[test]
    fn a_version_that_does_not_know_the_clusters_level_is_refused() {
        let (peers, mut image) = member(&[]);
        let level = Fact::FeatureLevelSet { name: LEVEL_FEATURE.to_owned(), level: 1 };
        image.apply(&level).expect("it applies");
        peers.lock().follow(&image);
        let newer = Hello { levels: (2, 3), ..hello(2, 2, 2) };
        assert!(matches!(peers.lock().greet(&newer, None), Err(Refused::Level { cluster: 1, min: 2, .. })));
    }

    #[test]
    fn the_links_wanted_are_the_registered_ones_and_what_the_list_has_besides() {
        let (peers, image) = member(&["h:1", "h:2", "elsewhere:9"]);
        let wanted: Vec<(Option<i32>, String)> =
            peers.lock().wanted(&image).into_iter().map(|peer| (peer.node.map(|node| node.0), peer.address)).collect();
        let expected = [(Some(2), "h:2"), (Some(3), "h:3"), (None, "elsewhere:9")];
        assert_eq!(wanted, expected.map(|(node, address)| (node, address.to_owned())));
    }

    #[test]
    fn a_joiner_reaches_back_to_a_controller_that_is_not_on_its_list() {
        let (peers, _) = member(&["h:2"]);
        let nothing = Image::empty(Arc::new(BrokerConfig::default()));
        let mut state = peers.lock();
        state.note(&opened(&hello(4, 4, 4), 1));
        state.note(&opened(&Hello { cluster_id: None, ..hello(5, 5, 5) }, 2));
        let wanted: Vec<String> = state.wanted(&nothing).into_iter().map(|peer| peer.address).collect();
        assert_eq!(wanted, ["h:2", "h:4"]);
    }

    #[test]
    fn a_founder_announces_itself_to_those_whose_links_stand_and_to_those_that_come_later() {
        let peers = unborn(&["a:1", "b:1", "c:1"]);
        let join = vec!["a:1".to_owned(), "b:1".to_owned(), "c:1".to_owned()];
        let empty = |node, id| Hello { cluster_id: None, join: join.clone(), ..hello(node, id, id) };
        let connected = |address: &str, hello: Hello| PeerEvent::Connected {
            to: hello.node,
            lane: PeerLane::Control,
            address: address.to_owned(),
            hello,
        };
        let mut state = peers.lock();
        for event in [connected("a:1", empty(1, 1)), connected("b:1", empty(2, 2))] {
            state.note(&event);
            assert!(state.try_birth().is_none());
        }
        let last = connected("c:1", empty(3, 3));
        state.note(&last);
        let (founding, _, told) = state.try_birth().expect("all have answered");
        assert_eq!((founding.founders.len(), told), (3, vec![NodeId(2), NodeId(3)]));
        assert!(state.announcement_for(&last).is_some(), "what it said in the handshake may be older");
        let born = connected("c:1", Hello { cluster_id: Some(founding.cluster_id), ..empty(3, 3) });
        assert!(state.announcement_for(&born).is_none());
        state.note(&PeerEvent::Lost { to: NodeId(3), lane: PeerLane::Control, why: Lost::Closed });
        assert_eq!(state.outgoing.len(), 1);
    }
}

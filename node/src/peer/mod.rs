//! The links between nodes as a node sees them: what it may send, what it is told, and who gets which frame.
//!
//! A link is directed: a node keeps one outgoing connection to each other node in each lane, and only its own frames travel there
//! (but for the handshake). Within one link frames arrive in order and at most once; all that is in flight is lost when it ends.
//! Owns the shapes and the dispatch by kind of frame. Does not own sockets (`server`, `sim`), the metadata Raft and liveness
//! (`controller`), nor replication (`replica`).
//! Invariant: what arrives is checked where it is decoded; bytes of another node never end this one.

mod frame;
mod greeting;
mod hello;
mod peers;
mod wanted;
mod wire;

use bytes::Bytes;
use model::{NodeId, Now};

use crate::effects::Effects;
use crate::node::Node;
pub use frame::{FRAME_BYTES_MAX, Frame, FrameError, HEAD_BYTES_MAX, HELLO_BYTES_MAX, PREFIX_BYTES, Prefix, split};
pub use greeting::Refused;
pub use hello::{Founder, Founding, Greeting, Hello, HelloError, PROTOCOL_VERSION, Verdict};
pub(crate) use peers::Peers;
pub(crate) use wanted::peer_address;
pub use wire::proto;

/// The connections between two nodes in one direction. What is in one never waits for what is in another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PeerLane {
    /// Raft, requests for the controller, liveness. Never behind records.
    Control,
    /// Records for followers that keep up; what followers say.
    InSync,
    /// Records for followers that are behind.
    CatchUp,
}

impl PeerLane {
    pub const ALL: [PeerLane; 3] = [PeerLane::Control, PeerLane::InSync, PeerLane::CatchUp];
}

/// Where a peer listener is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PeerAddress {
    /// `None`: from the join list, nobody knows yet who answers there.
    pub node: Option<NodeId>,
    /// HOST:PORT.
    pub address: String,
}

/// Why an outgoing link does not stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// It stood, and the other side or the network ended it.
    Closed,
    /// Nobody listens there: the process is gone, or a firewall says so.
    Refused,
    /// No answer in time, no way there, or the handshake failed.
    Unreachable,
}

/// What happens on the links. `Refused` and `Unreachable` come again with every attempt: 50 ms apart at first, later up to 1 s.
#[derive(Clone, Debug)]
pub enum PeerEvent {
    /// Our outgoing link stands. A node that finds its own address in the join list is told so too, with its own hello; no link
    /// is kept then.
    Connected { to: NodeId, lane: PeerLane, address: String, hello: Hello },
    /// Our outgoing link ended, or could not be made. Only of nodes that are known: an address where nobody ever answered is silent.
    Lost { to: NodeId, lane: PeerLane, why: Lost },
    /// An incoming link. An earlier one of the same node and lane was closed before.
    Opened { from: NodeId, lane: PeerLane, session: u64, hello: Hello },
    /// What arrived on an incoming link that is open. `body` is a part of the frame as it was read.
    Frame { from: NodeId, lane: PeerLane, session: u64, head: Bytes, body: Bytes },
    /// An incoming link ended.
    Closed { from: NodeId, lane: PeerLane, session: u64 },
}

/// The incoming link on which something arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    pub from: NodeId,
    pub lane: PeerLane,
    /// Another one for each link that was ever opened here.
    pub session: u64,
}

impl Node {
    /// Something happened on a link.
    pub fn peer(&self, now: Now, event: PeerEvent, fx: &mut Effects) {
        match event {
            PeerEvent::Frame { from, lane, session, head, body } => {
                self.peer_frame(now, Origin { from, lane, session }, head, body, fx);
            }
            PeerEvent::Connected { .. }
            | PeerEvent::Lost { .. }
            | PeerEvent::Opened { .. }
            | PeerEvent::Closed { .. } => {
                self.note_link(now, &event, fx);
                self.controller_link(now, &event, fx);
                self.replica_link(now, &event, fx);
            }
        }
        self.settle(now, fx);
    }

    fn peer_frame(&self, now: Now, origin: Origin, head: Bytes, body: Bytes, fx: &mut Effects) {
        use proto::peer_frame::Kind;
        if origin.lane == PeerLane::Control {
            self.peers.heard(now, origin.from);
        }
        match wire::decode(head) {
            Ok(Kind::Announce(proto::Announce { hello })) => match hello.map(Hello::from_proto) {
                Some(Ok(hello)) => self.announced(now, origin, &hello, fx),
                other => tracing::warn!(node = %origin.from, ?other, "an announcement cannot be read"),
            },
            // Of no harm to a node that has no partitions yet: it learns that the links of the other one stand.
            Ok(Kind::Replica(frame)) => self.replica_arrived(now, origin, frame, body, fx),
            // Who belongs to no cluster yet has no part in one.
            Ok(_) if !self.peers.is_born() => {}
            Ok(Kind::Raft(_)) => self.raft_arrived(now, origin, body, fx),
            Ok(Kind::ControllerRequest(request)) => {
                self.controller_request_arrived(now, origin, (request.id, request.relayed), body, fx);
            }
            Ok(Kind::ControllerAnswer(answer)) => self.controller_answer_arrived(now, origin, answer.id, body, fx),
            Ok(Kind::Alive(_)) => self.alive_arrived(now, origin, fx),
            Err(error) => tracing::warn!(node = %origin.from, lane = ?origin.lane, "a frame was dropped: {error}"),
        }
    }
}

//! What a node asks of the world. `server` carries these out with sockets and threads, `sim` with seeded ones.
//!
//! Owns no behaviour. Invariant: an effect is complete in itself; carrying it out never calls back into the node on the same stack
//! except through `Node::disk_done` for the completion of a `Disk` effect.

use std::sync::Arc;
use std::time::Duration;

use model::NodeId;
use storage::disk::DiskOp;

use crate::peer::{Frame, PeerAddress, PeerLane};
use crate::replica::ReadWork;
use crate::requests::Answer;

#[derive(Debug)]
pub enum Effect {
    /// The answer to a request; each request gets exactly one.
    Reply { to: ReplyTo, answer: Answer },
    /// Something that a parked request waits for has moved: look again.
    Wake { waiter: ReplyTo },
    /// Do this and call `Node::disk_done` with its ticket.
    Disk(DiskOp),
    /// Run this where waiting for the disk harms nobody, and call `Node::read_done` with what it gives.
    Read(ReadWork),
    /// Call `Node::tick` at the latest then: something began that cannot wait for the next tick that was agreed on.
    TickBy { mono: Duration },
    /// To another node, in order within its lane. Lost when that link does not stand: `PeerEvent::Lost` was or will be told.
    Send { to: NodeId, lane: PeerLane, frame: Frame },
    /// The links that are wanted from now on, in place of those of the earlier effect.
    Link { peers: Vec<PeerAddress> },
    /// The node answers clients from now on. Emitted once.
    Ready,
    /// The node cannot go on (its metadata log is lost to it, or an invariant of the controller failed): end the process.
    Fatal { reason: String },
}

pub type Effects = Vec<Effect>;

/// Where an answer goes: a connection, or the simulator.
pub trait ReplySink: Send + Sync {
    fn reply(&self, request: u64, answer: Answer);
    fn wake(&self, request: u64);
}

/// One request of one connection.
#[derive(Clone)]
pub struct ReplyTo {
    pub sink: Arc<dyn ReplySink>,
    pub request: u64,
}

impl std::fmt::Debug for ReplyTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReplyTo({})", self.request)
    }
}

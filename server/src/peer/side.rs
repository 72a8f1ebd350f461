//! One of the threads of the links: which links are wanted in its lanes, and which incoming ones are open.
//!
//! Owns the tasks of its lanes. Does not own what a task does (`incoming`, `outgoing`).
//! Invariant: of the incoming links of one node in one lane, the newest counts: the one before was closed, and the node told
//! so, before the newest is opened.

use std::collections::BTreeMap;
use std::net::TcpListener as StdListener;
use std::sync::Arc;

use model::NodeId;
use node::peer::{PeerAddress, PeerEvent, PeerLane};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::{AbortHandle, JoinSet};
use tracing::debug;

use super::Shared;
use super::incoming::{self, Accepted};
use super::outgoing::{self, Target};

pub(super) enum Command {
    Link(Vec<PeerAddress>),
    Accepted(Accepted),
    Stop,
}

pub(super) struct Side {
    lanes: &'static [PeerLane],
    shared: Arc<Shared>,
    commands: UnboundedReceiver<Command>,
    targets: BTreeMap<String, Kept>,
    open: BTreeMap<(NodeId, PeerLane), Open>,
    /// Readers of incoming links; each gives its key and session when it ends.
    readers: JoinSet<(NodeId, PeerLane, u64)>,
}

struct Kept {
    target: Arc<Target>,
    /// Dropped, it ends the tasks of all lanes.
    _tasks: JoinSet<()>,
}

struct Open {
    session: u64,
    reader: AbortHandle,
}

impl Side {
    pub(super) fn new(lanes: &'static [PeerLane], shared: Arc<Shared>, commands: UnboundedReceiver<Command>) -> Side {
        Side { lanes, shared, commands, targets: BTreeMap::new(), open: BTreeMap::new(), readers: JoinSet::new() }
    }

    /// Until it is told to stop. With a listener, others are accepted here.
    pub(super) async fn run(mut self, listener: Option<StdListener>) {
        let mut accepting = JoinSet::new();
        if let Some(listener) = listener {
            accepting.spawn(incoming::accept(listener, self.shared.clone()));
        }
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.readers.join_next() => {
                    // One that was aborted was replaced, and told of, already.
                    if let Ok((from, lane, session)) = ended {
                        self.ended(from, lane, session);
                    }
                }
                command = self.commands.recv() => match command {
                    Some(Command::Link(peers)) => self.link(&peers),
                    Some(Command::Accepted(accepted)) => self.open(accepted),
                    Some(Command::Stop) | None => return,
                },
            }
        }
    }

    fn link(&mut self, peers: &[PeerAddress]) {
        let wanted: BTreeMap<&str, Option<NodeId>> =
            peers.iter().map(|peer| (peer.address.as_str(), peer.node)).collect();
        // Dropping a target ends its tasks, and what they hold tells the node of the links that ended.
        self.targets.retain(|address, kept| wanted.get(address.as_str()).is_some_and(|node| kept.target.want(*node)));
        for (address, node) in wanted {
            let is_known = node.is_some();
            if self.targets.contains_key(address) || !(is_known || self.lanes.contains(&PeerLane::Control)) {
                continue;
            }
            let target = Arc::new(Target::new(address.to_owned(), node));
            let mut tasks = JoinSet::new();
            for lane in self.lanes {
                tasks.spawn(outgoing::keep(self.shared.clone(), target.clone(), *lane));
            }
            self.targets.insert(address.to_owned(), Kept { target, _tasks: tasks });
        }
    }

    fn open(&mut self, accepted: Accepted) {
        let Accepted { stream, buffer, lane, hello } = accepted;
        let from = hello.node;
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => return debug!(node = %from, "the link could not be taken over: {error}"),
        };
        if let Some(before) = self.open.remove(&(from, lane)) {
            // It runs on this thread, so nothing of it comes after this.
            before.reader.abort();
            self.shared.tell(PeerEvent::Closed { from, lane, session: before.session });
        }
        let session = self.shared.next_session();
        self.shared.tell(PeerEvent::Opened { from, lane, session, hello });
        self.shared.came.notify_waiters();
        let shared = self.shared.clone();
        let reader = self.readers.spawn(async move {
            incoming::read(&shared, &stream, buffer, (from, lane, session)).await;
            (from, lane, session)
        });
        self.open.insert((from, lane), Open { session, reader });
    }

    fn ended(&mut self, from: NodeId, lane: PeerLane, session: u64) {
        if self.open.get(&(from, lane)).is_some_and(|open| open.session == session) {
            self.open.remove(&(from, lane));
            self.shared.tell(PeerEvent::Closed { from, lane, session });
        }
    }
}

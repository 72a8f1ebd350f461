//! The sockets between nodes: carries out `Effect::Send` and `Effect::Link`, and tells the node what happens on its links.
//!
//! Two threads: one for the lane `Control` and for accepting, one for records, so that a heartbeat never waits behind a
//! batch. Each lane between two nodes is a connection of its own in each direction.
//! Owns the threads, the reconnects and the queues to the sockets. Does not own what is said (`node::peer`).
//! Invariants: what is queued for a link is bounded, and a link that cannot keep up is closed; bytes that arrive never
//! size an allocation by what they claim, and never end the process.

mod handshake;
mod incoming;
mod outbox;
mod outgoing;
mod reader;
mod side;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener as StdListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use model::NodeId;
use node::Node;
use node::peer::{Frame, PeerAddress, PeerEvent, PeerLane};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tracing::{error, warn};

use crate::clock;
use crate::disk::writers::Executor;
use outbox::Outbox;
use side::{Command, Side};

/// How long the sockets' threads may take to end.
const END_WAIT: Duration = Duration::from_millis(200);
/// After so long the same refusal is said again.
const SAID_AGAIN: Duration = Duration::from_secs(60);
const SAID_MAX: usize = 256;

/// What the executor sends with. Shared by all threads that call the node.
pub struct Links {
    outboxes: Arc<Outboxes>,
    control: UnboundedSender<Command>,
    data: UnboundedSender<Command>,
}

/// Joined when they are stopped.
pub struct LinkThreads(Vec<JoinHandle<()>>);

/// The queues of the outgoing links that stand.
#[derive(Default)]
struct Outboxes {
    standing: RwLock<BTreeMap<(NodeId, PeerLane), Arc<Outbox>>>,
    /// Nodes whose peer listener the metadata names.
    named: Mutex<BTreeSet<NodeId>>,
}

/// What every task of both threads needs.
struct Shared {
    node: Arc<Node>,
    executor: Arc<Executor>,
    outboxes: Arc<Outboxes>,
    sessions: AtomicU64,
    /// Somebody has connected: who waits long before it tries to reach others tries again.
    came: Notify,
    /// Refusals that were written to the log lately, and when.
    said: Mutex<BTreeMap<String, Duration>>,
    /// Where incoming links go once it is known which lane they are.
    control: UnboundedSender<Command>,
    data: UnboundedSender<Command>,
}

impl Links {
    /// Starts the threads. Others are accepted from now on, whether or not this node belongs to a cluster.
    pub fn start(
        listener: StdListener,
        node: Arc<Node>,
        executor: Arc<Executor>,
    ) -> std::io::Result<(Arc<Links>, LinkThreads)> {
        let (control, control_commands) = unbounded_channel();
        let (data, data_commands) = unbounded_channel();
        let outboxes = Arc::new(Outboxes::default());
        let shared = Arc::new(Shared {
            node,
            executor,
            outboxes: outboxes.clone(),
            sessions: AtomicU64::new(1),
            came: Notify::new(),
            said: Mutex::default(),
            control: control.clone(),
            data: data.clone(),
        });
        let sides = [
            ("weir-peer", Side::new(&[PeerLane::Control], shared.clone(), control_commands), Some(listener)),
            ("weir-peer-data", Side::new(&[PeerLane::InSync, PeerLane::CatchUp], shared, data_commands), None),
        ];
        let mut threads = Vec::new();
        for (name, side, listener) in sides {
            let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
            threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                runtime.block_on(side.run(listener));
                runtime.shutdown_timeout(END_WAIT);
            })?);
        }
        Ok((Arc::new(Links { outboxes, control, data }), LinkThreads(threads)))
    }

    /// Puts a frame behind the others of its link; lost when that does not stand.
    pub fn send(&self, to: NodeId, lane: PeerLane, frame: Frame) {
        if let Some(outbox) = self.outboxes.get(to, lane) {
            outbox.push(frame);
        }
    }

    /// The links that are wanted from now on.
    pub fn link(&self, peers: Vec<PeerAddress>) {
        self.outboxes.name(&peers);
        self.command(|| Command::Link(peers.clone()));
    }

    /// Closes all links and joins the threads.
    pub fn stop(&self, threads: LinkThreads) {
        self.command(|| Command::Stop);
        for thread in threads.0 {
            if thread.join().is_err() {
                error!("a thread of the links between nodes had panicked");
            }
        }
    }

    fn command(&self, command: impl Fn() -> Command) {
        for side in [&self.control, &self.data] {
            // A thread that is gone has no links.
            let _ = side.send(command());
        }
    }
}

impl Outboxes {
    fn get(&self, to: NodeId, lane: PeerLane) -> Option<Arc<Outbox>> {
        self.standing.read().unwrap_or_else(PoisonError::into_inner).get(&(to, lane)).cloned()
    }

    /// Registers a link that stands, unless there is one already.
    fn put(&self, to: NodeId, lane: PeerLane, outbox: &Arc<Outbox>) -> bool {
        let mut standing = self.standing.write().unwrap_or_else(PoisonError::into_inner);
        let free = !standing.contains_key(&(to, lane));
        if free {
            standing.insert((to, lane), outbox.clone());
        }
        free
    }

    fn remove(&self, to: NodeId, lane: PeerLane, outbox: &Arc<Outbox>) {
        let mut standing = self.standing.write().unwrap_or_else(PoisonError::into_inner);
        if standing.get(&(to, lane)).is_some_and(|found| Arc::ptr_eq(found, outbox)) {
            standing.remove(&(to, lane));
        }
    }

    fn name(&self, peers: &[PeerAddress]) {
        *self.named.lock().unwrap_or_else(PoisonError::into_inner) =
            peers.iter().filter_map(|peer| peer.node).collect();
    }

    fn is_named(&self, node: NodeId) -> bool {
        self.named.lock().unwrap_or_else(PoisonError::into_inner).contains(&node)
    }
}

impl Shared {
    /// Tells the node; what it asks for is carried out at once.
    fn tell(&self, event: PeerEvent) {
        self.executor.call(|fx| self.node.peer(clock::now(), event, fx));
    }

    /// A line for people, once a minute for the same host or address and the same reason.
    fn say(&self, whom: impl std::fmt::Display, reason: &str, line: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::mono();
        said.retain(|_, at| now.saturating_sub(*at) < SAID_AGAIN);
        let key = format!("{whom} {reason}");
        if !said.contains_key(&key) && said.len() < SAID_MAX {
            said.insert(key, now);
            warn!("{line}");
        }
    }

    fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// The thread that serves a lane.
    fn side_of(&self, lane: PeerLane) -> &UnboundedSender<Command> {
        match lane {
            PeerLane::Control => &self.control,
            PeerLane::InSync | PeerLane::CatchUp => &self.data,
        }
    }
}

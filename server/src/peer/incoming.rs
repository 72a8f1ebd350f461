//! Links that others make to this node.
//!
//! Owns accepting, the handshake's answer, and reading frames. Does not own which session of a node counts (`side`).
//! Invariant: a frame reaches the node on the thread of its lane, in the order of its link.

use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::Arc;
use std::time::Duration;

use model::NodeId;
use node::peer::{FRAME_BYTES_MAX, Hello, PeerEvent, PeerLane};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::Shared;
use super::handshake::{self, HandshakeError};
use super::reader::Buffer;
use super::side::Command;

/// Handshakes at a time. Each is over within its deadline.
const HANDSHAKES_MAX: usize = 64;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A link after its handshake, on its way to the thread of its lane.
pub(super) struct Accepted {
    pub(super) stream: StdStream,
    pub(super) buffer: Buffer,
    pub(super) lane: PeerLane,
    pub(super) hello: Hello,
}

/// Accepts until the task is dropped.
pub(super) async fn accept(listener: StdListener, shared: Arc<Shared>) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return warn!("no other node can connect: {error}"),
    };
    let free = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let Ok(permit) = free.clone().try_acquire_owned() else {
                    debug!(%from, "closed: {HANDSHAKES_MAX} handshakes are under way");
                    continue;
                };
                let shared = shared.clone();
                tokio::spawn(async move {
                    answer(stream, from, &shared).await;
                    drop(permit);
                });
            }
            Err(error) => {
                debug!("a connection of another node could not be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, from: SocketAddr, shared: &Shared) {
    let mut buffer = Buffer::default();
    let answered = match handshake::tune(&stream) {
        Ok(()) => handshake::answer(&stream, &shared.node, &mut buffer).await,
        Err(error) => Err(HandshakeError::Io(error)),
    };
    let (lane, hello) = match answered {
        Ok(agreed) => agreed,
        // Refusals are for people. The rest is noise of starts and stops, and of whoever knocks at a port.
        Err(error @ (HandshakeError::Refused(_) | HandshakeError::RefusedThere(_) | HandshakeError::Hello(_))) => {
            let reason = error.to_string();
            return shared.say(from.ip(), &reason, &format!("a link from {from} was refused: {reason}"));
        }
        Err(error) => return debug!(%from, "no handshake: {error}"),
    };
    // Its own address was on the join list: the other end has learnt what it wanted.
    if hello.node == shared.node.id() {
        return;
    }
    match stream.into_std() {
        Ok(stream) => {
            // A thread that is gone has no links.
            let _ = shared.side_of(lane).send(Command::Accepted(Accepted { stream, buffer, lane, hello }));
        }
        Err(error) => debug!(%from, "the link could not be handed over: {error}"),
    }
}

/// Hands frames to the node until the link ends.
pub(super) async fn read(
    shared: &Shared,
    stream: &TcpStream,
    mut buffer: Buffer,
    (from, lane, session): (NodeId, PeerLane, u64),
) {
    loop {
        match buffer.next(stream, FRAME_BYTES_MAX).await {
            Ok(Some((head, body))) => shared.tell(PeerEvent::Frame { from, lane, session, head, body }),
            Ok(None) => return debug!(node = %from, ?lane, "the link from it was closed"),
            Err(error) => return debug!(node = %from, ?lane, "the link from it ended: {error}"),
        }
    }
}

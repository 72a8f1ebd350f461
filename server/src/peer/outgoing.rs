//! Links that this node makes to others, and makes again when they end.
//!
//! Owns the attempts, their pauses, and the task that writes a link's socket. Does not own which links are wanted (`side`).
//! Invariants: to a node at most one link stands in each lane; whatever ended a link, the node is told `Lost` once, and once
//! more for each attempt that fails.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::NodeId;
use node::peer::{Hello, Lost, PeerEvent, PeerLane};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info};

use super::Shared;
use super::handshake::{self, HandshakeError};
use super::outbox::{LinkError, Outbox, closed};

/// Between attempts while the end of a link is young: two refusals so far apart say that a process is gone.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// So many attempts are made at the short pace.
const YOUNG_ATTEMPTS: u32 = 20;
/// What connecting may take: a machine that is off does not answer at all.
const CONNECT_WAIT: Duration = Duration::from_secs(1);
/// How often an address whose node has a link through another address looks whether it still has.
const PARKED: Duration = Duration::from_millis(250);

/// An address that a link is wanted to.
pub(super) struct Target {
    pub(super) address: String,
    nodes: Mutex<Nodes>,
}

#[derive(Clone, Copy, Default)]
struct Nodes {
    /// Who must be there, as the metadata says.
    wanted: Option<NodeId>,
    /// Who was there.
    heard: Option<NodeId>,
}

impl Target {
    pub(super) fn new(address: String, wanted: Option<NodeId>) -> Target {
        Target { address, nodes: Mutex::new(Nodes { wanted, heard: None }) }
    }

    /// Says who must be there. `false`: somebody else is, so its links have to go.
    pub(super) fn want(&self, wanted: Option<NodeId>) -> bool {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.wanted = wanted;
        wanted.is_none() || nodes.heard.is_none() || wanted == nodes.heard
    }

    fn hear(&self, node: NodeId) {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).heard = Some(node);
    }

    fn nodes(&self) -> Nodes {
        *self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self) -> Option<NodeId> {
        let nodes = self.nodes();
        nodes.wanted.or(nodes.heard)
    }
}

/// The pauses between attempts.
#[derive(Debug, Default)]
struct Retry {
    failed: u32,
}

impl Retry {
    fn pause(&mut self) -> Duration {
        self.failed = self.failed.saturating_add(1);
        let doublings = self.failed.saturating_sub(YOUNG_ATTEMPTS).min(5);
        (RETRY_MIN * 2u32.pow(doublings)).min(RETRY_MAX)
    }
}

/// A link that has its place. However its task ends, nothing more is queued, and who was told of it is told of its end.
struct Standing<'a> {
    shared: &'a Shared,
    node: NodeId,
    lane: PeerLane,
    outbox: Arc<Outbox>,
    told: bool,
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.shared.outboxes.remove(self.node, self.lane, &self.outbox);
        if self.told {
            self.shared.tell(PeerEvent::Lost { to: self.node, lane: self.lane, why: Lost::Closed });
        }
    }
}

/// Why there is no link.
struct Failed {
    why: Lost,
    /// One of the two sides does not want it: that does not change within a moment.
    refused: bool,
}

impl From<Lost> for Failed {
    fn from(why: Lost) -> Failed {
        Failed { why, refused: false }
    }
}

/// What came of an attempt.
enum Attempt {
    /// The link stood, and has ended; `Lost` was told.
    Ended,
    Failed(Failed),
    /// The node has a link through another address.
    Taken,
    /// This is this node's own address.
    Own,
}

/// Keeps a link until the task is dropped.
pub(super) async fn keep(shared: Arc<Shared>, target: Arc<Target>, lane: PeerLane) {
    let mut retry = Retry::default();
    loop {
        let next = Instant::now() + RETRY_MIN;
        if target.node().is_some_and(|node| shared.outboxes.get(node, lane).is_some()) {
            sleep(PARKED).await;
            continue;
        }
        match attempt(&shared, &target, lane).await {
            Attempt::Ended => {
                retry = Retry::default();
                // At once, unless it stood for a moment only.
                sleep_until(next).await;
            }
            Attempt::Failed(failed) => {
                let pause = if failed.refused { RETRY_MAX } else { retry.pause() };
                tell_failed(&shared, &target, lane, failed.why);
                let later = next.max(Instant::now() + pause.saturating_sub(RETRY_MIN));
                tokio::select! {
                    biased;
                    // A node that starts anew is reached at once, and not when the pause is over.
                    () = shared.came.notified(), if pause > RETRY_MIN => {
                        retry = Retry::default();
                        sleep_until(next).await;
                    }
                    () = sleep_until(later) => {}
                }
            }
            Attempt::Taken => sleep(PARKED).await,
            Attempt::Own => return,
        }
    }
}

/// A node that the metadata names is spoken of by the task for that address alone.
fn tell_failed(shared: &Shared, target: &Target, lane: PeerLane, why: Lost) {
    let nodes = target.nodes();
    let unnamed = nodes.heard.filter(|heard| !shared.outboxes.is_named(*heard));
    debug!(address = target.address, node = ?nodes.wanted.or(nodes.heard), ?lane, ?why, "no link");
    if let Some(to) = nodes.wanted.or(unnamed) {
        shared.tell(PeerEvent::Lost { to, lane, why });
    }
}

async fn attempt(shared: &Shared, target: &Target, lane: PeerLane) -> Attempt {
    let (stream, hello) = match connect(shared, target, lane).await {
        Ok(connected) => connected,
        Err(failed) => return Attempt::Failed(failed),
    };
    let to = hello.node;
    target.hear(to);
    let address = target.address.clone();
    if to == shared.node.id() {
        shared.tell(PeerEvent::Connected { to, lane, address, hello });
        return Attempt::Own;
    }
    let outbox = Arc::new(Outbox::default());
    if !shared.outboxes.put(to, lane, &outbox) {
        return Attempt::Taken;
    }
    // Not before it is sure that this link is the one: the other side ends the one before when it gets another.
    let mut standing = Standing { shared, node: to, lane, outbox: outbox.clone(), told: false };
    if handshake::agree(&stream, &shared.node).await.is_err() {
        return Attempt::Failed(Lost::Unreachable.into());
    }
    standing.told = true;
    shared.tell(PeerEvent::Connected { to, lane, address, hello });
    debug!(node = %to, ?lane, "linked to {}", target.address);
    let error = tokio::select! {
        biased;
        error = closed(&stream) => error,
        error = outbox.write_to(&stream) => error,
    };
    match error {
        LinkError::Closed | LinkError::Io(_) => debug!(node = %to, ?lane, "the link to it ended: {error}"),
        LinkError::Overflow | LinkError::Frame(_) | LinkError::Unexpected => {
            info!(node = %to, ?lane, "the link to it was ended: {error}");
        }
    }
    drop(standing);
    Attempt::Ended
}

async fn connect(shared: &Shared, target: &Target, lane: PeerLane) -> Result<(TcpStream, Hello), Failed> {
    let stream = match timeout(CONNECT_WAIT, TcpStream::connect(&target.address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => return Err(Lost::Refused.into()),
        Ok(Err(error)) => {
            debug!(address = target.address, "no connection: {error}");
            return Err(Lost::Unreachable.into());
        }
        Err(_) => return Err(Lost::Unreachable.into()),
    };
    let greeted = match handshake::tune(&stream) {
        Ok(()) => handshake::greet(&stream, &shared.node, lane, target.nodes().wanted).await,
        Err(error) => Err(HandshakeError::Io(error)),
    };
    match greeted {
        Ok(hello) => Ok((stream, hello)),
        Err(HandshakeError::Timeout | HandshakeError::Io(_) | HandshakeError::Read(_) | HandshakeError::Closed) => {
            Err(Lost::Unreachable.into())
        }
        Err(error) => {
            let (address, reason) = (&target.address, error.to_string());
            shared.say(address, &reason, &format!("no link to {address}: {reason}"));
            Err(Failed { why: Lost::Unreachable, refused: true })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_50_ms_apart_at_first_and_a_second_at_last() {
        let mut retry = Retry::default();
        let pauses: Vec<u128> = (0..27).map(|_| retry.pause().as_millis()).collect();
        assert_eq!(pauses[..20], [50; 20]);
        assert_eq!(pauses[20..], [100, 200, 400, 800, 1000, 1000, 1000]);
    }

    #[test]
    fn an_address_where_somebody_else_was_heard_is_told_apart() {
        let target = Target::new("a:1".to_owned(), None);
        assert!(target.want(Some(NodeId(1))));
        target.hear(NodeId(1));
        assert!(target.want(Some(NodeId(1))));
        assert!(target.want(None));
        assert!(!target.want(Some(NodeId(2))));
    }
}

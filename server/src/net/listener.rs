//! Accepts client connections.
//!
//! Does not own how many there may be (`admission`), nor what they say.
//! Invariant: over the bound a connection is accepted and closed at once, so that the backlog does not fill up with
//! clients that wait; a lack of descriptors is waited out and never ends the listener.

use std::future::poll_fn;
use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use super::admission::Admission;
use super::complaints::Complaints;
use super::shards::Shards;
use crate::broker::Broker;
use crate::clock;
use crate::metrics::Invalid;

const BACKLOG: i32 = 1024;
/// How long to wait when the process has no descriptor for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{address} is no address of the form HOST:PORT, for example 127.0.0.1:9092: {reason}")]
    Address { address: String, reason: String },
    #[error("{address} is in use, perhaps by another broker; stop it or choose another address, for example {example}")]
    InUse { address: String, example: String },
    #[error("cannot listen on {address}: {reason}")]
    Refused { address: String, reason: String },
}

/// Binds without accepting yet: clients queue in the backlog until the node is ready. `example` is what an error
/// message proposes instead.
pub fn bind(address: &str, example: &str) -> Result<StdListener, BindError> {
    let bad = |reason: String| BindError::Address { address: address.to_owned(), reason };
    let resolved: Vec<SocketAddr> = address.to_socket_addrs().map_err(|error| bad(error.to_string()))?.collect();
    let mut last = bad("the host has no address".to_owned());
    for candidate in resolved {
        match bind_one(candidate) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                last = BindError::InUse { address: candidate.to_string(), example: example.to_owned() };
            }
            Err(error) => last = BindError::Refused { address: candidate.to_string(), reason: error.to_string() },
        }
    }
    Err(last)
}

fn bind_one(address: SocketAddr) -> std::io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of the process before to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts on all listeners until the task is dropped.
pub async fn accept(listeners: Vec<TcpListener>, broker: Arc<Broker>, shards: &Shards) {
    let admission = Admission::new(broker.settings.connections.clone());
    let complaints = Complaints::default();
    let mut warned = false;
    loop {
        let (stream, peer) = match accept_any(&listeners).await {
            Ok(accepted) => accepted,
            Err(error) => {
                if !std::mem::replace(&mut warned, true) {
                    warn!("a connection could not be accepted: {error}; said once, /metrics counts connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let permit = match admission.admit(peer.ip()) {
            Ok(permit) => permit,
            Err(reason) => {
                broker.metrics.invalid(Invalid::Connections);
                if let Some(unsaid) = complaints.may_say(clock::mono()) {
                    warn!(%peer, unsaid, "a connection is closed at once: {reason}");
                }
                continue;
            }
        };
        match stream.into_std() {
            Ok(stream) => shards.serve(stream, peer, permit),
            Err(error) => debug!(%peer, "the connection could not be handed over: {error}"),
        }
    }
}

/// The next connection of any listener, in the order of the listeners where several wait.
async fn accept_any(listeners: &[TcpListener]) -> std::io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        let mut accepted = listeners.iter().map(|listener| listener.poll_accept(cx));
        accepted.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}

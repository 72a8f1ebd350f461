//! The first three frames of a link: a greeting, the verdict on it, and the verdict on that.
//!
//! Owns their order, the deadline and the size limit. Does not own who may have a link (`Node::greet`).
//! Invariant: both sides have agreed, or both know why not, as far as the socket still carries it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use model::NodeId;
use node::Node;
use node::peer::{Frame, FrameError, Greeting, HELLO_BYTES_MAX, Hello, HelloError, PeerLane, Refused, Verdict};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::outbox::write_all;
use super::reader::{Buffer, ReadError};

/// What a handshake may take: a process that stands still must not hold up the next attempt for long.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(1);
/// What was sent and is not acknowledged for so long ends the connection: after a partition has healed, the kernel's own
/// patience would be minutes.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(4);
const KEEPALIVE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("it took longer than {} ms", HANDSHAKE_WAIT.as_millis())]
    Timeout,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Hello(#[from] HelloError),
    #[error("the other side closed it")]
    Closed,
    #[error("this node refused: {0}")]
    Refused(#[from] Refused),
    #[error("node {got} answered where node {wanted} was expected")]
    OtherNode { wanted: NodeId, got: NodeId },
    #[error("the other side refused: {0}")]
    RefusedThere(String),
}

/// The side that connected. Gives what the other one says of itself; it waits for `agree`.
pub(super) async fn greet(
    stream: &TcpStream,
    node: &Node,
    lane: PeerLane,
    to: Option<NodeId>,
) -> Result<Hello, HandshakeError> {
    within(async {
        send(stream, Greeting { lane, hello: node.hello(), to }.encode()).await?;
        let theirs = match Verdict::decode(receive(stream, &mut Buffer::default()).await?)? {
            Verdict::Welcome(theirs) => theirs,
            Verdict::Refused(reason) => return Err(HandshakeError::RefusedThere(reason)),
        };
        let agreed = match to.filter(|wanted| *wanted != theirs.node) {
            Some(wanted) => Err(HandshakeError::OtherNode { wanted, got: theirs.node }),
            None => node.greet(&theirs, None).map_err(HandshakeError::from),
        };
        if let Err(error) = agreed {
            send(stream, Verdict::Refused(error.to_string()).encode()).await?;
            return Err(error);
        }
        Ok(theirs)
    })
    .await
}

/// The last word of the side that connected: from here on the other one has the link.
pub(super) async fn agree(stream: &TcpStream, node: &Node) -> Result<(), HandshakeError> {
    within(send(stream, Verdict::Welcome(node.hello()).encode())).await
}

/// The side that was connected to. What the buffer holds afterwards belongs to the frames that follow.
pub(super) async fn answer(
    stream: &TcpStream,
    node: &Node,
    buffer: &mut Buffer,
) -> Result<(PeerLane, Hello), HandshakeError> {
    within(async {
        let greeting = match Greeting::decode(receive(stream, buffer).await?) {
            Ok(greeting) => greeting,
            Err(error) => {
                send(stream, Verdict::Refused(error.to_string()).encode()).await?;
                return Err(error.into());
            }
        };
        if let Err(refused) = node.greet(&greeting.hello, greeting.to) {
            send(stream, Verdict::Refused(refused.to_string()).encode()).await?;
            return Err(refused.into());
        }
        send(stream, Verdict::Welcome(node.hello()).encode()).await?;
        match Verdict::decode(receive(stream, buffer).await?)? {
            Verdict::Welcome(_) => Ok((greeting.lane, greeting.hello)),
            Verdict::Refused(reason) => Err(HandshakeError::RefusedThere(reason)),
        }
    })
    .await
}

/// No delay for small frames, and an end for connections that carry nothing any more.
pub(super) fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 2))
}

async fn within<T>(handshake: impl Future<Output = Result<T, HandshakeError>>) -> Result<T, HandshakeError> {
    timeout(HANDSHAKE_WAIT, handshake).await.unwrap_or(Err(HandshakeError::Timeout))
}

async fn send(stream: &TcpStream, message: Bytes) -> Result<(), HandshakeError> {
    let frame = Frame { head: message, records: Vec::new() };
    let mut pieces = VecDeque::from([Bytes::copy_from_slice(&frame.prefix()?), frame.head]);
    Ok(write_all(stream, &mut pieces).await?)
}

async fn receive(stream: &TcpStream, buffer: &mut Buffer) -> Result<Bytes, HandshakeError> {
    let (message, _) = buffer.next(stream, HELLO_BYTES_MAX).await?.ok_or(HandshakeError::Closed)?;
    Ok(message)
}

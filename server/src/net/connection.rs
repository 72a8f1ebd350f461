//! One client connection: the task that reads, and what reading and writing share.
//!
//! A request is handled in the reading task up to where it has to wait; then it queues for the writing task, in order,
//! and the next request starts. Owns the deadlines of a connection and the bounds of what is in flight.
//! Does not own what a request means (`api::dispatch`) nor how answers are written (`writing`).
//! Invariants: answers leave in the order of the requests; what one connection holds in memory is bounded by
//! `IN_FLIGHT_BYTES_MAX` plus one request and one answer; a parked fetch does not hold up another kind of request.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::Notify;
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinError;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tracing::{debug, error, warn};

use super::frame::{FrameError, Frames};
use super::reply::ReplyCell;
use super::writing::{self, Entry, WriteError};
use crate::api::dispatch::{self, Refused, Started};
use crate::broker::Broker;
use crate::memory::Charge;
use crate::metrics::{Invalid, add};

/// Requests of one connection that were read and not answered.
pub const IN_FLIGHT_MAX: usize = 1024;
/// Bytes of requests and answers of one connection, above which its socket is not read.
pub const IN_FLIGHT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A frame smaller than this needs no leave to be read.
const FRAME_BYTES_FREE: usize = 16 * 1024;
/// From the first byte of a frame to its last: this, and a second more for each MiB.
const FRAME_WAIT: Duration = Duration::from_secs(30);
/// From accept to the first whole request.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// How long a frame waits for memory.
const MEMORY_WAIT: Duration = Duration::from_secs(10);
/// What was asked for before a connection ended may still be answered for so long.
const DRAIN_WAIT: Duration = Duration::from_millis(900);

/// What the tasks of a connection, and the requests of it, share.
#[derive(Debug)]
pub struct Connection {
    pub peer: SocketAddr,
    /// The address that the client reached.
    pub local: SocketAddr,
    in_flight: InFlight,
    parked: Mutex<Vec<Weak<ReplyCell>>>,
    /// What the client calls itself (ApiVersions, KIP-511).
    software: Mutex<Option<(String, String)>>,
}

#[derive(Debug, Default)]
struct InFlight {
    requests: AtomicUsize,
    bytes: AtomicUsize,
    /// Of the monotonic clock, when an answer was last written.
    answered_ms: AtomicU64,
    freed: Notify,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    #[error("the client closed it")]
    ByClient,
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Refused(#[from] Refused),
    #[error("{0}")]
    Write(#[from] WriteError),
    #[error("no whole request within {} s", HANDSHAKE_WAIT.as_secs())]
    Handshake,
    #[error("a request of {held} bytes so far did not become whole in time")]
    SlowFrame { held: usize },
    #[error("no memory for a request of {held} bytes so far within {} s; {limit} bytes are allowed in all", MEMORY_WAIT.as_secs())]
    Memory { held: usize, limit: u64 },
    #[error("nothing was asked for {} s (connections.max.idle.ms)", .waited.as_secs())]
    Idle { waited: Duration },
    #[error("reading failed: {0}")]
    Read(#[from] std::io::Error),
    #[error("an assertion failed while an answer was made or written")]
    Failed,
}

impl Closed {
    fn reason(&self) -> Option<Invalid> {
        match self {
            Closed::ByClient | Closed::Idle { .. } | Closed::Read(_) | Closed::Failed => None,
            Closed::Frame(error) => Some(error.reason()),
            Closed::Refused(refused) => Some(refused.reason()),
            Closed::Write(WriteError::Timeout { .. }) => Some(Invalid::WriteTimeout),
            Closed::Write(WriteError::Io(_)) => None,
            Closed::Write(WriteError::NoAnswer { .. }) => Some(Invalid::NoAnswer),
            Closed::Handshake => Some(Invalid::HandshakeTimeout),
            Closed::SlowFrame { .. } => Some(Invalid::FrameTimeout),
            Closed::Memory { .. } => Some(Invalid::Memory),
        }
    }

    /// What came was no request that is served: somebody should look at the client.
    fn is_malformed(&self) -> bool {
        matches!(self, Closed::Frame(_) | Closed::Refused(_))
    }
}

impl Connection {
    fn new(peer: SocketAddr, local: SocketAddr) -> Connection {
        let in_flight = InFlight::default();
        Connection { peer, local, in_flight, parked: Mutex::default(), software: Mutex::default() }
    }

    /// Remembers a fetch that waits, so that a request behind it can hurry it.
    pub fn park(&self, cell: &Arc<ReplyCell>) {
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        parked.retain(|cell| cell.strong_count() > 0);
        parked.push(Arc::downgrade(cell));
    }

    /// Asks every fetch that waits on this connection to answer with what there is.
    pub fn hurry_parked(&self) {
        let parked = std::mem::take(&mut *self.parked.lock().unwrap_or_else(PoisonError::into_inner));
        parked.iter().filter_map(Weak::upgrade).for_each(|cell| cell.hurry());
    }

    pub fn set_software(&self, name: &str, version: &str) {
        let mut software = self.software.lock().unwrap_or_else(PoisonError::into_inner);
        *software = Some((name.to_owned(), version.to_owned()));
    }

    /// Name and version that the client's library gave.
    pub fn software(&self) -> Option<(String, String)> {
        self.software.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn begin(&self, bytes: usize) {
        self.in_flight.requests.fetch_add(1, Ordering::AcqRel);
        self.in_flight.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// An answer was written, or none was due.
    pub(super) fn finish(&self, requests: usize, bytes: usize) {
        self.in_flight.requests.fetch_sub(requests, Ordering::AcqRel);
        let before = self.in_flight.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.in_flight.answered_ms.store(mono_ms(), Ordering::Relaxed);
        if before > IN_FLIGHT_BYTES_MAX {
            self.in_flight.freed.notify_one();
        }
    }

    /// How long ago an answer was written last.
    pub fn quiet(&self) -> Duration {
        Duration::from_millis(mono_ms().saturating_sub(self.in_flight.answered_ms.load(Ordering::Relaxed)))
    }

    fn is_over_bytes(&self) -> bool {
        self.in_flight.bytes.load(Ordering::Acquire) > IN_FLIGHT_BYTES_MAX
    }

    async fn below_bytes(&self) {
        while self.is_over_bytes() {
            self.in_flight.freed.notified().await;
        }
    }

    fn is_waited_for(&self) -> bool {
        self.in_flight.requests.load(Ordering::Acquire) > 0
    }
}

fn mono_ms() -> u64 {
    u64::try_from(crate::clock::mono().as_millis()).unwrap_or(u64::MAX)
}

/// Serves a connection until it ends.
pub async fn serve(stream: TcpStream, peer: SocketAddr, broker: Arc<Broker>) {
    // The client is gone already where one of these fails.
    let (Ok(()), Ok(local)) = (stream.set_nodelay(true), stream.local_addr()) else { return };
    let connection = Arc::new(Connection::new(peer, local));
    let (incoming, outgoing) = stream.into_split();
    add(&broker.metrics.connections_opened, 1);
    let (queue, entries) = channel(IN_FLIGHT_MAX);
    let mut writer = tokio::spawn(writing::run(connection.clone(), outgoing, broker.clone(), entries));
    let now = Instant::now();
    let reader = Reader {
        connection: connection.clone(),
        incoming,
        accepted: now,
        timer: Box::pin(sleep_until(now + HANDSHAKE_WAIT)),
        frames: Frames::new(broker.settings.request_bytes_max),
        broker: broker.clone(),
        queue,
        charge: Charge::default(),
        charged: FRAME_BYTES_FREE,
        frame_since: None,
        requests: 0,
    };
    let closed = tokio::select! {
        biased;
        written = &mut writer => writing_ended(written).unwrap_or(Closed::ByClient),
        closed = reader.run() => {
            // The queue is closed now: the writer ends once it has answered what was asked before.
            connection.hurry_parked();
            match timeout(DRAIN_WAIT, &mut writer).await {
                Ok(written) => writing_ended(written).filter(|ended| matches!(ended, Closed::Failed)).unwrap_or(closed),
                Err(_) => {
                    writer.abort();
                    closed
                }
            }
        }
    };
    if let Some(reason) = closed.reason() {
        broker.metrics.invalid(reason);
    }
    let said = if closed.is_malformed() { broker.complaints.may_say(crate::clock::mono()) } else { None };
    match closed {
        closed if said.is_some() => {
            let unsaid = said.unwrap_or_default();
            warn!(peer = %connection.peer, unsaid, "a client sent what is no request, and its connection was closed: {closed}");
        }
        // The panic itself is on stderr: this says whom it cost.
        Closed::Failed => error!(peer = %connection.peer, "connection closed: {closed}"),
        closed => debug!(peer = %connection.peer, "connection closed: {closed}"),
    }
    add(&broker.metrics.connections_closed, 1);
}

/// Why the writing task ended, if it was not the queue.
fn writing_ended(written: Result<Result<(), WriteError>, JoinError>) -> Option<Closed> {
    match written {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(Closed::Write(error)),
        Err(error) => error.is_panic().then_some(Closed::Failed),
    }
}

struct Reader {
    connection: Arc<Connection>,
    incoming: OwnedReadHalf,
    broker: Arc<Broker>,
    frames: Frames,
    queue: Sender<Entry>,
    /// Memory for the frame that is being read, and for how many bytes it suffices.
    charge: Charge,
    charged: usize,
    accepted: Instant,
    frame_since: Option<Instant>,
    requests: u64,
    /// Goes off at the deadline or before it: it is set anew when it goes off, not with each read.
    timer: Pin<Box<Sleep>>,
}

impl Reader {
    async fn run(mut self) -> Closed {
        loop {
            if let Err(closed) = self.take_frames().await {
                return closed;
            }
            if let Err(closed) = self.read_more().await {
                return closed;
            }
        }
    }

    /// Handles every whole frame that has come.
    async fn take_frames(&mut self) -> Result<(), Closed> {
        while let Some(frame) = self.frames.cut()? {
            self.frame_since = None;
            self.requests += 1;
            self.request(frame).await?;
            tokio::task::coop::consume_budget().await;
        }
        Ok(())
    }

    async fn request(&mut self, frame: Bytes) -> Result<(), Closed> {
        let bytes = frame.len();
        let mut charge = std::mem::take(&mut self.charge);
        let missing = if self.charged == FRAME_BYTES_FREE { bytes } else { bytes.saturating_sub(self.charged) };
        if missing > 0 {
            charge.merge(self.charge_for(missing).await?);
        }
        self.charged = FRAME_BYTES_FREE;
        let started = dispatch::start(&self.broker, &self.connection, frame)?;
        let held = bytes + if let Started::Done(answer) = &started { answer.bytes() } else { 0 };
        self.connection.begin(held);
        let entry = Entry { started, held, _charge: charge };
        // The queue is bounded: over it this connection's requests wait in its socket.
        if self.queue.send(entry).await.is_err() {
            return Err(Closed::ByClient);
        }
        self.connection.below_bytes().await;
        Ok(())
    }

    async fn charge_for(&self, bytes: usize) -> Result<Charge, Closed> {
        let memory = &self.broker.request_memory;
        if let Some(charge) = memory.try_take(bytes) {
            return Ok(charge);
        }
        let held = self.frames.partial_bytes();
        timeout(MEMORY_WAIT, memory.take(bytes)).await.map_err(|_| Closed::Memory { held, limit: memory.limit() })
    }

    /// Reads once, waiting for it as long as the state of the connection allows.
    async fn read_more(&mut self) -> Result<(), Closed> {
        if self.frames.is_partial() {
            self.frame_since.get_or_insert_with(Instant::now);
            let held = self.frames.partial_bytes();
            if held > self.charged {
                // Twice what has come, as the buffer grows.
                let more = self.charge_for(held).await?;
                self.charge.merge(more);
                self.charged += held;
            }
        }
        poll_fn(|cx| self.poll_read(cx)).await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let buffer = self.frames.spare();
        let room = buffer.capacity() - buffer.len();
        let read = pin!(self.incoming.read_buf(buffer)).poll(cx);
        match read {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(Closed::ByClient)),
            Poll::Ready(Ok(got)) => {
                self.frames.note_read(got, room);
                add(&self.broker.metrics.bytes_in, got as u64);
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(Closed::Read(error))),
            Poll::Pending => self.frames.rest(),
        }
        loop {
            let deadline = match self.deadline(Instant::now()) {
                Ok(deadline) => deadline,
                Err(closed) => return Poll::Ready(Err(closed)),
            };
            if deadline < self.timer.deadline() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Until when the client may say nothing; an error once that is over.
    fn deadline(&self, now: Instant) -> Result<Instant, Closed> {
        let held = self.frames.partial_bytes();
        if self.requests == 0 {
            let deadline = self.accepted + HANDSHAKE_WAIT;
            return if now < deadline { Ok(deadline) } else { Err(Closed::Handshake) };
        }
        if let Some(since) = self.frame_since {
            let deadline = since + FRAME_WAIT + Duration::from_secs((held >> 20) as u64);
            return if now < deadline { Ok(deadline) } else { Err(Closed::SlowFrame { held }) };
        }
        let waited = self.broker.settings.idle_max;
        if self.connection.is_waited_for() {
            return Ok(now + waited);
        }
        match waited.checked_sub(self.connection.quiet()) {
            Some(left) if !left.is_zero() => Ok(now + left),
            _ => Err(Closed::Idle { waited }),
        }
    }
}

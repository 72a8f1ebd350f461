//! The writing task of a connection.
//!
//! Owns the order of answers and the vectored writes. Does not own their content.
//! Invariant: an answer is written whole and in the order of its request, or the connection ends.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::IoSlice;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc::Receiver;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::connection::Connection;
use crate::api::dispatch::{Answered, Started};
use crate::broker::Broker;
use crate::memory::{Allowance, Charge};
use crate::metrics::add;

/// A client that takes nothing for so long is closed.
const WRITE_WAIT: Duration = Duration::from_secs(60);
/// One that takes nothing for so long is closed when no memory is left for the answers of others.
const WRITE_WAIT_SCARCE: Duration = Duration::from_secs(5);
/// How many answers, and bytes of them, are gathered for one write.
const GATHER_BYTES: usize = 256 * 1024;
const GATHER_ANSWERS: usize = 256;
/// Pieces in one system call (the kernel takes 1024).
const SLICES_MAX: usize = 64;
/// Bytes in one system call: behind them the other connections of the thread come first. An answer of megabytes would hold them up for
/// milliseconds; parts of 64 KiB cost half as much CPU again (measured with a consumer of 1 KiB records), these a twentieth.
const WRITE_BYTES: usize = 512 * 1024;

/// A request in the queue between reading and writing.
#[derive(Debug)]
pub struct Entry {
    pub started: Started,
    /// Bytes that this entry counts for in what is in flight.
    pub held: usize,
    pub _charge: Charge,
}

#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("the client took nothing of {left} bytes for {} s", .waited.as_secs())]
    Timeout { left: usize, waited: Duration },
    #[error("writing failed: {0}")]
    Io(std::io::Error),
    /// Produce with acks=0 has no other way to say that it failed; the client learns it as Kafka tells it.
    #[error("a request without an answer failed: {reason}")]
    NoAnswer { reason: String },
}

/// Writes answers until the queue ends or the client is gone.
pub async fn run(
    connection: Arc<Connection>,
    outgoing: OwnedWriteHalf,
    broker: Arc<Broker>,
    mut entries: Receiver<Entry>,
) -> Result<(), WriteError> {
    let mut waiting: Option<Entry> = None;
    let mut batch = Batch::default();
    loop {
        let open = poll_fn(|cx| gather(cx, &mut entries, &mut waiting, &mut batch)).await;
        if let Some(reason) = batch.failed.take() {
            return Err(WriteError::NoAnswer { reason });
        }
        add(&broker.metrics.bytes_out, batch.bytes as u64);
        write_all(&outgoing, &mut batch.pieces, &broker.answer_memory).await?;
        connection.finish(batch.requests, batch.held);
        batch.clear();
        if !open {
            return Ok(());
        }
    }
}

/// Answers that go out together.
#[derive(Debug, Default)]
struct Batch {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    requests: usize,
    held: usize,
    charges: Vec<Charge>,
    failed: Option<String>,
}

impl Batch {
    fn put(&mut self, answered: Answered, held: usize, charge: Charge) {
        self.requests += 1;
        self.held += held;
        match answered {
            Answered::Frame { frame, charge: records } => {
                self.bytes += frame.bytes();
                self.pieces.extend(frame.into_pieces());
                self.charges.push(records);
                self.charges.push(charge);
            }
            Answered::Silent => {}
            Answered::Close { reason } => self.failed = Some(reason),
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= GATHER_BYTES || self.requests >= GATHER_ANSWERS || self.failed.is_some()
    }

    fn clear(&mut self) {
        *self = Batch { pieces: std::mem::take(&mut self.pieces), ..Batch::default() };
    }
}

/// Takes what is answered, in order. Ready with at least one answer, or with `false` when no more will come.
fn gather(
    cx: &mut Context<'_>,
    entries: &mut Receiver<Entry>,
    waiting: &mut Option<Entry>,
    batch: &mut Batch,
) -> Poll<bool> {
    while !batch.is_full() {
        if waiting.is_none() {
            match entries.poll_recv(cx) {
                Poll::Ready(Some(entry)) => *waiting = Some(entry),
                Poll::Ready(None) => return Poll::Ready(false),
                Poll::Pending => break,
            }
        }
        let Some(mut entry) = waiting.take() else { break };
        match entry.started {
            Started::Done(answered) => batch.put(answered, entry.held, entry._charge),
            Started::Waiting(mut future) => match future.as_mut().poll(cx) {
                Poll::Ready(answered) => batch.put(answered, entry.held, entry._charge),
                Poll::Pending => {
                    entry.started = Started::Waiting(future);
                    *waiting = Some(entry);
                    break;
                }
            },
        }
    }
    if batch.requests > 0 { Poll::Ready(true) } else { Poll::Pending }
}

async fn write_all(
    outgoing: &OwnedWriteHalf,
    pieces: &mut VecDeque<Bytes>,
    memory: &Allowance,
) -> Result<(), WriteError> {
    while !pieces.is_empty() {
        match write_some::<SLICES_MAX>(outgoing.as_ref(), pieces, WRITE_BYTES) {
            Ok(()) if pieces.is_empty() => {}
            // A reader of megabytes does not hold up a producer on the same thread.
            Ok(()) => yield_now().await,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                let left = || pieces.iter().map(Bytes::len).sum();
                let mut waited = Duration::ZERO;
                loop {
                    match timeout(WRITE_WAIT_SCARCE, outgoing.writable()).await {
                        Ok(writable) => break writable.map_err(WriteError::Io)?,
                        Err(_) => waited += WRITE_WAIT_SCARCE,
                    }
                    if waited >= WRITE_WAIT || memory.is_scarce() {
                        return Err(WriteError::Timeout { left: left(), waited });
                    }
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(WriteError::Io(error)),
        }
    }
    Ok(())
}

/// Offers up to `SLICES` pieces and `most` bytes with one system call and takes away what was written.
pub(crate) fn write_some<const SLICES: usize>(
    stream: &TcpStream,
    pieces: &mut VecDeque<Bytes>,
    most: usize,
) -> std::io::Result<()> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let (mut count, mut left) = (0, most);
    for (slice, piece) in slices.iter_mut().zip(pieces.iter()) {
        let part = piece.get(..left).unwrap_or(piece);
        *slice = IoSlice::new(part);
        count += 1;
        left -= part.len();
        if left == 0 {
            break;
        }
    }
    let written = stream.try_write_vectored(slices.get(..count).unwrap_or_default())?;
    skip(pieces, written);
    Ok(())
}

/// Takes away what was written.
fn skip(pieces: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(first) = pieces.front_mut() {
        if first.len() > written {
            first.advance(written);
            return;
        }
        written -= first.len();
        pieces.pop_front();
    }
    assert!(written == 0, "the kernel took more than it was given");
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream as StdStream};

    use super::*;

    #[tokio::test]
    async fn a_write_offers_no_more_than_its_bytes_and_slices() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let mut reader = StdStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (stream, _) = listener.accept().expect("accepted");
        stream.set_nonblocking(true).expect("set");
        let stream = TcpStream::from_std(stream).expect("registered");
        stream.writable().await.expect("writable");
        let whole: Vec<u8> = (0..30).collect();
        let mut pieces: VecDeque<Bytes> = whole.chunks(6).map(Bytes::copy_from_slice).collect();
        let mut left = Vec::new();
        for most in [10, 2, 6, 100] {
            write_some::<2>(&stream, &mut pieces, most).expect("written");
            left.push(pieces.iter().map(Bytes::len).sum::<usize>());
        }
        // The last one has room for two slices only.
        assert_eq!(left, [20, 18, 12, 0]);
        let mut read = vec![0; 30];
        reader.read_exact(&mut read).expect("read");
        assert_eq!(read, whole);
    }

    #[test]
    fn a_partial_write_leaves_exactly_the_rest() {
        let whole: Vec<u8> = (0..30).collect();
        for written in 0..=30 {
            let mut pieces: VecDeque<Bytes> =
                [&whole[..10], &whole[10..11], &whole[11..]].map(Bytes::copy_from_slice).into();
            skip(&mut pieces, written);
            let rest: Vec<u8> = pieces.iter().flatten().copied().collect();
            assert_eq!(rest, &whole[written..]);
        }
    }
}

//! The queue between those who send and the one task that writes a link's socket.
//!
//! Owns the order of frames and the bound on what waits. Does not own the socket.
//! Invariants: frames leave in the order in which they were put; a queue over its bound is closed, never waited for: who
//! sends more than the other side takes learns it by losing the link.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use node::peer::{Frame, FrameError};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::net::writing::write_some;

/// What may wait for one link: more than all credits that the other side gives, and than any one frame.
const OUTBOX_BYTES_MAX: usize = 80 << 20;
/// What goes out with one write, about.
const GATHER_BYTES: usize = 1 << 20;
/// Pieces in one system call (the kernel takes 1024).
const SLICES_MAX: usize = 128;
/// A head up to here is copied behind its lengths: one piece less to write.
const HEAD_COPY_MAX: usize = 4 << 10;

const _: () = assert!(OUTBOX_BYTES_MAX as u64 > node::peer::FRAME_BYTES_MAX);

#[derive(Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Default)]
struct State {
    frames: VecDeque<Frame>,
    bytes: usize,
    overflowed: bool,
}

/// Why a link that stood ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("more than {OUTBOX_BYTES_MAX} bytes waited for it: the other side takes too little")]
    Overflow,
    #[error("a frame could not be sent: {0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the other side closed it")]
    Closed,
    #[error("the other side sent what nobody sends in this direction")]
    Unexpected,
}

impl Outbox {
    pub(super) fn push(&self, frame: Frame) {
        let mut state = self.lock();
        if state.overflowed {
            return;
        }
        let was_empty = state.frames.is_empty();
        state.bytes += frame.wire_bytes();
        state.frames.push_back(frame);
        if state.bytes > OUTBOX_BYTES_MAX {
            state.overflowed = true;
            state.frames.clear();
        }
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// The next frames as pieces to be written, in order. Waits until there is one.
    async fn take(&self, pieces: &mut VecDeque<Bytes>) -> Result<(), LinkError> {
        loop {
            // What was put before the look is seen; what is put after it wakes this.
            let filled = self.filled.notified();
            if self.try_take(pieces)? {
                return Ok(());
            }
            filled.await;
        }
    }

    fn try_take(&self, pieces: &mut VecDeque<Bytes>) -> Result<bool, LinkError> {
        let mut state = self.lock();
        if state.overflowed {
            return Err(LinkError::Overflow);
        }
        let mut gathered = 0;
        while gathered < GATHER_BYTES
            && let Some(frame) = state.frames.pop_front()
        {
            state.bytes -= frame.wire_bytes();
            gathered += frame.wire_bytes();
            put(frame, pieces)?;
        }
        Ok(gathered > 0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is put until the link ends.
    pub(super) async fn write_to(&self, stream: &TcpStream) -> LinkError {
        let mut pieces = VecDeque::new();
        loop {
            let written = async {
                self.take(&mut pieces).await?;
                write_all(stream, &mut pieces).await?;
                Ok(())
            };
            if let Err(error) = written.await {
                return error;
            }
        }
    }
}

/// The pieces of a frame. Records are not copied.
fn put(frame: Frame, pieces: &mut VecDeque<Bytes>) -> Result<(), FrameError> {
    let prefix = frame.prefix()?;
    if frame.head.len() <= HEAD_COPY_MAX {
        let mut first = BytesMut::with_capacity(prefix.len() + frame.head.len());
        first.extend_from_slice(&prefix);
        first.extend_from_slice(&frame.head);
        pieces.push_back(first.freeze());
    } else {
        pieces.push_back(Bytes::copy_from_slice(&prefix));
        pieces.push_back(frame.head);
    }
    pieces.extend(frame.records.into_iter().filter(|piece| !piece.is_empty()));
    Ok(())
}

/// Writes all pieces, many with one system call.
pub(super) async fn write_all(stream: &TcpStream, pieces: &mut VecDeque<Bytes>) -> std::io::Result<()> {
    while !pieces.is_empty() {
        match write_some::<SLICES_MAX>(stream, pieces, usize::MAX) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Until the other side ends the link: nothing else comes in this direction.
pub(super) async fn closed(stream: &TcpStream) -> LinkError {
    loop {
        if let Err(error) = stream.readable().await {
            return LinkError::Io(error);
        }
        match stream.try_read(&mut [0; 1]) {
            Ok(0) => return LinkError::Closed,
            Ok(_) => return LinkError::Unexpected,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return LinkError::Io(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outbox: &Outbox) -> Vec<u8> {
        let mut pieces = VecDeque::new();
        while outbox.try_take(&mut pieces).expect("below the bound") {}
        pieces.iter().flatten().copied().collect()
    }

    #[test]
    fn frames_leave_in_the_order_in_which_they_were_put() {
        let outbox = Outbox::default();
        let bodies = [Bytes::from_static(b"one"), Bytes::new(), Bytes::from_static(b"three")];
        bodies.iter().for_each(|body| outbox.push(Frame::raft(body.clone())));
        let expected: Vec<u8> = bodies
            .iter()
            .flat_map(|body| {
                let frame = Frame::raft(body.clone());
                [&frame.prefix().expect("short")[..], &frame.head, body].concat()
            })
            .collect();
        assert_eq!(drain(&outbox), expected);
    }

    #[test]
    fn records_and_long_heads_are_written_from_where_they_lie() {
        let (head, records) = (Bytes::from(vec![1; HEAD_COPY_MAX + 1]), Bytes::from(vec![2; 100]));
        let mut pieces = VecDeque::new();
        put(Frame { head: head.clone(), records: vec![records.clone()] }, &mut pieces).expect("short");
        let at: Vec<*const u8> = pieces.iter().skip(1).map(|piece| piece.as_ptr()).collect();
        assert_eq!(at, [head.as_ptr(), records.as_ptr()]);
    }

    #[test]
    fn over_its_bound_a_queue_is_closed_and_keeps_nothing() {
        let outbox = Outbox::default();
        let body = Bytes::from(vec![0; 64 << 20]);
        (0..2).for_each(|_| outbox.push(Frame::raft(body.clone())));
        assert!(matches!(outbox.try_take(&mut VecDeque::new()), Err(LinkError::Overflow)));
        assert!(outbox.lock().frames.is_empty());
    }

    #[test]
    fn one_write_gathers_many_small_frames_and_no_second_large_one() {
        let outbox = Outbox::default();
        (0..100).for_each(|_| outbox.push(Frame::alive()));
        outbox.push(Frame::raft(Bytes::from(vec![0; GATHER_BYTES])));
        outbox.push(Frame::alive());
        let mut pieces = VecDeque::new();
        assert!(outbox.try_take(&mut pieces).expect("below the bound"));
        assert_eq!((pieces.len(), outbox.lock().frames.len()), (102, 1));
    }
}

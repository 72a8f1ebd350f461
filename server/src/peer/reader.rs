//! Cuts what arrives on a link into frames.
//!
//! Owns the read buffer. Does not own what frames mean.
//! Invariant: what is reserved is bounded by what has arrived, or by the largest frame that did, never by a length that is
//! merely claimed.

use std::io::ErrorKind;

use bytes::{Buf, Bytes, BytesMut};
use node::peer::{FrameError, PREFIX_BYTES, Prefix, split};
use tokio::net::TcpStream;

const BUFFER_BYTES_MIN: usize = 8 << 10;
/// One read takes in many small frames.
const BUFFER_BYTES_SMALL: usize = 256 << 10;
/// Up to here a frame is copied out of the buffer: what is kept of it would keep the whole buffer in memory.
const COPY_BYTES_MAX: usize = 4 << 10;

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("it ended within a frame, {held} bytes of it had come")]
    Cut { held: usize },
}

/// The bytes of one link that no frame was cut from yet.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: BytesMut,
    /// The largest frame so far: this much may be reserved at once.
    proven: usize,
}

impl Buffer {
    /// The next frame's head and body; `None` when the link ended after the last.
    pub(super) async fn next(&mut self, stream: &TcpStream, max: u64) -> Result<Option<(Bytes, Bytes)>, ReadError> {
        loop {
            if let Some(frame) = self.cut(max)? {
                return Ok(Some(frame));
            }
            self.make_room(max)?;
            stream.readable().await?;
            match stream.try_read_buf(&mut self.bytes) {
                Ok(0) if self.bytes.is_empty() => return Ok(None),
                Ok(0) => return Err(ReadError::Cut { held: self.bytes.len() }),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn prefix(&self, max: u64) -> Result<Option<Prefix>, FrameError> {
        self.bytes.first_chunk::<PREFIX_BYTES>().map(|bytes| Prefix::read(*bytes, max)).transpose()
    }

    fn cut(&mut self, max: u64) -> Result<Option<(Bytes, Bytes)>, FrameError> {
        let Some(prefix) = self.prefix(max)? else { return Ok(None) };
        let rest = prefix.rest_bytes();
        if self.bytes.len() < PREFIX_BYTES + rest {
            return Ok(None);
        }
        self.bytes.advance(PREFIX_BYTES);
        self.proven = self.proven.max(rest);
        let whole = if rest <= COPY_BYTES_MAX {
            let copied = Bytes::copy_from_slice(self.bytes.get(..rest).unwrap_or_default());
            self.bytes.advance(rest);
            copied
        } else {
            self.bytes.split_to(rest).freeze()
        };
        Ok(Some(split(prefix, whole)))
    }

    fn make_room(&mut self, max: u64) -> Result<(), FrameError> {
        let held = self.bytes.len();
        let trusted = self.proven.clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_SMALL);
        let wanted = match self.prefix(max)? {
            Some(prefix) => {
                let whole = PREFIX_BYTES + prefix.rest_bytes();
                whole.min(self.proven.max(held.saturating_mul(2)).max(trusted)).max(held + 1)
            }
            None => trusted,
        };
        if self.bytes.capacity() < wanted || self.bytes.capacity() == held {
            self.bytes.reserve(wanted.saturating_sub(held).max(BUFFER_BYTES_MIN));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use node::peer::{FRAME_BYTES_MAX, Frame};

    use super::*;

    fn encoded(frame: &Frame) -> Vec<u8> {
        let mut all = [&frame.prefix().expect("short")[..], &frame.head].concat();
        frame.records.iter().for_each(|piece| all.extend_from_slice(piece));
        all
    }

    #[test]
    fn frames_are_cut_wherever_the_bytes_are_split() {
        let frames = [Frame::alive(), Frame::raft(Bytes::from_static(b"request")), Frame::alive()];
        let stream: Vec<u8> = frames.iter().flat_map(encoded).collect();
        for at in 0..=stream.len() {
            let mut buffer = Buffer::default();
            let mut got = Vec::new();
            for part in [&stream[..at], &stream[at..]] {
                buffer.bytes.put_slice(part);
                while let Some(frame) = buffer.cut(FRAME_BYTES_MAX).expect("valid") {
                    got.push(frame);
                }
            }
            let expected: Vec<(Bytes, Bytes)> = frames
                .iter()
                .map(|frame| (frame.head.clone(), frame.records.first().cloned().unwrap_or_default()))
                .collect();
            assert_eq!(got, expected, "split at {at}");
        }
    }

    #[test]
    fn a_claimed_length_reserves_no_more_than_has_come() {
        let mut buffer = Buffer::default();
        buffer.bytes.put_slice(&(64u32 << 20).to_be_bytes());
        buffer.bytes.put_slice(&[0, 0, 0, 4, 1, 2]);
        assert_eq!(buffer.cut(FRAME_BYTES_MAX), Ok(None));
        buffer.make_room(FRAME_BYTES_MAX).expect("an allowed length");
        assert!(buffer.bytes.capacity() <= 4 * BUFFER_BYTES_MIN);
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_anything_is_reserved() {
        let mut buffer = Buffer::default();
        buffer.bytes.put_slice(b"GET / HTTP/1.1\r\n");
        assert!(matches!(buffer.cut(FRAME_BYTES_MAX), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn a_large_frame_grows_with_what_has_come() {
        let frame = Frame::raft(Bytes::from(vec![7; 3_000_000]));
        let bytes = encoded(&frame);
        let mut buffer = Buffer::default();
        let mut left = &bytes[..];
        while !left.is_empty() {
            assert_eq!(buffer.cut(FRAME_BYTES_MAX), Ok(None));
            buffer.make_room(FRAME_BYTES_MAX).expect("an allowed length");
            let held = buffer.bytes.len();
            assert!(buffer.bytes.capacity() <= (2 * held).max(2 * BUFFER_BYTES_SMALL));
            let (part, rest) = left.split_at((buffer.bytes.capacity() - held).min(left.len()));
            assert!(!part.is_empty());
            buffer.bytes.put_slice(part);
            left = rest;
        }
        let (head, body) = buffer.cut(FRAME_BYTES_MAX).expect("valid").expect("whole");
        assert_eq!((head, body.len()), (frame.head, 3_000_000));
    }
}

//! Cuts the bytes of a connection into request frames.
//!
//! Owns the read buffer and the check of each length before anything is reserved for it.
//! Does not own the content: a frame is bytes behind a length of four.
//! Invariant: what is reserved is bounded by what the client has sent already, or by the largest frame that it has
//! completed before, never by a length that it merely claims.

use bytes::{Buf, Bytes, BytesMut};

use crate::metrics::Invalid;

/// Reserved for the first read, and again after a pause: an idle connection costs little.
const BUFFER_BYTES_MIN: usize = 4 * 1024;
/// The most that is reserved for small frames: one read takes in many of them.
const BUFFER_BYTES_SMALL: usize = 128 * 1024;
/// Up to here a frame is copied out of the buffer: what is kept of it, such as a batch on a log's tail, would keep the
/// whole buffer in memory, which can be many times its size.
const COPY_BYTES_MAX: usize = 4 * 1024;
/// Key, version and correlation id: a shorter frame has no header.
const FRAME_BYTES_MIN: usize = 8;
const PREFIX: usize = 4;

/// Why a connection's bytes are no frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    #[error("frame length {length} is negative")]
    Negative { length: i32 },
    #[error("frame of {length} bytes has no room for a header")]
    TooShort { length: usize },
    #[error("frame of {length} bytes, {allowed} are allowed (socket.request.max.bytes)")]
    TooLarge { length: usize, allowed: usize },
    #[error("this is HTTP, not the Kafka protocol")]
    Http,
    #[error("this is TLS, which this listener does not speak")]
    Tls,
}

impl FrameError {
    pub fn reason(&self) -> Invalid {
        match self {
            FrameError::Negative { .. } | FrameError::TooShort { .. } | FrameError::TooLarge { .. } => Invalid::Length,
            FrameError::Http => Invalid::Http,
            FrameError::Tls => Invalid::Tls,
        }
    }
}

/// The read side of one connection's bytes.
#[derive(Debug)]
pub struct Frames {
    buffer: BytesMut,
    frame_bytes_max: usize,
    /// The largest frame completed so far: this much may be reserved at once.
    proven: usize,
    /// What the next read may take in when frames are small; grows while reads fill it.
    chunk: usize,
}

impl Frames {
    pub fn new(frame_bytes_max: usize) -> Frames {
        Frames { buffer: BytesMut::new(), frame_bytes_max, proven: 0, chunk: BUFFER_BYTES_MIN }
    }

    /// The next whole frame without its length, if it has come.
    pub fn cut(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = self.length()? else { return Ok(None) };
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        self.proven = self.proven.max(length);
        if length <= COPY_BYTES_MAX {
            let frame = Bytes::copy_from_slice(self.buffer.get(..length).unwrap_or_default());
            self.buffer.advance(length);
            return Ok(Some(frame));
        }
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Whether a frame has begun and is not whole yet.
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Bytes of a frame that has begun.
    pub fn partial_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Room for the next read. Call `cut` until it has nothing before.
    pub fn spare(&mut self) -> &mut BytesMut {
        let held = self.buffer.len();
        let wanted = match self.length() {
            Ok(Some(length)) => {
                let whole = PREFIX + length;
                let trusted = self.proven.max(held.saturating_mul(2)).max(self.chunk);
                whole.min(trusted).max(held + 1)
            }
            _ => self.chunk,
        };
        let missing = wanted.saturating_sub(held).max(1);
        if self.buffer.capacity() - held < missing.min(BUFFER_BYTES_MIN) || wanted > self.buffer.capacity() {
            self.buffer.reserve(missing);
        }
        &mut self.buffer
    }

    /// Says how much a read brought and what there was room for, so that the next has the right size.
    pub fn note_read(&mut self, got: usize, room: usize) {
        if got == room {
            self.chunk = (self.chunk * 2).min(BUFFER_BYTES_SMALL);
        } else if got < self.chunk / 8 {
            self.chunk = (self.chunk / 2).max(BUFFER_BYTES_MIN);
        }
    }

    /// Gives the buffer back while the connection says nothing.
    pub fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    fn length(&self) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        match prefix {
            b"GET " | b"POST" | b"HEAD" | b"PUT " | b"OPTI" | b"PRI " => return Err(FrameError::Http),
            [0x16, 0x03, 0..=4, _] => return Err(FrameError::Tls),
            _ => {}
        }
        let raw = i32::from_be_bytes(*prefix);
        let length = usize::try_from(raw).map_err(|_| FrameError::Negative { length: raw })?;
        if length < FRAME_BYTES_MIN {
            return Err(FrameError::TooShort { length });
        }
        if length > self.frame_bytes_max {
            return Err(FrameError::TooLarge { length, allowed: self.frame_bytes_max });
        }
        Ok(Some(length))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    const ALLOWED: usize = 100 * 1024 * 1024;

    fn feed(frames: &mut Frames, bytes: &[u8]) {
        frames.spare().put_slice(bytes);
    }

    fn check(bytes: &[u8], expected: FrameError) {
        let mut frames = Frames::new(ALLOWED);
        feed(&mut frames, bytes);
        assert_eq!(frames.cut(), Err(expected));
    }

    #[test]
    fn a_length_that_no_request_has_is_refused() {
        check(&[0xff, 0xff, 0xff, 0xff], FrameError::Negative { length: -1 });
        check(&[0x7f, 0xff, 0xff, 0xff], FrameError::TooLarge { length: 0x7fff_ffff, allowed: ALLOWED });
        check(&[0x06, 0x40, 0x00, 0x01], FrameError::TooLarge { length: ALLOWED + 1, allowed: ALLOWED });
        for length in 0..8u8 {
            check(&[0, 0, 0, length], FrameError::TooShort { length: usize::from(length) });
        }
    }

    #[test]
    fn other_protocols_are_recognised() {
        check(b"GET / HTTP/1.1\r\n", FrameError::Http);
        check(&[0x16, 0x03, 0x01, 0x02, 0x00], FrameError::Tls);
    }

    #[test]
    fn frames_are_cut_wherever_the_bytes_are_split() {
        let stream: Vec<u8> = [&[0, 0, 0, 8][..], b"abcdefgh", &[0, 0, 0, 9], b"123456789"].concat();
        for split in 0..stream.len() {
            let mut frames = Frames::new(ALLOWED);
            let mut got = Vec::new();
            for part in [&stream[..split], &stream[split..]] {
                feed(&mut frames, part);
                while let Some(frame) = frames.cut().expect("valid") {
                    got.push(frame);
                }
            }
            assert_eq!(got, [&b"abcdefgh"[..], b"123456789"], "split at {split}");
            assert!(!frames.is_partial());
        }
    }

    #[test]
    fn a_claimed_length_reserves_no_more_than_was_sent() {
        let mut frames = Frames::new(ALLOWED);
        feed(&mut frames, &[0x06, 0x00, 0x00, 0x00, 1, 2, 3]);
        assert_eq!(frames.cut(), Ok(None));
        assert!(frames.spare().capacity() <= 2 * BUFFER_BYTES_MIN);
    }

    #[test]
    fn a_small_frame_keeps_no_more_memory_than_its_size() {
        let mut frames = Frames::new(ALLOWED);
        feed(&mut frames, &[&[0, 0, 0, 100][..], &[7; 100], &[0, 0, 0, 100], &[8; 100]].concat());
        for content in [7, 8] {
            let frame = frames.cut().expect("valid").expect("whole");
            assert_eq!(frame, [content; 100][..]);
            let owned = frame.try_into_mut().expect("nobody else holds the memory of the frame");
            assert_eq!(owned.capacity(), 100);
        }
    }

    #[test]
    fn a_large_frame_grows_with_what_has_come_and_arrives_whole() {
        let length = 3_000_000usize;
        let mut frames = Frames::new(ALLOWED);
        feed(&mut frames, &u32::try_from(length).expect("small").to_be_bytes());
        let mut left = length;
        while left > 0 {
            assert_eq!(frames.cut(), Ok(None));
            let held = frames.partial_bytes();
            let spare = frames.spare();
            assert!(spare.capacity() <= (held * 2).max(2 * BUFFER_BYTES_MIN) + PREFIX);
            let part = (spare.capacity() - held).min(left);
            assert!(part > 0);
            spare.put_bytes(7, part);
            left -= part;
        }
        let frame = frames.cut().expect("valid").expect("whole");
        assert_eq!(frame.len(), length);
    }
}

//! One frame between two nodes: a head and a body.
//!
//! ```text
//! u32 length of all that follows · u32 length of the head · head (`PeerFrame`) · body
//! ```
//! Big endian. Owns this layout and its limits. Does not own what heads mean.
//! Invariant: no length of a frame is believed before it was held against its limit.

use bytes::Bytes;
use model::limits::BATCH_BYTES_MAX;
use model::units::{KIB, MIB};
use prost::Message;

use super::wire::proto::{self, peer_frame::Kind};

/// The largest head.
pub const HEAD_BYTES_MAX: u64 = 4 * MIB;
/// The largest frame, without its first length: a batch of any allowed size fits in beside its head, and so does a large image.
pub const FRAME_BYTES_MAX: u64 = 72 * MIB;
/// The largest frame of the handshake, before it is known who speaks.
pub const HELLO_BYTES_MAX: u64 = 64 * KIB;
/// The two lengths before the head.
pub const PREFIX_BYTES: usize = 8;

const _: () = {
    assert!(BATCH_BYTES_MAX + HEAD_BYTES_MAX < FRAME_BYTES_MAX);
    assert!(HELLO_BYTES_MAX < HEAD_BYTES_MAX);
    assert!(FRAME_BYTES_MAX <= u32::MAX as u64);
};

/// To be sent: written as one, without copying the body together.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// An encoded `PeerFrame`.
    pub head: Bytes,
    /// The body's pieces, in order.
    pub records: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {got} bytes, {max} are allowed")]
    TooLong { got: u64, max: u64 },
    #[error("a head of {head} bytes in a frame of {frame}")]
    HeadLength { head: u64, frame: u64 },
    #[error("not the head of a frame: {0}")]
    Head(String),
    #[error("a frame of a kind that this version does not know")]
    UnknownKind,
}

impl Frame {
    pub fn new(kind: Kind, records: Vec<Bytes>) -> Frame {
        Frame { head: proto::PeerFrame { kind: Some(kind) }.encode_to_vec().into(), records }
    }

    pub fn raft(message: Bytes) -> Frame {
        Frame::new(Kind::Raft(proto::Raft {}), vec![message])
    }

    /// `relayed`: sent on for another node, and to be sent on no further.
    pub fn controller_request(id: u64, relayed: bool, request: Bytes) -> Frame {
        Frame::new(Kind::ControllerRequest(proto::ControllerRequest { id, relayed }), vec![request])
    }

    pub fn controller_answer(id: u64, answer: Bytes) -> Frame {
        Frame::new(Kind::ControllerAnswer(proto::ControllerAnswer { id }), vec![answer])
    }

    pub fn alive() -> Frame {
        Frame::new(Kind::Alive(proto::Alive {}), Vec::new())
    }

    pub fn replica(frame: proto::ReplicaFrame, records: Vec<Bytes>) -> Frame {
        Frame::new(Kind::Replica(frame), records)
    }

    /// All that goes over the wire, the lengths included.
    pub fn wire_bytes(&self) -> usize {
        PREFIX_BYTES + self.head.len() + self.records.iter().map(Bytes::len).sum::<usize>()
    }

    /// The two lengths that go before the head.
    ///
    /// # Errors
    /// When this frame is longer than the other side would take.
    pub fn prefix(&self) -> Result<[u8; PREFIX_BYTES], FrameError> {
        let frame = u64::try_from(self.wire_bytes() - 4).unwrap_or(u64::MAX);
        let head = u64::try_from(self.head.len()).unwrap_or(u64::MAX);
        let checked = Prefix::check(frame, head, FRAME_BYTES_MAX)?;
        let mut bytes = [0; PREFIX_BYTES];
        bytes[..4].copy_from_slice(&checked.frame.to_be_bytes());
        bytes[4..].copy_from_slice(&checked.head.to_be_bytes());
        Ok(bytes)
    }
}

/// The lengths of a frame that arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// What follows the first length.
    frame: u32,
    head: u32,
}

impl Prefix {
    /// `max`: `FRAME_BYTES_MAX`, or `HELLO_BYTES_MAX` during the handshake.
    pub fn read(bytes: [u8; PREFIX_BYTES], max: u64) -> Result<Prefix, FrameError> {
        let all = u64::from_be_bytes(bytes);
        Prefix::check(all >> 32, all & u64::from(u32::MAX), max)
    }

    fn check(frame: u64, head: u64, max: u64) -> Result<Prefix, FrameError> {
        if frame > max {
            return Err(FrameError::TooLong { got: frame, max });
        }
        if head > HEAD_BYTES_MAX || head + 4 > frame {
            return Err(FrameError::HeadLength { head, frame });
        }
        let narrow = |length: u64| u32::try_from(length).expect("it is below the limit of a frame");
        Ok(Prefix { frame: narrow(frame), head: narrow(head) })
    }

    /// Head and body together: what is still to be read.
    pub fn rest_bytes(self) -> usize {
        usize::try_from(self.frame - 4).expect("a usize has at least 32 bits")
    }

    pub fn head_bytes(self) -> usize {
        usize::try_from(self.head).expect("a usize has at least 32 bits")
    }
}

/// Head and body of what was read behind a prefix.
///
/// # Panics
/// When `rest` is not `prefix.rest_bytes()` long.
pub fn split(prefix: Prefix, mut rest: Bytes) -> (Bytes, Bytes) {
    assert!(rest.len() == prefix.rest_bytes(), "a frame is split when it is complete");
    let head = rest.split_to(prefix.head_bytes());
    (head, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(frame: u32, head: u32) -> [u8; PREFIX_BYTES] {
        let mut bytes = [0; PREFIX_BYTES];
        bytes[..4].copy_from_slice(&frame.to_be_bytes());
        bytes[4..].copy_from_slice(&head.to_be_bytes());
        bytes
    }

    #[test]
    fn what_is_sent_is_what_arrives() {
        let frame = Frame::controller_request(7, false, Bytes::from_static(b"body"));
        let read = Prefix::read(frame.prefix().expect("short"), FRAME_BYTES_MAX).expect("valid");
        let rest = Bytes::from([&frame.head[..], b"body"].concat());
        assert_eq!(read.rest_bytes(), rest.len());
        let (head, body) = split(read, rest);
        assert_eq!((head, body), (frame.head, Bytes::from_static(b"body")));
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for (frame, head) in
            [(u32::MAX, 4), (200 << 20, 4), (3, 0), (0, 0), (10, 7), (10, u32::MAX), (100 << 20, 5 << 20)]
        {
            assert!(Prefix::read(prefix(frame, head), FRAME_BYTES_MAX).is_err(), "{frame} {head}");
        }
        assert!(Prefix::read(prefix(65 << 10, 4), HELLO_BYTES_MAX).is_err());
        assert!(Prefix::read(prefix(4, 0), FRAME_BYTES_MAX).is_ok());
    }

    #[test]
    fn a_head_of_an_unknown_kind_or_of_noise_is_an_error() {
        use super::super::wire::decode;
        assert_eq!(decode(Bytes::new()), Err(FrameError::UnknownKind));
        // Field 99 of a newer version.
        assert_eq!(decode(Bytes::from_static(&[0x9a, 0x06, 0x00])), Err(FrameError::UnknownKind));
        assert!(matches!(decode(Bytes::from_static(&[0xff; 9])), Err(FrameError::Head(_))));
    }
}

//! The generated shapes of `proto/`, and the one way from a frame's head to its kind.
//!
//! Invariant: a head that cannot be read, or is of a kind that this version does not know, is an error, never a panic.

use bytes::Bytes;
use prost::Message;

use super::frame::FrameError;

/// The generated shapes of `proto/peer.proto` and `proto/replica.proto`.
pub mod proto {
    #![allow(missing_docs, clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/weir.peer.v1.rs"));
}

pub(super) fn decode(head: Bytes) -> Result<proto::peer_frame::Kind, FrameError> {
    let frame = proto::PeerFrame::decode(head).map_err(|error| FrameError::Head(error.to_string()))?;
    frame.kind.ok_or(FrameError::UnknownKind)
}

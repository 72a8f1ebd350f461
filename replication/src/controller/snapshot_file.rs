//! The frame around a snapshot of the metadata, so that damage to its file is noticed.
//!
//! Owns the layout of the frame. Does not own where the file lies.
//!
//! ```text
//! 0 magic "WEIRMETA"   8 format u32   12 crc32c u32 of the content   16 content (`SnapshotFile` of proto/metadata.proto)
//! ```
//! Numbers are big-endian.

use bytes::{BufMut, Bytes, BytesMut};
use model::batch::crc32c;
use prost::Message;

use super::raft_node::RaftError;
use crate::metadata::record::proto;

const MAGIC: &[u8; 8] = b"WEIRMETA";
pub(super) const FORMAT: u32 = 1;
const HEAD_BYTES: usize = 16;

pub(super) fn encode(file: &proto::SnapshotFile) -> Bytes {
    let mut framed = BytesMut::with_capacity(HEAD_BYTES + file.encoded_len());
    let content = file.encode_to_vec();
    framed.extend_from_slice(MAGIC);
    framed.put_u32(FORMAT);
    framed.put_u32(crc32c(&content));
    framed.extend_from_slice(&content);
    framed.freeze()
}

pub(super) fn decode(file: Bytes) -> Result<proto::SnapshotFile, RaftError> {
    let damaged = |why: String| RaftError::Damaged { what: "snapshot", why };
    let four = |at: usize| -> Result<u32, RaftError> {
        let field = file.get(at..at + 4).and_then(|field| field.try_into().ok());
        field.map(u32::from_be_bytes).ok_or_else(|| damaged(format!("it has {} bytes", file.len())))
    };
    if file.get(..8) != Some(MAGIC) {
        return Err(damaged("it does not begin as one".to_owned()));
    }
    let format = four(8)?;
    if format != FORMAT {
        return Err(RaftError::TooNew { what: "snapshot", got: format });
    }
    let crc = four(12)?;
    let content = file.slice(HEAD_BYTES..);
    if crc32c(&content) != crc {
        return Err(damaged(format!("its CRC is {:08x}, the file says {crc:08x}", crc32c(&content))));
    }
    proto::SnapshotFile::decode(content).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> proto::SnapshotFile {
        proto::SnapshotFile {
            index: 7,
            term: 3,
            voters: vec![1],
            image: Bytes::from_static(b"image"),
            ..Default::default()
        }
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_noticed() {
        let file = encode(&sample());
        assert_eq!(decode(file.clone()), Ok(sample()));
        for at in 0..file.len() {
            assert!(decode(file.slice(..at)).is_err(), "cut at {at}");
            let mut flipped = file.to_vec();
            flipped[at] ^= 0x40;
            assert!(decode(flipped.into()).is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn a_snapshot_that_the_first_version_wrote_is_read() {
        let stored = Bytes::from_static(include_bytes!("../../tests/fixtures/snapshot-file-1.bin"));
        assert_eq!(decode(stored), Ok(sample()));
    }
}

//! Stores a batch with the codec that its topic asks for (`compression.type`).
//!
//! Owns the new batch. Does not own the codecs. Invariant: the records are the same, byte for byte, once decompressed.

use bytes::{BufMut, Bytes, BytesMut};
use model::batch::{Batch, BatchError, BatchHeader, Codec, HEADER_BYTES, crc32c};
use storage::codec::{CodecError, DecompressLimits, compress_at, decompress};

/// Where the bytes begin that the CRC covers.
const CRC_COVERS_FROM: usize = 21;
/// Bytes that the length field of a batch does not count.
const LENGTH_COUNTS_FROM: usize = 12;

#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum RecompressError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// The same records under another codec.
pub fn recompress(
    batch: &Batch,
    to: Codec,
    level: Option<i32>,
    limits: DecompressLimits,
) -> Result<Batch, RecompressError> {
    let from = batch.header().attributes.codec()?;
    let records = batch.records();
    let plain = if from == Codec::None { records } else { Bytes::from(decompress(from, &records, limits)?) };
    let body = if to == Codec::None { plain } else { Bytes::from(compress_at(to, level, &plain)) };
    let size = HEADER_BYTES + body.len();
    let length = size - LENGTH_COUNTS_FROM;
    let too_long = |_| BatchError::Length { header_says: batch.size(), bytes: size };
    let mut header = BatchHeader {
        attributes: batch.header().attributes.with_codec(to),
        batch_length: i32::try_from(length).map_err(too_long)?,
        ..*batch.header()
    };
    let mut bytes = BytesMut::with_capacity(size);
    bytes.put_slice(&header.to_bytes());
    bytes.put_slice(&body);
    header.crc = crc32c(bytes.get(CRC_COVERS_FROM..).unwrap_or_default());
    if let Some(head) = bytes.get_mut(..HEADER_BYTES) {
        head.copy_from_slice(&header.to_bytes());
    }
    Ok(Batch::check(bytes.freeze())?)
}

#[cfg(test)]
mod tests {
    use model::batch::BatchBuilder;

    use super::*;

    #[test]
    fn records_survive_every_change_of_codec() {
        let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
        let value = "x".repeat(1000);
        let plain = BatchBuilder::new()
            .producer(7, 1, 5)
            .record(5, Some(b"k"), Some(value.as_bytes()), &[])
            .record(9, None, None, &[])
            .finish();
        for from in codecs {
            let stored = recompress(&plain, from, None, DecompressLimits::DEFAULT).expect("compresses");
            for to in codecs {
                let changed = recompress(&stored, to, Some(1), DecompressLimits::DEFAULT).expect("compresses");
                assert_eq!(changed.header().attributes.codec(), Ok(to));
                assert_eq!(changed.header().producer_id, 7);
                let back = recompress(&changed, Codec::None, None, DecompressLimits::DEFAULT).expect("decompresses");
                assert_eq!(back, plain, "{from:?} to {to:?}");
            }
        }
    }
}

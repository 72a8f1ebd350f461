//! Compression: for our own clients, compaction and tests.
//!
//! Owns the framing that Kafka's Java client writes per codec. Does not own which level: topics say so.
//! Invariant: every Kafka client reads what is written here.

use super::snappy::XERIAL_MAGIC;
use flate2::Compression;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use model::batch::Codec;
use std::io::Write;

/// Bytes of a snappy block, as snappy-java cuts them.
const SNAPPY_BLOCK_BYTES: usize = 32 * 1024;
const ZSTD_LEVEL: i32 = 3;
const MEMORY: &str = "a vector takes every byte";

/// Compresses records for a batch with this codec, at its default level.
///
/// # Panics
/// If `input` has 4 GiB or more: no batch can.
pub fn compress(codec: Codec, input: &[u8]) -> Vec<u8> {
    compress_at(codec, None, input)
}

/// Compresses records for a batch. `level`: of gzip (0 to 9; others mean its default) and zstd; the other codecs have one only.
///
/// # Panics
/// If `input` has 4 GiB or more: no batch can.
pub fn compress_at(codec: Codec, level: Option<i32>, input: &[u8]) -> Vec<u8> {
    assert!(u32::try_from(input.len()).is_ok());
    match codec {
        Codec::None => input.to_vec(),
        Codec::Gzip => {
            let level = level.and_then(|level| u32::try_from(level).ok()).filter(|level| *level <= 9);
            let level = level.map_or_else(Compression::default, Compression::new);
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(input).expect(MEMORY);
            encoder.finish().expect(MEMORY)
        }
        Codec::Snappy => snappy(input),
        Codec::Lz4 => {
            let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(input).expect(MEMORY);
            encoder.finish().expect(MEMORY)
        }
        Codec::Zstd => zstd::stream::encode_all(input, level.unwrap_or(ZSTD_LEVEL)).expect(MEMORY),
    }
}

fn snappy(input: &[u8]) -> Vec<u8> {
    let mut output = XERIAL_MAGIC.to_vec();
    output.extend_from_slice(&1_i32.to_be_bytes()); // version
    output.extend_from_slice(&1_i32.to_be_bytes()); // oldest version that reads this
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(SNAPPY_BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block).expect("a block of 32 KiB is in range");
        let length = i32::try_from(compressed.len()).expect("a block of 32 KiB hardly grows");
        output.extend_from_slice(&length.to_be_bytes());
        output.extend_from_slice(&compressed);
    }
    output
}

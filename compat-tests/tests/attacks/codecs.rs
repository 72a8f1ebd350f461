//! Compressed payloads: good ones of every codec, and bombs.
//!
//! Owns the forms that Kafka's clients give each codec (snappy in the frames of xerial, lz4 in frames, whole streams
//! of gzip and zstd). Does not own the batch around them.

use std::io::Write;

use anyhow::{Result, bail};
use compat_tests::raw::Writer;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::batch::{GZIP, LZ4, NONE, Record, SNAPPY, ZSTD, sized};

pub const ALL: [(&str, i16); 5] = [("none", NONE), ("gzip", GZIP), ("snappy", SNAPPY), ("lz4", LZ4), ("zstd", ZSTD)];

/// What stands before the blocks of a snappy stream as Java writes it: magic, version, lowest compatible version.
pub const XERIAL: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// Most bytes of a zstd block.
const ZSTD_BLOCK: u32 = 128 * 1024;
/// The window of 128 KiB in a zstd frame header: exponent 7 over 2^10.
const ZSTD_WINDOW_128_KIB: u8 = 7 << 3;

/// Compresses as a client does.
pub fn compress(codec: i16, plain: &[u8]) -> Result<Vec<u8>> {
    Ok(match codec {
        NONE => plain.to_vec(),
        GZIP => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(plain)?;
            encoder.finish()?
        }
        SNAPPY => {
            let mut out = XERIAL.to_vec();
            for block in plain.chunks(32 * 1024) {
                out = Writer::new().raw(&out).bytes(&snap::raw::Encoder::new().compress_vec(block)?).done();
            }
            out
        }
        LZ4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(plain)?;
            encoder.finish()?
        }
        ZSTD => zstd::encode_all(plain, 3)?,
        other => bail!("no codec {other}"),
    })
}

/// The payload of `count` good records of `bytes` zeros each.
pub fn zero_records(count: i32, bytes: usize) -> Vec<u8> {
    let mut record = Record { key: None, value: Some(vec![0; bytes]), ..Record::default() };
    let places = 0..i64::from(count);
    let mut out = Vec::new();
    for place in places {
        record.offset_delta = Some(place);
        out.extend_from_slice(&sized(&record.body(place)));
    }
    out
}

/// The head of one record that says its value has `bytes`, which follow.
pub fn record_head(bytes: i64) -> Vec<u8> {
    let head = Writer::new().i8(0).zigzag(0).zigzag(0).zigzag(-1).zigzag(bytes).done();
    let length = i64::try_from(head.len()).expect("small") + bytes + 1;
    Writer::new().zigzag(length).raw(&head).done()
}

/// A gzip stream of `head` and so many MiB of zeros: a thousandth of it in size.
pub fn gzip_bomb(head: &[u8], mebibytes: usize) -> Result<Vec<u8>> {
    let zeros = vec![0; 1 << 20];
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(head)?;
    for _ in 0..mebibytes {
        encoder.write_all(&zeros)?;
    }
    Ok(encoder.finish()?)
}

/// A zstd frame of `head` and so many MiB of zeros: four bytes for each 128 KiB.
pub fn zstd_bomb(head: &[u8], mebibytes: u32, window: u8) -> Vec<u8> {
    let blocks = mebibytes * ((1 << 20) / ZSTD_BLOCK);
    let raw_block = zstd_block(0, false, u32::try_from(head.len()).expect("small"));
    let start = Writer::new().raw(&[0x28, 0xb5, 0x2f, 0xfd, 0, window]).raw(&raw_block).raw(head);
    let repeated =
        (1..=blocks).fold(start, |out, block| out.raw(&zstd_block(1, block == blocks, ZSTD_BLOCK)).raw(&[0]));
    repeated.done()
}

/// The head of a zstd block: 24 bits, least first: last, kind (0 as it is, 1 repeated byte), size.
fn zstd_block(kind: u32, is_last: bool, size: u32) -> [u8; 3] {
    let [first, second, third, _] = (u32::from(is_last) | (kind << 1) | (size << 3)).to_le_bytes();
    [first, second, third]
}

/// 10 GiB out of 320 KiB.
pub fn zstd_ten_gibibytes() -> Vec<u8> {
    zstd_bomb(&record_head(i64::from(i32::MAX) - 16), 10 * 1024, ZSTD_WINDOW_128_KIB)
}

/// A frame that wants a window of 2^31 bytes.
pub fn zstd_window() -> Vec<u8> {
    zstd_bomb(&record_head(1 << 20), 1, 21 << 3)
}

/// A snappy block that says it gives 4 GiB.
pub fn snappy_claim(in_frame: bool) -> Vec<u8> {
    let block = Writer::new().varint(u64::from(u32::MAX)).raw(&[0, 0, 0, 0]).done();
    if in_frame { Writer::new().raw(&XERIAL).bytes(&block).done() } else { block }
}

/// A good lz4 frame whose first block says it has other than its bytes.
pub fn lz4_block_lie(plain: &[u8], lie: u32) -> Result<Vec<u8>> {
    let mut good = compress(LZ4, plain)?;
    // behind magic, flags, block size and the header's checksum; there is no content size
    good.splice(7..11, lie.to_le_bytes());
    Ok(good)
}

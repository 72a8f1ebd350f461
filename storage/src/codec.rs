//! Bounded compression codecs of record batches: gzip, snappy, lz4, zstd.
//!
//! Owns the decoders and their limits. Does not own records: `record` reads what comes out here.
//! Invariant: a decoder gives at most `output_bytes_max` bytes and then an error, so time is bounded too.
//! Invariant: memory is a working buffer whose size the limits set; a claimed size alone allocates nothing.

mod encode;
mod snappy;

use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;
use model::ErrorCode;
use model::batch::Codec;
use model::limits::BATCH_BYTES_MAX;
use std::io::{ErrorKind, Read};

pub use encode::{compress, compress_at};
use snappy::SnappyDecoder;

/// First bytes of an lz4 frame. The decoder would also take the legacy format, whose blocks are 8 MiB; Kafka does not.
const LZ4_MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();

/// What one batch may cost to decompress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecompressLimits {
    /// Bytes that may come out of one batch.
    pub output_bytes_max: u64,
    /// Bytes of the largest block that is decoded as one (snappy; lz4's blocks are at most 4 MiB by format).
    pub block_bytes_max: usize,
    /// Binary logarithm of the zstd window. Java's level 22 asks for 27 whatever the size of a batch; of such a window
    /// only what output reaches becomes resident, so the output limit bounds it too.
    pub zstd_window_log_max: u32,
}

impl DecompressLimits {
    /// The most for any batch: no more comes out of a compressed one than may be sent as it is. A topic with a small
    /// `max.message.bytes` should be given less.
    pub const DEFAULT: DecompressLimits =
        DecompressLimits { output_bytes_max: BATCH_BYTES_MAX, block_bytes_max: 24 << 20, zstd_window_log_max: 27 };
}

impl Default for DecompressLimits {
    fn default() -> DecompressLimits {
        DecompressLimits::DEFAULT
    }
}

/// Why compressed bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("a batch compressed with {} gives more than {limit} bytes", .codec.name())]
    OutputTooLarge { codec: Codec, limit: u64 },
    #[error("a {} block says that it gives {claimed} bytes, at most {limit} are possible here", .codec.name())]
    BlockTooLarge { codec: Codec, claimed: u64, limit: u64 },
    #[error("bytes compressed with {} are damaged", .codec.name())]
    Corrupt { codec: Codec },
    #[error("bytes compressed with {} end too early", .codec.name())]
    Truncated { codec: Codec },
}

impl CodecError {
    pub fn code(&self) -> ErrorCode {
        match self {
            CodecError::OutputTooLarge { .. } => ErrorCode::MessageTooLarge,
            CodecError::BlockTooLarge { .. } | CodecError::Corrupt { .. } | CodecError::Truncated { .. } => {
                ErrorCode::CorruptMessage
            }
        }
    }
}

/// A stream of decompressed bytes.
pub struct Decoder<'a> {
    codec: Codec,
    inner: Inner<'a>,
    limits: DecompressLimits,
    output_bytes: u64,
}

enum Inner<'a> {
    None(&'a [u8]),
    Gzip(Box<MultiGzDecoder<&'a [u8]>>),
    Snappy(SnappyDecoder<'a>),
    Lz4(Box<FrameDecoder<&'a [u8]>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, &'a [u8]>>),
    Ended,
}

impl<'a> Decoder<'a> {
    /// Fails only where the first bytes already show that they are not of this codec.
    pub fn new(codec: Codec, input: &'a [u8], limits: DecompressLimits) -> Result<Decoder<'a>, CodecError> {
        let inner = match codec {
            Codec::None => Inner::None(input),
            Codec::Gzip => Inner::Gzip(Box::new(MultiGzDecoder::new(input))),
            Codec::Snappy => Inner::Snappy(SnappyDecoder::new(input, limits.block_bytes_max)),
            Codec::Lz4 if input.starts_with(&LZ4_MAGIC) => Inner::Lz4(Box::new(FrameDecoder::new(input))),
            Codec::Lz4 => return Err(CodecError::Corrupt { codec }),
            Codec::Zstd => Inner::Zstd(Box::new(zstd_decoder(input, limits)?)),
        };
        Ok(Decoder { codec, inner, limits, output_bytes: 0 })
    }

    /// Fills the front of `out` and says how much; 0 is the end, unless `out` is empty.
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, CodecError> {
        let codec = self.codec;
        let result = match &mut self.inner {
            Inner::None(input) => input.read(out),
            Inner::Gzip(decoder) => decoder.read(out),
            Inner::Snappy(decoder) => return decoder.read(out).and_then(|count| self.count(count, out.len())),
            Inner::Lz4(decoder) => decoder.read(out),
            Inner::Zstd(decoder) => decoder.read(out),
            Inner::Ended => Ok(0),
        };
        match result {
            Ok(count) => self.count(count, out.len()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(CodecError::Truncated { codec }),
            Err(_) => Err(CodecError::Corrupt { codec }),
        }
    }

    fn count(&mut self, count: usize, wanted: usize) -> Result<usize, CodecError> {
        if count == 0 && wanted > 0 {
            // The lz4 decoder would begin another frame; Kafka's ends with the first.
            self.inner = Inner::Ended;
        }
        self.output_bytes = self.output_bytes.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        let limit = self.limits.output_bytes_max;
        if self.output_bytes > limit {
            return Err(CodecError::OutputTooLarge { codec: self.codec, limit });
        }
        Ok(count)
    }

    /// Bytes that came out so far.
    pub fn output_bytes(&self) -> u64 {
        self.output_bytes
    }
}

fn zstd_decoder(
    input: &[u8],
    limits: DecompressLimits,
) -> Result<zstd::stream::read::Decoder<'static, &[u8]>, CodecError> {
    let corrupt = |_| CodecError::Corrupt { codec: Codec::Zstd };
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(corrupt)?;
    decoder.window_log_max(limits.zstd_window_log_max).map_err(corrupt)?;
    Ok(decoder)
}

/// Decompresses everything into one vector, which grows with what really comes out.
pub fn decompress(codec: Codec, input: &[u8], limits: DecompressLimits) -> Result<Vec<u8>, CodecError> {
    let mut decoder = Decoder::new(codec, input, limits)?;
    let mut output = Vec::new();
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let count = decoder.read(&mut chunk)?;
        if count == 0 {
            return Ok(output);
        }
        output.extend_from_slice(chunk.get(..count).expect("a reader gives no more than it was asked for"));
    }
}

#[cfg(test)]
mod tests;

//! Snappy as Kafka's clients write it.
//!
//! Owns both forms: the framing of xerial's snappy-java (Java clients) and one bare block (librdkafka and others).
//! Invariant: the buffer grows only to a size that the format can give from so much input, and never over the limit.
//!
//! ```text
//! xerial: 82 "SNAPPY" 00 · version i32 · compatible version i32 · { length i32 · block }…   (big-endian)
//! ```
//! Streams may be joined: another header can stand where a length is expected.

use super::CodecError;
use model::batch::Codec;

pub(super) const XERIAL_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;

/// The best that the format can do: 3 bytes copy 64.
const RATIO_MAX: u64 = 22;

pub(super) struct SnappyDecoder<'a> {
    rest: &'a [u8],
    form: Form,
    block: Vec<u8>,
    /// Bytes of `block` already given out.
    given: usize,
    block_bytes_max: usize,
    decoder: snap::raw::Decoder,
}

#[derive(PartialEq, Eq)]
enum Form {
    Xerial,
    Bare,
}

impl<'a> SnappyDecoder<'a> {
    pub(super) fn new(input: &'a [u8], block_bytes_max: usize) -> SnappyDecoder<'a> {
        let form = if input.starts_with(&XERIAL_MAGIC) { Form::Xerial } else { Form::Bare };
        SnappyDecoder {
            rest: input,
            form,
            block: Vec::new(),
            given: 0,
            block_bytes_max,
            decoder: snap::raw::Decoder::new(),
        }
    }

    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, CodecError> {
        loop {
            let ready = self.block.get(self.given..).unwrap_or_default();
            if !ready.is_empty() {
                let count = ready.len().min(out.len());
                let (to, _) = out.split_at_mut(count);
                let (from, _) = ready.split_at(count);
                to.copy_from_slice(from);
                self.given += count;
                return Ok(count);
            }
            let Some(block) = self.next_block()? else { return Ok(0) };
            self.decode(block)?;
        }
    }

    fn next_block(&mut self) -> Result<Option<&'a [u8]>, CodecError> {
        let truncated = CodecError::Truncated { codec: Codec::Snappy };
        if self.form == Form::Bare {
            return Ok(Some(std::mem::take(&mut self.rest)).filter(|block| !block.is_empty()));
        }
        while self.rest.starts_with(&XERIAL_MAGIC) {
            self.rest = self.rest.get(XERIAL_HEADER_BYTES..).ok_or(truncated)?;
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (length, rest) = self.rest.split_first_chunk::<4>().ok_or(truncated)?;
        let length =
            usize::try_from(i32::from_be_bytes(*length)).map_err(|_| CodecError::Corrupt { codec: Codec::Snappy })?;
        let (block, rest) = rest.split_at_checked(length).ok_or(truncated)?;
        self.rest = rest;
        Ok(Some(block))
    }

    fn decode(&mut self, block: &[u8]) -> Result<(), CodecError> {
        let corrupt = |_| CodecError::Corrupt { codec: Codec::Snappy };
        let claimed = snap::raw::decompress_len(block).map_err(corrupt)?;
        let possible = u64::try_from(block.len()).unwrap_or(u64::MAX).saturating_mul(RATIO_MAX);
        let limit = possible.min(u64::try_from(self.block_bytes_max).unwrap_or(u64::MAX));
        match u64::try_from(claimed) {
            Ok(claimed) if claimed <= limit => (),
            _ => {
                let claimed = u64::try_from(claimed).unwrap_or(u64::MAX);
                return Err(CodecError::BlockTooLarge { codec: Codec::Snappy, claimed, limit });
            }
        }
        self.given = 0;
        self.block.resize(claimed, 0);
        let count = self.decoder.decompress(block, &mut self.block).map_err(corrupt)?;
        self.block.truncate(count);
        Ok(())
    }
}

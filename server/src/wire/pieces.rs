//! Responses as a list of pieces: what was encoded, and between it record batches that were never copied.
//!
//! `kafka-protocol` writes records into its buffer with `put_slice`. The buffer here recognises slices that stand for
//! registered records and notes a splice instead of copying them. The slices come from one shared range of address
//! space that is never read or written, so they cost no memory; the n-th registration of a response begins n bytes
//! into the range, so the address alone says which it is.
//! Owns registering, splicing and the frame's length prefix. Does not own sockets: the connection writes the pieces.
//! Invariant: the pieces of a frame, put together, are exactly what the crate would have written.

use std::ops::Range;
use std::sync::OnceLock;

use bytes::buf::UninitSlice;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::buf::ByteBufMut;
use memmap2::MmapOptions;

/// Address space that placeholders are cut from. No memory stands behind it.
const PLACEHOLDER_BYTES: usize = 1 << 31;
/// Below this, copying costs less than one more entry in a vectored write.
const SPLICE_BYTES_MIN: usize = 512;
/// Room for the answers that carry no records.
const HEAD_BYTES: usize = 256;
/// The length prefix of a frame.
const PREFIX_BYTES: usize = 4;

const _: () = {
    // The records of one partition carry a length of 31 bits; no placeholder need be longer.
    assert!(PLACEHOLDER_BYTES > i32::MAX as usize);
};

/// The records of one response, registered before it is encoded.
#[derive(Debug, Default)]
pub struct Splices {
    lists: Vec<Splice>,
}

#[derive(Debug)]
struct Splice {
    pieces: Vec<Bytes>,
    bytes: usize,
}

/// A response or request with its length prefix, ready for a vectored write.
#[derive(Clone, Debug)]
pub struct Frame {
    pieces: Vec<Bytes>,
    bytes: usize,
}

impl Splices {
    pub fn new() -> Splices {
        Splices::default()
    }

    /// Registers record bytes that logically follow each other, and gives the `Bytes` to put into the response in
    /// their place. It has their total length, and its content must not be looked at. It means these records only in
    /// the response that is encoded with this `Splices`.
    pub fn register(&mut self, pieces: Vec<Bytes>) -> Bytes {
        let bytes = pieces.iter().map(Bytes::len).sum();
        let start = self.lists.len();
        let placeholder = placeholders().filter(|all| bytes > 0 && start < all.len() && bytes <= all.len() - start);
        let Some(all) = placeholder else {
            return concat(&pieces, bytes);
        };
        self.lists.push(Splice { pieces, bytes });
        all.slice(start..start + bytes)
    }

    /// The registration whose placeholder `slice` is.
    fn find(&self, slice: &[u8]) -> Option<usize> {
        let base = placeholders()?.as_ptr().addr();
        let index = slice.as_ptr().addr().checked_sub(base).filter(|index| *index < PLACEHOLDER_BYTES)?;
        // Its bytes are zeros, not records: a foreign or cut placeholder must not reach a client.
        let registered = self.lists.get(index).map(|splice| splice.bytes);
        assert!(
            registered == Some(slice.len()),
            "placeholder {index} of {} bytes is not of this response",
            slice.len()
        );
        Some(index)
    }
}

/// The shared range, or none where the system gives no address space; then records are copied.
fn placeholders() -> Option<&'static Bytes> {
    static RANGE: OnceLock<Option<Bytes>> = OnceLock::new();
    let make = || {
        let range = MmapOptions::new().len(PLACEHOLDER_BYTES).no_reserve_swap().map_anon().ok()?;
        Some(Bytes::from_owner(range.make_read_only().ok()?))
    };
    RANGE.get_or_init(make).as_ref()
}

fn concat(pieces: &[Bytes], bytes: usize) -> Bytes {
    if let [only] = pieces {
        return only.clone();
    }
    let mut all = BytesMut::with_capacity(bytes);
    pieces.iter().for_each(|piece| all.extend_from_slice(piece));
    all.freeze()
}

/// The buffer that a response is encoded into. Begins with room for the length prefix.
pub(crate) struct PieceBuf {
    head: BytesMut,
    splices: Splices,
    /// Where in `head` which registration belongs, in the order of writing.
    places: Vec<(usize, usize)>,
}

impl PieceBuf {
    pub(crate) fn new(splices: Splices) -> PieceBuf {
        let mut head = BytesMut::with_capacity(HEAD_BYTES + 64 * splices.lists.len());
        head.put_i32(0);
        PieceBuf { head, places: Vec::with_capacity(splices.lists.len()), splices }
    }

    /// Writes the length prefix and gives the pieces; none when the frame is longer than its prefix can say.
    pub(crate) fn into_frame(mut self) -> Option<Frame> {
        let spliced: usize =
            self.places.iter().filter_map(|(_, index)| Some(self.splices.lists.get(*index)?.bytes)).sum();
        let bytes = self.head.len() + spliced;
        let prefix = i32::try_from(bytes - PREFIX_BYTES).ok()?;
        self.head.get_mut(..PREFIX_BYTES)?.copy_from_slice(&prefix.to_be_bytes());
        let head = self.head.freeze();
        let mut pieces = Vec::with_capacity(1 + 3 * self.places.len());
        let mut from = 0;
        for (place, index) in self.places {
            if place > from {
                pieces.push(head.slice(from..place));
            }
            from = place;
            pieces.extend(self.splices.lists.get(index)?.pieces.iter().filter(|piece| !piece.is_empty()).cloned());
        }
        if from < head.len() {
            pieces.push(head.slice(from..));
        }
        assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>(), bytes);
        Some(Frame { pieces, bytes })
    }
}

// SAFETY: every method that hands out or fills uninitialised memory is that of `BytesMut`; `put_slice` writes either
// the slice or, instead of it, nothing, which moves no write position.
unsafe impl BufMut for PieceBuf {
    fn remaining_mut(&self) -> usize {
        self.head.remaining_mut()
    }

    unsafe fn advance_mut(&mut self, count: usize) {
        // SAFETY: the caller promises for this buffer what `BytesMut` asks for.
        unsafe { self.head.advance_mut(count) }
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        self.head.chunk_mut()
    }

    fn put_slice(&mut self, slice: &[u8]) {
        match self.splices.find(slice) {
            None => self.head.extend_from_slice(slice),
            Some(index) => {
                let Some(splice) = self.splices.lists.get(index) else { return };
                if splice.bytes < SPLICE_BYTES_MIN {
                    splice.pieces.iter().for_each(|piece| self.head.extend_from_slice(piece));
                } else {
                    self.places.push((self.head.len(), index));
                }
            }
        }
    }
}

/// `seek` and `range` are for record batches, which are not encoded through this buffer; they work on what is not spliced.
impl ByteBufMut for PieceBuf {
    fn offset(&self) -> usize {
        self.head.len()
    }

    fn seek(&mut self, offset: usize) {
        self.head.seek(offset);
    }

    fn range(&mut self, range: Range<usize>) -> &mut [u8] {
        self.head.range(range)
    }
}

impl Frame {
    /// Bytes of all pieces, the length prefix included.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The pieces in the order of writing; none is empty.
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    pub fn into_pieces(self) -> Vec<Bytes> {
        self.pieces
    }

    /// The frame as one slice, copied when it has several pieces.
    pub fn to_bytes(&self) -> Bytes {
        concat(&self.pieces, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(splices: Splices, slices: &[Bytes]) -> Frame {
        let mut buffer = PieceBuf::new(splices);
        slices.iter().for_each(|slice| buffer.put_slice(slice));
        buffer.into_frame().expect("short")
    }

    fn large(byte: u8, bytes: usize) -> Bytes {
        Bytes::from(vec![byte; bytes])
    }

    #[test]
    fn registered_records_are_spliced_without_a_copy() {
        let (head, body, other) = (large(1, 16), large(2, 4000), large(3, 1000));
        let mut splices = Splices::new();
        let first = splices.register(vec![head.clone(), body.clone()]);
        let second = splices.register(vec![other.clone()]);
        assert_eq!((first.len(), second.len()), (4016, 1000));
        let frame = encode(splices, &[Bytes::from_static(b"ab"), first, Bytes::from_static(b"c"), second]);
        let pieces = frame.pieces();
        assert_eq!(pieces.len(), 5);
        assert_eq!(pieces[2].as_ptr(), body.as_ptr());
        assert_eq!(pieces[4].as_ptr(), other.as_ptr());
        assert_eq!(frame.bytes(), 4 + 2 + 4016 + 1 + 1000);
        assert_eq!(&pieces[0][..], [0, 0, 0x13, 0x9b, b'a', b'b']);
        assert_eq!(&frame.to_bytes()[6..22], &head[..]);
    }

    #[test]
    fn records_of_equal_length_are_told_apart() {
        let mut splices = Splices::new();
        let first = splices.register(vec![large(1, 1000)]);
        let second = splices.register(vec![large(2, 1000)]);
        let frame = encode(splices, &[second, first]).to_bytes();
        assert_eq!((frame[4], frame[1004]), (2, 1));
    }

    #[test]
    fn short_records_are_copied_into_the_head() {
        let mut splices = Splices::new();
        let short = splices.register(vec![large(1, 10), large(2, 10)]);
        let empty = splices.register(Vec::new());
        assert!(empty.is_empty());
        let frame = encode(splices, &[short, empty]);
        assert_eq!(frame.pieces().len(), 1);
        assert_eq!(&frame.to_bytes()[13..15], [1, 2]);
    }
}

//! Record batches (magic 2) in which every field may lie.
//!
//! Owns the encoding; the CRC is right unless a test says otherwise, so that a lie is found by what it says.

use std::time::{SystemTime, UNIX_EPOCH};

use compat_tests::raw::Writer;

pub const NONE: i16 = 0;
pub const GZIP: i16 = 1;
pub const SNAPPY: i16 = 2;
pub const LZ4: i16 = 3;
pub const ZSTD: i16 = 4;
pub const TRANSACTIONAL: i16 = 0x10;
pub const CONTROL: i16 = 0x20;

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// One record; the offset delta is its place in the batch unless it says one.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub offset_delta: Option<i64>,
    pub timestamp_delta: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Record {
    pub fn of(key: &[u8], value: &[u8]) -> Record {
        Record { key: Some(key.to_vec()), value: Some(value.to_vec()), ..Record::default() }
    }

    /// What stands behind the length of a record.
    pub fn body(&self, place: i64) -> Vec<u8> {
        let body = Writer::new().i8(0).zigzag(self.timestamp_delta).zigzag(self.offset_delta.unwrap_or(place));
        let body = put_nullable(put_nullable(body, self.key.as_deref()), self.value.as_deref());
        let body = body.zigzag(i64::try_from(self.headers.len()).unwrap_or(i64::MAX));
        let body = self
            .headers
            .iter()
            .fold(body, |body, (name, value)| put_nullable(put_nullable(body, Some(name)), Some(value)));
        body.done()
    }
}

fn put_nullable(out: Writer, value: Option<&[u8]>) -> Writer {
    match value {
        None => out.zigzag(-1),
        Some(value) => out.zigzag(i64::try_from(value.len()).unwrap_or(i64::MAX)).raw(value),
    }
}

/// A record's bytes behind its length.
pub fn sized(body: &[u8]) -> Vec<u8> {
    Writer::new().zigzag(i64::try_from(body.len()).unwrap_or(i64::MAX)).raw(body).done()
}

/// Records one behind the other, as they stand in a batch before compression.
pub fn payload(records: &[Record]) -> Vec<u8> {
    (0i64..).zip(records).flat_map(|(place, record)| sized(&record.body(place))).collect()
}

/// The fields of a batch as they go out.
#[derive(Clone, Debug)]
pub struct Batch {
    pub base_offset: i64,
    /// Added to the true length.
    pub length_lie: i32,
    pub magic: i8,
    /// Bits that are wrong in the CRC.
    pub crc_lie: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
    pub payload: Vec<u8>,
}

impl Batch {
    /// A good batch of these records, not compressed.
    pub fn of(records: &[Record]) -> Batch {
        Batch::raw(i32::try_from(records.len()).expect("few"), NONE, payload(records))
    }

    /// A batch that says it has `count` records, with any bytes in their place.
    pub fn raw(count: i32, attributes: i16, payload: Vec<u8>) -> Batch {
        let now = now_ms();
        Batch {
            base_offset: 0,
            length_lie: 0,
            magic: 2,
            crc_lie: 0,
            attributes,
            last_offset_delta: count.wrapping_sub(1),
            base_timestamp: now,
            max_timestamp: now,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count,
            payload,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let covered = Writer::new()
            .i16(self.attributes)
            .i32(self.last_offset_delta)
            .i64(self.base_timestamp)
            .i64(self.max_timestamp)
            .i64(self.producer_id)
            .i16(self.producer_epoch)
            .i32(self.base_sequence)
            .i32(self.count)
            .raw(&self.payload)
            .done();
        let length = i32::try_from(covered.len() + 9).expect("a test's batch is small").wrapping_add(self.length_lie);
        let crc = crc32c(&covered) ^ self.crc_lie;
        let head = Writer::new().i64(self.base_offset).i32(length).i32(-1).i8(self.magic);
        head.raw(&crc.to_be_bytes()).raw(&covered).done()
    }
}

/// CRC-32C by its definition, bit by bit: an encoder of its own, so that one mistake is not on both sides.
fn crc32c(bytes: &[u8]) -> u32 {
    let rest = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 })
    });
    !rest
}

/// A message of the format before batches: magic 0 or 1.
pub fn old_message(magic: i8) -> Vec<u8> {
    let time = if magic == 1 { Writer::new().i64(now_ms()) } else { Writer::new() };
    let covered = Writer::new().i8(magic).i8(0).raw(&time.done()).i32(-1).bytes(b"old").done();
    let message = Writer::new().raw(&crc32(&covered).to_be_bytes()).raw(&covered).done();
    Writer::new().i64(0).bytes(&message).done()
}

/// CRC-32 as the formats before magic 2 have it.
fn crc32(bytes: &[u8]) -> u32 {
    let rest = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    });
    !rest
}

//! Batches that Apache Kafka 4.4's own classes wrote, one per codec, must be read for ever.

use bytes::Bytes;
use model::batch::{Batch, StoredBatch, TimestampType};
use model::{LeaderEpoch, Offset};
use storage::codec::DecompressLimits;
use storage::record::{ProduceRules, ReadLimits, RecordReader, validate_records};

fn from_hex(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hex"))
        .collect()
}

fn check(codec: &str, hex: &str) {
    let mut bytes = from_hex(hex);
    let stored = StoredBatch::parse(Bytes::from(bytes.clone())).expect("a batch of Kafka");
    assert_eq!(stored.header().attributes.codec().map(|codec| codec.name()), Ok(codec));
    assert_eq!((stored.base_offset(), stored.next_offset()), (Offset::new(42), Offset::new(45)));
    assert_eq!(stored.leader_epoch(), Some(LeaderEpoch::new(3)));

    let records = stored.records();
    let mut reader = RecordReader::new(stored.header(), &records, ReadLimits::default()).expect("a known codec");
    let first = reader.next().expect("valid").expect("three records");
    assert_eq!((first.offset, first.timestamp), (Offset::new(42), 1_700_000_000_000));
    assert_eq!((first.key, first.value), (Some(&b"key-1"[..]), Some(&b"value one value one value one"[..])));
    assert_eq!(first.headers.collect::<Vec<_>>(), [(&b"h"[..], Some(&b"x"[..])), (b"h", None)]);
    let second = reader.next().expect("valid").expect("three records");
    assert_eq!((second.timestamp, second.key, second.value), (1_700_000_000_005, None, Some(&b"value two"[..])));
    let third = reader.next().expect("valid").expect("three records");
    assert_eq!((third.offset, third.key, third.value), (Offset::new(44), Some(&b"key-3"[..]), None));
    assert_eq!(reader.next(), Ok(None));

    // A producer's batch begins at 0; the base offset is not under the CRC.
    bytes[..8].fill(0);
    let batch = Batch::check(bytes.into()).expect("a batch of Kafka");
    let rules = ProduceRules {
        batch_bytes_max: 1_048_588,
        keys_required: false,
        timestamp_type: TimestampType::CreateTime,
        now_ms: 1_700_000_000_010,
        timestamp_before_max_ms: Some(1_000),
        timestamp_after_max_ms: Some(1_000),
    };
    let summary = validate_records(&batch, DecompressLimits::DEFAULT, &rules).expect("valid");
    assert_eq!((summary.count, summary.max_timestamp, summary.max_timestamp_delta), (3, 1_700_000_000_005, 1));
    assert!(summary.has_null_key);
}

#[test]
fn batches_that_kafka_wrote_are_read() {
    check("none", include_str!("fixtures/batch_none.hex"));
    check("gzip", include_str!("fixtures/batch_gzip.hex"));
    check("snappy", include_str!("fixtures/batch_snappy.hex"));
    check("lz4", include_str!("fixtures/batch_lz4.hex"));
    check("zstd", include_str!("fixtures/batch_zstd.hex"));
}

//! Behaviour of the batch types.

use super::*;
use crate::error_code::ErrorCode;

fn three() -> BatchBuilder {
    BatchBuilder::new()
        .record(1_000, Some(b"a"), Some(b"one"), &[])
        .record(3_000, None, Some(b"two"), &[(b"h", None), (b"h", Some(b"x"))])
        .record(2_000, Some(b"c"), None, &[])
}

/// Three records whose header was changed before its CRC was computed, as a hostile client would.
fn spoiled(change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let builder = three();
    let records = builder.records().to_vec();
    builder.encode(Codec::None, &records, change)
}

fn check_refused(bytes: Bytes, want: BatchError, code: ErrorCode) {
    assert_eq!(Batch::check(bytes), Err(want));
    assert_eq!(want.code(), code, "{want}");
}

#[test]
fn crc32c_is_castagnoli() {
    // The check value of CRC-32C in every catalogue; CRC-32 (zlib) would give 0xcbf43926.
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn a_batch_of_the_builder_is_valid_and_says_what_went_in() {
    let batch = three().producer(7, 1, 5).transactional().finish();
    let header = batch.header();
    assert_eq!((header.record_count, header.last_offset_delta), (3, 2));
    assert_eq!((header.base_timestamp, header.max_timestamp), (1_000, 3_000));
    assert_eq!((header.producer_id(), header.producer_epoch, header.base_sequence), (Some(7), 1, 5));
    assert_eq!(header.last_sequence(), Some(7));
    assert!(header.attributes.is_transactional());
    assert!(!header.attributes.is_control());
    assert_eq!(header.size(), batch.size());
    assert_eq!(header.to_bytes(), batch.bytes()[..HEADER_BYTES]);
}

#[test]
fn the_last_sequence_wraps_to_zero() {
    let batch = three().producer(7, 0, i32::MAX - 1).finish();
    assert_eq!(batch.header().last_sequence(), Some(0));
}

#[test]
fn a_header_that_lies_is_refused_though_its_crc_is_right() {
    let invalid = ErrorCode::InvalidRecord;
    for count in [0, -1, i32::MIN] {
        check_refused(spoiled(|h| h.record_count = count), BatchError::Count { count }, invalid);
    }
    for (delta, count) in [(2, 4), (2, i32::MAX), (3, 3), (-1, 3), (i32::MAX, 3), (i32::MIN, 3)] {
        check_refused(
            spoiled(|h| (h.last_offset_delta, h.record_count) = (delta, count)),
            BatchError::LastOffsetDelta { last_offset_delta: delta, count },
            invalid,
        );
    }
    for base_offset in [-1, i64::MIN] {
        check_refused(
            spoiled(|h| h.base_offset = base_offset),
            BatchError::NegativeBaseOffset { base_offset },
            invalid,
        );
    }
    for base_offset in [OFFSET_MAX - 1, i64::MAX] {
        check_refused(
            spoiled(|h| h.base_offset = base_offset),
            BatchError::OffsetOverflow { base_offset, last_offset_delta: 2 },
            invalid,
        );
    }
    for codec in [5, 6, 7] {
        check_refused(
            spoiled(|h| h.attributes = Attributes::from_wire(codec)),
            BatchError::UnknownCodec { codec },
            ErrorCode::UnsupportedCompressionType,
        );
    }
}

#[test]
fn another_magic_is_refused_before_anything_else() {
    for (magic, code) in [
        (0, ErrorCode::InvalidRecord),
        (1, ErrorCode::InvalidRecord),
        (3, ErrorCode::CorruptMessage),
        (-1, ErrorCode::CorruptMessage),
    ] {
        let mut bytes = three().finish().bytes().to_vec();
        bytes[16] = i8::to_be_bytes(magic)[0];
        check_refused(bytes.into(), BatchError::Magic { magic }, code);
    }
}

#[test]
fn a_length_that_differs_from_the_buffer_is_refused() {
    let corrupt = ErrorCode::CorruptMessage;
    let good = three().finish().bytes().clone();
    let size = good.len();
    for length in [i32::MIN, -1, 0, 48, i32::MAX] {
        check_refused(spoiled(|h| h.batch_length = length), BatchError::LengthField { length }, corrupt);
    }
    for length in [49, i32::MAX - 12] {
        let header_says = usize::try_from(length).expect("positive") + 12;
        check_refused(spoiled(|h| h.batch_length = length), BatchError::Length { header_says, bytes: size }, corrupt);
    }
    let two = Bytes::from([good.as_ref(), good.as_ref()].concat());
    check_refused(two, BatchError::Length { header_says: size, bytes: 2 * size }, corrupt);
    for cut in 0..size {
        let want = if cut < HEADER_BYTES {
            BatchError::TooShort { bytes: cut }
        } else {
            BatchError::Length { header_says: size, bytes: cut }
        };
        check_refused(good.slice(..cut), want, corrupt);
    }
}

#[test]
fn every_flipped_bit_behind_the_head_is_found() {
    let good = three().finish();
    for at in HEAD_BYTES..good.size() {
        for bit in 0..8 {
            let mut bytes = good.bytes().to_vec();
            bytes[at] ^= 1 << bit;
            let error = Batch::check(bytes.into()).expect_err("a flipped bit");
            if at > 16 {
                assert!(matches!(error, BatchError::Crc { .. }), "byte {at}: {error}");
            }
        }
    }
}

#[test]
fn placing_a_batch_changes_offset_and_epoch_and_shares_the_rest() {
    let batch = three().finish();
    let frame = batch.bytes().clone();
    let stored = batch.place(Offset::new(1_000_000_000_000), LeaderEpoch::new(9));
    assert_eq!(stored.base_offset(), Offset::new(1_000_000_000_000));
    assert_eq!(stored.last_offset(), Offset::new(1_000_000_000_002));
    assert_eq!(stored.next_offset(), Offset::new(1_000_000_000_003));
    assert_eq!(stored.leader_epoch(), Some(LeaderEpoch::new(9)));
    assert_eq!((stored.count(), stored.size()), (3, frame.len()));
    assert_eq!((stored.base_timestamp(), stored.max_timestamp()), (1_000, 3_000));
    assert_eq!(stored.producer_id(), None);
    assert_eq!(stored.body().as_ptr(), frame[HEAD_BYTES..].as_ptr(), "no copy");
    assert_eq!(StoredBatch::parse(stored.to_bytes()), Ok(stored));
}

#[test]
fn append_time_rewrites_the_maximum_timestamp_and_the_crc() {
    let batch = three().finish();
    let records = batch.records();
    let stored = batch.place_at_append_time(Offset::new(4), LeaderEpoch::ZERO, 99_000);
    let back = StoredBatch::parse(stored.to_bytes()).expect("a new CRC");
    assert_eq!(back.max_timestamp(), 99_000);
    assert_eq!(back.base_timestamp(), 1_000);
    assert_eq!(back.header().attributes.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(back.records(), records);
}

#[test]
fn a_maximum_timestamp_that_is_right_costs_no_copy() {
    let batch = three().finish();
    let before = batch.bytes().as_ptr();
    assert_eq!(batch.with_max_timestamp(TimestampType::CreateTime, 3_000).bytes().as_ptr(), before);
}

#[test]
fn a_compacted_batch_may_have_gaps_on_disk_but_not_from_a_producer() {
    let bytes = spoiled(|h| h.last_offset_delta = 10);
    assert!(Batch::check(bytes.clone()).is_err());
    let stored = StoredBatch::parse(bytes).expect("offsets 0 to 10 with three records left");
    assert_eq!((stored.count(), stored.next_offset()), (3, Offset::new(11)));
    let empty = BatchBuilder::new().encode(Codec::None, &[], |h| h.last_offset_delta = 4);
    assert_eq!(StoredBatch::parse(empty).expect("all records compacted away").count(), 0);
    let more = spoiled(|h| h.record_count = 4);
    assert_eq!(StoredBatch::parse(more), Err(BatchError::Count { count: 4 }));
}

#[test]
fn a_buffer_is_split_into_its_batches_without_copies() {
    let one = three().finish().bytes().clone();
    let other = BatchBuilder::new().record(5, None, None, &[]).finish().bytes().clone();
    let buffer = Bytes::from([one.as_ref(), other.as_ref()].concat());
    let split: Vec<Batch> = split_batches(buffer.clone()).collect::<Result<_, _>>().expect("two good batches");
    assert_eq!(split.iter().map(|batch| batch.bytes().clone()).collect::<Vec<_>>(), [one.clone(), other.clone()]);
    assert_eq!(split[1].bytes().as_ptr(), buffer[one.len()..].as_ptr(), "no copy");
    assert_eq!(split_stored(buffer.clone()).filter_map(Result::ok).count(), 2);
    assert_eq!(split_batches(Bytes::new()).count(), 0);

    let torn = buffer.slice(..buffer.len() - 1);
    let results: Vec<_> = split_batches(torn).collect();
    let want = BatchError::Length { header_says: other.len(), bytes: other.len() - 1 };
    assert_eq!(results.len(), 2);
    assert!(results[0].is_ok());
    assert_eq!(results[1], Err(want));
}

#[test]
fn peek_needs_a_whole_header_and_no_more() {
    let bytes = three().finish().bytes().clone();
    assert_eq!(peek(&bytes[..HEADER_BYTES - 1]), Ok(None));
    let header = peek(&bytes[..HEADER_BYTES]).expect("valid").expect("whole");
    assert_eq!(header.size(), bytes.len());
}

#[test]
fn the_first_released_format_is_still_read() {
    // Written by Apache Kafka 4.4's own MemoryRecords: see `storage/tests/fixtures.rs` for the other codecs.
    let hex = include_str!("../../tests/fixtures/batch_none.hex");
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hex"))
        .collect();
    let stored = StoredBatch::parse(bytes.into()).expect("a batch of Kafka");
    assert_eq!((stored.base_offset(), stored.leader_epoch()), (Offset::new(42), Some(LeaderEpoch::new(3))));
    assert_eq!((stored.count(), stored.producer_id()), (3, Some(ProducerId(77))));
    assert_eq!((stored.producer_epoch(), stored.base_sequence()), (ProducerEpoch(2), 10));
    assert_eq!((stored.base_timestamp(), stored.max_timestamp()), (1_700_000_000_000, 1_700_000_000_005));
}

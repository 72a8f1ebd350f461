//! Behaviour of records: what is written is read, and every rule of a produce has a batch that breaks it.

use super::*;
use crate::codec::compress;
use bytes::{Bytes, BytesMut};
use model::batch::{Attributes, Batch, BatchBuilder, BatchHeader, StoredBatch, put_varint, put_varlong};
use model::{LeaderEpoch, Offset};

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
const NOW: i64 = 1_700_000_000_000;

fn rules() -> ProduceRules {
    ProduceRules {
        batch_bytes_max: 1 << 20,
        keys_required: false,
        timestamp_type: TimestampType::CreateTime,
        now_ms: NOW,
        timestamp_before_max_ms: None,
        timestamp_after_max_ms: None,
    }
}

fn validate(batch: &Batch, rules: &ProduceRules) -> Result<RecordSummary, ValidateError> {
    validate_records(batch, DecompressLimits::DEFAULT, rules)
}

/// A batch of this codec around raw records, with `count` in its header and a right CRC.
fn batch_of(codec: Codec, count: i32, records: &[u8], change: impl FnOnce(&mut BatchHeader)) -> Batch {
    let bytes = BatchBuilder::new().encode(codec, &compress(codec, records), |header| {
        (header.record_count, header.last_offset_delta) = (count, count - 1);
        (header.base_timestamp, header.max_timestamp) = (NOW, NOW);
        change(header);
    });
    Batch::check(bytes).expect("only the records are bad")
}

/// A record's fields, each of which a test can spoil.
struct Raw {
    length: Option<i32>,
    timestamp_delta: i64,
    offset_delta: i32,
    key: i32,
    header_count: i32,
    headers: Vec<u8>,
}

impl Default for Raw {
    fn default() -> Raw {
        Raw { length: None, timestamp_delta: 0, offset_delta: 0, key: -1, header_count: 0, headers: Vec::new() }
    }
}

impl Raw {
    fn encode(&self) -> Vec<u8> {
        let mut body = BytesMut::from(&[0][..]);
        put_varlong(&mut body, self.timestamp_delta);
        put_varint(&mut body, self.offset_delta);
        put_varint(&mut body, self.key);
        put_varint(&mut body, 1);
        body.extend_from_slice(b"v");
        put_varint(&mut body, self.header_count);
        body.extend_from_slice(&self.headers);
        let mut record = BytesMut::new();
        put_varint(&mut record, self.length.unwrap_or(i32::try_from(body.len()).expect("small")));
        record.extend_from_slice(&body);
        record.to_vec()
    }
}

/// All codecs must refuse these records, and the reader as well as the validator.
fn check_refused(count: i32, records: &[u8], want: RecordError) {
    for codec in CODECS {
        let batch = batch_of(codec, count, records, |_| ());
        let got = validate(&batch, &rules()).expect_err("bad records");
        let ValidateError::Records(got) = got else { panic!("{codec:?}: {got}") };
        check_same(codec, got, want);
        let read = read_all(batch.header(), &batch.records()).expect_err("bad records");
        check_same(codec, read, want);
    }
}

/// A stream does not know how many bytes are left, so only that number may differ.
fn check_same(codec: Codec, got: RecordError, want: RecordError) {
    match (got, want) {
        (RecordError::Length { index, .. }, RecordError::Length { index: wanted, .. }) if codec != Codec::None => {
            assert_eq!(index, wanted, "{codec:?}");
        }
        (RecordError::OffsetDelta { index, got, .. }, RecordError::OffsetDelta { index: at, got: want, .. }) => {
            assert_eq!((index, got), (at, want), "{codec:?}");
        }
        _ => assert_eq!(got, want, "{codec:?}"),
    }
}

type Owned = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn read_all(header: &BatchHeader, records: &[u8]) -> Result<Vec<Owned>, RecordError> {
    let mut reader = RecordReader::new(header, records, ReadLimits::default())?;
    let mut all = Vec::new();
    while let Some(record) = reader.next()? {
        let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        assert_eq!(record.headers.len(), record.headers.count());
        let headers = record.headers.map(|(name, value)| (name.to_vec(), own(value))).collect();
        all.push((record.offset.get(), record.timestamp, own(record.key), own(record.value), headers));
    }
    Ok(all)
}

/// Small, seeded, good enough to vary sizes.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    fn bytes(&mut self, below: usize) -> Option<Vec<u8>> {
        let length = self.below(below + 1);
        (length < below).then(|| (0..length).map(|_| u8::try_from(self.below(4)).expect("small") + b'a').collect())
    }
}

#[test]
fn what_is_written_is_read_with_every_codec() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut builder = BatchBuilder::new();
        let mut want: Vec<Owned> = Vec::new();
        let below = [4, 60, 3_000, 40_000][random.below(4)];
        for offset in 0..=i64::try_from(random.below(30)).expect("small") {
            let timestamp = NOW + i64::try_from(random.below(1_000_000)).expect("small") - 500_000;
            let (key, value) = (random.bytes(below), random.bytes(below));
            let headers: Vec<(Vec<u8>, Option<Vec<u8>>)> =
                (0..random.below(4)).map(|_| (random.bytes(3).unwrap_or_default(), random.bytes(below))).collect();
            let borrowed: Vec<_> = headers.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
            builder.push(timestamp, key.as_deref(), value.as_deref(), &borrowed);
            want.push((1_000 + offset, timestamp, key, value, headers));
        }
        let max = want.iter().map(|record| record.1).max().expect("at least one");
        let first_max = want.iter().position(|record| record.1 == max).expect("it is there");
        for codec in CODECS {
            let records = compress(codec, builder.records());
            let batch = builder.clone().finish_with(codec, &records);
            let lax = ProduceRules { batch_bytes_max: usize::MAX, ..rules() };
            let summary = validate(&batch, &lax).expect("a good batch");
            assert_eq!((summary.max_timestamp, i64::from(summary.max_timestamp_delta)), (max, first_max as i64));
            assert_eq!(summary.has_null_key, want.iter().any(|record| record.2.is_none()));
            let stored = batch.place(Offset::new(1_000), LeaderEpoch::ZERO);
            let read = read_all(stored.header(), &stored.records());
            assert_eq!(read.as_ref(), Ok(&want), "seed {seed} {codec:?}");
        }
    }
}

#[test]
fn repeated_headers_keep_their_order() {
    let headers: &[(&[u8], Option<&[u8]>)] = &[(b"b", Some(b"1")), (b"a", None), (b"b", Some(b"1")), (b"", Some(b""))];
    let batch = BatchBuilder::new().record(NOW, None, None, headers).finish();
    let records = batch.records();
    let mut reader = RecordReader::new(batch.header(), &records, ReadLimits::default()).expect("uncompressed");
    let record = reader.next().expect("valid").expect("one record");
    assert_eq!(record.headers.collect::<Vec<_>>(), headers);
}

#[test]
fn a_record_length_that_lies_is_refused() {
    let good = Raw::default().encode();
    let body = good.len() - 1;
    let with = |length| Raw { length: Some(length), ..Raw::default() }.encode();
    for length in [-1, i32::MIN, i32::MAX, 1 << 20, i32::try_from(body + 1).expect("small")] {
        let records = with(length);
        let left = records.len() - records.iter().position(|byte| byte & 0x80 == 0).expect("a varint ends") - 1;
        for codec in CODECS {
            let batch = batch_of(codec, 1, &records, |_| ());
            let error = validate(&batch, &rules()).expect_err("bad length");
            if codec == Codec::None {
                assert_eq!(error, RecordError::Length { index: 0, length, left }.into());
            }
            assert_ne!(error.code(), ErrorCode::None);
            assert!(read_all(batch.header(), &batch.records()).is_err());
        }
    }
    for length in 0..body {
        let records = with(i32::try_from(length).expect("small"));
        for codec in CODECS {
            let batch = batch_of(codec, 1, &records, |_| ());
            assert!(validate(&batch, &rules()).is_err(), "{codec:?} {length}");
            assert!(read_all(batch.header(), &batch.records()).is_err(), "{codec:?} {length}");
        }
    }
    check_refused(1, &[0xff; 12], RecordError::Varint { index: 0 });
    check_refused(1, &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01], RecordError::Varint { index: 0 });
    check_refused(2, &[&good[..], &[0x80]].concat(), RecordError::Varint { index: 1 });
}

#[test]
fn a_count_that_differs_from_the_records_is_refused() {
    let good = Raw::default().encode();
    for header_says in [2, 3, i32::MAX] {
        check_refused(header_says, &good, RecordError::Count { header_says, found: 1 });
    }
    let second = Raw { offset_delta: 1, ..Raw::default() }.encode();
    check_refused(1, &[&good[..], &second].concat(), RecordError::TrailingBytes { count: 1 });
    check_refused(1, &[&good[..], &[0]].concat(), RecordError::TrailingBytes { count: 1 });
    check_refused(1, &[], RecordError::Count { header_says: 1, found: 0 });
}

#[test]
fn bad_headers_are_refused() {
    for (header_count, headers) in [(i32::MAX, vec![]), (-1, vec![]), (i32::MIN, vec![]), (2, vec![0, 0]), (1, vec![0])]
    {
        let left = headers.len();
        let records = Raw { header_count, headers, ..Raw::default() }.encode();
        check_refused(1, &records, RecordError::HeaderCount { index: 0, count: header_count, left });
    }
    let null_key = Raw { header_count: 1, headers: vec![1, 0], ..Raw::default() }.encode();
    check_refused(1, &null_key, RecordError::NullHeaderKey { index: 0 });
    let long_key = Raw { header_count: 1, headers: vec![4, b'k'], ..Raw::default() }.encode();
    check_refused(1, &long_key, RecordError::Length { index: 0, length: 2, left: 1 });
    let more = Raw { header_count: 1, headers: vec![0, 0, 0, 0], ..Raw::default() }.encode();
    check_refused(1, &more, RecordError::Leftover { index: 0, left: 2 });
}

#[test]
fn bad_keys_and_deltas_are_refused() {
    let key = |key| Raw { key, ..Raw::default() }.encode();
    check_refused(1, &key(100), RecordError::Length { index: 0, length: 100, left: 3 });
    check_refused(1, &key(-2), RecordError::Length { index: 0, length: -2, left: 3 });
    for delta in [i64::MAX, i64::MAX - NOW + 1] {
        let records = Raw { timestamp_delta: delta, ..Raw::default() }.encode();
        check_refused(1, &records, RecordError::TimestampOverflow { index: 0, delta });
    }
    for got in [1, -1, i32::MAX, i32::MIN] {
        let records = Raw { offset_delta: got, ..Raw::default() }.encode();
        check_refused(1, &records, RecordError::OffsetDelta { index: 0, got, least: 0, most: 0 });
    }
    let twice = [Raw::default().encode(), Raw::default().encode()].concat();
    check_refused(2, &twice, RecordError::OffsetDelta { index: 1, got: 0, least: 1, most: 1 });
}

#[test]
fn a_compacted_batch_is_read_with_its_gaps_but_not_produced() {
    let records = [3, 7].map(|offset_delta| Raw { offset_delta, ..Raw::default() }.encode()).concat();
    let bytes = BatchBuilder::new().encode(Codec::None, &records, |header| {
        (header.base_offset, header.record_count, header.last_offset_delta) = (100, 2, 9);
    });
    let stored = StoredBatch::parse(bytes).expect("gaps are allowed on disk");
    let offsets = read_all(stored.header(), &stored.records()).expect("valid");
    assert_eq!(offsets.iter().map(|record| record.0).collect::<Vec<_>>(), [103, 107]);
}

fn check_rule(batch: &Batch, rules: &ProduceRules, want: ValidateError, code: ErrorCode) {
    let got = validate(batch, rules).expect_err("a broken rule");
    assert_eq!((got, got.code()), (want, code), "{got}");
}

#[test]
fn the_rules_about_the_header_hold() {
    let good = Raw::default().encode();
    let invalid = ErrorCode::InvalidRecord;
    let with = |change: fn(&mut BatchHeader)| batch_of(Codec::None, 1, &good, change);
    assert!(validate(&with(|_| ()), &rules()).is_ok());
    let batch = with(|h| h.base_offset = 1);
    check_rule(&batch, &rules(), ValidateError::BaseOffset { base_offset: 1 }, invalid);
    let batch = with(|h| h.attributes = Attributes::default().with_control());
    check_rule(&batch, &rules(), ValidateError::Control, invalid);
    let batch = with(|h| h.attributes = Attributes::default().with_transactional());
    check_rule(&batch, &rules(), ValidateError::TransactionalWithoutProducer, invalid);
    let batch = with(|h| h.attributes = Attributes::default().with_timestamp_type(TimestampType::LogAppendTime));
    check_rule(&batch, &rules(), ValidateError::AppendTimeFromProducer, ErrorCode::InvalidTimestamp);
    let batch = with(|h| (h.producer_id, h.producer_epoch, h.base_sequence) = (5, -1, 0));
    check_rule(&batch, &rules(), ValidateError::ProducerEpoch { producer_id: 5, epoch: -1 }, invalid);
    let batch = with(|h| (h.producer_id, h.producer_epoch, h.base_sequence) = (5, 0, -1));
    check_rule(&batch, &rules(), ValidateError::BaseSequence { producer_id: 5, base_sequence: -1 }, invalid);
    let small = ProduceRules { batch_bytes_max: 60, ..rules() };
    let batch = with(|_| ());
    let want = ValidateError::TooLarge { bytes: batch.size(), limit: 60 };
    check_rule(&batch, &small, want, ErrorCode::MessageTooLarge);
}

#[test]
fn the_rules_about_timestamps_hold() {
    let hour = 3_600_000;
    let strict = ProduceRules { timestamp_before_max_ms: Some(hour), timestamp_after_max_ms: Some(hour), ..rules() };
    let at = |timestamp_delta| Raw { timestamp_delta, ..Raw::default() }.encode();
    for codec in CODECS {
        for delta in [0, -hour, hour, -NOW - 1] {
            let batch = batch_of(codec, 1, &at(delta), |_| ());
            assert!(validate(&batch, &strict).is_ok(), "{delta}: in range, or no timestamp at all");
        }
        for delta in [-hour - 1, hour + 1, i64::MAX - NOW, i64::MIN] {
            let batch = batch_of(codec, 1, &at(delta), |_| ());
            let (timestamp, least, most) = (NOW + delta, NOW - hour, NOW + hour);
            let want = ValidateError::Timestamp { index: 0, timestamp, least, most };
            check_rule(&batch, &strict, want, ErrorCode::InvalidTimestamp);
            assert_eq!(want.record_index(), Some(0));
            assert!(validate(&batch, &rules()).is_ok(), "no rule, no bound");
            let append_time = ProduceRules { timestamp_type: TimestampType::LogAppendTime, ..strict };
            assert_eq!(validate(&batch, &append_time).map(|summary| summary.max_timestamp), Ok(NOW));
        }
    }
}

#[test]
fn a_compacted_topic_refuses_a_null_key() {
    let keyed = ProduceRules { keys_required: true, ..rules() };
    let mut builder = BatchBuilder::new().record(NOW, Some(b""), None, &[]);
    assert!(validate(&builder.clone().finish(), &keyed).is_ok(), "an empty key is a key");
    builder.push(NOW, None, Some(b"v"), &[]);
    for codec in CODECS {
        let batch = builder.clone().finish_with(codec, &compress(codec, builder.records()));
        check_rule(&batch, &keyed, ValidateError::NullKey { index: 1 }, ErrorCode::InvalidRecord);
        assert!(validate(&batch, &rules()).expect("allowed").has_null_key);
    }
}

#[test]
fn bytes_that_are_not_of_the_codec_are_refused() {
    let records = Raw::default().encode();
    for codec in CODECS.into_iter().filter(|codec| *codec != Codec::None) {
        let bytes = BatchBuilder::new().record(NOW, None, None, &[]).encode(codec, &records, |_| ());
        let batch = Batch::check(bytes).expect("the header is good");
        let error = validate(&batch, &rules()).expect_err("not compressed at all");
        assert_eq!(error.code(), ErrorCode::CorruptMessage, "{codec:?}: {error}");
    }
}

#[test]
fn records_compressed_twice_are_no_records() {
    let records = Raw::default().encode();
    for codec in CODECS.into_iter().filter(|codec| *codec != Codec::None) {
        let batch = batch_of(codec, 1, &compress(codec, &records), |_| ());
        assert!(validate(&batch, &rules()).is_err(), "{codec:?}");
    }
}

#[test]
fn a_bomb_is_too_large_a_message() {
    let zeros = vec![0; 8 << 20];
    let mut builder = BatchBuilder::new();
    builder.push(NOW, None, Some(&zeros), &[]);
    let limits = DecompressLimits { output_bytes_max: 1 << 20, ..DecompressLimits::DEFAULT };
    for codec in CODECS.into_iter().filter(|codec| *codec != Codec::None) {
        let batch = builder.clone().finish_with(codec, &compress(codec, builder.records()));
        let error = validate_records(&batch, limits, &rules()).expect_err("over the limit");
        assert_eq!(error.code(), ErrorCode::MessageTooLarge, "{codec:?}: {error}");
        let small = ReadLimits { record_bytes_max: 1 << 20, ..ReadLimits::default() };
        let records = batch.records();
        let mut reader = RecordReader::new(batch.header(), &records, small).expect("begins well");
        let error = reader.next().expect_err("one record over the limit");
        assert!(matches!(error, RecordError::TooLarge { index: 0, limit: 1_048_576, .. }), "{error}");
    }
}

#[test]
fn cut_records_are_refused_at_every_byte() {
    let mut builder = BatchBuilder::new();
    builder.push(NOW, Some(b"key"), Some(b"value"), &[(b"h", Some(b"x"))]);
    builder.push(NOW, None, Some(b"value"), &[(b"h", None)]);
    let records: Bytes = builder.records().to_vec().into();
    for cut in 0..records.len() {
        for codec in CODECS {
            let batch = batch_of(codec, 2, &records[..cut], |_| ());
            assert!(validate(&batch, &rules()).is_err(), "{codec:?} cut at {cut}");
            assert!(read_all(batch.header(), &batch.records()).is_err(), "{codec:?} cut at {cut}");
        }
    }
}

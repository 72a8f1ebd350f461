//! Attacks 28 to 37 and 39 to 41: record batches that lie.
//!
//! Each row is a batch and the errors that it may be answered with; 0 means it is stored and read back. What is
//! refused must leave the log as it was.

use anyhow::{Result, ensure};
use compat_tests::program::unique;
use compat_tests::raw::{Client, Writer, key, request};

use crate::batch::{Batch, CONTROL, GZIP, Record, TRANSACTIONAL, ZSTD, now_ms, old_message, payload, sized};
use crate::codecs::{self, compress};
use crate::requests;
use crate::target::Target;

const STORED: &[i16] = &[0];
pub const CORRUPT: i16 = 2;
pub const TOO_LARGE: i16 = 10;
const INVALID_TIMESTAMP: i16 = 32;
pub const INVALID_RECORD: i16 = 87;

/// Lies that Apache Kafka 4.3 stores, or answers with -1: it does not look into compressed records as we do, and does
/// not keep the offset deltas of plain ones.
const KAFKA_STORES: [&str; 6] =
    ["half of another", "34: an overlong length", "34: a length", "34: a key of length -2", "40: a", "flipped byte"];

/// Where the records of a batch begin.
const HEADER_BYTES: usize = 61;

pub type Row = (String, Vec<u8>, &'static [i16]);

/// Produces the rows to a topic, each on a fresh connection.
pub fn check_rows(target: &mut Target, topic: &str, rows: Vec<Row>) -> Result<()> {
    for (name, bytes, errors) in rows {
        if !target.is_ours() && KAFKA_STORES.iter().any(|lie| name.contains(lie)) {
            continue;
        }
        target.row(&name, |target| check(&mut target.connect()?, topic.as_bytes(), &bytes, errors))?;
    }
    Ok(())
}

fn check(client: &mut Client, topic: &[u8], bytes: &[u8], errors: &[i16]) -> Result<()> {
    let before = requests::list_offset(client, topic, 0, -1)?.1;
    let got = requests::produce(client, topic, 0, bytes)?;
    ensure!(errors.contains(&got.error), "error {} ({}), expected {errors:?}", got.error, got.message);
    let after = requests::list_offset(client, topic, 0, -1)?.1;
    if got.error != 0 {
        ensure!(after == before, "refused, and yet the log grew from {before} to {after}");
        return Ok(());
    }
    ensure!(after > before, "accepted, and yet the log did not grow");
    let read = requests::fetch(client, topic, 0, before, 64 << 20)?;
    // the log sets base offset and leader epoch, and corrects the maximum timestamp; the records stay as they came
    let same = read.records.get(HEADER_BYTES..) == bytes.get(HEADER_BYTES..);
    ensure!(read.error == 0 && same, "{} bytes were stored, error {} came back", bytes.len(), read.error);
    Ok(())
}

fn three() -> Vec<Record> {
    vec![Record::of(b"a", b"1"), Record::of(b"b", b"2"), Record::of(b"c", b"3")]
}

fn row(name: &str, errors: &'static [i16], change: impl FnOnce(&mut Batch)) -> Row {
    let mut batch = Batch::of(&three());
    change(&mut batch);
    (name.to_owned(), batch.encode(), errors)
}

#[test]
fn a_good_batch_of_each_codec_is_stored_as_it_came() -> Result<()> {
    let mut target = Target::start("attack-good", &[])?;
    let mut rows = Vec::new();
    for (name, codec) in codecs::ALL {
        let plain = payload(&three());
        rows.push((format!("{name}, small"), Batch::raw(3, codec, compress(codec, &plain)?).encode(), STORED));
        let plain = codecs::zero_records(2000, 300);
        rows.push((format!("{name}, large"), Batch::raw(2000, codec, compress(codec, &plain)?).encode(), STORED));
    }
    let topic = target.topic.clone();
    check_rows(&mut target, &topic, rows)?;
    target.finish()
}

#[test]
fn headers_of_batches_that_lie_are_refused() -> Result<()> {
    let mut target = Target::start("attack-batches", &[])?;
    let good = Batch::of(&three()).encode();
    let bad: &[i16] = &[INVALID_RECORD];
    let corrupt: &[i16] = &[CORRUPT];
    // a length that is wrong is told as damage or as a record that cannot be, whichever is seen first
    let either: &[i16] = &[CORRUPT, INVALID_RECORD];
    let mut rows = vec![
        row("28: a wrong CRC", corrupt, |batch| batch.crc_lie = 1),
        row("28: a wrong CRC of a compressed batch", corrupt, |batch| {
            (batch.attributes, batch.crc_lie) = (GZIP, 1 << 31)
        }),
        ("29: magic 0".into(), old_message(0), either),
        ("29: magic 1".into(), old_message(1), either),
        row("29: magic 0 in the header of magic 2", either, |batch| batch.magic = 0),
        row("29: magic 3", corrupt, |batch| batch.magic = 3),
        row("29: magic -1", corrupt, |batch| batch.magic = -1),
        row("30: a length that is one too long", either, |batch| batch.length_lie = 1),
        row("30: a length that is one too short", either, |batch| batch.length_lie = -1),
        row("30: a length of 0", either, |batch| batch.length_lie = -70),
        row("30: a length of 2^31-1", either, |batch| batch.length_lie = i32::MAX - 200),
        row("30: a negative length", either, |batch| batch.length_lie = i32::MIN),
        ("30: two batches".into(), good.repeat(2), bad),
        ("30: half a batch".into(), good[..40].to_vec(), either),
        ("30: a batch and half of another".into(), [&good[..], &good[..40]].concat(), either),
        ("30: no batch".into(), Vec::new(), bad),
        ("30: one byte".into(), vec![0], either),
    ];
    for (lie, count) in [("fewer", 2), ("more", 4), ("none", 0), ("-1", -1), ("2^31-1", i32::MAX), ("-2^31", i32::MIN)]
    {
        rows.push(row(&format!("31: a count of {lie}"), bad, |batch| batch.count = count));
        rows.push(row(&format!("31: a count of {lie} and a last delta to match"), bad, |batch| {
            (batch.count, batch.last_offset_delta) = (count, count.wrapping_sub(1));
        }));
    }
    for delta in [0, 1, 3, -1, i32::MAX, i32::MIN] {
        rows.push(row(&format!("32: last offset delta {delta} for 3 records"), bad, |batch| {
            batch.last_offset_delta = delta;
        }));
    }
    for offset in [1, -1, i64::MIN, i64::MAX, i64::MAX - 1] {
        rows.push(row(&format!("33: base offset {offset}"), bad, |batch| batch.base_offset = offset));
    }
    rows.push(row("36: a control batch", bad, |batch| batch.attributes = CONTROL));
    rows.push(row("36: a control batch of a transaction", &[INVALID_RECORD, 42, 48, 53], |batch| {
        batch.attributes = CONTROL | TRANSACTIONAL;
    }));
    for codec in [5, 6, 7] {
        rows.push(row(&format!("38: codec {codec}"), &[CORRUPT, INVALID_RECORD, 76, -1], |batch| {
            batch.attributes = codec
        }));
    }
    let topic = target.topic.clone();
    check_rows(&mut target, &topic, rows)?;
    let mut damaged = Batch::of(&three());
    damaged.crc_lie = 1;
    let mut body = requests::produce_body(&[(topic.as_bytes(), 0, &damaged.encode())]);
    body[2..4].fill(0);
    let unanswered = request(key::PRODUCE, requests::PRODUCE_VERSION, 1, b"raw", &body);
    target.closes("28: a wrong CRC with acks=0, which has no answer to say so", "no_answer", &unanswered)?;
    target.finish()
}

/// Three records of which the second one is replaced by any bytes.
fn around(middle: &[u8]) -> Vec<u8> {
    let records = three();
    [&sized(&records[0].body(0))[..], middle, &sized(&records[2].body(2))].concat()
}

/// What is wrong with the second record of three.
fn broken_records() -> Vec<(&'static str, Vec<u8>)> {
    let good = three().remove(1).body(1);
    let header_count = |count: &Writer| {
        let body = Writer::new().i8(0).zigzag(0).zigzag(1).zigzag(-1).zigzag(-1);
        sized(&body.raw(&count.clone().done()).done())
    };
    let with_delta = |delta: i64| sized(&Record { offset_delta: Some(delta), ..three().remove(1) }.body(1));
    vec![
        ("34: an overlong length", [&[0xff; 6][..], &good].concat()),
        ("34: a length of -1", [&Writer::new().zigzag(-1).done()[..], &good].concat()),
        ("34: a length of -2^31", [&Writer::new().zigzag(i64::from(i32::MIN)).done()[..], &good].concat()),
        ("34: a length of 2^31-1", [&Writer::new().zigzag(i64::from(i32::MAX)).done()[..], &good].concat()),
        ("34: a length of 0", vec![0]),
        (
            "34: a length that is one too long",
            [&Writer::new().zigzag(good.len() as i64 + 1).done()[..], &good].concat(),
        ),
        (
            "34: a length that is one too short",
            [&Writer::new().zigzag(good.len() as i64 - 1).done()[..], &good].concat(),
        ),
        ("34: a key longer than the record", sized(&Writer::new().i8(0).zigzag(0).zigzag(1).zigzag(1 << 30).done())),
        (
            "34: a key of length -2",
            sized(&Writer::new().i8(0).zigzag(0).zigzag(1).zigzag(-2).zigzag(-1).zigzag(0).done()),
        ),
        ("34: 2^31-1 headers", header_count(&Writer::new().zigzag(i64::from(i32::MAX)))),
        ("34: -1 headers", header_count(&Writer::new().zigzag(-1))),
        ("34: an overlong count of headers", header_count(&Writer::new().raw(&[0xff; 9]).raw(&[1]))),
        ("34: a header without a key", header_count(&Writer::new().zigzag(1).zigzag(-1).zigzag(-1))),
        ("34: a header that is not there", header_count(&Writer::new().zigzag(1))),
        ("40: an offset delta that is used already", with_delta(0)),
        ("40: an offset delta behind the batch", with_delta(7)),
        ("40: a negative offset delta", with_delta(-1)),
    ]
}

#[test]
fn a_batch_in_which_one_record_is_broken_is_refused_plain_and_compressed() -> Result<()> {
    let mut target = Target::start("attack-records", &[])?;
    let mut rows: Vec<Row> = Vec::new();
    for (name, middle) in broken_records() {
        for (codec_name, codec) in codecs::ALL {
            let batch = Batch::raw(3, codec, compress(codec, &around(&middle))?);
            rows.push((format!("{name}, {codec_name}"), batch.encode(), &[INVALID_RECORD]));
        }
    }
    for (codec_name, codec) in codecs::ALL {
        let trailing = [payload(&three()), vec![0; 4]].concat();
        let batch = Batch::raw(3, codec, compress(codec, &trailing)?);
        rows.push((format!("40: bytes behind the last record, {codec_name}"), batch.encode(), &[INVALID_RECORD]));
    }
    let nested = compress(GZIP, &compress(GZIP, &payload(&three()))?)?;
    rows.push(("39: gzip inside gzip".into(), Batch::raw(3, GZIP, nested).encode(), &[INVALID_RECORD]));
    let nested = compress(GZIP, &compress(ZSTD, &payload(&three()))?)?;
    rows.push(("39: zstd inside gzip".into(), Batch::raw(3, GZIP, nested).encode(), &[INVALID_RECORD]));
    let inner = Batch::raw(3, GZIP, compress(GZIP, &payload(&three()))?).encode();
    let nested = payload(&[Record::of(b"k", &inner)]);
    let batch = Batch::raw(1, ZSTD, compress(ZSTD, &nested)?);
    rows.push(("39: a compressed batch as the value of a record is a value".into(), batch.encode(), STORED));
    let topic = target.topic.clone();
    check_rows(&mut target, &topic, rows)?;
    target.finish()
}

#[test]
fn timestamps_are_bounded() -> Result<()> {
    let mut target = Target::start("attack-timestamps", &[])?;
    let hour = 3_600_000;
    let mut rows: Vec<Row> = Vec::new();
    let mut at = |name: &str, base: i64, delta: i64, errors: &'static [i16]| {
        let record = Record { timestamp_delta: delta, ..Record::of(b"k", b"v") };
        let mut batch = Batch::of(&[record]);
        (batch.base_timestamp, batch.max_timestamp) = (base, base.saturating_add(delta));
        rows.push((format!("35: {name}"), batch.encode(), errors));
    };
    let late: &[i16] = &[INVALID_TIMESTAMP];
    // of a time before 1970 Kafka's arithmetic wraps, so either answer is as good
    let either: &[i16] = &[0, INVALID_TIMESTAMP, INVALID_RECORD];
    at("2^63-1", i64::MAX, 0, late);
    at("-2^63", i64::MIN, 0, either);
    at("-2", -2, 0, either);
    at("no timestamp", -1, 0, STORED);
    at("1970", 0, 0, STORED);
    at("two hours ahead", now_ms() + 2 * hour, 0, late);
    at("a delta two hours ahead", now_ms(), 2 * hour, late);
    at("a sum over 2^63", i64::MAX, i64::MAX, either);
    at("a sum under -2^63", i64::MIN, i64::MIN, either);
    // the header's maximum is not believed
    let mut lie = Batch::of(&three());
    lie.max_timestamp = i64::MAX;
    rows.push(("35: a maximum that no record has".into(), lie.encode(), &[0, INVALID_TIMESTAMP]));
    let topic = target.topic.clone();
    for (name, bytes, errors) in rows {
        target.row(&name, |target| {
            let got = requests::produce(&mut target.connect()?, topic.as_bytes(), 0, &bytes)?;
            ensure!(errors.contains(&got.error), "error {} ({}), expected {errors:?}", got.error, got.message);
            Ok(())
        })?;
    }
    target.row("35: what was accepted is neither deleted nor hides other records from a search by time", |target| {
        let mut client = target.connect()?;
        let start = now_ms();
        let wrote = requests::produce(&mut client, topic.as_bytes(), 0, &Batch::of(&three()).encode())?;
        ensure!(requests::list_offset(&mut client, topic.as_bytes(), 0, -2)? == (0, 0), "the log's start moved");
        let (error, found) = requests::list_offset(&mut client, topic.as_bytes(), 0, start)?;
        ensure!(error == 0 && (0..=wrote.base_offset).contains(&found), "offset {found} for {start}, error {error}");
        Ok(())
    })?;
    target.finish()
}

/// A batch of an idempotent producer.
fn of_producer(id: i64, epoch: i16, sequence: i32, records: usize) -> Vec<u8> {
    let mut batch = Batch::of(&three()[..records]);
    (batch.producer_id, batch.producer_epoch, batch.base_sequence) = (id, epoch, sequence);
    batch.encode()
}

#[test]
fn producer_ids_and_sequences_are_checked() -> Result<()> {
    let mut target = Target::start("attack-producers", &[])?;
    let id = i64::try_from(unique())?;
    let mut transactional = Batch::of(&three());
    transactional.attributes = TRANSACTIONAL;
    let mut in_transaction = transactional.clone();
    (in_transaction.producer_id, in_transaction.producer_epoch, in_transaction.base_sequence) = (id + 9, 0, 0);
    // Apache Kafka answers a transactional batch without a transaction with 53; what fits is a definite error
    let refused: &'static [i16] = &[35, 42, 48, 53, INVALID_RECORD];
    let topic = target.topic.clone();
    check_rows(
        &mut target,
        &topic,
        vec![
            ("37: a transactional batch without a producer".into(), transactional.encode(), refused),
            ("37: a transactional batch without a transaction".into(), in_transaction.encode(), refused),
            ("37: a producer id that nobody was given".into(), of_producer(id, 0, 0, 3), STORED),
            ("37: another client goes on with that producer id".into(), of_producer(id, 0, 3, 3), STORED),
            ("37: a gap in its sequence".into(), of_producer(id, 0, 9, 3), &[45]),
            ("37: a newer epoch that does not begin at 0".into(), of_producer(id, 1, 4, 3), &[45]),
            ("37: a newer epoch".into(), of_producer(id, 1, 0, 3), STORED),
            ("37: the epoch before".into(), of_producer(id, 0, 6, 3), &[47]),
            // Apache Kafka stores a batch with an id and no epoch
            ("37: epoch -1 with an id".into(), of_producer(id + 1, -1, 0, 3), &[0, INVALID_RECORD]),
            ("37: sequence -1 with an id".into(), of_producer(id + 2, 0, -1, 3), &[INVALID_RECORD]),
            ("37: sequence -2^31 with an id".into(), of_producer(id + 2, 0, i32::MIN, 3), &[INVALID_RECORD]),
            ("37: a sequence of 2^31-1 that wraps".into(), of_producer(id + 3, 0, i32::MAX, 3), STORED),
            ("37: what follows the wrap".into(), of_producer(id + 3, 0, 2, 3), STORED),
            ("37: the last sequence".into(), of_producer(id + 4, 0, i32::MAX, 1), STORED),
            ("37: 0 behind the last sequence".into(), of_producer(id + 4, 0, 0, 3), STORED),
            ("37: the least producer id".into(), of_producer(i64::MIN, 0, 0, 3), &[0, INVALID_RECORD]),
        ],
    )?;
    target.row("37: a batch that was stored before is answered with its offset and not stored again", |target| {
        let mut client = target.connect()?;
        let batch = of_producer(id + 5, 0, 0, 3);
        let first = requests::produce(&mut client, topic.as_bytes(), 0, &batch)?;
        let again = requests::produce(&mut client, topic.as_bytes(), 0, &batch)?;
        let end = requests::list_offset(&mut client, topic.as_bytes(), 0, -1)?.1;
        ensure!(first.error == 0 && again.error == 0, "{first:?} {again:?}");
        ensure!((again.base_offset, end) == (first.base_offset, first.base_offset + 3), "{first:?} {again:?} {end}");
        Ok(())
    })?;
    target.finish()
}

#[test]
fn a_compacted_topic_takes_no_record_without_a_key() -> Result<()> {
    let mut target = Target::start("attack-compacted", &[])?;
    let topic = format!("compacted-{}", unique());
    requests::create_topic(&mut target.connect()?, &topic, 1, &[("cleanup.policy", "compact")])?;
    let mut without = three();
    without[1].key = None;
    let mut rows: Vec<Row> = vec![("41: keys everywhere".into(), Batch::of(&three()).encode(), STORED)];
    for (name, codec) in codecs::ALL {
        let batch = Batch::raw(3, codec, compress(codec, &payload(&without))?);
        rows.push((format!("41: one record without a key, {name}"), batch.encode(), &[INVALID_RECORD]));
    }
    check_rows(&mut target, &topic, rows)?;
    target.finish()
}

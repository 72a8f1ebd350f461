//! Stored files of each version that was ever written: they must be read for ever, and the newest is what is written now.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use model::batch::StoredBatch;
use model::{LeaderEpoch, LogId, Offset};

use super::harness::{batch, id};
use crate::checkpoint::{CarriedFile, Checkpoint, LogCheckpoint, ProducerSnapshot};
use crate::disk::Step;
use crate::epochs::LeaderEpochs;
use crate::journal::entry::{DirectRange, Entry, LogChange, LogEntry, Replayed, ReplayedChange, Unit, crc_of};
use crate::journal::group::Head;
use crate::offset_index::{IndexFile, IndexFiles};
use crate::segment::{Newest, Place, SegmentFacts};

const CHECKPOINT_1: &str = include_str!("../../tests/fixtures/checkpoint_v1.hex");
const CHECKPOINT_2: &str = include_str!("../../tests/fixtures/checkpoint_v2.hex");
const CHECKPOINT_3: &str = include_str!("../../tests/fixtures/checkpoint_v3.hex");
const JOURNAL_1: &str = include_str!("../../tests/fixtures/journal_v1.hex");
const SALT: u64 = 0x0123_4567_89ab_cdef;

fn from_hex(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect::<Vec<_>>().into()
}

/// In lines of 64 bytes.
fn to_hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(64).map(line).collect()
}

/// `compacted`: as versions from 3 on can say it.
fn checkpoint(carried: Option<CarriedFile>, compacted: bool) -> Checkpoint {
    let facts = |base: i64, size| SegmentFacts {
        base: Offset::new(base),
        generation: if compacted && base == 0 { 3 } else { 0 },
        size,
        first_timestamp_ms: 1_700_000_000_000,
        newest: Newest { timestamp_ms: 1_700_000_000_500, offset: base + 3, exact: base == 0 },
    };
    let file = |entries| IndexFile { entries, crc: 0xfeed_0000 + entries };
    let log = LogCheckpoint {
        id: id(7),
        folder: "t-ä-7".to_owned(),
        journalled: true,
        operation: 99,
        log_start: Offset::new(2),
        log_end: Offset::new(20),
        high_watermark: Offset::new(18),
        cleaned: Offset::new(if compacted { 11 } else { 2 }),
        producers: Some(ProducerSnapshot { offset: Offset::new(20), bytes: Bytes::from_static(b"producers") }),
        epochs: LeaderEpochs::from_starts(vec![
            (LeaderEpoch::new(0), Offset::new(0)),
            (LeaderEpoch::new(4), Offset::new(11)),
        ])
        .unwrap(),
        segments: vec![
            (facts(0, 1_000), IndexFiles { offsets: file(3), times: file(2) }),
            (facts(11, 500), IndexFiles::default()),
        ],
    };
    let relaxed = LogCheckpoint {
        journalled: false,
        producers: None,
        segments: Vec::new(),
        epochs: LeaderEpochs::new(),
        id: LogId::METADATA,
        folder: ".weir/metadata".to_owned(),
        ..log.clone()
    };
    Checkpoint {
        salt: SALT,
        from_sequence: 17,
        operations: 123,
        clean: carried.is_none(),
        carried,
        notes: BTreeMap::from([("metadata.raft".to_owned(), Bytes::from_static(&[1, 2, 3]))]),
        logs: vec![log, relaxed],
    }
}

#[test]
fn checkpoints_of_each_version_are_read() {
    assert_eq!(Checkpoint::decode(&from_hex(CHECKPOINT_1)), Ok(checkpoint(None, false)));
    let carried = Some(CarriedFile { number: 5, groups: 6 });
    assert_eq!(Checkpoint::decode(&from_hex(CHECKPOINT_2)), Ok(checkpoint(carried, false)));
    let newest = checkpoint(carried, true);
    assert_eq!(to_hex(&newest.encode()), CHECKPOINT_3, "{}", to_hex(&newest.encode()));
    assert_eq!(Checkpoint::decode(&from_hex(CHECKPOINT_3)), Ok(newest));
}

/// Each kind of entry, in three units.
fn units() -> VecDeque<Unit> {
    let log = |operation, what| Entry::Log(LogEntry { log: id(7), operation, what });
    let at = |segment, position| Place { segment: Offset::new(segment), position };
    let append = log(2, LogChange::Append { at: at(0, 0), batch: batch(0, 3, 2, 10, 1_700_000_000_000) });
    let create = LogChange::Create { start: Offset::new(0), journalled: true, folder: "t-7".to_owned() };
    VecDeque::from([
        Unit { entries: vec![log(1, create), append] },
        Unit {
            entries: vec![
                log(3, LogChange::Truncate { end: Offset::new(1), cut: Some(at(0, 70)) }),
                log(4, LogChange::Truncate { end: Offset::new(0), cut: None }),
                log(5, LogChange::Reset { start: Offset::new(40) }),
                log(6, LogChange::DeleteBefore { start: Offset::new(41) }),
                log(7, LogChange::Delete),
            ],
        },
        Unit::one(Entry::Note { key: "vote".to_owned(), value: Bytes::from_static(b"7") }),
    ])
}

#[test]
fn a_group_of_the_journal_with_each_kind_of_entry_is_read() {
    let (_dir, root) = super::harness::temp();
    let mut node = super::harness::open(&root);
    node.journal.set_salt(SALT);
    node.queue = units();
    let group = node.journal.group(&mut node.queue, &mut |_, _| None).unwrap().unwrap();
    let [Step::WriteThrough { data, .. }] = &group.steps[..] else { panic!("{:?}", group.steps) };
    let written = data.as_ref();
    let sample = from_hex(JOURNAL_1);
    let head = Head::parse(&sample, SALT).unwrap();
    let used = head.length as usize;
    assert_eq!(to_hex(&written[..used]), to_hex(&sample[..used]), "{}", to_hex(&written[..used]));
    assert!(head.is_whole(&sample[..used]));
    let read = head.units(&sample.slice(..used)).unwrap();
    assert_eq!(read.iter().map(Vec::len).collect::<Vec<_>>(), [2, 5, 1]);
    let Replayed::Log { log, operation: 2, what: ReplayedChange::Append { bytes, .. } } = &read[0][1] else {
        panic!("{:?}", read[0]);
    };
    assert_eq!(*log, id(7));
    let stored = StoredBatch::parse(bytes.clone()).unwrap();
    assert_eq!(stored.next_offset(), Offset::new(2));
}

#[test]
fn a_swap_of_segments_in_the_journal_is_read() {
    let facts = SegmentFacts {
        generation: 2,
        size: 900,
        first_timestamp_ms: 1_700_000_000_000,
        newest: Newest { timestamp_ms: 1_700_000_000_700, offset: 31, exact: true },
        ..SegmentFacts::new(Offset::new(10))
    };
    let file = |entries| IndexFile { entries, crc: 0xfeed_0000 + entries };
    let files = IndexFiles { offsets: file(4), times: file(1) };
    let (first, last, cleaned) = (Offset::new(10), Offset::new(30), Offset::new(40));
    let mut bytes = crate::disk::AlignedBuf::with_capacity(400);
    let news = [Some(Box::new((facts, files))), None];
    for new in news.clone() {
        let what = LogChange::Replace { first, last, cleaned, new };
        let entry = Entry::Log(LogEntry { log: id(7), operation: 9, what });
        let before = bytes.len();
        crate::journal::entry::encode(&entry, false, &mut bytes);
        assert_eq!(bytes.len() - before, entry.size());
    }
    let sample = include_str!("../../tests/fixtures/journal_replace_v1.hex");
    assert_eq!(to_hex(bytes.as_ref()), sample, "{}", to_hex(bytes.as_ref()));
    let mut fields = crate::fields::Fields::new(from_hex(sample));
    for new in news {
        let what = ReplayedChange::Replace { first, last, cleaned, new };
        let read = crate::journal::entry::decode(&mut fields).unwrap();
        assert_eq!(read, Replayed::Log { log: id(7), operation: 9, what });
    }
}

#[test]
fn a_direct_range_in_the_journal_is_read() {
    let stored = batch(5, 3, 2, 10, 1_700_000_000_000);
    let entry = Entry::Log(LogEntry {
        log: id(7),
        operation: 9,
        what: LogChange::Append { at: Place { segment: Offset::new(5), position: 0 }, batch: stored.clone() },
    });
    let mut bytes = crate::disk::AlignedBuf::with_capacity(100);
    crate::journal::entry::encode(&entry, true, &mut bytes);
    assert_eq!(to_hex(bytes.as_ref()), include_str!("../../tests/fixtures/journal_direct_v1.hex"));
    let mut fields = crate::fields::Fields::new(from_hex(include_str!("../../tests/fixtures/journal_direct_v1.hex")));
    let direct =
        DirectRange { size: stored.size() as u32, first: Offset::new(5), end: Offset::new(7), crc: crc_of(&stored) };
    let Ok(Replayed::Log { what: ReplayedChange::Direct { direct: read, .. }, .. }) =
        crate::journal::entry::decode(&mut fields)
    else {
        panic!("no direct range")
    };
    assert_eq!(read, direct);
}

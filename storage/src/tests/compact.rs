//! Compaction against a plain list of records: random keys, tombstones, codecs, producers.
//!
//! Owns the model: what was appended at which offset. The judgement is the same with and without a crash: what a log holds was
//! appended there, and of each key at least the newest record is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::batch::{BatchBuilder, Codec, StoredBatch};
use model::{LeaderEpoch, Offset};

use super::harness::*;
use crate::TimeTarget;
use crate::codec::compress;
use crate::disk::ReadMode;
use crate::log::LogConfig;
use crate::log::compact::{CompactConfig, Means, SLOT_BYTES, Stepped};
use crate::record::{ReadLimits, RecordReader};

pub(super) const RETENTION_MS: i64 = 1_000;

pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Put {
    pub(super) key: u64,
    pub(super) value: Option<u64>,
    pub(super) time_ms: i64,
}

/// What was appended, by its offset, and the last offset and sequence of each producer.
#[derive(Clone, Default)]
pub(super) struct Expected {
    pub(super) puts: BTreeMap<i64, Put>,
    pub(super) producers: BTreeMap<i64, (i64, i32)>,
    pub(super) end: i64,
}

pub(super) fn compacted(segment_bytes: u32) -> Arc<LogConfig> {
    let compact =
        CompactConfig { delete_retention_ms: RETENTION_MS, lag_min_ms: 0, lag_max_ms: i64::MAX, dirty_ratio_min: 0 };
    Arc::new(LogConfig { segment_bytes, index_interval_bytes: 100, compact: Some(compact), ..LogConfig::default() })
}

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

impl Expected {
    /// A batch of some records at the end.
    pub(super) fn batch(&mut self, random: &mut Random, keys: u64, time_ms: i64) -> StoredBatch {
        let producer = i64::try_from(random.below(4)).unwrap();
        let sequence = self.producers.get(&producer).map_or(0, |(_, last)| last + 1);
        let mut builder = BatchBuilder::new();
        if producer > 0 {
            builder = builder.producer(producer, 3, sequence);
        }
        let count = 1 + random.below(6);
        for at in 0..count {
            let (key, value) = (random.below(keys), random.below(1 << 40));
            let value = (random.below(5) > 0).then_some(value);
            let time_ms = time_ms + i64::try_from(at).unwrap();
            let text = value.map(|value| format!("{value:>60}"));
            let headers: &[(&[u8], Option<&[u8]>)] = &[(b"h", Some(b"1")), (b"h", None)];
            let headers = if random.below(4) == 0 { headers } else { &[] };
            builder.push(time_ms, Some(&key.to_be_bytes()), text.as_deref().map(str::as_bytes), headers);
            self.puts.insert(self.end + i64::try_from(at).unwrap(), Put { key, value, time_ms });
        }
        let codec = CODECS[usize::try_from(random.below(5)).unwrap()];
        let packed = compress(codec, builder.records());
        let batch = builder.finish_with(codec, &packed).place(Offset::new(self.end), LeaderEpoch::new(1));
        self.end = batch.next_offset().get();
        if producer > 0 {
            let last = batch.header().last_sequence().unwrap();
            self.producers.insert(producer, (self.end - 1, last));
        }
        batch
    }

    fn producers(&self) -> BTreeMap<i64, Offset> {
        self.producers.iter().map(|(id, (last, _))| (*id, Offset::new(*last))).collect()
    }

    /// What a log may hold that has all up to `end`: every key's newest record is there, and nothing that was not appended.
    /// `tombstones_from`: newer tombstones cannot be gone.
    pub(super) fn judge(&self, batches: &[StoredBatch], start: i64, end: i64, tombstones_from: i64, what: &str) {
        let found = records(batches);
        for (offset, put) in &found {
            assert_eq!(self.puts.get(offset), Some(put), "{what}: at {offset}");
        }
        let mut newest: BTreeMap<u64, i64> = BTreeMap::new();
        newest.extend(self.puts.range(start..end).map(|(offset, put)| (put.key, *offset)));
        for (key, offset) in newest {
            let put = &self.puts[&offset];
            let is_there = found.contains_key(&offset);
            let may_be_gone = put.value.is_none() && put.time_ms <= tombstones_from;
            assert!(may_be_gone || is_there, "{what}: key {key} was put at {offset}: {put:?}");
            let older = found.range(start..end).find(|(_, put)| put.key == key);
            assert!(is_there || older.is_none(), "{what}: key {key} was deleted at {offset}, and is back: {older:?}");
        }
    }
}

/// The records of these batches.
pub(super) fn records(batches: &[StoredBatch]) -> BTreeMap<i64, Put> {
    let mut all = BTreeMap::new();
    for batch in batches {
        let bytes = batch.records();
        let mut reader = RecordReader::new(batch.header(), &bytes, ReadLimits::default()).unwrap();
        while let Some(record) = reader.next().unwrap() {
            let key = u64::from_be_bytes(record.key.unwrap().try_into().unwrap());
            let value = record.value.map(|value| std::str::from_utf8(value).unwrap().trim().parse().unwrap());
            all.insert(record.offset.get(), Put { key, value, time_ms: record.timestamp });
        }
    }
    all
}

/// Cleans the log as far as it is worth while. Gives how many swaps there were.
pub(super) fn clean(node: &mut Node, expected: &Expected, now_ms: i64, memory_bytes: usize) -> usize {
    let means = Means { now_ms, secret: (7, 8), memory_bytes, producers: expected.producers() };
    let decided = node.log(1).durable_end();
    let Some(mut cleaning) = node.log(1).begin_cleaning(decided, means) else { return 0 };
    let mut swaps = 0;
    loop {
        let disk = Arc::clone(&node.disk);
        match cleaning.step(&*disk).unwrap() {
            Stepped::Read => {}
            Stepped::Write(steps) => {
                if node.run(&steps).is_err() {
                    return swaps;
                }
            }
            Stepped::Swap(swap) => match node.log(1).adopt(swap) {
                Ok(entry) => {
                    node.put(entry);
                    swaps += 1;
                }
                Err(steps) => {
                    let _gone = node.run(&steps);
                    return swaps;
                }
            },
            Stepped::Done => return swaps,
        }
    }
}

fn run(seed: u64) {
    let what = format!("seed {seed}");
    let (_dir, root) = temp();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let config = compacted(400 + u32::try_from(random.below(6_000)).unwrap());
    let keys = 1 + random.below(30);
    let mut node = open(&root);
    node.create(1, &config);
    node.commit();
    let mut expected = Expected::default();
    let (mut now_ms, mut swaps, mut start) = (1_000_000, 0, 0);
    for _ in 0..150 {
        now_ms += i64::try_from(random.below(60)).unwrap();
        match random.below(16) {
            0..=8 => {
                let batch = expected.batch(&mut random, keys, now_ms);
                node.append(1, batch);
            }
            9 => {
                node.commit();
                node.flush();
            }
            10 | 11 => {
                node.commit();
                node.checkpoint(false);
            }
            12 => {
                let end = i64::try_from(random.below(20)).unwrap().min(expected.end - start);
                if let Some(entry) = node.log(1).delete_before(Offset::new(start + end)) {
                    node.put(entry);
                    start += end;
                }
            }
            13 => {
                node.commit();
                if random.below(2) == 0 {
                    node.flush();
                }
                drop(node);
                node = open(&root);
                node.log(1).configure(Arc::clone(&config));
            }
            _ => {
                node.commit();
                // Now and then the table has room for a few keys only.
                let memory = if random.below(4) == 0 { 16 * SLOT_BYTES } else { 1 << 20 };
                swaps += clean(&mut node, &expected, now_ms, memory);
            }
        }
        assert_eq!(node.log(1).log_end().get(), expected.end, "{what}");
    }
    node.commit();
    node.log(1).evict_tail(0);
    let found = node.read_all(1);
    expected.judge(&found, start, expected.end, now_ms - RETENTION_MS, &what);
    assert!(swaps > 0, "{what}");
    check_producers(&expected, &found, start, &what);
    check_reads(&mut node, &found, &what);
    check_times(&mut node, &found, start, &what);
    node.stop();
    let mut node = open(&root);
    assert!(node.clean && node.damaged.is_empty(), "{what}");
    assert!(node.read_all(1) == found, "{what}: after a stop");
}

/// The newest batch of each producer says how far it was, with or without records.
fn check_producers(expected: &Expected, found: &[StoredBatch], start: i64, what: &str) {
    for (id, (last, sequence)) in expected.producers.iter().filter(|(_, (last, _))| *last >= start) {
        let newest = found.iter().rev().find(|batch| batch.header().producer_id == *id);
        let newest = newest.unwrap_or_else(|| panic!("{what}: producer {id} is forgotten"));
        assert_eq!((newest.last_offset().get(), newest.header().last_sequence()), (*last, Some(*sequence)), "{what}");
    }
}

/// From every offset, also one in a hole, a read goes on at the next batch.
fn check_reads(node: &mut Node, found: &[StoredBatch], what: &str) {
    let disk = Arc::clone(&node.disk);
    let (start, end) = (node.log(1).log_start(), node.log(1).log_end());
    for from in start.get()..end.get() {
        let plan = node.log(1).plan_read(Offset::new(from), end, 1).unwrap();
        let read = plan.run(&*disk, ReadMode::Blocking).unwrap();
        let next = found.iter().find(|batch| batch.last_offset().get() >= from);
        assert_eq!(read.next, next.map(StoredBatch::next_offset), "{what}: from {from}");
    }
}

/// The first record of at least some time, and the newest one, are the right ones.
fn check_times(node: &mut Node, found: &[StoredBatch], start: i64, what: &str) {
    let disk = Arc::clone(&node.disk);
    let all = records(found);
    let end = node.log(1).log_end();
    let times: Vec<i64> = all.values().map(|put| put.time_ms).collect();
    for time_ms in times.iter().step_by(7).flat_map(|time| [*time, time + 1]) {
        let (got, _) =
            node.log(1).plan_time(TimeTarget::AtLeast(time_ms), end).run(&*disk, ReadMode::Blocking).unwrap();
        let first = all.range(start..).find(|(_, put)| put.time_ms >= time_ms);
        assert_eq!(got.map(|got| got.offset.get()), first.map(|(offset, _)| *offset), "{what}: at {time_ms}");
    }
    let (got, _) = node.log(1).plan_time(TimeTarget::Newest, end).run(&*disk, ReadMode::Blocking).unwrap();
    let newest = all.range(start..).map(|(_, put)| put.time_ms).max();
    assert_eq!(got.map(|got| got.timestamp_ms), newest, "{what}");
}

#[test]
fn a_compacted_log_keeps_the_newest_record_of_each_key_through_any_operations_and_crashes() {
    for seed in 0..40 {
        run(seed);
    }
}

#[test]
fn compaction_leaves_little_of_a_log_with_few_keys_and_no_tombstone_whose_time_has_come() {
    let (_dir, root) = temp();
    let mut random = Random(5);
    let mut node = open(&root);
    node.create(1, &compacted(5_000));
    let mut expected = Expected::default();
    for step in 0..300 {
        let batch = expected.batch(&mut random, 10, 1_000 + step);
        node.append(1, batch);
    }
    // Key 9 is deleted for good; what follows is there to close its segment.
    for (key, value) in [(9u64, None), (10, Some(1))] {
        let offset = expected.end;
        let text = value.map(|value: u64| format!("{value:>60}"));
        let builder =
            BatchBuilder::new().record(1_400, Some(&key.to_be_bytes()), text.as_deref().map(str::as_bytes), &[]);
        node.append(1, builder.finish().place(Offset::new(offset), LeaderEpoch::new(1)));
        expected.puts.insert(offset, Put { key, value, time_ms: 1_400 });
        expected.end += 1;
    }
    for step in 0..60 {
        let batch = expected.batch(&mut random, 2, 1_500 + step);
        node.append(1, batch);
    }
    node.commit();
    node.checkpoint(false);
    let before = node.log(1).size_bytes();
    assert!(clean(&mut node, &expected, 2_000, 1 << 20) > 0);
    let cleaned = node.log(1).cleaned_end().get();
    assert!(clean(&mut node, &expected, 2_000, 1 << 20) == 0, "nothing is dirty any more");
    node.commit();
    node.checkpoint(false);
    assert!(node.log(1).size_bytes() * 10 < before, "{} of {before}", node.log(1).size_bytes());
    let tombstones = |node: &mut Node| {
        node.log(1).evict_tail(0);
        let found = records(&node.read_all(1));
        found.range(..cleaned).filter(|(_, put)| put.value.is_none() && put.key == 9).count()
    };
    assert!(tombstones(&mut node) > 0, "their time runs from the first cleaning");
    // Something new, so that it is cleaned again.
    for later in [2_000 + RETENTION_MS - 1, 2_000 + RETENTION_MS] {
        for _ in 0..60 {
            let batch = expected.batch(&mut random, 2, later);
            node.append(1, batch);
        }
        node.commit();
        node.checkpoint(false);
        assert!(clean(&mut node, &expected, later, 1 << 20) > 0);
        node.commit();
        node.flush();
        assert_eq!(tombstones(&mut node) > 0, later < 2_000 + RETENTION_MS);
    }
    // The old files are gone, and each segment has one data file.
    let names = std::fs::read_dir(root.join(folder(1))).unwrap().map(|entry| entry.unwrap().file_name());
    let data = names.filter(|name| name.to_str().is_some_and(|name| name.ends_with(".log"))).count();
    assert_eq!(data, node.log(1).segment_count());
    expected.judge(&node.read_all(1), 0, expected.end, i64::MAX, "few keys");
}

#[test]
fn a_swap_is_refused_when_the_log_is_another_by_then() {
    let (_dir, root) = temp();
    let mut random = Random(9);
    let mut node = open(&root);
    node.create(1, &compacted(1_000));
    let mut expected = Expected::default();
    for step in 0..60 {
        let batch = expected.batch(&mut random, 10, step);
        node.append(1, batch);
    }
    node.commit();
    node.checkpoint(false);
    let means = Means { now_ms: 0, secret: (1, 2), memory_bytes: 1 << 20, producers: BTreeMap::new() };
    let mut cleaning = node.log(1).begin_cleaning(Offset::new(expected.end), means).unwrap();
    let disk = Arc::clone(&node.disk);
    let swap = loop {
        match cleaning.step(&*disk).unwrap() {
            Stepped::Write(steps) => node.run(&steps).unwrap(),
            Stepped::Swap(swap) => break swap,
            Stepped::Read => {}
            Stepped::Done => panic!("nothing was swapped"),
        }
    };
    let entry = node.log(1).delete_before(Offset::new(expected.end - 1)).unwrap();
    node.put(entry);
    let steps = node.log(1).adopt(swap).unwrap_err();
    node.run(&steps).unwrap();
    node.commit();
    node.flush();
    let names = std::fs::read_dir(root.join(folder(1))).unwrap().map(|entry| entry.unwrap().file_name());
    let rewritten = names.filter(|name| name.to_str().is_some_and(|name| name.contains(".1."))).count();
    assert_eq!(rewritten, 0);
    expected.judge(&node.read_all(1), expected.end - 1, expected.end, 0, "refused");
}

/// A batch of one record, in a transaction of this producer if there is one.
fn single(at: i64, producer: Option<i64>, key: u64, value: u64) -> StoredBatch {
    let mut builder = BatchBuilder::new();
    if let Some(id) = producer {
        builder = builder.producer(id, 0, 0).transactional();
    }
    let text = format!("{value:>60}");
    let builder = builder.record(at, Some(&key.to_be_bytes()), Some(text.as_bytes()), &[]);
    builder.finish().place(Offset::new(at), LeaderEpoch::new(1))
}

fn marker(at: i64, producer: i64, commits: bool) -> StoredBatch {
    let builder = BatchBuilder::new().producer(producer, 0, -1).transactional().control();
    let builder = builder.record(at, Some(&[0, 0, 0, u8::from(commits)]), Some(&[0; 6]), &[]);
    builder.finish().place(Offset::new(at), LeaderEpoch::new(1))
}

#[test]
fn an_aborted_record_replaces_nothing_and_outcomes_go_behind_what_they_decide() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    // A segment for each batch.
    node.create(1, &compacted(60));
    for batch in [
        single(0, None, 1, 10),
        single(1, Some(5), 1, 11),
        marker(2, 5, false),
        single(3, Some(6), 2, 20),
        marker(4, 6, true),
        single(5, None, 2, 21),
        single(6, Some(7), 3, 30),
        marker(7, 7, true),
        single(8, None, 4, 40),
        // This one is open: nothing from here on is compared.
        single(9, Some(8), 4, 41),
        single(10, None, 1, 12),
        single(11, None, 5, 50),
    ] {
        node.append(1, batch);
    }
    node.commit();
    node.checkpoint(false);
    let expected = Expected::default();
    let clean_at = |node: &mut Node, now_ms| {
        let swaps = clean(node, &expected, now_ms, 1 << 20);
        node.commit();
        node.checkpoint(false);
        // What is in memory still is as it was.
        node.log(1).evict_tail(0);
        let all = node.read_all(1);
        (swaps, all.iter().map(|batch| batch.base_offset().get()).collect::<Vec<_>>())
    };
    assert_eq!(clean_at(&mut node, 100), (9, vec![0, 2, 4, 5, 6, 7, 8, 9, 10, 11]));
    // Ended: its record counts now, and what was compared before makes room for the outcomes whose time has come.
    for batch in [marker(12, 8, true), single(13, None, 6, 60), single(14, None, 7, 70)] {
        node.append(1, batch);
    }
    node.commit();
    node.checkpoint(false);
    let (swaps, offsets) = clean_at(&mut node, 100 + RETENTION_MS);
    assert!(swaps > 0);
    assert_eq!(offsets, [5, 6, 7, 9, 10, 11, 12, 13, 14]);
    assert_eq!(records(&node.read_all(1).into_iter().filter(|batch| !batch.is_control()).collect::<Vec<_>>()).len(), 7);
}

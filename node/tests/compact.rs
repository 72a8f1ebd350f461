//! Compaction on three nodes: each compacts by itself, a follower takes a log with holes, readers in a hole go on behind it.
//!
//! All time is the time of that world.

mod cluster;

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::{Cluster, name};
use model::batch::{BatchBuilder, split_stored};
use model::{Offset, PartitionIndex, TopicPartition};
use node::requests::{Acks, Answer, FetchLimits, FetchPart, FoundOffset, NewTopic, Position, Produce, ProducePart};
use storage::disk::ReadMode;
use storage::record::{ReadLimits, RecordReader};

const THREE: [i32; 3] = [1, 2, 3];
const KEYS: u8 = 5;

struct Bed {
    cluster: Cluster,
    partition: TopicPartition,
}

impl Bed {
    fn new() -> Bed {
        let mut cluster = Cluster::founded(&THREE);
        let config = [
            ("cleanup.policy", "compact"),
            ("segment.ms", "100"),
            ("min.cleanable.dirty.ratio", "0.05"),
            ("delete.retention.ms", "600000"),
        ];
        let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let topic = NewTopic { config, partitions: Some(1), ..NewTopic::with_defaults(name("t")) };
        let created = cluster.ask(1, |node, now, reply, fx| node.create_topics(now, vec![topic], false, reply, fx));
        match cluster.answer(created, 2_000) {
            Answer::TopicsCreated(answers) => assert!(answers.iter().all(Result::is_ok), "{answers:?}"),
            other => panic!("{other:?}"),
        }
        let topic = cluster.image(1).topic(&name("t")).expect("created").id;
        let partition = TopicPartition { topic, partition: PartitionIndex::new(0) };
        let mut bed = Bed { cluster, partition };
        bed.until_in_sync();
        bed
    }

    fn until_in_sync(&mut self) {
        let partition = self.partition;
        self.cluster.until("all are in sync", 30_000, |cluster| {
            let in_sync = |node| cluster.image(node).partition(partition).is_some_and(|info| info.isr.len() == 3);
            THREE.into_iter().all(in_sync)
        });
    }

    fn leader(&self) -> i32 {
        let seen_by = self.cluster.running()[0];
        self.cluster.image(seen_by).partition(self.partition).and_then(|info| info.leader).expect("somebody leads").0
    }

    /// One record; a value of `None` deletes the key.
    fn put(&mut self, key: u8, value: Option<&str>) {
        let time_ms = self.cluster.now.wall_ms;
        let batch = BatchBuilder::new().record(time_ms, Some(&[key]), value.map(str::as_bytes), &[]).finish();
        let parts = vec![ProducePart { partition: self.partition, batch }];
        let (leader, timeout) = (self.leader(), Duration::from_secs(30));
        let sent = self.cluster.ask(leader, |node, now, reply, fx| {
            node.produce(now, Produce { acks: Acks::All, timeout, parts, reply }, fx);
        });
        assert!(matches!(self.cluster.answer(sent, 1_000), Answer::Produced(answer) if answer.parts[0].is_ok()));
        self.cluster.pass(30);
    }

    /// Key and value by offset, from `from` on, as a node hands them out.
    fn read(&self, node: i32, from: i64) -> BTreeMap<i64, (u8, Option<String>)> {
        let (mut next, mut all) = (from, BTreeMap::new());
        loop {
            let partition = self.partition;
            let part =
                FetchPart { partition, from: next, bytes_max: 1 << 20, current_epoch: None, last_fetched_epoch: None };
            let limits = FetchLimits { bytes_max: 1 << 20, committed_only: false, at_follower: true };
            let fetched = self.cluster.node(node).fetch(&[part], limits, ReadMode::Blocking).parts.pop().expect("one");
            assert_eq!(fetched.error, None, "node {node} at {next}");
            if fetched.records.is_empty() {
                return all;
            }
            for batch in split_stored(fetched.records.concat().into()) {
                let batch = batch.expect("a whole batch");
                next = batch.next_offset().get();
                let records = batch.records();
                let mut reader = RecordReader::new(batch.header(), &records, ReadLimits::default()).expect("records");
                while let Some(record) = reader.next().expect("a record") {
                    let value = record.value.map(|value| String::from_utf8_lossy(value).into_owned());
                    all.insert(record.offset.get(), (record.key.expect("keyed")[0], value));
                }
            }
        }
    }

    fn status(&self, node: i32) -> (Offset, u64) {
        let status = self.cluster.node(node).partition_status(self.partition).expect("it is here");
        (status.log_end, status.bytes)
    }
}

fn newest(records: &BTreeMap<i64, (u8, Option<String>)>) -> BTreeMap<u8, (i64, Option<String>)> {
    records.iter().map(|(offset, (key, value))| (*key, (*offset, value.clone()))).collect()
}

#[test]
fn replicas_compact_by_themselves_and_one_that_begins_anew_takes_what_is_left() {
    let mut bed = Bed::new();
    for round in 0..40 {
        for key in 0..KEYS {
            let value = format!("{round}");
            bed.put(key, (round < 39 || key > 0).then_some(&value));
        }
    }
    let all = bed.read(bed.leader(), 0);
    assert_eq!(all.len(), 40 * usize::from(KEYS));
    let (end, bytes) = bed.status(bed.leader());
    bed.cluster.until("all have compacted", 120_000, |cluster| {
        THREE.into_iter().all(|node| {
            let status = cluster.node(node).partition_status(bed.partition).expect("it is here");
            status.bytes * 4 < bytes
        })
    });
    for node in THREE {
        let left = bed.read(node, 0);
        assert!(left.iter().all(|(offset, record)| all.get(offset) == Some(record)), "node {node}: offsets change");
        assert_eq!(newest(&left), newest(&all), "node {node}");
        assert_eq!(bed.status(node).0, end);
        // From a hole a reader goes on at the next batch.
        for from in 0..end.get() {
            assert!(bed.read(node, from).into_iter().eq(left.range(from..).map(|(at, record)| (*at, record.clone()))));
        }
    }
    let leader = bed.leader();
    let first = *bed.read(leader, 0).keys().next().expect("something is left");
    let found = bed.cluster.node(leader).list_offset(bed.partition, None, Position::AtTime(0), ReadMode::Blocking);
    assert_eq!(found.map(|FoundOffset { offset, .. }| offset), Ok(Some(Offset::new(first))));

    let gone = THREE.into_iter().find(|node| *node != leader).expect("there are three");
    bed.cluster.kill(gone);
    bed.cluster.pass(3_000);
    bed.cluster.wipe(gone);
    bed.cluster.start(gone);
    bed.cluster.pass(1_000);
    bed.until_in_sync();
    assert_eq!(bed.status(gone).0, end);
    assert_eq!(newest(&bed.read(gone, 0)), newest(&all));
    // It leads, and goes on where the others ended.
    THREE.into_iter().filter(|node| *node != gone).for_each(|node| bed.cluster.kill(node));
    THREE.into_iter().filter(|node| *node != gone).for_each(|node| bed.cluster.start(node));
    bed.cluster.pass(10_000);
    bed.until_in_sync();
    bed.put(1, Some("last"));
    assert_eq!(bed.status(bed.leader()).0, Offset::new(end.get() + 1));
    assert_eq!(newest(&bed.read(bed.leader(), 0)).get(&1), Some(&(end.get(), Some("last".to_owned()))));
}

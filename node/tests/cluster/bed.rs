//! Three nodes and a topic: who produces to it, reads from it, and moves it.

use std::time::Duration;

use bytes::Bytes;
use model::batch::{Batch, BatchBuilder, split_stored};
use model::{LeaderEpoch, NodeId, Offset, PartitionIndex, TopicPartition};
use node::requests::{
    Acks, Answer, AppendError, Appended, ControllerAnswer, ControllerRequest, FetchLimits, FetchPart, FetchedPart,
    NewTopic, Produce, ProducePart,
};
use replication::controller::requests::NamedPartition;
use replication::metadata::PartitionInfo;
use storage::disk::ReadMode;

use super::{Cluster, name};

pub const THREE: [i32; 3] = [1, 2, 3];

pub struct Bed {
    pub cluster: Cluster,
    pub partition: TopicPartition,
    pub sequence: i32,
}

impl Bed {
    /// Three nodes, and a topic of one partition on all of them.
    pub fn new() -> Bed {
        Bed::with(1, &[])
    }

    pub fn with(count: u32, config: &[(&str, &str)]) -> Bed {
        let topic = NewTopic { partitions: Some(count), ..NewTopic::with_defaults(name("t")) };
        Bed::of(topic, config, &THREE)
    }

    pub fn of(topic: NewTopic, config: &[(&str, &str)], replicas: &[i32]) -> Bed {
        let mut cluster = Cluster::founded(&THREE);
        let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let topic = NewTopic { config, ..topic };
        let request = cluster.ask(1, |node, now, reply, fx| node.create_topics(now, vec![topic], false, reply, fx));
        match cluster.answer(request, 2_000) {
            Answer::TopicsCreated(answers) => assert!(answers.iter().all(Result::is_ok), "{answers:?}"),
            other => panic!("{other:?}"),
        }
        let topic = cluster.image(1).topic(&name("t")).expect("created").id;
        let partition = TopicPartition { topic, partition: PartitionIndex::new(0) };
        let mut bed = Bed { cluster, partition, sequence: 0 };
        bed.until_in_sync(replicas, 2_000);
        bed
    }

    pub fn info(&self, seen_by: i32) -> PartitionInfo {
        PartitionInfo::clone(self.cluster.image(seen_by).partition(self.partition).expect("it is there"))
    }

    pub fn leader(&self) -> i32 {
        let running = self.cluster.running();
        self.info(*running.first().expect("one runs")).leader.expect("somebody leads").0
    }

    pub fn followers(&self) -> Vec<i32> {
        let leader = self.leader();
        THREE.into_iter().filter(|node| *node != leader).collect()
    }

    /// Until every running node sees this in-sync set.
    pub fn until_in_sync(&mut self, nodes: &[i32], millis: u64) -> Duration {
        let partition = self.partition;
        let want: Vec<NodeId> = nodes.iter().map(|node| NodeId(*node)).collect();
        self.cluster.until("the in-sync set is as it should be", millis, |cluster| {
            cluster.running().into_iter().all(|node| {
                let image = cluster.image(node);
                let Some(info) = image.partition(partition) else { return false };
                let mut isr = info.isr.clone();
                isr.sort();
                isr == want && info.leader.is_some()
            })
        })
    }

    pub fn batch(&mut self, value: &str) -> Batch {
        let batch = BatchBuilder::new().producer(7, 0, self.sequence).record(1_000, None, Some(value.as_bytes()), &[]);
        self.sequence += 1;
        batch.finish()
    }

    pub fn send(&mut self, node: i32, acks: Acks, batch: Batch) -> u64 {
        let partition = self.partition;
        self.cluster.ask(node, |node, now, reply, fx| {
            let parts = vec![ProducePart { partition, batch }];
            node.produce(now, Produce { acks, timeout: Duration::from_secs(30), parts, reply }, fx);
        })
    }

    pub fn result(&mut self, request: u64, millis: u64) -> Result<Appended, AppendError> {
        match self.cluster.answer(request, millis) {
            Answer::Produced(mut answer) => answer.parts.pop().expect("one part"),
            other => panic!("{other:?}"),
        }
    }

    /// Appends to whoever leads, with acks=all.
    pub fn append(&mut self, value: &str) -> i64 {
        let batch = self.batch(value);
        let leader = self.leader();
        let request = self.send(leader, Acks::All, batch);
        self.result(request, 1_000).expect("acknowledged").base_offset.get()
    }

    pub fn fetch(&self, node: i32, from: i64, at_follower: bool, epoch: Option<LeaderEpoch>) -> FetchedPart {
        let part = FetchPart {
            partition: self.partition,
            from,
            bytes_max: 1 << 20,
            current_epoch: epoch,
            last_fetched_epoch: None,
        };
        let limits = FetchLimits { bytes_max: 1 << 20, committed_only: false, at_follower };
        self.cluster.node(node).fetch(&[part], limits, ReadMode::Blocking).parts.pop().expect("one part")
    }

    /// Everything that a node hands out, as bytes and as values.
    pub fn read(&self, node: i32) -> (Bytes, Vec<String>) {
        let (mut next, mut all, mut values) = (0, Vec::new(), Vec::new());
        loop {
            let fetched = self.fetch(node, next, true, None);
            assert_eq!(fetched.error, None, "node {node} at {next}");
            if fetched.records.is_empty() {
                return (all.into(), values);
            }
            let bytes = fetched.records.concat();
            all.extend_from_slice(&bytes);
            for batch in split_stored(bytes.into()) {
                let batch = batch.expect("a whole batch");
                next = batch.next_offset().get();
                let records = batch.records();
                let limits = storage::record::ReadLimits::default();
                let mut reader = storage::record::RecordReader::new(batch.header(), &records, limits).expect("records");
                while let Some(record) = reader.next().expect("a record") {
                    values.push(String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned());
                }
            }
        }
    }

    pub fn ask_controller(&mut self, node: i32, request: ControllerRequest) -> ControllerAnswer {
        let asked = self.cluster.ask(node, |node, now, reply, fx| {
            node.ask_controller(now, request, Duration::from_secs(5), reply, fx);
        });
        match self.cluster.answer(asked, 6_000) {
            Answer::Controller(Ok(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub fn named(&self) -> NamedPartition {
        NamedPartition { topic: name("t"), partition: self.partition.partition }
    }

    pub fn high_watermark(&self, node: i32) -> i64 {
        self.cluster.node(node).partition_status(self.partition).expect("it is here").high_watermark.get()
    }

    pub fn log_end(&self, node: i32) -> Offset {
        self.cluster.node(node).partition_status(self.partition).expect("it is here").log_end
    }

    /// All running replicas hand out the same bytes, with these values.
    pub fn until_equal(&mut self, values: &[&str], millis: u64) {
        let count = i64::try_from(values.len()).expect("few");
        let partition = self.partition;
        self.cluster.until("all replicas know what is committed", millis, |cluster| {
            let end = |node| cluster.node(node).partition_status(partition).expect("it is here").high_watermark.get();
            cluster.running().into_iter().all(|node| end(node) == count)
        });
        let running = self.cluster.running();
        let first = self.read(running[0]);
        assert_eq!(first.1, values);
        for node in running {
            assert_eq!(self.read(node), first, "node {node}");
        }
    }
}

//! A world of one thread around one node: carries out its effects one after the other, keeps the time by hand.
//!
//! Owns the queue of disk operations, the clock, and the answers. What a test does not carry out stays in the queue: so it can see
//! what has not happened yet, and crash in between.

#![allow(dead_code, reason = "each test uses its part")]

pub mod fault_disk;
pub mod small_disk;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::batch::{Batch, BatchBuilder, split_stored};
use model::{LeaderEpoch, NodeId, Now, Offset, PartitionIndex, TopicName, TopicPartition};
use node::Node;
use node::config::NodeConfig;
use node::effects::{Effect, Effects, ReplySink, ReplyTo};
use node::requests::{
    Acks, Answer, AppendError, Appended, FetchLimits, FetchPart, FetchedPart, NewTopic, Produce, ProducePart,
};
use storage::disk::{Disk, DiskError, DiskOp, ReadMode, RealDisk, Step};

struct NoSink;

impl ReplySink for NoSink {
    fn reply(&self, _: u64, _: Answer) {}
    fn wake(&self, _: u64) {}
}

pub struct World {
    pub node: Node,
    pub disk: Arc<dyn Disk>,
    pub now: Now,
    pub operations: VecDeque<DiskOp>,
    pub answers: BTreeMap<u64, Answer>,
    pub woken: Vec<u64>,
    pub ready: bool,
    pub fatal: Option<String>,
    next_request: u64,
    tick_at: Duration,
    /// Steps that ran, for tests of what an idle node does.
    pub steps_run: u64,
    /// Operations whose steps match fail with this.
    pub fail: Option<fn(&Step) -> Option<DiskError>>,
}

pub fn config(dir: &Path) -> NodeConfig {
    NodeConfig { boot_id: "boot".to_owned(), ..NodeConfig::new(NodeId(1), dir.to_path_buf()) }
}

impl World {
    /// Opens the directory and runs until the node is ready.
    pub fn open(dir: &Path, seed: u64) -> World {
        World::open_with(config(dir), seed)
    }

    pub fn open_with(config: NodeConfig, seed: u64) -> World {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(&config.data_dir, 64));
        World::open_on(config, disk, seed)
    }

    pub fn open_on(config: NodeConfig, disk: Arc<dyn Disk>, seed: u64) -> World {
        let now = Now { mono: Duration::from_secs(1_000), wall_ms: 1_700_000_000_000 };
        let mut fx = Effects::new();
        let node = Node::open(config, Arc::clone(&disk), seed, now, &mut fx).expect("the directory opens");
        let mut world = World {
            node,
            disk,
            now,
            operations: VecDeque::new(),
            answers: BTreeMap::new(),
            woken: Vec::new(),
            ready: false,
            fatal: None,
            next_request: 1,
            tick_at: now.mono,
            steps_run: 0,
            fail: None,
        };
        world.take(fx);
        world.run();
        assert!(world.ready, "ready after the start");
        world
    }

    pub fn request(&mut self) -> ReplyTo {
        let request = self.next_request;
        self.next_request += 1;
        ReplyTo { sink: Arc::new(NoSink), request }
    }

    /// Calls the node and takes its effects.
    pub fn call<T>(&mut self, call: impl FnOnce(&Node, Now, &mut Effects) -> T) -> T {
        let mut fx = Effects::new();
        let result = call(&self.node, self.now, &mut fx);
        self.take(fx);
        result
    }

    fn take(&mut self, fx: Effects) {
        for effect in fx {
            match effect {
                Effect::Reply { to, answer } => {
                    let before = self.answers.insert(to.request, answer);
                    assert!(before.is_none(), "request {} was answered twice", to.request);
                }
                Effect::Wake { waiter } => self.woken.push(waiter.request),
                Effect::Disk(op) => self.operations.push_back(op),
                Effect::TickBy { mono } => self.tick_at = self.tick_at.min(mono),
                Effect::Read(work) => {
                    let done = work.run(&*self.disk);
                    self.call(|node, now, fx| node.read_done(now, done, fx));
                }
                Effect::Link { .. } => {}
                Effect::Send { .. } => panic!("there is no other node"),
                Effect::Ready => self.ready = true,
                Effect::Fatal { reason } => self.fatal = Some(reason),
            }
        }
    }

    /// Carries out one disk operation.
    pub fn step(&mut self) -> bool {
        let Some(op) = self.operations.pop_front() else { return false };
        self.steps_run += 1;
        let failed = self.fail.and_then(|fail| op.steps.iter().find_map(fail));
        let result = failed.map_or_else(|| op.run(&*self.disk), Err);
        self.call(|node, now, fx| node.disk_done(now, op.ticket, result, fx));
        true
    }

    /// Carries out everything; no time passes.
    pub fn run(&mut self) {
        while self.step() {}
    }

    /// Lets time pass, with ticks when they are due, and carries out what comes of it.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.mono + time;
        loop {
            self.run();
            if self.tick_at > end {
                break;
            }
            self.set_time(self.tick_at.max(self.now.mono));
            self.tick();
        }
        self.set_time(end);
        self.run();
    }

    pub fn tick(&mut self) {
        let wait = self.call(|node, now, fx| node.tick(now, fx));
        self.tick_at = self.now.mono + wait.max(Duration::from_millis(1));
    }

    fn set_time(&mut self, mono: Duration) {
        let passed = mono.saturating_sub(self.now.mono);
        self.now.wall_ms += i64::try_from(passed.as_millis()).expect("short");
        self.now.mono = mono;
    }

    pub fn create_topic(&mut self, name: &str, partitions: u32, config: &[(&str, &str)]) {
        let mut topic = NewTopic::with_defaults(TopicName::new(name).expect("a name"));
        topic.partitions = Some(partitions);
        topic.config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let to = self.request();
        let request = to.request;
        self.call(|node, now, fx| node.create_topics(now, vec![topic], false, to, fx));
        self.run();
        match self.answers.remove(&request) {
            Some(Answer::TopicsCreated(answers)) => assert!(answers.iter().all(Result::is_ok), "{answers:?}"),
            other => panic!("{other:?}"),
        }
    }

    pub fn partition(&self, topic: &str, partition: u32) -> TopicPartition {
        let image = self.node.image();
        let topic = image.topic(&TopicName::new(topic).expect("a name")).expect("the topic is there");
        TopicPartition { topic: topic.id, partition: PartitionIndex::new(partition) }
    }

    /// Sends a batch and returns the request's number.
    pub fn send(&mut self, partition: TopicPartition, acks: Acks, batch: Batch) -> u64 {
        let reply = self.request();
        let request = reply.request;
        let parts = vec![ProducePart { partition, batch }];
        let produce = Produce { acks, timeout: Duration::from_secs(30), parts, reply };
        self.call(|node, now, fx| node.produce(now, produce, fx));
        request
    }

    pub fn answer(&mut self, request: u64) -> Option<Result<Appended, AppendError>> {
        match self.answers.remove(&request)? {
            Answer::Produced(mut answer) => answer.parts.pop(),
            other => panic!("{other:?}"),
        }
    }

    /// Sends and carries everything out; the offset.
    pub fn produce(&mut self, partition: TopicPartition, acks: Acks, batch: Batch) -> i64 {
        let request = self.send(partition, acks, batch);
        self.run();
        self.answer(request).expect("answered").expect("appended").base_offset.get()
    }

    pub fn fetch(&self, partition: TopicPartition, from: i64) -> FetchedPart {
        let bytes_max = 1 << 20;
        let part = FetchPart { partition, from, bytes_max, current_epoch: None, last_fetched_epoch: None };
        let limits = FetchLimits { bytes_max: 50 << 20, committed_only: false, at_follower: false };
        let mut read = self.node.fetch(&[part], limits, ReadMode::Blocking);
        read.parts.pop().expect("one part")
    }

    /// All values from an offset on.
    pub fn read_all(&self, partition: TopicPartition, from: i64) -> Vec<(i64, String)> {
        let mut values = Vec::new();
        let mut next = from;
        loop {
            let fetched = self.fetch(partition, next);
            assert_eq!(fetched.error, None);
            if fetched.records.is_empty() {
                return values;
            }
            for batch in split_stored(fetched.records.concat().into()) {
                let batch = batch.expect("a whole batch");
                next = batch.next_offset().get();
                values.extend(records(&batch).into_iter().filter(|(offset, _)| *offset >= from));
            }
        }
    }

    /// Stops in order.
    pub fn shut_down(mut self) -> World {
        let to = self.request();
        let request = to.request;
        self.call(|node, now, fx| node.shutdown(now, to, fx));
        self.pass(Duration::from_secs(5));
        assert!(matches!(self.answers.remove(&request), Some(Answer::ShutDown)), "stopped in order");
        assert_eq!(self.fatal, None);
        self
    }
}

fn records(batch: &model::batch::StoredBatch) -> Vec<(i64, String)> {
    let bytes = batch.records();
    let mut reader = storage::record::RecordReader::new(batch.header(), &bytes, storage::record::ReadLimits::default())
        .expect("records");
    let mut found = Vec::new();
    while let Some(record) = reader.next().expect("a record") {
        let value = record.value.map(|value| String::from_utf8_lossy(value).into_owned());
        found.push((record.offset.get(), value.unwrap_or_default()));
    }
    found
}

pub fn batch(values: &[&str]) -> Batch {
    batch_at(1_000, values)
}

pub fn batch_at(timestamp_ms: i64, values: &[&str]) -> Batch {
    let mut builder = BatchBuilder::new();
    for value in values {
        builder.push(timestamp_ms, None, Some(value.as_bytes()), &[]);
    }
    builder.finish()
}

/// Of an idempotent producer.
pub fn sequenced(producer: i64, epoch: i16, first: i32, values: &[&str]) -> Batch {
    let mut builder = BatchBuilder::new().producer(producer, epoch, first);
    for value in values {
        builder.push(1_000, None, Some(value.as_bytes()), &[]);
    }
    builder.finish()
}

pub fn epoch_of(world: &World, partition: TopicPartition) -> LeaderEpoch {
    world.node.partition_status(partition).expect("it is here").epoch
}

pub fn end_of(world: &World, partition: TopicPartition) -> Offset {
    world.node.partition_status(partition).expect("it is here").log_end
}

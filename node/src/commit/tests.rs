//! Who is told that a group is durable, in which order; and what a stop lets in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use model::batch::BatchBuilder;
use model::limits;
use model::{NodeId, Now, PartitionIndex, TopicName, TopicPartition};
use storage::disk::{Disk, DiskError, DiskOp, Lane, RealDisk, Step};

use crate::config::NodeConfig;
use crate::effects::{Effect, Effects, ReplySink, ReplyTo};
use crate::node::Node;
use crate::requests::{Acks, Answer, AppendError, NewTopic, Produce, ProducePart, TopicRef};

struct NoSink;

impl ReplySink for NoSink {
    fn reply(&self, _: u64, _: Answer) {}
    fn wake(&self, _: u64) {}
}

fn reply(request: u64) -> ReplyTo {
    ReplyTo { sink: Arc::new(NoSink), request }
}

/// A node with a topic of one partition; what is asked of the disk waits until it is carried out.
pub(crate) struct Bench {
    pub(crate) node: Arc<Node>,
    disk: Arc<dyn Disk>,
    pub(crate) operations: VecDeque<DiskOp>,
    answers: Vec<(u64, Answer)>,
    /// Why it gave up.
    pub(crate) fatal: Vec<String>,
    _dir: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new(config: &[(&str, &str)]) -> Bench {
        let dir = tempfile::tempdir().expect("a folder");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.path(), 64));
        let mut fx = Effects::new();
        let node_config = NodeConfig::new(NodeId(1), dir.path().to_path_buf());
        let node = Node::open(node_config, Arc::clone(&disk), 1, Now::default(), &mut fx).expect("opens");
        let mut bench = Bench {
            node: Arc::new(node),
            disk,
            operations: VecDeque::new(),
            answers: Vec::new(),
            fatal: Vec::new(),
            _dir: dir,
        };
        bench.take(fx);
        bench.run();
        bench.create(config);
        bench.run();
        bench.answers.clear();
        bench
    }

    pub(crate) fn create(&mut self, config: &[(&str, &str)]) {
        let mut topic = NewTopic::with_defaults(TopicName::new("t").expect("a name"));
        topic.config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut fx = Effects::new();
        self.node.create_topics(Now::default(), vec![topic], false, reply(0), &mut fx);
        self.take(fx);
    }

    pub(crate) fn delete(&mut self) {
        let mut fx = Effects::new();
        let topic = TopicRef::Id(self.partition().topic);
        self.node.delete_topics(Now::default(), vec![topic], reply(0), &mut fx);
        self.take(fx);
    }

    pub(crate) fn take(&mut self, fx: Effects) {
        for effect in fx {
            match effect {
                Effect::Disk(op) => self.operations.push_back(op),
                Effect::Reply { to, answer } => self.answers.push((to.request, answer)),
                Effect::Fatal { reason } => self.fatal.push(reason),
                _ => {}
            }
        }
    }

    pub(crate) fn finish(&mut self, op: DiskOp) {
        let mut fx = Effects::new();
        self.node.disk_done(Now::default(), op.ticket, op.run(&*self.disk), &mut fx);
        self.take(fx);
    }

    pub(crate) fn step(&mut self) -> bool {
        let Some(op) = self.operations.pop_front() else { return false };
        self.finish(op);
        true
    }

    pub(crate) fn run(&mut self) {
        while self.step() {}
    }

    pub(crate) fn partition(&self) -> TopicPartition {
        let topic = self.node.image().topics().next().expect("created").id;
        TopicPartition { topic, partition: PartitionIndex::new(0) }
    }

    pub(crate) fn produce(&mut self, request: u64) {
        self.produce_value(request, b"v");
    }

    fn produce_value(&mut self, request: u64, value: &[u8]) {
        let batch = BatchBuilder::new().record(1, None, Some(value), &[]).finish();
        let parts = vec![ProducePart { partition: self.partition(), batch }];
        let produce = Produce { acks: Acks::All, timeout: Duration::from_secs(9), parts, reply: reply(request) };
        let mut fx = Effects::new();
        self.node.produce(Now::default(), produce, &mut fx);
        self.take(fx);
    }

    fn lanes(&self) -> Vec<Lane> {
        self.operations.iter().map(|op| op.lane).collect()
    }

    fn answered(&self) -> Vec<u64> {
        self.answers.iter().map(|(request, _)| *request).collect()
    }
}

#[test]
fn groups_that_complete_while_another_thread_tells_are_told_behind_it_and_in_order() {
    let mut bench = Bench::new(&[]);
    let node = Arc::clone(&bench.node);
    let busy = node.core.commit.teller.lock().expect("nobody panicked");
    for request in 1..=3 {
        bench.produce(request);
        bench.run();
    }
    assert_eq!(bench.answered(), []);
    drop(busy);
    bench.produce(4);
    bench.run();
    assert_eq!(bench.answered(), [1, 2, 3, 4]);
}

/// Three large appends, the first of which is on its way to the segment alone; the journal's own write is done.
fn large_appends() -> Bench {
    let mut bench = Bench::new(&[]);
    let value = vec![7; usize::try_from(limits::JOURNAL_DIRECT_BYTES).expect("small")];
    bench.produce(1);
    bench.run();
    bench.produce_value(2, &value);
    assert_eq!(bench.lanes(), [Lane::Journal, Lane::Segments]);
    bench.step();
    bench.produce_value(3, &value);
    bench.produce_value(4, &value);
    bench
}

#[test]
fn large_appends_wait_for_a_direct_write_of_their_log_and_follow_in_one() {
    let mut bench = large_appends();
    assert_eq!(bench.lanes(), [Lane::Segments]);
    bench.step();
    assert_eq!(bench.answered(), [1, 2]);
    let direct = |op: &DiskOp| op.steps.iter().any(|step| matches!(step, Step::Sync { .. }));
    assert_eq!(bench.operations.iter().filter(|op| op.lane == Lane::Journal).count(), 1);
    assert_eq!(bench.operations.iter().filter(|op| direct(op)).count(), 1);
    bench.run();
    assert_eq!(bench.answered(), [1, 2, 3, 4]);
}

#[test]
fn nothing_waits_for_a_direct_write_that_found_the_disk_full() {
    let mut bench = large_appends();
    let op = bench.operations.pop_front().expect("the direct write");
    let full = DiskError::Full { path: "t-0".into(), what: "write" };
    let mut fx = Effects::new();
    bench.node.disk_done(Now::default(), op.ticket, Err(full), &mut fx);
    bench.take(fx);
    assert!(bench.lanes().contains(&Lane::Journal));
    bench.run();
    assert_eq!(bench.answered(), [1]);
    let later = Now { mono: Duration::from_secs(60), ..Now::default() };
    let mut fx = Effects::new();
    bench.node.tick(later, &mut fx);
    bench.take(fx);
    bench.run();
    assert_eq!(bench.answered(), [1, 2, 3, 4]);
}

#[test]
fn no_log_takes_an_append_once_the_last_checkpoint_has_begun() {
    for config in [&[][..], &[("flush.messages", "1000")]] {
        let mut bench = Bench::new(config);
        bench.produce(1);
        bench.run();
        let partition = bench.node.core.table.get(bench.partition()).expect("here");
        let mut fx = Effects::new();
        partition.begin_checkpoint(&bench.node.core, Now::default(), true, &mut fx);
        bench.take(fx);
        // A request that was let in before the stop, and comes to the log only now.
        bench.produce(2);
        bench.run();
        let Some((2, Answer::Produced(answer))) = bench.answers.pop() else { panic!("{:?}", bench.answers) };
        assert!(matches!(answer.parts[0], Err(AppendError::NotLeader { .. })));
        assert_eq!(bench.node.partition_status(bench.partition()).expect("here").log_end.get(), 1);
    }
}

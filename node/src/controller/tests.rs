//! Tests of the controller's driver: one node on a real folder, through journal and recovery.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use model::{ErrorCode, LeaderEpoch, LogId, NodeId, Now, ProducerId, TopicName};
use replication::controller::{Random, SNAPSHOT_ENTRIES};
use replication::metadata::record::{LEVEL, LEVEL_FEATURE};
use storage::disk::{Disk, RealDisk};

use storage::log::Log;
use storage::{GroupPart, Journal, Options, Recovered, Store, Unit};

use super::driver::{ControllerDriver, ControllerOut, ControllerStart, FOUNDING};
use crate::birth;
use crate::config::NodeConfig;
use crate::effects::{ReplySink, ReplyTo};
use crate::peer::{Founder, Founding};
use crate::requests::{Answer, NewTopic, TopicRef};

struct NoSink;

impl ReplySink for NoSink {
    fn reply(&self, _request: u64, _answer: Answer) {}
    fn wake(&self, _request: u64) {}
}

fn reply(request: u64) -> ReplyTo {
    ReplyTo { sink: Arc::new(NoSink), request }
}

fn new_topic(raw: &str) -> NewTopic {
    NewTopic::with_defaults(name(raw))
}

fn name(raw: &str) -> TopicName {
    TopicName::new(raw).expect("a valid name")
}

/// Of a node without a join list.
fn start<'a>(
    config: &'a NodeConfig,
    seed: u64,
    store: &'a Store,
    log: Option<Log>,
    notes: &'a BTreeMap<String, Bytes>,
    clean: bool,
) -> ControllerStart<'a> {
    let mut random = Random::new(seed);
    let founding = match notes.get(FOUNDING) {
        Some(note) => Founding::decode(note.clone()).expect("it was written by this version"),
        None => {
            let me = Founder { node: config.id, directory: store.directory_id() };
            birth::alone(me, i16::try_from(LEVEL).expect("small"), &mut random)
        }
    };
    ControllerStart {
        config,
        seed,
        incarnation: random.incarnation(),
        founding: Some(founding),
        store,
        log,
        notes,
        clean,
        lost: BTreeSet::new(),
    }
}

/// A controller on a real folder. The disk does what it is told when `carry_out` is called.
struct Host {
    driver: ControllerDriver,
    disk: Arc<dyn Disk>,
    journal: Journal,
    queue: VecDeque<Unit>,
    told: VecDeque<(u64, u64)>,
    answers: Vec<(u64, Answer)>,
    registered: usize,
    /// Groups of the journal: each is one sync.
    groups: usize,
    snapshots: usize,
}

impl Host {
    /// Opens what is there, as after a crash. Nothing is written yet.
    fn open(dir: &Path, seed: u64) -> (Host, ControllerOut) {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir, 64));
        let options = Options { salt: seed, directory_id: [7; 16], only_copy: true };
        let recovered = Store::open(Arc::clone(&disk), dir, options).expect("the folder is ours");
        let Recovered { store, journal, mut logs, damaged, notes, clean, .. } = recovered;
        assert!(damaged.is_empty(), "{damaged:?}");
        let config = NodeConfig::new(NodeId(1), dir.to_owned());
        let log = logs.remove(&LogId::METADATA).map(|found| found.log);
        let start = start(&config, seed, &store, log, &notes, clean);
        let mut out = ControllerOut::default();
        let driver = ControllerDriver::open(start, Now::default(), &mut out).expect("what was stored can be opened");
        let host = Host {
            driver,
            disk,
            journal,
            queue: VecDeque::new(),
            told: VecDeque::new(),
            answers: Vec::new(),
            registered: 0,
            groups: 0,
            snapshots: 0,
        };
        (host, out)
    }

    fn started(dir: &Path, seed: u64) -> Host {
        let (mut host, out) = Host::open(dir, seed);
        host.carry_out(out);
        host
    }

    /// Does everything that is asked until nothing is. All that is there at once is one group.
    fn carry_out(&mut self, out: ControllerOut) {
        self.take(out);
        while !self.queue.is_empty() {
            let group = self.journal.group(&mut self.queue, &mut |_, _| None).expect("there is room");
            let group = group.expect("the queue is not empty");
            group.steps.iter().try_for_each(|step| step.run(&*self.disk)).expect("the disk works");
            self.groups += 1;
            let durable = self.journal.part_done(group.sequence, GroupPart::Journal);
            for (number, operation) in self.told.drain(..durable.units).collect::<Vec<_>>() {
                let mut out = ControllerOut::default();
                self.driver.persisted(Now::default(), number, operation, &mut out);
                self.take(out);
            }
        }
    }

    fn take(&mut self, out: ControllerOut) {
        assert_eq!(out.fatal, None);
        for unit in out.units {
            self.queue.push_back(unit.unit);
            self.told.push_back((unit.number, unit.operation));
        }
        self.registered += usize::from(out.registered);
        self.answers.extend(out.answers.into_iter().map(|(to, answer)| (to.request, answer)));
        for (what, steps) in out.disk {
            steps.iter().try_for_each(|step| step.run(&*self.disk)).expect("the disk works");
            self.snapshots += 1;
            let mut out = ControllerOut::default();
            self.driver.disk_done(Now::default(), what, &Ok(()), &mut out);
            self.take(out);
        }
    }

    fn ask(&mut self, ask: impl FnOnce(&mut ControllerDriver, &mut ControllerOut)) {
        let mut out = ControllerOut::default();
        ask(&mut self.driver, &mut out);
        self.carry_out(out);
    }

    fn create(&mut self, request: u64, topics: &[NewTopic]) {
        self.ask(|driver, out| driver.create_topics(Now::default(), topics.to_vec(), false, reply(request), out));
    }

    /// The codes of the topics in the newest answer.
    fn codes(&self) -> Vec<ErrorCode> {
        match self.answers.last() {
            Some((_, Answer::TopicsCreated(topics))) => topics
                .iter()
                .map(|topic| topic.as_ref().err().map_or(ErrorCode::None, |refusal| refusal.code))
                .collect(),
            Some((_, Answer::TopicsDeleted(topics))) => topics
                .iter()
                .map(|topic| topic.as_ref().err().map_or(ErrorCode::None, |refusal| refusal.code))
                .collect(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_empty_node_founds_a_cluster_and_is_registered_after_one_write() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let host = Host::started(dir.path(), 1);
    assert_eq!((host.registered, host.groups), (1, 1));
    let image = host.driver.image();
    assert_eq!((image.cluster_id().len(), image.controller()), (22, Some(NodeId(1))));
    assert_eq!(image.features().get(LEVEL_FEATURE).copied(), i16::try_from(LEVEL).ok());
    assert_eq!(image.node(NodeId(1)).map(|info| (info.directory, info.fenced)), Some(([7; 16], false)));
}

#[test]
fn a_restart_is_registered_after_one_write_and_leads_in_new_epochs() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let mut host = Host::started(dir.path(), 1);
    host.create(1, &[new_topic("t")]);
    let before = Arc::clone(host.driver.image());
    let host = Host::started(dir.path(), 2);
    assert_eq!((host.registered, host.groups), (1, 1));
    let image = host.driver.image();
    let partition = &image.topic(&name("t")).expect("it was created").partitions[0];
    assert_eq!((partition.leader, partition.leader_epoch), (Some(NodeId(1)), LeaderEpoch::new(1)));
    assert_eq!(image.cluster_id(), before.cluster_id());
    let incarnation = |image: &replication::metadata::Image| image.node(NodeId(1)).map(|info| info.incarnation);
    assert_ne!(incarnation(image), incarnation(&before));
}

#[test]
fn a_crash_before_the_first_write_leaves_nothing_and_the_next_start_founds() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let (host, out) = Host::open(dir.path(), 1);
    drop((host, out));
    let host = Host::started(dir.path(), 2);
    assert_eq!(host.registered, 1);
}

#[test]
fn topics_are_answered_when_they_are_in_the_image() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let mut host = Host::started(dir.path(), 1);
    let mut out = ControllerOut::default();
    host.driver.create_topics(Now::default(), vec![new_topic("t")], false, reply(5), &mut out);
    assert!(out.answers.is_empty() && out.image.is_none());
    host.carry_out(out);
    assert_eq!(host.codes(), [ErrorCode::None]);
    assert!(host.driver.image().topic(&name("t")).is_some());
    let wanted = [TopicRef::Name(name("t")), TopicRef::Name(name("u"))];
    host.ask(|driver, out| driver.delete_topics(Now::default(), wanted.to_vec(), reply(6), out));
    assert_eq!(host.codes(), [ErrorCode::None, ErrorCode::UnknownTopicOrPartition]);
    assert_eq!(host.driver.image().topic_count(), 0);
}

#[test]
fn a_refusal_because_of_a_topic_that_is_being_created_comes_after_that_topic() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let mut host = Host::started(dir.path(), 1);
    let mut out = ControllerOut::default();
    host.driver.create_topics(Now::default(), vec![new_topic("t")], false, reply(1), &mut out);
    host.driver.create_topics(Now::default(), vec![new_topic("t")], false, reply(2), &mut out);
    assert!(out.answers.is_empty());
    host.carry_out(out);
    assert_eq!(host.answers.iter().map(|(request, _)| *request).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(host.codes(), [ErrorCode::TopicAlreadyExists]);
    // Nothing is on its way: the refusal need not wait.
    host.create(3, &[new_topic("t")]);
    assert_eq!((host.answers.len(), host.codes()), (3, vec![ErrorCode::TopicAlreadyExists]));
}

#[test]
fn a_request_that_only_validates_changes_nothing() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let mut host = Host::started(dir.path(), 1);
    let writes = host.groups;
    host.ask(|driver, out| driver.create_topics(Now::default(), vec![new_topic("t")], true, reply(1), out));
    assert_eq!((host.codes(), host.groups), (vec![ErrorCode::None], writes));
    assert_eq!(host.driver.image().topic_count(), 0);
}

#[test]
fn producer_ids_are_distinct_over_blocks_and_restarts_and_cost_one_write_a_block() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let mut host = Host::started(dir.path(), 1);
    let before = host.groups;
    for request in 0..1_500 {
        host.ask(|driver, out| driver.init_producer_id(Now::default(), reply(request), out));
    }
    assert_eq!(host.groups - before, 2);
    let mut host2 = Host::started(dir.path(), 2);
    host2.ask(|driver, out| driver.init_producer_id(Now::default(), reply(0), out));
    let ids = |host: &Host| -> Vec<ProducerId> {
        let id = |answer: &Answer| match answer {
            Answer::ProducerId(Ok((id, _))) => *id,
            other => panic!("{other:?}"),
        };
        host.answers.iter().map(|(_, answer)| id(answer)).collect()
    };
    let mut all = ids(&host);
    all.extend(ids(&host2));
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!((all.len(), count), (1_501, 1_501));
}

#[test]
fn producers_that_ask_while_a_block_is_on_its_way_share_it() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let mut host = Host::started(dir.path(), 1);
    let mut out = ControllerOut::default();
    for request in 0..10 {
        host.driver.init_producer_id(Now::default(), reply(request), &mut out);
    }
    assert_eq!((out.units.len(), out.answers.len()), (1, 0));
    host.carry_out(out);
    assert_eq!(host.answers.len(), 10);
}

#[test]
fn the_offsets_topic_is_made_once() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let mut host = Host::started(dir.path(), 1);
    let mut out = ControllerOut::default();
    host.driver.ensure_offsets_topic(Now::default(), &mut out);
    host.driver.ensure_offsets_topic(Now::default(), &mut out);
    assert_eq!(out.units.len(), 1);
    host.carry_out(out);
    let topic = Arc::clone(host.driver.image().topic(&name("__consumer_offsets")).expect("it was made"));
    assert_eq!(topic.partitions.len(), 50);
    host.ask(|driver, out| driver.ensure_offsets_topic(Now::default(), out));
    assert_eq!(host.driver.image().topic_count(), 1);
}

#[test]
fn a_long_log_is_replaced_by_a_snapshot_and_a_restart_finds_the_same() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    let mut host = Host::started(dir.path(), 1);
    for _ in 0..=SNAPSHOT_ENTRIES / 400 {
        let mut out = ControllerOut::default();
        for request in 0..200 {
            let name = TopicRef::Name(name("t"));
            host.driver.create_topics(Now::default(), vec![new_topic("t")], false, reply(request), &mut out);
            host.driver.delete_topics(Now::default(), vec![name], reply(request), &mut out);
        }
        host.carry_out(out);
    }
    assert_eq!(host.snapshots, 1);
    host.create(0, &[new_topic("last")]);
    let log = host.driver.log_mut();
    assert!(log.log_end().since(log.log_start()) < SNAPSHOT_ENTRIES / 2);
    let before = Arc::clone(host.driver.image());
    let (again, _) = Host::open(dir.path(), 2);
    assert_eq!(**again.driver.image(), *before);
}

#[test]
fn the_same_calls_with_the_same_seed_queue_the_same_units() {
    let run = || {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let (mut host, mut out) = Host::open(dir.path(), 9);
        host.driver.create_topics(Now::default(), vec![new_topic("t"), new_topic("u")], false, reply(1), &mut out);
        host.driver.init_producer_id(Now::default(), reply(2), &mut out);
        out.units.into_iter().map(|unit| unit.unit).collect::<Vec<_>>()
    };
    let units = run();
    assert!(units.len() > 3);
    assert_eq!(units, run());
}

#[test]
fn a_damaged_snapshot_stops_the_start() {
    let dir = tempfile::tempdir().expect("a folder for the test");
    drop(Host::started(dir.path(), 1));
    let folder = dir.path().join(".weir/metadata");
    std::fs::create_dir_all(&folder).expect("it can be made");
    std::fs::write(folder.join("snapshot"), b"WEIRMETA and something else").expect("it can be written");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.path(), 64));
    let options = Options { salt: 2, directory_id: [7; 16], only_copy: true };
    let recovered = Store::open(disk, dir.path(), options).expect("the folder is ours");
    let Recovered { store, mut logs, notes, clean, .. } = recovered;
    let config = NodeConfig::new(NodeId(1), dir.path().to_owned());
    let log = logs.remove(&LogId::METADATA).map(|found| found.log);
    let start = start(&config, 2, &store, log, &notes, clean);
    let opened = ControllerDriver::open(start, Now::default(), &mut ControllerOut::default());
    let error = opened.err().expect("the snapshot is damaged").to_string();
    assert!(error.contains("snapshot"), "{error}");
}

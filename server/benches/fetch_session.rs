//! One fetch's way through its session: taken, asked what has news, kept. What an idle consumer of many partitions costs.
//!
//! Owns no limits: `cargo bench -p server --bench fetch_session` compares with the run before.

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use model::{NodeId, PartitionIndex, TopicName, TopicPartition};
use node::Node;
use node::config::NodeConfig;
use node::effects::{Effect, Effects, ReplySink, ReplyTo};
use node::requests::{Answer, NewTopic};
use server::api::fetch_sessions::{Begun, FetchSessions, Lease, Slot, TopicKey};
use server::clock;
use storage::disk::{Disk, RealDisk};

const PARTITIONS: [u32; 3] = [1, 100, 5_000];

struct Nobody;

impl ReplySink for Nobody {
    fn reply(&self, _: u64, _: Answer) {}
    fn wake(&self, _: u64) {}
}

/// Carries out what the node asks for until it asks for nothing more.
fn settle(node: &Node, disk: &dyn Disk, mut fx: Effects) {
    loop {
        let mut next = Effects::new();
        let mut asked = false;
        for effect in fx {
            match effect {
                Effect::Disk(operation) => {
                    asked = true;
                    node.disk_done(clock::now(), operation.ticket, operation.run(disk), &mut next);
                }
                Effect::Read(work) => {
                    asked = true;
                    node.read_done(clock::now(), work.run(disk), &mut next);
                }
                Effect::Fatal { reason } => panic!("{reason}"),
                _ => {}
            }
        }
        if !asked {
            return;
        }
        fx = next;
    }
}

/// A node with a topic of so many partitions.
fn node_with(partitions: u32, folder: &std::path::Path) -> (Arc<Node>, Arc<dyn Disk>) {
    let config = NodeConfig { boot_id: "boot".to_owned(), ..NodeConfig::new(NodeId(1), folder.to_path_buf()) };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(folder, 64));
    let mut fx = Effects::new();
    let node = Node::open(config, Arc::clone(&disk), 1, clock::now(), &mut fx).expect("the directory opens");
    settle(&node, &*disk, fx);
    let mut topic = NewTopic::with_defaults(TopicName::new("bench").expect("a good name"));
    topic.partitions = Some(partitions);
    let mut fx = Effects::new();
    let to = ReplyTo { sink: Arc::new(Nobody), request: 1 };
    node.create_topics(clock::now(), vec![topic], false, to, &mut fx);
    settle(&node, &*disk, fx);
    (Arc::new(node), disk)
}

/// The session of a consumer that watches all partitions and has been told all there is.
fn settled(sessions: &FetchSessions, node: &Arc<Node>, partitions: u32) -> i32 {
    let Ok(Begun::New(mut lease)) = sessions.begin(node, 0, 0, true) else { panic!("there is room for a session") };
    let topic = node.image().topics().next().expect("the topic is there").id;
    let session = lease.session.as_mut().expect("a session that begins");
    for partition in 0..partitions {
        session.put(Slot::new(TopicKey::Id(topic), i32::try_from(partition).expect("few partitions")));
    }
    for at in session.to_look_at() {
        session.watch(at, TopicPartition { topic, partition: PartitionIndex::new(at) });
        assert!(session.is_watched(at));
        session.settle(at);
    }
    let id = lease.id;
    lease.keep();
    id
}

fn resume(sessions: &FetchSessions, node: &Arc<Node>, id: i32, epoch: i32) -> Lease {
    let Ok(Begun::Resumed(lease)) = sessions.begin(node, id, epoch, true) else { panic!("the session is there") };
    lease
}

fn sessions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fetch session");
    for partitions in PARTITIONS {
        let folder = tempfile::tempdir().expect("a folder");
        let (node, _disk) = node_with(partitions, folder.path());
        let sessions = FetchSessions::new(10);
        let id = settled(&sessions, &node, partitions);
        let mut epoch = 0;
        group.bench_function(BenchmarkId::new("nothing new", partitions), |bencher| {
            bencher.iter(|| {
                epoch += 1;
                let mut lease = resume(&sessions, &node, id, epoch);
                let session = lease.session.as_mut().expect("a session that goes on");
                assert!(session.to_look_at().is_empty());
                lease.keep();
            });
        });
        let topic = node.image().topics().next().expect("the topic is there").id;
        group.bench_function(BenchmarkId::new("one moved on", partitions), |bencher| {
            bencher.iter(|| {
                epoch += 1;
                let mut lease = resume(&sessions, &node, id, epoch);
                let session = lease.session.as_mut().expect("a session that goes on");
                // as the client does that got records: it asks for what follows them
                let mut slot = Slot::new(TopicKey::Id(topic), 0);
                slot.from = epoch.into();
                session.put(slot);
                session.to_look_at().into_iter().for_each(|at| session.settle(at));
                lease.keep();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, sessions);
criterion_main!(benches);

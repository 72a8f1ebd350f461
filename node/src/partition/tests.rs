//! What a failed assertion does: it costs its partition, and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::batch::BatchBuilder;
use model::{LeaderEpoch, NodeId, Now, PartitionIndex, TopicName, TopicPartition};
use replication::partition::replica::{Event, Leadership};
use storage::disk::{Disk, RealDisk};

use crate::config::NodeConfig;
use crate::effects::{Effect, Effects, ReplySink, ReplyTo};
use crate::node::Node;
use crate::requests::{Acks, Answer, AppendError, NewTopic, Produce, ProducePart};

struct NoSink;

impl ReplySink for NoSink {
    fn reply(&self, _: u64, _: Answer) {}
    fn wake(&self, _: u64) {}
}

fn reply(request: u64) -> ReplyTo {
    ReplyTo { sink: Arc::new(NoSink), request }
}

/// Carries all disk operations out; gives the answers.
fn run(node: &Node, disk: &dyn Disk, mut fx: Effects) -> Vec<(u64, Answer)> {
    let mut answers = Vec::new();
    while !fx.is_empty() {
        let mut next = Effects::new();
        for effect in fx {
            match effect {
                Effect::Disk(op) => node.disk_done(Now::default(), op.ticket, op.run(disk), &mut next),
                Effect::Reply { to, answer } => answers.push((to.request, answer)),
                _ => {}
            }
        }
        fx = next;
    }
    answers
}

fn produce(partition: TopicPartition, request: u64) -> Produce {
    let batch = BatchBuilder::new().record(1, None, Some(b"v"), &[]).finish();
    let parts = vec![ProducePart { partition, batch }];
    Produce { acks: Acks::All, timeout: Duration::from_secs(9), parts, reply: reply(request) }
}

fn result(answers: &[(u64, Answer)], request: u64) -> Result<(), AppendError> {
    let mut found = answers.iter().filter(|(number, _)| *number == request);
    match (found.next(), found.next()) {
        (Some((_, Answer::Produced(answer))), None) => answer.parts[0].clone().map(|_| ()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failed_assertion_takes_one_partition_offline_and_answers_who_waits() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.path(), 64));
    let (now, mut fx) = (Now::default(), Effects::new());
    let config = NodeConfig::new(NodeId(1), dir.path().to_path_buf());
    let node = Node::open(config, Arc::clone(&disk), 1, now, &mut fx).expect("opens");
    run(&node, &*disk, fx);
    let mut fx = Effects::new();
    let mut topic = NewTopic::with_defaults(TopicName::new("t").expect("a name"));
    topic.partitions = Some(2);
    node.create_topics(now, vec![topic], false, reply(0), &mut fx);
    run(&node, &*disk, fx);
    let id = node.image().topics().next().expect("created").id;
    let [bad, good] = [0, 1].map(|at| TopicPartition { topic: id, partition: PartitionIndex::new(at) });

    let mut fx = Effects::new();
    node.produce(now, produce(bad, 1), &mut fx);
    let partition = node.core.table.get(bad).expect("here");
    let alone = BTreeSet::from([NodeId(1)]);
    let lead = |epoch| {
        let epoch = LeaderEpoch::new(epoch);
        Event::Lead(Leadership { epoch, partition_epoch: 0, replicas: alone.clone(), isr: alone.clone() })
    };
    partition.step(&node.core, now, lead(7), &mut fx);
    // The image never goes back: an assertion says so.
    partition.step(&node.core, now, lead(3), &mut fx);
    node.produce(now, produce(bad, 2), &mut fx);
    node.produce(now, produce(good, 3), &mut fx);
    let answers = run(&node, &*disk, fx);
    for request in [1, 2] {
        assert!(matches!(result(&answers, request), Err(AppendError::Disk { .. })), "request {request}");
    }
    assert_eq!(result(&answers, 3), Ok(()));
    assert_eq!(node.stats().partitions_offline, 1);
}

//! What a failed assertion does: it costs its partition, and nothing else. And what is known of damage behind a cut.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::batch::BatchBuilder;
use model::{LeaderEpoch, NodeId, Now, Offset, PartitionIndex, TopicName, TopicPartition};
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

fn disk(dir: &Path) -> Arc<dyn Disk> {
    Arc::new(RealDisk::new(dir, 64))
}

/// A node, and two partitions that it leads.
fn opened(disk: &Arc<dyn Disk>, dir: &Path) -> (Node, [TopicPartition; 2]) {
    let (now, mut fx) = (Now::default(), Effects::new());
    let config = NodeConfig::new(NodeId(1), dir.to_path_buf());
    let node = Node::open(config, Arc::clone(disk), 1, now, &mut fx).expect("opens");
    run(&node, &**disk, fx);
    let mut fx = Effects::new();
    let mut topic = NewTopic::with_defaults(TopicName::new("t").expect("a name"));
    topic.partitions = Some(2);
    node.create_topics(now, vec![topic], false, reply(0), &mut fx);
    run(&node, &**disk, fx);
    let id = node.image().topics().next().expect("created").id;
    let partitions = [0, 1].map(|at| TopicPartition { topic: id, partition: PartitionIndex::new(at) });
    (node, partitions)
}

#[test]
fn a_failed_assertion_takes_one_partition_offline_and_answers_who_waits() {
    let dir = tempfile::tempdir().expect("a folder");
    let (now, disk) = (Now::default(), disk(dir.path()));
    let (node, [bad, good]) = opened(&disk, dir.path());
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

#[test]
fn damage_that_a_cut_takes_away_is_not_that_of_what_is_written_there_next() {
    let dir = tempfile::tempdir().expect("a folder");
    let (node, [id, _]) = opened(&disk(dir.path()), dir.path());
    let partition = node.core.table.get(id).expect("here");
    let mut state = partition.lock();
    let batch = |offset| {
        let batch = BatchBuilder::new().record(1, None, Some(b"v"), &[]).finish();
        batch.place(Offset::new(offset), LeaderEpoch::new(1))
    };
    for offset in 0..3 {
        let _entry = state.log.append(batch(offset), 0);
    }
    // In the second of them.
    let (file, at) = (state.log.data_file(Offset::ZERO), batch(0).size() as u64);
    state.note_damage(Offset::ZERO, &file, at);
    for (to, is_there) in [(2, true), (1, false)] {
        let point = state.log.cut_point(Offset::new(to)).expect("it lies in the log").expect("in memory");
        let _entry = state.truncate_to(point);
        let _entry = state.log.append(batch(to), 0);
        assert_eq!(state.damage(), is_there.then_some((&*file, at)), "cut to {to}");
    }
    let _entry = state.reset(Offset::ZERO);
    let _entry = state.log.append(batch(0), 0);
    assert_eq!(state.damage(), None);
}

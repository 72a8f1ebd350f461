//! DeleteRecords on three nodes: what is answered holds on every replica, whoever leads afterwards.
//!
//! All time is the time of that world.

mod cluster;

use std::time::Duration;

use cluster::{Cluster, name};
use model::batch::BatchBuilder;
use model::{NodeId, Offset, PartitionIndex, TopicPartition};
use node::requests::{Acks, Answer, DeletePart, DeleteRecordsError, Produce, ProducePart};

const THREE: [i32; 3] = [1, 2, 3];

struct Bed {
    cluster: Cluster,
    partition: TopicPartition,
}

impl Bed {
    /// A partition on three nodes with so many records.
    fn with_records(count: i32) -> Bed {
        let mut cluster = Cluster::founded(&THREE);
        let created = cluster.create_topic(1, "t", 1);
        assert!(matches!(cluster.answer(created, 2_000), Answer::TopicsCreated(_)));
        let topic = cluster.image(1).topic(&name("t")).expect("created").id;
        let partition = TopicPartition { topic, partition: PartitionIndex::new(0) };
        cluster.until("all are in sync", 2_000, |cluster| {
            let known = |node| cluster.image(node).partition(partition).is_some_and(|info| info.isr.len() == 3);
            THREE.into_iter().all(known)
        });
        let mut bed = Bed { cluster, partition };
        for _ in 0..count {
            let batch = BatchBuilder::new().record(1_000, None, Some(b"value"), &[]).finish();
            let parts = vec![ProducePart { partition, batch }];
            let (acks, timeout) = (Acks::All, Duration::from_secs(30));
            let leader = bed.leader();
            let sent = bed.cluster.ask(leader, |node, now, reply, fx| {
                node.produce(now, Produce { acks, timeout, parts, reply }, fx);
            });
            assert!(matches!(bed.cluster.answer(sent, 1_000), Answer::Produced(answer) if answer.parts[0].is_ok()));
        }
        bed
    }

    fn leader(&self) -> i32 {
        let seen_by = self.cluster.running()[0];
        let image = self.cluster.image(seen_by);
        image.partition(self.partition).and_then(|info| info.leader).expect("somebody leads").0
    }

    fn ask(&mut self, node: i32, before: Option<i64>, timeout_ms: u64) -> u64 {
        let part = DeletePart { partition: self.partition, before: before.map(Offset::new) };
        let timeout = Duration::from_millis(timeout_ms);
        self.cluster.ask(node, |node, now, reply, fx| node.delete_records(now, &[part], timeout, reply, fx))
    }

    fn answer(&mut self, request: u64, millis: u64) -> Result<i64, DeleteRecordsError> {
        match self.cluster.answer(request, millis) {
            Answer::RecordsDeleted(mut results) => results.pop().expect("one part").map(Offset::get),
            other => panic!("{other:?}"),
        }
    }

    fn start_on(&self, node: i32) -> i64 {
        self.cluster.node(node).partition_status(self.partition).expect("it is here").log_start.get()
    }
}

#[test]
fn what_is_deleted_is_gone_from_every_replica_when_it_is_answered() {
    let mut bed = Bed::with_records(5);
    let leader = bed.leader();
    let request = bed.ask(leader, Some(3), 5_000);
    assert_eq!(bed.answer(request, 1_000), Ok(3));
    assert_eq!(THREE.map(|node| bed.start_on(node)), [3; 3]);
    let request = bed.ask(leader, Some(1), 5_000);
    assert_eq!(bed.answer(request, 1_000), Ok(3), "a start never goes back");
    let request = bed.ask(leader, None, 5_000);
    assert_eq!(bed.answer(request, 1_000), Ok(5), "all that is committed");
    // Whoever leads after a crash of all of them begins there.
    THREE.into_iter().for_each(|node| bed.cluster.kill(node));
    THREE.into_iter().for_each(|node| bed.cluster.start(node));
    let partition = bed.partition;
    bed.cluster.until("somebody leads again", 20_000, |cluster| {
        let leads = |node| cluster.image(node).partition(partition).is_some_and(|info| info.leader.is_some());
        THREE.into_iter().all(|node| cluster.is_ready(node) && leads(node))
    });
    assert_eq!(THREE.map(|node| bed.start_on(node)), [5; 3]);
}

#[test]
fn an_answer_waits_for_a_silent_replica_until_it_leaves_the_isr() {
    let mut bed = Bed::with_records(4);
    let leader = bed.leader();
    let silent = THREE.into_iter().find(|node| *node != leader).expect("there are three");
    bed.cluster.pause(silent);
    let hasty = bed.ask(leader, Some(2), 20);
    let patient = bed.ask(leader, Some(2), 60_000);
    let timed_out = DeleteRecordsError::TimedOut { low_watermark: Offset::ZERO, asked: Offset::new(2) };
    assert_eq!(bed.answer(hasty, 1_000), Err(timed_out));
    assert_eq!(bed.start_on(leader), 2, "it is on its way all the same");
    assert_eq!(bed.answer(patient, 30_000), Ok(2));
    let info = bed.cluster.image(leader).partition(bed.partition).cloned().expect("it is there");
    assert!(!info.isr.contains(&NodeId(silent)), "{info:?}");
    bed.cluster.resume(silent);
    let partition = bed.partition;
    bed.cluster.until("it has followed", 30_000, |cluster| {
        let status = cluster.node(silent).partition_status(partition);
        status.is_some_and(|status| status.log_start == Offset::new(2))
    });
}

#[test]
fn a_follower_deletes_nothing_and_nobody_deletes_what_is_not_committed() {
    let mut bed = Bed::with_records(2);
    let leader = bed.leader();
    let follower = THREE.into_iter().find(|node| *node != leader).expect("there are three");
    let request = bed.ask(follower, Some(1), 1_000);
    assert_eq!(bed.answer(request, 1_000), Err(DeleteRecordsError::NotLeader));
    let request = bed.ask(leader, Some(3), 1_000);
    let refused = DeleteRecordsError::OutOfRange { high_watermark: Offset::new(2), got: 3 };
    assert_eq!(bed.answer(request, 1_000), Err(refused));
    let request = {
        let unknown = TopicPartition { partition: PartitionIndex::new(7), ..bed.partition };
        let part = DeletePart { partition: unknown, before: None };
        bed.cluster.ask(leader, |node, now, reply, fx| {
            node.delete_records(now, &[part], Duration::from_secs(1), reply, fx);
        })
    };
    assert_eq!(bed.answer(request, 1_000), Err(DeleteRecordsError::UnknownPartition));
}

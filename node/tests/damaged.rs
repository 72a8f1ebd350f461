//! A partition whose files were damaged while its node was down: what other replicas have is fetched again, and is not lost by an
//! election of the one that has nothing; an only copy refuses the start.
//!
//! All time is the time of that world.

mod cluster;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use cluster::{Cluster, name};
use model::batch::BatchBuilder;
use model::{PartitionIndex, TopicPartition};
use node::requests::{
    Acks, Answer, AppendError, Appended, FetchError, FetchLimits, FetchPart, ListError, NewTopic, Position, Produce,
    ProducePart,
};
use node::{LogTrouble, Node};
use replication::metadata::PartitionInfo;
use storage::disk::ReadMode;

const THREE: [i32; 3] = [1, 2, 3];
const RECORDS: i32 = 20;
/// A checkpoint is taken within it.
const CHECKPOINT_MILLIS: u64 = 11_000;

struct Bed {
    cluster: Cluster,
    partition: TopicPartition,
}

/// The topic's first partition.
fn create(cluster: &mut Cluster, topic: &str, partitions: u32, replicas: u16) -> TopicPartition {
    let defaults = NewTopic::with_defaults(name(topic));
    let new = NewTopic { partitions: Some(partitions), replication_factor: Some(replicas), ..defaults };
    let request = cluster.ask(1, |node, now, reply, fx| node.create_topics(now, vec![new], false, reply, fx));
    assert!(matches!(cluster.answer(request, 2_000), Answer::TopicsCreated(all) if all.iter().all(Result::is_ok)));
    let topic = cluster.image(1).topic(&name(topic)).expect("created").id;
    TopicPartition { topic, partition: PartitionIndex::new(0) }
}

impl Bed {
    /// Three nodes, and a topic of one partition with records that a checkpoint covers.
    fn new(replicas: u16) -> Bed {
        let mut cluster = Cluster::founded(&THREE);
        let partition = create(&mut cluster, "t", 1, replicas);
        let mut bed = Bed { cluster, partition };
        bed.until_in_sync(usize::from(replicas), 2_000);
        (0..RECORDS).for_each(|sequence| bed.append(sequence));
        bed.cluster.pass(CHECKPOINT_MILLIS);
        bed
    }

    fn leader(&self) -> i32 {
        let seen_by = *self.cluster.running().first().expect("one runs");
        let image = self.cluster.image(seen_by);
        image.partition(self.partition).and_then(|info| info.leader).expect("somebody leads").0
    }

    fn until_in_sync(&mut self, count: usize, millis: u64) {
        let partition = self.partition;
        self.cluster.until("the replicas are in sync", millis, |cluster| {
            cluster.running().into_iter().all(|node| {
                let image = cluster.image(node);
                image.partition(partition).is_some_and(|info| info.isr.len() == count && info.leader.is_some())
            })
        });
    }

    /// To whoever leads, as a client does: one that does not lead yet is asked again.
    fn append(&mut self, sequence: i32) {
        for _ in 0..100 {
            let answer = self.try_append(sequence);
            match answer.as_slice() {
                [Ok(_)] => return,
                [Err(AppendError::NotLeader { .. })] => self.cluster.pass(50),
                other => panic!("{other:?}"),
            }
        }
        panic!("nobody leads");
    }

    fn try_append(&mut self, sequence: i32) -> Vec<Result<Appended, AppendError>> {
        let (leader, partition) = (self.leader(), self.partition);
        let batch = BatchBuilder::new().producer(7, 0, sequence).record(1_000, None, Some(&[b'a'; 100]), &[]).finish();
        let request = self.cluster.ask(leader, |node, now, reply, fx| {
            let parts = vec![ProducePart { partition, batch }];
            node.produce(now, Produce { acks: Acks::All, timeout: Duration::from_secs(30), parts, reply }, fx);
        });
        match self.cluster.answer(request, 2_000) {
            Answer::Produced(answer) => answer.parts,
            other => panic!("{other:?}"),
        }
    }

    /// What a node hands out from the beginning, once it knows that so much is committed.
    fn read(&mut self, node: i32, records: i32) -> Bytes {
        let partition = self.partition;
        self.cluster.until("it knows what is committed", 2_000, |cluster| {
            let status = cluster.node(node).partition_status(partition);
            status.is_some_and(|status| status.high_watermark.get() == i64::from(records))
        });
        let part = FetchPart { partition, from: 0, bytes_max: 1 << 20, current_epoch: None, last_fetched_epoch: None };
        let limits = FetchLimits { bytes_max: 1 << 20, committed_only: false, at_follower: true };
        let mut fetched = self.cluster.node(node).fetch(&[part], limits, ReadMode::Blocking).parts;
        let fetched = fetched.pop().expect("one part");
        assert_eq!(fetched.error, None, "node {node}");
        fetched.records.concat().into()
    }

    fn segment(&self, node: i32) -> PathBuf {
        self.cluster.dir(node).join("t-0/00000000000000000000.log")
    }

    /// One byte of the first segment is another from now on. Gives how many it has.
    fn damage(&self, node: i32, byte: impl FnOnce(&mut [u8]) -> Option<&mut u8>) -> u64 {
        let segment = self.segment(node);
        let mut bytes = std::fs::read(&segment).expect("it can be read");
        *byte(&mut bytes).expect("it has records") ^= 0x10;
        std::fs::write(&segment, &bytes).expect("it can be written");
        bytes.len() as u64
    }

    /// Whatever was acknowledged is at all nodes, and more can be appended.
    fn check_whole(&mut self) {
        self.until_in_sync(3, 30_000);
        self.append(RECORDS);
        let all = THREE.map(|node| self.read(node, RECORDS + 1));
        assert!(!all[0].is_empty());
        assert!(all[0] == all[1] && all[1] == all[2], "the replicas differ");
    }
}

/// Whether a fetch of the last record is refused since the disk has other bytes.
fn meets_damage(node: &Node, partition: TopicPartition) -> bool {
    let from = i64::from(RECORDS) - 1;
    let part = FetchPart { partition, from, bytes_max: 1 << 20, current_epoch: None, last_fetched_epoch: None };
    let limits = FetchLimits { bytes_max: 1 << 20, committed_only: false, at_follower: true };
    let fetched = node.fetch(&[part], limits, ReadMode::Blocking);
    matches!(fetched.parts[0].error, Some(FetchError::Corrupt { .. }))
}

#[test]
fn a_replica_that_was_damaged_while_its_node_was_down_is_fetched_again() {
    for (victim, is_cut) in [(1, false), (2, true), (3, false)] {
        let mut bed = Bed::new(3);
        bed.cluster.kill(victim);
        let segment = bed.segment(victim);
        match is_cut {
            true => std::fs::write(&segment, b"short").expect("it can be written"),
            false => std::fs::remove_file(&segment).expect("it can be removed"),
        }
        bed.cluster.start(victim);
        bed.check_whole();
        assert!(bed.cluster.dir(victim).join(".weir/set-aside/t-0").exists(), "what was left is kept");
        // It is a replica like any other again: the next start gives nothing up.
        bed.cluster.kill(victim);
        bed.cluster.start(victim);
        bed.until_in_sync(3, 30_000);
        assert!(!bed.cluster.dir(victim).join(".weir/set-aside/t-0.2").exists());
    }
}

#[test]
fn a_leader_that_was_damaged_while_all_were_down_does_not_lead_with_nothing() {
    for others in [false, true] {
        let mut bed = Bed::new(3);
        let victim = bed.leader();
        THREE.into_iter().for_each(|node| bed.cluster.kill(node));
        std::fs::remove_file(bed.segment(victim)).expect("it can be removed");
        // First or last of all.
        let mut order: Vec<i32> = THREE.into_iter().filter(|node| *node != victim).collect();
        order.insert(if others { 2 } else { 0 }, victim);
        for node in order {
            bed.cluster.start(node);
            bed.cluster.pass(200);
        }
        bed.check_whole();
    }
}

#[test]
fn a_start_that_dies_before_the_cluster_knows_what_was_given_up_says_it_again() {
    let mut bed = Bed::new(3);
    let victim = bed.leader();
    THREE.into_iter().for_each(|node| bed.cluster.kill(node));
    std::fs::remove_file(bed.segment(victim)).expect("it can be removed");
    for _ in 0..3 {
        bed.cluster.start(victim);
        bed.cluster.pass(CHECKPOINT_MILLIS);
        bed.cluster.kill(victim);
    }
    THREE.into_iter().for_each(|node| bed.cluster.start(node));
    bed.check_whole();
}

#[test]
fn an_only_copy_that_is_damaged_refuses_the_start_and_is_left_as_it_is() {
    let mut bed = Bed::new(1);
    let holder = bed.leader();
    bed.cluster.kill(holder);
    let (segment, away) = (bed.segment(holder), bed.cluster.dir(holder).join("away"));
    std::fs::rename(&segment, &away).expect("it can be moved");
    for _ in 0..2 {
        let error = bed.cluster.try_start(holder).expect_err("its only copy is damaged").to_string();
        assert!(error.contains("t-0: segment 0 is missing"), "{error}");
    }
    std::fs::rename(&away, &segment).expect("it can be moved");
    bed.cluster.start(holder);
    bed.until_in_sync(1, 5_000);
    bed.append(RECORDS);
    assert!(!bed.read(holder, RECORDS + 1).is_empty());
}

#[test]
fn damage_that_a_read_meets_is_told_until_the_file_is_fetched_again() {
    let mut bed = Bed::new(3);
    let victim = bed.leader();
    bed.cluster.kill(victim);
    let segment = bed.segment(victim);
    let bytes = bed.damage(victim, |bytes| bytes.last_mut());
    bed.cluster.start(victim);
    bed.until_in_sync(3, 30_000);
    let partition = bed.partition;
    assert_eq!(bed.cluster.node(victim).log_trouble(partition), None, "nobody has read it");
    bed.cluster.until("a read meets it", 5_000, |cluster| meets_damage(cluster.node(victim), partition));
    let trouble = bed.cluster.node(victim).log_trouble(partition).expect("a read met it");
    assert!(matches!(&trouble, LogTrouble::Damaged { file, at } if *file == segment && *at < bytes));
    assert!(trouble.to_string().contains("t-0/00000000000000000000.log at byte "), "{trouble}");
    assert_eq!(bed.cluster.node(victim).stats().partitions_damaged, 1);
    for other in THREE.into_iter().filter(|node| *node != victim) {
        assert_eq!(bed.cluster.node(other).stats().partitions_damaged, 0);
    }
    // The way out that the doctor names.
    bed.cluster.kill(victim);
    std::fs::rename(&segment, bed.cluster.dir(victim).join("away")).expect("it can be moved");
    bed.cluster.start(victim);
    bed.check_whole();
    assert_eq!(bed.cluster.node(victim).stats().partitions_damaged, 0);
}

#[test]
fn damage_at_a_leader_moves_everything_where_another_replica_is_in_sync_and_nothing_where_it_has_the_only_copy() {
    for replicas in [1, 3] {
        let mut bed = Bed::new(replicas);
        let others = create(&mut bed.cluster, "u", 6, 3).topic;
        bed.cluster.pass(CHECKPOINT_MILLIS);
        let of_others = |cluster: &Cluster| {
            let image = cluster.image(1);
            let topic = image.topic_by_id(others).expect("created");
            topic.partitions().map(|(_, info)| info.as_ref().clone()).collect::<Vec<_>>()
        };
        let (victim, partition, before) = (bed.leader(), bed.partition, of_others(&bed.cluster));
        let leads = |info: &PartitionInfo| info.leader.is_some_and(|leader| leader.0 == victim);
        assert!(before.iter().all(|info| info.isr.len() == 3) && before.iter().any(leads));
        bed.damage(victim, |bytes| bytes.last_mut());
        if replicas == 1 {
            // More than once in so many reads it would ask for another leader.
            for _ in 0..200 {
                assert!(meets_damage(bed.cluster.node(victim), partition));
                bed.cluster.pass(50);
            }
            assert_eq!(of_others(&bed.cluster), before);
            assert_eq!(bed.leader(), victim);
        } else {
            assert!(meets_damage(bed.cluster.node(victim), partition));
            bed.cluster.until("others lead", 5_000, |cluster| {
                let image = cluster.image(1);
                !image.partition(partition).is_some_and(|info| leads(info)) && !of_others(cluster).iter().any(leads)
            });
            bed.until_in_sync(3, 30_000);
        }
    }
}

#[test]
fn damage_that_a_search_by_time_meets_is_told_as_well() {
    let bed = Bed::new(1);
    let (holder, partition) = (bed.leader(), bed.partition);
    // In the first batch, behind its header.
    bed.damage(holder, |bytes| bytes.get_mut(100));
    let node = bed.cluster.node(holder);
    let found = node.list_offset(partition, None, Position::AtTime(1_000), ReadMode::Blocking);
    assert!(matches!(found, Err(ListError::Corrupt { .. })), "{found:?}");
    let trouble = node.log_trouble(partition);
    assert!(matches!(trouble, Some(LogTrouble::Damaged { at: 0, .. })), "{trouble:?}");
    assert_eq!(node.stats().partitions_damaged, 1);
}

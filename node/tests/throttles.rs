//! Kafka's replication throttles: what they slow down, and what they leave alone.
//!
//! Several nodes in one process, on the time of that world: what is measured here is what the rate says, to the batch.

mod cluster;

use std::time::Duration;

use cluster::{Cluster, name};
use model::batch::BatchBuilder;
use model::{NodeId, PartitionIndex, TopicPartition};
use node::requests::{
    Acks, Answer, ConfigAlteration, ConfigOperation, ConfigTarget, ControllerAnswer, ControllerRequest, NewTopic,
    Produce, ProducePart,
};
use replication::controller::requests::{NamedPartition, Reassignment};

const LEADER_RATE: &str = "leader.replication.throttled.rate";
const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
const LEADER_REPLICAS: &str = "leader.replication.throttled.replicas";
const FOLLOWER_REPLICAS: &str = "follower.replication.throttled.replicas";

const BATCHES: u64 = 50;
const BATCH_BYTES: u64 = 10_000;

struct Bed {
    cluster: Cluster,
    partitions: Vec<TopicPartition>,
}

impl Bed {
    /// Four nodes; the partitions are on 1 and 2, partition 0 led by 1, partition 1 by 2, and hold half a megabyte each.
    fn new(count: usize) -> Bed {
        let mut cluster = Cluster::founded(&[1, 2, 3]);
        cluster.start(4);
        cluster.until("the fourth is ready", 3_000, |cluster| cluster.is_ready(4));
        let assignment = [vec![NodeId(1), NodeId(2)], vec![NodeId(2), NodeId(1)]].into_iter().take(count).collect();
        let topic = NewTopic { assignment, ..NewTopic::with_defaults(name("t")) };
        let request = cluster.ask(1, |node, now, reply, fx| node.create_topics(now, vec![topic], false, reply, fx));
        assert!(matches!(cluster.answer(request, 2_000), Answer::TopicsCreated(all) if all[0].is_ok()));
        let topic = cluster.image(1).topic(&name("t")).expect("created").id;
        let place = |index| TopicPartition { topic, partition: PartitionIndex::new(index) };
        let mut bed = Bed { cluster, partitions: (0..).take(count).map(place).collect() };
        bed.until_isr_has(2, 2_000);
        for partition in bed.partitions.clone() {
            for _ in 0..BATCHES {
                bed.append(partition);
            }
        }
        bed
    }

    /// With acks=all; how long that took.
    fn append(&mut self, partition: TopicPartition) -> Duration {
        let value = vec![b'x'; usize::try_from(BATCH_BYTES).expect("small") - 100];
        let batch = BatchBuilder::new().record(1_000, None, Some(&value), &[]).finish();
        let leader = self.cluster.image(1).partition(partition).and_then(|info| info.leader).expect("led").0;
        let begun = self.cluster.now.mono;
        let request = self.cluster.ask(leader, |node, now, reply, fx| {
            let parts = vec![ProducePart { partition, batch }];
            node.produce(now, Produce { acks: Acks::All, timeout: Duration::from_secs(9), parts, reply }, fx);
        });
        match self.cluster.answer(request, 9_000) {
            Answer::Produced(answer) => assert!(answer.parts[0].is_ok()),
            other => panic!("{other:?}"),
        }
        self.cluster.now.mono - begun
    }

    fn ask(&mut self, request: ControllerRequest) -> ControllerAnswer {
        let asked = self.cluster.ask(1, |node, now, reply, fx| {
            node.ask_controller(now, request, Duration::from_secs(5), reply, fx);
        });
        match self.cluster.answer(asked, 6_000) {
            Answer::Controller(Ok(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn set(&mut self, target: ConfigTarget, key: &str, value: Option<&str>) {
        let key = key.to_owned();
        let operation = match value {
            Some(value) => ConfigOperation::Set { key, value: value.to_owned() },
            None => ConfigOperation::Delete { key },
        };
        let resources = vec![ConfigAlteration { target, replace: false, operations: vec![operation] }];
        match self.ask(ControllerRequest::AlterConfigs { resources, validate_only: false }) {
            ControllerAnswer::ConfigsAltered(answers) => assert_eq!(answers, [Ok(())]),
            other => panic!("{other:?}"),
        }
    }

    fn set_for_topic(&mut self, key: &str, value: &str) {
        self.set(ConfigTarget::Topic(name("t")), key, Some(value));
    }

    fn reassign(&mut self, replicas: Option<&[i32]>) {
        let partitions = self.partitions.iter().map(|partition| Reassignment {
            partition: NamedPartition { topic: name("t"), partition: partition.partition },
            replicas: replicas.map(|nodes| nodes.iter().copied().map(NodeId).collect()),
        });
        let request = ControllerRequest::Reassign { partitions: partitions.collect(), allow_factor_change: true };
        assert!(matches!(self.ask(request), ControllerAnswer::Reassigned(all) if all.iter().all(Result::is_ok)));
    }

    fn until_isr_has(&mut self, count: usize, millis: u64) -> Duration {
        let partitions = self.partitions.clone();
        self.cluster.until(&format!("{count} are in sync"), millis, |cluster| {
            let images: Vec<_> = cluster.running().into_iter().map(|node| cluster.image(node)).collect();
            let isr =
                |partition| images.iter().all(|image| image.partition(partition).is_some_and(|p| p.isr.len() == count));
            partitions.iter().all(|partition| isr(*partition))
        })
    }

    fn until_replicas_are(&mut self, nodes: &[i32], millis: u64) {
        let partitions = self.partitions.clone();
        self.cluster.until(&format!("they are on {nodes:?}"), millis, |cluster| {
            let images: Vec<_> = cluster.running().into_iter().map(|node| cluster.image(node)).collect();
            let there = |partition| {
                images.iter().all(|image| {
                    let info = image.partition(partition).expect("it is there");
                    info.replicas.iter().map(|node| node.0).eq(nodes.iter().copied()) && info.isr.len() == nodes.len()
                })
            };
            partitions.iter().all(|partition| there(*partition))
        });
    }

    /// How much of partition 0 the node has, in batches.
    fn has(&self, node: i32) -> i64 {
        let status = self.cluster.node(node).partition_status(self.partitions[0]);
        status.map_or(0, |status| status.log_end.get())
    }
}

/// Half a megabyte at 50 kB/s takes ten seconds; a batch too many at the most.
fn is_ten_seconds(took: Duration) -> bool {
    (Duration::from_millis(9_500)..Duration::from_millis(10_800)).contains(&took)
}

#[test]
fn a_leaders_rate_holds_for_records_from_memory_and_from_the_disk() {
    for idle_millis in [0, 20_000] {
        let mut bed = Bed::new(1);
        // Idle partitions let their tails go.
        bed.cluster.pass(idle_millis);
        bed.set(ConfigTarget::Node(NodeId(1)), LEADER_RATE, Some("50000"));
        bed.set_for_topic(LEADER_REPLICAS, "0:1,0:2");
        bed.reassign(Some(&[1, 2, 4]));
        let took = bed.until_isr_has(3, 20_000);
        assert!(is_ten_seconds(took), "idle for {idle_millis} ms: {took:?}");
    }
}

#[test]
fn a_followers_rate_is_kept_over_all_its_leaders() {
    let mut bed = Bed::new(2);
    bed.set(ConfigTarget::Node(NodeId(4)), FOLLOWER_RATE, Some("100000"));
    bed.set_for_topic(FOLLOWER_REPLICAS, "0:4,1:4");
    bed.reassign(Some(&[1, 2, 4]));
    let took = bed.until_isr_has(3, 20_000);
    assert!(is_ten_seconds(took), "{took:?}");
}

#[test]
fn only_what_is_not_in_sync_is_slowed() {
    let mut bed = Bed::new(1);
    bed.set(ConfigTarget::EveryNode, LEADER_RATE, Some("1000"));
    bed.set(ConfigTarget::EveryNode, FOLLOWER_RATE, Some("1000"));
    bed.set_for_topic(LEADER_REPLICAS, "*");
    bed.set_for_topic(FOLLOWER_REPLICAS, "*");
    bed.reassign(Some(&[1, 2, 4]));
    // The first may wait for the newcomer, until that is found to be behind.
    bed.append(bed.partitions[0]);
    for _ in 0..20 {
        let took = bed.append(bed.partitions[0]);
        assert!(took < Duration::from_millis(5), "{took:?}");
    }
    bed.cluster.pass(10_000);
    assert!((1..=4).contains(&bed.has(4)), "{} batches of 10 kB after 10 s at 1 kB/s", bed.has(4));
}

#[test]
fn a_throttle_that_is_raised_or_taken_away_counts_at_once() {
    for raised in [true, false] {
        let mut bed = Bed::new(1);
        bed.set(ConfigTarget::Node(NodeId(1)), LEADER_RATE, Some("0"));
        bed.set_for_topic(LEADER_REPLICAS, "*");
        bed.reassign(Some(&[1, 2, 4]));
        bed.cluster.pass(60_000);
        assert_eq!(bed.has(4), 0);
        bed.set(ConfigTarget::Node(NodeId(1)), LEADER_RATE, raised.then_some("50000000"));
        let took = bed.until_isr_has(3, 2_000);
        assert!(took < Duration::from_millis(500), "{took:?}");
    }
}

#[test]
fn a_slowed_move_can_be_cancelled_and_begun_again() {
    let mut bed = Bed::new(1);
    bed.set(ConfigTarget::Node(NodeId(1)), LEADER_RATE, Some("50000"));
    bed.set_for_topic(LEADER_REPLICAS, "*");
    bed.reassign(Some(&[1, 2, 4]));
    bed.cluster.pass(2_000);
    assert!((5..=15).contains(&bed.has(4)), "{}", bed.has(4));
    bed.reassign(None);
    bed.cluster.pass(1_000);
    assert!(bed.cluster.node(4).partition_status(bed.partitions[0]).is_none());
    bed.reassign(Some(&[1, 2, 4]));
    let took = bed.until_isr_has(3, 20_000);
    assert!(took > Duration::from_secs(7), "{took:?}");
}

/// What a replica had before its data went does not count when it comes back, whoever led meanwhile.
#[test]
fn a_leader_that_was_moved_away_comes_back_slowly_too() {
    let mut bed = Bed::new(2);
    for partition in bed.partitions.clone() {
        bed.append(partition);
    }
    for round in 0..4 {
        bed.reassign(Some(&[3, 4]));
        bed.until_replicas_are(&[3, 4], 5_000);
        bed.set(ConfigTarget::EveryNode, LEADER_RATE, Some("0"));
        bed.set_for_topic(LEADER_REPLICAS, "*");
        bed.reassign(Some(&[2, 1]));
        bed.cluster.pass(1_000);
        for partition in bed.partitions.clone() {
            let info = bed.cluster.image(1).partition(partition).expect("it is there").clone();
            assert_eq!(info.isr.iter().map(|node| node.0).collect::<Vec<_>>(), [3, 4], "round {round}");
        }
        bed.set(ConfigTarget::EveryNode, LEADER_RATE, None);
        bed.until_replicas_are(&[2, 1], 5_000);
    }
}

//! A leader whose disk hangs or is full: others take over. Who waits at one that hangs is told so, although that one can apply no
//! metadata any more.

mod cluster;

use std::time::Duration;

use cluster::{Cluster, name};
use model::batch::{Batch, BatchBuilder};
use model::units::MIB;
use model::{LeaderEpoch, NodeId, PartitionIndex, TopicPartition};
use node::requests::{Acks, Answer, AppendError, NewTopic, Produce, ProducePart};

const THREE: [i32; 3] = [1, 2, 3];

fn batch(sequence: i32) -> Batch {
    BatchBuilder::new().producer(7, 0, sequence).record(1_000, None, Some(b"a"), &[]).finish()
}

fn send(cluster: &mut Cluster, node: i32, partition: TopicPartition, sequence: i32) -> u64 {
    cluster.ask(node, |node, now, reply, fx| {
        let parts = vec![ProducePart { partition, batch: batch(sequence) }];
        let timeout = Duration::from_secs(30);
        node.produce(now, Produce { acks: Acks::All, timeout, parts, reply }, fx);
    })
}

/// Where a request was sent on to.
fn refused(cluster: &mut Cluster, request: u64, millis: u64) -> (Option<NodeId>, LeaderEpoch) {
    match cluster.answer(request, millis) {
        Answer::Produced(mut answer) => match answer.parts.pop().expect("one part") {
            Err(AppendError::NotLeader { leader, epoch }) => (leader, epoch),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// A topic of three partitions: one led by each node.
fn bed(mut cluster: Cluster) -> (Cluster, Vec<(TopicPartition, i32)>) {
    let topic = NewTopic { partitions: Some(3), ..NewTopic::with_defaults(name("t")) };
    let request = cluster.ask(1, |node, now, reply, fx| node.create_topics(now, vec![topic], false, reply, fx));
    assert!(matches!(cluster.answer(request, 2_000), Answer::TopicsCreated(all) if all.iter().all(Result::is_ok)));
    let topic = cluster.image(1).topic(&name("t")).expect("created").id;
    let all: Vec<TopicPartition> =
        (0..3).map(|index| TopicPartition { topic, partition: PartitionIndex::new(index) }).collect();
    cluster.until("all are in sync and led", 2_000, |cluster| {
        THREE.into_iter().all(|node| {
            let image = cluster.image(node);
            all.iter().all(|id| image.partition(*id).is_some_and(|info| info.isr.len() == 3 && info.leader.is_some()))
        })
    });
    let image = cluster.image(1);
    let led = all.iter().map(|id| (*id, image.partition(*id).and_then(|info| info.leader).expect("led").0)).collect();
    (cluster, led)
}

#[test]
fn a_leader_whose_disk_hangs_tells_who_waits_where_to_go() {
    for victim in THREE {
        let (mut cluster, led) = bed(Cluster::founded(&THREE));
        let mut sequence = 0;
        let (partition, _) = *led.iter().find(|(_, leader)| *leader == victim).expect("each leads one");
        let request = send(&mut cluster, victim, partition, sequence);
        assert!(matches!(cluster.answer(request, 1_000), Answer::Produced(answer) if answer.parts[0].is_ok()));
        cluster.hang_disk(victim);
        sequence += 1;
        let waiting = send(&mut cluster, victim, partition, sequence);
        let (followed, elsewhere) = *led.iter().find(|(_, leader)| *leader != victim).expect("the others lead two");
        let held_up = send(&mut cluster, elsewhere, followed, 0);
        let (leader, epoch) = refused(&mut cluster, waiting, 1_500);
        let next = leader.expect("it is told who leads").0;
        assert_ne!(next, victim);
        let other = THREE.into_iter().find(|node| *node != victim && *node != next).expect("three nodes");
        let info = cluster.image(other).partition(partition).cloned().expect("it is there");
        assert_eq!((info.leader, info.leader_epoch), (Some(NodeId(next)), epoch), "victim {victim}");
        assert_eq!(cluster.node(victim).newer_leadership(partition, epoch), None);

        // what comes behind is refused at once, and is acknowledged where it is sent on to
        let late = send(&mut cluster, victim, partition, sequence);
        assert_eq!(refused(&mut cluster, late, 10), (leader, epoch));
        let request = send(&mut cluster, next, partition, sequence);
        let acknowledged = |answer: &Answer| matches!(answer, Answer::Produced(answer) if answer.parts[0].is_ok());
        assert!(acknowledged(&cluster.answer(request, 100)), "victim {victim}");
        // nor do the leaders wait that it follows
        assert!(acknowledged(&cluster.answer(held_up, 100)), "victim {victim}");

        cluster.mend_disk(victim);
        cluster.until("the one that hung has heard of it", 4_000, |cluster| {
            cluster.image(victim).partition(partition).is_some_and(|info| info.leader_epoch >= epoch)
        });
    }
}

#[test]
fn a_leader_whose_disk_is_full_hands_over_once_in_ten_seconds() {
    let (mut cluster, led) = bed(Cluster::founded_on(80 * MIB, &THREE));
    let leader_of = |cluster: &Cluster, at: usize| cluster.image(1).partition(led[at].0).and_then(|info| info.leader);
    let (partition, full) = led[0];
    cluster.set_free(full, 0);
    cluster.pass(1_100);
    let refused = send(&mut cluster, full, partition, 0);
    assert!(matches!(
        cluster.answer(refused, 100),
        Answer::Produced(answer) if matches!(answer.parts[0], Err(AppendError::Disk { .. }))
    ));
    cluster.until("somebody else leads", 500, |cluster| leader_of(cluster, 0).is_some_and(|node| node.0 != full));
    let next = leader_of(&cluster, 0).expect("it was looked at just now").0;
    let request = send(&mut cluster, next, partition, 0);
    assert!(matches!(cluster.answer(request, 100), Answer::Produced(answer) if answer.parts[0].is_ok()));
    assert_eq!((leader_of(&cluster, 1), leader_of(&cluster, 2)), (Some(NodeId(led[1].1)), Some(NodeId(led[2].1))));

    // all are full: each hands over once, and then the leaders stay for a while
    THREE.into_iter().for_each(|node| cluster.set_free(node, 0));
    cluster.pass(1_100);
    let mut changes = 0;
    let mut leader = next;
    for _ in 0..50 {
        let refused = send(&mut cluster, leader, partition, 1);
        assert!(matches!(cluster.answer(refused, 100), Answer::Produced(answer) if answer.parts[0].is_err()));
        cluster.pass(50);
        let now = leader_of(&cluster, 0).expect("somebody leads").0;
        changes += u32::from(now != leader);
        leader = now;
    }
    assert!(changes <= 2, "{changes} changes of the leader in 2.5 s");
}

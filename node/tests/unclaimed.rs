//! Logs that no topic has claimed yet: nodes that stop before the metadata reaches them know these logs at their next start.

mod cluster;

use std::time::Duration;

use cluster::{Cluster, name};
use model::batch::BatchBuilder;
use model::{PartitionIndex, TopicPartition};
use node::requests::{Acks, Answer, Produce, ProducePart};

/// The node stops in order.
fn stop(cluster: &mut Cluster, node: i32) {
    let request = cluster.ask(node, |node, now, reply, fx| node.shutdown(now, reply, fx));
    assert!(matches!(cluster.answer(request, 20_000), Answer::ShutDown));
    cluster.kill(node);
}

#[test]
fn nodes_that_stop_before_they_hear_of_the_newest_topics_have_their_logs_at_the_next_start() {
    let all = [1, 2, 3];
    let mut cluster = Cluster::founded(&all);
    let request = cluster.create_topic(1, "t", 1);
    assert!(matches!(cluster.answer(request, 2_000), Answer::TopicsCreated(created) if created[0].is_ok()));
    let topic = cluster.image(1).topic(&name("t")).expect("created").id;
    let partition = TopicPartition { topic, partition: PartitionIndex::new(0) };
    cluster.until("all are in sync", 2_000, |cluster| {
        all.into_iter().all(|node| cluster.image(node).partition(partition).is_some_and(|info| info.isr.len() == 3))
    });
    let leader = cluster.image(1).partition(partition).and_then(|info| info.leader).expect("somebody leads").0;
    let mut batch = BatchBuilder::new();
    batch.push(1_000, None, Some(b"a"), &[]);
    let request = cluster.ask(leader, |node, now, reply, fx| {
        let parts = vec![ProducePart { partition, batch: batch.finish() }];
        node.produce(now, Produce { acks: Acks::All, timeout: Duration::from_secs(30), parts, reply }, fx);
    });
    assert!(matches!(cluster.answer(request, 2_000), Answer::Produced(answer) if answer.parts[0].is_ok()));
    cluster.pass(11_000);
    all.into_iter().for_each(|node| cluster.kill(node));
    for node in all {
        cluster.start(node);
        assert!(cluster.image(node).topic(&name("t")).is_none(), "alone it cannot know what was committed");
        cluster.pass(200);
        stop(&mut cluster, node);
    }
    for node in all {
        cluster.start(node);
        assert!(!cluster.dir(node).join(".weir/set-aside").exists(), "node {node} has forgotten a log");
    }
    cluster.until("it has a leader", 5_000, |cluster| {
        let image = cluster.image(1);
        image.partition(partition).is_some_and(|info| info.leader.is_some())
    });
    assert!(all.into_iter().all(|node| !cluster.dir(node).join(".weir/set-aside").exists()));
}

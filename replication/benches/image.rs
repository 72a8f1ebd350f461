//! Look-ups in the metadata image that every request makes, with 10,000 partitions there.
//!
//! Owns no limits: `cargo bench -p replication` compares with the run before.

use std::collections::BTreeMap;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use model::{LeaderEpoch, NodeId, PartitionIndex, TopicId, TopicName, TopicPartition};
use replication::metadata::{BrokerConfig, Fact, Image, PartitionInfo};

const TOPICS: u32 = 1_000;
const PARTITIONS: u32 = 10;

fn id(topic: u32) -> TopicId {
    let mut id = [7; 16];
    id.split_at_mut(4).0.copy_from_slice(&topic.wrapping_mul(2_654_435_761).to_be_bytes());
    TopicId(id)
}

fn name(topic: u32) -> TopicName {
    TopicName::new(&format!("service-{topic}-events")).expect("a good name")
}

fn image() -> Image {
    let statics = BrokerConfig::new(BTreeMap::new()).expect("defaults are good");
    let mut image = Image::empty(Arc::new(statics));
    let nodes: Vec<NodeId> = (1..=3).map(NodeId).collect();
    for topic in 0..TOPICS {
        let created =
            Fact::TopicCreated { id: id(topic), name: name(topic), configs: Vec::new(), default_replication: true };
        image.apply(&created).expect("a new topic");
        for partition in 0..PARTITIONS {
            let state = PartitionInfo {
                leader: nodes.first().copied(),
                leader_epoch: LeaderEpoch::new(1),
                replicas: nodes.clone(),
                isr: nodes.clone(),
                ..PartitionInfo::default()
            };
            let changed = Fact::PartitionChanged { topic: id(topic), partition: PartitionIndex::new(partition), state };
            image.apply(&changed).expect("a new partition");
        }
    }
    image
}

fn lookups(criterion: &mut Criterion) {
    let image = image();
    let names: Vec<TopicName> = (0..TOPICS).map(name).collect();
    let mut group = criterion.benchmark_group("image");
    let mut turn = 0_u32;
    // in no order that a cache could learn
    let mut next = || {
        turn = turn.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        turn >> 8
    };
    group.bench_function("topic by name", |bencher| {
        bencher.iter(|| names.get((next() % TOPICS) as usize).and_then(|name| image.topic(name)).is_some());
    });
    group.bench_function("topic by id", |bencher| bencher.iter(|| image.topic_by_id(id(next() % TOPICS)).is_some()));
    group.bench_function("partition", |bencher| {
        bencher.iter(|| {
            let drawn = next();
            let partition = PartitionIndex::new(drawn % PARTITIONS);
            image.partition(TopicPartition { topic: id(drawn / PARTITIONS % TOPICS), partition }).is_some()
        });
    });
    // what a decision costs beside its record: the next image shares what does not change
    group.bench_function("copy", |bencher| bencher.iter(|| image.clone()));
    group.finish();
}

criterion_group!(benches, lookups);
criterion_main!(benches);

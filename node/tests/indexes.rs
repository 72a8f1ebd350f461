//! Loaded indexes of segments stay under a budget, and what was let go is loaded again.

mod world;

use model::TopicPartition;
use node::indexes::IndexBudget;
use node::requests::Acks;
use world::{World, batch, config};

const SEGMENTS: u64 = 6;
/// Behind these bytes of a segment a read asks its index.
const RECORD_BYTES: usize = 40 * 1024;
const RECORDS: i64 = 24 * 6;

fn value(offset: i64) -> String {
    format!("{offset:0>width$}", width = RECORD_BYTES)
}

/// A world whose log has several full segments and, after a restart, nothing of them in memory.
fn world_with_segments(dir: &std::path::Path, budget: IndexBudget) -> (World, TopicPartition) {
    let open = |seed| World::open_with(node::config::NodeConfig { indexes: budget, ..config(dir) }, seed);
    let mut world = open(1);
    world.create_topic("t", 1, &[("segment.bytes", "1048576")]);
    let partition = world.partition("t", 0);
    for offset in 0..RECORDS {
        assert_eq!(world.produce(partition, Acks::All, batch(&[&value(offset)])), offset);
    }
    drop(world.shut_down());
    (open(2), partition)
}

/// One read in the midst of each segment but the last, with the right answer.
fn read_midst(world: &World, partition: TopicPartition) {
    for at in 0..5 {
        let offset = at * 25 + 12;
        let first = world.read_all(partition, offset).into_iter().next();
        assert_eq!(first, Some((offset, value(offset))), "at {offset}");
    }
}

#[test]
fn no_more_indexes_are_kept_than_the_budget_and_those_evicted_are_loaded_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let budget = IndexBudget { indexes_max: 2, bytes_max: u64::MAX };
    let (world, partition) = world_with_segments(dir.path(), budget);
    assert_eq!(world.node.stats().indexes_kept, 0);
    for _ in 0..2 {
        read_midst(&world, partition);
        assert_eq!(world.node.stats().indexes_kept, 2);
    }
    assert!(world.node.stats().index_evictions >= SEGMENTS, "{:?}", world.node.stats());
}

#[test]
fn indexes_are_kept_while_they_fit_and_their_bytes_count_too() {
    let dir = tempfile::tempdir().expect("a folder");
    let (world, partition) = world_with_segments(dir.path(), IndexBudget::default());
    read_midst(&world, partition);
    let stats = world.node.stats();
    read_midst(&world, partition);
    assert_eq!(world.node.stats(), stats, "nothing was loaded twice");
    assert!(stats.indexes_kept >= 5 && stats.index_bytes_kept > 0 && stats.index_evictions == 0, "{stats:?}");
    let bytes_max = stats.index_bytes_kept / 2;
    drop(world);

    let dir = tempfile::tempdir().expect("a folder");
    let (world, partition) = world_with_segments(dir.path(), IndexBudget { indexes_max: 100, bytes_max });
    read_midst(&world, partition);
    let stats = world.node.stats();
    assert!(stats.index_bytes_kept <= bytes_max && stats.index_evictions > 0, "{stats:?}");
}

//! A journal that is full and cannot grow: appends wait for a checkpoint, and nothing waits for ever.

mod world;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use node::requests::Acks;
use storage::disk::Disk;
use world::fault_disk::FaultDisk;
use world::{World, batch, config, sequenced};

const PARTITIONS: u32 = 40;

fn open(dir: &Path) -> (World, Arc<FaultDisk>) {
    let faulty = Arc::new(FaultDisk::new(dir));
    let disk: Arc<dyn Disk> = Arc::clone(&faulty) as Arc<dyn Disk>;
    let mut world = World::open_on(config(dir), disk, 1);
    world.create_topic("t", PARTITIONS, &[]);
    faulty.fill_paths(Some("journal"));
    (world, faulty)
}

/// Several times what the journal holds, and no log gives enough at once to write beside it.
fn send_burst(world: &mut World) -> Vec<u64> {
    let value = "z".repeat(200_000);
    let send = |count| {
        let partition = world.partition("t", count % PARTITIONS);
        let first = i32::try_from(count / PARTITIONS).expect("small");
        world.send(partition, Acks::All, sequenced(7, 0, first, &[&value]))
    };
    (0..3 * PARTITIONS).map(send).collect()
}

#[test]
fn a_burst_is_taken_in_by_a_journal_that_cannot_grow() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, disk) = open(dir.path());
    let requests = send_burst(&mut world);
    world.pass(Duration::from_secs(20));
    for request in requests {
        assert!(world.answer(request).expect("answered").is_ok());
    }
    assert_eq!(disk.created("journal/00000003"), 0);
    drop(world);
    let mut world = World::open(dir.path(), 2);
    for index in 0..PARTITIONS {
        let partition = world.partition("t", index);
        assert_eq!(world.read_all(partition, 0).len(), 3);
        assert_eq!(world.produce(partition, Acks::All, sequenced(7, 0, 3, &["next"])), 3, "the producer is known");
    }
}

#[test]
fn a_stop_with_a_full_journal_takes_no_longer_than_its_checkpoints() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, _disk) = open(dir.path());
    let requests = send_burst(&mut world);
    let mut world = world.shut_down();
    for request in requests {
        assert!(world.answer(request).expect("answered").is_ok());
    }
    drop(world);
    let world = World::open(dir.path(), 2);
    for index in 0..PARTITIONS {
        assert_eq!(world.read_all(world.partition("t", index), 0).len(), 3);
    }
}

#[test]
fn a_growth_that_fails_leaves_nothing_and_is_tried_again_later() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, disk) = open(dir.path());
    let before = disk.created("journal");
    let requests = send_burst(&mut world);
    world.run();
    let journal = dir.path().join(".weir/journal");
    let names = || {
        let entries = std::fs::read_dir(&journal).expect("it is there");
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect::<Vec<_>>()
    };
    assert!(names().iter().all(|name| !name.ends_with(".tmp")), "{:?}", names());
    assert_eq!(disk.created("journal"), before + 1, "no time has passed");
    world.pass(Duration::from_secs(5));
    assert!(disk.created("journal") <= before + 6);
    disk.fill_paths(None);
    world.pass(Duration::from_secs(5));
    for request in requests {
        assert!(world.answer(request).expect("answered").is_ok());
    }
}

#[test]
fn a_burst_larger_than_the_journal_is_taken_in_as_room_is_made() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::open(dir.path(), 1);
    world.create_topic("t", 40, &[]);
    let value = "z".repeat(200_000);
    let mut requests = Vec::new();
    // Not enough for one log to go beside the journal, together several times what the first file holds.
    for count in 0..80 {
        let partition = world.partition("t", count % 40);
        requests.push(world.send(partition, Acks::All, batch(&[&value])));
    }
    world.run();
    for request in requests {
        assert!(world.answer(request).expect("answered").is_ok());
    }
    drop(world);
    let world = World::open(dir.path(), 2);
    for partition in 0..40 {
        assert_eq!(world.read_all(world.partition("t", partition), 0).len(), 2);
    }
}

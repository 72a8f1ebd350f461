//! The power goes before and inside each effect of a run that compacts, and again during the recovery.
//!
//! What was told to be durable is there, as compaction may leave it: the newest record of each key, at its own offset.

use std::path::Path;
use std::sync::Arc;

use super::compact::{Expected, RETENTION_MS, Random, clean, compacted};
use super::harness::*;
use super::mem_disk::{Crash, MemDisk};
use crate::disk::Disk;
use crate::record::{ReadLimits, RecordReader};

const ROOT: &str = "/d";

/// What was durable when the power went, and when that was.
#[derive(Default)]
struct Ran {
    expected: Expected,
    durable: i64,
    now_ms: i64,
}

fn workload(disk: Arc<dyn Disk>, seed: u64) -> Ran {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut ran = Ran { now_ms: 1_000_000, ..Ran::default() };
    let Ok(mut node) = open_on(disk, Path::new(ROOT)) else { return ran };
    let config = compacted(400 + u32::try_from(random.below(3_000)).unwrap());
    let keys = 1 + random.below(12);
    node.create(1, &config);
    node.commit();
    for _ in 0..60 {
        ran.now_ms += i64::try_from(random.below(100)).unwrap();
        match random.below(12) {
            0..=6 => {
                let batch = ran.expected.batch(&mut random, keys, ran.now_ms);
                node.append(1, batch);
            }
            7 => {
                node.commit();
                node.flush();
            }
            8 | 9 => {
                node.commit();
                node.checkpoint(false);
            }
            _ => {
                node.commit();
                clean(&mut node, &ran.expected, ran.now_ms, 1 << 20);
                if random.below(2) == 0 {
                    node.commit();
                    node.flush();
                }
            }
        }
        if node.dead {
            break;
        }
        ran.durable = ran.durable.max(node.log(1).durable_end().get());
    }
    // A group that was written counts as acknowledged.
    if node.acked.contains_key(&id(1)) {
        ran.durable = ran.durable.max(node.log(1).durable_end().get());
    }
    ran
}

fn check(node: &mut Node, ran: &Ran, what: &str) {
    assert!(node.damaged.is_empty(), "{what}: {:?}", node.damaged);
    if !node.logs.contains_key(&id(1)) {
        assert_eq!(ran.durable, 0, "{what}");
        return;
    }
    let end = node.log(1).log_end().get();
    assert!(end >= ran.durable, "{what}: ends at {end}, {} was durable", ran.durable);
    let found = node.read_all(1);
    ran.expected.judge(&found, 0, end, ran.now_ms - RETENTION_MS, what);
    // Nothing but the files of its segments is left.
    let batches: usize = found.iter().map(model::batch::StoredBatch::size).sum();
    let entries = node.disk.list(&Path::new(ROOT).join(folder(1))).unwrap_or_default();
    let files: u64 = entries.iter().filter(|entry| entry.name.ends_with(".log")).map(|entry| entry.len).sum();
    assert_eq!(files, batches as u64, "{what}: {entries:?}");
    for batch in &found {
        let records = batch.records();
        let mut reader = RecordReader::new(batch.header(), &records, ReadLimits::default()).unwrap();
        while reader.next().unwrap().is_some() {}
    }
}

fn check_crash(seed: u64, fuse: u64, crash: Crash) {
    let what = format!("seed {seed}, effect {fuse}, {crash:?}");
    let disk = Arc::new(MemDisk::new(seed * 1_000 + fuse));
    disk.set_fuse(fuse);
    let mut ran = workload(disk.clone(), seed);
    let disk = Arc::new(disk.crashed(crash));
    disk.set_fuse(fuse % 29);
    drop(open_on(disk.clone(), Path::new(ROOT)));
    let disk = Arc::new(disk.crashed(crash));
    let mut node = open_on(disk, Path::new(ROOT)).unwrap_or_else(|error| panic!("{what}: {error}"));
    check(&mut node, &ran, &what);
    if !node.logs.contains_key(&id(1)) {
        return;
    }
    // And life goes on: what was not acknowledged and is not there was never sent.
    let end = node.log(1).log_end().get();
    drop(ran.expected.puts.split_off(&end));
    ran.expected.end = end;
    let mut random = Random(seed + 77);
    node.log(1).configure(compacted(600));
    for _ in 0..10 {
        let batch = ran.expected.batch(&mut random, 5, ran.now_ms);
        node.append(1, batch);
    }
    node.commit();
    node.checkpoint(false);
    clean(&mut node, &ran.expected, ran.now_ms, 1 << 20);
    node.commit();
    ran.durable = ran.expected.end;
    let disk = Arc::clone(&node.disk);
    drop(node);
    let mut node = open_on(disk, Path::new(ROOT)).unwrap_or_else(|error| panic!("{what}, later: {error}"));
    check(&mut node, &ran, &format!("{what}, later"));
}

#[test]
fn wherever_the_power_goes_in_a_compaction_the_newest_record_of_each_key_is_there() {
    for seed in 1..=8 {
        let disk = Arc::new(MemDisk::new(seed));
        workload(disk.clone(), seed);
        let effects = disk.effects();
        let stride = if seed == 1 { 1 } else { 17 };
        for fuse in (0..effects).step_by(stride) {
            for crash in [Crash::Everything, Crash::Nothing, Crash::Mixed] {
                check_crash(seed, fuse, crash);
            }
        }
    }
}

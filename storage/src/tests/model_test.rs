//! Random operations and crashes against a plain list of batches.

use std::sync::Arc;

use model::Offset;
use model::batch::StoredBatch;

use super::harness::*;
use crate::disk::ReadMode;
use crate::log::LogConfig;

/// A small generator; the seed is printed when a run fails.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

#[derive(Default)]
struct Expected {
    start: Offset,
    batches: Vec<StoredBatch>,
    end: Offset,
}

impl Expected {
    fn visible(&self) -> impl Iterator<Item = &StoredBatch> {
        self.batches.iter().filter(|batch| batch.last_offset() >= self.start)
    }
}

fn run(seed: u64) {
    let (_dir, root) = temp();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let config = Arc::new(LogConfig {
        segment_bytes: 500 + u32::try_from(random.below(20_000)).unwrap(),
        index_interval_bytes: 64 + u32::try_from(random.below(1_000)).unwrap(),
        ..LogConfig::default()
    });
    let mut node = open(&root);
    node.create(1, &config);
    node.commit();
    let mut expected = Expected::default();
    for step in 0..120 {
        match random.below(20) {
            0..=9 => {
                let bytes = if random.below(40) == 0 { 280_000 } else { random.below(900) as usize };
                let count = 1 + u32::try_from(random.below(5)).unwrap();
                let epoch = i32::try_from(step / 10).unwrap();
                let new = batch(expected.end.get(), epoch, count, bytes / count as usize, step);
                expected.end = new.next_offset();
                expected.batches.push(new.clone());
                node.append(1, new);
            }
            10 => truncate(&mut node, &mut random, &mut expected),
            11 => delete_before(&mut node, &mut random, &mut expected),
            12 | 13 => node.commit(),
            14 => {
                node.commit();
                node.flush();
            }
            15 => {
                node.log(1).evict_tail(random.below(5_000));
            }
            16 => {
                node.commit();
                node.checkpoint(false);
            }
            17 => {
                node.commit();
                if random.below(2) == 0 {
                    node.flush();
                }
                drop(node);
                node = open(&root);
                node.log(1).configure(Arc::clone(&config));
            }
            18 => {
                node.stop();
                node = open(&root);
                assert!(node.clean);
                node.log(1).configure(Arc::clone(&config));
            }
            _ => check_read(&mut node, &mut random, &expected, seed, step),
        }
        assert_eq!(node.log(1).log_end(), expected.end, "seed {seed}, step {step}");
        assert_eq!(node.log(1).log_start(), expected.start, "seed {seed}, step {step}");
    }
    node.commit();
    let found = node.read_all(1);
    assert!(found.iter().eq(expected.visible()), "seed {seed}");
    drop(node);
    let found = open(&root).read_all(1);
    assert!(found.iter().eq(expected.visible()), "seed {seed}, after a crash");
}

fn truncate(node: &mut Node, random: &mut Random, expected: &mut Expected) {
    let span = expected.end.since(expected.start);
    let to = expected.start.plus(u32::try_from(random.below(span + 1)).unwrap());
    let keep = expected.batches.iter().take_while(|batch| batch.last_offset() < to).count();
    if expected.batches.get(keep).is_some_and(|batch| batch.base_offset() < expected.start) {
        return;
    }
    let point = match node.log(1).cut_point(to).unwrap() {
        Ok(point) => point,
        Err(plan) => plan.run(&*node.disk).unwrap(),
    };
    let entry = node.log(1).truncate_to(point);
    node.put(entry);
    expected.batches.truncate(keep);
    expected.end = point.end;
}

fn delete_before(node: &mut Node, random: &mut Random, expected: &mut Expected) {
    let span = expected.end.since(expected.start);
    let start = expected.start.plus(u32::try_from(random.below(span / 2 + 1)).unwrap());
    if let Some(entry) = node.log(1).delete_before(start) {
        node.put(entry);
        expected.start = start;
    }
}

fn check_read(node: &mut Node, random: &mut Random, expected: &Expected, seed: u64, step: i64) {
    let span = expected.end.since(expected.start);
    let from = expected.start.plus(u32::try_from(random.below(span + 1)).unwrap());
    let bytes_max = u32::try_from(random.below(6_000)).unwrap();
    let plan = node.log(1).plan_read(from, expected.end, bytes_max).unwrap();
    let read = plan.run(&*node.disk, ReadMode::Blocking).unwrap();
    let bytes: Vec<u8> = read.pieces.iter().flat_map(|piece| piece.to_vec()).collect();
    let found: Vec<_> = model::batch::split_stored(bytes.into()).map(Result::unwrap).collect();
    let wanted: Vec<_> = expected.batches.iter().filter(|batch| batch.last_offset() >= from).cloned().collect();
    assert!(wanted.starts_with(&found), "seed {seed}, step {step}, from {from}");
    assert_eq!(found.is_empty(), from == expected.end, "seed {seed}, step {step}, from {from}");
    assert!(read.bytes <= bytes_max as usize || found.len() == 1, "seed {seed}, step {step}: {} bytes", read.bytes);
}

#[test]
fn a_log_behaves_as_a_list_of_batches_through_any_operations_and_crashes() {
    for seed in 0..20 {
        run(seed);
    }
}

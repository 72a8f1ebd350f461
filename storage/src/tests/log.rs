//! A log: what goes in comes out, whatever lies between.

use std::sync::Arc;

use model::{LeaderEpoch, Offset};

use super::harness::*;
use crate::disk::{ReadMode, Step};
use crate::log::LogConfig;
use crate::reader::ReadError;
use crate::segment::{FileKind, file_path};
use crate::time_reader::TimeTarget;

fn bases(node: &mut Node) -> Vec<i64> {
    node.read_all(1).iter().map(|batch| batch.base_offset().get()).collect()
}

#[test]
fn batches_are_read_back_from_memory_from_files_and_from_both() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &small_segments(2_000));
    let expected: Vec<i64> = (0..50).collect();
    for at in &expected {
        assert_eq!(node.push(1, 100).get(), *at);
    }
    assert_eq!(bases(&mut node), expected, "from memory");
    node.commit();
    node.flush();
    assert_eq!(node.log(1).written_end(), Offset::new(50));
    node.log(1).evict_tail(1_000);
    assert_eq!(bases(&mut node), expected, "from both");
    node.log(1).evict_tail(0);
    assert_eq!(node.log(1).tail_start(), None);
    assert_eq!(bases(&mut node), expected, "from files");
}

#[test]
fn an_offset_inside_a_batch_gives_the_whole_batch() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::default());
    for base in [0, 10, 20] {
        node.append(1, batch(base, 0, 10, 10, 0));
    }
    node.commit();
    for flushed in [false, true] {
        if flushed {
            node.flush();
            node.log(1).evict_tail(0);
        }
        let plan = node.log(1).plan_read(Offset::new(15), Offset::new(20), 1_000_000).unwrap();
        let read = plan.run(&*node.disk, ReadMode::Blocking).unwrap();
        assert_eq!(read.next, Some(Offset::new(20)), "flushed: {flushed}");
        assert_eq!(read.bytes, batch(10, 0, 10, 10, 0).size(), "one whole batch and nothing at the limit");
    }
}

#[test]
fn a_first_batch_larger_than_the_bound_is_given_whole_and_a_second_is_not() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::default());
    node.push(1, 10_000);
    node.push(1, 10_000);
    node.commit();
    for flushed in [false, true] {
        if flushed {
            node.flush();
            node.log(1).evict_tail(0);
        }
        let plan = node.log(1).plan_read(Offset::ZERO, Offset::new(2), 100).unwrap();
        assert_eq!(plan.run(&*node.disk, ReadMode::Blocking).unwrap().next, Some(Offset::new(1)));
        let plan = node.log(1).plan_read(Offset::ZERO, Offset::new(2), 15_000).unwrap();
        assert_eq!(plan.run(&*node.disk, ReadMode::Blocking).unwrap().next, Some(Offset::new(1)));
    }
}

#[test]
fn offsets_outside_of_the_log_are_told_apart() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::default());
    for _ in 0..10 {
        node.push(1, 10);
    }
    let entry = node.log(1).delete_before(Offset::new(4)).unwrap();
    node.put(entry);
    let log = node.log(1);
    let limit = Offset::new(8);
    assert!(matches!(log.plan_read(Offset::new(3), limit, 1), Err(ReadError::BelowStart { .. })));
    assert!(matches!(log.plan_read(Offset::new(9), limit, 1), Err(ReadError::AboveLimit { .. })));
    let empty = log.plan_read(Offset::new(8), limit, 1).unwrap().run(&*node.disk, ReadMode::Blocking).unwrap();
    assert_eq!(empty.bytes, 0);
}

#[test]
fn a_truncation_cuts_whole_batches_in_memory_and_in_files() {
    for flushed in [false, true] {
        let (_dir, root) = temp();
        let mut node = open(&root);
        node.create(1, &small_segments(1_000));
        for base in (0..100).step_by(5) {
            node.append(1, batch(base, i32::try_from(base / 25).unwrap(), 5, 20, base));
        }
        node.commit();
        if flushed {
            node.flush();
            node.log(1).evict_tail(0);
        }
        let point = match node.log(1).cut_point(Offset::new(52)).unwrap() {
            Ok(point) => point,
            Err(plan) => plan.run(&*node.disk).unwrap(),
        };
        assert_eq!(point.end, Offset::new(50), "the batch that holds 52 goes as a whole");
        let entry = node.log(1).truncate_to(point);
        node.put(entry);
        assert_eq!(node.log(1).epochs().latest(), Some(LeaderEpoch::new(1)));
        node.append(1, batch(50, 9, 7, 20, 1));
        node.commit();
        node.flush();
        node.log(1).evict_tail(0);
        let expected: Vec<i64> = (0..=50).step_by(5).collect();
        assert_eq!(bases(&mut node), expected, "flushed: {flushed}");
        node.checkpoint(false);
        drop(node);
        let mut node = open(&root);
        assert_eq!(bases(&mut node), expected, "flushed: {flushed}, opened again");
        assert_eq!(node.log(1).log_end(), Offset::new(57));
        assert_eq!(node.log(1).epochs().latest(), Some(LeaderEpoch::new(9)));
    }
}

#[test]
fn deleting_before_an_offset_removes_whole_segments_after_the_journal_has_it() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &small_segments(500));
    for _ in 0..30 {
        node.push(1, 100);
    }
    node.commit();
    node.flush();
    let first = file_path(node.log(1).dir(), Offset::ZERO, FileKind::Data);
    assert!(first.exists());
    let entry = node.log(1).delete_before(Offset::new(17)).unwrap();
    node.flush();
    assert!(first.exists(), "not before the journal has it");
    node.put(entry);
    node.commit();
    node.flush();
    assert!(!first.exists());
    assert_eq!(bases(&mut node).first(), Some(&17));
    drop(node);
    let mut node = open(&root);
    assert_eq!(node.log(1).log_start(), Offset::new(17));
    assert_eq!(bases(&mut node), (17..30).collect::<Vec<_>>());
}

#[test]
fn times_are_found_exactly_as_by_looking_at_every_record() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &small_segments(80_000));
    let mut records: Vec<(i64, i64)> = Vec::new();
    let mut seed = 7u64;
    for _ in 0..600 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let base = node.log(1).log_end().get();
        // Times that jump back and forth, with ties.
        let time = base * 2 + i64::try_from((seed >> 33) % 200).unwrap() / 10 * 10;
        node.append(1, batch(base, 0, 3, 150, time));
        records.extend((0..3).map(|at| (base + at, time + at)));
    }
    node.commit();
    let check = |node: &mut Node, what: &str| {
        let limit = Offset::new(1_700);
        let in_range = || records.iter().filter(|(offset, _)| *offset < 1_700);
        for time in (-5..3_900).step_by(23) {
            let plan = node.log(1).plan_time(TimeTarget::AtLeast(time), limit);
            let (found, learned) = plan.run(&*node.disk, ReadMode::Blocking).unwrap();
            learned.into_iter().for_each(|learned| node.log(1).learn(learned));
            let expected = in_range().find(|(_, at)| *at >= time).copied();
            assert_eq!(found.map(|found| (found.offset.get(), found.timestamp_ms)), expected, "{what}, time {time}");
        }
        let (found, _) = node.log(1).plan_time(TimeTarget::Newest, limit).run(&*node.disk, ReadMode::Blocking).unwrap();
        let newest = in_range().map(|(_, at)| *at).max().unwrap();
        let expected = in_range().find(|(_, at)| *at == newest).copied();
        assert_eq!(found.map(|found| (found.offset.get(), found.timestamp_ms)), expected, "{what}, newest");
    };
    check(&mut node, "in memory");
    node.flush();
    check(&mut node, "in both");
    node.log(1).evict_tail(0);
    check(&mut node, "in files");
    node.stop();
    let mut node = open(&root);
    assert!(node.clean);
    check(&mut node, "after a clean stop");
    drop(node);
    for spoil in ["flip", "cut", "delete"] {
        for entry in std::fs::read_dir(root.join(folder(1))).unwrap() {
            let path = entry.unwrap().path();
            let is_index = path.extension().is_some_and(|extension| extension == "index" || extension == "timeindex");
            if !is_index {
                continue;
            }
            let mut bytes = std::fs::read(&path).unwrap();
            match spoil {
                "flip" => bytes.iter_mut().for_each(|byte| *byte ^= 0x15),
                "cut" => bytes.truncate(bytes.len() / 2),
                _ => {
                    std::fs::remove_file(&path).unwrap();
                    continue;
                }
            }
            std::fs::write(&path, bytes).unwrap();
        }
        let mut node = open(&root);
        check(&mut node, spoil);
        assert_eq!(bases(&mut node).len(), 600);
    }
}

#[test]
fn an_idle_log_takes_less_than_four_kib() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::new(LogConfig::default()));
    let of_struct = std::mem::size_of::<crate::log::Log>() + std::mem::size_of::<crate::segment::Segment>();
    assert!(of_struct < 1_500, "{of_struct} bytes");
    node.commit();
    node.flush();
    assert!(!root.join(folder(1)).exists(), "an empty log has no folder yet");
}

#[test]
fn damage_in_a_segment_is_an_error_and_not_an_answer() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::default());
    for _ in 0..20 {
        node.push(1, 100);
    }
    node.stop();
    let path = file_path(&root.join(folder(1)), Offset::ZERO, FileKind::Data);
    let good = std::fs::read(&path).unwrap();
    for (at, what) in [(8, "length"), (16, "magic"), (9, "length"), (1_000, "any")] {
        let mut bytes = good.clone();
        bytes[at..at + 61].iter_mut().for_each(|byte| *byte ^= 0x5a);
        std::fs::write(&path, bytes).unwrap();
        let (_, error) = open(&root).read_until_damage(1, Offset::ZERO, 100_000);
        assert!(matches!(error, ReadError::Corrupt { .. }), "{what} at {at}: {error}");
    }
}

#[test]
fn what_is_whole_before_damage_is_given_and_then_the_damage_is_the_error() {
    for segment_bytes in [1 << 20, 600] {
        let (_dir, root) = temp();
        let mut node = open(&root);
        node.create(1, &small_segments(segment_bytes));
        for _ in 0..20 {
            node.push(1, 100);
        }
        node.stop();
        let expected: Vec<i64> = (0..13).collect();
        // The batch with offset 13: a record of it, its header, its length.
        for byte in [100, 20, 9] {
            let mut node = open(&root);
            let plan = node.log(1).plan_read(Offset::new(13), Offset::new(14), 1).unwrap();
            let place = plan.find_first(&*node.disk, ReadMode::Blocking).unwrap().at;
            let path = file_path(&root.join(folder(1)), place.segment, FileKind::Data);
            let good = std::fs::read(&path).unwrap();
            let mut bytes = good.clone();
            bytes[place.position as usize + byte] ^= 0x40;
            std::fs::write(&path, bytes).unwrap();
            let (served, error) = node.read_until_damage(1, Offset::ZERO, 100_000);
            let at = u64::from(place.position);
            assert_eq!(error, ReadError::Corrupt { segment: place.segment, at }, "byte {byte}");
            let served = model::batch::split_stored(served.into()).map(|batch| batch.unwrap().base_offset().get());
            assert_eq!(served.collect::<Vec<_>>(), expected, "byte {byte}");
            std::fs::write(&path, good).unwrap();
        }
    }
}

/// Base offsets lie outside of the CRC; only their order shows that one is another. Whether it went up or down, none is served under the
/// offset of another one.
#[test]
fn offsets_out_of_order_are_damage_also_where_a_read_goes_on() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::default());
    for _ in 0..20 {
        node.push(1, 100);
    }
    node.stop();
    let path = file_path(&root.join(folder(1)), Offset::ZERO, FileKind::Data);
    let good = std::fs::read(&path).unwrap();
    let size = good.len() / 20;
    // Batch 13 as 5, and as 15; batch 8 as 0, and as 9. What one read holds begins anywhere before.
    for (batch, flip) in [(13, 8), (13, 2), (8, 8), (8, 1)] {
        for bytes_max in [size as u32 * 3, size as u32 * 7, 100_000] {
            let mut bytes = good.clone();
            bytes[batch * size + 7] ^= flip;
            std::fs::write(&path, bytes).unwrap();
            let (served, error) = open(&root).read_until_damage(1, Offset::new(2), bytes_max);
            assert!(matches!(error, ReadError::Corrupt { .. }), "{error}");
            for (at, (wanted, found)) in (2..).zip(good[2 * size..].chunks(size).zip(served.chunks(size))) {
                assert!(wanted == found || at == batch, "batch {batch} ^ {flip}, {bytes_max}: {at} is another one");
                assert!(at <= batch, "batch {batch} ^ {flip}, {bytes_max}: what is behind it was served");
            }
        }
    }
}

#[test]
fn a_bit_that_flipped_on_the_disk_is_never_served() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::default());
    for _ in 0..8 {
        node.push(1, 100);
    }
    node.stop();
    let path = file_path(&root.join(folder(1)), Offset::ZERO, FileKind::Data);
    let good = std::fs::read(&path).unwrap();
    let size = good.len() / 8;
    // Base offset and leader epoch lie outside of the CRC; what shows of the first is the test above.
    for at in (0..good.len()).filter(|at| at % size >= 16).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, bytes).unwrap();
        let (served, error) = open(&root).read_until_damage(1, Offset::ZERO, 1_000);
        assert!(matches!(error, ReadError::Corrupt { .. }), "byte {at}: {error}");
        assert_eq!(served, good[..served.len()], "byte {at}");
    }
}

#[test]
fn a_read_that_does_not_reach_the_last_segment_does_not_go_on_with_the_tail() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &small_segments(300));
    let expected: Vec<i64> = (0..60).collect();
    for at in &expected {
        if *at == 55 {
            node.commit();
            node.flush();
            node.log(1).evict_tail(0);
        }
        node.push(1, 100);
    }
    node.commit();
    assert_eq!(bases(&mut node), expected);
}

/// Appends so many bytes and writes them; whether they stay in the cache.
fn write_is_cached(node: &mut Node, bytes: usize) -> bool {
    node.push(1, bytes);
    node.commit();
    let write = node.log(1).next_write(u64::MAX).unwrap();
    let steps = write.steps();
    node.run(&steps).unwrap();
    node.log(1).write_done(&Ok(()));
    node.log(1).evict_tail(0);
    let size_of = |parts: &[bytes::Bytes]| parts.iter().map(bytes::Bytes::len).sum::<usize>();
    let written = |step: &Step| matches!(step, Step::Write { parts, .. } if size_of(parts) > bytes);
    let found = steps.iter().find(|step| written(step));
    matches!(found.expect("the batch was written"), Step::Write { cached: true, .. })
}

fn read_at(node: &mut Node, offset: i64) {
    let log = node.log(1);
    let plan = log.plan_read(Offset::new(offset), log.log_end(), 1_000).unwrap();
    log.note_reader(&plan);
}

#[test]
fn what_is_written_stays_in_the_cache_only_while_a_reader_of_the_files_follows_close_behind() {
    const MIB: usize = 1 << 20;
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::default());
    assert!(!write_is_cached(&mut node, 100_000), "nobody reads");
    node.push(1, 10);
    read_at(&mut node, 1);
    assert!(!write_is_cached(&mut node, 100_000), "who reads at the end is served from memory");
    read_at(&mut node, 0);
    assert!(write_is_cached(&mut node, 100_000), "somebody is close behind");
    for _ in 0..17 {
        // So large that it goes there beside the journal.
        node.push(1, 4 * MIB);
        node.commit();
        node.flush();
        node.log(1).evict_tail(0);
    }
    assert!(!write_is_cached(&mut node, 100_000), "it has not come for long");
    read_at(&mut node, 0);
    assert!(!write_is_cached(&mut node, 100_000), "somebody reads far behind");
    read_at(&mut node, 15);
    assert!(write_is_cached(&mut node, 100_000), "it has come close");
}

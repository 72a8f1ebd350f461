//! The journal: what was durable comes back, what was torn does not, what is stale never.

use std::path::Path;
use std::sync::Arc;

use model::Offset;

use super::harness::*;
use crate::journal::files::file_path;
use crate::recovery::{Damage, OpenError};
use crate::segment::{self, FileKind};
use crate::{Entry, Unit};

fn ends(node: &mut Node, topics: &[u8]) -> Vec<i64> {
    topics.iter().map(|topic| node.log(*topic).log_end().get()).collect()
}

#[test]
fn what_only_the_journal_has_is_in_the_log_after_a_crash() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &small_segments(1_000));
    node.create(2, &Arc::default());
    for at in 0..40 {
        node.push(1, 100);
        if at % 3 == 0 {
            node.push(2, 300);
            node.commit();
        }
    }
    node.put(Entry::Note { key: "vote".into(), value: "7".into() });
    node.commit();
    let expected = (node.read_all(1), node.read_all(2));
    drop(node);
    let mut node = open(&root);
    assert!(!node.clean);
    assert_eq!((node.read_all(1), node.read_all(2)), expected);
    assert_eq!(node.journal.notes().get("vote").map(|value| &value[..]), Some(&b"7"[..]));
    drop(node);
    // The second start finds it in the segments.
    let mut node = open(&root);
    assert_eq!(node.report.units, 0);
    assert_eq!((node.read_all(1), node.read_all(2)), expected);
    assert_eq!(node.journal.notes().get("vote").map(|value| &value[..]), Some(&b"7"[..]));
}

#[test]
fn a_journal_torn_at_any_sector_gives_whole_units_up_to_the_tear() {
    let (dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::default());
    node.commit();
    for _ in 0..5 {
        node.push(1, 1_000);
    }
    node.commit();
    let before = node.log(1).log_end().get();
    let journal = file_path(&root, 1);
    let old = std::fs::read(&journal).unwrap();
    for _ in 0..7 {
        node.push(1, 1_500);
    }
    node.commit();
    drop(node);
    let new = std::fs::read(&journal).unwrap();
    let changed: Vec<usize> =
        (0..new.len()).step_by(512).filter(|at| new[*at..at + 512] != old[*at..at + 512]).collect();
    assert!(changed.len() > 15);
    for cut in &changed {
        let copy_root = dir.path().join(format!("cut-{cut}"));
        copy(&root, &copy_root);
        let mut torn = new.clone();
        torn[*cut..].copy_from_slice(&old[*cut..]);
        std::fs::write(file_path(&copy_root, 1), torn).unwrap();
        let mut node = open(&copy_root);
        assert_eq!(node.log(1).log_end().get(), before, "torn at {cut}");
        assert_eq!(node.read_all(1).len(), 5);
        // And the log goes on.
        node.push(1, 10);
        node.commit();
        drop(node);
        assert_eq!(open(&copy_root).log(1).log_end().get(), before + 1);
        std::fs::remove_dir_all(copy_root).unwrap();
    }
}

#[test]
fn a_damaged_group_below_one_that_was_known_durable_is_an_error() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::default());
    node.commit();
    for _ in 0..3 {
        node.push(1, 100);
        node.commit();
    }
    drop(node);
    let path = file_path(&root, 1);
    let mut bytes = std::fs::read(&path).unwrap();
    // The third group of four: the fourth was written when it was known to be durable.
    bytes[2 * 4096 + 60] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(try_open(&root), Err(OpenError::Journal { missing: 3, known: 3 })));
}

#[test]
fn groups_of_recycled_files_and_of_earlier_lives_are_never_replayed() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::default());
    for _ in 0..200 {
        node.push(1, 3_000);
        node.commit();
    }
    // Truncated and checkpointed: a replayed append of before would show.
    let point = node.log(1).cut_point(Offset::new(3)).unwrap().unwrap();
    let entry = node.log(1).truncate_to(point);
    node.put(entry);
    node.commit();
    node.checkpoint(false);
    drop(node);
    for life in 0..5 {
        let mut node = open(&root);
        assert_eq!(node.log(1).log_end().get(), 3 + life);
        node.push(1, 100);
        node.commit();
        drop(node);
    }
}

#[test]
fn many_files_of_the_journal_are_filled_recycled_and_read_in_order() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    for topic in 1..=3 {
        node.create(topic, &Arc::default());
    }
    for round in 0..150 {
        for topic in 1..=3 {
            node.push(topic, 40_000 + round);
        }
        node.commit();
        if let Some(steps) = node.journal.grow() {
            let result = steps.iter().try_for_each(|step| step.run(&*node.disk));
            node.journal.grown(&result);
        }
        if node.journal.wants_checkpoint() || round == 77 {
            node.checkpoint(false);
        }
    }
    let expected: Vec<_> = [1, 2, 3].map(|topic| node.read_all(topic)).into();
    drop(node);
    let mut node = open(&root);
    assert_eq!(ends(&mut node, &[1, 2, 3]), [150; 3]);
    let found: Vec<_> = [1, 2, 3].map(|topic| node.read_all(topic)).into();
    assert!(found == expected);
}

#[test]
fn large_appends_go_to_the_segment_beside_the_journal_and_come_back() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &small_segments(1_000_000));
    node.create(2, &Arc::default());
    node.push(1, 10);
    node.commit();
    for _ in 0..4 {
        node.push(1, 300_000);
        node.push(2, 10);
    }
    let used = node.journal.used_bytes();
    node.commit();
    assert!(node.journal.used_bytes() - used < 100_000, "the journal holds places only");
    node.push(1, 20);
    node.commit();
    let expected = node.read_all(1);
    drop(node);
    let mut node = open(&root);
    assert!(node.read_all(1) == expected);
    assert_eq!(ends(&mut node, &[1, 2]), [6, 4]);
}

#[test]
fn a_direct_write_that_did_not_happen_ends_the_journal_there() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::default());
    node.create(2, &Arc::default());
    node.push(1, 10);
    node.push(2, 10);
    node.commit();
    node.push(2, 20);
    node.push(1, 300_000);
    node.push(2, 30);
    node.commit_one(false);
    drop(node);
    let mut node = open(&root);
    assert_eq!(ends(&mut node, &[1, 2]), [1, 2], "units before the torn one stay");
    assert_eq!(node.report.cut_units, 2);
}

#[test]
fn a_direct_range_that_was_durable_and_is_damaged_takes_only_its_log_out_of_use() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::default());
    node.create(2, &Arc::default());
    node.push(1, 300_000);
    node.commit();
    node.push(2, 10);
    node.commit();
    drop(node);
    let path = segment::file_path(&root.join(folder(1)), Offset::ZERO, FileKind::Data);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[200_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    for _ in 0..2 {
        let mut node = open(&root);
        assert_eq!(ends(&mut node, &[2]), [1]);
        if node.report.groups > 0 {
            assert!(matches!(node.damaged.get(&id(1)), Some(Damage::Direct { .. })));
        }
    }
    let aside = std::fs::read_dir(root.join(".weir/set-aside")).unwrap().count();
    assert_eq!(aside, 1, "the journal is kept for a repair");
}

#[test]
fn a_unit_is_replayed_as_a_whole_in_order() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::default());
    node.create(2, &Arc::default());
    node.commit();
    let entries = vec![node.log(1).append(batch(0, 0, 2, 10, 0), 0), node.log(2).append(batch(0, 0, 3, 10, 0), 0)];
    node.queue.push_back(Unit { entries });
    node.commit();
    drop(node);
    let mut node = open(&root);
    assert_eq!(ends(&mut node, &[1, 2]), [2, 3]);
    assert_eq!(node.report.units, 3);
}

/// A directory after a crash whose journal has several files: the newest groups are in the last of them, behind what a checkpoint
/// covers. Gives the files' numbers, and what topic 1 has.
fn crashed_with_many_files(root: &Path) -> (Vec<u64>, i64) {
    let mut node = open(root);
    node.create(1, &Arc::default());
    node.checkpoint(false);
    while std::fs::read_dir(root.join(".weir/journal")).unwrap().count() < 3 {
        node.push(1, 100_000);
        node.commit();
        if let Some(steps) = node.journal.grow() {
            let result = steps.iter().try_for_each(|step| step.run(&*node.disk));
            node.journal.grown(&result);
        }
    }
    // One group more in each file than fits the ones before it.
    while node.journal.used_bytes() < 9 << 20 {
        node.push(1, 100_000);
        node.commit();
    }
    let end = node.log(1).log_end().get();
    (vec![1, 2, 3], end)
}

#[test]
fn a_journal_file_that_is_gone_or_shortened_after_a_crash_refuses_the_start() {
    let (dir, root) = temp();
    let (numbers, end) = crashed_with_many_files(&root);
    for number in &numbers {
        for len in [None, Some(0), Some(3 << 20)] {
            let copy_root = dir.path().join("copy");
            copy(&root, &copy_root);
            let path = file_path(&copy_root, *number);
            let kept = std::fs::read(&path).unwrap();
            match len {
                None => std::fs::remove_file(&path).unwrap(),
                Some(len) => std::fs::File::options().write(true).open(&path).unwrap().set_len(len).unwrap(),
            }
            for _ in 0..2 {
                let error = try_open(&copy_root).map(drop).unwrap_err();
                let is_it = matches!(&error, OpenError::JournalFile { file, has, says, .. }
                    if *file == path && *has == len.unwrap_or(0) && *says == kept.len() as u64);
                assert!(is_it, "{number} {len:?}: {error}");
            }
            // Put back, it is as it was.
            std::fs::write(&path, kept).unwrap();
            assert_eq!(open(&copy_root).log(1).log_end().get(), end);
            std::fs::remove_dir_all(copy_root).unwrap();
        }
    }
}

#[test]
fn a_journal_of_which_only_the_spare_file_is_left_is_no_new_directory() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::default());
    let spare = loop {
        node.push(1, 100_000);
        node.commit();
        if let Some(steps) = node.journal.grow() {
            break steps;
        }
    };
    let result = node.run(&spare);
    node.journal.grown(&result);
    node.push(1, 100);
    node.commit();
    drop(node);
    std::fs::remove_file(file_path(&root, 1)).unwrap();
    let error = try_open(&root).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::JournalFile { .. }), "{error}");
    // The way out that the error names.
    std::fs::remove_file(root.join(".weir/journal-files")).unwrap();
    assert!(try_open(&root).is_ok());
}

#[test]
fn a_directory_of_an_earlier_version_has_no_list_of_journal_files_and_gets_one() {
    let (_dir, root) = temp();
    crashed_with_one_record(&root);
    let manifest = root.join(".weir/journal-files");
    std::fs::remove_file(&manifest).unwrap();
    assert_eq!(open(&root).log(1).log_end().get(), 1);
    assert!(manifest.exists());
    // What cannot be read is no reason to refuse.
    std::fs::write(&manifest, b"weirjfl1 and more").unwrap();
    assert_eq!(open(&root).log(1).log_end().get(), 1);
}

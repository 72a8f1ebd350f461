//! Files after a crash: nothing is believed that was not synced, nothing that was synced is lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{LogId, Offset};

use super::harness::*;
use crate::disk::RealDisk;
use crate::journal::entry::{Entry, Unit};
use crate::recovery::{Damage, OpenError};
use crate::segment::{FileKind, file_path};
use crate::store::{Options, Store, checkpoint_path};

#[test]
fn segment_bytes_behind_the_checkpoint_are_written_again_whatever_the_file_holds() {
    let (dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &small_segments(2_000));
    for _ in 0..10 {
        node.push(1, 100);
    }
    node.commit();
    node.checkpoint(false);
    let synced = std::fs::metadata(file_path(&root.join(folder(1)), Offset::ZERO, FileKind::Data)).unwrap().len();
    for _ in 0..20 {
        node.push(1, 100);
    }
    node.commit();
    node.flush();
    let expected = node.read_all(1);
    drop(node);
    let first = |root: &std::path::Path| file_path(&root.join(folder(1)), Offset::ZERO, FileKind::Data);
    for what in ["lost", "garbage", "longer", "zeros"] {
        let root2 = dir.path().join(what);
        copy(&root, &root2);
        for entry in std::fs::read_dir(root2.join(folder(1))).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let keep = if path == first(&root2) { usize::try_from(synced).unwrap() } else { 0 };
            let mut bytes = std::fs::read(&path).unwrap();
            match what {
                "lost" if keep == 0 => {
                    std::fs::remove_file(&path).unwrap();
                    continue;
                }
                "lost" => bytes.truncate(keep),
                "garbage" => bytes[keep..].iter_mut().for_each(|byte| *byte ^= 0xa5),
                "longer" => bytes.extend_from_slice(&[0xee; 10_000]),
                _ => bytes[keep..].fill(0),
            }
            std::fs::write(&path, bytes).unwrap();
        }
        let mut node = open(&root2);
        assert!(node.read_all(1) == expected, "{what}");
        node.stop();
        let len = std::fs::metadata(first(&root2)).unwrap().len();
        assert_eq!(len, std::fs::metadata(first(&root)).unwrap().len(), "{what}: no byte too many");
    }
}

#[test]
fn a_segment_shorter_than_the_checkpoint_says_is_damage_of_that_log_alone() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::default());
    node.create(2, &Arc::default());
    for _ in 0..10 {
        node.push(1, 100);
        node.push(2, 100);
    }
    node.commit();
    node.checkpoint(false);
    drop(node);
    let path = file_path(&root.join(folder(1)), Offset::ZERO, FileKind::Data);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    let mut node = open(&root);
    assert!(matches!(node.damaged.get(&id(1)), Some(Damage::Short { .. })), "{:?}", node.damaged);
    assert_eq!(node.read_all(2).len(), 10);
    assert_eq!(std::fs::read(&path).unwrap().len(), bytes.len() - 10, "left as it was");
}

#[test]
fn a_refused_open_leaves_all_that_was_acknowledged_for_the_next() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::default());
    node.create(2, &small_segments(2_000));
    for _ in 0..10 {
        node.push(1, 100);
        node.push(2, 100);
    }
    node.commit();
    node.checkpoint(false);
    for _ in 0..20 {
        node.push(1, 100);
        node.push(2, 100);
    }
    // One that goes to its segment alone: it is in no later group, so that nothing says that it was durable.
    node.push(1, 300_000);
    node.push(2, 300_000);
    node.commit();
    let expected = [node.read_all(1), node.read_all(2)];
    drop(node);
    let path = file_path(&root.join(folder(1)), Offset::ZERO, FileKind::Data);
    let away = root.join("away");
    std::fs::rename(&path, &away).unwrap();
    for _ in 0..2 {
        let error = try_open_only_copy(&root).map(drop).unwrap_err();
        assert!(matches!(&error, OpenError::Damaged { count: 1, .. }), "{error}");
        assert!(error.to_string().contains("t1-0: segment 0 is missing"), "{error}");
    }
    std::fs::rename(&away, &path).unwrap();
    let mut node = try_open_only_copy(&root).map_err(|error| error.to_string()).ok().unwrap();
    assert!([node.read_all(1), node.read_all(2)] == expected);
    assert!(!root.join(".weir/set-aside").exists());
}

#[test]
fn a_segment_that_is_missing_or_cut_after_a_clean_stop_is_damage() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &small_segments(2_000));
    for _ in 0..30 {
        node.push(1, 100);
    }
    node.stop();
    let mut paths: Vec<_> =
        std::fs::read_dir(root.join(folder(1))).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    for path in [&paths[0], &paths[paths.len() - 1]] {
        let bytes = std::fs::read(path).unwrap();
        std::fs::remove_file(path).unwrap();
        let error = try_open_only_copy(&root).map(drop).unwrap_err();
        assert!(matches!(&error, OpenError::Damaged { .. }) && error.to_string().contains("missing"), "{error}");
        std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        let error = try_open_only_copy(&root).map(drop).unwrap_err();
        assert!(matches!(&error, OpenError::Damaged { .. }) && error.to_string().contains("bytes"), "{error}");
        std::fs::write(path, &bytes).unwrap();
    }
    let mut node = try_open_only_copy(&root).map_err(|error| error.to_string()).ok().unwrap();
    assert!(node.clean, "the refusals changed nothing");
    assert_eq!(node.read_all(1).len(), 30);
}

#[test]
fn a_damaged_checkpoint_is_an_error_at_every_byte() {
    const VERSION_AT: std::ops::Range<usize> = 8..12;
    let (_dir, root) = temp();
    crashed_with_one_record(&root);
    open(&root).checkpoint(false);
    let path = checkpoint_path(&root);
    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x41;
        std::fs::write(&path, &bytes).unwrap();
        match try_open(&root).map(drop) {
            Err(OpenError::Checkpoint { .. }) => assert!(!VERSION_AT.contains(&at), "flipped at {at}"),
            Err(error @ OpenError::NewerCheckpoint { .. }) => {
                assert!(VERSION_AT.contains(&at), "flipped at {at}");
                let error = error.to_string();
                // Where a downgrade did it, the directory is whole.
                assert!(
                    error.contains("start the version of weir that wrote it") && !error.contains("empty"),
                    "{error}"
                );
            }
            other => panic!("flipped at {at}: {other:?}"),
        }
        std::fs::write(&path, &good[..at]).unwrap();
        assert!(matches!(try_open(&root), Err(OpenError::Checkpoint { .. })), "cut at {at}");
    }
    check_says_the_way_out(&root);
    std::fs::write(&path, &good).unwrap();
    assert_eq!(open(&root).read_all(1).len(), 1);
}

#[test]
fn a_missing_or_cut_journal_is_an_error_unless_the_stop_was_clean() {
    let (_dir, root) = temp();
    crashed_with_one_record(&root);
    let dir = crate::journal::files::dir(&root);
    let file = std::fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
    let good = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(try_open(&root), Err(OpenError::NoJournal { .. })));
    for len in [0, good.len() / 2] {
        std::fs::write(&file, &good[..len]).unwrap();
        assert!(matches!(try_open(&root), Err(OpenError::NoJournal { .. })), "cut to {len}");
    }
    check_says_the_way_out(&root);
    std::fs::write(&file, &good).unwrap();
    let mut node = open(&root);
    assert_eq!(node.read_all(1).len(), 1);
    node.stop();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(open(&root).read_all(1).len(), 1);
}

#[test]
fn a_directory_of_kafka_or_of_a_newer_weir_is_refused_untouched() {
    for (text, is_newer) in [("version=1\nnode.id=1\ncluster.id=x\n", false), ("weir.version=2\n", true)] {
        let (_dir, root) = temp();
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("meta.properties"), text).unwrap();
        match try_open(&root).map(drop) {
            Err(error @ OpenError::Newer { .. }) => {
                assert!(is_newer && error.to_string().ends_with("start the version of weir that wrote it"), "{error}");
            }
            Err(OpenError::Foreign { .. }) => assert!(!is_newer),
            other => panic!("{other:?}"),
        }
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 1);
    }
    let (_dir, root) = temp();
    std::fs::create_dir_all(root.join("photos")).unwrap();
    assert!(matches!(try_open(&root), Err(OpenError::Foreign { .. })));
}

/// Whoever reads why a start was refused also reads what can be done.
fn check_says_the_way_out(root: &std::path::Path) {
    let error = try_open(root).map(drop).unwrap_err().to_string();
    for words in ["from a copy", "where other nodes have", "empty the directory"] {
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn an_identity_that_is_empty_is_called_so_and_not_taken_for_that_of_another_program() {
    for text in ["", "\n", "\0\0\0\0", "directory.id=07070707070707070707070707070707\n"] {
        let (_dir, root) = temp();
        crashed_with_one_record(&root);
        std::fs::write(root.join("meta.properties"), text).unwrap();
        let error = try_open(&root).map(drop).unwrap_err();
        let what = if text.starts_with('d') { "weir.version is missing" } else { "the file is empty" };
        assert!(matches!(&error, OpenError::Meta { .. }) && error.to_string().contains(what), "{text:?}: {error}");
        check_says_the_way_out(&root);
    }
}

#[test]
fn damaged_logs_are_counted_in_words_and_the_first_of_them_named_also_those_of_no_checkpoint() {
    for count in [1u8, 2, 7] {
        let (_dir, root) = temp();
        let mut node = open(&root);
        for topic in 1..=count {
            node.create(topic, &Arc::default());
            node.push(topic, 300_000);
        }
        node.commit();
        // What follows says that these were durable; no checkpoint has the logs.
        node.put(Entry::Note { key: "behind".into(), value: "1".into() });
        node.commit();
        drop(node);
        for topic in 1..=count {
            std::fs::remove_file(file_path(&root.join(folder(topic)), Offset::ZERO, FileKind::Data)).unwrap();
        }
        let judge = |_: &crate::Look<'_>| BTreeSet::new();
        let options = Options { salt: 42, directory_id: [7; 16], only_copy: true };
        let opened = Store::open_judged(Arc::new(RealDisk::new(&root, 64)), &root, options, Some(&judge));
        let error = opened.map(drop).unwrap_err().to_string();
        let words = if count == 1 { "1 log is damaged".to_owned() } else { format!("{count} logs are damaged") };
        assert!(error.starts_with(&words), "{error}");
        for topic in 1..=count.min(5) {
            assert!(error.contains(&format!("t{topic}-0: the journal says")), "{error}");
        }
        assert_eq!(error.contains("; and 2 more"), count == 7, "{error}");
    }
}

#[test]
fn an_identity_of_which_any_bit_is_changed_is_refused_and_one_without_checksum_is_not() {
    let (_dir, root) = temp();
    crashed_with_one_record(&root);
    let path = root.join("meta.properties");
    let good = std::fs::read_to_string(&path).unwrap();
    let id_at = good.find("directory.id=").unwrap();
    for at in id_at * 8..good.len() * 8 {
        let mut bytes = good.clone().into_bytes();
        bytes[at / 8] ^= 1 << (at % 8);
        std::fs::write(&path, &bytes).unwrap();
        // Or the change is none: a capital digit, or a line that is not there in earlier versions.
        match try_open(&root) {
            Ok(node) => assert_eq!(node.store.directory_id(), [7; 16], "bit {at}"),
            Err(error) => {
                assert!(matches!(error, OpenError::Identity { .. } | OpenError::Meta { .. }), "bit {at}: {error}")
            }
        }
    }
    let old: String = good.split_inclusive('\n').filter(|line| !line.starts_with("checksum=")).collect();
    std::fs::write(&path, old).unwrap();
    assert_eq!(open(&root).read_all(1).len(), 1);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), good, "it has one from now on");
}

#[test]
fn a_directory_in_use_that_lost_its_identity_is_not_taken_for_a_new_one() {
    for clean in [false, true] {
        let (_dir, root) = temp();
        let mut node = open(&root);
        node.put(Entry::Note { key: "cluster".into(), value: "7".into() });
        node.commit();
        if clean {
            node.stop()
        } else {
            drop(node)
        }
        let path = root.join("meta.properties");
        let good = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(try_open(&root), Err(OpenError::NoIdentity { .. })), "clean {clean}");
        std::fs::write(&path, good).unwrap();
        assert!(open(&root).journal.notes().contains_key("cluster"));
    }
}

#[test]
fn a_first_start_that_was_interrupted_before_the_identity_was_written_is_begun_again() {
    let (_dir, root) = temp();
    drop(open(&root));
    std::fs::remove_file(root.join("meta.properties")).unwrap();
    assert!(open(&root).report.fresh);
}

#[test]
fn a_deleted_log_stays_deleted_and_its_namesake_is_another() {
    for crash_before_removal in [false, true] {
        let (_dir, root) = temp();
        crashed_with_one_record(&root);
        let mut node = open(&root);
        node.checkpoint(false);
        let entry = node.log(1).delete();
        node.put(entry);
        node.commit();
        let log = node.logs.remove(&id(1)).unwrap();
        if !crash_before_removal {
            log.removal_steps().iter().try_for_each(|step| step.run(&*node.disk)).unwrap();
        }
        drop(node);
        let mut node = open(&root);
        assert!(node.logs.is_empty());
        assert!(!root.join(folder(1)).exists());
        node.create(1, &Arc::default());
        node.push(1, 5);
        node.commit();
        drop(node);
        let mut node = open(&root);
        assert_eq!(node.read_all(1).len(), 1);
    }
}

#[test]
fn a_folder_that_nobody_knows_is_set_aside() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &Arc::default());
    node.push(1, 5);
    node.commit();
    node.flush();
    for _ in 0..2 {
        std::fs::create_dir_all(root.join("lost-3")).unwrap();
        let moved = node.store.set_aside(&[folder(1)].into()).unwrap();
        assert_eq!(moved, ["lost-3"]);
    }
    assert!(root.join(".weir/set-aside/lost-3").exists());
    assert!(root.join(".weir/set-aside/lost-3.2").exists());
    assert!(root.join(folder(1)).exists());
}

#[test]
fn an_unjournalled_log_is_scanned_from_the_checkpoint_and_cut_at_the_last_whole_batch() {
    let (dir, root) = temp();
    let mut node = open(&root);
    let (mut log, entry) = node.store.create_log(id(1), &folder(1), false, Offset::ZERO);
    log.configure(small_segments(1_500));
    node.logs.insert(id(1), log);
    node.put(entry);
    node.commit();
    let append = |node: &mut Node| {
        let end = node.log(1).log_end().get();
        node.log(1).append(batch(end, 0, 1, 100, end), 0);
    };
    (0..10).for_each(|_| append(&mut node));
    node.checkpoint(false);
    (0..20).for_each(|_| append(&mut node));
    node.flush();
    drop(node);
    let mut last = Vec::new();
    for cut in [0, 1, 50, 170] {
        let root2 = dir.path().join(format!("cut-{cut}"));
        copy(&root, &root2);
        let mut paths: Vec<_> =
            std::fs::read_dir(root2.join(folder(1))).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        paths.sort();
        let path = paths.last().unwrap();
        let bytes = std::fs::read(path).unwrap();
        std::fs::write(path, &bytes[..bytes.len().saturating_sub(cut)]).unwrap();
        let mut node = open(&root2);
        last.push(node.read_all(1).len());
        let end = node.log(1).log_end().get();
        assert_eq!(usize::try_from(end).unwrap(), *last.last().unwrap());
    }
    let size = batch(0, 0, 1, 100, 0).size();
    assert_eq!(last, [30, 29, 29, 30 - 170usize.div_ceil(size)]);
}

#[test]
fn a_damaged_log_that_others_have_is_given_up_and_that_is_known_until_it_is_settled() {
    let (_dir, root) = temp();
    let mut node = open(&root);
    for topic in [1, 2, 3] {
        node.create(topic, &small_segments(2_000));
    }
    for _ in 0..10 {
        for topic in [1, 2, 3] {
            node.push(topic, 100);
        }
    }
    node.commit();
    node.checkpoint(false);
    // Nothing behind this says that it was durable; the damage before it must not make it a torn end.
    for topic in [1, 2, 3] {
        node.push(topic, 300_000);
    }
    node.commit();
    let expected = node.read_all(3);
    drop(node);
    for topic in [1, 2] {
        std::fs::remove_file(file_path(&root.join(folder(topic)), Offset::ZERO, FileKind::Data)).unwrap();
    }
    let judged = |named: &[u8]| {
        let elsewhere: BTreeSet<LogId> = named.iter().map(|topic| id(*topic)).collect();
        let options = Options { salt: 42, directory_id: [7; 16], only_copy: true };
        let judge = |look: &crate::Look<'_>| {
            assert_eq!(look.damaged.keys().copied().collect::<Vec<_>>(), [id(1), id(2)]);
            elsewhere.clone()
        };
        Store::open_judged(Arc::new(RealDisk::new(&root, 64)), &root, options, Some(&judge))
    };
    let error = judged(&[1]).map(drop).unwrap_err();
    assert!(matches!(&error, OpenError::Damaged { count: 1, .. }) && error.to_string().contains("t2-0"), "{error}");
    let opened = judged(&[1, 2]).unwrap();
    assert_eq!(opened.logs.keys().copied().collect::<Vec<_>>(), [id(3)]);
    assert_eq!(opened.lost, BTreeSet::from([id(1), id(2)]));
    drop(opened);
    // A new log in the place of one changes nothing of that, until the cluster was told.
    let mut node = open(&root);
    assert!(node.damaged.is_empty());
    assert_eq!((node.read_all(3), &node.lost), (expected, &BTreeSet::from([id(1), id(2)])));
    std::fs::remove_dir_all(root.join(folder(1))).unwrap();
    node.create(1, &small_segments(2_000));
    node.commit();
    drop(node);
    let mut node = open(&root);
    assert_eq!(node.lost.len(), 2);
    node.queue.push_back(Unit::one(crate::lost::settled()));
    node.commit();
    drop(node);
    assert!(open(&root).lost.is_empty());
}

//! What the simulated disk may and may not lose.

use super::*;
use crate::rng::Rng;

fn disk_with(path: &str, synced: &[u8]) -> (SimDisk, FileId) {
    let disk = SimDisk::new();
    disk.create_dir(Path::new("/d")).unwrap();
    let file = disk.file(Path::new(path));
    disk.create(file).unwrap();
    disk.write_at(file, 0, &[Bytes::copy_from_slice(synced)]).unwrap();
    disk.sync(file).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (disk, file)
}

fn content(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    disk.map(disk.file(Path::new(path))).ok().map(|bytes| bytes.to_vec())
}

#[test]
fn synced_content_under_a_durable_name_survives_every_crash() {
    let (disk, file) = disk_with("/d/a", b"kept");
    disk.write_at(file, 4, &[Bytes::from_static(b"maybe")]).unwrap();
    for seed in 0..50 {
        let after = disk.after_crash(Survival::Drawn, &mut Rng::new(seed));
        assert!(content(&after, "/d/a").unwrap().starts_with(b"kept"));
    }
}

#[test]
fn an_unsynced_write_may_be_lost() {
    let (disk, file) = disk_with("/d/a", b"kept");
    disk.write_at(file, 4, &[Bytes::from_static(b"lost")]).unwrap();
    let after = disk.after_crash(Survival::Nothing, &mut Rng::new(1));
    assert_eq!(content(&after, "/d/a").unwrap(), b"kept");
}

#[test]
fn a_synced_file_without_its_folder_synced_may_be_gone() {
    let (disk, _) = disk_with("/d/a", b"kept");
    let other = disk.file(Path::new("/d/b"));
    disk.create(other).unwrap();
    disk.write_at(other, 0, &[Bytes::from_static(b"x")]).unwrap();
    disk.sync(other).unwrap();
    let after = disk.after_crash(Survival::Nothing, &mut Rng::new(1));
    assert_eq!(content(&after, "/d/b"), None);
}

#[test]
fn a_rename_is_whole_or_not_at_all() {
    let (disk, _) = disk_with("/d/a", b"new");
    disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
    for seed in 0..20 {
        let after = disk.after_crash(Survival::Drawn, &mut Rng::new(seed));
        assert!(content(&after, "/d/a").is_some() != content(&after, "/d/b").is_some());
    }
}

#[test]
fn a_failed_sync_leaves_pages_that_look_clean_and_are_not() {
    let (disk, file) = disk_with("/d/a", b"kept");
    disk.write_at(file, 4, &[Bytes::from_static(b"gone")]).unwrap();
    disk.set_failing_syncs(true);
    assert!(disk.sync(file).is_err());
    disk.set_failing_syncs(false);
    disk.sync(file).unwrap();
    assert_eq!(content(&disk, "/d/a").unwrap(), b"keptgone");
    let after = disk.after_crash(Survival::Everything, &mut Rng::new(1));
    assert_eq!(content(&after, "/d/a").unwrap(), b"kept");
}

#[test]
fn a_folder_that_was_moved_away_does_not_take_its_namesakes_files_along() {
    let (disk, _) = disk_with("/d/a", b"old");
    disk.rename(Path::new("/d"), Path::new("/gone")).unwrap();
    disk.remove_dir(Path::new("/gone")).unwrap();
    disk.create_dir(Path::new("/d")).unwrap();
    let file = disk.file(Path::new("/d/a"));
    disk.create(file).unwrap();
    disk.write_at(file, 0, &[Bytes::from_static(b"new")]).unwrap();
    disk.sync(file).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    for survival in [Survival::Nothing, Survival::Everything] {
        let after = disk.after_crash(survival, &mut Rng::new(1));
        assert_eq!(content(&after, "/d/a").unwrap(), b"new");
    }
}

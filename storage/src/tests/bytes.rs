//! Any bytes on the disk give an error or an answer, never a panic; and the disk of the machine does what the trait says.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::harness::*;
use crate::disk::{AlignedBuf, Disk, DiskError, ReadMode, RealDisk};
use crate::time_reader::TimeTarget;

fn all_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all_files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn no_spoilt_file_makes_opening_or_reading_panic() {
    let (dir, root) = temp();
    let mut node = open(&root);
    node.create(1, &small_segments(70_000));
    for _ in 0..150 {
        node.push(1, 1_000);
    }
    node.stop();
    let mut node = open(&root);
    node.push(1, 300_000);
    node.push(1, 30);
    node.commit();
    node.flush();
    drop(node);
    let mut files = Vec::new();
    all_files(&root, &mut files);
    let mut random = 0x1234_5678_9abc_def1u64;
    for round in 0..150 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let file = &files[usize::try_from(random >> 33).unwrap() % files.len()];
        let copy_root = dir.path().join(format!("round-{round}"));
        copy(&root, &copy_root);
        let path = copy_root.join(file.strip_prefix(&root).unwrap());
        let mut bytes = std::fs::read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let at = usize::try_from(random >> 7).unwrap() % used.max(1);
        match round % 3 {
            0 => bytes.truncate(at),
            1 => bytes.iter_mut().skip(at).take(9).for_each(|byte| *byte = 0xff),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (random % 8)),
        }
        std::fs::write(&path, bytes).unwrap();
        if let Ok(mut node) = try_open(&copy_root)
            && let Some(log) = node.logs.get_mut(&id(1))
        {
            let (start, end) = (log.log_start(), log.log_end());
            let _any = log.plan_read(start, end, 1 << 20).unwrap().run(&*node.disk, ReadMode::Blocking);
            let _any = log.plan_time(TimeTarget::AtLeast(70), end).run(&*node.disk, ReadMode::Blocking);
            let _any = log.plan_time(TimeTarget::Newest, end).run(&*node.disk, ReadMode::Blocking);
        }
        std::fs::remove_dir_all(copy_root).unwrap();
    }
}

#[test]
fn a_disk_with_few_descriptors_serves_many_files() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::new(dir.path(), 16);
    let files: Vec<_> = (0..100).map(|number| disk.file(&dir.path().join(format!("f{number}")))).collect();
    for (number, file) in files.iter().enumerate() {
        disk.create(*file).unwrap();
        let parts: Vec<Bytes> = (0..1_500).map(|part| Bytes::from(vec![(number + part) as u8; 3])).collect();
        disk.write_at(*file, 5, &parts).unwrap();
    }
    for (number, file) in files.iter().enumerate() {
        let mut bytes = vec![1; 5_000];
        assert_eq!(disk.read_at(*file, 0, &mut bytes, ReadMode::Blocking).unwrap(), 4_505);
        assert_eq!(bytes[..5], [0; 5]);
        assert_eq!(bytes[5 + 3 * 1_400], (number + 1_400) as u8);
    }
    let open = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    assert!(open.filter(|path| path.starts_with(dir.path())).count() <= 17);
}

#[test]
fn ids_follow_a_renamed_folder_and_forgotten_ones_are_not_found() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.path(), 16));
    let (from, to) = (dir.path().join("a"), dir.path().join("b"));
    disk.create_dir(&from).unwrap();
    let file = disk.file(&from.join("x"));
    disk.create(file).unwrap();
    let mut page = AlignedBuf::with_capacity(10);
    page.put(b"ten bytes!");
    page.pad();
    disk.write_through(file, 4096, &page).unwrap();
    disk.rename(&from, &to).unwrap();
    assert_eq!(disk.file(&to.join("x")), file);
    let mut bytes = [0; 10];
    assert_eq!(
        disk.read_at(file, 4096, &mut bytes, ReadMode::CachedOnly)
            .or_else(|_| { disk.read_at(file, 4096, &mut bytes, ReadMode::Blocking) }),
        Ok(10)
    );
    assert_eq!(&bytes, b"ten bytes!");
    disk.remove_file(&to.join("x")).unwrap();
    disk.remove_file(&to.join("x")).unwrap();
    assert!(matches!(disk.len(file), Err(DiskError::NotFound { .. })));
    disk.create(file).unwrap();
    assert_eq!(disk.len(file), Ok(0));
    disk.forget(file);
    assert!(matches!(disk.len(file), Err(DiskError::NotFound { .. })));
}

#[test]
fn bytes_written_past_the_cache_are_read_back_beside_others() {
    let dir = tempfile::tempdir().unwrap();
    let disk = RealDisk::new(dir.path(), 16);
    let file = disk.file(&dir.path().join("x"));
    disk.create(file).unwrap();
    let mut expected = Vec::new();
    // Lengths around pages, below and above what is sent out at once; every third is written as usual.
    for (turn, len) in [5, 4_091, 70_000, 1, 300_001, 65_536, 4_096, 1_100_000, 99, 131_072].into_iter().enumerate() {
        let bytes: Vec<u8> = (0..len).map(|byte| (byte * 7 + turn) as u8).collect();
        let parts: Vec<Bytes> = bytes.chunks(len / 3 + 1).map(Bytes::copy_from_slice).collect();
        let at = expected.len() as u64;
        match turn % 3 {
            0 => disk.write_at(file, at, &parts).unwrap(),
            _ => disk.write_uncached(file, at, &parts).unwrap(),
        }
        expected.extend(bytes);
    }
    disk.sync(file).unwrap();
    let mut read = vec![0; expected.len() + 1];
    assert_eq!(disk.read_at(file, 0, &mut read, ReadMode::Blocking), Ok(expected.len()));
    read.truncate(expected.len());
    assert!(read == expected);
}

//! Small files that are read whole, and replaced so that a crash leaves the old one or the new one, whole.
//!
//! Owns the order of steps, as the only place. Does not own what the file says.
//! Invariant: the new content is synced before the rename (a crash in between leaves the old file), and the folder after it (else the
//! rename itself could be lost after somebody relied on it).

use std::path::Path;

use bytes::{Bytes, BytesMut};

use crate::disk::{Disk, DiskError, FileId, ReadMode, Step};

/// The whole file, or its first `bytes_max` bytes; `None` when there is none. Blocks: for a start only, or a thread that may.
///
/// # Errors
/// When the disk fails.
pub fn read(disk: &dyn Disk, path: &Path, bytes_max: u64) -> Result<Option<Bytes>, DiskError> {
    let file = disk.file(path);
    let content = read_open(disk, file, bytes_max);
    // The next content is another file under this name.
    disk.forget(file);
    match content {
        Err(DiskError::NotFound { .. }) => Ok(None),
        content => content.map(Some),
    }
}

fn read_open(disk: &dyn Disk, file: FileId, bytes_max: u64) -> Result<Bytes, DiskError> {
    let len = disk.len(file)?.min(bytes_max);
    let mut bytes = BytesMut::zeroed(usize::try_from(len).unwrap_or(usize::MAX));
    let got = disk.read_at(file, 0, &mut bytes, ReadMode::Blocking)?;
    bytes.truncate(got);
    Ok(bytes.freeze())
}

/// Steps that put `content` in the place of `path`.
pub fn replace_steps(disk: &dyn Disk, path: &Path, content: Vec<Bytes>) -> Vec<Step> {
    let temporary = path.with_extension("tmp");
    let file = disk.file(&temporary);
    let mut steps = vec![
        Step::Create { file },
        // What an earlier attempt left must not show behind the new content.
        Step::SetLen { file, len: 0 },
        Step::Write { file, at: 0, parts: content, cached: true },
        Step::Sync { file, awaited: false },
        Step::Forget { file },
        Step::Rename { from: temporary, to: path.into() },
    ];
    steps.extend(path.parent().map(|dir| Step::SyncDir { dir: dir.into() }));
    steps
}

//! Makes the files of a log what its layout says, and no more.
//!
//! Owns which bytes are written again, cut and removed. Does not own the layout.
//! Invariant: segment bytes that the checkpoint does not cover are not believed: they are written again from the journal, or checked
//! by CRC, or cut. Done twice, it does the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use model::batch::StoredBatch;

use super::fold::{Layout, Piece, Source};
use super::{Damage, Report};
use crate::disk::{Disk, DiskError, FileId, ReadMode};
use crate::journal::entry::{DirectRange, crc_of};
use crate::log::parts;
use crate::segment::{FileKind, SegmentName};

/// From so many files on one sync of the whole file system is cheaper.
const SYNC_ALL_FILES: usize = 16;

/// What must be synced when all logs are written.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    files: Vec<FileId>,
    dirs: Vec<PathBuf>,
}

impl Dirty {
    pub(super) fn file(&mut self, file: FileId) {
        if self.files.last() != Some(&file) {
            self.files.push(file);
        }
    }

    pub(super) fn dir(&mut self, dir: PathBuf) {
        if self.dirs.last() != Some(&dir) {
            self.dirs.push(dir);
        }
    }

    pub(super) fn merge(&mut self, other: Dirty) {
        self.files.extend(other.files);
        self.dirs.extend(other.dirs);
    }

    pub(super) fn sync(self, disk: &dyn Disk) -> Result<(), DiskError> {
        if self.files.len() + self.dirs.len() > SYNC_ALL_FILES {
            return disk.sync_all();
        }
        self.files.into_iter().try_for_each(|file| disk.sync(file))?;
        self.dirs.iter().try_for_each(|dir| disk.sync_dir(dir))
    }
}

/// The batch of a direct range, if the segment holds it.
pub(super) fn direct_batch(
    disk: &dyn Disk,
    dir: &Path,
    name: SegmentName,
    piece: &Piece,
    direct: &DirectRange,
) -> Result<Option<StoredBatch>, DiskError> {
    let file = disk.file(&name.path(dir, FileKind::Data));
    let len = match disk.len(file) {
        Err(DiskError::NotFound { .. }) => return Ok(None),
        other => other?,
    };
    let end = u64::from(piece.at.position) + u64::from(piece.size);
    // No buffer is made for a size that the file does not have.
    if end > len {
        return Ok(None);
    }
    let mut buffer = BytesMut::zeroed(piece.size as usize);
    let got = disk.read_at(file, u64::from(piece.at.position), &mut buffer, ReadMode::Blocking)?;
    let bytes = buffer.freeze();
    if got < bytes.len() {
        return Ok(None);
    }
    // Parsing checks the batch's own CRC; ours says that it is this batch and no other.
    let batch = StoredBatch::parse(bytes).ok().filter(|batch| crc_of(batch) == direct.crc);
    Ok(batch.filter(|batch| batch.base_offset() == direct.first && batch.next_offset() == direct.end))
}

/// Checks that each segment is there and as long as the checkpoint says: one `stat` for each, since listing a folder costs several calls.
pub(super) fn check_trusted(disk: &dyn Disk, dir: &Path, layout: &Layout) -> Result<Option<Damage>, DiskError> {
    for (segment, says) in layout.trusted.iter().filter(|(_, says)| **says > 0) {
        let (segment, says) = (*segment, u64::from(*says));
        let file = disk.file(&layout.name(segment).path(dir, FileKind::Data));
        let len = disk.len(file);
        disk.forget(file);
        match len {
            Err(DiskError::NotFound { .. }) => return Ok(Some(Damage::Missing { segment })),
            Ok(has) if has < says => return Ok(Some(Damage::Short { segment, has, says })),
            other => drop(other?),
        }
    }
    Ok(None)
}

/// The same check on a folder that was listed.
pub(super) fn check_listed(files: &[(SegmentName, u64)], layout: &Layout) -> Option<Damage> {
    let lengths: BTreeMap<SegmentName, u64> = files.iter().copied().collect();
    layout.trusted.iter().filter(|(_, says)| **says > 0).find_map(|(segment, says)| {
        let (segment, says) = (*segment, u64::from(*says));
        match lengths.get(&layout.name(segment)) {
            None => Some(Damage::Missing { segment }),
            Some(has) => (*has < says).then_some(Damage::Short { segment, has: *has, says }),
        }
    })
}

/// Names and lengths of the data files.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<(SegmentName, u64)>, DiskError> {
    let entries = match disk.list(dir) {
        Err(DiskError::NotFound { .. }) => return Ok(Vec::new()),
        other => other?,
    };
    Ok(entries
        .into_iter()
        .filter_map(|entry| SegmentName::of_data(&entry.name).map(|name| (name, entry.len)))
        .collect())
}

/// Writes what the journal has, cuts what nobody vouches for. `files`: what the folder has.
pub(super) fn rewrite(
    disk: &dyn Disk,
    root: &Path,
    layout: &Layout,
    files: Vec<(SegmentName, u64)>,
    batches: &[StoredBatch],
    dirty: &mut Dirty,
    report: &mut Report,
) -> Result<(), DiskError> {
    let dir = root.join(&layout.log.folder);
    if files.is_empty() && layout.log.segments.is_empty() {
        return Ok(());
    }
    if files.is_empty() {
        disk.create_dir(&dir)?;
    }
    let mut changed = write_pieces(disk, &dir, layout, batches, dirty, report)?;
    for (facts, _) in &layout.log.segments {
        let file = disk.file(&facts.name().path(&dir, FileKind::Data));
        let had = files.iter().find(|(name, _)| *name == facts.name()).map(|(_, len)| *len);
        if had.is_none() && facts.size == 0 {
            disk.create(file)?;
            changed = true;
        }
        if had.is_some_and(|had| had > u64::from(facts.size)) {
            report.bytes_cut += had.unwrap_or(0) - u64::from(facts.size);
            disk.set_len(file, u64::from(facts.size))?;
            dirty.file(file);
        }
    }
    for (name, len) in files {
        let known = layout.log.segments.iter().find(|(facts, _)| facts.name() == name);
        if known.is_none() {
            report.bytes_cut += len;
            for kind in FileKind::ALL {
                disk.remove_file(&name.path(&dir, kind))?;
            }
            changed = true;
        }
    }
    if changed {
        dirty.dir(dir.clone());
        dirty.dir(root.into());
    }
    Ok(())
}

fn write_pieces(
    disk: &dyn Disk,
    dir: &Path,
    layout: &Layout,
    batches: &[StoredBatch],
    dirty: &mut Dirty,
    report: &mut Report,
) -> Result<bool, DiskError> {
    const RUN_BYTES_MAX: u64 = 8 << 20;
    let mut made = None;
    let mut run: Vec<StoredBatch> = Vec::new();
    let mut start = 0u64;
    let mut bytes = 0u64;
    let mut pieces = layout.pieces.iter().zip(batches).peekable();
    while let Some((piece, batch)) = pieces.next() {
        let file = disk.file(&layout.name(piece.at.segment).path(dir, FileKind::Data));
        if made != Some(piece.at.segment) {
            disk.create(file)?;
            made = Some(piece.at.segment);
        }
        dirty.file(file);
        if matches!(piece.source, Source::Journal(_)) {
            if run.is_empty() {
                start = u64::from(piece.at.position);
            }
            run.push(batch.clone());
            bytes += u64::from(piece.size);
        }
        let ends = pieces.peek().is_none_or(|(next, _)| {
            next.at.segment != piece.at.segment || !matches!(next.source, Source::Journal(_)) || bytes >= RUN_BYTES_MAX
        });
        if ends && !run.is_empty() {
            disk.write_at(file, start, &parts(&run))?;
            report.bytes_written += bytes;
            run.clear();
            bytes = 0;
        }
    }
    Ok(made.is_some())
}

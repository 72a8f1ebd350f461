//! Reads back what the journal holds.
//!
//! Owns finding the groups that count: those of this life, from the checkpoint's number on, without a gap. Does not own what they
//! do to logs (`recovery`).
//! Invariant: a gap at or below a group that was known to be durable is damage; above it, it is the torn end of the journal.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use model::planted::{self, Bug};

use super::carry::carried_path;
use super::entry::Replayed;
use super::files::{JournalFile, dir, file_path, number_of};
use super::group::Head;
use crate::checkpoint::CarriedFile;
use crate::disk::{AlignedBuf, Disk, DiskError, FileId, in_runs};
use crate::recovery::OpenError;

const READ_BYTES: usize = 1 << 20;

/// A unit and the group that it came in.
#[derive(Debug)]
pub(crate) struct ReplayedUnit {
    pub(crate) sequence: u64,
    pub(crate) entries: Vec<Replayed>,
}

#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) units: Vec<ReplayedUnit>,
    pub(crate) groups: u64,
    /// Groups behind the torn end.
    pub(crate) groups_cut: u64,
    /// The newest group that was known to be durable.
    pub(crate) known_durable: u64,
}

/// The files of the journal, by number; what growth left unfinished is removed.
pub(crate) fn list(disk: &dyn Disk, root: &Path) -> Result<Vec<JournalFile>, DiskError> {
    let mut files = Vec::new();
    let entries = match disk.list(&dir(root)) {
        Err(DiskError::NotFound { .. }) => return Ok(files),
        other => other?,
    };
    for entry in entries {
        match number_of(&entry.name) {
            Some(number) => {
                let len = entry.len - entry.len % AlignedBuf::ALIGN as u64;
                files.push(JournalFile { number, file: disk.file(&file_path(root, number)), len });
            }
            None if entry.name.ends_with(".tmp") => disk.remove_file(&dir(root).join(&entry.name))?,
            None => {}
        }
    }
    Ok(files)
}

pub(crate) fn read(disk: &dyn Disk, files: &[JournalFile], salt: u64, from: u64) -> Result<Replay, OpenError> {
    let scan_run = |run: Vec<&JournalFile>| {
        let mut found = Vec::new();
        for file in run {
            scan(disk, file, salt, from, &mut |head, bytes| {
                found.push((head.sequence, (head, bytes)));
                Ok::<(), OpenError>(())
            })?;
        }
        Ok::<_, OpenError>(found)
    };
    let mut groups = BTreeMap::new();
    // The first files are small ones: each run gets some of all sizes.
    let runs = disk.side_by_side().max(1);
    let mixed: Vec<_> = (0..runs).flat_map(|first| files.iter().skip(first).step_by(runs)).collect();
    for found in in_runs(disk, mixed.into_iter(), &scan_run) {
        groups.extend(found?);
    }
    let known_durable = groups.values().map(|(head, _): &(Head, Bytes)| head.known_durable).max().unwrap_or(0);
    let mut replay = Replay { known_durable, ..Replay::default() };
    let oldest = groups.keys().next().copied().filter(|_| planted::is(Bug::OldEntriesReplayed));
    let mut next = oldest.unwrap_or(from);
    let total = groups.len() as u64;
    for (sequence, (head, bytes)) in groups {
        if sequence != next {
            break;
        }
        next += 1;
        replay.groups += 1;
        let units = head.units(&bytes).map_err(|error| OpenError::Entry { sequence, error })?;
        replay.units.extend(units.into_iter().map(|entries| ReplayedUnit { sequence, entries }));
    }
    if known_durable >= next {
        return Err(OpenError::Journal { missing: next, known: known_durable });
    }
    replay.groups_cut = total - replay.groups;
    replay.units.truncate(replay.units.len() - usize::from(planted::is(Bug::CutBelowSynced) && replay.groups > 0));
    Ok(replay)
}

/// The units of a file of groups that a checkpoint carried along. They count as the oldest ones, and as durable.
pub(crate) fn read_carried(
    disk: &dyn Disk,
    root: &Path,
    salt: u64,
    carried: CarriedFile,
) -> Result<Vec<ReplayedUnit>, OpenError> {
    let path = carried_path(root, carried.number);
    let file = disk.file(&path);
    let len = disk.len(file)?;
    let mut groups = BTreeMap::new();
    scan(disk, &JournalFile { number: carried.number, file, len }, salt, 0, &mut |head, bytes| {
        groups.insert(head.sequence, (head, bytes));
        Ok::<(), OpenError>(())
    })?;
    let (says, has) = (carried.groups as usize, groups.len());
    if has != says {
        return Err(OpenError::Carried { path, has, says });
    }
    let mut units = Vec::new();
    for (sequence, (head, bytes)) in groups {
        let of_group = head.units(&bytes).map_err(|error| OpenError::Entry { sequence, error })?;
        units.extend(of_group.into_iter().map(|entries| ReplayedUnit { sequence: 0, entries }));
    }
    Ok(units)
}

/// Looks at each aligned place where a group may begin, also behind bytes that are none: only so a hole is told from the end.
pub(crate) fn scan<E: From<DiskError>>(
    disk: &dyn Disk,
    file: &JournalFile,
    salt: u64,
    from: u64,
    found: &mut dyn FnMut(Head, Bytes) -> Result<(), E>,
) -> Result<(), E> {
    let align = AlignedBuf::ALIGN as u64;
    let mut window = (0, Bytes::new());
    let mut at = 0;
    while at < file.len {
        if at < window.0 || at + align > window.0 + window.1.len() as u64 {
            window = (at, read_bytes(disk, file.file, at, READ_BYTES)?);
        }
        let offset = usize::try_from(at - window.0).unwrap_or(usize::MAX);
        if offset >= window.1.len() {
            break;
        }
        let head = Head::parse(&window.1.slice(offset..), salt).filter(|head| u64::from(head.length) <= file.len - at);
        at += match head {
            Some(head) => {
                // Once is enough: most groups lie in the window whole.
                let in_window = window.1.get(offset..).and_then(|rest| rest.get(..head.length as usize));
                let bytes = match in_window {
                    Some(bytes) => window.1.slice_ref(bytes),
                    None => read_bytes(disk, file.file, at, head.length as usize)?,
                };
                if !head.is_whole(&bytes) && !planted::is(Bug::TornTailAccepted) {
                    align
                } else {
                    if head.sequence >= from || planted::is(Bug::OldEntriesReplayed) {
                        found(head, bytes)?;
                    }
                    head.padded()
                }
            }
            None => align,
        };
    }
    Ok(())
}

/// `at` is aligned.
fn read_bytes(disk: &dyn Disk, file: FileId, at: u64, len: usize) -> Result<Bytes, DiskError> {
    let bytes = disk.read_past_cache(file, at, len.next_multiple_of(AlignedBuf::ALIGN))?;
    Ok(bytes.slice(..len.min(bytes.len())))
}

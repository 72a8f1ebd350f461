//! Makes the files of all logs what their layouts say.
//!
//! Owns what is known of a log afterwards, and that thousands of them are done side by side. Does not own the files of one (`rewrite`,
//! `scan`).
//! Invariant: no log's files depend on another's, so the order does not matter; what is known of them is in the order of the logs.

use std::collections::BTreeMap;
use std::path::Path;

use model::batch::{BatchHeader, StoredBatch};
use model::{LogId, Offset};

use super::fold::{Folded, Layout};
use super::open::{State, remove_deleted};
use super::rewrite::{Dirty, check_listed, check_trusted, list, rewrite};
use super::{Damage, OpenError, Report, scan};
use crate::checkpoint::{Checkpoint, LogCheckpoint};
use crate::disk::{Disk, DiskError, in_runs};
use crate::offset_index::SegmentIndex;

pub(super) struct SettledLog {
    pub(super) log: LogCheckpoint,
    pub(super) indexes: Vec<SegmentIndex>,
    /// Headers behind the producers' snapshot, where the journal has all of these batches.
    pub(super) since: Option<Vec<BatchHeader>>,
}

#[derive(Default)]
pub(super) struct Settled {
    pub(super) all: Vec<SettledLog>,
    /// Logs that are damaged, as the checkpoint had them.
    pub(super) kept: Vec<LogCheckpoint>,
    pub(super) damaged: BTreeMap<LogId, Damage>,
    /// Their folders: one that was made since is in no checkpoint.
    pub(super) damaged_folders: BTreeMap<LogId, String>,
    pub(super) notes: BTreeMap<String, bytes::Bytes>,
    pub(super) operations: u64,
}

/// Notes which logs' files do not hold what the checkpoint covers, and after a crash what lies in the folders, where it may be more than the
/// layouts say. Reads no bytes of segments: what the checkpoint covers was synced, and whoever reads it later checks it.
pub(super) fn look_at_files(
    disk: &dyn Disk,
    root: &Path,
    checkpoint: &Checkpoint,
    logs: &mut BTreeMap<LogId, Layout>,
) -> Result<(), DiskError> {
    let layouts: Vec<&mut Layout> = logs.values_mut().filter(|layout| layout.damage.is_none()).collect();
    let look = |run: Vec<&mut Layout>| {
        for layout in run {
            let dir = root.join(&layout.log.folder);
            if checkpoint.clean {
                layout.damage = check_trusted(disk, &dir, layout)?;
                continue;
            }
            let files = list(disk, &dir)?;
            if layout.log.journalled {
                layout.damage = check_listed(&files, layout);
            }
            layout.files = files;
        }
        Ok(())
    };
    in_runs(disk, layouts.into_iter(), &look).into_iter().collect()
}

/// Makes the files what the layouts say, and syncs them.
pub(super) fn settle_all(
    disk: &dyn Disk,
    root: &Path,
    checkpoint: &Checkpoint,
    state: State,
    report: &mut Report,
) -> Result<Settled, OpenError> {
    let State { folded: Folded { logs, deleted, notes, operations }, mut batches } = state;
    remove_deleted(disk, root, &deleted, &logs, report)?;
    let mut settled = Settled { notes, operations, ..Settled::default() };
    let mut sound = Vec::new();
    for (id, layout) in logs {
        let batches = batches.remove(&id).unwrap_or_default();
        match layout.damage {
            None => sound.push((layout, batches)),
            Some(damage) => {
                settled.damaged.insert(id, damage);
                settled.damaged_folders.insert(id, layout.log.folder);
                settled.kept.extend(checkpoint.logs.iter().find(|log| log.id == id).cloned());
            }
        }
    }
    let settle = |run: Vec<(Layout, Vec<StoredBatch>)>| {
        let (mut dirty, mut report) = (Dirty::default(), Report::default());
        let logs = run.into_iter().map(|(layout, batches)| {
            settle_one(disk, root, checkpoint.clean, (layout, &batches), &mut dirty, &mut report)
        });
        let logs = logs.collect::<Result<Vec<_>, DiskError>>()?;
        Ok::<_, DiskError>((logs, dirty, report))
    };
    let mut dirty = Dirty::default();
    for done in in_runs(disk, sound.into_iter(), &settle) {
        let (logs, of_run, counted) = done?;
        settled.all.extend(logs);
        dirty.merge(of_run);
        report.bytes_written += counted.bytes_written;
        report.bytes_cut += counted.bytes_cut;
    }
    // Before the checkpoint says so, all of it must be on the disk.
    dirty.sync(disk)?;
    Ok(settled)
}

fn settle_one(
    disk: &dyn Disk,
    root: &Path,
    is_clean: bool,
    (mut layout, batches): (Layout, &[StoredBatch]),
    dirty: &mut Dirty,
    report: &mut Report,
) -> Result<SettledLog, DiskError> {
    // After a clean stop the files are what the checkpoint says.
    if !is_clean {
        let files = std::mem::take(&mut layout.files);
        if !layout.log.journalled {
            scan::scan_tail(disk, root, &files, &mut layout, dirty)?;
        }
        rewrite(disk, root, &layout, files, batches, dirty, report)?;
    }
    let indexes = layout.settle(batches);
    layout.log.high_watermark = layout.log.high_watermark.clamp(layout.log.log_start, layout.log.log_end);
    let since = since_snapshot(&layout.log, batches);
    Ok(SettledLog { log: layout.log, indexes, since })
}

/// Headers of the batches behind the producers' snapshot, without a look at a file. `None`: the journal has not all of them.
fn since_snapshot(log: &LogCheckpoint, batches: &[StoredBatch]) -> Option<Vec<BatchHeader>> {
    let from = producers_from(log);
    // Only records have producers.
    if log.id.kind != model::LogKind::RECORDS || from >= log.log_end {
        return Some(Vec::new());
    }
    let follows = batches.windows(2).all(|pair| matches!(pair, [a, b] if a.next_offset() == b.base_offset()));
    let reaches = batches.first()?.base_offset() <= from && batches.last()?.next_offset() == log.log_end;
    let behind = || batches.iter().filter(|batch| batch.next_offset() > from);
    (follows && reaches).then(|| behind().map(|batch| *batch.header()).collect())
}

pub(super) fn producers_from(log: &LogCheckpoint) -> Offset {
    log.producers.as_ref().map_or(log.log_start, |producers| producers.offset)
}

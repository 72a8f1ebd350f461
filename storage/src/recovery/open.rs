//! The order of a recovery.
//!
//! Owns that order: read everything, decide, write segments, sync them, then replace the checkpoint. A crash before that last step
//! repeats the whole; after it the journal's old groups count no more, because their salt is not the checkpoint's.
//! Invariant: a refusal comes before that step too: once the files are put right, the next start finds all that this one found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use model::LogId;
use model::batch::StoredBatch;

use super::fold::{Folded, Layout, Source, fold};
use super::rewrite::{check_trusted, direct_batch};
use super::settle::{Settled, SettledLog, look_at_files, producers_from, settle_all};
use super::{Damage, Judge, Look, OpenError, Recovered, RecoveredLog, Report, identity, scan};
use crate::checkpoint::{Checkpoint, CheckpointError, VERSION};
use crate::disk::{Disk, DiskError, Step};
use crate::durable;
use crate::journal::files::{FIRST_FILE_BYTES, Files, JournalFile, dir as journal_dir, file_path, growth_steps};
use crate::journal::manifest::{self, Manifest};
use crate::journal::replay::{self, Replay};
use crate::journal::{Journal, carry};
use crate::log::{Log, Shared};
use crate::lost;
use crate::reader::ReadError;
use crate::segment::Segment;
use crate::store::{DELETED_SUFFIX, METADATA_FOLDER, Options, Store, checkpoint_path};

pub(super) fn open(
    disk: Arc<dyn Disk>,
    root: &Path,
    options: Options,
    judge: Option<&Judge<'_>>,
) -> Result<Recovered, OpenError> {
    let known = identity::read(&*disk, root)?;
    let mut report = Report { fresh: known.is_none(), ..Report::default() };
    let (checkpoint, replay) = match known {
        Some(_) => read_state(&*disk, root)?,
        None => {
            check_unused(&*disk, root)?;
            (Checkpoint { clean: true, ..Checkpoint::default() }, Replay::default())
        }
    };
    make_folders(&*disk, root)?;
    report.groups = replay.groups;
    report.units = replay.units.len() as u64;
    let mut state = decide(&*disk, root, &checkpoint, replay, &mut report)?;
    look_at_files(&*disk, root, &checkpoint, &mut state.folded.logs)?;
    if options.only_copy && judge.is_none() {
        // Before anything is rewritten: what a missing file takes from one log must not be cut from the others.
        let found = state.folded.logs.values();
        refuse(found.filter_map(|layout| Some((layout.log.folder.as_str(), layout.damage.as_ref()?))))?;
    }
    let shared =
        Shared { disk: Arc::clone(&disk), root: root.into(), operations: AtomicU64::new(state.folded.operations) };
    let shared = Arc::new(shared);
    let settled = settle_all(&*disk, root, &checkpoint, state, &mut report)?;
    let salt = next_salt(checkpoint.salt, options.salt);
    let store = Store::new(Arc::clone(&shared), known.map_or(options.directory_id, |known| known.id));
    let Settled { all, kept, damaged, mut damaged_folders, notes, operations } = settled;
    let known_logs: Vec<_> = all.iter().map(|settled| settled.log.clone()).chain(kept).collect();
    damaged_folders.extend(known_logs.iter().map(|log| (log.id, log.folder.clone())));
    let mut next = Checkpoint { salt, from_sequence: 1, operations, notes, logs: known_logs, ..Checkpoint::default() };
    let (logs, damaged) = open_logs(&*disk, &shared, all, damaged)?;
    let mut lost = lost::read(&next.notes)?;
    if options.only_copy && !damaged.is_empty() {
        let metadata = logs.get(&LogId::METADATA).map(|found| &found.log);
        let look = Look { store: &store, metadata, notes: &next.notes, damaged: &damaged };
        let elsewhere = judge.map(|judge| judge(&look)).unwrap_or_default();
        give_up(&mut next, &damaged, &damaged_folders, &elsewhere, &mut lost)?;
    }
    let files = prepare_journal(&*disk, root, !damaged.is_empty())?;
    run(&*disk, &Manifest::new([salt, checkpoint.salt], &files).steps(&*disk, root))?;
    run(&*disk, &store.replace_checkpoint(&next))?;
    set_journal_aside(&*disk, root, &files)?;
    carry::clear(&*disk, root, !damaged.is_empty())?;
    if known.is_none_or(|known| !known.has_checksum) {
        identity::write(&*disk, root, store.directory_id())?;
    }
    let notes = next.notes;
    let journal = Journal::new(shared, salt, Files::new(files), notes.clone());
    Ok(Recovered { store, journal, logs, damaged, lost, notes, clean: checkpoint.clean, report })
}

/// The next checkpoint does not have the damaged logs that other nodes have, and notes that. An error that names the others, if there
/// are any.
fn give_up(
    next: &mut Checkpoint,
    damaged: &BTreeMap<LogId, Damage>,
    folders: &BTreeMap<LogId, String>,
    elsewhere: &BTreeSet<LogId>,
    lost: &mut BTreeSet<LogId>,
) -> Result<(), OpenError> {
    let folder = |id: &LogId| folders.get(id).map_or("", String::as_str);
    refuse(damaged.iter().filter(|(id, _)| !elsewhere.contains(id)).map(|(id, damage)| (folder(id), damage)))?;
    for (id, damage) in damaged {
        tracing::error!(log = %id, folder = folder(id), %damage, "a damaged log is given up: other nodes have what it held");
    }
    next.logs.retain(|log| !damaged.contains_key(&log.id));
    lost.extend(damaged.keys().copied());
    lost::write(&mut next.notes, lost);
    Ok(())
}

/// An error that names damaged logs by their folders, if there are any.
fn refuse<'a>(damaged: impl Iterator<Item = (&'a str, &'a Damage)>) -> Result<(), OpenError> {
    const NAMED_MAX: usize = 5;
    let name = |folder: &'a str| if folder == METADATA_FOLDER { "the metadata log" } else { folder };
    let all: Vec<String> = damaged.map(|(folder, damage)| format!("{}: {damage}", name(folder))).collect();
    let (count, more) = (all.len(), all.len().saturating_sub(NAMED_MAX));
    let mut first = all.into_iter().take(NAMED_MAX).collect::<Vec<_>>().join("; ");
    if more > 0 {
        first.push_str(&format!("; and {more} more"));
    }
    if count == 0 { Ok(()) } else { Err(OpenError::Damaged { count, first }) }
}

type OpenedLogs = BTreeMap<LogId, RecoveredLog>;

/// The logs as they will be used; those that cannot be read join the damaged ones.
fn open_logs(
    disk: &dyn Disk,
    shared: &Arc<Shared>,
    all: Vec<SettledLog>,
    mut damaged: BTreeMap<LogId, Damage>,
) -> Result<(OpenedLogs, BTreeMap<LogId, Damage>), OpenError> {
    let mut logs = BTreeMap::new();
    for settled in all {
        let id = settled.log.id;
        let damage = match recovered_log(disk, shared, settled) {
            Ok(log) => {
                logs.insert(id, log);
                continue;
            }
            Err(ReadError::Disk(error)) => return Err(error.into()),
            Err(ReadError::Corrupt { segment, at }) => Damage::Bytes { segment, at },
            Err(
                ReadError::BelowStart { start: offset, .. }
                | ReadError::AboveLimit { end: offset, .. }
                | ReadError::Records { segment: offset },
            ) => Damage::Bytes { segment: offset, at: 0 },
        };
        damaged.insert(id, damage);
    }
    Ok((logs, damaged))
}

fn run(disk: &dyn Disk, steps: &[Step]) -> Result<(), DiskError> {
    steps.iter().try_for_each(|step| step.run(disk))
}

fn make_folders(disk: &dyn Disk, root: &Path) -> Result<(), DiskError> {
    for dir in [journal_dir(root), root.join(METADATA_FOLDER)] {
        disk.create_dir(&dir)?;
    }
    disk.sync_dir(&root.join(".weir"))?;
    disk.sync_dir(root)?;
    // The directory's own name. Not everybody may open the folder above; then whoever made the directory answers for it.
    if let Some(parent) = root.parent()
        && let Err(error) = disk.sync_dir(parent)
    {
        tracing::warn!(%error, "the name of the data directory may not be durable");
    }
    Ok(())
}

/// Without an identity a directory is new, or its first start was interrupted: then its checkpoint and journal are empty.
fn check_unused(disk: &dyn Disk, root: &Path) -> Result<(), OpenError> {
    let in_use = match read_state(disk, root) {
        Err(OpenError::NoCheckpoint { .. }) => false,
        Err(error) => return Err(error),
        Ok((checkpoint, replay)) => {
            checkpoint.clean || replay.groups > 0 || !checkpoint.notes.is_empty() || !checkpoint.logs.is_empty()
        }
    };
    if in_use {
        return Err(OpenError::NoIdentity { path: root.join("meta.properties"), dir: root.join(".weir") });
    }
    identity::check_new(disk, root)
}

fn read_state(disk: &dyn Disk, root: &Path) -> Result<(Checkpoint, Replay), OpenError> {
    let path = checkpoint_path(root);
    let Some(bytes) = durable::read(disk, &path, u64::MAX)? else { return Err(OpenError::NoCheckpoint { path }) };
    let checkpoint = Checkpoint::decode(&bytes).map_err(|error| match error {
        CheckpointError::Version { version } => OpenError::NewerCheckpoint { path, version, known: VERSION },
        error => OpenError::Checkpoint { path, error },
    })?;
    if checkpoint.clean {
        return Ok((checkpoint, Replay::default()));
    }
    let files = replay::list(disk, root)?;
    // A checkpoint that is not clean was written behind a whole file of the journal, and none is ever made shorter.
    if !files.iter().any(|file| file.len >= FIRST_FILE_BYTES) {
        return Err(OpenError::NoJournal { path: journal_dir(root) });
    }
    manifest::check(disk, root, checkpoint.salt, &files)?;
    let mut replay = replay::read(disk, &files, checkpoint.salt, checkpoint.from_sequence)?;
    if let Some(carried) = checkpoint.carried {
        let older = replay::read_carried(disk, root, checkpoint.salt, carried)?;
        replay.units.splice(..0, older);
    }
    Ok((checkpoint, replay))
}

/// The salt of a new life: never that of the one before, even if the caller's random number were the same.
fn next_salt(last: u64, random: u64) -> u64 {
    let mut mixed = last.rotate_left(17) ^ random ^ 0x9e37_79b9_7f4a_7c15;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    if mixed == last { mixed.wrapping_add(1) } else { mixed }
}

pub(super) struct State {
    pub(super) folded: Folded,
    /// Of each log's pieces, in their order.
    pub(super) batches: BTreeMap<LogId, Vec<StoredBatch>>,
}

/// Folds, and checks what went to segments alone. A direct range that is not there ends the journal, unless it was durable.
fn decide(
    disk: &dyn Disk,
    root: &Path,
    checkpoint: &Checkpoint,
    replay: Replay,
    report: &mut Report,
) -> Result<State, OpenError> {
    let mut units = replay.units;
    let all = units.len();
    loop {
        let mut folded = fold(checkpoint, &units);
        let mut batches = BTreeMap::new();
        let mut torn: Option<usize> = None;
        for (id, layout) in &mut folded.logs {
            let dir = root.join(&layout.log.folder);
            let mut found = Vec::with_capacity(layout.pieces.len());
            for piece in &layout.pieces {
                let direct = match &piece.source {
                    Source::Journal(batch) => {
                        found.push(batch.clone());
                        continue;
                    }
                    Source::Segment(direct) => direct,
                };
                match direct_batch(disk, &dir, layout.name(piece.at.segment), piece, direct)? {
                    Some(batch) => found.push(batch),
                    None if piece.sequence <= replay.known_durable => {
                        let (segment, at) = (piece.at.segment, piece.at.position);
                        layout.damage = Some(Damage::Direct { segment, at, first: direct.first, end: direct.end });
                        break;
                    }
                    // A torn end takes along what came behind it in all logs; a file that was lost must not.
                    None => {
                        layout.damage = check_trusted(disk, &dir, layout)?;
                        if layout.damage.is_none() {
                            torn = Some(torn.map_or(piece.unit, |torn| torn.min(piece.unit)));
                        }
                        break;
                    }
                }
            }
            batches.insert(*id, found);
        }
        match torn {
            Some(unit) => units.truncate(unit),
            None => {
                report.cut_units = (all - units.len()) as u64;
                return Ok(State { folded, batches });
            }
        }
    }
}

pub(super) fn remove_deleted(
    disk: &dyn Disk,
    root: &Path,
    deleted: &[String],
    logs: &BTreeMap<LogId, Layout>,
    report: &mut Report,
) -> Result<(), DiskError> {
    // Thousands of topics may have been deleted since the last checkpoint, and thousands are left.
    let in_use: BTreeSet<&str> = logs.values().map(|layout| &*layout.log.folder).collect();
    for folder in deleted.iter().filter(|folder| !in_use.contains(folder.as_str())) {
        disk.remove_dir(&root.join(folder))?;
        report.removed.push(folder.clone());
    }
    for entry in disk.list(root)? {
        if entry.is_dir && entry.name.ends_with(DELETED_SUFFIX) {
            disk.remove_dir(&root.join(&entry.name))?;
            report.removed.push(entry.name);
        }
    }
    Ok(())
}

/// The files of the new life. When a log is damaged the old ones are not used again: they may be what a repair needs.
fn prepare_journal(disk: &dyn Disk, root: &Path, damaged: bool) -> Result<Vec<JournalFile>, DiskError> {
    let old = replay::list(disk, root)?;
    let last = old.iter().map(|file| file.number).max().unwrap_or(0);
    let usable: Vec<_> = old.into_iter().filter(|file| !damaged && file.len >= FIRST_FILE_BYTES).collect();
    if !usable.is_empty() {
        return Ok(usable);
    }
    run(disk, &growth_steps(disk, root, last + 1, FIRST_FILE_BYTES))?;
    Ok(replay::list(disk, root)?.into_iter().filter(|file| file.number > last).collect())
}

/// Moves journal files that the new life does not use out of the way. Only behind the new checkpoint: before, they count.
fn set_journal_aside(disk: &dyn Disk, root: &Path, used: &[JournalFile]) -> Result<(), DiskError> {
    let aside = root.join(".weir").join("set-aside");
    for file in replay::list(disk, root)? {
        if used.iter().any(|used| used.number == file.number) {
            continue;
        }
        disk.create_dir(&aside)?;
        let taken = disk.list(&aside)?.len();
        disk.rename(&file_path(root, file.number), &aside.join(format!("journal.{taken:08}")))?;
        disk.sync_dir(&aside)?;
        disk.sync_dir(&journal_dir(root))?;
    }
    Ok(())
}

fn recovered_log(disk: &dyn Disk, shared: &Arc<Shared>, settled: SettledLog) -> Result<RecoveredLog, ReadError> {
    let SettledLog { log, indexes, since } = settled;
    let from = producers_from(&log);
    let base = Log::new(log.id, Arc::clone(shared), &log.folder, log.journalled, log.log_start);
    let segments =
        log.segments.into_iter().zip(indexes).map(|((facts, _), index)| Segment::recovered(facts, index)).collect();
    let open = Log::recovered(base, log.operation, log.cleaned, segments, log.epochs, log.log_end);
    let since = match since {
        Some(since) => since,
        None => scan::headers(disk, &open, from)?,
    };
    Ok(RecoveredLog { log: open, high_watermark: log.high_watermark, producers: log.producers, since })
}

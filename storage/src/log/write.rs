//! From the tail to the segment files, and from there to the disk.
//!
//! Owns which steps are needed and in which order. Does not run them; copying small batches together happens in
//! `SegmentWrite::steps`, without the log's lock.
//! Invariant: at most one write and one sync of a log are in flight. A file is created before it is written, in one operation.

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use model::Offset;
use model::batch::{HEAD_BYTES, StoredBatch};

use super::{Log, Place, Position};
use crate::disk::{DiskError, FileId, Step};
use crate::offset_index::IndexFiles;
use crate::segment::{FileKind, file_path};

/// Bodies below this are copied together with their neighbours.
const COPY_BYTES_MAX: usize = 16 * 1024;
const COPY_CHUNK_BYTES: usize = 256 * 1024;
/// Index entries kept in memory for one segment before they go to its index files.
const INDEX_ENTRIES_MAX: usize = 512;

/// What the files of a log need apart from new batches.
#[derive(Debug, Default)]
pub(super) struct FileState {
    folder_made: bool,
    folder_named: bool,
    /// The operation that must be durable before the files may be cut.
    cut_operation: u64,
    /// In order, before the next write.
    pending: Vec<FileChange>,
    /// Removed when the operation is durable.
    removals: Vec<(u64, Offset)>,
    epochs_written: Option<model::LeaderEpoch>,
    in_flight: Option<InFlight>,
    pub(super) directs: u32,
    syncing: Option<Position>,
    /// Something was removed or cut since the last sync.
    names_dirty: bool,
}

#[derive(Clone, Copy, Debug)]
enum FileChange {
    Remove(Offset),
    SetLen(Place),
}

#[derive(Debug, Default)]
struct InFlight {
    batches: usize,
    operation: u64,
    created: Vec<Offset>,
    indexes: Vec<(Offset, IndexFiles)>,
    /// Asked for again when the write fails.
    removals: Vec<(u64, Offset)>,
    changes: Vec<FileChange>,
    made_folder: bool,
    /// False when the log was cut since: then what was written says nothing about the log as it is now.
    valid: bool,
}

impl FileState {
    pub(super) fn recovered(folder_made: bool) -> FileState {
        FileState { folder_made, folder_named: folder_made, ..FileState::default() }
    }

    pub(super) fn folder_made(&self) -> bool {
        self.folder_made
    }

    pub(super) fn cut_is_over(&self, synced_operation: u64) -> bool {
        synced_operation >= self.cut_operation
    }

    pub(super) fn cut(&mut self, operation: u64) {
        self.cut_operation = operation;
    }

    pub(super) fn remove_in_order(&mut self, base: Offset) {
        self.pending.push(FileChange::Remove(base));
    }

    pub(super) fn set_len_in_order(&mut self, at: Place) {
        self.pending.push(FileChange::SetLen(at));
    }

    pub(super) fn remove_when_durable(&mut self, operation: u64, base: Offset) {
        self.removals.push((operation, base));
    }

    /// Cuts in their order, and removals that the journal holds by now.
    fn take_changes(&mut self, durable: u64) -> (Vec<FileChange>, Vec<(u64, Offset)>) {
        let (removals, later) =
            std::mem::take(&mut self.removals).into_iter().partition(|(operation, _)| *operation <= durable);
        self.removals = later;
        (std::mem::take(&mut self.pending), removals)
    }

    /// A write failed: what it was to do is still to be done.
    fn restore(&mut self, failed: InFlight) {
        self.removals.extend(failed.removals);
        let newer = std::mem::replace(&mut self.pending, failed.changes);
        self.pending.extend(newer);
        self.folder_made &= !failed.made_folder;
        self.epochs_written = None;
    }

    pub(super) fn after_cut(&mut self) {
        if let Some(in_flight) = self.in_flight.as_mut() {
            in_flight.valid = false;
        }
        self.epochs_written = None;
    }
}

/// A write of one log, complete in itself.
#[derive(Debug)]
pub struct SegmentWrite {
    before: Vec<Step>,
    runs: Vec<Run>,
    after: Vec<Step>,
}

/// Batches that follow one another in one file.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) create: bool,
    pub(super) file: FileId,
    pub(super) at: u64,
    pub(super) batches: Vec<StoredBatch>,
}

impl Run {
    pub(super) fn steps(&self, steps: &mut Vec<Step>) {
        if self.create {
            steps.push(Step::Create { file: self.file });
            // A file of this name that a crash brought back must not show behind our bytes.
            steps.push(Step::SetLen { file: self.file, len: 0 });
        }
        if !self.batches.is_empty() {
            steps.push(Step::Write { file: self.file, at: self.at, parts: parts(&self.batches) });
        }
    }
}

impl SegmentWrite {
    /// The steps, with small batches copied together. Costs a copy of them: call it without the log's lock.
    pub fn steps(self) -> Vec<Step> {
        let mut steps = self.before;
        for run in &self.runs {
            run.steps(&mut steps);
        }
        steps.extend(self.after);
        steps
    }
}

/// Batches as the file holds them: large bodies as they are, the rest copied together.
pub(crate) fn parts(batches: &[StoredBatch]) -> Vec<Bytes> {
    let mut parts = Vec::new();
    let mut copied = BytesMut::new();
    for batch in batches {
        let is_small = batch.body().len() < COPY_BYTES_MAX;
        if copied.is_empty() {
            copied.reserve(if is_small { COPY_BYTES_MAX } else { HEAD_BYTES });
        }
        copied.extend_from_slice(&batch.head());
        if is_small {
            copied.extend_from_slice(batch.body());
        } else {
            parts.push(copied.split().freeze());
            parts.push(batch.body().clone());
        }
        if copied.len() >= COPY_CHUNK_BYTES {
            parts.push(copied.split().freeze());
        }
    }
    if !copied.is_empty() {
        parts.push(copied.freeze());
    }
    parts
}

impl Log {
    /// Whether `next_write` would give something.
    pub fn has_write(&self) -> bool {
        self.files.in_flight.is_none() && self.writable() && (self.first_unwritten() || self.file_work())
    }

    fn durable(&self) -> u64 {
        if self.journalled { self.durable_operation } else { u64::MAX }
    }

    /// A cut waits for the journal; and nothing is written beside a direct write, which may be making the file.
    fn writable(&self) -> bool {
        self.files.cut_operation <= self.durable() && self.files.directs == 0
    }

    fn first_unwritten(&self) -> bool {
        self.tail.unwritten().next().is_some_and(|batch| batch.operation <= self.durable())
    }

    fn file_work(&self) -> bool {
        !self.files.pending.is_empty()
            || self.files.removals.iter().any(|(operation, _)| *operation <= self.durable_operation)
    }

    /// The next write of this log: what the files must lose, then batches of at most about `bytes_max`. `None` when there is
    /// nothing to do or one is in flight. Its end is told to `write_done`.
    pub fn next_write(&mut self, bytes_max: u64) -> Option<SegmentWrite> {
        if !self.has_write() {
            self.advance_over_direct();
            return None;
        }
        let had_folder = self.files.folder_made;
        let (changes, removals) = self.files.take_changes(self.durable_operation);
        let mut before = self.change_steps(&changes, &removals);
        let (runs, in_flight) = self.take_runs(bytes_max, &mut before);
        let mut after = Vec::new();
        let indexes = self.index_steps(&mut after);
        if !runs.is_empty() && self.files.epochs_written != self.epochs.latest() {
            self.files.epochs_written = self.epochs.latest();
            self.epochs_steps(&mut after);
        }
        let made_folder = self.files.folder_made && !had_folder;
        self.files.in_flight = Some(InFlight { indexes, removals, changes, made_folder, ..in_flight });
        Some(SegmentWrite { before, runs, after })
    }

    fn take_runs(&mut self, bytes_max: u64, before: &mut Vec<Step>) -> (Vec<Run>, InFlight) {
        let durable = self.durable();
        let mut runs: Vec<Run> = Vec::new();
        let mut created = Vec::new();
        let (mut bytes, mut count, mut operation) = (0, 0, self.written.operation);
        let mut last_end: Option<Place> = None;
        let mut complete = true;
        for item in self.tail.unwritten() {
            if item.operation > durable || bytes >= bytes_max {
                complete = item.operation > durable;
                break;
            }
            count += 1;
            operation = item.operation;
            if item.direct {
                last_end = None;
                continue;
            }
            bytes += u64::from(item.bytes());
            let follows = last_end == Some(item.at);
            if !follows || runs.is_empty() {
                let create = self.must_create(item.at.segment) && !created.contains(&item.at.segment);
                if create {
                    created.push(item.at.segment);
                }
                let file = self.file(item.at.segment, FileKind::Data);
                runs.push(Run { create, file, at: u64::from(item.at.position), batches: Vec::new() });
            }
            if let Some(run) = runs.last_mut() {
                run.batches.push(item.batch.clone());
            }
            last_end = Some(Place { segment: item.at.segment, position: item.end_position() });
        }
        if complete {
            // Operations without batches are covered too, as far as the journal has them.
            operation = operation.max(durable.min(self.last_operation));
        }
        if !created.is_empty() {
            self.folder_steps(before);
        }
        (runs, InFlight { batches: count, operation, created, valid: true, ..InFlight::default() })
    }

    pub(super) fn write_in_flight(&self) -> bool {
        self.files.in_flight.is_some()
    }

    /// While a cut waits, positions in the files are not what the log says.
    pub(super) fn direct_allowed(&self) -> bool {
        self.files.pending.is_empty() && self.files.cut_operation <= self.durable()
    }

    pub(super) fn must_create(&self, base: Offset) -> bool {
        let at = self.segments.binary_search_by_key(&base, |segment| segment.facts.base);
        at.is_ok_and(|at| !self.segments[at].created)
    }

    fn change_steps(&mut self, changes: &[FileChange], removals: &[(u64, Offset)]) -> Vec<Step> {
        let mut steps = Vec::new();
        let removed = removals.iter().map(|(_, base)| FileChange::Remove(*base));
        for change in removed.chain(changes.iter().copied()) {
            if steps.is_empty() {
                self.folder_steps(&mut steps);
            }
            self.files.names_dirty = true;
            match change {
                FileChange::Remove(base) => self.remove_steps(base, &mut steps),
                FileChange::SetLen(at) => {
                    let file = self.file(at.segment, FileKind::Data);
                    // Nobody may have made the file yet: then there is nothing to cut.
                    steps.push(Step::Create { file });
                    steps.push(Step::SetLen { file, len: u64::from(at.position) });
                    if let Some(segment) = self.segments.iter_mut().find(|segment| segment.facts.base == at.segment) {
                        segment.dirty = true;
                    }
                }
            }
        }
        steps
    }

    fn remove_steps(&self, base: Offset, steps: &mut Vec<Step>) {
        let paths = FileKind::ALL.map(|kind| file_path(&self.dir, base, kind));
        steps.extend(paths.map(|path| Step::RemoveFile { path }));
        // The id of one that comes again under this name is needed on.
        if self.segments.iter().all(|segment| segment.facts.base != base) {
            let files = FileKind::ALL.map(|kind| self.file(base, kind));
            steps.extend(files.map(|file| Step::Forget { file }));
        }
    }

    pub(super) fn folder_steps(&mut self, steps: &mut Vec<Step>) {
        if self.files.folder_made {
            return;
        }
        self.files.folder_made = true;
        let dir = self.dir.to_path_buf();
        steps.push(Step::CreateDir { dir: dir.clone() });
        if self.id != model::LogId::METADATA {
            let text = format!("version: 0\ntopic_id: {}", crate::store::base64(&self.id.partition.topic.0));
            self.text_file(dir.join("partition.metadata"), text, steps);
        }
    }

    fn epochs_steps(&self, steps: &mut Vec<Step>) {
        self.text_file(self.dir.join("leader-epoch-checkpoint"), self.epochs.to_text(), steps);
    }

    /// A file for Kafka's tools, which Weir itself does not read back.
    fn text_file(&self, path: PathBuf, text: String, steps: &mut Vec<Step>) {
        let file = self.shared.disk.file(&path);
        let len = text.len() as u64;
        steps.push(Step::Create { file });
        steps.push(Step::Write { file, at: 0, parts: vec![Bytes::from(text)] });
        steps.push(Step::SetLen { file, len });
        steps.push(Step::Forget { file });
    }

    /// Index entries that go to their files: those of sealed segments, and of the last one when they are many.
    fn index_steps(&mut self, steps: &mut Vec<Step>) -> Vec<(Offset, IndexFiles)> {
        let Some(written) = self.written.at else { return Vec::new() };
        let mut indexes = Vec::new();
        let last = self.segments.len().saturating_sub(1);
        for (at, segment) in
            self.segments.iter().enumerate().rev().take_while(|(_, segment)| segment.index.memory.is_some())
        {
            let base = segment.facts.base;
            let is_last = at == last;
            if base > written.segment || (is_last && segment.index.memory_entries() < INDEX_ENTRIES_MAX) {
                continue;
            }
            let limits = if base == written.segment {
                let relative = u32::try_from(self.written.end.since(base)).unwrap_or(u32::MAX);
                (written.position, relative)
            } else {
                (u32::MAX, u32::MAX)
            };
            if let Some(files) = self.index_suffix_steps(at, limits, steps) {
                indexes.push((base, files));
            }
        }
        indexes
    }

    fn index_suffix_steps(&self, at: usize, limits: (u32, u32), steps: &mut Vec<Step>) -> Option<IndexFiles> {
        let segment = self.segments.get(at)?;
        let suffix = segment.index.suffix(limits.0, limits.1)?;
        let base = segment.facts.base;
        let writes = [
            (FileKind::OffsetIndex, suffix.offsets_at, suffix.offsets),
            (FileKind::TimeIndex, suffix.times_at, suffix.times),
        ];
        for (kind, at, bytes) in writes {
            let file = self.file(base, kind);
            let end = at + bytes.len() as u64;
            steps.push(Step::Create { file });
            if !bytes.is_empty() {
                steps.push(Step::Write { file, at, parts: vec![bytes] });
            }
            // Whatever an earlier life of this file left behind.
            steps.push(Step::SetLen { file, len: end });
        }
        Some(suffix.files)
    }

    /// The write has ended. After an error nothing of it counts: the same bytes are given again by the next `next_write`, which is
    /// of use for a full disk only.
    pub fn write_done(&mut self, result: &Result<(), DiskError>) {
        let in_flight = self.files.in_flight.take().expect("a write was in flight");
        if result.is_err() {
            return self.files.restore(in_flight);
        }
        let created = |segment: &crate::segment::Segment| in_flight.created.contains(&segment.facts.base);
        for segment in self.segments.iter_mut().filter(|segment| created(segment)) {
            segment.created = true;
            segment.dirty = true;
        }
        if !in_flight.valid {
            return;
        }
        for (base, files) in in_flight.indexes {
            if let Some(segment) = self.segments.iter_mut().find(|segment| segment.facts.base == base) {
                segment.index.wrote(files);
            }
        }
        for _ in 0..in_flight.batches {
            self.advance();
        }
        self.written.operation = self.written.operation.max(in_flight.operation);
        self.drop_written_memory();
        self.check_invariants();
    }

    /// The mark of what is in the files moves over one batch.
    fn advance(&mut self) {
        let Some(item) = self.tail.advance() else { return };
        let end = Place { segment: item.at.segment, position: item.end_position() };
        let (timestamp, last_offset) = (item.batch.max_timestamp(), item.batch.last_offset().get());
        let (operation, next) = (item.operation, item.batch.next_offset());
        if self.written.at.is_none_or(|at| at.segment != end.segment) {
            self.written.newest = crate::segment::Newest::NONE;
        }
        self.written.newest.add(timestamp, last_offset);
        self.written.at = Some(end);
        self.written.end = next;
        self.written.operation = self.written.operation.max(operation);
        let at = self.segments.binary_search_by_key(&end.segment, |segment| segment.facts.base);
        if let Ok(at) = at {
            self.segments[at].dirty = true;
        }
    }

    /// Batches that went to their segment beside the journal need no write.
    pub(super) fn advance_over_direct(&mut self) {
        if self.files.in_flight.is_some() || !self.writable() || !self.files.pending.is_empty() {
            return;
        }
        let durable = self.durable();
        while self.tail.unwritten().next().is_some_and(|item| item.direct && item.operation <= durable) {
            self.advance();
        }
        if self.tail.unwritten().next().is_none_or(|item| item.operation > durable) {
            self.written.operation = self.written.operation.max(durable.min(self.last_operation));
        }
    }

    /// Sealed segments whose index is in its files keep nothing in memory.
    fn drop_written_memory(&mut self) {
        let Some((_, sealed)) = self.segments.split_last_mut() else { return };
        for segment in sealed.iter_mut().rev().take(8) {
            if segment.index.memory_entries() == 0 {
                segment.index.memory = None;
            }
        }
    }
}

/// Files of one log to be made durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncWork {
    pub files: Vec<FileId>,
    pub dirs: Vec<PathBuf>,
}

impl SyncWork {
    pub fn steps(self) -> Vec<Step> {
        let files = self.files.into_iter().map(|file| Step::Sync { file });
        let dirs = self.dirs.into_iter().map(|dir| Step::SyncDir { dir });
        files.chain(dirs).collect()
    }
}

impl Log {
    /// Bytes in the files that no sync covers.
    pub fn needs_sync(&self) -> bool {
        self.files.syncing.is_none()
            && (self.files.names_dirty
                || self.synced.operation < self.written.operation
                || self.segments.iter().any(|segment| segment.dirty))
    }

    /// What to sync so that everything written by now is durable without the journal. `None` when nothing is or a sync is in
    /// flight. Its end is told to `sync_done`. The caller may use one `SyncAll` for many logs instead.
    pub fn sync_work(&mut self) -> Option<SyncWork> {
        if !self.needs_sync() {
            return None;
        }
        let mut work = SyncWork { files: Vec::new(), dirs: Vec::new() };
        let dir = self.dir.to_path_buf();
        let mut unnamed = std::mem::take(&mut self.files.names_dirty);
        for segment in self.segments.iter_mut().filter(|segment| segment.dirty) {
            let path = file_path(&dir, segment.facts.base, FileKind::Data);
            work.files.push(self.shared.disk.file(&path));
            unnamed |= !segment.named;
            segment.named = true;
            segment.dirty = false;
        }
        if unnamed && self.files.folder_made {
            work.dirs.push(dir.clone());
        }
        if self.files.folder_made && !self.files.folder_named {
            self.files.folder_named = true;
            work.dirs.extend(dir.parent().map(PathBuf::from));
        }
        let index =
            self.segments.iter().find(|segment| self.written.at.is_some_and(|at| at.segment == segment.facts.base));
        let index = index.map_or_else(IndexFiles::default, |segment| segment.index.files);
        self.files.syncing = Some(Position { index, ..self.written });
        Some(work)
    }

    /// The sync has ended. A failure is final: the caller takes the disk out of use.
    pub fn sync_done(&mut self, result: &Result<(), DiskError>) {
        let reached = self.files.syncing.take().expect("a sync was in flight");
        // What was cut meanwhile takes part in the next one.
        if result.is_ok() && reached.operation >= self.files.cut_operation {
            self.synced = reached;
        }
        self.check_invariants();
    }

    /// Index files for a clean stop: everything of them that is in memory. For the caller to run when all is written.
    pub fn close_steps(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        assert!(self.files.in_flight.is_none());
        if let Some(last) = self.segments.last_mut()
            && last.index.memory.is_some()
        {
            last.index.seal(last.facts.base.get(), last.facts.newest);
        }
        for at in 0..self.segments.len() {
            if let Some(files) = self.index_suffix_steps(at, (u32::MAX, u32::MAX), &mut steps) {
                self.segments[at].index.wrote(files);
            }
        }
        steps
    }
}

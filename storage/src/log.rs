//! One log: an ordered run of batches in segment files, with its end in memory.
//!
//! Owns offsets, segments, epochs, the tail, and what has to be done to the files. Does no I/O: it hands out steps (`write`) and plans
//! (`read`) that the caller carries out without the log's lock. Does not own what is committed: `limit`s are passed in.
//! Invariant: what lies in files up to `written` is a prefix of the log; everything behind it is in the tail.
//! Invariant: bytes reach a segment only when their journal group is durable (direct ones aside), so that what a checkpoint covers
//! is made of whole units. Operations of one log have growing numbers.

mod capture;
mod change;
pub mod compact;
mod direct;
mod files;
mod near;
mod read;
mod steps;
mod sync;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::batch::StoredBatch;
use model::limits;
use model::{LogId, Offset};

use crate::disk::{Disk, FileId};
use crate::epochs::LeaderEpochs;
use crate::journal::entry::{Entry, LogChange, LogEntry};
use crate::offset_index::IndexFiles;
use crate::segment::{FileKind, Newest, Place, Segment, SegmentFacts, SegmentName};
use crate::tail::{Tail, TailBatch};

pub use change::{CutPlan, CutPoint};
pub use direct::DirectWrite;
pub use sync::SyncWork;
pub use write::SegmentWrite;
pub(crate) use write::parts;

/// What a topic's configuration says to its logs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `segment.ms`, counted from the first record's timestamp.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: by so much a segment may be closed earlier.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`: a segment is closed when its offset index has so many.
    pub index_bytes: u32,
    /// `flush.ms`: a log that is not journalled is synced after so long.
    pub flush_ms: u64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `retention.ms`; `None` keeps for ever.
    pub retention_ms: Option<i64>,
    /// `retention.bytes`; `None` has no bound.
    pub retention_bytes: Option<u64>,
    /// `cleanup.policy` has `compact`.
    pub compact: Option<compact::CompactConfig>,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            segment_jitter_ms: 0,
            index_bytes: 10 << 20,
            flush_ms: u64::MAX,
            index_interval_bytes: 4096,
            retention_ms: Some(7 * 24 * 3_600_000),
            retention_bytes: None,
            compact: None,
        }
    }
}

/// What all logs of a data directory share.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) root: PathBuf,
    /// The last operation's number.
    pub(crate) operations: AtomicU64,
}

impl Shared {
    pub(crate) fn next_operation(&self) -> u64 {
        self.operations.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({})", self.root.display())
    }
}

/// How far the segment files go, and which operations that covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// All operations of this log up to this one are in the files.
    pub operation: u64,
    pub end: Offset,
    /// Where the last segment ends; `None` when there is none.
    pub at: Option<Place>,
    /// Of the last segment, up to here.
    pub newest: Newest,
    /// What the last segment's index files hold.
    pub index: IndexFiles,
}

impl Position {
    fn start(operation: u64, end: Offset) -> Position {
        Position { operation, end, at: None, newest: Newest::NONE, index: IndexFiles::default() }
    }
}

#[derive(Debug)]
pub struct Log {
    id: LogId,
    shared: Arc<Shared>,
    folder: Arc<str>,
    dir: Arc<Path>,
    config: Arc<LogConfig>,
    journalled: bool,
    log_start: Offset,
    log_end: Offset,
    /// In order of their base offsets; the last is the one that grows.
    segments: Vec<Segment>,
    epochs: LeaderEpochs,
    tail: Tail,
    last_operation: u64,
    durable_operation: u64,
    /// The operation that moved the start last, and where the log begins without it.
    starting: Option<(u64, Offset)>,
    /// The operation that deletes the log.
    deletion: Option<u64>,
    written: Position,
    synced: Position,
    files: files::FileState,
    near: near::NearReaders,
    /// Compaction has seen all that lies below.
    cleaned: Offset,
    /// The last segment that the checkpoint on the disk names.
    covered: Option<Offset>,
}

impl Log {
    pub(crate) fn new(id: LogId, shared: Arc<Shared>, folder: &str, journalled: bool, start: Offset) -> Log {
        let position = Position::start(0, start);
        Log {
            id,
            dir: shared.root.join(folder).into(),
            shared,
            folder: folder.into(),
            config: Arc::default(),
            journalled,
            log_start: start,
            log_end: start,
            segments: Vec::new(),
            epochs: LeaderEpochs::new(),
            tail: Tail::default(),
            last_operation: 0,
            starting: None,
            deletion: None,
            durable_operation: 0,
            written: position,
            synced: position,
            files: files::FileState::default(),
            near: near::NearReaders::default(),
            cleaned: start,
            covered: None,
        }
    }

    /// A log whose files are in order and synced up to their end, as the checkpoint says that is written next.
    pub(crate) fn recovered(
        base: Log,
        operation: u64,
        cleaned: Offset,
        segments: Vec<Segment>,
        epochs: LeaderEpochs,
        end: Offset,
    ) -> Log {
        let at = segments.last().map(|last| Place { segment: last.facts.base, position: last.facts.size });
        let newest = segments.last().map_or(Newest::NONE, |last| last.facts.newest);
        let index = segments.last().map_or_else(IndexFiles::default, |last| last.index.files);
        let position = Position { operation, end, at, newest, index };
        let files = files::FileState::recovered(!segments.is_empty());
        Log {
            cleaned,
            covered: at.map(|at| at.segment),
            log_end: end,
            segments,
            epochs,
            last_operation: operation,
            durable_operation: operation,
            written: position,
            synced: position,
            files,
            ..base
        }
    }

    pub fn id(&self) -> LogId {
        self.id
    }

    /// Below the data directory.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether its appends go through the journal.
    pub fn journalled(&self) -> bool {
        self.journalled
    }

    /// Changes the flush policy. The caller syncs the log and writes a checkpoint before the next append.
    ///
    /// # Panics
    /// When something is not synced.
    pub fn set_journalled(&mut self, journalled: bool) {
        assert!(self.synced.end >= self.log_end);
        self.journalled = journalled;
    }

    pub fn config(&self) -> &Arc<LogConfig> {
        &self.config
    }

    /// Takes effect with the next append.
    pub fn configure(&mut self, config: Arc<LogConfig>) {
        self.config = config;
    }

    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// Where the log begins whatever happens: the journal holds the last move of its start.
    pub fn durable_start(&self) -> Offset {
        let pending = self.starting.filter(|(operation, _)| *operation > self.durable_operation);
        pending.map_or(self.log_start, |(_, before)| before)
    }

    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    /// What lies below is in segment files (perhaps only in the page cache).
    pub fn written_end(&self) -> Offset {
        self.written.end
    }

    /// What lies below is on disk without the journal's help.
    pub fn synced_end(&self) -> Offset {
        self.synced.end
    }

    /// What lies below the journal holds, or the files for good: by the last `durable_to`.
    pub fn durable_end(&self) -> Offset {
        self.tail.end_of(self.durable_operation).unwrap_or(self.log_end)
    }

    pub fn epochs(&self) -> &LeaderEpochs {
        &self.epochs
    }

    /// The number of the log's newest operation.
    pub fn last_operation(&self) -> u64 {
        self.last_operation
    }

    /// The newest operation whose effect is in the files.
    pub fn written_operation(&self) -> u64 {
        self.written.operation
    }

    /// The newest operation that cut the log; 0: none did since it was opened.
    pub fn cut_operation(&self) -> u64 {
        self.files.cut_operation()
    }

    /// Bytes of all segments, the tail included.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| u64::from(segment.facts.size)).sum()
    }

    /// Bytes that wait for their segment file.
    pub fn unwritten_bytes(&self) -> u64 {
        self.tail.unwritten_bytes()
    }

    /// Bytes of batches held in memory.
    pub fn tail_bytes(&self) -> u64 {
        self.tail.bytes()
    }

    /// The first offset that is read from memory; `None` when nothing is.
    pub fn tail_start(&self) -> Option<Offset> {
        self.tail.first_offset()
    }

    /// Drops written batches from memory until at most `keep_bytes` are held. Gives the bytes that were let go.
    pub fn evict_tail(&mut self, keep_bytes: u64) -> u64 {
        self.tail.evict(keep_bytes)
    }

    /// The log is out of use until the next start: gives up what it holds in memory.
    pub fn let_go(&mut self) {
        self.tail.clear();
        self.written.end = self.log_end;
    }

    /// Puts a batch at the end. The entry goes to the journal if the log is journalled.
    ///
    /// # Panics
    /// When the batch does not begin at `log_end`, or has no leader epoch.
    pub fn append(&mut self, batch: StoredBatch, wall_ms: i64) -> Entry {
        assert!(batch.base_offset() >= self.log_end);
        let epoch = batch.leader_epoch().expect("a placed batch has an epoch");
        let bytes = u32::try_from(batch.size()).expect("BATCH_BYTES_MAX");
        if self.must_roll(&batch, bytes, wall_ms) {
            self.roll(batch.base_offset());
        }
        let segment = self.segments.last_mut().expect("rolled when there was none");
        let facts = &mut segment.facts;
        let at = Place { segment: facts.base, position: facts.size };
        let header = batch.header();
        let interval = self.config.index_interval_bytes;
        segment.index.add(facts.base.get(), header, at.position, bytes, facts.newest, interval);
        facts.add(bytes, header.newest_timestamp(), header.last_offset());
        self.near.appended += u64::from(bytes);
        self.epochs.assign(epoch, batch.base_offset());
        self.log_end = batch.next_offset();
        let operation = self.next_operation();
        self.tail.push(TailBatch { batch: batch.clone(), operation, at, direct: false });
        self.entry(operation, LogChange::Append { at, batch })
    }

    pub(crate) fn next_operation(&mut self) -> u64 {
        let operation = self.shared.next_operation();
        assert!(operation > self.last_operation);
        self.last_operation = operation;
        operation
    }

    fn entry(&self, operation: u64, what: LogChange) -> Entry {
        Entry::Log(LogEntry { log: self.id, operation, what })
    }

    fn must_roll(&self, batch: &StoredBatch, bytes: u32, wall_ms: i64) -> bool {
        let Some(SegmentFacts { base, size, first_timestamp_ms, .. }) = self.segments.last().map(|last| &last.facts)
        else {
            return true;
        };
        let size_after = u64::from(*size) + u64::from(bytes);
        if size_after > limits::SEGMENT_BYTES_MAX || batch.last_offset().since(*base) > i32::MAX as u64 {
            return true;
        }
        // A batch larger than the segment may be gets one for itself.
        if *size == 0 {
            return false;
        }
        // As Kafka: by the records' own time, so that a replica rolls where its leader did.
        let timestamp = if batch.max_timestamp() >= 0 { batch.max_timestamp() } else { wall_ms };
        let too_old =
            *first_timestamp_ms >= 0 && timestamp.saturating_sub(*first_timestamp_ms) > self.segment_ms(*base);
        let indexed = self.segments.last().map_or(0, |last| last.index.offset_bytes());
        size_after > u64::from(self.config.segment_bytes) || too_old || indexed >= u64::from(self.config.index_bytes)
    }

    /// How long this segment may grow. Replicas have the same jitter, so that they roll at the same places.
    fn segment_ms(&self, base: Offset) -> i64 {
        let LogConfig { segment_ms, segment_jitter_ms, .. } = *self.config;
        let jitter_max = segment_jitter_ms.min(segment_ms);
        if jitter_max <= 0 {
            return segment_ms;
        }
        let mut seed = base.get().cast_unsigned() ^ u64::from(self.id.partition.partition.get()) << 48;
        for half in self.id.partition.topic.0.as_chunks::<8>().0 {
            seed = (seed ^ u64::from_le_bytes(*half)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        segment_ms - i64::try_from((seed >> 1) % (jitter_max.unsigned_abs() + 1)).unwrap_or(0)
    }

    /// Begins a new segment in memory; its file is made by the next write.
    fn roll(&mut self, base: Offset) {
        if let Some(last) = self.segments.last_mut() {
            last.index.seal(last.facts.base.get(), last.facts.newest);
        }
        self.segments.push(Segment::new(base));
    }

    /// The journal holds this log's operations up to this one.
    pub fn durable_to(&mut self, operation: u64) {
        assert!(operation <= self.last_operation);
        self.durable_operation = self.durable_operation.max(operation);
    }

    /// Where the records of the segment with this base are, below the data directory.
    pub fn data_file(&self, base: Offset) -> PathBuf {
        self.name_of(base).path(Path::new(&*self.folder), FileKind::Data)
    }

    /// Whether a file of `data_file` is this log's still, and reaches beyond a byte.
    pub fn has_data_file(&self, base: Offset, file: &Path, at: u64) -> bool {
        let found = self.segments.binary_search_by_key(&base, |segment| segment.facts.base);
        let reaches = found.is_ok_and(|found| at < u64::from(self.segments[found].facts.size));
        reaches && self.data_file(base) == file
    }

    fn name_of(&self, base: Offset) -> SegmentName {
        let at = self.segments.binary_search_by_key(&base, |segment| segment.facts.base);
        at.map_or(SegmentName::first(base), |at| self.segments[at].facts.name())
    }

    fn file(&self, base: Offset, kind: FileKind) -> FileId {
        self.file_of(self.name_of(base), kind)
    }

    fn file_of(&self, name: SegmentName, kind: FileKind) -> FileId {
        self.shared.disk.file(&name.path(&self.dir, kind))
    }

    fn check_invariants(&self) {
        // Readers ask between the two, and appends go to the end.
        assert!(self.log_start <= self.log_end);
        assert!(self.written.end <= self.log_end);
        // A checkpoint takes `synced` as the point from which the journal counts.
        assert!(self.synced.operation <= self.written.operation);
        // What is not in the files must be in memory.
        assert!(self.written.end == self.log_end || self.tail.last().is_some());
    }
}

//! Drives the metadata Raft: what it wants persisted becomes units of the journal, what is committed becomes the image.
//!
//! Owns the metadata log and its snapshot. Does not own decisions (`replication::controller`), the journal (`commit`), nor what a new
//! image means for partitions. All methods are called with one lock held and make no system call, but two: `open`, which reads, and
//! the cut of a conflict that has left the tail (a follower's, rare).
//! Invariants: units go out in the order in which Raft wants them persisted; an answer goes out with or after the image that it
//! speaks of; the log is cut only when the snapshot that replaces it is durable.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{LogId, NodeId, Now, Offset};
use replication::controller::nodes;
use replication::controller::raft_node::Persist;
use replication::controller::{
    Controller, ControllerError, ControllerOptions, Outcome, Output, Random, Recovered, Token,
};
use replication::metadata::record::{LEVEL, LEVEL_FEATURE};
use replication::metadata::{Fact, Image, NodeInfo};
use storage::disk::{Disk, DiskError, Step};
use storage::durable::replace_steps;
use storage::log::{Log, LogConfig, SegmentWrite};
use storage::store::METADATA_FOLDER;
use storage::{Entry, ReadError, Store, Unit};

use super::entries::{self, EntriesError, offset_of};
use super::propose::{ProducerIds, Waiting};
use crate::config::NodeConfig;
use crate::effects::ReplyTo;
use crate::requests::Answer;

/// The name of the note that holds Raft's hard state.
const HARD_STATE: &str = "metadata.raft";
/// How long one of Raft's ticks is.
pub(crate) const RAFT_TICK: Duration = Duration::from_millis(50);
const SEGMENT_BYTES: u32 = 16 << 20;
/// Memory that the written tail keeps: a follower's conflict is cut without a read.
const TAIL_KEPT_BYTES: u64 = 256 << 10;
const WRITE_BYTES_MAX: u64 = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ControllerOpenError {
    #[error(transparent)]
    Entries(#[from] EntriesError),
    #[error("the snapshot of the metadata cannot be read: {0}")]
    Snapshot(#[from] DiskError),
    #[error(transparent)]
    Controller(#[from] ControllerError),
}

/// What a start needs of the rest of the node.
pub(crate) struct ControllerStart<'a> {
    pub(crate) config: &'a NodeConfig,
    /// Differs between starts.
    pub(crate) seed: u64,
    pub(crate) store: &'a Store,
    /// As it was recovered; `None`: there is none yet.
    pub(crate) log: Option<Log>,
    pub(crate) notes: &'a BTreeMap<String, Bytes>,
    /// The process before stopped in order.
    pub(crate) clean: bool,
}

/// A unit for the journal. When it is durable: `ControllerDriver::persisted(number, operation)`.
#[derive(Debug)]
pub(crate) struct MetadataUnit {
    pub(crate) unit: Unit,
    pub(crate) number: u64,
    pub(crate) operation: u64,
}

/// A disk operation in lane `Segments`; its end is told to `disk_done`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MetadataDisk {
    /// A snapshot up to `index`, of this node's own making.
    Snapshot { index: u64 },
    /// One that the leader sent.
    Install { index: u64 },
}

/// What has to be done, in this order: units to the journal, disk operations, the image and facts to the partitions, answers.
#[derive(Debug, Default)]
pub(crate) struct ControllerOut {
    pub(crate) units: Vec<MetadataUnit>,
    pub(crate) disk: Vec<(MetadataDisk, Vec<Step>)>,
    pub(crate) messages: Vec<(NodeId, Bytes)>,
    /// The newest image, when it changed; also when no fact did, but the controller.
    pub(crate) image: Option<Arc<Image>>,
    /// What has changed, in order; not known one by one when `replaced`.
    pub(crate) facts: Vec<Fact>,
    pub(crate) replaced: bool,
    pub(crate) answers: Vec<(ReplyTo, Answer)>,
    /// This start is registered: the image names this incarnation and the new leader epochs. Said once.
    pub(crate) registered: bool,
    /// The node cannot go on.
    pub(crate) fatal: Option<String>,
}

pub(crate) struct ControllerDriver {
    pub(super) controller: Controller,
    pub(super) node: NodeId,
    disk: Arc<dyn Disk>,
    snapshot_path: PathBuf,
    log: Log,
    pub(super) next_token: u64,
    /// Proposals that wait for the journal, and who waits for them.
    pub(super) waiting: BTreeMap<Token, Vec<Waiting>>,
    pub(super) producer_ids: ProducerIds,
    /// What Raft wants persisted and no unit holds yet: it stands behind a snapshot that is being written.
    backlog: VecDeque<Persist>,
    installing: bool,
    snapshot_in_flight: bool,
    last_tick: Duration,
}

impl ControllerDriver {
    /// Reads what was recovered, founds a cluster where there is none, and begins to register this start. Blocks.
    ///
    /// # Errors
    /// When what was recovered cannot be read, contradicts itself, or comes from a newer version.
    pub(crate) fn open(
        start: ControllerStart<'_>,
        now: Now,
        out: &mut ControllerOut,
    ) -> Result<ControllerDriver, ControllerOpenError> {
        let ControllerStart { config, seed, store, log, notes, clean } = start;
        let disk = Arc::clone(store.disk());
        let snapshot_path = store.root().join(METADATA_FOLDER).join("snapshot");
        let mut create = None;
        let mut log = log.unwrap_or_else(|| {
            // Raft counts from 1.
            let (log, entry) = store.create_log(LogId::METADATA, METADATA_FOLDER, true, Offset::new(1));
            create = Some(entry);
            log
        });
        log.configure(Arc::new(log_config()));
        let recovered = Recovered {
            hard_state: notes.get(HARD_STATE).cloned(),
            snapshot: entries::read_file(&*disk, &snapshot_path)?,
            entries: entries::read_all(&log, &*disk)?,
        };
        let mut random = Random::new(seed);
        let options = ControllerOptions {
            node: config.id,
            seed: random.next_u64(),
            statics: Arc::clone(&config.statics),
            // Without peers to ask, an empty node is a cluster of one.
            founders: vec![config.id],
        };
        let mut driver = ControllerDriver {
            controller: Controller::open(options, recovered)?,
            node: config.id,
            disk,
            snapshot_path,
            log,
            next_token: 1,
            waiting: BTreeMap::new(),
            producer_ids: ProducerIds::default(),
            backlog: VecDeque::new(),
            installing: false,
            snapshot_in_flight: false,
            last_tick: now.mono,
        };
        if let Some(entry) = create {
            driver.push_unit(vec![entry], 0, out);
        }
        let mut output = Output::default();
        driver.controller.collect(&mut output)?;
        driver.take(now, output, out);
        let info = NodeInfo {
            incarnation: random.incarnation(),
            directory: store.directory_id(),
            boot: config.boot_id.clone(),
            listeners: config.listeners.clone(),
            rack: config.rack.clone(),
            features: BTreeMap::from([(LEVEL_FEATURE.to_owned(), (1, level()))]),
            fenced: false,
        };
        driver.register(now, info, clean, out);
        Ok(driver)
    }

    /// All in one proposal, so that a start waits for the journal once.
    fn register(&mut self, now: Now, info: NodeInfo, clean: bool, out: &mut ControllerOut) {
        let node = self.node;
        let Ok((image, random)) = self.controller.decide() else { return };
        let mut groups = Vec::new();
        if !image.is_founded() {
            let level = Fact::FeatureLevelSet { name: LEVEL_FEATURE.to_owned(), level: level() };
            groups.push(vec![nodes::found(random.cluster_id(), vec![node]), level]);
        }
        groups.extend(nodes::register(image, node, info, clean));
        self.propose(&groups, Some(Waiting::Registration));
        self.collect(now, out);
    }

    /// Committed facts only.
    pub(crate) fn image(&self) -> &Arc<Image> {
        self.controller.image()
    }

    /// The unit with these numbers is durable, and so are all before it.
    pub(crate) fn persisted(&mut self, now: Now, number: u64, operation: u64, out: &mut ControllerOut) {
        self.log.durable_to(operation);
        let mut output = Output::default();
        let result = self.controller.persisted(number, &mut output);
        self.finish(now, result, output, out);
    }

    /// Time has passed. Gives how long until the next call is needed; `None`: not for the sake of Raft.
    pub(crate) fn tick(&mut self, now: Now, out: &mut ControllerOut) -> Option<Duration> {
        if !self.controller.needs_ticks() {
            self.last_tick = now.mono;
            return None;
        }
        while now.mono.saturating_sub(self.last_tick) >= RAFT_TICK {
            self.last_tick += RAFT_TICK;
            self.controller.tick();
        }
        self.collect(now, out);
        Some((self.last_tick + RAFT_TICK).saturating_sub(now.mono))
    }

    pub(super) fn collect(&mut self, now: Now, out: &mut ControllerOut) {
        let mut output = Output::default();
        let result = self.controller.collect(&mut output);
        self.finish(now, result, output, out);
    }

    fn finish(&mut self, now: Now, result: Result<(), ControllerError>, output: Output, out: &mut ControllerOut) {
        if let Err(error) = result {
            out.fatal = Some(format!("the metadata log cannot be applied: {error}"));
        }
        self.take(now, output, out);
    }

    fn take(&mut self, now: Now, output: Output, out: &mut ControllerOut) {
        self.backlog.extend(output.persist);
        self.write_backlog(now, out);
        out.messages.extend(output.messages);
        out.image = output.image.or(out.image.take());
        if output.replaced {
            out.facts.clear();
            out.replaced = true;
        }
        out.facts.extend(output.facts);
        for (token, outcome) in output.outcomes {
            self.settle(token, outcome, out);
        }
        self.serve_producer_ids(now, out);
        self.snapshot_if_due(out);
    }

    fn settle(&mut self, token: Token, outcome: Outcome, out: &mut ControllerOut) {
        for waiting in self.waiting.remove(&token).unwrap_or_default() {
            match waiting {
                Waiting::Registration if outcome == Outcome::Committed => out.registered = true,
                Waiting::Registration => out.fatal = Some("this start could not be registered".to_owned()),
                Waiting::ProducerIds { first } => self.producer_ids.arrived(outcome, first),
                Waiting::Answer { reply, answer } => out.answers.push((reply, answer.after(outcome))),
            }
        }
    }

    fn write_backlog(&mut self, now: Now, out: &mut ControllerOut) {
        while !self.installing {
            let Some(persist) = self.backlog.pop_front() else { return };
            if let Some(point) = &persist.snapshot {
                // The file first: the journal must not drop the log before the snapshot is there.
                let steps = self.snapshot_steps(point.file.clone());
                out.disk.push((MetadataDisk::Install { index: point.index }, steps));
                self.installing = true;
                self.backlog.push_front(persist);
            } else {
                self.write_unit(now, Vec::new(), &persist, out);
            }
        }
    }

    /// One unit: all of it counts after a crash, or nothing.
    fn write_unit(&mut self, now: Now, before: Vec<Entry>, persist: &Persist, out: &mut ControllerOut) {
        let mut entries = before;
        if let Some(index) = persist.truncate_from {
            match self.cut(index) {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    out.fatal = Some(format!("the metadata log cannot be cut at {index}: {error}"));
                    return;
                }
            }
        }
        for entry in &persist.entries {
            let batch = entries::to_batch(entry, now.wall_ms);
            entries.push(self.log.append(batch, now.wall_ms));
        }
        if let Some(value) = &persist.hard_state {
            entries.push(Entry::Note { key: HARD_STATE.to_owned(), value: value.clone() });
        }
        self.push_unit(entries, persist.number, out);
    }

    fn cut(&mut self, index: u64) -> Result<Entry, ReadError> {
        let point = match self.log.cut_point(offset_of(index))? {
            Ok(point) => point,
            Err(plan) => plan.run(&*self.disk)?,
        };
        Ok(self.log.truncate_to(point))
    }

    fn push_unit(&mut self, entries: Vec<Entry>, number: u64, out: &mut ControllerOut) {
        let operation = self.log.last_operation();
        out.units.push(MetadataUnit { unit: Unit { entries }, number, operation });
    }

    fn snapshot_if_due(&mut self, out: &mut ControllerOut) {
        if self.snapshot_in_flight || self.installing {
            return;
        }
        if let Some(point) = self.controller.snapshot_due() {
            let steps = self.snapshot_steps(point.file);
            out.disk.push((MetadataDisk::Snapshot { index: point.index }, steps));
            self.snapshot_in_flight = true;
            self.controller.snapshot_begun();
        }
    }

    /// The new snapshot in the place of the one before. Whichever is there after a crash, the log reaches back to it.
    fn snapshot_steps(&self, file: Bytes) -> Vec<Step> {
        let dir = self.snapshot_path.parent().map(PathBuf::from);
        let mut steps: Vec<Step> = dir.iter().map(|dir| Step::CreateDir { dir: dir.clone() }).collect();
        steps.extend(replace_steps(&*self.disk, &self.snapshot_path, vec![file]));
        // The folder's own name: it may be the first file in it.
        steps.extend(dir.iter().filter_map(|dir| dir.parent()).map(|above| Step::SyncDir { dir: above.into() }));
        steps
    }

    /// A disk operation of `ControllerOut::disk` is over.
    pub(crate) fn disk_done(
        &mut self,
        now: Now,
        what: MetadataDisk,
        result: &Result<(), DiskError>,
        out: &mut ControllerOut,
    ) {
        match (what, result) {
            (MetadataDisk::Snapshot { index }, Ok(())) => {
                self.snapshot_in_flight = false;
                self.controller.snapshot_durable(index);
                let start = offset_of(index + 1);
                if let Some(entry) = self.log.delete_before(start) {
                    self.push_unit(vec![entry], 0, out);
                }
            }
            (MetadataDisk::Snapshot { .. }, Err(DiskError::Full { .. })) => {
                // The log goes on growing; the next one is due soon enough.
                tracing::warn!("no room for a snapshot of the metadata");
                self.snapshot_in_flight = false;
            }
            (MetadataDisk::Install { index }, Ok(())) => {
                let persist = self.backlog.pop_front().expect("it waits for its snapshot");
                self.installing = false;
                let reset = self.log.reset(offset_of(index + 1));
                self.write_unit(now, vec![reset], &persist, out);
                self.write_backlog(now, out);
            }
            (MetadataDisk::Snapshot { .. } | MetadataDisk::Install { .. }, Err(error)) => {
                out.fatal = Some(format!("a snapshot of the metadata cannot be written: {error}"));
            }
        }
    }

    /// For checkpoint and stop: flushing, syncing, and what the checkpoint says of this log.
    pub(crate) fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// A write of the log's tail to its segment, when it is worth one, or with `all`.
    pub(crate) fn next_write(&mut self, flush_bytes: u64, all: bool) -> Option<SegmentWrite> {
        let due = all || self.log.unwritten_bytes() >= flush_bytes;
        due.then(|| self.log.next_write(WRITE_BYTES_MAX)).flatten()
    }

    /// The write that `next_write` gave is over.
    pub(crate) fn written(&mut self, result: &Result<(), DiskError>, out: &mut ControllerOut) {
        self.log.write_done(result);
        match result {
            Ok(()) => {
                self.log.evict_tail(TAIL_KEPT_BYTES);
            }
            Err(error) if Log::is_final(error) => {
                out.fatal = Some(format!("the metadata log cannot be written: {error}"));
            }
            Err(error) => tracing::warn!(%error, "the metadata log stays in the journal until there is room"),
        }
    }
}

fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes: SEGMENT_BYTES,
        segment_ms: i64::MAX,
        retention_ms: None,
        retention_bytes: None,
        ..LogConfig::default()
    }
}

fn level() -> i16 {
    i16::try_from(LEVEL).expect("levels are small")
}

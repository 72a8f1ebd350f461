//! Drives the metadata Raft: what it wants persisted becomes units of the journal, what it wants sent becomes frames, what is committed
//! becomes the image.
//!
//! Owns the controller on this node and the order in which its parts look at what has changed. Does not own decisions
//! (`replication::controller`), the journal (`commit`), nor what a new image means for partitions. All methods are called with one lock
//! held and make no system call, but two: `open`, which reads, and the cut of a conflict that has left the tail (a follower's, rare).
//! Invariant: an answer goes out with or after the image that it speaks of.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{LogId, NodeId, Now, Offset, TopicPartition};
use replication::controller::features;
use replication::controller::raft_node::{Persist, RaftError};
use replication::controller::{Controller, ControllerError, ControllerOptions, Output, Random, Recovered};
use replication::metadata::{Fact, Image, Incarnation, NodeInfo};
use storage::disk::{Disk, DiskError, Step};
use storage::durable;
use storage::log::{Log, LogConfig};
use storage::store::METADATA_FOLDER;
use storage::{Entry, Store, Unit, WAY_OUT};

use super::asks::Asks;
use super::contacts::Contacts;
use super::elect::Elections;
use super::entries::{self, EntriesError, offset_of};
use super::leave::Leave;
use super::members::Role;
use super::propose::ProducerIds;
use super::quorum::CaughtUp;
use super::register::Registration;
use super::upkeep::Upkeep;
use crate::config::NodeConfig;
use crate::effects::ReplyTo;
use crate::liveness::Liveness;
use crate::peer::{Founder, Founding, Frame};
use crate::requests::{Answer, ControllerAnswer, Refusal};

/// The name of the note that holds Raft's hard state.
pub(super) const HARD_STATE: &str = "metadata.raft";
/// The name of the note that says to which cluster this directory belongs.
pub(crate) const FOUNDING: &str = "cluster.founding";
/// How long one of Raft's ticks is.
pub(crate) const RAFT_TICK: Duration = Duration::from_millis(50);
/// After a stall of this process, so many ticks are made up for at once: more would end a leadership that others still follow.
const TICKS_AT_ONCE_MAX: u32 = 4;
const SEGMENT_BYTES: u32 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ControllerOpenError {
    #[error(transparent)]
    Entries(#[from] EntriesError),
    #[error("the snapshot of the metadata cannot be read: {0}")]
    Snapshot(#[from] DiskError),
    #[error(transparent)]
    Controller(#[from] ControllerError),
}

impl ControllerOpenError {
    /// What whoever runs the node can do, where the error itself does not say it: with what stands before it.
    pub(crate) fn way_out(&self) -> String {
        match self {
            Self::Entries(_)
            | Self::Controller(ControllerError::Record { .. } | ControllerError::Snapshot(_))
            | Self::Controller(ControllerError::Raft(
                RaftError::Damaged { .. } | RaftError::Gap { .. } | RaftError::Lost { .. },
            )) => format!("; {WAY_OUT}"),
            Self::Controller(ControllerError::Raft(RaftError::TooNew { .. })) => {
                "; start the version of weir that wrote it".to_owned()
            }
            Self::Snapshot(_)
            | Self::Controller(
                ControllerError::Raft(RaftError::OtherNode { .. } | RaftError::Refused(_))
                | ControllerError::Level { .. },
            ) => String::new(),
        }
    }
}

/// What a start needs of the rest of the node.
pub(crate) struct ControllerStart<'a> {
    pub(crate) config: &'a NodeConfig,
    /// Differs between starts.
    pub(crate) seed: u64,
    /// Of this start.
    pub(crate) incarnation: Incarnation,
    /// The cluster that this directory belongs to. `None`: to none yet (`born` follows), or it is older than this note.
    pub(crate) founding: Option<Founding>,
    pub(crate) store: &'a Store,
    /// As it was recovered; `None`: there is none yet.
    pub(crate) log: Option<Log>,
    pub(crate) notes: &'a BTreeMap<String, Bytes>,
    /// The process before stopped in order.
    pub(crate) clean: bool,
    /// Partitions of which this disk holds nothing any more.
    pub(crate) lost: BTreeSet<TopicPartition>,
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

/// What has to be done, in this order: units to the journal, disk operations, frames, the image and facts to the partitions, answers.
#[derive(Debug, Default)]
pub(crate) struct ControllerOut {
    pub(crate) units: Vec<MetadataUnit>,
    pub(crate) disk: Vec<(MetadataDisk, Vec<Step>)>,
    /// In lane `Control`.
    pub(crate) frames: Vec<(NodeId, Frame)>,
    /// The newest image, when it changed; also when no fact did, but the controller.
    pub(crate) image: Option<Arc<Image>>,
    /// What has changed, in order; not known one by one when `replaced`.
    pub(crate) facts: Vec<Fact>,
    pub(crate) replaced: bool,
    pub(crate) answers: Vec<(ReplyTo, Answer)>,
    /// What the leaders of partitions asked.
    pub(crate) for_replicas: Vec<Result<ControllerAnswer, Refusal>>,
    /// This start is registered: the image names this incarnation and the new leader epochs. Said once.
    pub(crate) registered: bool,
    /// What this process led is led by others, as far as they can: it may stop. Said once.
    pub(crate) left: bool,
    /// The node cannot go on.
    pub(crate) fatal: Option<String>,
}

pub(crate) struct ControllerDriver {
    pub(super) controller: Controller,
    pub(super) node: NodeId,
    options: ControllerOptions,
    directory: [u8; 16],
    /// `None`: this node belongs to no cluster yet, or its directory is older than the note of it.
    pub(super) founding: Option<Founding>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) snapshot_path: PathBuf,
    pub(super) log: Log,
    pub(super) asks: Asks,
    pub(super) producer_ids: ProducerIds,
    pub(super) offsets_topic_asked: bool,
    pub(super) registration: Registration,
    pub(super) contacts: Contacts,
    pub(super) liveness: Liveness,
    pub(super) elections: Elections,
    pub(super) leave: Leave,
    pub(super) caught_up: CaughtUp,
    /// As it was last looked at.
    pub(super) role: Role,
    /// Who led before, when nobody does.
    pub(super) led_last: Option<NodeId>,
    /// Which start of the leader became it.
    pub(super) leader_start: Option<Incarnation>,
    pub(super) upkeep: Upkeep,
    /// What Raft wants persisted and no unit holds yet: it stands behind a snapshot that is being written.
    pub(super) backlog: VecDeque<Persist>,
    pub(super) installing: bool,
    pub(super) snapshot_in_flight: bool,
    last_tick: Duration,
    /// When there was a controller last, at a tick.
    pub(super) controlled_at: Duration,
    /// Something was proposed, or an election begun: there is more to collect.
    pub(super) dirty: bool,
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
        let ControllerStart { config, seed, incarnation, founding, store, log, notes, clean, lost } = start;
        let disk = Arc::clone(store.disk());
        let snapshot_path = snapshot_path(store);
        let mut first: Vec<Entry> = Vec::new();
        let mut log = log.unwrap_or_else(|| {
            // Raft counts from 1.
            let (log, entry) = store.create_log(LogId::METADATA, METADATA_FOLDER, true, Offset::new(1));
            first.push(entry);
            log
        });
        log.configure(Arc::new(log_config()));
        let recovered = Recovered {
            hard_state: notes.get(HARD_STATE).cloned(),
            snapshot: durable::read(&*disk, &snapshot_path, u64::MAX)?,
            entries: entries::read_all(&log, &*disk)?,
        };
        let options = ControllerOptions {
            node: config.id,
            seed: Random::new(seed).next_u64(),
            statics: Arc::clone(&config.statics),
            founders: founders(founding.as_ref(), config.id, store.directory_id()),
        };
        let controller = Controller::open(options.clone(), recovered)?;
        let snapshot_end = offset_of(controller.raft().applied() + 1);
        if snapshot_end > log.log_end() {
            // A crash came between the snapshot of a leader and the unit that was to follow it.
            first.push(log.reset(snapshot_end));
        }
        first.extend(founding.as_ref().filter(|_| !notes.contains_key(FOUNDING)).map(founding_note));
        let info = node_info(config, incarnation, store.directory_id());
        let mut driver = ControllerDriver {
            controller,
            node: config.id,
            options,
            directory: store.directory_id(),
            founding,
            disk,
            snapshot_path,
            log,
            asks: Asks::new(),
            producer_ids: ProducerIds::default(),
            offsets_topic_asked: false,
            registration: Registration::new(now.mono, info, clean, lost),
            contacts: Contacts::default(),
            liveness: Liveness::new(now.mono),
            elections: Elections::default(),
            leave: Leave::default(),
            caught_up: CaughtUp::default(),
            role: Role::default(),
            led_last: None,
            leader_start: None,
            upkeep: Upkeep::default(),
            backlog: VecDeque::new(),
            installing: false,
            snapshot_in_flight: false,
            last_tick: now.mono,
            controlled_at: now.mono,
            dirty: false,
        };
        driver.begin(now, first, out)?;
        Ok(driver)
    }

    /// `first`: entries for the journal that come before all others.
    fn begin(&mut self, now: Now, first: Vec<Entry>, out: &mut ControllerOut) -> Result<(), ControllerError> {
        if !first.is_empty() {
            self.push_unit(first, 0, out);
        }
        self.controller.set_directory(self.directory);
        self.watch_nodes(now);
        let mut output = Output::default();
        self.controller.collect(&mut output)?;
        self.take(now, output, out);
        self.drive(now, out);
        Ok(())
    }

    /// This empty node belongs to a cluster from now on. A founder begins the Raft group with the others; who is none waits to be found.
    /// What is promised to the group later stands behind the note of it in the journal.
    pub(crate) fn born(&mut self, now: Now, founding: Founding, out: &mut ControllerOut) {
        assert!(!self.is_born(), "a directory belongs to one cluster for ever");
        self.push_unit(vec![founding_note(&founding)], 0, out);
        self.options.founders = founders(Some(&founding), self.node, self.directory);
        self.founding = Some(founding);
        match Controller::open(self.options.clone(), Recovered::default()) {
            Ok(controller) => {
                self.controller = controller;
                self.controller.set_directory(self.directory);
            }
            Err(error) => out.fatal = Some(format!("the metadata group cannot begin: {error}")),
        }
        self.drive(now, out);
    }

    /// Whether this directory belongs to a cluster.
    pub(super) fn is_born(&self) -> bool {
        self.founding.is_some() || self.controller.raft().last_index() > 0
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
        self.finish_output(now, result, output, out);
        self.drive(now, out);
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Now, out: &mut ControllerOut) {
        if self.is_clustered() {
            self.tick_raft(now);
            self.liveness.look(now.mono);
            self.note_caught_up(now);
            self.say_alive(now, out);
        } else {
            self.last_tick = now.mono;
        }
        if self.has_controller(now) {
            self.controlled_at = now.mono;
        }
        self.look_at_asks(now, out);
        self.drive(now, out);
    }

    fn tick_raft(&mut self, now: Now) {
        let behind = now.mono.saturating_sub(self.last_tick);
        if behind > RAFT_TICK * TICKS_AT_ONCE_MAX {
            self.last_tick = now.mono.saturating_sub(RAFT_TICK * TICKS_AT_ONCE_MAX);
        }
        while now.mono.saturating_sub(self.last_tick) >= RAFT_TICK {
            self.last_tick += RAFT_TICK;
            self.controller.tick();
        }
    }

    /// When `tick` is needed next; `None`: not for the sake of the controller.
    pub(crate) fn due(&self) -> Option<Duration> {
        let tick = self.is_clustered().then(|| self.last_tick + RAFT_TICK);
        let registration = self.registration.due().filter(|_| self.is_born());
        let upkeep = (self.is_clustered() && self.controller.is_active()).then(|| self.upkeep.due());
        let all = [tick, registration, upkeep, self.asks.due(), self.elections.due(), self.leave.due()];
        all.into_iter().flatten().min()
    }

    /// Whether there is anybody else to listen to.
    fn is_clustered(&self) -> bool {
        !self.contacts.is_empty() || self.controller.needs_ticks()
    }

    /// Lets every part look at what has changed, until nothing more comes of it. To be called last, after anything that changes something.
    pub(super) fn drive(&mut self, now: Now, out: &mut ControllerOut) {
        loop {
            self.dirty = false;
            self.collect(now, out);
            self.look_at_role(now, out);
            self.look_at_elections(now);
            self.register_if_due(now, out);
            self.ask_for_producer_ids(now, out);
            self.look_at_leaving(now, out);
            if !self.dirty {
                return;
            }
        }
    }

    fn collect(&mut self, now: Now, out: &mut ControllerOut) {
        let mut output = Output::default();
        let result = self.controller.collect(&mut output);
        self.finish_output(now, result, output, out);
    }

    fn finish_output(
        &mut self,
        now: Now,
        result: Result<(), ControllerError>,
        output: Output,
        out: &mut ControllerOut,
    ) {
        if let Err(error) = result {
            out.fatal = Some(format!("the metadata log cannot be applied: {error}"));
        }
        self.take(now, output, out);
    }

    fn take(&mut self, now: Now, output: Output, out: &mut ControllerOut) {
        self.backlog.extend(output.persist);
        self.write_backlog(now, out);
        for (to, message) in output.messages {
            self.send_raft(now, to, message, out);
        }
        if output.image.is_some() {
            self.watch_nodes(now);
            self.look_at_membership(out);
        }
        out.image = output.image.or(out.image.take());
        if output.replaced {
            out.facts.clear();
            out.replaced = true;
        }
        out.facts.extend(output.facts);
        for (token, outcome) in output.outcomes {
            self.settle(now, token, outcome, out);
        }
        self.finish_applied(now, out);
        self.snapshot_if_due(out);
    }

    /// The nodes of the image are those whose silence means something.
    fn watch_nodes(&mut self, now: Now) {
        let image = Arc::clone(self.controller.image());
        let others = image.nodes().iter().filter(|(node, _)| **node != self.node);
        self.liveness.watch(now.mono, others.map(|(node, info)| (*node, info.incarnation)));
    }
}

pub(super) fn snapshot_path(store: &Store) -> PathBuf {
    store.root().join(METADATA_FOLDER).join("snapshot")
}

fn node_info(config: &NodeConfig, incarnation: Incarnation, directory: [u8; 16]) -> NodeInfo {
    NodeInfo {
        incarnation,
        directory,
        boot: config.boot_id.clone(),
        listeners: config.listeners.clone(),
        rack: config.rack.clone(),
        features: features::supported_up_to(config.level_max),
        fenced: false,
    }
}

/// Who votes at first, as far as this directory was there.
pub(super) fn founders(founding: Option<&Founding>, node: NodeId, directory: [u8; 16]) -> Vec<NodeId> {
    let all = founding.map(|founding| &founding.founders[..]).unwrap_or_default();
    let was_there = all.contains(&Founder { node, directory });
    all.iter().filter(|_| was_there).map(|founder| founder.node).collect()
}

fn founding_note(founding: &Founding) -> Entry {
    Entry::Note { key: FOUNDING.to_owned(), value: founding.encode() }
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

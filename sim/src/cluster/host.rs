//! One machine: its disk, its clocks and, while it runs, the process on it.
//!
//! Owns what a crash takes with it and what it leaves. Does not own when things happen (`world`).
//! Invariant: what was scheduled for an earlier process never reaches a later one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::NodeId;
use model::units::{KIB, MIB};
use node::Node;
use node::budget::BudgetLimits;
use node::config::NodeConfig;
use node::peer::PeerLane;
use replication::metadata::record::LEVEL;
use replication::metadata::{BrokerConfig, Image, Listener};
use storage::disk::{DiskOp, Lane};

use super::clock::Clock;
use super::net::{HostIndex, address_of, node_id};
use super::queue::{At, MICROSECOND, MILLISECOND, SECOND};
use super::world::Happening;
use crate::disk::{SimDisk, Survival};
use crate::rng::Rng;

/// What a disk holds when it is not being filled.
const DISK_BYTES: u64 = 256 * MIB;
/// One operation more of those that hung in a slow disk, once it is fast again.
const DRAINED_IN: At = MILLISECOND;
/// The journal's first file.
const FIRST_JOURNAL_BYTES: u64 = 4 * MIB;

pub(super) struct Running {
    pub(super) op: DiskOp,
    begins: At,
    done: At,
}

/// How a process ends, and what its machine keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The process alone: the kernel still holds its writes, and closes its sockets.
    Killed,
    /// The machine: what was not synced may be gone, and nobody is told.
    PowerCut(Survival),
}

/// Small numbers, so that a minute meets rolls, checkpoints, recycled journal files and snapshots.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub flush_bytes: u64,
    pub flush_age: Duration,
    pub checkpoint_interval: Duration,
    pub checkpoint_journal_bytes: u64,
    pub segment_bytes: u64,
    pub offsets_partitions: u32,
}

impl Sizes {
    pub fn draw(rng: &mut Rng) -> Sizes {
        Sizes {
            flush_bytes: [4 * KIB, 16 * KIB, 256 * KIB][rng.index(3)],
            flush_age: Duration::from_millis([100, 300, 1_000][rng.index(3)]),
            checkpoint_interval: Duration::from_millis([700, 2_000, 5_000, 10_000][rng.index(4)]),
            checkpoint_journal_bytes: [256 * KIB, 4 * MIB][rng.index(2)],
            segment_bytes: MIB,
            offsets_partitions: [1, 3][rng.index(2)],
        }
    }
}

/// Whether a machine is of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Membership {
    Member,
    /// It holds nothing any more and is stopped: it is about to be removed, and nobody starts it.
    Leaving,
    /// It never joined, or was removed.
    Spare,
}

pub struct Host {
    pub index: HostIndex,
    /// While a process runs.
    pub node: Option<Node>,
    pub disk: Arc<SimDisk>,
    pub clock: Clock,
    /// Counts processes.
    pub start: u64,
    pub paused: bool,
    /// What happened meanwhile.
    pub(super) deferred: Vec<Happening>,
    pub(super) running: BTreeMap<u64, Running>,
    pub(super) next_tick: At,
    journal_free: At,
    pub ready: bool,
    /// Incoming links that this process knows of.
    pub(super) incoming: BTreeMap<(NodeId, PeerLane), u64>,
    pub(super) seen_image: Option<Arc<Image>>,
    /// The disk's own slowness, in percent of what is normal.
    pub disk_percent: u64,
    /// The machine runs, whether a process does or not.
    pub powered: bool,
    /// Its disk was made to fail: it may give up, or refuse to start.
    pub excused: bool,
    /// The machine's boots.
    pub boot: u64,
    pub membership: Membership,
    /// Its disk was replaced by an empty one once.
    pub wiped: bool,
    /// The highest level of metadata that the version on it can work at.
    pub level_max: u32,
    rng: Rng,
}

impl Host {
    pub(super) fn new(index: HostIndex, mut rng: Rng) -> Host {
        let disk = SimDisk::new();
        disk.set_size(DISK_BYTES);
        Host {
            index,
            node: None,
            disk: Arc::new(disk),
            clock: Clock::new(0, (1 + rng.below(1_000)) * SECOND),
            start: 0,
            paused: false,
            deferred: Vec::new(),
            running: BTreeMap::new(),
            next_tick: At::MAX,
            journal_free: 0,
            ready: false,
            incoming: BTreeMap::new(),
            seen_image: None,
            disk_percent: 100,
            powered: true,
            excused: false,
            boot: 1,
            membership: Membership::Member,
            wiped: false,
            level_max: LEVEL,
            rng,
        }
    }

    pub fn is_up(&self) -> bool {
        self.node.is_some()
    }

    /// No process has come so far as to have a journal.
    pub(super) fn is_fresh(&self) -> bool {
        self.disk.used_bytes() < FIRST_JOURNAL_BYTES
    }

    pub fn is_member(&self) -> bool {
        self.membership == Membership::Member
    }

    pub fn answers(&self) -> bool {
        self.is_up() && !self.paused
    }

    pub(super) fn config(&self, sizes: Sizes, founders: usize) -> NodeConfig {
        let listener =
            |name: &str, port| Listener { name: name.into(), host: format!("node-{}", self.index + 1), port };
        let statics = [
            ("offsets.topic.num.partitions", sizes.offsets_partitions.to_string()),
            ("group.initial.rebalance.delay.ms", "100".to_owned()),
            ("group.min.session.timeout.ms", "1000".to_owned()),
            ("log.retention.check.interval.ms", "1500".to_owned()),
        ];
        let statics = statics.map(|(key, value)| (key.to_owned(), value)).into();
        let statics = BrokerConfig::new(statics).expect("they are valid");
        NodeConfig {
            listeners: vec![listener("PLAINTEXT", 9092), listener("PEER", 9093)],
            join: if founders > 1 { (0..founders).map(address_of).collect() } else { Vec::new() },
            boot_id: format!("boot-{}", self.boot),
            statics: Arc::new(statics),
            limits: BudgetLimits::for_memory(64 * MIB),
            checkpoint_interval: sizes.checkpoint_interval,
            checkpoint_journal_bytes: sizes.checkpoint_journal_bytes,
            flush_bytes: sizes.flush_bytes,
            flush_age: sizes.flush_age,
            level_max: self.level_max,
            ..NodeConfig::new(node_id(self.index), PathBuf::from("/data"))
        }
    }

    /// When a disk operation that was handed over now will be done.
    pub(super) fn take_on(&mut self, at: At, number: u64, op: DiskOp) -> At {
        let (least, more) = match op.lane {
            Lane::Journal => (100 * MICROSECOND, 400 * MICROSECOND),
            Lane::Segments => (100 * MICROSECOND, 3 * MILLISECOND),
        };
        // Now and then a device takes its time.
        let hiccup = if self.rng.chance(1, 500) { self.rng.below(50 * MILLISECOND) } else { 0 };
        let takes = (least + self.rng.below(more) + hiccup) * self.disk_percent / 100;
        let begins = if op.lane == Lane::Journal { at.max(self.journal_free) } else { at };
        if op.lane == Lane::Journal {
            self.journal_free = begins + takes;
        }
        let done = begins + takes;
        self.running.insert(number, Running { op, begins, done });
        done
    }

    /// The disk is as fast as it should be, and what hung in it comes through: the operations that are done sooner by that, and when.
    pub(super) fn speed_up(&mut self, at: At) -> Vec<(u64, At)> {
        self.disk_percent = 100;
        let mut sooner = Vec::new();
        let mut done = at;
        // In their order: the journal's are done one after the other.
        for (number, running) in &mut self.running {
            done += DRAINED_IN;
            if done < running.done {
                running.done = done;
                sooner.push((*number, done));
            }
        }
        self.journal_free = self.journal_free.min(done);
        sooner
    }

    /// The process is gone. What it had begun to write may be done, undone or torn.
    pub(super) fn end(&mut self, at: At, ending: Ending) {
        self.node = None;
        self.ready = false;
        self.paused = false;
        self.start += 1;
        self.next_tick = At::MAX;
        self.journal_free = at;
        self.deferred.clear();
        self.incoming.clear();
        self.seen_image = None;
        for running in std::mem::take(&mut self.running).into_values() {
            if running.begins <= at {
                self.interrupt(&running.op, ending);
            }
        }
        let disk = match ending {
            Ending::Killed => self.disk.after_kill(),
            Ending::PowerCut(survival) => {
                self.boot += 1;
                self.powered = false;
                self.clock = Clock::new(at, SECOND);
                self.disk.after_crash(survival, &mut self.rng)
            }
        };
        self.disk = Arc::new(disk);
    }

    fn interrupt(&mut self, op: &DiskOp, ending: Ending) {
        let done = self.rng.index(op.steps.len() + 1);
        for step in &op.steps[..done] {
            if step.run(&*self.disk).is_err() {
                return;
            }
        }
        if let (Some(step), Ending::PowerCut(_)) = (op.steps.get(done), ending) {
            self.disk.tear(step, &mut self.rng);
        }
    }

    /// Another disk, empty.
    pub(super) fn wipe(&mut self) {
        let disk = SimDisk::new();
        disk.set_size(DISK_BYTES);
        self.disk = Arc::new(disk);
        self.wiped = true;
    }
}

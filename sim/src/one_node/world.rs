//! One node on a simulated disk: carries out its effects one step at a time, in an order that the seed chooses.
//!
//! Owns the clock, the operations under way and the answers not yet taken. Does not own clients or judgement.
//! Invariant: every choice comes from the seed, so two runs of one seed have equal hashes.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail};
use model::units::KIB;
use model::{GroupId, NodeId, Now};
use node::config::NodeConfig;
use node::effects::{Effect, Effects, ReplySink, ReplyTo};
use node::requests::Answer;
use node::{Node, ReadWork};
use replication::metadata::BrokerConfig;
use storage::disk::{Disk, DiskError, DiskOp, Lane};

use crate::disk::SimDisk;
use crate::rng::Rng;

/// Steps after which a node that does not get where it should counts as stuck.
const STEPS_MAX: u64 = 200_000;

/// FNV-1a over what happened, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hash(pub u64);

impl Hash {
    pub const START: Hash = Hash(0xCBF2_9CE4_8422_2325);

    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
        }
    }
}

#[derive(Default)]
struct Inbox {
    answers: Mutex<VecDeque<(u64, Answer)>>,
}

impl ReplySink for Inbox {
    fn reply(&self, request: u64, answer: Answer) {
        self.answers.lock().expect("one thread uses it").push_back((request, answer));
    }

    fn wake(&self, _request: u64) {}
}

struct Running {
    op: DiskOp,
    next: usize,
}

pub struct World {
    pub node: Node,
    pub disk: Arc<SimDisk>,
    pub now: Now,
    pub rng: Rng,
    pub hash: Hash,
    running: Vec<Running>,
    reads: Vec<ReadWork>,
    inbox: Arc<Inbox>,
    next_tick: Duration,
    next_request: u64,
    ready: bool,
    fatal: Option<String>,
}

/// Everything small, so that a short run meets rolls, checkpoints and recycled journal files.
fn small_config() -> NodeConfig {
    let statics = [("log.cleaner.backoff.ms".to_owned(), "100".to_owned())];
    NodeConfig {
        flush_bytes: 16 * KIB,
        flush_age: Duration::from_millis(40),
        checkpoint_interval: Duration::from_millis(250),
        checkpoint_journal_bytes: 256 * KIB,
        statics: Arc::new(BrokerConfig::new(statics.into()).expect("valid settings")),
        ..NodeConfig::new(NodeId(1), PathBuf::from("/data"))
    }
}

impl World {
    /// Starts a node on what the disk holds. It is not ready yet.
    pub fn open(disk: Arc<SimDisk>, now: Now, mut rng: Rng) -> Result<World> {
        let mut fx = Effects::new();
        let shared: Arc<dyn Disk> = disk.clone();
        let node = Node::open(small_config(), shared, rng.next_u64(), now, &mut fx)?;
        let mut world = World {
            node,
            disk,
            now,
            rng,
            hash: Hash::START,
            running: Vec::new(),
            reads: Vec::new(),
            inbox: Arc::default(),
            next_tick: now.mono,
            next_request: 0,
            ready: false,
            fatal: None,
        };
        world.carry_out(fx);
        Ok(world)
    }

    fn carry_out(&mut self, fx: Effects) {
        for effect in fx {
            match effect {
                Effect::Reply { to, answer } => to.sink.reply(to.request, answer),
                Effect::Wake { waiter } => waiter.sink.wake(waiter.request),
                Effect::Disk(op) => self.running.push(Running { op, next: 0 }),
                Effect::TickBy { mono } => self.next_tick = self.next_tick.min(mono),
                // It is alone.
                Effect::Send { .. } | Effect::Link { .. } => {}
                Effect::Read(work) => self.reads.push(work),
                Effect::Ready => self.ready = true,
                Effect::Fatal { reason } => self.fatal = Some(reason),
            }
        }
    }

    /// Hands a request over; its answer comes out of `take_answers` under the number returned.
    pub fn ask(&mut self, request: impl FnOnce(&Node, Now, ReplyTo, &mut Effects)) -> u64 {
        self.next_request += 1;
        let sink: Arc<dyn ReplySink> = self.inbox.clone();
        let mut fx = Effects::new();
        request(&self.node, self.now, ReplyTo { sink, request: self.next_request }, &mut fx);
        self.carry_out(fx);
        self.next_request
    }

    /// FindCoordinator: whether there is one by now; asking makes the offsets topic.
    pub fn finds_coordinator(&mut self, group: &GroupId) -> bool {
        let mut fx = Effects::new();
        let found = self.node.group_coordinator(self.now, group, &mut fx).is_some();
        self.carry_out(fx);
        found
    }

    pub fn take_answers(&mut self) -> Vec<(u64, Answer)> {
        let answers: Vec<_> = self.inbox.answers.lock().expect("one thread uses it").drain(..).collect();
        for (request, answer) in &answers {
            self.hash.add(format!("{request} {answer:?}").as_bytes());
        }
        answers
    }

    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// One step: of a disk operation, or of the clock.
    pub fn step(&mut self) {
        if !self.reads.is_empty() && self.rng.chance(1, 4) {
            self.step_read();
        } else if !self.running.is_empty() && self.rng.chance(3, 4) {
            self.step_disk();
        } else {
            self.step_clock();
        }
    }

    fn step_read(&mut self) {
        let work = self.reads.swap_remove(self.rng.index(self.reads.len()));
        let done = work.run(&*self.disk);
        let mut fx = Effects::new();
        self.node.read_done(self.now, done, &mut fx);
        self.carry_out(fx);
    }

    /// The journal keeps its order; other operations overtake each other.
    fn step_disk(&mut self) {
        let first_journal = self.running.iter().position(|running| running.op.lane == Lane::Journal);
        let may_run: Vec<usize> = (0..self.running.len())
            .filter(|at| self.running[*at].op.lane != Lane::Journal || Some(*at) == first_journal)
            .collect();
        let chosen = may_run[self.rng.index(may_run.len())];
        let running = &mut self.running[chosen];
        let result = match running.op.steps.get(running.next) {
            Some(step) => step.run(&*self.disk),
            None => Ok(()),
        };
        running.next += 1;
        self.hash.add(&running.op.ticket.0.to_be_bytes());
        if result.is_err() || running.next >= running.op.steps.len() {
            self.complete(chosen, result);
        }
    }

    fn complete(&mut self, at: usize, result: Result<(), DiskError>) {
        let done = self.running.remove(at);
        let mut fx = Effects::new();
        self.node.disk_done(self.now, done.op.ticket, result, &mut fx);
        self.carry_out(fx);
    }

    fn step_clock(&mut self) {
        // With nothing under way only the next timer can change anything.
        let until_tick = self.next_tick.saturating_sub(self.now.mono);
        let pause = if self.running.is_empty() { until_tick.min(Duration::from_millis(20)) } else { Duration::ZERO };
        let step = pause + Duration::from_micros(self.rng.below(500));
        self.now.mono += step;
        self.now.wall_ms = i64::try_from(self.now.mono.as_millis()).expect("short runs") + 1_700_000_000_000;
        if self.now.mono >= self.next_tick {
            let mut fx = Effects::new();
            let pause = self.node.tick(self.now, &mut fx);
            self.next_tick = self.now.mono + pause;
            self.carry_out(fx);
        }
    }

    /// Steps until the condition holds.
    pub fn run_until(&mut self, what: &str, mut holds: impl FnMut(&mut World) -> bool) -> Result<()> {
        for _ in 0..STEPS_MAX {
            if holds(self) {
                return Ok(());
            }
            if let Some(reason) = &self.fatal {
                bail!("the node gave up while waiting for {what}: {reason}");
            }
            self.step();
        }
        bail!("{what}: not within {STEPS_MAX} steps, at {:?}", self.now.mono)
    }

    /// Hands one request over and steps until it is answered.
    pub fn ask_and_wait(
        &mut self,
        what: &str,
        request: impl FnOnce(&Node, Now, ReplyTo, &mut Effects),
    ) -> Result<Answer> {
        let asked = self.ask(request);
        let mut got = None;
        self.run_until(what, |world| {
            got = got
                .take()
                .or_else(|| world.take_answers().into_iter().find(|(number, _)| *number == asked).map(|(_, a)| a));
            got.is_some()
        })?;
        got.ok_or_else(|| anyhow::anyhow!("{what}: no answer"))
    }
}

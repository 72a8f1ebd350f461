//! The leader of one partition: gives offsets, refuses duplicates, decides when an append is acknowledged.
//!
//! Owns role, epoch, offsets, in-sync set, producers and who waits for what. Does not own the log: `Action::Append` is carried
//! out by the driver before it takes the next event, and `Written` and `Synced` say how far the disk is.
//! Invariant: an acks=all answer leaves only when its batch lies below the high watermark, a duplicate's no earlier than the original's.
//! Invariant: the high watermark and the published limits never go back.
//! Invariant: a partition that failed appends nothing and acknowledges nothing until the process starts again.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use model::batch::{Batch, StoredBatch, TimestampType};
use model::limits::OFFSET_MAX;
use model::{LeaderEpoch, NodeId, Now, Offset};

use super::isr::{Durability, Isr, Position};
use super::producers::{Checked, Producers, SequenceError, Sequenced};
use super::{Acks, AppendError, Appended};

/// How often silent producers are looked for.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);

/// What the topic's configuration says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    pub durability: Durability,
    /// As configured; never more than there are replicas counts.
    pub min_in_sync: usize,
    pub batch_bytes_max: u64,
    pub timestamp_type: TimestampType,
    pub producer_expiry: Duration,
    /// Answers that may wait at a time.
    pub waiters_max: usize,
}

/// What was recovered of a partition.
#[derive(Clone, Debug)]
pub struct Recovered {
    pub log_start: Offset,
    /// All below is on the disk.
    pub log_end: Offset,
    /// As the checkpoint had it: at most this much was acknowledged *before* it.
    pub high_watermark: Offset,
    pub producers: Producers,
}

/// Who appends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    Client,
    /// A coordinator of this node: its batches are bounded by itself.
    Internal,
}

#[derive(Debug)]
pub enum Event<W> {
    /// The image says that this node leads from now on.
    Lead {
        epoch: LeaderEpoch,
        replicas: usize,
        isr: BTreeSet<NodeId>,
    },
    /// The image says that another node leads, or none.
    StepDown {
        epoch: LeaderEpoch,
        leader: Option<NodeId>,
    },
    Produced {
        batch: Batch,
        acks: Acks,
        timeout: Duration,
        origin: Origin,
        waiter: W,
    },
    /// Our own kernel has everything below.
    Written {
        end: Offset,
    },
    /// Our own disk has everything below.
    Synced {
        end: Offset,
    },
    FollowerHas {
        node: NodeId,
        position: Position,
    },
    IsrProposed {
        isr: BTreeSet<NodeId>,
    },
    IsrCommitted {
        isr: BTreeSet<NodeId>,
    },
    Configured(Settings),
    /// Retention or DeleteRecords took what lies below.
    LogStartMoved {
        start: Offset,
    },
    /// The disk failed us: nothing that is not acknowledged will be.
    Failed {
        reason: String,
    },
    Tick,
}

/// What readers may see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    pub log_start: Offset,
    pub high_watermark: Offset,
    pub last_stable: Offset,
}

#[derive(Debug)]
pub enum Action<W> {
    /// The epoch's first record will have this offset.
    StartEpoch {
        epoch: LeaderEpoch,
        start: Offset,
    },
    /// To the end of the log, before the next event.
    Append {
        batch: StoredBatch,
    },
    Reply {
        waiter: W,
        result: Result<Appended, AppendError>,
    },
    Publish(Limits),
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Role {
    /// As recovered: the image has not said anything yet.
    Unassigned,
    Leading {
        replicas: usize,
    },
    Following {
        leader: Option<NodeId>,
    },
    Failed {
        reason: String,
    },
}

#[derive(Debug)]
struct Waiting<W> {
    base_offset: Offset,
    end: Offset,
    log_append_time_ms: Option<i64>,
    since: Duration,
    deadline: Duration,
    waiter: W,
}

/// `W` is the driver's way to find the request again: opaque here.
#[derive(Debug)]
pub struct Leader<W> {
    node: NodeId,
    role: Role,
    epoch: LeaderEpoch,
    settings: Settings,
    log_start: Offset,
    log_end: Offset,
    high_watermark: Offset,
    published: Limits,
    isr: Isr,
    producers: Producers,
    /// acks=1: sorted by end.
    waiting_leader: VecDeque<Waiting<W>>,
    /// acks=all: sorted by end.
    waiting_all: VecDeque<Waiting<W>>,
    /// No deadline of a waiting answer is earlier.
    deadline_min: Option<Duration>,
    /// Producers are not looked through at every tick.
    expire_at: Duration,
}

impl<W> Leader<W> {
    pub fn new(node: NodeId, recovered: Recovered, settings: Settings) -> Leader<W> {
        let Recovered { log_start, log_end, high_watermark, producers } = recovered;
        // The checkpoint's high watermark may lie behind what retention took, or before a cut of the log.
        let high_watermark = high_watermark.max(log_start).min(log_end);
        let mut isr = Isr::new(BTreeSet::new());
        isr.advance(node, Position { written: log_end, synced: log_end });
        let published = Limits { log_start, high_watermark, last_stable: high_watermark };
        let leader = Leader {
            node,
            role: Role::Unassigned,
            epoch: LeaderEpoch::ZERO,
            settings,
            log_start,
            log_end,
            high_watermark,
            published,
            isr,
            producers,
            waiting_leader: VecDeque::new(),
            waiting_all: VecDeque::new(),
            deadline_min: None,
            expire_at: Duration::ZERO,
        };
        leader.check_invariants();
        leader
    }

    pub fn step(&mut self, now: Now, event: Event<W>, actions: &mut Vec<Action<W>>) {
        match event {
            Event::Lead { epoch, replicas, isr } => self.on_lead(epoch, replicas, isr, actions),
            Event::StepDown { epoch, leader } => self.on_step_down(epoch, leader, actions),
            Event::Produced { batch, acks, timeout, origin, waiter } => {
                let deadline = now.mono.saturating_add(timeout);
                self.on_produced(now, batch, acks, deadline, origin, waiter, actions);
            }
            Event::Written { end } => {
                self.on_replica_has(self.node, Position { written: end, synced: Offset::ZERO }, actions);
            }
            Event::Synced { end } => {
                self.on_replica_has(self.node, Position { written: Offset::ZERO, synced: end }, actions);
            }
            Event::FollowerHas { node, position } => {
                // The follower's word is bytes from a socket: it cannot have what we have not.
                let (written, synced) = (position.written.min(self.log_end), position.synced.min(self.log_end));
                self.on_replica_has(node, Position { written, synced }, actions);
            }
            Event::IsrProposed { isr } => {
                self.isr.propose(isr);
                self.advance_high_watermark(actions);
            }
            Event::IsrCommitted { isr } => {
                self.isr.commit(isr);
                self.advance_high_watermark(actions);
            }
            Event::Configured(settings) => {
                self.settings = settings;
                self.advance_high_watermark(actions);
            }
            Event::LogStartMoved { start } => {
                self.log_start = self.log_start.max(start);
                self.publish(actions);
            }
            Event::Failed { reason } => self.on_failed(reason, actions),
            Event::Tick => self.on_tick(now, actions),
        }
        self.check_invariants();
    }

    fn on_lead(&mut self, epoch: LeaderEpoch, replicas: usize, isr: BTreeSet<NodeId>, actions: &mut Vec<Action<W>>) {
        if matches!(self.role, Role::Failed { .. }) {
            return;
        }
        let leads_already = matches!(self.role, Role::Leading { .. }) && self.epoch == epoch;
        assert!(epoch >= self.epoch, "the image goes back from epoch {} to {epoch}", self.epoch);
        self.role = Role::Leading { replicas };
        self.epoch = epoch;
        self.isr.commit(isr);
        if !leads_already {
            actions.push(Action::StartEpoch { epoch, start: self.log_end });
        }
        self.advance_high_watermark(actions);
    }

    fn on_step_down(&mut self, epoch: LeaderEpoch, leader: Option<NodeId>, actions: &mut Vec<Action<W>>) {
        if matches!(self.role, Role::Failed { .. }) {
            return;
        }
        self.role = Role::Following { leader };
        self.epoch = self.epoch.max(epoch);
        self.refuse_waiting(&AppendError::NotLeader { leader, epoch }, actions);
    }

    fn on_failed(&mut self, reason: String, actions: &mut Vec<Action<W>>) {
        if matches!(self.role, Role::Failed { .. }) {
            return;
        }
        self.refuse_waiting(&AppendError::Disk { reason: reason.clone() }, actions);
        self.role = Role::Failed { reason };
    }

    /// Gives up after an assertion failed: answers who waits and checks nothing, since nothing can be relied on.
    pub fn abandon(&mut self, reason: &str, actions: &mut Vec<Action<W>>) {
        self.role = Role::Failed { reason: reason.to_owned() };
        self.refuse_waiting(&AppendError::Disk { reason: reason.to_owned() }, actions);
    }

    fn refuse_waiting(&mut self, error: &AppendError, actions: &mut Vec<Action<W>>) {
        for waiting in self.waiting_leader.drain(..).chain(self.waiting_all.drain(..)) {
            actions.push(Action::Reply { waiter: waiting.waiter, result: Err(error.clone()) });
        }
        self.deadline_min = None;
    }

    #[allow(clippy::too_many_arguments, reason = "one event taken apart")]
    fn on_produced(
        &mut self,
        now: Now,
        batch: Batch,
        acks: Acks,
        deadline: Duration,
        origin: Origin,
        waiter: W,
        actions: &mut Vec<Action<W>>,
    ) {
        let checked = match self.check_append(&batch, acks, origin) {
            Ok(checked) => checked,
            Err(error) => return actions.push(Action::Reply { waiter, result: Err(error) }),
        };
        let stamps = self.settings.timestamp_type == TimestampType::LogAppendTime;
        let (base_offset, end, log_append_time_ms) = match checked {
            Checked::Duplicate { base_offset, next_offset, timestamp_ms } => {
                (base_offset, next_offset, stamps.then_some(timestamp_ms))
            }
            Checked::New => {
                let base_offset = self.log_end;
                let batch = if stamps {
                    batch.place_at_append_time(base_offset, self.epoch, now.wall_ms)
                } else {
                    batch.place(base_offset, self.epoch)
                };
                self.log_end = batch.next_offset();
                if let Some(sequenced) = Sequenced::of(batch.header()) {
                    self.producers.appended(sequenced, base_offset, batch.max_timestamp(), now.wall_ms);
                }
                actions.push(Action::Append { batch });
                (base_offset, self.log_end, stamps.then_some(now.wall_ms))
            }
        };
        let waiting = Waiting { base_offset, end, log_append_time_ms, since: now.mono, deadline, waiter };
        self.wait_or_reply(waiting, acks, actions);
    }

    fn check_append(&self, batch: &Batch, acks: Acks, origin: Origin) -> Result<Checked, AppendError> {
        let replicas = match &self.role {
            Role::Leading { replicas } => *replicas,
            Role::Unassigned => return Err(AppendError::NotLeader { leader: None, epoch: self.epoch }),
            Role::Following { leader } => return Err(AppendError::NotLeader { leader: *leader, epoch: self.epoch }),
            Role::Failed { reason } => return Err(AppendError::Disk { reason: reason.clone() }),
        };
        if batch.header().attributes.is_transactional() {
            return Err(AppendError::TransactionsNotServed);
        }
        let bytes = u64::try_from(batch.size()).expect("a size in memory fits in 64 bits");
        if origin == Origin::Client && bytes > self.settings.batch_bytes_max {
            return Err(AppendError::TooLarge { bytes, allowed: self.settings.batch_bytes_max });
        }
        let needed = self.settings.min_in_sync.min(replicas);
        let in_sync = self.isr.certain();
        if acks == Acks::All && in_sync < needed {
            return Err(AppendError::NotEnoughReplicas { in_sync, needed });
        }
        if acks != Acks::None && self.waiting() >= self.settings.waiters_max {
            return Err(AppendError::TooManyWaiting { limit: self.settings.waiters_max });
        }
        if self.log_end.get().saturating_add(i64::from(batch.header().last_offset_delta)) > OFFSET_MAX {
            return Err(AppendError::OffsetsUsedUp);
        }
        let Some(sequenced) = Sequenced::of(batch.header()) else { return Ok(Checked::New) };
        self.producers.check(sequenced).map_err(|error| match error {
            SequenceError::OutOfOrder { producer, expected, got } => {
                AppendError::OutOfOrder { producer, expected, got }
            }
            SequenceError::StaleEpoch { producer, current, got } => AppendError::StaleEpoch { producer, current, got },
        })
    }

    fn wait_or_reply(&mut self, waiting: Waiting<W>, acks: Acks, actions: &mut Vec<Action<W>>) {
        let reached = match acks {
            Acks::None => true,
            Acks::Leader => waiting.end <= self.local_end(),
            Acks::All => waiting.end <= self.high_watermark,
        };
        if reached {
            return actions.push(reply(waiting, self.log_start));
        }
        self.deadline_min = Some(self.deadline_min.map_or(waiting.deadline, |min| min.min(waiting.deadline)));
        let queue = if acks == Acks::All { &mut self.waiting_all } else { &mut self.waiting_leader };
        // Only a duplicate's original lies before what waits already.
        let at = match queue.back() {
            Some(last) if last.end > waiting.end => queue.partition_point(|other| other.end <= waiting.end),
            _ => queue.len(),
        };
        queue.insert(at, waiting);
    }

    fn on_replica_has(&mut self, node: NodeId, position: Position, actions: &mut Vec<Action<W>>) {
        if matches!(self.role, Role::Failed { .. }) {
            return;
        }
        self.isr.advance(node, position);
        if node == self.node {
            let local_end = self.local_end();
            pop_reached(&mut self.waiting_leader, local_end, self.log_start, actions);
        }
        self.advance_high_watermark(actions);
    }

    fn advance_high_watermark(&mut self, actions: &mut Vec<Action<W>>) {
        let Role::Leading { replicas } = self.role else { return };
        let needed = self.settings.min_in_sync.min(replicas);
        let Some(reached) = self.isr.high_watermark(self.settings.durability, needed) else { return };
        if reached > self.high_watermark {
            self.high_watermark = reached;
            // Published first: who reads its own acknowledged write must find it.
            self.publish(actions);
            pop_reached(&mut self.waiting_all, reached, self.log_start, actions);
        }
    }

    fn publish(&mut self, actions: &mut Vec<Action<W>>) {
        let limits = Limits {
            log_start: self.log_start,
            high_watermark: self.high_watermark,
            // No transactions are served: nothing below the high watermark is undecided.
            last_stable: self.high_watermark,
        };
        if limits != self.published {
            self.published = limits;
            actions.push(Action::Publish(limits));
        }
    }

    fn on_tick(&mut self, now: Now, actions: &mut Vec<Action<W>>) {
        if now.mono >= self.expire_at {
            self.expire_at = now.mono.saturating_add(EXPIRY_INTERVAL);
            let expiry_ms = i64::try_from(self.settings.producer_expiry.as_millis()).unwrap_or(i64::MAX);
            self.producers.expire(now.wall_ms.saturating_sub(expiry_ms));
        }
        if self.deadline_min.is_none_or(|min| now.mono < min) {
            return;
        }
        for queue in [&mut self.waiting_leader, &mut self.waiting_all] {
            let mut at = 0;
            while let Some(waiting) = queue.get(at) {
                if now.mono < waiting.deadline {
                    at += 1;
                    continue;
                }
                let waited_ms = u64::try_from(now.mono.saturating_sub(waiting.since).as_millis()).unwrap_or(u64::MAX);
                let waiting = queue.remove(at).expect("it was looked at just now");
                actions
                    .push(Action::Reply { waiter: waiting.waiter, result: Err(AppendError::TimedOut { waited_ms }) });
            }
        }
        let both = self.waiting_leader.iter().chain(&self.waiting_all);
        self.deadline_min = both.map(|waiting| waiting.deadline).min();
    }

    fn local_end(&self) -> Offset {
        let own = self.isr.position(self.node);
        own.written.max(own.synced)
    }

    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leading { .. })
    }

    pub fn failure(&self) -> Option<&str> {
        if let Role::Failed { reason } = &self.role { Some(reason) } else { None }
    }

    /// Who leads instead, as far as is known.
    pub fn other_leader(&self) -> Option<NodeId> {
        if let Role::Following { leader } = self.role { leader } else { None }
    }

    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    pub fn limits(&self) -> Limits {
        self.published
    }

    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Answers that wait.
    pub fn waiting(&self) -> usize {
        self.waiting_leader.len() + self.waiting_all.len()
    }

    /// A tick is needed then: no answer waits longer.
    pub fn deadline(&self) -> Option<Duration> {
        if self.waiting() == 0 { None } else { self.deadline_min }
    }

    fn check_invariants(&self) {
        // Below the high watermark a consumer may have read: those records must exist and never change.
        assert!(self.log_start <= self.high_watermark);
        assert!(self.high_watermark <= self.log_end);
        assert!(self.published.last_stable <= self.published.high_watermark);
        assert!(self.published.high_watermark <= self.high_watermark);
        // What the disk has was appended before.
        assert!(self.local_end() <= self.log_end);
        if self.leads() {
            // Outside its own ISR, a leader could answer acks=all for records that only it holds.
            assert!(self.isr.committed().contains(&self.node));
        } else {
            // Only a leader can tell anybody anything.
            assert!(self.waiting() == 0);
        }
        // Who is answerable is answered in the step that made it so.
        assert!(self.waiting_all.front().is_none_or(|waiting| waiting.end > self.high_watermark));
        assert!(self.waiting_leader.front().is_none_or(|waiting| waiting.end > self.local_end()));
    }
}

fn reply<W>(waiting: Waiting<W>, log_start: Offset) -> Action<W> {
    let Waiting { base_offset, log_append_time_ms, waiter, .. } = waiting;
    Action::Reply { waiter, result: Ok(Appended { base_offset, log_append_time_ms, log_start }) }
}

fn pop_reached<W>(queue: &mut VecDeque<Waiting<W>>, reached: Offset, log_start: Offset, actions: &mut Vec<Action<W>>) {
    while queue.front().is_some_and(|waiting| waiting.end <= reached) {
        let waiting = queue.pop_front().expect("it was looked at just now");
        actions.push(reply(waiting, log_start));
    }
}

#[cfg(test)]
#[path = "leader_tests.rs"]
mod tests;

//! One replica of one partition: leads, follows, or neither, and can change between these at any time.
//!
//! Owns role, epoch, offsets, producers and the published limits, whichever role it has: there is one copy of them, so a follower that
//! becomes leader knows all that its log says. What a leader does is in `leader`, what a follower does in `follower`. Does not own the
//! log: `Action::Append` and `Action::DeleteBefore` are carried out by the driver before it takes the next event, `Written` and
//! `Synced` say how far the disk is.
//! Invariant: the high watermark and the published limits never go back, except when an unclean election lost what was below.
//! Invariant: a replica that failed appends nothing and acknowledges nothing until the process starts again.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use model::batch::{Batch, StoredBatch, TimestampType};
use model::{LeaderEpoch, NodeId, Now, Offset};

use super::isr::{Durability, Isr, Position};
use super::leader::Waiting;
use super::pace::Pace;
use super::producers::Producers;
use super::{Acks, AppendError, Appended};
use crate::metadata::Incarnation;

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
    /// Of the last batch.
    pub latest_epoch: Option<LeaderEpoch>,
    pub producers: Producers,
}

/// Who appends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    Client,
    /// A coordinator of this node: its batches are bounded by itself.
    Internal,
}

/// The image's word that this node leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leadership {
    pub epoch: LeaderEpoch,
    /// Counts every change of the partition; a change of the ISR is asked for against it.
    pub partition_epoch: u32,
    pub replicas: BTreeSet<NodeId>,
    pub isr: BTreeSet<NodeId>,
}

#[derive(Debug)]
pub enum Event<W> {
    /// The image says that this node leads from now on, or has news of its partition.
    Lead(Leadership),
    /// The image says that another node leads, or none.
    Follow {
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
    /// To a leader: a follower's log agrees with ours, and it is so far. `incarnation`: of the process that says so.
    Joined {
        node: NodeId,
        incarnation: Incarnation,
        position: Position,
    },
    /// To a leader: how far one that joined is now.
    FollowerHas {
        node: NodeId,
        position: Position,
    },
    /// To a leader: the stream to a follower has ended. `offline`: it said that its log cannot be used.
    Left {
        node: NodeId,
        offline: bool,
    },
    /// The controller did not take the change that was asked for against this partition epoch.
    IsrRefused {
        partition_epoch: u32,
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

/// The in-sync set that a leader wants. The incarnation is that of the process that was seen to keep up; none where it is a member
/// that this leader has not heard of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IsrWish {
    pub epoch: LeaderEpoch,
    pub partition_epoch: u32,
    pub isr: Vec<(NodeId, Option<Incarnation>)>,
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
    /// A follower's log loses its start, as its leader's did.
    DeleteBefore {
        start: Offset,
    },
    Reply {
        waiter: W,
        result: Result<Appended, AppendError>,
    },
    Publish(Limits),
    /// To a follower's leader: how far we are.
    Report(Position),
    /// To the controller; its word comes as `Lead` or `IsrRefused`. Asked again while neither comes.
    AlterIsr(IsrWish),
    /// To the controller: our disk hangs, another member of the ISR is to lead.
    HandOver,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// As recovered: the image has not said anything yet.
    Unassigned,
    Leading {
        replicas: BTreeSet<NodeId>,
        partition_epoch: u32,
    },
    Following {
        leader: Option<NodeId>,
    },
    Failed {
        reason: String,
    },
}

/// `W` is the driver's way to find a request again: opaque here.
#[derive(Debug)]
pub struct Replica<W> {
    pub(super) node: NodeId,
    pub(super) role: Role,
    pub(super) epoch: LeaderEpoch,
    pub(super) settings: Settings,
    pub(super) log_start: Offset,
    pub(super) log_end: Offset,
    /// Of the last batch.
    pub(super) latest_epoch: Option<LeaderEpoch>,
    pub(super) high_watermark: Offset,
    published: Limits,
    /// Our own position at all times; those of others while leading.
    pub(super) isr: Isr,
    pub(super) producers: Producers,
    /// Where the log ended when this leadership began: what any leader before acknowledged lies below.
    pub(super) epoch_start: Offset,
    pub(super) pace: Pace,
    /// No change of the ISR is asked for before.
    pub(super) ask_at: Duration,
    /// Asked to hand over, and not since.
    pub(super) hand_over_at: Option<Duration>,
    /// acks=1: sorted by end.
    pub(super) waiting_leader: VecDeque<Waiting<W>>,
    /// acks=all: sorted by end.
    pub(super) waiting_all: VecDeque<Waiting<W>>,
    /// No deadline of a waiting answer is earlier.
    pub(super) deadline_min: Option<Duration>,
    /// Producers are not looked through at every tick.
    expire_at: Duration,
}

impl<W> Replica<W> {
    pub fn new(node: NodeId, recovered: Recovered, settings: Settings) -> Replica<W> {
        let Recovered { log_start, log_end, high_watermark, latest_epoch, producers } = recovered;
        // The checkpoint's high watermark may lie behind what retention took, or before a cut of the log.
        let high_watermark = high_watermark.max(log_start).min(log_end);
        let mut isr = Isr::new(BTreeSet::new());
        isr.advance(node, Position { written: log_end, synced: log_end });
        let published = Limits { log_start, high_watermark, last_stable: high_watermark };
        let replica = Replica {
            node,
            role: Role::Unassigned,
            epoch: LeaderEpoch::ZERO,
            settings,
            log_start,
            log_end,
            latest_epoch,
            high_watermark,
            published,
            isr,
            producers,
            epoch_start: log_end,
            pace: Pace::default(),
            ask_at: Duration::ZERO,
            hand_over_at: None,
            waiting_leader: VecDeque::new(),
            waiting_all: VecDeque::new(),
            deadline_min: None,
            expire_at: Duration::ZERO,
        };
        replica.check_invariants();
        replica
    }

    pub fn step(&mut self, now: Now, event: Event<W>, actions: &mut Vec<Action<W>>) {
        match event {
            Event::Lead(leadership) => self.on_lead(now, leadership, actions),
            Event::Follow { epoch, leader } => self.on_follow(epoch, leader, actions),
            Event::Produced { batch, acks, timeout, origin, waiter } => {
                let deadline = now.mono.saturating_add(timeout);
                self.on_produced(now, batch, acks, deadline, origin, waiter, actions);
            }
            Event::Written { end } => {
                self.on_own_position(now, Position { written: end, synced: Offset::ZERO }, actions);
            }
            Event::Synced { end } => {
                self.on_own_position(now, Position { written: Offset::ZERO, synced: end }, actions);
            }
            Event::Joined { node, incarnation, position } => {
                self.on_joined(now, node, incarnation, position, actions);
            }
            Event::FollowerHas { node, position } => self.on_follower_has(now, node, position, actions),
            Event::Left { node, offline } => self.on_left(now, node, offline, actions),
            Event::IsrRefused { partition_epoch } => self.on_isr_refused(now, partition_epoch, actions),
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

    fn on_own_position(&mut self, now: Now, position: Position, actions: &mut Vec<Action<W>>) {
        if matches!(self.role, Role::Failed { .. }) {
            return;
        }
        // What was on its way to the disk when the log was cut says nothing about what lies there now.
        let (written, synced) = (position.written.min(self.log_end), position.synced.min(self.log_end));
        let position = Position { written, synced };
        match &self.role {
            Role::Leading { .. } => self.on_replica_has(now, self.node, position, actions),
            Role::Following { leader: Some(_) } => {
                let before = self.isr.counted(self.node, self.settings.durability);
                self.isr.advance(self.node, position);
                if self.isr.counted(self.node, self.settings.durability) > before {
                    actions.push(Action::Report(self.isr.position(self.node)));
                }
            }
            Role::Following { leader: None } | Role::Unassigned => self.isr.advance(self.node, position),
            Role::Failed { .. } => {}
        }
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

    pub(super) fn publish(&mut self, actions: &mut Vec<Action<W>>) {
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
        self.time_out(now, actions);
        self.review_all(now, actions);
    }

    pub(super) fn local_end(&self) -> Offset {
        let own = self.isr.position(self.node);
        own.written.max(own.synced)
    }

    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The committed members of the ISR, as a leader knows them.
    pub fn in_sync(&self) -> impl Iterator<Item = NodeId> {
        self.isr.committed().iter().copied()
    }

    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leading { .. })
    }

    /// Whether this replica leads and `node` is another one of its replicas, as far as the image here says.
    pub fn has_follower(&self, node: NodeId) -> bool {
        matches!(&self.role, Role::Leading { replicas, .. } if replicas.contains(&node) && node != self.node)
    }

    pub fn failure(&self) -> Option<&str> {
        if let Role::Failed { reason } = &self.role { Some(reason) } else { None }
    }

    /// Who leads instead, as far as is known.
    pub fn other_leader(&self) -> Option<NodeId> {
        if let Role::Following { leader } = self.role { leader } else { None }
    }

    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// How far the log is in our page cache and on our disk.
    pub fn position(&self) -> Position {
        self.isr.position(self.node)
    }

    /// A leader whose high watermark does not reach yet what a leader before it may have acknowledged: the end that it knows is
    /// none that may be told (K7, K9).
    pub fn is_fresh(&self) -> bool {
        self.leads() && self.high_watermark < self.epoch_start
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

    pub(super) fn check_invariants(&self) {
        // Below the high watermark a consumer may have read: those records must exist and never change.
        assert!(self.log_start <= self.high_watermark);
        assert!(self.high_watermark <= self.log_end);
        assert!(self.published.last_stable <= self.published.high_watermark);
        assert!(self.published.high_watermark <= self.high_watermark);
        // What the disk has was appended before.
        assert!(self.local_end() <= self.log_end);
        if self.leads() {
            // Two leaders of one epoch would write two tails of it. (A follower's image may lag behind its log.)
            assert!(self.latest_epoch.is_none_or(|latest| latest <= self.epoch));
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

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;

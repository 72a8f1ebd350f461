//! Three replicas, their logs, disks and links, and a controller, as models around the production state machines.
//!
//! Owns what can happen, one step at a time. Does not own when it happens nor what must hold (`schedule_tests`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use model::batch::{BatchBuilder, StoredBatch, TimestampType};
use model::{LeaderEpoch, NodeId, Now, Offset};

use super::super::Acks;
use super::super::follower::{Agreement, EpochEnd, EpochView, LeaderLimits, LogBounds, choose_cut, compare};
use super::super::isr::{Durability, Position};
use super::super::producers::Producers;
use super::super::replica::{Action, Event, IsrWish, Leadership, Origin, Recovered, Replica, Settings};
use crate::metadata::Incarnation;

pub(super) const NODES: [i32; 3] = [1, 2, 3];

pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn below(&mut self, count: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % count
    }

    pub(super) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(super) fn node(&mut self) -> NodeId {
        NodeId(NODES[usize::try_from(self.below(3)).expect("small")])
    }
}

/// One batch of one record at each offset: its epoch and its value.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Entry {
    pub(super) epoch: LeaderEpoch,
    pub(super) value: u64,
    pub(super) batch: StoredBatch,
}

struct Log<'a>(&'a [Entry]);

impl EpochView for Log<'_> {
    fn latest(&self) -> Option<LeaderEpoch> {
        self.0.last().map(|entry| entry.epoch)
    }

    fn end_offset_for(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        let count = self.0.iter().take_while(|entry| entry.epoch <= epoch).count();
        let last = self.0.get(count.checked_sub(1)?)?;
        Some(EpochEnd { epoch: last.epoch, end: end(count) })
    }
}

pub(super) fn end(count: usize) -> Offset {
    Offset::new(i64::try_from(count).expect("short"))
}

pub(super) fn index(offset: Offset) -> usize {
    usize::try_from(offset.get()).expect("short")
}

#[derive(Clone)]
pub(super) enum Message {
    Follow { epoch: LeaderEpoch, bounds: LogBounds, position: Position },
    Cut { epoch: LeaderEpoch, what: Agreement },
    Records { epoch: LeaderEpoch, batches: Vec<StoredBatch>, limits: LeaderLimits },
    Position { epoch: LeaderEpoch, position: Position },
}

pub(super) struct Host {
    pub(super) replica: Replica<u64>,
    pub(super) log: Vec<Entry>,
    pub(super) incarnation: u8,
    /// Where the disk is behind: what is written, and what is synced.
    pub(super) synced: usize,
    /// Of the image that it knows.
    pub(super) known: u32,
    /// A stream stands from whoever leads.
    pub(super) follows: bool,
    /// To whom it sends, and from where on.
    pub(super) sends: BTreeMap<NodeId, usize>,
    pub(super) high_watermark: Offset,
    pub(super) wish: Option<IsrWish>,
}

#[derive(Clone)]
pub(super) struct Image {
    pub(super) partition_epoch: u32,
    pub(super) epoch: LeaderEpoch,
    pub(super) leader: NodeId,
    pub(super) isr: BTreeSet<NodeId>,
}

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) now: Now,
    pub(super) hosts: BTreeMap<NodeId, Host>,
    pub(super) images: Vec<Image>,
    /// In order between two hosts; lost when the link is cut.
    pub(super) links: BTreeMap<(NodeId, NodeId), VecDeque<Message>>,
    pub(super) next_value: u64,
    pub(super) acknowledged: BTreeMap<Offset, u64>,
    /// Values that are not answered, and by whom they will be.
    pub(super) waiting: BTreeMap<u64, NodeId>,
}

pub(super) fn settings() -> Settings {
    Settings {
        durability: Durability::Synced,
        min_in_sync: 2,
        batch_bytes_max: 10_000,
        timestamp_type: TimestampType::CreateTime,
        producer_expiry: Duration::from_secs(3_600),
        waiters_max: 1_000,
    }
}

pub(super) fn replica(node: NodeId, log: &[Entry], high_watermark: Offset) -> Replica<u64> {
    let recovered = Recovered {
        log_start: Offset::ZERO,
        log_end: end(log.len()),
        high_watermark,
        latest_epoch: Log(log).latest(),
        producers: Producers::new(10),
    };
    Replica::new(node, recovered, settings())
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let nodes = NODES.map(NodeId);
        let host = |node| Host {
            replica: replica(node, &[], Offset::ZERO),
            log: Vec::new(),
            incarnation: 1,
            synced: 0,
            known: 0,
            follows: false,
            sends: BTreeMap::new(),
            high_watermark: Offset::ZERO,
            wish: None,
        };
        let first = Image {
            partition_epoch: 1,
            epoch: LeaderEpoch::new(1),
            leader: NodeId(1),
            isr: nodes.into_iter().collect(),
        };
        World {
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            now: Now::default(),
            hosts: nodes.into_iter().map(|node| (node, host(node))).collect(),
            images: vec![first],
            links: BTreeMap::new(),
            next_value: 0,
            acknowledged: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    pub(super) fn host(&mut self, node: NodeId) -> &mut Host {
        self.hosts.get_mut(&node).expect("one of three")
    }

    pub(super) fn image(&self) -> &Image {
        self.images.last().expect("there is a first one")
    }

    pub(super) fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.links.entry((from, to)).or_default().push_back(message);
    }

    pub(super) fn step(&mut self, node: NodeId, event: Event<u64>) {
        let now = self.now;
        let mut actions = Vec::new();
        self.host(node).replica.step(now, event, &mut actions);
        self.carry_out(node, actions);
    }

    pub(super) fn carry_out(&mut self, node: NodeId, actions: Vec<Action<u64>>) {
        for action in actions {
            let host = self.host(node);
            match action {
                Action::StartEpoch { .. } => {
                    host.sends.clear();
                    host.wish = None;
                    host.follows = false;
                }
                Action::Append { batch } => {
                    assert_eq!(index(batch.base_offset()), host.log.len());
                    let value = batch.base_timestamp().cast_unsigned();
                    let epoch = batch.leader_epoch().expect("placed");
                    host.log.push(Entry { epoch, value, batch });
                }
                Action::Reply { waiter, result } => {
                    assert_eq!(self.waiting.remove(&waiter), Some(node), "answered once");
                    if let Ok(appended) = result {
                        let before = self.acknowledged.insert(appended.base_offset, waiter);
                        assert!(before.is_none_or(|before| before == waiter), "two records acknowledged at one offset");
                    }
                }
                Action::Publish(limits) => {
                    assert!(limits.high_watermark >= host.high_watermark);
                    host.high_watermark = limits.high_watermark;
                }
                Action::Report(position) => {
                    if host.follows
                        && let Some(leader) = host.replica.other_leader()
                    {
                        let epoch = host.replica.epoch();
                        self.send(node, leader, Message::Position { epoch, position });
                    }
                }
                Action::AlterIsr(wish) => host.wish = Some(wish),
                Action::HandOver => {}
                Action::DeleteBefore { .. } => panic!("nothing is deleted here"),
            }
        }
    }

    /// The host learns the next state of the metadata.
    pub(super) fn learn(&mut self, node: NodeId) {
        let known = self.host(node).known;
        let Some(image) = self.images.iter().find(|image| image.partition_epoch > known).cloned() else { return };
        self.host(node).known = image.partition_epoch;
        if image.leader == node {
            let leadership = Leadership {
                epoch: image.epoch,
                partition_epoch: image.partition_epoch,
                replicas: NODES.map(NodeId).into_iter().collect(),
                isr: image.isr,
            };
            return self.step(node, Event::Lead(leadership));
        }
        let same = self.host(node).replica.other_leader() == Some(image.leader)
            && self.host(node).replica.epoch() == image.epoch;
        if !same {
            self.host(node).follows = false;
            self.host(node).sends.clear();
            self.step(node, Event::Follow { epoch: image.epoch, leader: Some(image.leader) });
        }
    }

    pub(super) fn wish_to_follow(&mut self, node: NodeId) {
        let host = self.host(node);
        let Some(leader) = host.replica.other_leader().filter(|_| !host.follows) else { return };
        let (epoch, bounds, position) = (host.replica.epoch(), host.replica.bounds(), host.replica.position());
        host.follows = true;
        self.send(node, leader, Message::Follow { epoch, bounds, position });
    }

    pub(super) fn deliver(&mut self, from: NodeId, to: NodeId) {
        let Some(message) = self.links.get_mut(&(from, to)).and_then(VecDeque::pop_front) else { return };
        let incarnation = Incarnation([self.host(from).incarnation; 16]);
        let now = self.now;
        let host = self.host(to);
        let epoch = host.replica.epoch();
        match message {
            Message::Follow { epoch: of, bounds, position } => {
                if of != epoch || !host.replica.leads() {
                    // Its image or ours lags: the link's end makes it ask again.
                    return self.cut_link(from, to);
                }
                match compare(host.replica.bounds(), &Log(&host.log), bounds) {
                    Agreement::Agrees => {
                        host.sends.insert(from, index(bounds.end));
                        self.step(to, Event::Joined { node: from, incarnation, position });
                    }
                    what => self.send(to, from, Message::Cut { epoch: of, what }),
                }
            }
            Message::Cut { epoch: of, what } => {
                if of != epoch || !host.follows || host.replica.leads() {
                    return;
                }
                host.follows = false;
                let to_offset = match what {
                    Agreement::Parted(answer) => choose_cut(host.replica.bounds(), &Log(&host.log), answer),
                    Agreement::BeginAt(start) => start,
                    Agreement::Agrees => panic!("that is no cut"),
                };
                assert_eq!(host.replica.may_cut(to_offset, false), Ok(()), "what is committed is never cut");
                host.log.truncate(index(to_offset));
                host.synced = host.synced.min(host.log.len());
                let latest = Log(&host.log).latest();
                let mut actions = Vec::new();
                host.replica.cut(to_offset, latest, None, &mut actions);
                self.carry_out(to, actions);
            }
            Message::Records { epoch: of, batches, limits } => {
                if of != epoch || !host.follows || host.replica.other_leader() != Some(from) {
                    return;
                }
                let mut actions = Vec::new();
                let first = batches.first().map_or(host.replica.bounds().end, StoredBatch::base_offset);
                let received = host.replica.receive(now, first, batches, limits, &mut actions);
                self.carry_out(to, actions);
                assert_eq!(received, Ok(()), "frames of one link come in order");
            }
            Message::Position { epoch: of, position } => {
                if of == epoch && host.sends.contains_key(&from) {
                    self.step(to, Event::FollowerHas { node: from, position });
                }
            }
        }
    }

    /// Whatever was under way between the two is lost, and both sides know that the streams have ended.
    pub(super) fn cut_link(&mut self, one: NodeId, other: NodeId) {
        for (from, to) in [(one, other), (other, one)] {
            self.links.remove(&(from, to));
            if self.host(from).sends.remove(&to).is_some() {
                self.step(from, Event::Left { node: to, offline: false });
            }
            let host = self.host(from);
            if host.replica.other_leader() == Some(to) {
                host.follows = false;
            }
        }
    }

    pub(super) fn push(&mut self, node: NodeId) {
        let host = self.host(node);
        let (epoch, limits) = (host.replica.epoch(), host.replica.limits());
        let limits = LeaderLimits { high_watermark: limits.high_watermark, log_start: limits.log_start };
        let mut sendings = Vec::new();
        for (to, next) in &mut host.sends {
            let batches: Vec<StoredBatch> = host.log.iter().skip(*next).map(|entry| entry.batch.clone()).collect();
            *next = host.log.len();
            sendings.push((*to, Message::Records { epoch, batches, limits }));
        }
        for (to, message) in sendings {
            self.send(node, to, message);
        }
    }

    pub(super) fn produce(&mut self, node: NodeId) {
        self.next_value += 1;
        let value = self.next_value;
        let timestamp = i64::try_from(value).expect("small");
        let batch = BatchBuilder::new().record(timestamp, None, Some(b"v"), &[]).finish();
        self.waiting.insert(value, node);
        let (acks, origin, timeout) = (Acks::All, Origin::Client, Duration::from_secs(3_600));
        self.step(node, Event::Produced { batch, acks, timeout, origin, waiter: value });
    }

    pub(super) fn sync(&mut self, node: NodeId) {
        let left = self.host(node).log.len() - self.host(node).synced;
        let more = self.dice.below(u64::try_from(left).expect("short") + 1);
        let host = self.host(node);
        host.synced += usize::try_from(more).expect("short");
        let synced = end(host.synced);
        self.step(node, Event::Synced { end: synced });
    }

    /// The process dies with everything that was not synced, and starts again as another one.
    pub(super) fn restart(&mut self, node: NodeId) {
        for other in NODES.map(NodeId) {
            if other != node {
                self.cut_link(node, other);
            }
        }
        self.waiting.retain(|_, by| *by != node);
        let host = self.host(node);
        host.log.truncate(host.synced);
        // The checkpoint's is older.
        let high_watermark = Offset::new(host.high_watermark.get() / 2);
        host.high_watermark = high_watermark.min(end(host.synced));
        host.replica = replica(node, &host.log, host.high_watermark);
        host.incarnation += 1;
        (host.follows, host.wish) = (false, None);
        let partition_epoch = self.image().partition_epoch;
        // What it led it leads in a new epoch, or somebody else does.
        self.host(node).known = partition_epoch;
        self.elect(Some(node));
        while self.host(node).known < self.image().partition_epoch {
            self.learn(node);
        }
        let image = self.image().clone();
        if image.leader != node {
            self.step(node, Event::Follow { epoch: image.epoch, leader: Some(image.leader) });
        }
    }

    /// A member of the ISR leads; `except`: it was fenced, and leaves the ISR where another is left.
    pub(super) fn elect(&mut self, except: Option<NodeId>) {
        let mut image = self.image().clone();
        if let Some(node) = except
            && image.isr.len() > 1
        {
            image.isr.remove(&node);
        }
        let members: Vec<NodeId> = image.isr.iter().copied().collect();
        let count = u64::try_from(members.len()).expect("few");
        image.leader = members[usize::try_from(self.dice.below(count)).expect("small")];
        image.epoch = image.epoch.next();
        image.partition_epoch += 1;
        self.images.push(image);
    }

    /// The controller decides about a wish: it takes it only against the newest state, with incarnations that live.
    pub(super) fn decide(&mut self, node: NodeId) {
        let Some(wish) = self.host(node).wish.take() else { return };
        let image = self.image().clone();
        let alive = wish.isr.iter().all(|(node, seen)| {
            let incarnation = Incarnation([self.hosts.get(node).expect("one of three").incarnation; 16]);
            seen.is_none_or(|seen| seen == incarnation)
        });
        if wish.partition_epoch != image.partition_epoch || !alive || self.dice.one_in(8) {
            return self.step(node, Event::IsrRefused { partition_epoch: wish.partition_epoch });
        }
        let isr = wish.isr.iter().map(|(node, _)| *node).collect();
        self.images.push(Image { partition_epoch: image.partition_epoch + 1, isr, ..image });
    }
}

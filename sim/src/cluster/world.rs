//! The cluster: hosts, links, clients' requests, and the one queue of what happens.
//!
//! Owns time and the order of events, and carries out the nodes' effects. Does not own clients, faults or judgement.
//! Invariant: every choice comes from the seed, so two runs of one seed have equal hashes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{Now, TopicPartition};
use node::effects::{Effect, Effects, ReplySink};
use node::peer::{Frame, Hello, Lost};
use node::requests::Answer;
use node::{Node, ReadWork};
use replication::metadata::record::LEVEL;

use super::ask::{Ask, Told};
use super::clock::true_wall_ms;
use super::connections::{Connections, Session};
use super::hash::Hash;
use super::host::{Ending, Host, Membership, Sizes};
use super::net::{Carried, HostIndex, LinkKey, Net};
use super::queue::{At, MILLISECOND, Queue, SECOND};
use crate::checker::{Checker, Event};
use crate::panics;
use crate::rng::Rng;

pub type ClientIndex = usize;

/// What happens in one simulated second at most. A busy one has some thousands; with more, somebody goes round in circles.
const EVENTS_PER_SECOND_MAX: u64 = 500_000;

/// Requests of no client: the answers to them are the world's own.
pub(super) const SHUT_DOWN: u64 = 1 << 63;

/// What is scheduled. `start`: of the process that it is meant for.
#[derive(Debug)]
pub(super) enum Happening {
    Tick {
        host: HostIndex,
        start: u64,
    },
    Disk {
        host: HostIndex,
        start: u64,
        number: u64,
    },
    Read {
        host: HostIndex,
        start: u64,
        work: Box<ReadWork>,
    },
    /// A process begins.
    Start {
        host: HostIndex,
    },
    /// It has written all down and ends by itself.
    Stopped {
        host: HostIndex,
        start: u64,
    },
    /// An attempt to make a link.
    Connect {
        key: LinkKey,
        start: u64,
    },
    Greeted {
        key: LinkKey,
        session: u64,
        hello: Box<Hello>,
        to: Option<model::NodeId>,
    },
    /// `start`: of the process that answers.
    Answered {
        key: LinkKey,
        session: u64,
        start: u64,
        welcome: Result<Box<Hello>, String>,
    },
    /// The sender learns that a link ended, or was not made.
    Failed {
        key: LinkKey,
        session: u64,
        why: Lost,
    },
    Arrived {
        key: LinkKey,
        session: u64,
        what: Carried,
    },
    /// The receiver learns that a link ended.
    Ended {
        key: LinkKey,
        session: u64,
    },
    Request {
        number: u64,
    },
    Answer {
        number: u64,
        told: Told,
    },
    Patience {
        number: u64,
    },
    Wake {
        client: ClientIndex,
    },
    Fault {
        number: u64,
    },
}

/// What the world leaves to others.
#[derive(Debug)]
pub enum Outside {
    Told { client: ClientIndex, number: u64, told: Told },
    Wake { client: ClientIndex },
    Fault { number: u64 },
}

pub(super) struct Asked {
    pub(super) client: ClientIndex,
    pub(super) host: HostIndex,
    pub(super) session: Session,
    /// The process that it is meant for.
    pub(super) start: u64,
    /// Where it is a produce.
    pub(super) place: Option<TopicPartition>,
    /// Until it arrives. It is lost on its way where this is `None` before.
    pub(super) ask: Option<Ask>,
}

#[derive(Default)]
pub(super) struct Inbox {
    pub(super) answers: Mutex<VecDeque<(u64, Answer)>>,
}

impl ReplySink for Inbox {
    fn reply(&self, request: u64, answer: Answer) {
        self.answers.lock().expect("one thread uses it").push_back((request, answer));
    }

    fn wake(&self, _request: u64) {}
}

/// Figures of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub events: u64,
    pub starts: u64,
    pub fatal: u64,
    pub frames: u64,
}

pub struct World {
    pub at: At,
    pub rng: Rng,
    pub hash: Hash,
    pub hosts: Vec<Host>,
    pub net_rng: Rng,
    pub counts: Counts,
    /// The second that it is, and what was counted when it began.
    second: (u64, u64),
    /// Nobody then keeps a single copy of anything.
    pub disks_lie: bool,
    /// The administrator says who votes in the metadata group. Then no machine gets an empty disk, but for one of three voters: two are all
    /// that may be left.
    pub voters_by_hand: bool,
    /// An administrator waits for an answer: what was decided may be in no image yet.
    pub commanded: bool,
    /// The first thing that went wrong; the run ends there.
    pub failure: Option<String>,
    pub(super) net: Net,
    pub(super) queue: Queue<Happening>,
    pub(super) founders: usize,
    /// The cluster is born: processes that start may be of a newer version than the ones before.
    pub(super) upgrading: bool,
    pub sizes: Sizes,
    /// What the head of every Raft message is.
    pub(super) raft_head: bytes::Bytes,
    checker: Checker,
    pub(super) inbox: Arc<Inbox>,
    pub(super) asked: BTreeMap<u64, Asked>,
    /// On their way, and their clients wait no longer.
    pub(super) orphans: BTreeMap<u64, (HostIndex, u64, Ask)>,
    pub(super) next_number: u64,
    pub(super) connections: Connections,
}

impl World {
    pub fn new(hosts: usize, founders: usize, mut rng: Rng) -> World {
        let sizes = Sizes::draw(&mut rng);
        // A quarter of the clusters begin as the version before had them.
        let level_max = if rng.chance(1, 4) { LEVEL - 1 } else { LEVEL };
        let mut machines: Vec<Host> = (0..hosts).map(|index| Host::new(index, rng.fork())).collect();
        for machine in &mut machines {
            machine.membership = if machine.index < founders { Membership::Member } else { Membership::Spare };
            machine.level_max = if machine.index < founders { level_max } else { LEVEL };
        }
        World {
            at: 0,
            hash: Hash::START,
            hosts: machines,
            net: Net::new(rng.fork()),
            net_rng: rng.fork(),
            counts: Counts::default(),
            second: (0, 0),
            disks_lie: false,
            voters_by_hand: false,
            commanded: false,
            failure: None,
            queue: Queue::default(),
            founders,
            upgrading: false,
            sizes,
            raft_head: Frame::raft(bytes::Bytes::new()).head,
            checker: Checker::new(),
            inbox: Arc::default(),
            asked: BTreeMap::new(),
            next_number: 1,
            orphans: BTreeMap::new(),
            connections: Connections::default(),
            rng,
        }
    }

    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.at)
    }

    /// What a right clock shows.
    pub fn true_wall_ms(&self) -> i64 {
        true_wall_ms(self.at)
    }

    pub fn fail(&mut self, what: impl Into<String>) {
        self.failure.get_or_insert_with(|| what.into());
    }

    /// Tells the checker.
    pub fn note(&mut self, event: &Event) {
        if let Err(violation) = self.checker.observe(Duration::from_nanos(self.at), event) {
            self.fail(violation.to_string());
        }
    }

    pub fn finish_history(&mut self) {
        if let Err(violation) = self.checker.finish() {
            self.fail(violation.to_string());
        }
    }

    pub fn now_of(&self, host: HostIndex) -> Now {
        self.hosts[host].clock.read(self.at)
    }

    pub(super) fn schedule(&mut self, after: At, what: Happening) {
        self.queue.push(self.at + after, what);
    }

    pub fn wake_client(&mut self, client: ClientIndex, after: At) {
        self.schedule(after, Happening::Wake { client });
    }

    pub fn fault_after(&mut self, after: At, number: u64) {
        self.schedule(after, Happening::Fault { number });
    }

    /// Lets time pass up to the next thing that is not the world's own, or to `until`.
    pub fn advance(&mut self, until: At) -> Option<Outside> {
        while self.failure.is_none() {
            let (at, what) = self.queue.pop()?;
            self.at = at.max(self.at);
            if at > until {
                self.queue.push(at, what);
                return None;
            }
            self.count_event(&what);
            if let Some(outside) = self.happen(what) {
                return Some(outside);
            }
        }
        None
    }

    /// Fails when nothing but events goes on.
    fn count_event(&mut self, what: &Happening) {
        self.counts.events += 1;
        let (second, before) = self.second;
        if self.at / SECOND != second {
            self.second = (self.at / SECOND, self.counts.events);
        } else if self.counts.events - before > EVENTS_PER_SECOND_MAX {
            self.fail(format!(
                "no progress: more than {EVENTS_PER_SECOND_MAX} events in second {second} of the simulation, now {what:?}"
            ));
        }
    }

    /// The process that this is meant for stands still: later.
    fn defer(&mut self, what: Happening) -> Option<Happening> {
        let host = match &what {
            Happening::Tick { host, .. } | Happening::Disk { host, .. } | Happening::Read { host, .. } => *host,
            Happening::Connect { key, .. } | Happening::Answered { key, .. } | Happening::Failed { key, .. } => {
                key.from
            }
            Happening::Greeted { key, .. } | Happening::Arrived { key, .. } | Happening::Ended { key, .. } => key.to,
            Happening::Request { number } => self.bound_for(*number)?,
            _ => return Some(what),
        };
        if self.hosts[host].paused {
            self.hosts[host].deferred.push(what);
            return None;
        }
        Some(what)
    }

    fn happen(&mut self, what: Happening) -> Option<Outside> {
        match self.defer(what)? {
            Happening::Tick { host, start } => self.tick(host, start),
            Happening::Disk { host, start, number } => self.disk_done(host, start, number),
            Happening::Read { host, start, work } => {
                if self.hosts[host].start == start {
                    let done = work.run(&*self.hosts[host].disk);
                    self.with_node(host, |node, now, fx| node.read_done(now, done, fx));
                }
            }
            Happening::Start { host } => self.start(host),
            Happening::Stopped { host, start } => {
                if self.hosts[host].start == start {
                    self.crash(host, Ending::Killed);
                }
            }
            Happening::Connect { key, start } => self.connect(key, start),
            Happening::Greeted { key, session, hello, to } => self.greeted(key, session, &hello, to),
            // Otherwise the attempt comes to nothing: who answered is gone.
            Happening::Answered { key, session, start, welcome } if self.hosts[key.to].start == start => {
                self.answered(key, session, welcome);
            }
            Happening::Answered { .. } => {}
            Happening::Failed { key, session, why } => self.link_failed(key, session, why),
            Happening::Arrived { key, session, what } => self.arrived(key, session, what),
            Happening::Ended { key, session } => self.link_ended(key, session),
            Happening::Request { number } => self.request(number),
            Happening::Answer { number, told } => {
                if matches!(told, Told::Lost) {
                    self.hang_up(number);
                }
                let client = self.close(number)?;
                return Some(Outside::Told { client, number, told });
            }
            Happening::Patience { number } => {
                self.hang_up(number);
                let client = self.close(number)?;
                self.hash.add(number);
                return Some(Outside::Told { client, number, told: Told::Lost });
            }
            Happening::Wake { client } => return Some(Outside::Wake { client }),
            Happening::Fault { number } => return Some(Outside::Fault { number }),
        }
        None
    }

    /// Lets the node do something and carries out what it wants.
    pub(super) fn with_node<T>(
        &mut self,
        host: HostIndex,
        act: impl FnOnce(&Node, Now, &mut Effects) -> T,
    ) -> Option<T> {
        let now = self.now_of(host);
        let mut fx = Effects::new();
        let _span = tracing::info_span!("at", ms = self.at / MILLISECOND, node = host + 1).entered();
        let node = self.hosts[host].node.as_ref()?;
        let result = act(node, now, &mut fx);
        if let Some(panic) = panics::take() {
            self.fail(format!("an assertion failed in node {}: {panic}", host + 1));
        }
        self.carry_out(host, fx);
        Some(result)
    }

    pub(super) fn carry_out(&mut self, host: HostIndex, fx: Effects) {
        let mut fatal = None;
        for effect in fx {
            match effect {
                Effect::Reply { to, answer } => to.sink.reply(to.request, answer),
                Effect::Wake { waiter } => waiter.sink.wake(waiter.request),
                Effect::Disk(op) => {
                    self.next_number += 1;
                    let number = self.next_number;
                    let (at, start) = (self.at, self.hosts[host].start);
                    let done = self.hosts[host].take_on(at, number, op);
                    self.queue.push(done, Happening::Disk { host, start, number });
                }
                Effect::Read(work) => {
                    let after = MILLISECOND / 10 + self.net_rng.below(2 * MILLISECOND);
                    let start = self.hosts[host].start;
                    self.schedule(after, Happening::Read { host, start, work: Box::new(work) });
                }
                Effect::TickBy { mono } => self.tick_by(host, mono),
                Effect::Send { to, lane, frame } => self.send(host, to, lane, frame),
                Effect::Link { peers } => self.want_links(host, &peers),
                Effect::Ready => self.hosts[host].ready = true,
                Effect::Fatal { reason } => fatal = Some(reason),
            }
        }
        self.deliver_answers(host);
        self.look_at_image(host);
        if let Some(reason) = fatal {
            self.on_fatal(host, &reason);
        }
    }

    pub(super) fn tick_by(&mut self, host: HostIndex, mono: Duration) {
        let target = &mut self.hosts[host];
        let at = target.clock.when(mono).max(self.at);
        if at < target.next_tick {
            target.next_tick = at;
            let start = target.start;
            self.queue.push(at, Happening::Tick { host, start });
        }
    }

    fn tick(&mut self, host: HostIndex, start: u64) {
        let target = &mut self.hosts[host];
        if target.start != start || target.next_tick > self.at {
            return;
        }
        target.next_tick = At::MAX;
        let now = self.now_of(host);
        if let Some(pause) = self.with_node(host, |node, now, fx| node.tick(now, fx)) {
            self.tick_by(host, now.mono + pause);
        }
    }

    pub fn speed_up_disk(&mut self, host: HostIndex) {
        let start = self.hosts[host].start;
        for (number, done) in self.hosts[host].speed_up(self.at) {
            self.queue.push(done, Happening::Disk { host, start, number });
        }
    }

    fn disk_done(&mut self, host: HostIndex, start: u64, number: u64) {
        if self.hosts[host].start != start {
            return;
        }
        let Some(running) = self.hosts[host].running.remove(&number) else { return };
        let span = tracing::trace_span!("disk", ms = self.at / MILLISECOND, node = host + 1);
        let result = span.in_scope(|| running.op.run(&*self.hosts[host].disk));
        self.hash.add(number ^ u64::from(result.is_ok()));
        self.with_node(host, |node, now, fx| node.disk_done(now, running.op.ticket, result, fx));
    }
}

//! The cluster: hosts, links, clients' requests, and the one queue of what happens.
//!
//! Owns time and the order of events, and carries out the nodes' effects. Does not own clients, faults or judgement.
//! Invariant: every choice comes from the seed, so two runs of one seed have equal hashes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::Now;
use node::effects::{Effect, Effects, ReplySink, ReplyTo};
use node::peer::{Frame, Hello, Lost};
use node::requests::Answer;
use node::{Node, ReadWork};
use storage::disk::Disk;

use super::ask::{Ask, Told};
use super::clock::true_wall_ms;
use super::hash::Hash;
use super::host::{Ending, Host, Sizes};
use super::net::{Carried, HostIndex, LinkKey, Net, Weather};
use super::queue::{At, MILLISECOND, Queue, SECOND};
use crate::checker::{Checker, Event};
use crate::panics;
use crate::rng::Rng;

pub type ClientIndex = usize;

/// What happens in one simulated second at most. A busy one has some thousands; with more, somebody goes round in circles.
const EVENTS_PER_SECOND_MAX: u64 = 500_000;

/// Requests of no client: the answers to them are the world's own.
const SHUT_DOWN: u64 = 1 << 63;

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
    Answered {
        key: LinkKey,
        session: u64,
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

struct Asked {
    client: ClientIndex,
    host: HostIndex,
    /// Until it arrives.
    ask: Option<Ask>,
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
    /// The first thing that went wrong; the run ends there.
    pub failure: Option<String>,
    pub(super) net: Net,
    pub(super) queue: Queue<Happening>,
    pub(super) founders: usize,
    pub sizes: Sizes,
    /// What the head of every Raft message is.
    pub(super) raft_head: bytes::Bytes,
    checker: Checker,
    inbox: Arc<Inbox>,
    asked: BTreeMap<u64, Asked>,
    next_number: u64,
    /// When the last request or answer between a client and a host arrives.
    connections: BTreeMap<(ClientIndex, HostIndex), At>,
    /// Hosts that clients cannot reach.
    pub(super) cut_off: Vec<bool>,
}

impl World {
    pub fn new(hosts: usize, founders: usize, mut rng: Rng) -> World {
        let sizes = Sizes::draw(&mut rng);
        World {
            at: 0,
            hash: Hash::START,
            hosts: (0..hosts).map(|index| Host::new(index, rng.fork())).collect(),
            net: Net::new(rng.fork()),
            net_rng: rng.fork(),
            counts: Counts::default(),
            second: (0, 0),
            failure: None,
            queue: Queue::default(),
            founders,
            sizes,
            raft_head: Frame::raft(bytes::Bytes::new()).head,
            checker: Checker::new(),
            inbox: Arc::default(),
            asked: BTreeMap::new(),
            next_number: 1,
            connections: BTreeMap::new(),
            cut_off: vec![false; hosts],
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
            Happening::Request { number } => match self.asked.get(number) {
                Some(asked) => asked.host,
                None => return None,
            },
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
            Happening::Answered { key, session, welcome } => self.answered(key, session, welcome),
            Happening::Failed { key, session, why } => self.link_failed(key, session, why),
            Happening::Arrived { key, session, what } => self.arrived(key, session, what),
            Happening::Ended { key, session } => self.link_ended(key, session),
            Happening::Request { number } => self.request(number),
            Happening::Answer { number, told } => {
                let asked = self.asked.remove(&number)?;
                return Some(Outside::Told { client: asked.client, number, told });
            }
            Happening::Patience { number } => {
                let asked = self.asked.remove(&number)?;
                self.hash.add(number);
                return Some(Outside::Told { client: asked.client, number, told: Told::Lost });
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

    fn carry_out(&mut self, host: HostIndex, fx: Effects) {
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

    fn tick_by(&mut self, host: HostIndex, mono: Duration) {
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

    /// Begins a process on what the disk holds.
    fn start(&mut self, host: HostIndex) {
        if self.hosts[host].is_up() {
            return;
        }
        self.counts.starts += 1;
        self.hosts[host].powered = true;
        // A machine sets its clock before it starts a process: what a process finds at its start it has to believe.
        let at = self.at;
        self.hosts[host].clock.mend(at);
        let config = self.hosts[host].config(self.sizes, self.founders);
        let disk: Arc<dyn Disk> = self.hosts[host].disk.clone();
        let (seed, now) = (self.rng.next_u64(), self.now_of(host));
        let mut fx = Effects::new();
        match Node::open(config, disk, seed, now, &mut fx) {
            Ok(node) => {
                self.hosts[host].node = Some(node);
                self.hash.add(seed);
                self.carry_out(host, fx);
                self.tick_by(host, now.mono);
            }
            // A first start needs room for a journal; later ones need none.
            Err(_) if self.hosts[host].excused || self.hosts[host].is_fresh() => self.restart_after(host, SECOND),
            Err(error) => self.fail(format!("node {} cannot start: {error}", host + 1)),
        }
    }

    /// The process ends, in whatever it does.
    pub fn crash(&mut self, host: HostIndex, ending: Ending) {
        if !self.hosts[host].is_up() {
            return;
        }
        self.hash.add(host as u64 ^ 0xDEAD);
        let at = self.at;
        self.hosts[host].end(at, ending);
        self.links_of_the_dead(host, ending);
        let lost: Vec<u64> =
            self.asked.iter().filter(|(_, asked)| asked.host == host).map(|(number, _)| *number).collect();
        if ending == Ending::Killed {
            for number in lost {
                self.schedule(MILLISECOND, Happening::Answer { number, told: Told::Lost });
            }
        }
    }

    pub fn restart_after(&mut self, host: HostIndex, after: At) {
        self.schedule(after, Happening::Start { host });
    }

    pub fn pause(&mut self, host: HostIndex) {
        self.hosts[host].paused = self.hosts[host].is_up();
    }

    pub fn resume(&mut self, host: HostIndex) {
        if std::mem::take(&mut self.hosts[host].paused) {
            for what in std::mem::take(&mut self.hosts[host].deferred) {
                self.schedule(0, what);
            }
        }
    }

    pub fn start_or_restart(&mut self, host: HostIndex) {
        if !self.hosts[host].is_up() {
            self.restart_after(host, 0);
        }
    }

    /// The disk works again; the process that it failed goes, as an operator would have it.
    pub fn replace_failing_disk(&mut self, host: HostIndex) {
        self.hosts[host].disk.set_failing_syncs(false);
        self.crash(host, Ending::Killed);
        self.hosts[host].excused = false;
        self.restart_after(host, 10 * MILLISECOND);
    }

    /// The machine gets an empty disk.
    pub fn wipe(&mut self, host: HostIndex) {
        self.hosts[host].wipe();
    }

    pub fn set_weather(&mut self, weather: Weather) {
        self.net.weather = weather;
    }

    /// Its timers are due at other times now.
    pub fn clock_changed(&mut self, host: HostIndex) {
        let target = &mut self.hosts[host];
        if target.is_up() {
            target.next_tick = self.at;
            let start = target.start;
            self.queue.push(self.at, Happening::Tick { host, start });
        }
    }

    /// Begins an orderly stop.
    pub fn stop(&mut self, host: HostIndex) {
        let reply = ReplyTo { sink: self.inbox.clone(), request: SHUT_DOWN | host as u64 };
        self.with_node(host, |node, now, fx| node.shutdown(now, reply, fx));
    }

    /// The node gave up, as it must when its journal's disk fails.
    fn on_fatal(&mut self, host: HostIndex, reason: &str) {
        self.counts.fatal += 1;
        tracing::debug!(host, reason, "a node gave up");
        if !self.hosts[host].excused {
            return self.fail(format!("node {} gave up: {reason}", host + 1));
        }
        self.crash(host, Ending::Killed);
        self.restart_after(host, SECOND);
    }

    /// Hands a request over. Its end is told under the number given.
    pub fn ask(&mut self, client: ClientIndex, host: HostIndex, ask: Ask, patience: At) -> u64 {
        self.next_number += 1;
        let number = self.next_number;
        self.asked.insert(number, Asked { client, host, ask: Some(ask) });
        self.schedule(patience, Happening::Patience { number });
        if !self.cut_off[host] {
            let arrives = self.arrival(client, host);
            self.queue.push(arrives, Happening::Request { number });
        }
        number
    }

    /// In order within a connection.
    fn arrival(&mut self, client: ClientIndex, host: HostIndex) -> At {
        let delay = 100_000 + self.net_rng.below(400_000);
        let last = self.connections.entry((client, host)).or_default();
        *last = (*last).max(self.at + delay) + 1;
        *last
    }

    fn request(&mut self, number: u64) {
        let Some(asked) = self.asked.get_mut(&number) else { return };
        let (host, Some(ask)) = (asked.host, asked.ask.take()) else { return };
        if !self.hosts[host].is_up() {
            return self.schedule(MILLISECOND, Happening::Answer { number, told: Told::Lost });
        }
        self.hash.add(number);
        let reply = ReplyTo { sink: self.inbox.clone(), request: number };
        if let Some(told) = self.with_node(host, |node, now, fx| ask.put_to(node, now, reply, fx)).flatten() {
            self.answer(host, number, told);
        }
    }

    fn answer(&mut self, host: HostIndex, number: u64, told: Told) {
        let Some(asked) = self.asked.get(&number) else { return };
        if !self.cut_off[host] {
            let arrives = self.arrival(asked.client, host);
            self.queue.push(arrives, Happening::Answer { number, told });
        }
    }

    fn deliver_answers(&mut self, host: HostIndex) {
        loop {
            let next = self.inbox.answers.lock().expect("one thread uses it").pop_front();
            let Some((number, answer)) = next else { return };
            if number & SHUT_DOWN == 0 {
                self.hash.add(number);
                self.answer(host, number, Told::Answer(answer));
            } else {
                self.schedule(0, Happening::Stopped { host, start: self.hosts[host].start });
            }
        }
    }
}

//! A world of several nodes in one thread: carries out their effects in the order of a clock that is kept by hand.
//!
//! Owns the clock, the queue of what happens when, the links between the nodes, and which process runs. Disks are real folders whose
//! operations take a while; frames take a while too. The same script gives the same run.

#![allow(dead_code, reason = "each test uses its part")]

pub mod bed;
mod net;
#[path = "../world/small_disk.rs"]
mod small_disk;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::{NodeId, Now, TopicName};
use net::Net;
use node::config::NodeConfig;
use node::effects::{Effect, Effects, ReplySink, ReplyTo};
use node::peer::PeerEvent;
use node::requests::{Answer, NewTopic};
use node::{Node, ReadDone};
use replication::metadata::{Image, Listener, PEER_LISTENER};
use small_disk::SmallDisk;
use storage::disk::{Disk, DiskError, DiskOp, Lane, RealDisk, Ticket};

/// What a disk operation takes.
const DISK: Duration = Duration::from_micros(400);

struct NoSink;

impl ReplySink for NoSink {
    fn reply(&self, _: u64, _: Answer) {}
    fn wake(&self, _: u64) {}
}

pub struct Cluster {
    pub now: Now,
    members: BTreeMap<NodeId, Member>,
    net: Net,
    queue: BTreeMap<(Duration, u64), Event>,
    next: u64,
    starts: u64,
    folder: tempfile::TempDir,
    /// Of each node's disk, where that is not the machine's own.
    disk_bytes: Option<u64>,
    join: Vec<String>,
    pub answers: BTreeMap<u64, Answer>,
    /// A digest of everything that was sent.
    pub trace: u64,
}

struct Member {
    dir: PathBuf,
    process: Option<Process>,
    /// Runs, but gets no time.
    paused: bool,
    held: VecDeque<Event>,
    /// What its disk is asked for does not end.
    hangs: bool,
    unended: Vec<Event>,
}

struct Process {
    number: u64,
    node: Node,
    disk: Arc<dyn Disk>,
    small: Option<Arc<SmallDisk>>,
    tick_at: Duration,
    /// When each lane of the disk is free.
    lanes: BTreeMap<Lane, Duration>,
    ready: bool,
    fatal: Option<String>,
}

#[derive(Debug)]
enum Event {
    Tick {
        node: NodeId,
        process: u64,
    },
    DiskDone {
        node: NodeId,
        process: u64,
        ticket: Ticket,
        result: Result<(), DiskError>,
    },
    Peer {
        node: NodeId,
        process: u64,
        event: PeerEvent,
    },
    ReadDone {
        node: NodeId,
        process: u64,
        done: ReadDone,
    },
    /// The net tries the links of this node again.
    Connect {
        node: NodeId,
        process: u64,
    },
}

impl Event {
    fn target(&self) -> (NodeId, u64) {
        match self {
            Event::Tick { node, process }
            | Event::DiskDone { node, process, .. }
            | Event::Peer { node, process, .. }
            | Event::ReadDone { node, process, .. }
            | Event::Connect { node, process } => (*node, *process),
        }
    }
}

pub fn address(node: i32) -> String {
    format!("node{node}:9093")
}

pub fn name(raw: &str) -> TopicName {
    TopicName::new(raw).expect("a valid name")
}

impl Cluster {
    /// Nobody runs yet. `founders`: all of them are on everybody's join list.
    pub fn new(founders: &[i32]) -> Cluster {
        Cluster {
            now: Now { mono: Duration::from_secs(1_000), wall_ms: 1_700_000_000_000 },
            members: BTreeMap::new(),
            net: Net::default(),
            queue: BTreeMap::new(),
            next: 0,
            starts: 0,
            folder: tempfile::tempdir().expect("a folder for the test"),
            disk_bytes: None,
            join: founders.iter().map(|node| address(*node)).collect(),
            answers: BTreeMap::new(),
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// All founders run, and are ready.
    pub fn founded(founders: &[i32]) -> Cluster {
        let mut cluster = Cluster::new(founders);
        cluster.start_all(founders);
        cluster
    }

    /// The same on small disks.
    pub fn founded_on(disk_bytes: u64, founders: &[i32]) -> Cluster {
        let mut cluster = Cluster::new(founders);
        cluster.disk_bytes = Some(disk_bytes);
        cluster.start_all(founders);
        cluster
    }

    fn start_all(&mut self, founders: &[i32]) {
        founders.iter().for_each(|node| self.start(*node));
        self.until("all are ready", 1_000, |cluster| founders.iter().all(|node| cluster.is_ready(*node)));
    }

    /// So many bytes are free on a small disk.
    pub fn set_free(&mut self, node: i32, bytes: u64) {
        self.running_process(NodeId(node)).small.as_ref().expect("the disks are small").set_free(bytes);
    }

    /// The join list of nodes that are started from now on.
    pub fn set_join(&mut self, nodes: &[i32]) {
        self.join = nodes.iter().map(|node| address(*node)).collect();
    }

    /// Another process of the node, on what its disk holds.
    pub fn start(&mut self, node: i32) {
        self.try_start(node).expect("the directory opens");
    }

    /// # Errors
    /// When the directory does not open: then the node does not run.
    pub fn try_start(&mut self, node: i32) -> Result<(), node::OpenError> {
        self.starts += 1;
        let (id, number) = (NodeId(node), self.starts);
        let (dir, disk_bytes) = (self.folder.path().join(format!("node{node}")), self.disk_bytes);
        let member = self.members.entry(id).or_insert_with(|| Member {
            dir,
            process: None,
            paused: false,
            held: VecDeque::new(),
            hangs: false,
            unended: Vec::new(),
        });
        assert!(member.process.is_none(), "node {node} runs already");
        let listener = |name: &str, port| Listener { name: name.to_owned(), host: format!("node{node}"), port };
        let config = NodeConfig {
            boot_id: "boot".to_owned(),
            join: self.join.clone(),
            listeners: vec![listener("PLAINTEXT", 9092), listener(PEER_LISTENER, 9093)],
            ..NodeConfig::new(id, member.dir.clone())
        };
        let small = disk_bytes.map(|size| Arc::new(SmallDisk::new(&member.dir, size)));
        let disk = match &small {
            Some(small) => Arc::clone(small) as Arc<dyn Disk>,
            None => Arc::new(RealDisk::new(&member.dir, 64)),
        };
        let mut fx = Effects::new();
        let seed = number << 32 | u64::try_from(node).expect("not negative");
        let opened = Node::open(config, Arc::clone(&disk), seed, self.now, &mut fx)?;
        let tick_at = self.now.mono;
        let process =
            Process { number, node: opened, disk, small, tick_at, lanes: BTreeMap::new(), ready: false, fatal: None };
        self.member(id).process = Some(process);
        self.schedule(Duration::ZERO, Event::Tick { node: id, process: number });
        self.net_started(id);
        self.take(id, fx);
        Ok(())
    }

    /// Its data directory.
    pub fn dir(&self, node: i32) -> PathBuf {
        self.folder.path().join(format!("node{node}"))
    }

    /// Kills the process: what its disk was not asked for is gone.
    pub fn kill(&mut self, node: i32) {
        let id = NodeId(node);
        let member = self.member(id);
        member.process = None;
        member.paused = false;
        member.held.clear();
        member.unended.clear();
        self.net_died(id);
    }

    /// The process gets no time from now on; its links stay.
    pub fn pause(&mut self, node: i32) {
        self.member(NodeId(node)).paused = true;
    }

    pub fn resume(&mut self, node: i32) {
        let member = self.member(NodeId(node));
        member.paused = false;
        for event in std::mem::take(&mut member.held) {
            self.schedule(Duration::ZERO, event);
        }
    }

    /// No write or sync of its disk ends from now on.
    pub fn hang_disk(&mut self, node: i32) {
        self.member(NodeId(node)).hangs = true;
    }

    pub fn mend_disk(&mut self, node: i32) {
        let member = self.member(NodeId(node));
        member.hangs = false;
        for event in std::mem::take(&mut member.unended) {
            self.schedule(Duration::ZERO, event);
        }
    }

    /// Its disk is gone; it does not run.
    pub fn wipe(&mut self, node: i32) {
        let member = self.member(NodeId(node));
        assert!(member.process.is_none(), "node {node} runs");
        std::fs::remove_dir_all(&member.dir).expect("its folder can be removed");
    }

    fn member(&mut self, node: NodeId) -> &mut Member {
        self.members.get_mut(&node).expect("a node that was started once")
    }

    fn process(&self, node: NodeId) -> Option<&Process> {
        self.members.get(&node)?.process.as_ref()
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.next += 1;
        self.queue.insert((self.now.mono + after, self.next), event);
    }

    pub fn node(&self, node: i32) -> &Node {
        &self.process(NodeId(node)).expect("it runs").node
    }

    pub fn image(&self, node: i32) -> Arc<Image> {
        self.node(node).image()
    }

    pub fn is_ready(&self, node: i32) -> bool {
        self.process(NodeId(node)).is_some_and(|process| process.ready)
    }

    pub fn fatal(&self, node: i32) -> Option<String> {
        self.process(NodeId(node))?.fatal.clone()
    }

    /// Ascending.
    pub fn running(&self) -> Vec<i32> {
        self.members.iter().filter(|(_, member)| member.process.is_some()).map(|(node, _)| node.0).collect()
    }

    /// Whom all running nodes take for the controller, when they agree.
    pub fn controller(&self) -> Option<i32> {
        let mut seen = self.running().into_iter().map(|node| self.image(node).controller());
        let first = seen.next()??;
        seen.all(|other| other == Some(first)).then_some(first.0)
    }

    /// Calls a node and carries out its effects.
    pub fn call<T>(&mut self, node: i32, call: impl FnOnce(&Node, Now, &mut Effects) -> T) -> T {
        let mut fx = Effects::new();
        let result = call(self.node(node), self.now, &mut fx);
        self.take(NodeId(node), fx);
        result
    }

    pub fn request(&mut self) -> ReplyTo {
        self.next += 1;
        ReplyTo { sink: Arc::new(NoSink), request: self.next }
    }

    /// Sends a request to a node; the number of its answer.
    pub fn ask(&mut self, node: i32, ask: impl FnOnce(&Node, Now, ReplyTo, &mut Effects)) -> u64 {
        let reply = self.request();
        let request = reply.request;
        self.call(node, |node, now, fx| ask(node, now, reply, fx));
        request
    }

    pub fn create_topic(&mut self, node: i32, topic: &str, partitions: u32) -> u64 {
        let topic = NewTopic { partitions: Some(partitions), ..NewTopic::with_defaults(name(topic)) };
        self.ask(node, |node, now, reply, fx| node.create_topics(now, vec![topic], false, reply, fx))
    }

    /// Waits for an answer.
    pub fn answer(&mut self, request: u64, millis: u64) -> Answer {
        self.until("the answer is there", millis, |cluster| cluster.answers.contains_key(&request));
        self.answers.remove(&request).expect("it is there")
    }

    fn take(&mut self, id: NodeId, fx: Effects) {
        let Some(number) = self.process(id).map(|process| process.number) else { return };
        for effect in fx {
            match effect {
                Effect::Reply { to, answer } => {
                    let before = self.answers.insert(to.request, answer);
                    assert!(before.is_none(), "request {} was answered twice", to.request);
                }
                Effect::Wake { .. } => {}
                Effect::Disk(op) => self.start_disk(id, number, op),
                Effect::Read(work) => {
                    let done = work.run(&*self.running_process(id).disk);
                    self.schedule(DISK, Event::ReadDone { node: id, process: number, done });
                }
                Effect::TickBy { mono } => self.tick_by(id, mono),
                Effect::Send { to, lane, frame } => self.net_send(id, to, lane, frame),
                Effect::Link { peers } => self.net_link(id, peers),
                Effect::Ready => self.running_process(id).ready = true,
                Effect::Fatal { reason } => self.running_process(id).fatal = Some(reason),
            }
        }
    }

    fn running_process(&mut self, id: NodeId) -> &mut Process {
        self.member(id).process.as_mut().expect("it runs")
    }

    fn start_disk(&mut self, id: NodeId, number: u64, op: DiskOp) {
        let now = self.now.mono;
        let process = self.running_process(id);
        let result = op.run(&*process.disk);
        let free = process.lanes.entry(op.lane).or_insert(now);
        *free = now.max(*free) + DISK;
        let wait = *free - now;
        self.schedule(wait, Event::DiskDone { node: id, process: number, ticket: op.ticket, result });
    }

    fn tick_by(&mut self, id: NodeId, mono: Duration) {
        let now = self.now.mono;
        let process = self.running_process(id);
        if mono < process.tick_at || process.tick_at <= now {
            process.tick_at = mono.max(now);
            let (node, process) = (id, process.number);
            self.schedule(mono.saturating_sub(now), Event::Tick { node, process });
        }
    }

    /// Until the condition holds.
    ///
    /// # Panics
    /// After so much time of this world.
    pub fn until(&mut self, what: &str, millis: u64, mut holds: impl FnMut(&mut Cluster) -> bool) -> Duration {
        let begin = self.now.mono;
        let end = begin + Duration::from_millis(millis);
        while !holds(self) {
            assert!(self.step(end), "after {millis} ms: not so that {what}; {}", self.describe());
        }
        self.now.mono - begin
    }

    pub fn pass(&mut self, millis: u64) {
        self.pass_micros(1_000 * millis);
    }

    pub fn pass_micros(&mut self, micros: u64) {
        let end = self.now.mono + Duration::from_micros(micros);
        while self.step(end) {}
    }

    fn describe(&self) -> String {
        let one = |node: &i32| {
            let image = self.image(*node);
            let nodes: Vec<(i32, bool)> = image.nodes().iter().map(|(node, info)| (node.0, info.fenced)).collect();
            format!(
                "node {node}: controller {:?}, ready {}, voters {:?}, nodes (fenced) {nodes:?}, waits {:?}, fatal {:?}",
                image.controller(),
                self.is_ready(*node),
                image.voters(),
                self.node(*node).waiting(),
                self.fatal(*node)
            )
        };
        self.running().iter().map(one).collect::<Vec<_>>().join("; ")
    }

    /// What happens next, unless that is after `end`.
    fn step(&mut self, end: Duration) -> bool {
        let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) else {
            self.set_time(end);
            return false;
        };
        let ((at, _), event) = entry.remove_entry();
        self.set_time(at);
        let (id, number) = event.target();
        let Some(member) = self.members.get_mut(&id) else { return true };
        if member.process.as_ref().is_none_or(|process| process.number != number) {
            return true;
        }
        if member.hangs && matches!(event, Event::DiskDone { .. }) {
            member.unended.push(event);
            return true;
        }
        if member.paused {
            member.held.push_back(event);
            return true;
        }
        self.happen(id, event);
        true
    }

    fn happen(&mut self, id: NodeId, event: Event) {
        match event {
            Event::Tick { process, .. } => {
                let now = self.now.mono;
                if self.running_process(id).tick_at > now {
                    return;
                }
                let wait = self.call(id.0, |node, now, fx| node.tick(now, fx)).max(Duration::from_millis(1));
                let process_now = self.running_process(id);
                process_now.tick_at = now + wait;
                self.schedule(wait, Event::Tick { node: id, process });
            }
            Event::DiskDone { ticket, result, .. } => {
                self.call(id.0, |node, now, fx| node.disk_done(now, ticket, result, fx));
            }
            Event::Peer { event, .. } => {
                if self.net_is_current(id, &event) {
                    self.call(id.0, |node, now, fx| node.peer(now, event, fx));
                }
            }
            Event::ReadDone { done, .. } => self.call(id.0, |node, now, fx| node.read_done(now, done, fx)),
            Event::Connect { .. } => self.net_connect(id),
        }
    }

    fn set_time(&mut self, mono: Duration) {
        let passed = mono.saturating_sub(self.now.mono);
        self.now.wall_ms += i64::try_from(passed.as_millis()).expect("short");
        self.now.mono = mono;
    }
}

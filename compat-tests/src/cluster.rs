//! A cluster under test: processes of Weir on one machine that a test may end, stop, cut off and start again one by one.
//!
//! `WEIR_COMPAT_CLUSTER=kafka` runs the same tests on Apache Kafka, to check the tests; `kafka-tuned` on a Kafka set to fail over fast.
//! Owns the nodes and their folders. Does not own load or judgement (`history`, `checker`).
//! Invariant: a node keeps its addresses and its data over restarts; every process is gone when the cluster is dropped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use crate::admin::{Admin, Partition};
use crate::broker::{Ready, free_port};
use crate::kafka_node::{self, Flavour};
use crate::paths;
use crate::program::{Program, run, wait_until};

const READY_MAX: Duration = Duration::from_secs(120);
const STOP_MAX: Duration = Duration::from_secs(60);
const NODE_COMMAND_MAX: Duration = Duration::from_secs(120);
/// A port that was free may be taken by the time it is used; then all are chosen anew.
const START_TRIES: usize = 3;

/// What the nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Weir,
    Kafka(Flavour),
}

impl Kind {
    /// Weir, unless the environment says otherwise.
    pub fn from_environment() -> Result<Kind> {
        match std::env::var("WEIR_COMPAT_CLUSTER").as_deref() {
            Err(_) | Ok("weir") => Ok(Kind::Weir),
            Ok("kafka") => Ok(Kind::Kafka(Flavour::Default)),
            Ok("kafka-tuned") => Ok(Kind::Kafka(Flavour::Tuned)),
            Ok(other) => bail!("WEIR_COMPAT_CLUSTER={other}: not weir, kafka or kafka-tuned"),
        }
    }
}

/// Where a node runs and with what around it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The address that it binds.
    pub host: String,
    /// Words in front of the command, such as `nsenter -n -t 17`.
    pub enter: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Its data directory; nothing: one inside the cluster's folder.
    pub data: Option<PathBuf>,
}

impl Default for Place {
    fn default() -> Place {
        Place { host: "127.0.0.1".into(), enter: Vec::new(), environment: Vec::new(), data: None }
    }
}

/// What is to be started.
#[derive(Clone, Debug)]
pub struct Plan {
    pub name: String,
    pub kind: Kind,
    /// Node ids from 1 on, one for each place.
    pub places: Vec<Place>,
    /// `key=value` for every node.
    pub settings: Vec<String>,
    /// The binary of Weir; nothing: the one that cargo builds.
    pub binary: Option<PathBuf>,
}

impl Plan {
    /// So many nodes on loopback, of the kind that the environment names.
    pub fn new(name: &str, nodes: usize) -> Result<Plan> {
        let (kind, places) = (Kind::from_environment()?, vec![Place::default(); nodes]);
        Ok(Plan { name: name.into(), kind, places, settings: Vec::new(), binary: None })
    }
}

/// One process of the cluster.
#[derive(Debug)]
pub struct Node {
    pub id: u32,
    /// `HOST:PORT` for clients.
    pub kafka: String,
    /// `HOST:PORT` for the other nodes (Kafka: its controller).
    pub peer: String,
    pub http: String,
    pub data: PathBuf,
    place: Place,
    /// The peer addresses that it is told of: of all founders, or of the members when it was added.
    join: String,
    program: Option<Program>,
    started: Instant,
}

impl Node {
    pub fn pid(&self) -> Option<u32> {
        self.program.as_ref().map(Program::pid)
    }

    pub fn is_running(&self) -> bool {
        self.program.is_some()
    }

    /// Everything that this start has written to stderr.
    pub fn log(&self) -> String {
        self.program.as_ref().and_then(|program| program.errors().ok()).unwrap_or_default()
    }

    fn new(id: u32, place: Place, folder: &Path) -> Result<Node> {
        let address = || Ok::<_, anyhow::Error>(format!("{}:{}", place.host, free_port()?));
        let data = place.data.clone().unwrap_or_else(|| folder.join(format!("node{id}")));
        let (kafka, peer, http) = (address()?, address()?, address()?);
        let (join, started) = (String::new(), Instant::now());
        Ok(Node { id, kafka, peer, http, data, place, join, program: None, started })
    }
}

fn peers(nodes: &BTreeMap<u32, Node>) -> String {
    nodes.values().map(|node| node.peer.as_str()).collect::<Vec<_>>().join(",")
}

/// The nodes by id.
#[derive(Debug)]
pub struct Cluster {
    pub plan: Plan,
    pub nodes: BTreeMap<u32, Node>,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// Starts all nodes at once and waits until each knows of all.
    pub fn start(plan: Plan) -> Result<Cluster> {
        let mut last = None;
        for _ in 0..START_TRIES {
            let mut cluster = Cluster::prepare(plan.clone())?;
            match cluster.up_all() {
                Ok(_) => return Ok(cluster),
                Err(error) if format!("{error:#}").contains("in use") => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.context("START_TRIES is not 0")?)
    }

    /// Chooses addresses and folders and starts nothing.
    pub fn prepare(plan: Plan) -> Result<Cluster> {
        let folder = tempfile::Builder::new().prefix("weir-cluster-").tempdir()?;
        let mut nodes = BTreeMap::new();
        for (id, place) in (1..).zip(&plan.places) {
            nodes.insert(id, Node::new(id, place.clone(), folder.path())?);
        }
        let join = peers(&nodes);
        nodes.values_mut().for_each(|node: &mut Node| node.join.clone_from(&join));
        let cluster = Cluster { plan, nodes, folder };
        if let Kind::Kafka(flavour) = cluster.plan.kind {
            kafka_node::format(cluster.folder.path(), &cluster.nodes, flavour, &cluster.plan.settings)?;
        }
        Ok(cluster)
    }

    /// Starts every node that does not run, all at once; the time until each names all members.
    pub fn up_all(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        let down: Vec<u32> = self.nodes.values().filter(|node| !node.is_running()).map(|node| node.id).collect();
        down.iter().try_for_each(|id| self.launch(*id))?;
        down.iter().try_for_each(|id| self.wait_ready(*id))?;
        self.wait_for_members(self.nodes.len())?;
        Ok(begun.elapsed())
    }

    /// Starts one node on its data and waits for its ready line.
    pub fn up(&mut self, id: u32) -> Result<()> {
        self.launch(id)?;
        self.wait_ready(id)
    }

    /// One more node, with the next id and an empty folder; it joins what is there.
    pub fn add(&mut self, place: Place) -> Result<u32> {
        ensure!(self.plan.kind == Kind::Weir, "only Weir adds nodes here");
        let id = self.nodes.keys().next_back().map_or(1, |last| last + 1);
        let node = Node { join: peers(&self.nodes), ..Node::new(id, place, self.folder.path())? };
        self.nodes.insert(id, node);
        self.up(id)?;
        Ok(id)
    }

    /// Starts the process and does not wait.
    pub fn launch(&mut self, id: u32) -> Result<()> {
        let command = self.command(id)?;
        let name = format!("{}-{id}", self.plan.name);
        let node = self.node_mut(id)?;
        ensure!(node.program.is_none(), "node {id} is running");
        let mut words = node.place.enter.iter();
        let mut wrapped = match words.next() {
            Some(first) => {
                let mut wrapped = Command::new(first);
                wrapped.args(words).arg(command.get_program()).args(command.get_args());
                wrapped.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
                wrapped
            }
            None => command,
        };
        wrapped.envs(node.place.environment.iter().map(|(key, value)| (key, value))).stdin(Stdio::null());
        node.started = Instant::now();
        node.program = Some(Program::start(&name, &mut wrapped)?);
        Ok(())
    }

    /// `weir node ARGUMENTS`, said to the node with this id.
    pub fn node_command(&self, at: u32, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(self.binary()?);
        command.arg("node").args(arguments).args(["--bootstrap", &self.node(at)?.kafka]);
        let (program, status) = run("weir-node", &mut command, "", NODE_COMMAND_MAX)?;
        ensure!(status.success(), "weir node {arguments:?} ended with {status}\n{}", program.tail());
        Ok(())
    }

    fn binary(&self) -> Result<PathBuf> {
        self.plan.binary.clone().map_or_else(paths::weir, Ok)
    }

    fn command(&self, id: u32) -> Result<Command> {
        let node = self.node(id)?;
        if let Kind::Kafka(_) = self.plan.kind {
            return kafka_node::command(self.folder.path(), id);
        }
        let mut command = Command::new(self.binary()?);
        // what is ours is no setting of Weir's
        let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WEIR_COMPAT_"));
        for (name, _) in ours {
            command.env_remove(name);
        }
        command.args(["serve", "--node-id", &id.to_string(), "--listen", &node.kafka, "--http", &node.http]);
        command.args(["--peer-listen", &node.peer, "--join", &node.join, "--data-dir"]).arg(&node.data);
        self.plan.settings.iter().for_each(|setting| {
            command.args(["--set", setting]);
        });
        Ok(command)
    }

    /// Waits until a started node says that it serves clients.
    pub fn wait_ready(&mut self, id: u32) -> Result<()> {
        let kind = self.plan.kind;
        let node = self.node_mut(id)?;
        let kafka = node.kafka.clone();
        let program = node.program.as_mut().with_context(|| format!("node {id} was not started"))?;
        wait_until("a node that serves clients", READY_MAX, || {
            if let Some(status) = program.has_ended()? {
                bail!("node {id} ended with {status} before it was ready\n{}", program.tail());
            }
            match kind {
                Kind::Weir => Ok(program.output()?.contains('\n')),
                Kind::Kafka(_) => Ok(Admin::new(BTreeMap::from([(id, kafka.clone())])).members_seen_by(id).is_ok()),
            }
        })
        .with_context(|| program.tail())?;
        if kind == Kind::Weir {
            let ready = Ready::parse(&program.output()?)?;
            ensure!(ready.kafka == kafka, "node {id} was to serve {kafka}, it serves {}", ready.kafka);
        }
        Ok(())
    }

    /// Waits until every running node names so many live members.
    pub fn wait_for_members(&self, count: usize) -> Result<()> {
        let (admin, mut seen) = (self.admin(), BTreeMap::new());
        let limit = Instant::now() + READY_MAX;
        for node in self.nodes.values().filter(|node| node.is_running()) {
            loop {
                let members = admin.members_seen_by(node.id).unwrap_or_default();
                if members.len() == count {
                    break;
                }
                seen.insert(node.id, members);
                ensure!(Instant::now() < limit, "not within {READY_MAX:?}: {count} live members, seen: {seen:?}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    pub fn node(&self, id: u32) -> Result<&Node> {
        self.nodes.get(&id).with_context(|| format!("there is no node {id}"))
    }

    fn node_mut(&mut self, id: u32) -> Result<&mut Node> {
        self.nodes.get_mut(&id).with_context(|| format!("there is no node {id}"))
    }

    /// Words and variables around the next start of a node.
    pub fn place_mut(&mut self, id: u32) -> Result<&mut Place> {
        Ok(&mut self.node_mut(id)?.place)
    }

    /// The clients' addresses of all nodes, running or not.
    pub fn bootstrap(&self) -> String {
        self.nodes.values().map(|node| node.kafka.as_str()).collect::<Vec<_>>().join(",")
    }

    /// Requests to the nodes that run.
    pub fn admin(&self) -> Admin {
        let running = self.nodes.values().filter(|node| node.is_running());
        Admin::new(running.map(|node| (node.id, node.kafka.clone())).collect())
    }

    /// The same without one of them, for when it would not answer.
    pub fn admin_without(&self, id: u32) -> Admin {
        let others = self.nodes.values().filter(|node| node.is_running() && node.id != id);
        Admin::new(others.map(|node| (node.id, node.kafka.clone())).collect())
    }

    /// To the process of a node; STOP and CONT leave it a member of this cluster's bookkeeping.
    pub fn signal(&self, id: u32, signal: Signal) -> Result<()> {
        self.node(id)?.program.as_ref().with_context(|| format!("node {id} is not running"))?.signal(signal)
    }

    /// kill -9 and gone.
    pub fn kill(&mut self, id: u32) -> Result<()> {
        self.node_mut(id)?.program.take().with_context(|| format!("node {id} is not running"))?.kill()
    }

    /// kill -9 of all that run, as close together as signals can be.
    pub fn kill_all(&mut self) -> Result<()> {
        let mut programs: Vec<Program> = self.nodes.values_mut().filter_map(|node| node.program.take()).collect();
        programs.iter().try_for_each(|program| program.signal(Signal::KILL))?;
        programs.iter_mut().try_for_each(|program| program.kill())
    }

    /// SIGTERM; a node of Weir must end with code 0. The time that it took.
    pub fn stop(&mut self, id: u32) -> Result<Duration> {
        let begun = Instant::now();
        let kind = self.plan.kind;
        let mut program = self.node_mut(id)?.program.take().with_context(|| format!("node {id} is not running"))?;
        let status = program.terminate(STOP_MAX)?;
        // a JVM that was asked to end does so with 128 + 15
        let clean = status.success() || (kind != Kind::Weir && status.code() == Some(143));
        ensure!(clean, "after SIGTERM node {id} ended with {status}\n{}", program.tail());
        Ok(begun.elapsed())
    }

    /// What became of a node that ended by itself; nothing while it runs.
    pub fn ended(&mut self, id: u32) -> Result<Option<std::process::ExitStatus>> {
        let node = self.node_mut(id)?;
        let Some(program) = node.program.as_mut() else { return Ok(None) };
        let status = program.has_ended()?;
        if status.is_some() {
            node.program = None;
        }
        Ok(status)
    }

    /// Waits until all partitions of a topic have a leader and `isr` in-sync replicas each.
    pub fn wait_healthy(&self, topic: &str, isr: usize, limit: Duration) -> Result<Vec<Partition>> {
        let (admin, mut last) = (self.admin(), String::new());
        let mut found = Vec::new();
        wait_until(&format!("{topic}: leaders and {isr} in-sync replicas everywhere"), limit, || {
            match admin.partitions(topic) {
                Ok(partitions) => found = partitions,
                Err(error) => {
                    last = format!("{error:#}");
                    return Ok(false);
                }
            }
            last = format!("{found:?}");
            Ok(found.iter().all(|partition| partition.leader.is_some() && partition.isr.len() >= isr))
        })
        .with_context(|| format!("last seen: {last}"))?;
        Ok(found)
    }

    /// Creates a topic and waits until every node's view of it has leaders.
    pub fn create_topic(&self, topic: &str, partitions: i32, factor: i16, settings: &[(&str, &str)]) -> Result<()> {
        self.admin().create_topic(topic, partitions, factor, settings)?;
        self.wait_healthy(topic, usize::try_from(factor)?, READY_MAX)?;
        Ok(())
    }

    /// An error gets the end of every running node's output behind it.
    pub fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| anyhow::anyhow!("{error:#}\n{}", self.tails()))
    }

    /// The end of every running node's output, for an error message.
    pub fn tails(&self) -> String {
        self.nodes.values().filter_map(|node| node.program.as_ref()).map(Program::tail).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // a stopped process would not hear anything but SIGKILL, and the tests that want a clean end ask for it
        for program in self.nodes.values_mut().filter_map(|node| node.program.take()) {
            drop(program);
        }
    }
}

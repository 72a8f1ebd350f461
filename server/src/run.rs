//! Runs one node: opens it, serves clients, and ends it in order.
//!
//! Owns the order of start and end. Does not own what is served.
//! Order of the start: sockets are bound before the data is touched, so that a second start by mistake changes
//! nothing; clients are accepted when the node is ready; the line on stdout comes last.
//! Order of the end: no more clients, everything written down, threads joined, a temporary directory removed.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use node::Node;
use node::budget::BudgetLimits;
use node::config::NodeConfig;
use node::effects::Effects;
use node::requests::Answer;
use replication::metadata::{Listener, PEER_LISTENER};
use storage::disk::{Disk, OPEN_FILES_MAX, RealDisk};
use storage::lock::DirLock;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tracing::{info, warn};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::broker::{Broker, ServedListener, Settings};
use crate::config::Config;
use crate::config::network::{ClientListener, machine_name};
use crate::disk::cold_reads::ColdReads;
use crate::disk::give_way::GiveWay;
use crate::disk::side_by_side::{Cores, cores};
use crate::disk::writers::{Executor, WriterThreads};
use crate::metrics::Metrics;
use crate::net::listener::{self, bind};
use crate::net::reply::ReplyCell;
use crate::net::shards::Shards;
use crate::peer::{LinkThreads, Links};
use crate::shutdown::Signals;
use crate::{clock, http, service};

/// How long the end may take before it is given up; what is journalled is safe even so.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(30);
/// What a fresh node may take until it answers clients.
const READY_WAIT: Duration = Duration::from_secs(120);
/// A node that is not ready says what it waits for: for the first time after a moment, then every so often.
const WAITING_SAID_FIRST: Duration = Duration::from_secs(1);
const WAITING_SAID: Duration = Duration::from_secs(10);
/// For answers that became due while everything was written down.
const LAST_ANSWERS_WAIT: Duration = Duration::from_millis(50);

/// Where the data lies, and whether it stays.
#[derive(Debug)]
pub enum DataDir {
    Kept(PathBuf),
    Temporary(PathBuf),
}

impl DataDir {
    /// A new directory of this process only.
    pub fn temporary() -> std::io::Result<DataDir> {
        let unique = format!("weir-{}-{:x}", std::process::id(), clock::now().wall_ms);
        let dir = std::env::temp_dir().join(unique);
        std::fs::create_dir(&dir)?;
        Ok(DataDir::Temporary(dir))
    }

    pub fn path(&self) -> &Path {
        match self {
            DataDir::Kept(dir) | DataDir::Temporary(dir) => dir,
        }
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if let DataDir::Temporary(dir) = self
            && let Err(error) = std::fs::remove_dir_all(&*dir)
        {
            eprintln!("weir: {} could not be removed: {error}", dir.display());
        }
    }
}

/// A node whose threads run, without sockets.
pub struct Opened {
    pub node: Arc<Node>,
    pub executor: Arc<Executor>,
    pub threads: WriterThreads,
    /// To other nodes; `None` without a peer listener.
    pub links: Option<(Arc<Links>, LinkThreads)>,
    pub metrics: Arc<Metrics>,
    pub cold: ColdReads,
    /// To be kept until the threads have ended.
    pub lock: DirLock,
}

/// Runs a node until a signal ends it.
pub fn run(config: Config, data_dir: DataDir, seed: u64) -> anyhow::Result<()> {
    tune_malloc();
    start_log();
    raise_descriptors();
    if !config.unknown.is_empty() {
        warn!("neither Kafka nor Weir knows these settings: {}", config.unknown.join(", "));
    }
    if !config.without_effect.is_empty() {
        warn!("these settings of Kafka's have no effect in Weir: {}", config.without_effect.join(", "));
    }
    for one in &config.bounded {
        warn!("this setting holds in part: {one}");
    }
    let kafka = bind_clients(&config)?;
    let http = bind(&config.http, "--http 127.0.0.1:9744")?;
    let peer = config.peer.as_ref().map(|peer| bind(&peer.listen, "--peer-listen 127.0.0.1:9193")).transpose()?;
    let addresses = kafka.iter().map(StdListener::local_addr).collect::<Result<Vec<_>, _>>()?;
    let peer_at = peer.as_ref().map(StdListener::local_addr).transpose()?;
    let opened = open(&config, data_dir.path(), &addresses, peer, seed)?;
    // Signals, ticks, accepting and HTTP; connections have threads of their own.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().context("no runtime")?;
    let (executor, threads, links) = (opened.executor.clone(), opened.threads, opened.links);
    let broker = Broker::new(opened.node, opened.executor, opened.metrics, opened.cold, settings(&config, &addresses));
    let sockets = Sockets { kafka, http, peer_at };
    let result = runtime.block_on(serve(&config, data_dir.path(), Arc::new(broker), sockets));
    runtime.shutdown_timeout(Duration::from_secs(1));
    if let Some((links, threads)) = links {
        links.stop(threads);
    }
    executor.stop(threads);
    drop(opened.lock);
    drop(data_dir);
    result
}

/// Where this process listens.
struct Sockets {
    kafka: Vec<StdListener>,
    http: StdListener,
    peer_at: Option<SocketAddr>,
}

fn bind_clients(config: &Config) -> anyhow::Result<Vec<StdListener>> {
    let bound = config.listeners.iter().map(|listener| bind(&listener.listen, "--listen 127.0.0.1:9192"));
    Ok(bound.collect::<Result<_, _>>()?)
}

/// Opens the node on a directory that no other process uses, and starts its threads. `clients`: where the listeners of the
/// configuration were bound, in its order.
pub fn open(
    config: &Config,
    dir: &Path,
    clients: &[SocketAddr],
    peer: Option<StdListener>,
    seed: u64,
) -> anyhow::Result<Opened> {
    let lock = DirLock::acquire(dir)?;
    let turns = Arc::new(GiveWay::new(cores()));
    let disk = RealDisk::new(dir, OPEN_FILES_MAX).with_turns(turns.clone()).with_threads(Arc::new(Cores));
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let metrics = Arc::new(Metrics::default());
    let executor = Executor::new(disk.clone(), metrics.clone());
    let mut fx = Effects::new();
    let peer_at = peer.as_ref().map(StdListener::local_addr).transpose()?;
    let node = Node::open(node_config(config, dir, clients, peer_at), disk, seed, clock::now(), &mut fx)?;
    let others = node.image().nodes().keys().filter(|id| **id != node.id()).count();
    anyhow::ensure!(
        others == 0 || peer.is_some(),
        "the data in {} belongs to a cluster with {others} other nodes: they must reach this one; give --peer-listen HOST:PORT",
        dir.display()
    );
    let node = Arc::new(node);
    let threads = executor.start(node.clone()).context("no threads for the disk")?;
    let links = peer.map(|listener| Links::start(listener, node.clone(), executor.clone())).transpose();
    let links = links.context("no threads for the links to other nodes")?;
    if let Some((links, _)) = &links {
        executor.link_with(links.clone());
    }
    executor.carry_out(fx);
    Ok(Opened { node, executor, threads, links, metrics, cold: ColdReads::new(turns), lock })
}

fn node_config(config: &Config, dir: &Path, clients: &[SocketAddr], peer_at: Option<SocketAddr>) -> NodeConfig {
    let of_client = |(listener, local): (&ClientListener, &SocketAddr)| {
        let (host, port) = match &listener.advertised {
            Some(endpoint) => (endpoint.host.clone(), endpoint.port),
            // What one node tells of another must lead there from anywhere.
            None if local.ip().is_unspecified() => (machine_name(), local.port()),
            None => (local.ip().to_string(), local.port()),
        };
        Listener { name: listener.name.clone(), host, port }
    };
    let mut listeners: Vec<Listener> = config.listeners.iter().zip(clients).map(of_client).collect();
    if let (Some(peer), Some(at)) = (&config.peer, peer_at) {
        let port = if peer.advertised.port == 0 { at.port() } else { peer.advertised.port };
        listeners.push(Listener { name: PEER_LISTENER.to_owned(), host: peer.advertised.host.clone(), port });
    }
    NodeConfig {
        listeners,
        join: config.join.clone(),
        rack: config.rack.clone(),
        boot_id: boot_id(),
        statics: config.broker.clone(),
        limits: BudgetLimits::for_memory(config.memory_bytes),
        ..NodeConfig::new(config.node_id, dir.to_owned())
    }
}

/// `clients`: where the listeners of the configuration were bound, in its order.
pub fn settings(config: &Config, clients: &[SocketAddr]) -> Settings {
    let served = |(listener, at): (&ClientListener, &SocketAddr)| ServedListener {
        name: listener.name.clone(),
        port: at.port(),
        advertised: listener.advertised.clone(),
    };
    Settings {
        listeners: config.listeners.iter().zip(clients).map(served).collect(),
        public_port: config.public_port,
        gateways: gateways(),
        request_bytes_max: config.request_bytes_max,
        idle_max: config.idle_max,
        connections: config.connections.clone(),
        memory_bytes: config.memory_bytes,
    }
}

async fn serve(config: &Config, dir: &Path, broker: Arc<Broker>, sockets: Sockets) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let (node, executor) = (&broker.node, &broker.executor);
    let ticks = tokio::spawn(executor.clone().run_ticks(node.clone()));
    let alive = tokio::spawn(service::keep_alive());
    let line = ready_line(config, dir, &sockets)?;
    let http = tokio::spawn(http::serve(TcpListener::from_std(sockets.http)?, broker.clone()));
    let shards = Shards::start(cores(), &broker).context("no threads to serve clients")?;
    tokio::select! {
        biased;
        () = signals.first() => {}
        ready = wait_ready(config, node, executor) => {
            ready?;
            let accepting = sockets.kafka.into_iter().map(TcpListener::from_std).collect::<Result<Vec<_>, _>>()?;
            say_ready(&line)?;
            service::ready(&line);
            give_back_freed();
            info!(cluster = node.image().cluster_id(), "{line}");
            tokio::select! {
                biased;
                () = signals.first() => {}
                () = listener::accept(accepting, broker.clone(), &shards) => {}
            }
        }
    }
    service::stopping(SHUTDOWN_WAIT);
    tokio::spawn(signals.second());
    let stopped = timeout(SHUTDOWN_WAIT, stop(&broker)).await;
    http.abort();
    ticks.abort();
    alive.abort();
    shards.stop();
    anyhow::ensure!(stopped.is_ok(), "not everything was written down within {} s", SHUTDOWN_WAIT.as_secs());
    info!("stopped");
    Ok(())
}

/// A node that has others waits for them as long as it takes, and says so; one that has none is ready at once or never.
async fn wait_ready(config: &Config, node: &Node, executor: &Executor) -> anyhow::Result<()> {
    let ready = async {
        while !node.is_ready() {
            executor.ready.notified().await;
        }
    };
    tokio::pin!(ready);
    let begun = clock::mono();
    let mut pause = WAITING_SAID_FIRST;
    loop {
        if timeout(pause, &mut ready).await.is_ok() {
            return Ok(());
        }
        pause = WAITING_SAID;
        let alone = config.join.is_empty() && node.image().nodes().len() <= 1;
        let waited = clock::mono().saturating_sub(begun);
        anyhow::ensure!(!alone || waited < READY_WAIT, "not ready within {} s", READY_WAIT.as_secs());
        match node.waiting() {
            Some(waiting) => info!("not ready yet, this node belongs to no cluster: {waiting}"),
            None => info!(
                "not ready yet: this node is not registered with its cluster, which needs a majority of its voters"
            ),
        }
    }
}

fn ready_line(config: &Config, dir: &Path, sockets: &Sockets) -> anyhow::Result<String> {
    let kafka = sockets.kafka.iter().map(|listener| Ok(listener.local_addr()?.to_string()));
    let kafka = kafka.collect::<anyhow::Result<Vec<String>>>()?.join(",");
    let peer = sockets.peer_at.map(|at| format!(" peer={at}")).unwrap_or_default();
    let (http, node) = (sockets.http.local_addr()?, config.node_id);
    Ok(format!("weir ready kafka={kafka} http={http}{peer} node={node} data={}", dir.display()))
}

async fn stop(broker: &Broker) {
    let cell = ReplyCell::new();
    let to = cell.reply_to();
    broker.call(|node, now, fx| node.shutdown(now, to, fx));
    let answer = cell.answer().await;
    assert!(matches!(answer, Answer::ShutDown), "a shutdown was answered with {answer:?}");
    if broker.metrics.connections_open() > 0 {
        tokio::time::sleep(LAST_ANSWERS_WAIT).await;
    }
}

/// The one line on stdout.
fn say_ready(line: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("stdout is gone")
}

fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// The default gateways, inside of a container only: elsewhere they are routers.
fn gateways() -> Vec<IpAddr> {
    let in_container = ["/.dockerenv", "/run/.containerenv"].iter().any(|path| Path::new(path).exists());
    let routes =
        if in_container { std::fs::read_to_string("/proc/net/route").unwrap_or_default() } else { String::new() };
    default_gateways(&routes)
}

/// Lines of interface, destination, gateway, …; addresses as hexadecimal of the machine's own byte order.
fn default_gateways(routes: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let (destination, gateway) = (columns.next()?, columns.next()?);
        let address = u32::from_str_radix(gateway, 16).ok().filter(|address| *address != 0)?;
        (destination == "00000000").then(|| IpAddr::from(address.to_ne_bytes()))
    };
    routes.lines().filter_map(gateway).collect()
}

/// Logs go to stderr. `WEIR_LOG` is a level, or a list of target=level.
fn start_log() {
    let wanted = std::env::var("WEIR_LOG").unwrap_or_default();
    let targets = wanted.parse::<Targets>().ok().filter(|_| !wanted.is_empty());
    let targets = targets.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    // A second call, in tests, keeps the first log.
    let _ = tracing_subscriber::registry().with(targets).with(layer).try_init();
}

/// Few pools, and what a burst took is given back. Of glibc's malloc only: the static binary has another.
#[cfg(target_env = "gnu")]
fn tune_malloc() {
    /// Pools: each costs memory.
    const ARENAS: i32 = 2;
    /// Blocks of this size and above are given back to the system when they are freed.
    const MMAP_BYTES: i32 = 4 * 1024 * 1024;
    const TRIM_BYTES: i32 = 16 * 1024 * 1024;
    // SAFETY: mallopt only sets parameters of the allocator; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_BYTES);
    }
}

#[cfg(not(target_env = "gnu"))]
fn tune_malloc() {}

/// What a start held of the journal lies freed between what stays: nothing of it goes back to the system by itself.
#[cfg(target_env = "gnu")]
fn give_back_freed() {
    let trim = || {
        // SAFETY: the allocator locks itself, and touches free memory only.
        unsafe { libc::malloc_trim(0) };
    };
    if let Err(error) = std::thread::Builder::new().name("weir-trim".to_owned()).spawn(trim) {
        warn!("what the start has freed stays with this process: {error}");
    }
}

#[cfg(not(target_env = "gnu"))]
fn give_back_freed() {}

/// As many descriptors as the system allows this process.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        warn!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_gateway_is_read_from_the_routes() {
        let routes =
            "Iface\tDestination\tGateway \tFlags\neth0\t00000000\t010011AC\t0003\neth0\t000011AC\t00000000\t0001\n";
        let expected: Vec<IpAddr> =
            if cfg!(target_endian = "little") { vec![[172, 17, 0, 1].into()] } else { vec![[1, 0, 17, 172].into()] };
        assert_eq!(default_gateways(routes), expected);
    }
}

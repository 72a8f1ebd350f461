//! The two servers: started on loopback with their own data, ended by pid.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::wire;

/// Runs Apache Kafka and its tools from Maven jars.
const KAFKA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kafka/kafka");
const START_LIMIT: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Weir,
    Kafka,
    /// Kafka with an fsync behind every append (`log.flush.interval.messages=1`).
    KafkaFsync,
}

pub struct Server {
    child: Child,
    pub address: SocketAddr,
    pub started_in: Duration,
    dir: PathBuf,
}

impl Server {
    pub fn start(kind: Kind, weir: &Path, work: &Path) -> Result<Server> {
        let dir = work.join(format!("data-{kind:?}"));
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&dir)?;
        match kind {
            Kind::Weir => start_weir(weir, dir),
            Kind::Kafka => start_kafka(work, dir, &[]),
            Kind::KafkaFsync => start_kafka(work, dir, &["log.flush.interval.messages=1"]),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Measured already; its data goes next. Both calls fail only when the process is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn start_weir(weir: &Path, dir: PathBuf) -> Result<Server> {
    let log = File::create(dir.with_extension("log"))?;
    let begun = Instant::now();
    let mut child = Command::new(weir)
        .args(["serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"])
        .arg(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .with_context(|| format!("run {} (cargo build --release)", weir.display()))?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("stdout was piped")?).read_line(&mut line)?;
    let field = line.split_whitespace().find_map(|field| field.strip_prefix("kafka="));
    let address: SocketAddr = field.with_context(|| format!("weir said {line:?}"))?.parse()?;
    ensure!(wire::metadata_answers(address), "weir said ready and does not answer Metadata");
    Ok(Server { child, address, started_in: begun.elapsed(), dir })
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn kafka(work: &Path) -> Command {
    let mut command = Command::new(KAFKA);
    command.env("KAFKA_CACHE", work.join("kafka"));
    command
}

fn start_kafka(work: &Path, dir: PathBuf, extra: &[&str]) -> Result<Server> {
    let (port, controller) = (free_port()?, free_port()?);
    let mut properties = vec![
        "process.roles=broker,controller".to_owned(),
        "node.id=1".to_owned(),
        format!("listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}"),
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
        "inter.broker.listener.name=PLAINTEXT".to_owned(),
        "controller.listener.names=CONTROLLER".to_owned(),
        format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
        format!("log.dirs={}", dir.join("data").display()),
        "offsets.topic.replication.factor=1".to_owned(),
        "transaction.state.log.replication.factor=1".to_owned(),
        "transaction.state.log.min.isr=1".to_owned(),
        "share.coordinator.state.topic.replication.factor=1".to_owned(),
        "share.coordinator.state.topic.min.isr=1".to_owned(),
    ];
    properties.extend(extra.iter().map(|&line| line.to_owned()));
    let file = dir.join("server.properties");
    fs::write(&file, properties.join("\n") + "\n")?;
    let id = kafka(work).arg("uuid").output().with_context(|| format!("run {KAFKA}"))?;
    let id = String::from_utf8_lossy(&id.stdout).lines().last().context("no cluster id")?.trim().to_owned();
    let formatted = kafka(work).args(["format", &id]).arg(&file).stdout(Stdio::null()).status()?;
    ensure!(formatted.success(), "kafka storage format failed");
    let log = File::create(dir.with_extension("log"))?;
    let begun = Instant::now();
    let child =
        kafka(work).arg("server").arg(&file).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut server = Server { child, address, started_in: Duration::ZERO, dir };
    while begun.elapsed() < START_LIMIT {
        if wire::metadata_answers(address) {
            server.started_in = begun.elapsed();
            return Ok(server);
        }
        if let Some(status) = server.child.try_wait()? {
            bail!("kafka ended with {status}; its log: {}", server.dir.with_extension("log").display());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!("kafka did not answer within {START_LIMIT:?}")
}

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
/// Where data goes that is not needed any more.
const PUT_AWAY: &str = "put-away";
/// Kafka recovers thousands of partitions for minutes.
const START_LIMIT: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Weir,
    Kafka,
    /// Kafka with an fsync behind every append (`log.flush.interval.messages=1`).
    KafkaFsync,
}

pub struct Server {
    child: Child,
    kind: Kind,
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
            Kind::Kafka => format_kafka(work, &dir, &[]).and_then(|address| start_kafka(kind, work, dir, address)),
            Kind::KafkaFsync => format_kafka(work, &dir, &["log.flush.interval.messages=1"])
                .and_then(|address| start_kafka(kind, work, dir, address)),
        }
    }

    /// kill -9; what it had on its disk stays.
    pub fn kill(&mut self) -> Result<()> {
        // Kafka is a script that becomes the JVM (`exec`), so that the id is the server's.
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// The same server again on the data that the killed one left; another port may be its own now.
    pub fn restarted(mut self, weir: &Path, work: &Path) -> Result<Server> {
        // Taken, so that dropping the dead one removes no data.
        let dir = std::mem::take(&mut self.dir);
        match self.kind {
            Kind::Weir => start_weir(weir, dir),
            kind => start_kafka(kind, work, dir, self.address),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// Where its segments are.
    pub fn data(&self) -> PathBuf {
        if self.kind == Kind::Weir { self.dir.clone() } else { self.dir.join("data") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Measured already; its data goes next. Both calls fail only when the process is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.dir.as_os_str().is_empty() {
            let _ = put_away(&self.dir);
        }
    }
}

/// Gives the room of a server's files back, but not their names: for minutes after thousands of files were removed, ext4 searches long for
/// each one that is made, and the next server would pay for that.
fn put_away(dir: &Path) -> Result<()> {
    cut_files(dir)?;
    let away = dir.parent().context("a data directory lies in the work folder")?.join(PUT_AWAY);
    fs::create_dir_all(&away)?;
    let number = fs::read_dir(&away)?.count();
    Ok(fs::rename(dir, away.join(number.to_string()))?)
}

fn cut_files(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            cut_files(&entry.path())?;
        } else {
            File::options().write(true).open(entry.path())?.set_len(0)?;
        }
    }
    Ok(())
}

/// Removes what servers left in the work folder.
pub fn remove_put_away(work: &Path) -> Result<()> {
    match fs::remove_dir_all(work.join(PUT_AWAY)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
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
    Ok(Server { child, kind: Kind::Weir, address, started_in: begun.elapsed(), dir })
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn kafka(work: &Path) -> Command {
    let mut command = Command::new(KAFKA);
    command.env("KAFKA_CACHE", work.join("kafka"));
    command
}

/// Makes settings and a formatted data directory; the address where it will listen.
fn format_kafka(work: &Path, dir: &Path, extra: &[&str]) -> Result<SocketAddr> {
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
    Ok(SocketAddr::from(([127, 0, 0, 1], port)))
}

fn start_kafka(kind: Kind, work: &Path, dir: PathBuf, address: SocketAddr) -> Result<Server> {
    let log = File::create(dir.with_extension("log"))?;
    let begun = Instant::now();
    let child = kafka(work)
        .arg("server")
        .arg(dir.join("server.properties"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let mut server = Server { child, kind, address, started_in: Duration::ZERO, dir };
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

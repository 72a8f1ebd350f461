//! The broker under attack, and what must hold after every attack.
//!
//! Owns the persistent second client, the memory and metric readings, and the list of rows that failed. Does not own
//! the attacks. An outside broker (`WEIR_COMPAT_BOOTSTRAP`) has neither metrics nor a process to look at, so only its
//! answers are judged.
//! Invariant: after each row the process lives, the witness is answered, and memory is within its bound.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use compat_tests::broker::Broker;
use compat_tests::page_cache;
use compat_tests::paths;
use compat_tests::program::{unique, wait_until};
use compat_tests::raw::{Client, WAIT_MAX, http_get};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::batch::{Batch, Record};
use crate::requests;

/// How much more than at the start may be resident at any moment.
const GROWTH_KIB_MAX: u64 = 64 * 1024;

pub struct Target {
    pub broker: Broker,
    folder: TempDir,
    process: Option<Process>,
    witness: Client,
    /// Where the witness writes and reads; also for attacks that need a topic that exists.
    pub topic: String,
    failed: Vec<String>,
}

struct Process {
    pid: u32,
    start_kib: u64,
}

impl Target {
    pub fn start(name: &str, settings: &[&str]) -> Result<Target> {
        raise_descriptors()?;
        // Not where the system has its own: that is often in memory, and some attacks need a device.
        let folder = tempfile::tempdir_in(paths::target()?)?;
        let data = folder.path().join("data");
        std::fs::create_dir(&data)?;
        let broker = Broker::on_data(name, &data, settings)?;
        let mut witness = Client::connect(&broker.kafka)?;
        let topic = format!("{name}-{}", unique());
        requests::create_topic(&mut witness, &topic, 1, &[])?;
        let mut target = Target { broker, folder, process: None, witness, topic, failed: Vec::new() };
        target.check_witness()?;
        if target.broker.is_ours() {
            target.process = Some(Process { pid: find_process(&data)?, start_kib: 0 });
            target.rebase()?;
        }
        Ok(target)
    }

    /// Whether the process, its metrics and its files can be looked at.
    pub fn is_ours(&self) -> bool {
        self.process.is_some()
    }

    pub fn connect(&self) -> Result<Client> {
        Client::connect(&self.broker.kafka)
    }

    /// Starts the broker again with nothing of its data in memory, its own or the kernel's: what is fetched now comes from the device.
    pub fn restart_cold(&mut self) -> Result<()> {
        self.broker.stop()?;
        self.broker.up()?;
        self.process = Some(Process { pid: self.broker.pid()?, start_kib: 0 });
        self.witness = Client::connect(&self.broker.kafka)?;
        wait_until("the witness is served again", WAIT_MAX, || Ok(self.check_witness().is_ok()))?;
        page_cache::drop_below(self.folder.path())?;
        self.rebase()
    }

    /// Bytes that the process has read from files, cached or not.
    pub fn bytes_read(&self) -> Result<u64> {
        let pid = self.process.as_ref().context("an outside broker cannot be looked at")?.pid;
        let io = std::fs::read_to_string(format!("/proc/{pid}/io"))?;
        let value = io.lines().find_map(|line| line.strip_prefix("rchar: ")).context("no rchar")?;
        Ok(value.trim().parse()?)
    }

    /// Measures growth from here: for a row that first loads what any client may load.
    pub fn rebase(&mut self) -> Result<()> {
        if let Some(process) = &mut self.process {
            // 5 sets the peak back to what is resident now
            std::fs::write(format!("/proc/{}/clear_refs", process.pid), "5")?;
            process.start_kib = status_kib(process.pid, "VmRSS")?;
        }
        Ok(())
    }

    /// Runs one attack, then checks that nobody else was harmed. A row that fails is noted and the next one goes on;
    /// harm ends the test.
    pub fn row(&mut self, name: &str, attack: impl FnOnce(&mut Target) -> Result<()>) -> Result<()> {
        let outcome = attack(self);
        self.check_unharmed().with_context(|| format!("after: {name}\n{}", self.failures()))?;
        if let Err(error) = outcome {
            self.failed.push(format!("{name}: {error:#}"));
        }
        if let Err(error) = self.check_memory() {
            self.failed.push(format!("{name}: {error:#}"));
            self.rebase()?;
        }
        Ok(())
    }

    /// Sends bytes on a fresh connection, which must be closed without an answer and counted under `reason`.
    pub fn closes(&mut self, name: &str, reason: &str, bytes: &[u8]) -> Result<()> {
        self.row(name, |target| {
            target.counts(reason, 1, |target| {
                let mut client = target.connect()?;
                client.send(bytes)?;
                match client.receive()? {
                    None => Ok(()),
                    Some(answer) => bail!("answered with {:?}", &answer[..answer.len().min(64)]),
                }
            })
        })
    }

    /// As [`Target::closes`], for bytes that Apache Kafka answers, and we think better not.
    pub fn closes_here(&mut self, name: &str, reason: &str, bytes: &[u8]) -> Result<()> {
        if self.is_ours() { self.closes(name, reason, bytes) } else { Ok(()) }
    }

    /// The metric of refused requests must grow by `count` or more under `reason`.
    pub fn counts(&mut self, reason: &str, count: u64, attack: impl FnOnce(&mut Target) -> Result<()>) -> Result<()> {
        let before = self.invalid(reason)?;
        attack(self)?;
        let mut after = before;
        wait_until("the metric has counted it", WAIT_MAX, || {
            after = self.invalid(reason)?;
            Ok(!self.is_ours() || after >= before + count)
        })
        .with_context(|| format!("weir_invalid_requests_total{{reason={reason:?}}} went from {before} to {after}"))
    }

    fn invalid(&self, reason: &str) -> Result<u64> {
        if !self.is_ours() {
            return Ok(0);
        }
        self.metric(&format!("weir_invalid_requests_total{{reason=\"{reason}\"}} "))
    }

    /// The value of the line of `/metrics` that begins so.
    pub fn metric(&self, line: &str) -> Result<u64> {
        let text = self.metrics()?;
        let value = text.lines().find_map(|found| found.strip_prefix(line)).with_context(|| format!("no {line}"))?;
        Ok(value.parse()?)
    }

    pub fn metrics(&self) -> Result<String> {
        http_get(&self.broker.http, "/metrics")
    }

    /// Metadata, a record written with acks=all, and the same record read back, all on one old connection.
    pub fn check_witness(&mut self) -> Result<()> {
        let known = requests::metadata(&mut self.witness, &[self.topic.as_bytes()])?;
        ensure!(known == [0], "metadata of the witness's topic has errors {known:?}");
        let value = format!("witness {}", unique());
        let batch = Batch::of(&[Record::of(b"k", value.as_bytes())]).encode();
        let wrote = requests::produce(&mut self.witness, self.topic.as_bytes(), 0, &batch)?;
        ensure!(wrote.error == 0, "the witness could not write: {wrote:?}");
        let read = requests::fetch(&mut self.witness, self.topic.as_bytes(), 0, wrote.base_offset, 1 << 20)?;
        ensure!(read.error == 0, "the witness could not read: error {}", read.error);
        let found = read.records.windows(value.len()).any(|window| window == value.as_bytes());
        ensure!(found, "the witness wrote offset {} and reads something else", wrote.base_offset);
        Ok(())
    }

    fn check_unharmed(&mut self) -> Result<()> {
        if let Some(process) = &self.process {
            let alive = Path::new(&format!("/proc/{}/exe", process.pid)).exists();
            ensure!(alive, "the process is gone");
        }
        self.check_witness().context("another client is not served")
    }

    fn check_memory(&self) -> Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        let peak = status_kib(process.pid, "VmHWM")?;
        let grown = peak.saturating_sub(process.start_kib);
        let bound = process.start_kib + GROWTH_KIB_MAX;
        ensure!(peak <= bound, "{grown} KiB more than at the start were resident, {GROWTH_KIB_MAX} are allowed");
        Ok(())
    }

    /// Every directory under the folder that holds the data directory.
    pub fn directories(&self) -> Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        let mut open = vec![self.folder.path().to_path_buf()];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    open.push(entry.path());
                    found.insert(entry.path());
                }
            }
        }
        Ok(found)
    }

    fn failures(&self) -> String {
        self.failed.iter().map(|failed| format!("- {failed}\n")).collect()
    }

    /// Ends the broker, which must still be able to end well, and fails if any row did.
    pub fn finish(mut self) -> Result<()> {
        if let Some(process) = &self.process {
            let log = std::fs::read_link(format!("/proc/{}/fd/2", process.pid))?;
            self.broker.stop()?;
            self.check_log(&log)?;
        }
        ensure!(self.failed.is_empty(), "{} rows failed:\n{}", self.failed.len(), self.failures());
        Ok(())
    }

    /// Nothing that a client sent may start a line or colour a terminal.
    fn check_log(&mut self, log: &Path) -> Result<()> {
        let text = std::fs::read(log)?;
        let text = String::from_utf8(text).context("the log is not UTF-8")?;
        let bad = text.lines().find(|line| line.chars().any(char::is_control) || line.starts_with("INJECTED"));
        if let Some(line) = bad {
            self.failed.push(format!("the log has a line that a client made: {line:?}"));
        }
        Ok(())
    }
}

/// The broker inherits what this process may open: 1,000 slow connections must not meet that limit first.
fn raise_descriptors() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

/// The process that was started on this data directory.
fn find_process(data: &Path) -> Result<u32> {
    let wanted = data.as_os_str().as_encoded_bytes();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).any(|argument| argument == wanted) {
            return Ok(pid);
        }
    }
    bail!("no process was started on {}", data.display())
}

/// A line of `/proc/PID/status` that is in KiB.
fn status_kib(pid: u32, name: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = line.and_then(|rest| rest.trim().strip_suffix(" kB")).with_context(|| format!("no {name}"))?;
    Ok(value.trim().parse()?)
}

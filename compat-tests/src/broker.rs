//! The broker under test: the built binary `weir`, or, for checking the tests themselves, any broker that already runs.
//!
//! `WEIR_COMPAT_BOOTSTRAP=HOST:PORT` names such a broker and `WEIR_COMPAT_DATA=DIR` its data directory. It is not ended
//! from here; it is killed and started by the commands `WEIR_COMPAT_KILL` and `WEIR_COMPAT_UP`, which are then needed.
//! Invariant: the broker of one test process is shared while any of its tests uses it, and must end with code 0.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::paths;
use crate::program::{Program, unique, wait_until};

const READY_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(30);

/// One broker: where it is reached, where its data is, and how to start it again.
#[derive(Debug)]
pub struct Broker {
    name: String,
    arguments: Vec<String>,
    /// `HOST:PORT` for clients; stays the same over restarts.
    pub kafka: String,
    /// `HOST:PORT` of the HTTP endpoints; nothing for an outside broker.
    pub http: String,
    pub data: PathBuf,
    program: Option<Program>,
}

impl Broker {
    /// `weir dev` on a data directory that it removes itself.
    pub fn ephemeral(name: &str) -> Result<Broker> {
        Broker::start(name, ["dev", "--ephemeral"].map(String::from).to_vec(), [0, 0])
    }

    /// `weir serve` on a data directory that stays; each setting is `key=value`.
    pub fn on_data(name: &str, data: &Path, settings: &[&str]) -> Result<Broker> {
        let mut arguments = vec!["serve".into(), "--data-dir".into(), data.display().to_string()];
        arguments.extend(settings.iter().flat_map(|setting| ["--set".into(), (*setting).to_string()]));
        Broker::start(name, arguments, [free_port()?, free_port()?])
    }

    fn start(name: &str, arguments: Vec<String>, [kafka, http]: [u16; 2]) -> Result<Broker> {
        let mut broker = Broker {
            name: name.to_string(),
            arguments,
            kafka: format!("127.0.0.1:{kafka}"),
            http: format!("127.0.0.1:{http}"),
            data: PathBuf::new(),
            program: None,
        };
        if let Ok(kafka) = std::env::var("WEIR_COMPAT_BOOTSTRAP") {
            broker.kafka = kafka;
            broker.data = std::env::var_os("WEIR_COMPAT_DATA").unwrap_or_default().into();
            return Ok(broker);
        }
        broker.up()?;
        Ok(broker)
    }

    /// False for an outside broker.
    pub fn is_ours(&self) -> bool {
        std::env::var_os("WEIR_COMPAT_BOOTSTRAP").is_none()
    }

    /// kill -9, `meanwhile`, then the same broker again on its data and ports.
    pub fn kill_and_restart_after(&mut self, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.is_ours() {
            self.kill()?;
            meanwhile()?;
            return self.up();
        }
        outside("WEIR_COMPAT_KILL")?;
        meanwhile()?;
        outside("WEIR_COMPAT_UP")
    }

    pub fn kill_and_restart(&mut self) -> Result<()> {
        self.kill_and_restart_after(|| Ok(()))
    }

    /// Starts the binary, on the same ports and data if it ran before, and waits for its ready line.
    pub fn up(&mut self) -> Result<()> {
        ensure!(self.program.is_none(), "the broker is running");
        let mut command = Command::new(paths::weir()?);
        command.args(&self.arguments).args(["--listen", &self.kafka, "--http", &self.http]).stdin(Stdio::null());
        let mut program = Program::start(&self.name, &mut command)?;
        wait_until("the ready line of weir", READY_MAX, || {
            if let Some(status) = program.has_ended()? {
                bail!("weir ended with {status} before it was ready\n{}", program.tail());
            }
            Ok(program.output()?.contains('\n'))
        })
        .with_context(|| program.tail())?;
        let line = program.output()?;
        let ready = Ready::parse(&line)?;
        if !self.kafka.ends_with(":0") {
            ensure!(ready.kafka == self.kafka, "asked for {} after a restart, got {line}", self.kafka);
        }
        (self.kafka, self.http, self.data) = (ready.kafka, ready.http, ready.data);
        self.program = Some(program);
        Ok(())
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<()> {
        self.program.take().context("the broker is not running, or not ours to kill")?.kill()
    }

    /// The process id of a broker of ours that runs.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.program.as_ref().context("the broker is not running, or not ours")?.pid())
    }

    /// Waits until the broker has ended by itself; how, and the last lines of what it said.
    pub fn ended(&mut self, limit: Duration) -> Result<(ExitStatus, String)> {
        let program = self.program.as_mut().context("the broker is not running, or not ours")?;
        let status = program.wait(limit)?;
        let tail = program.tail();
        self.program = None;
        Ok((status, tail))
    }

    /// SIGTERM; the broker must end with code 0 and must have written nothing but its ready line.
    pub fn stop(&mut self) -> Result<()> {
        let mut program = self.program.take().context("the broker is not running, or not ours to stop")?;
        let status = program.terminate(STOP_MAX)?;
        ensure!(status.success(), "after SIGTERM weir ended with {status}\n{}", program.tail());
        let output = program.output()?;
        ensure!(output.lines().count() == 1, "stdout has more than the ready line: {output}");
        Ok(())
    }

    /// The broker that the tests of one process share; it ends with the last of them.
    pub fn shared() -> Result<Arc<Broker>> {
        static SHARED: Mutex<Weak<Broker>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Ok(running);
        }
        let broker = Arc::new(Broker::ephemeral("shared")?);
        *shared = Arc::downgrade(&broker);
        Ok(broker)
    }
}

/// A free port below those that the kernel hands out: a client that connects again and again to a port of that range
/// while nobody listens there may be given the very same port, and then talks to itself.
pub(crate) fn free_port() -> Result<u16> {
    let first = unique();
    let ports = (0..1000).filter_map(|step| u16::try_from(20_000 + (first + step) * 7919 % 12_000).ok());
    let mut free = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().context("no free port between 20000 and 31999")
}

/// Runs the command that the variable holds.
fn outside(variable: &str) -> Result<()> {
    let command = std::env::var(variable).with_context(|| format!("{variable} is not set"))?;
    let status = Command::new("sh").args(["-c", &command]).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{variable} ended with {status}");
    Ok(())
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.program.is_none() {
            return;
        }
        let stopped = self.stop();
        assert!(std::thread::panicking() || stopped.is_ok(), "{stopped:?}");
    }
}

/// What the ready line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) kafka: String,
    pub(crate) http: String,
    pub(crate) data: PathBuf,
}

impl Ready {
    pub(crate) fn parse(output: &str) -> Result<Ready> {
        let line = output.lines().next().unwrap_or_default();
        let fields = line.strip_prefix("weir ready ").with_context(|| format!("not a ready line: {line:?}"))?;
        let (fields, data) = fields.split_once(" data=").with_context(|| format!("no data= in {line:?}"))?;
        let fields: BTreeMap<&str, &str> = fields.split(' ').filter_map(|field| field.split_once('=')).collect();
        let get =
            |name: &str| fields.get(name).map(ToString::to_string).with_context(|| format!("no {name}= in {line:?}"));
        get("node")?;
        Ok(Ready { kafka: get("kafka")?, http: get("http")?, data: data.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_line_names_both_addresses_and_a_data_directory_that_may_hold_spaces() {
        let line = "weir ready kafka=127.0.0.1:9092 http=127.0.0.1:9644 peer=127.0.0.1:9093 node=0 data=/tmp/a b\n";
        let want = Ready { kafka: "127.0.0.1:9092".into(), http: "127.0.0.1:9644".into(), data: "/tmp/a b".into() };
        assert_eq!(Ready::parse(line).unwrap(), want);
        assert!(Ready::parse("weir ready kafka=127.0.0.1:9092 node=0 data=/tmp\n").is_err());
        assert!(Ready::parse("listening\n").is_err());
    }
}

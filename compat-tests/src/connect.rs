//! Kafka Connect and MirrorMaker 2, unmodified, as `connect/run.sh` starts them.
//!
//! Owns their processes, their properties files and requests to a worker's REST interface. Owns no expectations: those are in `tests/`.
//! Invariant: a worker listens on a port of its own choice, and is gone when its `Worker` is dropped.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::paths;
use crate::program::{Program, wait_until};

/// The first start also fetches the jars.
const READY_MAX: Duration = Duration::from_secs(300);
/// A worker answers within this, or after its own 90 s with an error.
const ANSWER_MAX: Duration = Duration::from_secs(100);
/// What the line of the log says in front of the address.
const LISTENS: &str = "REST server listening at http://";

/// Writes `key=value` lines into a file of this folder.
pub fn properties(folder: &Path, name: &str, settings: &[(&str, &str)]) -> Result<PathBuf> {
    let file = folder.join(name).with_extension("properties");
    let mut text = String::new();
    for (key, value) in settings {
        writeln!(text, "{key}={value}")?;
    }
    std::fs::write(&file, text)?;
    Ok(file)
}

/// `run.sh VERB FILE…`, left running.
pub fn start(verb: &str, files: &[&Path]) -> Result<Program> {
    let mut command = Command::new(paths::suites().join("connect/run.sh"));
    command.arg(verb).args(files).env("CARGO_TARGET_DIR", paths::target()?).stdin(Stdio::null());
    Program::start(&format!("connect-{verb}"), &mut command)
}

/// A worker of Connect.
#[derive(Debug)]
pub struct Worker {
    pub program: Program,
    /// `HOST:PORT` of its REST interface, which is its name in the cluster as well.
    pub rest: String,
}

impl Worker {
    /// Starts one and waits until it names its address; it may not answer yet.
    pub fn start(verb: &str, files: &[&Path]) -> Result<Worker> {
        let mut program = start(verb, files)?;
        let mut rest = None;
        wait_until("a worker that listens", READY_MAX, || {
            if let Some(status) = program.has_ended()? {
                bail!("the worker ended with {status}\n{}", program.tail());
            }
            rest = listens_at(&program.output()?);
            Ok(rest.is_some())
        })?;
        Ok(Worker { program, rest: rest.context("it was seen just now")? })
    }

    /// The status and the document that a request is answered with; an empty answer is `null`.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut stream = TcpStream::connect(&self.rest).with_context(|| format!("no worker at {}", self.rest))?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let head = format!("{method} {path} HTTP/1.0\r\nHost: {}\r\nAccept: application/json", self.rest);
        let type_and_length = format!("Content-Type: application/json\r\nContent-Length: {}", body.len());
        stream.write_all(format!("{head}\r\n{type_and_length}\r\n\r\n{body}").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("no status in {head:?}"))?;
        let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body)? };
        Ok((status, body))
    }

    /// Asks until the answer is a success: a group of workers that rebalances refuses for a while (409), a new one does not know yet (404).
    pub fn ask_until_done(&self, method: &str, path: &str, body: Option<&Value>, limit: Duration) -> Result<Value> {
        let end = Instant::now() + limit;
        loop {
            let (status, answer) = self.ask(method, path, body)?;
            if (200..300).contains(&status) {
                return Ok(answer);
            }
            let tail = || format!("{method} {path}: {status} {answer}\n{}", self.program.tail());
            ensure!(matches!(status, 404 | 409 | 500 | 503) && Instant::now() < end, "{}", tail());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Where the only task of a connector runs, once it and the connector are in this state.
    pub fn task_at(&self, connector: &str, state: &str) -> Result<Option<String>> {
        let (status, answer) = self.ask("GET", &format!("/connectors/{connector}/status"), None)?;
        if status != 200 {
            return Ok(None);
        }
        let (task, at) = (&answer["tasks"][0], answer["tasks"][0]["worker_id"].as_str());
        ensure!(task["state"] != "FAILED", "{connector}: {answer}\n{}", self.program.tail());
        let there = answer["connector"]["state"] == state && task["state"] == state;
        Ok(at.filter(|_| there).map(str::to_owned))
    }
}

fn listens_at(log: &str) -> Option<String> {
    let (_, rest) = log.split_once(LISTENS)?;
    Some(rest.split_once('/')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_a_worker_is_in_its_log() {
        let line = "INFO REST server listening at http://127.0.0.1:4711/, advertising URL http://127.0.0.1:4711/ (x)";
        assert_eq!(listens_at(line).as_deref(), Some("127.0.0.1:4711"));
        assert_eq!(listens_at("INFO REST server listening at http://127"), None);
    }
}

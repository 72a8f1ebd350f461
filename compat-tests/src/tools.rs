//! Apache Kafka's command line tools, unmodified, as `kafka-tools/run.sh` starts them.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::paths;
use crate::program::{Program, run};

const TOOL_MAX: Duration = Duration::from_secs(300);

/// A tool that has ended: its code and what it wrote.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// The lines of stdout, each cut into its words.
    pub fn words(&self) -> Vec<Vec<&str>> {
        self.out.lines().map(|line| line.split_whitespace().collect()).collect()
    }
}

fn command(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(paths::suites().join("kafka-tools/run.sh"));
    command.args(arguments).env("CARGO_TARGET_DIR", paths::target()?);
    Ok(command)
}

/// Runs a tool to its end, whatever its code.
pub fn tool(arguments: &[&str], input: &str) -> Result<Ended> {
    let (program, status) = run("kafka-tool", &mut command(arguments)?, input, TOOL_MAX)?;
    Ok(Ended { code: status.code(), out: program.output()?, err: program.errors()? })
}

/// Runs a tool that must end with code 0.
pub fn tool_ok(arguments: &[&str]) -> Result<Ended> {
    let ended = tool(arguments, "")?;
    ensure!(ended.code == Some(0), "{arguments:?} ended with {:?}\n{}\n{}", ended.code, ended.out, ended.err);
    Ok(ended)
}

/// Starts a tool that goes on until it is dropped.
pub fn tool_in_background(arguments: &[&str]) -> Result<Program> {
    Program::start("kafka-tool", &mut command(arguments)?)
}

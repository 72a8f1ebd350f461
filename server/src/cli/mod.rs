//! The command line: `weir dev` and `weir serve` run a node, all others ask a cluster; a file for each noun.
//!
//! Owns flags, their help, and exit codes: 0 done, 1 failed, 2 not understood, 10 `doctor` found something. Does not own defaults or bounds of
//! a node's settings (`config`), what runs (`run`), nor the protocol (`client`).
//! Invariant: of a node that runs, stdout carries the one line that says that it is ready, and nothing else.

mod at;
mod cluster;
mod config;
mod consume;
mod doctor;
mod dump;
mod durability;
mod explain;
mod group;
mod node;
mod position;
mod produce;
mod properties;
mod record;
mod show;
mod signal;
mod time;
mod topic;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::Config;
use crate::config::raw::Raw;
use crate::run::{self, DataDir};

const FIRST_STEPS: &str = "\
First steps:
  weir dev                            a node that serves 127.0.0.1:9092, until Ctrl-C
  weir topic create orders -p 3       (in another terminal)
  echo hello | weir produce orders
  weir consume orders --follow
Commands but dev, serve, log and config explain ask the cluster at --bootstrap.
Completion in bash: source <(COMPLETE=bash weir)";

const SOURCES: &str = "\
Every setting that has no flag here is given with --set, in the environment (log.retention.ms as
WEIR_LOG_RETENTION_MS or KAFKA_LOG_RETENTION_MS) or in the file. A flag wins over --set, that over the
environment, and that over the file. `weir config explain KEY` says what a setting does.";

/// A partitioned log server that Kafka's clients speak to.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100, after_help = FIRST_STEPS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node on this machine, with nothing to configure
    Dev(Dev),
    /// Run a node, alone or in a cluster, with Kafka's settings
    Serve(Serve),
    /// Topics: create, list, describe, alter and delete them
    #[command(subcommand)]
    Topic(topic::Topic),
    /// Write records to a topic
    Produce(Box<produce::Produce>),
    /// Read records of topics
    Consume(Box<consume::Consume>),
    /// Consumer groups: list, describe, move and delete them
    #[command(subcommand)]
    Group(group::Group),
    /// Settings of topics, nodes and groups: show, change, compare and explain them
    #[command(subcommand)]
    Config(config::Config),
    /// Files of a partition's log: show what is in one
    #[command(subcommand)]
    Log(dump::Log),
    /// Check a cluster: what is wrong, and what to do; the exit code is 10 where something is
    Doctor(doctor::Doctor),
    /// Nodes of a cluster: list, add, drain, decommission and remove them
    #[command(subcommand)]
    Node(node::Node),
}

#[derive(Debug, Args)]
struct Dev {
    /// The data directory [default: weir/ in the user's state directory]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The address at which Kafka clients are served [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The address of /live, /ready and /metrics [default: 127.0.0.1:9644]
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// Keep the data in a temporary directory that is removed at exit
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
}

#[derive(Debug, Args)]
#[command(after_help = SOURCES)]
struct Serve {
    /// Kafka's configuration file, server.properties
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, for example --set log.retention.hours=24; may be given many times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// This node's number in its cluster [default: 1]
    #[arg(long, value_name = "N")]
    node_id: Option<String>,
    /// The data directory [default: weir/ in the user's state directory]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The address at which Kafka clients are served [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The address that clients are told to connect to [default: the one that they reached]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// The address at which other nodes connect; a cluster of one needs none
    #[arg(long, value_name = "HOST:PORT")]
    peer_listen: Option<String>,
    /// The address that other nodes are told to connect to [default: the one of --peer-listen]
    #[arg(long, value_name = "HOST:PORT")]
    peer_advertise: Option<String>,
    /// A new cluster: the peer addresses of all its nodes, this one's included. One that is there: those of some of its nodes
    #[arg(long, value_name = "HOST:PORT,…")]
    join: Option<String>,
    /// The address of /live, /ready and /metrics [default: 127.0.0.1:9644]
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
}

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    // For a shell that completes a command line: answers it and ends the process.
    clap_complete::CompleteEnv::with_factory(Cli::command).complete();
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Doctor(doctor) => return done(doctor.run()),
        Command::Config(config) => config.run(),
        Command::Log(log) => log.run(),
        Command::Dev(dev) => dev.run(),
        Command::Serve(serve) => serve.run(),
        Command::Topic(topic) => topic.run(),
        Command::Produce(produce) => produce.run(),
        Command::Consume(consume) => consume.run(),
        Command::Group(group) => group.run(),
        Command::Node(node) => node.run(),
    };
    done(result.map(|()| ExitCode::SUCCESS))
}

fn done(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) if error.is::<show::Closed>() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, each said once: some say their cause themselves.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match () {
        () if told.is_empty() => cause,
        () if told.contains(&cause) => told,
        () => format!("{told}: {cause}"),
    })
}

impl Dev {
    fn run(self) -> anyhow::Result<()> {
        let mut raw = Raw::default();
        raw.add_flag("--data-dir", "data.dir", text_of(self.data_dir)?);
        raw.add_flag("--listen", "listen", self.listen);
        raw.add_flag("--http", "http", self.http);
        raw.add_environment(variables());
        start(&raw, self.ephemeral)
    }
}

impl Serve {
    fn run(self) -> anyhow::Result<()> {
        let mut raw = Raw::default();
        raw.add_flag("--node-id", "node.id", self.node_id);
        raw.add_flag("--data-dir", "data.dir", text_of(self.data_dir)?);
        raw.add_flag("--listen", "listen", self.listen);
        raw.add_flag("--advertise", "advertise", self.advertise);
        raw.add_flag("--peer-listen", "peer.listen", self.peer_listen);
        raw.add_flag("--peer-advertise", "peer.advertise", self.peer_advertise);
        raw.add_flag("--join", "join", self.join);
        raw.add_flag("--http", "http", self.http);
        for text in &self.set {
            raw.add_set(text)?;
        }
        raw.add_environment(variables());
        if let Some(path) = &self.config {
            raw.add_file(path)?;
        }
        start(&raw, false)
    }
}

fn start(raw: &Raw, ephemeral: bool) -> anyhow::Result<()> {
    let config = Config::check(raw)?;
    let data_dir = match (&config.data_dir, ephemeral) {
        (_, true) => DataDir::temporary().context("no temporary directory")?,
        (Some(dir), false) => DataDir::Kept(std::path::absolute(dir)?),
        (None, false) => DataDir::Kept(state_dir()?),
    };
    run::run(config, data_dir, seed())
}

/// `weir` in the user's state directory, as the XDG specification has it.
fn state_dir() -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    let base = base.context("neither XDG_STATE_HOME nor HOME says where data may lie; give --data-dir DIR")?;
    Ok(base.join("weir"))
}

/// Variables that are text; others are no settings.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn text_of(path: Option<PathBuf>) -> anyhow::Result<Option<String>> {
    let text = |path: PathBuf| path.into_os_string().into_string();
    path.map(text).transpose().map_err(|path| anyhow::anyhow!("--data-dir {path:?} is not valid UTF-8"))
}

/// Differs between starts: the standard library's hash keys come from the system's generator.
fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_cause_is_told_twice() {
        let cause = std::io::Error::other("refused");
        let error = anyhow::Error::new(cause).context("nobody answers: refused; try another").context("listing");
        assert_eq!(told(&error), "listing: nobody answers: refused; try another");
        assert_eq!(told(&anyhow::anyhow!("inner").context("outer")), "outer: inner");
    }

    #[test]
    fn two_starts_draw_different_seeds() {
        assert_ne!(seed(), seed());
    }
}

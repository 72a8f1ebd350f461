//! Nodes of Apache Kafka in the place of Weir's: to check the tests, and for figures side by side.
//!
//! Owns their configuration. The jars come from `bench/kafka`, fetched on first use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cluster::Node;
use crate::paths;

/// How a Kafka cluster is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    Default,
    /// Sessions, elections and fetches of the quorum as short as a careful operator would dare.
    Tuned,
    /// An fsync behind every append.
    Fsync,
}

impl Flavour {
    fn settings(self) -> &'static [&'static str] {
        match self {
            Flavour::Default => &[],
            Flavour::Tuned => &[
                "broker.session.timeout.ms=2000",
                "broker.heartbeat.interval.ms=500",
                "controller.quorum.election.timeout.ms=500",
                "controller.quorum.fetch.timeout.ms=1000",
                "controller.quorum.election.backoff.max.ms=200",
                "replica.lag.time.max.ms=3000",
            ],
            Flavour::Fsync => &["log.flush.interval.messages=1"],
        }
    }
}

fn script() -> Result<Command> {
    let script = paths::suites().join("../bench/kafka/kafka");
    let mut command = Command::new(script);
    command.env("KAFKA_CACHE", paths::target()?.join("compat-tests/kafka-server"));
    Ok(command)
}

fn properties(folder: &Path, id: u32) -> PathBuf {
    folder.join(format!("node{id}.properties"))
}

pub(crate) fn command(folder: &Path, id: u32) -> Result<Command> {
    let mut command = script()?;
    command.arg("server").arg(properties(folder, id));
    Ok(command)
}

/// Writes each node's configuration and formats its folder.
pub(crate) fn format(folder: &Path, nodes: &BTreeMap<u32, Node>, flavour: Flavour, settings: &[String]) -> Result<()> {
    let voters: Vec<String> = nodes.values().map(|node| format!("{}@{}", node.id, node.peer)).collect();
    let factor = nodes.len().min(3);
    let least = factor.saturating_sub(1).max(1);
    let uuid = script()?.arg("uuid").stderr(Stdio::null()).output()?;
    let uuid = String::from_utf8_lossy(&uuid.stdout).lines().last().context("no cluster id")?.trim().to_owned();
    let mut formatting = Vec::new();
    for node in nodes.values() {
        let mut lines = vec![
            "process.roles=broker,controller".to_owned(),
            format!("node.id={}", node.id),
            format!("listeners=PLAINTEXT://{},CONTROLLER://{}", node.kafka, node.peer),
            format!("advertised.listeners=PLAINTEXT://{}", node.kafka),
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
            "inter.broker.listener.name=PLAINTEXT".to_owned(),
            "controller.listener.names=CONTROLLER".to_owned(),
            format!("controller.quorum.voters={}", voters.join(",")),
            format!("log.dirs={}", node.data.display()),
        ];
        for topic in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
            lines.push(format!("{topic}.replication.factor={factor}"));
        }
        lines
            .extend(["transaction.state.log", "share.coordinator.state.topic"].map(|t| format!("{t}.min.isr={least}")));
        lines.push(format!("default.replication.factor={factor}"));
        lines.push(format!("min.insync.replicas={least}"));
        lines.extend(flavour.settings().iter().map(ToString::to_string));
        lines.extend(settings.iter().cloned());
        let file = properties(folder, node.id);
        std::fs::write(&file, lines.join("\n") + "\n")?;
        let mut command = script()?;
        command.args(["format", &uuid]).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        formatting.push(command.spawn()?);
    }
    for mut child in formatting {
        ensure!(child.wait()?.success(), "formatting a folder of Kafka failed");
    }
    Ok(())
}

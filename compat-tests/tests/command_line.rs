//! Weir's command line against Apache Kafka: it speaks the protocol, so any cluster will do.
//!
//! Owns the main verbs on a real Kafka. What each verb prints in detail: `server/tests/command_line.rs`, against Weir.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use compat_tests::cluster::{Cluster, Kind, Plan};
use compat_tests::kafka_node::Flavour;
use compat_tests::{paths, program};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);

struct Line<'a> {
    weir: &'a Path,
    bootstrap: String,
}

impl Line<'_> {
    fn run(&self, arguments: &[&str], input: &str) -> Result<(String, Option<i32>)> {
        let mut command = Command::new(self.weir);
        command.args(arguments).args(["--bootstrap", &self.bootstrap]);
        let (ended, status) = program::run("command-line", &mut command, input, LIMIT)?;
        Ok((format!("{}{}", ended.output()?, ended.errors()?), status.code()))
    }

    fn ok(&self, arguments: &[&str], input: &str) -> Result<String> {
        let (output, code) = self.run(arguments, input)?;
        ensure!(code == Some(0), "weir {arguments:?} ended with {code:?}:\n{output}");
        Ok(output)
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.ok(arguments, "")?;
        serde_json::from_str(&output).with_context(|| format!("weir {arguments:?}:\n{output}"))
    }
}

#[test]
fn the_main_verbs_work_against_apache_kafka() -> Result<()> {
    let mut plan = Plan::new("command-line", 1)?;
    plan.kind = Kind::Kafka(Flavour::Default);
    plan.settings = vec!["group.initial.rebalance.delay.ms=0".to_owned(), "offsets.topic.num.partitions=3".to_owned()];
    let cluster = Cluster::start(plan)?;
    let weir = paths::weir()?;
    let line = Line { weir: &weir, bootstrap: cluster.bootstrap() };
    let verbs = topics_and_records(&line).and_then(|()| groups(&line)).and_then(|()| settings(&line));
    cluster.explain(verbs)
}

fn topics_and_records(line: &Line) -> Result<()> {
    line.ok(&["topic", "create", "orders", "-p", "3", "--set", "retention.ms=3600000"], "")?;
    ensure!(line.run(&["topic", "create", "orders"], "")?.1 == Some(1), "a second topic of the same name was made");
    line.ok(&["topic", "alter", "orders", "-p", "4", "--set", "retention.ms=7200000"], "")?;
    line.ok(&["produce", "orders", "--key-separator", ":", "-H", "n=v"], "a:1\nb:2\n")?;
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        line.ok(&["produce", "orders", "-k", "k", "-z", codec, codec], "")?;
    }
    let shown = line.ok(&["consume", "orders", "--format", "%k=%v %h\\n"], "")?;
    let mut shown: Vec<&str> = shown.lines().map(str::trim).collect();
    shown.sort_unstable();
    ensure!(shown == ["a=1 n=v", "b=2 n=v", "k=gzip", "k=lz4", "k=snappy", "k=zstd"], "{shown:?}");
    ensure!(line.ok(&["consume", "orders", "--grep", "^sna"], "")? == "snappy\n", "grep");
    let described = line.json(&["topic", "describe", "orders", "-o", "json"])?;
    let topic = &described["topics"][0];
    ensure!(topic["settings"]["retention.ms"] == "7200000", "{described}");
    ensure!(topic["partitions"].as_array().map(Vec::len) == Some(4), "{described}");
    let costs = topic["costs"].to_string();
    ensure!(costs.contains("a power cut: loses acknowledged records"), "Kafka does not sync: {costs}");
    Ok(())
}

fn groups(line: &Line) -> Result<()> {
    ensure!(line.ok(&["consume", "orders", "-g", "g", "-n", "2"], "")?.lines().count() == 2, "two of six");
    let lag = || anyhow::Ok(line.json(&["group", "describe", "g", "-o", "json"])?["groups"][0]["lag"].clone());
    ensure!(lag()? == json!(4), "{}", lag()?);
    ensure!(line.ok(&["consume", "orders", "-g", "g"], "")?.lines().count() == 4, "the other four");
    ensure!(lag()? == json!(0), "{}", lag()?);
    line.ok(&["group", "seek", "g", "--to", "start"], "")?;
    ensure!(lag()? == json!(6), "{}", lag()?);
    ensure!(line.ok(&["group", "list"], "")?.contains("g "), "the group is listed");
    line.ok(&["group", "delete", "g"], "")?;
    ensure!(line.run(&["group", "describe", "g"], "")?.1 == Some(1), "a deleted group is described");
    Ok(())
}

fn settings(line: &Line) -> Result<()> {
    let found = line.json(&["config", "get", "topic/orders", "retention.ms", "-o", "json"])?;
    ensure!(found["settings"][0]["source"] == "topic", "{found}");
    line.ok(&["config", "set", "topic/orders", "--unset", "retention.ms"], "")?;
    ensure!(line.ok(&["config", "diff", "topic/orders"], "")?.contains("do not differ"), "Kafka's defaults");
    let node = line.json(&["config", "get", "node/1", "-o", "json"])?;
    let has = |key: &str| node["settings"].as_array().is_some_and(|all| all.iter().any(|one| one["key"] == key));
    ensure!(has("node.id") && has("offsets.topic.num.partitions"), "{node}");
    line.ok(&["config", "explain", "num.io.threads", "--for", "node/1"], "")?;
    let doctor = line.run(&["doctor", "-o", "json"], "")?;
    ensure!(matches!(doctor.1, Some(0 | 10)), "{doctor:?}");
    ensure!(line.ok(&["topic", "delete", "orders"], "")?.contains("deleted"), "the topic is deleted");
    Ok(())
}

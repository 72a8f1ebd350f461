//! Every command of the README, executed.
//!
//! Owns the list of what is expected of each `sh` block. Replaced are: fixed ports by free ones, folders below /tmp by temporary ones,
//! `cargo run --release --` and `weir` by the built binary, and `kafka-*.sh` by the tools that the suites fetch; nothing else.
//! Invariant: a block that no rule knows fails the test, so the README cannot grow past it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use compat_tests::broker::Broker;
use compat_tests::{paths, program};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
const LIMIT: Duration = Duration::from_secs(120);

/// The `sh` blocks in order.
fn blocks(readme: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = readme;
    while let Some((_, after)) = rest.split_once("```sh\n") {
        let Some((block, tail)) = after.split_once("```") else { break };
        found.push(block.trim().to_owned());
        rest = tail;
    }
    found
}

fn shell(name: &str, script: &str) -> Result<String> {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]);
    let (ended, status) = program::run(name, &mut command, "", LIMIT)?;
    ensure!(status.success(), "{script}\nended with {status}\n{}", ended.tail());
    ended.output()
}

fn run_block(block: &str, broker: &Broker) -> Result<()> {
    let script = block.replace("127.0.0.1:9092", &broker.kafka).replace("127.0.0.1:9644", &broker.http);
    if block == "cargo run --release -- dev" || block == "cargo test --workspace" {
        // The first is the broker that all the others talk to; the second is running now.
        return Ok(());
    }
    if block.starts_with("weir topic create") {
        let printed =
            ["topic parcels created with 3 partitions", "2 records written", "\"key\":\"lagos\"", "lag 0", "86400000"];
        return command_line(block, broker, &printed);
    }
    if block.starts_with("weir config set client-metrics/") {
        return command_line(block, broker, &["interval.ms", "30000", "client_id=orders-.*"]);
    }
    if block.starts_with("deploy/three-nodes") {
        return three_nodes_start(block);
    }
    if block.starts_with("weir serve --node-id 4") || block.starts_with("kafka-topics.sh") {
        // both need the three nodes, and are run while they are there
        return Ok(());
    }
    if block.starts_with("cargo run --release -- serve") {
        return serve_starts(block);
    }
    let output = shell("readme-block", &script)?;
    let expected: &[&str] = if block.contains("kcat -C") {
        &["hello, weir"]
    } else if block.contains("/metrics") {
        &["weir_"]
    } else {
        bail!("no rule for this block of the README:\n{block}")
    };
    expected.iter().try_for_each(|text| {
        ensure!(output.contains(text), "{block}\nprinted\n{output}\nand not {text:?}");
        Ok(())
    })
}

/// Commands of `weir` itself, against the broker instead of the default address.
fn command_line(block: &str, broker: &Broker, printed: &[&str]) -> Result<()> {
    let weir = paths::weir()?;
    let shown = format!("weir() {{ '{}' \"$@\" --bootstrap {}; }}\n{block}", weir.display(), broker.kafka);
    let output = shell("readme-command-line", &shown)?;
    for text in printed {
        ensure!(output.contains(text), "{block}\nprinted\n{output}\nand not {text:?}");
    }
    Ok(())
}

/// `serve` runs until it is told to end: its ready line is what the README promises.
fn serve_starts(block: &str) -> Result<()> {
    let weir = paths::weir()?;
    let data = tempfile::tempdir()?;
    let arguments = block.strip_prefix("cargo run --release -- ").context("checked by the caller")?;
    let arguments = arguments.replace("/tmp/weir-readme", &data.path().display().to_string());
    let mut command = Command::new(weir);
    command.args(arguments.split_whitespace());
    let mut started = program::Program::start("readme-serve", &mut command)?;
    program::wait_until("the ready line", LIMIT, || Ok(started.output()?.contains("weir ready ")))?;
    let status = started.terminate(LIMIT)?;
    ensure!(status.success(), "ended with {status}\n{}", started.tail());
    Ok(())
}

/// The first client port of the three nodes in the README, and the step from one node to the next.
const README_PORTS: [u16; 4] = [9092, 9192, 9292, 9392];

/// The addresses of the README moved to free ones: all ports that belong to one node by the same distance.
fn moved(block: &str, first: u16) -> String {
    README_PORTS.iter().fold(block.to_owned(), |text, port| {
        let moved = first + (port - README_PORTS[0]);
        [0, 1, 5].iter().fold(text, |text, step| {
            text.replace(&format!("127.0.0.1:{}", port + step), &format!("127.0.0.1:{}", moved + step))
        })
    })
}

/// `deploy/three-nodes`, then, while it runs, a fourth node and Kafka's tools as the README has them; a Ctrl-C ends all.
fn three_nodes_start(block: &str) -> Result<()> {
    let (data, weir) = (tempfile::tempdir()?, paths::weir()?);
    let folder = data.path().display().to_string();
    let first = (20_092..31_000).step_by(500).find(|first| all_free(*first)).context("no free ports")?;
    let root = paths::suites().join("..");
    let mut command = Command::new("bash");
    command.args(["-c", &format!("exec {}", block.replace("/tmp/weir-three", &folder))]).current_dir(&root);
    command.env("THREE_NODES_BINARY", &weir).env("THREE_NODES_PORT", first.to_string());
    let mut three = program::Program::start("readme-three", &mut command)?;
    let ready = program::wait_until("three nodes", LIMIT, || {
        ensure!(three.has_ended()?.is_none(), "it ended");
        Ok(three.output()?.contains("three nodes ready bootstrap=127.0.0.1:"))
    });
    ready.with_context(|| three.tail())?;
    let readme = std::fs::read_to_string(Path::new(README))?;
    let tools = paths::suites().join("kafka-tools/run.sh");
    for block in blocks(&readme) {
        let script = moved(&block.replace("/tmp/weir-three", &folder), first);
        if block.starts_with("weir serve --node-id 4") {
            let mut fourth = Command::new(&weir);
            fourth.args(script.split_whitespace().skip(1));
            let mut fourth = program::Program::start("readme-fourth", &mut fourth)?;
            program::wait_until("the fourth node", LIMIT, || Ok(fourth.output()?.contains("weir ready ")))
                .with_context(|| fourth.tail())?;
            ensure!(fourth.terminate(LIMIT)?.success(), "the fourth node\n{}", fourth.tail());
        }
        if block.starts_with("kafka-topics.sh") {
            let words = |line: &str| line.replacen("kafka-", "", 1).replacen(".sh", "", 1);
            let script =
                script.lines().map(|line| format!("'{}' {}\n", tools.display(), words(line))).collect::<String>();
            let output = shell("readme-tools", &script)?;
            for text in ["Created topic orders.", "ReplicationFactor: 3", "Elr:", "LeaderId:"] {
                ensure!(output.contains(text), "{block}\nprinted\n{output}\nand not {text:?}");
            }
        }
    }
    three.terminate(LIMIT)?;
    let left = (1..=3).filter_map(|node| std::fs::read_to_string(data.path().join(format!("node{node}.pid"))).ok());
    let alive: Vec<String> = left.filter(|pid| Path::new("/proc").join(pid.trim()).exists()).collect();
    ensure!(alive.is_empty(), "the script has left {alive:?}");
    Ok(())
}

fn all_free(first: u16) -> bool {
    let steps = [0, 100, 200, 300].iter().flat_map(|node| [0, 1, 5].map(|step| node + step));
    steps.map(|step| first + step).all(|port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok())
}

#[test]
fn every_command_of_the_readme_works() -> Result<()> {
    let setup = paths::suites().join("setup.sh");
    shell("readme-setup", &format!("source '{}'; command_from kcat kcat; command_from curl curl", setup.display()))?;
    let readme = std::fs::read_to_string(Path::new(README))?;
    let blocks = blocks(&readme);
    ensure!(blocks.len() >= 5, "the README has lost its commands: {blocks:?}");
    let broker = Broker::ephemeral("readme")?;
    blocks.iter().try_for_each(|block| run_block(block, &broker).with_context(|| format!("the block\n{block}")))
}

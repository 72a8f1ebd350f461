//! Every command of the README, executed.
//!
//! Owns the list of what is expected of each `sh` block. Fixed ports are replaced by free ones and `cargo run --release --` by the built
//! binary, nothing else. Invariant: a block that no rule knows fails the test, so the README cannot grow past it.

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

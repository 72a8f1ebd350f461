//! The hunt: each planted bug is put in, and seeds run until the checker finds it.
//!
//! Owns the command and its report. Does not own the bugs: each is a line in the file that it would harm, under `model::planted`.
//! Invariant: a seed shows a bug only where it passes without it; one that fails without any bug is reported, and the hunt fails.
//! A build without `--cfg planted` holds none of them; `--hunt` makes one with it, in a target folder of its own.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use model::planted::{Bug, POSSIBLE};

use crate::cluster::run::Plan;
use crate::seeds::run_caught;

const TARGET: &str = "target/planted";
const FLAG: &str = "--cfg planted";

/// Puts one bug in, for the rest of this process.
pub fn plant(name: &str) -> Result<()> {
    ensure!(POSSIBLE, "this build has no planted bugs: build with RUSTFLAGS=\"{FLAG}\" and --target-dir {TARGET}");
    let known = || Bug::ALL.iter().map(|bug| bug.name()).collect::<Vec<_>>().join(", ");
    let bug = Bug::ALL.into_iter().find(|bug| bug.name() == name).with_context(|| format!("bugs are: {}", known()))?;
    model::planted::plant(Some(bug));
    Ok(())
}

/// All bugs, one after the other; `hidden_max`: of CPU time for each.
pub fn run_all(hidden_max: Duration) -> Result<()> {
    if !POSSIBLE {
        let status = Command::new("cargo")
            .args(["run", "--release", "-p", "sim", "--target-dir", TARGET, "--", "--hunt", "--hidden-seconds"])
            .arg(hidden_max.as_secs().to_string())
            .env("RUSTFLAGS", FLAG)
            .status()?;
        ensure!(status.success(), "the hunt failed");
        return Ok(());
    }
    let (mut hidden, mut sick) = (0, BTreeSet::new());
    println!("| bug | seed | CPU s | found by |\n| --- | ---: | ---: | --- |");
    for bug in Bug::ALL {
        model::planted::plant(Some(bug));
        let began = cpu()?;
        let found = hunt(bug, &mut sick, || Ok(cpu()?.saturating_sub(began) < hidden_max))?;
        let took = cpu()?.saturating_sub(began).as_secs_f64();
        match found {
            Some((seed, failure)) => println!("| {} | {seed} | {took:.1} | {failure} |", bug.name()),
            None => {
                hidden += 1;
                println!("| {} | NOT FOUND | {took:.1} | |", bug.name());
            }
        }
    }
    model::planted::plant(None);
    if hidden > 0 {
        bail!("{hidden} of {} planted bugs were not found", Bug::ALL.len());
    }
    ensure!(sick.is_empty(), "these seeds fail without any planted bug: {sick:?}");
    Ok(())
}

/// What this thread has used of a CPU.
fn cpu() -> Result<Duration> {
    let path = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(path).with_context(|| format!("no CPU time in {path}"))?;
    let nanos = text.split_whitespace().next().context("an empty schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

/// Seed after seed on this thread, as long as `may_go_on`.
fn hunt(bug: Bug, sick: &mut BTreeSet<u64>, may_go_on: impl Fn() -> Result<bool>) -> Result<Option<(u64, String)>> {
    for seed in 1.. {
        if !may_go_on()? {
            break;
        }
        let plan = Plan { seed, nodes: None, seconds: 60, disks_lie: false };
        let Some(failure) = run_caught(plan).failure else { continue };
        // Not a seed that fails without the bug.
        model::planted::plant(None);
        let fails_anyway = run_caught(plan).failure.is_some();
        model::planted::plant(Some(bug));
        if !fails_anyway {
            return Ok(Some((seed, failure)));
        }
        sick.insert(seed);
    }
    Ok(None)
}

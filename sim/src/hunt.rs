//! The hunt: each planted bug is put in, and seeds run until the checker finds it.
//!
//! Owns the command and its report. Does not own the bugs: each is a line in the file that it would harm, under `model::planted`.
//! A build without `--cfg planted` holds none of them; `--hunt` makes one with it, in a target folder of its own.

use std::process::Command;
use std::time::{Duration, Instant};

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

/// All bugs, one after the other; `hidden_max`: of one thread's time for each.
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
    let mut hidden = 0;
    for bug in Bug::ALL {
        model::planted::plant(Some(bug));
        let began = Instant::now();
        match hunt(bug, began, hidden_max) {
            Some((seed, failure)) => {
                println!("{}: {:.1} s, seed {seed}: {failure}", bug.name(), began.elapsed().as_secs_f64());
            }
            None => {
                hidden += 1;
                println!("{}: NOT FOUND in {:.0} s", bug.name(), began.elapsed().as_secs_f64());
            }
        }
    }
    model::planted::plant(None);
    if hidden > 0 {
        bail!("{hidden} of {} planted bugs were not found", Bug::ALL.len());
    }
    Ok(())
}

/// On one thread, so that time is CPU time.
fn hunt(bug: Bug, began: Instant, hidden_max: Duration) -> Option<(u64, String)> {
    (1..).take_while(|_| began.elapsed() < hidden_max).find_map(|seed| {
        let plan = Plan { seed, nodes: None, seconds: 60 };
        let failure = run_caught(plan).failure?;
        // Not a seed that fails without the bug.
        model::planted::plant(None);
        let fails_anyway = run_caught(plan).failure.is_some();
        model::planted::plant(Some(bug));
        (!fails_anyway).then_some((seed, failure))
    })
}

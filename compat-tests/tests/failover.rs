//! The short version of `compat-tests failover` and `kill-all`: what must hold on every machine. Times are printed, not judged.

use anyhow::{Result, ensure};
use compat_tests::cluster::Kind;
use compat_tests::failover::{Fault, markdown, measure, plans};
use compat_tests::{kill_all, load};

#[test]
fn producers_go_on_after_a_leader_or_the_controller_is_killed_ended_or_stopped() -> Result<()> {
    load::prepare_clients()?;
    let faults = [Fault::Kill, Fault::Stop, Fault::Pause, Fault::Controller];
    for options in plans(1, &faults, &[], &[]) {
        let outcome = measure(Kind::from_environment()?, &options)?;
        ensure!(outcome.verdict.is_clean() && outcome.verdict.acked > 1000, "{}", outcome.verdict);
        ensure!(outcome.samples.len() == 2 * options.faults.len(), "{:?}", outcome.samples);
        println!("{}", markdown(&[outcome]));
    }
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_when_all_nodes_are_killed_at_once() -> Result<()> {
    load::prepare_clients()?;
    let outcome = kill_all::measure(3)?;
    ensure!(outcome.verdict.is_clean() && outcome.verdict.acked > 1000, "{}", outcome.verdict);
    println!("{}", outcome.json());
    Ok(())
}

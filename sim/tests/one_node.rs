//! One node under seeded crashes: nothing acknowledged is lost, nothing torn is served, no offset is used twice.

use sim::one_node::explore::explore;
use sim::one_node::run::{Length, run};

fn check_run(seed: u64, length: Length) -> sim::one_node::run::Outcome {
    run(seed, length).unwrap_or_else(|error| panic!("seed {seed}, {length:?}: {error:#}"))
}

#[test]
fn acknowledged_records_survive_crashes_in_the_middle_of_runs() {
    let (mut crashes, mut consumed) = (0, 0);
    for seed in 0..12 {
        let outcome = check_run(seed, Length { mutations: 1_500, crash_every: 150 });
        crashes += outcome.crashes;
        // A run that no consumer took part in shows nothing about groups.
        consumed += u64::from(outcome.crashes > 0 && outcome.history.seen > 0);
    }
    println!("{crashes} crashes, something was consumed in {consumed} runs that crashed");
    assert!(crashes >= 12 && consumed >= 6, "{crashes} crashes, {consumed} runs");
}

#[test]
fn a_crash_before_in_and_after_each_of_5000_disk_operations_loses_nothing() {
    let seed = 1;
    let outcome = check_run(seed, Length { mutations: 5_000, crash_every: 0 });
    assert!(outcome.trace.len() >= 5_000);
    assert!(outcome.compactions > 0, "nothing was compacted");
    assert!(outcome.history.seen > 0, "nothing was consumed");
    let explored = explore(seed, &outcome, 1).unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
    assert_eq!(explored.operations, outcome.trace.len() as u64);
    assert!(explored.crashes_in_recovery > 500, "{explored:?}");
}

#[test]
fn two_runs_of_one_seed_are_equal() {
    let length = Length { mutations: 800, crash_every: 200 };
    let (once, again) = (check_run(7, length), check_run(7, length));
    assert_eq!(once.hash, again.hash);
    assert_eq!(once.trace.len(), again.trace.len());
    assert_ne!(once.hash, check_run(8, length).hash);
}

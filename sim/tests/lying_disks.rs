//! Seeds in which a disk now and then flips bits, loses writes that it acknowledged, or puts them elsewhere.

use sim::cluster::run::{Outcome, Plan};
use sim::seeds::{Span, Totals, each, report};

/// Without `WEIR_SIM_LYING_SEEDS`.
const SEEDS: u64 = 150;

#[test]
fn what_a_lying_disk_holds_is_never_served_and_nothing_is_lost() {
    let seeds = std::env::var("WEIR_SIM_LYING_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (mut totals, mut failures, mut lies) = (Totals::default(), Vec::new(), 0);
    let plan = Plan { seed: 1, nodes: Some(3), seconds: 60, disks_lie: true };
    each(plan, Span { seeds, hours: None, threads }, |outcome: Outcome| {
        totals.add(&outcome);
        lies += u64::from(outcome.struck.contains("LyingDisk: "));
        failures.extend(report(plan, &outcome));
        true
    });
    println!("{totals}, a disk lied in {lies}");
    assert!(failures.is_empty(), "{} of {seeds} seeds failed\n{}", failures.len(), failures.join("\n"));
    assert!(lies * 2 >= seeds, "disks lied in {lies} of {seeds} seeds only");
}

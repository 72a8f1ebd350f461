//! Replays one seed: the same seed gives the same run, to the byte.

use anyhow::Result;
use clap::Parser;
use sim::run::Length;

/// Runs one node on a simulated disk and clock, then crashes it before, in and after its disk operations.
#[derive(Parser, Debug)]
struct Arguments {
    #[arg(long)]
    seed: u64,
    /// How many seeds, from --seed on
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Disk operations in the run
    #[arg(long, default_value_t = 2_000)]
    operations: u64,
    /// On average one crash in so many operations of the run itself; 0: none
    #[arg(long, default_value_t = 500)]
    crash_every: u64,
    /// Explore crashes at every n-th operation afterwards; 0: at none
    #[arg(long, default_value_t = 10)]
    stride: usize,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    for seed in arguments.seed..arguments.seed + arguments.seeds {
        let length = Length { mutations: arguments.operations, crash_every: arguments.crash_every };
        let outcome = sim::run::run(seed, length).map_err(|error| error.context(format!("seed {seed}")))?;
        println!(
            "seed={seed} operations={} acked={} seen={} crashes={} simulated_ms={}",
            outcome.trace.len(),
            outcome.history.acked,
            outcome.history.seen,
            outcome.crashes,
            outcome.lasted_ms
        );
        if arguments.stride > 0 {
            let explored = sim::explore::explore(seed, &outcome, arguments.stride)
                .map_err(|error| error.context(format!("seed {seed}")))?;
            println!("seed={seed} explored={explored:?}");
        }
        println!("seed={seed} hash={:016x}", outcome.hash.0);
    }
    Ok(())
}

//! Replays seeds: the same seed gives the same run, to the byte.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use sim::cluster::run::Plan;
use sim::hunt;
use sim::seeds::{Span, Totals, each};

// A run allocates for every message: a ninth of its time was spent there with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a run gives back the next one needs: a tenth of the time went into getting memory from the kernel again. The allocator reads this
/// before `main`.
const KEEPS_MEMORY: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "-1");

/// Runs a cluster on simulated machines, breaks it, heals it, and checks what its clients were told.
#[derive(Parser, Debug)]
struct Arguments {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, from --seed on
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// 1, 3 or 5; drawn by the seed where it is not given
    #[arg(long)]
    nodes: Option<usize>,
    /// Disks also lie: bits flip, acknowledged writes are lost or lie elsewhere
    #[arg(long)]
    lying_disks: bool,
    /// Simulated seconds with faults, before the cluster is healed
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Goes on with more seeds until so many hours were simulated
    #[arg(long)]
    hours: Option<f64>,
    /// Seeds side by side
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Goes on behind a failure and lists all
    #[arg(long)]
    keep_going: bool,
    /// Prints what the nodes log
    #[arg(long)]
    log: bool,
    /// Runs with this bug in; needs a build with RUSTFLAGS="--cfg planted"
    #[arg(long)]
    plant: Option<String>,
    /// Plants one bug after the other and looks how long each stays hidden
    #[arg(long)]
    hunt: bool,
    /// How long a planted bug may stay hidden, in seconds of one thread
    #[arg(long, default_value_t = 300)]
    hidden_seconds: u64,
}

/// Starts this program over in the same process, where its allocator would not keep its memory. Where that cannot be done (the file may
/// be gone since, for a newer build), the runs are the same, but slower.
fn keep_memory() {
    let (name, value) = KEEPS_MEMORY;
    if std::env::var_os(name).is_some() {
        return;
    }
    let start_over = |program: PathBuf| Command::new(program).args(std::env::args_os().skip(1)).env(name, value).exec();
    let error = std::env::current_exe().map_or_else(|error| error, start_over);
    eprintln!("{name}={value} is not set, and this program cannot start itself with it ({error}): it runs slower");
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    keep_memory();
    if arguments.log {
        let levels = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "debug".into());
        tracing_subscriber::fmt().with_env_filter(levels).without_time().with_ansi(false).init();
    }
    if arguments.hunt {
        return hunt::run_all(Duration::from_secs(arguments.hidden_seconds));
    }
    if let Some(name) = &arguments.plant {
        hunt::plant(name)?;
    }
    let plan = Plan {
        seed: arguments.seed,
        nodes: arguments.nodes,
        seconds: arguments.seconds,
        disks_lie: arguments.lying_disks,
    };
    let span = Span { seeds: arguments.seeds, hours: arguments.hours, threads: arguments.threads };
    let mut totals = Totals::default();
    each(plan, span, |outcome| {
        totals.add(&outcome);
        println!("{outcome}");
        if let Some(failure) = &outcome.failure {
            println!("seed={} FAILED: {failure}; faults: {}", outcome.seed, outcome.struck);
        }
        println!("seed={} hash={:016x}", outcome.seed, outcome.hash.0);
        arguments.keep_going || outcome.failure.is_none()
    });
    if totals.seeds > 1 {
        println!("{totals}");
    }
    if totals.failed > 0 {
        bail!("{} of {} seeds failed", totals.failed, totals.seeds);
    }
    totals.are_busy().map_err(anyhow::Error::msg)
}

//! Weir and Apache Kafka, alternately on the same machine, in one command; a Markdown table with medians, spread and ratios.
//!
//! Owns the rows, the servers that it starts, and the table. Does not own the load: `load/kbench.c` over librdkafka, so that both
//! sides see the same client. Only ratios and CPU seconds of runs side by side mean anything: machines are noisy.

mod cluster_rows;
mod cold;
mod connections;
mod groups;
mod load;
mod members;
mod pair;
mod process;
mod rows;
mod servers;
mod table;
mod wide;
mod wire;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

/// Runs Weir and Apache Kafka 4.3.1 alternately and writes a table. Needs Java, Maven, a C compiler and librdkafka-dev.
#[derive(Parser, Debug)]
struct Arguments {
    /// Measured runs for each row and server
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only these rows, by comma (see --list)
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Name the rows and end
    #[arg(long)]
    list: bool,
    /// Where the table goes; stdout as well
    #[arg(long, default_value = "target/bench/report.md")]
    out: PathBuf,
    /// The binary measured; without it, it is built
    #[arg(long)]
    weir: Option<PathBuf>,
    /// Divides every count, for a quick look
    #[arg(long, default_value_t = 1)]
    shrink: u64,
    /// Only Weir (a look while working; no ratios)
    #[arg(long)]
    weir_only: bool,
    /// Kafka's side too of the rows `wide` and `spread`, which take it many minutes
    #[arg(long)]
    slow_kafka: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.list {
        rows::ROWS.iter().for_each(|row| println!("{:<16} {}", row.name, row.title));
        return Ok(());
    }
    let work = std::env::current_dir()?.join("target/bench");
    std::fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    let bench = rows::Bench {
        load: load::Load::build(&work)?,
        weir: arguments.weir.map_or_else(compat_tests::paths::weir, |file| Ok(std::path::absolute(file)?))?,
        runs: arguments.runs,
        slow_kafka: arguments.slow_kafka,
        shrink: arguments.shrink.max(1),
        weir_only: arguments.weir_only,
        work,
    };
    let chosen: Vec<_> = rows::ROWS
        .iter()
        .filter(|row| arguments.rows.is_empty() || arguments.rows.iter().any(|name| name == row.name))
        .collect();
    anyhow::ensure!(!chosen.is_empty(), "no row is named so; --list names them");
    process::raise_descriptors()?;
    servers::remove_put_away(&bench.work)?;
    let mut report = table::Report::default();
    for row in chosen {
        eprintln!("== {}", row.title);
        (row.run)(&bench, &mut report).with_context(|| format!("row {}", row.name))?;
        // After each row, so that a run cut short leaves what it has measured.
        report.write(&arguments.out)?;
    }
    servers::remove_put_away(&bench.work)?;
    println!("{}", report.markdown());
    Ok(())
}

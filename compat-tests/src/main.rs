//! `compat-tests failover | kill-all | faults | upgrade | check`: what takes too long for a test, as commands with a report.
//!
//! Owns arguments and where reports go: JSON, and tables beside it as Markdown. Does not own what is done: the modules of the library do.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use compat_tests::checker::{history::History, judge};
use compat_tests::cluster::Kind;
use compat_tests::failover::{self, Fault};
use compat_tests::kafka_node::Flavour;
use compat_tests::load::prepare_clients;
use compat_tests::{faults, kill_all, upgrade};
use serde_json::{Value as Json, json};

/// Long runs on real processes; each ends with a JSON report.
#[derive(Parser, Debug)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Where the report goes, its tables beside it with the ending `md`; both go to stdout as well
    #[arg(long, global = true, default_value = "target/compat-tests/report.json")]
    out: PathBuf,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Longest gap between acknowledgements when a node is killed, ended or stopped
    Failover {
        /// Runs of each fault on each cluster
        #[arg(long, default_value_t = 20)]
        runs: usize,
        /// kill, stop, pause, controller, follower
        #[arg(long, value_delimiter = ',', default_value = "kill,stop,pause,controller,follower")]
        faults: Vec<String>,
        /// weir, kafka, kafka-tuned; several are run alternately
        #[arg(long, value_delimiter = ',', default_value = "weir")]
        clusters: Vec<String>,
        /// In how many turns the runs are divided among the clusters
        #[arg(long, default_value_t = 2)]
        turns: usize,
        /// A setting of librdkafka that differs from its default, as key=value
        #[arg(long)]
        librdkafka: Vec<String>,
        /// A setting of the Java client that differs from its default, as key=value
        #[arg(long)]
        java: Vec<String>,
    },
    /// All three nodes killed with -9 at once
    KillAll {
        /// How often
        #[arg(long, default_value_t = 20)]
        runs: usize,
    },
    /// The rows of the matrix of faults
    Faults {
        /// Only these rows, by comma
        #[arg(long, value_delimiter = ',')]
        rows: Vec<u8>,
        /// Fewer repetitions and shorter times
        #[arg(long)]
        short: bool,
        /// Name the rows and end
        #[arg(long)]
        list: bool,
    },
    /// A rolling upgrade from a build that knows one level of the metadata less, under load
    Upgrade,
    /// Judges histories: files of lines as the load programs write them
    Check { files: Vec<PathBuf> },
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let (report, tables) = match arguments.what {
        What::Failover { runs, faults, clusters, turns, librdkafka, java } => {
            measure_failover(runs, &faults, &clusters, turns, &librdkafka, &java)?
        }
        What::KillAll { runs } => {
            let outcome = kill_all::measure(runs)?;
            (json!({"clean": outcome.verdict.is_clean(), "kill_all": outcome.json()}), outcome.markdown())
        }
        What::Faults { list: true, .. } => {
            faults::ROWS.iter().for_each(|row| println!("{:>3} {}", row.number, row.says));
            return Ok(ExitCode::SUCCESS);
        }
        What::Faults { rows, short, .. } => (run_faults(&rows, short)?, String::new()),
        What::Upgrade => {
            prepare_clients()?;
            let outcome = upgrade::measure()?;
            (json!({"clean": outcome.is_clean(), "upgrade": outcome.json()}), String::new())
        }
        What::Check { files } => {
            let mut history = History::default();
            for file in files {
                let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
                history.add(&text).with_context(|| format!("in {}", file.display()))?;
            }
            let verdict = judge(&history);
            (json!({"clean": verdict.is_clean(), "checked": verdict.json()}), verdict.to_string())
        }
    };
    if let Some(folder) = arguments.out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let text = serde_json::to_string_pretty(&report)?;
    std::fs::write(&arguments.out, &text)?;
    println!("{text}");
    if !tables.is_empty() {
        std::fs::write(arguments.out.with_extension("md"), &tables)?;
        println!("{tables}");
    }
    Ok(if report["clean"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_faults(numbers: &[u8], is_short: bool) -> Result<Json> {
    prepare_clients()?;
    faults::net::enter()?;
    let chosen: Vec<faults::Row> =
        faults::ROWS.iter().filter(|row| numbers.is_empty() || numbers.contains(&row.number)).copied().collect();
    ensure!(!chosen.is_empty(), "no row has such a number; --list names them");
    let rows = faults::run(&chosen, is_short);
    let clean = rows.iter().all(|row| row["clean"] == true);
    Ok(json!({"clean": clean, "short": is_short, "rows": rows}))
}

fn kind(name: &str) -> Result<Kind> {
    match name {
        "weir" => Ok(Kind::Weir),
        "kafka" => Ok(Kind::Kafka(Flavour::Default)),
        "kafka-tuned" => Ok(Kind::Kafka(Flavour::Tuned)),
        _ => anyhow::bail!("{name} is not weir, kafka or kafka-tuned"),
    }
}

fn measure_failover(
    runs: usize,
    faults: &[String],
    clusters: &[String],
    turns: usize,
    librdkafka: &[String],
    java: &[String],
) -> Result<(Json, String)> {
    let faults: Vec<Fault> =
        Fault::ALL.into_iter().filter(|fault| faults.iter().any(|name| name == fault.name())).collect();
    ensure!(!faults.is_empty() && turns > 0, "nothing to measure");
    let kinds: Vec<Kind> = clusters.iter().map(|name| kind(name)).collect::<Result<_>>()?;
    prepare_clients()?;
    let (mut outcomes, mut failed) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        for kind in &kinds {
            for options in failover::plans(runs.div_ceil(turns), &faults, librdkafka, java) {
                // hours of measurements are not given up for one that fails
                match failover::measure(*kind, &options) {
                    Ok(outcome) => outcomes.push(outcome),
                    Err(error) => failed.push(format!("{kind:?}: {error:#}")),
                }
            }
        }
    }
    let clean = failed.is_empty() && outcomes.iter().all(|outcome| outcome.verdict.is_clean());
    let report = json!({"clean": clean, "failed": failed, "failover": failover::json(&outcomes)});
    Ok((report, failover::markdown(&outcomes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_well_formed_and_every_fault_has_a_name() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
        let names: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        assert_eq!(names.join(","), "kill,stop,pause,controller,follower");
    }
}

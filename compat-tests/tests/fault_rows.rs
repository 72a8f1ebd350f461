//! The rows of the matrix of faults that are short enough for every test run, one after the other on one cluster.
//! `cargo run --release -p compat-tests -- faults` runs all of them, each at length and on a cluster of its own.

use anyhow::{Result, ensure};
use compat_tests::{faults, load};

#[test]
fn the_short_rows_leave_a_clean_history() -> Result<()> {
    load::prepare_clients()?;
    let rows: Vec<faults::Row> = faults::ROWS.iter().filter(|row| row.is_short).copied().collect();
    ensure!(rows.len() >= 8, "{} rows", rows.len());
    let report = faults::run_together(&rows);
    println!("{report:#}");
    ensure!(report["clean"] == true, "{report:#}");
    Ok(())
}

//! Fault runs on real processes: each row breaks a cluster in one way under load of real clients, then everything is judged.
//!
//! Owns the rows and their report. Does not own the means (`inject`, `net`), the load or the checker.
//! A row is clean when the checker is and the cluster is healthy again; the figures beside it are told with their limits and do not
//! decide. Invariant: whatever a row has broken is mended or ended with it.

mod figures;
pub mod inject;
pub mod net;
mod rows_admin;
mod rows_disk;
mod rows_net;
mod rows_process;
mod stage;

use std::time::Instant;

use anyhow::Result;
use serde_json::{Value as Json, json};

use stage::Stage;

/// What a row needs beside the right to start processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Nothing,
    /// Each node in a network namespace of its own.
    Network,
    /// Each node's data on a small file system of its own.
    SmallDisks,
    /// `strace`, to make system calls slow or fail.
    Strace,
    /// Each node under libfaketime, with a clock that can jump.
    Clocks,
}

/// One row of the matrix of faults.
#[derive(Clone, Copy)]
pub struct Row {
    pub number: u8,
    pub says: &'static str,
    pub needs: Need,
    pub nodes: usize,
    /// Part of the short run on one cluster.
    pub is_short: bool,
    run: fn(&mut Stage) -> Result<()>,
}

/// Every row, by number.
pub const ROWS: &[Row] = &[
    rows_process::KILL_LEADER,
    rows_process::STOP_LEADER,
    rows_process::KILL_FOLLOWER,
    rows_process::KILL_CONTROLLER,
    rows_process::KILL_ALL,
    rows_process::PAUSE_LEADER,
    rows_process::PAUSE_ALL,
    rows_net::LEADER_ALONE,
    rows_net::ONE_WAY,
    rows_net::PARTIAL,
    rows_net::CUT_FROM_PEERS,
    rows_net::FLAPPING,
    rows_disk::SLOW_SYNC,
    rows_disk::FULL,
    rows_disk::WRITE_ERROR,
    rows_disk::SYNC_ERROR,
    rows_disk::DAMAGED_CACHES,
    rows_disk::WIPED,
    rows_admin::CLOCKS,
    rows_process::RESTART_LOOP,
    rows_process::ROLLING,
    rows_admin::REASSIGN,
    rows_admin::MEMBERS,
    rows_admin::PING_PONG,
];

/// Runs rows, each on a cluster of its own, and returns what is to be reported of them.
pub fn run(rows: &[Row], is_short: bool) -> Vec<Json> {
    rows.iter().map(|row| one(std::slice::from_ref(row), is_short)).collect()
}

/// Runs rows one after the other on one cluster of three nodes, with one judgement at the end.
pub fn run_together(rows: &[Row]) -> Json {
    one(rows, true)
}

fn one(rows: &[Row], is_short: bool) -> Json {
    let begun = Instant::now();
    let numbers: Vec<u8> = rows.iter().map(|row| row.number).collect();
    let says: Vec<&str> = rows.iter().map(|row| row.says).collect();
    eprintln!("rows {numbers:?}: {}", says.join("; "));
    let report = match played(rows, is_short) {
        Ok(report) => report,
        Err(error) => json!({"clean": false, "error": format!("{error:#}")}),
    };
    let mut report = report;
    report["rows"] = json!(numbers);
    report["says"] = json!(says.join("; "));
    report["seconds"] = json!(begun.elapsed().as_secs());
    report
}

fn played(rows: &[Row], is_short: bool) -> Result<Json> {
    let need = rows.iter().map(|row| row.needs).find(|need| *need != Need::Nothing).unwrap_or(Need::Nothing);
    let nodes = rows.iter().map(|row| row.nodes).max().unwrap_or(3);
    let mut stage = Stage::set(need, nodes, is_short)?;
    for row in rows {
        let begun = Instant::now();
        eprintln!("  row {}: {}", row.number, row.says);
        let played = stage.begin(row.says).and_then(|()| (row.run)(&mut stage)).and_then(|()| stage.recovered());
        if let Err(error) = played {
            let tails = stage.cluster.tails();
            return Ok(json!({"clean": false, "error": format!("row {}: {error:#}\n{tails}", row.number)}));
        }
        eprintln!("  row {}: {} s", row.number, begun.elapsed().as_secs());
    }
    stage.judged()
}

//! The row `cold`: what a consumer that reads from the disk does to producers.
//!
//! Owns the two spans that are compared: the same load without and with the reader. Invariant: what is read was taken out of the page
//! cache before, and the reader is still reading when the measured load ends.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use compat_tests::page_cache;

use crate::pair::Pair;
use crate::process;
use crate::rows::{Bench, number};
use crate::servers::{Kind, Server};
use crate::table::Report;
use crate::wire;

const RECORD_BYTES: u64 = 1024;
const PARTITIONS: i32 = 6;
/// Records each second of the producer that is watched.
const RATE: u64 = 5_000;
/// The page cache is written back before anything is measured.
const SETTLED: Duration = Duration::from_secs(5);

/// The watched producer's 99th percentile and the reader's MB/s, if there was one.
struct Watched {
    p99_ms: f64,
    foreign_pct: f64,
}

pub fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let records = bench.count(10_000_000);
    let seconds = (20 / bench.shrink).max(5);
    let (mut alone, mut beside, mut times, mut reading) =
        (Pair::default(), Pair::default(), Pair::default(), Pair::default());
    let mut foreign = 0.0f64;
    for kind in bench.kinds(Kind::Kafka) {
        // one server at a time: twice 10 GB is much for a disk
        let (server, is_weir) = (bench.start(kind)?, kind == Kind::Weir);
        wire::create_topic(server.address, "old", PARTITIONS, &[])?;
        wire::create_topic(server.address, "new", PARTITIONS, &[])?;
        let fill = ["-n".into(), records.to_string(), "-s".into(), RECORD_BYTES.to_string()];
        bench.span(&server, "produce", "old", &fill, &["acks=all", "linger.ms=5"])?;
        for run in 0..=bench.runs {
            page_cache::drop_below(&server.data())?;
            std::thread::sleep(SETTLED);
            let quiet = watched(bench, &server, seconds)?;
            let (busy, rate) = beside_a_reader(bench, &server, records, seconds)?;
            if run > 0 {
                alone.push(is_weir, quiet.p99_ms);
                beside.push(is_weir, busy.p99_ms);
                times.push(is_weir, busy.p99_ms / quiet.p99_ms);
                reading.push(is_weir, rate);
                foreign = foreign.max(quiet.foreign_pct).max(busy.foreign_pct);
            }
        }
    }
    let gb = (records * RECORD_BYTES) as f64 / 1e9;
    report.add(alone.told(&format!("producer at {RATE}/s: p99 of acks"), "ms"));
    report.add(beside.told(&format!("the same beside a consumer that reads {gb:.1} GB cold"), "ms"));
    let mut line = times.median_at_most("the second as a multiple of the first", "", 1.5);
    line.foreign_pct = foreign;
    report.add(line);
    report.add(reading.told("what the cold consumer read meanwhile", "MB/s"));
    Ok(())
}

fn watched(bench: &Bench, server: &Server, seconds: u64) -> Result<Watched> {
    let arguments = ["-d", &seconds.to_string(), "-s", &RECORD_BYTES.to_string(), "-r", &RATE.to_string(), "-w", "2"];
    let span = bench.span(server, "stall", "new", &arguments.map(String::from), &["acks=all", "linger.ms=0"])?;
    let p99_ms = number(span.answer.get("ack_ms").context("no ack_ms")?, "p99")?;
    Ok(Watched { p99_ms, foreign_pct: span.foreign_pct })
}

/// The watched load again while everything old is read from the disk; and how fast that went.
fn beside_a_reader(bench: &Bench, server: &Server, records: u64, seconds: u64) -> Result<(Watched, f64)> {
    page_cache::drop_below(&server.data())?;
    let read_before = process::disk_bytes_read(server.pid())?;
    let begun = Instant::now();
    let arguments = ["-n".into(), records.to_string()];
    let mut reader = bench.load.spawn("consume", &server.bootstrap(), "old", &arguments, &[])?;
    let watched = watched(bench, server, seconds)?;
    let is_cut_short = reader.is_done()?;
    let rate = (process::disk_bytes_read(server.pid())? - read_before) / begun.elapsed().as_secs_f64() / 1e6;
    ensure!(rate > 0.0, "the consumer read nothing from the disk: the page cache had it");
    if is_cut_short {
        eprintln!("   the consumer was done before the producer: more records would be needed on this machine");
    }
    Ok((watched, rate))
}

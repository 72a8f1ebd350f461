//! Rows of many partitions on one node: created, resident, started again after kill -9 under load, written to all at once.
//!
//! Owns what is run and what is asked of it. Kafka's side takes many minutes and is run with `--slow-kafka` only.
//! Invariant: the kill comes while acknowledgements come, and no partition is shorter after it than it was told to be before.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::pair::Pair;
use crate::process;
use crate::rows::{Bench, number};
use crate::servers::{Kind, Server};
use crate::table::{Report, median};
use crate::wire;

const TOPIC: &str = "w";
const RECORD_BYTES: u64 = 1024;
/// Work behind a creation or a start is not part of what is resident.
const SETTLED: Duration = Duration::from_secs(3);
/// Acknowledgements that must have come before the kill.
const UNDER_LOAD: Duration = Duration::from_secs(5);
const LOAD_MAX: Duration = Duration::from_secs(60);

fn kinds(bench: &Bench, other: Kind) -> Vec<Kind> {
    if bench.slow_kafka { bench.kinds(other) } else { vec![Kind::Weir] }
}

fn produce(count: u64) -> [String; 4] {
    ["-n".into(), count.to_string(), "-s".into(), RECORD_BYTES.to_string()]
}

/// What one run of `wide` gives, in the order of its lines.
struct Wide {
    created_s: f64,
    resident_mb: f64,
    loaded_mb: f64,
    restart_s: f64,
    restarted_mb: f64,
}

pub fn wide(bench: &Bench, report: &mut Report) -> Result<()> {
    let partitions = i32::try_from(bench.count(10_000))?;
    let bytes = 5_000_000_000 / bench.shrink;
    let mut pairs: [Pair; 5] = std::array::from_fn(|_| Pair::default());
    for _ in 0..bench.runs.min(3) {
        for kind in kinds(bench, Kind::Kafka) {
            let run = wide_once(bench, kind, partitions, bytes)?;
            let values = [run.created_s, run.resident_mb, run.loaded_mb, run.restart_s, run.restarted_mb];
            pairs.iter_mut().zip(values).for_each(|(pair, value)| pair.push(kind == Kind::Weir, value));
        }
    }
    let [created, resident, loaded, restart, restarted] = pairs;
    let (count, gb) = (format!("{partitions} partitions"), bytes as f64 / 1e9);
    report.add(created.below(&format!("{count}: created, led, all answer ListOffsets"), "s", 5.0));
    report.add(resident.below(&format!("{count}: resident when created"), "MB", 200.0));
    report.add(loaded.told(&format!("{count}: resident after {gb} GB into all of them"), "MB"));
    report.add(restart.below(&format!("{count}: kill -9 under load with {gb} GB, until all answer"), "s", 2.0));
    report.add(restarted.below(&format!("{count}: resident when started again"), "MB", 200.0));
    Ok(())
}

fn wide_once(bench: &Bench, kind: Kind, partitions: i32, bytes: u64) -> Result<Wide> {
    let server = bench.start(kind)?;
    let begun = Instant::now();
    wire::create_topic(server.address, TOPIC, partitions, &[])?;
    wire::wait_for_offsets(server.address, TOPIC, partitions)?;
    let created_s = begun.elapsed().as_secs_f64();
    std::thread::sleep(SETTLED);
    let resident_mb = process::resident_mb(server.pid())?;
    // Without keys: the client fills a batch for one partition, then one for the next.
    let filling = ["acks=all", "linger.ms=5", "sticky.partitioning.linger.ms=1"];
    bench.load.run("produce", &server.bootstrap(), TOPIC, &produce(bytes / RECORD_BYTES), &filling)?;
    let loaded_mb = process::resident_mb(server.pid())?;
    let (server, restart_s) = killed_under_load(bench, server, partitions)?;
    std::thread::sleep(SETTLED);
    Ok(Wide { created_s, resident_mb, loaded_mb, restart_s, restarted_mb: process::resident_mb(server.pid())? })
}

/// Kills the server while a producer writes to all partitions, starts it again, and waits until all of them answer.
fn killed_under_load(bench: &Bench, mut server: Server, partitions: i32) -> Result<(Server, f64)> {
    let before: i64 = wire::wait_for_offsets(server.address, TOPIC, partitions)?.iter().sum();
    let arguments = ["-d".into(), LOAD_MAX.as_secs().to_string(), "-s".into(), RECORD_BYTES.to_string(), "-k".into()];
    let properties = ["acks=all", "linger.ms=5"];
    let mut load = bench.load.spawn("produce", &server.bootstrap(), TOPIC, &arguments, &properties)?;
    let begun = Instant::now();
    while wire::wait_for_offsets(server.address, TOPIC, partitions)?.iter().sum::<i64>() == before {
        ensure!(begun.elapsed() < LOAD_MAX && !load.is_done()?, "the load before the kill had no acknowledgement");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(UNDER_LOAD);
    let acked = wire::wait_for_offsets(server.address, TOPIC, partitions)?;
    ensure!(!load.is_done()?, "the load ended before the kill");
    server.kill()?;
    drop(load);
    let begun = Instant::now();
    let server = server.restarted(&bench.weir, &bench.work)?;
    let after = wire::wait_for_offsets(server.address, TOPIC, partitions)?;
    let took = begun.elapsed().as_secs_f64();
    let lost = acked.iter().zip(&after).position(|(acked, after)| after < acked);
    ensure!(lost.is_none(), "partition {lost:?} is shorter than before the kill");
    Ok((server, took))
}

/// One producer over many partitions and over ten, batch after batch to another partition; and with keys, where each record goes to
/// another one: there the client is what is measured, since it has as many half-empty batches as partitions.
pub fn spread(bench: &Bench, report: &mut Report) -> Result<()> {
    let partitions = i32::try_from(bench.count(10_000))?;
    for (how, keyed, asked) in [("batch by batch", false, Some(0.5)), ("record by record", true, None)] {
        let (mut few, mut many, mut share) = (Pair::default(), Pair::default(), Pair::default());
        for kind in kinds(bench, Kind::KafkaFsync) {
            let (server, is_weir) = (bench.start(kind)?, kind == Kind::Weir);
            wire::create_topic(server.address, "many", partitions, &[])?;
            wire::create_topic(server.address, "few", 10, &[])?;
            for run in 0..=bench.runs {
                let mut arguments = produce(bench.count(500_000)).to_vec();
                arguments.extend(keyed.then(|| "-k".to_owned()));
                let rate = |topic: &str| {
                    let span = bench.span(&server, "produce", topic, &arguments, SPREAD)?;
                    number(&span.answer, "MB_per_s")
                };
                let (over_few, over_many) = (rate("few")?, rate("many")?);
                // the first run makes the files of all partitions, and is not counted
                if run > 0 {
                    few.push(is_weir, over_few);
                    many.push(is_weir, over_many);
                    share.push(is_weir, over_many / over_few);
                }
            }
        }
        report.add(few.told(&format!("one producer over 10 partitions, {how}, fsync"), "MB/s"));
        report.add(many.told(&format!("the same over {partitions}"), "MB/s"));
        let figure = "the second as a share of the first";
        report.add(match asked {
            Some(bound) => share.above(figure, "", bound),
            None => share.told(figure, ""),
        });
    }
    Ok(())
}

const SPREAD: &[&str] = &["acks=all", "linger.ms=5", "sticky.partitioning.linger.ms=1"];

/// Five topics of ten thousand; what each step costs, and how near the process comes to the limits of the system.
pub fn widest(bench: &Bench, report: &mut Report) -> Result<()> {
    let (topics, each) = (5, i32::try_from(bench.count(10_000))?);
    let names: Vec<String> = (0..topics).map(|at| format!("{TOPIC}{at}")).collect();
    let mut server = bench.start(Kind::Weir)?;
    let one = |report: &mut Report, figure: &str, unit: &'static str, value: f64| {
        let mut pair = Pair::default();
        pair.push(true, value);
        report.add(pair.told(&format!("{} partitions: {figure}", topics * each), unit));
    };
    let begun = Instant::now();
    for name in &names {
        wire::create_topic(server.address, name, each, &[])?;
    }
    one(report, "created and led", "s", begun.elapsed().as_secs_f64());
    std::thread::sleep(SETTLED);
    one(report, "resident when created", "MB", process::resident_mb(server.pid())?);
    let mut rates = Vec::new();
    for name in &names {
        let mut arguments = produce(bench.count(200_000)).to_vec();
        arguments.push("-k".into());
        rates.push(number(&bench.span(&server, "produce", name, &arguments, SPREAD)?.answer, "MB_per_s")?);
    }
    one(report, "MB/s, each partition written to", "MB/s", median(&rates));
    let ((open, maps), resident) = (process::descriptors_and_maps(server.pid())?, process::resident_mb(server.pid())?);
    one(report, "resident when each was written to", "MB", resident);
    one(report, "open files, share of the limit", "%", 100.0 * open as f64 / process::descriptors_max() as f64);
    one(report, "maps, share of the limit", "%", 100.0 * maps as f64 / process::maps_max()? as f64);
    server.kill()?;
    let begun = Instant::now();
    let server = server.restarted(&bench.weir, &bench.work)?;
    for name in &names {
        wire::wait_for_offsets(server.address, name, each).with_context(|| format!("topic {name} after a kill"))?;
    }
    one(report, "kill -9 until all answer ListOffsets", "s", begun.elapsed().as_secs_f64());
    std::thread::sleep(SETTLED);
    one(report, "resident when started again", "MB", process::resident_mb(server.pid())?);
    Ok(())
}

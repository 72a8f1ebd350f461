//! Rows of three nodes with factor 3, Weir and Kafka in turn: two clusters at once would share two cores six ways.
//!
//! Owns what is run and what is asked of it. Does not own starting nodes (`compat_tests::cluster`) or the load.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use compat_tests::cluster::{Cluster, Kind, Place, Plan};
use compat_tests::kafka_node::Flavour;
use serde_json::Value;

use crate::pair::Pair;
use crate::process;
use crate::rows::{Bench, at_most, children_seconds, number};
use crate::table::Report;

const NODES: usize = 3;
/// A cluster's own work behind its start is not the load's.
const SETTLED: Duration = Duration::from_secs(3);

fn start_cluster(bench: &Bench, kind: Kind) -> Result<(Cluster, Duration)> {
    let plan = Plan {
        name: "bench".into(),
        kind,
        places: vec![Place::default(); NODES],
        settings: Vec::new(),
        binary: Some(bench.weir.clone()),
    };
    let mut cluster = Cluster::prepare(plan)?;
    let took = cluster.up_all()?;
    Ok((cluster, took))
}

fn kinds(bench: &Bench, other: Flavour) -> Vec<Kind> {
    if bench.weir_only { vec![Kind::Weir] } else { vec![Kind::Weir, Kind::Kafka(other)] }
}

/// The sum of a figure over all nodes.
fn over_nodes(cluster: &Cluster, figure: impl Fn(u32) -> Result<f64>) -> Result<f64> {
    cluster.nodes.values().filter_map(|node| node.pid()).map(figure).sum()
}

/// What one load cost all nodes together.
struct Cost {
    answer: Value,
    cpu_s: f64,
    disk_bytes: f64,
    foreign_pct: f64,
}

fn cost(
    bench: &Bench,
    cluster: &Cluster,
    mode: &str,
    topic: &str,
    args: &[String],
    properties: &[&str],
) -> Result<Cost> {
    let begun = Instant::now();
    let ((busy, stolen), clients) = (process::machine_seconds()?, children_seconds());
    let (cpu, disk) = (over_nodes(cluster, process::cpu_seconds)?, over_nodes(cluster, process::disk_bytes)?);
    let answer = bench.load.run(mode, &cluster.bootstrap(), topic, args, properties)?;
    let (cpu_s, disk_bytes) =
        (over_nodes(cluster, process::cpu_seconds)? - cpu, over_nodes(cluster, process::disk_bytes)? - disk);
    let (busy_after, stolen_after) = process::machine_seconds()?;
    let foreign = (busy_after - busy - cpu_s - (children_seconds() - clients)).max(0.0) + stolen_after - stolen;
    let cores = std::thread::available_parallelism()?.get() as f64;
    Ok(Cost { answer, cpu_s, disk_bytes, foreign_pct: 100.0 * foreign / (begun.elapsed().as_secs_f64() * cores) })
}

pub fn start(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut time = Pair::default();
    for _ in 0..bench.runs {
        for kind in kinds(bench, Flavour::Default) {
            let (_cluster, took) = start_cluster(bench, kind)?;
            time.push(kind == Kind::Weir, took.as_secs_f64() * 1000.0);
        }
    }
    report.add(time.below("three nodes started at once, until each names all", "ms", 500.0));
    Ok(())
}

pub fn produce(bench: &Bench, report: &mut Report) -> Result<()> {
    produce_against(bench, report, Flavour::Default, 1.5, "Kafka without fsync")
}

pub fn produce_fsync(bench: &Bench, report: &mut Report) -> Result<()> {
    produce_against(bench, report, Flavour::Fsync, 3.0, "Kafka with fsync")
}

fn produce_against(bench: &Bench, report: &mut Report, other: Flavour, times: f64, name: &str) -> Result<()> {
    let (mut rate, mut cpu, mut disk, mut foreign) = (Pair::default(), Pair::default(), Pair::default(), 0.0f64);
    for _ in 0..bench.runs {
        for kind in kinds(bench, other) {
            let (cluster, _) = start_cluster(bench, kind)?;
            let settings = [("min.insync.replicas", "2"), ("retention.bytes", "200000000")];
            std::thread::sleep(SETTLED);
            // the first run of all warms both (a JVM halves its cost over the first GBs) and is not counted
            for run in 0..2 {
                let topic = format!("p{run}");
                cluster.create_topic(&topic, 6, 3, &settings)?;
                let count = bench.count(if other == Flavour::Fsync { 400_000 } else { 1_000_000 });
                let args = ["-n".into(), count.to_string(), "-s".into(), "1024".into()];
                let cost = cost(bench, &cluster, "produce", &topic, &args, &["acks=all", "linger.ms=5"])?;
                if run > 0 {
                    let bytes = count as f64 * 1024.0;
                    rate.push(kind == Kind::Weir, number(&cost.answer, "MB_per_s")?);
                    cpu.push(kind == Kind::Weir, cost.cpu_s / (bytes / 1e9));
                    disk.push(kind == Kind::Weir, cost.disk_bytes / bytes);
                    foreign = foreign.max(cost.foreign_pct);
                }
            }
        }
    }
    report.add(rate.at_least(&format!("factor 3, acks=all, 1 KiB, 6 partitions; {name}"), "MB/s", times, foreign));
    report.add(at_most("CPU s per GB over all nodes", "s/GB", 0.25, cpu.weir, cpu.kafka, foreign));
    report.add(disk.told("bytes written to disk per byte acknowledged, over all nodes", "B/B"));
    Ok(())
}

pub fn request(bench: &Bench, report: &mut Report) -> Result<()> {
    let (mut p99, mut behind) = (Pair::default(), Pair::default());
    let seconds = (20 / bench.shrink).max(5);
    for _ in 0..bench.runs {
        for kind in kinds(bench, Flavour::Default) {
            let (cluster, _) = start_cluster(bench, kind)?;
            cluster.create_topic("r", 6, 3, &[("min.insync.replicas", "2")])?;
            std::thread::sleep(SETTLED);
            let args = ["-d", &seconds.to_string(), "-s", "100", "-r", "1000", "-w", "3"].map(String::from);
            let properties = ["acks=all", "linger.ms=0", "batch.num.messages=1", "socket.nagle.disable=true"];
            let cost = cost(bench, &cluster, "stall", "r", &args, &properties)?;
            p99.push(kind == Kind::Weir, number(cost.answer.get("ack_ms").context("no ack_ms")?, "p99")?);
            behind.push(kind == Kind::Weir, number(&cost.answer, "seconds")? - seconds as f64);
        }
    }
    report.add(p99.below("factor 3, one record a request at 1,000/s: p99 of acks", "ms", 20.0));
    report.add(behind.below("the same: how long the last ack came behind its record's time", "s", 1.0));
    Ok(())
}

pub fn wide(bench: &Bench, report: &mut Report) -> Result<()> {
    let partitions = i32::try_from(10_000 / bench.shrink)?;
    let mut figures: Vec<(&str, &'static str, f64, Pair)> = vec![
        ("created and led by somebody", "s", f64::INFINITY, Pair::default()),
        ("described", "s", f64::INFINITY, Pair::default()),
        ("produced to: MB/s", "MB/s", f64::INFINITY, Pair::default()),
        ("resident, largest node", "MB", 512.0, Pair::default()),
        ("one node killed, until all partitions have a leader", "s", 2.0, Pair::default()),
    ];
    for _ in 0..bench.runs.min(3) {
        let measured = wide_once(bench, partitions)?;
        figures.iter_mut().zip(measured).for_each(|((_, _, _, pair), value)| pair.push(true, value));
    }
    for (figure, unit, bound, pair) in figures {
        let figure = format!("{partitions} partitions with factor 3: {figure}");
        report.add(if bound.is_finite() { pair.below(&figure, unit, bound) } else { pair.told(&figure, unit) });
    }
    Ok(())
}

fn wide_once(bench: &Bench, partitions: i32) -> Result<[f64; 5]> {
    let (mut cluster, _) = start_cluster(bench, Kind::Weir)?;
    let begun = Instant::now();
    cluster.create_topic("w", partitions, 3, &[("min.insync.replicas", "2")])?;
    let created = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    cluster.admin().partitions("w")?;
    let described = begun.elapsed().as_secs_f64();
    let args = ["-n".into(), bench.count(400_000).to_string(), "-s".into(), "1024".into(), "-k".into()];
    let produced = cost(bench, &cluster, "produce", "w", &args, &["acks=all", "linger.ms=5"])?;
    let pids = cluster.nodes.values().filter_map(|node| node.pid());
    let resident = pids.map(process::resident_mb).collect::<Result<Vec<f64>>>()?.into_iter().fold(0.0, f64::max);
    let victim =
        cluster.admin().partitions("w")?.first().and_then(|partition| partition.leader).context("no leader")?;
    let begun = Instant::now();
    cluster.kill(victim)?;
    let (admin, limit) = (cluster.admin(), Duration::from_secs(120));
    loop {
        let led = admin
            .partitions("w")
            .is_ok_and(|all| all.iter().all(|partition| partition.leader.is_some_and(|leader| leader != victim)));
        if led {
            break;
        }
        anyhow::ensure!(
            begun.elapsed() < limit,
            "partitions without a leader {limit:?} after node {victim} was killed"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok([created, described, number(&produced.answer, "MB_per_s")?, resident, begun.elapsed().as_secs_f64()])
}

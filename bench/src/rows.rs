//! The rows of the table: what each runs, and what the project asks of it.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cluster_rows;
use crate::cold;
use crate::connections;
use crate::groups;
use crate::load::Load;
use crate::pair::Pair;
use crate::process;
use crate::servers::{Kind, Server};
use crate::table::{Line, Report, median};
use crate::wide;
use crate::wire;

pub struct Bench {
    pub load: Load,
    pub weir: PathBuf,
    pub work: PathBuf,
    pub runs: usize,
    pub shrink: u64,
    pub weir_only: bool,
    /// Kafka's side too of rows that take it minutes.
    pub slow_kafka: bool,
}

pub struct Row {
    pub name: &'static str,
    pub title: &'static str,
    pub run: fn(&Bench, &mut Report) -> Result<()>,
}

pub const ROWS: &[Row] = &[
    Row { name: "start", title: "start to the first Metadata answer; resident when idle", run: start },
    Row { name: "idle", title: "CPU of an idle node over 60 s", run: idle },
    Row { name: "produce", title: "CPU s per GB produced; resident after load", run: produce },
    Row { name: "request", title: "CPU per request of one 100 B record", run: request },
    Row { name: "consume", title: "CPU s per GB consumed", run: consume },
    Row { name: "latency", title: "produce to consume at 1,000/s, linger 0", run: latency },
    Row { name: "latency-fsync", title: "the same, Kafka with an fsync too", run: latency_fsync },
    Row { name: "partitions", title: "MB/s into 100 partitions, fsync on both sides", run: partitions },
    Row { name: "cluster-start", title: "three nodes started at once", run: cluster_rows::start },
    Row {
        name: "cluster-produce",
        title: "factor 3, acks=all: throughput, CPU, bytes on disk",
        run: cluster_rows::produce,
    },
    Row { name: "cluster-fsync", title: "the same, Kafka with an fsync too", run: cluster_rows::produce_fsync },
    Row { name: "cluster-request", title: "factor 3, one record a request at 1,000/s", run: cluster_rows::request },
    Row { name: "cluster-wide", title: "10,000 partitions with factor 3 (Weir alone)", run: cluster_rows::wide },
    Row { name: "wide", title: "10,000 partitions on one node; kill -9 under load with 5 GB", run: wide::wide },
    Row { name: "spread", title: "MB/s over 10,000 partitions against 10, with fsync", run: wide::spread },
    Row { name: "widest", title: "50,000 partitions on one node (Weir alone)", run: wide::widest },
    Row { name: "connections", title: "memory of 10,000 idle connections", run: connections::run },
    Row { name: "cold", title: "producers beside a consumer that reads 10 GB cold", run: cold::run },
    Row { name: "groups", title: "1 to 3 members of a group; CPU of 1,000 idle members", run: groups::run },
];

/// What one measured span cost.
pub(crate) struct Span {
    pub server_cpu_s: f64,
    pub foreign_pct: f64,
    pub answer: Value,
}

impl Bench {
    pub(crate) fn kinds(&self, other: Kind) -> Vec<Kind> {
        if self.weir_only { vec![Kind::Weir] } else { vec![Kind::Weir, other] }
    }

    pub(crate) fn start(&self, kind: Kind) -> Result<Server> {
        Server::start(kind, &self.weir, &self.work)
    }

    pub(crate) fn count(&self, full: u64) -> u64 {
        (full / self.shrink).max(1000)
    }

    /// Runs one load and measures the server meanwhile.
    pub(crate) fn span(
        &self,
        server: &Server,
        mode: &str,
        topic: &str,
        arguments: &[String],
        properties: &[&str],
    ) -> Result<Span> {
        let (cpu, (busy, stolen), begun) =
            (process::cpu_seconds(server.pid())?, process::machine_seconds()?, Instant::now());
        let clients = children_seconds();
        let answer = self.load.run(mode, &server.bootstrap(), topic, arguments, properties)?;
        let server_cpu_s = process::cpu_seconds(server.pid())? - cpu;
        let (busy_after, stolen_after) = process::machine_seconds()?;
        let ours = server_cpu_s + children_seconds() - clients;
        let cores = std::thread::available_parallelism()?.get() as f64;
        let foreign = (busy_after - busy - ours).max(0.0) + stolen_after - stolen;
        Ok(Span { server_cpu_s, foreign_pct: 100.0 * foreign / (begun.elapsed().as_secs_f64() * cores), answer })
    }
}

/// CPU seconds of the processes that we started and that have ended.
pub(crate) fn children_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |at: usize| after.split_whitespace().nth(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(13) + ticks(14)) / 100.0
}

pub(crate) fn at_most(
    figure: &str,
    unit: &'static str,
    share: f64,
    weir: Vec<f64>,
    kafka: Vec<f64>,
    foreign_pct: f64,
) -> Line {
    let held = (!weir.is_empty() && !kafka.is_empty()).then(|| median(&weir) <= share * median(&kafka));
    Line { figure: figure.into(), unit, weir, kafka, asked: format!("at most {share:.3}"), held, foreign_pct }
}

fn start(bench: &Bench, report: &mut Report) -> Result<()> {
    let (mut time, mut resident) = (Pair::default(), Pair::default());
    for _ in 0..bench.runs {
        for kind in bench.kinds(Kind::Kafka) {
            let server = bench.start(kind)?;
            time.push(kind == Kind::Weir, server.started_in.as_secs_f64() * 1000.0);
            std::thread::sleep(Duration::from_secs(2)); // resident when it has settled, not at its first answer
            resident.push(kind == Kind::Weir, process::resident_mb(server.pid())?);
        }
    }
    report.add(at_most("start to first Metadata answer", "ms", 1.0 / 50.0, time.weir, time.kafka, 0.0));
    report.add(at_most("resident, idle", "MB", 1.0 / 15.0, resident.weir, resident.kafka, 0.0));
    Ok(())
}

fn idle(bench: &Bench, report: &mut Report) -> Result<()> {
    let seconds = (60 / bench.shrink).max(5);
    let mut share = Pair::default();
    // At the same time: neither does anything that could disturb the other.
    let servers: Vec<(Kind, Server)> =
        bench.kinds(Kind::Kafka).into_iter().map(|kind| Ok((kind, bench.start(kind)?))).collect::<Result<_>>()?;
    servers.iter().try_for_each(|(_, server)| wire::create_topic(server.address, "idle", 10, &[]))?;
    std::thread::sleep(Duration::from_secs(10)); // start-up work is not idling
    for _ in 0..bench.runs {
        let before: Vec<f64> =
            servers.iter().map(|(_, server)| process::cpu_seconds_fine(server.pid())).collect::<Result<_>>()?;
        std::thread::sleep(Duration::from_secs(seconds));
        for ((kind, server), before) in servers.iter().zip(before) {
            share.push(
                *kind == Kind::Weir,
                100.0 * (process::cpu_seconds_fine(server.pid())? - before) / seconds as f64,
            );
        }
    }
    let held = Some(median(&share.weir) <= 0.2);
    let (figure, asked) = (format!("idle CPU over {seconds} s"), "at most 0.2 % of a core".to_owned());
    report.add(Line { figure, unit: "%", weir: share.weir, kafka: share.kafka, asked, held, foreign_pct: 0.0 });
    Ok(())
}

struct Shape {
    figure: &'static str,
    size: u64,
    count: u64,
    share: f64,
    properties: &'static [&'static str],
}

const SHAPES: &[Shape] = &[
    Shape {
        figure: "CPU s per GB, 1 KiB, default batches",
        size: 1024,
        count: 2_000_000,
        share: 0.5,
        properties: &["acks=all", "linger.ms=5"],
    },
    Shape {
        figure: "CPU s per GB, 1 KiB, 16 KiB batches",
        size: 1024,
        count: 700_000,
        share: 0.2,
        properties: &["acks=all", "linger.ms=5", "batch.size=16384"],
    },
    Shape {
        figure: "CPU s per GB, 100 B",
        size: 100,
        count: 10_000_000,
        share: 0.5,
        properties: &["acks=all", "linger.ms=5"],
    },
];

fn produce(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut costs: Vec<Pair> = SHAPES.iter().map(|_| Pair::default()).collect();
    let mut rates: Vec<Pair> = SHAPES.iter().map(|_| Pair::default()).collect();
    let (mut resident, mut foreign) = (Pair::default(), 0.0f64);
    let servers: Vec<(Kind, Server)> =
        bench.kinds(Kind::Kafka).into_iter().map(|kind| Ok((kind, bench.start(kind)?))).collect::<Result<_>>()?;
    for run in 0..=bench.runs {
        for (kind, server) in &servers {
            for ((shape, cost), rate) in SHAPES.iter().zip(&mut costs).zip(&mut rates) {
                let topic = format!("p{run}-{}-{}", shape.size, shape.properties.len());
                wire::create_topic(server.address, &topic, 6, &[("retention.bytes", "100000000")])?;
                let count = bench.count(shape.count);
                let arguments = ["-n".into(), count.to_string(), "-s".into(), shape.size.to_string()];
                let span = bench.span(server, "produce", &topic, &arguments, shape.properties)?;
                // The first run of all warms both servers (a JVM halves its cost over the first GBs) and is not counted.
                if run > 0 {
                    cost.push(*kind == Kind::Weir, span.server_cpu_s / (count as f64 * shape.size as f64 / 1e9));
                    rate.push(*kind == Kind::Weir, number(&span.answer, "MB_per_s")?);
                    foreign = foreign.max(span.foreign_pct);
                }
            }
            if run > 0 {
                resident.push(*kind == Kind::Weir, process::resident_mb(server.pid())?);
            }
        }
    }
    for ((shape, cost), rate) in SHAPES.iter().zip(costs).zip(rates) {
        report.add(at_most(shape.figure, "s/GB", shape.share, cost.weir, cost.kafka, foreign));
        let figure = format!("throughput of the row above ({})", shape.properties.join(" "));
        report.add(Line {
            figure,
            unit: "MB/s",
            weir: rate.weir,
            kafka: rate.kafka,
            asked: "-".into(),
            held: None,
            foreign_pct: foreign,
        });
    }
    report.add(at_most("resident after load", "MB", 1.0 / 8.0, resident.weir, resident.kafka, foreign));
    Ok(())
}

pub(crate) fn number(answer: &Value, key: &str) -> Result<f64> {
    answer.get(key).and_then(Value::as_f64).with_context(|| format!("no {key} in {answer}"))
}

fn request(bench: &Bench, report: &mut Report) -> Result<()> {
    let (mut cost, mut foreign) = (Pair::default(), 0.0f64);
    let servers: Vec<(Kind, Server)> =
        bench.kinds(Kind::Kafka).into_iter().map(|kind| Ok((kind, bench.start(kind)?))).collect::<Result<_>>()?;
    for run in 0..=bench.runs {
        for (kind, server) in &servers {
            let topic = format!("r{run}");
            wire::create_topic(server.address, &topic, 1, &[])?;
            let count = bench.count(400_000);
            let arguments = ["-n".into(), count.to_string(), "-s".into(), "100".into()];
            let properties = ["acks=all", "linger.ms=0", "batch.num.messages=1", "max.in.flight=100"];
            let span = bench.span(server, "produce", &topic, &arguments, &properties)?;
            if run > 0 {
                cost.push(*kind == Kind::Weir, span.server_cpu_s / count as f64 * 1e6);
                foreign = foreign.max(span.foreign_pct);
            }
        }
    }
    report.add(at_most("CPU per request, one 100 B record each", "µs", 1.0 / 8.0, cost.weir, cost.kafka, foreign));
    Ok(())
}

fn consume(bench: &Bench, report: &mut Report) -> Result<()> {
    let (mut cost, mut foreign) = (Pair::default(), 0.0f64);
    let servers: Vec<(Kind, Server)> =
        bench.kinds(Kind::Kafka).into_iter().map(|kind| Ok((kind, bench.start(kind)?))).collect::<Result<_>>()?;
    let count = bench.count(2_000_000);
    for (_, server) in &servers {
        wire::create_topic(server.address, "c", 6, &[])?;
        let arguments = ["-n".into(), count.to_string(), "-s".into(), "1024".into()];
        bench.span(server, "produce", "c", &arguments, &["acks=all", "linger.ms=5"])?;
    }
    for run in 0..=bench.runs {
        for (kind, server) in &servers {
            let span = bench.span(server, "consume", "c", &["-n".into(), count.to_string()], &[])?;
            if run > 0 {
                cost.push(*kind == Kind::Weir, span.server_cpu_s / (count as f64 * 1024.0 / 1e9));
                foreign = foreign.max(span.foreign_pct);
            }
        }
    }
    report.add(at_most("CPU s per GB consumed, 1 KiB", "s/GB", 1.0 / 1.3, cost.weir, cost.kafka, foreign));
    Ok(())
}

/// p50 and p99 of writing and syncing 4 KiB in a file whose blocks were written before.
fn own_fdatasync_ms(bench: &Bench) -> Result<(f64, f64)> {
    let path = bench.work.join("fdatasync.probe");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    let (page, pages) = (vec![7u8; 4096], 4096u64);
    file.write_all_at(&vec![0; 4096 * pages as usize], 0)?;
    file.sync_all()?;
    let mut times = Vec::new();
    for at in 0..2000u64 {
        let begun = Instant::now();
        file.write_all_at(&page, (at % pages) * 4096)?;
        file.sync_data()?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    std::fs::remove_file(&path)?;
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}

fn latency_run(bench: &Bench, server: &Server, topic: &str) -> Result<(f64, f64, f64)> {
    wire::create_topic(server.address, topic, 1, &[])?;
    let seconds = (20 / bench.shrink).max(5);
    let arguments = [
        "-d".into(),
        seconds.to_string(),
        "-s".into(),
        "100".into(),
        "-r".into(),
        "1000".into(),
        "-w".into(),
        "2".into(),
    ];
    let properties = ["P.acks=all", "P.linger.ms=0", "socket.nagle.disable=true", "C.fetch.wait.max.ms=100"];
    let span = bench.span(server, "e2e", topic, &arguments, &properties)?;
    let times = span.answer.get("e2e_ms").context("no e2e_ms")?;
    Ok((number(times, "p50")?, number(times, "p99")?, span.foreign_pct))
}

struct Latencies {
    p50: Pair,
    p99: Pair,
    /// Each of the run's own, as (p50, p99).
    sync: Vec<(f64, f64)>,
    foreign_pct: f64,
}

fn latencies(bench: &Bench, other: Kind) -> Result<Latencies> {
    let mut all = Latencies { p50: Pair::default(), p99: Pair::default(), sync: Vec::new(), foreign_pct: 0.0 };
    let servers: Vec<(Kind, Server)> =
        bench.kinds(other).into_iter().map(|kind| Ok((kind, bench.start(kind)?))).collect::<Result<_>>()?;
    for run in 0..=bench.runs {
        if run > 0 {
            all.sync.push(own_fdatasync_ms(bench)?);
        }
        for (kind, server) in &servers {
            let (p50, p99, foreign) = latency_run(bench, server, &format!("l{run}"))?;
            if run > 0 {
                all.p50.push(*kind == Kind::Weir, p50);
                all.p99.push(*kind == Kind::Weir, p99);
                all.foreign_pct = all.foreign_pct.max(foreign);
            }
        }
    }
    Ok(all)
}

fn latency(bench: &Bench, report: &mut Report) -> Result<()> {
    let all = latencies(bench, Kind::Kafka)?;
    let sync = |pick: fn(&(f64, f64)) -> f64| median(&all.sync.iter().map(pick).collect::<Vec<_>>());
    for (name, pair, sync) in [("p50", all.p50, sync(|s| s.0)), ("p99", all.p99, sync(|s| s.1))] {
        let held = (!pair.kafka.is_empty()).then(|| median(&pair.weir) <= median(&pair.kafka) + sync);
        let (figure, asked) = (
            format!("produce to consume at 1,000/s, {name}"),
            format!("at most Kafka's + {sync:.3} ms (fdatasync {name})"),
        );
        report.add(Line {
            figure,
            unit: "ms",
            weir: pair.weir,
            kafka: pair.kafka,
            asked,
            held,
            foreign_pct: all.foreign_pct,
        });
    }
    Ok(())
}

fn latency_fsync(bench: &Bench, report: &mut Report) -> Result<()> {
    let all = latencies(bench, Kind::KafkaFsync)?;
    report.add(at_most(
        "the same, Kafka with fsync, p50",
        "ms",
        2.0 / 3.0,
        all.p50.weir,
        all.p50.kafka,
        all.foreign_pct,
    ));
    report.add(at_most(
        "the same, Kafka with fsync, p99",
        "ms",
        1.0 / 3.0,
        all.p99.weir,
        all.p99.kafka,
        all.foreign_pct,
    ));
    Ok(())
}

fn partitions(bench: &Bench, report: &mut Report) -> Result<()> {
    let (mut rate, mut foreign) = (Pair::default(), 0.0f64);
    let servers: Vec<(Kind, Server)> =
        bench.kinds(Kind::KafkaFsync).into_iter().map(|kind| Ok((kind, bench.start(kind)?))).collect::<Result<_>>()?;
    for run in 0..=bench.runs {
        for (kind, server) in &servers {
            let topic = format!("h{run}");
            wire::create_topic(server.address, &topic, 100, &[("retention.bytes", "10000000")])?;
            let arguments = ["-n".into(), bench.count(300_000).to_string(), "-s".into(), "1024".into(), "-k".into()];
            let span = bench.span(server, "produce", &topic, &arguments, &["acks=all", "linger.ms=5"])?;
            if run > 0 {
                rate.push(*kind == Kind::Weir, number(&span.answer, "MB_per_s")?);
                foreign = foreign.max(span.foreign_pct);
            }
        }
    }
    let held = (!rate.kafka.is_empty()).then(|| median(&rate.weir) >= 3.0 * median(&rate.kafka));
    let (figure, asked) = ("into 100 partitions at once, fsync on both sides".to_owned(), "at least 3".to_owned());
    report.add(Line { figure, unit: "MB/s", weir: rate.weir, kafka: rate.kafka, asked, held, foreign_pct: foreign });
    Ok(())
}

//! How long producers wait when a node goes: the longest gap between acknowledgements of an idempotent producer with acks=all.
//!
//! Owns the faults and the report. Does not own load, judgement or the cluster. Clients keep their defaults but for what the report
//! names. Invariant: every run ends healthy again before the next begins, and the history of all runs is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value as Json, json};

use crate::admin::Partition;
use crate::checker::{Verdict, judge};
use crate::cluster::{Cluster, Kind, Plan};
use crate::load::{Load, Producer, finish, longest_gap, now};
use crate::program::wait_until;

const TOPIC: &str = "failover";
const NODES: u32 = 3;
const PARTITIONS: i32 = 3;
const HEALTHY_MAX: Duration = Duration::from_secs(120);
const PLACED_MAX: Duration = Duration::from_secs(30);
/// Acknowledgements before and behind a fault, so that a gap has two ends.
const CALM: Duration = Duration::from_millis(1500);

/// What is done to which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// kill -9 of a leader; in a third of the runs it is the controller too.
    Kill,
    /// SIGTERM of a leader.
    Stop,
    /// SIGSTOP of a leader, SIGCONT when the others have taken over.
    Pause,
    /// kill -9 of a controller that leads nothing.
    Controller,
    /// kill -9 of a node that leads nothing and is not the controller.
    Follower,
}

impl Fault {
    pub const ALL: [Fault; 5] = [Fault::Kill, Fault::Stop, Fault::Pause, Fault::Controller, Fault::Follower];

    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Stop => "stop",
            Fault::Pause => "pause",
            Fault::Controller => "controller",
            Fault::Follower => "follower",
        }
    }

    fn says(self) -> &'static str {
        match self {
            Fault::Kill => "kill -9 of a leader",
            Fault::Stop => "SIGTERM of a leader",
            Fault::Pause => "SIGSTOP of a leader",
            Fault::Controller => "kill -9 of the controller, which leads nothing",
            Fault::Follower => "kill -9 of a follower",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Options {
    /// Of each fault, on each kind of cluster.
    pub runs: usize,
    pub faults: Vec<Fault>,
    pub producers: Vec<Producer>,
}

/// One fault as one producer saw it.
#[derive(Clone, Debug)]
pub struct Sample {
    pub fault: Fault,
    pub was_controller: bool,
    pub producer: String,
    /// Longest gap of a partition that the victim led; of any, when it led none.
    pub gap_ms: f64,
    /// Longest gap of the partitions that others led.
    pub others_ms: f64,
    /// Longest gap while the node came back.
    pub return_ms: f64,
}

#[derive(Debug)]
pub struct Outcome {
    pub kind: Kind,
    pub producers: Vec<Producer>,
    pub samples: Vec<Sample>,
    pub verdict: Verdict,
}

/// One measurement for the faults that a client learns of by its connection, and one for a node that is silent: of that a client with
/// requests in flight learns by its own time limit alone (30 and 60 s by default), so there the limits are named and shorter.
pub fn plans(runs: usize, faults: &[Fault], librdkafka: &[String], java: &[String]) -> Vec<Options> {
    let (silent, heard): (Vec<Fault>, Vec<Fault>) = faults.iter().partition(|fault| **fault == Fault::Pause);
    let plan = |faults: Vec<Fault>, limits: [&str; 2]| {
        let settings = |given: &[String], limit: &str| {
            let limit = (!limit.is_empty()).then(|| limit.to_owned());
            given.iter().cloned().chain(limit).collect()
        };
        let producers = vec![
            Producer { client: "librdkafka", rate: 600, settings: settings(librdkafka, limits[0]) },
            Producer { client: "java", rate: 600, settings: settings(java, limits[1]) },
        ];
        Options { runs, faults, producers }
    };
    let plans = [plan(heard, ["", ""]), plan(silent, ["socket.timeout.ms=1000", "request.timeout.ms=1000"])];
    plans.into_iter().filter(|plan| !plan.faults.is_empty()).collect()
}

/// A fault as it was done, before the histories are read.
struct Done {
    fault: Fault,
    was_controller: bool,
    led: Vec<i32>,
    begun: u64,
    recovered: u64,
    healthy: u64,
}

/// Runs all faults on a cluster of this kind.
pub fn measure(kind: Kind, options: &Options) -> Result<Outcome> {
    let mut cluster = Cluster::start(Plan { kind, ..Plan::new("failover", 3)? })?;
    cluster.create_topic(TOPIC, PARTITIONS, 3, &[("min.insync.replicas", "2")])?;
    let mut load = Load::start(&cluster, TOPIC, &options.producers, &["librdkafka"])?;
    let (mut done, mut nemesis) = (Vec::new(), Vec::new());
    for fault in &options.faults {
        for run in 0..options.runs {
            let one =
                once(&mut cluster, &mut load, *fault, run).with_context(|| format!("{}, run {run}", fault.says()));
            let one = cluster.explain(one)?;
            eprintln!("{kind:?}: {}, run {run}", fault.says());
            nemesis.push((one.begun, format!("{}, run {run}", fault.says())));
            done.push(one);
        }
    }
    let names = load.names();
    let history = finish(&cluster, load, &nemesis)?;
    let mut samples = Vec::new();
    for one in &done {
        for producer in &names {
            let longest = |partitions: &[i32], from, to| {
                let gaps = partitions
                    .iter()
                    .filter_map(|partition| longest_gap(&history, producer, &format!("{TOPIC}-{partition}"), from, to));
                gaps.fold(0.0, f64::max)
            };
            let all: Vec<i32> = (0..PARTITIONS).collect();
            let others: Vec<i32> = all.iter().copied().filter(|partition| !one.led.contains(partition)).collect();
            let affected = if one.led.is_empty() { &all } else { &one.led };
            samples.push(Sample {
                fault: one.fault,
                was_controller: one.was_controller,
                producer: producer.clone(),
                gap_ms: longest(affected, one.begun, one.recovered),
                others_ms: longest(&others, one.begun, one.recovered),
                return_ms: longest(&all, one.recovered, one.healthy),
            });
        }
    }
    Ok(Outcome { kind, producers: options.producers.clone(), samples, verdict: judge(&history) })
}

fn once(cluster: &mut Cluster, load: &mut Load, fault: Fault, run: usize) -> Result<Done> {
    let controller = cluster.admin().controller()?;
    let others: Vec<u32> = (1..=NODES).filter(|id| *id != controller).collect();
    let victim = match fault {
        Fault::Kill | Fault::Stop | Fault::Pause if run % 3 == 2 => controller,
        Fault::Controller => controller,
        _ => *others.get(run % 2).context("three nodes have two that do not control")?,
    };
    let leads_nothing = matches!(fault, Fault::Controller | Fault::Follower);
    let leaders: Vec<u32> = (1..=NODES).filter(|id| !leads_nothing || *id != victim).collect();
    let wanted: Vec<u32> = leaders.iter().copied().cycle().take(usize::try_from(PARTITIONS)?).collect();
    let placed = place_leaders(cluster, TOPIC, &wanted)?;
    let led: Vec<i32> = placed.iter().filter(|p| p.leader == Some(victim)).map(|p| p.index).collect();
    load.wait_for_acks()?;
    std::thread::sleep(CALM);
    let begun = now();
    match fault {
        Fault::Kill | Fault::Controller | Fault::Follower => cluster.kill(victim)?,
        Fault::Stop => drop(cluster.stop(victim)?),
        Fault::Pause => cluster.signal(victim, Signal::STOP)?,
    }
    let answered = load.wait_for_acks();
    if fault == Fault::Pause {
        // also when nothing took over: a stopped process would outlive the test's patience
        cluster.signal(victim, Signal::CONT)?;
    }
    answered?;
    std::thread::sleep(CALM);
    let recovered = now();
    if fault != Fault::Pause {
        cluster.up(victim)?;
    }
    cluster.wait_healthy(TOPIC, 3, HEALTHY_MAX)?;
    load.wait_for_acks()?;
    Ok(Done { fault, was_controller: victim == controller, led, begun, recovered, healthy: now() })
}

/// Makes these nodes the leaders of the topic's partitions, in their order, by reassignment and preferred election.
pub fn place_leaders(cluster: &Cluster, topic: &str, wanted: &[u32]) -> Result<Vec<Partition>> {
    let admin = cluster.admin();
    let partitions = admin.partitions(topic)?;
    ensure!(partitions.len() == wanted.len(), "{} partitions, {} leaders wanted", partitions.len(), wanted.len());
    let mut targets = Vec::new();
    for (partition, leader) in partitions.iter().zip(wanted) {
        let mut order = partition.replicas.clone();
        let at = order.iter().position(|id| id == leader).with_context(|| format!("{leader} has no replica"))?;
        order.swap(0, at);
        if order != partition.replicas {
            targets.push((partition.index, Some(order)));
        }
    }
    if !targets.is_empty() {
        admin.reassign(topic, &targets)?;
    }
    let indexes: Vec<i32> = partitions.iter().map(|partition| partition.index).collect();
    let mut placed = Vec::new();
    wait_until(&format!("{topic} led by {wanted:?}"), PLACED_MAX, || {
        admin.elect_preferred(topic, &indexes)?;
        placed = admin.partitions(topic)?;
        Ok(placed.iter().zip(wanted).all(|(partition, leader)| partition.leader == Some(*leader)))
    })
    .with_context(|| format!("{placed:?}"))?;
    cluster.wait_healthy(topic, 3.min(cluster.nodes.len()), HEALTHY_MAX)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A row for each kind, fault and client, over all outcomes of that kind.
fn rows(outcomes: &[Outcome]) -> Vec<Json> {
    let mut found: BTreeMap<(String, Fault, &str), Vec<&Sample>> = BTreeMap::new();
    for outcome in outcomes {
        for sample in &outcome.samples {
            let row = (format!("{:?}", outcome.kind), sample.fault, sample.producer.as_str());
            found.entry(row).or_default().push(sample);
        }
    }
    let told = |((kind, fault, producer), samples): (&(String, Fault, &str), &Vec<&Sample>)| {
        let mut gaps: Vec<f64> = samples.iter().map(|sample| sample.gap_ms).collect();
        let worst = |pick: fn(&Sample) -> f64| samples.iter().map(|s| pick(s)).fold(0.0, f64::max);
        json!({
            "cluster": kind, "fault": fault.name(), "says": fault.says(), "client": producer, "runs": samples.len(),
            "controller": samples.iter().filter(|sample| sample.was_controller).count(),
            "gaps_ms": gaps.clone(), "median_ms": median(&mut gaps), "worst_ms": worst(|s| s.gap_ms),
            "others_worst_ms": worst(|s| s.others_ms), "return_worst_ms": worst(|s| s.return_ms),
        })
    };
    found.iter().map(told).collect()
}

/// What each kind's producers were set to, beside acks=all, idempotence and no limit on time.
fn settings(outcomes: &[Outcome]) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    for outcome in outcomes {
        let faults: BTreeSet<&str> = outcome.samples.iter().map(|sample| sample.fault.name()).collect();
        let faults: Vec<&str> = faults.into_iter().collect();
        for producer in &outcome.producers {
            let settings = if producer.settings.is_empty() { "none".into() } else { producer.settings.join(" ") };
            let (client, rate) = (producer.client, producer.rate);
            told.insert(format!(
                "{client}, {rate} records a second, {}: settings beside the defaults: {settings}",
                faults.join(", ")
            ));
        }
    }
    told
}

pub fn json(outcomes: &[Outcome]) -> Json {
    let verdicts: Vec<Json> = outcomes
        .iter()
        .map(|outcome| json!({"cluster": format!("{:?}", outcome.kind), "verdict": outcome.verdict.json()}))
        .collect();
    json!({"rows": rows(outcomes), "checked": verdicts, "producers": settings(outcomes)})
}

pub fn markdown(outcomes: &[Outcome]) -> String {
    let mut out = String::from(
        "| cluster | fault | client | runs (controller) | median ms | worst ms | other leaders, worst | on return, worst |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let figure = |row: &Json, key: &str| row[key].as_f64().unwrap_or(f64::NAN);
    for row in rows(outcomes) {
        let word = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} ({}) | {:.0} | {:.0} | {:.0} | {:.0} |",
            word("cluster"),
            word("says"),
            word("client"),
            row["runs"],
            row["controller"],
            figure(&row, "median_ms"),
            figure(&row, "worst_ms"),
            figure(&row, "others_worst_ms"),
            figure(&row, "return_worst_ms")
        );
    }
    for told in settings(outcomes) {
        let _ = write!(out, "\n{told}\n");
    }
    for outcome in outcomes {
        let _ = write!(out, "\n{:?}, checked: {}", outcome.kind, outcome.verdict);
    }
    out
}

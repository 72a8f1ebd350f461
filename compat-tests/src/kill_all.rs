//! All nodes killed with -9 at the same moment, again and again, under load.
//!
//! Owns the rounds and their times. Invariant: the history over all rounds is judged, replicas included.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value as Json, json};

use crate::checker::{Verdict, judge};
use crate::cluster::{Cluster, Plan};
use crate::load::{Load, Producer, finish, now};
use crate::program::{unique, wait_until};

const TOPIC: &str = "kill-all";
const PARTITIONS: i32 = 6;
const ANSWER_MAX: Duration = Duration::from_secs(120);
const HEALTHY_MAX: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub struct Outcome {
    /// From the start of the processes until every partition answered, for each round.
    pub answered_ms: Vec<f64>,
    pub verdict: Verdict,
}

/// So many rounds on three nodes.
pub fn measure(rounds: usize) -> Result<Outcome> {
    let mut cluster = Cluster::start(Plan::new("kill-all", 3)?)?;
    cluster.create_topic(TOPIC, PARTITIONS, 3, &[("min.insync.replicas", "2")])?;
    let producers = [Producer::new("librdkafka", 600), Producer::new("java", 300)];
    let mut load = Load::start(&cluster, TOPIC, &producers, &["librdkafka"])?;
    let (mut answered_ms, mut nemesis) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        load.wait_for_acks()?;
        // any moment of a group commit, of a segment write, of a checkpoint
        std::thread::sleep(Duration::from_millis(unique() * 7919 % 1000));
        nemesis.push((now(), format!("kill -9 of all, round {round}")));
        cluster.kill_all()?;
        let begun = Instant::now();
        let ids: Vec<u32> = cluster.nodes.keys().copied().collect();
        ids.iter().try_for_each(|id| cluster.launch(*id))?;
        cluster.explain(every_partition_answers(&cluster).with_context(|| format!("round {round}")))?;
        answered_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
        ids.iter().try_for_each(|id| cluster.wait_ready(*id))?;
        cluster.explain(cluster.wait_healthy(TOPIC, 3, HEALTHY_MAX).with_context(|| format!("round {round}")))?;
    }
    load.wait_for_acks()?;
    let history = finish(&cluster, load, &nemesis)?;
    Ok(Outcome { answered_ms, verdict: judge(&history) })
}

/// Each partition has a leader that tells its high watermark.
fn every_partition_answers(cluster: &Cluster) -> Result<()> {
    let admin = cluster.admin();
    let mut last = None;
    wait_until("every partition answers", ANSWER_MAX, || {
        let answer = || {
            for partition in &admin.partitions(TOPIC)? {
                admin.latest(TOPIC, partition)?;
            }
            Ok::<_, anyhow::Error>(())
        };
        let answered = answer();
        let is_ok = answered.is_ok();
        last = answered.err();
        Ok(is_ok)
    })
    .with_context(|| format!("the last error: {last:?}"))
}

impl Outcome {
    pub fn json(&self) -> Json {
        let mut sorted = self.answered_ms.clone();
        sorted.sort_by(f64::total_cmp);
        json!({
            "rounds": sorted.len(), "answered_ms": self.answered_ms, "median_ms": sorted.get(sorted.len() / 2),
            "worst_ms": sorted.last(), "checked": self.verdict.json(),
        })
    }

    pub fn markdown(&self) -> String {
        let mut sorted = self.answered_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let (median, worst) = (sorted.get(sorted.len() / 2), sorted.last());
        let told = |value: Option<&f64>| value.map_or_else(String::new, |value| format!("{value:.0}"));
        format!(
            "| all killed at once, runs | start to every partition answers, median ms | worst ms |\n| --- | --- | --- |\n\
             | {} | {} | {} |\n\nchecked: {}\n",
            sorted.len(),
            told(median),
            told(worst),
            self.verdict
        )
    }
}

//! What a row plays on: a cluster, load on it, the means to break it, and the notes taken meanwhile.
//!
//! Owns set-up, recovery and the report of a row. Invariant: every figure is computed from the same history that is judged.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value as Json, json};

use super::Need;
use super::figures::{Figure, Window};
use super::inject::{Clocks, SmallDisks};
use super::net::Net;
use crate::admin::Partition;
use crate::checker::judge;
use crate::cluster::{Cluster, Place, Plan};
use crate::failover::place_leaders;
use crate::load::{Load, Producer, finish, now};

pub(super) const TOPIC: &str = "faults";
pub(super) const PARTITIONS: i32 = 6;
/// The promise for every row: in-sync replicas are complete again within a minute.
const HEALTHY_MAX: Duration = Duration::from_secs(60);
/// Acknowledgements on both sides of a fault.
const CALM: Duration = Duration::from_millis(800);

pub(super) struct Stage {
    pub cluster: Cluster,
    pub load: Load,
    pub net: Option<Net>,
    pub disks: Option<SmallDisks>,
    pub clocks: Option<Clocks>,
    /// Fewer repetitions, shorter times.
    pub is_short: bool,
    nemesis: Vec<(u64, String)>,
    figures: Vec<Figure>,
    isr: usize,
}

impl Stage {
    pub fn set(need: Need, nodes: usize, is_short: bool) -> Result<Stage> {
        let mut places = vec![Place::default(); nodes];
        let net = (need == Need::Network).then(|| Net::new(&mut places)).transpose()?;
        let disks = (need == Need::SmallDisks).then(|| SmallDisks::new(&mut places)).transpose()?;
        let clocks = (need == Need::Clocks).then(|| Clocks::new(&mut places)).transpose()?;
        let cluster = Cluster::start(Plan { places, ..Plan::new("faults", nodes)? })?;
        let mut settings = vec![("min.insync.replicas", "2")];
        let mut producers = [Producer::new("librdkafka", 300), Producer::new("java", 150)];
        match need {
            // a client whose packets vanish learns so by its own time limit only
            Need::Network | Need::Nothing | Need::Strace => {
                producers[0].settings.push("socket.timeout.ms=2000".into());
                producers[1].settings.push("request.timeout.ms=2000".into());
            }
            // segments that are full in the time of a row, so that there is something to delete
            Need::Clocks => {
                settings.extend([("segment.bytes", "1048576"), ("retention.ms", "43200000")]);
                // by default a node refuses what is an hour ahead of its clock, as Kafka does
                settings.push(("message.timestamp.after.max.ms", "9223372036854775807"));
                producers.iter_mut().for_each(|producer| producer.settings.push("size=4000".into()));
            }
            Need::SmallDisks => {}
        }
        cluster.create_topic(TOPIC, PARTITIONS, 3, &settings)?;
        let load = Load::start(&cluster, TOPIC, &producers, &["librdkafka", "java"])?;
        let (nemesis, figures) = (Vec::new(), Vec::new());
        Ok(Stage { cluster, load, net, disks, clocks, is_short, nemesis, figures, isr: 3 })
    }

    /// A repetition or a time: the short one or the whole one.
    pub fn pick<T>(&self, short: T, whole: T) -> T {
        if self.is_short { short } else { whole }
    }

    pub fn begin(&mut self, says: &str) -> Result<()> {
        self.say(says);
        self.calm()
    }

    /// For the reader of the history.
    pub fn say(&mut self, what: &str) -> u64 {
        let at = now();
        self.nemesis.push((at, what.to_owned()));
        at
    }

    /// Acknowledgements from everywhere, then a moment more.
    pub fn calm(&mut self) -> Result<()> {
        self.load.wait_for_acks()?;
        std::thread::sleep(CALM);
        Ok(())
    }

    pub fn partitions(&self) -> Result<Vec<Partition>> {
        self.cluster.admin().partitions(TOPIC)
    }

    pub fn led_by(&self, node: u32) -> Result<Vec<i32>> {
        Ok(self.partitions()?.iter().filter(|partition| partition.leader == Some(node)).map(|p| p.index).collect())
    }

    /// All partitions in turn to these nodes.
    pub fn spread(&mut self, leaders: &[u32]) -> Result<()> {
        let wanted: Vec<u32> = leaders.iter().copied().cycle().take(usize::try_from(PARTITIONS)?).collect();
        place_leaders(&self.cluster, TOPIC, &wanted)?;
        self.calm()
    }

    pub fn controller(&self) -> Result<u32> {
        self.cluster.admin().controller()
    }

    /// A node of three that is not the controller; `turn` chooses between the two.
    pub fn not_controller(&self, turn: usize) -> Result<u32> {
        let controller = self.controller()?;
        let others: Vec<u32> = self.cluster.nodes.keys().copied().filter(|id| *id != controller).collect();
        others.get(turn % others.len().max(1)).copied().context("a cluster has more than its controller")
    }

    /// Sum of all leader epochs: how often leaders changed is the difference of two.
    pub fn epochs(&self) -> Result<i32> {
        Ok(self.partitions()?.iter().map(|partition| partition.epoch).sum())
    }

    pub fn wait_isr(&self, isr: usize) -> Result<()> {
        self.cluster.wait_healthy(TOPIC, isr, HEALTHY_MAX)?;
        Ok(())
    }

    /// Healthy again, and acknowledged everywhere.
    pub fn recovered(&mut self) -> Result<()> {
        self.wait_isr(self.isr)?;
        self.load.wait_for_acks()
    }

    /// The longest time without an acknowledgement from these partitions, from then until now.
    pub fn gap(&mut self, what: &str, partitions: &[i32], from: u64, limit_ms: Option<f64>) {
        let window = Window { partitions: partitions.to_vec(), from, to: now() };
        self.figures.push(Figure::Gap { what: what.into(), window, limit_ms });
    }

    /// The 99th percentile of acknowledgements against the one of a healthy time.
    pub fn latency(&mut self, what: &str, healthy: (u64, u64), broken: (u64, u64), limit: f64) {
        self.figures.push(Figure::Latency { what: what.into(), healthy, broken, limit });
    }

    /// A number that is known now.
    pub fn number(&mut self, what: &str, value: f64, limit: Option<f64>) {
        self.figures.push(Figure::Number { what: what.into(), value, limit });
    }

    /// Ends the load, looks at everything, reports.
    pub fn judged(self) -> Result<Json> {
        let names = self.load.names();
        let history = finish(&self.cluster, self.load, &self.nemesis)?;
        let verdict = judge(&history);
        let figures: Vec<Json> = self.figures.iter().flat_map(|figure| figure.told(&history, &names, TOPIC)).collect();
        eprintln!("  {verdict}");
        Ok(json!({"clean": verdict.is_clean() && verdict.acked > 0, "checked": verdict.json(), "figures": figures}))
    }
}

//! A rolling upgrade under load, from a build that knows one level of the metadata less.
//!
//! Owns the steps and what each must show. Does not own the older binary: `paths::previous_weir` builds it from this source with
//! `--cfg previous_level`, which neither writes nor reads what the newest level adds (orders to nodes, the audit of unclean elections).
//! Invariants: nodes are replaced one by one, on their own data, and the next only when every partition is whole again; the producers
//! never meet an error, and the history of it all is judged.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value as Json, json};

use crate::checker::{Verdict, judge};
use crate::cluster::{Cluster, Kind, Plan};
use crate::load::{Load, Producer, finish, longest_gap, now};
use crate::paths;
use crate::program::wait_until;
use crate::tools::{Ended, tool, tool_ok};

const TOPIC: &str = "upgrade";
const NODES: u32 = 3;
const PARTITIONS: i32 = 3;
const FEATURE: &str = "weir.metadata";
const HEALTHY_MAX: Duration = Duration::from_secs(120);
const REFUSED_MAX: Duration = Duration::from_secs(60);

/// The builds that take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Build {
    Older,
    Newer,
}

/// One replacement of a node's binary.
#[derive(Clone, Debug)]
struct Step {
    says: String,
    begun: u64,
    ended: u64,
}

#[derive(Debug)]
pub struct Outcome {
    /// For each replacement: what it was, and the longest gap between acknowledgements in milliseconds, of any producer and partition.
    pub gaps: Vec<(String, f64)>,
    /// The level before and after it was raised.
    pub levels: (i64, i64),
    /// What the older binary said when the level was finalised.
    pub refused: String,
    pub verdict: Verdict,
}

struct Upgrade {
    cluster: Cluster,
    load: Load,
    steps: Vec<Step>,
}

/// All of it, on three nodes.
pub fn measure() -> Result<Outcome> {
    let older = paths::previous_weir()?;
    let plan = Plan { kind: Kind::Weir, binary: Some(older), ..Plan::new("upgrade", 3)? };
    let cluster = Cluster::start(plan)?;
    cluster.create_topic(TOPIC, PARTITIONS, 3, &[("min.insync.replicas", "2")])?;
    let producers = [Producer::new("librdkafka", 600), Producer::new("java", 300)];
    let load = Load::start(&cluster, TOPIC, &producers, &["librdkafka", "java"])?;
    let mut upgrade = Upgrade { cluster, load, steps: Vec::new() };
    let told = upgrade.all_steps();
    let (levels, refused) = upgrade.cluster.explain(told)?;
    upgrade.finish(levels, refused)
}

impl Upgrade {
    fn all_steps(&mut self) -> Result<((i64, i64), String)> {
        let first = self.finalised()?;
        for id in 1..=NODES {
            self.replace(id, Build::Newer)?;
        }
        ensure!(self.finalised()? == first, "new binaries alone change no level");
        // Not finalised: the way back is open, and no level is raised over an older node's head.
        self.replace(1, Build::Older)?;
        let early = self.upgrade_to(first + 1)?;
        let said = format!("{}{}", early.out, early.err);
        ensure!(
            early.code == Some(1) && said.contains("only supports versions"),
            "raised with an older node: {early:?}"
        );
        self.drain_is_refused()?;
        self.replace(1, Build::Newer)?;
        let raised = self.upgrade_to(first + 1)?;
        let expected = format!("{FEATURE} was upgraded to {}.", first + 1);
        ensure!(raised.code == Some(0) && raised.out.contains(&expected), "{raised:?}");
        let level = self.finalised()?;
        ensure!(level == first + 1, "finalised: {level}");
        let lowered = self.downgrade_to(first)?;
        ensure!(lowered.code == Some(1), "a finalised level was lowered: {lowered:?}");
        self.nodes_take_orders()?;
        let refused = self.older_is_refused(NODES)?;
        self.load.wait_for_acks()?;
        Ok(((first, level), refused))
    }

    fn finish(self, levels: (i64, i64), refused: String) -> Result<Outcome> {
        let Upgrade { cluster, load, steps } = self;
        let names = load.names();
        let nemesis: Vec<(u64, String)> = steps.iter().map(|step| (step.begun, step.says.clone())).collect();
        let history = finish(&cluster, load, &nemesis)?;
        let longest = |step: &Step| {
            let all = names.iter().flat_map(|name| (0..PARTITIONS).map(move |at| (name, format!("{TOPIC}-{at}"))));
            all.filter_map(|(name, key)| longest_gap(&history, name, &key, step.begun, step.ended)).fold(0.0, f64::max)
        };
        let gaps = steps.iter().map(|step| (step.says.clone(), longest(step))).collect();
        Ok(Outcome { gaps, levels, refused, verdict: judge(&history) })
    }

    fn binary(&mut self, build: Build) -> Result<()> {
        let binary = match build {
            Build::Older => paths::previous_weir()?,
            Build::Newer => paths::weir()?,
        };
        self.cluster.plan.binary = Some(binary);
        Ok(())
    }

    /// SIGTERM, and the other binary on the same data.
    fn replace(&mut self, id: u32, build: Build) -> Result<()> {
        let says = format!("node {id} goes on with the {build:?} build").to_lowercase();
        let mut step = || -> Result<(u64, u64)> {
            self.binary(build)?;
            self.load.wait_for_acks()?;
            let begun = now();
            self.cluster.stop(id)?;
            self.cluster.up(id)?;
            self.cluster.wait_healthy(TOPIC, 3, HEALTHY_MAX)?;
            self.load.wait_for_acks()?;
            Ok((begun, now()))
        };
        let (begun, ended) = step().with_context(|| says.clone())?;
        self.steps.push(Step { says, begun, ended });
        Ok(())
    }

    fn bootstrap(&self) -> String {
        self.cluster.bootstrap()
    }

    fn finalised(&self) -> Result<i64> {
        let told = tool_ok(&["features", "--bootstrap-server", &self.bootstrap(), "describe"])?;
        let words = told.words();
        let row = words.iter().find(|row| row.get(1) == Some(&FEATURE));
        let row = row.with_context(|| format!("no {FEATURE} in {told:?}"))?;
        let at = row.iter().position(|word| word.starts_with("FinalizedVersionLevel"));
        let level = at.and_then(|at| row.get(at + 1)).with_context(|| format!("no level in {row:?}"))?;
        Ok(level.parse()?)
    }

    fn upgrade_to(&self, level: i64) -> Result<Ended> {
        let wanted = format!("{FEATURE}={level}");
        tool(&["features", "--bootstrap-server", &self.bootstrap(), "upgrade", "--feature", &wanted], "")
    }

    fn downgrade_to(&self, level: i64) -> Result<Ended> {
        let wanted = format!("{FEATURE}={level}");
        tool(&["features", "--bootstrap-server", &self.bootstrap(), "downgrade", "--feature", &wanted], "")
    }

    /// `weir node VERB 2`, of the newer build.
    fn order(&self, verb: &str) -> Result<(bool, String)> {
        let mut command = std::process::Command::new(paths::weir()?);
        command.args(["node", verb, "2", "--bootstrap", &self.cluster.node(1)?.kafka, "--timeout", "60"]);
        let (program, status) = crate::program::run("weir-node", &mut command, "", Duration::from_secs(90))?;
        Ok((status.success(), program.output()? + &program.errors()?))
    }

    /// What the newest level adds is not decided while an older node would have to read it.
    fn drain_is_refused(&self) -> Result<()> {
        let (is_done, said) = self.order("drain")?;
        ensure!(!is_done && said.contains("level 2") && said.contains(FEATURE), "drained below level 2: {said}");
        Ok(())
    }

    fn nodes_take_orders(&self) -> Result<()> {
        for verb in ["drain", "add"] {
            let (is_done, said) = self.order(verb)?;
            ensure!(is_done, "weir node {verb}: {said}");
        }
        Ok(())
    }

    /// An older binary on data of the newer level does not start, or is let in by nobody; and says so. Gives the line.
    fn older_is_refused(&mut self, id: u32) -> Result<String> {
        self.load.wait_for_acks()?;
        self.cluster.stop(id)?;
        self.binary(Build::Older)?;
        self.cluster.launch(id)?;
        let mut line = None;
        let begun = Instant::now();
        wait_until("the older binary says why it cannot go on", REFUSED_MAX, || {
            let log = self.cluster.node(id)?.log();
            let says = |line: &&str| line.contains("metadata level 2") || line.contains("level 2 of weir.metadata");
            line = log.lines().find(says).map(str::to_owned);
            Ok(line.is_some())
        })
        .with_context(|| self.cluster.node(id).map(|node| node.log()).unwrap_or_default())?;
        // It ends by itself, or waits for an operator; it serves nobody.
        while self.cluster.ended(id)?.is_none() {
            let serves = self.cluster.admin().members_seen_by(id).is_ok_and(|seen| !seen.is_empty());
            ensure!(!serves, "the older binary serves clients");
            if begun.elapsed() > REFUSED_MAX {
                self.cluster.kill(id)?;
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        self.binary(Build::Newer)?;
        self.cluster.up(id)?;
        self.cluster.wait_healthy(TOPIC, 3, HEALTHY_MAX)?;
        line.context("it was found")
    }
}

impl Outcome {
    /// No invariant is broken, and no send ended without a definite answer.
    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.verdict.open == 0 && self.verdict.acked > 0
    }

    pub fn json(&self) -> Json {
        let gaps: Vec<Json> =
            self.gaps.iter().map(|(says, gap)| json!({"step": says, "longest_gap_ms": gap})).collect();
        json!({
            "steps": gaps, "level_before": self.levels.0, "level_after": self.levels.1, "refused": self.refused,
            "checked": self.verdict.json(),
        })
    }
}

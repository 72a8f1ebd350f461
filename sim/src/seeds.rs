//! Many seeds, side by side on several threads: each run is on one.
//!
//! Owns the sharing of work and the sums. Does not own a run. Invariant: outcomes are handed on in the order of their seeds, whatever the
//! number of threads.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use crate::cluster::hash::Hash;
use crate::cluster::run::{Outcome, Plan, run};
use crate::panics;

#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub seeds: u64,
    /// More seeds until so much was simulated.
    pub hours: Option<f64>,
    pub threads: usize,
}

/// What is to be said of a seed that failed: why, and how to see it again.
pub fn report(plan: Plan, outcome: &Outcome) -> Option<String> {
    let failure = outcome.failure.as_ref()?;
    let mut again = format!("cargo run -p sim -- --log --seed {}", outcome.seed);
    again += &plan.nodes.map_or_else(String::new, |nodes| format!(" --nodes {nodes}"));
    again += if plan.disks_lie { " --lying-disks" } else { "" };
    Some(format!("seed {}: {failure}; faults: {}\n  again: {again}", outcome.seed, outcome.struck))
}

/// Sums over seeds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub seeds: u64,
    pub failed: u64,
    pub simulated: Duration,
    pub acked: u64,
    pub faults: u64,
    pub members: u64,
}

impl Totals {
    pub fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.failed += u64::from(outcome.failure.is_some());
        self.simulated += outcome.simulated;
        self.acked += outcome.acked;
        self.faults += outcome.faults;
        self.members += outcome.members;
    }

    pub fn acked_per_second(&self) -> f64 {
        self.acked as f64 / self.simulated.as_secs_f64()
    }

    pub fn faults_per_minute(&self) -> f64 {
        self.faults as f64 * 60.0 / self.simulated.as_secs_f64()
    }
}

/// What a run must do at least, or finding nothing says little: acknowledged produces in a simulated second, faults in a minute.
pub const ACKED_PER_SECOND_MIN: f64 = 20.0;
pub const FAULTS_PER_MINUTE_MIN: f64 = 3.0;
/// Fewer seeds may be idle by chance.
const SEEDS_JUDGED_MIN: u64 = 10;

impl Totals {
    /// Whether enough was produced and enough went wrong. `Err` says what was not.
    pub fn are_busy(&self) -> Result<(), String> {
        if self.seeds < SEEDS_JUDGED_MIN {
            return Ok(());
        }
        if self.acked_per_second() < ACKED_PER_SECOND_MIN {
            return Err(format!("fewer than {ACKED_PER_SECOND_MIN} acked produces/s: {self}"));
        }
        if self.faults_per_minute() < FAULTS_PER_MINUTE_MIN {
            return Err(format!("fewer than {FAULTS_PER_MINUTE_MIN} faults/min: {self}"));
        }
        Ok(())
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} seeds, {} failed, {:.2} simulated cluster-hours, {:.1} acked produces/s, {:.1} faults/min, {} nodes came or went",
            self.seeds,
            self.failed,
            self.simulated.as_secs_f64() / 3_600.0,
            self.acked_per_second(),
            self.faults_per_minute(),
            self.members
        )
    }
}

/// A run whose panic is a failure of its seed.
pub fn run_caught(plan: Plan) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| run(plan))).unwrap_or_else(|_| Outcome {
        seed: plan.seed,
        nodes: 0,
        hash: Hash::START,
        simulated: Duration::ZERO,
        acked: 0,
        read: 0,
        committed: 0,
        faults: 0,
        members: 0,
        starts: 0,
        events: 0,
        failure: Some(format!("panicked: {}", panics::take().unwrap_or_default())),
        struck: String::new(),
    })
}

/// Runs seeds from `plan.seed` on until all are done or `take` says that it is enough.
pub fn each(plan: Plan, span: Span, mut take: impl FnMut(Outcome) -> bool) {
    let next = AtomicU64::new(plan.seed);
    let enough = AtomicBool::new(false);
    let (to, from) = mpsc::sync_channel::<Outcome>(span.threads.max(1));
    std::thread::scope(|scope| {
        for _ in 0..span.threads.max(1) {
            let to = to.clone();
            scope.spawn(|| work(plan, span, &next, &enough, to));
        }
        drop(to);
        let mut early = BTreeMap::new();
        let (mut due, mut simulated) = (plan.seed, Duration::ZERO);
        for outcome in from {
            early.insert(outcome.seed, outcome);
            while let Some(outcome) = early.remove(&due) {
                due += 1;
                simulated += outcome.simulated;
                let hours_over = span.hours.is_some_and(|hours| simulated.as_secs_f64() >= hours * 3_600.0);
                if !enough.load(Ordering::Relaxed) && (!take(outcome) || hours_over) {
                    enough.store(true, Ordering::Relaxed);
                }
            }
        }
    });
}

fn work(plan: Plan, span: Span, next: &AtomicU64, enough: &AtomicBool, to: mpsc::SyncSender<Outcome>) {
    while !enough.load(Ordering::Relaxed) {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if span.hours.is_none() && seed >= plan.seed + span.seeds {
            return;
        }
        if to.send(run_caught(Plan { seed, ..plan })).is_err() {
            return;
        }
    }
}

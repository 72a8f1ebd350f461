//! Judges what clients wrote down, whatever cluster they talked to: by the checker of the simulator, the only one that there is.
//!
//! Owns how its findings on a history of real clients are told. Does not own the invariants (`sim::checker`), nor how a history is made:
//! load programs, fault runs and tests do that. Pure: no clock, no network; the same history gives the same verdict.
//! Beside the invariants, `T`: no client meets an error that ends it, and none is told that a valid offset is out of range.

mod events;
pub mod history;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value as Json, json};
use sim::checker::Checker;

use history::History;

/// So many findings of one invariant are told in words; the others are counted.
const TOLD_MAX: usize = 10;
/// The invariant beside those of the checker.
const TROUBLE: &str = "T";

/// What was found, and how much was looked at: a history without acknowledgements proves nothing.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// For each broken invariant how often, and the first few in words.
    broken: BTreeMap<String, (u64, Vec<String>)>,
    pub acked: u64,
    /// Sends without a definite answer.
    pub open: u64,
    pub polled: u64,
    pub read: u64,
    pub batches: u64,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }

    /// `invariant`: its number, as `I3`.
    pub fn breaks(&self, invariant: &str) -> bool {
        self.broken.contains_key(invariant)
    }

    fn found(&mut self, invariant: &str, text: impl FnOnce() -> String) {
        let (count, told) = self.broken.entry(invariant.to_owned()).or_default();
        *count += 1;
        if told.len() < TOLD_MAX {
            told.push(text());
        }
    }

    pub fn json(&self) -> Json {
        let broken: Vec<Json> = self
            .broken
            .iter()
            .map(|(invariant, (count, told))| json!({"invariant": invariant, "count": count, "first": told}))
            .collect();
        json!({
            "clean": self.is_clean(), "acked": self.acked, "open": self.open, "polled": self.polled, "read": self.read,
            "batches": self.batches, "broken": broken,
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} acknowledged, {} without an answer, {} polled, {} read at the end, {} batches of replicas",
            self.acked, self.open, self.polled, self.read, self.batches
        )?;
        for (invariant, (count, told)) in &self.broken {
            writeln!(f, "{invariant} broken {count} times:")?;
            told.iter().try_for_each(|text| writeln!(f, "  {text}"))?;
        }
        Ok(())
    }
}

/// Looks at a whole history.
pub fn judge(history: &History) -> Verdict {
    let mut verdict = Verdict {
        acked: history.sends.iter().filter(|send| send.offset.is_some()).count() as u64,
        open: history.sends.iter().filter(|send| send.offset.is_none()).count() as u64,
        polled: history.polls.iter().map(|poll| poll.rows.len() as u64).sum(),
        read: history.finals.values().map(|rows| rows.len() as u64).sum(),
        ..Verdict::default()
    };
    let mut checker = Checker::new();
    let mut violations = Vec::new();
    for (at, event) in events::of(history, &mut verdict.batches) {
        checker.observe_all(at, &event, &mut violations);
    }
    checker.finish_all(&mut violations);
    for violation in violations {
        let number = violation.invariant.split(' ').next().unwrap_or_default();
        verdict.found(number, || events::in_words(history, &violation.what));
    }
    for trouble in &history.troubles {
        verdict.found(TROUBLE, || trouble.clone());
    }
    verdict
}

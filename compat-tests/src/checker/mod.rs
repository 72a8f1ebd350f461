//! Judges what clients wrote down against what a replicated log promises, whatever cluster they talked to.
//!
//! Owns the invariants I1-I6, I11 and I12 of a history (`history` says what its lines are). Does not own how a history is made:
//! load programs, fault runs and tests do that. Pure: no clock, no network; the same history gives the same verdict.
//!
//! | id | what always holds |
//! | --- | --- |
//! | I1 | a record that was acknowledged, or that a consumer saw, is read at the end, at that offset |
//! | I2 | an offset has one value for ever, whoever saw it, whenever |
//! | I3 | no value is there twice |
//! | I4 | the records of one producer in one partition are in the order in which it sent them |
//! | I5 | what was acknowledged before another send began lies before it |
//! | I6 | a consumer sees offsets that only grow, and skips nothing that is there at the end |
//! | I11 | the ends of a partition, as one client is told them, never go back |
//! | I12 | below the high watermark the replicas hold the same batches, without a hole, in epochs that only grow |
//! | T | no client meets an error that ends it, and none is told that a valid offset is out of range |

mod ends;
pub mod history;
mod logs;
mod polls;
mod replicas;

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value as Json, json};

use history::History;

/// So many findings of one invariant are told in words; the others are counted.
const TOLD_MAX: usize = 10;

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    Lost,
    OneValue,
    Twice,
    Order,
    RealTime,
    Poll,
    Ends,
    Replicas,
    Trouble,
}

impl Invariant {
    pub fn id(self) -> &'static str {
        match self {
            Invariant::Lost => "I1",
            Invariant::OneValue => "I2",
            Invariant::Twice => "I3",
            Invariant::Order => "I4",
            Invariant::RealTime => "I5",
            Invariant::Poll => "I6",
            Invariant::Ends => "I11",
            Invariant::Replicas => "I12",
            Invariant::Trouble => "T",
        }
    }
}

/// What was found, and how much was looked at: a history without acknowledgements proves nothing.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// For each broken invariant how often, and the first few in words.
    broken: BTreeMap<Invariant, (u64, Vec<String>)>,
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

    pub fn breaks(&self, invariant: Invariant) -> bool {
        self.broken.contains_key(&invariant)
    }

    pub(crate) fn found(&mut self, invariant: Invariant, text: impl FnOnce() -> String) {
        let (count, told) = self.broken.entry(invariant).or_default();
        *count += 1;
        if told.len() < TOLD_MAX {
            told.push(text());
        }
    }

    pub fn json(&self) -> Json {
        let broken: Vec<Json> = self
            .broken
            .iter()
            .map(|(invariant, (count, told))| json!({"invariant": invariant.id(), "count": count, "first": told}))
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
            writeln!(f, "{} broken {count} times:", invariant.id())?;
            told.iter().try_for_each(|text| writeln!(f, "  {text}"))?;
        }
        Ok(())
    }
}

/// Looks at a whole history.
pub fn judge(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    logs::judge(history, &mut verdict);
    polls::judge(history, &mut verdict);
    ends::judge(history, &mut verdict);
    replicas::judge(history, &mut verdict);
    for trouble in &history.troubles {
        verdict.found(Invariant::Trouble, || trouble.clone());
    }
    verdict
}

//! Figures of a row, computed from the history that is judged.

use serde_json::{Value as Json, json};

use crate::checker::history::History;
use crate::load::longest_gap;

/// Partitions and a span of time.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub partitions: Vec<i32>,
    pub from: u64,
    pub to: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Figure {
    Gap { what: String, window: Window, limit_ms: Option<f64> },
    Latency { what: String, healthy: (u64, u64), broken: (u64, u64), limit: f64 },
    Number { what: String, value: f64, limit: Option<f64> },
}

impl Figure {
    /// One object for each producer, or one in all.
    pub fn told(&self, history: &History, producers: &[String], topic: &str) -> Vec<Json> {
        let told = |what: &str, client: &str, value: f64, limit: Option<f64>| {
            let held = limit.map(|limit| value <= limit);
            json!({"what": what, "client": client, "value": value, "limit": limit, "held": held})
        };
        match self {
            Figure::Number { what, value, limit } => vec![told(what, "-", *value, *limit)],
            Figure::Gap { what, window, limit_ms } => producers
                .iter()
                .map(|producer| {
                    let gaps = window.partitions.iter().filter_map(|partition| {
                        longest_gap(history, producer, &format!("{topic}-{partition}"), window.from, window.to)
                    });
                    told(&format!("{what}: longest gap, ms"), producer, gaps.fold(0.0, f64::max), *limit_ms)
                })
                .collect(),
            Figure::Latency { what, healthy, broken, limit } => producers
                .iter()
                .map(|producer| {
                    let ratio = p99(history, producer, *broken) / p99(history, producer, *healthy);
                    told(&format!("{what}: p99 against the healthy one"), producer, ratio, Some(*limit))
                })
                .collect(),
        }
    }
}

/// Of the records that a producer sent in this span, in milliseconds.
fn p99(history: &History, producer: &str, span: (u64, u64)) -> f64 {
    let sent = history.sends.iter().filter(|send| send.offset.is_some() && (span.0..span.1).contains(&send.begun));
    let sent = sent.filter(|send| history.text(send.value.producer) == producer);
    let mut times: Vec<u64> = sent.map(|send| send.ended.saturating_sub(send.begun)).collect();
    times.sort_unstable();
    times.get(times.len() * 99 / 100).map_or(f64::NAN, |time| *time as f64 / 1e6)
}

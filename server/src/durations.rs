//! How long things took, counted for a histogram of Prometheus.
//!
//! Owns the bounds and the text of one histogram. Invariant: it has `BOUNDS_US.len() + 3` series, and none before something was recorded.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds, in microseconds: from a write that a fast device takes to the longest that a client waits for by default.
const BOUNDS_US: [u64; 17] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000, 30_000_000, 60_000_000,
];

#[derive(Debug)]
pub struct Durations {
    /// Of each bound those above the one before, and those above all.
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Default for Durations {
    fn default() -> Durations {
        Durations { counts: [const { AtomicU64::new(0) }; BOUNDS_US.len() + 1], sum_us: AtomicU64::new(0) }
    }
}

impl Durations {
    pub fn record(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = BOUNDS_US.partition_point(|bound| *bound < took_us);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// The lines of a histogram `name`; `labels` are empty or end with a comma. Nothing for one in which nothing was recorded.
    pub fn put(&self, text: &mut String, name: &str, labels: &str) {
        let counts = self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        let all: u64 = counts.iter().sum();
        if all == 0 {
            return;
        }
        let mut so_far = 0;
        for (bound, count) in BOUNDS_US.iter().zip(counts) {
            so_far += count;
            let _ = writeln!(text, "{name}_bucket{{{labels}le=\"{}\"}} {so_far}", *bound as f64 / 1e6);
        }
        let _ = writeln!(text, "{name}_bucket{{{labels}le=\"+Inf\"}} {all}");
        let braced = labels.strip_suffix(',').map_or(String::new(), |labels| format!("{{{labels}}}"));
        let _ = writeln!(text, "{name}_sum{braced} {}", self.sum_us.load(Ordering::Relaxed) as f64 / 1e6);
        let _ = writeln!(text, "{name}_count{braced} {all}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(durations: &Durations, labels: &str) -> String {
        let mut text = String::new();
        durations.put(&mut text, "took_seconds", labels);
        text
    }

    #[test]
    fn each_bound_counts_all_that_took_no_longer() {
        let durations = Durations::default();
        for took_us in [0, 100, 101, 1_000, 9_999_999, 60_000_001] {
            durations.record(Duration::from_micros(took_us));
        }
        let text = text(&durations, "");
        for line in [
            "took_seconds_bucket{le=\"0.0001\"} 2\n",
            "took_seconds_bucket{le=\"0.00025\"} 3\n",
            "took_seconds_bucket{le=\"0.0005\"} 3\n",
            "took_seconds_bucket{le=\"0.001\"} 4\n",
            "took_seconds_bucket{le=\"2.5\"} 4\n",
            "took_seconds_bucket{le=\"10\"} 5\n",
            "took_seconds_bucket{le=\"60\"} 5\n",
            "took_seconds_bucket{le=\"+Inf\"} 6\n",
            "took_seconds_sum 70.001201\n",
            "took_seconds_count 6\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert_eq!(text.lines().count(), BOUNDS_US.len() + 3);
    }

    #[test]
    fn labels_stand_before_the_bound_and_nothing_recorded_is_nothing_told() {
        let durations = Durations::default();
        assert_eq!(text(&durations, "api=\"Fetch\","), "");
        durations.record(Duration::MAX);
        let text = text(&durations, "api=\"Fetch\",");
        assert!(text.starts_with("took_seconds_bucket{api=\"Fetch\",le=\"0.0001\"} 0\n"), "{text}");
        assert!(text.ends_with("took_seconds_count{api=\"Fetch\"} 1\n"), "{text}");
    }
}

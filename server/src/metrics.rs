//! Counters of the edge, and their text for Prometheus.
//!
//! Owns the counters and the names `weir_*`. Does not own the figures of the node: it asks for them.
//! Invariant: the number of time series is bounded by the code; nothing that a client sends becomes a label.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::ErrorCode;

use crate::durations::Durations;

/// Kafka 4.4 has keys 0 to 94.
const API_KEYS: usize = 95;

/// Why a connection was closed or a request refused before it had an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invalid {
    Length,
    Http,
    Tls,
    Header,
    UnknownApi,
    UnknownVersion,
    Body,
    HandshakeTimeout,
    FrameTimeout,
    WriteTimeout,
    Memory,
    Connections,
    NoAnswer,
}

impl Invalid {
    const ALL: [Invalid; 13] = [
        Invalid::Length,
        Invalid::Http,
        Invalid::Tls,
        Invalid::Header,
        Invalid::UnknownApi,
        Invalid::UnknownVersion,
        Invalid::Body,
        Invalid::HandshakeTimeout,
        Invalid::FrameTimeout,
        Invalid::WriteTimeout,
        Invalid::Memory,
        Invalid::Connections,
        Invalid::NoAnswer,
    ];

    pub fn label(self) -> &'static str {
        match self {
            Invalid::Length => "length",
            Invalid::Http => "http",
            Invalid::Tls => "tls",
            Invalid::Header => "header",
            Invalid::UnknownApi => "unknown_api",
            Invalid::UnknownVersion => "unknown_version",
            Invalid::Body => "body",
            Invalid::HandshakeTimeout => "handshake_timeout",
            Invalid::FrameTimeout => "frame_timeout",
            Invalid::WriteTimeout => "write_timeout",
            Invalid::Memory => "memory",
            Invalid::Connections => "connections",
            Invalid::NoAnswer => "no_answer",
        }
    }
}

#[derive(Debug)]
pub struct Metrics {
    requests: [AtomicU64; API_KEYS],
    /// From a request that was read to its answer, what it waited for included.
    took: [Durations; API_KEYS],
    invalid: [AtomicU64; Invalid::ALL.len()],
    /// Batches that were not appended. A refusal is rare: one lock for all codes harms nobody.
    refused: Mutex<BTreeMap<ErrorCode, u64>>,
    pub connections_opened: AtomicU64,
    pub connections_closed: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    pub records_bytes_in: AtomicU64,
    pub records_bytes_out: AtomicU64,
    pub cold_reads: AtomicU64,
    pub journal_operations: AtomicU64,
    pub segment_operations: AtomicU64,
    pub disk_errors: AtomicU64,
    /// Each operation of the journal: a group written and synced, mostly.
    pub journal_took: Durations,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            requests: [const { AtomicU64::new(0) }; API_KEYS],
            took: std::array::from_fn(|_| Durations::default()),
            invalid: [const { AtomicU64::new(0) }; Invalid::ALL.len()],
            refused: Mutex::default(),
            connections_opened: AtomicU64::new(0),
            connections_closed: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            records_bytes_in: AtomicU64::new(0),
            records_bytes_out: AtomicU64::new(0),
            cold_reads: AtomicU64::new(0),
            journal_operations: AtomicU64::new(0),
            segment_operations: AtomicU64::new(0),
            disk_errors: AtomicU64::new(0),
            journal_took: Durations::default(),
        }
    }
}

pub fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Metrics {
    pub fn request(&self, api_key: i16) {
        if let Some(counter) = usize::try_from(api_key).ok().and_then(|key| self.requests.get(key)) {
            add(counter, 1);
        }
    }

    pub fn answered(&self, api_key: i16, took: Duration) {
        if let Some(durations) = usize::try_from(api_key).ok().and_then(|key| self.took.get(key)) {
            durations.record(took);
        }
    }

    pub fn invalid(&self, reason: Invalid) {
        let at = Invalid::ALL.iter().position(|known| *known == reason).expect("ALL lists every reason");
        add(&self.invalid[at], 1);
    }

    /// A batch of a client that was not appended.
    pub fn refused(&self, code: ErrorCode) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }

    pub fn connections_open(&self) -> u64 {
        let closed = self.connections_closed.load(Ordering::Relaxed);
        self.connections_opened.load(Ordering::Relaxed).saturating_sub(closed)
    }

    /// The text format of Prometheus, without the figures of the node. `api_name` names a key that is served.
    pub fn text(&self, api_name: impl Fn(i16) -> Option<&'static str>) -> String {
        let mut text = String::with_capacity(8 * 1024);
        series_head(&mut text, "weir_requests_total", "counter", "Requests by API.");
        for (key, counter) in (0i16..).zip(&self.requests) {
            if let Some(name) = api_name(key) {
                let value = counter.load(Ordering::Relaxed);
                let _ = writeln!(text, "weir_requests_total{{api=\"{name}\"}} {value}");
            }
        }
        let help = "From a request that was read to its answer, what it waited for included (records, replicas, those before it).";
        series_head(&mut text, "weir_request_seconds", "histogram", help);
        for (key, took) in (0i16..).zip(&self.took) {
            if let Some(name) = api_name(key) {
                took.put(&mut text, "weir_request_seconds", &format!("api=\"{name}\","));
            }
        }
        series_head(
            &mut text,
            "weir_journal_seconds",
            "histogram",
            "Operations of the journal: a group written and synced.",
        );
        self.journal_took.put(&mut text, "weir_journal_seconds", "");
        series_head(&mut text, "weir_invalid_requests_total", "counter", "Connections closed for what they sent.");
        for (reason, counter) in Invalid::ALL.iter().zip(&self.invalid) {
            let value = counter.load(Ordering::Relaxed);
            let _ = writeln!(text, "weir_invalid_requests_total{{reason=\"{}\"}} {value}", reason.label());
        }
        series_head(&mut text, "weir_refused_batches_total", "counter", "Batches not appended, by Kafka's error code.");
        for (code, value) in self.refused.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = writeln!(text, "weir_refused_batches_total{{code=\"{}\"}} {value}", code.to_wire());
        }
        gauge(&mut text, "weir_connections", "Open client connections.", self.connections_open());
        let counters = [
            ("weir_connections_total", "Client connections accepted.", &self.connections_opened),
            ("weir_received_bytes_total", "Bytes read from clients.", &self.bytes_in),
            ("weir_sent_bytes_total", "Bytes written to clients.", &self.bytes_out),
            ("weir_produced_bytes_total", "Bytes of record batches received.", &self.records_bytes_in),
            ("weir_fetched_bytes_total", "Bytes of record batches handed out.", &self.records_bytes_out),
            ("weir_cold_reads_total", "Fetches that had to wait for the device.", &self.cold_reads),
            ("weir_journal_operations_total", "Operations of the journal.", &self.journal_operations),
            ("weir_segment_operations_total", "Operations on segment files.", &self.segment_operations),
            ("weir_disk_errors_total", "Disk operations that failed.", &self.disk_errors),
        ];
        for (name, help, value) in counters {
            counter(&mut text, name, help, value.load(Ordering::Relaxed));
        }
        text
    }
}

pub fn gauge(text: &mut String, name: &str, help: &str, value: u64) {
    series_head(text, name, "gauge", help);
    let _ = writeln!(text, "{name} {value}");
}

pub fn counter(text: &mut String, name: &str, help: &str, value: u64) {
    series_head(text, name, "counter", help);
    let _ = writeln!(text, "{name} {value}");
}

pub fn series_head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_and_a_label_of_its_own() {
        let metrics = Metrics::default();
        for reason in Invalid::ALL {
            metrics.invalid(reason);
        }
        let text = metrics.text(|_| None);
        for reason in Invalid::ALL {
            let line = format!("weir_invalid_requests_total{{reason=\"{}\"}} 1\n", reason.label());
            assert_eq!(text.matches(&line).count(), 1, "{line}");
        }
    }

    #[test]
    fn refused_batches_are_counted_by_code() {
        let metrics = Metrics::default();
        assert!(!metrics.text(|_| None).contains("weir_refused_batches_total{"));
        for code in [ErrorCode::NotEnoughReplicas, ErrorCode::NotEnoughReplicas, ErrorCode::CorruptMessage] {
            metrics.refused(code);
        }
        let text = metrics.text(|_| None);
        assert!(text.contains("weir_refused_batches_total{code=\"19\"} 2\n"));
        assert!(text.contains("weir_refused_batches_total{code=\"2\"} 1\n"));
    }

    #[test]
    fn a_key_that_is_not_served_has_no_series() {
        let metrics = Metrics::default();
        metrics.request(3);
        metrics.request(1000);
        metrics.request(-1);
        let text = metrics.text(|key| (key == 3).then_some("Metadata"));
        assert!(text.contains("weir_requests_total{api=\"Metadata\"} 1\n"));
        assert_eq!(text.matches("weir_requests_total{").count(), 1);
    }
}

//! Metrics that clients push (KIP-714): who is asked for what, and what of it stands in `/metrics`.
//!
//! Owns the subscription of each client and the rules of a push. Does not own what may be subscribed to (`metadata::client_metrics`), the
//! bytes of a push (`otlp`), nor how series are shown (`series`).
//! Invariants: at most `CLIENTS_MAX` clients are kept, and series that give at most `SERIES_BYTES_MAX` bytes of text; a client that is
//! silent for three of its intervals, and at least for a minute, is forgotten; what a client pushes is decoded without a lock held.

mod clients;
pub mod otlp;
pub mod protobuf;
mod series;
mod subscriptions;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::ErrorCode;
use model::batch::Codec;
use replication::metadata::Image;
use replication::metadata::client_metrics::ALL_METRICS;
use storage::codec::{DecompressLimits, decompress};

use crate::metrics::{add, counter, gauge};
use clients::Clients;
pub use subscriptions::About;

/// Clients that are remembered: as many as Kafka remembers.
pub const CLIENTS_MAX: usize = 16_384;
/// Text that the series of all clients give, with a head for each name of each client.
pub const SERIES_BYTES_MAX: usize = 16 << 20;
/// What one push may give when it is decompressed: its sender may send a mebibyte (`telemetry.max.bytes`).
const PUSH_BYTES_MAX: u64 = 8 << 20;

/// As Kafka prefers them.
pub const CODECS: [Codec; 4] = [Codec::Zstd, Codec::Lz4, Codec::Gzip, Codec::Snappy];

/// Names one process of a client.
pub type InstanceId = [u8; 16];

/// What a client is to push.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Says what is wanted: a push names it.
    pub subscription_id: i32,
    /// Beginnings of names; `*` alone for everything, empty for nothing.
    pub metrics: Arc<[String]>,
    pub interval_ms: i32,
}

impl Wanted {
    /// Whether all that the other one asks for is asked for.
    fn covers(&self, other: &Wanted) -> bool {
        let is_in = |metric: &String| self.metrics.iter().any(|own| own == ALL_METRICS || metric.starts_with(own));
        !self.metrics.is_empty() && other.metrics.iter().all(is_in)
    }
}

/// One push, as it came.
#[derive(Clone, Copy, Debug)]
pub struct Push<'a> {
    pub instance: InstanceId,
    pub subscription_id: i32,
    pub terminating: bool,
    pub codec: i8,
    pub metrics: &'a [u8],
}

/// Why a client is not told, or what it pushed is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    #[error("a client has an id of its own")]
    NoInstance,
    #[error("the client said that its last push was its last")]
    Terminated,
    #[error("the client asks or pushes more often than every {interval_ms} ms")]
    TooSoon { interval_ms: i32 },
    #[error("the client pushes for subscription {got}, it has {wanted}")]
    Subscription { got: i32, wanted: i32 },
    #[error("{codec} is no codec: 0 to 4 are")]
    Codec { codec: i8 },
    #[error("{bytes} bytes were pushed, {limit} are allowed (telemetry.max.bytes)")]
    TooLarge { bytes: usize, limit: u32 },
    #[error("what was pushed are no metrics")]
    Payload,
}

impl Refused {
    pub fn code(self) -> ErrorCode {
        match self {
            Refused::NoInstance | Refused::Terminated => ErrorCode::InvalidRequest,
            Refused::TooSoon { .. } => ErrorCode::ThrottlingQuotaExceeded,
            Refused::Subscription { .. } => ErrorCode::UnknownSubscriptionId,
            Refused::Codec { .. } => ErrorCode::UnsupportedCompressionType,
            Refused::TooLarge { .. } => ErrorCode::TelemetryTooLarge,
            Refused::Payload => ErrorCode::InvalidRecord,
        }
    }
}

#[derive(Debug)]
pub struct Telemetry {
    bytes_max: u32,
    clients: Mutex<Clients>,
    pushes: AtomicU64,
    refused: AtomicU64,
}

impl Telemetry {
    /// `bytes_max`: of one push, as it is sent.
    pub fn new(bytes_max: u32) -> Telemetry {
        let (pushes, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        Telemetry { bytes_max, clients: Mutex::default(), pushes, refused }
    }

    pub fn bytes_max(&self) -> u32 {
        self.bytes_max
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a client is to push, which it may ask once in each interval, and whenever that has changed.
    pub fn wanted(
        &self,
        now: Duration,
        image: &Arc<Image>,
        instance: InstanceId,
        about: About,
    ) -> Result<Wanted, Refused> {
        let mut clients = self.clients();
        clients.follow(image);
        clients.seen(now, instance, about).ask(now)
    }

    pub fn push(&self, now: Duration, image: &Arc<Image>, about: About, push: Push<'_>) -> Result<(), Refused> {
        let taken = self.take(now, image, about, push);
        add(if taken.is_ok() { &self.pushes } else { &self.refused }, 1);
        taken
    }

    fn take(&self, now: Duration, image: &Arc<Image>, about: About, push: Push<'_>) -> Result<(), Refused> {
        // Two ids are Kafka's own.
        if u128::from_be_bytes(push.instance) <= 1 {
            return Err(Refused::NoInstance);
        }
        let is_subscribed = {
            let mut clients = self.clients();
            clients.follow(image);
            clients.seen(now, push.instance, about).push(now, &push, self.bytes_max)?
        };
        if push.metrics.is_empty() || !is_subscribed {
            return Ok(());
        }
        let read = decoded(&push);
        let mut clients = self.clients();
        match read {
            Some(pushed) => {
                clients.keep(push.instance, push.subscription_id, pushed);
                Ok(())
            }
            None => {
                clients.failed(push.instance, ErrorCode::InvalidRecord);
                Err(Refused::Payload)
            }
        }
    }

    /// Puts all of it to the text of `/metrics`.
    pub fn put(&self, now: Duration, text: &mut String) {
        let (shown, left_out, count, bytes) = {
            let mut clients = self.clients();
            clients.forget_silent(now);
            (clients.shown(), clients.left_out(), clients.count(), clients.bytes())
        };
        let (pushes, refused) = (self.pushes.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed));
        gauge(text, "weir_telemetry_clients", "Clients that asked what to push.", count as u64);
        let help = "Bytes of text that the series of clients are counted as, with a head for each name of each client.";
        gauge(text, "weir_telemetry_series_bytes", help, bytes as u64);
        counter(text, "weir_telemetry_pushes_total", "Pushes of clients that were taken.", pushes);
        counter(text, "weir_telemetry_pushes_refused_total", "Pushes of clients that were refused.", refused);
        let help = "Points that clients pushed and that are too many, too long or of a kind that is not shown.";
        counter(text, "weir_telemetry_points_left_out_total", help, left_out);
        series::put(text, shown);
    }
}

fn decoded(push: &Push<'_>) -> Option<otlp::Pushed> {
    let codec = Codec::from_wire(push.codec.into())?;
    let limits = DecompressLimits { output_bytes_max: PUSH_BYTES_MAX, ..DecompressLimits::DEFAULT };
    let bytes = decompress(codec, push.metrics, limits).ok()?;
    otlp::read(&bytes).ok()
}

#[cfg(test)]
mod tests;

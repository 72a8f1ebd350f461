//! The clients that ask or push, and the series that each pushed last.
//!
//! Owns when a client may ask and push, who is forgotten, and how much is kept. Does not own who is asked for what (`subscriptions`).
//! Invariants: `by_end` has each client once, at the time at which it is forgotten; `bytes` is the sum of what all clients are charged,
//! never above `SERIES_BYTES_MAX`, and no less than the bytes of text that their series give; of a client of which less is wanted than
//! before, what it pushed before is not kept once it asks or pushes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::ErrorCode;
use model::batch::Codec;
use replication::metadata::Image;

use super::otlp::{Kind, Pushed, Series};
use super::series::{Shown, head_bytes, info_bytes, line_bytes, who};
use super::subscriptions::{About, Subscriptions};
use super::{CLIENTS_MAX, InstanceId, Push, Refused, SERIES_BYTES_MAX, Wanted};

/// A client is remembered for so long at least.
const SILENT_MIN: Duration = Duration::from_secs(60);
/// And for so many of its intervals.
const SILENT_INTERVALS: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Clients {
    subscriptions: Subscriptions,
    by_id: BTreeMap<InstanceId, Client>,
    by_end: BTreeSet<(Duration, InstanceId)>,
    /// What all clients are charged.
    bytes: usize,
    left_out: u64,
}

#[derive(Debug)]
pub(super) struct Client {
    about: Arc<About>,
    wanted: Wanted,
    /// Of the subscriptions that `wanted` follows from.
    version: u64,
    end: Duration,
    asked: Option<Duration>,
    pushed: Option<Duration>,
    has_terminated: bool,
    last: ErrorCode,
    shown: Arc<Kept>,
    /// Bytes of text that `shown` gives at most.
    charged: usize,
}

/// What a client says about itself, and its series; empty together.
type Kept = (String, Vec<Series>);

impl Clients {
    pub fn follow(&mut self, image: &Arc<Image>) {
        self.subscriptions.follow(image);
    }

    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The client, known or new; it is remembered anew.
    pub fn seen(&mut self, now: Duration, id: InstanceId, about: About) -> &mut Client {
        self.forget_silent(now);
        if !self.by_id.contains_key(&id) && self.by_id.len() >= CLIENTS_MAX {
            // Whoever was to be forgotten next makes room: if it is still there, it asks again.
            let next = self.by_end.first().expect("as many as there are clients").1;
            self.forget(next);
        }
        let client = match self.by_id.remove(&id) {
            Some(client) => {
                self.by_end.remove(&(client.end, id));
                self.renewed(id, client)
            }
            None => {
                let about = Arc::new(about.cut());
                let wanted = self.subscriptions.wanted(id, &about);
                Client::new(about, wanted, self.subscriptions.version)
            }
        };
        let interval = Duration::from_millis(u64::from(client.wanted.interval_ms.unsigned_abs()));
        let end = now + SILENT_MIN.max(interval * SILENT_INTERVALS);
        self.by_end.insert((end, id));
        let client = self.by_id.entry(id).or_insert(client);
        client.end = end;
        client
    }

    /// As the subscriptions are now: if they have changed, it may ask and push at once.
    fn renewed(&mut self, id: InstanceId, client: Client) -> Client {
        if client.version == self.subscriptions.version {
            return client;
        }
        let wanted = self.subscriptions.wanted(id, &client.about);
        let mut renewed = Client::new(client.about, wanted, self.subscriptions.version);
        if renewed.wanted.covers(&client.wanted) {
            (renewed.shown, renewed.charged) = (client.shown, client.charged);
        } else {
            // Of what is not wanted any more the client would say nothing, and its counters would stay.
            self.bytes -= client.charged;
        }
        renewed
    }

    pub fn forget_silent(&mut self, now: Duration) {
        while let Some((end, id)) = self.by_end.first().copied()
            && end <= now
        {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: InstanceId) {
        if let Some(client) = self.by_id.remove(&id) {
            self.by_end.remove(&(client.end, id));
            self.bytes -= client.charged;
        }
        assert!(self.by_id.len() == self.by_end.len());
    }

    /// What a client pushed for a subscription takes the place of what it pushed before.
    pub fn keep(&mut self, id: InstanceId, subscription_id: i32, pushed: Pushed) {
        self.left_out += pushed.left_out;
        // It may have been forgotten, or its subscription changed or taken away, while its push was read.
        let is_wanted = |client: &&mut Client| {
            client.wanted.subscription_id == subscription_id && !client.wanted.metrics.is_empty()
        };
        let Some(client) = self.by_id.get_mut(&id).filter(is_wanted) else { return };
        self.bytes -= client.charged;
        let who = who(&id, &client.about);
        let mut series = added_up(pushed.series, &client.shown.1);
        let room = SERIES_BYTES_MAX - self.bytes;
        let mut charged = info_bytes(&who, &client.about, &pushed.attributes);
        let mut count = 0;
        let mut named = None;
        for one in &series {
            // They are in the order of their names.
            let head = if named.replace(&one.name) == Some(&one.name) { 0 } else { head_bytes(one) };
            let with_it = charged + head + line_bytes(&who, one);
            if with_it > room {
                break;
            }
            (charged, count) = (with_it, count + 1);
        }
        self.left_out += (series.len() - count) as u64;
        series.truncate(count);
        (client.shown, client.charged) =
            if series.is_empty() { Default::default() } else { (Arc::new((pushed.attributes, series)), charged) };
        self.bytes += client.charged;
        assert!(self.bytes <= SERIES_BYTES_MAX);
        client.last = ErrorCode::None;
    }

    pub fn failed(&mut self, id: InstanceId, code: ErrorCode) {
        if let Some(client) = self.by_id.get_mut(&id) {
            client.last = code;
        }
    }

    /// Those that pushed something.
    pub fn shown(&self) -> Vec<Shown> {
        let shown = |(id, client): (&InstanceId, &Client)| Shown {
            instance: *id,
            about: client.about.clone(),
            pushed: client.shown.clone(),
        };
        self.by_id.iter().filter(|(_, client)| !client.shown.1.is_empty()).map(shown).collect()
    }
}

impl Client {
    fn new(about: Arc<About>, wanted: Wanted, version: u64) -> Client {
        let (asked, pushed, last, shown) = (None, None, ErrorCode::None, Arc::default());
        let end = Duration::ZERO;
        Client { about, wanted, version, end, asked, pushed, has_terminated: false, last, shown, charged: 0 }
    }

    fn is_soon(&self, now: Duration, since: Option<Duration>) -> bool {
        let interval = Duration::from_millis(u64::from(self.wanted.interval_ms.unsigned_abs()));
        since.is_some_and(|since| now.saturating_sub(since) < interval)
    }

    fn too_soon(&self) -> Refused {
        Refused::TooSoon { interval_ms: self.wanted.interval_ms }
    }

    /// GetTelemetrySubscriptions. At once after an error that asking again can mend.
    pub fn ask(&mut self, now: Duration) -> Result<Wanted, Refused> {
        let may = matches!(self.last, ErrorCode::UnknownSubscriptionId | ErrorCode::UnsupportedCompressionType);
        if self.is_soon(now, self.asked.max(self.pushed)) && !may {
            return Err(self.too_soon());
        }
        self.asked = Some(now);
        self.last = ErrorCode::None;
        Ok(self.wanted.clone())
    }

    /// PushTelemetry, as far as the metrics themselves do not matter; whether there is a subscription at all.
    pub fn push(&mut self, now: Duration, push: &Push<'_>, bytes_max: u32) -> Result<bool, Refused> {
        let checked = self.check(now, push, bytes_max);
        self.has_terminated |= push.terminating;
        self.last = checked.err().map_or(ErrorCode::None, Refused::code);
        checked.map(|()| !self.wanted.metrics.is_empty())
    }

    fn check(&mut self, now: Duration, push: &Push<'_>, bytes_max: u32) -> Result<(), Refused> {
        if self.has_terminated {
            return Err(Refused::Terminated);
        }
        // A client waits between half and one and a half intervals after it asked: its first push after that is always in time.
        let in_time = self.asked > self.pushed || !self.is_soon(now, self.pushed);
        if in_time {
            self.pushed = Some(now);
        } else if !push.terminating {
            return Err(self.too_soon());
        }
        let (got, wanted) = (push.subscription_id, self.wanted.subscription_id);
        if got != wanted {
            return Err(Refused::Subscription { got, wanted });
        }
        if Codec::from_wire(push.codec.into()).is_none() {
            return Err(Refused::Codec { codec: push.codec });
        }
        let (bytes, limit) = (push.metrics.len(), bytes_max);
        if u32::try_from(bytes).is_ok_and(|bytes| bytes <= limit) {
            return Ok(());
        }
        Err(Refused::TooLarge { bytes, limit })
    }
}

/// Each series once. What is told as what was added goes on from where it was.
fn added_up(pushed: Vec<Series>, before: &[Series]) -> Vec<Series> {
    let key = |series: &Series| (series.name.clone(), series.labels.clone());
    let old: BTreeMap<_, &Series> = before.iter().filter(|series| series.is_delta).map(|one| (key(one), one)).collect();
    let mut all: BTreeMap<(String, String), Series> = BTreeMap::new();
    for mut series in pushed {
        if series.is_delta {
            series.value += old.get(&key(&series)).map_or(0.0, |before| before.value);
        }
        all.insert(key(&series), series);
    }
    // A counter to which nothing was added is not in the push, and stays.
    for (key, series) in old {
        if series.kind == Kind::Counter {
            all.entry(key).or_insert_with(|| series.clone());
        }
    }
    all.into_values().take(super::otlp::SERIES_MAX).collect()
}

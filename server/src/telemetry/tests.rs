//! Who may push when, what is kept, and what is shown.

use std::sync::Arc;
use std::time::Duration;

use model::ErrorCode;
use replication::metadata::{Fact, Image, Resource};
use storage::codec::compress;

use super::otlp::sample::{gauge, metrics_data, sum};
use super::*;

pub(super) fn subscribed(sets: &[(&str, &str, &str)]) -> Arc<Image> {
    let fact = |(name, key, value): &(&str, &str, &str)| Fact::ConfigChanged {
        resource: Resource::ClientMetrics((*name).to_owned()),
        key: (*key).to_owned(),
        value: Some((*value).to_owned()),
    };
    let facts: Vec<Fact> = sets.iter().map(fact).collect();
    Arc::new(Image::empty(Arc::default()).with(&facts).expect("the facts apply"))
}

fn about(client_id: &str) -> About {
    About { client_id: client_id.to_owned(), software_name: Some("java".to_owned()), ..About::default() }
}

fn at(ms: u64) -> Duration {
    Duration::from_secs(3600) + Duration::from_millis(ms)
}

const ID: InstanceId = [7; 16];

struct Bed {
    telemetry: Telemetry,
    image: Arc<Image>,
}

impl Bed {
    fn new(sets: &[(&str, &str, &str)]) -> Bed {
        Bed { telemetry: Telemetry::new(10_000), image: subscribed(sets) }
    }

    fn ask(&self, ms: u64) -> Result<Wanted, Refused> {
        self.telemetry.wanted(at(ms), &self.image, ID, about("orders-1"))
    }

    fn push(&self, ms: u64, push: Push<'_>) -> ErrorCode {
        let taken = self.telemetry.push(at(ms), &self.image, about("orders-1"), push);
        taken.map_or_else(Refused::code, |()| ErrorCode::None)
    }

    fn text(&self, ms: u64) -> String {
        let mut text = String::new();
        self.telemetry.put(at(ms), &mut text);
        text
    }

    fn shown(&self, ms: u64) -> Vec<String> {
        let text = self.text(ms);
        text.lines().filter(|line| line.starts_with("weir_client_")).map(str::to_owned).collect()
    }
}

fn push(subscription_id: i32, metrics: &[u8]) -> Push<'_> {
    Push { instance: ID, subscription_id, terminating: false, codec: 0, metrics }
}

const EVERY_SECOND: [(&str, &str, &str); 2] = [("m", "metrics", "a.,b."), ("m", "interval.ms", "1000")];

#[test]
fn a_client_is_asked_for_what_all_subscriptions_that_match_it_want() {
    let bed = Bed::new(&[
        ("1", "metrics", "b.,a."),
        ("1", "match", "client_id=orders-.*"),
        ("2", "metrics", "a.,c."),
        ("2", "interval.ms", "60000"),
        ("3", "metrics", "d."),
        ("3", "match", "client_software_name=librdkafka"),
    ]);
    let wanted = bed.ask(0).expect("it may ask");
    assert_eq!((&*wanted.metrics, wanted.interval_ms), (&["a.", "b.", "c."].map(String::from)[..], 60_000));
    let none = Bed::new(&[]).ask(0).expect("it may ask");
    assert_eq!((none.metrics.len(), none.interval_ms), (0, 300_000));
    let all = Bed::new(&[("1", "metrics", "a."), ("2", "metrics", "*")]).ask(0).expect("it may ask");
    assert_eq!(&*all.metrics, ["*"]);
    let ids = [wanted.subscription_id, none.subscription_id, all.subscription_id];
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
}

#[test]
fn a_client_that_asks_or_pushes_too_often_is_told_to_wait() {
    let mut bed = Bed::new(&EVERY_SECOND);
    let id = bed.ask(0).expect("it may ask").subscription_id;
    assert_eq!(bed.ask(999), Err(Refused::TooSoon { interval_ms: 1000 }));
    assert_eq!(bed.push(600, push(id, &[])), ErrorCode::None, "the first after it asked");
    assert_eq!(bed.push(1599, push(id, &[])), ErrorCode::ThrottlingQuotaExceeded);
    assert_eq!(bed.push(1600, push(id, &[])), ErrorCode::None);
    // Whoever is wrong about the subscription learns the right one at once.
    assert_eq!(bed.push(2600, push(id + 1, &[])), ErrorCode::UnknownSubscriptionId);
    assert!(bed.ask(2600).is_ok());
    bed.image = subscribed(&[("m", "metrics", "c."), ("m", "interval.ms", "2000")]);
    assert_eq!(bed.push(2700, push(id, &[])), ErrorCode::UnknownSubscriptionId, "it has changed");
    assert_eq!(bed.ask(2700).expect("it has changed").interval_ms, 2000);
}

#[test]
fn a_push_that_cannot_be_taken_has_kafkas_code() {
    let bed = Bed::new(&[("m", "metrics", "*"), ("m", "interval.ms", "100")]);
    let id = bed.ask(0).expect("it may ask").subscription_id;
    let (large, bomb) = (vec![0; 10_001], compress(Codec::Gzip, &vec![0; 9 << 20]));
    assert_eq!(bed.push(100, Push { codec: 5, ..push(id, &[]) }), ErrorCode::UnsupportedCompressionType);
    assert_eq!(bed.push(200, push(id, &large)), ErrorCode::TelemetryTooLarge);
    assert_eq!(bed.push(300, push(id, &[0xff])), ErrorCode::InvalidRecord);
    assert_eq!(bed.push(400, Push { codec: 4, ..push(id, &[1, 2, 3]) }), ErrorCode::InvalidRecord);
    assert_eq!(bed.push(500, Push { codec: 1, ..push(id, &bomb) }), ErrorCode::InvalidRecord);
    for id in [[0; 16], 1u128.to_be_bytes()] {
        assert_eq!(bed.push(600, Push { instance: id, ..push(0, &[]) }), ErrorCode::InvalidRequest);
    }
    assert_eq!(
        bed.push(601, Push { terminating: true, ..push(id, &[]) }),
        ErrorCode::None,
        "the last is always in time"
    );
    assert_eq!(bed.push(900, push(id, &[])), ErrorCode::InvalidRequest, "after the last");
}

#[test]
fn what_is_pushed_is_shown_until_its_client_is_silent() {
    let bed = Bed::new(&EVERY_SECOND);
    let id = bed.ask(0).expect("it may ask").subscription_id;
    let send = |ms, codec: Codec, metrics: &[Vec<u8>]| {
        let bytes = metrics_data(metrics);
        let bytes = compress(codec, &bytes);
        let codec = i8::try_from(codec.to_wire()).expect("small");
        assert_eq!(bed.push(ms, Push { codec, ..push(id, &bytes) }), ErrorCode::None);
    };
    let labels = "client_instance_id=\"BwcHBwcHBwcHBwcHBwcHBw\",client_id=\"orders-1\",topic_name=\"t\"";
    send(0, Codec::Zstd, &[gauge("a.b", "t", 1.5), sum("added", "t", 2, 1), sum("counted", "t", 2, 2)]);
    let expected = |values: [&str; 3]| {
        ["a_b", "added_total", "counted_total"]
            .iter()
            .zip(values)
            .map(|(name, value)| format!("weir_client_{name}{{{labels}}} {value}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(bed.shown(500), expected(["1.5", "2", "2"]));
    for (codec, ms) in [(Codec::None, 1000), (Codec::Lz4, 2000), (Codec::Gzip, 3000), (Codec::Snappy, 4000)] {
        send(ms, codec, &[gauge("a.b", "t", f64::INFINITY), sum("added", "t", 3, 1), sum("counted", "t", 5, 2)]);
    }
    assert_eq!(bed.shown(4000), expected(["+Inf", "14", "5"]));
    let text = bed.text(4000);
    for line in [
        "# TYPE weir_client_a_b gauge",
        "# TYPE weir_client_added_total counter",
        "weir_telemetry_clients 1",
        "weir_telemetry_pushes_total 5",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("client_software_name=\"java\"") && text.contains("group_id=\"g\\\"1\"} 1\n"), "{text}");
    assert_eq!(bed.shown(63_999).len(), 3);
    assert_eq!(bed.shown(64_000), Vec::<String>::new());
    assert_eq!(bed.telemetry.clients().count(), 0);
}

#[test]
fn nothing_is_shown_of_a_client_that_nothing_is_wanted_of() {
    let mut bed = Bed::new(&EVERY_SECOND);
    let id = bed.ask(0).expect("it may ask").subscription_id;
    assert_eq!(bed.push(0, push(id, &metrics_data(&[gauge("a", "t", 1.0)]))), ErrorCode::None);
    assert!(bed.shown(0).len() == 1 && bed.telemetry.clients().bytes() > 0);
    bed.image = subscribed(&[("m", "interval.ms", "1000")]);
    assert!(bed.ask(100).expect("it has changed").metrics.is_empty());
    assert_eq!((bed.shown(100), bed.telemetry.clients().bytes()), (Vec::new(), 0));
    // What was pushed before that, and has been read only now.
    let pushed = otlp::read(&metrics_data(&[gauge("a", "t", 1.0)])).expect("it is a message");
    bed.telemetry.clients().keep(ID, id, pushed);
    assert_eq!((bed.shown(100), bed.telemetry.clients().bytes()), (Vec::new(), 0));
    bed.image = subscribed(&EVERY_SECOND);
    assert_eq!(bed.push(200, push(id, &metrics_data(&[gauge("a", "t", 2.0)]))), ErrorCode::None);
    assert_eq!(bed.shown(200).len(), 1);
}

#[test]
fn of_a_client_of_which_less_is_wanted_the_counters_of_before_are_not_shown() {
    let mut bed = Bed::new(&EVERY_SECOND);
    let push_all = |bed: &Bed, ms, metrics: &[Vec<u8>]| {
        let id = bed.ask(ms).expect("it has changed").subscription_id;
        assert_eq!(bed.push(ms, push(id, &metrics_data(metrics))), ErrorCode::None);
    };
    let counters = ["a.added", "b.added"].map(|name| sum(name, "t", 2, 1));
    push_all(&bed, 0, &counters);
    // More is wanted: they go on.
    bed.image = subscribed(&[("m", "metrics", "a.,b.,c."), ("m", "interval.ms", "1000")]);
    push_all(&bed, 100, &counters[..1]);
    let values: Vec<f64> =
        bed.shown(100).iter().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(values, [4.0, 2.0]);
    bed.image = subscribed(&[("m", "metrics", "a."), ("m", "interval.ms", "1000")]);
    push_all(&bed, 200, &counters[..1]);
    assert_eq!(bed.shown(200).len(), 1, "{:?}", bed.shown(200));
}

/// The figures of `Telemetry` itself, and the head of what is known of the clients.
const OWN_TEXT_BYTES: usize = 1000;

#[test]
fn clients_and_their_series_are_bounded() {
    let bed = Bed { telemetry: Telemetry::new(u32::MAX), image: subscribed(&EVERY_SECOND) };
    // Names that are written longer than they are, and values that have hundreds of digits where nobody takes care.
    let about = || About { software_version: Some("\"".repeat(200)), ..about(&"\n".repeat(300)) };
    let many = |value: f64| (0..1000).map(move |at| gauge(&format!("{}{at}", "m".repeat(200)), "t", value));
    let pushes = [1e308, -f64::MIN_POSITIVE].map(|value| metrics_data(&many(value).collect::<Vec<_>>()));
    for number in 0..CLIENTS_MAX as u128 + 100 {
        let id = (number + 2).to_be_bytes();
        let wanted = bed.telemetry.wanted(at(0), &bed.image, id, about()).expect("it may ask");
        if number % 100 == 0 {
            let bytes = &pushes[usize::from(number % 200 == 0)];
            let push = Push { instance: id, ..push(wanted.subscription_id, bytes) };
            assert_eq!(bed.telemetry.push(at(0), &bed.image, about(), push), Ok(()));
        }
    }
    let (count, left_out, bytes) = {
        let clients = bed.telemetry.clients();
        (clients.count(), clients.left_out(), clients.bytes())
    };
    assert_eq!(count, CLIENTS_MAX);
    assert!(left_out > 0);
    assert!((SERIES_BYTES_MAX - 10_000..=SERIES_BYTES_MAX).contains(&bytes), "{bytes}: it is full");
    let text = bed.text(0);
    assert!(text.len() <= bytes + OWN_TEXT_BYTES, "{} bytes are shown, {bytes} are counted", text.len());
    assert!(text.len() > bytes / 2, "{} bytes are shown, {bytes} are counted", text.len());
    // A client that goes takes what it was charged along.
    bed.telemetry.clients().forget_silent(at(60_000));
    assert_eq!(bed.telemetry.clients().bytes(), 0);
    assert!(bed.text(60_000).len() <= OWN_TEXT_BYTES);
}

//! What a client pushes: metrics in the protobuf of OpenTelemetry, read into series of ours.
//!
//! Owns which fields are read (gauges and sums; histograms and summaries are counted and left out), how a name of a client becomes one
//! of ours, and how much of one push is kept. Does not own the series of all clients (`super::series`).
//! Invariants: nothing panics, whatever the bytes are; what is kept is bounded by `SERIES_MAX` times twice `LINE_BYTES_MAX`; a name and the
//! names of labels hold letters, digits and '_' only, and the value of a label cannot leave its quotes.

use std::fmt::Write;

use super::protobuf::{Fields, ProtobufError, Value};
use crate::exporter::escaped;

/// Series of one client.
pub const SERIES_MAX: usize = 1000;
/// Of the name and the labels of one series.
const LINE_BYTES_MAX: usize = 1024;
const LABELS_MAX: usize = 12;
/// Labels that this server gives: what a client says under these names is not shown.
const OURS: [&str; 5] =
    ["client_instance_id", "client_id", "client_software_name", "client_software_version", "client_source_address"];
/// Of what a client says about itself.
const ATTRIBUTES_MAX: usize = 16;
/// Kafka's own clients begin the names of all their metrics with this.
const KAFKA_PREFIX: &str = "org.apache.kafka.";
const OUR_PREFIX: &str = "weir_client_";

/// How a value goes on from push to push.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Gauge,
    Counter,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        }
    }
}

/// One series of a client.
#[derive(Clone, PartialEq, Debug)]
pub struct Series {
    pub name: String,
    pub kind: Kind,
    /// As they stand between the braces, each with a comma before it.
    pub labels: String,
    pub value: f64,
    /// It is what was added since the push before.
    pub is_delta: bool,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Pushed {
    pub series: Vec<Series>,
    /// What the client says about itself, as labels.
    pub attributes: String,
    /// Points that were too many, too long, or of a kind that is not shown.
    pub left_out: u64,
}

/// The message MetricsData.
pub fn read(bytes: &[u8]) -> Result<Pushed, ProtobufError> {
    let mut pushed = Pushed::default();
    for field in Fields::of(bytes) {
        if let (1, Value::Bytes(resource_metrics)) = field? {
            of_resource(resource_metrics, &mut pushed)?;
        }
    }
    Ok(pushed)
}

fn of_resource(bytes: &[u8], pushed: &mut Pushed) -> Result<(), ProtobufError> {
    for field in Fields::of(bytes) {
        match field? {
            (1, Value::Bytes(resource)) if pushed.attributes.is_empty() => {
                pushed.attributes = labels(Fields::of(resource), 1, ATTRIBUTES_MAX)?.unwrap_or_default();
            }
            (2, Value::Bytes(scope)) => {
                for field in Fields::of(scope) {
                    if let (2, Value::Bytes(metric)) = field? {
                        of_metric(metric, pushed)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn of_metric(bytes: &[u8], pushed: &mut Pushed) -> Result<(), ProtobufError> {
    let mut name = "";
    let mut data = None;
    for field in Fields::of(bytes) {
        match field? {
            (1, value) => name = std::str::from_utf8(value.bytes()).unwrap_or_default(),
            (of @ (5 | 7 | 9 | 10 | 11), Value::Bytes(points)) => data = Some((of, points)),
            _ => {}
        }
    }
    match data {
        Some((5, points)) => of_points(points, name, Sum { is_monotonic: false, is_delta: false }, pushed),
        Some((7, points)) => of_points(points, name, Sum::read(points)?, pushed),
        Some(_) => {
            pushed.left_out += 1;
            Ok(())
        }
        None => Ok(()),
    }
}

#[derive(Clone, Copy)]
struct Sum {
    is_monotonic: bool,
    is_delta: bool,
}

impl Sum {
    /// These stand behind the points they are about.
    fn read(bytes: &[u8]) -> Result<Sum, ProtobufError> {
        const DELTA: u64 = 1;
        let mut sum = Sum { is_monotonic: false, is_delta: false };
        for field in Fields::of(bytes) {
            match field? {
                (2, temporality) => sum.is_delta = temporality.varint() == DELTA,
                (3, monotonic) => sum.is_monotonic = monotonic.varint() != 0,
                _ => {}
            }
        }
        Ok(sum)
    }
}

fn of_points(bytes: &[u8], name: &str, sum: Sum, pushed: &mut Pushed) -> Result<(), ProtobufError> {
    let kind = if sum.is_monotonic { Kind::Counter } else { Kind::Gauge };
    let name = our_name(name, kind);
    for field in Fields::of(bytes) {
        let (1, Value::Bytes(point)) = field? else { continue };
        let (labels, value) = (labels(Fields::of(point), 7, LABELS_MAX)?, value_of(point)?);
        match (&name, labels, value) {
            (Some(name), Some(labels), Some(value)) if pushed.series.len() < SERIES_MAX => {
                let name = name.clone();
                pushed.series.push(Series { name, kind, labels, value, is_delta: sum.is_delta });
            }
            _ => pushed.left_out += 1,
        }
    }
    Ok(())
}

fn value_of(point: &[u8]) -> Result<Option<f64>, ProtobufError> {
    let mut value = None;
    for field in Fields::of(point) {
        match field? {
            (4, Value::Fixed64(bits)) => value = Some(f64::from_bits(bits)),
            // Beyond 2^53 the nearest number is shown, as a gauge of Prometheus would.
            (6, Value::Fixed64(bits)) => value = Some(i64::from_le_bytes(bits.to_le_bytes()) as f64),
            _ => {}
        }
    }
    Ok(value)
}

/// The attributes of a resource or of a point, which have this number in it; `None`: too long to be shown.
fn labels(fields: Fields<'_>, number: u32, most: usize) -> Result<Option<String>, ProtobufError> {
    let mut text = String::new();
    let mut names: Vec<String> = Vec::new();
    for field in fields {
        let (field, Value::Bytes(attribute)) = field? else { continue };
        if field != number {
            continue;
        }
        let (mut key, mut value) = ("", None);
        for field in Fields::of(attribute) {
            match field? {
                (1, text) => key = std::str::from_utf8(text.bytes()).unwrap_or_default(),
                (2, any) => value = any_value(any.bytes())?,
                _ => {}
            }
        }
        let name = sanitized(key);
        // Two of one name would be no series at all, and Prometheus keeps what begins with "__" to itself.
        let is_free = !name.is_empty() && !name.starts_with("__") && !names.contains(&name);
        if let Some(value) = value.filter(|_| is_free && !OURS.contains(&name.as_str())) {
            let _ = write!(text, ",{name}=\"{}\"", escaped(&value));
            names.push(name);
        }
        if text.len() > LINE_BYTES_MAX || names.len() > most {
            return Ok(None);
        }
    }
    Ok(Some(text))
}

/// A value that can stand in a label.
fn any_value(bytes: &[u8]) -> Result<Option<String>, ProtobufError> {
    let mut value = None;
    for field in Fields::of(bytes) {
        value = match field? {
            (1, Value::Bytes(text)) if text.len() <= LINE_BYTES_MAX => {
                std::str::from_utf8(text).ok().map(str::to_owned)
            }
            (2, Value::Varint(flag)) => Some((flag != 0).to_string()),
            (3, Value::Varint(bits)) => Some(i64::from_le_bytes(bits.to_le_bytes()).to_string()),
            (4, Value::Fixed64(bits)) => Some(f64::from_bits(bits).to_string()),
            _ => value,
        };
    }
    Ok(value)
}

/// `None` for a name that cannot be shown.
fn our_name(name: &str, kind: Kind) -> Option<String> {
    let rest = sanitized(name.strip_prefix(KAFKA_PREFIX).unwrap_or(name));
    if rest.is_empty() || rest.len() > LINE_BYTES_MAX {
        return None;
    }
    let total = if kind == Kind::Counter && !rest.ends_with("_total") { "_total" } else { "" };
    Some(format!("{OUR_PREFIX}{rest}{total}"))
}

/// Letters, digits and '_'; empty where that would begin with a digit or be longer than a line.
fn sanitized(name: &str) -> String {
    if name.len() > LINE_BYTES_MAX || name.starts_with(|c: char| c.is_ascii_digit()) {
        return String::new();
    }
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
pub mod sample {
    //! Messages as a client would write them.

    fn varint(mut number: u64, out: &mut Vec<u8>) {
        while number >= 0x80 {
            out.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
            number >>= 7;
        }
        out.push(u8::try_from(number).expect("seven bits"));
    }

    pub fn message(field: u64, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        varint(field << 3 | 2, &mut out);
        varint(bytes.len() as u64, &mut out);
        out.extend_from_slice(bytes);
        out
    }

    pub fn attribute(field: u64, key: &str, value: &str) -> Vec<u8> {
        let any = message(2, &message(1, value.as_bytes()));
        message(field, &[message(1, key.as_bytes()), any].concat())
    }

    fn fixed(field: u8, bits: u64) -> Vec<u8> {
        [&[field << 3 | 1][..], &bits.to_le_bytes()].concat()
    }

    /// A point with one label.
    fn point(topic: &str, value: Vec<u8>) -> Vec<u8> {
        message(1, &[attribute(7, "topic.name", topic), attribute(7, "client_id", "c"), value].concat())
    }

    pub fn gauge(name: &str, topic: &str, value: f64) -> Vec<u8> {
        let data = message(5, &point(topic, fixed(4, value.to_bits())));
        message(2, &[message(1, name.as_bytes()), data].concat())
    }

    pub fn sum(name: &str, topic: &str, value: i64, temporality: u8) -> Vec<u8> {
        let points = point(topic, fixed(6, u64::from_le_bytes(value.to_le_bytes())));
        let data = message(7, &[points, vec![0x10, temporality, 0x18, 1]].concat());
        message(2, &[message(1, name.as_bytes()), data].concat())
    }

    pub fn metrics_data(metrics: &[Vec<u8>]) -> Vec<u8> {
        let resource = message(1, &attribute(1, "group_id", "g\"1"));
        message(1, &[resource, message(2, &metrics.concat())].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::sample::{gauge, message, metrics_data, sum};
    use super::*;

    #[test]
    fn gauges_and_sums_are_read_under_our_names() {
        let pushed = read(&metrics_data(&[
            gauge("org.apache.kafka.producer.record.queue.time.avg", "t", f64::NAN),
            sum("org.apache.kafka.producer.record.send.total", "t", 7, 2),
            sum("my-app.sent", "t\\u\n", -3, 1),
            message(2, &[message(1, b"h"), message(9, &[])].concat()),
        ]))
        .expect("it is a message");
        let shown: Vec<_> = pushed.series.iter().map(|one| (one.name.as_str(), one.kind, one.is_delta)).collect();
        let expected = [
            ("weir_client_producer_record_queue_time_avg", Kind::Gauge, false),
            ("weir_client_producer_record_send_total", Kind::Counter, false),
            ("weir_client_my_app_sent_total", Kind::Counter, true),
        ];
        assert_eq!(shown, expected);
        assert_eq!(pushed.series[1].labels, ",topic_name=\"t\"");
        assert_eq!(pushed.series[2].labels, ",topic_name=\"t\\\\u\\n\"");
        assert_eq!((pushed.series[1].value, pushed.series[2].value), (7.0, -3.0));
        assert_eq!((pushed.attributes.as_str(), pushed.left_out), (",group_id=\"g\\\"1\"", 1));
    }

    #[test]
    fn one_push_gives_a_bounded_number_of_series() {
        let many: Vec<Vec<u8>> = (0..SERIES_MAX + 5).map(|at| gauge(&format!("m{at}"), "t", 1.0)).collect();
        let pushed = read(&metrics_data(&many)).expect("it is a message");
        assert_eq!((pushed.series.len(), pushed.left_out), (SERIES_MAX, 5));
        let long = "t".repeat(LINE_BYTES_MAX + 1);
        let pushed = read(&metrics_data(&[gauge("m", &"t".repeat(LINE_BYTES_MAX), 1.0), gauge(&long, "t", 1.0)]));
        let pushed = pushed.expect("it is a message");
        assert_eq!((pushed.series.len(), pushed.left_out), (0, 2));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let whole = metrics_data(&[gauge("a", "t", 1.0), sum("b", "t", 2, 2)]);
        for cut in 0..whole.len() {
            let _ = read(&whole[..cut]);
        }
        // Every byte changed to every other one, and then noise.
        for at in 0..whole.len() {
            for byte in 0..=255 {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                let _ = read(&bytes);
            }
        }
        let mut state = 7u64;
        for _ in 0..20_000 {
            let noise: Vec<u8> = (0..40)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    state.to_be_bytes()[0] % 0x40
                })
                .collect();
            let _ = read(&noise);
        }
    }
}

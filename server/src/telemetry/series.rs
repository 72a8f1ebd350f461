//! The series of all clients in the text format of Prometheus.
//!
//! Owns the labels that say whose a series is, and how many bytes of text a client is charged for.
//! Invariants: all samples of one name stand together under one head, and are of one kind; no text is longer than what its clients are
//! charged and the head of `INFO`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use super::InstanceId;
use super::otlp::Series;
use super::subscriptions::About;
use crate::exporter::escaped;
use crate::metrics::series_head;

const INFO: &str = "weir_telemetry_client_info";
const HELP: &str = "Pushed by clients.";
/// `f64` has 17 digits, a sign, a point, and an exponent or zeros before them.
const VALUE_BYTES_MAX: usize = 24;
/// Outside of this a value is written with an exponent: without one it would have hundreds of digits.
const PLAIN_VALUES: std::ops::Range<f64> = 1e-5..1e16;

/// A client and what it pushed last.
pub(super) struct Shown {
    pub instance: InstanceId,
    pub about: Arc<About>,
    /// What it says about itself, and its series.
    pub pushed: Arc<(String, Vec<Series>)>,
}

pub(super) fn put(text: &mut String, clients: Vec<Shown>) {
    let mut families: BTreeMap<&str, Vec<(usize, &Series)>> = BTreeMap::new();
    let who: Vec<String> = clients.iter().map(|client| who(&client.instance, &client.about)).collect();
    for (at, client) in clients.iter().enumerate() {
        for series in &client.pushed.1 {
            families.entry(&series.name).or_default().push((at, series));
        }
    }
    if !clients.is_empty() {
        series_head(text, INFO, "gauge", "What is known of a client that pushes.");
    }
    for (client, who) in clients.iter().zip(&who) {
        put_info(text, who, &client.about, &client.pushed.0);
    }
    for (name, samples) in families {
        let Some(kind) = samples.first().map(|(_, series)| series.kind) else { continue };
        series_head(text, name, kind.name(), HELP);
        // Two clients may call different things by one name.
        for (at, series) in samples.into_iter().filter(|(_, series)| series.kind == kind) {
            let who = who.get(at).map(String::as_str).unwrap_or_default();
            let _ = writeln!(text, "{name}{{{who}{}}} {}", series.labels, number(series.value));
        }
    }
}

/// The labels of each of a client's series.
pub(super) fn who(instance: &InstanceId, about: &About) -> String {
    let id = model::ids::base64(instance);
    format!("client_instance_id=\"{id}\",client_id=\"{}\"", escaped(&about.client_id))
}

fn put_info(text: &mut String, who: &str, about: &About, attributes: &str) {
    let of = |name: &Option<String>| escaped(name.as_deref().unwrap_or_default());
    let _ = writeln!(
        text,
        "{INFO}{{{who},client_software_name=\"{}\",client_software_version=\"{}\",client_source_address=\"{}\"{attributes}}} 1",
        of(&about.software_name),
        of(&about.software_version),
        escaped(&about.address),
    );
}

/// Bytes of text that a client is charged for being shown at all.
pub(super) fn info_bytes(who: &str, about: &About, attributes: &str) -> usize {
    let mut text = String::new();
    put_info(&mut text, who, about, attributes);
    text.len()
}

/// Bytes of text that a client is charged for each name of its series; other clients may have that head as well.
pub(super) fn head_bytes(series: &Series) -> usize {
    "# HELP  \n# TYPE  \n".len() + 2 * series.name.len() + HELP.len() + series.kind.name().len()
}

/// And for one series. That is more than it takes in memory.
pub(super) fn line_bytes(who: &str, series: &Series) -> usize {
    series.name.len() + "{} \n".len() + who.len() + series.labels.len() + VALUE_BYTES_MAX
}

/// As Prometheus reads it.
fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let is_plain = value == 0.0 || value.is_nan() || PLAIN_VALUES.contains(&value.abs());
    let text = if is_plain { value.to_string() } else { format!("{value:e}") };
    assert!(text.len() <= VALUE_BYTES_MAX, "{text}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_short_and_reads_as_what_it_was() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (2.0, "2"),
            (1.5, "1.5"),
            (1e-5, "0.00001"),
            (1e-6, "1e-6"),
            (1e308, "1e308"),
            (-1.5e300, "-1.5e300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(number(value), text);
        }
        let mut state = 7u64;
        for _ in 0..50_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Any exponent, and the small ones at which most digits stand plainly.
            let any = f64::from_bits(state);
            let small = -any.abs().log2() * 1.234_567_890_123_456_7e-5;
            for value in [any, small, f64::MIN, -f64::MIN_POSITIVE, -1.234_567_890_123_456_7e-5] {
                let read: f64 = number(value).parse().expect("a number");
                assert!(read == value || value.is_nan(), "{value:e}");
            }
        }
    }
}

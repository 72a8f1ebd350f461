//! The series of all clients in the text format of Prometheus.
//!
//! Owns the labels that say whose a series is. Invariants: all samples of one name stand together under one head, and are of one kind.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use super::InstanceId;
use super::otlp::Series;
use super::subscriptions::About;
use crate::exporter::escaped;
use crate::metrics::series_head;

/// A client and what it pushed last.
pub(super) struct Shown {
    pub instance: InstanceId,
    pub about: Arc<About>,
    /// What it says about itself, and its series.
    pub pushed: Arc<(String, Vec<Series>)>,
}

pub(super) fn put(text: &mut String, clients: Vec<Shown>) {
    let mut families: BTreeMap<&str, Vec<(usize, &Series)>> = BTreeMap::new();
    let who: Vec<String> = clients.iter().map(who).collect();
    for (at, client) in clients.iter().enumerate() {
        for series in &client.pushed.1 {
            families.entry(&series.name).or_default().push((at, series));
        }
    }
    if !clients.is_empty() {
        series_head(text, "weir_telemetry_client_info", "gauge", "What is known of a client that pushes.");
    }
    for (client, who) in clients.iter().zip(&who) {
        let of = |name: &Option<String>| escaped(name.as_deref().unwrap_or_default());
        let about = &client.about;
        let _ = writeln!(
            text,
            "weir_telemetry_client_info{{{who},client_software_name=\"{}\",client_software_version=\"{}\",client_source_address=\"{}\"{}}} 1",
            of(&about.software_name),
            of(&about.software_version),
            escaped(&about.address),
            client.pushed.0,
        );
    }
    for (name, samples) in families {
        let Some(kind) = samples.first().map(|(_, series)| series.kind) else { continue };
        series_head(text, name, kind.name(), "Pushed by clients.");
        // Two clients may call different things by one name.
        for (at, series) in samples.into_iter().filter(|(_, series)| series.kind == kind) {
            let who = who.get(at).map(String::as_str).unwrap_or_default();
            let _ = writeln!(text, "{name}{{{who}{}}} {}", series.labels, number(series.value));
        }
    }
}

fn who(client: &Shown) -> String {
    let id = model::ids::base64(&client.instance);
    format!("client_instance_id=\"{id}\",client_id=\"{}\"", escaped(&client.about.client_id))
}

/// As Prometheus writes it.
fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    value.to_string()
}

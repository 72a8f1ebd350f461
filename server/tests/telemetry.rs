//! Metrics of clients (KIP-714) over the wire: a subscription is made, a client asks and pushes, and `/metrics` shows it.

mod common;

use bytes::Bytes;
use common::{Client, Server, scrape, text};
use server::wire::Uuid;
use server::wire::messages::describe_configs_request::DescribeConfigsResource;
use server::wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use server::wire::messages::{
    DescribeConfigsRequest, GetTelemetrySubscriptionsRequest, IncrementalAlterConfigsRequest,
    ListConfigResourcesRequest, PushTelemetryRequest,
};

const CLIENT_METRICS: i8 = 16;

/// `None` deletes. The code and the message.
fn alter(client: &mut Client, name: &str, configs: &[(&str, Option<&str>)]) -> (i16, String) {
    let config = |(key, value): &(&str, Option<&str>)| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(i8::from(value.is_none()))
            .with_value(value.map(text))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(CLIENT_METRICS)
        .with_resource_name(text(name))
        .with_configs(configs.iter().map(config).collect());
    let response = client.call(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    let answer = &response.responses[0];
    (answer.error_code, answer.error_message.as_ref().map(ToString::to_string).unwrap_or_default())
}

fn described(client: &mut Client, name: &str) -> (i16, Vec<(String, String, i8)>) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(CLIENT_METRICS)
        .with_resource_name(text(name))
        .with_configuration_keys(None);
    let response = client.call(4, &DescribeConfigsRequest::default().with_resources(vec![resource]));
    let found = &response.results[0];
    let line = |one: &server::wire::messages::describe_configs_response::DescribeConfigsResourceResult| {
        (one.name.to_string(), one.value.as_ref().expect("a value").to_string(), one.config_source)
    };
    (found.error_code, found.configs.iter().map(line).collect())
}

/// A gauge without labels, as OpenTelemetry writes it.
fn gauge(name: &str, value: f64) -> Vec<u8> {
    let message = |field: u8, bytes: &[u8]| {
        let length = u8::try_from(bytes.len()).expect("short");
        [&[field << 3 | 2, length][..], bytes].concat()
    };
    let point = message(1, &[&[0x21][..], &value.to_le_bytes()].concat());
    let metric = [message(1, name.as_bytes()), message(5, &point)].concat();
    message(1, &message(2, &message(2, &metric)))
}

#[test]
fn a_client_pushes_what_is_subscribed_to_and_metrics_show_it() {
    let server = Server::start();
    let mut client = server.client();
    let ask = |client: &mut Client, id| {
        client.call(0, &GetTelemetrySubscriptionsRequest::default().with_client_instance_id(id))
    };
    let nothing = ask(&mut client, Uuid::nil());
    assert_eq!((nothing.error_code, nothing.requested_metrics.len(), nothing.push_interval_ms), (0, 0, 300_000));
    assert!(!nothing.client_instance_id.is_nil());

    let interval = ("interval.ms", Some("1000"));
    let of_tests = [interval, ("metrics", Some("org.apache.kafka.producer.")), ("match", Some("client_id=te.t"))];
    assert_eq!(alter(&mut client, "tests", &of_tests), (0, String::new()));
    let lines = |lines: [(&str, &str, i8); 3]| lines.map(|(key, value, at)| (key.to_owned(), value.to_owned(), at));
    let expected =
        [("interval.ms", "1000", 7), ("match", "client_id=te.t", 7), ("metrics", "org.apache.kafka.producer.", 7)];
    assert_eq!(described(&mut client, "tests"), (0, lines(expected).to_vec()));
    let listed = client.call(0, &ListConfigResourcesRequest::default());
    assert_eq!(listed.config_resources.iter().map(|one| one.resource_name.as_str()).collect::<Vec<_>>(), ["tests"]);

    // The subscription has changed, so it may ask again at once.
    let id = nothing.client_instance_id;
    let wanted = ask(&mut client, id);
    assert_eq!((wanted.error_code, wanted.client_instance_id, wanted.push_interval_ms), (0, id, 1000));
    assert_eq!(wanted.requested_metrics, [text("org.apache.kafka.producer.")]);
    assert_eq!((wanted.accepted_compression_types, wanted.telemetry_max_bytes), (vec![4, 3, 1, 2], 1_048_576));
    assert_eq!(ask(&mut client, id).error_code, 89, "it asks again too soon");

    let push = PushTelemetryRequest::default()
        .with_client_instance_id(id)
        .with_subscription_id(wanted.subscription_id)
        .with_metrics(gauge("org.apache.kafka.producer.connection.count", 2.0).into());
    assert_eq!(client.call(0, &push).error_code, 0);
    assert_eq!(client.call(0, &push).error_code, 89, "it pushes again too soon");
    let shown = scrape(&server);
    let who = format!("client_instance_id=\"{}\",client_id=\"test\"", model::ids::base64(id.as_bytes()));
    for line in [
        format!("weir_client_producer_connection_count{{{who}}} 2"),
        "weir_telemetry_clients 1".to_owned(),
        "weir_telemetry_pushes_refused_total 1".to_owned(),
    ] {
        assert!(shown.lines().any(|found| found == line), "{line} is not in\n{shown}");
    }

    let other = push.clone().with_client_instance_id(Uuid::from_u128(77)).with_subscription_id(1);
    assert_eq!(client.call(0, &other).error_code, 117, "not its subscription");
    let last = push.clone().with_terminating(true).with_metrics(Bytes::new());
    assert_eq!(client.call(0, &last).error_code, 0);
    assert_eq!(client.call(0, &push).error_code, 42, "after its last push");
}

#[test]
fn a_subscription_is_checked_as_kafka_checks_it() {
    let server = Server::start();
    let mut client = server.client();
    for (key, value, code, begin) in [
        ("no.such", "1", 42, "Unknown client metrics configuration: no.such"),
        (
            "interval.ms",
            "99",
            42,
            "Invalid value 99 for interval.ms, interval must be between 100 and 3600000 (1 hour)",
        ),
        ("match", "client_id", 40, "Illegal client matching pattern: client_id"),
        ("match", "client_id=[", 40, "Illegal client matching pattern: client_id=["),
    ] {
        let (got, message) = alter(&mut client, "s", &[(key, Some(value))]);
        assert_eq!(got, code, "{message}");
        assert!(message.starts_with(begin), "{message}");
    }
    assert_eq!(alter(&mut client, "", &[("metrics", Some("*"))]).0, 42);
    assert_eq!(described(&mut client, "").0, 42);
    assert_eq!(described(&mut client, "s").1.iter().filter(|(_, _, source)| *source == 5).count(), 3);
    assert_eq!(alter(&mut client, "s", &[("metrics", Some("*"))]).0, 0);
    assert_eq!(alter(&mut client, "s", &[("metrics", None)]).0, 0);
    assert!(client.call(0, &ListConfigResourcesRequest::default()).config_resources.is_empty());
}

//! What `/metrics` says of topics and groups, under the names that dashboards for Kafka know.

mod common;

use std::time::Instant;

use common::{Client, Server, batch, produce, scrape, text};
use server::wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use server::wire::messages::{FindCoordinatorRequest, MetadataRequest, OffsetCommitRequest};

fn commit(client: &mut Client, group: &str, topic: &str, partition: i32, offset: i64) {
    let partition =
        OffsetCommitRequestPartition::default().with_partition_index(partition).with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(text(topic).into()).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(text(group).into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    // The coordinator is there once its topic is.
    let find = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
    let deadline = Instant::now() + common::PATIENCE;
    loop {
        client.call(4, &find);
        match client.call(8, &request).topics[0].partitions[0].error_code {
            0 => return,
            code => assert!((14..=16).contains(&code) && Instant::now() < deadline, "code {code}"),
        }
    }
}

#[test]
fn offsets_and_lag_stand_under_the_names_of_kafka_exporter() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("orders", 2);
    client.call(9, &produce("orders", 1, -1, batch(&["a", "b", "c"])));
    commit(&mut client, "bi\"lling", "orders", 1, 1);
    commit(&mut client, "bi\"lling", "orders", 0, 0);
    let text = scrape(&server);
    for line in [
        "kafka_brokers 1",
        "kafka_topic_partitions{topic=\"orders\"} 2",
        "kafka_topic_partition_current_offset{partition=\"1\",topic=\"orders\"} 3",
        "kafka_topic_partition_current_offset{partition=\"0\",topic=\"orders\"} 0",
        "kafka_topic_partition_oldest_offset{partition=\"1\",topic=\"orders\"} 0",
        "kafka_topic_partition_leader{partition=\"1\",topic=\"orders\"} 1",
        "kafka_topic_partition_leader_is_preferred{partition=\"1\",topic=\"orders\"} 1",
        "kafka_topic_partition_in_sync_replica{partition=\"1\",topic=\"orders\"} 1",
        "kafka_topic_partition_under_replicated_partition{partition=\"1\",topic=\"orders\"} 0",
        "kafka_consumergroup_members{consumergroup=\"bi\\\"lling\"} 0",
        "kafka_consumergroup_current_offset{consumergroup=\"bi\\\"lling\",partition=\"1\",topic=\"orders\"} 1",
        "kafka_consumergroup_lag{consumergroup=\"bi\\\"lling\",partition=\"1\",topic=\"orders\"} 2",
        "kafka_consumergroup_lag{consumergroup=\"bi\\\"lling\",partition=\"0\",topic=\"orders\"} 0",
        "kafka_consumergroup_lag_sum{consumergroup=\"bi\\\"lling\",topic=\"orders\"} 2",
        "weir_consumergroup_lag_seconds{consumergroup=\"bi\\\"lling\",partition=\"0\",topic=\"orders\"} 0.000",
        "weir_series_left_out{of=\"partitions\"} 0",
        "weir_scrape_complete 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    // Its records are from the first second of 1970.
    let age = "weir_consumergroup_lag_seconds{consumergroup=\"bi\\\"lling\",partition=\"1\",topic=\"orders\"} ";
    let age = text.lines().find_map(|line| line.strip_prefix(age)).expect("an age");
    assert!(age.parse::<f64>().is_ok_and(|seconds| seconds > 1e9), "{age}");
}

#[test]
fn what_cannot_be_gathered_in_time_does_not_take_the_rest_along() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("orders", 1);
    commit(&mut client, "billing", "orders", 0, 0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut text = String::new();
    let until = || tokio::time::Instant::now();
    runtime.block_on(async { server::exporter::put(&server.broker, until(), &mut text).await });
    assert!(text.contains("kafka_topic_partitions{topic=\"orders\"} 1\n"), "{text}");
    assert!(text.contains("weir_scrape_complete 0\n") && !text.contains("billing"), "{text}");
}

#[test]
fn one_address_has_its_own_limit_of_connections_and_metrics_show_it() {
    let set = ["max.connections.per.ip=1", "max.connections.per.ip.overrides=127.0.0.1:2"];
    let server = Server::start_with(&set);
    let refused = "weir_invalid_requests_total{reason=\"connections\"} ";
    let (mut one, mut two) = (server.client(), server.client());
    for client in [&mut one, &mut two] {
        client.call(9, &MetadataRequest::default());
    }
    let mut third = server.client();
    assert_eq!(third.frame(), None, "closed without an answer");
    let text = scrape(&server);
    for line in ["weir_limit{of=\"connections_of_an_address\"} 1", &format!("{refused}1"), "weir_connections 2"] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    drop(one);
    let deadline = Instant::now() + common::PATIENCE;
    loop {
        let mut next = server.client();
        next.send(9, &MetadataRequest::default());
        if next.frame().is_some() {
            break;
        }
        assert!(Instant::now() < deadline, "the connection that ended is still counted");
    }
}

/// Every series that the board under `deploy/` asks for is one that a node has.
#[test]
fn the_board_shows_nothing_that_no_node_says() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("orders", 1);
    client.call(9, &produce("orders", 0, -1, batch(&["a"])));
    client.call(9, &produce("orders", 0, -1, bytes::Bytes::from_static(b"no batch")));
    commit(&mut client, "billing", "orders", 0, 0);
    let text = scrape(&server);
    let board = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/grafana/weir.json"));
    let board = board.expect("the board");
    let of_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words: std::collections::BTreeSet<&str> = board.split(|c| !of_name(c)).collect();
    let asked: Vec<&str> =
        words.into_iter().filter(|word| word.starts_with("weir_") || word.starts_with("kafka_")).collect();
    assert!(asked.len() > 15, "{asked:?}");
    for name in asked {
        // A histogram's parts have no type of their own.
        let name = name.strip_suffix("_bucket").unwrap_or(name);
        assert!(text.contains(&format!("# TYPE {name} ")), "the board asks for {name}, which is not in\n{text}");
    }
}

//! The administrative APIs on one node: every version is answered, and what is asked for shows in what is described.

mod common;

use std::process::Command;

use common::{Client, Server, text};
use server::wire::messages::alter_configs_request as legacy;
use server::wire::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use server::wire::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use server::wire::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use server::wire::messages::describe_configs_request::DescribeConfigsResource;
use server::wire::messages::describe_quorum_request::{PartitionData, TopicData};
use server::wire::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use server::wire::messages::elect_leaders_request::TopicPartitions;
use server::wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use server::wire::messages::update_features_request::FeatureUpdateKey;
use server::wire::messages::*;
use server::wire::{AddRaftVoterRequest, ApiVersionsRequest, Request, UnregisterControllerRequest};

const TOPIC: i8 = 2;
const NODE: i8 = 4;

fn versions<R: Request>() -> std::ops::RangeInclusive<i16> {
    R::MIN..=R::MAX
}

fn quorum(topic: &str) -> DescribeQuorumRequest {
    let topic =
        TopicData::default().with_topic_name(text(topic).into()).with_partitions(vec![PartitionData::default()]);
    DescribeQuorumRequest::default().with_topics(vec![topic])
}

#[test]
fn the_metadata_group_of_one_node_is_its_leader_without_lag() {
    let server = Server::start();
    let mut client = server.client();
    for version in versions::<DescribeQuorumRequest>() {
        let response = client.call(version, &quorum("__cluster_metadata"));
        assert_eq!(response.error_code, 0);
        let partition = &response.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.leader_id.0, partition.observers.len()), (0, 1, 0));
        let voter = &partition.current_voters[0];
        assert_eq!((voter.replica_id.0, voter.log_end_offset), (1, partition.high_watermark));
        assert!(partition.high_watermark > 1 && partition.leader_epoch > 0);
        assert_eq!(voter.last_caught_up_timestamp > 0, version >= 1);
        assert_eq!(voter.replica_directory_id.is_nil(), version < 2);
        assert_eq!(client.call(version, &quorum("other")).topics[0].partitions[0].error_code, 3);
    }
}

#[test]
fn partitions_are_described_page_by_page() {
    let server = Server::start();
    let mut client = server.client();
    [("a", 3), ("b", 1), ("c", 2)].into_iter().for_each(|(name, partitions)| client.create_topic(name, partitions));
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let request = DescribeTopicPartitionsRequest::default().with_response_partition_limit(2).with_cursor(cursor);
        let response = client.call(0, &request);
        for topic in &response.topics {
            let name = topic.name.as_ref().expect("named").to_string();
            seen.extend(topic.partitions.iter().map(|partition| {
                assert_eq!((partition.leader_id.0, partition.eligible_leader_replicas.clone()), (1, Some(Vec::new())));
                format!("{name}-{}", partition.partition_index)
            }));
        }
        let Some(next) = response.next_cursor else { break };
        cursor = Some(Cursor::default().with_topic_name(next.topic_name).with_partition_index(next.partition_index));
    }
    assert_eq!(seen, ["a-0", "a-1", "a-2", "b-0", "c-0", "c-1"]);
}

#[test]
fn topics_that_are_named_are_described_and_unknown_ones_told_apart() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("a", 1);
    let named = |name: &str| TopicRequest::default().with_name(text(name).into());
    let request = DescribeTopicPartitionsRequest::default()
        .with_topics(vec![named("zz"), named("a"), named("no/name")])
        .with_response_partition_limit(100);
    let codes: Vec<i16> = client.call(0, &request).topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [0, 17, 3]);
    let elsewhere = Cursor::default().with_topic_name(text("other").into()).with_partition_index(0);
    let refused = client.call(0, &request.with_cursor(Some(elsewhere)));
    assert!(refused.topics.iter().all(|topic| topic.error_code == 42));
}

fn more(client: &mut Client, version: i16, topic: &str, count: i32, by_hand: Option<Vec<i32>>) -> i16 {
    let assignments = by_hand.map(|nodes| {
        let ids = nodes.into_iter().map(Into::into).collect();
        vec![CreatePartitionsAssignment::default().with_broker_ids(ids)]
    });
    let topic =
        CreatePartitionsTopic::default().with_name(text(topic).into()).with_count(count).with_assignments(assignments);
    let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    client.call(version, &request).results[0].error_code
}

#[test]
fn a_topic_is_given_more_partitions_and_never_fewer() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("grows", 1);
    for version in versions::<CreatePartitionsRequest>() {
        assert_eq!(more(&mut client, version, "grows", 2 + i32::from(version), None), 0, "version {version}");
    }
    assert_eq!(more(&mut client, 3, "grows", 6, Some(vec![1])), 0);
    for (count, by_hand, code) in [(6, None, 37), (2, None, 37), (0, None, 37), (7, Some(vec![9]), 39)] {
        assert_eq!(more(&mut client, 3, "grows", count, by_hand), code, "{count}");
    }
    assert_eq!(more(&mut client, 3, "absent", 2, None), 3);
    let described = client.call(0, &DescribeTopicPartitionsRequest::default().with_response_partition_limit(100));
    assert_eq!(described.topics[0].partitions.len(), 6);
    assert!(described.topics[0].partitions.iter().all(|partition| partition.leader_id.0 == 1));
}

/// Operation, key, value.
type Operation<'a> = (i8, &'a str, Option<&'a str>);

fn alter(client: &mut Client, kind: i8, name: &str, operations: &[Operation<'_>]) -> (i16, String) {
    let config = |(operation, key, value): &Operation<'_>| {
        AlterableConfig::default().with_config_operation(*operation).with_name(text(key)).with_value(value.map(text))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(operations.iter().map(config).collect());
    let response = client.call(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    let result = &response.responses[0];
    (result.error_code, result.error_message.as_ref().map(ToString::to_string).unwrap_or_default())
}

fn value(client: &mut Client, kind: i8, name: &str, key: &str) -> Option<(String, i8)> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(Some(vec![text(key)]));
    let response = client.call(4, &DescribeConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(response.results[0].error_code, 0, "{:?}", response.results[0].error_message);
    let config = response.results[0].configs.first()?;
    Some((config.value.as_ref().map(ToString::to_string).unwrap_or_default(), config.config_source))
}

fn shown(value: &str, source: i8) -> Option<(String, i8)> {
    Some((value.to_owned(), source))
}

#[test]
fn configurations_of_a_topic_are_set_deleted_and_their_lists_added_to() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("t", 1);
    let ok = (0, String::new());
    assert_eq!(alter(&mut client, TOPIC, "t", &[(0, "retention.ms", Some("1000"))]), ok);
    assert_eq!(value(&mut client, TOPIC, "t", "retention.ms"), shown("1000", 1));
    assert_eq!(alter(&mut client, TOPIC, "t", &[(2, "cleanup.policy", Some("compact"))]), ok);
    assert_eq!(value(&mut client, TOPIC, "t", "cleanup.policy"), shown("delete,compact", 1));
    assert_eq!(alter(&mut client, TOPIC, "t", &[(3, "cleanup.policy", Some("delete"))]), ok);
    assert_eq!(value(&mut client, TOPIC, "t", "cleanup.policy"), shown("compact", 1));
    assert_eq!(alter(&mut client, TOPIC, "t", &[(1, "retention.ms", None)]), ok);
    assert_eq!(value(&mut client, TOPIC, "t", "retention.ms"), shown("604800000", 5));
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_and_changes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("t", 1);
    let operations: [(&[Operation<'_>], i16); 6] = [
        (&[(0, "retention.ms", Some("soon"))], 40),
        (&[(0, "no.such.key", Some("1"))], 40),
        (&[(0, "retention.ms", None)], 42),
        (&[(9, "retention.ms", Some("1"))], 42),
        (&[(0, "retention.ms", Some("1")), (0, "retention.ms", Some("2"))], 42),
        (&[(0, "retention.ms", Some("5")), (0, "segment.bytes", Some("-1"))], 40),
    ];
    for (operations, code) in operations {
        let (got, message) = alter(&mut client, TOPIC, "t", operations);
        assert_eq!(got, code, "{operations:?}: {message}");
        assert!(!message.is_empty());
    }
    assert_eq!(value(&mut client, TOPIC, "t", "retention.ms"), shown("604800000", 5));
    assert_eq!(alter(&mut client, TOPIC, "absent", &[(0, "retention.ms", Some("1"))]).0, 3);
    assert_eq!(alter(&mut client, 8, "1", &[(0, "ROOT", Some("INFO"))]).0, 42);
}

#[test]
fn the_older_request_replaces_what_was_set() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("t", 1);
    assert_eq!(alter(&mut client, TOPIC, "t", &[(0, "retention.ms", Some("1000"))]).0, 0);
    for version in versions::<AlterConfigsRequest>() {
        let bytes = (1_048_576 + i64::from(version)).to_string();
        let config = legacy::AlterableConfig::default().with_name(text("segment.bytes")).with_value(Some(text(&bytes)));
        let resource = legacy::AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text("t"))
            .with_configs(vec![config]);
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        assert_eq!(client.call(version, &request).responses[0].error_code, 0);
        assert_eq!(value(&mut client, TOPIC, "t", "segment.bytes"), shown(&bytes, 1));
    }
    assert_eq!(value(&mut client, TOPIC, "t", "retention.ms"), shown("604800000", 5));
}

#[test]
fn configurations_of_nodes_are_defaults_of_topics_and_can_throttle() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("t", 1);
    assert_eq!(alter(&mut client, NODE, "", &[(0, "log.retention.ms", Some("7000"))]).0, 0);
    assert_eq!(value(&mut client, TOPIC, "t", "retention.ms"), shown("7000", 3));
    assert_eq!(value(&mut client, NODE, "", "log.retention.ms"), shown("7000", 3));
    for key in ["leader.replication.throttled.rate", "follower.replication.throttled.rate"] {
        assert_eq!(alter(&mut client, NODE, "1", &[(0, key, Some("1000000"))]), (0, String::new()));
        assert_eq!(value(&mut client, NODE, "1", key), shown("1000000", 2));
        assert_eq!(alter(&mut client, NODE, "1", &[(1, key, None)]), (0, String::new()));
    }
    let topic = [(0, "leader.replication.throttled.replicas", Some("0:1"))];
    assert_eq!(alter(&mut client, TOPIC, "t", &topic), (0, String::new()));
}

#[test]
fn leaders_are_elected_only_where_another_is_preferred() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("t", 1);
    let asked = |index| {
        let named = TopicPartitions::default().with_topic(text("t").into()).with_partitions(vec![index]);
        ElectLeadersRequest::default().with_topic_partitions(Some(vec![named])).with_timeout_ms(30_000)
    };
    for version in versions::<ElectLeadersRequest>() {
        let code =
            |response: &ElectLeadersResponse| response.replica_election_results[0].partition_result[0].error_code;
        assert_eq!(code(&client.call(version, &asked(0))), 84, "version {version}");
        assert_eq!(code(&client.call(version, &asked(7))), 3);
        let all = client.call(version, &ElectLeadersRequest::default().with_topic_partitions(None));
        assert_eq!((all.error_code, all.replica_election_results.len()), (0, 0));
    }
    assert_eq!(
        client.call(2, &asked(0).with_election_type(1)).replica_election_results[0].partition_result[0].error_code,
        84
    );
    assert_eq!(client.call(2, &asked(0).with_election_type(2)).error_code, 42);
}

#[test]
fn partitions_are_not_moved_to_nodes_that_are_not_there() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("t", 1);
    let asked = |index, replicas: Option<Vec<i32>>| {
        let replicas = replicas.map(|nodes| nodes.into_iter().map(Into::into).collect());
        let partition = ReassignablePartition::default().with_partition_index(index).with_replicas(replicas);
        let topic = ReassignableTopic::default().with_name(text("t").into()).with_partitions(vec![partition]);
        AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000)
    };
    for version in versions::<AlterPartitionReassignmentsRequest>() {
        let cases = [
            (0, Some(vec![1]), 0),
            (0, Some(vec![2]), 39),
            (0, Some(vec![]), 39),
            (0, None, 85),
            (3, Some(vec![1]), 3),
        ];
        for (index, replicas, code) in cases {
            let response = client.call(version, &asked(index, replicas.clone()));
            assert_eq!(response.error_code, 0);
            let partition = &response.responses[0].partitions[0];
            assert_eq!(partition.error_code, code, "{replicas:?}: {:?}", partition.error_message);
        }
    }
    let listed = client.call(0, &ListPartitionReassignmentsRequest::default().with_topics(None));
    assert_eq!((listed.error_code, listed.topics.len()), (0, 0));
}

#[test]
fn nodes_that_are_not_registered_cannot_be_forgotten_nor_vote() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(client.call(0, &UnregisterBrokerRequest::default().with_broker_id(9.into())).error_code, 102);
    let controller = UnregisterControllerRequest { controller_id: 9, ..Default::default() };
    assert_eq!(client.call(0, &controller).error_code, 136);
    for version in versions::<AddRaftVoterRequest>() {
        let voter = AddRaftVoterRequest { voter_id: 9, timeout_ms: 1000, ..Default::default() };
        assert_ne!(client.call(version, &voter).error_code, 0);
        let foreign = AddRaftVoterRequest { cluster_id: Some(text("other")), ..voter };
        assert_eq!(client.call(version, &foreign).error_code, 104);
    }
    let removed = RemoveRaftVoterRequest::default().with_cluster_id(None).with_voter_id(9);
    assert_eq!(client.call(0, &removed).error_code, 127);
}

#[test]
fn the_level_of_the_metadata_is_shown_and_only_levels_that_exist_are_taken() {
    let server = Server::start();
    let mut client = server.client();
    let told = client.call(
        3,
        &ApiVersionsRequest {
            client_software_name: text("t"),
            client_software_version: text("1"),
            ..Default::default()
        },
    );
    let level = told.finalized_features.iter().find(|feature| feature.name.as_str() == "weir.metadata").expect("told");
    let range = told.supported_features.iter().find(|feature| feature.name.as_str() == "weir.metadata").expect("told");
    assert!(range.min_version <= level.max_version_level && level.max_version_level <= range.max_version);
    let update = |name: &str, level: i16| {
        let update = FeatureUpdateKey::default().with_feature(text(name)).with_max_version_level(level);
        UpdateFeaturesRequest::default().with_feature_updates(vec![update]).with_timeout_ms(1000)
    };
    for version in versions::<UpdateFeaturesRequest>() {
        let mut failed = |name: &str, level: i16| {
            let response = client.call(version, &update(name, level));
            response.results.first().map_or(response.error_code, |result| result.error_code)
        };
        assert_eq!(failed("weir.metadata", level.max_version_level), 0, "version {version}");
        assert_ne!(failed("weir.metadata", range.max_version + 1), 0);
        assert_ne!(failed("no.such.feature", 1), 0);
    }
}

#[test]
fn the_data_directory_is_described_and_nothing_moves_out_of_it() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("t", 2);
    let mut dir = text("");
    for version in versions::<DescribeLogDirsRequest>() {
        let response = client.call(version, &DescribeLogDirsRequest::default().with_topics(None));
        let found = &response.results[0];
        assert_eq!((found.shown.error_code, found.shown.topics[0].partitions.len()), (0, 2));
        assert_eq!(found.shown.total_bytes > 0, version >= 4);
        dir = found.shown.log_dir.clone();
    }
    let path = |path: &str, topic: &str, index| {
        let topic = AlterReplicaLogDirTopic::default().with_name(text(topic).into()).with_partitions(vec![index]);
        AlterReplicaLogDir::default().with_path(text(path)).with_topics(vec![topic])
    };
    for version in versions::<AlterReplicaLogDirsRequest>() {
        for (path, code) in [
            (path(&dir, "t", 1), 0),
            (path("/elsewhere", "t", 1), 57),
            (path(&dir, "t", 9), 3),
            (path(&dir, "u", 0), 3),
        ] {
            let response = client.call(version, &AlterReplicaLogDirsRequest::default().with_dirs(vec![path]));
            assert_eq!(response.results[0].partitions[0].error_code, code);
        }
    }
}

#[test]
fn resources_with_a_configuration_are_listed() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("t", 1);
    let listed = |client: &mut Client, version: i16, kinds: &[i8]| {
        let request = ListConfigResourcesRequest::default().with_resource_types(kinds.to_vec());
        let response = client.call(version, &request);
        let names = response.config_resources.iter().map(|one| (one.resource_type, one.resource_name.to_string()));
        (response.error_code, names.collect::<Vec<_>>())
    };
    assert_eq!(listed(&mut client, 0, &[]), (0, Vec::new()));
    assert_eq!(listed(&mut client, 1, &[TOPIC]), (0, vec![(TOPIC, "t".to_owned())]));
    assert_eq!(listed(&mut client, 1, &[]).1.len(), 3);
    assert_eq!(listed(&mut client, 1, &[99]).0, 35);
}

#[test]
fn a_cluster_is_described_to_those_who_ask_for_brokers() {
    let server = Server::start();
    let mut client = server.client();
    let asked = |kind| DescribeClusterRequest::default().with_endpoint_type(kind);
    assert_eq!(client.call(2, &asked(1)).controller_id.0, 1);
    assert_eq!(client.call(2, &asked(2)).error_code, 114);
    assert_eq!(client.call(1, &asked(7)).error_code, 115);
}

fn weir(server: &Server, args: &[&str]) -> (bool, String, String) {
    let bootstrap = server.address.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("node")
        .args(args)
        .args(["--bootstrap", &bootstrap])
        .output()
        .expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn nodes_are_listed_and_wishes_for_unknown_ones_refused() {
    let server = Server::start();
    server.client().create_topic("t", 3);
    let (ok, table, problem) = weir(&server, &["list"]);
    assert!(ok, "{problem}");
    let row = table.lines().nth(1).expect("a row");
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["1", "alive", "full", "controller", "3", "3", "0", &server.address.to_string()]);
    let (_, json, _) = weir(&server, &["list", "-o", "json"]);
    assert!(json.contains("\"node\":1,\"state\":\"alive\",\"duty\":\"full\",\"role\":\"controller\",\"leaders\":3"));
    let (ok, _, problem) = weir(&server, &["drain", "9"]);
    assert!(!ok && problem.contains("node 9 is not in the cluster; its nodes are 1"), "{problem}");
}

#[test]
fn the_duty_of_a_node_can_be_changed_by_kafkas_tools_as_well() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(value(&mut client, NODE, "1", "weir.node.duty"), shown("full", 5));
    assert_eq!(alter(&mut client, NODE, "1", &[(0, "weir.node.duty", Some("drained"))]), (0, String::new()));
    assert_eq!(value(&mut client, NODE, "1", "weir.node.duty"), shown("drained", 2));
    assert_eq!(alter(&mut client, NODE, "1", &[(1, "weir.node.duty", None)]), (0, String::new()));
    assert_eq!(value(&mut client, NODE, "1", "weir.node.duty"), shown("full", 5));
    assert_eq!(alter(&mut client, NODE, "1", &[(0, "weir.node.duty", Some("idle"))]).0, 40);
}

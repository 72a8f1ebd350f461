//! One check for each API and each thing that it promises beyond its fields.

mod common;

use common::{Client, PATIENCE, Server, batch, produce, text};
use model::batch::BatchBuilder;
use server::wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use server::wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use server::wire::messages::delete_topics_request::DeleteTopicState;
use server::wire::messages::describe_configs_request::DescribeConfigsResource;
use server::wire::messages::describe_producers_request::TopicRequest;
use server::wire::messages::join_group_request::JoinGroupRequestProtocol;
use server::wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use server::wire::messages::metadata_request::MetadataRequestTopic;
use server::wire::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use server::wire::messages::offset_fetch_request::OffsetFetchRequestGroup;
use server::wire::messages::sync_group_request::SyncGroupRequestAssignment;
use server::wire::messages::*;

/// Long enough for every group of these tests.
const SESSION_MS: i32 = 30_000;

fn metadata(topics: &[&str], may_create: bool) -> MetadataRequest {
    let named = |name: &&str| MetadataRequestTopic::default().with_name(Some(text(name).into()));
    MetadataRequest::default()
        .with_topics(Some(topics.iter().map(named).collect()))
        .with_allow_auto_topic_creation(may_create)
}

fn list_offset(client: &mut Client, version: i16, topic: &str, timestamp: i64) -> (i16, i64, i64) {
    let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(text(topic).into()).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    let response = client.call(version, &request);
    let found = &response.topics[0].partitions[0];
    (found.error_code, found.offset, found.timestamp)
}

#[test]
fn records_are_deleted_in_every_version_and_refusals_are_told_apart() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("t", 1);
    assert_eq!(client.call(9, &produce("t", 0, -1, batch(&["a", "b", "c"]))).responses[0].name.as_str(), "t");
    let mut delete = |version: i16, topic: &str, index: i32, offset: i64| {
        let partition = DeleteRecordsPartition::default().with_partition_index(index).with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(text(topic).into()).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let response = client.call(version, &request);
        let deleted = &response.topics[0].partitions[0];
        (deleted.error_code, deleted.partition_index, deleted.low_watermark)
    };
    assert_eq!(delete(0, "t", 0, 1), (0, 0, 1));
    assert_eq!(delete(1, "t", 0, 0), (0, 0, 1));
    assert_eq!(delete(2, "t", 0, -1), (0, 0, 3));
    assert_eq!(delete(2, "t", 0, 4), (1, 0, -1), "behind the end");
    assert_eq!(delete(2, "t", 0, -2), (1, 0, -1));
    assert_eq!(delete(2, "t", 1, 0), (3, 1, -1));
    assert_eq!(delete(2, "nobody", 0, 0), (3, 0, -1));
    assert_eq!(list_offset(&mut client, 5, "t", -2), (0, 3, -1));
}

#[test]
fn a_topic_is_made_on_first_use_only_where_the_client_allows_it() {
    let server = Server::start();
    let mut client = server.client();
    let code = |response: &MetadataResponse| response.topics[0].error_code;
    assert_eq!(code(&client.call(12, &metadata(&["used"], false))), 3);
    let made = client.call(12, &metadata(&["used"], true));
    assert_eq!((code(&made), made.topics[0].partitions.len()), (0, 1));
    assert_eq!(code(&client.call(12, &metadata(&["used"], false))), 0);
}

#[test]
fn a_topic_is_not_made_on_first_use_where_the_server_forbids_it() {
    let server = Server::start_with(&["auto.create.topics.enable=false"]);
    assert_eq!(server.client().call(12, &metadata(&["used"], true)).topics[0].error_code, 3);
}

#[test]
fn a_name_that_no_topic_can_have_is_told_apart() {
    let server = Server::start();
    let names = ["..", ".", "", "a/b", "ä", "a b", "nul\0", &"x".repeat(250)];
    let response = server.client().call(12, &metadata(&names, true));
    assert_eq!(response.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>(), vec![17; names.len()]);
}

#[test]
fn all_topics_are_null_and_no_topics_are_an_empty_list_except_in_version_0() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("one", 1);
    let asked = |client: &mut Client, version, topics| {
        client.call(version, &MetadataRequest::default().with_topics(topics)).topics.len()
    };
    assert_eq!(asked(&mut client, 0, Some(Vec::new())), 1);
    assert_eq!(asked(&mut client, 1, Some(Vec::new())), 0);
    assert_eq!(asked(&mut client, 1, None), 1);
    assert_eq!(asked(&mut client, 13, None), 1);
}

#[test]
fn every_version_of_every_api_that_needs_no_state_is_answered() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("versions", 1);
    (1..=13).for_each(|version| drop(client.call(version, &MetadataRequest::default().with_topics(None))));
    (3..=12).for_each(|version| {
        let response = client.call(version, &produce("versions", 0, -1, batch(&["v"])));
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0, "version {version}");
    });
    (1..=11)
        .for_each(|version| assert_eq!(list_offset(&mut client, version, "versions", -1).1, 10, "version {version}"));
    (0..=2).for_each(|version| {
        let mut request = DescribeClusterRequest::default();
        if version == 0 {
            request.endpoint_type = 1;
        }
        assert_eq!(client.call(version, &request).brokers.len(), 1);
    });
    (0..=5).for_each(|version| {
        assert_eq!(client.call(version, &InitProducerIdRequest::default().with_transactional_id(None)).error_code, 0)
    });
    (0..=5).for_each(|version| {
        assert_eq!(client.call(version, &ListGroupsRequest::default()).error_code, 0, "version {version}")
    });
}

#[test]
fn offsets_are_found_by_time_and_at_both_ends() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("times", 1);
    for time in [100, 300, 200] {
        let records = BatchBuilder::new().record(time, None, Some(b"v"), &[]).finish().bytes().clone();
        client.call(9, &produce("times", 0, -1, records));
    }
    let found = [(-2, 0, -1), (-1, 3, -1), (-3, 1, 300), (-4, 0, -1), (100, 0, 100), (101, 1, 300), (301, -1, -1)];
    for (asked, offset, timestamp) in found {
        assert_eq!(list_offset(&mut client, 9, "times", asked), (0, offset, timestamp), "asked for {asked}");
    }
    assert_eq!(list_offset(&mut client, 9, "no-such-topic", -1).0, 3);
}

#[test]
fn one_request_makes_no_more_topics_than_one_step_of_the_controller_should() {
    let server = Server::start();
    let mut client = server.client();
    let topic = |number: usize| CreatableTopic::default().with_name(text(&format!("t{number}")).into());
    let topics = (0..=10_000).map(topic).collect();
    let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(1000).with_validate_only(true);
    let response = client.call(7, &request);
    assert_eq!(response.topics.len(), 10_001);
    assert!(response.topics.iter().all(|topic| topic.error_code == 44));
    assert_eq!(response.topics[0].error_message.as_deref(), Some("10001 topics: one request makes at most 10000"));
}

#[test]
fn a_topic_is_created_described_and_deleted_by_name_and_by_id() {
    let server = Server::start();
    let mut client = server.client();
    let topic = |name: &str, value: &str| {
        let config = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text(value)));
        CreatableTopic::default()
            .with_name(text(name).into())
            .with_num_partitions(2)
            .with_replication_factor(1)
            .with_configs(vec![config])
    };
    let topics =
        vec![topic("made", "1000"), topic("bad", "soon"), topic("same", "1"), topic("same", "1"), topic("../x", "1")];
    let response = client.call(7, &CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(1000));
    let mut codes: Vec<_> = response.topics.iter().map(|topic| (topic.name.to_string(), topic.error_code)).collect();
    codes.sort();
    assert_eq!(
        codes,
        [("../x".to_owned(), 17), ("bad".to_owned(), 40), ("made".to_owned(), 0), ("same".to_owned(), 42)]
    );
    let again =
        client.call(7, &CreateTopicsRequest::default().with_topics(vec![topic("made", "1")]).with_timeout_ms(1000));
    assert_eq!(again.topics[0].error_code, 36);

    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("made"))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    let described = client.call(4, &request);
    let retention =
        described.results[0].configs.iter().find(|config| config.name.as_str() == "retention.ms").expect("described");
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("1000"), 1));
    assert!(retention.synonyms.len() >= 2);
    assert_eq!(described.results[0].configs.len(), replication::metadata::topic_keys::KEYS.len());

    let id = client.call(12, &metadata(&["made"], false)).topics[0].topic_id;
    let by_id = DeleteTopicState::default().with_name(None).with_topic_id(id);
    let unknown = DeleteTopicState::default().with_name(Some(text("gone").into()));
    let request = DeleteTopicsRequest::default().with_topics(vec![by_id.clone(), unknown]).with_timeout_ms(1000);
    let codes: Vec<i16> = client.call(6, &request).responses.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [0, 3]);
    assert_eq!(client.call(12, &metadata(&["made"], false)).topics[0].error_code, 3);
    let again = client.call(6, &DeleteTopicsRequest::default().with_topics(vec![by_id]).with_timeout_ms(1000));
    assert_eq!(again.responses[0].error_code, 100);
}

#[test]
fn a_producer_that_repeats_itself_is_told_its_first_offset() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("idempotent", 1);
    let id = client.call(4, &InitProducerIdRequest::default().with_transactional_id(None)).producer_id.0;
    let at = |sequence| {
        let builder = BatchBuilder::new().producer(id, 0, sequence).record(1, None, Some(b"v"), &[]);
        produce("idempotent", 0, -1, builder.finish().bytes().clone())
    };
    let mut answer = |sequence| {
        let response = client.call(9, &at(sequence));
        let partition = &response.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    };
    assert_eq!([answer(0), answer(1), answer(0), answer(3), answer(2)], [(0, 0), (0, 1), (0, 0), (45, -1), (0, 2)]);
    let topic = TopicRequest::default().with_name(text("idempotent").into()).with_partition_indexes(vec![0, 1]);
    let known = client.call(0, &DescribeProducersRequest::default().with_topics(vec![topic]));
    let [held, unknown] = &known.topics[0].partitions[..] else { panic!("two partitions were asked for") };
    assert_eq!((held.error_code, unknown.error_code, held.active_producers.len()), (0, 3, 1));
    let producer = &held.active_producers[0];
    assert_eq!((producer.producer_id.0, producer.producer_epoch, producer.last_sequence), (id, 0, 2));
}

#[test]
fn what_needs_transactions_or_share_groups_gets_a_definite_error() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("plain", 1);
    for key_type in [1, 2] {
        let request = FindCoordinatorRequest::default().with_key_type(key_type).with_coordinator_keys(vec![text("id")]);
        let response = client.call(6, &request);
        let found = &response.coordinators[0];
        assert_eq!(found.error_code, 42);
        assert!(found.error_message.as_ref().is_some_and(|message| message.contains("not served")));
    }
    let request = InitProducerIdRequest::default().with_transactional_id(Some(text("id").into()));
    assert_eq!(client.call(4, &request).error_code, 35);
    let transactional = produce("plain", 0, -1, batch(&["a"])).with_transactional_id(Some(text("id").into()));
    let response = client.call(9, &transactional);
    let partition = &response.responses[0].partition_responses[0];
    assert_eq!(partition.error_code, 48);
    assert!(partition.error_message.as_ref().is_some_and(|message| message.contains("transactions are not served")));
}

#[test]
fn a_batch_that_is_wrong_is_refused_with_the_right_error() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("batches", 1);
    let good = batch(&["a"]);
    let mut flipped = good.to_vec();
    *flipped.last_mut().expect("not empty") ^= 1;
    let twice = [&good[..], &good[..]].concat();
    let mut old = good.to_vec();
    old[16] = 1;
    let control = BatchBuilder::new().control().record(1, None, Some(b"v"), &[]).finish().bytes().to_vec();
    let large = batch(&[&"x".repeat(1_100_000)]).to_vec();
    for (records, code) in [(flipped, 2), (twice, 87), (old, 87), (control, 87), (Vec::new(), 87), (large, 10)] {
        let response = client.call(9, &produce("batches", 0, -1, records.into()));
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, code, "{:?}", partition.error_message);
    }
    assert_eq!(list_offset(&mut client, 5, "batches", -1).1, 0);
}

fn join(member: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata("m".into());
    JoinGroupRequest::default()
        .with_group_id(text("group").into())
        .with_session_timeout_ms(SESSION_MS)
        .with_rebalance_timeout_ms(SESSION_MS)
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

#[test]
fn a_server_properties_of_a_cluster_of_three_does_not_keep_groups_from_one_node() {
    let server = Server::start_with(&["offsets.topic.replication.factor=3", "default.replication.factor=3"]);
    let request = FindCoordinatorRequest::default().with_key_type(0).with_coordinator_keys(vec![text("group")]);
    let found = server.client().call(4, &request);
    assert_eq!(found.coordinators[0].error_code, 0, "{:?}", found.coordinators[0].error_message);
}

#[test]
fn a_group_forms_commits_is_described_and_ends() {
    let server = Server::start();
    let mut client = server.client();
    client.create_topic("grouped", 1);
    let request = FindCoordinatorRequest::default().with_key_type(0).with_coordinator_keys(vec![text("group")]);
    let found = client.call(4, &request);
    assert_eq!((found.coordinators[0].error_code, found.coordinators[0].port), (0, i32::from(server.address.port())));

    let named = client.call(9, &join(""));
    assert_eq!(named.error_code, 79);
    let joined = client.call(9, &join(&named.member_id));
    assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (0, 1, 1));
    let member = joined.member_id.clone();
    let assignment = SyncGroupRequestAssignment::default().with_member_id(member.clone()).with_assignment("a".into());
    let sync = SyncGroupRequest::default()
        .with_group_id(text("group").into())
        .with_generation_id(1)
        .with_member_id(member.clone())
        .with_assignments(vec![assignment]);
    assert_eq!(client.call(4, &sync).assignment, "a");
    let beat = HeartbeatRequest::default()
        .with_group_id(text("group").into())
        .with_generation_id(1)
        .with_member_id(member.clone());
    assert_eq!(client.call(4, &beat).error_code, 0);
    assert_eq!(client.call(4, &beat.with_generation_id(7)).error_code, 22);

    commit_and_fetch(&mut client, &member);
    describe(&mut client);
    let leave = LeaveGroupRequest::default().with_group_id(text("group").into()).with_member_id(member);
    assert_eq!(client.call(1, &leave).error_code, 0);
    assert_eq!(state(&mut client), "Empty");
    assert!(client.stream.read_timeout().is_ok_and(|timeout| timeout == Some(PATIENCE)));
}

fn commit_and_fetch(client: &mut Client, member: &str) {
    let partition = |index| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(5)
            .with_committed_metadata(Some(text("m")))
    };
    let topic = OffsetCommitRequestTopic::default()
        .with_name(text("grouped").into())
        .with_partitions(vec![partition(0), partition(9)]);
    let commit = OffsetCommitRequest::default()
        .with_group_id(text("group").into())
        .with_generation_id_or_member_epoch(1)
        .with_member_id(text(member))
        .with_topics(vec![topic]);
    let response = client.call(8, &commit);
    assert_eq!(response.topics[0].partitions.iter().map(|one| one.error_code).collect::<Vec<_>>(), [0, 3]);
    for version in [8, 9, 10] {
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(text("group").into())
            .with_member_epoch(-1)
            .with_topics(None);
        let response = client.call(version, &OffsetFetchRequest::default().with_groups(vec![group]));
        let found = &response.groups[0].topics[0].partitions[0];
        assert_eq!((found.committed_offset, found.metadata.as_deref()), (5, Some("m")), "version {version}");
    }
    let response = client.call(5, &OffsetFetchRequest::default().with_group_id(text("group").into()).with_topics(None));
    assert_eq!(response.topics[0].partitions[0].committed_offset, 5);
}

fn describe(client: &mut Client) {
    let request = DescribeGroupsRequest::default().with_groups(vec![text("group").into(), text("other").into()]);
    let response = client.call(5, &request);
    let shown: Vec<_> = response
        .groups
        .iter()
        .map(|group| (group.error_code, group.group_state.as_str(), group.members.len()))
        .collect();
    assert_eq!(shown, [(0, "Stable", 1), (0, "Dead", 0)]);
    assert_eq!(response.groups[0].members[0].client_host.as_str(), "/127.0.0.1");
    assert_eq!(client.call(6, &request).groups[1].error_code, 69);
    assert_eq!(state(client), "Stable");
}

fn state(client: &mut Client) -> String {
    client.call(5, &ListGroupsRequest::default()).groups[0].group_state.to_string()
}

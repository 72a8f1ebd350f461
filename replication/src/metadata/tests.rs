//! Tests of the metadata: encoding, application, look-up, configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::{LeaderEpoch, NodeId, PartitionIndex, TopicId, TopicName, TopicPartition};
use prost::Message;

use super::apply::ApplyError;
use super::broker_config::{BrokerConfig, BrokerKey};
use super::config_value::ConfigError;
use super::record::{ENTRY_BYTES, FactError, LEVEL, batches, decode_batch, encode_batch, proto};
use super::resolve::{Source, describe_node, describe_topic};
use super::topic_config::Compression;
use super::topic_keys::KEYS;
use super::*;

fn name(raw: &str) -> TopicName {
    TopicName::new(raw).expect("a valid name")
}

fn partition_state(nodes: &[i32], epoch: i32) -> PartitionInfo {
    let nodes: Vec<NodeId> = nodes.iter().copied().map(NodeId).collect();
    PartitionInfo {
        leader: nodes.first().copied(),
        leader_epoch: LeaderEpoch::new(epoch),
        replicas: nodes.clone(),
        isr: nodes,
        ..PartitionInfo::default()
    }
}

fn created(id: u8, raw: &str, configs: &[(&str, &str)]) -> Fact {
    let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Fact::TopicCreated { id: TopicId([id; 16]), name: name(raw), configs, default_replication: id.is_multiple_of(2) }
}

fn changed(id: u8, partition: u32, state: PartitionInfo) -> Fact {
    Fact::PartitionChanged { topic: TopicId([id; 16]), partition: PartitionIndex::new(partition), state }
}

fn registered(node: i32) -> Fact {
    let listener = Listener { name: "PLAINTEXT".into(), host: "node.example".into(), port: 9092 };
    let info = NodeInfo {
        incarnation: Incarnation([u8::try_from(node).expect("small"); 16]),
        directory: [7; 16],
        boot: "boot".into(),
        listeners: vec![listener],
        rack: Some("r1".into()),
        features: BTreeMap::from([("weir.metadata".to_owned(), (1, 1))]),
        fenced: false,
    };
    Fact::NodeRegistered { node: NodeId(node), info }
}

/// One fact of every kind that adds something, in an order that applies.
fn every_fact() -> Vec<Fact> {
    let full = PartitionInfo {
        elr: vec![NodeId(3)],
        last_known_elr: vec![NodeId(2)],
        adding: vec![NodeId(4)],
        removing: vec![NodeId(1)],
        isr: vec![NodeId(1), NodeId(2)],
        partition_epoch: 9,
        ..partition_state(&[1, 2, 3], 5)
    };
    let set = |resource, key: &str, value: Option<&str>| Fact::ConfigChanged {
        resource,
        key: key.into(),
        value: value.map(str::to_owned),
    };
    vec![
        Fact::ClusterFounded { cluster_id: "AAECAwQFBgcICQoLDA0ODw".into(), voters: vec![NodeId(0), NodeId(1)] },
        Fact::FeatureLevelSet { name: "weir.metadata".into(), level: 1 },
        registered(1),
        registered(2),
        Fact::NodeFenced { node: NodeId(2), incarnation: Incarnation([2; 16]) },
        Fact::NodeUnfenced { node: NodeId(2), incarnation: Incarnation([2; 16]) },
        registered(3),
        Fact::NodeUnregistered { node: NodeId(3) },
        created(1, "orders.eu", &[("retention.ms", "1000"), ("cleanup.policy", "compact,delete")]),
        changed(1, 0, full),
        changed(1, 1, PartitionInfo { leader: None, ..partition_state(&[2], 0) }),
        created(2, "a", &[]),
        changed(2, 0, partition_state(&[1], 0)),
        created(3, "gone", &[]),
        Fact::TopicDeleted { id: TopicId([3; 16]) },
        set(Resource::Topic(TopicId([2; 16])), "segment.bytes", Some("1048576")),
        set(Resource::EveryNode, "log.retention.ms", Some("60000")),
        set(Resource::Node(NodeId(1)), "log.cleaner.threads", Some("2")),
        set(Resource::Group("g".into()), "consumer.session.timeout.ms", Some("50000")),
        set(Resource::Group("h".into()), "consumer.session.timeout.ms", None),
        Fact::ProducerIdsAllocated { node: NodeId(1), next: 1000 },
    ]
}

fn image() -> Image {
    Image::empty(Arc::default()).with(&every_fact()).expect("the facts apply")
}

#[test]
fn every_fact_survives_encoding() {
    assert_eq!(decode_batch(encode_batch(&every_fact())), Ok(every_fact()));
}

#[test]
fn an_image_survives_encoding_and_equal_images_give_equal_bytes() {
    let bytes = image().encode();
    let again = Image::decode(bytes.clone(), Arc::default()).expect("our own snapshot");
    assert_eq!(again, image());
    assert_eq!(again.encode(), bytes);
    assert_eq!(again.partition_count(), 3);
    assert_eq!(again.colliding_topic(&name("orders_eu")), Some(&name("orders.eu")));
}

/// Both were written by the first version. They must be read for ever.
#[test]
fn stored_samples_of_the_first_format_are_read() {
    let facts = Bytes::from_static(include_bytes!("../../tests/fixtures/facts-1.bin"));
    assert_eq!(decode_batch(facts), Ok(every_fact()));
    let snapshot = Bytes::from_static(include_bytes!("../../tests/fixtures/snapshot-1.bin"));
    assert_eq!(Image::decode(snapshot, Arc::default()), Ok(image()));
}

/// The facts that came with level 2, and what they are on disk: to be read for ever.
fn facts_of_level_2() -> (Vec<Fact>, Vec<u8>) {
    let orders = NodeOrders { duty: Duty::Leaving, stopping: Some(Incarnation([9; 16])), voting: Voting::Never };
    let partition = TopicPartition { topic: TopicId([1; 16]), partition: PartitionIndex::new(2) };
    let election = UncleanElection { partition, leader: NodeId(3), leader_epoch: LeaderEpoch::new(5), at_ms: 1_000 };
    let subscribed =
        Fact::ConfigChanged { resource: Resource::ClientMetrics("m".into()), key: "k".into(), value: Some("v".into()) };
    let facts =
        vec![subscribed, Fact::NodeOrdered { node: NodeId(3), orders }, Fact::UncleanLeaderElected { election }];
    let stored = [
        &[0x08, 2][..],
        &[0x12, 13, 0x4a, 11, 0x08, 4, 0x12, 1, b'm', 0x1a, 1, b'k', 0x22, 1, b'v'],
        &[0x12, 26, 0x62, 24, 0x08, 3, 0x10, 2, 0x1a, 16],
        &[9; 16],
        &[0x20, 1, 0x12, 29, 0x6a, 27, 0x0a, 16],
        &[1; 16],
        &[0x10, 2, 0x18, 3, 0x20, 5, 0x28, 0xe8, 0x07],
    ];
    (facts, stored.concat())
}

#[test]
fn a_batch_says_the_level_that_its_facts_need() {
    let (facts, stored) = facts_of_level_2();
    assert_eq!(encode_batch(&facts), stored);
    assert_eq!(decode_batch(stored.into()), Ok(facts.clone()));
    // Beside others in one entry, and not after them.
    let first = vec![Fact::TopicDeleted { id: TopicId([3; 16]) }];
    let level = |bytes: &Bytes| proto::FactBatch::decode(bytes.clone()).expect("our own").level;
    assert_eq!(batches(&[first.clone(), facts.clone(), first.clone()]).iter().map(level).collect::<Vec<_>>(), [2]);
    assert_eq!(batches(&[first]).iter().map(level).collect::<Vec<_>>(), [1]);
    // A snapshot needs it once something of it is there.
    let snapshot = |image: &Image| proto::Snapshot::decode(image.encode()).expect("our own").level;
    let after = image().with(&facts).expect("the facts apply");
    assert_eq!((snapshot(&image()), snapshot(&after)), (1, 2));
    assert_eq!(Image::decode(after.encode(), Arc::default()), Ok(after));
}

#[test]
fn a_member_with_another_disk_is_one_until_it_has_left() {
    let again = |directory| {
        let Fact::NodeRegistered { node, info } = registered(1) else { panic!("it registers") };
        Fact::NodeRegistered { node, info: NodeInfo { directory, ..info } }
    };
    let mut image = image();
    image.set_members(vec![NodeId(0), NodeId(1)], vec![NodeId(2)]);
    let same = image.with(&[again([7; 16])]).expect("it applies");
    assert!(!same.is_replaced_member(NodeId(1)));
    let mut other = image.with(&[again([8; 16])]).expect("it applies");
    assert!(other.is_replaced_member(NodeId(1)));
    assert_eq!(Image::decode(other.encode(), Arc::default()), Ok(other.clone()));
    other.set_members(vec![NodeId(0)], vec![NodeId(1), NodeId(2)]);
    assert!(other.is_replaced_member(NodeId(1)), "it is a member still");
    other.set_members(vec![NodeId(0)], vec![NodeId(2)]);
    other.set_members(vec![NodeId(0), NodeId(1)], vec![NodeId(2)]);
    assert!(!other.is_replaced_member(NodeId(1)));
}

#[test]
fn a_member_that_was_unregistered_is_not_trusted_until_it_has_left() {
    let mut image = image();
    image.set_members(vec![NodeId(0), NodeId(1)], vec![NodeId(2)]);
    let gone = image.with(&[Fact::NodeUnregistered { node: NodeId(1) }]).expect("it applies");
    let mut again = gone.with(&[registered(1)]).expect("it applies");
    assert!(gone.is_replaced_member(NodeId(1)) && again.is_replaced_member(NodeId(1)));
    assert_eq!(Image::decode(gone.encode(), Arc::default()), Ok(gone));
    again.set_members(vec![NodeId(0)], vec![NodeId(2)]);
    assert!(!again.is_replaced_member(NodeId(1)));
    let stranger = again.with(&[Fact::NodeUnregistered { node: NodeId(1) }]).expect("it applies");
    assert!(!stranger.is_replaced_member(NodeId(1)), "it was no member");
}

#[test]
fn the_newest_unclean_elections_are_kept() {
    let (facts, _) = facts_of_level_2();
    let Some(Fact::UncleanLeaderElected { election }) = facts.last() else { panic!("an election") };
    let mut image = image();
    for at_ms in 0..1_000 {
        let election = UncleanElection { at_ms, ..*election };
        image.apply(&Fact::UncleanLeaderElected { election }).expect("it applies");
    }
    let kept: Vec<i64> = image.unclean_elections().iter().map(|election| election.at_ms).collect();
    assert_eq!(kept, (744..1_000).collect::<Vec<_>>());
}

#[test]
fn a_batch_of_a_newer_level_or_with_an_unknown_fact_is_refused() {
    let newer = proto::FactBatch { level: LEVEL + 1, facts: Vec::new() };
    assert_eq!(decode_batch(newer.encode_to_vec().into()), Err(FactError::LevelTooNew { needed: LEVEL + 1 }));
    // A fact of kind 99: field 2 (facts), 3 bytes, within it field 99 of length 0.
    let unknown = Bytes::from_static(&[0x08, 0x01, 0x12, 0x03, 0x9a, 0x06, 0x00]);
    assert_eq!(decode_batch(unknown), Err(FactError::UnknownFact));
    assert!(matches!(decode_batch(Bytes::from_static(&[0xff, 0xff])), Err(FactError::Encoding(_))));
}

#[test]
fn values_out_of_range_are_refused_when_they_are_read() {
    use proto::fact::Kind;
    let check = |kind: Kind| {
        let batch = proto::FactBatch { level: 1, facts: vec![proto::Fact { kind: Some(kind) }] };
        decode_batch(batch.encode_to_vec().into())
    };
    let short = Kind::TopicDeleted(proto::TopicDeleted { id: Bytes::from_static(b"short") });
    assert_eq!(check(short), Err(FactError::Id { field: "topic id", length: 5 }));
    let negative = Kind::NodeUnregistered(proto::NodeUnregistered { node: -1 });
    assert_eq!(check(negative), Err(FactError::Number { field: "node id", value: -1 }));
    let path = proto::TopicCreated { id: Bytes::from_static(&[1; 16]), name: "../x".into(), ..Default::default() };
    assert!(matches!(check(Kind::TopicCreated(path)), Err(FactError::TopicName { .. })));
    let nowhere = proto::ConfigChanged { resource: 7, name: "x".into(), ..Default::default() };
    assert!(matches!(check(Kind::ConfigChanged(nowhere)), Err(FactError::Resource { kind: 7, .. })));
}

#[test]
fn batches_are_cut_near_a_mebibyte_and_never_within_a_group() {
    let group = |id: u8| (0..5_000).map(|partition| changed(id, partition, partition_state(&[1], 0))).collect();
    let groups: Vec<Vec<Fact>> = (0..12).map(group).collect();
    let cut = batches(&groups);
    assert!(cut.len() > 1);
    assert!(cut.iter().all(|batch| batch.len() <= ENTRY_BYTES), "{:?}", cut.iter().map(Bytes::len).collect::<Vec<_>>());
    let read: Vec<Vec<Fact>> = cut.into_iter().map(|batch| decode_batch(batch).expect("our own")).collect();
    assert!(read.iter().all(|facts| facts.len() % 5_000 == 0));
    assert_eq!(read.concat(), groups.concat());
}

#[test]
fn topics_are_found_by_name_and_id_and_listed_by_name() {
    let image = image();
    let names: Vec<&str> = image.topics().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["a", "orders.eu"]);
    assert_eq!(image.topic(&name("orders.eu")).map(|topic| topic.id), Some(TopicId([1; 16])));
    assert_eq!(image.topic_by_id(TopicId([3; 16])), None);
    assert_eq!(image.topics_from(&name("b")).count(), 1);
    let partition = TopicPartition { topic: TopicId([1; 16]), partition: PartitionIndex::new(1) };
    assert_eq!(image.partition(partition).map(|state| state.replicas.clone()), Some(vec![NodeId(2)]));
    assert_eq!((image.topic_count(), image.partition_count(), image.next_producer_id()), (2, 3, 1000));
}

#[test]
fn a_fact_that_does_not_fit_is_refused_and_changes_nothing() {
    let bad = [
        created(1, "other", &[]),
        created(9, "a", &[]),
        changed(9, 0, partition_state(&[1], 0)),
        changed(2, 2, partition_state(&[1], 0)),
        changed(2, 0, PartitionInfo { isr: vec![NodeId(2)], ..partition_state(&[1], 0) }),
        changed(1, 0, partition_state(&[1], 4)),
        changed(2, 1, PartitionInfo::default()),
        Fact::TopicDeleted { id: TopicId([9; 16]) },
        Fact::ProducerIdsAllocated { node: NodeId(1), next: 999 },
        Fact::NodeFenced { node: NodeId(9), incarnation: Incarnation::default() },
        Fact::ClusterFounded { cluster_id: "other".into(), voters: Vec::new() },
    ];
    for fact in bad {
        let mut image = image();
        assert!(image.apply(&fact).is_err(), "{fact:?}");
        assert_eq!(image, self::image(), "{fact:?}");
    }
}

#[test]
fn a_fact_about_an_earlier_incarnation_does_not_fence_the_present_one() {
    let late = Fact::NodeFenced { node: NodeId(1), incarnation: Incarnation([8; 16]) };
    let image = image().with(&[late]).expect("it applies, without effect");
    assert!(image.node(NodeId(1)).is_some_and(|info| !info.fenced));
}

#[test]
fn a_changed_partition_shares_all_other_topics_with_the_image_before() {
    let before = image();
    let after = before.with(&[changed(2, 0, partition_state(&[1], 1))]).expect("it applies");
    let same = |raw| before.topic(&name(raw)).zip(after.topic(&name(raw))).is_some_and(|(a, b)| Arc::ptr_eq(a, b));
    assert!(same("orders.eu"));
    assert!(!same("a"));
}

#[test]
fn fifty_thousand_partitions_fit_in_a_few_megabytes_of_snapshot() {
    let mut facts = Vec::new();
    for topic in 0..50u8 {
        facts.push(created(topic, &format!("t{topic}"), &[]));
        facts.extend((0..1_000).map(|partition| changed(topic, partition, partition_state(&[1], 3))));
    }
    let image = Image::empty(Arc::default()).with(&facts).expect("the facts apply");
    assert_eq!(image.partition_count(), 50_000);
    assert!(image.encode().len() < 4 << 20, "{}", image.encode().len());
}

#[test]
fn a_topics_value_wins_over_the_clusters_and_that_over_the_nodes_own() {
    let statics = BrokerConfig::new(BTreeMap::from([
        ("log.retention.hours".to_owned(), "2".to_owned()),
        ("log.segment.bytes".to_owned(), "2000000".to_owned()),
        ("min.insync.replicas".to_owned(), "2".to_owned()),
    ]))
    .expect("valid settings");
    let image = Image::empty(Arc::new(statics)).with(&every_fact()).expect("the facts apply");
    let config = |raw: &str| Arc::clone(&image.topic(&name(raw)).expect("it is there").config);
    assert_eq!(config("orders.eu").retention_ms, Some(1_000));
    assert_eq!(config("a").retention_ms, Some(60_000));
    assert_eq!(config("a").segment_bytes, 1_048_576);
    assert_eq!(config("orders.eu").segment_bytes, 2_000_000);
    let back = Fact::ConfigChanged { resource: Resource::EveryNode, key: "log.retention.ms".into(), value: None };
    let image = image.with(&[back]).expect("it applies");
    let topic = image.topic(&name("a")).expect("it is there");
    assert_eq!((topic.config.retention_ms, topic.min_insync_replicas()), (Some(7_200_000), 2));
    let described = describe_topic(&image, topic);
    let line = |key| described.iter().find(|line| line.name == key).expect("all keys are described");
    assert_eq!((line("retention.ms").value.as_deref(), line("retention.ms").source), (Some("7200000"), Source::Static));
    assert_eq!(line("segment.bytes").synonyms.len(), 3);
    assert_eq!(line("flush.messages").value.as_deref(), Some("1"));
}

#[test]
fn the_minimum_of_the_isr_follows_the_replication_factor_unless_it_is_set() {
    for (factor, expected) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)] {
        let nodes: Vec<i32> = (1..=factor).collect();
        let facts = [created(1, "t", &[]), changed(1, 0, partition_state(&nodes, 0))];
        let image = Image::empty(Arc::default()).with(&facts).expect("the facts apply");
        let topic = image.topic(&name("t")).expect("it is there");
        assert_eq!(topic.min_insync_replicas(), expected, "factor {factor}");
        let described = describe_topic(&image, topic);
        let line = described.iter().find(|line| line.name == "min.insync.replicas").expect("it is described");
        assert_eq!(line.value, Some(expected.to_string()));
    }
}

#[test]
fn the_defaults_are_kafkas_except_that_appends_are_journalled() {
    let config = TopicConfig::default();
    assert!(config.is_journalled());
    assert_eq!(config.retention_ms, Some(604_800_000));
    assert_eq!(config.retention_bytes, None);
    assert_eq!(config.segment_bytes, 1 << 30);
    assert_eq!(config.max_message_bytes, 1_048_588);
    assert_eq!(config.compression, Compression::Producer);
    assert!(config.cleanup.delete && !config.cleanup.compact);
    assert_eq!(config.min_insync_replicas, None);
}

#[test]
fn values_of_topics_are_checked_and_the_refusal_names_key_value_bounds_and_an_example() {
    let table = [
        ("retention.ms", "-1", true),
        ("retention.ms", "-2", false),
        ("retention.ms", "x", false),
        ("segment.bytes", "1048575", false),
        ("segment.bytes", "2147483648", false),
        ("cleanup.policy", "compact, delete", true),
        ("cleanup.policy", "delete,delete", false),
        ("cleanup.policy", "keep", false),
        ("compression.type", "zstd", true),
        ("compression.type", "brotli", false),
        ("compression.gzip.level", "0", false),
        ("compression.gzip.level", "-1", true),
        ("flush.messages", "0", false),
        ("min.insync.replicas", "0", false),
        ("min.cleanable.dirty.ratio", "1.5", false),
        ("preallocate", "yes", false),
        ("unclean.leader.election.enable", "TRUE", true),
        ("message.timestamp.type", "LogAppendTime", true),
        ("max.message.bytes", "100000000", false),
        ("leader.replication.throttled.replicas", "0:1,1:2", true),
        ("leader.replication.throttled.replicas", "0-1", false),
        ("remote.storage.enable", "true", false),
        ("min.compaction.lag.ms", "5", true),
        ("no.such.key", "1", false),
    ];
    for (key, value, allowed) in table {
        let result = TopicConfig::validate(&BTreeMap::from([(key.to_owned(), value.to_owned())]));
        assert_eq!(result.is_ok(), allowed, "{key}={value}: {result:?}");
        if let Err(error @ ConfigError::Value { .. }) = result {
            let text = error.to_string();
            assert!(text.contains(key) && text.contains(value) && text.contains("for example"), "{text}");
        }
    }
    for (key, value, told) in [
        ("retention.ms", "x", "a whole number of at least -1 is allowed; for example retention.ms=604800000"),
        ("retention.ms", "99999999999999999999", "a whole number from -1 to 9223372036854775807 is allowed; "),
        ("segment.bytes", "1", "a whole number of at least 1048576 is allowed; "),
        ("flush.messages", "0", "a whole number of at least 1 is allowed; for example flush.messages=1"),
        ("min.insync.replicas", "2147483648", "a whole number from 1 to 2147483647 is allowed; for example min.insync"),
        ("cleanup.policy", "keep", "a list of compact, delete (each at most once) is allowed; "),
    ] {
        let refused = TopicConfig::validate(&BTreeMap::from([(key.to_owned(), value.to_owned())]));
        let text = refused.expect_err("it is refused").to_string();
        assert!(text.starts_with(&format!("Invalid value {value} for configuration {key}: {told}")), "{text}");
    }
    let both = [("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "9")];
    let both = both.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert!(matches!(TopicConfig::validate(&both), Err(ConfigError::Conflict { .. })));
}

#[test]
fn the_tables_are_sorted_and_each_default_passes_its_own_bounds() {
    assert_eq!(KEYS.len(), 37);
    assert!(KEYS.is_sorted_by(|a, b| a.name < b.name));
    assert!(BrokerKey::all().len() >= 350);
    assert!(BrokerKey::all().is_sorted_by(|a, b| a.name < b.name));
    for key in BrokerKey::all() {
        let default = key.default.unwrap_or_default();
        let passes = key.default.is_none() || config_value::is_one(key.kind, default);
        assert!(passes || default.is_empty(), "{} = {default}", key.name);
    }
    for key in KEYS {
        for synonym in key.synonyms {
            assert!(BrokerKey::find(synonym.name).is_some(), "{}", synonym.name);
        }
    }
}

#[test]
fn a_nodes_settings_are_checked() {
    let settings = |key: &str, value: &str| BrokerConfig::new(BTreeMap::from([(key.to_owned(), value.to_owned())]));
    let config = settings("num.partitions", " 6 ").expect("a valid setting");
    assert_eq!((config.partitions_default, config.replication_factor_default), (6, None));
    assert!(config.auto_create_topics);
    assert!(settings("num.partitions", "0").is_err());
    assert!(settings("auto.create.topics.enable", "perhaps").is_err());
    // It passes the node's bounds, but no topic could take it over.
    assert!(settings("message.max.bytes", "2000000000").is_err());
    for (key, value, told) in [
        ("log.retention.ms", "zz", "a whole number of at least -1 is allowed; for example log.retention.ms=604800000"),
        ("log.retention.hours", "zz", "a whole number of at least -1 is allowed; for example log.retention.hours=168"),
        (
            "log.retention.minutes",
            "-7",
            "a whole number of at least -1 is allowed; for example log.retention.minutes=10080",
        ),
        ("connections.max.idle.ms", "zz", "a whole number is allowed; for example connections.max.idle.ms=600000"),
        (
            "broker.id",
            "3000000000",
            "a whole number from -2147483648 to 2147483647 is allowed; for example broker.id=-1",
        ),
        (
            "sasl.login.refresh.window.factor",
            "zz",
            "a number is allowed; for example sasl.login.refresh.window.factor=0.8",
        ),
    ] {
        let text = settings(key, value).expect_err("it is refused").to_string();
        assert_eq!(text, format!("Invalid value {value} for configuration {key}: {told}"));
    }
    assert!(settings("no.such.key", "1").is_ok(), "whoever reads the settings names them");
}

#[test]
fn passwords_are_described_without_their_value() {
    let settings = BTreeMap::from([("ssl.key.password".to_owned(), "hunter2".to_owned())]);
    let image = Image::empty(Arc::new(BrokerConfig::new(settings).expect("valid settings")));
    let described = describe_node(&image, Some(NodeId(1)));
    let line = described.iter().find(|line| line.name == "ssl.key.password").expect("it is described");
    assert_eq!((line.value.as_deref(), line.sensitive, line.source), (None, true, Source::Static));
}

#[test]
fn errors_of_facts_name_what_they_are_about() {
    let error = image().apply(&changed(2, 5, partition_state(&[1], 0))).expect_err("it leaves a gap");
    assert!(matches!(error, ApplyError::PartitionGap { known: 1, .. }));
    assert!(error.to_string().contains("partition 5"));
}

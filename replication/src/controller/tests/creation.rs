//! Topics that are made and deleted: what is refused, and what is left open.

use super::*;

#[test]
fn what_cannot_be_created_is_refused_with_kafkas_code() {
    let mut random = Random::new(1);
    let decided = topics::create(&three_live_nodes(), &[new_topic("a.b")], &mut random);
    let image = three_live_nodes().with(&decided.facts.concat()).expect("the facts apply");
    let assigned = |replicas: &[&[i32]]| NewTopic {
        assignment: replicas.iter().map(|nodes| nodes_of(nodes)).collect(),
        ..new_topic("t")
    };
    let config = |key: &str, value: &str| NewTopic {
        config: BTreeMap::from([(key.to_owned(), value.to_owned())]),
        ..new_topic("t")
    };
    let table = [
        (new_topic("a.b"), ErrorCode::TopicAlreadyExists),
        (new_topic("a_b"), ErrorCode::InvalidTopicException),
        (NewTopic { partitions: Some(0), ..new_topic("t") }, ErrorCode::InvalidPartitions),
        (NewTopic { partitions: Some(20_001), ..new_topic("t") }, ErrorCode::InvalidPartitions),
        (NewTopic { replication_factor: Some(0), ..new_topic("t") }, ErrorCode::InvalidReplicationFactor),
        (NewTopic { replication_factor: Some(4), ..new_topic("t") }, ErrorCode::InvalidReplicationFactor),
        (NewTopic { partitions: Some(1), ..assigned(&[&[1]]) }, ErrorCode::InvalidRequest),
        (NewTopic { replication_factor: Some(1), ..assigned(&[&[1]]) }, ErrorCode::InvalidRequest),
        (assigned(&[&[1], &[]]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[&[1, 1]]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[&[1], &[1, 2]]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[&[9]]), ErrorCode::InvalidReplicaAssignment),
        (assigned(&[&[4]]), ErrorCode::InvalidReplicaAssignment),
        (config("retention.ms", "soon"), ErrorCode::InvalidConfig),
        (config("retention", "1"), ErrorCode::InvalidConfig),
    ];
    for (topic, code) in table {
        let decided = topics::create(&image, std::slice::from_ref(&topic), &mut random);
        let answer = decided.answers.first().expect("one answer for each topic");
        assert_eq!(answer.as_ref().err().map(|refusal| refusal.code), Some(code), "{topic:?}: {answer:?}");
        assert!(decided.facts.is_empty());
    }
}

#[test]
fn refusals_that_tools_print_begin_with_the_words_of_kafka() {
    let mut random = Random::new(1);
    let decided = topics::create(&three_live_nodes(), &[new_topic("a.b")], &mut random);
    let image = three_live_nodes().with(&decided.facts.concat()).expect("the facts apply");
    let config =
        |key: &str| NewTopic { config: BTreeMap::from([(key.to_owned(), "soon".to_owned())]), ..new_topic("t") };
    for (topic, words) in [
        (new_topic("a.b"), "Topic 'a.b' already exists."),
        (new_topic("a_b"), "Topic 'a_b' collides with existing topic: a.b"),
        (config("retention"), "Unknown topic config name: retention"),
        (config("retention.ms"), "Invalid value soon for configuration retention.ms: "),
    ] {
        let decided = topics::create(&image, &[topic], &mut random);
        let refusal = decided.answers[0].as_ref().expect_err("it is refused");
        assert!(refusal.message.starts_with(words), "{refusal:?}");
    }
}

#[test]
fn topics_of_one_request_see_each_other() {
    let topics = ["x.y", "x_y", "twice", "twice", "fine"].map(new_topic);
    let decided = topics::create(&three_live_nodes(), &topics, &mut Random::new(1));
    let codes: Vec<_> =
        decided.answers.iter().map(|answer| answer.as_ref().err().map(|refusal| refusal.code)).collect();
    let (collides, twice) = (Some(ErrorCode::InvalidTopicException), Some(ErrorCode::InvalidRequest));
    assert_eq!(codes, [None, collides, twice, twice, None]);
    assert_eq!(decided.facts.len(), 2);
}

#[test]
fn what_is_left_open_follows_the_cluster_and_the_nodes_defaults() {
    let statics = BTreeMap::from([("num.partitions".to_owned(), "4".to_owned())]);
    let statics = Arc::new(BrokerConfig::new(statics).expect("valid settings"));
    let image = Image::decode(three_live_nodes().encode(), statics).expect("our own snapshot");
    let decided = topics::create(&image, &[new_topic("t")], &mut Random::new(1));
    let created = decided.answers[0].as_ref().expect("it can be created");
    assert_eq!((created.partitions, created.replication_factor), (4, 3));
    assert!(!created.id.is_zero());
    let image = image.with(&decided.facts.concat()).expect("the facts apply");
    let topic = image.topic(&name("t")).expect("it was created");
    assert!(topic.default_replication);
    for (_, partition) in topic.partitions() {
        assert_eq!(
            (partition.leader, partition.leader_epoch),
            (partition.replicas.first().copied(), LeaderEpoch::ZERO)
        );
        assert_eq!(partition.isr.len(), 3);
    }
}

#[test]
fn a_hand_made_assignment_is_kept_and_only_its_live_nodes_are_in_sync() {
    let topic = NewTopic { assignment: vec![nodes_of(&[4, 2]), nodes_of(&[3, 1])], ..new_topic("t") };
    let decided = topics::create(&three_live_nodes(), &[topic], &mut Random::new(1));
    let image = three_live_nodes().with(&decided.facts.concat()).expect("the facts apply");
    let topic = image.topic(&name("t")).expect("it was created");
    assert!(!topic.default_replication);
    let first = &topic.partitions[0];
    assert_eq!((first.leader, &first.isr), (Some(NodeId(2)), &nodes_of(&[2])));
    assert_eq!(first.replicas, nodes_of(&[4, 2]));
}

#[test]
fn what_is_deleted_is_found_by_name_or_id_and_only_once() {
    let decided = topics::create(&three_live_nodes(), &["a", "b"].map(new_topic), &mut Random::new(1));
    let image = three_live_nodes().with(&decided.facts.concat()).expect("the facts apply");
    let id = |raw| image.topic(&name(raw)).expect("it was created").id;
    let decided = topics::delete(
        &image,
        &[
            TopicRef::Name(name("a")),
            TopicRef::Id(id("b")),
            TopicRef::Name(name("b")),
            TopicRef::Name(name("c")),
            TopicRef::Id(model::TopicId([1; 16])),
        ],
    );
    let answers: Vec<_> = decided.answers.into_iter().map(|answer| answer.map_err(|refusal| refusal.code)).collect();
    let expected = [
        Ok((name("a"), id("a"))),
        Ok((name("b"), id("b"))),
        Err(ErrorCode::InvalidRequest),
        Err(ErrorCode::UnknownTopicOrPartition),
        Err(ErrorCode::UnknownTopicId),
    ];
    assert_eq!(answers, expected);
    let after = image.with(&decided.facts.concat()).expect("the facts apply");
    assert_eq!((after.topic_count(), after.partition_count()), (0, 0));
}

#[test]
fn topics_are_kept_where_deleting_is_switched_off() {
    let statics = BTreeMap::from([("delete.topic.enable".to_owned(), "false".to_owned())]);
    let statics = Arc::new(BrokerConfig::new(statics).expect("valid settings"));
    let decided = topics::create(&three_live_nodes(), &[new_topic("a")], &mut Random::new(1));
    let image = three_live_nodes().with(&decided.facts.concat()).expect("the facts apply");
    let image = Image::decode(image.encode(), statics).expect("our own snapshot");
    let decided = topics::delete(&image, &[TopicRef::Name(name("a"))]);
    assert_eq!(decided.answers[0].as_ref().map_err(|refusal| refusal.code), Err(ErrorCode::TopicDeletionDisabled));
}

#[test]
fn the_offsets_topic_is_compacted_and_fits_the_cluster() {
    let topic = topics::offsets_topic(&three_live_nodes());
    let decided = topics::create(&three_live_nodes(), &[topic], &mut Random::new(1));
    let created = decided.answers[0].as_ref().expect("it can be created");
    assert_eq!((created.partitions, created.replication_factor), (50, 3));
    let image = three_live_nodes().with(&decided.facts.concat()).expect("the facts apply");
    let config = &image.topic(&name(topics::OFFSETS_TOPIC)).expect("it was created").config;
    assert!(config.cleanup.compact && !config.cleanup.delete);
    assert_eq!(config.segment_bytes, 104_857_600);
    assert!(config.is_journalled());
}

//! IncrementalAlterConfigs: operations, refusals, and what a lower minimum of the ISR does.

use super::*;

fn alter(target: ConfigTarget, operations: &[(&str, &str, &str)], replace: bool) -> ControllerRequest {
    let operation = |(how, key, value): &(&str, &str, &str)| {
        let (key, value) = ((*key).to_owned(), (*value).to_owned());
        match *how {
            "set" => ConfigOperation::Set { key, value },
            "delete" => ConfigOperation::Delete { key },
            "append" => ConfigOperation::Append { key, value },
            _ => ConfigOperation::Subtract { key, value },
        }
    };
    let operations = operations.iter().map(operation).collect();
    let resources = vec![ConfigAlteration { target, operations, replace }];
    ControllerRequest::AlterConfigs { resources, validate_only: false }
}

fn topic_t() -> ConfigTarget {
    ConfigTarget::Topic(name("t"))
}

fn overrides(world: &World) -> Vec<String> {
    let topic = world.image.topic(&name("t")).expect("it is there");
    topic.overrides.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

#[test]
fn operations_on_a_topic_hold_together() {
    // What is set before, what is asked, whether all else goes back to its default; what is set then.
    type Row<'a> = (&'a [(&'a str, &'a str)], &'a [(&'a str, &'a str, &'a str)], bool, &'a [&'a str]);
    let table: [Row<'_>; 9] = [
        (&[], &[("set", "retention.ms", "5")], false, &["retention.ms=5"]),
        (&[("retention.ms", "5")], &[("delete", "retention.ms", "")], false, &[]),
        (&[("retention.ms", "5")], &[("set", "segment.ms", "7")], false, &["retention.ms=5", "segment.ms=7"]),
        (&[("retention.ms", "5")], &[("set", "segment.ms", "7")], true, &["segment.ms=7"]),
        (&[], &[("append", "cleanup.policy", "compact")], false, &["cleanup.policy=delete,compact"]),
        (&[], &[("append", "cleanup.policy", "delete")], false, &["cleanup.policy=delete"]),
        (
            &[("cleanup.policy", "compact,delete")],
            &[("subtract", "cleanup.policy", "delete")],
            false,
            &["cleanup.policy=compact"],
        ),
        (
            &[("leader.replication.throttled.replicas", "0:1")],
            &[("append", "leader.replication.throttled.replicas", "1:2, 0:1")],
            false,
            &["leader.replication.throttled.replicas=0:1,1:2"],
        ),
        (&[("retention.ms", "5")], &[], true, &[]),
    ];
    for (before, operations, replace, expected) in table {
        let mut world = World::new(1).topic("t", before, &["1 isr 1 led 1"]);
        assert_eq!(world.refused(&alter(topic_t(), operations, replace)), None, "{operations:?}");
        assert_eq!(overrides(&world), expected, "{operations:?}");
    }
}

#[test]
fn what_cannot_be_set_is_refused_and_nothing_of_it_holds() {
    let node = || ConfigTarget::Node(NodeId(1));
    let every = || ConfigTarget::EveryNode;
    let group = || ConfigTarget::Group("g".into());
    let clients = || ConfigTarget::ClientMetrics("m".into());
    let table = [
        (topic_t(), ("set", "retention.ms", "x"), ErrorCode::InvalidConfig),
        (topic_t(), ("set", "no.such.key", "1"), ErrorCode::InvalidConfig),
        (topic_t(), ("append", "retention.ms", "1"), ErrorCode::InvalidConfig),
        (topic_t(), ("append", "cleanup.policy", "keep"), ErrorCode::InvalidConfig),
        (ConfigTarget::Topic(name("x")), ("set", "retention.ms", "1"), ErrorCode::UnknownTopicOrPartition),
        (node(), ("set", "log.dirs", "/x"), ErrorCode::InvalidRequest),
        (node(), ("set", "log.retention.ms", "1000"), ErrorCode::InvalidRequest),
        (node(), ("set", "no.such.key", "1"), ErrorCode::InvalidConfig),
        (node(), ("set", "leader.replication.throttled.rate", "-1"), ErrorCode::InvalidConfig),
        (every(), ("set", "num.partitions", "3"), ErrorCode::InvalidRequest),
        (every(), ("set", "log.retention.ms", "x"), ErrorCode::InvalidConfig),
        (every(), ("set", "message.max.bytes", "2000000000"), ErrorCode::InvalidConfig),
        (
            ConfigTarget::Node(NodeId(9)),
            ("set", "leader.replication.throttled.rate", "1"),
            ErrorCode::BrokerIdNotRegistered,
        ),
        (group(), ("set", "consumer.session.timeout.ms", "1"), ErrorCode::InvalidConfig),
        (group(), ("set", "consumer.no.such.key", "1"), ErrorCode::InvalidConfig),
        (group(), ("append", "consumer.heartbeat.interval.ms", "1"), ErrorCode::InvalidConfig),
        (clients(), ("set", "no.such.key", "1"), ErrorCode::InvalidRequest),
        (clients(), ("set", "interval.ms", "99"), ErrorCode::InvalidRequest),
        (clients(), ("set", "interval.ms", "soon"), ErrorCode::InvalidConfig),
        (clients(), ("set", "match", "client_id=("), ErrorCode::InvalidConfig),
        (clients(), ("append", "interval.ms", "1"), ErrorCode::InvalidConfig),
    ];
    for (target, operation, code) in table {
        let mut world = World::new(1).topic("t", &[], &["1 isr 1 led 1"]);
        let before: &[_] = if let ConfigTarget::Topic(_) = target { &[("set", "segment.ms", "7")] } else { &[] };
        let request = alter(target, &[before, &[operation]].concat(), false);
        assert_eq!(world.refused(&request), Some(code), "{operation:?}");
    }
    let mut world = World::new(1).topic("t", &[], &["1 isr 1 led 1"]);
    let twice = alter(topic_t(), &[("set", "retention.ms", "1"), ("delete", "retention.ms", "")], false);
    assert_eq!(world.refused(&twice), Some(ErrorCode::InvalidRequest));
}

#[test]
fn a_refusal_names_the_value_that_stays() {
    let mut world = World::new(1).topic("t", &[("retention.ms", "5")], &["1 isr 1 led 1"]);
    assert_eq!(world.refused(&set(ConfigTarget::Node(NodeId(1)), "leader.replication.throttled.rate", "7")), None);
    let table = [
        (topic_t(), "retention.ms", "x", "; it stays 5"),
        (topic_t(), "segment.bytes", "x", "; it stays at its default"),
        (ConfigTarget::Node(NodeId(1)), "leader.replication.throttled.rate", "-1", "; it stays 7"),
    ];
    for (target, key, value, end) in table {
        let answer = world.ask(&set(target, key, value));
        let Ok(ControllerAnswer::ConfigsAltered(answers)) = answer else { panic!("it is answered") };
        let refusal = answers.into_iter().next().and_then(Result::err).expect("it is refused");
        assert!(refusal.message.ends_with(end) && refusal.message.contains(value), "{}", refusal.message);
    }
}

#[test]
fn a_group_is_configured_before_it_exists_and_the_session_outlasts_a_heartbeat() {
    let mut world = World::new(1);
    let group = || ConfigTarget::Group("g".into());
    let (session, beat) = ("consumer.session.timeout.ms", "consumer.heartbeat.interval.ms");
    assert_eq!(world.refused(&set(group(), session, "60000")), None);
    assert_eq!(world.refused(&set(group(), beat, "15000")), None);
    assert_eq!(world.refused(&set(group(), beat, "15001")), Some(ErrorCode::InvalidConfig));
    let held = world.image.overrides(&crate::metadata::Resource::Group("g".into()));
    assert_eq!(held.get(beat).map(String::as_str), Some("15000"));
    assert_eq!(world.image.configured_groups().collect::<Vec<_>>(), ["g"]);
    let described = crate::metadata::resolve::describe_group(&world.image, "g");
    let shown: Vec<_> = described.iter().map(|one| (one.value.as_deref(), one.source.to_wire())).collect();
    assert_eq!(shown, [(Some("1000"), 5), (Some("15000"), 8), (Some("60000"), 8)]);
    assert_eq!(world.refused(&alter(group(), &[("delete", beat, ""), ("delete", session, "")], false)), None);
    assert_eq!(world.image.configured_groups().count(), 0);
}

#[test]
fn a_subscription_to_clients_metrics_is_kept_until_nothing_is_set_for_it() {
    let mut world = World::new(1);
    let clients = || ConfigTarget::ClientMetrics("m".into());
    let before = world.image.clone();
    world.apply(&[vec![Fact::FeatureLevelSet { name: "weir.metadata".into(), level: 1 }]]);
    assert_eq!(world.refused(&set(clients(), "interval.ms", "100")), Some(ErrorCode::UnsupportedVersion));
    world.image = before;
    assert_eq!(world.refused(&set(clients(), "metrics", "a.,b.")), None);
    assert_eq!(
        world.refused(&alter(clients(), &[("append", "metrics", "c."), ("set", "interval.ms", "100")], false)),
        None
    );
    let described = crate::metadata::resolve::describe_client_metrics(&world.image, "m");
    let shown: Vec<_> = described.iter().map(|one| (one.name, one.value.as_deref(), one.source.to_wire())).collect();
    assert_eq!(shown, [("interval.ms", Some("100"), 7), ("match", Some(""), 5), ("metrics", Some("a.,b.,c."), 7)]);
    assert_eq!(world.image.client_metrics().map(|(name, _)| name).collect::<Vec<_>>(), ["m"]);
    assert!(!world.image.has_configured_groups());
    assert_eq!(
        world.refused(&alter(clients(), &[("delete", "metrics", ""), ("delete", "interval.ms", "")], false)),
        None
    );
    assert_eq!(world.image.client_metrics().count(), 0);
}

#[test]
fn throttles_are_set_for_a_node_and_defaults_of_topics_for_all_nodes() {
    let mut world = World::new(2).topic("t", &[], &["1 isr 1 led 1"]);
    let throttle = "follower.replication.throttled.rate";
    assert_eq!(world.refused(&set(ConfigTarget::Node(NodeId(2)), throttle, "1000")), None);
    let set_for_two = world.image.overrides(&crate::metadata::Resource::Node(NodeId(2)));
    assert_eq!(set_for_two.get(throttle).map(String::as_str), Some("1000"));
    assert_eq!(world.refused(&set(ConfigTarget::EveryNode, "log.retention.ms", "60000")), None);
    let topic = world.image.topic(&name("t")).expect("it is there");
    assert_eq!(topic.config.retention_ms, Some(60_000));
}

#[test]
fn a_lower_minimum_that_the_isr_meets_empties_the_elr() {
    let before = ["123 isr 1 elr 23 led 1", "123 elr 23", "123 isr 12 led 1"];
    let changes = [
        (topic_t(), "min.insync.replicas", "1", ["123 isr 1 led 1", "123 elr 23", "123 isr 12 led 1"]),
        (ConfigTarget::EveryNode, "min.insync.replicas", "1", ["123 isr 1 led 1", "123 elr 23", "123 isr 12 led 1"]),
        // A higher one frees nobody, and makes nobody eligible that was not.
        (topic_t(), "min.insync.replicas", "3", before),
        (topic_t(), "retention.ms", "1", before),
    ];
    for (target, key, value, expected) in changes {
        let mut world = World::new(3).topic("t", &[], &before).dead("23");
        assert_eq!(world.refused(&set(target, key, value)), None);
        assert_eq!(world.show("t"), expected, "{key}={value}");
    }
}

#[test]
fn the_minimum_and_what_it_frees_are_one_entry_of_the_log() {
    let world = World::new(3).topic("t", &[], &["123 isr 1 elr 23 led 1"; 3]);
    let request = set(topic_t(), "min.insync.replicas", "1");
    let decision = decide(&world.image, &mut Random::new(1), Now::default(), &request).expect("it is allowed");
    assert_eq!((decision.groups.len(), decision.groups[0].len()), (1, 4));
}

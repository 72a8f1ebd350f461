//! Apache Kafka's command line tools, unmodified, judged by what they print.
//!
//! Topics and groups carry a number of their own, so that the tests share one broker and may run side by side.

use anyhow::{Context, Result, ensure};
use compat_tests::broker::Broker;
use compat_tests::program::{unique, wait_until};
use compat_tests::toolbox;
use compat_tests::tools::{Ended, tool_in_background, tool_ok};
use serde_json::Value;
use std::time::Duration;

fn name(base: &str) -> String {
    format!("{base}-{}", unique())
}

/// A tool that must end with code 0, with `--bootstrap-server` put in.
fn ask(broker: &Broker, name: &str, arguments: &[&str]) -> Result<Ended> {
    let ended = tool(&[&[name, "--bootstrap-server", &broker.kafka], arguments].concat(), "")?;
    ensure!(ended.code == Some(0), "{name} {arguments:?}: {ended:?}");
    Ok(ended)
}

/// In the JVM that all of them share.
fn tool(arguments: &[&str], input: &str) -> Result<Ended> {
    toolbox::run(arguments, input)
}

/// As `ask`, in a JVM of its own: for what takes longer than a JVM to start.
fn ask_alone(broker: &Broker, tool: &str, arguments: &[&str]) -> Result<Ended> {
    tool_ok(&[&[tool, "--bootstrap-server", &broker.kafka], arguments].concat())
}

/// Produces the lines with the console producer, which splits them as `properties` say.
fn produce(broker: &Broker, topic: &str, properties: &[&str], lines: &str) -> Result<()> {
    let mut arguments = vec!["console-producer", "--bootstrap-server", &broker.kafka, "--topic", topic];
    arguments.extend(properties.iter().flat_map(|property| ["--reader-property", property]));
    let ended = tool(&arguments, lines)?;
    ensure!(ended.code == Some(0) && !ended.err.contains("ERROR"), "{ended:?}");
    Ok(())
}

#[test]
fn topics_are_created_listed_described_and_deleted() -> Result<()> {
    let broker = Broker::shared()?;
    let topic = name("tools-topics");
    let create = ["--create", "--topic", &topic, "--partitions", "3", "--config", "retention.ms=86400000"];
    assert_eq!(ask(&broker, "topics", &create)?.out, format!("Created topic {topic}.\n"));

    let again = tool(&[&["topics", "--bootstrap-server", &broker.kafka][..], &create].concat(), "")?;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.out.contains(&format!("Topic '{topic}' already exists")), "{again:?}");
    assert_eq!(ask(&broker, "topics", &[&create[..], &["--if-not-exists"]].concat())?.out, "");

    let listed = ask(&broker, "topics", &["--list"])?;
    assert!(listed.out.lines().any(|line| line == topic), "{listed:?}");

    let described = ask(&broker, "topics", &["--describe", "--topic", &topic])?;
    let (head, rest) = described.out.split_once('\n').context("describe prints a head")?;
    for part in [&format!("Topic: {topic}\t"), "PartitionCount: 3\t", "ReplicationFactor: 1\t", "retention.ms=86400000"]
    {
        assert!(head.contains(part), "{head} lacks {part}");
    }
    for (partition, line) in rest.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, _, "Partition:", number, "Leader:", leader, "Replicas:", replicas, "Isr:", isr, ..] = words[..] else {
            panic!("not a partition: {line}");
        };
        assert_eq!((number, leader, leader), (partition.to_string().as_str(), replicas, isr), "{line}");
    }
    assert_eq!(rest.lines().count(), 3);

    ask(&broker, "topics", &["--delete", "--topic", &topic])?;
    assert!(!ask(&broker, "topics", &["--list"])?.out.contains(&topic));
    let gone = tool(&["topics", "--bootstrap-server", &broker.kafka, "--describe", "--topic", &topic], "")?;
    assert_eq!(gone.code, Some(1), "{gone:?}");
    assert!(gone.out.contains("does not exist"), "{gone:?}");
    Ok(())
}

#[test]
fn topics_refuses_what_cannot_be() -> Result<()> {
    let broker = Broker::shared()?;
    let topic = name("tools-refused");
    for (arguments, reason) in [
        (["--topic", "no/slash", "--partitions", "1", "--replication-factor", "1"], "InvalidTopicException"),
        (["--topic", &topic, "--partitions", "1", "--replication-factor", "3"], "InvalidReplicationFactorException"),
    ] {
        let refused =
            tool(&[&["topics", "--bootstrap-server", &broker.kafka, "--create"][..], &arguments].concat(), "")?;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(format!("{}{}", refused.out, refused.err).contains(reason), "{refused:?}");
    }
    Ok(())
}

#[test]
fn console_tools_carry_keys_headers_and_timestamps_and_read_by_offset() -> Result<()> {
    let broker = Broker::shared()?;
    let topic = name("tools-console");
    produce(&broker, &topic, &["parse.key=true", "key.separator=:"], "k0:v0\nk1:v1\nk2:v2\n")?;
    let null = ["parse.key=true", "parse.headers=true", "null.marker=NULL"];
    produce(&broker, &topic, &null, "h:a,h:b\tk3\tv3\nh:a\tk4\tNULL\n")?;

    let read = |more: &[&str]| ask(&broker, "console-consumer", &[&["--topic", topic.as_str()], more].concat());
    let show: Vec<&str> = ["key", "headers", "timestamp", "offset", "partition"]
        .iter()
        .flat_map(|what| ["--formatter-property".to_string(), format!("print.{what}=true")])
        .map(|word| -> &str { word.leak() })
        .collect();
    let all = read(&[&["--from-beginning", "--max-messages", "5"][..], &show].concat())?;
    let rows: Vec<Vec<&str>> = all.out.lines().map(|line| line.split('\t').collect()).collect();
    let want = [
        ["Offset:0", "NO_HEADERS", "k0", "v0"],
        ["Offset:1", "NO_HEADERS", "k1", "v1"],
        ["Offset:2", "NO_HEADERS", "k2", "v2"],
        ["Offset:3", "h:a,h:b", "k3", "v3"],
        ["Offset:4", "h:a", "k4", "null"],
    ];
    assert_eq!(rows.iter().filter_map(|row| row.get(2..)).collect::<Vec<_>>(), want, "{all:?}");
    assert!(rows.iter().all(|row| row[0].starts_with("CreateTime:1") && row[1] == "Partition:0"), "{all:?}");
    assert!(all.err.contains("Processed a total of 5 messages"), "{all:?}");

    let middle = read(&["--partition", "0", "--offset", "2", "--max-messages", "2"])?;
    assert_eq!(middle.out, "v2\nv3\n");
    Ok(())
}

#[test]
fn a_console_group_is_listed_and_described_with_its_lag() -> Result<()> {
    let broker = Broker::shared()?;
    let (topic, group) = (name("tools-lag"), name("tools-lag-group"));
    produce(&broker, &topic, &[], "a\nb\nc\nd\ne\n")?;
    let consume = ["--topic", &topic, "--group", &group, "--from-beginning", "--max-messages"];
    assert_eq!(ask(&broker, "console-consumer", &[&consume[..], &["2"]].concat())?.out, "a\nb\n");

    let listed = ask(&broker, "consumer-groups", &["--list", "--state"])?;
    assert!(listed.words().iter().any(|words| words[..] == [&group, "Empty"]), "{listed:?}");
    let described = ask(&broker, "consumer-groups", &["--describe", "--group", &group])?;
    let row = [&group, topic.as_str(), "0", "2", "5", "3", "-", "-", "-"];
    assert!(described.words().iter().any(|words| words[..] == row), "{described:?}");

    // the group goes on where it stopped
    assert_eq!(ask(&broker, "console-consumer", &[&consume[..], &["3"]].concat())?.out, "c\nd\ne\n");
    let unknown = ["consumer-groups", "--bootstrap-server", &broker.kafka, "--describe", "--group", "tools-nobody"];
    let unknown = tool(&unknown, "")?;
    assert!(format!("{}{}", unknown.out, unknown.err).contains("Group tools-nobody not found"), "{unknown:?}");
    Ok(())
}

#[test]
fn get_offsets_answers_for_both_ends_times_and_the_newest_record() -> Result<()> {
    let broker = Broker::shared()?;
    let topic = name("tools-offsets");
    produce(&broker, &topic, &[], "a\nb\nc\n")?;
    let now = unique().to_string();
    for (time, offset) in
        [("-1", "3"), ("latest", "3"), ("earliest", "0"), ("max-timestamp", "2"), ("5", "0"), (&now, "3")]
    {
        let got = ask(&broker, "get-offsets", &["--topic", &topic, "--time", time])?.out;
        // of records that share the highest timestamp any may be named; the tool prints nothing for a time past the end
        let ok = got == format!("{topic}:0:{offset}\n")
            || (time == "max-timestamp" && got.starts_with(&format!("{topic}:0:")))
            || (time == now && got.is_empty());
        assert!(ok, "--time {time}: {got:?}");
    }
    Ok(())
}

#[test]
fn broker_api_versions_names_what_is_served() -> Result<()> {
    let broker = Broker::shared()?;
    let listed = ask(&broker, "broker-api-versions", &[])?.out;
    assert!(listed.starts_with(&format!("{} (id: ", broker.kafka)), "{listed}");
    for api in [
        "Produce(0): 0 to 13",
        "Fetch(1): 4 to 18",
        "ListOffsets(2): 1 to 1",
        "Metadata(3): 0 to 13",
        "OffsetCommit(8): 2 to 10",
        "OffsetFetch(9): 1 to 10",
        "FindCoordinator(10): 0 to 6",
        "JoinGroup(11): 0 to 9",
        "Heartbeat(12): 0 to 4",
        "LeaveGroup(13): 0 to 5",
        "SyncGroup(14): 0 to 5",
        "DescribeGroups(15): 0 to 6",
        "ListGroups(16): 0 to 5",
        "ApiVersions(18): 0 to ",
        "CreateTopics(19): 2 to 7",
        "DeleteTopics(20): 1 to 6",
        "DeleteRecords(21): 0 to 2",
        "InitProducerId(22): 0 to ",
        "OffsetForLeaderEpoch(23): 2 to 4",
        "DescribeConfigs(32): 1 to 4",
        "DescribeCluster(60): 0 to 2",
        "GetTelemetrySubscriptions(71): 0",
        "PushTelemetry(72): 0",
    ] {
        assert!(listed.contains(&format!("\t{api}")), "no {api} in\n{listed}");
    }
    Ok(())
}

/// What `delete-records` prints for a file of partitions and offsets.
fn delete_records(broker: &Broker, content: &Value) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), content.to_string())?;
    let path = file.path().to_str().context("a path of text")?;
    Ok(ask(broker, "delete-records", &["--offset-json-file", path])?.out)
}

#[test]
fn delete_records_moves_the_start_and_names_what_it_cannot_delete() -> Result<()> {
    let broker = Broker::shared()?;
    let (topic, kept) = (name("tools-deleted"), name("tools-kept"));
    produce(&broker, &topic, &[], "a\nb\nc\nd\n")?;
    let compacted = ["--create", "--topic", &kept, "--partitions", "1", "--config", "cleanup.policy=compact"];
    ask(&broker, "topics", &compacted)?;
    let at = |topic: &str, offset: i64| {
        let part = serde_json::json!({ "topic": topic, "partition": 0, "offset": offset });
        serde_json::json!({ "partitions": [part], "version": 1 })
    };
    let earliest = || ask(&broker, "get-offsets", &["--topic", &topic, "--time", "earliest"]);
    let low = |offset: i64| format!("partition: {topic}-0\tlow_watermark: {offset}");
    for (offset, start) in [(2, 2), (1, 2), (-1, 4)] {
        let printed = delete_records(&broker, &at(&topic, offset))?;
        assert!(printed.contains(&low(start)), "{printed}");
        assert_eq!(earliest()?.out, format!("{topic}:0:{start}\n"));
    }
    let beyond = delete_records(&broker, &at(&topic, 5))?;
    assert!(beyond.contains("OffsetOutOfRangeException"), "{beyond}");
    let refused = delete_records(&broker, &at(&kept, 0))?;
    assert!(refused.contains("PolicyViolationException"), "{refused}");
    Ok(())
}

#[test]
fn the_perf_tests_write_and_read_every_record() -> Result<()> {
    let broker = Broker::shared()?;
    let topic = name("tools-perf");
    let size = ["--num-records", "50000", "--record-size", "100", "--throughput", "-1"];
    let wrote = ask_alone(&broker, "producer-perf-test", &[&["--topic", &topic][..], &size].concat())?;
    assert!(wrote.out.lines().any(|line| line.starts_with("50000 records sent, ")), "{wrote:?}");
    let read =
        ask_alone(&broker, "consumer-perf-test", &["--topic", &topic, "--num-records", "50000", "--timeout", "20000"])?;
    let columns: Vec<&str> = read.out.lines().nth(1).unwrap_or_default().split(", ").collect();
    assert_eq!(columns.get(4), Some(&"50000"), "{read:?}");
    Ok(())
}

/// The events of a verifiable tool that have this name.
fn events(out: &str, name: &str) -> Vec<Value> {
    let events = out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["name"] == name).collect()
}

#[test]
fn the_verifiable_tools_agree_on_every_record_and_members_are_described() -> Result<()> {
    let broker = Broker::shared()?;
    let (topic, group) = (name("tools-verifiable"), name("tools-verifiable-group"));
    ask(&broker, "topics", &["--create", "--topic", &topic, "--partitions", "2"])?;
    let wrote = ask_alone(
        &broker,
        "verifiable-producer",
        &["--topic", &topic, "--max-messages", "1000", "--acks", "-1", "--repeating-keys", "10"],
    )?;
    let acked = events(&wrote.out, "producer_send_success");
    assert_eq!(acked.len(), 1000);
    assert_eq!(events(&wrote.out, "tool_data")[0]["acked"], 1000);

    let consumer = tool_in_background(&[
        "verifiable-consumer",
        "--bootstrap-server",
        &broker.kafka,
        "--topic",
        &topic,
        "--group-id",
        &group,
        "--reset-policy",
        "earliest",
    ])?;
    wait_until("1,000 records consumed and committed", Duration::from_secs(60), || {
        let out = consumer.output()?;
        let count: i64 = events(&out, "records_consumed").iter().filter_map(|event| event["count"].as_i64()).sum();
        let committed = events(&out, "offsets_committed");
        Ok(count == 1000 && committed.last().is_some_and(|event| event["success"] == true))
    })
    .with_context(|| consumer.tail())?;

    let members = ask(&broker, "consumer-groups", &["--describe", "--group", &group, "--members"])?;
    let words = members.words();
    let member = words.iter().find(|words| words.first() == Some(&group.as_str())).context("no member")?;
    assert!(member[1].contains("verifiable") || member[1].contains("consumer"), "{members:?}");
    assert_eq!((member[2], member[4]), ("/127.0.0.1", "2"), "{members:?}");
    let state = ask(&broker, "consumer-groups", &["--describe", "--group", &group, "--state"])?;
    let words = state.words();
    let row = words.iter().find(|words| words.first() == Some(&group.as_str())).context("no state")?;
    assert_eq!(row[1], broker.kafka, "{state:?}");
    assert_eq!(row[row.len() - 2..], ["Stable", "1"], "{state:?}");
    let refused = tool(&["consumer-groups", "--bootstrap-server", &broker.kafka, "--delete", "--group", &group], "")?;
    assert!(refused.out.contains("GroupNotEmptyException"), "{refused:?}");
    let back = ["--reset-offsets", "--group", &group, "--topic", &topic, "--to-earliest", "--execute"];
    let refused = tool(&[&["consumer-groups", "--bootstrap-server", &broker.kafka][..], &back].concat(), "")?;
    assert!(refused.out.contains("Assignments can only be reset if the group"), "{refused:?}");
    let gone = ["--delete-offsets", "--group", &group, "--topic", &topic];
    let refused = tool(&[&["consumer-groups", "--bootstrap-server", &broker.kafka][..], &gone].concat(), "")?;
    assert!(refused.out.contains("GroupSubscribedToTopicException"), "{refused:?}");
    let offsets = ask(&broker, "consumer-groups", &["--describe", "--group", &group])?;
    let lags: Vec<&str> = offsets.words().iter().filter(|w| w.first() == Some(&group.as_str())).map(|w| w[5]).collect();
    assert_eq!(lags, ["0", "0"], "{offsets:?}");
    Ok(())
}

//! The consumer protocol (KIP-848) with the clients and tools that speak it. Times are printed, not judged.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use compat_tests::broker::Broker;
use compat_tests::clients::run_suite;
use compat_tests::program::{unique, wait_until};
use compat_tests::tools::{Ended, tool, tool_in_background, tool_ok};

/// Sessions are short, so that a killed member is missed soon.
const SETTINGS: [&str; 2] = ["group.consumer.min.session.timeout.ms=1000", "group.consumer.session.timeout.ms=4000"];

fn check_suite(suite: &str) -> Result<()> {
    let data = tempfile::tempdir()?;
    let mut broker = Broker::on_data(&format!("groups-{suite}"), data.path(), &SETTINGS)?;
    run_suite(suite, &[&broker.kafka, &unique().to_string(), "groups"], |name| name.starts_with("consumer_"))?;
    broker.stop()
}

#[test]
fn java_consumers_come_go_follow_a_pattern_and_migrate() -> Result<()> {
    check_suite("java")
}

#[test]
fn librdkafka_consumers_come_go_and_crash() -> Result<()> {
    check_suite("confluent")
}

#[test]
fn franz_go_consumers_come_and_go() -> Result<()> {
    check_suite("franz-go")
}

fn ask(broker: &Broker, tool: &str, arguments: &[&str]) -> Result<Ended> {
    tool_ok(&[&[tool, "--bootstrap-server", &broker.kafka], arguments].concat())
}

/// The row of a table whose first word is `first`.
fn row<'a>(ended: &'a Ended, first: &str) -> Result<Vec<&'a str>> {
    let rows = ended.words().into_iter();
    rows.rev().find(|words| words.first() == Some(&first)).with_context(|| format!("no {first} in {ended:?}"))
}

#[test]
fn the_tools_show_groups_of_the_consumer_protocol() -> Result<()> {
    let data = tempfile::tempdir()?;
    let mut broker = Broker::on_data("groups-tools", data.path(), &[])?;
    let (topic, group) = ("tools-consumer", "tools-consumer-group");
    ask(&broker, "topics", &["--create", "--topic", topic, "--partitions", "3"])?;
    let consume = ["console-consumer", "--bootstrap-server", &broker.kafka, "--topic", topic, "--group", group];
    let consumer = tool_in_background(&[&consume[..], &["--command-property", "group.protocol=consumer"]].concat())?;
    let listed = || ask(&broker, "consumer-groups", &["--list", "--type", "consumer"]);
    wait_until("a group of the consumer protocol", Duration::from_secs(60), || {
        Ok(listed()?.out.lines().any(|line| line.starts_with(group)))
    })
    .with_context(|| consumer.tail())?;
    wait_until("a stable group", Duration::from_secs(60), || {
        let state = ask(&broker, "consumer-groups", &["--describe", "--group", group, "--state"])?;
        Ok(state.words().iter().any(|words| words.first() == Some(&group) && words.contains(&"Stable")))
    })?;
    let state = ask(&broker, "consumer-groups", &["--describe", "--group", group, "--state"])?;
    ensure!(row(&state, group)?.ends_with(&["uniform", "Stable", "1"]), "{state:?}");
    let members = ask(&broker, "consumer-groups", &["--describe", "--group", group, "--members", "--verbose"])?;
    let member = row(&members, group)?;
    ensure!(member.contains(&"/127.0.0.1") && member.contains(&"3"), "{members:?}");
    ensure!(members.out.contains(&format!("{topic}:0,1,2")), "{members:?}");
    let busy = tool(&["consumer-groups", "--bootstrap-server", &broker.kafka, "--delete", "--group", group], "")?;
    ensure!(format!("{}{}", busy.out, busy.err).contains("GroupNotEmptyException"), "{busy:?}");
    let classic = ask(&broker, "consumer-groups", &["--list", "--type", "classic"])?;
    ensure!(!classic.out.contains(group), "{classic:?}");
    drop(consumer);
    broker.stop()
}

#[test]
fn a_group_goes_on_after_its_node_was_killed() -> Result<()> {
    let data = tempfile::tempdir()?;
    let mut broker = Broker::on_data("groups-killed", data.path(), &[])?;
    let (topic, group) = ("killed", "killed-group");
    ask(&broker, "topics", &["--create", "--topic", topic, "--partitions", "3"])?;
    let arguments = ["console-consumer", "--bootstrap-server", &broker.kafka, "--topic", topic, "--group", group];
    let more = ["--from-beginning", "--command-property", "group.protocol=consumer"];
    let consumer = tool_in_background(&[&arguments[..], &more].concat())?;
    let produce_and_read = |broker: &Broker, line: &str| {
        let produce = ["console-producer", "--bootstrap-server", &broker.kafka, "--topic", topic];
        let produced = tool(&produce, &format!("{line}\n"))?;
        ensure!(produced.code == Some(0), "{produced:?}");
        wait_until(line, Duration::from_secs(60), || Ok(consumer.output()?.lines().any(|read| read == line)))
            .with_context(|| consumer.tail())
    };
    let member = |broker: &Broker| {
        let members = ask(broker, "consumer-groups", &["--describe", "--group", group, "--members"])?;
        Ok::<_, anyhow::Error>(row(&members, group)?.get(1).context("no member")?.to_string())
    };
    produce_and_read(&broker, "before")?;
    let before = member(&broker)?;
    broker.kill_and_restart()?;
    produce_and_read(&broker, "after")?;
    ensure!(member(&broker)? == before, "the member had to join again");
    ensure!(consumer.output()? == "before\nafter\n", "{}", consumer.output()?);
    drop(consumer);
    broker.stop()
}

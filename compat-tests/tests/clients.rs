//! Client libraries against the broker: each suite's own cases, then each library reading what the others wrote.

use anyhow::Result;
use compat_tests::broker::Broker;
use compat_tests::clients::{CODECS, SUITES, run_suite};
use compat_tests::program::unique;

fn check_suite(suite: &str) -> Result<()> {
    let broker = Broker::shared()?;
    let run = unique().to_string();
    run_suite(suite, &[&broker.kafka, &run, "cases"], |name| {
        !["read_", "consumer_", "telemetry_"].iter().any(|phase| name.starts_with(phase))
    })
}

#[test]
fn java() -> Result<()> {
    check_suite("java")
}

/// The client pushes by itself; what it pushed is found in `/metrics`.
#[test]
fn java_metrics_of_the_client_reach_those_of_the_node() -> Result<()> {
    let broker = Broker::shared()?;
    let run = unique().to_string();
    run_suite("java", &[&broker.kafka, &run, "telemetry", &broker.http], |name| name.starts_with("telemetry_"))
}

#[test]
fn confluent() -> Result<()> {
    check_suite("confluent")
}

#[test]
fn franz_go() -> Result<()> {
    check_suite("franz-go")
}

#[test]
fn kafka_python() -> Result<()> {
    check_suite("kafka-python")
}

#[test]
fn aiokafka() -> Result<()> {
    check_suite("aiokafka")
}

#[test]
fn kafkajs() -> Result<()> {
    check_suite("kafkajs")
}

#[test]
fn each_client_reads_what_the_others_wrote_with_every_codec() -> Result<()> {
    let broker = Broker::shared()?;
    let run = unique().to_string();
    for suite in SUITES {
        run_suite(suite, &[&broker.kafka, &run, "write"], |name| name.starts_with("codec_"))?;
    }
    let pairs: Vec<String> = SUITES.iter().flat_map(|writer| CODECS.map(|codec| format!("{writer}:{codec}"))).collect();
    for suite in SUITES {
        let mut arguments = vec![broker.kafka.as_str(), &run, "read"];
        arguments.extend(pairs.iter().map(String::as_str));
        run_suite(suite, &arguments, |name| name.starts_with("read_"))?;
    }
    Ok(())
}

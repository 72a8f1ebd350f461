//! Client libraries against the broker: each suite's own cases, then each library reading what the others wrote.

use anyhow::Result;
use compat_tests::broker::Broker;
use compat_tests::clients::{CODECS, SUITES, run_suite};
use compat_tests::program::unique;

fn check_suite(suite: &str) -> Result<()> {
    let broker = Broker::shared()?;
    let run = unique().to_string();
    run_suite(suite, &[&broker.kafka, &run, "cases"], |name| {
        !name.starts_with("read_") && !name.starts_with("consumer_")
    })
}

#[test]
fn java() -> Result<()> {
    check_suite("java")
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

//! MirrorMaker 2 between Apache Kafka and Weir, in both directions at once: topics, records, settings, offsets of groups.
//!
//! What is judged is what a consumer sees of both sides, and that a group that moves over goes on where it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use compat_tests::broker::Broker;
use compat_tests::cluster::{Cluster, Kind, Place, Plan};
use compat_tests::kafka_node::Flavour;
use compat_tests::program::{Program, run, unique, wait_until};
use compat_tests::{connect, kcat, paths};
use serde_json::{Value, json};

const STEP_MAX: Duration = Duration::from_secs(180);
const PARTITIONS: usize = 3;
/// Records before the groups read, and behind that.
const FIRST: usize = 60;
const MORE: usize = 30;
/// A setting that is not the default on either side, and is to come along.
const RETENTION_MS: &str = "7654321000";

/// One of the two clusters, under the name that MirrorMaker has for it.
struct Side {
    name: &'static str,
    kafka: String,
    /// The topic and the group that live here.
    topic: String,
    group: String,
    /// The time of its first record, in milliseconds since 1970.
    first_ms: u64,
}

impl Side {
    fn new(name: &'static str, kafka: &str, topic: &str) -> Side {
        let (number, group) = (unique(), format!("{topic}-readers"));
        let topic = format!("{topic}-{number}");
        Side { name, kafka: kafka.to_owned(), topic, group, first_ms: number - 3_600_000 }
    }

    /// The command line of Weir, which speaks to both.
    fn weir(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(paths::weir()?);
        command.args(arguments).args(["--bootstrap", &self.kafka]);
        let (program, status) = run("mirror-weir", &mut command, input, STEP_MAX)?;
        ensure!(status.success(), "weir {arguments:?} ended with {status}\n{}", program.tail());
        program.output()
    }

    fn create(&self) -> Result<()> {
        let setting = format!("retention.ms={RETENTION_MS}");
        let partitions = PARTITIONS.to_string();
        self.weir(&["topic", "create", &self.topic, "--partitions", &partitions, "--set", &setting], "").map(drop)
    }

    /// Records of every shape: keys, none, values, none, headers, the same header twice, a header without a value, times of their own.
    fn produce(&self, numbers: std::ops::Range<usize>, compression: &str) -> Result<()> {
        let record = |number: usize| {
            let key = (!number.is_multiple_of(3)).then(|| format!("key {number}"));
            let value = (!number.is_multiple_of(7)).then(|| format!("value {number} ä"));
            let headers = match number % 4 {
                0 => json!([]),
                1 => json!([{ "name": "n", "value": "1" }, { "name": "n", "value": "2" }]),
                _ => json!([{ "name": "number", "value": number.to_string() }, { "name": "null", "value": null }]),
            };
            let record = json!({ "timestamp": self.first_ms + number as u64, "key": key, "value": value,
                "headers": headers, "partition": number % PARTITIONS });
            format!("{record}\n")
        };
        let lines: String = numbers.map(record).collect();
        let how = ["produce", &self.topic, "-i", "json", "--keep-partitions", "-z", compression];
        self.weir(&how, &lines).map(drop)
    }

    /// What the group has committed for a topic, by partition; nothing when it is not known.
    fn committed(&self, group: &str, topic: &str) -> Result<BTreeMap<u64, u64>> {
        let mut command = Command::new(paths::weir()?);
        command.args(["group", "describe", group, "-o", "json", "--bootstrap", &self.kafka]);
        let (program, status) = run("mirror-group", &mut command, "", STEP_MAX)?;
        if !status.success() {
            return Ok(BTreeMap::new());
        }
        let described: Value = serde_json::from_str(&program.output()?)?;
        Ok(offsets(&described, topic))
    }
}

fn offsets(described: &Value, topic: &str) -> BTreeMap<u64, u64> {
    let partitions = described["groups"][0]["partitions"].as_array();
    let of_topic = partitions.into_iter().flatten().filter(|partition| partition["topic"] == topic);
    of_topic
        .filter_map(|partition| Some((partition["partition"].as_u64()?, partition["committed"].as_u64()?)))
        .collect()
}

/// MirrorMaker as a process of its own, for both directions.
fn start_mirror(folder: &Path, sides: [&Side; 2]) -> Result<Program> {
    let mut settings = vec![("clusters".to_owned(), "kafka,weir".to_owned())];
    for (side, other) in [(sides[0], sides[1]), (sides[1], sides[0])] {
        settings.push((format!("{}.bootstrap.servers", side.name), side.kafka.clone()));
        let flow = format!("{}->{}", side.name, other.name);
        for (key, value) in [("enabled", "true"), ("topics", &side.topic), ("groups", &side.group)] {
            settings.push((format!("{flow}.{key}"), value.to_owned()));
        }
    }
    for (key, value) in [
        ("replication.factor", "-1"),
        ("checkpoints.topic.replication.factor", "1"),
        ("heartbeats.topic.replication.factor", "1"),
        ("offset-syncs.topic.replication.factor", "1"),
        ("config.storage.replication.factor", "1"),
        ("offset.storage.replication.factor", "1"),
        ("status.storage.replication.factor", "1"),
        ("sync.group.offsets.enabled", "true"),
        ("sync.group.offsets.interval.seconds", "1"),
        ("emit.checkpoints.interval.seconds", "1"),
        ("refresh.topics.interval.seconds", "2"),
        ("refresh.groups.interval.seconds", "2"),
        ("sync.topic.configs.interval.seconds", "2"),
        // the position of every record, so that offsets of groups are carried over exactly
        ("offset.lag.max", "0"),
    ] {
        settings.push((key.to_owned(), value.to_owned()));
    }
    let pairs: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let file: PathBuf = connect::properties(folder, "mirror", &pairs)?;
    connect::start("mirror", &[&file])
}

fn start_kafka() -> Result<Cluster> {
    let plan = Plan {
        name: "mirrored-kafka".into(),
        kind: Kind::Kafka(Flavour::Default),
        places: vec![Place::default()],
        settings: vec!["group.initial.rebalance.delay.ms=0".into(), "offsets.topic.num.partitions=3".into()],
        binary: None,
    };
    Cluster::start(plan)
}

/// The topic of `source` at `target` is the same to a consumer.
fn wait_mirrored(source: &Side, target: &Side, count: usize) -> Result<()> {
    let copy = format!("{}.{}", source.name, source.topic);
    let mut last = 0;
    wait_until(&format!("{copy} with {count} records"), STEP_MAX, || {
        // of a topic that is not there yet kcat knows no records
        last = kcat::records(&target.kafka, &copy).map_or(0, |records| records.len());
        ensure!(last <= count, "{last} records");
        Ok(last == count)
    })
    .with_context(|| format!("it has {last}"))?;
    let (original, copied) = (kcat::records(&source.kafka, &source.topic)?, kcat::records(&target.kafka, &copy)?);
    ensure!(original.len() == count, "{} records at the source", original.len());
    ensure!(original == copied, "{original:#?}\nwas mirrored as\n{copied:#?}");
    Ok(())
}

fn mirror(sides: [&Side; 2]) -> Result<()> {
    let flows = [(sides[0], sides[1]), (sides[1], sides[0])];
    for (source, target) in flows {
        wait_mirrored(source, target, FIRST)?;
        let copy = format!("{}.{}", source.name, source.topic);
        let settings = target.weir(&["config", "get", &format!("topic/{copy}"), "retention.ms"], "")?;
        ensure!(settings.contains(RETENTION_MS), "{copy}: {settings}");
        let want = source.committed(&source.group, &source.topic)?;
        ensure!(want.values().sum::<u64>() == FIRST as u64, "{want:?}");
        let mut found = BTreeMap::new();
        wait_until(&format!("offsets of {} at {}", source.group, target.name), STEP_MAX, || {
            found = target.committed(&source.group, &copy)?;
            Ok(found == want)
        })
        .with_context(|| format!("{found:?} is there, {want:?} is wanted"))?;
        source.produce(FIRST..FIRST + MORE, "zstd")?;
    }
    for (source, target) in flows {
        wait_mirrored(source, target, FIRST + MORE)?;
        let rest = kcat::group_reads(&target.kafka, &source.group, &format!("{}.{}", source.name, source.topic), MORE)?;
        let mut numbers: Vec<u64> = rest.iter().map(|record| record.timestamp.1 - source.first_ms).collect();
        numbers.sort_unstable();
        let want = FIRST as u64..(FIRST + MORE) as u64;
        ensure!(numbers.iter().copied().eq(want), "the group went on with {numbers:?}");
    }
    Ok(())
}

#[test]
fn mirror_maker_carries_topics_and_groups_from_kafka_to_weir_and_back() -> Result<()> {
    let (weir, kafka) = (Broker::shared()?, start_kafka()?);
    let folder = tempfile::tempdir()?;
    let sides = [Side::new("kafka", &kafka.bootstrap(), "orders"), Side::new("weir", &weir.kafka, "parcels")];
    for side in &sides {
        side.create()?;
        side.produce(0..FIRST, "lz4")?;
        ensure!(kcat::group_reads(&side.kafka, &side.group, &side.topic, FIRST)?.len() == FIRST);
    }
    let mirror_maker = start_mirror(folder.path(), sides.each_ref())?;
    mirror(sides.each_ref()).with_context(|| mirror_maker.tail())
}

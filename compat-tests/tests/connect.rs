//! Kafka Connect on Weir: file source → topic → file sink, in one process and in a group of workers that are killed.
//!
//! Connect keeps everything that it knows in three compacted topics and in consumer groups: what is judged is that it all comes back.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use compat_tests::broker::Broker;
use compat_tests::connect::{Worker, properties};
use compat_tests::kcat;
use compat_tests::program::{unique, wait_until};
use compat_tests::tools::tool_ok;
use serde_json::{Value, json};

const STEP_MAX: Duration = Duration::from_secs(120);
const STRINGS: &str = "org.apache.kafka.connect.storage.StringConverter";
/// What the group of workers carries, and the topics in which it keeps what it knows.
const LINES: &str = "connect-lines";
const INTERNAL: [&str; 3] = ["connect-configs", "connect-offsets", "connect-status"];

/// The two files of a pair of connectors.
struct Files {
    source: PathBuf,
    sink: PathBuf,
    written: usize,
}

impl Files {
    fn new(folder: &Path) -> Result<Files> {
        let (source, sink) = (folder.join("source.txt"), folder.join("sink.txt"));
        fs::write(&source, "")?;
        Ok(Files { source, sink, written: 0 })
    }

    /// Appends so many lines to the source, each with its number.
    fn append(&mut self, count: usize) -> Result<()> {
        let mut file = OpenOptions::new().append(true).open(&self.source)?;
        let lines: String = (self.written..self.written + count).map(|number| format!("line {number}\n")).collect();
        self.written += count;
        Ok(file.write_all(lines.as_bytes())?)
    }

    /// The numbers of the lines in the sink, as they came.
    fn arrived(&self) -> Result<Vec<usize>> {
        let text = if self.sink.exists() { fs::read_to_string(&self.sink)? } else { String::new() };
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let number = |line: &str| line.strip_prefix("line ").and_then(|number| number.parse().ok());
        whole.lines().map(|line| number(line).with_context(|| format!("{line:?} in the sink"))).collect()
    }

    /// Waits until every line that was written is in the sink, at least once.
    fn wait_for_all(&self) -> Result<()> {
        let mut missing = Vec::new();
        wait_until("every line in the sink", STEP_MAX, || {
            let arrived: std::collections::BTreeSet<usize> = self.arrived()?.into_iter().collect();
            missing = (0..self.written).filter(|number| !arrived.contains(number)).collect();
            Ok(missing.is_empty())
        })
        .with_context(|| format!("{} of {} lines are missing: {missing:?}", missing.len(), self.written))
    }

    fn settings(&self, topic: &str) -> (Value, Value) {
        let source =
            json!({ "connector.class": "FileStreamSource", "tasks.max": "1", "file": self.source, "topic": topic });
        // a reader of committed records gets all of them where there are no transactions
        let sink = json!({ "connector.class": "FileStreamSink", "tasks.max": "1", "file": self.sink, "topics": topic,
            "consumer.override.isolation.level": "read_committed",
            // the partition of a sink that was killed is free after this time, not after 45 s
            "consumer.override.session.timeout.ms": "6000" });
        (source, sink)
    }
}

/// A connector's settings as a properties file.
fn connector(folder: &Path, name: &str, settings: &Value) -> Result<PathBuf> {
    let settings = settings.as_object().context("settings are an object")?;
    let pairs = settings.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    properties(folder, name, &[("name", name)].into_iter().chain(pairs).collect::<Vec<_>>())
}

#[test]
fn connect_in_one_process_carries_the_lines_of_a_file_through_a_topic_into_another_file() -> Result<()> {
    let broker = Broker::shared()?;
    let folder = tempfile::tempdir()?;
    let mut files = Files::new(folder.path())?;
    files.append(1000)?;
    let offsets = folder.path().join("offsets").display().to_string();
    let worker = [
        ("bootstrap.servers", broker.kafka.as_str()),
        ("listeners", "HTTP://127.0.0.1:0"),
        ("plugin.discovery", "service_load"),
        ("key.converter", STRINGS),
        ("value.converter", STRINGS),
        ("offset.storage.file.filename", &offsets),
    ];
    let (source, sink) = files.settings(&format!("connect-standalone-{}", unique()));
    let settings = [
        properties(folder.path(), "worker", &worker)?,
        connector(folder.path(), "source", &source)?,
        connector(folder.path(), "sink", &sink)?,
    ];
    let mut worker = Worker::start("standalone", &settings.each_ref().map(PathBuf::as_path))?;
    files.wait_for_all().with_context(|| worker.program.tail())?;
    files.append(10)?;
    files.wait_for_all().with_context(|| worker.program.tail())?;
    ensure!(files.arrived()? == (0..1010).collect::<Vec<_>>(), "each line once and in order: {:?}", files.arrived()?);
    // a JVM that was asked to end does so with 128 + 15
    let status = worker.program.terminate(STEP_MAX)?;
    ensure!(status.code() == Some(143), "{status}\n{}", worker.program.tail());
    Ok(())
}

/// What a group of workers is started with.
struct Group {
    settings: PathBuf,
    folder: tempfile::TempDir,
}

impl Group {
    fn new(broker: &Broker) -> Result<Group> {
        let folder = tempfile::tempdir()?;
        let mut settings = vec![
            ("bootstrap.servers", broker.kafka.as_str()),
            ("group.id", "connect"),
            ("listeners", "HTTP://127.0.0.1:0"),
            ("plugin.discovery", "service_load"),
            ("key.converter", STRINGS),
            ("value.converter", STRINGS),
            ("offset.flush.interval.ms", "200"),
            // a dead worker is missed after the shortest time that a broker allows by default
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "500"),
            ("scheduled.rebalance.max.delay.ms", "500"),
            ("offset.storage.partitions", "1"),
            // compaction within seconds
            ("offset.storage.segment.ms", "200"),
            ("offset.storage.min.cleanable.dirty.ratio", "0.01"),
        ];
        for (kind, topic) in ["config", "offset", "status"].iter().zip(INTERNAL) {
            settings.push((format!("{kind}.storage.topic").leak(), topic));
            // as many as the cluster makes by default
            settings.push((format!("{kind}.storage.replication.factor").leak(), "-1"));
        }
        Ok(Group { settings: properties(folder.path(), "worker", &settings)?, folder })
    }

    fn worker(&self) -> Result<Worker> {
        Worker::start("distributed", &[&self.settings])
    }
}

/// Waits until both connectors run, all of it at this worker when one is named, and says where the source's task is.
fn wait_running(asked: &Worker, only: Option<&Worker>) -> Result<String> {
    let mut at = [None, None];
    wait_until("both connectors running", STEP_MAX, || {
        at = [asked.task_at("source", "RUNNING")?, asked.task_at("sink", "RUNNING")?];
        let is_there = |at: &Option<String>| at.as_ref().is_some_and(|at| only.is_none_or(|only| *at == only.rest));
        Ok(at.iter().all(is_there))
    })
    .with_context(|| format!("last seen at {at:?}\n{}", asked.program.tail()))?;
    at.into_iter().next().flatten().context("the source runs")
}

/// How many records the topic between the connectors holds.
fn carried(broker: &Broker) -> Result<u64> {
    Ok(kcat::records(&broker.kafka, LINES)?.last().map_or(0, |last| last.offset + 1))
}

/// Waits until Connect has written down that everything so far was read and written: the source's position and the sink's offset.
fn wait_offsets(broker: &Broker, worker: &Worker, files: &Files) -> Result<()> {
    let length = fs::metadata(&files.source)?.len();
    let mut last = Value::Null;
    wait_until("the offsets of all lines", STEP_MAX, || {
        let (_, source) = worker.ask("GET", "/connectors/source/offsets", None)?;
        let (_, sink) = worker.ask("GET", "/connectors/sink/offsets", None)?;
        let (position, offset) =
            (&source["offsets"][0]["offset"]["position"], &sink["offsets"][0]["offset"]["kafka_offset"]);
        let is_done = *position == length && offset.as_u64() == Some(carried(broker)?);
        last = json!({ "source": source, "sink": sink, "length": length });
        Ok(is_done)
    })
    .with_context(|| last.to_string())
}

/// Goes on writing lines until positions of the source that newer ones took the place of are gone from their topic.
fn write_until_compacted(broker: &Broker, files: &mut Files) -> Result<()> {
    let mut left = (0, 0);
    wait_until("a compacted topic of offsets", STEP_MAX, || {
        files.append(1)?;
        files.wait_for_all()?;
        let records = kcat::records(&broker.kafka, INTERNAL[1])?;
        left = (records.len(), records.last().map_or(0, |last| last.offset + 1));
        Ok(left.1 > 5 && left.0 <= 4)
    })
    .with_context(|| format!("{} records of {} are left", left.0, left.1))
}

#[test]
fn a_group_of_connect_workers_survives_the_death_of_each_and_finds_all_it_knew_in_compacted_topics() -> Result<()> {
    let data = tempfile::tempdir()?;
    let broker = Broker::on_data("connect", data.path(), &["log.cleaner.backoff.ms=100"])?;
    let group = Group::new(&broker)?;
    let mut files = Files::new(group.folder.path())?;
    let mut workers = vec![group.worker()?, group.worker()?];
    let (source, sink) = files.settings(LINES);
    for (name, settings) in [("source", source), ("sink", sink)] {
        let connector = json!({ "name": name, "config": settings });
        workers[0].ask_until_done("POST", "/connectors", Some(&connector), STEP_MAX)?;
    }
    files.append(100)?;
    files.wait_for_all().with_context(|| workers[0].program.tail())?;

    // the worker that reads the file dies: the other takes over
    let victim = wait_running(&workers[0], None)?;
    let place = workers.iter().position(|worker| worker.rest == victim).context("one of the two")?;
    workers.remove(place).program.kill()?;
    files.append(100)?;
    let mut survivor = workers.remove(0);
    ensure!(wait_running(&survivor, Some(&survivor))? != victim);
    files.wait_for_all().with_context(|| survivor.program.tail())?;

    // it dies as well: what a new one knows, it has from the topics
    write_until_compacted(&broker, &mut files)?;
    wait_offsets(&broker, &survivor, &files)?;
    let before = files.arrived()?.len();
    survivor.program.kill()?;
    let last = group.worker()?;
    files.append(50)?;
    wait_running(&last, Some(&last))?;
    files.wait_for_all().with_context(|| last.program.tail())?;
    wait_offsets(&broker, &last, &files)?;
    let arrived = files.arrived()?;
    ensure!(
        arrived[before..].iter().copied().eq(files.written - 50..files.written),
        "not from where they were: {arrived:?}"
    );

    offsets_are_reset_and_connectors_go(&broker, &last, &files)?;
    internal_topics_are_compacted(&broker)
}

/// The sink starts over when its offsets are deleted; a connector that is deleted is gone.
fn offsets_are_reset_and_connectors_go(broker: &Broker, worker: &Worker, files: &Files) -> Result<()> {
    let before = files.arrived()?.len();
    worker.ask_until_done("PUT", "/connectors/sink/stop", None, STEP_MAX)?;
    wait_until("a sink without tasks", STEP_MAX, || {
        let (_, status) = worker.ask("GET", "/connectors/sink/status", None)?;
        Ok(status["connector"]["state"] == "STOPPED" && status["tasks"].as_array().is_some_and(Vec::is_empty))
    })?;
    worker.ask_until_done("DELETE", "/connectors/sink/offsets", None, STEP_MAX)?;
    worker.ask_until_done("PUT", "/connectors/sink/resume", None, STEP_MAX)?;
    let again = usize::try_from(carried(broker)?)?;
    wait_until("all lines once more", STEP_MAX, || Ok(files.arrived()?.len() == before + again)).with_context(
        || format!("{before} and {again} lines, not {:?}", files.arrived().map(|arrived| arrived.len())),
    )?;
    worker.ask_until_done("DELETE", "/connectors/source", None, STEP_MAX)?;
    wait_until("one connector left", STEP_MAX, || Ok(worker.ask("GET", "/connectors", None)? == (200, json!(["sink"]))))
}

fn internal_topics_are_compacted(broker: &Broker) -> Result<()> {
    let described =
        tool_ok(&["topics", "--bootstrap-server", &broker.kafka, "--describe", "--topic", &INTERNAL.join("|")])?;
    for topic in INTERNAL {
        let head = described.out.lines().find(|line| line.starts_with(&format!("Topic: {topic}\t")));
        ensure!(head.is_some_and(|head| head.contains("cleanup.policy=compact")), "{topic}: {}", described.out);
    }
    Ok(())
}

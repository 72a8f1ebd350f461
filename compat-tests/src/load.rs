//! Load on a cluster by real clients that write down what they do, and the last look at what is there afterwards.
//!
//! Owns the client processes and their histories. Does not own the judgement (`checker`).
//! Invariant: a history is read only when its writers have ended.

use std::fmt::Write as _;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::checker::history::History;
use crate::cluster::Cluster;
use crate::paths;
use crate::program::{Program, run, wait_until};
use crate::replicas;

const ACKS_MAX: Duration = Duration::from_secs(90);
const END_MAX: Duration = Duration::from_secs(150);
const FINAL_MAX: Duration = Duration::from_secs(300);
/// How long replicas may need for what the high watermark has passed.
const REPLICAS_MAX: Duration = Duration::from_secs(30);

/// Nanoseconds of the machine's monotonic clock, as the clients write them.
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let part = |part: i64| u64::try_from(part).unwrap_or(0);
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

/// One producer.
#[derive(Clone, Debug)]
pub struct Producer {
    /// `librdkafka` or `java`.
    pub client: &'static str,
    pub rate: u32,
    /// Settings of the client that differ from its defaults, beside acks=all, idempotence and no limit on time.
    pub settings: Vec<String>,
}

impl Producer {
    pub fn new(client: &'static str, rate: u32) -> Producer {
        Producer { client, rate, settings: Vec::new() }
    }
}

/// Fetches what the clients need, so that their start takes no time from a test.
pub fn prepare_clients() -> Result<()> {
    let (program, status) = run("history-setup", &mut command(&["setup"])?, "", Duration::from_secs(600))?;
    ensure!(status.success(), "setting up the clients ended with {status}\n{}", program.tail());
    Ok(())
}

fn command(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(paths::suites().join("history/run.sh"));
    command.args(arguments).env("CARGO_TARGET_DIR", paths::target()?);
    Ok(command)
}

/// Clients at work on one topic.
#[derive(Debug)]
pub struct Load {
    pub topic: String,
    pub partitions: i32,
    producers: Vec<(String, Program, u64)>,
    consumers: Vec<Program>,
}

impl Load {
    /// Starts the producers and one consumer of each of these clients, and waits until every producer has acknowledgements.
    pub fn start(cluster: &Cluster, topic: &str, producers: &[Producer], consumers: &[&str]) -> Result<Load> {
        let partitions = i32::try_from(cluster.admin().partitions(topic)?.len())?;
        let (bootstrap, count) = (cluster.bootstrap(), partitions.to_string());
        let mut load = Load { topic: topic.into(), partitions, producers: Vec::new(), consumers: Vec::new() };
        for (at, producer) in producers.iter().enumerate() {
            let name = format!("{}-{at}", producer.client);
            let rate = format!("rate={}", producer.rate);
            let mut arguments = vec![producer.client, "produce", &bootstrap, topic, &count, &name, &rate];
            arguments.extend(producer.settings.iter().map(String::as_str));
            let program = Program::start(&name, command(&arguments)?.stdin(Stdio::piped()))?;
            load.producers.push((name, program, 0));
        }
        for (at, client) in consumers.iter().enumerate() {
            let name = format!("{client}-reader-{at}");
            let mut reader = command(&[client, "consume", &bootstrap, topic, &count, &name])?;
            load.consumers.push(Program::start(&name, reader.stdin(Stdio::piped()))?);
        }
        load.wait_for_acks()?;
        Ok(load)
    }

    pub fn names(&self) -> Vec<String> {
        self.producers.iter().map(|(name, _, _)| name.clone()).collect()
    }

    /// Waits until each producer has got an acknowledgement from every partition, of records that it sent after this call.
    pub fn wait_for_acks(&mut self) -> Result<()> {
        let (since, partitions) = (now(), usize::try_from(self.partitions)?);
        for (name, program, position) in &mut self.producers {
            let mut acked = std::collections::BTreeSet::new();
            wait_until(&format!("acknowledgements for {name} from {partitions} partitions"), ACKS_MAX, || {
                if let Some(status) = program.has_ended()? {
                    bail!("{name} ended with {status}");
                }
                for line in new_lines(&program.stdout, position)?.lines().filter(|line| line.contains("\"ok\"")) {
                    let line: serde_json::Value = serde_json::from_str(line)?;
                    if line["t0"].as_u64().is_some_and(|begun| begun >= since) {
                        acked.insert(line["k"].as_str().unwrap_or_default().to_owned());
                    }
                }
                Ok(acked.len() == partitions)
            })
            .with_context(|| program.tail())?;
        }
        Ok(())
    }

    /// Ends the clients and returns what they wrote.
    pub fn stop(mut self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        let programs = self.producers.iter_mut().map(|(_, program, _)| program);
        let mut programs: Vec<&mut Program> = programs.chain(&mut self.consumers).collect();
        programs.iter_mut().for_each(|program| program.close_input());
        for program in programs {
            let status = program.wait(END_MAX)?;
            ensure!(status.success(), "a client ended with {status}\n{}", program.tail());
            files.push(program.stdout.clone());
        }
        Ok(files)
    }
}

/// Whole lines that were written behind a position, which moves on.
fn new_lines(file: &PathBuf, position: &mut u64) -> Result<String> {
    let mut file = std::fs::File::open(file)?;
    file.seek(SeekFrom::Start(*position))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    bytes.truncate(whole);
    *position += whole as u64;
    Ok(String::from_utf8(bytes)?)
}

/// Ends the load, reads everything, compares the replicas on all running nodes: the whole history.
pub fn finish(cluster: &Cluster, load: Load, nemesis: &[(u64, String)]) -> Result<History> {
    let (topic, partitions) = (load.topic.clone(), load.partitions);
    let mut history = History::default();
    for file in load.stop()? {
        history.add(&std::fs::read_to_string(&file)?).with_context(|| format!("in {}", file.display()))?;
    }
    let words = ["librdkafka", "final", &cluster.bootstrap(), &topic, &partitions.to_string(), "last-reader"];
    let (reader, status) = run("last-reader", &mut command(&words)?, "", FINAL_MAX)?;
    ensure!(status.success(), "the last reader ended with {status}\n{}", reader.tail());
    history.add(&reader.output()?)?;
    let copies = replica_lines(cluster, &topic, &mut history)?;
    history.add(&copies)?;
    let mut marked = String::new();
    for (at, what) in nemesis {
        let _ = writeln!(marked, "{}", serde_json::json!({"f": "nemesis", "t1": at, "what": what}));
    }
    history.add(&marked)?;
    Ok(history)
}

/// The batches of every replica on a running node, once they reach the high watermarks that the last reader was told.
fn replica_lines(cluster: &Cluster, topic: &str, history: &mut History) -> Result<String> {
    let limit = Instant::now() + REPLICAS_MAX;
    let mut lines = String::new();
    for partition in cluster.admin().partitions(topic)? {
        let key = history.name(&format!("{topic}-{}", partition.index));
        let high = history.ends.get(&key).copied().unwrap_or(0);
        for id in &partition.replicas {
            let node = cluster.node(*id)?;
            if !node.is_running() {
                continue;
            }
            let mut batches = replicas::batches(&node.data, topic, partition.index)?;
            while batches.last().map_or(0, |batch| batch.last + 1) < high && Instant::now() < limit {
                std::thread::sleep(Duration::from_millis(50));
                batches = replicas::batches(&node.data, topic, partition.index)?;
            }
            lines += &replicas::lines(*id, topic, partition.index, &batches);
        }
    }
    Ok(lines)
}

/// The longest time between two acknowledgements of a producer from one partition, of those that lie in `from..to`, the pause that
/// contains `from` included. In milliseconds; nothing when it got none in that time.
pub fn longest_gap(history: &History, producer: &str, partition: &str, from: u64, to: u64) -> Option<f64> {
    let mut acks: Vec<u64> = history
        .sends
        .iter()
        .filter(|send| send.offset.is_some() && history.text(send.key) == partition)
        .filter(|send| history.text(send.value.producer) == producer)
        .map(|send| send.ended)
        .collect();
    acks.sort_unstable();
    let begun = acks.partition_point(|at| *at < from).saturating_sub(1);
    let ended = acks.partition_point(|at| *at < to);
    let window = acks.get(begun..(ended + 1).min(acks.len()))?;
    let longest = window.windows(2).filter_map(|pair| Some(pair.last()? - pair.first()?)).max()?;
    Some(longest as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_counts_the_pause_in_which_the_fault_lies_and_ends_with_the_window() {
        let mut history = History::default();
        for (n, at) in [10, 20, 30, 90, 100, 300].into_iter().enumerate() {
            let at = at * 1_000_000u64;
            let line = format!(r#"{{"f":"send","p":"a","n":{n},"k":"t-0","t0":{at},"t1":{at},"e":"ok","o":{n}}}"#);
            history.add(&(line + "\n")).unwrap();
        }
        let gap = |from: u64, to: u64| longest_gap(&history, "a", "t-0", from * 1_000_000, to * 1_000_000);
        assert_eq!(gap(35, 95), Some(60.0));
        assert_eq!(gap(5, 25), Some(10.0));
        assert_eq!(gap(95, 150), Some(200.0));
        assert_eq!(longest_gap(&history, "b", "t-0", 0, 1), None);
    }
}

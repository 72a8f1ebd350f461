//! Log shippers keep shipping while the node is killed: rsyslog (omkafka), syslog-ng (kafka-c) and kcat.
//!
//! Each runs twice at the same time, with idempotence and without; a consumer group reads along all the time.
//! 200,000 lines in all. A third is in the files at the start; another is added while the node is down, twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use compat_tests::broker::Broker;
use compat_tests::paths;
use compat_tests::program::{Program, run, unique, wait_until};

const SHIPPERS: [&str; 3] = ["rsyslog", "syslog-ng", "kcat"];
const LINES_EACH: usize = 33_336;
const LINES: usize = LINES_EACH * SHIPPERS.len() * 2;
const SET_UP_MAX: Duration = Duration::from_secs(300);
const STEP_MAX: Duration = Duration::from_secs(120);

fn command(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(paths::suites().join("shippers/run.sh"));
    command.args(arguments).env("CARGO_TARGET_DIR", paths::target()?);
    Ok(command)
}

/// One shipper at work: the file that it follows and the topic that it fills.
struct Shipment {
    shipper: &'static str,
    topic: String,
    idempotent: bool,
    file: PathBuf,
    lines: usize,
    program: Option<Program>,
}

impl Shipment {
    fn line(&self, number: usize) -> String {
        format!("{} line {number:06} of a service that has something to say", self.topic)
    }

    /// Appends the next third of the lines.
    fn write_third(&mut self) -> Result<()> {
        let mut file = BufWriter::new(OpenOptions::new().create(true).append(true).open(&self.file)?);
        for _ in 0..LINES_EACH / 3 {
            writeln!(file, "{}", self.line(self.lines))?;
            self.lines += 1;
        }
        Ok(file.flush()?)
    }

    fn new(shipper: &'static str, idempotent: bool, folder: &Path) -> Shipment {
        let topic = format!("ship-{shipper}-{idempotent}-{}", unique());
        let file = folder.join(format!("{topic}.log"));
        Shipment { shipper, topic, idempotent, file, lines: 0, program: None }
    }

    /// Writes the first third of the lines and starts the shipper on them.
    fn start(&mut self, broker: &Broker) -> Result<()> {
        self.write_third()?;
        let folder = self.file.with_extension("work").display().to_string();
        let (file, idempotent) = (self.file.display().to_string(), self.idempotent.to_string());
        let mut command = command(&[self.shipper, &broker.kafka, &self.topic, &file, &folder, &idempotent])?;
        self.program = Some(Program::start(self.shipper, &mut command)?);
        Ok(())
    }

    /// kcat ends at this line; to the others it would be one more.
    fn write_end(&self) -> Result<()> {
        if self.shipper == "kcat" {
            OpenOptions::new().append(true).open(&self.file)?.write_all(b"end\n")?;
        }
        Ok(())
    }

    /// `log` is what the topic holds, by offset.
    fn check(&self, log: &BTreeMap<usize, String>) -> Result<()> {
        let want: Vec<String> = (0..self.lines).map(|number| self.line(number)).collect();
        let values: Vec<&String> = log.values().collect();
        ensure!(log.keys().copied().eq(0..log.len()), "{}: the group missed an offset", self.topic);
        let arrived: BTreeSet<&String> = log.values().collect();
        let missing = want.iter().filter(|line| !arrived.contains(line)).count();
        ensure!(missing == 0, "{}: {missing} of {} lines are missing", self.topic, want.len());
        println!("{}: {} lines, {} records", self.topic, want.len(), values.len());
        if self.idempotent {
            ensure!(values.len() == want.len(), "{}: {} records for {} lines", self.topic, values.len(), want.len());
            ensure!(values.into_iter().eq(want.iter()), "{}: not in order", self.topic);
        }
        Ok(())
    }
}

/// What the group has read so far: a value for each topic and offset.
struct Group {
    consumer: Program,
    output: File,
    unfinished: String,
    logs: BTreeMap<String, BTreeMap<usize, String>>,
    lines: BTreeSet<String>,
}

impl Group {
    fn join(broker: &Broker, topics: &[&str]) -> Result<Group> {
        let group = format!("ship-{}", unique());
        let arguments = [&["consume", broker.kafka.as_str(), &group], topics].concat();
        let consumer = Program::start("ship-consumer", &mut command(&arguments)?)?;
        wait_until("the topics of the group", STEP_MAX, || Ok(consumer.output()?.contains("ready")))
            .with_context(|| consumer.tail())?;
        let output = File::open(&consumer.stdout)?;
        Ok(Group { consumer, output, unfinished: String::new(), logs: BTreeMap::new(), lines: BTreeSet::new() })
    }

    /// Takes in what the consumer has printed since the last call.
    fn update(&mut self) -> Result<()> {
        if let Some(status) = self.consumer.has_ended()? {
            bail!("the consumer ended with {status}\n{}", self.consumer.tail());
        }
        self.output.read_to_string(&mut self.unfinished)?;
        let rest = self.unfinished.rfind('\n').map_or(0, |at| at + 1);
        let rest = self.unfinished.split_off(rest);
        for line in std::mem::replace(&mut self.unfinished, rest).lines() {
            let [topic, offset, value] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else { continue };
            let log = self.logs.entry(topic.to_string()).or_default();
            let before = log.insert(offset.parse()?, value.to_string());
            // read again after the crash: what was there once must still be there
            ensure!(
                before.as_deref().is_none_or(|before| before == value),
                "{topic} {offset}: {before:?}, then {value}"
            );
            self.lines.insert(value.to_string());
        }
        Ok(())
    }

    fn wait_for(&mut self, lines: usize) -> Result<()> {
        wait_until(&format!("{lines} of {LINES} lines"), STEP_MAX, || {
            self.update()?;
            Ok(self.lines.len() >= lines)
        })
        .with_context(|| self.logs.iter().map(|(topic, log)| format!("{topic}: {}\n", log.len())).collect::<String>())
    }
}

#[test]
fn shippers_lose_no_line_while_the_node_is_killed_twice() -> Result<()> {
    let (setup, status) = run("shippers", &mut command(&["setup"])?, "", SET_UP_MAX)?;
    ensure!(status.success(), "{}", setup.tail());
    let folder = tempfile::tempdir()?;
    let mut broker = Broker::on_data("shippers", &folder.path().join("data"), &[])?;
    let each = SHIPPERS.iter().flat_map(|shipper| [(shipper, true), (shipper, false)]);
    let mut shipments: Vec<Shipment> =
        each.map(|(shipper, idempotent)| Shipment::new(shipper, idempotent, folder.path())).collect();
    let topics: Vec<&str> = shipments.iter().map(|shipment| shipment.topic.as_str()).collect();
    let mut group = Group::join(&broker, &topics)?;
    shipments.iter_mut().try_for_each(|shipment| shipment.start(&broker))?;
    for third in [1, 2] {
        group.wait_for(LINES / 3 * (third - 1) + LINES / 12)?;
        broker.kill_and_restart_after(|| shipments.iter_mut().try_for_each(Shipment::write_third))?;
    }
    shipments.iter().try_for_each(Shipment::write_end)?;
    group.wait_for(LINES)?;
    for shipment in &shipments {
        let log = group.logs.get(&shipment.topic).context("the group read nothing")?;
        shipment.check(log).with_context(|| shipment.program.as_ref().map_or_else(String::new, Program::tail))?;
    }
    Ok(())
}

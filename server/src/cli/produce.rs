//! `weir produce`: records from the command line, from lines, or from JSON.
//!
//! Owns where records come from. Does not own batches and repeats: `client::produce` does.
//! Invariant: a command that returns 0 has had every record acknowledged as `--acks` asks.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use model::batch::Codec;

use super::at::{self, At};
use super::show::{Output, Progress, counted, print, print_json};
use super::{record, seed, time};
use crate::client::produce::{Acks, NewRecord, Producer, Written};
use crate::client::refused::AskError;
use crate::client::router::Router;

/// Lines that were read and are not sent yet.
const LINES: usize = 1024;
/// Records are sent when nothing came for so long.
const LINGER: Duration = Duration::from_millis(50);
/// Of one line.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Debug, Args)]
pub struct Produce {
    /// The topic to write to
    #[arg(value_name = "TOPIC", add = ArgValueCompleter::new(at::topics))]
    topic: String,
    /// Records to write, one for each VALUE [default: one for each line of stdin]
    #[arg(value_name = "VALUE")]
    values: Vec<String>,
    /// The key of every record
    #[arg(short, long, conflicts_with = "key_separator")]
    key: Option<String>,
    /// What stands between key and value in each line [default: lines are values]
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// A header of every record; may be given many times
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = record::header)]
    headers: Vec<(String, String)>,
    /// The partition of every record [default: by the key, as Kafka's clients do]
    #[arg(short, long, value_name = "N")]
    partition: Option<i32>,
    /// The time of every record: milliseconds since 1970, 2026-11-21T10:00:00Z or -1h [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = record_time)]
    timestamp: Option<i64>,
    /// A record without a value: deletes its key from a compacted topic
    #[arg(long, requires = "key", conflicts_with_all = ["values", "input"])]
    tombstone: bool,
    /// How stdin is read: a value in each line, or JSON as `weir consume -o json` writes it
    #[arg(short, long, value_enum, default_value_t = Input::Lines)]
    input: Input,
    /// Write to the partitions that the JSON names [default: by the key]
    #[arg(long)]
    keep_partitions: bool,
    /// How records are compressed
    #[arg(short = 'z', long, value_enum, default_value_t = Compression::None)]
    compression: Compression,
    /// Who must have a record before it counts as written: all replicas in sync, the leader, or nobody
    #[arg(long, value_enum, default_value_t = AcksChoice::All)]
    acks: AcksChoice,
    /// How the result is shown: for people, with more columns, or as JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    at: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Input {
    Lines,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AcksChoice {
    All,
    Leader,
    None,
}

fn record_time(text: &str) -> Result<i64, String> {
    time::parse(text, time::now_ms()).map_err(|error| format!("{error:#}"))
}

/// First offset and number of records, by partition.
#[derive(Default)]
struct Tally(BTreeMap<i32, (Option<i64>, u64)>);

impl Tally {
    fn add(&mut self, written: &Written) {
        let entry = self.0.entry(written.partition).or_insert((written.first, 0));
        entry.1 += u64::try_from(written.count).unwrap_or(0);
    }

    fn records(&self) -> u64 {
        self.0.values().map(|(_, count)| count).sum()
    }
}

impl Produce {
    pub fn run(self) -> anyhow::Result<()> {
        let mut router = self.at.connect()?;
        let acks = match self.acks {
            AcksChoice::All => Acks::All,
            AcksChoice::Leader => Acks::Leader,
            AcksChoice::None => Acks::None,
        };
        let codec = match self.compression {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        };
        let mut producer = Producer::new(&mut router, &self.topic, acks, codec, seed())?;
        let mut tally = Tally::default();
        if self.tombstone {
            let record = self.dressed(NewRecord { timestamp: time::now_ms(), ..NewRecord::default() });
            producer.add(&mut router, &record)?.iter().for_each(|written| tally.add(written));
        } else if self.values.is_empty() {
            self.lines_of_stdin(&mut router, &mut producer, &mut tally)?;
        } else {
            for value in &self.values {
                let record = record::from_line(value.as_bytes(), self.key_separator.as_deref(), time::now_ms())?;
                producer.add(&mut router, &self.dressed(record))?.iter().for_each(|written| tally.add(written));
            }
        }
        producer.flush(&mut router, |written| tally.add(written))?;
        self.report(&tally)
    }

    fn report(&self, tally: &Tally) -> anyhow::Result<()> {
        let runs: Vec<(i32, Option<i64>, u64)> =
            tally.0.iter().map(|(partition, (first, count))| (*partition, *first, *count)).collect();
        if self.output == Output::Json {
            return print_json(&record::written_json(&self.topic, &runs));
        }
        let records = counted(usize::try_from(tally.records()).unwrap_or(usize::MAX), "record");
        let run = |(partition, first, count): &(i32, Option<i64>, u64)| match first {
            Some(first) => format!("partition {partition}: {count} from offset {first}"),
            None => format!("partition {partition}: {count}"),
        };
        let runs = runs.iter().map(run).collect::<Vec<_>>().join(", ");
        let runs = if runs.is_empty() { runs } else { format!(" ({runs})") };
        print(&format!("{records} written to {}{runs}\n", self.topic))
    }

    /// With what holds for every record.
    fn dressed(&self, mut record: NewRecord) -> NewRecord {
        let own = |text: &String| text.clone().into_bytes();
        if let Some(key) = &self.key {
            record.key = Some(own(key));
        }
        record.headers.extend(self.headers.iter().map(|(name, value)| (own(name), Some(own(value)))));
        record.timestamp = self.timestamp.unwrap_or(record.timestamp);
        record.partition = self.partition.or(record.partition);
        record
    }

    fn lines_of_stdin(&self, router: &mut Router, producer: &mut Producer, tally: &mut Tally) -> anyhow::Result<()> {
        let lines = read_lines()?;
        let mut progress = Progress::shy();
        let mut number = 0_u64;
        loop {
            let line = match lines.recv_timeout(LINGER) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                // Whoever writes takes its time: what came is not to wait for it.
                Err(RecvTimeoutError::Timeout) => {
                    producer.flush(router, |written| tally.add(written))?;
                    match lines.recv() {
                        Ok(line) => line,
                        Err(_) => return Ok(()),
                    }
                }
            };
            number += 1;
            if self.input == Input::Json && line.as_ref().is_ok_and(|line| line.iter().all(u8::is_ascii_whitespace)) {
                continue;
            }
            let added = match line.and_then(|line| self.of_line(&line)) {
                Ok(record) => producer.add(router, &self.dressed(record)),
                Err(wrong) => return Err(stopped(wrong, number, router, producer, tally)),
            };
            match added {
                Ok(None) => {}
                Ok(Some(written)) => {
                    tally.add(&written);
                    progress.show(&format!("{} records written", tally.records()), false);
                }
                Err(wrong @ AskError::NoPartition { .. }) => {
                    return Err(stopped(wrong.into(), number, router, producer, tally));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn of_line(&self, line: &[u8]) -> anyhow::Result<NewRecord> {
        match self.input {
            Input::Lines => record::from_line(line, self.key_separator.as_deref(), time::now_ms()),
            Input::Json => {
                let text = std::str::from_utf8(line).context("no UTF-8, so no JSON")?;
                record::from_json(text, time::now_ms(), self.keep_partitions)
            }
        }
    }
}

/// What is told of a line that cannot be written, once what was taken before it is.
fn stopped(
    wrong: anyhow::Error,
    number: u64,
    router: &mut Router,
    producer: &mut Producer,
    tally: &mut Tally,
) -> anyhow::Error {
    let flushed = producer.flush(router, |written| tally.add(written));
    let before = counted(usize::try_from(tally.records()).unwrap_or(usize::MAX), "record");
    match flushed {
        Ok(()) => wrong.context(format!("line {number} of stdin; written before it: {before}")),
        Err(error) => anyhow!(error).context(format!(
            "line {number} of stdin: {wrong:#}; written before it: {before}, and then writing failed"
        )),
    }
}

/// The lines of stdin without their ends, read ahead by a thread of their own.
fn read_lines() -> anyhow::Result<Receiver<anyhow::Result<Vec<u8>>>> {
    let (sender, receiver) = sync_channel(LINES);
    let read = move || {
        let mut stdin = std::io::stdin().lock();
        loop {
            let mut line = Vec::new();
            let result = read_line(&mut stdin, &mut line);
            let message = match result {
                Ok(false) => return,
                Ok(true) => Ok(line),
                Err(error) => Err(error),
            };
            let ends = message.is_err();
            if sender.send(message).is_err() || ends {
                return;
            }
        }
    };
    std::thread::Builder::new().name("stdin".to_owned()).spawn(read).context("no thread to read stdin")?;
    Ok(receiver)
}

/// `false` at the end.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> anyhow::Result<bool> {
    let most = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let read = std::io::Read::take(&mut *input, most).read_until(b'\n', line).context("reading stdin")?;
    ensure!(read <= LINE_BYTES_MAX, "a line has more than {LINE_BYTES_MAX} bytes; is stdin binary?");
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(read > 0)
}

//! `weir consume`: records of topics, from one position to another, on and on, or as a member of a group.
//!
//! Owns what is read and when reading ends. Does not own fetching and membership: `client` does.
//! Invariant: a group's offsets are committed only behind records that were written to stdout.

use std::collections::BTreeMap;

use anyhow::ensure;
use clap::Args;
use clap_complete::ArgValueCompleter;
use regex::bytes::Regex;

use super::at::{self, At};
use super::position::{self, Position};
use super::record::{self, Format};
use super::show::{Output, Progress, write_out};
use super::signal::Stop;
use super::time;
use crate::client::consumed::Consumed;
use crate::client::fetch::{Fetched, Fetcher};
use crate::client::group;
use crate::client::member::{Member, Pulse};
use crate::client::router::{Router, TopicPartition};

/// How long a leader without records is waited for.
const WAIT_MS: i32 = 500;
/// How often a group's offsets are committed while records come.
const COMMIT_RECORDS: u64 = 10_000;

#[derive(Debug, Args)]
pub struct Consume {
    /// Topics to read
    #[arg(value_name = "TOPIC", required = true, add = ArgValueCompleter::new(at::topics))]
    topics: Vec<String>,
    /// Where to begin: start, end, 7 (an offset), +7 (behind the start), -7 (before the end), @TIME (@-1h, @2026-11-21T10:00:00Z)
    /// [default: start; with --group: what the group has committed, else start]. Given with --group, it holds for the partitions that this member
    /// gets first, whatever the group has committed
    #[arg(short, long, value_name = "POSITION", allow_hyphen_values = true, value_parser = position::parse)]
    from: Option<Position>,
    /// Where to end, the record there not included; written as --from [default: where the topic ends now]
    #[arg(short, long, value_name = "POSITION", allow_hyphen_values = true, value_parser = position::parse)]
    to: Option<Position>,
    /// Only these partitions, with commas between them
    #[arg(short, long, value_name = "N,…", value_delimiter = ',', conflicts_with = "group")]
    partitions: Vec<i32>,
    /// End after so many records
    #[arg(short = 'n', long, value_name = "N")]
    max: Option<u64>,
    /// Do not end: go on with what is written later, until Ctrl-C
    #[arg(long, conflicts_with = "to")]
    follow: bool,
    /// Read as a member of this group, and commit what was read
    #[arg(short, long, value_name = "GROUP", conflicts_with = "to", add = ArgValueCompleter::new(at::groups))]
    group: Option<String>,
    /// Only records whose key, value or a header matches
    #[arg(long, value_name = "REGEX")]
    grep: Option<Regex>,
    /// Also records of transactions that are open or were aborted
    #[arg(long)]
    uncommitted: bool,
    /// How a record is written: %t topic, %p partition, %o offset, %T time in ms, %d date, %k key, %v value, %h headers, %K and %V
    /// sizes, \n, \t
    #[arg(long, value_name = "FORMAT", value_parser = Format::parse, conflicts_with = "output")]
    format: Option<Format>,
    /// How a record is written: its value alone, a line with everything, or a JSON object
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    at: At,
}

/// What was read and shown so far.
#[derive(Debug, Default)]
struct Count {
    read: u64,
    shown: u64,
}

impl Consume {
    pub fn run(self) -> anyhow::Result<()> {
        let mut router = self.at.connect()?;
        match &self.group {
            Some(group) => self.as_member(&mut router, group),
            None => self.alone(&mut router),
        }
    }

    /// All partitions that are asked for.
    fn all_partitions(&self, router: &mut Router) -> anyhow::Result<Vec<TopicPartition>> {
        let mut all = Vec::new();
        for name in &self.topics {
            let topic = router.topic(name, false)?;
            for partition in &self.partitions {
                let known = topic.partitions.iter().any(|one| one.index == *partition);
                ensure!(
                    known,
                    "{name} has no partition {partition}, only 0 to {}",
                    topic.partitions.len().saturating_sub(1)
                );
            }
            let wanted = |index: &i32| self.partitions.is_empty() || self.partitions.contains(index);
            let indexes = topic.partitions.iter().map(|one| one.index).filter(wanted);
            all.extend(indexes.map(|index| (name.clone(), index)));
        }
        Ok(all)
    }

    fn alone(&self, router: &mut Router) -> anyhow::Result<()> {
        let partitions = self.all_partitions(router)?;
        let bounds = position::bounds(router, &partitions, !self.uncommitted)?;
        let from = position::resolve(router, &bounds, self.from.unwrap_or(Position::Start))?;
        let to = match self.follow {
            true => None,
            false => Some(position::resolve(router, &bounds, self.to.unwrap_or(Position::End))?),
        };
        let stop = self.follow.then(Stop::on_signal).transpose()?;
        let total = to.as_ref().map(|to| distance(&from, to));
        let mut fetcher = Fetcher::new(from, !self.uncommitted);
        let mut count = Count::default();
        let mut progress = Progress::shy();
        loop {
            if let Some(to) = &to {
                let done: Vec<TopicPartition> = fetcher
                    .positions()
                    .iter()
                    .filter(|(at, position)| to.get(*at).is_none_or(|to| *position >= to))
                    .map(|(at, _)| at.clone())
                    .collect();
                done.iter().for_each(|at| fetcher.stop(at));
            }
            let stopped = stop.as_ref().is_some_and(Stop::is_set);
            let of = total.map(|total| format!(" of at most {total}")).unwrap_or_default();
            let done = fetcher.positions().is_empty() || stopped || self.is_enough(&count);
            progress.show(&format!("{} records read{of}, {} shown", count.read, count.shown), done);
            if done {
                return Ok(());
            }
            for fetched in fetcher.poll(router, WAIT_MS)? {
                let limit = to.as_ref().and_then(|to| to.get(&fetched.at)).copied().unwrap_or(i64::MAX);
                self.show(&fetched, limit, &mut count)?;
            }
        }
    }

    fn is_enough(&self, count: &Count) -> bool {
        self.max.is_some_and(|max| count.shown >= max)
    }

    /// Writes the records before `limit`. Gives the position behind the last one that was dealt with.
    fn show(&self, fetched: &Fetched, limit: i64, count: &mut Count) -> anyhow::Result<i64> {
        let mut out = Vec::new();
        let mut next = fetched.next;
        for record in fetched.records.iter().filter(|record| record.offset < limit) {
            if self.is_enough(count) {
                next = record.offset;
                break;
            }
            count.read += 1;
            if self.grep.as_ref().is_some_and(|grep| !matches(grep, record)) {
                continue;
            }
            count.shown += 1;
            self.put(&mut out, &fetched.at, record);
        }
        if !out.is_empty() {
            write_out(&out)?;
        }
        Ok(next)
    }

    fn put(&self, out: &mut Vec<u8>, (topic, partition): &TopicPartition, record: &Consumed) {
        if let Some(format) = &self.format {
            return format.put(out, topic, *partition, record);
        }
        match self.output {
            Output::Text => out.extend_from_slice(record.value.as_deref().unwrap_or_default()),
            Output::Json => out.extend_from_slice(record::to_json(topic, *partition, record).as_bytes()),
            Output::Wide => {
                let text = |bytes: &Option<Vec<u8>>| {
                    let text = bytes.as_deref().map_or("NULL".into(), String::from_utf8_lossy);
                    text.escape_debug().to_string()
                };
                let when = time::shown(record.timestamp);
                let (key, value) = (text(&record.key), text(&record.value));
                let headers = record::headers(record).escape_debug().to_string();
                let place = format!("{topic}/{partition}@{}", record.offset);
                out.extend_from_slice(format!("{place}\t{when}\t{key}\t{value}\t{headers}").trim_end().as_bytes());
            }
        }
        out.push(b'\n');
    }

    fn as_member(&self, router: &mut Router, name: &str) -> anyhow::Result<()> {
        for topic in &self.topics {
            router.topic(topic, false)?;
        }
        let stop = Stop::on_signal()?;
        let mut member = Member::new(name, self.topics.clone());
        let mut count = Count::default();
        let ended = self.join_and_read(router, &mut member, name, &stop, &mut count);
        // Also after a failure: the others need not wait for the session to end.
        let left = member.leave(router);
        ended?;
        Ok(left?)
    }

    fn join_and_read(
        &self,
        router: &mut Router,
        member: &mut Member,
        name: &str,
        stop: &Stop,
        count: &mut Count,
    ) -> anyhow::Result<()> {
        // Once: after a rebalance the group stands where its members have read to.
        let mut from = self.from;
        loop {
            let assigned = member.join(router)?;
            let positions = self.positions_of(router, name, &assigned, from.take())?;
            if self.read_as(router, member, positions, stop, count)? {
                return Ok(());
            }
        }
    }

    /// Where `from` says; without it where the group stands, or where it is to begin.
    fn positions_of(
        &self,
        router: &mut Router,
        name: &str,
        assigned: &[TopicPartition],
        from: Option<Position>,
    ) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
        let committed = if from.is_some() { BTreeMap::new() } else { group::committed(router, name)? };
        let fresh: Vec<TopicPartition> = assigned.iter().filter(|at| !committed.contains_key(*at)).cloned().collect();
        let bounds = position::bounds(router, &fresh, !self.uncommitted)?;
        let begin = from.or(self.from).unwrap_or(Position::Start);
        let mut positions = position::resolve(router, &bounds, begin)?;
        positions.extend(assigned.iter().filter_map(|at| Some((at.clone(), *committed.get(at)?))));
        Ok(positions)
    }

    /// Reads until the group moves (`false`) or until it is done (`true`).
    fn read_as(
        &self,
        router: &mut Router,
        member: &mut Member,
        positions: BTreeMap<TopicPartition, i64>,
        stop: &Stop,
        count: &mut Count,
    ) -> anyhow::Result<bool> {
        let at: Vec<TopicPartition> = positions.keys().cloned().collect();
        let ends = match self.follow {
            true => BTreeMap::new(),
            false => position::bounds(router, &at, !self.uncommitted)?.end,
        };
        let mut fetcher = Fetcher::new(positions, !self.uncommitted);
        let mut read: BTreeMap<TopicPartition, i64> = BTreeMap::new();
        let mut committed_at = count.read;
        loop {
            let position = |at: &TopicPartition| fetcher.positions().get(at).copied().unwrap_or(0);
            let at_end = !self.follow && ends.iter().all(|(at, end)| position(at) >= *end);
            let done = stop.is_set() || self.is_enough(count) || at_end;
            let pulse = if done { Pulse::Steady } else { member.beat(router)? };
            let due = count.read.saturating_sub(committed_at) >= COMMIT_RECORDS;
            if (done || due || pulse == Pulse::Rebalance) && pulse != Pulse::ShutOut {
                let told = member.commit(router, &std::mem::take(&mut read))?;
                committed_at = count.read;
                if done || told != Pulse::Steady {
                    return Ok(done);
                }
            }
            if pulse != Pulse::Steady {
                return Ok(false);
            }
            if fetcher.positions().is_empty() {
                // Others have all partitions; they may leave.
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            for fetched in fetcher.poll(router, WAIT_MS)? {
                let next = self.show(&fetched, i64::MAX, count)?;
                read.insert(fetched.at, next);
            }
        }
    }
}

fn matches(grep: &Regex, record: &Consumed) -> bool {
    let has = |bytes: &Option<Vec<u8>>| bytes.as_deref().is_some_and(|bytes| grep.is_match(bytes));
    let header = |(name, value): &(Vec<u8>, Option<Vec<u8>>)| grep.is_match(name) || has(value);
    has(&record.key) || has(&record.value) || record.headers.iter().any(header)
}

fn distance(from: &BTreeMap<TopicPartition, i64>, to: &BTreeMap<TopicPartition, i64>) -> i64 {
    let one = |(at, to): (&TopicPartition, &i64)| (to - from.get(at).copied().unwrap_or(*to)).max(0);
    to.iter().map(one).sum()
}

//! `weir group list|describe|seek|delete`.
//!
//! Owns the commands and how they show groups. Invariant: offsets are moved only of a group without members; what a member reads next is
//! its own business until it leaves.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use serde_json::{Value, json};

use super::at::{self, At};
use super::position::{self, Position};
use super::show::{Output, Table, counted, or_dash, print, print_json};
use crate::client::group::{self, Committer, GroupSeen};
use crate::client::offsets::{self, END};
use crate::client::refused::AskError;
use crate::client::router::{Router, TopicPartition};

const GROUP_ID_NOT_FOUND: i16 = 69;

#[derive(Debug, Subcommand)]
pub enum Group {
    /// List the consumer groups of the cluster
    List(List),
    /// Show members, committed offsets and lag of groups
    Describe(Describe),
    /// Move the committed offsets of a group that has no members
    Seek(Seek),
    /// Delete groups that have no members, and their offsets
    Delete(Delete),
}

#[derive(Debug, Args)]
pub struct List {
    /// How the result is shown: for people, with more columns, or as JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Args)]
pub struct Describe {
    /// Ids of groups
    #[arg(value_name = "GROUP", required = true, add = ArgValueCompleter::new(at::groups))]
    groups: Vec<String>,
    /// How the result is shown: for people, with more columns, or as JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Args)]
pub struct Seek {
    /// Id of the group
    #[arg(value_name = "GROUP", add = ArgValueCompleter::new(at::groups))]
    group: String,
    /// Where to: start, end, 7 (an offset), +7 (behind the start), -7 (before the end), @TIME (@-1h, @2026-11-21T10:00:00Z)
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true, value_parser = position::parse)]
    to: Position,
    /// Only this topic; may be given many times [default: all that the group has offsets of]
    #[arg(long, value_name = "TOPIC", add = ArgValueCompleter::new(at::topics))]
    topic: Vec<String>,
    /// Only these partitions, with commas between them
    #[arg(short, long, value_name = "N,…", value_delimiter = ',')]
    partitions: Vec<i32>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// How the result is shown: for people, with more columns, or as JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Args)]
pub struct Delete {
    /// Ids of groups
    #[arg(value_name = "GROUP", required = true, add = ArgValueCompleter::new(at::groups))]
    groups: Vec<String>,
    #[command(flatten)]
    at: At,
}

impl Group {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Group::List(list) => list.run(),
            Group::Describe(describe) => describe.run(),
            Group::Seek(seek) => seek.run(),
            Group::Delete(delete) => delete.run(),
        }
    }
}

impl List {
    fn run(self) -> anyhow::Result<()> {
        let mut router = self.at.connect()?;
        let groups = group::list(&mut router)?;
        let text = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let wide = self.output == Output::Wide;
        let mut lags = BTreeMap::new();
        if self.output != Output::Text {
            for one in &groups {
                lags.insert(one.id.clone(), lag(&mut router, &one.id)?);
            }
        }
        if self.output == Output::Json {
            let one = |one: &group::GroupListed| {
                json!({
                    "group": one.id, "type": one.kind, "state": one.state, "protocol": one.protocol,
                    "coordinator": one.coordinator, "lag": lags.get(&one.id),
                })
            };
            return print_json(&json!({ "groups": groups.iter().map(one).collect::<Vec<_>>() }));
        }
        let mut head = vec!["GROUP", "TYPE", "STATE"];
        if wide {
            head.extend(["PROTOCOL", "COORDINATOR", "LAG"]);
        }
        let mut table = Table::new(head);
        for one in &groups {
            let mut row = vec![one.id.clone(), one.kind.clone(), text(&one.state)];
            if wide {
                row.extend([text(&one.protocol), one.coordinator.to_string(), or_dash(lags.get(&one.id))]);
            }
            table.row(row);
        }
        print(&table.text())
    }
}

/// Where a group stands in one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    pub at: TopicPartition,
    pub committed: Option<i64>,
    /// `None`: the topic is gone, or nobody leads the partition.
    pub end: Option<i64>,
}

impl Standing {
    pub fn lag(&self) -> Option<i64> {
        Some((self.end? - self.committed?).max(0))
    }
}

/// Where a group stands, in all partitions that it committed or has assigned.
pub fn standings(
    router: &mut Router,
    group: &str,
    assigned: impl Iterator<Item = TopicPartition>,
) -> Result<Vec<Standing>, AskError> {
    let committed = group::committed(router, group)?;
    let all: BTreeSet<TopicPartition> = committed.keys().cloned().chain(assigned).collect();
    let names: BTreeSet<&String> = all.iter().map(|(topic, _)| topic).collect();
    let mut led = BTreeSet::new();
    for name in names {
        // A topic that was deleted leaves its offsets behind.
        if let Ok(topic) = router.topic(name, false) {
            let with_leader = topic.partitions.iter().filter(|one| one.leader.is_some());
            led.extend(with_leader.map(|one| (name.clone(), one.index)));
        }
    }
    let ends = offsets::list_all(router, all.iter().filter(|at| led.contains(*at)).cloned(), END)?;
    let one = |at: TopicPartition| Standing { committed: committed.get(&at).copied(), end: ends.get(&at).copied(), at };
    Ok(all.into_iter().map(one).collect())
}

/// Records that a group has not read yet, over all partitions.
pub fn lag(router: &mut Router, group: &str) -> Result<i64, AskError> {
    let standings = standings(router, group, std::iter::empty())?;
    Ok(standings.iter().filter_map(Standing::lag).sum())
}

impl Describe {
    fn run(self) -> anyhow::Result<()> {
        let mut router = self.at.connect()?;
        let mut shown = Vec::new();
        for name in &self.groups {
            let seen = group::describe(&mut router, name)?;
            let assigned = seen.members.iter().flat_map(|member| {
                member
                    .assigned
                    .iter()
                    .flat_map(|(topic, partitions)| partitions.iter().map(move |partition| (topic.clone(), *partition)))
            });
            let assigned: Vec<TopicPartition> = assigned.collect();
            let standings = standings(&mut router, name, assigned.into_iter())?;
            shown.push((seen, standings));
        }
        if self.output == Output::Json {
            let groups: Vec<Value> = shown.iter().map(|(seen, standings)| described_json(seen, standings)).collect();
            return print_json(&json!({ "groups": groups }));
        }
        let wide = self.output == Output::Wide;
        let text = |(seen, standings): &(GroupSeen, Vec<Standing>)| described_text(seen, standings, wide);
        print(&shown.iter().map(text).collect::<Vec<_>>().join("\n"))
    }
}

fn owner<'a>(seen: &'a GroupSeen, at: &TopicPartition) -> Option<&'a group::MemberSeen> {
    seen.members.iter().find(|member| member.assigned.get(&at.0).is_some_and(|own| own.contains(&at.1)))
}

fn described_text(seen: &GroupSeen, standings: &[Standing], wide: bool) -> String {
    let lag: i64 = standings.iter().filter_map(Standing::lag).sum();
    let assignor = if seen.assignor.is_empty() { String::new() } else { format!(", {}", seen.assignor) };
    let mut text = format!(
        "group {}: {}, {}{assignor}, {}, lag {lag}, coordinated by node {}\n",
        seen.id,
        seen.state,
        seen.kind,
        counted(seen.members.len(), "member"),
        seen.coordinator
    );
    let mut head = vec!["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "CLIENT"];
    if wide {
        head.extend(["HOST", "MEMBER", "INSTANCE"]);
    }
    let mut table = Table::new(head);
    for standing in standings {
        let owner = owner(seen, &standing.at);
        let mut row = vec![
            standing.at.0.clone(),
            standing.at.1.to_string(),
            or_dash(standing.committed),
            or_dash(standing.end),
            or_dash(standing.lag()),
            or_dash(owner.map(|member| member.client.clone())),
        ];
        if wide {
            row.push(or_dash(owner.map(|member| member.host.clone())));
            row.push(or_dash(owner.map(|member| member.id.clone())));
            row.push(or_dash(owner.and_then(|member| member.instance.clone())));
        }
        table.row(row);
    }
    text.push_str(&table.text());
    for member in seen.members.iter().filter(|member| member.assigned.values().all(Vec::is_empty)) {
        text.push_str(&format!("member {} ({}, {}) has no partitions\n", member.id, member.client, member.host));
    }
    text
}

fn described_json(seen: &GroupSeen, standings: &[Standing]) -> Value {
    let member = |member: &group::MemberSeen| {
        json!({
            "member": member.id, "instance": member.instance, "client": member.client, "host": member.host,
            "assigned": member.assigned,
        })
    };
    let partition = |standing: &Standing| {
        json!({
            "topic": standing.at.0, "partition": standing.at.1, "committed": standing.committed, "end": standing.end,
            "lag": standing.lag(), "member": owner(seen, &standing.at).map(|member| &member.id),
        })
    };
    json!({
        "group": seen.id,
        "type": seen.kind,
        "state": seen.state,
        "assignor": seen.assignor,
        "coordinator": seen.coordinator,
        "members": seen.members.iter().map(member).collect::<Vec<_>>(),
        "partitions": standings.iter().map(partition).collect::<Vec<_>>(),
        "lag": standings.iter().filter_map(Standing::lag).sum::<i64>(),
    })
}

impl Seek {
    fn run(self) -> anyhow::Result<()> {
        let mut router = self.at.connect()?;
        self.check_empty(&mut router)?;
        let committed = group::committed(&mut router, &self.group)?;
        let partitions = self.partitions(&mut router, &committed)?;
        let bounds = position::bounds(&mut router, &partitions, false)?;
        let wanted = position::resolve(&mut router, &bounds, self.to)?;
        if !self.dry_run {
            group::commit(&mut router, &self.group, &Committer::outside(), &wanted)?;
        }
        if self.output == Output::Json {
            let one = |(at, offset): (&TopicPartition, &i64)| json!({ "topic": at.0, "partition": at.1, "before": committed.get(at), "after": offset });
            let moved: Vec<Value> = wanted.iter().map(one).collect();
            return print_json(&json!({ "group": self.group, "dry_run": self.dry_run, "partitions": moved }));
        }
        let mut table = Table::new(vec!["TOPIC", "PARTITION", "BEFORE", "AFTER"]);
        for (at, offset) in &wanted {
            table.row(vec![at.0.clone(), at.1.to_string(), or_dash(committed.get(at)), offset.to_string()]);
        }
        let done = if self.dry_run { "would be moved" } else { "moved" };
        print(&format!("group {} {done}\n{}", self.group, table.text()))
    }

    fn check_empty(&self, router: &mut Router) -> anyhow::Result<()> {
        match group::describe(router, &self.group) {
            Ok(seen) => {
                let members: Vec<String> =
                    seen.members.iter().map(|member| format!("{} at {}", member.client, member.host)).collect();
                ensure!(
                    members.is_empty(),
                    "group {} has {} ({}): stop its consumers first, they would go on from where they are",
                    self.group,
                    counted(members.len(), "member"),
                    members.join(", ")
                );
                Ok(())
            }
            // It begins with these offsets.
            Err(error) if error.code() == Some(GROUP_ID_NOT_FOUND) && !self.topic.is_empty() => Ok(()),
            Err(error) => Err(error).context("to make a new group with offsets, name its topics with --topic"),
        }
    }

    fn partitions(
        &self,
        router: &mut Router,
        committed: &BTreeMap<TopicPartition, i64>,
    ) -> anyhow::Result<Vec<TopicPartition>> {
        let mut found = Vec::new();
        for name in &self.topic {
            let topic = router.topic(name, false)?;
            found.extend(topic.partitions.iter().map(|one| (name.clone(), one.index)));
        }
        if self.topic.is_empty() {
            found.extend(committed.keys().cloned());
        }
        found.retain(|(_, partition)| self.partitions.is_empty() || self.partitions.contains(partition));
        ensure!(
            !found.is_empty(),
            "group {} has no offsets in such partitions; --topic TOPIC gives it some",
            self.group
        );
        Ok(found)
    }
}

impl Delete {
    fn run(self) -> anyhow::Result<()> {
        let mut router = self.at.connect()?;
        let mut failed = None;
        for name in &self.groups {
            match group::delete(&mut router, name) {
                Ok(()) => print(&format!("group {name} deleted\n"))?,
                Err(error) => {
                    if let Some(earlier) = failed.replace(error) {
                        eprintln!("weir: {earlier}");
                    }
                }
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

//! `weir doctor`: what is wrong with a cluster, and what to do about it.
//!
//! Owns the checks and their limits; those of disks are in `disks`. Invariants: it changes nothing; a check that cannot be made says so
//! and is no problem by itself; the process ends with 10 exactly where something is a problem.

mod disks;

use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::at::At;
use super::show::{Output, Progress, Table, counted, list, print, print_json};
use super::{group as groups, time, topic};
use crate::client::group;
use crate::client::refused::AskError;
use crate::client::router::{Router, TopicPartition, TopicSeen};
use crate::client::{Client, offsets};
use crate::wire::messages::DescribeClusterRequest;

const UNHEALTHY: u8 = 10;
/// Records that are newer than this machine's clock by more.
const SKEW_MS_MAX: i64 = 60_000;
/// Open files that a node should be allowed.
const DESCRIPTORS_MIN: u64 = 65_536;
const MAPS_MIN: u64 = 65_530;
/// Names that are told of many.
const NAMED: usize = 5;

#[derive(Debug, Args)]
pub struct Doctor {
    /// Report groups that are more than so many records behind
    #[arg(long, value_name = "RECORDS", default_value_t = 10_000)]
    lag_max: i64,
    /// How the result is shown: for people, with more columns, or as JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    at: At,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Well,
    /// Could not be found out, or is worth to be known.
    Note,
    Problem,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Well => "ok",
            State::Note => "note",
            State::Problem => "PROBLEM",
        }
    }
}

/// What one check found.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Found {
    check: &'static str,
    state: State,
    what: String,
    /// What to do.
    then: Option<String>,
}

impl Found {
    fn well(check: &'static str, what: impl Into<String>) -> Found {
        Found { check, state: State::Well, what: what.into(), then: None }
    }

    fn note(check: &'static str, what: impl Into<String>, then: Option<&str>) -> Found {
        Found { check, state: State::Note, what: what.into(), then: then.map(str::to_owned) }
    }

    fn problem(check: &'static str, what: impl Into<String>, then: &str) -> Found {
        Found { check, state: State::Problem, what: what.into(), then: Some(then.to_owned()) }
    }
}

impl Doctor {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut found = Vec::new();
        let mut progress = Progress::shy();
        match self.at.connect() {
            Err(error) => {
                found.push(Found::problem("bootstrap", error.to_string(), "start a node, or name one with --bootstrap"))
            }
            Ok(mut router) => self.look(&mut router, &mut progress, &mut found),
        }
        self.show(&found)?;
        let ill = found.iter().any(|one| one.state == State::Problem);
        Ok(if ill { ExitCode::from(UNHEALTHY) } else { ExitCode::SUCCESS })
    }

    fn look(&self, router: &mut Router, progress: &mut Progress, found: &mut Vec<Found>) {
        let nodes = router.nodes().count();
        let cluster = router.cluster().to_owned();
        let at = router.any().address().to_owned();
        found.push(Found::well(
            "bootstrap",
            format!("{at} answers for cluster {cluster} of {}", counted(nodes, "node")),
        ));
        progress.show("nodes", false);
        found.push(controller(router));
        found.extend(each_node(router));
        progress.show("partitions", false);
        match router.all_topics() {
            Err(error) => found.push(unknown("partitions", &error)),
            Ok(topics) => {
                found.extend(partitions(&topics));
                progress.show("clocks", false);
                found.push(clocks(router, &topics));
            }
        }
        progress.show("disks", false);
        found.extend(disks::look(router));
        progress.show("groups", false);
        found.extend(self.lags(router));
        if router.nodes().any(|node| is_here(&node.address)) {
            found.extend(limits());
        }
        progress.show("done", true);
    }

    fn lags(&self, router: &mut Router) -> Vec<Found> {
        let listed = match group::list(router) {
            Ok(listed) => listed,
            Err(error) => return vec![unknown("groups", &error)],
        };
        let mut behind = Vec::new();
        let mut failed = Vec::new();
        // A group that was only ever moved from outside has no protocol.
        let consumers = listed.iter().filter(|one| matches!(one.protocol.as_str(), "" | "consumer"));
        for one in consumers {
            match groups::lag(router, &one.id) {
                Ok(lag) if lag > self.lag_max => behind.push(format!("{} by {lag}", one.id)),
                Ok(_) => {}
                Err(error) => failed.push(unknown("groups", &error)),
            }
        }
        failed.push(match behind.len() {
            0 => Found::well(
                "groups",
                format!("{}, none behind by more than {} records", counted(listed.len(), "group"), self.lag_max),
            ),
            count => Found::problem(
                "groups",
                format!("{} behind: {}", counted(count, "group"), some(&behind)),
                "`weir group describe GROUP` shows where; start more consumers, or skip with `weir group seek`",
            ),
        });
        failed
    }

    fn show(&self, found: &[Found]) -> anyhow::Result<()> {
        let ill = found.iter().filter(|one| one.state == State::Problem).count();
        if self.output == Output::Json {
            let one = |one: &Found| json!({ "check": one.check, "state": one.state.name().to_lowercase(), "found": one.what, "advice": one.then });
            return print_json(&json!({ "healthy": ill == 0, "checks": found.iter().map(one).collect::<Vec<_>>() }));
        }
        let mut table = Table::new(vec!["CHECK", "STATE", "FOUND"]);
        for one in found {
            table.row(vec![one.check.to_owned(), one.state.name().to_owned(), one.what.clone()]);
            if let Some(then) = &one.then {
                table.row(vec![String::new(), String::new(), format!("-> {then}")]);
            }
        }
        let ends = if ill == 0 { "no problem found".to_owned() } else { format!("{} found", counted(ill, "problem")) };
        print(&format!("{}{ends}\n", table.text()))
    }
}

fn unknown(check: &'static str, error: &AskError) -> Found {
    Found::note(check, format!("could not be looked at: {error}"), None)
}

/// The first few of many.
fn some(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED { format!("{shown} and {} more", names.len() - NAMED) } else { shown }
}

fn controller(router: &mut Router) -> Found {
    let answer = router.ask(|version| {
        let request = DescribeClusterRequest::default();
        if version >= 1 { request.with_endpoint_type(1) } else { request }
    });
    match answer {
        Err(error) => unknown("controller", &error),
        Ok(answer) if answer.controller_id.0 < 0 => Found::problem(
            "controller",
            "there is none: topics and leaders cannot change",
            "most of the voters must run: `weir node list` on each node's address shows which do",
        ),
        Ok(answer) => Found::well("controller", format!("node {}", answer.controller_id.0)),
    }
}

/// Nodes that belong to the cluster and that its controller does not hear: clients are not told of them.
fn fenced_nodes(router: &mut Router) -> Vec<Found> {
    let answer = router.ask(|version| {
        let request = DescribeClusterRequest::default().with_include_fenced_brokers(version >= 2);
        if version >= 1 { request.with_endpoint_type(1) } else { request }
    });
    let nodes = answer.map(|answer| answer.brokers).unwrap_or_default();
    let fenced = nodes.iter().filter(|node| node.is_fenced).map(|node| {
        Found::problem(
            "nodes",
            format!("node {} is fenced: the controller does not hear it", node.broker_id.0),
            "start it; if it never returns, reassign its replicas and unregister it (`weir node remove`)",
        )
    });
    fenced.collect()
}

fn each_node(router: &mut Router) -> Vec<Found> {
    let nodes: Vec<(i32, String)> = router.nodes().map(|node| (node.id, node.address.clone())).collect();
    let mut found = fenced_nodes(router);
    let mut served = Vec::new();
    let mut slowest = (0, 0);
    for (node, address) in &nodes {
        let begun = Instant::now();
        match Client::connect(address) {
            Ok(client) => {
                slowest = slowest.max((begun.elapsed().as_millis(), *node));
                served.push((*node, client.served().clone()));
            }
            Err(error) => found.push(Found::problem(
                "nodes",
                format!("node {node} is not reached from here: {error}"),
                "start it, or correct its advertised address (--advertise, advertised.listeners)",
            )),
        }
    }
    if found.is_empty() {
        found.push(Found::well(
            "nodes",
            format!("all of {} reached, the slowest in {} ms", counted(nodes.len(), "node"), slowest.0),
        ));
    }
    let differ: Vec<i32> = served
        .iter()
        .filter(|(_, apis)| served.first().is_some_and(|(_, first)| first != apis))
        .map(|(node, _)| *node)
        .collect();
    let apis = served.first().map_or(0, |(_, apis)| apis.len());
    found.push(match differ.is_empty() {
        true => Found::well("versions", format!("{} of the protocol, the same on every node", counted(apis, "API"))),
        false => Found::note(
            "versions",
            format!(
                "nodes {} speak other versions than node {}",
                list(&differ),
                served.first().map_or(-1, |(node, _)| *node)
            ),
            Some("an upgrade is under way; finish it"),
        ),
    });
    found
}

fn partitions(topics: &[TopicSeen]) -> Vec<Found> {
    let name = |topic: &TopicSeen, index: i32| format!("{}/{index}", topic.name);
    let all = || topics.iter().flat_map(|topic| topic.partitions.iter().map(move |partition| (topic, partition)));
    let offline: Vec<String> =
        all().filter(|(_, one)| one.leader.is_none()).map(|(topic, one)| name(topic, one.index)).collect();
    let behind: usize = topics.iter().map(topic::under_replicated).sum();
    let names: Vec<String> = all()
        .filter(|(_, one)| one.leader.is_some() && one.isr.len() < one.replicas.len())
        .map(|(topic, one)| name(topic, one.index))
        .collect();
    let mut found = Vec::new();
    if !offline.is_empty() {
        found.push(Found::problem(
            "partitions",
            format!("{} without leader: {}", counted(offline.len(), "partition"), some(&offline)),
            "`weir topic describe TOPIC` shows which nodes hold them: start those",
        ));
    }
    if !names.is_empty() {
        found.push(Found::problem(
            "partitions",
            format!("{} with a replica that is not in sync: {}", counted(behind, "partition"), some(&names)),
            "`weir node list` shows which node is dead or behind",
        ));
    }
    if found.is_empty() {
        let count = all().count();
        found.push(Found::well("partitions", format!("{}, all led and in sync", counted(count, "partition"))));
    }
    found
}

/// A server does not tell its clock, but what it and its producers wrote has times.
fn clocks(router: &mut Router, topics: &[TopicSeen]) -> Found {
    let led = topics.iter().flat_map(|topic| {
        let led = topic.partitions.iter().filter(|one| one.leader.is_some());
        led.map(|one| (topic.name.clone(), one.index))
    });
    let led: Vec<TopicPartition> = led.collect();
    let now = time::now_ms();
    match offsets::newest_times(router, led) {
        Err(error) => unknown("clocks", &error),
        Ok(newest) => match newest.iter().max_by_key(|(_, time)| **time) {
            Some(((topic, partition), newest)) if newest - now > SKEW_MS_MAX => Found::problem(
                "clocks",
                format!(
                    "{topic}/{partition} has a record {} ahead of this machine's clock",
                    time::duration(newest - now)
                ),
                "synchronise the clocks (NTP) of this machine, the nodes and the producers",
            ),
            _ => Found::well("clocks", "no record is newer than this machine's clock"),
        },
    }
}

fn is_here(address: &str) -> bool {
    address.starts_with("127.") || address.starts_with("localhost:") || address.starts_with("[::1]")
}

/// Of this machine, where a node runs on it.
fn limits() -> Vec<Found> {
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let maps =
        std::fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let mut found = Vec::new();
    if descriptors < DESCRIPTORS_MIN {
        let what = format!(
            "this shell may open {descriptors} files, a node with many clients and partitions wants {DESCRIPTORS_MIN}"
        );
        found.push(Found::note("limits", what, Some("ulimit -n 65536, or LimitNOFILE= in the unit")));
    }
    if let Some(maps) = maps.filter(|maps| *maps < MAPS_MIN) {
        let what = format!("a process may map {maps} files, {MAPS_MIN} are usual");
        found.push(Found::note("limits", what, Some("sysctl vm.max_map_count=262144")));
    }
    if found.is_empty() {
        found.push(Found::well("limits", format!("{descriptors} open files")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::router::PartitionSeen;
    use crate::wire::Uuid;

    fn topic_of(leader: Option<i32>, isr: &[i32]) -> TopicSeen {
        let partition =
            PartitionSeen { index: 3, leader, epoch: 0, replicas: vec![1, 2], isr: isr.to_vec(), offline: Vec::new() };
        TopicSeen { name: "t".to_owned(), id: Uuid::nil(), internal: false, partitions: vec![partition] }
    }

    #[test]
    fn partitions_without_leader_or_replica_are_problems_with_a_name_and_advice() {
        let found = |topic: TopicSeen| partitions(&[topic]);
        assert!(matches!(found(topic_of(Some(1), &[1, 2])).as_slice(), [Found { state: State::Well, .. }]));
        let behind = found(topic_of(Some(1), &[1]));
        assert!(
            matches!(behind.as_slice(), [one] if one.state == State::Problem && one.what.contains("t/3") && one.then.is_some())
        );
        let offline = found(topic_of(None, &[1]));
        assert!(matches!(offline.as_slice(), [one] if one.what.contains("without leader")), "{offline:?}");
    }

    #[test]
    fn of_many_names_the_first_few_are_told() {
        let names: Vec<String> = (0..7).map(|number| number.to_string()).collect();
        assert_eq!(some(&names), "0, 1, 2, 3, 4 and 2 more");
    }
}

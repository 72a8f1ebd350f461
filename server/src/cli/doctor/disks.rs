//! What the nodes' disks have: room, data directories, and logs that are offline or damaged.
//!
//! Owns these checks. Does not own how a node knows (`api::describe_log_dirs`). Invariant: what only a node of Weir tells is no finding
//! where a node does not tell it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Found, some, unknown};
use crate::cli::show::counted;
use crate::client::router::Router;
use crate::wire::messages::DescribeLogDirsRequest;
use crate::wire::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use crate::wire::{DIR_FULL_TAG, LOG_DAMAGED_TAG, LOG_OFFLINE_TAG};

/// Free space of a disk below which it is told, in hundredths of its size.
const FREE_MIN: i64 = 10;

pub(super) fn look(router: &mut Router) -> Vec<Found> {
    let nodes: Vec<i32> = router.nodes().map(|node| node.id).collect();
    let (mut found, mut bad_logs) = (Vec::new(), Vec::new());
    let mut least: Option<i64> = None;
    for node in nodes {
        let asked = router
            .node(node)
            .and_then(|client| Ok(client.call(|_| DescribeLogDirsRequest::default().with_topics(None))?));
        let answer = match asked {
            Ok(answer) => answer,
            Err(error) => {
                found.push(unknown("disks", &error));
                continue;
            }
        };
        for dir in &answer.results {
            let free = hundredths_free(&dir.shown);
            least = free.map(|free| least.map_or(free, |least| least.min(free))).or(least);
            found.extend(directory(node, &dir.shown));
            bad_logs.extend(logs(node, &dir.shown));
        }
    }
    if found.is_empty() {
        found.push(match least {
            Some(least) => Found::well("disks", format!("all online, at least {least} % free")),
            None => Found::note("disks", "online; the nodes do not say how full they are", None),
        });
    }
    found.extend(bad_logs);
    found
}

fn hundredths_free(dir: &DescribeLogDirsResult) -> Option<i64> {
    let tells = dir.error_code == 0 && dir.total_bytes > 0;
    tells.then(|| dir.usable_bytes.saturating_mul(100) / dir.total_bytes)
}

/// What is wrong with a data directory and its file system.
fn directory(node: i32, dir: &DescribeLogDirsResult) -> Option<Found> {
    let place = format!("{} of node {node}", dir.log_dir.as_str());
    if dir.error_code != 0 {
        let what = format!("{place} is offline: error {}", dir.error_code);
        return Some(Found::problem("disks", what, "see the node's log; replace the disk, then start the node again"));
    }
    if let Some(full) = own_text(&dir.unknown_tagged_fields, DIR_FULL_TAG) {
        return Some(Found::problem(
            "disks",
            format!("{place}: {full}"),
            "make room now: delete a topic (a shorter retention.ms or retention.bytes frees whole segments, but not the last one of a \
             partition), remove what else lies on this disk, or enlarge it; then appends go on by themselves",
        ));
    }
    let free = hundredths_free(dir).filter(|free| *free < FREE_MIN)?;
    let what = format!("{place} has {free} % left ({} MiB)", dir.usable_bytes >> 20);
    Some(Found::problem("disks", what, "make room: shorten retention.ms or retention.bytes, or add a node"))
}

/// What a node says of logs that it cannot use, or not in whole.
fn logs(node: i32, dir: &DescribeLogDirsResult) -> Vec<Found> {
    let told = |tag: i32| -> Vec<String> {
        let of_topic = |topic: &DescribeLogDirsTopic| {
            let of = |one: &DescribeLogDirsPartition| {
                let text = own_text(&one.unknown_tagged_fields, tag)?;
                Some(format!("{}/{} ({text})", topic.name.as_str(), one.partition_index))
            };
            topic.partitions.iter().filter_map(of).collect::<Vec<_>>()
        };
        dir.topics.iter().flat_map(of_topic).collect()
    };
    let (offline, damaged) = (told(LOG_OFFLINE_TAG), told(LOG_DAMAGED_TAG));
    let mut found = Vec::new();
    if !offline.is_empty() {
        found.push(Found::problem(
            "logs",
            format!("{} offline on node {node}: {}", counted(offline.len(), "partition"), some(&offline)),
            "see the node's log; put its disk right, then start the node again",
        ));
    }
    if !damaged.is_empty() {
        found.push(Found::problem(
            "logs",
            format!("{} damaged on the disk of node {node}: {}", counted(damaged.len(), "partition"), some(&damaged)),
            "check that disk; where other replicas are in sync, stop the node, move the file away and start it: the partition is fetched \
             again (an only copy refuses that start until the file is back)",
        ));
    }
    found
}

/// A text of Weir's own.
fn own_text(tags: &BTreeMap<i32, Bytes>, tag: i32) -> Option<String> {
    tags.get(&tag).map(|text| String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::State;
    use crate::wire::StrBytes;

    fn dir(total: i64, usable: i64) -> DescribeLogDirsResult {
        let shown = DescribeLogDirsResult::default().with_log_dir(StrBytes::from_static_str("/data"));
        shown.with_total_bytes(total).with_usable_bytes(usable)
    }

    fn told(tag: i32, text: &'static str) -> BTreeMap<i32, Bytes> {
        BTreeMap::from([(tag, Bytes::from_static(text.as_bytes()))])
    }

    #[test]
    fn a_disk_that_takes_nothing_more_is_told_as_that_and_not_as_one_with_little_room() {
        assert_eq!(directory(1, &dir(100 << 20, 50 << 20)), None);
        let little = directory(1, &dir(100 << 20, 9 << 20)).expect("less than a tenth");
        assert!(little.what.contains("9 % left (9 MiB)"), "{}", little.what);
        let full = dir(100 << 20, 9 << 20).with_unknown_tagged_fields(told(DIR_FULL_TAG, "the disk is full: 9 MiB"));
        let full = directory(1, &full).expect("it is full");
        assert_eq!(full.state, State::Problem);
        assert_eq!(full.what, "/data of node 1: the disk is full: 9 MiB");
        assert!(full.then.is_some_and(|then| then.contains("delete a topic")));
    }

    #[test]
    fn logs_that_are_offline_or_damaged_are_problems_with_their_names() {
        let one = |index, tags| {
            DescribeLogDirsPartition::default().with_partition_index(index).with_unknown_tagged_fields(tags)
        };
        let partitions = vec![
            one(0, BTreeMap::new()),
            one(1, told(LOG_OFFLINE_TAG, "write failed")),
            one(2, told(LOG_DAMAGED_TAG, "/data/t-2/0.log at byte 7")),
        ];
        let topic = DescribeLogDirsTopic::default().with_name(StrBytes::from_static_str("t").into());
        let found = logs(3, &dir(0, 0).with_topics(vec![topic.with_partitions(partitions)]));
        let texts: Vec<&str> = found.iter().map(|one| one.what.as_str()).collect();
        let expected = [
            "1 partition offline on node 3: t/1 (write failed)",
            "1 partition damaged on the disk of node 3: t/2 (/data/t-2/0.log at byte 7)",
        ];
        assert_eq!(texts, expected);
        assert!(found.iter().all(|one| one.state == State::Problem && one.then.is_some()));
        assert!(logs(3, &dir(0, 0)).is_empty());
    }
}

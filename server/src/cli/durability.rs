//! What a lost node, a lost rack and a power cut can cost a topic, in words.
//!
//! Owns those sentences. Invariant: they speak of records that were acknowledged with acks=all, and promise nothing that the settings and
//! the placement of replicas do not give.

use std::collections::{BTreeMap, BTreeSet};

use super::properties::Property;
use super::show::counted;
use super::topic::factor;
use crate::client::router::{NodeSeen, PartitionSeen, TopicSeen};

/// One sentence each for a node, a rack, and power.
pub fn costs(topic: &TopicSeen, settings: &[Property], nodes: &[NodeSeen]) -> Vec<String> {
    let value = |key: &str| settings.iter().find(|one| one.key == key).and_then(|one| one.value.as_deref());
    let number = |key: &str| value(key).and_then(|value| value.parse::<u64>().ok());
    let least = number("min.insync.replicas").map_or(1, |least| usize::try_from(least).unwrap_or(1)).max(1);
    let synced = number("flush.messages") == Some(1);
    vec![lost_node(topic, least), lost_rack(topic, nodes), power_cut(topic, synced, number("flush.ms"))]
}

fn lost_node(topic: &TopicSeen, least: usize) -> String {
    let factor = factor(topic);
    match factor {
        0 | 1 => "a lost node: its partitions stand still until it is back; a lost disk loses their records for good"
            .to_owned(),
        _ if least == 1 => format!(
            "a lost node: partitions go on with another replica, but with min.insync.replicas=1 records that only the lost node had are gone; \
             set min.insync.replicas to 2 of {factor}"
        ),
        _ if factor > least => {
            let spare = factor - least;
            format!(
                "a lost node: costs nothing that was acknowledged; writes go on with up to {} lost, records survive {} lost",
                counted(spare, "node"),
                counted(least - 1, "node")
            )
        }
        _ => format!(
            "a lost node: costs nothing that was acknowledged, but writes stand still until it is back: all {factor} replicas must be in sync"
        ),
    }
}

fn lost_rack(topic: &TopicSeen, nodes: &[NodeSeen]) -> String {
    let racks: BTreeMap<i32, &str> = nodes.iter().filter_map(|node| Some((node.id, node.rack.as_deref()?))).collect();
    if racks.is_empty() {
        return "a lost rack: the nodes do not say in which rack they are (broker.rack), so replicas may share one"
            .to_owned();
    }
    let of = |partition: &PartitionSeen| -> BTreeSet<Option<&str>> {
        partition.replicas.iter().map(|node| racks.get(node).copied()).collect()
    };
    let one_rack = topic.partitions.iter().filter(|partition| of(partition).len() < 2).count();
    match one_rack {
        0 => "a lost rack: every partition has replicas in another one".to_owned(),
        count => format!(
            "a lost rack: {count} of {} have all their replicas in one rack and stand still or are lost with it",
            counted(topic.partitions.len(), "partition")
        ),
    }
}

fn power_cut(topic: &TopicSeen, synced: bool, flush_ms: Option<u64>) -> String {
    if synced {
        return "a power cut: costs nothing that was acknowledged; records are on disk before (flush.messages=1)"
            .to_owned();
    }
    let since = match flush_ms {
        Some(ms) if ms < 86_400_000 => format!("of the last {ms} ms (flush.ms)"),
        _ => "that the operating system had not written yet".to_owned(),
    };
    let scope = if factor(topic) > 1 { ", where it takes all replicas at once" } else { "" };
    format!("a power cut: loses acknowledged records {since}{scope}; flush.messages=1 writes them before")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Uuid;

    fn topic(replicas: &[i32]) -> TopicSeen {
        let partition = PartitionSeen {
            index: 0,
            leader: replicas.first().copied(),
            epoch: 0,
            replicas: replicas.to_vec(),
            isr: replicas.to_vec(),
            offline: Vec::new(),
        };
        TopicSeen { name: "t".to_owned(), id: Uuid::nil(), internal: false, partitions: vec![partition] }
    }

    fn property(key: &str, value: &str) -> Property {
        Property {
            key: key.to_owned(),
            value: Some(value.to_owned()),
            source: 5,
            sensitive: false,
            read_only: false,
            synonyms: Vec::new(),
            documentation: None,
        }
    }

    fn node(id: i32, rack: &str) -> NodeSeen {
        NodeSeen { id, address: "h:1".to_owned(), rack: Some(rack.to_owned()) }
    }

    #[test]
    fn three_replicas_on_disk_in_three_racks_lose_nothing() {
        let settings = [property("min.insync.replicas", "2"), property("flush.messages", "1")];
        let costs = costs(&topic(&[1, 2, 3]), &settings, &[node(1, "a"), node(2, "b"), node(3, "c")]).join("\n");
        assert!(costs.contains("writes go on with up to 1 node lost, records survive 1 node lost"), "{costs}");
        assert!(costs.contains("every partition has replicas in another one"), "{costs}");
        assert!(costs.contains("a power cut: costs nothing"), "{costs}");
    }

    #[test]
    fn one_replica_in_the_page_cache_can_lose_everything() {
        let settings = [property("flush.messages", "9223372036854775807"), property("flush.ms", "1000")];
        let costs = costs(&topic(&[1]), &settings, &[node(1, "a")]).join("\n");
        assert!(costs.contains("a lost disk loses their records for good"), "{costs}");
        assert!(costs.contains("1 of 1 partition have all their replicas in one rack"), "{costs}");
        assert!(costs.contains("loses acknowledged records of the last 1000 ms"), "{costs}");
    }
}

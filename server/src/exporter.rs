//! The series that kafka_exporter makes of a Kafka cluster, under its names, so that its dashboards work without it.
//!
//! Owns which node says what: a partition's leader what is known of the partition (its topic, if it is the first one),
//! a group's coordinator what is known of the group, the active controller what is known of the cluster and of partitions
//! without a leader. So each series comes from one node, and sums over all nodes are right.
//! Does not own offsets or groups: it asks. Also here, under our own name: lag in seconds, the age of the oldest record
//! that a group has not consumed. Source of the names: the README of danielqsj/kafka_exporter.
//! Invariant: at most `PARTITIONS_MAX` partitions and `OFFSETS_MAX` committed offsets are shown; how many were left out is.

use std::collections::BTreeMap;
use std::fmt::Write;

use model::{NodeId, Offset, PartitionIndex, TopicPartition, batch};
use node::requests::{FetchLimits, FetchPart};
use replication::group::{FetchOffsets, FetchedTopic, GroupAnswer, GroupRequest, ListFilter, ListedGroup};
use replication::metadata::{Image, PartitionInfo};
use storage::disk::ReadMode;
use tokio::time::{Instant, timeout_at};

use crate::broker::Broker;
use crate::clock;
use crate::metrics::series_head;

const PARTITIONS_MAX: usize = 20_000;
const OFFSETS_MAX: usize = 20_000;
/// Of the first batch that a group has not consumed: its head is what is wanted.
const LAG_READ_BYTES: u32 = 1;

/// Families of series: the text format wants all samples of one name together.
#[derive(Default)]
struct Families(BTreeMap<&'static str, (&'static str, String)>);

impl Families {
    fn add(&mut self, name: &'static str, help: &'static str, labels: &str, value: impl std::fmt::Display) {
        let (_, samples) = self.0.entry(name).or_insert((help, String::new()));
        let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(samples, "{name}{braced} {value}");
    }

    fn put(self, text: &mut String) {
        for (name, (help, samples)) in self.0 {
            series_head(text, name, "gauge", help);
            text.push_str(&samples);
        }
    }
}

/// Puts all of it to a text in the format of Prometheus; of the groups what can be gathered until then.
pub async fn put(broker: &Broker, until: Instant, text: &mut String) {
    let (image, mut families) = (broker.image(), Families::default());
    if image.controller() == Some(broker.node.id()) {
        cluster(&image, &mut families);
    }
    let left_out = partitions(broker, &image, &mut families);
    families.add(LEFT_OUT, LEFT_OUT_HELP, "of=\"partitions\"", left_out);
    // What was gathered stays, also where the rest takes too long: a read from a slow disk, ten thousands of groups.
    let gathered = timeout_at(until, groups(broker, &image, &mut families, until)).await.unwrap_or_default();
    let help = "1 if every group of this node is shown, 0 if there was no time for all of them.";
    families.add("weir_scrape_complete", help, "", u8::from(gathered.is_some()));
    families.add(LEFT_OUT, LEFT_OUT_HELP, "of=\"offsets\"", gathered.unwrap_or_default());
    families.put(text);
}

const LEFT_OUT: &str = "weir_series_left_out";
const LEFT_OUT_HELP: &str = "Partitions and committed offsets that are too many to be shown here.";

fn cluster(image: &Image, families: &mut Families) {
    families.add("kafka_brokers", "Brokers of the cluster that are alive.", "", image.live_nodes().count());
    for (id, info) in image.live_nodes() {
        if let Some(listener) = info.client_listener() {
            let labels = format!("id=\"{id}\",address=\"{}:{}\"", escaped(&listener.host), listener.port);
            families.add("kafka_broker_info", "Where a broker is.", &labels, 1);
        }
    }
}

/// How many were left out.
fn partitions(broker: &Broker, image: &Image, families: &mut Families) -> usize {
    let (me, is_controller) = (broker.node.id(), image.controller() == Some(broker.node.id()));
    let (mut shown, mut left_out) = (0, 0);
    for topic in image.topics() {
        for (index, info) in topic.partitions() {
            let led_here = info.leader == Some(me);
            let nobodys = info.leader.is_none();
            if !(led_here || (nobodys && is_controller)) {
                continue;
            }
            if shown == PARTITIONS_MAX {
                left_out += 1;
                continue;
            }
            shown += 1;
            let of_topic = format!("topic=\"{}\"", topic.name);
            if index == PartitionIndex::new(0) {
                let count = topic.partitions().count();
                families.add("kafka_topic_partitions", "Partitions of the topic.", &of_topic, count);
            }
            let labels = format!("partition=\"{index}\",{of_topic}");
            placed(info, &labels, families);
            let status = broker.node.partition_status(TopicPartition { topic: topic.id, partition: index });
            if let (true, Some(status)) = (led_here, status) {
                let (end, start) = (status.high_watermark, status.log_start);
                families.add("kafka_topic_partition_current_offset", "The offset of the next record.", &labels, end);
                families.add("kafka_topic_partition_oldest_offset", "The first offset that is kept.", &labels, start);
            }
        }
    }
    left_out
}

fn placed(info: &PartitionInfo, labels: &str, families: &mut Families) {
    let leader = info.leader.map_or(-1, |node: NodeId| node.0);
    let preferred = u8::from(info.leader.is_some() && info.leader == info.preferred_leader());
    let under = u8::from(info.isr.len() < info.replicas.len());
    families.add("kafka_topic_partition_leader", "The node that leads, -1 if none does.", labels, leader);
    families.add("kafka_topic_partition_leader_is_preferred", "1 if the preferred leader leads.", labels, preferred);
    families.add("kafka_topic_partition_replicas", "Replicas of the partition.", labels, info.replicas.len());
    families.add("kafka_topic_partition_in_sync_replica", "Replicas that are in sync.", labels, info.isr.len());
    let help = "1 if a replica is not in sync.";
    families.add("kafka_topic_partition_under_replicated_partition", help, labels, under);
}

/// The type of groups that ConsumerGroupDescribe knows.
const CONSUMER: &str = "consumer";

/// How many offsets were left out; `None`: there was no time for all groups.
async fn groups(broker: &Broker, image: &Image, families: &mut Families, until: Instant) -> Option<usize> {
    let GroupAnswer::List(Ok(listed)) = broker.ask_group("", GroupRequest::List(ListFilter::default())).await else {
        // The coordinators of this node are being loaded: the next scrape shows them.
        return Some(0);
    };
    let (mut room, mut left_out) = (OFFSETS_MAX, 0);
    for ListedGroup { group, group_type, .. } in listed {
        if Instant::now() >= until {
            return None;
        }
        let of_group = format!("consumergroup=\"{}\"", escaped(group.as_str()));
        let request = if group_type == CONSUMER { GroupRequest::DescribeConsumer } else { GroupRequest::Describe };
        let members = match broker.ask_group(group.as_str(), request).await {
            GroupAnswer::Describe(Ok(described)) => Some(described.members.len()),
            GroupAnswer::DescribeConsumer(Ok(described)) => Some(described.members.len()),
            _ => None,
        };
        if let Some(members) = members {
            families.add("kafka_consumergroup_members", "Members of the group.", &of_group, members);
        }
        let all = FetchOffsets { member_id: None, member_epoch: -1, topics: None, require_stable: false };
        let fetched = broker.ask_group(group.as_str(), GroupRequest::FetchOffsets(all)).await;
        let GroupAnswer::FetchOffsets(Ok(topics)) = fetched else { continue };
        for topic in topics {
            let count = topic.partitions.len();
            if count > room {
                left_out += count;
                continue;
            }
            room -= count;
            offsets(broker, image, &topic, &of_group, families).await;
        }
    }
    Some(left_out)
}

/// What a group has committed of one topic, and how far behind that is.
async fn offsets(broker: &Broker, image: &Image, topic: &FetchedTopic, of_group: &str, families: &mut Families) {
    let of_topic = format!("{of_group},topic=\"{}\"", topic.topic);
    let id = image.topic(&topic.topic).map(|topic| topic.id);
    let (mut offset_sum, mut lag_sum) = (0i64, 0i64);
    for fetched in &topic.partitions {
        let Some(committed) = fetched.committed.as_ref().map(|committed| committed.offset) else { continue };
        let labels = format!("{of_group},partition=\"{}\",topic=\"{}\"", fetched.partition, topic.topic);
        families.add("kafka_consumergroup_current_offset", "What the group has committed.", &labels, committed);
        offset_sum = offset_sum.saturating_add(committed);
        let partition = id.map(|topic| TopicPartition { topic, partition: fetched.partition });
        let status = partition.and_then(|partition| broker.node.partition_status(partition));
        let (Some(partition), Some(status)) = (partition, status) else { continue };
        let from = committed.max(status.log_start.get());
        let lag = status.high_watermark.get().saturating_sub(from).max(0);
        families.add("kafka_consumergroup_lag", "Records that the group has not consumed.", &labels, lag);
        lag_sum = lag_sum.saturating_add(lag);
        let age_ms = if lag == 0 { Some(0) } else { age_ms(broker, partition, from).await };
        if let Some(age_ms) = age_ms {
            let help = "Age of the oldest record that the group has not consumed.";
            families.add("weir_consumergroup_lag_seconds", help, &labels, milliseconds_as_seconds(age_ms));
        }
    }
    let help = "Sum of what the group has committed of the topic.";
    families.add("kafka_consumergroup_current_offset_sum", help, &of_topic, offset_sum);
    let help = "Records of the topic that the group has not consumed.";
    families.add("kafka_consumergroup_lag_sum", help, &of_topic, lag_sum);
}

/// How old the first batch at or after an offset is. `None`: it cannot be read here.
async fn age_ms(broker: &Broker, partition: TopicPartition, from: i64) -> Option<u64> {
    let part = FetchPart { partition, from, bytes_max: LAG_READ_BYTES, current_epoch: None, last_fetched_epoch: None };
    let limits = FetchLimits { bytes_max: LAG_READ_BYTES.into(), committed_only: false, at_follower: true };
    let mut read = broker.node.fetch(&[part], limits, ReadMode::CachedOnly);
    if !read.cold.is_empty() {
        let node = broker.node.clone();
        read = broker.cold.run(move || node.fetch(&[part], limits, ReadMode::InTurn)).await?;
    }
    // A batch may come in pieces.
    let pieces = read.parts.first()?.records.iter().flatten();
    let head: Vec<u8> = pieces.take(batch::HEADER_BYTES).copied().collect();
    let header = batch::peek(&head).ok()??;
    // Of a batch that was consumed in part, the newest record is surely left.
    let whole = Offset::from_wire(from).is_some_and(|from| header.base_offset == from.get());
    let timestamp_ms = if whole { header.base_timestamp } else { header.max_timestamp };
    u64::try_from(clock::now().wall_ms.saturating_sub(timestamp_ms)).ok().or(Some(0))
}

fn milliseconds_as_seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// A label's value: a group's id may hold any character.
pub(crate) fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_name_stand_together_under_one_head() {
        let mut families = Families::default();
        families.add("b", "B.", "x=\"1\"", 1);
        families.add("a", "A.", "", 2);
        families.add("b", "B.", "x=\"2\"", 3);
        let expected = "# HELP a A.\n# TYPE a gauge\na 2\n# HELP b B.\n# TYPE b gauge\nb{x=\"1\"} 1\nb{x=\"2\"} 3\n";
        let mut text = String::new();
        families.put(&mut text);
        assert_eq!(text, expected);
    }

    #[test]
    fn a_group_cannot_break_out_of_its_label() {
        assert_eq!(escaped("a\"} 1\nb\\"), "a\\\"} 1\\nb\\\\");
        assert_eq!(milliseconds_as_seconds(12_034), "12.034");
    }
}

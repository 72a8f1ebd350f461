//! What each setting of a node does, in words.
//!
//! Owns those sentences where the setting stands for no topic's and no group's own, whose words lie with their tables.
//! Invariant: everything that a node acts on is described.

use replication::metadata::group_keys;
use replication::metadata::topic_keys;

const WORDS: &[(&str, &str)] = &[
    ("advertise", "What clients are told to connect to; without it, the address that they reached."),
    ("advertised.listeners", "What clients are told to connect to; without it, the address that they reached."),
    ("auto.create.topics.enable", "Whether a topic is made when a client first asks for it."),
    (
        "auto.leader.rebalance.enable",
        "Whether leaderships go back to the first replica by themselves once it is in sync again.",
    ),
    ("broker.id", "The node's number, by its old name: see node.id."),
    ("broker.rack", "Where the node stands; replicas are spread over racks, and consumers may read from their own."),
    ("connections.max.idle.ms", "A connection that is silent for so long is closed."),
    ("controller.listener.names", "Which of the listeners is for other nodes rather than for clients."),
    ("controller.quorum.bootstrap.servers", "The peer addresses of nodes that belong to the cluster, or found it."),
    ("controller.quorum.voters", "The peer addresses of the nodes that found the cluster, as ID@HOST:PORT."),
    ("data.dir", "The directory in which everything lies."),
    (
        "default.replication.factor",
        "Replicas of a topic that is made without saying how many; unset: as many as there are nodes, at most 3.",
    ),
    ("delete.topic.enable", "Whether topics can be deleted."),
    ("fetch.max.bytes", "The most that one answer to a reader holds, up to 16777216."),
    ("group.consumer.assignors", "The assignors that groups of the consumer protocol may use, the first by default."),
    ("group.consumer.max.assignment.interval.ms", "The most that a group may set its own interval to."),
    ("group.consumer.max.heartbeat.interval.ms", "The most that a group may set its own interval to."),
    ("group.consumer.max.session.timeout.ms", "The most that a group may set its own timeout to."),
    ("group.consumer.max.size", "The most members of one group of the consumer protocol, up to 10000."),
    (
        "group.consumer.migration.policy",
        "Which groups may change between the classic and the consumer protocol while they run.",
    ),
    ("group.consumer.min.assignment.interval.ms", "The least that a group may set its own interval to."),
    ("group.consumer.min.heartbeat.interval.ms", "The least that a group may set its own interval to."),
    ("group.consumer.min.session.timeout.ms", "The least that a group may set its own timeout to."),
    (
        "group.coordinator.rebalance.protocols",
        "Which protocols of groups are served; without consumer, its heartbeats are refused and clients must use the classic one.",
    ),
    (
        "group.initial.rebalance.delay.ms",
        "How long an empty classic group waits for more members before it assigns partitions.",
    ),
    ("group.max.session.timeout.ms", "The longest session timeout that a member of a classic group may ask for."),
    ("group.max.size", "The most members of one classic group, up to 10000."),
    ("group.min.session.timeout.ms", "The shortest session timeout that a member of a classic group may ask for."),
    ("http", "Where /live, /ready and /metrics are."),
    (
        "join",
        "The peer addresses of all nodes that found the cluster, this one's included; or of some that belong to one.",
    ),
    (
        "leader.imbalance.check.interval.seconds",
        "How often it is looked whether leaderships should go back to the first replica.",
    ),
    ("listen", "Where clients connect."),
    (
        "listener.security.protocol.map",
        "The protocol of each listener by its name; PLAINTEXT is what this version speaks.",
    ),
    ("listeners", "Where clients, and with a listener for controllers other nodes, connect."),
    ("log.cleaner.backoff.ms", "How often logs are looked through for one that is worth to be compacted."),
    ("log.cleaner.dedupe.buffer.size", "The most memory for the keys of one compaction."),
    ("log.cleaner.enable", "Whether topics with cleanup.policy=compact are compacted."),
    ("log.cleaner.io.max.bytes.per.second", "How fast compaction may read and write."),
    ("log.dir", "The directory in which everything lies, as Kafka names it."),
    ("log.dirs", "The directory in which everything lies, as Kafka names it; Weir takes one."),
    ("log.retention.check.interval.ms", "How often it is looked whether records are too old or too many."),
    ("max.connections", "The most connections of clients at one time."),
    ("max.connections.per.ip", "The most connections of clients from one address."),
    ("max.connections.per.ip.overrides", "Addresses or names with a limit of their own: HOST:COUNT, by comma."),
    ("max.decompressed.message.bytes", "The most that one compressed batch may give."),
    ("max.incremental.fetch.session.cache.slots", "The most fetch sessions that are remembered."),
    ("max.request.partition.size.limit", "The most partitions that one answer describes."),
    ("memory.bytes", "The most memory for what waits: requests, answers, records that are not written yet."),
    ("node.id", "The node's number in its cluster."),
    ("num.partitions", "Partitions of a topic that is made without saying how many."),
    ("offset.metadata.max.bytes", "The most text that a consumer may commit with an offset."),
    ("offsets.retention.minutes", "How long the offsets of a group without members are kept."),
    ("offsets.topic.num.partitions", "Partitions of the topic that holds the groups; fixed once it is made."),
    (
        "offsets.topic.replication.factor",
        "Replicas of the topic that holds the groups; unset: as default.replication.factor.",
    ),
    ("offsets.topic.segment.bytes", "Segment size of the topic that holds the groups."),
    ("peer.advertise", "What other nodes are told to connect to; without it, peer.listen."),
    ("peer.listen", "Where other nodes connect; a cluster of one needs none."),
    ("producer.id.expiration.ms", "How long an idempotent producer that is silent is remembered."),
    ("replica.selector.class", "Who answers readers that name a rack: the leader, or an in-sync replica in theirs."),
    ("socket.request.max.bytes", "The longest request that is read."),
    ("telemetry.max.bytes", "The most that a client may push of its own metrics at once."),
];

/// What a node's setting does. `None`: nothing here acts on it.
pub fn of_node(key: &str) -> Option<String> {
    if let Some((_, words)) = WORDS.iter().find(|(name, _)| *name == key) {
        return Some((*words).to_owned());
    }
    let stands_in = |topic: &&topic_keys::TopicKey| topic.synonyms.iter().any(|synonym| synonym.name == key);
    if let Some(topic) = topic_keys::KEYS.iter().find(stands_in) {
        return Some(format!("For topics that do not set {} themselves: {}", topic.name, topic.doc));
    }
    let group = group_keys::KEYS.iter().find(|group| group.of_node == key)?;
    Some(format!("For groups that do not set {} themselves: {}", group.name, group.doc))
}

#[cfg(test)]
mod tests {
    use super::super::effect;
    use super::*;

    #[test]
    fn everything_that_a_node_acts_on_is_described() {
        let without: Vec<&str> = effect::with_effect().filter(|key| of_node(key).is_none()).collect();
        assert!(without.is_empty(), "{without:?}");
    }

    #[test]
    fn what_is_described_has_an_effect() {
        for (key, _) in WORDS {
            assert_eq!(effect::of(key), effect::Effect::ActedOn, "{key}");
        }
    }
}

//! Which settings anything acts on, and which must not be taken in silence.
//!
//! Owns the list of Kafka's settings that mean something here. Invariant: a setting that was given is acted on, or accepted because it says what holds
//! anyway, or named in a warning; one that would protect something and does not is refused.

use replication::metadata::broker_config::BrokerKey;

use super::checked::{ConfigRefused, Settings};
use crate::near::near;

/// Our own.
const OWN_KEYS: &[&str] =
    &["advertise", "data.dir", "http", "join", "listen", "memory.bytes", "peer.advertise", "peer.listen"];

/// Of Kafka's: what the server, the node or a topic acts on.
const ACTED_ON: &[&str] = &[
    "advertised.listeners",
    "auto.create.topics.enable",
    "auto.leader.rebalance.enable",
    "broker.id",
    "broker.rack",
    "compression.gzip.level",
    "compression.type",
    "compression.zstd.level",
    "connections.max.idle.ms",
    "controller.listener.names",
    "controller.quorum.bootstrap.servers",
    "controller.quorum.voters",
    "default.replication.factor",
    "delete.topic.enable",
    "fetch.max.bytes",
    "group.consumer.assignment.interval.ms",
    "group.consumer.assignors",
    "group.consumer.heartbeat.interval.ms",
    "group.consumer.max.assignment.interval.ms",
    "group.consumer.max.heartbeat.interval.ms",
    "group.consumer.max.session.timeout.ms",
    "group.consumer.max.size",
    "group.consumer.migration.policy",
    "group.consumer.min.assignment.interval.ms",
    "group.consumer.min.heartbeat.interval.ms",
    "group.consumer.min.session.timeout.ms",
    "group.consumer.session.timeout.ms",
    "group.coordinator.rebalance.protocols",
    "group.initial.rebalance.delay.ms",
    "group.max.session.timeout.ms",
    "group.max.size",
    "group.min.session.timeout.ms",
    "leader.imbalance.check.interval.seconds",
    "listener.security.protocol.map",
    "listeners",
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.delete.retention.ms",
    "log.cleaner.enable",
    "log.cleaner.io.max.bytes.per.second",
    "log.cleaner.max.compaction.lag.ms",
    "log.cleaner.min.cleanable.ratio",
    "log.cleaner.min.compaction.lag.ms",
    "log.cleanup.policy",
    "log.dir",
    "log.dirs",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.index.interval.bytes",
    "log.index.size.max.bytes",
    "log.message.timestamp.after.max.ms",
    "log.message.timestamp.before.max.ms",
    "log.message.timestamp.type",
    "log.retention.bytes",
    "log.retention.check.interval.ms",
    "log.retention.hours",
    "log.retention.minutes",
    "log.retention.ms",
    "log.roll.hours",
    "log.roll.jitter.hours",
    "log.roll.jitter.ms",
    "log.roll.ms",
    "log.segment.bytes",
    "max.connections",
    "max.connections.per.ip",
    "max.connections.per.ip.overrides",
    "max.decompressed.message.bytes",
    "max.incremental.fetch.session.cache.slots",
    "max.request.partition.size.limit",
    "message.max.bytes",
    "min.insync.replicas",
    "node.id",
    "num.partitions",
    "offset.metadata.max.bytes",
    "offsets.retention.minutes",
    "offsets.topic.num.partitions",
    "offsets.topic.replication.factor",
    "offsets.topic.segment.bytes",
    "producer.id.expiration.ms",
    "replica.selector.class",
    "socket.request.max.bytes",
    "telemetry.max.bytes",
];

/// Of Kafka's: roles and names that Weir does not need. Every node has every role, and finds the others by the addresses.
const NOT_NEEDED: &[&str] = &["inter.broker.listener.name", "process.roles"];

/// Of earlier versions of Kafka, in many a file still.
const OF_EARLIER: &[&str] = &[
    "broker.id.generation.enable",
    "delegation.token.master.key",
    "inter.broker.protocol.version",
    "leader.imbalance.per.broker.percentage",
    "log.message.downconversion.enable",
    "log.message.format.version",
    "log.message.timestamp.difference.max.ms",
    "offsets.commit.required.acks",
    "reserved.broker.max.id",
    "zookeeper.connect",
    "zookeeper.connection.timeout.ms",
    "zookeeper.session.timeout.ms",
];

/// What Kafka's plugins read: names that its table does not have.
const OF_PLUGINS: &[&str] = &["allow.everyone.if.no.acl.found", "super.users"];

/// What giving a setting does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    ActedOn,
    /// It says what holds anyway.
    NotNeeded,
    /// Kafka has it, and nothing here acts on it.
    None,
    /// Neither Kafka 4.4 nor Weir has it.
    Unknown,
}

/// What giving a node this setting does.
pub fn of(key: &str) -> Effect {
    if OWN_KEYS.contains(&key) || ACTED_ON.contains(&key) {
        Effect::ActedOn
    } else if NOT_NEEDED.contains(&key) {
        Effect::NotNeeded
    } else if is_of_kafka(key) {
        Effect::None
    } else {
        Effect::Unknown
    }
}

/// All names that a node's settings may have here with effect, ascending.
pub fn with_effect() -> impl Iterator<Item = &'static str> {
    let mut names: Vec<&str> = OWN_KEYS.iter().chain(ACTED_ON).copied().collect();
    names.sort_unstable();
    names.into_iter()
}

/// All names that a node's settings may have.
pub fn all() -> impl Iterator<Item = &'static str> {
    OWN_KEYS.iter().copied().chain(BrokerKey::all().iter().map(|key| key.name))
}

impl Settings<'_> {
    /// What would protect the data and cannot: a start without it would serve everybody in silence.
    pub(super) fn refuse_missing_security(&self) -> Result<(), ConfigRefused> {
        if self.text("authorizer.class.name").is_some() {
            let why = "this version checks no permissions: every client may do everything. Leave the key out to agree to that";
            return Err(self.refuse("authorizer.class.name", why, ""));
        }
        let key = "security.inter.broker.protocol";
        if self.text(key).is_some_and(|protocol| !protocol.eq_ignore_ascii_case("PLAINTEXT")) {
            return Err(self.refuse(
                key,
                "PLAINTEXT is allowed: this version encrypts nothing between nodes",
                "PLAINTEXT",
            ));
        }
        Ok(())
    }

    /// Names that neither Kafka 4.4 nor Weir has.
    pub(super) fn unknown(&self) -> Vec<String> {
        let unknown = self.given(|key| !is_of_kafka(key) && !OWN_KEYS.contains(&key));
        let one = |(key, origin): (&str, String)| match near(key, all(), 1)[..] {
            [meant] => format!("{key} ({origin}; did you mean {meant}?)"),
            _ => format!("{key} ({origin})"),
        };
        unknown.map(one).collect()
    }

    /// Kafka has them, and nothing here acts on them.
    pub(super) fn without_effect(&self) -> Vec<String> {
        let given = self.given(|key| is_of_kafka(key) && !ACTED_ON.contains(&key) && !NOT_NEEDED.contains(&key));
        given.map(|(key, origin)| format!("{key} ({origin})")).collect()
    }

    /// Each with where it was set.
    fn given(&self, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = (&str, String)> {
        let given = self.0.iter().filter(move |(key, setting)| wanted(key) && !setting.value.trim().is_empty());
        given.map(|(key, setting)| (key.as_str(), setting.origin.to_string()))
    }
}

fn is_of_kafka(key: &str) -> bool {
    BrokerKey::find(key).is_some() || OF_PLUGINS.contains(&key) || OF_EARLIER.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn the_lists_hold_names_of_kafka_only() {
        for key in ACTED_ON.iter().chain(NOT_NEEDED) {
            assert!(BrokerKey::find(key).is_some(), "{key}");
        }
        for key in OF_EARLIER.iter().chain(OF_PLUGINS) {
            assert!(BrokerKey::find(key).is_none(), "{key}");
        }
    }

    #[test]
    fn names_that_nobody_has_are_told() {
        let config = check(&["log.retention.housr=1", "num.partitions=8"]).expect("valid");
        assert_eq!(
            (config.unknown, config.without_effect),
            (vec!["log.retention.housr (--set; did you mean log.retention.hours?)".to_owned()], Vec::new())
        );
    }

    #[test]
    fn settings_of_kafka_without_effect_are_told() {
        for pair in [
            "super.users=User:admin",
            "ssl.client.auth=required",
            "sasl.enabled.mechanisms=SCRAM-SHA-512",
            "log.preallocate=true",
            "log.segment.delete.delay.ms=1000",
            "log.cleaner.threads=4",
            "compression.lz4.level=9",
            "num.io.threads=16",
            "leader.imbalance.per.broker.percentage=10",
            "zookeeper.connect=localhost:2181",
        ] {
            let config = check(&[pair]).expect(pair);
            let key = pair.split_once('=').expect("pair").0;
            assert_eq!((config.unknown, config.without_effect), (Vec::new(), vec![format!("{key} (--set)")]));
        }
    }

    #[test]
    fn protection_that_would_be_missing_is_refused() {
        for (pair, says) in [
            (
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "every client may do everything",
            ),
            ("security.inter.broker.protocol=SASL_SSL", "encrypts nothing between nodes"),
        ] {
            let refused = check(&[pair]).expect_err(pair).to_string();
            assert!(refused.contains(says) && refused.contains("--set"), "{refused}");
        }
    }
}

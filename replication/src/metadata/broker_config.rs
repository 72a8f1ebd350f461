//! What may be configured for a node: Kafka's 4.4 names as a table, and the values that Weir acts on.
//!
//! Owns names, types, bounds and defaults. Does not own where settings come from: `server` reads files and the environment.
//! Invariants: the table is sorted by name; a `BrokerConfig` holds only values that passed their bounds. Some defaults depart
//! from Kafka's: `log.flush.interval.messages` is 1, `group.initial.rebalance.delay.ms` 100, `group.coordinator.rebalance.protocols` is
//! without streams, and `default.replication.factor`, `offsets.topic.replication.factor` and `min.insync.replicas` follow the size of the
//! cluster.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::config_value::{ConfigError, Kind, check};
use super::topic_keys::KEYS as KEYS_OF_TOPICS;

/// Name, type, bounds and default of every setting of a node in Kafka 4.4, one on a line.
const TABLE: &str = include_str!("broker_keys.txt");

static KEYS: LazyLock<Vec<BrokerKey>> = LazyLock::new(|| TABLE.lines().map(BrokerKey::parse).collect());

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BrokerKey {
    pub name: &'static str,
    pub kind: Kind,
    /// `None`: nothing is set unless somebody sets it.
    pub default: Option<&'static str>,
}

impl BrokerKey {
    /// Ascending by name.
    pub fn all() -> &'static [BrokerKey] {
        &KEYS
    }

    pub fn find(name: &str) -> Option<&'static BrokerKey> {
        KEYS.binary_search_by(|key| key.name.cmp(name)).ok().and_then(|at| KEYS.get(at))
    }

    /// Whether it can be set while the cluster runs: what stands in for a topic's setting, for all nodes at once; the throttles of
    /// replication also for one.
    pub fn is_dynamic(&self, scope: Scope) -> bool {
        let for_topics = || KEYS_OF_TOPICS.iter().flat_map(|key| key.synonyms).any(|synonym| synonym.name == self.name);
        self.is_throttle() || scope == Scope::EveryNode && for_topics()
    }

    /// Set by Kafka's tool for reassignments; no node has it in its own settings.
    pub fn is_throttle(&self) -> bool {
        THROTTLES.contains(&self.name)
    }

    /// Never shown to clients.
    pub fn is_sensitive(&self) -> bool {
        self.kind == Kind::Password
    }

    fn parse(line: &'static str) -> BrokerKey {
        let mut columns = line.splitn(4, '|');
        let mut column = || columns.next().expect("each line of the table has four columns");
        let (name, type_name, bounds, default) = (column(), column(), column(), column());
        let range = || {
            let (min, max) = bounds.split_once("..").unwrap_or_default();
            (min.parse::<i64>().unwrap_or(i64::MIN), max.parse::<i64>().unwrap_or(i64::MAX))
        };
        let choices = || -> &'static [&'static str] { bounds.split(',').collect::<Vec<_>>().leak() };
        let kind = match type_name {
            "BOOLEAN" => Kind::Boolean,
            "PASSWORD" => Kind::Password,
            "CLASS" => Kind::Class,
            "DOUBLE" if bounds.is_empty() => Kind::Double { min: f64::MIN, max: f64::MAX },
            "DOUBLE" => Kind::Double { min: 0.0, max: if bounds == "0..1" { 1.0 } else { f64::MAX } },
            "INT" if bounds == "gzip" => Kind::GzipLevel,
            "INT" => Kind::Int { min: range().0.max(i32::MIN.into()), max: range().1.min(i32::MAX.into()) },
            "SHORT" => Kind::Short { min: range().0.max(i16::MIN.into()), max: range().1.min(i16::MAX.into()) },
            "LONG" => Kind::Long { min: range().0, max: range().1 },
            "LIST" if bounds.is_empty() => Kind::List { of: &[] },
            "LIST" => Kind::List { of: choices() },
            "STRING" if bounds.is_empty() => Kind::Text,
            "STRING" => Kind::Choice { of: choices() },
            other => unreachable!("type {other} of {name} is not one of the table's"),
        };
        BrokerKey { name, kind, default: (default != "null" && default != "REQUIRED").then_some(default) }
    }
}

/// Bytes a second: what leaders send, what followers take (`throttles`); what moves between directories, of which a node has one, so that
/// the last is kept and shown for the tool that sets it, and slows nothing.
const THROTTLES: [&str; 3] = [
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];

/// For whom a node's configuration is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    EveryNode,
    OneNode,
}

/// One node's own settings, checked. Times are milliseconds, sizes bytes.
#[derive(Clone, PartialEq, Debug)]
pub struct BrokerConfig {
    settings: BTreeMap<String, String>,
    pub auto_create_topics: bool,
    pub delete_topics: bool,
    /// Of a topic that is created without a number.
    pub partitions_default: u32,
    /// `None`: as many as there are nodes, at most 3.
    pub replication_factor_default: Option<u16>,
    pub offsets_topic_partitions: u32,
    pub offsets_topic_segment_bytes: u32,
    /// Only where it was set; else it follows the cluster.
    pub offsets_topic_replication_factor: Option<u16>,
    pub offsets_retention_ms: u64,
    pub offset_metadata_bytes_max: u32,
    pub group_initial_rebalance_delay_ms: u64,
    pub group_session_timeout_ms_min: u64,
    pub group_session_timeout_ms_max: u64,
    pub group_size_max: u32,
    pub message_bytes_max: u32,
    pub producer_id_expiration_ms: u64,
    pub fetch_bytes_max: u32,
    /// Of what a client pushes of its metrics at once.
    pub telemetry_bytes_max: u32,
    pub fetch_sessions_max: u32,
    pub retention_check_interval_ms: u64,
    /// Leaderships go back to the preferred replicas by themselves.
    pub leader_rebalance: bool,
    pub leader_check_interval_s: u64,
    pub cleaner_enabled: bool,
    /// How often logs are looked through for one that is worth to be compacted.
    pub cleaner_backoff_ms: u64,
    /// The most for the keys of one run.
    pub cleaner_memory_bytes: u64,
    pub cleaner_bytes_per_second: u64,
}

impl Default for BrokerConfig {
    fn default() -> BrokerConfig {
        BrokerConfig::new(BTreeMap::new()).expect("the defaults pass their own bounds")
    }
}

impl BrokerConfig {
    /// Checks each setting whose name is known, also as what it means for topics; others are kept for `unknown` to name.
    pub fn new(settings: BTreeMap<String, String>) -> Result<BrokerConfig, ConfigError> {
        let usual = |name: &str| BrokerKey::find(name).and_then(|key| key.default);
        // These first: the bounds of many a setting of a node are wider than what a topic can take over.
        for key in KEYS_OF_TOPICS {
            for synonym in key.synonyms {
                if let Some(value) = settings.get(synonym.name) {
                    let of_topic = synonym.unscale(key.default);
                    let usual = usual(synonym.name).or(of_topic.as_deref());
                    check(synonym.name, key.kind, &synonym.scale(value), usual)?;
                }
            }
        }
        for (name, value) in &settings {
            if let Some(key) = BrokerKey::find(name) {
                check(name, key.kind, value.trim(), key.default)?;
            }
        }
        let values = Values(&settings);
        Ok(BrokerConfig {
            auto_create_topics: values.flag("auto.create.topics.enable"),
            delete_topics: values.flag("delete.topic.enable"),
            partitions_default: values.size("num.partitions"),
            replication_factor_default: values.set("default.replication.factor"),
            offsets_topic_partitions: values.size("offsets.topic.num.partitions"),
            offsets_topic_segment_bytes: values.size("offsets.topic.segment.bytes"),
            offsets_topic_replication_factor: values.set("offsets.topic.replication.factor"),
            offsets_retention_ms: values.count("offsets.retention.minutes").saturating_mul(60_000),
            offset_metadata_bytes_max: values.size("offset.metadata.max.bytes"),
            group_initial_rebalance_delay_ms: values.count("group.initial.rebalance.delay.ms"),
            group_session_timeout_ms_min: values.count("group.min.session.timeout.ms"),
            group_session_timeout_ms_max: values.count("group.max.session.timeout.ms"),
            group_size_max: values.size("group.max.size"),
            message_bytes_max: values.size("message.max.bytes"),
            producer_id_expiration_ms: values.count("producer.id.expiration.ms"),
            fetch_bytes_max: values.size("fetch.max.bytes"),
            telemetry_bytes_max: values.size("telemetry.max.bytes"),
            fetch_sessions_max: values.size("max.incremental.fetch.session.cache.slots"),
            retention_check_interval_ms: values.count("log.retention.check.interval.ms"),
            leader_rebalance: values.flag("auto.leader.rebalance.enable"),
            leader_check_interval_s: values.count("leader.imbalance.check.interval.seconds"),
            cleaner_enabled: values.flag("log.cleaner.enable"),
            cleaner_backoff_ms: values.count("log.cleaner.backoff.ms"),
            cleaner_memory_bytes: values.count("log.cleaner.dedupe.buffer.size"),
            cleaner_bytes_per_second: values.rate("log.cleaner.io.max.bytes.per.second"),
            settings,
        })
    }

    /// What was set on this node, not the defaults.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(|value| value.trim())
    }
}

struct Values<'a>(&'a BTreeMap<String, String>);

impl Values<'_> {
    fn text(&self, name: &'static str) -> &str {
        let key = BrokerKey::find(name).expect("only names of the table are asked for");
        self.0.get(name).map(|value| value.trim()).or(key.default).expect("a setting that Weir acts on has a default")
    }

    fn flag(&self, name: &'static str) -> bool {
        self.text(name).eq_ignore_ascii_case("true")
    }

    fn count(&self, name: &'static str) -> u64 {
        self.text(name).parse::<i64>().ok().and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
    }

    /// Written as a number with a fraction; what is larger than any disk is as good as no bound.
    fn rate(&self, name: &'static str) -> u64 {
        const MOST: f64 = 1e15;
        let rate = self.text(name).parse::<f64>().unwrap_or(MOST).clamp(1.0, MOST).round();
        format!("{rate:.0}").parse().unwrap_or(u64::MAX)
    }

    fn size(&self, name: &'static str) -> u32 {
        u32::try_from(self.count(name)).unwrap_or(u32::MAX)
    }

    /// Only what somebody set.
    fn set(&self, name: &'static str) -> Option<u16> {
        self.0.get(name)?.trim().parse().ok()
    }
}

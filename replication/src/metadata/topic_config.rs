//! What may be configured for a topic: the typed result, and how texts become it.
//!
//! Owns the checks and the order in which a value is looked for: the topic's override, the cluster's value for the broker synonym, this
//! node's own, the default. Does not own the table of names (`topic_keys`).
//! Invariant: a `TopicConfig` can only hold values that passed their bounds.

use std::collections::BTreeMap;

use model::batch::{Codec, TimestampType};

use super::config_value::{ConfigError, check};
use super::topic_keys::{KEYS, TopicKey};

/// One topic's configuration, resolved. Times are milliseconds, sizes bytes; `None` is "no limit".
#[derive(Clone, PartialEq, Debug)]
pub struct TopicConfig {
    pub cleanup: Cleanup,
    pub compression: Compression,
    pub delete_retention_ms: u64,
    /// 1: every append is journalled and the durable position counts. Else Kafka's meaning, without the journal.
    pub flush_messages: u64,
    pub flush_ms: u64,
    pub index_interval_bytes: u32,
    pub max_compaction_lag_ms: u64,
    pub max_decompressed_message_bytes: u32,
    pub max_message_bytes: u32,
    pub timestamp_after_max_ms: u64,
    pub timestamp_before_max_ms: u64,
    pub timestamp_type: TimestampType,
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: u64,
    /// `None`: half of the replication factor, rounded up (`Topic::min_insync_replicas`).
    pub min_insync_replicas: Option<u16>,
    pub retention_bytes: Option<u64>,
    pub retention_ms: Option<u64>,
    pub segment_bytes: u32,
    pub segment_index_bytes: u32,
    pub segment_jitter_ms: u64,
    pub segment_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cleanup {
    pub delete: bool,
    pub compact: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// As the producer sent it.
    Producer,
    /// Compressed again where the producer used another codec; the level is the codec's own.
    Codec { codec: Codec, level: i32 },
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        TopicConfig::resolve(|_| None).expect("the defaults pass their own bounds")
    }
}

impl TopicConfig {
    /// Every append goes through the journal, whatever its acks.
    pub fn is_journalled(&self) -> bool {
        self.flush_messages == 1
    }

    /// Takes each value from `value_of`, or the default where that has none.
    pub fn resolve(value_of: impl Fn(&TopicKey) -> Option<String>) -> Result<TopicConfig, ConfigError> {
        let values = Values::collect(value_of)?;
        Ok(TopicConfig {
            cleanup: cleanup(values.text("cleanup.policy")),
            compression: compression(&values),
            delete_retention_ms: values.count("delete.retention.ms"),
            flush_messages: values.count("flush.messages"),
            flush_ms: values.count("flush.ms"),
            index_interval_bytes: values.size("index.interval.bytes"),
            max_compaction_lag_ms: values.count("max.compaction.lag.ms"),
            max_decompressed_message_bytes: values.size("max.decompressed.message.bytes"),
            max_message_bytes: values.size("max.message.bytes"),
            timestamp_after_max_ms: values.count("message.timestamp.after.max.ms"),
            timestamp_before_max_ms: values.count("message.timestamp.before.max.ms"),
            timestamp_type: match values.text("message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_cleanable_dirty_ratio: values.ratio("min.cleanable.dirty.ratio"),
            min_compaction_lag_ms: values.count("min.compaction.lag.ms"),
            min_insync_replicas: u16::try_from(values.count("min.insync.replicas")).ok().filter(|count| *count > 0),
            retention_bytes: values.limit("retention.bytes"),
            retention_ms: values.limit("retention.ms"),
            segment_bytes: values.size("segment.bytes"),
            segment_index_bytes: values.size("segment.index.bytes"),
            segment_jitter_ms: values.count("segment.jitter.ms"),
            segment_ms: values.count("segment.ms"),
        })
    }

    /// Checks what a client wants to set for a topic: names known, values in bounds, and values that fit each other.
    pub fn validate(overrides: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        for name in overrides.keys() {
            if TopicKey::find(name).is_none() {
                return Err(ConfigError::Unknown { key: name.clone() });
            }
        }
        let config = TopicConfig::resolve(|key| overrides.get(key.name).cloned())?;
        if overrides.get("remote.storage.enable").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
            return Err(ConfigError::NotServed { key: "remote.storage.enable", why: "tiered storage" });
        }
        if config.min_compaction_lag_ms > config.max_compaction_lag_ms {
            return Err(ConfigError::Conflict {
                key: "min.compaction.lag.ms",
                value: config.min_compaction_lag_ms.to_string(),
                other: "max.compaction.lag.ms",
                bound: config.max_compaction_lag_ms.to_string(),
            });
        }
        Ok(())
    }
}

/// The values of all keys, each checked against its own bounds.
struct Values(BTreeMap<&'static str, String>);

impl Values {
    fn collect(value_of: impl Fn(&TopicKey) -> Option<String>) -> Result<Values, ConfigError> {
        let value = |key: &'static TopicKey| {
            let text = match value_of(key) {
                Some(text) => {
                    check(key.name, key.kind, text.trim(), Some(key.default)).map(|()| text.trim().to_owned())?
                }
                None => key.default.to_owned(),
            };
            Ok((key.name, text))
        };
        KEYS.iter().map(value).collect::<Result<_, _>>().map(Values)
    }

    fn text(&self, key: &'static str) -> &str {
        self.0.get(key).expect("`collect` has every key of the table")
    }

    fn number(&self, key: &'static str) -> i64 {
        self.text(key).parse().expect("`check` has parsed it")
    }

    /// Negative ones have no meaning here: the bounds exclude them, except for defaults that mean "decided elsewhere".
    fn count(&self, key: &'static str) -> u64 {
        u64::try_from(self.number(key)).unwrap_or(0)
    }

    fn size(&self, key: &'static str) -> u32 {
        u32::try_from(self.number(key)).expect("the bounds of sizes lie within u32")
    }

    fn limit(&self, key: &'static str) -> Option<u64> {
        u64::try_from(self.number(key)).ok()
    }

    fn ratio(&self, key: &'static str) -> f64 {
        self.text(key).parse().expect("`check` has parsed it")
    }
}

fn cleanup(list: &str) -> Cleanup {
    let has = |wanted: &str| list.split(',').any(|item| item.trim() == wanted);
    Cleanup { delete: has("delete"), compact: has("compact") }
}

fn compression(values: &Values) -> Compression {
    let level = |key| i32::try_from(values.number(key)).expect("the bounds of levels lie within i32");
    let (codec, level) = match values.text("compression.type") {
        "uncompressed" => (Codec::None, 0),
        "gzip" => (Codec::Gzip, level("compression.gzip.level")),
        "snappy" => (Codec::Snappy, 0),
        "lz4" => (Codec::Lz4, level("compression.lz4.level")),
        "zstd" => (Codec::Zstd, level("compression.zstd.level")),
        _ => return Compression::Producer,
    };
    Compression::Codec { codec, level }
}

impl TopicKey {
    pub fn find(name: &str) -> Option<&'static TopicKey> {
        KEYS.binary_search_by(|key| key.name.cmp(name)).ok().and_then(|at| KEYS.get(at))
    }
}

//! The topic configurations of Kafka 4.4, as a table.
//!
//! Owns names, types, bounds, defaults and what each is for. Does not own their meaning: the code that reads `TopicConfig` does.
//! Invariant: sorted by name. One default departs from Kafka's: `flush.messages` is 1, so acknowledged records are on disk; and
//! `min.insync.replicas` is derived from the replication factor unless it is set (0 in the table, which nobody is shown).

use model::limits::BATCH_BYTES_MAX;

use super::config_value::Kind;

pub struct TopicKey {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    /// The settings of a node that stand in where the topic sets nothing, the strongest first.
    pub synonyms: &'static [Synonym],
    pub doc: &'static str,
}

impl TopicKey {
    /// The default for people: in words where it follows from something else.
    pub fn default_in_words(&self) -> &'static str {
        match self.name {
            "min.insync.replicas" => "half of the replication factor, rounded up",
            _ => self.default,
        }
    }
}

/// A node's setting and what its unit is worth in the topic's.
pub struct Synonym {
    pub name: &'static str,
    pub times: i64,
}

impl Synonym {
    /// The node's value in the unit of the topic's; a negative one means "no limit" in any unit.
    pub fn scale(&self, value: &str) -> String {
        match value.trim().parse::<i64>() {
            Ok(number) if self.times > 1 && number >= 0 => number.saturating_mul(self.times).to_string(),
            _ => value.trim().to_owned(),
        }
    }

    /// A topic's default as it would be written here, if it can be.
    pub fn unscale(&self, default: &str) -> Option<String> {
        if self.times == 1 {
            return Some(default.to_owned());
        }
        let number = default.parse::<i64>().ok().filter(|number| *number > 0 && number % self.times == 0)?;
        Some((number / self.times).to_string())
    }
}

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    synonyms: &'static [Synonym],
    doc: &'static str,
) -> TopicKey {
    TopicKey { name, kind, default, synonyms, doc }
}

const fn same(name: &'static str) -> Synonym {
    Synonym { name, times: 1 }
}

const fn minutes(name: &'static str) -> Synonym {
    Synonym { name, times: 60_000 }
}

const fn hours(name: &'static str) -> Synonym {
    Synonym { name, times: 3_600_000 }
}

pub const KEYS: &[TopicKey] = &[
    key(
        "cleanup.policy",
        Kind::List { of: &["compact", "delete"] },
        "delete",
        &[same("log.cleanup.policy")],
        "What happens to old segments: delete removes them by time and size, compact keeps the newest record of each key.",
    ),
    key(
        "compression.gzip.level",
        Kind::GzipLevel,
        "-1",
        &[same("compression.gzip.level")],
        "Level where compression.type is gzip; -1 is the codec's own default.",
    ),
    key(
        "compression.lz4.level",
        Kind::Int { min: 1, max: 17 },
        "9",
        &[same("compression.lz4.level")],
        "Level where compression.type is lz4. Without effect in this version: the encoder has one level only.",
    ),
    key(
        "compression.type",
        Kind::Choice { of: &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"] },
        "producer",
        &[same("compression.type")],
        "The codec that batches are stored with; producer keeps what was sent.",
    ),
    key(
        "compression.zstd.level",
        Kind::Int { min: -131072, max: 22 },
        "3",
        &[same("compression.zstd.level")],
        "Level where compression.type is zstd.",
    ),
    key(
        "delete.retention.ms",
        Kind::long_at_least(0),
        "86400000",
        &[same("log.cleaner.delete.retention.ms")],
        "How long a compacted topic keeps the tombstone of a deleted key, from the first compaction that meets it.",
    ),
    key(
        "errors.deadletterqueue.group.enable",
        Kind::Boolean,
        "false",
        &[],
        "Whether share groups may use this topic for records that could not be processed.",
    ),
    key(
        "file.delete.delay.ms",
        Kind::long_at_least(0),
        "60000",
        &[same("log.segment.delete.delay.ms")],
        "How long a removed segment's file stays on disk. Without effect in this version: the journal says that it is gone, and whoever \
         was about to read it is told anew where to read.",
    ),
    key(
        "flush.messages",
        Kind::long_at_least(1),
        "1",
        &[same("log.flush.interval.messages")],
        "1: every append is synced through the journal before it counts as durable. Another value: files are synced \
         after so many records and acks wait for the page cache only.",
    ),
    key(
        "flush.ms",
        Kind::long_at_least(0),
        "9223372036854775807",
        &[same("log.flush.interval.ms"), same("log.flush.scheduler.interval.ms")],
        "After this time written records are synced, in topics that are not journalled; at the latest after 5 s in any case.",
    ),
    key(
        "follower.replication.throttled.replicas",
        Kind::ThrottledReplicas,
        "",
        &[],
        "Replicas whose fetching is throttled while partitions move.",
    ),
    key(
        "index.interval.bytes",
        Kind::int_at_least(0),
        "4096",
        &[same("log.index.interval.bytes")],
        "Bytes of records between two entries of the offset index.",
    ),
    key(
        "leader.replication.throttled.replicas",
        Kind::ThrottledReplicas,
        "",
        &[],
        "Replicas to whom sending is throttled while partitions move.",
    ),
    key(
        "local.retention.bytes",
        Kind::long_at_least(-2),
        "-2",
        &[same("log.local.retention.bytes")],
        "Bytes of a partition kept on local disks where older data is tiered; -2 is retention.bytes.",
    ),
    key(
        "local.retention.ms",
        Kind::long_at_least(-2),
        "-2",
        &[same("log.local.retention.ms")],
        "How long data stays on local disks where older data is tiered; -2 is retention.ms.",
    ),
    key(
        "max.compaction.lag.ms",
        Kind::long_at_least(1),
        "9223372036854775807",
        &[same("log.cleaner.max.compaction.lag.ms")],
        "The longest time that a record of a compacted topic waits for compaction; segments are closed that soon too.",
    ),
    key(
        "max.decompressed.message.bytes",
        Kind::int_at_least(0),
        "2147483639",
        &[same("max.decompressed.message.bytes")],
        "The most bytes that a batch may hold once decompressed.",
    ),
    key(
        "max.message.bytes",
        Kind::Int { min: 0, max: BATCH_BYTES_MAX as i64 },
        "1048588",
        &[same("message.max.bytes")],
        "The largest batch that is accepted.",
    ),
    key(
        "message.timestamp.after.max.ms",
        Kind::long_at_least(0),
        "3600000",
        &[same("log.message.timestamp.after.max.ms")],
        "How far a record's timestamp may lie ahead of the clock.",
    ),
    key(
        "message.timestamp.before.max.ms",
        Kind::long_at_least(0),
        "9223372036854775807",
        &[same("log.message.timestamp.before.max.ms")],
        "How far a record's timestamp may lie behind the clock.",
    ),
    key(
        "message.timestamp.type",
        Kind::Choice { of: &["CreateTime", "LogAppendTime"] },
        "CreateTime",
        &[same("log.message.timestamp.type")],
        "Whose timestamp a record has: its producer's, or the leader's clock at append.",
    ),
    key(
        "min.cleanable.dirty.ratio",
        Kind::Double { min: 0.0, max: 1.0 },
        "0.5",
        &[same("log.cleaner.min.cleanable.ratio")],
        "A compacted topic is compacted when more than this share of its bytes was not looked at before.",
    ),
    key(
        "min.compaction.lag.ms",
        Kind::long_at_least(0),
        "0",
        &[same("log.cleaner.min.compaction.lag.ms")],
        "How long a record of a compacted topic is left alone.",
    ),
    key(
        "min.insync.replicas",
        Kind::int_at_least(1),
        "0",
        &[same("min.insync.replicas")],
        "How many replicas must hold a record before acks=all is answered. Where nothing is set, it is half of the replication factor, \
         rounded up: no minority of the replicas can acknowledge alone, and one of two may be away. Kafka's default is 1.",
    ),
    key(
        "preallocate",
        Kind::Boolean,
        "false",
        &[same("log.preallocate")],
        "Accepted for compatibility; segment files grow as they are written. Without effect in this version.",
    ),
    key(
        "remote.copy.lag.bytes",
        Kind::long_at_least(-1),
        "-1",
        &[same("log.remote.copy.lag.bytes")],
        "Bytes that a segment waits before it is tiered.",
    ),
    key(
        "remote.copy.lag.ms",
        Kind::long_at_least(-1),
        "0",
        &[same("log.remote.copy.lag.ms")],
        "Time that a segment waits before it is tiered.",
    ),
    key("remote.log.copy.disable", Kind::Boolean, "false", &[], "Whether no more segments are tiered."),
    key(
        "remote.log.delete.on.disable",
        Kind::Boolean,
        "false",
        &[],
        "Whether tiered data goes when tiering is switched off.",
    ),
    key("remote.storage.enable", Kind::Boolean, "false", &[], "Whether older segments are tiered."),
    key(
        "retention.bytes",
        Kind::long_at_least(-1),
        "-1",
        &[same("log.retention.bytes")],
        "Bytes that a partition keeps before its oldest segments go; -1 is no limit.",
    ),
    key(
        "retention.ms",
        Kind::long_at_least(-1),
        "604800000",
        &[same("log.retention.ms"), minutes("log.retention.minutes"), hours("log.retention.hours")],
        "How long a record is kept; -1 is for ever.",
    ),
    key(
        "segment.bytes",
        Kind::int_at_least(1048576),
        "1073741824",
        &[same("log.segment.bytes")],
        "The size at which a segment is closed and a new one begun.",
    ),
    key(
        "segment.index.bytes",
        Kind::int_at_least(4),
        "10485760",
        &[same("log.index.size.max.bytes")],
        "The largest size of a segment's offset index: the segment is closed when it is full.",
    ),
    key(
        "segment.jitter.ms",
        Kind::long_at_least(0),
        "0",
        &[same("log.roll.jitter.ms"), hours("log.roll.jitter.hours")],
        "The most by which the closing of a segment by time comes earlier, another time for each segment.",
    ),
    key(
        "segment.ms",
        Kind::long_at_least(1),
        "604800000",
        &[same("log.roll.ms"), hours("log.roll.hours")],
        "The age at which a segment is closed even when it is not full.",
    ),
    key(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        &[same("unclean.leader.election.enable")],
        "Whether a replica that may lack acknowledged records may lead when no other is left. Without effect in this version: such \
         an election happens by command only.",
    ),
];

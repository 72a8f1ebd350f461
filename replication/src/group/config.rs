//! What a group coordinator is configured with, and its limits.
//!
//! Owns the defaults. Does not own the parsing of Kafka's keys: `server::config` does.

use std::time::Duration;

use super::consumer::ConsumerConfig;

/// The longest group id: the record's key stores lengths as i16.
pub const GROUP_ID_BYTES_MAX: usize = i16::MAX as usize;
/// The longest instance id, protocol name and protocol type. Java's client allows 249 for an instance id.
pub const NAME_BYTES_MAX: usize = 4096;
/// What is kept of a client id, in a member and in its generated id.
pub const CLIENT_ID_BYTES_MAX: usize = 1024;
/// Protocols that one member may offer. The clients know at most a handful of assignors.
pub const PROTOCOLS_MAX: usize = 100;
/// Members of one group, and as many that were told their id and have not joined with it, whatever `group.max.size` says.
pub const MEMBERS_MAX: usize = 10_000;
/// Members that one LeaveGroup may name.
pub const LEAVING_MAX: usize = 100_000;
/// A static member has no UUID of its own in its id, but both forms must fit in a record's string.
pub const MEMBER_ID_BYTES_MAX: usize = NAME_BYTES_MAX + 1 + 36;
/// Room for one record's fields beside what its strings and bytes hold.
pub const RECORD_SLACK_BYTES: usize = 64;

const _: () = {
    assert!(MEMBER_ID_BYTES_MAX <= i16::MAX as usize);
    assert!(CLIENT_ID_BYTES_MAX <= NAME_BYTES_MAX);
};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupConfig {
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members before its first
    /// generation. Kafka's 3 s makes each start of a lone consumer wait; members that start within a second of each
    /// other need few rebalances anyway, so the default only catches the consumers of one process.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`, `group.max.session.timeout.ms`.
    pub session_timeout_ms_min: i32,
    pub session_timeout_ms_max: i32,
    /// How long a member that has never been told its generation may be silent: a parked join sends no heartbeats.
    pub new_member_join_timeout: Duration,
    /// `group.max.size`; above `MEMBERS_MAX` that holds.
    pub members_max: usize,
    /// `offset.metadata.max.bytes`, in UTF-16 units as Kafka counts.
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check: Duration,
    /// Groups that one shard may hold.
    pub groups_max: usize,
    /// Bytes of members and offsets that one shard may hold.
    pub shard_bytes_max: usize,
    /// Bytes of names and metadata that the members of one group may hold together.
    pub group_bytes_max: usize,
    /// Partitions that one group may have offsets for.
    pub group_offsets_max: usize,
    /// The largest record that the log takes (`max.message.bytes` of its topic, less a batch's head).
    pub record_bytes_max: usize,
    pub consumer: ConsumerConfig,
}

impl Default for GroupConfig {
    fn default() -> GroupConfig {
        GroupConfig {
            initial_rebalance_delay: Duration::from_millis(100),
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            new_member_join_timeout: Duration::from_secs(300),
            members_max: MEMBERS_MAX,
            offset_metadata_max: 4096,
            offsets_retention_ms: 7 * 24 * 3600 * 1000,
            offsets_retention_check: Duration::from_secs(600),
            groups_max: 100_000,
            shard_bytes_max: 64 << 20,
            group_bytes_max: 16 << 20,
            group_offsets_max: 200_000,
            record_bytes_max: 1_000_000,
            consumer: ConsumerConfig::default(),
        }
    }
}

//! What may be configured for one group: Kafka's 4.4 names, as far as somebody acts on them.
//!
//! Owns names and bounds. Does not own what they mean: `group::consumer` does.
//! Invariant: the bounds of a group's setting are settings of the node (`group.consumer.min.…`, `group.consumer.max.…`), which decide
//! again where the setting is used: they may be changed after it was set.

use std::collections::BTreeMap;

use super::broker_config::{BrokerConfig, BrokerKey};
use super::config_value::{ConfigError, Kind, check};
use crate::group::{ASSIGNMENT_INTERVAL, HEARTBEAT_INTERVAL, SESSION_TIMEOUT};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupKey {
    pub name: &'static str,
    /// What holds for all groups for which it is not set.
    pub of_node: &'static str,
    min: &'static str,
    max: &'static str,
    pub doc: &'static str,
}

/// Ascending by name.
pub const KEYS: [GroupKey; 3] = [
    GroupKey {
        name: ASSIGNMENT_INTERVAL,
        of_node: "group.consumer.assignment.interval.ms",
        min: "group.consumer.min.assignment.interval.ms",
        max: "group.consumer.max.assignment.interval.ms",
        doc: "How long after an assignment the next one is computed. Where nobody set it: at once, in groups of more than 100 members \
              one millisecond for each, at most a second.",
    },
    GroupKey {
        name: HEARTBEAT_INTERVAL,
        of_node: "group.consumer.heartbeat.interval.ms",
        min: "group.consumer.min.heartbeat.interval.ms",
        max: "group.consumer.max.heartbeat.interval.ms",
        doc: "How often members send heartbeats. Where nobody set it: every 500 ms, less often in groups of more than 250 members, and \
              every 100 ms for who waits for partitions of others.",
    },
    GroupKey {
        name: SESSION_TIMEOUT,
        of_node: "group.consumer.session.timeout.ms",
        min: "group.consumer.min.session.timeout.ms",
        max: "group.consumer.max.session.timeout.ms",
        doc: "A member that is silent for so long is out of the group.",
    },
];

impl GroupKey {
    pub fn find(name: &str) -> Option<&'static GroupKey> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// With the bounds that this node was started with.
    pub fn kind(&self, statics: &BrokerConfig) -> Kind {
        Kind::Int { min: number(statics, self.min), max: number(statics, self.max) }
    }
}

/// A setting of the node, or its default.
fn number(statics: &BrokerConfig, name: &str) -> i64 {
    let default = BrokerKey::find(name).and_then(|key| key.default);
    let value = statics.get(name).or(default).and_then(|value| value.parse().ok());
    value.expect("these are numbers, and have defaults")
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GroupConfigError {
    /// In Kafka's words.
    #[error("Unknown group config name: {key}")]
    Unknown { key: String },
    #[error(transparent)]
    Value(#[from] ConfigError),
    #[error("{SESSION_TIMEOUT}={session} must be greater than {HEARTBEAT_INTERVAL}={heartbeat}")]
    SessionTooShort { session: i64, heartbeat: i64 },
}

/// Whether all of these may be set together.
pub fn validate(values: &BTreeMap<String, String>, statics: &BrokerConfig) -> Result<(), GroupConfigError> {
    for (name, value) in values {
        let key = GroupKey::find(name).ok_or_else(|| GroupConfigError::Unknown { key: name.clone() })?;
        let usual = BrokerKey::find(key.of_node).and_then(|key| key.default);
        check(name, key.kind(statics), value.trim(), usual)?;
    }
    let set = |name: &str| values.get(name).and_then(|value| value.trim().parse::<i64>().ok());
    let session = set(SESSION_TIMEOUT).unwrap_or_else(|| number(statics, "group.consumer.session.timeout.ms"));
    match set(HEARTBEAT_INTERVAL) {
        Some(heartbeat) if heartbeat >= session => Err(GroupConfigError::SessionTooShort { session, heartbeat }),
        _ => Ok(()),
    }
}

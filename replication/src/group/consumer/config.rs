//! What groups of the consumer protocol are configured with: the node's own settings, and those of one group.
//!
//! Owns defaults and the order: what was set for the group, else for the node, else what fits the group's size.
//! Two defaults depart from Kafka's where nobody set anything: heartbeats come every half second instead of every five
//! (a member learns of a rebalance by its heartbeat only, and who waits for partitions of others asks more often), and
//! assignments are computed at once. Both intervals grow with the group, so that a large one costs no more.

use std::collections::BTreeMap;
use std::time::Duration;

use model::GroupId;

use super::super::member::milliseconds;
use super::assign::Assignor;
use crate::metadata::{Image, Resource};

pub const SESSION_TIMEOUT: &str = "consumer.session.timeout.ms";
pub const HEARTBEAT_INTERVAL: &str = "consumer.heartbeat.interval.ms";
pub const ASSIGNMENT_INTERVAL: &str = "consumer.assignment.interval.ms";

/// Of a small group where nothing is set.
const HEARTBEAT_MS: i32 = 500;
/// While a member waits for partitions that others still have.
const WAITING_MS: i32 = 100;
/// Of a group of any size where nothing is set: Kafka's default.
const HEARTBEAT_MS_MAX: i32 = 5_000;
/// What each member adds to the interval of all, beyond the first few.
const MEMBER_MS: i32 = 2;
/// Groups up to this size are assigned at each change.
const SMALL_GROUP: usize = 100;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerConfig {
    /// `group.consumer.assignors`: the first is the default.
    pub assignors: Vec<Assignor>,
    /// `group.consumer.session.timeout.ms` and its bounds.
    pub session_timeout_ms: i32,
    pub session_timeout_ms_min: i32,
    pub session_timeout_ms_max: i32,
    /// `group.consumer.heartbeat.interval.ms`, where it was set, and its bounds.
    pub heartbeat_interval_ms: Option<i32>,
    pub heartbeat_interval_ms_min: i32,
    pub heartbeat_interval_ms_max: i32,
    /// `group.consumer.assignment.interval.ms`, where it was set.
    pub assignment_interval_ms: Option<i32>,
    pub assignment_interval_ms_min: i32,
    pub assignment_interval_ms_max: i32,
    /// `group.consumer.max.size`.
    pub members_max: usize,
    /// `group.consumer.migration.policy`.
    pub may_upgrade: bool,
    pub may_downgrade: bool,
}

impl Default for ConsumerConfig {
    fn default() -> ConsumerConfig {
        ConsumerConfig {
            assignors: Assignor::ALL.to_vec(),
            session_timeout_ms: 45_000,
            session_timeout_ms_min: 45_000,
            session_timeout_ms_max: 60_000,
            heartbeat_interval_ms: None,
            heartbeat_interval_ms_min: 5_000,
            heartbeat_interval_ms_max: 15_000,
            assignment_interval_ms: None,
            assignment_interval_ms_min: 0,
            assignment_interval_ms_max: 15_000,
            members_max: super::super::config::MEMBERS_MAX,
            may_upgrade: true,
            may_downgrade: true,
        }
    }
}

/// What holds for one group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct Settings {
    session_timeout_ms: i32,
    heartbeat_interval_ms: Option<i32>,
    assignment_interval_ms: Option<i32>,
}

impl Settings {
    pub(in super::super) fn of(group: &GroupId, config: &ConsumerConfig, image: &Image) -> Settings {
        let none = BTreeMap::new();
        let set = match image.has_configured_groups() {
            true => image.overrides(&Resource::Group(group.as_str().to_owned())),
            false => &none,
        };
        let number = |key: &str, min: i32, max: i32| {
            let number = set.get(key).and_then(|value| value.trim().parse::<i32>().ok());
            // The bounds may have been narrowed since.
            number.map(|number| number.max(min).min(max.max(min)))
        };
        let session = number(SESSION_TIMEOUT, config.session_timeout_ms_min, config.session_timeout_ms_max);
        let heartbeat = number(HEARTBEAT_INTERVAL, config.heartbeat_interval_ms_min, config.heartbeat_interval_ms_max);
        let assignment =
            number(ASSIGNMENT_INTERVAL, config.assignment_interval_ms_min, config.assignment_interval_ms_max);
        Settings {
            session_timeout_ms: session.unwrap_or(config.session_timeout_ms),
            heartbeat_interval_ms: heartbeat.or(config.heartbeat_interval_ms),
            assignment_interval_ms: assignment.or(config.assignment_interval_ms),
        }
    }

    pub(in super::super) fn session_timeout(&self) -> Duration {
        milliseconds(self.session_timeout_ms)
    }

    /// What a member is told, `waits` for partitions of others or not, in a group of so many.
    pub(super) fn heartbeat_interval_ms(&self, members: usize, waits: bool) -> i32 {
        if let Some(set) = self.heartbeat_interval_ms {
            return set;
        }
        let members = i32::try_from(members).unwrap_or(i32::MAX);
        let base = if waits { WAITING_MS } else { HEARTBEAT_MS };
        let interval = members.saturating_mul(MEMBER_MS).max(base).min(HEARTBEAT_MS_MAX);
        // Three heartbeats may get lost.
        interval.min((self.session_timeout_ms / 4).max(1))
    }

    /// How long after an assignment was computed the next one is.
    pub(super) fn assignment_interval_ms(&self, members: usize) -> i64 {
        match self.assignment_interval_ms {
            Some(set) => set.into(),
            None if members <= SMALL_GROUP => 0,
            None => i64::try_from(members).unwrap_or(1_000).min(1_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Fact;

    fn settings(values: &[(&str, &str)], config: &ConsumerConfig) -> Settings {
        let fact = |(key, value): &(&str, &str)| Fact::ConfigChanged {
            resource: Resource::Group("g".to_owned()),
            key: (*key).to_owned(),
            value: Some((*value).to_owned()),
        };
        let facts: Vec<Fact> = values.iter().map(fact).collect();
        let image = Image::default().with(&facts).expect("the facts apply");
        Settings::of(&GroupId::new("g"), config, &image)
    }

    #[test]
    fn what_is_set_for_the_group_wins_within_the_bounds_of_the_node() {
        let node = ConsumerConfig { heartbeat_interval_ms: Some(7_000), ..ConsumerConfig::default() };
        let unset = settings(&[], &node);
        assert_eq!((unset.session_timeout().as_secs(), unset.heartbeat_interval_ms(3, true)), (45, 7_000));
        let set = [(SESSION_TIMEOUT, "50000"), (HEARTBEAT_INTERVAL, "6000"), (ASSIGNMENT_INTERVAL, "300")];
        let own = settings(&set, &node);
        assert_eq!((own.session_timeout().as_secs(), own.heartbeat_interval_ms(3, true)), (50, 6_000));
        assert_eq!(own.assignment_interval_ms(3), 300);
        let outside = settings(&[(SESSION_TIMEOUT, "1"), (HEARTBEAT_INTERVAL, "99999999")], &node);
        assert_eq!((outside.session_timeout().as_secs(), outside.heartbeat_interval_ms(3, true)), (45, 15_000));
    }

    #[test]
    fn where_nothing_is_set_intervals_grow_with_the_group() {
        let settings = settings(&[], &ConsumerConfig::default());
        let told =
            |members| (settings.heartbeat_interval_ms(members, false), settings.heartbeat_interval_ms(members, true));
        assert_eq!([told(1), told(1_000), told(100_000)], [(500, 100), (2_000, 2_000), (5_000, 5_000)]);
        assert_eq!([1, 100, 101, 5_000].map(|members| settings.assignment_interval_ms(members)), [0, 0, 101, 1_000]);
    }
}

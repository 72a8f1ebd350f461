//! What the active controller looks after every second: moves of replicas that are due, and leaderships that may go back.
//!
//! Owns when. Does not own which moves (`replication::controller::{upkeep, election}`).
//! Invariant: leaders go back only in a cluster in which nobody came or went for a while: a node that keeps dying must not take them
//! with it each time. And only where `auto.leader.rebalance.enable` says so, every `leader.imbalance.check.interval.seconds`: what holds
//! is what the active controller's own node was started with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::{NodeId, Now};
use replication::controller::election::balance_leaders;
use replication::controller::upkeep::{MOVES_AT_ONCE, moves};
use replication::metadata::{Image, Incarnation};

use super::driver::ControllerDriver;

const INTERVAL: Duration = Duration::from_secs(1);
/// Nobody came or went for so long: leaders go back to where they belong.
const CALM: Duration = Duration::from_secs(60);
/// So many at a time.
const LEADERS_AT_ONCE: usize = 50;

#[derive(Debug, Default)]
pub(super) struct Upkeep {
    at: Duration,
    /// As they were at the last look, and since when they are.
    nodes: BTreeMap<NodeId, (Incarnation, bool)>,
    calm_since: Duration,
    /// Leaders are looked at then; once begun, every time until all are where they belong.
    leaders_at: Duration,
    /// On this image there is nothing left to do.
    done: Option<Arc<Image>>,
}

impl Upkeep {
    /// Another controller may have done what this one remembers.
    pub(super) fn begin(&mut self, now: Duration) {
        *self = Upkeep { at: now + INTERVAL, calm_since: now, leaders_at: now, ..Upkeep::default() };
    }

    /// Whether leaders may go back now.
    fn may_balance(&self, now: Duration, image: &Image) -> bool {
        image.statics().leader_rebalance && now >= self.leaders_at
    }

    /// All leaders are where they belong.
    fn balanced(&mut self, now: Duration, image: &Image) {
        self.leaders_at = now.saturating_add(Duration::from_secs(image.statics().leader_check_interval_s));
    }

    pub(super) fn due(&self) -> Duration {
        self.at
    }

    fn is_due(&mut self, now: Duration) -> bool {
        let due = now >= self.at;
        if due {
            self.at = now + INTERVAL;
        }
        due
    }

    fn is_calm(&mut self, now: Duration, image: &Image) -> bool {
        let nodes = image.nodes().iter().map(|(node, info)| (*node, (info.incarnation, info.fenced))).collect();
        if self.nodes != nodes {
            self.nodes = nodes;
            self.calm_since = now;
        }
        now.saturating_sub(self.calm_since) >= CALM
    }
}

impl ControllerDriver {
    pub(super) fn look_after(&mut self, now: Now) {
        let committed = Arc::clone(self.controller.image());
        let done = self.upkeep.done.as_ref().is_some_and(|done| Arc::ptr_eq(done, &committed));
        if !self.upkeep.is_due(now.mono) || done {
            return;
        }
        let Ok((image, _)) = self.controller.decide() else { return };
        let calm = self.upkeep.is_calm(now.mono, image);
        let mut groups = moves(image, MOVES_AT_ONCE);
        let balances = calm && self.upkeep.may_balance(now.mono, image);
        if groups.is_empty() && balances {
            groups = balance_leaders(image, LEADERS_AT_ONCE);
        }
        if !groups.is_empty() {
            self.propose_own(&groups);
            return;
        }
        if balances {
            self.upkeep.balanced(now.mono, &committed);
        }
        if balances || calm && !committed.statics().leader_rebalance {
            self.upkeep.done = Some(committed);
        }
    }
}

#[cfg(test)]
mod tests {
    use replication::metadata::{BrokerConfig, Fact, NodeInfo};

    use super::*;

    #[test]
    fn it_is_calm_when_nobody_came_or_went_for_a_minute() {
        let second = Duration::from_secs;
        let mut upkeep = Upkeep::default();
        upkeep.begin(second(0));
        let before = Image::empty(Arc::default());
        let fact = Fact::NodeRegistered { node: NodeId(1), info: NodeInfo::default() };
        let after = before.with(&[fact]).expect("it applies");
        assert!(!upkeep.is_calm(second(59), &before) && upkeep.is_calm(second(60), &before));
        assert!(!upkeep.is_calm(second(61), &after));
        assert!(!upkeep.is_calm(second(120), &after) && upkeep.is_calm(second(121), &after));
    }

    #[test]
    fn leaders_are_looked_at_as_often_as_the_settings_say() {
        let second = Duration::from_secs;
        let image = |key: &str, value: &str| {
            let settings = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            Image::empty(Arc::new(BrokerConfig::new(settings).expect("it is allowed")))
        };
        let (usual, never) =
            (image("leader.imbalance.check.interval.seconds", "10"), image("auto.leader.rebalance.enable", "false"));
        let mut upkeep = Upkeep::default();
        upkeep.begin(second(5));
        assert!(upkeep.may_balance(second(5), &usual) && !upkeep.may_balance(second(5), &never));
        upkeep.balanced(second(7), &usual);
        assert!(!upkeep.may_balance(second(16), &usual) && upkeep.may_balance(second(17), &usual));
        upkeep.balanced(second(17), &Image::default());
        assert!(
            !upkeep.may_balance(second(316), &Image::default()) && upkeep.may_balance(second(317), &Image::default())
        );
    }

    #[test]
    fn it_is_due_once_a_second() {
        let mut upkeep = Upkeep::default();
        upkeep.begin(Duration::ZERO);
        let due: Vec<u64> = (0..3_500).filter(|at| upkeep.is_due(Duration::from_millis(*at))).collect();
        assert_eq!(due, [1_000, 2_000, 3_000]);
    }
}

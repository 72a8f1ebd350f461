//! Whether a replica keeps up: the time it takes until an append is covered by its position.
//!
//! Owns the marks of when what was appended, and each replica's delay. Does not own what follows from it: the leader proposes.
//! Invariant: a replica is slow while its position does not cover what was appended max(50 ms, four times the median delay of those in
//! sync) ago. Slow for two seconds at a stretch it leaves, and only a fifth of a second of keeping up ends the stretch; one that left so
//! returns after ten seconds of keeping up, any other at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use model::{NodeId, Offset};

use crate::metadata::Incarnation;

/// Less than this is never slow.
pub const SLOW_MIN: Duration = Duration::from_millis(50);
const SLOW_FACTOR: u32 = 4;
/// Slow for so long, a replica leaves.
pub const SLOW_MAX: Duration = Duration::from_secs(2);
/// Keeping up for less than this ends no stretch of slowness: a disk that takes 200 ms for each sync is near the threshold now and then.
pub const FORGIVEN: Duration = Duration::from_millis(200);
/// One that left because it was slow keeps up for so long before it returns.
pub const PENANCE: Duration = Duration::from_secs(10);
/// A leader whose own disk does not answer for so long hands over.
pub const OWN_DELAY_MAX: Duration = Duration::from_secs(1);

/// Appends that are less than this apart share a mark.
const MARK_APART: Duration = Duration::from_millis(5);
/// More are not kept: the oldest say only that somebody is very slow, which the rest says too.
const MARKS_MAX: usize = 1_024;

const _: () = {
    assert!(SLOW_MIN.as_millis() < OWN_DELAY_MAX.as_millis());
    assert!(FORGIVEN.as_millis() < SLOW_MAX.as_millis());
    // The marks reach back further than anything that is measured with them.
    assert!(MARK_APART.as_millis() * MARKS_MAX as u128 > SLOW_MAX.as_millis() * 2);
};

/// When what was appended.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Marks {
    /// The time of the first append of each mark, and where its last one ends.
    marks: VecDeque<(Duration, Offset)>,
}

impl Marks {
    fn appended(&mut self, now: Duration, end: Offset) {
        match self.marks.back_mut() {
            Some((since, last)) if now.saturating_sub(*since) < MARK_APART => *last = end,
            _ => self.marks.push_back((now, end)),
        }
        if self.marks.len() > MARKS_MAX {
            self.marks.pop_front();
        }
    }

    /// How long ago the first record was appended that `position` does not cover. Zero: it covers all.
    fn age_behind(&self, now: Duration, position: Offset) -> Duration {
        let first = self.marks.partition_point(|(_, end)| *end <= position);
        self.marks.get(first).map_or(Duration::ZERO, |(since, _)| now.saturating_sub(*since))
    }

    fn covered_by_all(&mut self, position: Offset) {
        while self.marks.front().is_some_and(|(_, end)| *end <= position) {
            self.marks.pop_front();
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Replica {
    /// How long it takes to cover an append, smoothed.
    delay: Duration,
    slow_since: Option<Duration>,
    /// Since when it was not slow.
    fit_since: Option<Duration>,
    /// It left because it was slow.
    penance: bool,
    /// Of the process whose stream stands.
    following: Option<Incarnation>,
}

/// What is to become of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing.
    Stays,
    /// It was slow for too long.
    Leaves,
    /// It keeps up: if it is out, it may come in.
    Fit,
}

/// The pace of all replicas of one partition, as its leader sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pace {
    marks: Marks,
    replicas: BTreeMap<NodeId, Replica>,
}

impl Pace {
    pub fn appended(&mut self, now: Duration, end: Offset) {
        self.marks.appended(now, end);
    }

    /// Its stream stands. Another incarnation than before starts with a clean slate.
    pub fn follows(&mut self, node: NodeId, incarnation: Incarnation) {
        let replica = self.replicas.entry(node).or_default();
        if replica.following != Some(incarnation) {
            *replica = Replica { following: Some(incarnation), ..Replica::default() };
        }
    }

    /// Others are no replicas any more.
    pub fn keep_only(&mut self, replicas: &BTreeSet<NodeId>) {
        self.replicas.retain(|node, _| replicas.contains(node));
    }

    /// Its stream ended. Whether it is slow goes on being counted.
    pub fn left(&mut self, node: NodeId) {
        if let Some(replica) = self.replicas.get_mut(&node) {
            replica.following = None;
            if replica.fit_since.take().is_some() {
                replica.slow_since = None;
            }
        }
    }

    pub fn incarnation(&self, node: NodeId) -> Option<Incarnation> {
        self.replicas.get(&node)?.following
    }

    /// It leaves because it was slow.
    pub fn does_penance(&mut self, node: NodeId) {
        let replica = self.replicas.entry(node).or_default();
        replica.penance = true;
        replica.fit_since = None;
    }

    /// Its position moves from `before`: what it took for that.
    pub fn advanced(&mut self, now: Duration, node: NodeId, before: Offset) {
        let sample = self.marks.age_behind(now, before);
        let replica = self.replicas.entry(node).or_default();
        replica.delay = if replica.delay.is_zero() { sample } else { (replica.delay * 3 + sample) / 4 };
    }

    /// All replicas that are looked at have what lies below: it is not needed to be measured against.
    pub fn forget_below(&mut self, position: Offset) {
        self.marks.covered_by_all(position);
    }

    /// How long the first record waits that `position` does not cover.
    pub fn age_behind(&self, now: Duration, position: Offset) -> Duration {
        self.marks.age_behind(now, position)
    }

    /// The delay over which a replica is slow. `in_sync`: whose median counts.
    pub fn threshold<'a>(&self, in_sync: impl Iterator<Item = &'a NodeId>) -> Duration {
        let mut delays: Vec<Duration> =
            in_sync.map(|node| self.replicas.get(node).map_or(Duration::ZERO, |replica| replica.delay)).collect();
        delays.sort_unstable();
        // Of two the faster: a slow one is not its own measure.
        let median = delays.get(delays.len().saturating_sub(1) / 2).copied().unwrap_or_default();
        (median * SLOW_FACTOR).max(SLOW_MIN)
    }

    /// Looks at a replica that has everything below `position`.
    pub fn judge(&mut self, now: Duration, node: NodeId, position: Offset, threshold: Duration) -> Verdict {
        let behind = self.marks.age_behind(now, position);
        let replica = self.replicas.entry(node).or_default();
        if behind > threshold {
            if replica.fit_since.take().is_some_and(|since| now.saturating_sub(since) >= FORGIVEN) {
                replica.slow_since = None;
            }
            let since = *replica.slow_since.get_or_insert(now);
            // It was slow since it passed the threshold, even if nobody looked.
            let since = since.min(now.saturating_sub(behind.saturating_sub(threshold)));
            replica.slow_since = Some(since);
            return if now.saturating_sub(since) >= SLOW_MAX { Verdict::Leaves } else { Verdict::Stays };
        }
        if replica.following.is_none() {
            replica.slow_since = None;
            return Verdict::Stays;
        }
        let since = *replica.fit_since.get_or_insert(now);
        let needed = if replica.penance { PENANCE } else { Duration::ZERO };
        if now.saturating_sub(since) < needed {
            return Verdict::Stays;
        }
        Verdict::Fit
    }

    /// It is in sync again: what it did before is forgotten.
    pub fn is_in_sync(&mut self, node: NodeId) {
        if let Some(replica) = self.replicas.get_mut(&node) {
            replica.penance = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(2);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn at(offset: i64) -> Offset {
        Offset::new(offset)
    }

    fn following() -> Pace {
        let mut pace = Pace::default();
        pace.follows(NODE, Incarnation([1; 16]));
        pace
    }

    #[test]
    fn a_replica_is_slow_once_an_append_is_not_covered_in_time() {
        let mut pace = following();
        pace.appended(ms(1_000), at(10));
        assert_eq!(pace.judge(ms(1_040), NODE, at(9), SLOW_MIN), Verdict::Fit);
        assert_eq!(pace.judge(ms(1_060), NODE, at(9), SLOW_MIN), Verdict::Stays);
        assert_eq!(pace.judge(ms(1_060), NODE, at(10), SLOW_MIN), Verdict::Fit);
    }

    #[test]
    fn two_seconds_at_a_stretch_are_too_many() {
        let mut pace = following();
        pace.appended(ms(1_000), at(10));
        assert_eq!(pace.judge(ms(1_100), NODE, at(9), SLOW_MIN), Verdict::Stays);
        assert_eq!(pace.judge(ms(3_000), NODE, at(9), SLOW_MIN), Verdict::Stays);
        assert_eq!(pace.judge(ms(3_060), NODE, at(9), SLOW_MIN), Verdict::Leaves);
    }

    #[test]
    fn a_moment_of_keeping_up_does_not_end_a_stretch_of_slowness() {
        let slow_but = |fit: std::ops::Range<u64>| {
            let mut pace = following();
            (1_000..4_000).step_by(20).find(|now| {
                let position = i64::try_from(*now).expect("small");
                pace.appended(ms(*now), at(position));
                let behind = if fit.contains(now) { 0 } else { 160 };
                pace.judge(ms(*now), NODE, at(position - behind), SLOW_MIN) == Verdict::Leaves
            })
        };
        let never = slow_but(0..0).expect("it leaves");
        assert_eq!(slow_but(2_000..2_180), Some(never));
        assert_eq!(slow_but(2_000..2_240), None, "that was long enough");
    }

    #[test]
    fn one_that_left_for_slowness_keeps_up_for_ten_seconds_first() {
        let mut pace = following();
        pace.does_penance(NODE);
        assert_eq!(pace.judge(ms(1_000), NODE, at(0), SLOW_MIN), Verdict::Stays);
        assert_eq!(pace.judge(ms(10_999), NODE, at(0), SLOW_MIN), Verdict::Stays);
        assert_eq!(pace.judge(ms(11_000), NODE, at(0), SLOW_MIN), Verdict::Fit);
        // A restart is another beginning.
        pace.does_penance(NODE);
        pace.follows(NODE, Incarnation([2; 16]));
        assert_eq!(pace.judge(ms(11_001), NODE, at(0), SLOW_MIN), Verdict::Fit);
    }

    #[test]
    fn who_does_not_follow_is_not_fit() {
        let mut pace = following();
        pace.left(NODE);
        assert_eq!(pace.judge(ms(1_000), NODE, at(0), SLOW_MIN), Verdict::Stays);
    }

    #[test]
    fn the_measure_is_the_median_of_those_in_sync() {
        let mut pace = Pace::default();
        pace.appended(ms(1_000), at(10));
        for (node, after) in [(1, 10), (2, 30), (3, 400)] {
            pace.advanced(ms(1_000 + after), NodeId(node), at(0));
        }
        let threshold = |nodes: &[i32]| {
            let nodes: Vec<NodeId> = nodes.iter().map(|node| NodeId(*node)).collect();
            pace.threshold(nodes.iter())
        };
        assert_eq!(threshold(&[1, 2, 3]), ms(120));
        assert_eq!(threshold(&[2, 3]), ms(120));
        assert_eq!(threshold(&[1, 3]), SLOW_MIN);
        assert_eq!(threshold(&[]), SLOW_MIN);
    }

    #[test]
    fn marks_are_bounded() {
        let mut pace = Pace::default();
        for step in 0..10_000 {
            pace.appended(ms(step * 10), at(i64::try_from(step).expect("small") + 1));
        }
        assert_eq!(pace.marks.marks.len(), MARKS_MAX);
        pace.forget_below(at(10_000));
        assert!(pace.marks.marks.is_empty());
    }
}

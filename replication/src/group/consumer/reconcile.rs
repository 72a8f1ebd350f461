//! The way of one member from what it has to what it is meant to have.
//!
//! Owns the rule: give up first, then go on to the new epoch, then take what others have given up. Decides on copies,
//! changes nothing. Invariant: nobody is given a partition that another member has, or still has to give up.

use std::collections::{BTreeMap, BTreeSet};

use model::{PartitionIndex, TopicId};

use super::state::{Current, MemberState, Owned, Partitions};

pub(super) struct Reconciliation<'a, F> {
    pub(super) current: &'a Current,
    /// What the member still subscribes to: the target may be older than its subscription.
    pub(super) subscribed: &'a BTreeSet<TopicId>,
    pub(super) target_epoch: i32,
    pub(super) target: &'a Partitions,
    /// What the member says it has. `None`: as it said last.
    pub(super) reported: Option<&'a Partitions>,
    /// No other member has it.
    pub(super) is_free: F,
    /// Its subscription has just changed: what it does not want any more goes at once.
    pub(super) drops_unsubscribed: bool,
}

impl<F: Fn(TopicId, PartitionIndex) -> bool> Reconciliation<'_, F> {
    /// The member's next state; the same one where nothing can be done.
    pub(super) fn next(&self) -> Current {
        let current = self.current;
        match current.state {
            MemberState::Stable if current.epoch != self.target_epoch => self.towards_target(),
            MemberState::Unrevoked if !self.still_has(&current.revoking) => self.towards_target(),
            MemberState::Unreleased | MemberState::Unknown => self.towards_target(),
            MemberState::Stable | MemberState::Unrevoked if self.drops_unsubscribed => self.without_unsubscribed(),
            MemberState::Stable | MemberState::Unrevoked => current.clone(),
        }
    }

    /// Who has not said what it has may still have all of it.
    fn still_has(&self, partitions: &Owned) -> bool {
        let Some(reported) = self.reported else { return true };
        partitions.iter().any(|(topic, partitions)| {
            reported.get(topic).is_some_and(|has| partitions.keys().any(|partition| has.contains(partition)))
        })
    }

    fn is_target(&self, topic: TopicId, partition: PartitionIndex) -> bool {
        self.subscribed.contains(&topic) && self.target.get(&topic).is_some_and(|target| target.contains(&partition))
    }

    fn towards_target(&self) -> Current {
        let (mut assigned, revoking) = split(&self.current.assigned, |topic, at| self.is_target(topic, at));
        if !revoking.is_empty() && self.still_has(&revoking) {
            let epoch = self.current.epoch;
            return Current { epoch, previous_epoch: epoch, state: MemberState::Unrevoked, assigned, revoking };
        }
        let mut state = MemberState::Stable;
        let wanted = self.target.iter().filter(|(topic, _)| self.subscribed.contains(topic));
        for (topic, partition) in wanted.flat_map(|(topic, all)| all.iter().map(move |partition| (*topic, *partition)))
        {
            if assigned.get(&topic).is_some_and(|has| has.contains_key(&partition)) {
                continue;
            }
            if (self.is_free)(topic, partition) {
                assigned.entry(topic).or_default().insert(partition, self.target_epoch);
            } else {
                state = MemberState::Unreleased;
            }
        }
        let (epoch, previous_epoch) = (self.target_epoch, self.current.epoch);
        Current { epoch, previous_epoch, state, assigned, revoking: Owned::new() }
    }

    fn without_unsubscribed(&self) -> Current {
        let (assigned, dropped) = split(&self.current.assigned, |topic, _| self.subscribed.contains(&topic));
        if dropped.is_empty() {
            return self.current.clone();
        }
        let mut revoking = self.current.revoking.clone();
        for (topic, partitions) in dropped {
            revoking.entry(topic).or_default().extend(partitions);
        }
        let epoch = self.current.epoch;
        if self.still_has(&revoking) {
            return Current { epoch, previous_epoch: epoch, state: MemberState::Unrevoked, assigned, revoking };
        }
        Current { previous_epoch: epoch, assigned, ..self.current.clone() }
    }
}

/// Those that are kept, and the others.
fn split(owned: &Owned, keeps: impl Fn(TopicId, PartitionIndex) -> bool) -> (Owned, Owned) {
    let (mut kept, mut rest) = (Owned::new(), Owned::new());
    for (topic, partitions) in owned {
        let (yes, no): (BTreeMap<_, _>, BTreeMap<_, _>) =
            partitions.iter().map(|(at, epoch)| (*at, *epoch)).partition(|(at, _)| keeps(*topic, *at));
        for (partitions, side) in [(yes, &mut kept), (no, &mut rest)] {
            if !partitions.is_empty() {
                side.insert(*topic, partitions);
            }
        }
    }
    (kept, rest)
}

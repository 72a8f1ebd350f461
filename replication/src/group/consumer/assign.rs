//! The assignors of the server: which member is meant to have which partition.
//!
//! Owns `uniform` (even, sticky, near where it can be) and `range` (the same ranges of every topic for a member, so that
//! topics can be joined). Pure: members, their subscriptions and the target so far go in, the new target comes out.
//! Invariant: each partition of a topic that somebody subscribes to has exactly one member, who subscribes to it.

use std::collections::{BTreeMap, BTreeSet};

use model::{PartitionIndex, TopicId};

use super::super::types::{InstanceId, MemberId};
use super::state::Partitions;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Assignor {
    Uniform,
    Range,
}

impl Assignor {
    pub const ALL: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    pub fn find(name: &str) -> Option<Assignor> {
        Assignor::ALL.into_iter().find(|assignor| assignor.name() == name)
    }
}

pub(super) struct Subscriber<'a> {
    pub(super) topics: BTreeSet<TopicId>,
    pub(super) rack: Option<&'a str>,
    pub(super) instance_id: Option<&'a InstanceId>,
    /// What it was meant to have so far.
    pub(super) target: Option<&'a Partitions>,
}

/// What an assignor asks about topics.
pub(super) trait Layout {
    fn count(&self, topic: TopicId) -> u32;
    fn racks(&self, topic: TopicId, partition: PartitionIndex) -> BTreeSet<&str>;
}

pub(super) type Targets = BTreeMap<MemberId, Partitions>;

pub(super) fn assign(assignor: Assignor, members: &BTreeMap<MemberId, Subscriber<'_>>, layout: &dyn Layout) -> Targets {
    let mut targets = match assignor {
        Assignor::Uniform => uniform(members, layout),
        Assignor::Range => range(members, layout),
    };
    for member in members.keys() {
        targets.entry(member.clone()).or_default();
    }
    targets
}

type Place = (TopicId, PartitionIndex);

fn all_of(topic: TopicId, layout: &dyn Layout) -> impl Iterator<Item = Place> + use<> {
    (0..layout.count(topic)).map(move |index| (topic, PartitionIndex::new(index)))
}

/// Members in an order that outlives restarts: static members by the name that they keep.
fn range(members: &BTreeMap<MemberId, Subscriber<'_>>, layout: &dyn Layout) -> Targets {
    let mut ordered: Vec<_> = members.iter().collect();
    ordered.sort_by_key(|(id, member)| (member.instance_id.is_none(), member.instance_id, *id));
    let mut targets = Targets::new();
    for topic in members.values().flat_map(|member| &member.topics).collect::<BTreeSet<_>>() {
        let subscribers: Vec<_> = ordered.iter().filter(|(_, member)| member.topics.contains(topic)).collect();
        let (each, more) = shares(layout.count(*topic), subscribers.len());
        let mut places = all_of(*topic, layout);
        for (at, (id, _)) in subscribers.into_iter().enumerate() {
            let taken: BTreeSet<_> = places.by_ref().take(each + usize::from(at < more)).map(|(_, at)| at).collect();
            if !taken.is_empty() {
                targets.entry((*id).clone()).or_default().insert(*topic, taken);
            }
        }
    }
    targets
}

/// Everybody has the first number, and so many one more.
fn shares(count: u32, members: usize) -> (usize, usize) {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    (count.checked_div(members).unwrap_or(0), count.checked_rem(members).unwrap_or(0))
}

fn uniform(members: &BTreeMap<MemberId, Subscriber<'_>>, layout: &dyn Layout) -> Targets {
    let mut subscriptions = members.values().map(|member| &member.topics);
    let first = subscriptions.next();
    let draft = if subscriptions.all(|topics| Some(topics) == first) {
        Draft::even(members, layout)
    } else {
        Draft::balanced(members, layout)
    };
    let mut targets = Targets::new();
    for ((topic, partition), at) in draft.owners {
        let id = draft.ids[at].clone();
        targets.entry(id).or_default().entry(topic).or_default().insert(partition);
    }
    targets
}

struct Draft<'a> {
    ids: Vec<&'a MemberId>,
    members: Vec<&'a Subscriber<'a>>,
    owners: BTreeMap<Place, usize>,
    loads: Vec<usize>,
}

impl<'a> Draft<'a> {
    fn new(members: &'a BTreeMap<MemberId, Subscriber<'_>>) -> Draft<'a> {
        let loads = vec![0; members.len()];
        Draft { ids: members.keys().collect(), members: members.values().collect(), owners: BTreeMap::new(), loads }
    }

    fn give(&mut self, place: Place, to: usize) {
        self.loads[to] += 1;
        if let Some(from) = self.owners.insert(place, to) {
            self.loads[from] -= 1;
        }
    }

    /// All members subscribe to the same: as even as it can be, and nobody loses more than that takes.
    fn even(members: &'a BTreeMap<MemberId, Subscriber<'_>>, layout: &dyn Layout) -> Draft<'a> {
        let mut draft = Draft::new(members);
        let Some(first) = draft.members.first() else { return draft };
        let topics: Vec<TopicId> = first.topics.iter().copied().collect();
        let total = topics.iter().map(|topic| layout.count(*topic)).fold(0, u32::saturating_add);
        let (each, more) = shares(total, members.len());
        let mut left = more;
        let mut quotas = vec![each; members.len()];
        // Who has more already keeps one more.
        for (at, quota) in quotas.iter_mut().enumerate() {
            if left > 0 && draft.targets_of(at, layout).nth(each).is_some() {
                *quota += 1;
                left -= 1;
            }
        }
        for quota in quotas.iter_mut().filter(|quota| **quota == each).take(left) {
            *quota += 1;
        }
        for (at, quota) in quotas.iter().enumerate() {
            let kept: Vec<Place> =
                draft.targets_of(at, layout).filter(|place| !draft.owners.contains_key(place)).take(*quota).collect();
            kept.into_iter().for_each(|place| draft.give(place, at));
        }
        let open: Vec<Place> = topics.iter().flat_map(|topic| all_of(*topic, layout)).collect();
        let open: Vec<Place> = open.into_iter().filter(|place| !draft.owners.contains_key(place)).collect();
        draft.spread(open, &quotas, layout);
        draft
    }

    /// Near ones first, then whoever has room.
    fn spread(&mut self, open: Vec<Place>, quotas: &[usize], layout: &dyn Layout) {
        let has_racks = self.members.iter().any(|member| member.rack.is_some());
        let mut rest = Vec::new();
        for place in open {
            let racks = if has_racks { layout.racks(place.0, place.1) } else { BTreeSet::new() };
            let near = |at: &usize| self.members[*at].rack.is_some_and(|rack| racks.contains(rack));
            let room = |at: &usize| self.loads[*at] < quotas[*at];
            match (0..self.members.len()).filter(near).filter(room).min_by_key(|at| self.loads[*at]) {
                Some(at) => self.give(place, at),
                None => rest.push(place),
            }
        }
        let mut at = 0;
        for place in rest {
            while self.loads[at] >= quotas[at] {
                at += 1;
            }
            self.give(place, at);
        }
    }

    fn targets_of<'l>(&self, at: usize, layout: &'l dyn Layout) -> impl Iterator<Item = Place> + use<'a, 'l> {
        let member = self.members[at];
        let targets = member.target.into_iter().flatten();
        let wanted = targets.filter(|(topic, _)| member.topics.contains(topic));
        wanted.flat_map(move |(topic, partitions)| {
            let count = layout.count(*topic);
            partitions.iter().filter(move |at| at.get() < count).map(move |at| (*topic, *at))
        })
    }

    /// Members subscribe to different topics: partitions move from who has more to who has less until that ends.
    fn balanced(members: &'a BTreeMap<MemberId, Subscriber<'_>>, layout: &dyn Layout) -> Draft<'a> {
        let mut draft = Draft::new(members);
        let mut subscribers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
        for (at, member) in draft.members.iter().enumerate() {
            member.topics.iter().for_each(|topic| subscribers.entry(*topic).or_default().push(at));
        }
        for at in 0..draft.members.len() {
            let kept: Vec<Place> =
                draft.targets_of(at, layout).filter(|place| !draft.owners.contains_key(place)).collect();
            kept.into_iter().for_each(|place| draft.give(place, at));
        }
        // Topics with few subscribers first: the others can still even out what these cannot.
        let mut topics: Vec<TopicId> = subscribers.keys().copied().collect();
        topics.sort_by_key(|topic| (subscribers[topic].len(), *topic));
        let places: Vec<Place> = topics.iter().flat_map(|topic| all_of(*topic, layout)).collect();
        for place in &places {
            if !draft.owners.contains_key(place) {
                let to = draft.least_loaded(&subscribers[&place.0]);
                draft.give(*place, to);
            }
        }
        // Each move makes the loads more even, so this ends.
        let mut moved = true;
        while moved {
            moved = false;
            for place in &places {
                let (from, to) = (draft.owners[place], draft.least_loaded(&subscribers[&place.0]));
                if draft.loads[to] + 1 < draft.loads[from] {
                    draft.give(*place, to);
                    moved = true;
                }
            }
        }
        draft
    }

    fn least_loaded(&self, among: &[usize]) -> usize {
        let least = among.iter().copied().min_by_key(|at| (self.loads[*at], *at));
        least.expect("a topic is looked at because somebody subscribes to it")
    }
}

//! Which nodes hold the partitions of a new topic.
//!
//! Owns the spreading: leaders over all nodes, replicas over racks, the same work for everybody. Pure.
//! Invariants: no node holds a partition twice; a rack holds it twice only when there are fewer racks than replicas.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::NodeId;

/// A node that may take replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate<'a> {
    pub node: NodeId,
    pub rack: Option<&'a str>,
}

/// The replicas of each partition, the preferred leader first. `start` shifts where it begins, so that many small topics do not all
/// begin with the same node.
///
/// # Panics
/// When there are fewer candidates than `factor`: the caller refuses that.
pub fn place(candidates: &[Candidate<'_>], partitions: u32, factor: u16, start: usize) -> Vec<Vec<NodeId>> {
    assert!(candidates.len() >= usize::from(factor), "a replica needs a node of its own");
    let nodes = interleave_racks(candidates);
    let count = nodes.len();
    let place_one = |partition: u32| {
        let partition = usize::try_from(partition).expect("a partition number fits");
        let leader = (start + partition) % count;
        // Another shift in each round over the nodes: else the same two nodes would always share their partitions.
        let shift = start + partition / count;
        let follower = |step: usize| nodes[(leader + 1 + (shift + step) % (count - 1).max(1)) % count];
        let order: Vec<Candidate<'_>> = (0..count - 1).map(follower).collect();
        choose(nodes[leader], &order, usize::from(factor))
    };
    (0..partitions).map(place_one).collect()
}

/// The leader, then one node of each rack that is still without, then whoever is left.
fn choose(leader: Candidate<'_>, order: &[Candidate<'_>], factor: usize) -> Vec<NodeId> {
    let mut racks: BTreeSet<&str> = leader.rack.into_iter().collect();
    let mut replicas = vec![leader.node];
    for candidate in order {
        if replicas.len() < factor && candidate.rack.is_none_or(|rack| racks.insert(rack)) {
            replicas.push(candidate.node);
        }
    }
    for candidate in order {
        if replicas.len() < factor && !replicas.contains(&candidate.node) {
            replicas.push(candidate.node);
        }
    }
    replicas
}

/// A node of each rack in turn, so that neighbours stand in different racks.
fn interleave_racks<'a>(candidates: &[Candidate<'a>]) -> Vec<Candidate<'a>> {
    let mut by_rack: BTreeMap<Option<&str>, VecDeque<Candidate<'a>>> = BTreeMap::new();
    for candidate in candidates {
        by_rack.entry(candidate.rack).or_default().push_back(*candidate);
    }
    let mut order = Vec::with_capacity(candidates.len());
    while order.len() < candidates.len() {
        order.extend(by_rack.values_mut().filter_map(VecDeque::pop_front));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates<'a>(racks: &[Option<&'a str>]) -> Vec<Candidate<'a>> {
        (1..).zip(racks).map(|(node, rack)| Candidate { node: NodeId(node), rack: *rack }).collect()
    }

    #[test]
    fn one_node_takes_everything() {
        assert_eq!(place(&candidates(&[None]), 3, 1, 7), vec![vec![NodeId(1)]; 3]);
    }

    #[test]
    fn leaders_are_spread_evenly_and_no_node_is_named_twice() {
        for (nodes, factor, start) in [(3, 3, 0), (4, 2, 5), (5, 3, 11), (7, 4, 2)] {
            let placed = place(&candidates(&vec![None; nodes]), 70, factor, start);
            let mut leads = vec![0; nodes + 1];
            for replicas in &placed {
                let distinct: BTreeSet<_> = replicas.iter().collect();
                assert_eq!(distinct.len(), usize::from(factor));
                leads[usize::try_from(replicas[0].0).expect("small")] += 1;
            }
            let (least, most) = (leads[1..].iter().min(), leads[1..].iter().max());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{leads:?}");
        }
    }

    #[test]
    fn replicas_stand_in_different_racks_while_there_are_enough() {
        let racks = [Some("a"), Some("a"), Some("b"), Some("b"), Some("c"), Some("c")];
        for start in 0..6 {
            for replicas in place(&candidates(&racks), 36, 3, start) {
                let used: BTreeSet<_> =
                    replicas.iter().map(|node| racks[usize::try_from(node.0 - 1).expect("small")]).collect();
                assert_eq!(used.len(), 3, "{replicas:?}");
            }
        }
        for replicas in place(&candidates(&racks), 36, 4, 1) {
            assert_eq!(replicas.len(), 4);
        }
    }
}

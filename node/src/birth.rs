//! How an empty node comes to belong to a cluster.
//!
//! It asks everybody on its join list, itself included. Rules:
//! - one of them belongs to a cluster: it joins that one (as a founder, when the cluster was founded with this very directory);
//! - all answer, all are empty and have the same list: the one with the lowest id founds, the others adopt what it founded;
//! - one is silent and none has a cluster: nothing is founded, and it is said who is waited for.
//!
//! Without a join list a node founds a cluster of one at once.
//! Owns these rules only. Does not own the links, the disk, nor the Raft group that follows. Pure.
//! Why no two clusters can come of one list: to found, a node must hear every other one say that it is empty and has the same list,
//! and have the lowest id; so at most one node of a list ever founds. When it loses its disk before anybody adopted, nothing was
//! promised to anybody; when somebody adopted, it hears of the cluster and joins it. What it founded may be announced before it is
//! durable: the founding goes to the journal before anything that this node promises in it, so a founder that forgot has promised
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use model::NodeId;
use replication::controller::Random;
use replication::metadata::Incarnation;

use crate::peer::{Founder, Founding, Hello};

/// One or this many vote at first: two would be no safer than one, and stop when either does.
const VOTERS: usize = 3;
/// Far more than any join list has.
const MEMBERS_MAX: usize = 256;

/// What a node becomes. Said once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Birth {
    /// A cluster begins, and this node is its first.
    Founds(Founding),
    /// The cluster that another founder began, in which this node votes from its beginning.
    Adopts(Founding),
    /// A cluster that exists. This node votes in nothing until it is told that it does. It passes on who founded, as far as it was
    /// told: a founder that hears of the cluster from this node first must learn that it is one.
    Joins(Founding),
}

impl Birth {
    /// What is kept on disk: to which cluster this directory belongs, and who voted in it at first, where that was said.
    pub fn founding(self) -> Founding {
        let (Birth::Founds(founding) | Birth::Adopts(founding) | Birth::Joins(founding)) = self;
        founding
    }
}

/// Why a node is not born yet: for the log.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Waiting {
    #[error("waiting for an answer of {}: nothing is founded while one of the join list is silent", silent.join(", "))]
    Silent { silent: Vec<String> },
    #[error("waiting for node {founder} to found the cluster: it has the lowest id")]
    Founder { founder: NodeId },
    #[error(
        "no address of the join list ({}) leads to this node: give all nodes the same list, with the peer address of each",
        join.join(", ")
    )]
    NotListed { join: Vec<String> },
    #[error("node {node} was given another join list ({}) than this one ({}): give all nodes the same list", theirs.join(", "), ours.join(", "))]
    OtherList { node: NodeId, theirs: Vec<String>, ours: Vec<String> },
    #[error("{first} and {second} both say that they are node {node}: give each node an id of its own")]
    SameId { node: NodeId, first: String, second: String },
    #[error("{first} and {second} lead to the same process: name each node once")]
    SameNode { first: String, second: String },
    #[error("the join list leads to two clusters, {first} and {second}: take the addresses of one of them off it")]
    TwoClusters { first: String, second: String },
}

impl Waiting {
    /// It ends by itself when the others are started; else somebody has to correct something.
    pub fn is_usual(&self) -> bool {
        matches!(self, Waiting::Silent { .. } | Waiting::Founder { .. })
    }
}

/// A node that belongs to no cluster and was given a join list.
#[derive(Debug)]
pub struct Unborn {
    me: Hello,
    /// By address of the join list.
    heard: BTreeMap<String, Hello>,
    /// Process starts that said that they belong to a cluster, What they said in a handshake that was under way then
    /// may arrive later.
    members: BTreeMap<Incarnation, Hello>,
}

impl Unborn {
    /// `me.join` is the join list: not empty, or there would be nobody to ask.
    pub fn new(me: Hello) -> Unborn {
        assert!(!me.join.is_empty(), "without a join list a node founds at once");
        assert!(me.cluster_id.is_none(), "who belongs to a cluster is born");
        Unborn { me, heard: BTreeMap::new(), members: BTreeMap::new() }
    }

    /// Who answers at an address. Addresses that are not on the list say nothing about birth.
    pub fn answered(&mut self, address: &str, hello: Hello) {
        if self.me.join.iter().any(|listed| listed == address) {
            let newest = self.members.get(&hello.incarnation).cloned().unwrap_or(hello);
            self.heard.insert(address.to_owned(), newest);
        }
    }

    /// A node says that it belongs to a cluster now: it counts where it is heard on the list.
    pub fn announced(&mut self, hello: &Hello) {
        if hello.cluster_id.is_none() {
            return;
        }
        for known in self.heard.values_mut().filter(|known| known.incarnation == hello.incarnation) {
            *known = hello.clone();
        }
        if self.members.len() < MEMBERS_MAX {
            self.members.insert(hello.incarnation, hello.clone());
        }
    }

    /// What the node said may not hold any more.
    pub fn lost(&mut self, node: NodeId) {
        self.heard.retain(|_, hello| hello.node != node);
    }

    /// What follows from what was heard.
    ///
    /// # Errors
    /// When nothing follows yet: why.
    pub fn decide(&self, random: &mut Random) -> Result<Birth, Waiting> {
        if let Some(born) = self.cluster()? {
            return Ok(born);
        }
        let silent: Vec<String> = self.me.join.iter().filter(|at| !self.heard.contains_key(*at)).cloned().collect();
        if !silent.is_empty() {
            return Err(Waiting::Silent { silent });
        }
        self.check_list()?;
        let lowest = self.heard.values().map(|hello| hello.node).min().expect("the list is not empty");
        if lowest != self.me.node {
            return Err(Waiting::Founder { founder: lowest });
        }
        let founders = first_voters(self.heard.values());
        // Of two versions of Weir the older one must be able to read what is decided.
        let level = self.heard.values().map(|hello| hello.levels.1).min().expect("the list is not empty");
        Ok(Birth::Founds(Founding { cluster_id: random.cluster_id(), founders, level }))
    }

    /// The cluster that somebody on the list belongs to.
    fn cluster(&self) -> Result<Option<Birth>, Waiting> {
        let mut found: Option<&str> = None;
        let mut told: Option<&Founding> = None;
        for hello in self.heard.values() {
            let Some(cluster) = hello.cluster_id.as_deref() else { continue };
            if let Some(first) = found.filter(|first| *first != cluster) {
                return Err(Waiting::TwoClusters { first: first.to_owned(), second: cluster.to_owned() });
            }
            found = Some(cluster);
            let tells = |founding: &&Founding| founding.cluster_id == cluster && !founding.founders.is_empty();
            told = told.or(hello.founding.as_ref().filter(tells));
        }
        // Another directory under this id was the founder: what that one promised, this one does not know.
        let me = Founder { node: self.me.node, directory: self.me.directory };
        Ok(found.map(|cluster_id| match told {
            Some(founding) if founding.founders.contains(&me) => Birth::Adopts(founding.clone()),
            Some(founding) => Birth::Joins(founding.clone()),
            None => Birth::Joins(Founding { cluster_id: cluster_id.to_owned(), founders: Vec::new(), level: 1 }),
        }))
    }

    fn check_list(&self) -> Result<(), Waiting> {
        let mut processes = BTreeMap::new();
        let mut ids = BTreeMap::new();
        for (address, hello) in &self.heard {
            if let Some(first) = processes.insert(hello.incarnation, address) {
                return Err(Waiting::SameNode { first: first.clone(), second: address.clone() });
            }
            if let Some(first) = ids.insert(hello.node, address) {
                return Err(Waiting::SameId { node: hello.node, first: first.clone(), second: address.clone() });
            }
            if hello.join != self.me.join {
                let (theirs, ours) = (hello.join.clone(), self.me.join.clone());
                return Err(Waiting::OtherList { node: hello.node, theirs, ours });
            }
        }
        if processes.contains_key(&self.me.incarnation) {
            Ok(())
        } else {
            Err(Waiting::NotListed { join: self.me.join.clone() })
        }
    }
}

/// A cluster of one.
pub fn alone(me: Founder, level: i16, random: &mut Random) -> Founding {
    Founding { cluster_id: random.cluster_id(), founders: vec![me], level }
}

/// The nodes with the lowest ids: three where there are as many, else one.
fn first_voters<'a>(all: impl Iterator<Item = &'a Hello>) -> Vec<Founder> {
    let all: BTreeSet<Founder> = all.map(|hello| Founder { node: hello.node, directory: hello.directory }).collect();
    let count = if all.len() < VOTERS { 1 } else { VOTERS };
    all.into_iter().take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: [&str; 3] = ["a:1", "b:1", "c:1"];

    fn list(addresses: &[&str]) -> Vec<String> {
        addresses.iter().map(|address| (*address).to_owned()).collect()
    }

    /// Node 1 is at `a:1`, and so on.
    fn hello(node: u8) -> Hello {
        Hello {
            node: NodeId(i32::from(node)),
            incarnation: Incarnation([node; 16]),
            directory: [node; 16],
            cluster_id: None,
            join: list(&LIST),
            levels: (1, 1),
            founding: None,
            address: None,
        }
    }

    fn member(node: u8, cluster: &str, founders: &[(u8, u8)]) -> Hello {
        let founder =
            |(node, directory): &(u8, u8)| Founder { node: NodeId(i32::from(*node)), directory: [*directory; 16] };
        let founders = founders.iter().map(founder).collect();
        let founding = Founding { cluster_id: cluster.to_owned(), founders, level: 1 };
        Hello { cluster_id: Some(cluster.to_owned()), founding: Some(founding), ..hello(node) }
    }

    fn joins(founders: &[(u8, u8)]) -> Birth {
        Birth::Joins(member(1, "X", founders).founding.expect("it tells"))
    }

    fn after(me: u8, heard: &[(&str, Hello)]) -> Result<Birth, Waiting> {
        let mut unborn = Unborn::new(hello(me));
        heard.iter().for_each(|(address, hello)| unborn.answered(address, hello.clone()));
        unborn.decide(&mut Random::new(1))
    }

    #[test]
    fn of_three_empty_nodes_with_one_list_the_lowest_id_founds() {
        let all = [("a:1", hello(1)), ("b:1", hello(2)), ("c:1", hello(3))];
        let Ok(Birth::Founds(founding)) = after(1, &all) else { panic!("node 1 founds") };
        let expected = [1, 2, 3].map(|node: u8| Founder { node: NodeId(i32::from(node)), directory: [node; 16] });
        assert_eq!((founding.founders, founding.cluster_id.len()), (expected.to_vec(), 22));
        assert_eq!(after(2, &all), Err(Waiting::Founder { founder: NodeId(1) }));
        assert_eq!(after(3, &all), Err(Waiting::Founder { founder: NodeId(1) }));
    }

    #[test]
    fn while_one_is_silent_nothing_is_founded_and_it_is_named() {
        let refused = after(1, &[("a:1", hello(1)), ("c:1", hello(3))]).expect_err("b:1 is silent");
        assert_eq!(refused, Waiting::Silent { silent: list(&["b:1"]) });
        assert!(refused.to_string().contains("b:1"));
        assert_eq!(after(1, &[]), Err(Waiting::Silent { silent: list(&LIST) }));
    }

    #[test]
    fn one_that_answered_and_was_lost_is_waited_for_again() {
        let mut unborn = Unborn::new(hello(1));
        for (at, node) in LIST.iter().zip(1..) {
            unborn.answered(at, hello(node));
        }
        unborn.lost(NodeId(3));
        assert_eq!(unborn.decide(&mut Random::new(1)), Err(Waiting::Silent { silent: list(&["c:1"]) }));
    }

    #[test]
    fn one_that_belongs_to_a_cluster_is_joined_although_others_are_silent() {
        assert_eq!(after(1, &[("b:1", member(2, "X", &[]))]), Ok(joins(&[])));
        let founders = [(1, 1), (2, 2)];
        assert_eq!(after(3, &[("a:1", hello(1)), ("b:1", member(2, "X", &founders))]), Ok(joins(&founders)));
    }

    #[test]
    fn a_founder_adopts_what_was_founded_with_it() {
        let founded = member(1, "X", &[(1, 1), (2, 2), (3, 3)]);
        let mut unborn = Unborn::new(hello(2));
        unborn.answered("a:1", hello(1));
        unborn.announced(&founded);
        let founding = founded.founding.expect("it was founded");
        assert_eq!(unborn.decide(&mut Random::new(1)), Ok(Birth::Adopts(founding)));
    }

    #[test]
    fn an_announcement_counts_although_an_older_answer_arrives_after_it() {
        let mut unborn = Unborn::new(hello(2));
        unborn.announced(&member(1, "X", &[(1, 1), (2, 2), (3, 3)]));
        unborn.answered("a:1", hello(1));
        assert!(matches!(unborn.decide(&mut Random::new(1)), Ok(Birth::Adopts(_))));
    }

    #[test]
    fn a_wiped_disk_under_a_founders_id_is_a_new_member() {
        // Node 2 was a founder with directory 9; now it has directory 2.
        let founded = member(1, "X", &[(1, 1), (2, 9), (3, 3)]);
        assert_eq!(after(2, &[("a:1", founded)]), Ok(joins(&[(1, 1), (2, 9), (3, 3)])));
    }

    #[test]
    fn a_founder_that_lost_its_disk_after_another_adopted_joins_instead_of_founding_again() {
        let adopted = member(2, "X", &[(1, 7), (2, 2), (3, 3)]);
        let all = [("a:1", hello(1)), ("b:1", adopted), ("c:1", hello(3))];
        assert_eq!(after(1, &all), Ok(joins(&[(1, 7), (2, 2), (3, 3)])));
    }

    /// Of five nodes three vote. Node 2 must not take itself for a newcomer because node 5, which is one, was heard first.
    #[test]
    fn a_founder_learns_from_a_joiner_that_it_is_one() {
        let founders = [(1, 1), (2, 2), (3, 3)];
        let Ok(born) = after(5, &[("a:1", member(1, "X", &founders))]) else { panic!("it joins") };
        assert_eq!(born, joins(&founders));
        let joined = Hello { cluster_id: Some("X".to_owned()), founding: Some(born.founding()), ..hello(5) };
        assert!(matches!(after(2, &[("c:1", joined)]), Ok(Birth::Adopts(_))));
    }

    #[test]
    fn two_clusters_never_merge() {
        let all = [("a:1", member(1, "X", &[])), ("b:1", member(2, "Y", &[]))];
        let refused = Waiting::TwoClusters { first: "X".to_owned(), second: "Y".to_owned() };
        assert_eq!(after(3, &all), Err(refused));
    }

    #[test]
    fn with_different_lists_nothing_is_founded() {
        let other = Hello { join: list(&["a:1", "b:1"]), ..hello(2) };
        let all = [("a:1", hello(1)), ("b:1", other), ("c:1", hello(3))];
        assert!(matches!(after(1, &all), Err(Waiting::OtherList { node: NodeId(2), .. })));
    }

    #[test]
    fn two_nodes_with_one_id_found_nothing() {
        let twin = Hello { incarnation: Incarnation([7; 16]), ..hello(2) };
        let all = [("a:1", hello(1)), ("b:1", hello(2)), ("c:1", twin)];
        assert!(matches!(after(1, &all), Err(Waiting::SameId { node: NodeId(2), .. })));
    }

    #[test]
    fn a_node_named_twice_founds_nothing() {
        let all = [("a:1", hello(1)), ("b:1", hello(2)), ("c:1", hello(2))];
        assert!(matches!(after(1, &all), Err(Waiting::SameNode { .. })));
    }

    #[test]
    fn a_list_without_the_node_itself_founds_nothing() {
        let all = [("a:1", hello(2)), ("b:1", hello(3)), ("c:1", hello(4))];
        assert_eq!(after(1, &all), Err(Waiting::NotListed { join: list(&LIST) }));
    }

    #[test]
    fn of_two_founders_one_votes_and_of_five_three_do() {
        let join = |count: u8| (1..=count).map(|node| format!("{node}:1")).collect::<Vec<String>>();
        for (count, voters) in [(1, 1), (2, 1), (3, 3), (5, 3)] {
            let mut unborn = Unborn::new(Hello { join: join(count), ..hello(1) });
            for node in 1..=count {
                unborn.answered(&format!("{node}:1"), Hello { join: join(count), ..hello(node) });
            }
            let Ok(Birth::Founds(founding)) = unborn.decide(&mut Random::new(1)) else { panic!("node 1 founds") };
            let ids: Vec<i32> = founding.founders.iter().map(|founder| founder.node.0).collect();
            assert_eq!(ids, (1..=voters).collect::<Vec<i32>>());
        }
    }

    #[test]
    fn a_cluster_begins_at_the_level_of_its_oldest_version() {
        for (levels, expected) in [([2, 2, 2], 2), ([2, 1, 2], 1), ([1, 2, 2], 1), ([2, 2, 1], 1)] {
            let with = |node: u8, max: i16| Hello { levels: (1, max), ..hello(node) };
            let mut unborn = Unborn::new(with(1, levels[0]));
            for ((at, node), max) in LIST.iter().zip(1..).zip(levels) {
                unborn.answered(at, with(node, max));
            }
            let Ok(Birth::Founds(founding)) = unborn.decide(&mut Random::new(1)) else { panic!("node 1 founds") };
            assert_eq!(founding.level, expected, "{levels:?}");
        }
    }

    #[test]
    fn answers_from_elsewhere_do_not_count() {
        let all = [("x:1", member(9, "X", &[])), ("a:1", hello(1)), ("b:1", hello(2)), ("c:1", hello(3))];
        assert!(matches!(after(1, &all), Ok(Birth::Founds(_))));
    }
}

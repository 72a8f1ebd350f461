//! The members of the metadata group: nodes that join, vanish, come back with another disk, and are removed.

use std::collections::BTreeSet;

use super::*;
use crate::controller::requests::ControllerRequest;
use crate::controller::{decide, features};
use model::Now;

/// Controllers and the messages between them, in order; a node may be down or cut off.
struct Group {
    hosts: BTreeMap<NodeId, Host>,
    cut_off: Vec<NodeId>,
    token: u64,
    starts: u8,
}

fn directory(node: i32, disk: u8) -> [u8; 16] {
    let mut directory = [disk; 16];
    directory[0] = u8::try_from(node).expect("small");
    directory
}

impl Group {
    /// Node 1 alone, as founder.
    fn new() -> Group {
        let mut group = Group { hosts: BTreeMap::new(), cut_off: Vec::new(), token: 100, starts: 0 };
        group.open(1, &[1], Stored::default(), 0);
        let host = group.host(1);
        let (_, random) = host.controller.decide().expect("it is active");
        let facts = nodes::found_cluster(random.cluster_id(), vec![NodeId(1)], u32::MAX);
        host.propose(&[facts], 1);
        group.register(1, 0);
        group
    }

    fn host(&mut self, node: i32) -> &mut Host {
        self.hosts.get_mut(&NodeId(node)).expect("it was opened")
    }

    fn open(&mut self, node: i32, founders: &[i32], stored: Stored, disk: u8) {
        let mut host = Host::open(options(node, founders), stored);
        host.controller.set_directory(directory(node, disk));
        host.settle();
        self.hosts.insert(NodeId(node), host);
    }

    fn deliver(&mut self) {
        let mut queue: VecDeque<(NodeId, NodeId, Bytes)> = VecDeque::new();
        loop {
            for (from, host) in &mut self.hosts {
                host.settle();
                queue.extend(host.outbox.drain(..).map(|(to, message)| (*from, to, message)));
            }
            let Some((from, to, message)) = queue.pop_front() else { return };
            if self.cut_off.contains(&from) || self.cut_off.contains(&to) {
                continue;
            }
            if let Some(host) = self.hosts.get_mut(&to) {
                // One that is late may be refused.
                let _late = host.controller.step(&message);
            }
        }
    }

    fn tick(&mut self, times: usize) {
        for _ in 0..times {
            self.hosts.values_mut().for_each(|host| host.controller.tick());
            self.deliver();
        }
    }

    fn active(&self) -> Option<NodeId> {
        let mut active = self.hosts.values().filter(|host| host.controller.is_active());
        active.find(|host| !self.cut_off.contains(&host.controller.node())).map(|host| host.controller.node())
    }

    fn ask(&mut self, request: &ControllerRequest) {
        self.token += 1;
        let (node, token) = (self.active().expect("one is active"), Token(self.token));
        let host = self.hosts.get_mut(&node).expect("it is active");
        let (image, random) = host.controller.decide().expect("it is active");
        let decision = decide(image, random, Now::default(), request).expect("it is allowed");
        host.controller.propose_decision(&decision, token).expect("it is active");
        self.commit(node, token, request);
    }

    fn commit(&mut self, node: NodeId, token: Token, what: &impl std::fmt::Debug) {
        self.tick(5);
        let host = self.hosts.get_mut(&node).expect("it was active");
        assert!(host.outcomes.contains(&(token, Outcome::Committed)), "{what:?}");
    }

    fn register(&mut self, node: i32, disk: u8) {
        self.starts += 1;
        let info = NodeInfo {
            incarnation: Incarnation([self.starts; 16]),
            directory: directory(node, disk),
            features: features::supported(),
            ..NodeInfo::default()
        };
        self.ask(&ControllerRequest::Register { node: NodeId(node), info, clean: true, lost: BTreeSet::new() });
    }

    fn join(&mut self, node: i32) {
        self.open(node, &[], Stored::default(), 0);
        self.register(node, 0);
    }

    fn fence(&mut self, node: i32) {
        self.token += 1;
        let (active, token) = (self.active().expect("one is active"), Token(self.token));
        let host = self.hosts.get_mut(&active).expect("it is active");
        let (image, _) = host.controller.decide().expect("it is active");
        let incarnation = image.node(NodeId(node)).expect("it is registered").incarnation;
        let groups = nodes::fence(image, &[(NodeId(node), incarnation)]);
        host.controller.propose(&groups, token).expect("it is active");
        self.commit(active, token, &groups);
    }

    /// Voters and learners as each node that is reached sees them.
    fn members(&self) -> (Vec<i32>, Vec<i32>) {
        let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
        let reached = self.hosts.values().filter(|host| !self.cut_off.contains(&host.controller.node()));
        let mut seen = reached.map(|host| {
            let image = host.controller.image();
            (ids(image.voters()), ids(image.learners()))
        });
        let first = seen.next().expect("one is reached");
        assert!(seen.all(|other| other == first), "all see the same members");
        first
    }

    fn of_three() -> Group {
        let mut group = Group::new();
        group.join(2);
        group.join(3);
        group.tick(20);
        assert_eq!(group.members(), (vec![1, 2, 3], vec![]));
        group
    }
}

#[test]
fn nodes_that_join_learn_first_and_three_of_them_vote() {
    let mut group = Group::new();
    assert_eq!(group.members(), (vec![1], vec![]));
    group.join(2);
    group.tick(20);
    assert_eq!(group.members(), (vec![1], vec![2]));
    group.join(3);
    group.tick(20);
    assert_eq!(group.members(), (vec![1, 2, 3], vec![]));
    assert!(!group.host(2).controller.raft().is_newcomer());
    group.join(4);
    group.tick(20);
    assert_eq!(group.members(), (vec![1, 2, 3], vec![4]));
    group.cut_off = vec![NodeId(1)];
    group.tick(6 * ELECTION_TICKS);
    assert!(group.active().is_some(), "two of three elect");
}

#[test]
fn a_voter_whose_disk_was_replaced_votes_for_nobody_until_it_was_made_one_anew() {
    let mut group = Group::of_three();
    group.open(2, &[], Stored::default(), 9);
    group.cut_off = vec![NodeId(1)];
    group.tick(8 * ELECTION_TICKS);
    assert_eq!(group.active(), None, "3 alone is no majority, and 2 does not remember whom it voted for");
    group.cut_off.clear();
    group.tick(8 * ELECTION_TICKS);
    assert!(group.active().is_some());
    group.register(2, 9);
    group.tick(40);
    assert_eq!(group.members(), (vec![1, 2, 3], vec![]));
    assert!(!group.host(2).controller.raft().is_newcomer());
    let active = group.active().expect("one is active");
    group.cut_off = vec![if active == NodeId(2) { NodeId(3) } else { active }];
    group.tick(8 * ELECTION_TICKS);
    assert!(group.active().is_some(), "now it votes");
}

#[test]
fn a_learner_that_has_nothing_is_not_near_the_end_of_a_short_log() {
    let mut group = Group::of_three();
    group.open(2, &[], Stored::default(), 9);
    group.cut_off = vec![NodeId(2)];
    group.tick(8 * ELECTION_TICKS);
    group.register(2, 9);
    group.tick(4);
    assert_eq!(group.members(), (vec![1, 3], vec![2]), "a voter that knows nothing votes for nobody");
    group.cut_off.clear();
    group.tick(40);
    assert_eq!(group.members(), (vec![1, 2, 3], vec![]));
}

#[test]
fn a_newcomer_is_one_after_a_restart_too() {
    let mut group = Group::of_three();
    group.open(2, &[], Stored::default(), 9);
    group.tick(2 * ELECTION_TICKS);
    // The leader believes that 2 has everything; an entry that does not fit shows that it has nothing.
    group.ask(&ControllerRequest::AllocateProducerIds { node: NodeId(1) });
    group.tick(2 * ELECTION_TICKS);
    let stored = group.host(2).stored.clone();
    assert!(stored.snapshot.is_some(), "it follows the group");
    group.open(2, &[], stored, 9);
    assert!(group.host(2).controller.raft().is_newcomer(), "the group knows another disk");
    let stored = Group::of_three().host(2).stored.clone();
    group.open(2, &[], stored, 0);
    assert!(!group.host(2).controller.raft().is_newcomer());
}

#[test]
fn a_sole_voter_with_learners_is_active_at_once_after_a_restart_and_one_of_three_is_not() {
    let mut group = Group::new();
    group.join(2);
    group.tick(20);
    let stored = group.host(1).stored.clone();
    group.open(1, &[], stored, 0);
    assert!(group.host(1).controller.is_active());
    let mut group = Group::of_three();
    let stored = group.host(1).stored.clone();
    group.hosts.clear();
    group.open(1, &[], stored, 0);
    group.tick(8 * ELECTION_TICKS);
    assert_eq!(group.active(), None);
}

#[test]
fn a_voter_that_is_dead_for_long_is_replaced_and_learns_when_it_returns() {
    let mut group = Group::of_three();
    group.join(4);
    group.cut_off = vec![NodeId(3)];
    group.fence(3);
    group.tick(500);
    assert_eq!(group.members(), (vec![1, 2, 3], vec![4]));
    group.tick(200);
    assert_eq!(group.members(), (vec![1, 2, 4], vec![3]));
    group.cut_off.clear();
    group.tick(6 * ELECTION_TICKS);
    assert_eq!(group.members(), (vec![1, 2, 4], vec![3]));
}

#[test]
fn a_leader_that_is_removed_by_hand_gives_way_and_stays_out() {
    let mut group = Group::of_three();
    assert_eq!(group.active(), Some(NodeId(1)));
    group.ask(&ControllerRequest::RemoveVoter { node: NodeId(1), directory: None });
    group.tick(6 * ELECTION_TICKS);
    assert_eq!(group.members(), (vec![2, 3], vec![1]));
    assert!(group.active().is_some_and(|node| node != NodeId(1)));
    group.ask(&ControllerRequest::AddVoter { node: NodeId(1), directory: None });
    group.tick(20);
    assert_eq!(group.members(), (vec![1, 2, 3], vec![]));
}

#[test]
fn who_is_unregistered_leaves_the_group() {
    let mut group = Group::of_three();
    group.join(4);
    group.cut_off = vec![NodeId(4)];
    group.fence(4);
    group.ask(&ControllerRequest::UnregisterNode { node: NodeId(4) });
    group.tick(20);
    assert_eq!(group.members(), (vec![1, 2, 3], vec![]));
}

#[test]
fn a_voter_that_is_unregistered_leaves_at_once() {
    let mut group = Group::of_three();
    group.cut_off = vec![NodeId(3)];
    group.fence(3);
    group.ask(&ControllerRequest::UnregisterNode { node: NodeId(3) });
    group.tick(20);
    assert_eq!(group.members(), (vec![1], vec![2]), "of two voters, the death of either would stop the cluster");
}

#[test]
fn a_snapshot_carries_members_orders_and_audit() {
    let mut group = Group::of_three();
    group.join(4);
    group.ask(&ControllerRequest::RemoveVoter { node: NodeId(3), directory: None });
    group.tick(20);
    let host = group.host(1);
    let point = host.controller.raft().snapshot_file(host.controller.image().encode());
    let stored = Stored { snapshot: Some(point.file), entries: Vec::new(), hard_state: host.stored.hard_state.clone() };
    let before = Arc::clone(host.controller.image());
    assert_eq!(before.learners(), [NodeId(3)]);
    let again = Host::open(options(1, &[]), stored);
    assert_eq!(**again.controller.image(), *before);
    assert_eq!(again.controller.image().orders(NodeId(3)), before.orders(NodeId(3)));
}

#[test]
fn a_controller_that_stops_asks_another_voter_to_lead() {
    let mut group = Group::of_three();
    assert!(group.host(1).controller.resign());
    group.tick(3);
    assert!(group.active().is_some_and(|node| node != NodeId(1)), "no timeout was waited for");
    assert!(!group.host(1).controller.resign(), "it leads no more");
}

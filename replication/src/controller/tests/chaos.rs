//! Three controllers under lost, repeated and reordered messages, slow disks and crashes: seeded runs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

/// One node: what its disk holds, and what is on the way there.
struct Member {
    controller: Controller,
    stored: Stored,
    writing: VecDeque<Persist>,
}

struct Chaos {
    seed: u64,
    random: Random,
    members: BTreeMap<NodeId, Member>,
    wire: Vec<(NodeId, Bytes)>,
    starts: u64,
    proposed: BTreeMap<Token, TopicName>,
    committed: BTreeSet<TopicName>,
    next_token: u64,
    trace: u64,
}

impl Chaos {
    fn new(seed: u64) -> Chaos {
        let mut chaos = Chaos {
            seed,
            random: Random::new(seed),
            members: BTreeMap::new(),
            wire: Vec::new(),
            starts: 0,
            proposed: BTreeMap::new(),
            committed: BTreeSet::new(),
            next_token: 0,
            trace: 0,
        };
        [1, 2, 3].into_iter().for_each(|node| chaos.start(NodeId(node), Stored::default()));
        chaos
    }

    /// A process begins on what is on its disk.
    fn start(&mut self, node: NodeId, stored: Stored) {
        self.starts += 1;
        let options = ControllerOptions { seed: self.seed ^ (self.starts << 32), ..options(node.0, &[1, 2, 3]) };
        let controller = Controller::open(options, stored.recovered());
        let controller = controller.unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        self.members.insert(node, Member { controller, stored, writing: VecDeque::new() });
        self.collect(node);
    }

    fn collect(&mut self, node: NodeId) {
        let mut out = Output::default();
        self.member(node).controller.collect(&mut out).expect("facts of our own");
        self.take(node, out);
    }

    fn member(&mut self, node: NodeId) -> &mut Member {
        self.members.get_mut(&node).expect("one of three")
    }

    fn take(&mut self, node: NodeId, out: Output) {
        self.member(node).writing.extend(out.persist);
        for (to, message) in out.messages {
            self.trace =
                message.iter().fold(self.trace, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
            self.wire.push((to, message));
        }
        for (token, outcome) in out.outcomes {
            let topic = self.proposed.remove(&token).expect("each proposal has one outcome");
            if outcome == Outcome::Committed {
                self.committed.insert(topic);
            }
        }
    }

    fn write_one(&mut self, node: NodeId) {
        let member = self.member(node);
        let Some(persist) = member.writing.pop_front() else { return };
        let number = persist.number;
        member.stored.write(persist);
        let mut out = Output::default();
        member.controller.persisted(number, &mut out).expect("facts of our own");
        self.take(node, out);
    }

    fn deliver(&mut self, at: usize, keep: bool) {
        let (to, message) = if keep { self.wire[at].clone() } else { self.wire.swap_remove(at) };
        // One that is late may be refused; nothing may break.
        let _late = self.member(to).controller.step(&message);
        self.collect(to);
    }

    /// Whatever was not on the disk is gone; who waited is never answered.
    fn crash(&mut self, node: NodeId) {
        let stored = self.member(node).stored.clone();
        let lost = self.members.remove(&node).expect("one of three");
        lost.controller.proposals.iter().for_each(|proposal| {
            self.proposed.remove(&proposal.token);
        });
        self.start(node, stored);
    }

    fn propose(&mut self, node: NodeId) {
        self.next_token += 1;
        let (token, topic) = (Token(self.next_token), name(&format!("t{}", self.next_token)));
        let register = |node: i32| Fact::NodeRegistered { node: NodeId(node), info: NodeInfo::default() };
        let controller = &mut self.member(node).controller;
        let Ok((image, random)) = controller.decide() else { return };
        let mut groups: Vec<Vec<Fact>> = Vec::new();
        if image.nodes().is_empty() {
            groups.push([1, 2, 3].map(register).into());
        }
        let ahead = image.with(&groups.concat()).expect("the facts apply");
        groups.extend(topics::create(&ahead, &[NewTopic::with_defaults(topic.clone())], random).facts);
        if controller.propose(&groups, token).is_ok() {
            self.proposed.insert(token, topic);
        }
        self.collect(node);
    }

    fn step(&mut self) {
        let node = NodeId(i32::try_from(1 + self.random.below(3)).expect("small"));
        match self.random.below(100) {
            0..=44 if !self.wire.is_empty() => {
                let at = self.random.below(self.wire.len());
                let keep = self.random.below(20) == 0;
                self.deliver(at, keep);
            }
            45..=47 if !self.wire.is_empty() => {
                let at = self.random.below(self.wire.len());
                self.wire.swap_remove(at);
            }
            0..=69 => self.write_one(node),
            70..=89 => {
                self.member(node).controller.tick();
                self.collect(node);
            }
            90..=97 => self.propose(node),
            98 => self.compact(node),
            _ => self.crash(node),
        }
    }

    /// A snapshot in the place of the log, so that slow ones need it.
    fn compact(&mut self, node: NodeId) {
        let member = self.member(node);
        let applied = member.controller.raft().applied();
        // Only what is on disk may be replaced.
        let on_disk = member.stored.entries.last().is_some_and(|last| last.index >= applied);
        if !on_disk || member.controller.raft().is_restoring() {
            return;
        }
        let point = member.controller.raft().snapshot_file(member.controller.image().encode());
        member.stored.entries.retain(|entry| entry.index > point.index);
        member.stored.snapshot = Some(point.file);
        member.controller.snapshot_durable(point.index);
    }

    fn heal(&mut self) {
        for _ in 0..12 * ELECTION_TICKS {
            for node in [1, 2, 3].map(NodeId) {
                self.member(node).controller.tick();
                self.collect(node);
            }
            while !self.wire.is_empty() || self.members.values().any(|member| !member.writing.is_empty()) {
                [1, 2, 3].into_iter().for_each(|node| self.write_one(NodeId(node)));
                if !self.wire.is_empty() {
                    self.deliver(0, false);
                }
            }
        }
    }
}

fn run(seed: u64) -> (u64, usize) {
    let mut chaos = Chaos::new(seed);
    (0..6_000).for_each(|_| chaos.step());
    chaos.heal();
    let images: Vec<Arc<Image>> = chaos.members.values().map(|member| Arc::clone(member.controller.image())).collect();
    for image in &images {
        assert!(**image == *images[0], "seed {seed}: the nodes disagree");
        for topic in &chaos.committed {
            assert!(image.topic(topic).is_some(), "seed {seed}: {topic} was committed and is lost");
        }
    }
    assert!(chaos.proposed.is_empty(), "seed {seed}: a proposal without an outcome");
    (chaos.trace, chaos.committed.len())
}

#[test]
fn what_was_committed_survives_lost_messages_slow_disks_and_crashes() {
    let committed: usize = (1..=40).map(|seed| run(seed).1).sum();
    // Else the runs would show nothing.
    assert!(committed > 1_000, "{committed}");
}

#[test]
fn a_seed_replays_to_the_byte() {
    assert_eq!(run(7), run(7));
}

/// The snapshot that a follower needed was lost on the way, and its leader waited for ever for a report.
#[test]
fn seed_260_a_lost_snapshot_is_sent_again() {
    run(260);
}

//! Three replicas against each other on random schedules: messages that are lost, disks that lag, processes that die with what they
//! had not synced, leaders that change.
//!
//! The logs and the controller are models (`world`); all decisions are the production state machines'. After each step: below any high watermark
//! all logs are the same, an acknowledged record is below some leader's log end for ever, high watermarks only grow.

mod world;

use std::time::Duration;

use model::NodeId;

use super::replica::Event;
use world::{Host, NODES, World, end, index};

impl World {
    fn check(&self) {
        let hosts: Vec<&Host> = self.hosts.values().collect();
        for (at, one) in hosts.iter().enumerate() {
            for other in hosts.iter().skip(at + 1) {
                let common = index(one.high_watermark).min(index(other.high_watermark));
                assert_eq!(one.log[..common], other.log[..common], "below the high watermark all logs are the same");
            }
        }
        // Whoever may be elected has all that was acknowledged.
        for member in &self.image().isr {
            let host = self.hosts.get(member).expect("one of three");
            for (offset, value) in &self.acknowledged {
                let found = host.log.get(index(*offset)).map(|entry| entry.value);
                assert_eq!(found, Some(*value), "node {member} has lost the record at {offset}");
            }
        }
    }

    fn happen(&mut self) {
        let one = self.dice.node();
        let other = NodeId((one.0 + i32::from(self.dice.one_in(2))) % 3 + 1);
        match self.dice.below(100) {
            0..32 => self.deliver(one, other),
            32..44 => self.push(one),
            44..56 => self.sync(one),
            56..68 => self.produce(one),
            68..75 => self.wish_to_follow(one),
            75..88 => self.learn(one),
            88..92 => self.decide(one),
            92..95 => {
                self.now.mono += Duration::from_millis(100 + self.dice.below(2_000));
                self.step(one, Event::Tick);
            }
            95 => self.cut_link(one, other),
            97 if self.dice.one_in(3) => self.restart(one),
            98 if self.dice.one_in(3) => self.elect(None),
            99 if self.dice.one_in(4) => self.elect(Some(one)),
            _ => {}
        }
        self.check();
    }

    /// All goes well from now on: everything is acknowledged, and all are in sync.
    fn heal(&mut self) {
        for _ in 0..400 {
            self.now.mono += Duration::from_millis(50);
            for node in NODES.map(NodeId) {
                self.learn(node);
                self.wish_to_follow(node);
                self.push(node);
                for other in NODES.map(NodeId) {
                    while self.links.get(&(node, other)).is_some_and(|link| !link.is_empty()) {
                        self.deliver(node, other);
                    }
                }
                let host = self.host(node);
                host.synced = host.log.len();
                let synced = end(host.synced);
                self.step(node, Event::Synced { end: synced });
                self.decide(node);
                self.step(node, Event::Tick);
            }
            self.check();
        }
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_on_any_schedule() {
    let mut acknowledged = 0;
    for seed in 1..=150 {
        let mut world = World::new(seed);
        for _ in 0..2_000 {
            world.happen();
        }
        world.heal();
        assert_eq!(world.image().isr.len(), 3, "seed {seed}: all are in sync again");
        let leader = world.image().leader;
        world.produce(leader);
        world.heal();
        assert!(world.waiting.is_empty(), "seed {seed}: {} wait", world.waiting.len());
        acknowledged += world.acknowledged.len();
    }
    assert!(acknowledged > 2_000, "only {acknowledged} were acknowledged: the schedules are too hard");
}

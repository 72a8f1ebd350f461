//! The operator: lets machines with empty disks join, and takes nodes out of the cluster again, as `weir node` would have it.
//!
//! Invariants: one node at a time; at least `MEMBERS_MIN` stay; a machine is taken away only when no partition names it any more, and it
//! comes back, if at all, with an empty disk. When the run ends, a removal that has not got so far is called off.
//! Invariant: an unclean election is commanded only where the one replica that there ever was is on a machine whose disk was replaced.

use model::{ErrorCode, NodeId};
use node::requests::Answer;
use replication::controller::orders::progress;
use replication::controller::requests::{ControllerAnswer, ControllerRequest, Election, NamedPartition};
use replication::metadata::{Duty, PartitionInfo};

use super::{Agent, Catalog, Client};
use crate::cluster::ask::{Ask, Told};
use crate::cluster::host::Membership;
use crate::cluster::net::{HostIndex, host_of, node_id};
use crate::cluster::world::World;

/// As many as the partitions have replicas.
const MEMBERS_MIN: usize = 3;
const WAKE_MS: u64 = 700;
/// Attempts to have a node forgotten, until it is given up.
const REMOVALS_MAX: u32 = 10;

#[derive(Clone, Copy)]
enum Doing {
    Nothing,
    /// Its replicas are to move away.
    Emptying(HostIndex),
    /// It holds nothing and is stopped: the cluster is to forget it. So many attempts.
    Removing(HostIndex, u32),
    /// It is to stay after all.
    Keeping(HostIndex),
}

pub struct Operator {
    agent: Agent,
    doing: Doing,
    asked: Option<u64>,
    /// What was asked for was done.
    done: bool,
}

impl Operator {
    pub fn new(agent: Agent) -> Operator {
        Operator { agent, doing: Doing::Nothing, asked: None, done: false }
    }

    fn ask(&mut self, world: &mut World, request: ControllerRequest) {
        self.done = false;
        self.asked = Some(self.agent.ask_anyone(world, Ask::Controller(request)));
    }

    /// A topic may be made while a machine with its only replica gets an empty disk. Nothing was ever written there, but no node can
    /// know that: it waits for this command.
    fn give_up_lost(&mut self, world: &mut World) {
        self.agent.is_stale();
        let Some(image) = self.agent.image() else { return };
        let lost = |info: &PartitionInfo| {
            let [only] = info.replicas[..] else { return false };
            info.leader.is_none() && info.isr.is_empty() && info.elr.is_empty() && world.hosts[host_of(only)].wiped
        };
        let partitions = image.topics().flat_map(|topic| topic.partitions().map(move |found| (topic, found)));
        let lost: Vec<NamedPartition> = partitions
            .filter(|(_, (_, info))| lost(info))
            .map(|(topic, (partition, _))| NamedPartition { topic: topic.name.clone(), partition })
            .collect();
        if !lost.is_empty() {
            self.ask(world, ControllerRequest::ElectLeaders { election: Election::Unclean, partitions: Some(lost) });
        }
    }

    fn begin(&mut self, world: &mut World, catalog: &mut Catalog) {
        let spare = world.hosts.iter().find(|host| host.membership == Membership::Spare).map(|host| host.index);
        match spare {
            Some(host) if self.agent.rng.chance(1, 12) => {
                world.join(host);
                catalog.members_changed += 1;
            }
            None if self.agent.rng.chance(1, 12) => {
                let members: Vec<HostIndex> =
                    world.hosts.iter().filter(|host| host.is_member()).map(|host| host.index).collect();
                if members.len() > MEMBERS_MIN {
                    self.doing = Doing::Emptying(members[self.agent.rng.index(members.len())]);
                    self.done = false;
                }
            }
            _ => {}
        }
    }

    /// Nothing names it as a replica, as far as this client knows.
    fn is_empty(&mut self, node: NodeId) -> bool {
        self.agent.is_stale();
        let Some(image) = self.agent.image() else { return false };
        let held = progress(image).get(&node).copied().unwrap_or_default();
        image.orders(node).duty == Duty::Leaving && held.replicas + held.arriving + held.leaving == 0
    }

    fn go_on(&mut self, world: &mut World, catalog: &mut Catalog) {
        match self.doing {
            Doing::Nothing => {}
            Doing::Emptying(host) if catalog.closing => {
                self.doing = Doing::Keeping(host);
                self.ask(world, ControllerRequest::SetDuty { node: node_id(host), duty: Duty::Full });
            }
            Doing::Emptying(host) if !self.done => {
                self.ask(world, ControllerRequest::SetDuty { node: node_id(host), duty: Duty::Leaving });
            }
            Doing::Emptying(host) => {
                if self.is_empty(node_id(host)) {
                    world.hosts[host].membership = Membership::Leaving;
                    world.stop(host);
                    self.doing = Doing::Removing(host, 0);
                    self.done = false;
                }
            }
            Doing::Removing(host, _) if self.done => {
                world.retire(host);
                catalog.members_changed += 1;
                self.doing = Doing::Nothing;
            }
            Doing::Removing(host, REMOVALS_MAX) => {
                world.join(host);
                self.doing = Doing::Keeping(host);
                self.done = false;
            }
            Doing::Removing(host, attempts) => {
                if attempts > 1 {
                    world.end_process(host);
                }
                self.doing = Doing::Removing(host, attempts + 1);
                self.ask(world, ControllerRequest::RemoveNode { node: node_id(host) });
            }
            Doing::Keeping(_) if self.done => self.doing = Doing::Nothing,
            Doing::Keeping(host) => {
                self.ask(world, ControllerRequest::SetDuty { node: node_id(host), duty: Duty::Full });
            }
        }
    }
}

impl Client for Operator {
    fn wake(&mut self, world: &mut World, catalog: &mut Catalog) {
        self.agent.refresh(world);
        if self.asked.is_none() {
            match self.doing {
                Doing::Nothing if !catalog.closing => self.begin(world, catalog),
                Doing::Nothing => self.give_up_lost(world),
                _ => self.go_on(world, catalog),
            }
        }
        self.agent.sleep(world, WAKE_MS);
    }

    fn told(&mut self, _world: &mut World, _catalog: &mut Catalog, number: u64, told: Told) {
        if self.agent.refreshed(number, &told) || self.asked != Some(number) {
            return;
        }
        self.asked = None;
        let Told::Answer(Answer::Controller(result)) = told else { return };
        match (result, self.doing) {
            (Ok(ControllerAnswer::Done), _) => self.done = true,
            // An answer was lost, and it is forgotten already.
            (Err(refusal), Doing::Removing(..)) => self.done = refusal.code == ErrorCode::BrokerIdNotRegistered,
            // Orders to nodes came with level 2.
            (Err(refusal), Doing::Emptying(_) | Doing::Keeping(_)) if refusal.code == ErrorCode::UnsupportedVersion => {
                self.doing = Doing::Nothing;
            }
            _ => {}
        }
    }

    fn is_idle(&self) -> bool {
        matches!(self.doing, Doing::Nothing) && self.asked.is_none()
    }
}

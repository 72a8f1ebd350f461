//! One seeded run of a cluster: clients and faults, then the heal, then the account.
//!
//! Owns the phases and their length. Does not own what goes wrong (`faults`) nor what is right (`checker`).

use std::fmt;
use std::time::Duration;

use super::ask::Told;
use super::clients::admin::Admin;
use super::clients::member::Member;
use super::clients::operator::Operator;
use super::clients::producer::Producer;
use super::clients::reader::Reader;
use super::clients::{Agent, Catalog, Client};
use super::faults::Faults;
use super::hash::Hash;
use super::queue::{At, MILLISECOND, SECOND};
use super::world::{ClientIndex, Outside, World};
use crate::checker::Event;
use crate::panics;
use crate::rng::Rng;

const PRODUCERS: usize = 3;
const READERS: usize = 2;
const MEMBERS: usize = 2;
/// How long an undisturbed cluster may take to be born.
const BIRTH_MAX: At = 20 * SECOND;
/// How long it may take to be whole again once all faults are over.
const RECOVERY_MAX: At = 30 * SECOND;
/// How often it is looked at meanwhile.
const LOOK: At = 200 * MILLISECOND;

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    /// `None`: drawn.
    pub nodes: Option<usize>,
    /// Of the safety phase.
    pub seconds: u64,
    /// Disks also lie: they flip bits, lose writes that they acknowledged, or put them elsewhere.
    pub disks_lie: bool,
}

/// What a run was, good or bad.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub seed: u64,
    pub nodes: usize,
    pub hash: Hash,
    pub simulated: Duration,
    pub acked: u64,
    pub read: u64,
    pub committed: u64,
    pub faults: u64,
    /// Nodes that joined or were removed.
    pub members: u64,
    pub starts: u64,
    pub events: u64,
    pub failure: Option<String>,
    /// Which faults struck, for a failure's report.
    pub struck: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.simulated.as_secs_f64();
        write!(
            f,
            "seed={} nodes={} simulated={seconds:.1}s acked={} ({:.1}/s) read={} committed={} faults={} ({:.1}/min) members={} starts={} events={}",
            self.seed,
            self.nodes,
            self.acked,
            self.acked as f64 / seconds,
            self.read,
            self.committed,
            self.faults,
            self.faults as f64 * 60.0 / seconds,
            self.members,
            self.starts,
            self.events
        )
    }
}

pub struct Run {
    pub world: World,
    pub catalog: Catalog,
    clients: Vec<Box<dyn Client>>,
    /// The administrator and the operator: what they ask for may be decided before any image shows it.
    commanders: [ClientIndex; 2],
    faults: Faults,
    /// What the run itself asked, and was told.
    pub(super) auditor: ClientIndex,
    pub(super) heard: Option<(u64, Told)>,
}

/// Runs a seed to its end, or to the first thing that is wrong.
pub fn run(plan: Plan) -> Outcome {
    panics::watch();
    let mut rng = Rng::new(plan.seed);
    let drawn = [1, 3, 3, 3, 3, 3, 3, 3, 5, 5][rng.index(10)];
    let nodes = plan.nodes.unwrap_or(drawn);
    // A machine more, which comes later.
    let spares = usize::from(nodes > 1 && rng.chance(1, 2));
    let mut run = Run::new((nodes, spares), plan.disks_lie, rng);
    // Drawn beside the others, which stay what they were before there was this one.
    run.world.voters_by_hand = nodes > 1 && !plan.disks_lie && Rng::new(!plan.seed).chance(1, 4);
    let mut beside = Rng::new(plan.seed.rotate_left(32));
    let voters = (nodes > 1 && !plan.disks_lie && beside.chance(1, 4)).then_some(beside);
    run.safety_phase(plan.seconds * SECOND, voters);
    if run.world.failure.is_none() {
        run.liveness_phase();
    }
    run.outcome(plan.seed)
}

impl Run {
    fn new((nodes, spares): (usize, usize), disks_lie: bool, mut rng: Rng) -> Run {
        let mut world = World::new(nodes + spares, nodes, rng.fork());
        world.disks_lie = disks_lie;
        let faults = Faults::draw(rng.fork(), disks_lie);
        let count = PRODUCERS + READERS + MEMBERS + 2;
        let mut agents = (0..count).map(|index| Agent::new(index, rng.fork())).collect::<Vec<_>>().into_iter();
        let mut next = || agents.next().expect("one for each client");
        let admin = 0;
        let mut clients: Vec<Box<dyn Client>> = vec![Box::new(Admin::new(next()))];
        (0..PRODUCERS).for_each(|_| clients.push(Box::new(Producer::new(next()))));
        (0..READERS).for_each(|number| clients.push(Box::new(Reader::new(next(), number == 1))));
        (0..MEMBERS).for_each(|_| clients.push(Box::new(Member::new(next()))));
        let operator = clients.len();
        clients.push(Box::new(Operator::new(next())));
        let commanders = [admin, operator];
        Run { world, catalog: Catalog::default(), clients, commanders, faults, auditor: count, heard: None }
    }

    /// Lets time pass up to there, with clients and faults doing what they do.
    fn pass(&mut self, until: At) {
        while let Some(outside) = self.world.advance(until) {
            self.hand_on(outside);
        }
    }

    pub(super) fn hand_on(&mut self, outside: Outside) {
        match outside {
            Outside::Told { client, number, told } if client == self.auditor => self.heard = Some((number, told)),
            Outside::Told { client, number, told } => {
                self.clients[client].told(&mut self.world, &mut self.catalog, number, told);
            }
            Outside::Wake { client } => self.clients[client].wake(&mut self.world, &mut self.catalog),
            Outside::Fault { number } => {
                self.world.commanded = self.commanders.iter().any(|client| !self.clients[*client].is_idle());
                self.faults.happen(&mut self.world, number);
            }
        }
    }

    fn pass_until(&mut self, within: At, what: &str, mut holds: impl FnMut(&mut Run) -> Result<(), String>) -> bool {
        let end = self.world.at + within;
        loop {
            let Err(missing) = holds(self) else { return true };
            if self.world.failure.is_some() {
                return false;
            }
            if self.world.at >= end {
                self.world.fail(format!("I17 recovery: {what}: not within {} s: {missing}", within / SECOND));
                return false;
            }
            self.pass((self.world.at + LOOK).min(end));
        }
    }

    /// `voters`: some of them forget.
    fn safety_phase(&mut self, lasts: At, voters: Option<Rng>) {
        for host in 0..self.world.hosts.len() {
            let after = self.world.rng.below(100 * MILLISECOND);
            self.world.restart_after(host, after);
        }
        let born = self.pass_until(BIRTH_MAX, "all nodes ready at first", |run| {
            let waiting = run.world.hosts.iter().find(|host| host.is_member() && !host.ready);
            waiting.map_or(Ok(()), |host| Err(format!("node {} is not", host.index + 1)))
        });
        if !born {
            return;
        }
        self.world.upgrading = true;
        for client in 0..self.clients.len() {
            let after = self.world.rng.below(100 * MILLISECOND);
            self.world.wake_client(client, after);
        }
        self.faults.schedule(&mut self.world);
        if let Some(rng) = voters {
            self.faults.let_voters_forget(&mut self.world, rng);
        }
        self.pass(lasts);
    }

    fn liveness_phase(&mut self) {
        self.faults.heal(&mut self.world);
        self.catalog.closing = true;
        self.world.note(&Event::Healed);
        let whole = self.pass_until(RECOVERY_MAX, "whole again", |run| {
            if !run.faults.replace_liar(&mut run.world) {
                return Err("a disk that lies cannot be replaced: what it holds is not elsewhere".to_owned());
            }
            // First, since who waits for an answer may wait for that.
            run.is_whole()?;
            let busy = run.clients.iter().position(|client| !client.is_idle());
            busy.map_or(Ok(()), |client| Err(format!("client {client} still waits for answers")))
        });
        if whole {
            self.account();
        }
    }

    fn outcome(&self, seed: u64) -> Outcome {
        Outcome {
            seed,
            nodes: self.world.founders,
            hash: self.world.hash,
            simulated: self.world.elapsed(),
            acked: self.catalog.acked,
            read: self.catalog.read,
            committed: self.catalog.committed,
            faults: self.faults.count(),
            members: self.catalog.members_changed,
            starts: self.world.counts.starts,
            events: self.world.counts.events,
            failure: self.world.failure.clone(),
            struck: format!("{:?}", self.faults.struck),
        }
    }
}

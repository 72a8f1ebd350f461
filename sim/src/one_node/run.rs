//! One seeded run: producers, a group, topics made and the power going now and then.
//!
//! Owns the schedule. Does not own the exploration of crashes, which works on the trace that a run leaves: `explore` does.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use model::Now;
use node::requests::{Answer, NewTopic};

use crate::disk::power::Mutation;
use crate::disk::{SimDisk, Survival};
use crate::one_node::clients::member::Member;
use crate::one_node::clients::producer::Producer;
use crate::one_node::clients::{COMPACTED, topic_name};
use crate::one_node::explore::content_of;
use crate::one_node::history::{Event, History, Place, Value};
use crate::one_node::world::{Hash, World};
use crate::rng::Rng;

const PRODUCERS: usize = 3;
const MEMBERS: usize = 2;
const TOPICS: usize = 3;

/// What a run leaves.
pub struct Outcome {
    pub hash: Hash,
    pub trace: Vec<Mutation>,
    pub history: History,
    pub crashes: u64,
    /// Simulated milliseconds.
    pub lasted_ms: u128,
    /// Runs of the cleaner in the last life of the node.
    pub compactions: u64,
}

/// How long a run is.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    /// It ends after so many disk mutations.
    pub mutations: u64,
    /// On average one crash in so many mutations; 0: none.
    pub crash_every: u64,
}

struct Run {
    world: World,
    producers: Vec<Producer>,
    members: Vec<Member>,
    places: Vec<Place>,
    history: History,
    creating: Option<(u64, usize, u32)>,
    next_value: Value,
    crashes: u64,
    hash: Hash,
    rng: Rng,
}

pub fn run(seed: u64, length: Length) -> Result<Outcome> {
    let mut rng = Rng::new(seed);
    let disk = Arc::new(SimDisk::new());
    disk.record();
    let world =
        World::open(disk, Now { mono: std::time::Duration::from_secs(1), wall_ms: 1_700_000_001_000 }, rng.fork())?;
    let mut run = Run {
        world,
        producers: (0..PRODUCERS).map(|number| Producer::new(number, rng.fork())).collect(),
        members: (0..MEMBERS).map(|_| Member::new(rng.fork())).collect(),
        places: Vec::new(),
        history: History::default(),
        creating: None,
        next_value: 1,
        crashes: 0,
        hash: Hash::START,
        rng: rng.fork(),
    };
    run.world.run_until("ready at first", |world| world.is_ready())?;
    while run.world.disk.mutations() < length.mutations {
        run.turn();
        if length.crash_every > 0 && run.rng.chance(1, length.crash_every * 20) {
            run.crash()?;
        }
    }
    run.finish()
}

/// The compacted one has segments of a moment, so that a short run compacts it many times, and forgets its tombstones soon.
fn config_of(topic: usize) -> BTreeMap<String, String> {
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "40"),
        ("min.cleanable.dirty.ratio", "0.1"),
        ("delete.retention.ms", "60"),
    ];
    let config = if topic == COMPACTED { &compacted[..] } else { &[("segment.bytes", "1048576")] };
    config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl Run {
    /// A little of everything.
    fn turn(&mut self) {
        match self.rng.below(10) {
            0 => {
                let at = self.rng.index(PRODUCERS);
                self.producers[at].act(&mut self.world, &self.places, &mut self.next_value, &mut self.history);
            }
            1 => {
                let at = self.rng.index(MEMBERS);
                self.members[at].act(&mut self.world, &mut self.history);
            }
            2 if self.creating.is_none() && self.topics() < TOPICS => self.create_topic(),
            _ => self.world.step(),
        }
        self.deliver();
    }

    fn topics(&self) -> usize {
        self.places.iter().map(|(topic, _)| topic + 1).max().unwrap_or(0)
    }

    fn create_topic(&mut self) {
        let (topic, partitions) = (self.topics(), 1 + u32::try_from(self.rng.below(3)).expect("small"));
        let new = NewTopic {
            name: topic_name(topic),
            partitions: Some(partitions),
            replication_factor: None,
            assignment: Vec::new(),
            config: config_of(topic),
        };
        let request = self.world.ask(|node, now, reply, fx| node.create_topics(now, vec![new], false, reply, fx));
        self.creating = Some((request, topic, partitions));
    }

    fn deliver(&mut self) {
        for (request, answer) in self.world.take_answers() {
            let mutations = self.world.disk.mutations();
            if let Some((creating, topic, partitions)) = self.creating
                && creating == request
            {
                self.creating = None;
                self.on_created(topic, partitions, &answer, mutations);
                continue;
            }
            let (world, history, places) = (&mut self.world, &mut self.history, &self.places);
            let taken = self.producers.iter_mut().any(|producer| producer.take(request, &answer, mutations, history))
                || self.members.iter_mut().any(|member| member.take(request, &answer, world, places, history));
            assert!(taken, "nobody asked for {answer:?}");
        }
    }

    fn on_created(&mut self, topic: usize, partitions: u32, answer: &Answer, mutations: u64) {
        let Answer::TopicsCreated(results) = answer else { panic!("a creation was answered with {answer:?}") };
        // A crash may have come between the creation and its answer: then the topic is there already, with the count drawn then.
        let made = match results.first() {
            Some(Ok(created)) => created.partitions,
            _ => match self.world.node.image().topic(&topic_name(topic)) {
                Some(there) => u32::try_from(there.partitions.len()).expect("few partitions"),
                None => return,
            },
        };
        let _ = partitions;
        self.history.push(mutations, Event::Created { topic, partitions: made });
        self.places.extend((0..made).map(|partition| (topic, partition)));
    }

    /// The power goes, and the node starts again on what is left.
    fn crash(&mut self) -> Result<()> {
        let survival = match self.rng.below(3) {
            0 => Survival::Nothing,
            1 => Survival::Everything,
            _ => Survival::Drawn,
        };
        let disk = Arc::new(self.world.disk.crash_and_go_on(survival, self.rng.next_u64()));
        self.crashes += 1;
        self.hash.add(&self.world.hash.0.to_be_bytes());
        self.creating = None;
        self.producers.iter_mut().for_each(Producer::on_crash);
        self.members.iter_mut().for_each(Member::on_crash);
        self.world = World::open(disk, self.world.now, self.rng.fork())?;
        self.world.run_until("ready after a crash", |world| world.is_ready())
    }

    /// Everything that is under way must come to its end; then all that was told must be there.
    fn finish(mut self) -> Result<Outcome> {
        for _ in 0..400_000 {
            if self.producers.iter().all(Producer::is_idle) {
                break;
            }
            for at in 0..PRODUCERS {
                self.producers[at].drain(&mut self.world);
            }
            self.world.step();
            self.deliver();
        }
        if !self.producers.iter().all(Producer::is_idle) {
            bail!("after the run a producer still waits for an answer");
        }
        let content = content_of(&mut self.world, &self.places)?;
        self.history.judge(u64::MAX, &content)?;
        ensure!(self.history.acked > 0, "nothing was acknowledged in the whole run");
        self.hash.add(&self.world.hash.0.to_be_bytes());
        let lasted_ms = self.world.now.mono.as_millis();
        let compactions = self.world.node.stats().compactions;
        Ok(Outcome {
            hash: self.hash,
            trace: self.world.disk.trace(),
            history: self.history,
            crashes: self.crashes,
            lasted_ms,
            compactions,
        })
    }
}

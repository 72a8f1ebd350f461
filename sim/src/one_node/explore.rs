//! The power goes before, in and after every disk operation of a run; each time a node starts on what is left and is judged.
//!
//! Owns the choice of post-crash states: all of them where few operations are pending, drawn ones where many are. Now and then the power
//! goes again while the node recovers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use model::{Now, PartitionIndex};
use node::requests::Answer;
use replication::group::{FetchOffsets, FetchTopic, GroupAnswer, GroupError, GroupRequest};

use crate::disk::{SimDisk, Survival};
use crate::one_node::clients::{member, reader, topic_name};
use crate::one_node::history::{Content, Known, Place};
use crate::one_node::run::Outcome;
use crate::one_node::world::World;
use crate::rng::Rng;

/// With at most so many legal states all are tried.
const STATES_MAX: u64 = 8;
const DRAWN: usize = 2;

#[derive(Clone, Copy, Default, Debug)]
pub struct Explored {
    pub operations: u64,
    pub states: u64,
    pub crashes_in_recovery: u64,
}

/// Everything that clients could see on this node.
pub fn content_of(world: &mut World, places: &[Place]) -> Result<Content> {
    let mut content = Content::default();
    for place in places {
        content.records.insert(*place, reader::read_all(&world.node, *place)?);
    }
    content.committed = committed_offsets(world, places)?;
    Ok(content)
}

fn committed_offsets(world: &mut World, places: &[Place]) -> Result<BTreeMap<Place, i64>> {
    let mut topics: BTreeMap<usize, Vec<PartitionIndex>> = BTreeMap::new();
    for (topic, partition) in places {
        topics.entry(*topic).or_default().push(PartitionIndex::new(*partition));
    }
    let ask: Vec<_> = topics
        .iter()
        .map(|(topic, partitions)| FetchTopic { topic: topic_name(*topic), partitions: partitions.clone() })
        .collect();
    loop {
        let fetch =
            FetchOffsets { member_id: None, member_epoch: -1, topics: Some(ask.clone()), require_stable: false };
        let request = GroupRequest::FetchOffsets(fetch);
        let answer = world.ask_and_wait("committed offsets", |node, now, reply, fx| {
            node.group(now, member::group(), request, reply, fx)
        })?;
        match answer {
            Answer::Group(GroupAnswer::FetchOffsets(Ok(fetched))) => {
                let mut found = BTreeMap::new();
                for (topic, number) in fetched.iter().zip(topics.keys()) {
                    for partition in &topic.partitions {
                        if let Some(committed) = &partition.committed {
                            found.insert((*number, partition.partition.get()), committed.offset);
                        }
                    }
                }
                return Ok(found);
            }
            Answer::Group(GroupAnswer::FetchOffsets(Err(GroupError::Loading))) => world.step(),
            // Without a group nothing was committed.
            Answer::Group(GroupAnswer::FetchOffsets(Err(GroupError::NotCoordinator))) => return Ok(BTreeMap::new()),
            other => bail!("committed offsets were answered with {other:?}"),
        }
    }
}

/// Tries the crashes of the operations `from..` of the run, every `stride`-th.
pub fn explore(seed: u64, outcome: &Outcome, stride: usize) -> Result<Explored> {
    let mut rng = Rng::new(seed ^ 0x000C_4A54);
    let mut explored = Explored::default();
    let mut disk = SimDisk::new();
    let mut known = Known::new(&outcome.history);
    for (index, mutation) in outcome.trace.iter().enumerate() {
        if index % stride == 0 {
            known.advance(index as u64)?;
            explored.operations += 1;
            let before = try_states(&disk, &known, &mut rng, &mut explored);
            before.with_context(|| format!("crash before operation {index}, {}", name(mutation)))?;
            let torn = disk.torn_in(mutation, &mut rng);
            // In it, what it is for has not been answered yet.
            let within = try_one(&torn.after_crash(Survival::Drawn, &mut rng), &known, &mut rng, &mut explored);
            within.with_context(|| format!("crash in operation {index}, {}", name(mutation)))?;
        }
        disk = disk.replay(mutation);
    }
    Ok(explored)
}

fn name(mutation: &crate::disk::power::Mutation) -> String {
    let mut text = format!("{mutation:?}");
    text.truncate(text.char_indices().nth(160).map_or(text.len(), |(at, _)| at));
    text
}

fn try_states(disk: &SimDisk, known: &Known<'_>, rng: &mut Rng, explored: &mut Explored) -> Result<()> {
    match disk.crash_states(STATES_MAX) {
        Some(states) => (0..states).try_for_each(|number| {
            try_one(&disk.crash_state(number), known, rng, explored)
                .with_context(|| format!("post-crash state {number} of {states}"))
        }),
        None => {
            for survival in [Survival::Nothing, Survival::Everything] {
                try_one(&disk.after_crash(survival, rng), known, rng, explored)
                    .with_context(|| format!("{survival:?} survived"))?;
            }
            (0..DRAWN).try_for_each(|_| try_one(&disk.after_crash(Survival::Drawn, rng), known, rng, explored))
        }
    }
}

/// Starts a node on this disk and judges what it shows.
fn try_one(disk: &SimDisk, known: &Known<'_>, rng: &mut Rng, explored: &mut Explored) -> Result<()> {
    explored.states += 1;
    let interrupted = rng.chance(1, 8);
    let disk = if interrupted { crash_in_recovery(disk, rng, explored) } else { disk.fork() };
    let now = Now { mono: Duration::from_secs(3600), wall_ms: 1_700_003_600_000 };
    let mut world = World::open(Arc::new(disk), now, rng.fork())?;
    world.run_until("ready after a crash", |world| world.is_ready())?;
    let content = content_of(&mut world, known.places())?;
    known
        .judge(&content)
        .with_context(|| if interrupted { "recovery was interrupted too" } else { "recovered at once" })
}

/// The power goes again while the node starts.
fn crash_in_recovery(disk: &SimDisk, rng: &mut Rng, explored: &mut Explored) -> SimDisk {
    explored.crashes_in_recovery += 1;
    let shared = Arc::new(disk.fork());
    shared.set_fuse(rng.below(40));
    let now = Now { mono: Duration::from_secs(1800), wall_ms: 1_700_001_800_000 };
    if let Ok(mut world) = World::open(shared.clone(), now, rng.fork()) {
        // It ends in an error when the power goes, or is ready before that: both are the point.
        let _ = world.run_until("ready, or no power", |world| world.is_ready());
    }
    shared.after_crash(Survival::Drawn, rng)
}

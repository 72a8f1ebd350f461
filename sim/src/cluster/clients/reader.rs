//! A consumer without a group: reads every partition from its position on, from the leader or from a follower, and searches by time.
//!
//! Invariant: positions only move over records that were read.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{LeaderEpoch, TopicPartition};
use node::requests::{FetchError, FetchPart, FetchedPart};

use super::{Agent, Catalog, Client};
use crate::checker::{Event, FoundTime, Read};
use crate::cluster::ask::{Ask, Told};
use crate::cluster::net::{HostIndex, host_of};
use crate::cluster::observe::records_of;
use crate::cluster::world::World;

const WAKE_MS: u64 = 90;
const FETCH_BYTES: u32 = 64 << 10;

/// A fetch that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Fetching {
    pub number: u64,
    pub place: TopicPartition,
    pub from: i64,
    pub invoked: Duration,
    /// `None`: a follower was asked.
    pub epoch: Option<LeaderEpoch>,
}

enum Doing {
    Nothing,
    Fetching(Fetching),
    Searching { number: u64, place: TopicPartition, epoch: i32, wanted_ms: i64, invoked: Duration },
}

pub struct Reader {
    agent: Agent,
    doing: Doing,
    positions: BTreeMap<TopicPartition, i64>,
    likes_followers: bool,
}

impl Reader {
    pub fn new(agent: Agent, likes_followers: bool) -> Reader {
        Reader { agent, doing: Doing::Nothing, positions: BTreeMap::new(), likes_followers }
    }

    fn act(&mut self, world: &mut World, catalog: &Catalog) {
        let places = catalog.places(false);
        if places.is_empty() {
            return;
        }
        let place = places[self.agent.rng.index(places.len())];
        if self.agent.rng.chance(1, 20) {
            return self.search(world, place);
        }
        if self.agent.rng.chance(1, 60) {
            self.positions.insert(place, 0);
        }
        let from = self.positions.get(&place).copied().unwrap_or(0);
        if let Some(fetching) = fetch(&mut self.agent, world, place, from, self.likes_followers) {
            self.doing = Doing::Fetching(fetching);
        }
    }

    fn search(&mut self, world: &mut World, place: TopicPartition) {
        let Some((host, epoch)) = self.agent.leader(place) else { return };
        let back = i64::try_from(self.agent.rng.below(30_000)).expect("small");
        let wanted_ms = world.true_wall_ms() - back;
        let ask = Ask::FindTime { partition: place, epoch: Some(epoch), time_ms: wanted_ms };
        let number = self.agent.ask(world, host, ask);
        self.doing = Doing::Searching { number, place, epoch: epoch.get(), wanted_ms, invoked: world.elapsed() };
    }
}

/// Asks for records. `None`: nobody to ask is known.
pub fn fetch(
    agent: &mut Agent,
    world: &mut World,
    place: TopicPartition,
    from: i64,
    from_follower: bool,
) -> Option<Fetching> {
    let (leader, epoch) = agent.leader(place)?;
    let mut asked: (HostIndex, Option<LeaderEpoch>) = (leader, Some(epoch));
    if from_follower {
        let info = agent.partition(place)?;
        let others: Vec<HostIndex> =
            info.replicas.iter().map(|node| host_of(*node)).filter(|host| *host != leader).collect();
        if !others.is_empty() {
            asked = (others[agent.rng.index(others.len())], None);
        }
    }
    let part =
        FetchPart { partition: place, from, bytes_max: FETCH_BYTES, current_epoch: asked.1, last_fetched_epoch: None };
    let number = agent.ask(world, asked.0, Ask::Fetch(part));
    Some(Fetching { number, place, from, invoked: world.elapsed(), epoch: asked.1 })
}

/// Takes in what a fetch gave: the position behind it. `None`: nothing can be said, or the metadata are old.
pub fn fetched(
    agent: &mut Agent,
    world: &mut World,
    catalog: &mut Catalog,
    fetching: &Fetching,
    told: Told,
) -> Option<i64> {
    let Told::Fetched(part) = told else {
        agent.is_stale();
        return None;
    };
    let Fetching { place, from, .. } = *fetching;
    if let Some(error) = &part.error {
        on_error(agent, world, catalog, fetching, error);
        return None;
    }
    let records = match records_of(&part.records, from) {
        Ok(records) => records,
        Err(error) => {
            world.fail(format!("{place}: what was fetched from {from} on cannot be read: {error}"));
            return None;
        }
    };
    // A leader that does not know yet what its predecessor acknowledged tells no limit.
    let FetchedPart { high_watermark: Some(high_watermark), log_start: Some(log_start), .. } = *part else {
        return None;
    };
    let read = Read {
        client: u32::try_from(agent.index).expect("few clients"),
        place,
        invoked: fetching.invoked,
        epoch: fetching.epoch.map(LeaderEpoch::get),
        from,
        high_watermark: high_watermark.get(),
        log_start: log_start.get(),
        records,
    };
    catalog.read += read.records.len() as u64;
    let end = read.records.last().map_or(from, |last| last.offset + 1);
    world.note(&Event::Read(read));
    Some(end)
}

fn on_error(agent: &mut Agent, world: &mut World, catalog: &Catalog, fetching: &Fetching, error: &FetchError) {
    agent.is_stale();
    let Fetching { place, from, invoked, epoch, .. } = *fetching;
    if let (FetchError::OutOfRange { .. }, Some(epoch)) = (error, epoch)
        && !catalog.is_leaving(place.topic)
    {
        world.note(&Event::OutOfRange { place, invoked, epoch: epoch.get(), from });
    }
}

impl Client for Reader {
    fn wake(&mut self, world: &mut World, catalog: &mut Catalog) {
        self.agent.refresh(world);
        if matches!(self.doing, Doing::Nothing) {
            self.act(world, catalog);
        }
        self.agent.sleep(world, WAKE_MS);
    }

    fn told(&mut self, world: &mut World, catalog: &mut Catalog, number: u64, told: Told) {
        if self.agent.refreshed(number, &told) {
            return;
        }
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Fetching(fetching) if fetching.number == number => {
                if let Some(end) = fetched(&mut self.agent, world, catalog, &fetching, told) {
                    self.positions.insert(fetching.place, end);
                }
            }
            Doing::Searching { number: asked, place, epoch, wanted_ms, invoked } if asked == number => match told {
                Told::FoundTime(Ok(found)) => {
                    let found = found.offset.map(|offset| (offset.get(), found.timestamp_ms));
                    world.note(&Event::FoundTime(FoundTime { place, invoked, epoch, wanted_ms, found }));
                }
                _ => self.agent.is_stale(),
            },
            other => self.doing = other,
        }
    }
}

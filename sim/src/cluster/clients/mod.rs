//! Model clients: they speak decoded requests, follow leaders by metadata, retry as real ones do, and tell the checker what they know.
//!
//! Owns what is common: who a client is, its view of the metadata, when it asks for a newer one. Does not own judgement.
//! Invariant: a client tells the checker of an answer at the moment at which it arrives.

pub mod admin;
pub mod member;
pub mod operator;
pub mod producer;
pub mod reader;

use std::sync::Arc;

use model::{LeaderEpoch, PartitionIndex, TopicId, TopicName, TopicPartition};
use replication::metadata::{Image, PartitionInfo};

use super::ask::{Ask, Told};
use super::net::{HostIndex, host_of};
use super::queue::{At, MILLISECOND, SECOND};
use super::world::{ClientIndex, World};
use crate::checker::Value;
use crate::rng::Rng;

/// A topic that was made by the administrator.
#[derive(Clone, Debug)]
pub struct Made {
    pub id: TopicId,
    pub name: TopicName,
    pub partitions: u32,
    /// Never deleted; groups read these.
    pub stable: bool,
    /// Its deletion was asked for.
    pub leaving: bool,
}

/// What clients of one run share.
#[derive(Debug, Default)]
pub struct Catalog {
    pub topics: Vec<Made>,
    pub last_value: Value,
    /// The run is over but for what is under way.
    pub closing: bool,
    pub acked: u64,
    pub read: u64,
    pub committed: u64,
    /// Nodes that joined or were removed.
    pub members_changed: u64,
}

impl Catalog {
    pub fn next_value(&mut self) -> Value {
        self.last_value += 1;
        self.last_value
    }

    /// The partitions of all topics that stay, or of those that always stay.
    pub fn places(&self, only_stable: bool) -> Vec<TopicPartition> {
        let here = self.topics.iter().filter(|made| !made.leaving && (made.stable || !only_stable));
        here.flat_map(|made| {
            (0..made.partitions).map(|index| TopicPartition { topic: made.id, partition: PartitionIndex::new(index) })
        })
        .collect()
    }

    /// Deleted, or about to be.
    pub fn is_leaving(&self, topic: TopicId) -> bool {
        !self.topics.iter().any(|made| made.id == topic && !made.leaving)
    }
}

pub trait Client {
    /// Its time has come. It wakes itself again.
    fn wake(&mut self, world: &mut World, catalog: &mut Catalog);
    /// The end of one of its requests.
    fn told(&mut self, world: &mut World, catalog: &mut Catalog, number: u64, told: Told);
    /// Nothing that it was told to do is left.
    fn is_idle(&self) -> bool {
        true
    }
}

/// How long a client waits for an answer.
const PATIENCE: At = 2 * SECOND;

/// One client's connections and metadata.
pub struct Agent {
    pub index: ClientIndex,
    pub rng: Rng,
    image: Option<Arc<Image>>,
    refresh: Option<u64>,
    stale: bool,
}

impl Agent {
    pub fn new(index: ClientIndex, rng: Rng) -> Agent {
        Agent { index, rng, image: None, refresh: None, stale: true }
    }

    pub fn any_host(&mut self, world: &World) -> HostIndex {
        let members: Vec<HostIndex> =
            world.hosts.iter().filter(|host| host.is_member()).map(|host| host.index).collect();
        members[self.rng.index(members.len())]
    }

    pub fn ask(&mut self, world: &mut World, host: HostIndex, ask: Ask) -> u64 {
        let patience = PATIENCE + self.rng.below(SECOND);
        world.ask(self.index, host, ask, patience)
    }

    pub fn ask_anyone(&mut self, world: &mut World, ask: Ask) -> u64 {
        let host = self.any_host(world);
        self.ask(world, host, ask)
    }

    /// Something showed that the metadata are old.
    pub fn is_stale(&mut self) {
        self.stale = true;
    }

    /// Asks for newer metadata where they are known to be old.
    pub fn refresh(&mut self, world: &mut World) {
        if self.stale && self.refresh.is_none() {
            self.stale = false;
            self.refresh = Some(self.ask_anyone(world, Ask::Image));
        }
    }

    /// True when this was the answer to a refresh.
    pub fn refreshed(&mut self, number: u64, told: &Told) -> bool {
        if self.refresh != Some(number) {
            return false;
        }
        self.refresh = None;
        match told {
            Told::Image(image) => self.image = Some(Arc::clone(image)),
            _ => self.stale = true,
        }
        true
    }

    pub fn image(&self) -> Option<&Arc<Image>> {
        self.image.as_ref()
    }

    pub fn partition(&mut self, place: TopicPartition) -> Option<Arc<PartitionInfo>> {
        let info = self.image.as_ref().and_then(|image| image.partition(place)).map(Arc::clone);
        self.stale |= info.is_none();
        info
    }

    /// Who leads, as far as this client knows.
    pub fn leader(&mut self, place: TopicPartition) -> Option<(HostIndex, LeaderEpoch)> {
        let info = self.partition(place)?;
        self.stale |= info.leader.is_none();
        Some((host_of(info.leader?), info.leader_epoch))
    }

    /// Sleeps between half of this and one and a half times it.
    pub fn sleep(&mut self, world: &mut World, about_ms: u64) {
        let about = about_ms * MILLISECOND;
        world.wake_client(self.index, about / 2 + self.rng.below(about));
    }
}

//! The administrator: makes topics, deletes and makes some of them again, moves replicas, elects leaders, changes settings, says who votes.
//!
//! Owns the catalog's list of topics. Invariant: one request at a time; a topic is in the catalog once its creation is certain.

use std::collections::BTreeSet;

use model::{NodeId, TopicId, TopicName};
use node::requests::{Answer, NewTopic, TopicRef};
use replication::controller::requests::{
    ConfigAlteration, ConfigOperation, ConfigTarget, ControllerRequest, Election, FeatureUpdate, LevelChange,
    NamedPartition, Reassignment,
};
use replication::metadata::record::{LEVEL, LEVEL_FEATURE};

use super::{Agent, Catalog, Client, Made};
use crate::checker::Event;
use crate::cluster::ask::{Ask, Told};
use crate::cluster::net::node_id;
use crate::cluster::world::World;

/// Topics that groups read.
const STABLE: usize = 2;
const SCRATCH: usize = 2;

enum Doing {
    Nothing,
    Creating {
        number: u64,
        name: TopicName,
        stable: bool,
    },
    Deleting {
        number: u64,
        name: TopicName,
    },
    /// Its outcome is seen elsewhere.
    Other {
        number: u64,
    },
}

pub struct Admin {
    agent: Agent,
    doing: Doing,
    segment_ms: u64,
    deleted: BTreeSet<TopicId>,
}

fn name_of(stable: bool, number: usize) -> TopicName {
    let kind = if stable { "stable" } else { "scratch" };
    TopicName::new(&format!("{kind}-{number}")).expect("a plain name")
}

impl Admin {
    pub fn new(mut agent: Agent) -> Admin {
        let segment_ms = [3_000, 10_000, 604_800_000][agent.rng.index(3)];
        Admin { agent, doing: Doing::Nothing, segment_ms, deleted: BTreeSet::new() }
    }

    fn act(&mut self, world: &mut World, catalog: &mut Catalog) {
        let has = |catalog: &Catalog, name: &TopicName| catalog.topics.iter().any(|made| made.name == *name);
        if let Some(name) = (0..STABLE).map(|number| name_of(true, number)).find(|name| !has(catalog, name)) {
            return self.create(world, name, true);
        }
        match self.agent.rng.below(10) {
            0..3 => {
                let name = name_of(false, self.agent.rng.index(SCRATCH));
                if has(catalog, &name) { self.delete(world, catalog, name) } else { self.create(world, name, false) }
            }
            3..6 => self.reassign(world, catalog),
            6 => {
                let request = ControllerRequest::ElectLeaders { election: Election::Preferred, partitions: None };
                self.other(world, request);
            }
            7 => self.configure(world, catalog),
            8 => self.raise_level(world),
            _ if world.voters_by_hand => self.order_voter(world),
            _ => {}
        }
    }

    fn other(&mut self, world: &mut World, request: ControllerRequest) {
        let number = self.agent.ask_anyone(world, Ask::Controller(request));
        self.doing = Doing::Other { number };
    }

    fn create(&mut self, world: &mut World, name: TopicName, stable: bool) {
        let mut new = NewTopic::with_defaults(name.clone());
        new.partitions = Some(1 + u32::try_from(self.agent.rng.below(3)).expect("small"));
        let nodes = u16::try_from(world.founders.min(3)).expect("small");
        // With two, one of them is enough to go on.
        let factor = if stable { [2, 3][self.agent.rng.index(2)] } else { [1, 2, 3, 3][self.agent.rng.index(4)] };
        let factor = if world.disks_lie { factor.max(2) } else { factor };
        new.replication_factor = Some(nodes.min(factor));
        new.config.insert("segment.ms".to_owned(), self.segment_ms.to_string());
        let number = self.agent.ask_anyone(world, Ask::CreateTopic(new));
        self.doing = Doing::Creating { number, name, stable };
    }

    fn delete(&mut self, world: &mut World, catalog: &mut Catalog, name: TopicName) {
        let Some(made) = catalog.topics.iter_mut().find(|made| made.name == name) else { return };
        made.leaving = true;
        world.note(&Event::TopicDeleting { topic: made.id });
        let number = self.agent.ask_anyone(world, Ask::DeleteTopic(TopicRef::Id(made.id)));
        self.doing = Doing::Deleting { number, name };
    }

    fn some_partition(&mut self, catalog: &Catalog) -> Option<(NamedPartition, Vec<NodeId>)> {
        let places = catalog.places(false);
        if places.is_empty() {
            return None;
        }
        let place = places[self.agent.rng.index(places.len())];
        let image = self.agent.image()?;
        let topic = image.topic_by_id(place.topic)?;
        let replicas = topic.partition(place.partition)?.replicas.clone();
        Some((NamedPartition { topic: topic.name.clone(), partition: place.partition }, replicas))
    }

    fn reassign(&mut self, world: &mut World, catalog: &Catalog) {
        self.agent.is_stale();
        let Some((partition, replicas)) = self.some_partition(catalog) else { return };
        if self.agent.rng.chance(1, 5) {
            let cancel = Reassignment { partition, replicas: None };
            return self
                .other(world, ControllerRequest::Reassign { partitions: vec![cancel], allow_factor_change: true });
        }
        let members = world.hosts.iter().filter(|host| host.is_member());
        let mut nodes: Vec<NodeId> = members.map(|host| node_id(host.index)).collect();
        for at in (1..nodes.len()).rev() {
            nodes.swap(at, self.agent.rng.index(at + 1));
        }
        nodes.truncate(replicas.len().clamp(1, nodes.len()));
        let to = Reassignment { partition, replicas: Some(nodes) };
        self.other(world, ControllerRequest::Reassign { partitions: vec![to], allow_factor_change: true });
    }

    fn configure(&mut self, world: &mut World, catalog: &Catalog) {
        let Some((partition, _)) = self.some_partition(catalog) else { return };
        let value = [100_000, 604_800_000][self.agent.rng.index(2)];
        let operation = ConfigOperation::Set { key: "segment.ms".to_owned(), value: i64::to_string(&value) };
        let target = ConfigTarget::Topic(partition.topic);
        let resource = ConfigAlteration { target, operations: vec![operation], replace: false };
        self.other(world, ControllerRequest::AlterConfigs { resources: vec![resource], validate_only: false });
    }

    /// AddRaftVoter or RemoveRaftVoter, often one that is refused.
    fn order_voter(&mut self, world: &mut World) {
        self.agent.is_stale();
        let node = node_id(self.agent.rng.index(world.hosts.len()));
        let (removes, names_directory) = (self.agent.rng.chance(1, 2), self.agent.rng.chance(1, 2));
        let Some(image) = self.agent.image() else { return };
        let directory = image.node(node).filter(|_| names_directory).map(|info| info.directory);
        let request = match removes {
            true => ControllerRequest::RemoveVoter { node, directory },
            false => ControllerRequest::AddVoter { node, directory },
        };
        self.other(world, request);
    }

    /// Refused as long as a node runs the version before.
    fn raise_level(&mut self, world: &mut World) {
        let level = i16::try_from(LEVEL).expect("levels are small");
        let update = FeatureUpdate { name: LEVEL_FEATURE.to_owned(), level, change: LevelChange::Upgrade };
        self.other(world, ControllerRequest::UpdateFeatures { updates: vec![update], validate_only: false });
    }

    /// The creation is certain when the topic is in somebody's metadata: the answer may have been lost.
    fn on_created(&mut self, world: &mut World, catalog: &mut Catalog, name: TopicName, stable: bool, told: &Told) {
        let id = match told {
            Told::Answer(Answer::TopicsCreated(results)) => match results.first() {
                Some(Ok(created)) => Some((created.id, created.partitions)),
                _ => None,
            },
            _ => None,
        };
        let known = id.or_else(|| {
            let image = world.newest_image()?;
            let topic = image.topic(&name)?;
            Some((topic.id, u32::try_from(topic.partitions.len()).ok()?))
        });
        let Some((topic, partitions)) = known else { return };
        // A node that is behind may still show the one before, which is deleted.
        if catalog.topics.iter().any(|made| made.id == topic) || self.deleted.contains(&topic) {
            return;
        }
        if id.is_some() {
            world.note(&Event::TopicCreated { topic });
        }
        catalog.topics.push(Made { id: topic, name, partitions, stable, leaving: false });
    }

    fn on_deleted(&mut self, world: &mut World, catalog: &mut Catalog, name: &TopicName, told: &Told) {
        let Some(at) = catalog.topics.iter().position(|made| made.name == *name && made.leaving) else { return };
        let topic = catalog.topics[at].id;
        let gone = match told {
            Told::Answer(Answer::TopicsDeleted(results)) => match results.first() {
                Some(Ok(_)) => {
                    world.note(&Event::TopicDeleted { topic });
                    true
                }
                Some(Err(refusal)) => refusal.code == model::ErrorCode::UnknownTopicId,
                None => false,
            },
            _ => false,
        };
        if gone {
            self.deleted.insert(topic);
            catalog.topics.remove(at);
        }
    }
}

impl Client for Admin {
    fn wake(&mut self, world: &mut World, catalog: &mut Catalog) {
        self.agent.refresh(world);
        let leaving = catalog.topics.iter().find(|made| made.leaving).map(|made| made.name.clone());
        if matches!(self.doing, Doing::Nothing) {
            match leaving {
                Some(name) => self.delete(world, catalog, name),
                None if !catalog.closing => self.act(world, catalog),
                None => {}
            }
        }
        let about_ms = if catalog.topics.len() < STABLE { 200 } else { 1_500 };
        self.agent.sleep(world, about_ms);
    }

    fn told(&mut self, world: &mut World, catalog: &mut Catalog, number: u64, told: Told) {
        if self.agent.refreshed(number, &told) {
            return;
        }
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Creating { number: asked, name, stable } if asked == number => {
                self.on_created(world, catalog, name, stable, &told);
            }
            Doing::Deleting { number: asked, name } if asked == number => {
                self.on_deleted(world, catalog, &name, &told);
            }
            Doing::Other { number: asked } if asked == number => {}
            other => self.doing = other,
        }
    }

    fn is_idle(&self) -> bool {
        matches!(self.doing, Doing::Nothing)
    }
}

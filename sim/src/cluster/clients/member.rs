//! A member of a consumer group in the classic protocol: finds its coordinator, joins, takes its share, reads it, commits what it read.
//!
//! Invariant: it commits only positions behind records that it was given, and starts where the group left off.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use model::{GroupId, PartitionIndex, TopicId, TopicPartition};
use node::requests::Answer;
use replication::group::{
    CommitOffset, CommitOffsets, FetchOffsets, FetchTopic, FetchedTopic, GroupAnswer, GroupError, GroupRequest,
    Heartbeat, Join, Joined, MemberId, Protocol, Sync,
};

use super::reader::{Fetching, fetch, fetched};
use super::{Agent, Catalog, Client};
use crate::checker::Event;
use crate::cluster::ask::{Ask, Told};
use crate::cluster::net::{HostIndex, host_of};
use crate::cluster::world::World;

const WAKE_MS: u64 = 80;
/// The only group of a run.
pub const GROUP: u32 = 0;

pub fn group() -> GroupId {
    GroupId::new("group")
}

enum Doing {
    Nothing,
    Finding(u64),
    Joining(u64),
    Syncing(u64),
    /// Asking where its partitions were left.
    Resuming(u64, Duration),
    Reading,
    Fetching(Fetching),
    Committing(u64, Vec<(TopicPartition, i64)>),
    Beating(u64),
}

pub struct Member {
    agent: Agent,
    coordinator: Option<HostIndex>,
    id: Option<MemberId>,
    generation: i32,
    doing: Doing,
    positions: BTreeMap<TopicPartition, i64>,
}

impl Member {
    pub fn new(agent: Agent) -> Member {
        let positions = BTreeMap::new();
        Member { agent, coordinator: None, id: None, generation: -1, doing: Doing::Nothing, positions }
    }

    fn waits_for(&self) -> Option<u64> {
        match &self.doing {
            Doing::Finding(number)
            | Doing::Joining(number)
            | Doing::Syncing(number)
            | Doing::Resuming(number, _)
            | Doing::Beating(number)
            | Doing::Committing(number, _) => Some(*number),
            Doing::Fetching(fetching) => Some(fetching.number),
            Doing::Nothing | Doing::Reading => None,
        }
    }

    fn act(&mut self, world: &mut World) {
        match self.doing {
            Doing::Nothing => match self.coordinator {
                None => self.doing = Doing::Finding(self.agent.ask_anyone(world, Ask::Coordinator(group()))),
                Some(coordinator) => {
                    let join = self.join();
                    self.doing = Doing::Joining(self.ask(world, coordinator, join));
                }
            },
            // It dies and comes back as somebody else.
            Doing::Reading if self.agent.rng.chance(1, 300) => {
                self.id = None;
                self.start_over();
            }
            Doing::Reading if self.agent.rng.chance(1, 5) => self.commit(world),
            Doing::Reading if self.agent.rng.chance(1, 6) => {
                let beat = Heartbeat { member_id: self.id.clone(), instance_id: None, generation: self.generation };
                if let Some(coordinator) = self.coordinator {
                    self.doing = Doing::Beating(self.ask(world, coordinator, GroupRequest::Heartbeat(beat)));
                }
            }
            Doing::Reading => self.read(world),
            _ => {}
        }
    }

    fn start_over(&mut self) {
        self.doing = Doing::Nothing;
        self.positions.clear();
    }

    fn ask(&mut self, world: &mut World, coordinator: HostIndex, request: GroupRequest) -> u64 {
        self.agent.ask(world, coordinator, Ask::Group(group(), request))
    }

    fn join(&self) -> GroupRequest {
        GroupRequest::Join(Join {
            client_id: "sim".into(),
            client_host: "/127.0.0.1".into(),
            member_id: self.id.clone(),
            instance_id: None,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "share".into(), metadata: Bytes::from_static(b"all") }],
            session_timeout_ms: 3_000,
            rebalance_timeout_ms: 3_000,
            member_id_required: true,
            can_skip_assignment: false,
            reason: None,
        })
    }

    fn read(&mut self, world: &mut World) {
        let places: Vec<TopicPartition> = self.positions.keys().copied().collect();
        if places.is_empty() {
            return;
        }
        let place = places[self.agent.rng.index(places.len())];
        let from = self.positions[&place];
        if let Some(fetching) = fetch(&mut self.agent, world, place, from, false) {
            self.doing = Doing::Fetching(fetching);
        }
    }

    fn commit(&mut self, world: &mut World) {
        let positions: Vec<(TopicPartition, i64)> =
            self.positions.iter().map(|(place, offset)| (*place, *offset)).collect();
        let (Some(image), Some(coordinator)) = (self.agent.image().cloned(), self.coordinator) else { return };
        let mut offsets = Vec::new();
        for (place, offset) in &positions {
            let Some(topic) = image.topic_by_id(place.topic) else { return };
            let (topic, partition) = (topic.name.clone(), place.partition);
            let metadata = String::new();
            offsets.push(CommitOffset { topic, partition, offset: *offset, leader_epoch: None, metadata });
        }
        if offsets.is_empty() {
            return;
        }
        for (place, offset) in &positions {
            world.note(&Event::Committing { group: GROUP, place: *place, offset: *offset });
        }
        let commit = CommitOffsets {
            version: 10,
            member_id: self.id.clone(),
            instance_id: None,
            generation: Some(self.generation),
            retention_ms: None,
            offsets,
        };
        let number = self.ask(world, coordinator, GroupRequest::CommitOffsets(commit));
        self.doing = Doing::Committing(number, positions);
    }

    fn on_group_answer(&mut self, world: &mut World, catalog: &mut Catalog, doing: Doing, answer: GroupAnswer) {
        match (doing, answer) {
            (Doing::Joining(_), GroupAnswer::Join(Ok(joined))) => self.on_joined(world, catalog, &joined),
            (Doing::Joining(_), GroupAnswer::Join(Err(GroupError::MemberIdRequired { member_id }))) => {
                self.id = Some(member_id);
            }
            (Doing::Joining(_), GroupAnswer::Join(Err(GroupError::UnknownMember { .. }))) => self.id = None,
            (Doing::Syncing(_), GroupAnswer::Sync(Ok(synced))) => self.on_synced(world, &synced.assignment),
            (Doing::Resuming(_, invoked), GroupAnswer::FetchOffsets(Ok(topics))) => {
                self.on_resumed(world, invoked, &topics);
            }
            (Doing::Committing(_, positions), GroupAnswer::CommitOffsets(Ok(results))) => {
                for ((place, offset), result) in positions.into_iter().zip(results) {
                    if result.is_none() {
                        catalog.committed += 1;
                        world.note(&Event::Committed { group: GROUP, place, offset });
                    }
                }
                self.doing = Doing::Reading;
            }
            (Doing::Beating(_), GroupAnswer::Heartbeat(Ok(()))) => self.doing = Doing::Reading,
            (_, answer) => self.on_refused(&answer),
        }
    }

    /// Rebalance, fenced, or another coordinator: join again.
    fn on_refused(&mut self, answer: &GroupAnswer) {
        let moved = matches!(
            answer,
            GroupAnswer::Join(Err(GroupError::NotCoordinator))
                | GroupAnswer::Sync(Err(GroupError::NotCoordinator))
                | GroupAnswer::Heartbeat(Err(GroupError::NotCoordinator))
                | GroupAnswer::CommitOffsets(Err(GroupError::NotCoordinator))
                | GroupAnswer::FetchOffsets(Err(GroupError::NotCoordinator))
        );
        if moved {
            self.coordinator = None;
        }
        let unknown = matches!(
            answer,
            GroupAnswer::Sync(Err(GroupError::UnknownMember { .. }))
                | GroupAnswer::Heartbeat(Err(GroupError::UnknownMember { .. }))
                | GroupAnswer::CommitOffsets(Err(GroupError::UnknownMember { .. }))
        );
        if unknown {
            self.id = None;
        }
        self.start_over();
    }

    fn on_joined(&mut self, world: &mut World, catalog: &Catalog, joined: &Joined) {
        self.id = Some(joined.member_id.clone());
        self.generation = joined.generation;
        let count = joined.members.len();
        let places = catalog.places(true);
        let assignments = joined.members.iter().enumerate().map(|(at, member)| {
            let share = places.iter().enumerate().filter(|(number, _)| number % count == at).map(|(_, place)| *place);
            (member.member_id.clone(), encode(share))
        });
        let sync = Sync {
            member_id: self.id.clone(),
            instance_id: None,
            generation: self.generation,
            protocol_type: Some("consumer".into()),
            protocol: Some("share".into()),
            assignments: assignments.collect(),
        };
        if let Some(coordinator) = self.coordinator {
            self.doing = Doing::Syncing(self.ask(world, coordinator, GroupRequest::Sync(sync)));
        }
    }

    fn on_synced(&mut self, world: &mut World, assignment: &[u8]) {
        let places = decode(assignment);
        let member = u32::try_from(self.agent.index).expect("few clients");
        let event = Event::Assigned { group: GROUP, generation: self.generation, member, places: places.clone() };
        world.note(&event);
        self.positions = places.iter().map(|place| (*place, 0)).collect();
        let (Some(image), Some(coordinator)) = (self.agent.image().cloned(), self.coordinator) else {
            return self.start_over();
        };
        let Some(topics) = by_name(&image, &places) else {
            self.agent.is_stale();
            return self.start_over();
        };
        let fetch = FetchOffsets { member_id: None, member_epoch: -1, topics: Some(topics), require_stable: true };
        let number = self.ask(world, coordinator, GroupRequest::FetchOffsets(fetch));
        self.doing = Doing::Resuming(number, world.elapsed());
    }

    fn on_resumed(&mut self, world: &mut World, invoked: Duration, topics: &[FetchedTopic]) {
        let Some(image) = self.agent.image().cloned() else { return };
        for (place, offset) in found_offsets(&image, topics) {
            world.note(&Event::FoundCommitted { group: GROUP, place, invoked, offset });
            self.positions.insert(place, offset.unwrap_or(0));
        }
        self.doing = Doing::Reading;
    }
}

/// The partitions as OffsetFetch names them. `None`: a topic is not known yet.
pub fn by_name(image: &replication::metadata::Image, places: &[TopicPartition]) -> Option<Vec<FetchTopic>> {
    let mut topics: BTreeMap<TopicId, Vec<PartitionIndex>> = BTreeMap::new();
    for place in places {
        topics.entry(place.topic).or_default().push(place.partition);
    }
    let named = topics
        .into_iter()
        .map(|(topic, partitions)| Some(FetchTopic { topic: image.topic_by_id(topic)?.name.clone(), partitions }));
    named.collect()
}

pub fn found_offsets(
    image: &replication::metadata::Image,
    topics: &[FetchedTopic],
) -> Vec<(TopicPartition, Option<i64>)> {
    let mut found = Vec::new();
    for topic in topics {
        let Some(id) = image.topic(&topic.topic).map(|topic| topic.id) else { continue };
        for partition in topic.partitions.iter().filter(|partition| partition.error.is_none()) {
            let place = TopicPartition { topic: id, partition: partition.partition };
            found.push((place, partition.committed.as_ref().map(|committed| committed.offset)));
        }
    }
    found
}

impl Client for Member {
    fn wake(&mut self, world: &mut World, catalog: &mut Catalog) {
        self.agent.refresh(world);
        if !catalog.closing && !catalog.topics.is_empty() {
            self.act(world);
        }
        self.agent.sleep(world, WAKE_MS);
    }

    fn told(&mut self, world: &mut World, catalog: &mut Catalog, number: u64, told: Told) {
        if self.agent.refreshed(number, &told) || self.waits_for() != Some(number) {
            return;
        }
        match (std::mem::replace(&mut self.doing, Doing::Nothing), told) {
            (Doing::Finding(_), Told::Coordinator(found)) => self.coordinator = found.map(host_of),
            (Doing::Finding(_), _) => {}
            (Doing::Fetching(fetching), told) => {
                self.doing = Doing::Reading;
                if let Some(end) = fetched(&mut self.agent, world, catalog, &fetching, told) {
                    self.positions.insert(fetching.place, end);
                }
            }
            (doing, Told::Answer(Answer::Group(answer))) => self.on_group_answer(world, catalog, doing, answer),
            _ => {
                self.coordinator = None;
                self.start_over();
            }
        }
    }
}

fn encode(places: impl Iterator<Item = TopicPartition>) -> Bytes {
    let mut out = BytesMut::new();
    for place in places {
        out.put_slice(&place.topic.0);
        out.put_u32(place.partition.get());
    }
    out.freeze()
}

fn decode(bytes: &[u8]) -> Vec<TopicPartition> {
    let (chunks, _) = bytes.as_chunks::<20>();
    let place = |chunk: &[u8; 20]| {
        let topic = TopicId(*chunk.first_chunk().expect("20 bytes hold 16"));
        let partition = PartitionIndex::new(u32::from_be_bytes(*chunk.last_chunk().expect("20 bytes hold 4")));
        TopicPartition { topic, partition }
    };
    chunks.iter().map(place).collect()
}

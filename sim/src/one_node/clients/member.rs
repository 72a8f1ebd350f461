//! A member of a consumer group in the classic protocol: joins, takes its share, reads it, commits what it read.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use model::{GroupId, PartitionIndex};
use node::requests::Answer;
use replication::group::{
    CommitOffset, CommitOffsets, FetchOffsets, FetchTopic, GroupAnswer, GroupError, GroupRequest, Heartbeat, Join,
    Joined, MemberId, Protocol, Sync,
};

use super::{reader, topic_name};
use crate::one_node::history::{Event, History, Place};
use crate::one_node::world::World;
use crate::rng::Rng;

pub fn group() -> GroupId {
    GroupId::new("group")
}

enum Doing {
    Nothing,
    Joining(u64),
    Syncing(u64),
    /// Asking where its partitions were left.
    Resuming(u64),
    Reading,
    Committing(u64, Vec<(Place, i64)>),
    Beating(u64),
}

pub struct Member {
    id: Option<MemberId>,
    generation: i32,
    doing: Doing,
    positions: BTreeMap<Place, i64>,
    rng: Rng,
}

impl Member {
    pub fn new(rng: Rng) -> Member {
        Member { id: None, generation: -1, doing: Doing::Nothing, positions: BTreeMap::new(), rng }
    }

    pub fn on_crash(&mut self) {
        self.doing = Doing::Nothing;
        self.positions.clear();
    }

    fn request(&self) -> Option<u64> {
        match &self.doing {
            Doing::Joining(request) | Doing::Syncing(request) | Doing::Resuming(request) | Doing::Beating(request) => {
                Some(*request)
            }
            Doing::Committing(request, _) => Some(*request),
            Doing::Nothing | Doing::Reading => None,
        }
    }

    pub fn act(&mut self, world: &mut World, history: &mut History) {
        match self.doing {
            // As a real client does: without somebody asking, the offsets topic is never made.
            Doing::Nothing if !world.finds_coordinator(&group()) => {}
            Doing::Nothing => self.doing = Doing::Joining(ask(world, self.join())),
            Doing::Reading if self.rng.chance(1, 4) => self.commit(world),
            Doing::Reading if self.rng.chance(1, 4) => {
                let beat = Heartbeat { member_id: self.id.clone(), instance_id: None, generation: self.generation };
                self.doing = Doing::Beating(ask(world, GroupRequest::Heartbeat(beat)));
            }
            Doing::Reading => self.read(world, history),
            _ => {}
        }
    }

    fn join(&self) -> GroupRequest {
        GroupRequest::Join(Join {
            client_id: "sim".into(),
            client_host: "/127.0.0.1".into(),
            member_id: self.id.clone(),
            instance_id: None,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "share".into(), metadata: Bytes::from_static(b"all") }],
            session_timeout_ms: 6_000,
            rebalance_timeout_ms: 6_000,
            member_id_required: true,
            can_skip_assignment: false,
            reason: None,
        })
    }

    fn read(&mut self, world: &mut World, history: &mut History) {
        let places: Vec<Place> = self.positions.keys().copied().collect();
        if places.is_empty() {
            return;
        }
        let place = places[self.rng.index(places.len())];
        let from = self.positions[&place];
        // Only while the topic is not there yet, or the partition is not led yet.
        let Ok((records, _)) = reader::fetch(&world.node, place, from) else { return };
        for (offset, value) in records {
            history.push(world.disk.mutations(), Event::Seen { place, offset, value });
            self.positions.insert(place, offset + 1);
        }
    }

    fn commit(&mut self, world: &mut World) {
        let committed: Vec<(Place, i64)> = self.positions.iter().map(|(place, offset)| (*place, *offset)).collect();
        if committed.is_empty() {
            return;
        }
        let offset = |(place, offset): &(Place, i64)| CommitOffset {
            topic: topic_name(place.0),
            partition: PartitionIndex::new(place.1),
            offset: *offset,
            leader_epoch: None,
            metadata: String::new(),
        };
        let commit = CommitOffsets {
            version: 10,
            member_id: self.id.clone(),
            instance_id: None,
            generation: Some(self.generation),
            retention_ms: None,
            offsets: committed.iter().map(offset).collect(),
        };
        self.doing = Doing::Committing(ask(world, GroupRequest::CommitOffsets(commit)), committed);
    }

    /// True when the answer was this member's.
    pub fn take(
        &mut self,
        request: u64,
        answer: &Answer,
        world: &mut World,
        places: &[Place],
        history: &mut History,
    ) -> bool {
        if self.request() != Some(request) {
            return false;
        }
        let Answer::Group(answer) = answer else { panic!("a group request was answered with {answer:?}") };
        let doing = std::mem::replace(&mut self.doing, Doing::Nothing);
        match (doing, answer) {
            (Doing::Joining(_), GroupAnswer::Join(Ok(joined))) => self.on_joined(joined, world, places),
            (Doing::Joining(_), GroupAnswer::Join(Err(error))) => {
                self.id = match error {
                    GroupError::MemberIdRequired { member_id } => Some(member_id.clone()),
                    GroupError::Loading | GroupError::NotCoordinator => self.id.take(),
                    _ => None,
                };
            }
            (Doing::Syncing(_), GroupAnswer::Sync(Ok(synced))) => self.on_synced(&synced.assignment, world),
            (Doing::Resuming(_), GroupAnswer::FetchOffsets(Ok(topics))) => {
                for topic in topics {
                    let Some(number) = topic.topic.as_str().strip_prefix("topic-").and_then(|n| n.parse().ok()) else {
                        continue;
                    };
                    for partition in &topic.partitions {
                        let offset = partition.committed.as_ref().map_or(0, |committed| committed.offset);
                        self.positions.insert((number, partition.partition.get()), offset);
                    }
                }
                self.doing = Doing::Reading;
            }
            (Doing::Committing(_, offsets), GroupAnswer::CommitOffsets(Ok(results))) => {
                for ((place, offset), result) in offsets.into_iter().zip(results) {
                    if result.is_none() {
                        history.push(world.disk.mutations(), Event::Committed { place, offset });
                    }
                }
                self.doing = Doing::Reading;
            }
            (Doing::Beating(_), GroupAnswer::Heartbeat(Ok(()))) => self.doing = Doing::Reading,
            // Rebalance, fenced, or the coordinator still loads: join again.
            _ => self.positions.clear(),
        }
        true
    }

    fn on_joined(&mut self, joined: &Joined, world: &mut World, places: &[Place]) {
        self.id = Some(joined.member_id.clone());
        self.generation = joined.generation;
        let count = joined.members.len();
        let assignments = joined.members.iter().enumerate().map(|(at, member)| {
            let share: Vec<Place> =
                places.iter().enumerate().filter(|(place, _)| place % count == at).map(|(_, place)| *place).collect();
            (member.member_id.clone(), encode(&share))
        });
        let sync = Sync {
            member_id: self.id.clone(),
            instance_id: None,
            generation: self.generation,
            protocol_type: Some("consumer".into()),
            protocol: Some("share".into()),
            assignments: assignments.collect(),
        };
        self.doing = Doing::Syncing(ask(world, GroupRequest::Sync(sync)));
    }

    fn on_synced(&mut self, assignment: &[u8], world: &mut World) {
        self.positions.clear();
        let mut topics: BTreeMap<usize, Vec<PartitionIndex>> = BTreeMap::new();
        for (topic, partition) in decode(assignment) {
            topics.entry(topic).or_default().push(PartitionIndex::new(partition));
        }
        let topics =
            topics.into_iter().map(|(topic, partitions)| FetchTopic { topic: topic_name(topic), partitions }).collect();
        let fetch = FetchOffsets { member_id: None, member_epoch: -1, topics: Some(topics), require_stable: true };
        self.doing = Doing::Resuming(ask(world, GroupRequest::FetchOffsets(fetch)));
    }
}

fn ask(world: &mut World, request: GroupRequest) -> u64 {
    world.ask(|node, now, reply, fx| node.group(now, group(), request, reply, fx))
}

fn encode(places: &[Place]) -> Bytes {
    let mut out = BytesMut::new();
    for (topic, partition) in places {
        out.put_u32(u32::try_from(*topic).expect("few topics"));
        out.put_u32(*partition);
    }
    out.freeze()
}

fn decode(bytes: &[u8]) -> Vec<Place> {
    let number = |chunk: &[u8]| chunk.first_chunk::<4>().map_or(0, |four| u32::from_be_bytes(*four));
    bytes.chunks_exact(8).map(|chunk| (number(chunk) as usize, number(&chunk[4..]))).collect()
}

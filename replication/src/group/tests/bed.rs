//! A test bed that runs transcripts: lines with `>` are commands, the others are what the shard must say to them.
//!
//! `> MILLISECOND CLIENT VERB ARGUMENTS`. Before a command the clock goes forward and stops at each deadline on the way.
//! A member id `a-UUID` is shown as `a1`, the next one of the same client as `a2`. Each transcript also feeds a second
//! shard with the records only, which must then hold the same replicated state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use model::{GroupId, Now, PartitionIndex, TopicName};

use crate::group::*;
use crate::metadata::Image;

use super::consumer_bed::{assignment, show_assignment};

pub(super) const WALL_START: i64 = 1_700_000_000_000;

/// What a client remembers.
#[derive(Clone, Default)]
pub(super) struct Client {
    pub(super) member: Option<MemberId>,
    pub(super) generation: i32,
    /// What it was told last, in the consumer protocol.
    pub(super) owned: Partitions,
}

pub(super) struct Bed {
    config: GroupConfig,
    seed: u64,
    pub(super) shard: Shard,
    replica: Shard,
    pub(super) now: Duration,
    pub(super) image: Image,
    pub(super) image_version: u64,
    clients: BTreeMap<String, Client>,
    /// Of each prefix, the ids in the order in which they were seen.
    names: BTreeMap<String, Vec<MemberId>>,
    next_token: u64,
    /// Who waits, in which group.
    pub(super) waiting: BTreeMap<Token, (String, GroupRequest)>,
}

pub(super) fn check(transcript: &str) {
    check_with(GroupConfig::default(), transcript);
}

pub(super) fn check_with(config: GroupConfig, transcript: &str) {
    let mut bed = Bed::new(config, 7);
    let mut said = String::new();
    let lines: Vec<&str> = transcript.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for line in &lines {
        if let Some(command) = line.strip_prefix("> ") {
            said.push_str(line);
            said.push('\n');
            for line in bed.run(command) {
                said.push_str(&line);
                said.push('\n');
            }
        }
    }
    let expected: String = lines.iter().map(|line| format!("{line}\n")).collect();
    assert_eq!(said, expected, "\n--- said:\n{said}");
    bed.check_replica();
}

impl Bed {
    pub(super) fn new(config: GroupConfig, seed: u64) -> Bed {
        let mut shard = Shard::new(config.clone(), seed);
        shard.loaded(Now { mono: Duration::ZERO, wall_ms: WALL_START });
        Bed {
            replica: Shard::new(config.clone(), 0),
            config,
            seed: seed << 32,
            shard,
            now: Duration::ZERO,
            image: Image::default(),
            image_version: 0,
            clients: BTreeMap::new(),
            names: BTreeMap::new(),
            next_token: 0,
            waiting: BTreeMap::new(),
        }
    }

    fn clock(&self) -> Now {
        let passed = i64::try_from(self.now.as_millis()).expect("short");
        Now { mono: self.now, wall_ms: WALL_START + passed }
    }

    pub(super) fn check_replica(&self) {
        assert_eq!(self.shard.snapshot(), self.replica.snapshot());
    }

    pub(super) fn run(&mut self, command: &str) -> Vec<String> {
        let mut words = command.split_whitespace();
        let at: u64 = words.next().expect("time").parse().expect("milliseconds");
        let client = words.next().expect("client").to_owned();
        let verb = words.next().unwrap_or("").to_owned();
        let arguments: Vec<String> = words.map(str::to_owned).collect();
        let mut lines = Vec::new();
        self.advance(Duration::from_millis(at), &mut lines);
        match (client.as_str(), verb.as_str()) {
            ("-", "") => {}
            ("-", "topic") => self.make_topic(&arguments),
            ("-", "failover") => self.fail_over(&mut lines),
            ("-", "delete") => {
                let topics: BTreeSet<TopicName> = arguments.iter().map(|name| topic(name)).collect();
                let mut out = Output::default();
                self.shard.topics_deleted(&topics, &mut out);
                self.take(out, &mut lines);
            }
            _ => {
                let request = self.request(&client, &verb, &arguments);
                self.ask(&client, request, &mut lines);
            }
        }
        lines
    }

    fn advance(&mut self, to: Duration, lines: &mut Vec<String>) {
        assert!(to >= self.now, "time goes forward");
        let mut last = None;
        while let Some(at) = self.shard.next_deadline().filter(|at| *at <= to) {
            assert!(last != Some(at) || at < self.now, "a deadline that has passed must not come again: {at:?}");
            last = Some(at);
            self.now = self.now.max(at);
            let mut out = Output::default();
            let (now, image) = (self.clock(), self.image.clone());
            self.shard.tick(now, Catalog { image: &image, version: self.image_version }, &mut out);
            let before = lines.len();
            self.take(out, lines);
            if lines.len() > before {
                lines.insert(before, format!("at {}", self.now.as_millis()));
            }
        }
        self.now = to;
    }

    fn ask(&mut self, client: &str, request: GroupRequest, lines: &mut Vec<String>) {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.waiting.insert(token, (client.to_owned(), request.clone()));
        let mut out = Output::default();
        let id = GroupId::new(if client == "nameless" { "" } else { "g" });
        let (now, image) = (self.clock(), self.image.clone());
        let catalog = Catalog { image: &image, version: self.image_version };
        self.shard.step(now, catalog, &id, &request, token, &mut out);
        self.take(out, lines);
    }

    /// The replica takes over; what waits at the old coordinator is refused.
    fn fail_over(&mut self, lines: &mut Vec<String>) {
        self.seed += 1;
        let mut next = Shard::new(self.config.clone(), self.seed);
        self.replica.snapshot().iter().for_each(|record| next.apply(record));
        next.loaded(self.clock());
        let old = std::mem::replace(&mut self.shard, next);
        for reply in old.unload(&GroupError::NotCoordinator) {
            lines.push(self.replied(reply));
        }
    }

    fn take(&mut self, out: Output, lines: &mut Vec<String>) {
        for record in &out.records {
            let (key, value) = (record.key(), record.value());
            let read = GroupRecord::decode(Some(key), value).expect("what we write we can read");
            assert_eq!(&read, record);
            self.replica.apply(&read);
            lines.push(self.show_record(record));
        }
        for reply in out.replies_at_once.into_iter().chain(out.replies) {
            lines.push(self.replied(reply));
        }
    }

    fn replied(&mut self, reply: Reply) -> String {
        let (client, request) = self.waiting.remove(&reply.token).expect("each request is answered once");
        assert_eq!(
            std::mem::discriminant(&request.refused(GroupError::Loading)),
            std::mem::discriminant(&reply.answer)
        );
        let known = self.clients.entry(client.clone()).or_default();
        match &reply.answer {
            GroupAnswer::Join(Ok(joined)) => {
                known.member = Some(joined.member_id.clone());
                known.generation = joined.generation;
            }
            GroupAnswer::ConsumerHeartbeat(Ok(beat)) => {
                known.generation = beat.member_epoch;
                if let Some(assignment) = &beat.assignment {
                    known.owned = assignment.clone();
                }
            }
            GroupAnswer::Join(Err(GroupError::MemberIdRequired { member_id })) => {
                known.member = Some(member_id.clone())
            }
            _ => {}
        }
        let shown = self.show_answer(&reply.answer);
        format!("{client}: {shown}")
    }

    fn request(&mut self, client: &str, verb: &str, arguments: &[String]) -> GroupRequest {
        let known = self.clients.entry(client.to_owned()).or_default().clone();
        let named = |name: &str| arguments.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
        let number = |name: &str, default: i32| named(name).map_or(default, |word| word.parse().expect("number"));
        let instance_id = named("static").map(InstanceId::new);
        let member_id = match named("as") {
            Some("nobody") => None,
            Some(name) => Some(self.id(name)),
            None => known.member.clone(),
        };
        let generation = number("gen", known.generation);
        let pairs = || arguments.iter().filter_map(|word| word.split_once('='));
        match verb {
            "join" => GroupRequest::Join(Join {
                client_id: client.to_owned(),
                client_host: "/127.0.0.1".to_owned(),
                member_id,
                instance_id,
                protocol_type: named("type").unwrap_or("consumer").to_owned(),
                protocols: protocols(named("protocols").unwrap_or("range"), named("topics").unwrap_or("t")),
                session_timeout_ms: number("session", 10_000),
                rebalance_timeout_ms: number("rebalance", 30_000),
                member_id_required: !arguments.iter().any(|word| word == "old"),
                can_skip_assignment: !arguments.iter().any(|word| word == "noskip"),
                reason: None,
            }),
            "sync" => GroupRequest::Sync(Sync {
                member_id,
                instance_id,
                generation,
                protocol_type: named("type").map(str::to_owned),
                protocol: named("protocol").map(str::to_owned),
                assignments: pairs().map(|(name, what)| (self.id(name), assignment(what))).collect(),
            }),
            "beat" => GroupRequest::Heartbeat(Heartbeat { member_id, instance_id, generation }),
            "leave" => {
                let leaving = arguments.iter().map(|name| match name.strip_prefix("static:") {
                    Some(name) => (None, Some(InstanceId::new(name))),
                    None => (Some(self.id(name)), None),
                });
                let members = leaving.map(|(member_id, instance_id)| Leaving { member_id, instance_id, reason: None });
                GroupRequest::Leave(Leave { members: members.collect() })
            }
            "commit" => GroupRequest::CommitOffsets(CommitOffsets {
                member_id: member_id.filter(|_| generation >= 0),
                instance_id,
                generation: (generation >= 0).then_some(generation),
                version: number("version", 10).try_into().expect("a version"),
                retention_ms: named("keep").map(|word| word.parse().expect("number")),
                offsets: pairs().map(|(at, offset)| commit_offset(at, offset)).collect(),
            }),
            "fetch" => GroupRequest::FetchOffsets(FetchOffsets {
                member_id: None,
                member_epoch: -1,
                topics: (!arguments.is_empty()).then(|| arguments.iter().map(|at| fetch_topic(at)).collect()),
                require_stable: true,
            }),
            "describe" => GroupRequest::Describe,
            "show" => GroupRequest::DescribeConsumer,
            "poll" => GroupRequest::ConsumerHeartbeat(self.heartbeat_of(client, &known, arguments)),
            "delete" => GroupRequest::Delete,
            "forget" => GroupRequest::DeleteOffsets(arguments.iter().map(|at| partition(at)).collect()),
            "list" => GroupRequest::List(ListFilter {
                states: named("states").into_iter().map(str::to_owned).collect(),
                types: named("types").into_iter().map(str::to_owned).collect(),
            }),
            other => panic!("no such verb: {other}"),
        }
    }

    /// `a1` is the first id that was given to `a`; what is no such name stands for itself.
    pub(super) fn id(&self, name: &str) -> MemberId {
        let number = name.chars().last().and_then(|last| last.to_digit(10));
        let seen = number.and_then(|number| {
            let ids = self.names.get(name.get(..name.len() - 1)?)?;
            ids.get(usize::try_from(number).ok()?.checked_sub(1)?)
        });
        seen.cloned().unwrap_or_else(|| MemberId::from_wire(name).expect("a name"))
    }

    pub(super) fn show_id(&mut self, id: &MemberId) -> String {
        // 36 characters of UUID and a hyphen follow the client's name.
        let Some(prefix) = id.as_str().len().checked_sub(37).and_then(|end| id.as_str().get(..end)) else {
            return id.as_str().to_owned();
        };
        let ids = self.names.entry(prefix.to_owned()).or_default();
        let at = ids.iter().position(|known| known == id).unwrap_or_else(|| {
            ids.push(id.clone());
            ids.len() - 1
        });
        format!("{prefix}{}", at + 1)
    }

    fn show_ids<'a>(&mut self, ids: impl Iterator<Item = &'a MemberId>) -> String {
        let mut shown: Vec<String> = ids.map(|id| self.show_id(id)).collect();
        shown.sort();
        shown.join(" ")
    }

    fn show_error(&mut self, error: &GroupError) -> String {
        if let GroupError::MemberIdRequired { member_id } = error {
            return format!("79 {}", self.show_id(member_id));
        }
        format!("{}", error.code().to_wire())
    }

    fn show_record(&mut self, record: &GroupRecord) -> String {
        match record {
            GroupRecord::Consumer { record, .. } => self.show_consumer_record(record),
            GroupRecord::Offset { topic, partition, value, .. } => match value {
                Some(value) => format!("log {topic}-{partition}={}", value.offset),
                None => format!("log {topic}-{partition} gone"),
            },
            GroupRecord::Metadata { value: None, .. } => "log group gone".to_owned(),
            GroupRecord::Metadata { value: Some(value), .. } => {
                let mut members: Vec<String> = Vec::new();
                for member in &value.members {
                    let assigned = show_assignment(&member.assignment);
                    members.push(format!("{}={assigned}", self.show_id(&member.member_id)));
                }
                members.sort();
                format!("log generation {} [{}]", value.generation, members.join(" "))
            }
        }
    }

    fn show_answer(&mut self, answer: &GroupAnswer) -> String {
        let shown = match answer {
            GroupAnswer::Join(Ok(joined)) => Ok(self.show_joined(joined)),
            GroupAnswer::Sync(Ok(synced)) => Ok(format!("synced '{}'", show_assignment(&synced.assignment))),
            GroupAnswer::Heartbeat(Ok(())) => Ok("beat".to_owned()),
            GroupAnswer::Leave(Ok(left)) => {
                let codes: Vec<String> = left.iter().map(|one| code(one.error.as_ref())).collect();
                Ok(format!("left {}", codes.join(" ")))
            }
            GroupAnswer::CommitOffsets(Ok(errors)) => {
                let codes: Vec<String> = errors.iter().map(|error| code(error.as_ref())).collect();
                Ok(format!("committed {}", codes.join(" ")))
            }
            GroupAnswer::Delete(Ok(())) => Ok("deleted".to_owned()),
            GroupAnswer::DeleteOffsets(Ok(errors)) => {
                let codes: Vec<String> = errors.iter().map(|error| code(error.as_ref())).collect();
                Ok(format!("forgotten {}", codes.join(" ")))
            }
            GroupAnswer::FetchOffsets(Ok(topics)) => Ok(format!("offsets {}", show_offsets(topics))),
            GroupAnswer::Describe(Ok(group)) => Ok(self.show_group(group)),
            GroupAnswer::ConsumerHeartbeat(Ok(beat)) => Ok(self.show_beat(beat)),
            GroupAnswer::DescribeConsumer(Ok(group)) => Ok(self.show_consumer_group(group)),
            GroupAnswer::List(Ok(groups)) => {
                let one = |group: &ListedGroup| {
                    format!("{}/{}/{}/{}", group.group, group.protocol_type, group.state, group.group_type)
                };
                Ok(format!("groups {}", groups.iter().map(one).collect::<Vec<_>>().join(" ")))
            }
            GroupAnswer::Join(Err(error))
            | GroupAnswer::Sync(Err(error))
            | GroupAnswer::Heartbeat(Err(error))
            | GroupAnswer::Delete(Err(error))
            | GroupAnswer::DeleteOffsets(Err(error))
            | GroupAnswer::Leave(Err(error))
            | GroupAnswer::CommitOffsets(Err(error))
            | GroupAnswer::FetchOffsets(Err(error))
            | GroupAnswer::Describe(Err(error))
            | GroupAnswer::ConsumerHeartbeat(Err(error))
            | GroupAnswer::DescribeConsumer(Err(error))
            | GroupAnswer::List(Err(error)) => Err(error),
        };
        shown.unwrap_or_else(|error| format!("error {}", self.show_error(error))).trim_end().to_owned()
    }

    fn show_joined(&mut self, joined: &Joined) -> String {
        let me = self.show_id(&joined.member_id);
        let leader = joined.leader.as_ref().map(|leader| self.show_id(leader)).unwrap_or_default();
        let members = self.show_ids(joined.members.iter().map(|member| &member.member_id));
        let protocol = joined.protocol.clone().unwrap_or_default();
        let skip = if joined.skip_assignment { " skip" } else { "" };
        format!("joined {} as {me}, {protocol}, leader {leader} [{members}]{skip}", joined.generation)
    }

    fn show_group(&mut self, group: &DescribedGroup) -> String {
        let mut members = Vec::new();
        for member in &group.members {
            let assigned = String::from_utf8_lossy(&member.assignment).into_owned();
            members.push(format!("{}='{assigned}'", self.show_id(&member.member_id)));
        }
        let members = members.join(" ");
        format!("{} '{}' '{}' [{members}]", group.state.name(), group.protocol_type, group.protocol)
    }
}

fn code(error: Option<&GroupError>) -> String {
    error.map_or(0, |error| error.code().to_wire()).to_string()
}

fn show_offsets(topics: &[FetchedTopic]) -> String {
    let one = |topic: &FetchedTopic| {
        let offsets = topic.partitions.iter().map(|at| {
            let offset = at.committed.as_ref().map_or(-1, |committed| committed.offset);
            format!("{}-{}={offset}", topic.topic, at.partition)
        });
        offsets.collect::<Vec<_>>().join(" ")
    };
    topics.iter().map(one).collect::<Vec<_>>().join(" ")
}

pub(super) fn topic(name: &str) -> TopicName {
    TopicName::new(name).expect("topic")
}

fn partition(at: &str) -> (TopicName, PartitionIndex) {
    let (name, number) = at.split_once('-').expect("topic-partition");
    (topic(name), PartitionIndex::new(number.parse().expect("number")))
}

/// `t-0=5` or, with metadata of so many characters, `t-0=5/4097`.
fn commit_offset(at: &str, offset: &str) -> CommitOffset {
    let (topic, partition) = partition(at);
    let (offset, length) = offset.split_once('/').unwrap_or((offset, "0"));
    CommitOffset {
        topic,
        partition,
        offset: offset.parse().expect("offset"),
        leader_epoch: Some(3),
        metadata: "ä".repeat(length.parse().expect("length")),
    }
}

fn fetch_topic(at: &str) -> FetchTopic {
    let (topic, partition) = partition(at);
    FetchTopic { topic, partitions: vec![partition] }
}

/// Each with a consumer's subscription, version 0, to the topics, so that expiry can read it.
pub(super) fn protocols(names: &str, topics: &str) -> Vec<Protocol> {
    let topics: Vec<&str> = topics.split(',').filter(|name| !name.is_empty()).collect();
    let mut metadata = vec![0, 0];
    metadata.extend(u32::try_from(topics.len()).expect("few").to_be_bytes());
    for topic in topics {
        metadata.extend(u16::try_from(topic.len()).expect("short").to_be_bytes());
        metadata.extend(topic.as_bytes());
    }
    metadata.extend([0, 0, 0, 0]);
    let names = names.split(',').filter(|name| !name.is_empty());
    names.map(|name| Protocol { name: name.to_owned(), metadata: Bytes::from(metadata.clone()) }).collect()
}

//! The test bed's words for the consumer protocol.
//!
//! `> MS - topic NAME COUNT` makes a topic, or gives it so many partitions. `> MS CLIENT poll …` is a heartbeat: of a client that joins
//! with `epoch:0` (and `topics:a,b`, `regex:…`, `static:…`, `assignor:…`, `rack:…`), that stays, that says with `owned:t-0,t-1` or
//! `owned:all` what it has, or that leaves with `epoch:-1`. The client's name is its member id.

use std::collections::BTreeSet;

use bytes::Bytes;
use model::{NodeId, PartitionIndex, TopicId};

use super::bed::{Bed, Client, topic};
use crate::group::*;
use crate::metadata::Fact;
use crate::metadata::image::PartitionInfo;

impl Bed {
    pub(super) fn make_topic(&mut self, arguments: &[String]) {
        let [name, count] = arguments else { panic!("topic NAME COUNT") };
        let name = topic(name);
        let count: u32 = count.parse().expect("number");
        let known = self.image.topic(&name).map(|topic| (topic.id, topic.partitions.len()));
        let mut id = [0; 16];
        name.as_str().bytes().zip(&mut id).for_each(|(byte, to)| *to = byte);
        let (id, from) = known.map_or((TopicId(id), 0), |(id, length)| (id, u32::try_from(length).expect("few")));
        let mut facts = Vec::new();
        if known.is_none() {
            facts.push(Fact::TopicCreated { id, name, configs: Vec::new(), default_replication: false });
        }
        for index in from..count {
            let node = NodeId(1 + i32::try_from(index % 3).expect("small"));
            let state =
                PartitionInfo { leader: Some(node), replicas: vec![node], isr: vec![node], ..PartitionInfo::default() };
            facts.push(Fact::PartitionChanged { topic: id, partition: PartitionIndex::new(index), state });
        }
        self.image = self.image.with(&facts).expect("the facts apply");
        self.image_version += 1;
    }

    pub(super) fn partition_count(&self, name: &str) -> usize {
        self.image.topic(&topic(name)).map_or(0, |topic| topic.partitions.len())
    }

    pub(super) fn heartbeat_of(&self, client: &str, known: &Client, arguments: &[String]) -> ConsumerHeartbeat {
        let named = |name: &str| arguments.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
        let epoch = named("epoch").map_or(known.generation, |word| word.parse().expect("number"));
        let owned = named("owned").map(|list| match list {
            "all" => known.owned.clone(),
            list => self.partitions(list),
        });
        ConsumerHeartbeat {
            client_id: client.to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            member_id: Some(self.id(named("as").unwrap_or(client))),
            member_id_required: true,
            member_epoch: epoch,
            instance_id: named("static").map(InstanceId::new),
            rack: named("rack").map(str::to_owned),
            rebalance_timeout_ms: (epoch == 0).then_some(30_000),
            topics: named("topics").map(|list| list.split(',').map(str::to_owned).collect()),
            pattern: named("regex").map(str::to_owned),
            assignor: named("assignor").map(str::to_owned),
            owned: if epoch == 0 { Some(Partitions::new()) } else { owned },
        }
    }

    fn partitions(&self, list: &str) -> Partitions {
        let mut partitions = Partitions::new();
        for place in list.split(',').filter(|place| *place != "none") {
            let (name, index) = place.split_once('-').expect("topic-partition");
            let id = self.image.topic(&topic(name)).expect("a topic").id;
            partitions.entry(id).or_default().insert(PartitionIndex::new(index.parse().expect("number")));
        }
        partitions
    }

    fn show_places<'a>(&self, places: impl Iterator<Item = (&'a TopicId, BTreeSet<PartitionIndex>)>) -> String {
        let mut shown = Vec::new();
        for (id, partitions) in places {
            let name = self.image.topic_by_id(*id).map_or("?", |topic| topic.name.as_str());
            shown.extend(partitions.iter().map(|partition| format!("{name}-{partition}")));
        }
        format!("[{}]", shown.join(" "))
    }

    fn show_partitions(&self, partitions: &Partitions) -> String {
        self.show_places(partitions.iter().map(|(id, all)| (id, all.clone())))
    }

    fn show_owned(&self, owned: &Owned) -> String {
        self.show_places(owned.iter().map(|(id, all)| (id, all.keys().copied().collect())))
    }

    pub(super) fn show_beat(&self, beat: &ConsumerBeat) -> String {
        let assignment = beat.assignment.as_ref().map(|partitions| self.show_partitions(partitions));
        format!("beat {} {}", beat.member_epoch, assignment.unwrap_or_default())
    }

    pub(super) fn show_consumer_group(&mut self, group: &DescribedConsumerGroup) -> String {
        let mut members = Vec::new();
        for member in &group.members {
            let (assigned, target) = (self.show_partitions(&member.assignment), self.show_partitions(&member.target));
            let id = self.show_id(&member.member_id);
            members.push(format!("{id}@{} {assigned} of {target}", member.epoch));
        }
        format!("{} {}/{} {}: {}", group.state, group.assignment_epoch, group.epoch, group.assignor, members.join(", "))
    }

    pub(super) fn show_consumer_record(&mut self, record: &ConsumerRecord) -> String {
        let gone = "gone".to_owned();
        let shown = match record {
            ConsumerRecord::Epoch(value) => {
                format!("epoch {}", value.map_or(gone, |value| value.epoch.to_string()))
            }
            ConsumerRecord::TargetEpoch(value) => {
                format!("target {}", value.map_or(gone, |value| value.epoch.to_string()))
            }
            ConsumerRecord::Member { member, value } => {
                let value = value.as_ref().map_or(gone, |value| {
                    let classic = if value.classic.is_some() { " classic" } else { "" };
                    let topics = value.topics.iter().cloned().collect::<Vec<_>>().join(",");
                    format!("wants '{topics}{}'{classic}", value.pattern.as_deref().unwrap_or_default())
                });
                format!("{} {value}", self.show_id(member))
            }
            ConsumerRecord::Target { member, value } => {
                let value = value.as_ref().map_or(gone, |value| self.show_partitions(value));
                format!("{} target {value}", self.show_id(member))
            }
            ConsumerRecord::Current { member, value } => {
                let value = value.as_ref().map_or(gone, |value| {
                    let revoking = match value.revoking.is_empty() {
                        true => String::new(),
                        false => format!(" gives up {}", self.show_owned(&value.revoking)),
                    };
                    format!("{:?} {} {}{revoking}", value.state, value.epoch, self.show_owned(&value.assigned))
                });
                format!("{} is {value}", self.show_id(member))
            }
            ConsumerRecord::Pattern { pattern, value } => {
                let value =
                    value.as_ref().map_or(gone, |value| value.topics.iter().cloned().collect::<Vec<_>>().join(","));
                format!("'{pattern}' is {value}")
            }
        };
        format!("log {shown}")
    }
}

/// `#t:0,1` in the consumers' own format; anything else as it is.
pub(super) fn assignment(text: &str) -> Bytes {
    let Some((name, indices)) = text.strip_prefix('#').and_then(|text| text.split_once(':')) else {
        return Bytes::from(text.to_owned());
    };
    let indices: Vec<u8> = indices.split(',').map(|index| index.parse().expect("a small number")).collect();
    let length = |length: usize| u8::try_from(length).expect("short");
    let mut bytes = vec![0, 0, 0, 0, 0, 1, 0, length(name.len())];
    bytes.extend(name.as_bytes());
    bytes.extend([0, 0, 0, length(indices.len())]);
    indices.into_iter().for_each(|index| bytes.extend([0, 0, 0, index]));
    bytes.extend([0xff; 4]);
    Bytes::from(bytes)
}

/// The consumers' own format, or text as the tests of the classic protocol use.
pub(super) fn show_assignment(bytes: &Bytes) -> String {
    let Some([0, _, 0, 0, 0, topics, rest @ ..]) = bytes.get(..) else {
        return String::from_utf8_lossy(bytes).into_owned();
    };
    let (mut shown, mut rest) = (Vec::new(), rest);
    for _ in 0..*topics {
        let (length, after) = rest.split_at(2);
        let (name, after) = after.split_at(usize::from(length[1]));
        let (count, mut after) = after.split_at(4);
        for _ in 0..count[3] {
            let (index, next) = after.split_at(4);
            shown.push(format!("{}-{}", String::from_utf8_lossy(name), index[3]));
            after = next;
        }
        rest = after;
    }
    shown.join(" ")
}

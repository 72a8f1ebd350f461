//! Tests of the decisions, as tables. A partition is written as `123 isr 12 elr 3 led 1`: replicas in order of preference, sets,
//! leader; `+4` and `-1` are what a reassignment adds and removes. Node numbers have one digit; empty parts are left out.

mod configs;
mod elections;
mod isr;
mod levels;
mod moves;
mod nodes;
mod partitions;
mod property;
mod reassign;
mod scale;
mod voters;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{ErrorCode, LeaderEpoch, NodeId, Now, PartitionIndex, TopicId, TopicName, TopicPartition};

use crate::controller::requests::{
    ConfigAlteration, ConfigOperation, ConfigTarget, ControllerAnswer, ControllerRequest, Election, FeatureUpdate,
    HandOver, IsrChange, LevelChange, MorePartitions, NamedPartition, NewTopic, Reassignment, Refusal,
};
use crate::controller::{
    Random, decide, election, features, nodes as node_decisions, orders, partitions as more_partitions, topics, upkeep,
    voters as group,
};
use crate::metadata::{Duty, Fact, Image, Incarnation, NodeInfo, PartitionInfo, Voting};

fn name(raw: &str) -> TopicName {
    TopicName::new(raw).expect("a valid name")
}

fn nodes_of(digits: &str) -> Vec<NodeId> {
    digits
        .chars()
        .filter_map(|digit| digit.to_digit(10))
        .map(|digit| NodeId(i32::try_from(digit).expect("one digit")))
        .collect()
}

fn incarnation(node: i32) -> Incarnation {
    Incarnation([u8::try_from(node).expect("small"); 16])
}

fn parse(text: &str) -> PartitionInfo {
    let mut words = text.split_whitespace();
    let replicas = nodes_of(words.next().expect("replicas come first"));
    let mut state =
        PartitionInfo { replicas, leader_epoch: LeaderEpoch::new(4), partition_epoch: 7, ..PartitionInfo::default() };
    while let Some(word) = words.next() {
        match (word, word.strip_prefix('+'), word.strip_prefix('-')) {
            (_, Some(added), _) => state.adding = nodes_of(added),
            (_, _, Some(removed)) => state.removing = nodes_of(removed),
            ("isr", ..) => state.isr = nodes_of(words.next().expect("a set")),
            ("elr", ..) => state.elr = nodes_of(words.next().expect("a set")),
            ("last", ..) => state.last_known_elr = nodes_of(words.next().expect("a set")),
            ("led", ..) => state.leader = nodes_of(words.next().expect("a node")).first().copied(),
            _ => panic!("'{word}' is none of a partition's words"),
        }
    }
    state
}

fn show(state: &PartitionInfo) -> String {
    let set = |label: &str, nodes: &[NodeId]| match nodes {
        [] => String::new(),
        _ => format!("{label}{}", nodes.iter().map(NodeId::to_string).collect::<String>()),
    };
    let leader: Vec<NodeId> = state.leader.into_iter().collect();
    let parts = [
        set("", &state.replicas),
        set(" +", &state.adding),
        set(" -", &state.removing),
        set(" isr ", &state.isr),
        set(" elr ", &state.elr),
        set(" last ", &state.last_known_elr),
        set(" led ", &leader),
    ];
    parts.concat()
}

/// A cluster as its controller knows it.
#[derive(Clone)]
struct World {
    image: Image,
    random: Random,
}

impl World {
    /// Nodes 1 to `count` live, all features at the newest level.
    fn new(count: i32) -> World {
        let image = Image::empty(Arc::default());
        let founded = node_decisions::found_cluster("AAECAwQFBgcICQoLDA0ODw".into(), vec![NodeId(1)], u32::MAX);
        let mut world = World { image: image.with(&founded).expect("the facts apply"), random: Random::new(5) };
        (1..=count).for_each(|node| world.start(node));
        world
    }

    fn info(node: i32) -> NodeInfo {
        NodeInfo {
            incarnation: incarnation(node),
            directory: incarnation(node).0,
            features: features::supported(),
            ..NodeInfo::default()
        }
    }

    fn start(&mut self, node: i32) {
        let request = ControllerRequest::Register {
            node: NodeId(node),
            info: World::info(node),
            clean: true,
            lost: BTreeSet::new(),
        };
        assert_eq!(self.ask(&request), Ok(ControllerAnswer::Done));
    }

    fn apply(&mut self, groups: &[Vec<Fact>]) {
        self.image = self.image.with(&groups.concat()).expect("what was decided applies");
    }

    fn ask(&mut self, request: &ControllerRequest) -> Result<ControllerAnswer, Refusal> {
        let now = Now { wall_ms: 1_000, ..Now::default() };
        let decision = decide(&self.image, &mut self.random, now, request)?;
        assert!(decision.groups.iter().all(|group| !group.is_empty()));
        self.apply(&decision.groups);
        Ok(decision.answer)
    }

    /// As `ask`, for a request that holds one thing: its refusal, or the whole request's.
    fn refused(&mut self, request: &ControllerRequest) -> Option<ErrorCode> {
        let before = self.image.clone();
        let first = match self.ask(request) {
            Err(refusal) => Some(refusal),
            Ok(answer) => first_refusal(answer),
        };
        assert!(first.is_none() || self.image == before, "what is refused changes nothing");
        first.map(|refusal| refusal.code)
    }

    fn topic(mut self, topic: &str, config: &[(&str, &str)], partitions: &[&str]) -> World {
        let id = TopicId([u8::try_from(self.image.topic_count() + 1).expect("few"); 16]);
        let configs = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut facts = vec![Fact::TopicCreated { id, name: name(topic), configs, default_replication: false }];
        facts.extend((0..).map(PartitionIndex::new).zip(partitions).map(|(partition, state)| Fact::PartitionChanged {
            topic: id,
            partition,
            state: parse(state),
        }));
        self.apply(&[facts]);
        self
    }

    fn dead(mut self, nodes: &str) -> World {
        for node in nodes_of(nodes) {
            let incarnation = self.image.node(node).expect("it is registered").incarnation;
            let fact = Fact::NodeFenced { node, incarnation };
            self.apply(&[vec![fact]]);
        }
        self
    }

    fn partition(&self, topic: &str, partition: usize) -> &PartitionInfo {
        &self.image.topic(&name(topic)).expect("it is there").partitions[partition]
    }

    fn show(&self, topic: &str) -> Vec<String> {
        let topic = self.image.topic(&name(topic)).expect("it is there");
        topic.partitions.iter().map(|state| show(state)).collect()
    }

    fn fence(&mut self, node: i32) {
        let incarnation = self.image.node(NodeId(node)).expect("it is registered").incarnation;
        self.apply(&node_decisions::fence(&self.image, &[(NodeId(node), incarnation)]));
    }

    fn unfence(&mut self, node: i32) {
        let incarnation = self.image.node(NodeId(node)).expect("it is registered").incarnation;
        let request = ControllerRequest::Unfence { node: NodeId(node), incarnation };
        assert_eq!(self.ask(&request), Ok(ControllerAnswer::Done));
    }

    /// Nodes that register in the order given, each in its rack.
    fn in_racks(racks: &[(i32, &str)]) -> World {
        let mut world = World::new(0);
        for (node, rack) in racks {
            let info = NodeInfo { rack: Some((*rack).into()), ..World::info(*node) };
            let register =
                ControllerRequest::Register { node: NodeId(*node), info, clean: true, lost: BTreeSet::new() };
            assert_eq!(world.refused(&register), None);
        }
        world
    }

    fn order(&mut self, node: i32, duty: Duty) {
        let request = ControllerRequest::SetDuty { node: NodeId(node), duty };
        assert_eq!(self.ask(&request), Ok(ControllerAnswer::Done));
    }

    /// What the leader of the partition would ask for.
    fn isr_change(&self, topic: &str, partition: usize, isr: &str) -> ControllerRequest {
        let found = self.image.topic(&name(topic)).expect("it is there");
        let state = &found.partitions[partition];
        let node = state.leader.expect("it has a leader");
        let of = |node: NodeId| (node, self.image.node(node).map(|info| info.incarnation).unwrap_or_default());
        let index = PartitionIndex::new(u32::try_from(partition).expect("small"));
        let change = IsrChange {
            partition: TopicPartition { topic: found.id, partition: index },
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            isr: nodes_of(isr).into_iter().map(of).collect(),
        };
        ControllerRequest::AlterIsr { node, incarnation: of(node).1, changes: vec![change] }
    }

    fn set_isr(&mut self, topic: &str, partition: usize, isr: &str) {
        let request = self.isr_change(topic, partition, isr);
        assert_eq!(self.refused(&request), None);
    }
}

fn first_refusal(answer: ControllerAnswer) -> Option<Refusal> {
    use ControllerAnswer as A;
    match answer {
        A::TopicsCreated(answers) => answers.into_iter().find_map(Result::err),
        A::TopicsDeleted(answers) => answers.into_iter().find_map(Result::err),
        A::IsrAltered(answers) => answers.into_iter().find_map(Result::err),
        A::LeadersElected(answers) => answers.into_iter().find_map(|(_, answer)| answer.err()),
        A::PartitionsCreated(answers)
        | A::Reassigned(answers)
        | A::ConfigsAltered(answers)
        | A::FeaturesUpdated(answers) => answers.into_iter().find_map(Result::err),
        _ => None,
    }
}

fn named(topic: &str, partition: u32) -> NamedPartition {
    NamedPartition { topic: name(topic), partition: PartitionIndex::new(partition) }
}

fn move_to(topic: &str, partition: u32, replicas: Option<&str>) -> ControllerRequest {
    let one = Reassignment { partition: named(topic, partition), replicas: replicas.map(nodes_of) };
    ControllerRequest::Reassign { partitions: vec![one], allow_factor_change: true }
}

fn set(target: ConfigTarget, key: &str, value: &str) -> ControllerRequest {
    let operations = vec![ConfigOperation::Set { key: key.into(), value: value.into() }];
    let resources = vec![ConfigAlteration { target, operations, replace: false }];
    ControllerRequest::AlterConfigs { resources, validate_only: false }
}

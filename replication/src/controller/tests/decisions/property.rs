//! Random requests on random clusters: what must hold after each of them, whatever it was.
//!
//! Beside the shape of every partition, a model of its records is kept: who has everything that was acknowledged. Nobody else may
//! lead, but by an unclean election.

use super::*;

/// The records of one partition, as numbers of acknowledged batches.
#[derive(Clone, Default, Debug)]
struct Records {
    acknowledged: u64,
    has: BTreeMap<NodeId, u64>,
}

struct Bed {
    seed: u64,
    random: Random,
    world: World,
    records: BTreeMap<TopicPartition, Records>,
    starts: u8,
    topics: usize,
}

type Partitions = Vec<(TopicPartition, PartitionInfo)>;

impl Bed {
    fn new(seed: u64) -> Bed {
        let mut random = Random::new(seed);
        let nodes = 1 + i32::try_from(random.below(6)).expect("small");
        let mut world = World::new(nodes);
        world.random = Random::new(random.next_u64());
        Bed { seed, random, world, records: BTreeMap::new(), starts: 100, topics: 0 }
    }

    fn partitions(&self) -> Partitions {
        let of_topic = |topic: &Arc<crate::metadata::Topic>| {
            let place = |partition| TopicPartition { topic: topic.id, partition };
            topic.partitions().map(|(at, info)| (place(at), PartitionInfo::clone(info))).collect::<Vec<_>>()
        };
        self.world.image.topics().flat_map(of_topic).collect()
    }

    fn node(&mut self) -> NodeId {
        NodeId(1 + i32::try_from(self.random.below(7)).expect("small"))
    }

    fn some_nodes(&mut self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = (0..=self.random.below(4)).map(|_| self.node()).collect();
        let mut seen = std::collections::BTreeSet::new();
        nodes.retain(|node| seen.insert(*node));
        nodes
    }

    fn partition(&mut self) -> Option<(TopicPartition, PartitionInfo)> {
        let mut all = self.partitions();
        (!all.is_empty()).then(|| all.swap_remove(self.random.below(all.len())))
    }

    fn name_of(&self, place: TopicPartition) -> NamedPartition {
        let topic = self.world.image.topic_by_id(place.topic).expect("it is there");
        NamedPartition { topic: topic.name.clone(), partition: place.partition }
    }

    fn incarnation(&self, node: NodeId) -> Incarnation {
        self.world.image.node(node).map(|info| info.incarnation).unwrap_or_default()
    }

    fn request(&mut self) -> Option<ControllerRequest> {
        use ControllerRequest as R;
        let node = self.node();
        let incarnation = self.incarnation(node);
        Some(match self.random.below(18) {
            0 | 1 => R::Unfence { node, incarnation },
            2 => self.registration(node),
            3 | 4 => self.creation(),
            5..=8 => self.isr_change()?,
            9 | 10 => {
                let partition = self.partition().map(|(place, _)| self.name_of(place))?;
                let replicas = (self.random.below(4) > 0).then(|| self.some_nodes());
                R::Reassign { partitions: vec![Reassignment { partition, replicas }], allow_factor_change: true }
            }
            11 => R::ElectLeaders { election: Election::Preferred, partitions: None },
            12 => {
                let partition = self.partition().map(|(place, _)| self.name_of(place))?;
                R::ElectLeaders { election: Election::Unclean, partitions: Some(vec![partition]) }
            }
            13 => {
                let partitions = self.partition().map(|(place, _)| vec![place])?;
                let stops = self.random.below(2) == 0;
                let what = if stops { HandOver::Stopping } else { HandOver::Partitions(partitions) };
                R::HandOver { node, incarnation, what }
            }
            14 => {
                let duty = [Duty::Full, Duty::Drained, Duty::Leaving][self.random.below(3)];
                R::SetDuty { node, duty }
            }
            15 => {
                let topic = self.partition().map(|(place, _)| self.name_of(place).topic)?;
                let min = (1 + self.random.below(3)).to_string();
                let target =
                    if self.random.below(4) == 0 { ConfigTarget::EveryNode } else { ConfigTarget::Topic(topic) };
                set(target, "min.insync.replicas", &min)
            }
            16 => R::UnregisterNode { node },
            _ => {
                let topic = self.partition().map(|(place, _)| self.name_of(place).topic)?;
                let total = u32::try_from(1 + self.random.below(5)).expect("small");
                let topics = vec![MorePartitions { topic, total, assignment: Vec::new() }];
                R::CreatePartitions { topics, validate_only: false }
            }
        })
    }

    fn registration(&mut self, node: NodeId) -> ControllerRequest {
        self.starts = self.starts.wrapping_add(1);
        let mut info = World::info(node.0);
        info.incarnation = Incarnation([self.starts; 16]);
        info.fenced = self.random.below(4) == 0;
        info.boot = self.random.below(2).to_string();
        if let Some(before) = self.world.image.node(node) {
            info.directory = before.directory;
        }
        if self.random.below(4) == 0 {
            // Another disk: nothing is on it.
            info.directory = [self.starts; 16];
            self.records.values_mut().for_each(|records| {
                records.has.remove(&node);
            });
        }
        // Or only what it had of one partition.
        let lost: BTreeSet<TopicPartition> = match self.partition() {
            Some((place, _)) if self.random.below(4) == 0 => [place].into(),
            Some(_) | None => BTreeSet::new(),
        };
        for place in &lost {
            if let Some(records) = self.records.get_mut(place) {
                records.has.remove(&node);
            }
        }
        ControllerRequest::Register { node, info, clean: self.random.below(2) == 0, lost }
    }

    fn creation(&mut self) -> ControllerRequest {
        self.topics += 1;
        let wanted = NewTopic {
            partitions: Some(u32::try_from(1 + self.random.below(3)).expect("small")),
            replication_factor: Some(u16::try_from(1 + self.random.below(4)).expect("small")),
            ..NewTopic::with_defaults(name(&format!("t{}", self.topics)))
        };
        let wanted = if self.random.below(2) == 0 { NewTopic { replication_factor: None, ..wanted } } else { wanted };
        ControllerRequest::CreateTopics { topics: vec![wanted], validate_only: false }
    }

    /// What a leader would ask for: members that died go, others come once they have everything.
    fn isr_change(&mut self) -> Option<ControllerRequest> {
        let (place, info) = self.partition()?;
        let leader = info.leader?;
        let mut isr: Vec<NodeId> = info.replicas.iter().copied().filter(|_| self.random.below(3) > 0).collect();
        if !isr.contains(&leader) {
            isr.push(leader);
        }
        let member = |node: &NodeId| (*node, self.incarnation(*node));
        let change = IsrChange {
            partition: place,
            leader_epoch: info.leader_epoch,
            partition_epoch: info.partition_epoch,
            isr: isr.iter().map(member).collect(),
        };
        Some(ControllerRequest::AlterIsr { node: leader, incarnation: self.incarnation(leader), changes: vec![change] })
    }

    fn step(&mut self) {
        let before = self.partitions();
        let image = self.world.image.clone();
        let (what, unclean) = match self.random.below(32) {
            0..=3 => {
                let groups = upkeep::moves(&self.world.image, 3);
                self.world.apply(&groups);
                ("upkeep".to_owned(), false)
            }
            4..=7 => {
                let groups = election::balance_leaders(&self.world.image, 2);
                self.world.apply(&groups);
                ("balance".to_owned(), false)
            }
            8..=10 => {
                // One, or more that are found dead at the same time.
                let dead = if self.random.below(2) == 0 { vec![self.node()] } else { self.some_nodes() };
                let dead: Vec<_> = dead.into_iter().map(|node| (node, self.incarnation(node))).collect();
                let groups = node_decisions::fence(&self.world.image, &dead);
                self.world.apply(&groups);
                (format!("fence {dead:?}"), false)
            }
            _ => {
                let Some(request) = self.request() else { return };
                let unclean = matches!(&request, ControllerRequest::ElectLeaders { election: Election::Unclean, .. });
                let answer = self.world.ask(&request);
                if answer.is_ok_and(|answer| first_refusal(answer).is_none()) {
                    self.catch_up(&request);
                }
                (format!("{request:?}"), unclean)
            }
        };
        let context = format!("seed {}: {what}", self.seed);
        self.follow(&before, unclean, &context);
        self.check_shapes(&image, &before, &context);
        self.produce();
    }

    /// Who leads, and who is in sync, has what was acknowledged.
    fn follow(&mut self, before: &Partitions, unclean: bool, context: &str) {
        let before: BTreeMap<TopicPartition, &PartitionInfo> =
            before.iter().map(|(place, info)| (*place, info)).collect();
        for (place, info) in self.partitions() {
            let records = self.records.entry(place).or_default();
            let had_leader = before.get(&place).is_some_and(|info| info.leader.is_some());
            if let Some(leader) = info.leader.filter(|_| unclean && !had_leader) {
                // What it lacks is lost by command, and others cut off what they have beyond it.
                let left = records.has.get(&leader).copied().unwrap_or(0);
                records.acknowledged = records.acknowledged.min(left);
                records.has.values_mut().for_each(|has| *has = left.min(*has));
            }
            for member in &info.isr {
                let has = records.has.get(member).copied().unwrap_or(0);
                assert!(
                    has >= records.acknowledged,
                    "{context}: {member} lacks records of {}: {records:?}",
                    show(&info)
                );
            }
        }
    }

    /// The leader let it in because it had caught up.
    fn catch_up(&mut self, request: &ControllerRequest) {
        let ControllerRequest::AlterIsr { node, changes, .. } = request else { return };
        for change in changes {
            let records = self.records.entry(change.partition).or_default();
            let of_leader = records.has.get(node).copied().unwrap_or(0);
            for (member, _) in &change.isr {
                records.has.insert(*member, of_leader);
            }
        }
    }

    /// A record reaches the whole ISR before it is acknowledged, and none is below the minimum.
    fn produce(&mut self) {
        for (place, info) in self.partitions() {
            let topic = self.world.image.topic_by_id(place.topic).expect("it is there");
            let enough = info.isr.len() >= topic.min_insync_replicas_of(&info);
            if info.leader.is_some() && enough && self.random.below(2) == 0 {
                let records = self.records.entry(place).or_default();
                records.acknowledged += 1;
                for member in &info.isr {
                    records.has.insert(*member, records.acknowledged);
                }
            }
        }
    }

    fn check_shapes(&self, image: &Image, before: &Partitions, context: &str) {
        let before: BTreeMap<TopicPartition, &PartitionInfo> =
            before.iter().map(|(place, info)| (*place, info)).collect();
        for (place, info) in self.partitions() {
            let at = format!("{context}: {} is {}", self.name_of(place).topic, show(&info));
            let topic = self.world.image.topic_by_id(place.topic).expect("it is there");
            let distinct =
                |nodes: &[NodeId]| nodes.iter().collect::<std::collections::BTreeSet<_>>().len() == nodes.len();
            let within = |nodes: &[NodeId]| nodes.iter().all(|node| info.replicas.contains(node));
            let sets = [&info.isr, &info.elr, &info.adding, &info.removing, &info.last_known_elr];
            assert!(sets.into_iter().all(|set| distinct(set) && within(set)) && distinct(&info.replicas), "{at}");
            assert!(info.isr.iter().all(|node| !info.elr.contains(node)), "{at}");
            assert!(info.adding.iter().all(|node| !info.removing.contains(node)), "{at}");
            assert!(info.isr.iter().all(|node| self.world.image.is_live(*node)), "{at}");
            assert!(info.leader.is_none_or(|leader| info.isr.contains(&leader)), "{at}");
            assert!(info.leader.is_some() || info.isr.is_empty(), "{at}: one that is in sync would lead");
            let enough = info.isr.len() >= topic.min_insync_replicas_of(&info);
            assert!(!enough || info.elr.is_empty(), "{at}");
            let Some(was) = before.get(&place) else { continue };
            let at = format!("{at}, was {}", show(was));
            assert!(info.leader_epoch >= was.leader_epoch, "{at}");
            assert!(info.leader == was.leader || info.leader_epoch > was.leader_epoch, "{at}");
            let step = u32::from(info != **was);
            assert_eq!(info.partition_epoch, was.partition_epoch + step, "{at}");
            let left = was.original_replicas().into_iter().any(|node| !info.replicas.contains(&node));
            let whole = info.adding.is_empty()
                && enough
                && info
                    .replicas
                    .iter()
                    .all(|node| info.isr.contains(node) || was.replicas.contains(node) && !was.adding.contains(node));
            assert!(!left || whole, "{at}: an old replica went too early");
        }
        let restarted = self
            .world
            .image
            .nodes()
            .iter()
            .filter(|(node, info)| image.node(**node).is_some_and(|was| was.incarnation != info.incarnation));
        for (node, _) in restarted {
            let led = before.iter().filter(|(_, info)| info.leader == Some(*node));
            for (place, was) in led {
                let now = self.world.image.partition(*place).expect("it is there");
                assert!(now.leader_epoch > was.leader_epoch, "{context}: node {node} goes on in an earlier epoch");
            }
        }
    }
}

#[test]
fn random_requests_keep_every_partition_whole_and_elect_nobody_who_lacks_records() {
    for seed in 0..300 {
        let mut bed = Bed::new(seed);
        (0..150).for_each(|_| bed.step());
        assert_eq!(node_decisions::repair(&bed.world.image), Vec::<Vec<Fact>>::new(), "seed {seed}");
        let bytes = bed.world.image.encode();
        assert_eq!(Image::decode(bytes, Arc::default()).expect("our own"), bed.world.image, "seed {seed}");
    }
}

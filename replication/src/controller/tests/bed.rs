//! Controllers in memory: one whose disk is done at once, and three with the messages between them.

use std::collections::VecDeque;

use super::*;

pub(super) fn name(raw: &str) -> TopicName {
    TopicName::new(raw).expect("a valid name")
}

pub(super) fn new_topic(raw: &str) -> NewTopic {
    NewTopic::with_defaults(name(raw))
}

pub(super) fn options(node: i32, founders: &[i32]) -> ControllerOptions {
    ControllerOptions {
        node: NodeId(node),
        seed: 11 + u64::try_from(node).expect("not negative"),
        statics: Arc::default(),
        founders: founders.iter().copied().map(NodeId).collect(),
    }
}

/// What a node's disk holds.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Stored {
    pub(super) hard_state: Option<Bytes>,
    pub(super) snapshot: Option<Bytes>,
    pub(super) entries: Vec<LogEntry>,
}

impl Stored {
    pub(super) fn write(&mut self, persist: Persist) {
        if let Some(snapshot) = persist.snapshot {
            self.snapshot = Some(snapshot.file);
            self.entries.clear();
        }
        if let Some(from) = persist.truncate_from {
            self.entries.retain(|entry| entry.index < from);
        }
        self.entries.extend(persist.entries);
        self.hard_state = persist.hard_state.or(self.hard_state.take());
    }

    pub(super) fn recovered(&self) -> Recovered {
        Recovered {
            hard_state: self.hard_state.clone(),
            snapshot: self.snapshot.clone(),
            entries: self.entries.clone(),
        }
    }
}

/// A controller whose disk is done at once.
pub(super) struct Host {
    pub(super) controller: Controller,
    pub(super) stored: Stored,
    pub(super) outcomes: Vec<(Token, Outcome)>,
    pub(super) facts: Vec<Fact>,
    pub(super) outbox: Vec<(NodeId, Bytes)>,
    /// Groups that had to be written one after the other.
    pub(super) writes: usize,
}

impl Host {
    pub(super) fn open(options: ControllerOptions, stored: Stored) -> Host {
        let controller = Controller::open(options, stored.recovered()).expect("what was stored can be opened");
        let mut host =
            Host { controller, stored, outcomes: Vec::new(), facts: Vec::new(), outbox: Vec::new(), writes: 0 };
        host.settle();
        host
    }

    pub(super) fn settle(&mut self) {
        let mut out = Output::default();
        self.controller.collect(&mut out).expect("facts of our own");
        loop {
            self.outcomes.append(&mut out.outcomes);
            self.facts.append(&mut out.facts);
            self.outbox.append(&mut out.messages);
            let Some(last) = out.persist.last().map(|persist| persist.number) else { return };
            out.persist.drain(..).for_each(|persist| self.stored.write(persist));
            self.writes += 1;
            self.controller.persisted(last, &mut out).expect("facts of our own");
        }
    }

    pub(super) fn propose(&mut self, groups: &[Vec<Fact>], token: u64) {
        self.controller.propose(groups, Token(token)).expect("it is active");
        self.settle();
    }

    /// Founds where nothing is founded, and registers a start.
    pub(super) fn start(&mut self, clean: bool) {
        let node = self.controller.node();
        let (image, random) = self.controller.decide().expect("it is active");
        let mut groups = Vec::new();
        if !image.is_founded() {
            groups.push(vec![nodes::found(random.cluster_id(), vec![node])]);
        }
        let info = NodeInfo { incarnation: random.incarnation(), ..NodeInfo::default() };
        groups.extend(nodes::register(image, node, info, clean, &BTreeSet::new()));
        self.propose(&groups, 1);
    }

    pub(super) fn create(&mut self, topics: &[NewTopic], token: u64) -> Vec<Result<CreatedTopic, Refusal>> {
        let (image, random) = self.controller.decide().expect("it is active");
        let decided = topics::create(image, topics, random);
        self.propose(&decided.facts, token);
        decided.answers
    }
}

pub(super) fn one_node() -> Host {
    let mut host = Host::open(options(1, &[1]), Stored::default());
    host.start(true);
    host
}

/// Three controllers and the messages between them, in order.
pub(super) struct Cluster {
    pub(super) hosts: BTreeMap<NodeId, Host>,
    pub(super) cut_off: Option<NodeId>,
    pub(super) trace: u64,
}

impl Cluster {
    pub(super) fn new() -> Cluster {
        let open = |node| (NodeId(node), Host::open(options(node, &[1, 2, 3]), Stored::default()));
        Cluster { hosts: [1, 2, 3].map(open).into(), cut_off: None, trace: 0 }
    }

    pub(super) fn deliver(&mut self) {
        let mut queue: VecDeque<(NodeId, NodeId, Bytes)> = VecDeque::new();
        loop {
            for (from, host) in &mut self.hosts {
                host.settle();
                queue.extend(host.outbox.drain(..).map(|(to, message)| (*from, to, message)));
            }
            let Some((from, to, message)) = queue.pop_front() else { return };
            for byte in message.iter() {
                self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
            if self.cut_off.is_some_and(|node| node == from || node == to) {
                continue;
            }
            self.hosts.get_mut(&to).expect("one of three").controller.step(&message).expect("our own message");
        }
    }

    pub(super) fn tick(&mut self, times: usize) {
        for _ in 0..times {
            self.hosts.values_mut().for_each(|host| host.controller.tick());
            self.deliver();
        }
    }

    pub(super) fn active(&mut self) -> &mut Host {
        let cut_off = self.cut_off;
        let is_active = |host: &&mut Host| host.controller.is_active() && Some(host.controller.node()) != cut_off;
        self.hosts.values_mut().find(is_active).expect("one is active")
    }

    pub(super) fn elect(&mut self) -> NodeId {
        self.tick(6 * ELECTION_TICKS);
        self.active().controller.node()
    }

    pub(super) fn images(&self) -> Vec<Arc<Image>> {
        self.hosts.values().map(|host| Arc::clone(host.controller.image())).collect()
    }
}

pub(super) fn three_live_nodes() -> Image {
    let register = |node: i32| {
        let incarnation = Incarnation([u8::try_from(node).expect("small"); 16]);
        Fact::NodeRegistered { node: NodeId(node), info: NodeInfo { incarnation, ..NodeInfo::default() } }
    };
    let dead = NodeInfo { fenced: true, ..NodeInfo::default() };
    let mut facts: Vec<Fact> = [1, 2, 3].map(register).into();
    facts.push(Fact::NodeRegistered { node: NodeId(4), info: dead });
    Image::empty(Arc::default()).with(&facts).expect("the facts apply")
}

pub(super) fn nodes_of(raw: &[i32]) -> Vec<NodeId> {
    raw.iter().copied().map(NodeId).collect()
}

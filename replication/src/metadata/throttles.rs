//! What `leader.` and `follower.replication.throttled.{rate,replicas}` mean for what one leader sends.
//!
//! Owns which streams are slowed, and to how many bytes a second. Does not own the pacing (`partition::throttle`). Pure: an image.
//! Kafka's meaning: a rate is a node's own and for all its throttled replicas together; the lists are the topic's, `*` or
//! `PARTITION:NODE`; only a replica that is not in sync is slowed, so no acknowledgement waits for it. A leader sends here, unasked;
//! so a follower's rate is shared evenly by the leaders that feed it, and each keeps to its share. All of them know the image.
//! Invariant: without a rate nothing is slowed; the shares of a follower's rate add up to no more than that.

use std::collections::{BTreeMap, BTreeSet};

use model::{NodeId, PartitionIndex, TopicPartition};

use super::image::{Image, Resource};

const LEADER_RATE: &str = "leader.replication.throttled.rate";
const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
const LEADER_REPLICAS: &str = "leader.replication.throttled.replicas";
const FOLLOWER_REPLICAS: &str = "follower.replication.throttled.replicas";

/// What slows a stream: the rate of the leader, that of the follower, or both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sides {
    pub leader: bool,
    pub follower: bool,
}

/// What one node, as a leader, has to slow down. Rates are bytes a second.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Throttles {
    pub leader_rate: Option<u64>,
    /// This leader's share.
    pub follower_rates: BTreeMap<NodeId, u64>,
    /// By partition that this node leads, and follower.
    pub streams: BTreeMap<(TopicPartition, NodeId), Sides>,
}

impl Throttles {
    /// Of everything that `node` leads. Cheap where no rate is set.
    pub fn of(image: &Image, node: NodeId) -> Throttles {
        let leader_rate = rate(image, node, LEADER_RATE);
        let followers = image.nodes().keys();
        let rates: BTreeMap<NodeId, u64> =
            followers.filter_map(|node| Some((*node, rate(image, *node, FOLLOWER_RATE)?))).collect();
        let mut streams = BTreeMap::new();
        if leader_rate.is_none() && rates.is_empty() {
            return Throttles::default();
        }
        let mut feeders: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        for topic in image.topics() {
            let list = |key| topic.overrides.get(key).map_or(Listed::default(), |value| Listed::parse(value));
            let (leaders, followers) = (list(LEADER_REPLICAS), list(FOLLOWER_REPLICAS));
            if leaders.is_empty() && followers.is_empty() {
                continue;
            }
            for (partition, info) in topic.partitions() {
                let Some(leader) = info.leader else { continue };
                let behind = info.replicas.iter().filter(|replica| !info.isr.contains(replica));
                for follower in behind.copied() {
                    let sides = Sides {
                        leader: leader_rate.is_some() && leaders.has(partition, leader),
                        follower: rates.contains_key(&follower) && followers.has(partition, follower),
                    };
                    if sides.follower {
                        feeders.entry(follower).or_default().insert(leader);
                    }
                    if leader == node && (sides.leader || sides.follower) {
                        streams.insert((TopicPartition { topic: topic.id, partition }, follower), sides);
                    }
                }
            }
        }
        let share = |(follower, rate): (&NodeId, &u64)| {
            let feeders = feeders.get(follower).filter(|feeders| feeders.contains(&node))?;
            Some((*follower, rate / u64::try_from(feeders.len()).unwrap_or(u64::MAX)))
        };
        Throttles { leader_rate, follower_rates: rates.iter().filter_map(share).collect(), streams }
    }

    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

/// A node's own value, else that of all nodes.
fn rate(image: &Image, node: NodeId, key: &str) -> Option<u64> {
    let of = |resource: Resource| image.overrides(&resource).get(key);
    of(Resource::Node(node)).or_else(|| of(Resource::EveryNode))?.trim().parse().ok()
}

/// A list of replicas, as it was checked when it was set.
#[derive(Default)]
struct Listed {
    all: bool,
    replicas: BTreeSet<(u32, i32)>,
}

impl Listed {
    fn parse(text: &str) -> Listed {
        let pair = |item: &str| {
            let (partition, node) = item.trim().split_once(':')?;
            Some((partition.parse().ok()?, node.parse().ok()?))
        };
        Listed { all: text.trim() == "*", replicas: text.split(',').filter_map(pair).collect() }
    }

    fn is_empty(&self) -> bool {
        !self.all && self.replicas.is_empty()
    }

    fn has(&self, partition: PartitionIndex, node: NodeId) -> bool {
        self.all || self.replicas.contains(&(partition.get(), node.0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{LeaderEpoch, TopicId, TopicName};

    use super::super::image::{NodeInfo, PartitionInfo};
    use super::super::record::Fact;
    use super::*;

    const TOPIC: TopicId = TopicId([7; 16]);

    /// Two partitions: 0 is led by 1 and not in sync on 3, 1 is led by 2 and not in sync on 3 and 4.
    fn image(of_nodes: &[(i32, &str, &str)], of_topic: &[(&str, &str)]) -> Image {
        let state = |leader: i32, isr: &[i32], replicas: &[i32]| PartitionInfo {
            leader: Some(NodeId(leader)),
            leader_epoch: LeaderEpoch::new(1),
            replicas: replicas.iter().copied().map(NodeId).collect(),
            isr: isr.iter().copied().map(NodeId).collect(),
            ..PartitionInfo::default()
        };
        let name = TopicName::new("t").expect("a name");
        let mut facts: Vec<Fact> =
            (1..=4).map(|node| Fact::NodeRegistered { node: NodeId(node), info: NodeInfo::default() }).collect();
        facts.push(Fact::TopicCreated { id: TOPIC, name, configs: Vec::new(), default_replication: false });
        for (index, state) in [(0, state(1, &[1, 2], &[1, 2, 3])), (1, state(2, &[2], &[2, 3, 4]))] {
            facts.push(Fact::PartitionChanged { topic: TOPIC, partition: PartitionIndex::new(index), state });
        }
        let set = |resource, key: &str, value: &str| Fact::ConfigChanged {
            resource,
            key: key.into(),
            value: Some(value.into()),
        };
        facts.extend(of_topic.iter().map(|(key, value)| set(Resource::Topic(TOPIC), key, value)));
        facts.extend(of_nodes.iter().map(|(node, key, value)| {
            let resource = if *node == 0 { Resource::EveryNode } else { Resource::Node(NodeId(*node)) };
            set(resource, key, value)
        }));
        Image::empty(Arc::default()).with(&facts).expect("they apply")
    }

    fn shown(image: &Image, node: i32) -> String {
        let found = Throttles::of(image, NodeId(node));
        let rates = found.follower_rates.iter().map(|(node, rate)| format!(" {node}<{rate}"));
        let streams = found.streams.iter().map(|((partition, node), sides)| {
            let side = |on: bool, letter: &'static str| if on { letter } else { "" };
            let (leader, follower) = (side(sides.leader, "L"), side(sides.follower, "F"));
            format!(" {}>{node}{leader}{follower}", partition.partition)
        });
        let leader = found.leader_rate.map_or("-".to_owned(), |rate| rate.to_string());
        leader + &rates.chain(streams).collect::<String>()
    }

    #[test]
    fn nothing_is_slowed_without_a_rate_or_without_a_list() {
        let lists = [(LEADER_REPLICAS, "*"), (FOLLOWER_REPLICAS, "*")];
        assert_eq!(shown(&image(&[], &lists), 1), "-");
        assert_eq!(shown(&image(&[(1, LEADER_RATE, "100"), (3, FOLLOWER_RATE, "100")], &[]), 1), "100");
    }

    #[test]
    fn only_followers_that_are_not_in_sync_are_slowed() {
        let image = image(&[(0, LEADER_RATE, "100")], &[(LEADER_REPLICAS, "*")]);
        assert_eq!(shown(&image, 1), "100 0>3L");
        assert_eq!(shown(&image, 2), "100 1>3L 1>4L");
        assert_eq!(shown(&image, 3), "100");
    }

    #[test]
    fn a_leaders_list_names_the_leader_and_a_followers_list_the_follower() {
        let rates = [(0, LEADER_RATE, "100"), (0, FOLLOWER_RATE, "60")];
        let image = image(&rates, &[(LEADER_REPLICAS, "0:1,1:3"), (FOLLOWER_REPLICAS, "1:4,0:2")]);
        assert_eq!(shown(&image, 1), "100 0>3L");
        assert_eq!(shown(&image, 2), "100 4<60 1>4F");
    }

    #[test]
    fn a_followers_rate_is_shared_by_the_leaders_that_feed_it() {
        let image = image(&[(3, FOLLOWER_RATE, "101"), (4, FOLLOWER_RATE, "50")], &[(FOLLOWER_REPLICAS, "*")]);
        assert_eq!(shown(&image, 1), "- 3<50 0>3F");
        assert_eq!(shown(&image, 2), "- 3<50 4<50 1>3F 1>4F");
    }

    #[test]
    fn a_nodes_own_rate_stands_before_that_of_all() {
        let image = image(&[(0, LEADER_RATE, "100"), (2, LEADER_RATE, "7")], &[(LEADER_REPLICAS, "*")]);
        assert_eq!((shown(&image, 1).as_str(), shown(&image, 2).as_str()), ("100 0>3L", "7 1>3L 1>4L"));
    }
}

//! An image as bytes and back.
//!
//! Owns the order in which a snapshot's parts are put together again. Does not own the file around it (`controller::raft_node`).
//! Invariant: equal images give equal bytes, and the image that is read back is equal.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::apply::ApplyError;
use super::broker_config::BrokerConfig;
use super::image::{Image, Topic};
use super::record::{
    Fact, FactError, LEVEL, config_from_proto, config_to_proto, node_from_proto, node_id, node_numbers, node_to_proto,
    orders_from_proto, orders_to_proto, partition_from_proto, partition_to_proto, proto, topic_from_proto,
    topic_to_proto, unclean_from_proto, unclean_to_proto,
};

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the snapshot of the metadata cannot be read: {0}")]
    Encoding(String),
    #[error("the snapshot needs metadata level {needed}, this version reads up to {LEVEL}")]
    LevelTooNew { needed: u32 },
    #[error("the snapshot of the metadata holds a bad value: {0}")]
    Value(#[from] FactError),
    #[error("the snapshot of the metadata contradicts itself: {0}")]
    Contradiction(#[from] ApplyError),
}

impl Image {
    pub fn encode(&self) -> Bytes {
        let configs = self.configs.iter().flat_map(|(resource, values)| {
            values.iter().map(|(key, value)| config_to_proto(resource, key.clone(), Some(value.clone())))
        });
        let features = self.features.iter();
        let snapshot = proto::Snapshot {
            level: self.snapshot_level(),
            cluster_id: self.cluster_id.to_string(),
            voters: node_numbers(&self.voters),
            learners: node_numbers(&self.learners),
            replaced: self.replaced.iter().map(|node| node.0).collect(),
            orders: self.orders.iter().map(|(node, orders)| orders_to_proto(*node, orders)).collect(),
            unclean: self.unclean.iter().map(unclean_to_proto).collect(),
            nodes: self.nodes.iter().map(|(node, info)| node_to_proto(*node, info)).collect(),
            topics: self.topics.values().map(|topic| encode_topic(topic)).collect(),
            configs: configs.collect(),
            features: features
                .map(|(name, level)| proto::FeatureLevelSet { name: name.clone(), level: i32::from(*level) })
                .collect(),
            features_epoch: self.features_epoch,
            next_producer_id: self.next_producer_id,
        };
        snapshot.encode_to_vec().into()
    }

    /// What a reader needs: what came in with level 2 shows only once something of it is there. (Learners and replaced members are
    /// passed over by a reader of level 1, which has neither.)
    fn snapshot_level(&self) -> u32 {
        let is_first = self.orders.is_empty() && self.unclean.is_empty() && self.client_metrics().next().is_none();
        if is_first { 1 } else { 2 }
    }

    /// `statics` is this node's own configuration, which no snapshot holds.
    pub fn decode(bytes: Bytes, statics: Arc<BrokerConfig>) -> Result<Image, SnapshotError> {
        let snapshot = proto::Snapshot::decode(bytes).map_err(|error| SnapshotError::Encoding(error.to_string()))?;
        if snapshot.level > LEVEL {
            return Err(SnapshotError::LevelTooNew { needed: snapshot.level });
        }
        let mut image = Image::empty(statics);
        image.cluster_id = snapshot.cluster_id.into();
        image.voters = Arc::new(snapshot.voters.into_iter().map(node_id).collect::<Result<_, _>>()?);
        image.learners = Arc::new(snapshot.learners.into_iter().map(node_id).collect::<Result<_, _>>()?);
        image.replaced = Arc::new(snapshot.replaced.into_iter().map(node_id).collect::<Result<_, _>>()?);
        image.orders = Arc::new(snapshot.orders.into_iter().map(orders_from_proto).collect::<Result<_, _>>()?);
        image.unclean = Arc::new(snapshot.unclean.into_iter().map(unclean_from_proto).collect::<Result<_, _>>()?);
        let nodes = snapshot.nodes.into_iter().map(node_from_proto);
        image.nodes = Arc::new(nodes.collect::<Result<_, _>>()?);
        // Before the topics: a default of the whole cluster shows in each.
        for config in snapshot.configs {
            image.apply(&config_from_proto(config)?)?;
        }
        for topic in snapshot.topics {
            image.apply(&topic_from_proto(topic.topic.ok_or(FactError::Missing("topic"))?)?)?;
            for partition in topic.partitions {
                let (topic, partition, state) = partition_from_proto(partition)?;
                image.apply(&Fact::PartitionChanged { topic, partition, state })?;
            }
        }
        for feature in snapshot.features {
            let level = i16::try_from(feature.level);
            let level = level.map_err(|_| FactError::Number { field: "level", value: i64::from(feature.level) })?;
            Arc::make_mut(&mut image.features).insert(feature.name, level);
        }
        image.features_epoch = snapshot.features_epoch;
        image.next_producer_id = snapshot.next_producer_id;
        Ok(image)
    }
}

fn encode_topic(topic: &Topic) -> proto::TopicSnapshot {
    let settings = topic.overrides.iter().map(|(key, value)| (key.clone(), value.clone()));
    proto::TopicSnapshot {
        topic: Some(topic_to_proto(topic.id, &topic.name, settings, topic.default_replication)),
        partitions: topic
            .partitions()
            .map(|(partition, state)| partition_to_proto(topic.id, partition, state))
            .collect(),
    }
}

impl PartialEq for Image {
    /// What is replicated; who leads the group and this node's own settings are not.
    fn eq(&self, other: &Image) -> bool {
        let same_topics = self.topics.iter().eq(other.topics.iter()) && self.names.iter().eq(other.names.iter());
        self.cluster_id == other.cluster_id
            && self.voters == other.voters
            && self.learners == other.learners
            && self.replaced == other.replaced
            && self.orders == other.orders
            && self.unclean == other.unclean
            && self.nodes == other.nodes
            && same_topics
            && self.partitions == other.partitions
            && self.configs == other.configs
            && self.features == other.features
            && self.features_epoch == other.features_epoch
            && self.next_producer_id == other.next_producer_id
    }
}

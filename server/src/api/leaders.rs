//! Who leads instead: what a refused produce or fetch tells the client, so that it need not ask for metadata (KIP-951).

use std::collections::BTreeMap;

use model::{ErrorCode, LeaderEpoch, NodeId, TopicPartition};
use node::requests::FetchError;
use replication::metadata::Image;

use super::context::RequestContext;
use crate::config::Endpoint;

/// A partition that is not on this node, and that the metadata has, is led elsewhere: the client is to go there. What is damaged here and
/// whole on another node of the ISR is a matter of this disk: that node is to lead, and clients try again, where damage itself ends them.
pub fn elsewhere(image: &Image, partition: TopicPartition, error: FetchError) -> FetchError {
    match (error, image.partition(partition)) {
        (FetchError::UnknownPartition, Some(known)) => {
            FetchError::NotLeader { leader: known.leader, epoch: known.leader_epoch }
        }
        (error @ FetchError::Corrupt { .. }, Some(known)) if known.isr.len() > 1 => {
            FetchError::Disk { reason: error.to_string() }
        }
        (error, _) => error,
    }
}

/// The same where only a code is told.
pub fn code_elsewhere(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::UnknownTopicOrPartition => ErrorCode::NotLeaderOrFollower,
        other => other,
    }
}

/// The nodes that an answer names as leaders, each once.
#[derive(Debug, Default)]
pub struct Leaders {
    endpoints: BTreeMap<NodeId, (Endpoint, Option<String>)>,
}

impl Leaders {
    /// Notes a leader and gives its numbers for the wire: −1 where it is not known.
    pub fn note(&mut self, ctx: &RequestContext, leader: Option<NodeId>, epoch: LeaderEpoch) -> (i32, i32) {
        let Some(leader) = leader else { return (-1, epoch.get()) };
        let image = ctx.broker.image();
        let info = image.node(leader);
        let endpoint = ctx.broker.endpoint_of(leader, info, ctx.connection.local, ctx.connection.peer);
        self.endpoints.insert(leader, (endpoint, info.and_then(|info| info.rack.clone())));
        (leader.0, epoch.get())
    }

    /// Ascending by node.
    pub fn into_endpoints(self) -> impl Iterator<Item = (NodeId, Endpoint, Option<String>)> {
        self.endpoints.into_iter().map(|(node, (endpoint, rack))| (node, endpoint, rack))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Offset, PartitionIndex, TopicId, TopicName};
    use replication::metadata::{Fact, PartitionInfo};

    use super::*;

    #[test]
    fn damage_ends_a_client_only_where_nobody_else_has_what_was_there() {
        let topic = TopicId([1; 16]);
        let partition = |index: u32, isr: &[i32]| {
            let nodes: Vec<NodeId> = isr.iter().copied().map(NodeId).collect();
            let state = PartitionInfo {
                leader: Some(NodeId(1)),
                replicas: nodes.clone(),
                isr: nodes,
                ..PartitionInfo::default()
            };
            Fact::PartitionChanged { topic, partition: PartitionIndex::new(index), state }
        };
        let name = TopicName::new("t").expect("a name");
        let created = Fact::TopicCreated { id: topic, name, configs: Vec::new(), default_replication: false };
        let facts = [created, partition(0, &[1]), partition(1, &[1, 2])];
        let image = Image::empty(Arc::default()).with(&facts).expect("they apply");
        let code = |index: u32| {
            let partition = TopicPartition { topic, partition: PartitionIndex::new(index) };
            elsewhere(&image, partition, FetchError::Corrupt { segment: Offset::ZERO, at: 7 }).code()
        };
        assert_eq!((code(0), code(1)), (ErrorCode::CorruptMessage, ErrorCode::KafkaStorageError));
    }
}

//! Who leads instead: what a refused produce or fetch tells the client, so that it need not ask for metadata (KIP-951).

use std::collections::BTreeMap;

use model::{ErrorCode, LeaderEpoch, NodeId, TopicPartition};
use node::requests::FetchError;
use replication::metadata::Image;

use super::context::RequestContext;
use crate::config::Endpoint;

/// A partition that is not on this node, and that the metadata has, is led elsewhere: the client is to go there.
pub fn elsewhere(image: &Image, partition: TopicPartition, error: FetchError) -> FetchError {
    match (error, image.partition(partition)) {
        (FetchError::UnknownPartition, Some(known)) => {
            FetchError::NotLeader { leader: known.leader, epoch: known.leader_epoch }
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

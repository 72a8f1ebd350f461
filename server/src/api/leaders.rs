//! Who leads instead: what a refused produce or fetch tells the client, so that it need not ask for metadata (KIP-951).

use std::collections::BTreeMap;

use model::{LeaderEpoch, NodeId};

use super::context::RequestContext;
use crate::config::Endpoint;

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

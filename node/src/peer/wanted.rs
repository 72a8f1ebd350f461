//! Which links this node wants: to whom, and at which address.
//!
//! Owns where addresses come from. Does not own who is let in (`greeting`) nor what becomes of a link (`peers`).

use replication::metadata::{Image, Listener, PEER_LISTENER};

use super::peers::State;
use super::{PeerAddress, PeerLane};

impl State {
    /// The registered listeners of the others, and the join list: after a restart the image may be behind. Who is in neither and has a
    /// link here is reached back: the controller may be such a node, and nobody comes to an image without answering it.
    pub(super) fn wanted(&self, image: &Image) -> Vec<PeerAddress> {
        let others = image.nodes().iter().filter(|(node, _)| **node != self.me.node);
        let registered = others.filter_map(|(node, info)| {
            Some(PeerAddress { node: Some(*node), address: peer_address(&info.listeners)? })
        });
        let mut wanted: Vec<PeerAddress> = registered.collect();
        let own = image.node(self.me.node).and_then(|info| peer_address(&info.listeners));
        for address in &self.me.join {
            let known = wanted.iter().any(|peer| peer.address == *address);
            if !known && own.as_ref() != Some(address) {
                wanted.push(PeerAddress { node: None, address: address.clone() });
            }
        }
        let strangers = self.incoming.iter().filter(|((node, lane), incoming)| {
            let is_member = incoming.cluster_id.is_some() && incoming.cluster_id == self.me.cluster_id;
            *lane == PeerLane::Control && *node != self.me.node && image.node(*node).is_none() && is_member
        });
        for ((node, _), incoming) in strangers {
            let Some(address) = &incoming.address else { continue };
            if !wanted.iter().any(|peer| peer.address == *address) {
                wanted.push(PeerAddress { node: Some(*node), address: address.clone() });
            }
        }
        wanted
    }
}

/// Where other nodes reach the node with these listeners.
pub(crate) fn peer_address(listeners: &[Listener]) -> Option<String> {
    let listener = listeners.iter().find(|listener| listener.name == PEER_LISTENER)?;
    let host = if listener.host.contains(':') { format!("[{}]", listener.host) } else { listener.host.clone() };
    Some(format!("{host}:{}", listener.port))
}

//! Nodes that were fenced a moment ago, as clients are told of them: still there, although they lead nothing any more.
//!
//! Owns for how long. Does not own who is fenced (the image).
//! A client that hears at once that a leader's node is gone and who leads instead may drop the node while the partition is still on its
//! way to the next one. librdkafka then leaves the partition without a leader until its next look, which is a second later.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{NodeId, Now};
use replication::metadata::{Image, Incarnation};

use crate::node::Node;

/// Time for clients to move to the next leader. Not for ever: one that is dropped and comes back is connected to at once, while clients
/// wait longer and longer before they connect to one that stayed.
const LATELY: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(crate) struct Departed {
    fenced: Mutex<BTreeMap<NodeId, (Incarnation, Duration)>>,
}

impl Departed {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, (Incarnation, Duration)>> {
        self.fenced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The image is another one.
    pub(crate) fn note(&self, now: Now, before: &Image, after: &Image) {
        let mut fenced = self.lock();
        fenced.retain(|_, (_, at)| now.mono < at.saturating_add(LATELY));
        // One that stops has handed over before: nothing is on its way from it.
        for (node, info) in before.live_nodes().filter(|(node, _)| !after.is_live(*node) && !after.is_stopping(*node)) {
            fenced.insert(node, (info.incarnation, now.mono));
        }
    }

    fn lately(&self, now: Now, image: &Image) -> Vec<NodeId> {
        let is_gone = |node: NodeId, incarnation: Incarnation| {
            image.node(node).is_some_and(|info| info.fenced && info.incarnation == incarnation)
        };
        let fenced = self.lock();
        let lately = fenced.iter().filter(|(_, (_, at))| now.mono < at.saturating_add(LATELY));
        lately.filter(|(node, (incarnation, _))| is_gone(**node, *incarnation)).map(|(node, _)| *node).collect()
    }
}

impl Node {
    /// Nodes of this image that were fenced a moment ago. Ascending.
    pub fn departed_lately(&self, now: Now, image: &Image) -> Vec<NodeId> {
        self.departed.lately(now, image)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use replication::metadata::{Fact, NodeInfo};

    use super::*;

    #[test]
    fn a_fenced_node_is_told_for_three_seconds_unless_it_is_forgotten_or_lives_again() {
        let at = |seconds| Now { mono: Duration::from_secs(seconds), wall_ms: 0 };
        let info = |fenced| NodeInfo { incarnation: Incarnation([1; 16]), fenced, ..NodeInfo::default() };
        let registered = |fenced| Fact::NodeRegistered { node: NodeId(1), info: info(fenced) };
        let none = Image::empty(Arc::default());
        let live = none.with(&[registered(false)]).expect("it applies");
        let gone = live.with(&[registered(true)]).expect("it applies");
        let departed = Departed::default();
        departed.note(at(1), &none, &live);
        assert_eq!(departed.lately(at(1), &live), []);
        departed.note(at(2), &live, &gone);
        assert_eq!(departed.lately(at(4), &gone), [NodeId(1)]);
        assert_eq!(departed.lately(at(5), &gone), []);
        assert_eq!(departed.lately(at(3), &live), []);
        assert_eq!(departed.lately(at(3), &none), []);
    }
}

//! The Control links of this node: which stand, whose start is at the other end, and who has to be told that this node lives.
//!
//! Owns this table. Does not own what a closed link means (`liveness`).
//! Invariant: a frame counts only when it came over the newest incoming link of its sender.

use std::collections::BTreeMap;
use std::time::Duration;

use model::NodeId;
use replication::metadata::Incarnation;

use crate::liveness::ALIVE_INTERVAL;
use crate::peer::Hello;

/// One process at the other end of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Process {
    pub(super) incarnation: Incarnation,
    pub(super) directory: [u8; 16],
}

impl Process {
    pub(super) fn of(hello: &Hello) -> Process {
        Process { incarnation: hello.incarnation, directory: hello.directory }
    }
}

#[derive(Debug, Default)]
pub(super) struct Contacts {
    all: BTreeMap<NodeId, Contact>,
}

#[derive(Debug, Default)]
struct Contact {
    outgoing: Option<Process>,
    incoming: Option<(u64, Process)>,
    spoke_at: Duration,
}

impl Contacts {
    pub(super) fn connected(&mut self, now: Duration, node: NodeId, process: Process) {
        let contact = self.all.entry(node).or_default();
        contact.outgoing = Some(process);
        contact.spoke_at = now;
    }

    /// Returns whether it stood.
    pub(super) fn lost(&mut self, node: NodeId) -> bool {
        self.all.get_mut(&node).is_some_and(|contact| contact.outgoing.take().is_some())
    }

    pub(super) fn opened(&mut self, node: NodeId, session: u64, process: Process) {
        self.all.entry(node).or_default().incoming = Some((session, process));
    }

    /// Returns whether it was the newest one.
    pub(super) fn closed(&mut self, node: NodeId, session: u64) -> bool {
        self.all
            .get_mut(&node)
            .is_some_and(|contact| contact.incoming.take_if(|(newest, _)| *newest == session).is_some())
    }

    /// Who speaks over this incoming link.
    pub(super) fn speaker(&self, node: NodeId, session: u64) -> Option<Process> {
        let (newest, process) = self.all.get(&node)?.incoming?;
        (newest == session).then_some(process)
    }

    /// Whom a frame to the node would reach; `None`: nobody.
    pub(super) fn listener(&self, node: NodeId) -> Option<Process> {
        self.all.get(&node)?.outgoing
    }

    pub(super) fn is_connected(&self, node: NodeId) -> bool {
        self.listener(node).is_some()
    }

    /// Ascending.
    pub(super) fn all_connected(&self) -> impl Iterator<Item = NodeId> {
        self.all.iter().filter(|(_, contact)| contact.outgoing.is_some()).map(|(node, _)| *node)
    }

    /// A frame goes there.
    pub(super) fn spoke(&mut self, now: Duration, node: NodeId) {
        if let Some(contact) = self.all.get_mut(&node) {
            contact.spoke_at = now;
        }
    }

    /// Who was told nothing for so long that they must be told that this node lives.
    pub(super) fn neglected(&self, now: Duration) -> Vec<NodeId> {
        let due =
            |contact: &Contact| contact.outgoing.is_some() && now.saturating_sub(contact.spoke_at) >= ALIVE_INTERVAL;
        self.all.iter().filter(|(_, contact)| due(contact)).map(|(node, _)| *node).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(2);

    fn process(number: u8) -> Process {
        Process { incarnation: Incarnation([number; 16]), directory: [number; 16] }
    }

    #[test]
    fn only_the_newest_incoming_link_counts() {
        let mut contacts = Contacts::default();
        contacts.opened(NODE, 1, process(1));
        contacts.opened(NODE, 2, process(2));
        assert_eq!((contacts.speaker(NODE, 1), contacts.speaker(NODE, 2)), (None, Some(process(2))));
        assert!(!contacts.closed(NODE, 1));
        assert!(contacts.closed(NODE, 2) && !contacts.closed(NODE, 2));
    }

    #[test]
    fn who_was_told_nothing_for_300_ms_is_neglected() {
        let mut contacts = Contacts::default();
        let at = Duration::from_millis;
        contacts.connected(at(0), NODE, process(1));
        assert_eq!((contacts.neglected(at(299)), contacts.neglected(at(300))), (vec![], vec![NODE]));
        contacts.spoke(at(300), NODE);
        assert_eq!(contacts.neglected(at(599)), []);
        assert!(contacts.lost(NODE) && !contacts.lost(NODE));
        assert_eq!(contacts.neglected(at(900)), []);
    }
}

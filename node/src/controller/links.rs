//! What arrives for the controller over the links between nodes, and what silence and closed links mean for it.
//!
//! Owns the translation of links into signs of life. Does not own the rules (`liveness`), nor what the active controller makes of a
//! death (`members`).
//! Invariant: no promise counts that came from a node with another data directory than the one that the image knows: that one has lost
//! what it promised. Nor is it asked for any. What it asks itself is heard and answered: where the others know it by now, and even made it
//! their leader, this image is behind, and nobody else might bring it up to date.

use bytes::Bytes;
use model::planted::{self, Bug};
use model::{NodeId, Now};
use replication::controller::raft_node;

use super::contacts::Process;
use super::driver::{ControllerDriver, ControllerOut};
use crate::effects::Effects;
use crate::liveness::Sign;
use crate::node::Node;
use crate::peer::{Frame, Lost, Origin, PeerEvent, PeerLane};

impl Node {
    /// A link came or went; never `PeerEvent::Frame`.
    pub(crate) fn controller_link(&self, now: Now, event: &PeerEvent, fx: &mut Effects) {
        self.with_peer(now, fx, |driver, out| driver.link(now, event, out));
    }

    /// A message of the metadata Raft group.
    pub(crate) fn raft_arrived(&self, now: Now, origin: Origin, message: Bytes, fx: &mut Effects) {
        self.with_peer(now, fx, |driver, out| driver.raft_arrived(now, origin, &message, out));
    }

    /// For the active controller, which this node was when it was sent.
    pub(crate) fn controller_request_arrived(
        &self,
        now: Now,
        origin: Origin,
        request: (u64, bool),
        body: Bytes,
        fx: &mut Effects,
    ) {
        self.with_peer(now, fx, |driver, out| driver.request_arrived(now, origin, request, body, out));
    }

    pub(crate) fn controller_answer_arrived(&self, now: Now, origin: Origin, id: u64, body: Bytes, fx: &mut Effects) {
        self.with_peer(now, fx, |driver, out| {
            if driver.heard(now, origin).is_some() {
                driver.answer_arrived(now, origin.from, id, body, out);
                driver.drive(now, out);
            }
        });
    }

    /// The other node lives.
    pub(crate) fn alive_arrived(&self, now: Now, origin: Origin, fx: &mut Effects) {
        self.with_peer(now, fx, |driver, out| {
            if driver.heard(now, origin).is_some() {
                driver.drive(now, out);
            }
        });
    }

    /// A node that stops hears nothing any more: what it took on now it would not keep.
    fn with_peer(&self, now: Now, fx: &mut Effects, act: impl FnOnce(&mut ControllerDriver, &mut ControllerOut)) {
        if !self.is_stopping() {
            self.with_controller(now, fx, act);
        }
    }
}

impl ControllerDriver {
    fn link(&mut self, now: Now, event: &PeerEvent, out: &mut ControllerOut) {
        match event {
            PeerEvent::Connected { to, lane: PeerLane::Control, hello, .. } if *to != self.node => {
                let process = Process::of(hello);
                self.contacts.connected(now.mono, *to, process);
                self.liveness.sign(now.mono, *to, Sign::Heard(process.incarnation));
                self.controller.reconnected(*to);
                self.registration.hurry(now.mono);
                self.controller_changed(now, out);
            }
            PeerEvent::Lost { to, lane: PeerLane::Control, why } => {
                let sign = match why {
                    Lost::Closed => Sign::Closed,
                    Lost::Refused => Sign::Refused,
                    Lost::Unreachable => Sign::Unreachable,
                };
                self.liveness.sign(now.mono, *to, sign);
                if self.contacts.lost(*to) {
                    self.lost_controller(now, *to, out);
                    self.forget_asker(*to);
                }
            }
            PeerEvent::Opened { from, lane: PeerLane::Control, session, hello } => {
                let process = Process::of(hello);
                self.contacts.opened(*from, *session, process);
                self.liveness.sign(now.mono, *from, Sign::Heard(process.incarnation));
                // Answers that were on their way over the link before it are lost.
                self.lost_controller(now, *from, out);
            }
            PeerEvent::Closed { from, lane: PeerLane::Control, session } => {
                if self.contacts.closed(*from, *session) {
                    self.liveness.sign(now.mono, *from, Sign::Closed);
                }
            }
            PeerEvent::Connected { .. }
            | PeerEvent::Lost { .. }
            | PeerEvent::Opened { .. }
            | PeerEvent::Closed { .. }
            | PeerEvent::Frame { .. } => return,
        }
        self.drive(now, out);
    }

    /// Something came over this link: who sent it lives. `None`: the link is an old one, and its frames count no more.
    fn heard(&mut self, now: Now, origin: Origin) -> Option<Process> {
        let process = self.contacts.speaker(origin.from, origin.session)?;
        self.liveness.sign(now.mono, origin.from, Sign::Heard(process.incarnation));
        Some(process)
    }

    fn raft_arrived(&mut self, now: Now, origin: Origin, message: &Bytes, out: &mut ControllerOut) {
        let Some(process) = self.heard(now, origin) else { return };
        if !self.is_born() || !(self.is_known(origin.from, process) || raft_node::asks(message)) {
            return;
        }
        if let Err(error) = self.controller.step(message) {
            tracing::debug!(node = %origin.from, "a message of the metadata group was dropped: {error}");
        }
        self.drive(now, out);
    }

    fn request_arrived(
        &mut self,
        now: Now,
        origin: Origin,
        (id, relayed): (u64, bool),
        body: Bytes,
        out: &mut ControllerOut,
    ) {
        if self.heard(now, origin).is_some() && self.is_born() {
            self.peer_asks(now, origin.from, id, relayed, body, out);
            self.drive(now, out);
        }
    }

    /// Whether the image knows the node with this data directory, or does not know the node yet.
    fn is_known(&self, node: NodeId, process: Process) -> bool {
        let directory = self.image().node(node).map(|info| info.directory);
        directory.is_none_or(|known| known == process.directory) || planted::is(Bug::WipedNodeVotes)
    }

    /// A message of the group. It is lost where no link stands: Raft sends again what matters.
    pub(super) fn send_raft(&mut self, now: Now, to: NodeId, message: Bytes, out: &mut ControllerOut) {
        let may_hear = |process| self.is_known(to, process) || !raft_node::asks(&message);
        if self.contacts.listener(to).is_some_and(may_hear) {
            self.send(now, to, Frame::raft(message), out);
        }
    }

    pub(super) fn send(&mut self, now: Now, to: NodeId, frame: Frame, out: &mut ControllerOut) {
        self.contacts.spoke(now.mono, to);
        out.frames.push((to, frame));
    }

    /// Tells those that this node lives who were told nothing else.
    pub(super) fn say_alive(&mut self, now: Now, out: &mut ControllerOut) {
        for node in self.contacts.neglected(now.mono) {
            self.send(now, node, Frame::alive(), out);
        }
    }
}

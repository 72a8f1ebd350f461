//! Requests that go to another node because that one is the controller, and those that come from other nodes.
//!
//! Owns the way there and back, and what becomes of a request whose way is lost. Does not own the table of requests (`asks`).
//! Invariants: a request is sent on for another node once at most; an answer counts only from the node that was asked.

use std::time::Duration;

use bytes::Bytes;
use model::{ErrorCode, NodeId, Now};
use replication::controller::requests::ControllerRequest;
use replication::controller::requests_codec::decode_answer;

use super::asks::{Ask, Asker, PEER_TIMEOUT, Place, RETRY, UNCERTAIN, not_controller};
use super::driver::{ControllerDriver, ControllerOut};
use crate::liveness::SILENCE_MAX;
use crate::requests::Refusal;

impl ControllerDriver {
    /// A request of another node. Only the active controller decides; a start of a node that does not know who that is yet is sent on.
    pub(super) fn peer_asks(
        &mut self,
        now: Now,
        from: NodeId,
        id: u64,
        relayed: bool,
        body: Bytes,
        out: &mut ControllerOut,
    ) {
        let asker = Asker::Peer { node: from, id };
        let request = match ControllerRequest::decode(body) {
            Ok(request) => request,
            Err(error) => {
                let refusal = Refusal::new(ErrorCode::UnsupportedVersion, error.to_string());
                return self.tell(now, asker, Err(refusal), out);
            }
        };
        let may_relay = !relayed && matches!(request, ControllerRequest::Register { .. });
        let elsewhere = self.other_controller().is_some_and(|leader| leader != from);
        if self.controller.is_active() || (may_relay && elsewhere) {
            self.take_ask(now, asker, request, PEER_TIMEOUT, true, out);
        } else {
            self.tell(now, asker, Err(not_controller()), out);
        }
    }

    /// The controller, when it is another node that a frame would reach.
    pub(super) fn other_controller(&self) -> Option<NodeId> {
        self.controller.leader().filter(|leader| *leader != self.node && self.contacts.is_connected(*leader))
    }

    /// Whether somebody decides, as far as is known here: this node, or one that was heard within the time in which silence is not death.
    pub(super) fn has_controller(&self, now: Now) -> bool {
        let heard = |leader| self.liveness.heard_at(leader).is_some_and(|at| now.mono.saturating_sub(at) < SILENCE_MAX);
        self.controller.is_active()
            || self.controller.leader().is_some_and(|leader| leader != self.node && heard(leader))
    }

    /// For how long nobody has.
    pub(crate) fn without_controller(&self, now: Now) -> Option<Duration> {
        (!self.has_controller(now)).then(|| now.mono.saturating_sub(self.controlled_at))
    }

    pub(super) fn anybody(&mut self) -> Option<NodeId> {
        if self.controller.leader().is_some() {
            return None;
        }
        let all: Vec<NodeId> = self.contacts.all_connected().filter(|node| *node != self.node).collect();
        self.asks.turn = self.asks.turn.wrapping_add(1);
        all.get(self.asks.turn.checked_rem(all.len())?).copied()
    }

    /// The link to this node is gone: what was sent there may have been lost.
    pub(super) fn lost_controller(&mut self, now: Now, node: NodeId, out: &mut ControllerOut) {
        for id in self.asks.find(|ask| matches!(ask.place, Place::Sent { to } if to == node)) {
            self.lost_ask(now, id, out);
        }
    }

    /// The node that asked cannot be answered any more: what was not decided for it is not decided at all. A start of it that is over must
    /// not be registered after its next one.
    pub(super) fn forget_asker(&mut self, node: NodeId) {
        let gone = |ask: &Ask| {
            let undecided = matches!(ask.place, Place::Queued { .. } | Place::Sent { .. });
            undecided && matches!(ask.asker, Asker::Peer { node: asker, .. } if asker == node)
        };
        for id in self.asks.find(gone) {
            self.asks.all.remove(&id);
        }
    }

    /// Whatever was sent to another one than the present controller will not be answered.
    pub(super) fn controller_changed(&mut self, now: Now, out: &mut ControllerOut) {
        let leader = self.controller.leader();
        for id in self.asks.find(|ask| matches!(ask.place, Place::Sent { to } if Some(to) != leader)) {
            self.lost_ask(now, id, out);
        }
        for id in self.asks.find(|ask| matches!(ask.place, Place::Queued { .. })) {
            self.route(now, id, out);
        }
    }

    /// An answer of the node that was asked.
    pub(super) fn answer_arrived(&mut self, now: Now, from: NodeId, id: u64, body: Bytes, out: &mut ControllerOut) {
        // An answer that comes too late, or of one that is no longer asked.
        let Some(ask) = self.asks.all.get_mut(&id) else { return };
        if !matches!(ask.place, Place::Sent { to } if to == from) {
            return;
        }
        match decode_answer(body) {
            Ok((Err(refusal), _)) if refusal.code == ErrorCode::NotController => {
                ask.place = Place::Queued { not_before: now.mono.saturating_add(RETRY) };
            }
            Ok((Err(refusal), _)) if refusal.code == UNCERTAIN => self.lost_ask(now, id, out),
            Ok((decided, index)) => {
                ask.place = Place::Applying { index, decided };
                self.finish_applied(now, out);
            }
            Err(error) => {
                let refusal = Refusal::new(ErrorCode::UnknownServerError, error.to_string());
                self.finish(now, id, Err(refusal), out);
            }
        }
    }

    /// Answers what the image has reached.
    pub(super) fn finish_applied(&mut self, now: Now, out: &mut ControllerOut) {
        let applied = self.controller.raft().applied();
        for id in self.asks.find(|ask| matches!(ask.place, Place::Applying { index, .. } if index <= applied)) {
            let Some(ask) = self.asks.all.remove(&id) else { continue };
            if let Place::Applying { decided, .. } = ask.place {
                self.tell(now, ask.asker, decided, out);
            }
        }
    }
}

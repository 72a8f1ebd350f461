//! One partition that is followed: its streams, and what they send next.
//!
//! Owns when a stream begins and ends, and what it takes from the tail under the partition's lock. Does not own a stream's place in its
//! log (`outflow`), nor peers, credit and frames (`serve`).
//! Invariant: a stream lives within one generation of the links to its follower and one leader epoch of its partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{NodeId, Now, Offset};
use replication::metadata::Incarnation;
use replication::partition::follower::{Agreement, LeaderLimits, compare};
use replication::partition::isr::Position;
use replication::partition::replica::Event;
use storage::ReadPlan;

use super::outflow::{Flow, Outflow};
use super::wire::{CutWhat, FollowPart, frame};
use crate::core::Core;
use crate::effects::{Effect, Effects};
use crate::partition::handle::{Partition, State};
use crate::peer::PeerLane;
use crate::peer::proto::{self, replica_frame::Kind};

/// One part that is to be sent, its records still to be gathered.
pub(super) struct Sending {
    pub(super) node: NodeId,
    pub(super) stream: u32,
    pub(super) base: Offset,
    pub(super) limits: LeaderLimits,
    pub(super) plan: Option<ReadPlan>,
}

/// One look at what the streams of a partition send.
struct Turn {
    now: Now,
    /// Limits are told also where no records carry them.
    tell_limits: bool,
}

/// A follower's wish, held against this node's state.
pub(super) enum Wished {
    Streams,
    Cut(CutWhat),
    /// It follows somebody else by now.
    Void,
    /// This node does not know of that leadership yet.
    Early,
}

impl Partition {
    /// Another replica wants our records from its log's end on.
    pub(super) fn is_followed(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        node: NodeId,
        incarnation: Incarnation,
        part: FollowPart,
        fx: &mut Effects,
    ) -> Wished {
        let wished = self.guarded(core, fx, |state, fx| {
            let ours = state.replica.epoch();
            if part.epoch < ours {
                return Wished::Void;
            }
            // A reassignment adds replicas within one epoch: who is told of it first may be here before our image is.
            if part.epoch > ours || !state.replica.has_follower(node) {
                return Wished::Early;
            }
            // Frames may overtake one another: a later wish was heard already.
            if state.outflows.iter().any(|outflow| outflow.node == node && outflow.stream > part.stream) {
                return Wished::Void;
            }
            match compare(state.replica.bounds(), &super::LogEpochs(&state.log), part.bounds) {
                Agreement::Agrees => {}
                Agreement::Parted(end) => return Wished::Cut(CutWhat::Parted(end)),
                Agreement::BeginAt(start) => return Wished::Cut(CutWhat::BeginAt(start)),
            }
            self.end_outflow(core, state, node);
            state.outflows.push(Outflow::new(node, part.stream, part.bounds.end));
            if let Some(peer) = core.replicas.serve().peers.get_mut(&node) {
                peer.streams.insert(part.stream, Arc::clone(self));
            }
            let position = part.position;
            self.step_locked(core, now, state, Event::Joined { node, incarnation, position }, fx);
            self.mark_to_send(core, state);
            Wished::Streams
        });
        wished.unwrap_or(Wished::Void)
    }

    /// The stream to a node ends, without a word to the state machine.
    fn end_outflow(&self, core: &Core, state: &mut State, node: NodeId) {
        let mut serve = core.replicas.serve();
        state.outflows.retain(|outflow| {
            let stays = outflow.node != node;
            if !stays {
                serve.forget_stream(node, outflow.stream);
            }
            stays
        });
    }

    /// This leadership is over: nobody follows it any more.
    pub(crate) fn end_outflows(&self, core: &Core, state: &mut State) {
        if state.outflows.is_empty() {
            return;
        }
        let mut serve = core.replicas.serve();
        for outflow in state.outflows.drain(..) {
            serve.forget_stream(outflow.node, outflow.stream);
        }
    }

    /// A follower's stream has ended.
    pub(super) fn is_left(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        node: NodeId,
        stream: u32,
        offline: bool,
        fx: &mut Effects,
    ) {
        let _offline = self.guarded(core, fx, |state, fx| {
            if state.outflows.iter().any(|outflow| outflow.node == node && outflow.stream == stream) {
                self.end_outflow(core, state, node);
                self.step_locked(core, now, state, Event::Left { node, offline }, fx);
            }
        });
    }

    pub(super) fn follower_has(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        node: NodeId,
        stream: u32,
        (position, log_start): (Position, Offset),
        fx: &mut Effects,
    ) {
        let _offline = self.guarded(core, fx, |state, fx| {
            let found = state.outflows.iter_mut().find(|outflow| outflow.node == node && outflow.stream == stream);
            let Some(outflow) = found else { return };
            outflow.log_start = outflow.log_start.max(log_start);
            if outflow.reported(position) {
                self.mark_to_send(core, state);
            }
            self.step_locked(core, now, state, Event::FollowerHas { node, position }, fx);
        });
    }

    /// There are records to send, or a stream that can go on.
    pub(crate) fn mark_to_send(self: &Arc<Self>, core: &Core, state: &mut State) {
        if !state.marked && !state.outflows.is_empty() {
            state.marked = true;
            core.replicas.serve().mark(self);
        }
    }

    /// The limits have moved: followers learn that with the next records, or a little later.
    pub(crate) fn mark_lazily(self: &Arc<Self>, core: &Core, now: Now, state: &mut State, fx: &mut Effects) {
        if !state.marked_lazily && !state.outflows.is_empty() {
            state.marked_lazily = true;
            let at = core.replicas.serve().mark_lazily(self, now);
            core.timer.by(at, fx);
        }
    }

    /// It is time for limits that no records have carried along.
    pub(super) fn lazy_is_due(self: &Arc<Self>, core: &Core) {
        let mut state = self.lock();
        state.marked_lazily = false;
        state.tell_limits = true;
        self.mark_to_send(core, &mut state);
    }

    /// What the streams of this partition send next; credit is taken for it.
    pub(super) fn sendings(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        credit: &mut BTreeMap<NodeId, u64>,
        fx: &mut Effects,
    ) -> Vec<Sending> {
        let sendings = self.guarded(core, fx, |state, fx| {
            state.marked = false;
            let tell_limits = std::mem::take(&mut state.tell_limits);
            let turn = Turn { now, tell_limits };
            let mut sendings = Vec::new();
            let mut outflows = std::mem::take(&mut state.outflows);
            for outflow in &mut outflows {
                let credit = credit.entry(outflow.node).or_default();
                sendings.extend(self.sending(core, &turn, state, outflow, credit, fx));
            }
            let (stay, gone): (Vec<_>, Vec<_>) =
                outflows.into_iter().partition(|outflow| outflow.next >= state.log.log_start());
            state.outflows = stay;
            for outflow in gone {
                self.passed_by(core, now, state, &outflow, fx);
            }
            let more = |outflow: &Outflow| {
                outflow.flow == Flow::Hot && !outflow.held_back && outflow.next < state.log.log_end()
            };
            let has_credit = |outflow: &Outflow| credit.get(&outflow.node).is_some_and(|left| *left > 0);
            if state.outflows.iter().any(|outflow| more(outflow) && has_credit(outflow)) {
                self.mark_to_send(core, state);
            }
            sendings
        });
        sendings.unwrap_or_default()
    }

    fn sending(
        self: &Arc<Self>,
        core: &Core,
        turn: &Turn,
        state: &State,
        outflow: &mut Outflow,
        credit: &mut u64,
        fx: &mut Effects,
    ) -> Option<Sending> {
        if outflow.flow != Flow::Hot || outflow.next < state.log.log_start() {
            return None;
        }
        let now_published = state.replica.limits();
        let limits = LeaderLimits { high_watermark: now_published.high_watermark, log_start: now_published.log_start };
        let (base, log_end) = (outflow.next, state.log.log_end());
        let mut plan = None;
        if base < log_end {
            if state.log.tail_start().is_none_or(|start| start > base) {
                if outflow.grow_cold()
                    && let Some(peer) = core.replicas.serve().peers.get_mut(&outflow.node)
                {
                    peer.cold.push_back((outflow.stream, Arc::clone(self)));
                }
                return None;
            }
            if *credit == 0 {
                if let Some(peer) = core.replicas.serve().peers.get_mut(&outflow.node) {
                    peer.blocked.push_back(Arc::clone(self));
                }
            } else if let Some(bytes_max) = self.paced(core, turn.now, outflow, fx) {
                plan = state.log.plan_read(base, log_end, bytes_max).ok();
            }
        }
        if let Some(plan) = &plan {
            outflow.next = plan.memory_end().expect("the tail holds what is next");
            *credit = credit.saturating_sub(plan.memory_bytes());
            core.replicas.throttling.take(self.id, outflow.node, plan.memory_bytes());
        } else if outflow.told.is_some() && (!turn.tell_limits || outflow.told == Some(limits)) {
            return None;
        }
        outflow.told = Some(limits);
        Some(Sending { node: outflow.node, stream: outflow.stream, base, limits, plan })
    }

    /// The log's start has passed what a follower has: it is told where to begin again.
    fn passed_by(self: &Arc<Self>, core: &Core, now: Now, state: &mut State, outflow: &Outflow, fx: &mut Effects) {
        let Outflow { node, stream, .. } = *outflow;
        core.replicas.serve().forget_stream(node, stream);
        let what = CutWhat::BeginAt(state.log.log_start());
        let frame = frame(Kind::Cut(proto::Cut { parts: vec![what.to_proto(stream)] }), Vec::new());
        fx.push(Effect::Send { to: node, lane: PeerLane::InSync, frame });
        self.step_locked(core, now, state, Event::Left { node, offline: false }, fx);
    }
}

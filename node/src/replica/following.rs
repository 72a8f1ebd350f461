//! One partition that follows: which stream it wishes for, what it takes of it, and what it says of its own disk.
//!
//! Owns the state of its stream, under the partition's lock. Does not own what is taken of a frame: the replica checks that, nor cuts of
//! a log (`cut`), nor order, credit and frames (`pull`).

use std::sync::Arc;

use model::batch::{StoredBatch, split_stored};
use model::{LeaderEpoch, NodeId, Now, Offset};
use replication::partition::follower::LeaderLimits;
use replication::partition::isr::Position;
use replication::partition::replica::Event;

use super::RETRY;
use super::pull::Parting;
use super::wire::{FollowPart, LaneBytes, PerLane, RecordLane, RecordsPart};
use crate::core::Core;
use crate::effects::Effects;
use crate::partition::handle::{Partition, PublishedRole, State};

/// Which stream brings a partition its records. Under the partition's lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pull {
    pub(crate) leader: NodeId,
    /// `None`: wished for, or the log is being cut.
    pub(crate) stream: Option<u32>,
    generation: u64,
    /// Something of this stream has arrived: the leader knows it.
    begun: bool,
    /// A cut that waits for the disk.
    pub(super) cutting: bool,
    /// Bytes that were taken and not granted anew, per lane.
    in_sync_bytes: u64,
    catch_up_bytes: u64,
}

impl Pull {
    fn of(leader: NodeId) -> Pull {
        Pull { leader, stream: None, generation: 0, begun: false, cutting: false, in_sync_bytes: 0, catch_up_bytes: 0 }
    }

    fn took(&mut self, lane: RecordLane, bytes: u64) {
        match lane {
            RecordLane::InSync => self.in_sync_bytes += bytes,
            RecordLane::CatchUp => self.catch_up_bytes += bytes,
        }
    }

    fn take_bytes(&mut self) -> LaneBytes {
        PerLane::new(std::mem::take(&mut self.in_sync_bytes), std::mem::take(&mut self.catch_up_bytes))
    }
}

impl Partition {
    /// Another node leads, or none does.
    pub(crate) fn follow(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        epoch: LeaderEpoch,
        leader: Option<NodeId>,
        fx: &mut Effects,
    ) {
        let _offline = self.guarded(core, fx, |state, fx| {
            let known = state.pull.as_ref().map(|pull| pull.leader);
            if self.published.role() == PublishedRole::Following && known == leader && state.replica.epoch() == epoch {
                return;
            }
            self.step_locked(core, now, state, Event::Follow { epoch, leader }, fx);
            // Behind the step: who led until now is told the epoch in which it leads no more.
            self.stop_pulling(core, state, false);
            self.end_outflows(core, state);
            if state.replica.failure().is_none() {
                self.published.set_epoch(epoch);
                self.published.set_role(PublishedRole::Following, leader);
                state.pull = leader.map(Pull::of);
                if let Some(leader) = leader {
                    core.replicas.pulls().want(leader, self);
                }
            }
            state.registrations.moved(fx);
        });
    }

    /// Nothing more is taken from the leader. `offline`: it is told that our log cannot be used.
    pub(crate) fn stop_pulling(&self, core: &Core, state: &mut State, offline: bool) {
        let Some(mut pull) = state.pull.take() else { return };
        let mut pulls = core.replicas.pulls();
        pulls.leader(pull.leader).frees(pull.generation, &pull.take_bytes());
        let leader = if state.replica.leads() { Some(core.config.id) } else { state.replica.other_leader() };
        let elsewhere = (leader != Some(pull.leader)).then(|| (state.replica.epoch(), leader));
        pulls.want_no_more(pull.leader, self.id, pull.stream, Parting { offline, elsewhere });
    }

    /// The leader is asked for a stream from our log's end on.
    pub(super) fn wish(
        self: &Arc<Self>,
        core: &Core,
        leader: NodeId,
        generation: u64,
        fx: &mut Effects,
    ) -> Option<FollowPart> {
        let wish = self.guarded(core, fx, |state, _| {
            let (bounds, position, epoch) = (state.replica.bounds(), state.replica.position(), state.replica.epoch());
            let follows = state.replica.other_leader() == Some(leader);
            let pull = state.pull.as_mut().filter(|pull| follows && pull.leader == leader && !pull.cutting)?;
            let mut pulls = core.replicas.pulls();
            pulls.leader(leader).frees(pull.generation, &pull.take_bytes());
            if let Some(before) = pull.stream.take() {
                pulls.streams.remove(&before);
            }
            pulls.last_stream += 1;
            let stream = pulls.last_stream;
            pulls.streams.insert(stream, Arc::clone(self));
            (pull.stream, pull.generation, pull.begun) = (Some(stream), generation, false);
            Some(FollowPart { stream, partition: self.id, epoch, bounds, position })
        });
        wish.ok().flatten()
    }

    /// The stream ended, and is wished for again: at once, or after a while where something is wrong.
    pub(super) fn wish_again(self: &Arc<Self>, core: &Core, now: Now, state: &mut State, soon: bool, fx: &mut Effects) {
        let Some(pull) = state.pull.as_mut() else { return };
        let mut pulls = core.replicas.pulls();
        if let Some(stream) = pull.stream.take() {
            pulls.streams.remove(&stream);
            pulls.leader(pull.leader).positions.remove(&stream);
        }
        if soon {
            pulls.want(pull.leader, self);
        } else {
            drop(pulls);
            core.replicas.retry_follow(now, self);
            core.timer.by(now.mono.saturating_add(RETRY), fx);
        }
    }

    /// It may be asked for again that went wrong a while ago.
    pub(super) fn wish_now(self: &Arc<Self>, core: &Core) {
        let state = self.lock();
        if let Some(pull) = state.pull.as_ref().filter(|pull| pull.stream.is_none() && !pull.cutting) {
            core.replicas.pulls().want(pull.leader, self);
        }
    }

    /// Takes records. Returns false when they are not of the stream that is followed.
    pub(super) fn receive(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        node: NodeId,
        lane: RecordLane,
        part: RecordsPart,
        fx: &mut Effects,
    ) -> bool {
        let RecordsPart { stream, from, limits, records } = part;
        let bytes = u64::try_from(records.len()).unwrap_or(u64::MAX);
        // Checked without the lock.
        let batches: Result<Vec<StoredBatch>, _> = split_stored(records).collect();
        let taken = self.guarded(core, fx, |state, fx| {
            // A stop's last checkpoint has begun: what came behind it could be reported, and be gone at the next start.
            if state.closed {
                return false;
            }
            let ours = |pull: &&mut Pull| pull.leader == node && pull.stream == Some(stream);
            let Some(pull) = state.pull.as_mut().filter(ours) else { return false };
            pull.took(lane, bytes);
            if !std::mem::replace(&mut pull.begun, true) {
                // A report may have overtaken the wish, and then nobody knew its stream.
                let position = state.replica.position();
                self.report(core, state, position);
            }
            match batches {
                Ok(batches) => self.receive_locked(core, now, state, (from, batches), limits, fx),
                Err(error) => {
                    tracing::error!(partition = %self.id, leader = %node, %error, "records of the leader's are damaged");
                    self.wish_again(core, now, state, false, fx);
                }
            }
            true
        });
        taken.unwrap_or(false)
    }

    fn receive_locked(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        state: &mut State,
        (from, batches): (Offset, Vec<StoredBatch>),
        limits: LeaderLimits,
        fx: &mut Effects,
    ) {
        let mut actions = std::mem::take(&mut state.actions);
        let received = state.replica.receive(now, from, batches, limits, &mut actions);
        self.carry_out_all(core, now, state, actions, fx);
        if let Err(error) = received {
            tracing::warn!(partition = %self.id, %error, "the leader's records do not continue the log: it is asked anew");
            self.wish_again(core, now, state, false, fx);
        }
    }

    /// The leader learns how far we are, with the next frame of positions.
    pub(crate) fn report(&self, core: &Core, state: &mut State, position: Position) {
        let Some(pull) = state.pull.as_mut() else { return };
        let Some(stream) = pull.stream else { return };
        let bytes = pull.take_bytes();
        state.reported_start = state.log.durable_start();
        let position = (position, state.reported_start);
        core.replicas.pulls().report(pull.leader, stream, pull.generation, position, &bytes);
    }

    /// The leader learns when our log's start has moved for good, also where nothing else has.
    pub(crate) fn report_start(&self, core: &Core, state: &mut State) {
        if state.pull.is_some() && state.log.durable_start() > state.reported_start {
            let position = state.replica.position();
            self.report(core, state, position);
        }
    }
}

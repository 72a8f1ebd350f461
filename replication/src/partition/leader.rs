//! A replica that leads: gives offsets, refuses duplicates, decides when an append is acknowledged and who is in sync.
//!
//! Owns who waits for what, and what is asked of the controller. Does not own the positions' arithmetic (`isr`) nor their pace (`pace`).
//! Invariant: an acks=all answer leaves only when its batch lies below the high watermark, a duplicate's no earlier than the original's.
//! Invariant: a replica is proposed for the ISR only when it has everything that may have been acknowledged by any leader so far, and
//! the high watermark does not pass it from then on.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use model::batch::{Batch, TimestampType};
use model::limits::OFFSET_MAX;
use model::{NodeId, Now, Offset};

use super::isr::Position;
use super::pace::{OWN_DELAY_MAX, Verdict};
use super::producers::{Checked, SequenceError, Sequenced};
use super::replica::{Action, IsrWish, Leadership, Origin, Replica, Role};
use super::{Acks, AppendError, Appended};
use crate::metadata::Incarnation;

/// How long the controller may take before it is asked again, and how long after a refusal.
const ASK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Waiting<W> {
    pub(super) base_offset: Offset,
    pub(super) end: Offset,
    log_append_time_ms: Option<i64>,
    since: Duration,
    deadline: Duration,
    waiter: W,
}

impl<W> Replica<W> {
    pub(super) fn on_lead(&mut self, now: Now, leadership: Leadership, actions: &mut Vec<Action<W>>) {
        if matches!(self.role, Role::Failed { .. }) {
            return;
        }
        let Leadership { epoch, partition_epoch, replicas, isr } = leadership;
        let leads_already = self.leads() && self.epoch == epoch;
        assert!(epoch >= self.epoch, "the image goes back from epoch {} to {epoch}", self.epoch);
        let known = matches!(self.role, Role::Leading { partition_epoch: known, .. } if known == partition_epoch);
        if leads_already && known {
            // Nothing was decided about it: a change that is under way still counts.
            return;
        }
        self.isr.keep_only(&replicas);
        self.pace.keep_only(&replicas);
        self.role = Role::Leading { replicas, partition_epoch };
        self.epoch = epoch;
        if leads_already {
            self.ask_at = now.mono;
            for node in isr.difference(self.isr.committed()) {
                self.pace.is_in_sync(*node);
            }
        } else {
            // What others had under another leader, or under ours before, says nothing now: their logs may have to be cut first.
            self.isr.forget_others(self.node);
            self.pace = super::pace::Pace::default();
            self.epoch_start = self.log_end;
            self.ask_at = now.mono;
            self.hand_over_at = None;
        }
        self.isr.commit(isr);
        if !leads_already {
            actions.push(Action::StartEpoch { epoch, start: self.log_end });
        }
        self.advance_high_watermark(actions);
    }

    /// Of a leader that leads no more.
    pub(super) fn refuse_waiting(&mut self, error: &AppendError, actions: &mut Vec<Action<W>>) {
        for waiting in self.waiting_leader.drain(..).chain(self.waiting_all.drain(..)) {
            actions.push(Action::Reply { waiter: waiting.waiter, result: Err(error.clone()) });
        }
        self.deadline_min = None;
    }

    #[allow(clippy::too_many_arguments, reason = "one event taken apart")]
    pub(super) fn on_produced(
        &mut self,
        now: Now,
        batch: Batch,
        acks: Acks,
        deadline: Duration,
        origin: Origin,
        waiter: W,
        actions: &mut Vec<Action<W>>,
    ) {
        let checked = match self.check_append(&batch, acks, origin) {
            Ok(checked) => checked,
            Err(error) => return actions.push(Action::Reply { waiter, result: Err(error) }),
        };
        let stamps = self.settings.timestamp_type == TimestampType::LogAppendTime;
        let (base_offset, end, log_append_time_ms) = match checked {
            Checked::Duplicate { base_offset, next_offset, timestamp_ms } => {
                (base_offset, next_offset, stamps.then_some(timestamp_ms))
            }
            Checked::New => {
                let base_offset = self.log_end;
                let batch = if stamps {
                    batch.place_at_append_time(base_offset, self.epoch, now.wall_ms)
                } else {
                    batch.place(base_offset, self.epoch)
                };
                self.log_end = batch.next_offset();
                self.latest_epoch = Some(self.epoch);
                if let Some(sequenced) = Sequenced::of(batch.header()) {
                    self.producers.appended(sequenced, base_offset, batch.max_timestamp(), now.wall_ms);
                }
                if self.has_others() {
                    self.pace.appended(now.mono, self.log_end);
                }
                actions.push(Action::Append { batch });
                (base_offset, self.log_end, stamps.then_some(now.wall_ms))
            }
        };
        let waiting = Waiting { base_offset, end, log_append_time_ms, since: now.mono, deadline, waiter };
        self.wait_or_reply(waiting, acks, actions);
    }

    fn has_others(&self) -> bool {
        matches!(&self.role, Role::Leading { replicas, .. } if replicas.len() > 1)
    }

    fn check_append(&self, batch: &Batch, acks: Acks, origin: Origin) -> Result<Checked, AppendError> {
        let replicas = match &self.role {
            Role::Leading { replicas, .. } => replicas.len(),
            Role::Unassigned => return Err(AppendError::NotLeader { leader: None, epoch: self.epoch }),
            Role::Following { leader } => return Err(AppendError::NotLeader { leader: *leader, epoch: self.epoch }),
            Role::Failed { reason } => return Err(AppendError::Disk { reason: reason.clone() }),
        };
        if batch.header().attributes.is_transactional() {
            return Err(AppendError::TransactionsNotServed);
        }
        let bytes = u64::try_from(batch.size()).expect("a size in memory fits in 64 bits");
        if origin == Origin::Client && bytes > self.settings.batch_bytes_max {
            return Err(AppendError::TooLarge { bytes, allowed: self.settings.batch_bytes_max });
        }
        let needed = self.settings.min_in_sync.min(replicas);
        let in_sync = self.isr.certain();
        if acks == Acks::All && in_sync < needed {
            return Err(AppendError::NotEnoughReplicas { in_sync, needed });
        }
        if acks != Acks::None && self.waiting() >= self.settings.waiters_max {
            return Err(AppendError::TooManyWaiting { limit: self.settings.waiters_max });
        }
        if self.log_end.get().saturating_add(i64::from(batch.header().last_offset_delta)) > OFFSET_MAX {
            return Err(AppendError::OffsetsUsedUp);
        }
        let Some(sequenced) = Sequenced::of(batch.header()) else { return Ok(Checked::New) };
        self.producers.check(sequenced).map_err(|error| match error {
            SequenceError::OutOfOrder { producer, expected, got } => {
                AppendError::OutOfOrder { producer, expected, got }
            }
            SequenceError::StaleEpoch { producer, current, got } => AppendError::StaleEpoch { producer, current, got },
        })
    }

    fn wait_or_reply(&mut self, waiting: Waiting<W>, acks: Acks, actions: &mut Vec<Action<W>>) {
        let reached = match acks {
            Acks::None => true,
            Acks::Leader => waiting.end <= self.local_end(),
            Acks::All => waiting.end <= self.high_watermark,
        };
        if reached {
            return actions.push(reply(waiting, self.log_start));
        }
        self.deadline_min = Some(self.deadline_min.map_or(waiting.deadline, |min| min.min(waiting.deadline)));
        let queue = if acks == Acks::All { &mut self.waiting_all } else { &mut self.waiting_leader };
        // Only a duplicate's original lies before what waits already.
        let at = match queue.back() {
            Some(last) if last.end > waiting.end => queue.partition_point(|other| other.end <= waiting.end),
            _ => queue.len(),
        };
        queue.insert(at, waiting);
    }

    pub(super) fn on_joined(
        &mut self,
        now: Now,
        node: NodeId,
        incarnation: Incarnation,
        position: Position,
        actions: &mut Vec<Action<W>>,
    ) {
        let Role::Leading { replicas, .. } = &self.role else { return };
        if !replicas.contains(&node) || node == self.node {
            return;
        }
        // Its process may have started anew, with less on its disk than it had in its page cache.
        self.isr.restart(node, self.within_log(position));
        self.pace.follows(node, incarnation);
        self.advance_high_watermark(actions);
        self.review(now, node, actions);
    }

    pub(super) fn on_follower_has(&mut self, now: Now, node: NodeId, position: Position, actions: &mut Vec<Action<W>>) {
        if !self.leads() || self.pace.incarnation(node).is_none() {
            return;
        }
        let position = self.within_log(position);
        self.on_replica_has(now, node, position, actions);
        self.review(now, node, actions);
    }

    /// A follower's word is bytes from a socket: it cannot have what we have not.
    fn within_log(&self, position: Position) -> Position {
        Position { written: position.written.min(self.log_end), synced: position.synced.min(self.log_end) }
    }

    pub(super) fn on_left(&mut self, now: Now, node: NodeId, offline: bool, actions: &mut Vec<Action<W>>) {
        if !self.leads() {
            return;
        }
        self.pace.left(node);
        if self.isr.joining() == Some(node) {
            self.isr.join(None);
            self.advance_high_watermark(actions);
        }
        if offline && self.isr.committed().contains(&node) {
            self.propose_without(now, node, actions);
        }
    }

    pub(super) fn on_replica_has(&mut self, now: Now, node: NodeId, position: Position, actions: &mut Vec<Action<W>>) {
        let before = self.isr.counted(node, self.settings.durability);
        self.isr.advance(node, position);
        if self.has_others() && self.isr.counted(node, self.settings.durability) > before {
            self.pace.advanced(now.mono, node, before);
            self.pace.forget_below(self.least_position());
        }
        if node == self.node {
            let local_end = self.local_end();
            pop_reached(&mut self.waiting_leader, local_end, self.log_start, actions);
        }
        self.advance_high_watermark(actions);
    }

    /// Below this nobody who is measured lacks anything.
    fn least_position(&self) -> Offset {
        let Role::Leading { replicas, .. } = &self.role else { return self.log_end };
        let measured = replicas.iter().filter(|node| {
            self.isr.committed().contains(node) || self.pace.incarnation(**node).is_some() || **node == self.node
        });
        let positions = measured.map(|node| self.isr.counted(*node, self.settings.durability));
        positions.min().unwrap_or(self.log_end)
    }

    pub(super) fn advance_high_watermark(&mut self, actions: &mut Vec<Action<W>>) {
        let Role::Leading { replicas, .. } = &self.role else { return };
        let needed = self.settings.min_in_sync.min(replicas.len());
        let Some(reached) = self.isr.high_watermark(self.settings.durability, needed) else { return };
        if reached > self.high_watermark {
            self.high_watermark = reached;
            // Published first: who reads its own acknowledged write must find it.
            self.publish(actions);
            pop_reached(&mut self.waiting_all, reached, self.log_start, actions);
        }
    }

    pub(super) fn time_out(&mut self, now: Now, actions: &mut Vec<Action<W>>) {
        if self.deadline_min.is_none_or(|min| now.mono < min) {
            return;
        }
        for queue in [&mut self.waiting_leader, &mut self.waiting_all] {
            let mut at = 0;
            while let Some(waiting) = queue.get(at) {
                if now.mono < waiting.deadline {
                    at += 1;
                    continue;
                }
                let waited_ms = u64::try_from(now.mono.saturating_sub(waiting.since).as_millis()).unwrap_or(u64::MAX);
                let waiting = queue.remove(at).expect("it was looked at just now");
                actions
                    .push(Action::Reply { waiter: waiting.waiter, result: Err(AppendError::TimedOut { waited_ms }) });
            }
        }
        let both = self.waiting_leader.iter().chain(&self.waiting_all);
        self.deadline_min = both.map(|waiting| waiting.deadline).min();
    }

    /// Whether ticks must come because a replica is measured.
    pub fn is_measuring(&self) -> bool {
        if !self.has_others() {
            return false;
        }
        let behind = self.least_position() < self.log_end;
        behind || self.isr.proposed().is_some() || self.isr.joining().is_some() || self.has_candidate()
    }

    /// A replica follows that is not in sync.
    fn has_candidate(&self) -> bool {
        let Role::Leading { replicas, .. } = &self.role else { return false };
        replicas.iter().any(|node| !self.isr.committed().contains(node) && self.pace.incarnation(*node).is_some())
    }

    pub(super) fn review_all(&mut self, now: Now, actions: &mut Vec<Action<W>>) {
        if !self.has_others() {
            return;
        }
        let Role::Leading { replicas, .. } = &self.role else { return };
        for node in replicas.clone() {
            if node != self.node {
                self.review(now, node, actions);
            }
        }
        self.review_own(now, actions);
        if self.isr.proposed().is_some() && now.mono >= self.ask_at {
            self.ask(now, actions);
        }
    }

    fn review(&mut self, now: Now, node: NodeId, actions: &mut Vec<Action<W>>) {
        let position = self.isr.counted(node, self.settings.durability);
        let threshold = self.pace.threshold(self.isr.committed().iter());
        let verdict = self.pace.judge(now.mono, node, position, threshold);
        let committed = self.isr.committed().contains(&node);
        if self.isr.proposed().is_some() || now.mono < self.ask_at {
            return;
        }
        match verdict {
            Verdict::Leaves if committed => {
                tracing::warn!(%node, %position, log_end = %self.log_end, "a replica was slow for too long: it leaves the ISR");
                self.pace.does_penance(node);
                self.propose_without(now, node, actions);
            }
            // It may have been fit a moment ago: the high watermark does not wait any longer.
            Verdict::Leaves | Verdict::Stays if self.isr.joining() == Some(node) => {
                self.isr.join(None);
                self.advance_high_watermark(actions);
            }
            Verdict::Leaves | Verdict::Stays => {}
            Verdict::Fit if committed => {}
            Verdict::Fit => self.take_in(now, node, position, actions),
        }
    }

    /// A replica that keeps up comes into the ISR, as soon as it has all that may have been acknowledged.
    fn take_in(&mut self, now: Now, node: NodeId, position: Offset, actions: &mut Vec<Action<W>>) {
        if position < self.epoch_start {
            return;
        }
        if position < self.high_watermark {
            // One at a time: the high watermark stands until it has come.
            if self.isr.joining().is_none() {
                self.isr.join(Some(node));
            }
            return;
        }
        let mut wanted = self.isr.committed().clone();
        wanted.insert(node);
        self.propose(now, wanted, actions);
    }

    fn propose_without(&mut self, now: Now, node: NodeId, actions: &mut Vec<Action<W>>) {
        let mut wanted = self.isr.committed().clone();
        wanted.remove(&node);
        if self.isr.proposed().is_none() {
            self.propose(now, wanted, actions);
        }
    }

    fn propose(&mut self, now: Now, wanted: BTreeSet<NodeId>, actions: &mut Vec<Action<W>>) {
        assert!(wanted.contains(&self.node));
        self.isr.propose(wanted);
        self.ask(now, actions);
    }

    fn ask(&mut self, now: Now, actions: &mut Vec<Action<W>>) {
        let (Role::Leading { partition_epoch, .. }, Some(wanted)) = (&self.role, self.isr.proposed()) else { return };
        let isr = wanted.iter().map(|node| (*node, self.pace.incarnation(*node))).collect();
        actions.push(Action::AlterIsr(IsrWish { epoch: self.epoch, partition_epoch: *partition_epoch, isr }));
        self.ask_at = now.mono.saturating_add(ASK_AGAIN);
    }

    pub(super) fn on_isr_refused(&mut self, now: Now, refused: u32, actions: &mut Vec<Action<W>>) {
        let Role::Leading { partition_epoch, .. } = &self.role else { return };
        if *partition_epoch != refused || self.isr.proposed().is_none() {
            return;
        }
        self.isr.withdraw();
        self.ask_at = now.mono.saturating_add(ASK_AGAIN);
        self.advance_high_watermark(actions);
    }

    /// A leader whose own disk does not answer holds all appends up: somebody else is to lead.
    fn review_own(&mut self, now: Now, actions: &mut Vec<Action<W>>) {
        let own = self.isr.counted(self.node, self.settings.durability);
        let hangs = self.pace.age_behind(now.mono, own) >= OWN_DELAY_MAX;
        let rested = self.hand_over_at.is_none_or(|at| now.mono >= at.saturating_add(ASK_AGAIN));
        let ahead = |node: &NodeId| self.isr.counted(*node, self.settings.durability) > own;
        if hangs && rested && self.isr.committed().iter().any(ahead) {
            self.hand_over_at = Some(now.mono);
            actions.push(Action::HandOver);
        }
    }
}

fn reply<W>(waiting: Waiting<W>, log_start: Offset) -> Action<W> {
    let Waiting { base_offset, log_append_time_ms, waiter, .. } = waiting;
    Action::Reply { waiter, result: Ok(Appended { base_offset, log_append_time_ms, log_start }) }
}

fn pop_reached<W>(queue: &mut VecDeque<Waiting<W>>, reached: Offset, log_start: Offset, actions: &mut Vec<Action<W>>) {
    while queue.front().is_some_and(|waiting| waiting.end <= reached) {
        let waiting = queue.pop_front().expect("it was looked at just now");
        actions.push(reply(waiting, log_start));
    }
}

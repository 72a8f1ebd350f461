//! A replica that follows: takes its leader's batches as they are and cuts what the leader does not have.
//!
//! Owns the checks of what a leader sends, the leader's comparison of a follower's log with its own, and the choice where to cut
//! (KIP-101, KIP-279): by epoch and offset alone, never by a high watermark. Does not own the streams that bring the batches. Does not
//! own the log: the driver appends and cuts.
//! Invariant: what is appended continues the log without a gap, holes aside that compaction has left in the leader's, in epochs that
//! never go back.
//! Invariant: nothing below the high watermark is ever cut, unless the image says that an unclean election lost it.

use model::batch::StoredBatch;
use model::planted::{self, Bug};
use model::{LeaderEpoch, NodeId, Now, Offset};

use super::AppendError;
use super::isr::Position;
use super::producers::{Producers, Sequenced};
use super::replica::{Action, Replica, Role};

/// Why what a leader sent is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FollowError {
    #[error("this replica does not follow")]
    NotFollowing,
    #[error("batches begin at {got}, the log ends at {log_end}")]
    Gap { got: Offset, log_end: Offset },
    #[error("batch has epoch {got:?} behind one of epoch {latest:?}")]
    EpochWentBack { got: Option<LeaderEpoch>, latest: Option<LeaderEpoch> },
    #[error("batch has epoch {got}, the leader that sent it has {leader}")]
    EpochOfNobody { got: LeaderEpoch, leader: LeaderEpoch },
    #[error("cutting to {to} would take what lies below the high watermark {high_watermark}")]
    CutsCommitted { to: Offset, high_watermark: Offset },
}

/// The leader's offsets, as they came with its records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaderLimits {
    pub high_watermark: Offset,
    pub log_start: Offset,
}

/// A log's epochs.
pub trait EpochView {
    /// Of the last batch.
    fn latest(&self) -> Option<LeaderEpoch>;
    /// The largest epoch at or below `epoch` and the offset behind its last record. `None`: all epochs here are larger.
    fn end_offset_for(&self, epoch: LeaderEpoch) -> Option<EpochEnd>;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochEnd {
    pub epoch: LeaderEpoch,
    pub end: Offset,
}

/// Where a log begins and ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogBounds {
    pub start: Offset,
    pub end: Offset,
    /// Of its last batch.
    pub latest: Option<LeaderEpoch>,
}

/// What a leader finds when it holds a follower's log against its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Agreement {
    /// The follower's log is a beginning of ours.
    Agrees,
    /// It is not: this is our newest epoch at or below the follower's latest.
    Parted(EpochEnd),
    /// Nothing of it is of use.
    BeginAt(Offset),
}

/// Holds a follower's log against ours. Two logs that have a record of the same epoch at the same offset are the same up to there.
pub fn compare(ours: LogBounds, epochs: &dyn EpochView, theirs: LogBounds) -> Agreement {
    let within = ours.start <= theirs.end && theirs.end <= ours.end;
    let Some(latest) = theirs.latest else {
        return if within { Agreement::Agrees } else { Agreement::BeginAt(ours.start) };
    };
    if theirs.end < ours.start {
        return Agreement::BeginAt(ours.start);
    }
    let asked = ours.latest.map_or(latest, |newest| newest.min(latest));
    match epochs.end_offset_for(asked) {
        Some(found) if found.epoch == latest && theirs.end <= found.end => Agreement::Agrees,
        Some(_) if planted::is(Bug::TruncateWithoutEpochs) && within => Agreement::Agrees,
        Some(found) => Agreement::Parted(found),
        // All that they have is older than all that we have; it ends where ours begins at best.
        None if within && theirs.end == ours.start => Agreement::Agrees,
        None => Agreement::BeginAt(ours.start),
    }
}

/// Where a follower cuts its own log, by its leader's answer. Afterwards it follows again: the logs may part earlier still.
pub fn choose_cut(ours: LogBounds, epochs: &dyn EpochView, answer: EpochEnd) -> Offset {
    match epochs.end_offset_for(answer.epoch) {
        Some(found) if found.epoch == answer.epoch => found.end.min(answer.end).min(ours.end),
        // We have no record of that epoch: what we have of later ones is not the leader's (KIP-279).
        Some(found) => found.end.min(ours.end),
        None => ours.start,
    }
}

impl<W> Replica<W> {
    pub(super) fn on_follow(&mut self, epoch: LeaderEpoch, leader: Option<NodeId>, actions: &mut Vec<Action<W>>) {
        if matches!(self.role, Role::Failed { .. }) {
            return;
        }
        assert!(leader != Some(self.node));
        self.role = Role::Following { leader };
        self.epoch = self.epoch.max(epoch);
        self.isr.forget_others(self.node);
        self.refuse_waiting(&AppendError::NotLeader { leader, epoch }, actions);
    }

    /// The log as it is held against the leader's.
    pub fn bounds(&self) -> LogBounds {
        LogBounds { start: self.log_start, end: self.log_end, latest: self.latest_epoch }
    }

    /// Takes the leader's next batches, and what it says of its offsets. `from`: it has sent all that it has from there on.
    ///
    /// # Errors
    /// When a batch does not continue the log. Those before it were taken.
    pub fn receive(
        &mut self,
        now: Now,
        from: Offset,
        batches: Vec<StoredBatch>,
        limits: LeaderLimits,
        actions: &mut Vec<Action<W>>,
    ) -> Result<(), FollowError> {
        if !matches!(self.role, Role::Following { leader: Some(_) }) {
            return Err(FollowError::NotFollowing);
        }
        if from != self.log_end && !batches.is_empty() {
            return Err(FollowError::Gap { got: from, log_end: self.log_end });
        }
        for batch in batches {
            self.check_received(&batch)?;
            self.latest_epoch = batch.leader_epoch();
            self.log_end = batch.next_offset();
            if let Some(sequenced) = Sequenced::of(batch.header())
                && !planted::is(Bug::ProducersNotCarriedOver)
            {
                self.producers.appended(sequenced, batch.base_offset(), batch.max_timestamp(), now.wall_ms);
            }
            actions.push(Action::Append { batch });
        }
        self.high_watermark = self.high_watermark.max(limits.high_watermark.min(self.log_end));
        let start = limits.log_start.min(self.high_watermark);
        if start > self.log_start {
            self.log_start = start;
            actions.push(Action::DeleteBefore { start });
        }
        self.publish(actions);
        self.check_invariants();
        Ok(())
    }

    fn check_received(&self, batch: &StoredBatch) -> Result<(), FollowError> {
        if batch.base_offset() < self.log_end {
            return Err(FollowError::Gap { got: batch.base_offset(), log_end: self.log_end });
        }
        let epoch = match batch.leader_epoch() {
            Some(epoch) if Some(epoch) >= self.latest_epoch => epoch,
            got => return Err(FollowError::EpochWentBack { got, latest: self.latest_epoch }),
        };
        if epoch > self.epoch {
            return Err(FollowError::EpochOfNobody { got: epoch, leader: self.epoch });
        }
        Ok(())
    }

    /// Whether the log may be cut there.
    ///
    /// # Errors
    /// When that would take what is committed and `unclean` does not say that this was lost.
    pub fn may_cut(&self, to: Offset, unclean: bool) -> Result<(), FollowError> {
        if !matches!(self.role, Role::Following { .. }) {
            return Err(FollowError::NotFollowing);
        }
        if to < self.high_watermark && !unclean {
            return Err(FollowError::CutsCommitted { to, high_watermark: self.high_watermark });
        }
        Ok(())
    }

    /// The log was cut: it ends at `to`, with a batch of epoch `latest`. `producers`: as they were there, where cutting them back
    /// would not tell.
    ///
    /// # Panics
    /// When `to` lies outside of the log, or the replica does not follow.
    pub fn cut(
        &mut self,
        to: Offset,
        latest: Option<LeaderEpoch>,
        producers: Option<Producers>,
        actions: &mut Vec<Action<W>>,
    ) {
        assert!(matches!(self.role, Role::Following { .. }));
        assert!(to >= self.log_start);
        assert!(to <= self.log_end);
        match producers {
            Some(rebuilt) => self.producers = rebuilt,
            None if planted::is(Bug::ProducersNewerThanLog) => {}
            None => self.producers.cut(to),
        }
        self.log_end = to;
        self.latest_epoch = latest;
        self.end_moved_back(actions);
    }

    /// All was dropped: the log begins again at `start`.
    ///
    /// # Panics
    /// When the replica does not follow.
    pub fn begin_at(&mut self, start: Offset, actions: &mut Vec<Action<W>>) {
        assert!(matches!(self.role, Role::Following { .. }));
        self.producers.clear();
        self.log_start = start;
        self.log_end = start;
        self.latest_epoch = None;
        self.end_moved_back(actions);
    }

    fn end_moved_back(&mut self, actions: &mut Vec<Action<W>>) {
        let end = self.log_end;
        let own = self.isr.position(self.node);
        self.isr.restart(self.node, Position { written: own.written.min(end), synced: own.synced.min(end) });
        self.high_watermark = self.high_watermark.clamp(self.log_start, end);
        self.publish(actions);
        self.check_invariants();
    }
}

#[cfg(test)]
#[path = "follower_tests.rs"]
mod tests;

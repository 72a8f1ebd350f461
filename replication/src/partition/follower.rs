//! The follower of one partition: takes its leader's batches as they are and cuts what the leader does not have.
//!
//! Owns the checks of what a leader sends and the choice where to cut (KIP-101, KIP-279). Does not own fetching: the streams
//! between nodes bring the batches. Does not own the log: the driver appends and cuts.
//! Invariant: what is appended continues the log without a gap, in epochs that never go back.
//! Invariant: nothing below the high watermark is ever cut.

use model::batch::StoredBatch;
use model::{LeaderEpoch, Offset};

/// Why a leader's batch is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FollowError {
    #[error("batch begins at {got}, the log ends at {log_end}")]
    Gap { got: Offset, log_end: Offset },
    #[error("batch has epoch {got:?} behind one of epoch {latest:?}")]
    EpochWentBack { got: Option<LeaderEpoch>, latest: Option<LeaderEpoch> },
    #[error("batch has epoch {got}, the leader that sent it has {leader}")]
    EpochOfNobody { got: LeaderEpoch, leader: LeaderEpoch },
    #[error("cutting to {to} would take what lies below the high watermark {high_watermark}")]
    CutsCommitted { to: Offset, high_watermark: Offset },
}

/// What the leader answers to "where does this epoch end?".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaderEpochEnd {
    /// The largest epoch of the leader's at or below the one asked for.
    pub epoch: LeaderEpoch,
    pub end: Offset,
}

/// The follower's own epochs, as its log has them.
pub trait EpochView {
    fn latest(&self) -> Option<LeaderEpoch>;
    /// The largest epoch at or below `epoch` and the offset behind its last record.
    fn end_offset_for(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)>;
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// The logs agree up to here: cut, then fetch.
    Done { to: Offset },
    /// Cut, then ask the leader for the end of this epoch: the logs may part earlier still.
    AskAgain { to: Offset, epoch: LeaderEpoch },
}

/// How far a replica that follows is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Follower {
    leader_epoch: LeaderEpoch,
    log_end: Offset,
    high_watermark: Offset,
    latest: Option<LeaderEpoch>,
}

impl Follower {
    pub fn new(
        leader_epoch: LeaderEpoch,
        log_end: Offset,
        high_watermark: Offset,
        latest: Option<LeaderEpoch>,
    ) -> Follower {
        let follower = Follower { leader_epoch, log_end, high_watermark: high_watermark.min(log_end), latest };
        follower.check_invariants();
        follower
    }

    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Checks the next batch of the leader's; the caller appends it as it is.
    pub fn append(&mut self, batch: &StoredBatch) -> Result<(), FollowError> {
        if batch.base_offset() != self.log_end {
            return Err(FollowError::Gap { got: batch.base_offset(), log_end: self.log_end });
        }
        let epoch = match batch.leader_epoch() {
            Some(epoch) if Some(epoch) >= self.latest => epoch,
            got => return Err(FollowError::EpochWentBack { got, latest: self.latest }),
        };
        if epoch > self.leader_epoch {
            return Err(FollowError::EpochOfNobody { got: epoch, leader: self.leader_epoch });
        }
        self.latest = Some(epoch);
        self.log_end = batch.next_offset();
        self.check_invariants();
        Ok(())
    }

    /// The leader's high watermark came with a fetch.
    pub fn leader_high_watermark(&mut self, high_watermark: Offset) {
        self.high_watermark = self.high_watermark.max(high_watermark.min(self.log_end));
        self.check_invariants();
    }

    /// Where to cut, from the leader's answer about our latest epoch (or the one that `AskAgain` named).
    pub fn cut(&mut self, epochs: &dyn EpochView, answer: Option<LeaderEpochEnd>) -> Result<Cut, FollowError> {
        let cut = self.choose_cut(epochs, answer);
        let (Cut::Done { to } | Cut::AskAgain { to, .. }) = cut;
        if to < self.high_watermark {
            return Err(FollowError::CutsCommitted { to, high_watermark: self.high_watermark });
        }
        self.log_end = to;
        self.check_invariants();
        Ok(cut)
    }

    fn choose_cut(&self, epochs: &dyn EpochView, answer: Option<LeaderEpochEnd>) -> Cut {
        let Some(answer) = answer else {
            // The leader knows no epoch so old: only the high watermark is known to be common.
            return Cut::Done { to: self.high_watermark };
        };
        match epochs.end_offset_for(answer.epoch) {
            Some((epoch, end)) if epoch == answer.epoch => Cut::Done { to: end.min(answer.end).min(self.log_end) },
            // We have no record of that epoch: what we have of later ones is not the leader's (KIP-279).
            Some((epoch, end)) => Cut::AskAgain { to: end.min(self.log_end), epoch },
            None => Cut::Done { to: answer.end.min(self.log_end) },
        }
    }

    fn check_invariants(&self) {
        // What is committed is in this log, or this replica was never in sync.
        assert!(self.high_watermark <= self.log_end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::batch::BatchBuilder;

    struct Epochs(Vec<(i32, i64)>, i64);

    /// `(epoch, start offset)` in order, and the log's end.
    impl EpochView for Epochs {
        fn latest(&self) -> Option<LeaderEpoch> {
            self.0.last().map(|(epoch, _)| LeaderEpoch::new(*epoch))
        }

        fn end_offset_for(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
            let at = self.0.iter().rposition(|(have, _)| *have <= epoch.get())?;
            let end = self.0.get(at + 1).map_or(self.1, |(_, start)| *start);
            Some((LeaderEpoch::new(self.0[at].0), Offset::new(end)))
        }
    }

    fn check_cut(ours: &[(i32, i64)], log_end: i64, answer: Option<(i32, i64)>, want: Cut) {
        let epochs = Epochs(ours.to_vec(), log_end);
        let mut follower = Follower::new(LeaderEpoch::new(9), Offset::new(log_end), Offset::ZERO, epochs.latest());
        let answer =
            answer.map(|(epoch, end)| LeaderEpochEnd { epoch: LeaderEpoch::new(epoch), end: Offset::new(end) });
        assert_eq!(follower.cut(&epochs, answer), Ok(want));
    }

    fn done(to: i64) -> Cut {
        Cut::Done { to: Offset::new(to) }
    }

    #[test]
    fn a_log_is_cut_where_the_leaders_epoch_ended() {
        check_cut(&[(0, 0), (1, 5)], 12, Some((1, 9)), done(9));
        check_cut(&[(0, 0), (1, 5)], 12, Some((1, 20)), done(12));
        check_cut(&[(0, 0), (2, 5)], 12, Some((0, 7)), done(5));
        check_cut(&[(0, 0), (2, 5)], 12, Some((0, 3)), done(3));
    }

    #[test]
    fn an_epoch_we_never_had_is_asked_for_again() {
        check_cut(&[(0, 0), (3, 5)], 12, Some((2, 8)), Cut::AskAgain { to: Offset::new(5), epoch: LeaderEpoch::ZERO });
    }

    #[test]
    fn a_leader_without_epochs_leaves_what_is_committed() {
        check_cut(&[(0, 0)], 12, None, done(0));
    }

    #[test]
    fn what_is_committed_is_never_cut() {
        let epochs = Epochs(vec![(0, 0)], 12);
        let mut follower = Follower::new(LeaderEpoch::new(9), Offset::new(12), Offset::new(6), epochs.latest());
        let answer = LeaderEpochEnd { epoch: LeaderEpoch::ZERO, end: Offset::new(5) };
        let want = FollowError::CutsCommitted { to: Offset::new(5), high_watermark: Offset::new(6) };
        assert_eq!(follower.cut(&epochs, Some(answer)), Err(want));
    }

    #[test]
    fn only_a_batch_that_continues_the_log_is_appended() {
        let batch = |at: i64, epoch: i32| {
            BatchBuilder::new()
                .record(0, None, Some(b"x"), &[])
                .finish()
                .place(Offset::new(at), LeaderEpoch::new(epoch))
        };
        let mut follower = Follower::new(LeaderEpoch::new(3), Offset::new(10), Offset::ZERO, Some(LeaderEpoch::new(2)));
        assert_eq!(follower.append(&batch(10, 2)), Ok(()));
        assert!(matches!(follower.append(&batch(10, 2)), Err(FollowError::Gap { .. })));
        assert!(matches!(follower.append(&batch(12, 2)), Err(FollowError::Gap { .. })));
        assert!(matches!(follower.append(&batch(11, 1)), Err(FollowError::EpochWentBack { .. })));
        assert!(matches!(follower.append(&batch(11, 4)), Err(FollowError::EpochOfNobody { .. })));
        assert_eq!(follower.append(&batch(11, 3)), Ok(()));
        follower.leader_high_watermark(Offset::new(99));
        assert_eq!(follower.high_watermark(), Offset::new(12));
    }
}

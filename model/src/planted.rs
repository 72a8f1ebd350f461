//! Bugs that are put in on purpose, to see whether the simulator finds them.
//!
//! Owns the list and the switch. Each bug is one line where it would do its harm: `if planted::is(Bug::…)`.
//! Invariant: without `--cfg planted` (RUSTFLAGS, in a target folder of its own) `is` is a constant `false`, and no trace is left in
//! the program.

/// What may be planted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Bug {
    AckBeforeJournalSync = 1,
    WatermarkFromOneFollower,
    WatermarkFromWritten,
    TruncateWithoutEpochs,
    VoteBeforePersisted,
    WipedNodeVotes,
    LostTailStaysInSync,
    EpochContinuedAfterRestart,
    FencedLeaderAcks,
    FollowerServesBeyond,
    ProducersNotCarriedOver,
    ProducersNewerThanLog,
    JournalRecycledEarly,
    OldEntriesReplayed,
    TornTailAccepted,
    CutBelowSynced,
    FolderNotSynced,
    FailedSyncBelieved,
    ReplicaDroppedEarly,
    VotersBeforeCommit,
    CommitAnsweredEarly,
    NamesakeServed,
    RetentionByJumpedClock,
}

impl Bug {
    pub const ALL: [Bug; 23] = [
        Bug::AckBeforeJournalSync,
        Bug::WatermarkFromOneFollower,
        Bug::WatermarkFromWritten,
        Bug::TruncateWithoutEpochs,
        Bug::VoteBeforePersisted,
        Bug::WipedNodeVotes,
        Bug::LostTailStaysInSync,
        Bug::EpochContinuedAfterRestart,
        Bug::FencedLeaderAcks,
        Bug::FollowerServesBeyond,
        Bug::ProducersNotCarriedOver,
        Bug::ProducersNewerThanLog,
        Bug::JournalRecycledEarly,
        Bug::OldEntriesReplayed,
        Bug::TornTailAccepted,
        Bug::CutBelowSynced,
        Bug::FolderNotSynced,
        Bug::FailedSyncBelieved,
        Bug::ReplicaDroppedEarly,
        Bug::VotersBeforeCommit,
        Bug::CommitAnsweredEarly,
        Bug::NamesakeServed,
        Bug::RetentionByJumpedClock,
    ];

    /// As the simulator's command line names it.
    pub fn name(self) -> &'static str {
        match self {
            Bug::AckBeforeJournalSync => "ack-before-journal-sync",
            Bug::WatermarkFromOneFollower => "watermark-from-one-follower",
            Bug::WatermarkFromWritten => "watermark-from-written",
            Bug::TruncateWithoutEpochs => "truncate-without-epochs",
            Bug::VoteBeforePersisted => "vote-before-persisted",
            Bug::WipedNodeVotes => "wiped-node-votes",
            Bug::LostTailStaysInSync => "lost-tail-stays-in-sync",
            Bug::EpochContinuedAfterRestart => "epoch-continued-after-restart",
            Bug::FencedLeaderAcks => "fenced-leader-acks",
            Bug::FollowerServesBeyond => "follower-serves-beyond",
            Bug::ProducersNotCarriedOver => "producers-not-carried-over",
            Bug::ProducersNewerThanLog => "producers-newer-than-log",
            Bug::JournalRecycledEarly => "journal-recycled-early",
            Bug::OldEntriesReplayed => "old-entries-replayed",
            Bug::TornTailAccepted => "torn-tail-accepted",
            Bug::CutBelowSynced => "cut-below-synced",
            Bug::FolderNotSynced => "folder-not-synced",
            Bug::FailedSyncBelieved => "failed-sync-believed",
            Bug::ReplicaDroppedEarly => "replica-dropped-early",
            Bug::VotersBeforeCommit => "voters-before-commit",
            Bug::CommitAnsweredEarly => "commit-answered-early",
            Bug::NamesakeServed => "namesake-served",
            Bug::RetentionByJumpedClock => "retention-by-jumped-clock",
        }
    }
}

/// Whether this build holds them.
pub const POSSIBLE: bool = cfg!(planted);

/// Whether this bug is in.
#[cfg(not(planted))]
#[inline(always)]
pub const fn is(_bug: Bug) -> bool {
    false
}

#[cfg(planted)]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Whether this bug is in.
#[cfg(planted)]
#[inline]
pub fn is(bug: Bug) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == bug as u8
}

/// Puts a bug in, or takes it out, for the whole process. Does nothing in a build without planted bugs.
pub fn plant(bug: Option<Bug>) {
    #[cfg(planted)]
    PLANTED.store(bug.map_or(0, |bug| bug as u8), std::sync::atomic::Ordering::Relaxed);
    #[cfg(not(planted))]
    let _ = bug;
}

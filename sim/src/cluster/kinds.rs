//! The kinds of faults.
//!
//! Owns their list. Does not own what each does, nor when and for how long (`faults`).

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Kill,
    PowerCut,
    /// Of a machine whose disk was slow: its followers have what it lost, and it is back before anybody misses it.
    LostTail,
    /// Of all machines at once; half of the time when what they hold was written and synced nowhere for a while.
    Blackout,
    Stop,
    Pause,
    /// Two sides that do not reach each other.
    Split,
    /// One host is heard, or hears, no more.
    OneWay,
    /// Two hosts do not reach each other, the others reach both.
    Partial,
    /// A split that comes and goes.
    Flap,
    SlowWay,
    CutLinks,
    CutOffClients,
    JumpClock,
    DriftClock,
    FullDisk,
    SlowDisk,
    FailingSyncs,
    Wipe,
    DamagedIndex,
    LossyRaft,
    /// Drawn beside the others: see `voters`.
    ForgetfulVoter,
    /// Only where the plan says so: see `lying`.
    LyingDisk,
}

/// What a seed draws its own from.
pub(super) const KINDS: [Kind; 21] = [
    Kind::Kill,
    Kind::PowerCut,
    Kind::LostTail,
    Kind::Blackout,
    Kind::Stop,
    Kind::Pause,
    Kind::Split,
    Kind::OneWay,
    Kind::Partial,
    Kind::Flap,
    Kind::SlowWay,
    Kind::CutLinks,
    Kind::CutOffClients,
    Kind::JumpClock,
    Kind::DriftClock,
    Kind::FullDisk,
    Kind::SlowDisk,
    Kind::FailingSyncs,
    Kind::Wipe,
    Kind::DamagedIndex,
    Kind::LossyRaft,
];

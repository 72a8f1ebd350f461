//! Positions in a partition's log, and the epochs of its leaders.
//!
//! Invariant: an `Offset` and a `LeaderEpoch` are never negative; "none" is an `Option`.

use std::fmt;

/// A position in one partition's log. Never negative, so "no offset" must be an `Option`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(i64);

impl Offset {
    pub const ZERO: Offset = Offset(0);
    pub const MAX: Offset = Offset(i64::MAX);

    /// Kafka sends negatives for "unknown" and for special positions: decide that here, once.
    pub fn from_wire(raw: i64) -> Option<Offset> {
        (raw >= 0).then_some(Offset(raw))
    }

    /// # Panics
    /// When `raw` is negative: for our own numbers only.
    pub const fn new(raw: i64) -> Offset {
        assert!(raw >= 0, "an offset is never negative");
        Offset(raw)
    }

    pub const fn get(self) -> i64 {
        self.0
    }

    /// The offset `count` records later.
    ///
    /// # Panics
    /// On overflow: appends are refused long before (`limits::OFFSET_MAX`).
    #[must_use]
    pub fn plus(self, count: u32) -> Offset {
        Offset(self.0.checked_add(i64::from(count)).expect("appends stop at limits::OFFSET_MAX"))
    }

    /// How many records lie in `[from, self)`; zero where `from` is not below.
    pub fn since(self, from: Offset) -> u64 {
        u64::try_from(self.0 - from.0).unwrap_or(0)
    }
}

impl fmt::Debug for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Which leadership of a partition wrote a batch. Grows with every new leader and every start of a node that leads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LeaderEpoch(i32);

impl LeaderEpoch {
    pub const ZERO: LeaderEpoch = LeaderEpoch(0);

    pub fn from_wire(raw: i32) -> Option<LeaderEpoch> {
        (raw >= 0).then_some(LeaderEpoch(raw))
    }

    /// # Panics
    /// When `raw` is negative: for our own numbers only.
    pub const fn new(raw: i32) -> LeaderEpoch {
        assert!(raw >= 0, "a leader epoch is never negative");
        LeaderEpoch(raw)
    }

    pub const fn get(self) -> i32 {
        self.0
    }

    /// # Panics
    /// After 2^31 leaderships of one partition.
    #[must_use]
    pub fn next(self) -> LeaderEpoch {
        LeaderEpoch(self.0.checked_add(1).expect("2^31 leaderships of one partition"))
    }
}

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

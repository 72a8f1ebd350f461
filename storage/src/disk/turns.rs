//! Who waits for whom at the device.
//!
//! A device carries out what it is asked one after the other, so a write that somebody waits for stands behind all that readers have
//! asked for before: 8 MB of read-ahead for each of a few readers are tens of milliseconds.
//! Owns the question only. Does not own the answer: that takes a clock, which whoever makes the disk has.
//! Invariant: what has begun ends, whatever happens in between.

/// Asked around each operation that waits for the device.
pub trait Turns: Send + Sync + 'static {
    /// A write that somebody waits for. It is never held up.
    fn write_begins(&self);
    fn write_ends(&self);
    /// A read of what is not in the page cache: returns when it may begin. The bytes that it may ask for at once; `None`: as many as it
    /// likes, and more ahead; then its end is not told.
    fn read_begins(&self) -> Option<usize>;
    fn read_ends(&self);
}

/// Everybody at once, as the device likes.
pub(super) struct AllAtOnce;

impl Turns for AllAtOnce {
    fn write_begins(&self) {}
    fn write_ends(&self) {}
    fn read_begins(&self) -> Option<usize> {
        None
    }
    fn read_ends(&self) {}
}

/// A write under way.
pub(super) struct Writing<'a>(&'a dyn Turns);

impl<'a> Writing<'a> {
    pub(super) fn begin(turns: &'a dyn Turns) -> Writing<'a> {
        turns.write_begins();
        Writing(turns)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.write_ends();
    }
}

/// A read under way.
pub(super) struct Reading<'a> {
    turns: &'a dyn Turns,
    /// Bytes at once.
    pub(super) piece: Option<usize>,
}

impl<'a> Reading<'a> {
    pub(super) fn begin(turns: &'a dyn Turns) -> Reading<'a> {
        let piece = turns.read_begins();
        Reading { turns, piece }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if self.piece.is_some() {
            self.turns.read_ends();
        }
    }
}

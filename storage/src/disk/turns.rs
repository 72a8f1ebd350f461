//! Who waits for whom at the device.
//!
//! A device carries out what it is asked one after the other, so a write that somebody waits for stands behind all that readers have
//! asked for before: 8 MB of read-ahead for each of a few readers are tens of milliseconds.
//! Owns the question only. Does not own the answer: that takes a clock, which whoever makes the disk has.
//! Invariant: what has begun is over when its guard is dropped, whatever happens in between.

/// Asked before each operation that waits for the device.
pub trait Turns: Send + Sync + 'static {
    /// A write that an answer waits for. It is never held up.
    fn write(&self) -> Box<dyn Turn + '_>;
    /// A read in turn of so many bytes that are not in the page cache: returns when it may begin. `None`: it may ask for as much as it
    /// likes, and for more ahead.
    fn read(&self, wanted: usize) -> Option<Piece<'_>>;
}

/// Is over when it is dropped.
pub trait Turn {}

/// What one reader may ask for at once.
pub struct Piece<'a> {
    pub bytes: usize,
    pub turn: Box<dyn Turn + 'a>,
}

/// Everybody at once, as the device likes.
pub(super) struct AllAtOnce;

impl Turn for () {}

impl Turns for AllAtOnce {
    fn write(&self) -> Box<dyn Turn + '_> {
        Box::new(())
    }

    fn read(&self, _: usize) -> Option<Piece<'_>> {
        None
    }
}

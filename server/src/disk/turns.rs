//! Readers of cold data give way to writes that producers wait for.
//!
//! Owns when a read may ask the device, and for how much. Does not read.
//! A device does what it is asked one after the other: a write that comes behind megabytes of reads waits for all of them. So as long as
//! somebody writes now and then, one piece is read at a time among all readers, and it waits for the end of the write that it finds under
//! way: then at most one piece is before a write. Where nobody has written for long, readers do as they like.
//! Invariant: a write waits for nobody here. A reader waits for one write, never longer than `WAIT_MAX`: it is slow beside writers, and
//! does not starve.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use storage::disk::Turns;

/// Bytes that a reader asks for at once while one write follows the other: a fraction of a millisecond for a device.
const PIECE_BYTES: usize = 256 * 1024;
/// And when the last write was a moment ago: those that come are few.
const LARGE_PIECE_BYTES: usize = 1024 * 1024;
const MOMENT: Duration = Duration::from_millis(100);
/// So long after a write another one is expected.
const WRITES_EXPECTED: Duration = Duration::from_secs(30);
/// A reader goes on after so long, also where a write has not ended.
const WAIT_MAX: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
pub struct GiveWay {
    state: Mutex<State>,
    write_ended: Condvar,
    read_ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Writes under way, and how many have ended.
    writing: u32,
    ended: u64,
    last_end: Option<Instant>,
    /// Somebody reads a piece, or is the next to do so.
    reading: bool,
    /// Somebody waits for a write to end.
    waiting: bool,
}

impl GiveWay {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turns for GiveWay {
    fn write_begins(&self) {
        self.lock().writing += 1;
    }

    fn write_ends(&self) {
        let mut state = self.lock();
        state.writing -= 1;
        state.ended += 1;
        state.last_end = Some(Instant::now());
        let waiting = state.waiting;
        drop(state);
        if waiting {
            self.write_ended.notify_all();
        }
    }

    fn read_begins(&self) -> Option<usize> {
        let mut state = self.lock();
        while state.reading {
            state = self.read_ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let since = state.last_end.map(|last| last.elapsed());
        if state.writing == 0 && since.is_none_or(|since| since > WRITES_EXPECTED) {
            return None;
        }
        state.reading = true;
        if state.writing == 0 {
            return Some(if since.is_some_and(|since| since < MOMENT) { PIECE_BYTES } else { LARGE_PIECE_BYTES });
        }
        state.waiting = true;
        let ended = state.ended;
        let is_under_way = |state: &mut State| state.ended == ended;
        let waited = self.write_ended.wait_timeout_while(state, WAIT_MAX, is_under_way);
        waited.unwrap_or_else(PoisonError::into_inner).0.waiting = false;
        Some(PIECE_BYTES)
    }

    fn read_ends(&self) {
        self.lock().reading = false;
        self.read_ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn readers_do_as_they_like_where_nobody_writes() {
        let turns = GiveWay::default();
        assert_eq!([turns.read_begins(), turns.read_begins()], [None, None]);
    }

    #[test]
    fn a_reader_beside_a_write_that_does_not_end_goes_on_with_a_piece() {
        let turns = GiveWay::default();
        turns.write_begins();
        for _ in 0..3 {
            assert_eq!(turns.read_begins(), Some(PIECE_BYTES));
            turns.read_ends();
        }
    }

    #[test]
    fn one_piece_is_read_at_a_time_and_each_reader_has_its_turn() {
        let turns = Arc::new(GiveWay::default());
        turns.write_begins();
        turns.write_ends();
        let (begun, begins) = channel();
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (turns, begun) = (turns.clone(), begun.clone());
                std::thread::spawn(move || {
                    assert!(turns.read_begins().is_some());
                    begun.send(()).expect("the test waits for all of them");
                })
            })
            .collect();
        for at in 0..readers.len() {
            begins.recv().expect("a reader has its turn");
            assert!(begins.try_recv().is_err(), "the next one before reader {at} has ended");
            turns.read_ends();
        }
        readers.into_iter().for_each(|reader| reader.join().expect("no panic"));
    }
}

//! Readers of cold data give way to writes that producers wait for.
//!
//! Owns when a read in turn may ask the device, and for how much. Does not read.
//! A device does what it is asked one after the other: a write that comes behind megabytes of reads waits for all of them. So as long as
//! somebody writes now and then, one piece is read at a time among all readers, and it waits for the end of the write that it finds under
//! way: then at most one piece is before a write. And readers keep a pace: what they read costs time of the processors that producers
//! need too, here, in the kernel and at the client. Where nobody has written for long, readers do as they like.
//! Invariant: a write waits for nobody here. Readers come in the order in which they asked, so whoever reads on and on gets as much as the
//! others do. Of each one before it a reader waits for a piece, its rest and one write, of that never longer than `WAIT_MAX`: it is slow
//! beside writers, and does not starve.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use storage::disk::{Piece, Turn, Turns};

use super::pace::Pace;

/// Bytes that a reader asks for at once while one write follows the other: a fraction of a millisecond for a device.
const PIECE_BYTES: usize = 256 * 1024;
/// And when the last write was a moment ago: those that come are few.
const LARGE_PIECE_BYTES: usize = 1024 * 1024;
/// Bytes a second that all readers together get for each core while one write follows the other.
const PACE_PER_CORE: u64 = 64 << 20;
const MOMENT: Duration = Duration::from_millis(100);
/// So long after a write another one is expected.
const WRITES_EXPECTED: Duration = Duration::from_secs(30);
/// A reader goes on after so long, also where a write has not ended.
const WAIT_MAX: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub struct GiveWay {
    wait_max: Duration,
    state: Mutex<State>,
    write_ended: Condvar,
    read_ended: Condvar,
}

#[derive(Debug)]
struct State {
    /// Writes under way, and how many have ended.
    writing: u32,
    ended: u64,
    last_end: Option<Instant>,
    pace: Pace,
    /// Readers get numbers when they ask; the one with `served` has its turn.
    asked: u64,
    served: u64,
    /// Somebody waits for a write to end.
    waiting: bool,
}

impl GiveWay {
    /// On a machine with so many cores.
    pub fn new(cores: usize) -> GiveWay {
        let pace = Pace::new(PACE_PER_CORE.saturating_mul(cores.max(1) as u64));
        let state = State { writing: 0, ended: 0, last_end: None, pace, asked: 0, served: 0, waiting: false };
        GiveWay {
            wait_max: WAIT_MAX,
            state: Mutex::new(state),
            write_ended: Condvar::new(),
            read_ended: Condvar::new(),
        }
    }
}

struct Writing<'a>(&'a GiveWay);
struct Reading<'a>(&'a GiveWay);

impl Turn for Writing<'_> {}
impl Turn for Reading<'_> {}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.writing -= 1;
        state.ended += 1;
        state.last_end = Some(Instant::now());
        let waiting = state.waiting;
        drop(state);
        if waiting {
            self.0.write_ended.notify_all();
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.lock().served += 1;
        // Few readers, and each knows its number.
        self.0.read_ended.notify_all();
    }
}

impl GiveWay {
    /// Whether one write follows the other.
    pub fn is_written(&self) -> bool {
        let state = self.lock();
        state.writing > 0 || state.last_end.is_some_and(|last| last.elapsed() < MOMENT)
    }

    /// Until the write that is under way has ended, if there is one.
    fn wait_for_write(&self, mut state: MutexGuard<'_, State>) {
        if state.writing == 0 {
            return;
        }
        state.waiting = true;
        let ended = state.ended;
        let is_under_way = |state: &mut State| state.ended == ended;
        let waited = self.write_ended.wait_timeout_while(state, self.wait_max, is_under_way);
        waited.unwrap_or_else(PoisonError::into_inner).0.waiting = false;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turns for GiveWay {
    fn write(&self) -> Box<dyn Turn + '_> {
        self.lock().writing += 1;
        Box::new(Writing(self))
    }

    fn read(&self, wanted: usize) -> Option<Piece<'_>> {
        let mut state = self.lock();
        let number = state.asked;
        state.asked += 1;
        let before = |state: &mut State| state.served != number;
        state = self.read_ended.wait_while(state, before).unwrap_or_else(PoisonError::into_inner);
        let turn = Reading(self);
        if state.writing == 0 {
            let since = state.last_end.map(|last| last.elapsed());
            match since {
                Some(since) if since < MOMENT => {}
                Some(since) if since <= WRITES_EXPECTED => {
                    drop(state);
                    return Some(Piece { bytes: LARGE_PIECE_BYTES, turn: Box::new(turn) });
                }
                // The turn ends with the call: others need not wait for the read.
                _ => {
                    drop(state);
                    return None;
                }
            }
        }
        let bytes = wanted.min(PIECE_BYTES);
        let rest = state.pace.take(Instant::now(), bytes);
        if !rest.is_zero() {
            drop(state);
            std::thread::sleep(rest);
            state = self.lock();
        }
        self.wait_for_write(state);
        Some(Piece { bytes, turn: Box::new(turn) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    fn at_any_pace() -> GiveWay {
        GiveWay::new(usize::MAX)
    }

    #[test]
    fn readers_do_as_they_like_where_nobody_writes() {
        let turns = at_any_pace();
        let (one, other) = (turns.read(usize::MAX), turns.read(usize::MAX));
        assert!(one.is_none() && other.is_none());
    }

    #[test]
    fn a_reader_beside_a_write_that_does_not_end_goes_on_with_a_piece() {
        let turns = at_any_pace();
        let _write = turns.write();
        for _ in 0..3 {
            assert_eq!(turns.read(usize::MAX).map(|piece| piece.bytes), Some(PIECE_BYTES));
        }
    }

    #[test]
    fn a_reader_beside_writes_rests_as_the_pace_says_and_pays_only_for_what_it_wants() {
        const PIECE_TAKES: Duration = Duration::from_millis(50);
        let turns = at_any_pace();
        turns.lock().pace = Pace::new(PIECE_BYTES as u64 * 20);
        let _write = turns.write();
        let begun = Instant::now();
        for _ in 0..3 {
            assert_eq!(turns.read(usize::MAX).map(|piece| piece.bytes), Some(PIECE_BYTES));
        }
        // Less than what a moment's credit may be, and never more than was asked for.
        assert!(begun.elapsed() >= 2 * PIECE_TAKES - PIECE_TAKES / 2, "{:?}", begun.elapsed());
        assert_eq!(turns.read(4096).map(|piece| piece.bytes), Some(4096));
    }

    #[test]
    fn a_reader_waits_for_the_end_of_the_write_that_it_finds_under_way() {
        let turns = GiveWay { wait_max: Duration::from_secs(600), ..at_any_pace() };
        let write = turns.write();
        thread::scope(|scope| {
            let reader = scope.spawn(|| turns.read(usize::MAX).map(|piece| piece.bytes));
            while !turns.lock().waiting {
                assert!(!reader.is_finished(), "it did not wait");
                thread::yield_now();
            }
            drop(write);
            assert_eq!(reader.join().expect("no panic"), Some(PIECE_BYTES));
        });
    }

    #[test]
    fn readers_that_read_on_and_on_get_as_much_as_each_other() {
        const READERS: usize = 5;
        const PIECES: u64 = 1000;
        let turns = at_any_pace();
        drop(turns.write());
        let (reading, total) = (AtomicU64::new(0), AtomicU64::new(0));
        // Until all others wait as well: only then it shows who comes next.
        let all_wait = || {
            let state = turns.lock();
            state.asked - state.served == READERS as u64
        };
        let read_on = || {
            let mut pieces = 0u64;
            while total.load(Ordering::SeqCst) < PIECES {
                let piece = turns.read(usize::MAX).expect("somebody has written");
                assert_eq!(reading.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                while total.load(Ordering::SeqCst) < PIECES && !all_wait() {
                    thread::yield_now();
                }
                pieces += 1;
                total.fetch_add(1, Ordering::SeqCst);
                reading.fetch_sub(1, Ordering::SeqCst);
                drop(piece);
            }
            pieces
        };
        let counts: Vec<u64> = thread::scope(|scope| {
            let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(read_on)).collect();
            readers.into_iter().map(|reader| reader.join().expect("no panic")).collect()
        });
        let (least, most) = (counts.iter().min().copied(), counts.iter().max().copied());
        assert!(least.zip(most).is_some_and(|(least, most)| most <= 2 * least), "{counts:?}");
    }
}

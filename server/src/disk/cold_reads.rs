//! Reads that must wait for the device, away from the tasks that serve sockets.
//!
//! Owns the bounds on how many run at once, and on how much of them one answer has. Invariant: a cold read never holds up a warm one, nor
//! a produce.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::give_way::GiveWay;

/// Reads side by side: enough to keep a disk busy where nobody writes. Beside writes they take turns (`give_way`).
pub const COLD_READS_MAX: usize = 4;
/// Cold records in one answer while producers write. Megabytes at once keep this node, the kernel and a client on the same machine busy for
/// milliseconds, and acknowledgements wait behind them; a client that is near has as much in many small answers.
const ANSWER_BYTES: u64 = 256 * 1024;
/// One that is far away asks seldom: it gets that much for each millisecond in which it had nothing to take.
const ANSWER_BYTES_PER_MS: u64 = 128 * 1024;

/// The bounded pool. Its threads are tokio's blocking ones: made on demand, gone after a pause.
#[derive(Clone, Debug)]
pub struct ColdReads {
    slots: Arc<Semaphore>,
    turns: Arc<GiveWay>,
}

impl ColdReads {
    pub fn new(turns: Arc<GiveWay>) -> ColdReads {
        ColdReads { slots: Arc::new(Semaphore::new(COLD_READS_MAX)), turns }
    }

    /// Bytes of cold records for an answer to a client that took its last one so long ago.
    pub fn answer_bytes(&self, away: Duration) -> u64 {
        if !self.turns.is_written() {
            return u64::MAX;
        }
        let away_ms = u64::try_from(away.as_millis()).unwrap_or(u64::MAX);
        away_ms.saturating_mul(ANSWER_BYTES_PER_MS).max(ANSWER_BYTES)
    }

    /// Runs a blocking read when it is its turn. `None` if it panicked.
    pub async fn run<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let slots = self.slots.clone();
        // A task of its own: a request that waits behind another one of its connection is not polled, and would keep a slot
        // that it was given from those who could use it. The set ends it with the request.
        let mut task = JoinSet::new();
        task.spawn(async move {
            let slot = slots.acquire_owned().await.expect("the semaphore is never closed");
            let done = tokio::task::spawn_blocking(move || {
                let value = read();
                drop(slot);
                value
            });
            done.await.ok()
        });
        task.join_next().await?.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use storage::disk::Turns;

    use super::*;

    #[test]
    fn an_answer_beside_writes_is_small_for_a_client_that_is_near_and_larger_for_one_that_is_far() {
        let turns = Arc::new(GiveWay::new(1));
        let reads = ColdReads::new(turns.clone());
        assert_eq!(reads.answer_bytes(Duration::ZERO), u64::MAX);
        let _write = turns.write();
        assert_eq!(reads.answer_bytes(Duration::ZERO), ANSWER_BYTES);
        assert_eq!(reads.answer_bytes(Duration::from_millis(1)), ANSWER_BYTES);
        assert_eq!(reads.answer_bytes(Duration::from_millis(50)), 50 * ANSWER_BYTES_PER_MS);
        assert_eq!(reads.answer_bytes(Duration::MAX), u64::MAX);
    }
}

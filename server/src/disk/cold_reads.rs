//! Reads that must wait for the device, away from the tasks that serve sockets.
//!
//! Owns the bound on how many run at once. Invariant: a cold read never holds up a warm one, nor a produce.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Reads side by side: enough to keep a disk busy where nobody writes. Beside writes they take turns (`give_way`).
pub const COLD_READS_MAX: usize = 4;

/// The bounded pool. Its threads are tokio's blocking ones: made on demand, gone after a pause.
#[derive(Clone, Debug)]
pub struct ColdReads {
    slots: Arc<Semaphore>,
}

impl Default for ColdReads {
    fn default() -> ColdReads {
        ColdReads { slots: Arc::new(Semaphore::new(COLD_READS_MAX)) }
    }
}

impl ColdReads {
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

//! Reads that must wait for the device, away from the tasks that serve sockets.
//!
//! Owns the bound on how many run at once. Invariant: a cold read never holds up a warm one, nor a produce.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Reads side by side: enough to keep a disk busy.
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
        let slot = self.slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        let done = tokio::task::spawn_blocking(move || {
            let value = read();
            drop(slot);
            value
        });
        done.await.ok()
    }
}

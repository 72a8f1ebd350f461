//! Ctrl-C for commands that run until they are told to end.
//!
//! Owns the flag that the first signal sets; a second one ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use crate::shutdown::Signals;

/// Set once SIGINT or SIGTERM came.
#[derive(Clone, Debug)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Takes the signals over for the rest of the process.
    pub fn on_signal() -> anyhow::Result<Stop> {
        let stop = Stop(Arc::new(AtomicBool::new(false)));
        let told = stop.clone();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().build().context("no thread for signals")?;
        let signals = {
            let _inside = runtime.enter();
            Signals::new().context("signals cannot be taken over")?
        };
        let watch = move || {
            runtime.block_on(async move {
                let mut signals = signals;
                signals.first().await;
                told.0.store(true, Ordering::Release);
                signals.second().await;
            });
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(watch).context("no thread for signals")?;
        Ok(stop)
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

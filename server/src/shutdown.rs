//! The signals that end the process.
//!
//! Owns what SIGTERM and SIGINT mean: the first ends the server in order, the second ends it now.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// Exit code after a second signal, as shells give it for SIGINT.
const EXIT_NOW: i32 = 130;

pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over. Call within the runtime.
    pub fn new() -> std::io::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Until the first signal.
    pub async fn first(&mut self) {
        self.next().await;
        info!("stopping: everything is written down first; a second signal stops at once");
    }

    /// Ends the process at the second signal.
    pub async fn second(mut self) {
        self.next().await;
        warn!("stopping at once");
        std::process::exit(EXIT_NOW);
    }

    async fn next(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

//! The threads that serve connections, one for each core.
//!
//! A connection stays on one thread, with its reading and its writing task: they wake each other without a system call,
//! and no other thread wakes up to look whether there is work to steal (measured with small produce requests: half the
//! context switches of one runtime over two threads).
//! Owns the threads and which of them gets a connection. Does not own what is served.
//! Invariant: the thread with the fewest connections gets the next one.

use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{debug, error};

use super::admission::ConnectionPermit;
use super::connection;
use crate::broker::Broker;
use crate::disk::cold_reads::COLD_READS_MAX;

const END_WAIT: Duration = Duration::from_millis(500);
/// Threads for cold reads end after a pause: nothing is kept for reads that do not come.
const BLOCKING_IDLE: Duration = Duration::from_secs(10);

/// A connection on its way to a thread. Its permit bounds how many there are, so the channel needs no bound.
struct Accepted {
    stream: StdStream,
    peer: SocketAddr,
    permit: ConnectionPermit,
}

pub struct Shards {
    shards: Vec<Shard>,
}

struct Shard {
    queue: UnboundedSender<Accepted>,
    connections: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Shards {
    pub fn start(count: usize, broker: &Arc<Broker>) -> std::io::Result<Shards> {
        let shards = (0..count.max(1)).map(|at| Shard::start(at, broker.clone())).collect::<std::io::Result<_>>()?;
        Ok(Shards { shards })
    }

    /// Hands a connection to a thread.
    pub fn serve(&self, stream: StdStream, peer: SocketAddr, permit: ConnectionPermit) {
        let least = self.shards.iter().min_by_key(|shard| shard.connections.load(Ordering::Relaxed));
        let shard = least.expect("there is at least one shard");
        shard.connections.fetch_add(1, Ordering::Relaxed);
        if shard.queue.send(Accepted { stream, peer, permit }).is_err() {
            error!("a thread that serves connections is gone");
        }
    }

    /// Ends all connections and joins the threads.
    pub fn stop(self) {
        let threads: Vec<_> = self.shards.into_iter().map(|shard| shard.thread).collect();
        for thread in threads {
            if thread.join().is_err() {
                error!("a thread that served connections had panicked");
            }
        }
    }
}

impl Shard {
    fn start(at: usize, broker: Arc<Broker>) -> std::io::Result<Shard> {
        let (queue, accepted) = unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(COLD_READS_MAX)
            .thread_keep_alive(BLOCKING_IDLE)
            .build()?;
        let counter = connections.clone();
        let thread = std::thread::Builder::new().name(format!("weir-net-{at}")).spawn(move || {
            runtime.block_on(take(accepted, broker, counter));
            runtime.shutdown_timeout(END_WAIT);
        })?;
        Ok(Shard { queue, connections, thread })
    }
}

/// Serves what is handed over until nobody can hand over any more.
async fn take(mut accepted: UnboundedReceiver<Accepted>, broker: Arc<Broker>, connections: Arc<AtomicUsize>) {
    while let Some(Accepted { stream, peer, permit }) = accepted.recv().await {
        let served = Served { connections: connections.clone(), _permit: permit };
        match TcpStream::from_std(stream) {
            Ok(stream) => {
                let broker = broker.clone();
                tokio::spawn(async move {
                    connection::serve(stream, peer, broker).await;
                    drop(served);
                });
            }
            Err(error) => debug!(%peer, "the connection could not be served: {error}"),
        }
    }
}

/// Counts a connection as long as it is served, also when its task panics.
struct Served {
    connections: Arc<AtomicUsize>,
    _permit: ConnectionPermit,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

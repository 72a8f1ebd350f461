//! Carries out the effects of a node: answers, wakes, and disk operations on threads of their own.
//!
//! One thread writes the journal, in order; a few write segments side by side. A completion is handed to the node on
//! the thread that did the work, and what follows from it is carried out at once.
//! Owns the threads and their queues. Does not own what is written.
//! Invariant: a queue holds one group of the journal and, of each log, at most a write, a sync, a direct write and a removal,
//! because the node starts no other before; what other nodes have read is bounded by what they grant. So the queues are
//! bounded by the number of partitions and never make a completion wait.
//! Invariant: a panic that comes out of the node ends the process.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use node::effects::{Effect, Effects};
use node::{Node, ReadWork};
use storage::disk::{Disk, DiskOp, Lane};
use tokio::sync::Notify;
use tracing::{error, warn};

use crate::clock;
use crate::metrics::{Metrics, add};
use crate::peer::Links;

/// They hold no data on the stack.
const STACK_BYTES: usize = 512 * 1024;
const SEGMENT_THREADS: usize = 2;

/// Carries effects out. Shared by every task and thread that calls the node.
pub struct Executor {
    disk: Arc<dyn Disk>,
    node: OnceLock<Arc<Node>>,
    metrics: Arc<Metrics>,
    journal: Queue<DiskOp>,
    segments: Queue<DiskOp>,
    /// For other nodes that are behind: they must not hold up clients.
    reads: Queue<ReadWork>,
    links: OnceLock<Arc<Links>>,
    /// When the next tick is due, on the monotonic clock.
    tick_at: Mutex<Option<Duration>>,
    pub ticks: Notify,
    pub ready: Notify,
}

/// How long an operation that is under way at the end is waited for: a disk that hangs must not keep the process.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// The threads; joined when they are stopped.
pub struct WriterThreads {
    handles: Vec<JoinHandle<()>>,
    /// Ends when all of them have ended.
    running: Receiver<()>,
}

impl Executor {
    pub fn new(disk: Arc<dyn Disk>, metrics: Arc<Metrics>) -> Arc<Executor> {
        Arc::new(Executor {
            disk,
            node: OnceLock::new(),
            metrics,
            journal: Queue::default(),
            segments: Queue::default(),
            reads: Queue::default(),
            links: OnceLock::new(),
            tick_at: Mutex::new(None),
            ticks: Notify::new(),
            ready: Notify::new(),
        })
    }

    /// Other nodes are reached through these. To be called before the node's first effects are carried out.
    pub fn link_with(&self, links: Arc<Links>) {
        assert!(self.links.set(links).is_ok(), "an executor sends through one set of links");
    }

    /// Starts the threads for a node that was opened on this executor's disk.
    pub fn start(self: &Arc<Executor>, node: Arc<Node>) -> std::io::Result<WriterThreads> {
        assert!(self.node.set(node).is_ok(), "an executor serves one node");
        let (alive, running) = channel();
        let mut handles = vec![
            self.spawn("weir-journal", |executor| &executor.journal, Executor::work, alive.clone())?,
            self.spawn("weir-reads", |executor| &executor.reads, Executor::read, alive.clone())?,
        ];
        for at in 0..SEGMENT_THREADS {
            let name = format!("weir-segments-{at}");
            handles.push(self.spawn(&name, |executor| &executor.segments, Executor::work, alive.clone())?);
        }
        Ok(WriterThreads { handles, running })
    }

    fn spawn<T: 'static>(
        self: &Arc<Executor>,
        name: &str,
        queue: fn(&Executor) -> &Queue<T>,
        work: fn(&Executor, T),
        alive: Sender<()>,
    ) -> std::io::Result<JoinHandle<()>> {
        let executor = self.clone();
        std::thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(move || {
            while let Some(item) = queue(&executor).pop() {
                work(&executor, item);
            }
            drop(alive);
        })
    }

    fn read(&self, read: ReadWork) {
        let node = self.node.get().expect("threads start after the node was set");
        self.call(|fx| {
            let done = read.run(&*self.disk);
            node.read_done(clock::now(), done, fx);
        });
    }

    fn work(&self, op: DiskOp) {
        let node = self.node.get().expect("threads start after the node was set");
        self.call(|fx| {
            let begun = clock::mono();
            let result = op.run(&*self.disk);
            if op.lane == Lane::Journal {
                self.metrics.journal_took.record(clock::mono().saturating_sub(begun));
            }
            if let Err(error) = &result {
                add(&self.metrics.disk_errors, 1);
                warn!("disk: {error}");
            }
            node.disk_done(clock::now(), op.ticket, result, fx);
        });
    }

    /// Calls the node and carries out what it asks for. A failed assertion of one partition or group is caught inside of the
    /// node; what comes out is of the state that all share, and its effects are lost: with the write of a group among them,
    /// every later append would wait for ever in a process that looks alive.
    pub fn call<T>(&self, call: impl FnOnce(&mut Effects) -> T) -> T {
        let mut fx = Effects::new();
        let Ok(value) = catch_unwind(AssertUnwindSafe(|| call(&mut fx))) else {
            error!("this node cannot go on: an assertion about its shared state failed");
            std::process::exit(1);
        };
        self.carry_out(fx);
        value
    }

    /// Carries out what a call of the node asked for.
    pub fn carry_out(&self, fx: Effects) {
        for effect in fx {
            match effect {
                Effect::Reply { to, answer } => to.sink.reply(to.request, answer),
                Effect::Wake { waiter } => waiter.sink.wake(waiter.request),
                Effect::Disk(op) => self.submit(op),
                Effect::Read(read) => self.reads.push(read),
                Effect::TickBy { mono } => self.tick_by(mono),
                // Without links nobody has one to lose.
                Effect::Send { to, lane, frame } => {
                    if let Some(links) = self.links.get() {
                        links.send(to, lane, frame);
                    }
                }
                Effect::Link { peers } => match self.links.get() {
                    Some(links) => links.link(peers),
                    None if peers.is_empty() => {}
                    None => warn!("no links to {} other nodes: this one has no peer listener", peers.len()),
                },
                Effect::Ready => self.ready.notify_one(),
                Effect::Fatal { reason } => {
                    error!("this node cannot go on: {reason}");
                    std::process::exit(1);
                }
            }
        }
    }

    fn submit(&self, op: DiskOp) {
        match op.lane {
            Lane::Journal => {
                add(&self.metrics.journal_operations, 1);
                self.journal.push(op);
            }
            Lane::Segments => {
                add(&self.metrics.segment_operations, 1);
                self.segments.push(op);
            }
        }
    }

    fn tick_by(&self, at: Duration) {
        let mut tick_at = self.tick_at.lock().unwrap_or_else(PoisonError::into_inner);
        if tick_at.is_none_or(|due| at < due) {
            *tick_at = Some(at);
            drop(tick_at);
            self.ticks.notify_one();
        }
    }

    /// Ticks the node whenever it asked for it, until the task is dropped.
    pub async fn run_ticks(self: Arc<Executor>, node: Arc<Node>) {
        loop {
            // Forgotten before the tick: what asks for an earlier one during it must not be lost.
            *self.tick_at.lock().unwrap_or_else(PoisonError::into_inner) = None;
            let pause = self.call(|fx| node.tick(clock::now(), fx));
            self.tick_by(clock::mono() + pause);
            loop {
                let due = self.tick_at.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or_default();
                tokio::select! {
                    biased;
                    () = self.ticks.notified() => {}
                    () = tokio::time::sleep_until(clock::instant_of(due)) => break,
                }
            }
        }
    }

    /// Lets the threads finish what is queued and end. One that hangs in the disk is left behind: what it does was not acknowledged.
    pub fn stop(&self, threads: WriterThreads) {
        self.journal.close();
        self.segments.close();
        self.reads.close();
        if threads.running.recv_timeout(STOP_WAIT) == Err(RecvTimeoutError::Timeout) {
            return error!("the disk does not come back within {} s: left behind", STOP_WAIT.as_secs());
        }
        for thread in threads.handles {
            if thread.join().is_err() {
                error!("a disk thread had panicked");
            }
        }
    }
}

/// First in, first out, between threads.
struct Queue<T> {
    state: Mutex<QueueState<T>>,
    filled: Condvar,
}

struct QueueState<T> {
    items: VecDeque<T>,
    closed: bool,
    /// Threads that wait: without one, no system call is made to wake it.
    idle: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        let state = QueueState { items: VecDeque::new(), closed: false, idle: 0 };
        Queue { state: Mutex::new(state), filled: Condvar::new() }
    }
}

impl<T> Queue<T> {
    fn push(&self, item: T) {
        let mut state = self.lock();
        state.items.push_back(item);
        let idle = state.idle > 0;
        drop(state);
        if idle {
            self.filled.notify_one();
        }
    }

    /// The next item; `None` once the queue is closed and empty.
    fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                return Some(item);
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, QueueState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_queue_gives_out_what_is_in_it_and_ends() {
        let queue = Queue::default();
        queue.push(1);
        queue.push(2);
        queue.close();
        assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some(1), Some(2), None]);
    }

    #[test]
    fn every_item_reaches_one_thread() {
        let queue = Arc::new(Queue::default());
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                std::thread::spawn(move || std::iter::from_fn(|| queue.pop()).collect::<Vec<u32>>())
            })
            .collect();
        (0..1000).for_each(|item| queue.push(item));
        queue.close();
        let mut all: Vec<u32> = threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        all.sort_unstable();
        assert_eq!(all, (0..1000).collect::<Vec<u32>>());
    }
}

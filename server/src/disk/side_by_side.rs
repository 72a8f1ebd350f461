//! Threads for what a start does for thousands of logs.
//!
//! Owns how many. Invariants: they have ended when a call returns; a machine that gives no thread slows a start down and fails nothing.

use std::sync::{Mutex, PoisonError};
use std::thread::Builder;

use storage::disk::{Job, Threads};

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get())
}

/// As many threads as that.
#[derive(Debug)]
pub struct Cores;

impl Threads for Cores {
    fn count(&self) -> usize {
        cores()
    }

    fn run_all(&self, jobs: Vec<Job<'_>>) {
        run_all(jobs, Builder::new);
    }
}

/// Each thread, the caller's too, takes one job after the other.
fn run_all(jobs: Vec<Job<'_>>, thread: impl Fn() -> Builder) {
    let others = jobs.len().saturating_sub(1);
    let queue = Mutex::new(jobs.into_iter());
    // Not locked while a job runs.
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || std::iter::from_fn(next).for_each(|job| job());
    std::thread::scope(|scope| {
        for _ in 0..others {
            if thread().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn jobs(sum: &AtomicU32) -> Vec<Job<'_>> {
        let job = |number: u32| -> Job<'_> {
            Box::new(move || {
                sum.fetch_add(number, Ordering::Relaxed);
            })
        };
        (1..=10).map(job).collect()
    }

    #[test]
    fn all_jobs_have_ended_when_the_call_returns() {
        let sum = AtomicU32::new(0);
        Cores.run_all(jobs(&sum));
        assert_eq!(sum.load(Ordering::Relaxed), 55);
        Cores.run_all(Vec::new());
    }

    #[test]
    fn where_the_system_gives_no_thread_the_caller_runs_all_jobs() {
        // More memory for a stack than a process can have addresses.
        let thread = || Builder::new().stack_size(1 << 60);
        assert!(thread().spawn(|| ()).is_err());
        let sum = AtomicU32::new(0);
        run_all(jobs(&sum), thread);
        assert_eq!(sum.load(Ordering::Relaxed), 55);
    }
}

//! Threads for what a start does for thousands of logs.
//!
//! Owns how many. Invariant: they have ended when a call returns.

use storage::disk::{Job, Threads};

/// As many as the machine has cores for this process.
#[derive(Debug)]
pub struct Cores;

impl Threads for Cores {
    fn count(&self) -> usize {
        std::thread::available_parallelism().map_or(1, |cores| cores.get())
    }

    fn run_all(&self, jobs: Vec<Job<'_>>) {
        std::thread::scope(|scope| {
            let mut jobs = jobs.into_iter();
            let first = jobs.next();
            jobs.for_each(|job| drop(scope.spawn(job)));
            if let Some(job) = first {
                job();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn all_jobs_have_ended_when_the_call_returns() {
        let sum = AtomicU32::new(0);
        let job = |number: u32| -> Job<'_> {
            let sum = &sum;
            Box::new(move || {
                sum.fetch_add(number, Ordering::Relaxed);
            })
        };
        Cores.run_all((1..=10).map(job).collect());
        assert_eq!(sum.load(Ordering::Relaxed), 55);
        Cores.run_all(Vec::new());
    }
}

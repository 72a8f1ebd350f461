//! The memory that requests and answers may take, and how much this process may use at all.
//!
//! Owns the two allowances that the edge counts: frames that were read and are not answered, and answers: records read for them, and
//! those that are large without records. Does not own appends and tails: `node::budget` counts those.
//! Invariant: what is taken is given back when the `Charge` is dropped.

use std::fs;
use std::sync::Arc;

use model::units::{GIB, MIB};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit stands for.
const PAGE: u64 = 4096;
/// An answer of so many bytes needs no leave to be built.
const ANSWER_BYTES_FREE: usize = 256 * 1024;
/// Below this the limits of single requests would not fit.
pub const MEMORY_BYTES_MIN: u64 = 64 * MIB;

/// One allowance. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Allowance {
    pages: Arc<Semaphore>,
    limit: u64,
}

/// Bytes taken from an allowance.
#[derive(Debug, Default)]
pub struct Charge(Option<OwnedSemaphorePermit>);

impl Charge {
    /// What it allows to be held.
    pub fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |permit| permit.num_permits() as u64 * PAGE)
    }

    /// Gives back what is more than so many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        let pages = bytes.div_ceil(PAGE as usize);
        let has = self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if let Some(permit) = self.0.as_mut().filter(|_| has > pages) {
            drop(permit.split(has - pages));
        }
    }

    /// Puts another charge of the same allowance to this one.
    pub fn merge(&mut self, other: Charge) {
        match (&mut self.0, other.0) {
            (Some(mine), Some(other)) => mine.merge(other),
            (mine @ None, other) => *mine = other,
            (Some(_), None) => {}
        }
    }
}

impl Allowance {
    pub fn new(limit: u64) -> Allowance {
        let pages = usize::try_from(limit / PAGE).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS);
        Allowance { pages: Arc::new(Semaphore::new(pages)), limit }
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn free(&self) -> u64 {
        self.pages.available_permits() as u64 * PAGE
    }

    /// Little is left: who holds some and does not go on may be told to.
    pub fn is_scarce(&self) -> bool {
        self.free() < self.limit / 8
    }

    /// Takes so many bytes, or `None` when they are not free.
    pub fn try_take(&self, bytes: usize) -> Option<Charge> {
        self.pages.clone().try_acquire_many_owned(self.pages_for(bytes)).ok().map(|permit| Charge(Some(permit)))
    }

    /// Waits, in turn, until so many bytes are free.
    pub async fn take(&self, bytes: usize) -> Charge {
        let permit = self.pages.clone().acquire_many_owned(self.pages_for(bytes)).await;
        Charge(Some(permit.expect("the semaphore is never closed")))
    }

    /// For an answer that is built whole, about so large: waits, in turn, until that is free. A small one is not counted.
    pub async fn take_for_answer(&self, bytes: usize) -> Charge {
        if bytes <= ANSWER_BYTES_FREE { Charge::default() } else { self.take(bytes).await }
    }

    /// A charge for exactly so many bytes, made of one that is held: the rest of that is given back, what is missing taken. `None`, and
    /// nothing is held any more, when so much is not free.
    pub fn adjust(&self, mut held: Charge, bytes: usize) -> Option<Charge> {
        let wanted = self.pages_for(bytes) as usize;
        let has = held.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if has > wanted {
            held.shrink_to(bytes);
        } else if has < wanted {
            let missing = u32::try_from(wanted - has).unwrap_or(u32::MAX);
            let more = self.pages.clone().try_acquire_many_owned(missing).ok()?;
            held.merge(Charge(Some(more)));
        }
        Some(held)
    }

    /// Never more than the whole: a single request may always be served, alone.
    fn pages_for(&self, bytes: usize) -> u32 {
        let pages = (bytes as u64).div_ceil(PAGE).min(self.limit / PAGE);
        u32::try_from(pages).unwrap_or(u32::MAX)
    }
}

/// Bytes that this process may use: the machine's, or less where a cgroup says so.
pub fn usable_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_total(&text)).unwrap_or(GIB);
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let group = groups.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()).min();
    machine.min(group.unwrap_or(u64::MAX))
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn an_allowance_gives_out_no_more_than_it_has() {
        let allowance = Allowance::new(64 * 4096);
        let first = allowance.try_take(60 * 4096).expect("free");
        assert!(allowance.try_take(5 * 4096).is_none());
        drop(first);
        assert!(allowance.try_take(64 * 4096).is_some());
    }

    #[test]
    fn a_request_larger_than_the_whole_allowance_takes_all_of_it() {
        let allowance = Allowance::new(64 * 4096);
        let all = allowance.try_take(1000 * 4096).expect("alone it may be served");
        assert_eq!(allowance.free(), 0);
        drop(all);
        assert_eq!(allowance.free(), 64 * 4096);
    }

    #[test]
    fn a_charge_is_made_larger_and_smaller_and_only_with_what_is_free() {
        let allowance = Allowance::new(64 * 4096);
        let others = allowance.try_take(50 * 4096).expect("free");
        let held = allowance.adjust(Charge::default(), 10 * 4096).expect("free");
        let held = allowance.adjust(held, 14 * 4096).expect("free");
        assert_eq!((held.bytes(), allowance.free()), (14 * 4096, 0));
        let held = allowance.adjust(held, 3 * 4096).expect("smaller");
        assert_eq!((held.bytes(), allowance.free()), (3 * 4096, 11 * 4096));
        assert!(allowance.adjust(held, 15 * 4096).is_none());
        assert_eq!(allowance.free(), 14 * 4096, "what was held is given back");
        drop(others);
        // More than there is at all: everything, alone.
        let all = allowance.adjust(Charge::default(), 65 * 4096).expect("all of it");
        assert_eq!((all.bytes(), allowance.free()), (64 * 4096, 0));
        assert_eq!(allowance.adjust(all, 0).expect("nothing").bytes(), 0);
        assert_eq!(allowance.free(), 64 * 4096);
    }

    #[test]
    fn a_large_answer_waits_until_there_is_memory_for_it_and_a_small_one_does_not() {
        let allowance = Allowance::new(4 * MIB);
        let mut others = allowance.try_take(4 * MIB as usize).expect("free");
        let mut context = Context::from_waker(Waker::noop());
        let small = pin!(allowance.take_for_answer(ANSWER_BYTES_FREE));
        assert!(small.poll(&mut context).is_ready());
        let mut large = pin!(allowance.take_for_answer(MIB as usize));
        assert!(large.as_mut().poll(&mut context).is_pending());
        others.shrink_to(3 * MIB as usize);
        let Poll::Ready(mut charge) = large.poll(&mut context) else { panic!("it is free now") };
        assert_eq!((charge.bytes(), allowance.free()), (MIB, 0));
        charge.shrink_to(5000);
        assert_eq!((charge.bytes(), allowance.free()), (8192, MIB - 8192));
        charge.shrink_to(9000);
        assert_eq!(charge.bytes(), 8192);
    }

    #[test]
    fn the_memory_of_the_machine_is_read_from_meminfo() {
        assert_eq!(mem_total("MemTotal:       24000 kB\nMemFree: 1 kB\n"), Some(24000 * 1024));
        assert_eq!(mem_total("nothing"), None);
    }
}

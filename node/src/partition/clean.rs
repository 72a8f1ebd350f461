//! What compaction asks of a partition: whether it is worth while, a run to begin, a new segment to be adopted.
//!
//! Owns these under the lock. Does not own the run (`clean`) nor the choice of records (`storage::log::compact`).
//! Invariant: every replica compacts by itself, and only what is committed: what one leader may still take back is left alone.

use std::sync::Arc;
use std::time::Duration;

use model::Now;
use storage::Unit;
use storage::disk::Step;
use storage::log::compact::{Cleaning, Means, Swap, Worth};

use super::handle::{Deletion, Partition, State};
use crate::commit::Told;
use crate::core::Core;
use crate::effects::Effects;

impl Partition {
    /// Whether a run would be worth while now.
    pub(crate) fn worth_cleaning(&self, core: &Core, now: Now) -> Option<Worth> {
        let state = self.lock();
        state.log.config().compact?;
        let rests = state.clean_after.is_some_and(|after| now.mono < after);
        if rests || !may_clean(&state) {
            return None;
        }
        state.log.worth_cleaning(core.wall.read(now), state.replica.limits().last_stable)
    }

    /// A run, with these means but for the producers, which the partition knows.
    pub(crate) fn begin_cleaning(&self, means: Means) -> Option<Cleaning> {
        let state = self.lock();
        if !may_clean(&state) {
            return None;
        }
        let producers = state.replica.producers().last_offsets().collect();
        state.log.begin_cleaning(state.replica.limits().last_stable, Means { producers, ..means })
    }

    /// A new segment takes the place of others.
    ///
    /// # Errors
    /// The log is another by now: the steps that remove the new segment.
    pub(crate) fn adopt(self: &Arc<Self>, core: &Core, swap: Swap, fx: &mut Effects) -> Result<(), Vec<Step>> {
        let adopted = self.guarded(core, fx, |state, _| {
            // Behind a stop's last checkpoint, nothing may come into the journal.
            if !may_clean(state) {
                return Err(swap.refuse(&state.log));
            }
            let entry = state.log.adopt(swap)?;
            let operation = state.log.last_operation();
            state.files_go = true;
            let told = Told::Partition { partition: Arc::clone(self), operation, end: None };
            core.commit.push(Unit::one(entry), told);
            Ok(())
        });
        // After a failed assertion nobody knows what the log relies on: nothing is removed.
        adopted.unwrap_or_else(|_offline| Err(Vec::new()))
    }

    /// A run came to nothing: no other one begins before. `None`: none at all until the next start.
    pub(crate) fn rest_cleaning(&self, until: Option<Duration>) {
        self.lock().clean_after = Some(until.unwrap_or(Duration::MAX));
    }
}

fn may_clean(state: &State) -> bool {
    let ours = state.deletion == Deletion::No && !state.set_aside && !state.held;
    ours && !state.closed && state.replica.failure().is_none()
}

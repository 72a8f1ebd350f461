//! DeleteRecords: the log's start moves, and whoever asked is answered when no member of the ISR could bring the records back.
//!
//! Owns the requests and who waits in a partition. Does not own the move: `lifecycle`, which retention uses too.
//! Invariant: each part of a request is answered exactly once. What is answered with success is durable on every member of the ISR:
//! whichever of them leads next, the log does not begin earlier again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{Now, Offset};
use replication::partition::replica::Event;

use super::handle::{Partition, State};
use crate::core::Core;
use crate::effects::{Effect, Effects, ReplyTo};
use crate::requests::{Answer, DeleteRecordsError};

type PartResult = Result<Offset, DeleteRecordsError>;

/// One request of several partitions.
#[derive(Debug)]
pub(crate) struct DeleteRequest {
    reply: ReplyTo,
    parts: Mutex<Parts>,
}

#[derive(Debug)]
struct Parts {
    results: Vec<Option<PartResult>>,
    left: usize,
}

impl DeleteRequest {
    pub(crate) fn new(reply: ReplyTo, parts: usize) -> Arc<DeleteRequest> {
        Arc::new(DeleteRequest { reply, parts: Mutex::new(Parts { results: vec![None; parts], left: parts }) })
    }

    /// The last part that is answered sends the answer. What comes second for a part is dropped: its partition failed half-way.
    pub(crate) fn answer(&self, part: usize, result: PartResult, fx: &mut Effects) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot @ None) = parts.results.get_mut(part) else { return };
        *slot = Some(result);
        parts.left -= 1;
        if parts.left > 0 {
            return;
        }
        let results = std::mem::take(&mut parts.results).into_iter().flatten().collect();
        fx.push(Effect::Reply { to: self.reply.clone(), answer: Answer::RecordsDeleted(results) });
    }
}

/// One part of a request, as it waits in its partition.
#[derive(Clone, Debug)]
pub(crate) struct Deletion {
    pub(crate) request: Arc<DeleteRequest>,
    pub(crate) part: usize,
    /// `None`: all that is committed.
    pub(crate) before: Option<Offset>,
    pub(crate) deadline: Duration,
}

/// A part whose move was made.
#[derive(Debug)]
pub(crate) struct WaitingDeletion {
    start: Offset,
    deletion: Deletion,
}

impl Partition {
    pub(crate) fn delete_records(self: &Arc<Self>, core: &Core, now: Now, deletion: Deletion, fx: &mut Effects) {
        let spare = deletion.clone();
        let done = self.guarded(core, fx, |state, fx| {
            let high_watermark = state.replica.high_watermark();
            let start = deletion.before.unwrap_or(high_watermark);
            let refused = if let Some(reason) = state.replica.failure() {
                Some(DeleteRecordsError::Disk { reason: reason.to_owned() })
            } else if !state.replica.leads() || state.closed {
                Some(DeleteRecordsError::NotLeader)
            } else if start > high_watermark {
                Some(DeleteRecordsError::OutOfRange { high_watermark, got: start.get() })
            } else {
                None
            };
            if let Some(error) = refused {
                return deletion.request.answer(deletion.part, Err(error), fx);
            }
            if start > state.log.log_start() {
                tracing::info!(partition = %self.id, %start, "records below are deleted by a client");
                self.delete_before(core, state, start);
            }
            state.deletions.push(WaitingDeletion { start, deletion });
            self.step_locked(core, now, state, Event::LogStartMoved { start }, fx);
        });
        if let Err(reason) = done {
            spare.request.answer(spare.part, Err(DeleteRecordsError::Disk { reason }), fx);
        }
    }

    /// Answers those that need not wait any more. To be called when anything has moved.
    pub(super) fn settle_deletions(&self, now: Now, state: &mut State, fx: &mut Effects) {
        if state.deletions.is_empty() {
            return;
        }
        let low = low_watermark(state);
        let verdict = |waiting: &WaitingDeletion| {
            if let Some(reason) = state.replica.failure() {
                return Some(Err(DeleteRecordsError::Disk { reason: reason.to_owned() }));
            }
            if !state.replica.leads() {
                return Some(Err(DeleteRecordsError::NotLeader));
            }
            if low >= waiting.start {
                return Some(Ok(low));
            }
            let over = now.mono >= waiting.deletion.deadline;
            over.then_some(Err(DeleteRecordsError::TimedOut { low_watermark: low, asked: waiting.start }))
        };
        let decided: Vec<Option<PartResult>> = state.deletions.iter().map(verdict).collect();
        let mut still = Vec::new();
        for (waiting, result) in std::mem::take(&mut state.deletions).into_iter().zip(decided) {
            match result {
                Some(result) => waiting.deletion.request.answer(waiting.deletion.part, result, fx),
                None => still.push(waiting),
            }
        }
        state.deletions = still;
    }

    /// The partition is out of use.
    pub(super) fn refuse_deletions(state: &mut State, reason: &str, fx: &mut Effects) {
        for WaitingDeletion { deletion, .. } in state.deletions.drain(..) {
            deletion.request.answer(deletion.part, Err(DeleteRecordsError::Disk { reason: reason.to_owned() }), fx);
        }
    }
}

/// Where every log of the ISR begins at the least, for good.
fn low_watermark(state: &State) -> Offset {
    let of_follower = |node| {
        let outflow = state.outflows.iter().find(|outflow| outflow.node == node);
        outflow.map_or(Offset::ZERO, |outflow| outflow.log_start)
    };
    let others = state.replica.in_sync().filter(|node| *node != state.replica.node());
    others.map(of_follower).fold(state.log.durable_start(), Offset::min)
}

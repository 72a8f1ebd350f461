//! A produce request on its way: its parts are answered one by one, the client once.
//!
//! Owns the collection of the parts' results. Does not own when a part is answered: the partition's leader decides.
//! Invariant: each part is answered exactly once; the last one sends the answer and gives the memory back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::budget::Budget;
use crate::effects::{Effect, Effects, ReplyTo};
use crate::requests::{Acks, Answer, AppendError, Appended, ProduceAnswer};

type PartResult = Result<Appended, AppendError>;

#[derive(Debug)]
pub(crate) struct ProduceRequest {
    acks: Acks,
    reply: ReplyTo,
    bytes: u64,
    budget: Arc<Budget>,
    parts: Mutex<Parts>,
}

#[derive(Debug)]
struct Parts {
    results: Vec<Option<PartResult>>,
    left: usize,
}

impl ProduceRequest {
    /// `bytes` were taken from the budget; they are given back with the answer.
    pub(crate) fn new(
        acks: Acks,
        reply: ReplyTo,
        parts: usize,
        bytes: u64,
        budget: Arc<Budget>,
    ) -> Arc<ProduceRequest> {
        // One more than there are parts: the request itself, until all its parts are under way.
        let parts = Parts { results: vec![None; parts], left: parts + 1 };
        Arc::new(ProduceRequest { acks, reply, bytes, budget, parts: Mutex::new(parts) })
    }

    /// All parts are under way: from now on the last one that is answered sends the answer.
    pub(crate) fn close(&self, fx: &mut Effects) {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        self.count_down(parts, fx);
    }

    pub(crate) fn answer(&self, part: usize, result: PartResult, fx: &mut Effects) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = parts.results.get_mut(part).expect("a part of this request");
        assert!(slot.is_none(), "part {part} was answered before");
        *slot = Some(result);
        self.count_down(parts, fx);
    }

    /// As `answer`, unless the part is answered: for a partition that failed half-way.
    pub(crate) fn answer_once(&self, part: usize, result: PartResult, fx: &mut Effects) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot @ None) = parts.results.get_mut(part) {
            *slot = Some(result);
            self.count_down(parts, fx);
        }
    }

    fn count_down(&self, mut parts: MutexGuard<'_, Parts>, fx: &mut Effects) {
        parts.left -= 1;
        if parts.left > 0 {
            return;
        }
        let results = std::mem::take(&mut parts.results);
        drop(parts);
        self.budget.give_append(self.bytes);
        if self.acks == Acks::None {
            return;
        }
        let parts = results.into_iter().map(|result| result.expect("none is left")).collect();
        fx.push(Effect::Reply { to: self.reply.clone(), answer: Answer::Produced(ProduceAnswer { parts }) });
    }
}

/// Who is told what became of an append.
#[derive(Clone, Debug)]
pub(crate) enum Waiter {
    Client {
        request: Arc<ProduceRequest>,
        part: usize,
    },
    /// A coordinator: its driver is told with this token.
    Internal {
        token: u64,
    },
}

//! Where one request waits for the node.
//!
//! Owns the meeting of an answer, given on any thread, and the task that writes it. Does not own what the answer says.
//! Invariant: an answer that comes before anybody waits is kept.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use node::effects::{ReplySink, ReplyTo};
use node::requests::Answer;

/// Waits for one answer, or for wakes, or for a hurry.
#[derive(Default)]
pub struct ReplyCell {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    answer: Option<Answer>,
    woken: bool,
    hurried: bool,
    waker: Option<Waker>,
}

impl ReplyCell {
    pub fn new() -> Arc<ReplyCell> {
        Arc::new(ReplyCell::default())
    }

    pub fn reply_to(self: &Arc<ReplyCell>) -> ReplyTo {
        ReplyTo { sink: self.clone(), request: 0 }
    }

    /// The answer of the node, once.
    pub async fn answer(&self) -> Answer {
        poll_fn(|cx| {
            let mut state = self.lock();
            match state.answer.take() {
                Some(answer) => Poll::Ready(answer),
                None => {
                    state.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Until something moved that was watched, or somebody else waits behind this request.
    pub async fn woken(&self) {
        poll_fn(|cx| {
            let mut state = self.lock();
            if std::mem::take(&mut state.woken) || state.hurried {
                return Poll::Ready(());
            }
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Asks the request to be answered with what there is.
    pub fn hurry(&self) {
        self.change(|state| state.hurried = true);
    }

    pub fn is_hurried(&self) -> bool {
        self.lock().hurried
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let waker = {
            let mut state = self.lock();
            change(&mut state);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReplySink for ReplyCell {
    fn reply(&self, _request: u64, answer: Answer) {
        self.change(|state| state.answer = Some(answer));
    }

    fn wake(&self, _request: u64) {
        self.change(|state| state.woken = true);
    }
}

//! Requests to the active controller: topics and producer ids.
//!
//! Owns who waits for which proposal. Does not own the decisions (`replication::controller::{topics, nodes}`).
//! Invariants: each request is answered once, after the facts that it speaks of are in the image; what was decided on facts that are
//! not committed yet (a refusal because a topic is being created) is answered after them.

use std::collections::VecDeque;

use model::{ErrorCode, Now, ProducerEpoch, ProducerId};
use replication::controller::nodes::{PRODUCER_ID_BLOCK, allocate_producer_ids};
use replication::controller::topics::{self, Decided};
use replication::controller::{Outcome, Token};
use replication::metadata::Fact;

use super::driver::{ControllerDriver, ControllerOut};
use crate::effects::ReplyTo;
use crate::requests::{Answer, NewTopic, Refusal, TopicRef};

/// Proposals that wait for the journal at once.
const PROPOSALS_MAX: usize = 4096;
/// Producers that wait for a block of ids at once.
const PRODUCERS_WAITING_MAX: usize = 65_536;

#[derive(Debug)]
pub(super) enum Waiting {
    Registration,
    ProducerIds { first: i64 },
    Answer { reply: ReplyTo, answer: Prepared },
}

/// An answer that was decided and is true once its facts are committed.
#[derive(Debug)]
pub(super) struct Prepared(Answer);

impl Prepared {
    pub(super) fn after(self, outcome: Outcome) -> Answer {
        match outcome {
            Outcome::Committed => self.0,
            Outcome::Unknown => refuse_all(self.0, &uncertain()),
        }
    }
}

/// The block of producer ids that this node hands out from.
#[derive(Debug, Default)]
pub(super) struct ProducerIds {
    next: i64,
    end: i64,
    asked: bool,
    waiting: VecDeque<ReplyTo>,
}

impl ProducerIds {
    pub(super) fn arrived(&mut self, outcome: Outcome, first: i64) {
        self.asked = false;
        if outcome == Outcome::Committed {
            (self.next, self.end) = (first, first + PRODUCER_ID_BLOCK);
        }
    }

    fn take(&mut self) -> Option<ProducerId> {
        let id = (self.next < self.end).then_some(ProducerId(self.next))?;
        self.next += 1;
        Some(id)
    }
}

impl ControllerDriver {
    /// Answers with `Answer::TopicsCreated`.
    pub(crate) fn create_topics(
        &mut self,
        now: Now,
        wanted: &[NewTopic],
        validate_only: bool,
        reply: ReplyTo,
        out: &mut ControllerOut,
    ) {
        let decided = match self.controller.decide() {
            Ok((image, random)) => topics::create(image, wanted, random),
            Err(_) => return out.answers.push((reply, Answer::TopicsCreated(refusals(wanted.len())))),
        };
        let facts = if validate_only { Vec::new() } else { decided.facts };
        self.answer_after(now, &facts, reply, Answer::TopicsCreated(decided.answers), out);
    }

    /// Answers with `Answer::TopicsDeleted`.
    pub(crate) fn delete_topics(&mut self, now: Now, wanted: &[TopicRef], reply: ReplyTo, out: &mut ControllerOut) {
        let Decided { facts, answers } = match self.controller.decide() {
            Ok((image, _)) => topics::delete(image, wanted),
            Err(_) => return out.answers.push((reply, Answer::TopicsDeleted(refusals(wanted.len())))),
        };
        self.answer_after(now, &facts, reply, Answer::TopicsDeleted(answers), out);
    }

    /// Makes the topic in which groups keep their offsets, unless it is there or on its way. Nobody is told.
    pub(crate) fn ensure_offsets_topic(&mut self, now: Now, out: &mut ControllerOut) {
        let Ok((image, random)) = self.controller.decide() else { return };
        let wanted = topics::offsets_topic(image);
        if image.topic(&wanted.name).is_some() {
            return;
        }
        let decided = topics::create(image, std::slice::from_ref(&wanted), random);
        for refusal in decided.answers.iter().filter_map(|answer| answer.as_ref().err()) {
            tracing::warn!(topic = %wanted.name, %refusal, "the topic for groups cannot be made");
        }
        if !decided.facts.is_empty() {
            self.propose(&decided.facts, None);
            self.collect(now, out);
        }
    }

    /// Answers with `Answer::ProducerId`.
    pub(crate) fn init_producer_id(&mut self, now: Now, reply: ReplyTo, out: &mut ControllerOut) {
        if self.producer_ids.waiting.len() >= PRODUCERS_WAITING_MAX {
            let message = format!("{PRODUCERS_WAITING_MAX} producers wait for an id already");
            let refusal = Refusal::new(ErrorCode::CoordinatorNotAvailable, message);
            return out.answers.push((reply, Answer::ProducerId(Err(refusal))));
        }
        self.producer_ids.waiting.push_back(reply);
        self.serve_producer_ids(now, out);
    }

    pub(super) fn serve_producer_ids(&mut self, now: Now, out: &mut ControllerOut) {
        while !self.producer_ids.waiting.is_empty() {
            let Some(id) = self.producer_ids.take() else { return self.ask_for_producer_ids(now, out) };
            let reply = self.producer_ids.waiting.pop_front().expect("one waits");
            out.answers.push((reply, Answer::ProducerId(Ok((id, ProducerEpoch(0))))));
        }
    }

    fn ask_for_producer_ids(&mut self, now: Now, out: &mut ControllerOut) {
        if self.producer_ids.asked {
            return;
        }
        let node = self.node;
        let Ok((image, _)) = self.controller.decide() else {
            let refused = |reply| (reply, Answer::ProducerId(Err(not_controller())));
            return out.answers.extend(self.producer_ids.waiting.drain(..).map(refused));
        };
        let (fact, first) = allocate_producer_ids(image, node);
        self.producer_ids.asked = true;
        self.propose(&[vec![fact]], Some(Waiting::ProducerIds { first }));
        self.collect(now, out);
    }

    fn answer_after(&mut self, now: Now, facts: &[Vec<Fact>], reply: ReplyTo, answer: Answer, out: &mut ControllerOut) {
        if self.waiting.len() >= PROPOSALS_MAX {
            let message = format!("{PROPOSALS_MAX} changes of the metadata wait already; ask again");
            let answer = refuse_all(answer, &Refusal::new(ErrorCode::RequestTimedOut, message));
            return out.answers.push((reply, answer));
        }
        if !facts.is_empty() {
            self.propose(facts, Some(Waiting::Answer { reply, answer: Prepared(answer) }));
            return self.collect(now, out);
        }
        match self.waiting.last_entry() {
            Some(mut last) => last.get_mut().push(Waiting::Answer { reply, answer: Prepared(answer) }),
            None => out.answers.push((reply, answer)),
        }
    }

    /// What is asked meanwhile may depend on these facts, and waits for them too.
    ///
    /// # Panics
    /// When this node is not active: then nothing was decided either.
    pub(super) fn propose(&mut self, groups: &[Vec<Fact>], waiting: Option<Waiting>) {
        let token = Token(self.next_token);
        self.next_token += 1;
        self.controller.propose(groups, token).expect("it decided just now, so it is active");
        self.waiting.insert(token, waiting.into_iter().collect());
    }
}

fn refuse_all(answer: Answer, refusal: &Refusal) -> Answer {
    fn all<T>(answers: Vec<Result<T, Refusal>>, refusal: &Refusal) -> Vec<Result<T, Refusal>> {
        answers.into_iter().map(|answer| answer.and(Err(refusal.clone()))).collect()
    }
    match answer {
        Answer::TopicsCreated(answers) => Answer::TopicsCreated(all(answers, refusal)),
        Answer::TopicsDeleted(answers) => Answer::TopicsDeleted(all(answers, refusal)),
        other => other,
    }
}

fn refusals<T>(count: usize) -> Vec<Result<T, Refusal>> {
    (0..count).map(|_| Err(not_controller())).collect()
}

fn not_controller() -> Refusal {
    Refusal::new(ErrorCode::NotController, "this node is not the active controller")
}

fn uncertain() -> Refusal {
    Refusal::new(ErrorCode::NotController, "another controller took over before this was certain; ask again")
}

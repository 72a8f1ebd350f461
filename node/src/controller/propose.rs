//! Topics and producer ids: requests of this node's clients to the active controller, in their own words.
//!
//! Owns the block of producer ids that this node hands out from. Does not own where requests go (`asks`) nor the decisions.
//! Invariant: an id is handed out once; a block costs the log one entry.

use std::collections::VecDeque;
use std::time::Duration;

use model::{ErrorCode, Now, ProducerEpoch, ProducerId};
use replication::controller::requests::{ControllerAnswer, ControllerRequest};
use replication::controller::topics;

use super::asks::{Asker, Decided, Form};
use super::driver::{ControllerDriver, ControllerOut};
use crate::effects::ReplyTo;
use crate::requests::{Answer, NewTopic, Refusal, TopicRef};

/// Clients wait for 30 s by themselves.
const TOPICS_TIMEOUT: Duration = Duration::from_secs(30);
/// Producers are told to ask again before they give up by themselves.
const PRODUCER_IDS_TIMEOUT: Duration = Duration::from_secs(10);
/// Producers that wait for a block of ids at once.
const PRODUCERS_WAITING_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct ProducerIds {
    next: i64,
    end: i64,
    asked: bool,
    waiting: VecDeque<ReplyTo>,
}

impl ProducerIds {
    pub(super) fn arrived(&mut self, decided: Decided, out: &mut ControllerOut) {
        self.asked = false;
        match decided {
            Ok(ControllerAnswer::ProducerIds { first, count }) => {
                (self.next, self.end) = (first, first.saturating_add(i64::from(count)));
                self.serve(out);
            }
            other => {
                let message = match other {
                    Err(refusal) => refusal.message,
                    Ok(_) => "the controller answered another question".to_owned(),
                };
                // What all clients take for "try again".
                let refusal = Refusal::new(ErrorCode::CoordinatorLoadInProgress, message);
                let refused = |reply| (reply, Answer::ProducerId(Err(refusal.clone())));
                out.answers.extend(self.waiting.drain(..).map(refused));
            }
        }
    }

    fn serve(&mut self, out: &mut ControllerOut) {
        while self.next < self.end {
            let Some(reply) = self.waiting.pop_front() else { return };
            out.answers.push((reply, Answer::ProducerId(Ok((ProducerId(self.next), ProducerEpoch(0))))));
            self.next += 1;
        }
    }
}

impl ControllerDriver {
    /// Answers with `Answer::Controller`.
    pub(crate) fn ask_controller(
        &mut self,
        now: Now,
        request: ControllerRequest,
        timeout: Duration,
        reply: ReplyTo,
        out: &mut ControllerOut,
    ) {
        self.ask(now, Asker::Client { reply, form: Form::Whole }, request, timeout, out);
        self.drive(now, out);
    }

    /// For the leaders of partitions of this node. Answers with `ControllerOut::for_replicas`.
    pub(crate) fn ask_for_replicas(
        &mut self,
        now: Now,
        request: ControllerRequest,
        timeout: Duration,
        out: &mut ControllerOut,
    ) {
        self.ask(now, Asker::Replicas, request, timeout, out);
        self.drive(now, out);
    }

    /// Answers with `Answer::TopicsCreated`.
    pub(crate) fn create_topics(
        &mut self,
        now: Now,
        topics: Vec<NewTopic>,
        validate_only: bool,
        reply: ReplyTo,
        out: &mut ControllerOut,
    ) {
        let asker = Asker::Client { reply, form: Form::TopicsCreated(topics.len()) };
        self.ask(now, asker, ControllerRequest::CreateTopics { topics, validate_only }, TOPICS_TIMEOUT, out);
        self.drive(now, out);
    }

    /// Answers with `Answer::TopicsDeleted`.
    pub(crate) fn delete_topics(&mut self, now: Now, topics: Vec<TopicRef>, reply: ReplyTo, out: &mut ControllerOut) {
        let asker = Asker::Client { reply, form: Form::TopicsDeleted(topics.len()) };
        self.ask(now, asker, ControllerRequest::DeleteTopics { topics }, TOPICS_TIMEOUT, out);
        self.drive(now, out);
    }

    /// Makes the topic in which groups keep their offsets, unless it is there or on its way. Nobody is told.
    pub(crate) fn ensure_offsets_topic(&mut self, now: Now, out: &mut ControllerOut) {
        let wanted = topics::offsets_topic(self.controller.image());
        if self.offsets_topic_asked || self.controller.image().topic(&wanted.name).is_some() {
            return;
        }
        self.offsets_topic_asked = true;
        let request = ControllerRequest::CreateTopics { topics: vec![wanted], validate_only: false };
        self.ask(now, Asker::OffsetsTopic, request, TOPICS_TIMEOUT, out);
        self.drive(now, out);
    }

    pub(super) fn offsets_topic_made(&mut self, decided: Decided) {
        self.offsets_topic_asked = false;
        let refusals = match decided {
            Ok(ControllerAnswer::TopicsCreated(answers)) => answers.into_iter().filter_map(Result::err).collect(),
            Ok(_) => Vec::new(),
            Err(refusal) => vec![refusal],
        };
        // Another node may have been first.
        for refusal in refusals.iter().filter(|refusal| refusal.code != ErrorCode::TopicAlreadyExists) {
            tracing::warn!(%refusal, "the topic for groups cannot be made");
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
        self.producer_ids.serve(out);
        self.ask_for_producer_ids(now, out);
        self.drive(now, out);
    }

    /// When some wait, and no block is on its way.
    pub(super) fn ask_for_producer_ids(&mut self, now: Now, out: &mut ControllerOut) {
        if self.producer_ids.asked || self.producer_ids.waiting.is_empty() {
            return;
        }
        self.producer_ids.asked = true;
        let request = ControllerRequest::AllocateProducerIds { node: self.node };
        self.ask(now, Asker::ProducerIds, request, PRODUCER_IDS_TIMEOUT, out);
    }
}

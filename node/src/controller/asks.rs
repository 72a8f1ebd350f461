//! Requests for the active controller, from wherever they come: clients of this node, other nodes, this node itself.
//!
//! Owns who waits for which answer and where the request is: here, at the other node, in the log. Does not own the decisions
//! (`replication::controller::decide`).
//! Invariants: each request is answered once; with success only when this node's image holds what was decided (read your writes); a
//! refusal that speaks of facts which are not committed yet waits for them; what was sent to a controller that is gone is asked again
//! only where asking twice does no harm.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{ErrorCode, NodeId, Now};
use replication::controller::requests::{ControllerAnswer, ControllerRequest};
use replication::controller::requests_codec::encode_answer;
use replication::controller::{Decision, Outcome, Token, decide};
use replication::metadata::{Fact, Image};

use super::driver::{ControllerDriver, ControllerOut};
use crate::effects::ReplyTo;
use crate::liveness::Liveness;
use crate::peer::Frame;
use crate::requests::{Answer, Refusal};

/// Requests that wait at once.
const ASKS_MAX: usize = 4096;
/// After a node said that it is not the controller, and none is known, the next try comes so much later.
pub(super) const RETRY: Duration = Duration::from_millis(50);
/// How long a request of another node may stay here.
pub(super) const PEER_TIMEOUT: Duration = Duration::from_secs(30);

/// Between nodes: it may or may not take effect. (NOT_CONTROLLER: it was not decided.)
pub(super) const UNCERTAIN: ErrorCode = ErrorCode::StaleControllerEpoch;

pub(super) type Decided = Result<ControllerAnswer, Refusal>;

/// Who is told.
#[derive(Debug)]
pub(super) enum Asker {
    Client {
        reply: ReplyTo,
        form: Form,
    },
    /// Another node, which gave the request this number.
    Peer {
        node: NodeId,
        id: u64,
    },
    Registration,
    ProducerIds,
    OffsetsTopic,
    HandOver,
    /// The leaders of partitions of this node.
    Replicas,
}

/// How a client is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// `Answer::Controller`.
    Whole,
    /// `Answer::TopicsCreated`, `Answer::TopicsDeleted`: one answer for each of so many.
    TopicsCreated(usize),
    TopicsDeleted(usize),
}

impl Form {
    fn answer(self, decided: Decided) -> Answer {
        fn all<T>(count: usize, refusal: &Refusal) -> Vec<Result<T, Refusal>> {
            (0..count).map(|_| Err(refusal.clone())).collect()
        }
        match (self, decided) {
            (Form::TopicsCreated(_), Ok(ControllerAnswer::TopicsCreated(answers))) => Answer::TopicsCreated(answers),
            (Form::TopicsDeleted(_), Ok(ControllerAnswer::TopicsDeleted(answers))) => Answer::TopicsDeleted(answers),
            (Form::TopicsCreated(count), decided) => Answer::TopicsCreated(all(count, &refusal_of(decided))),
            (Form::TopicsDeleted(count), decided) => Answer::TopicsDeleted(all(count, &refusal_of(decided))),
            (Form::Whole, decided) => Answer::Controller(decided),
        }
    }
}

/// Of a node that answered something else than what was asked, too.
fn refusal_of(decided: Decided) -> Refusal {
    let other = |_| Refusal::new(ErrorCode::UnknownServerError, "the controller answered another question");
    decided.map_or_else(|refusal| refusal, other)
}

#[derive(Debug)]
pub(super) struct Ask {
    pub(super) asker: Asker,
    pub(super) request: ControllerRequest,
    deadline: Duration,
    pub(super) place: Place,
    /// Sent on for another node: the next one does not send it on again, so it cannot go in circles.
    relayed: bool,
}

#[derive(Debug)]
pub(super) enum Place {
    /// For whoever will be the active controller.
    Queued {
        not_before: Duration,
    },
    Sent {
        to: NodeId,
    },
    /// Decided here, and on its way into the log.
    Proposed,
    /// Decided elsewhere; this node's image is not there yet.
    Applying {
        index: u64,
        decided: Decided,
    },
}

#[derive(Debug)]
pub(super) struct Asks {
    pub(super) all: BTreeMap<u64, Ask>,
    next_id: u64,
    /// Decided here: what is true once the facts of a proposal are committed.
    waiting: BTreeMap<Token, Vec<(u64, Decided)>>,
    next_token: u64,
    /// Whom a node asks that knows no controller: each in turn.
    pub(super) turn: usize,
}

impl Asks {
    pub(super) fn new() -> Asks {
        Asks { all: BTreeMap::new(), next_id: 1, waiting: BTreeMap::new(), next_token: 1, turn: 0 }
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token - 1)
    }

    /// The next look is needed then: something waits for a controller, or for its answer.
    pub(super) fn due(&self) -> Option<Duration> {
        let at = |ask: &Ask| match ask.place {
            Place::Queued { not_before } => Some(not_before.min(ask.deadline)),
            Place::Sent { .. } | Place::Applying { .. } => Some(ask.deadline),
            Place::Proposed => None,
        };
        self.all.values().filter_map(at).min()
    }

    pub(super) fn find(&self, is_wanted: impl Fn(&Ask) -> bool) -> Vec<u64> {
        self.all.iter().filter(|(_, ask)| is_wanted(ask)).map(|(id, _)| *id).collect()
    }
}

impl ControllerDriver {
    /// Takes a request. Its answer is in this output already, or in a later one.
    pub(super) fn ask(
        &mut self,
        now: Now,
        asker: Asker,
        request: ControllerRequest,
        timeout: Duration,
        out: &mut ControllerOut,
    ) {
        self.take_ask(now, asker, request, timeout, false, out);
    }

    pub(super) fn take_ask(
        &mut self,
        now: Now,
        asker: Asker,
        request: ControllerRequest,
        timeout: Duration,
        relayed: bool,
        out: &mut ControllerOut,
    ) {
        if self.asks.all.len() >= ASKS_MAX {
            let message = format!("{ASKS_MAX} requests wait for the controller already; ask again");
            return self.tell(now, asker, Err(Refusal::new(ErrorCode::RequestTimedOut, message)), out);
        }
        let id = self.asks.next_id;
        self.asks.next_id += 1;
        let place = Place::Queued { not_before: now.mono };
        let deadline = now.mono.saturating_add(timeout);
        self.asks.all.insert(id, Ask { asker, request, deadline, place, relayed });
        self.route(now, id, out);
    }

    /// Decides, or sends to who decides, or leaves it in the queue.
    pub(super) fn route(&mut self, now: Now, id: u64, out: &mut ControllerOut) {
        if self.controller.is_active() {
            return self.decide_ask(now, id, out);
        }
        let Some(ask) = self.asks.all.get(&id) else { return };
        // Who starts anew may not know the group yet: whoever answers knows more.
        let anybody = matches!(ask.request, ControllerRequest::Register { .. }) && !ask.relayed;
        let to = self.other_controller().or_else(|| anybody.then(|| self.anybody()).flatten());
        let Some(ask) = self.asks.all.get_mut(&id) else { return };
        match to {
            Some(to) => {
                ask.place = Place::Sent { to };
                let frame = Frame::controller_request(id, ask.relayed, ask.request.encode());
                self.send(now, to, frame, out);
            }
            None => self.queue(now, id),
        }
    }

    /// Until there is a controller.
    fn queue(&mut self, now: Now, id: u64) {
        if let Some(ask) = self.asks.all.get_mut(&id) {
            ask.place = Place::Queued { not_before: now.mono.saturating_add(RETRY) };
        }
    }

    fn decide_ask(&mut self, now: Now, id: u64, out: &mut ControllerOut) {
        if self.asks.all.get(&id).is_some_and(|ask| ask.request == ControllerRequest::DescribeQuorum) {
            // Read off Raft: nothing is decided.
            return self.finish(now, id, Ok(ControllerAnswer::Quorum(self.quorum(now))), out);
        }
        let Some(ask) = self.asks.all.get_mut(&id) else { return };
        let Ok((image, random)) = self.controller.decide() else { return };
        ask.place = Place::Proposed;
        let decision = match outdated(image, &self.liveness, now, &ask.request) {
            Some(decided) => decided.map(|answer| Decision { groups: Vec::new(), answer }),
            None => decide(image, random, now, &ask.request),
        };
        let (decided, waits_for) = match decision {
            Err(refusal) => (Err(refusal), None),
            Ok(decision) if decision.groups.is_empty() => (Ok(decision.answer), None),
            Ok(Decision { groups, answer }) => match self.propose(&groups) {
                Some(token) => (Ok(answer), Some(token)),
                None => return self.queue(now, id),
            },
        };
        // What changes nothing may still speak of what is on its way: it waits for the newest.
        let newest = self.asks.waiting.last_key_value().map(|(token, _)| *token);
        match waits_for.or(newest) {
            Some(token) => self.asks.waiting.entry(token).or_default().push((id, decided)),
            None => self.finish(now, id, decided, out),
        }
    }

    /// `None`: the group takes no entries from this node any more (it was removed from it a moment ago).
    pub(super) fn propose(&mut self, groups: &[Vec<Fact>]) -> Option<Token> {
        let token = self.asks.token();
        self.controller.propose(groups, token).ok()?;
        self.asks.waiting.insert(token, Vec::new());
        self.dirty = true;
        Some(token)
    }

    /// Decides and proposes for the controller itself. Returns whether there was anything to do.
    pub(super) fn decide_own(&mut self, now: Now, request: &ControllerRequest) -> bool {
        let Ok((image, random)) = self.controller.decide() else { return false };
        match decide(image, random, now, request) {
            Ok(decision) if decision.groups.is_empty() => false,
            Ok(decision) => self.propose(&decision.groups).is_some(),
            Err(refusal) => {
                tracing::debug!(?request, %refusal, "the controller refused itself");
                false
            }
        }
    }

    /// A proposal without a request behind it.
    pub(super) fn propose_own(&mut self, groups: &[Vec<Fact>]) {
        // Where it is not taken, the next controller does it.
        let _token = self.propose(groups);
    }

    /// What became of a proposal.
    pub(super) fn settle(&mut self, now: Now, token: Token, outcome: Outcome, out: &mut ControllerOut) {
        for (id, decided) in self.asks.waiting.remove(&token).unwrap_or_default() {
            match outcome {
                Outcome::Committed => self.finish(now, id, decided, out),
                Outcome::Unknown => self.lost_ask(now, id, out),
            }
        }
    }

    /// It is not known whether it took effect.
    pub(super) fn lost_ask(&mut self, now: Now, id: u64, out: &mut ControllerOut) {
        let Some(ask) = self.asks.all.get_mut(&id) else { return };
        if matches!(ask.asker, Asker::Peer { .. }) {
            // It decides for itself whether it asks again.
            let refusal = Refusal { code: UNCERTAIN, ..uncertain() };
            self.finish(now, id, Err(refusal), out);
        } else if is_repeatable(&ask.request) {
            ask.place = Place::Queued { not_before: now.mono };
        } else {
            self.finish(now, id, Err(uncertain()), out);
        }
    }

    /// Time has passed: asks again, and answers who has waited long enough.
    pub(super) fn look_at_asks(&mut self, now: Now, out: &mut ControllerOut) {
        for id in self.asks.find(|ask| ask.deadline <= now.mono) {
            self.finish(now, id, Err(timed_out()), out);
        }
        let due = |ask: &Ask| matches!(ask.place, Place::Queued { not_before } if not_before <= now.mono);
        for id in self.asks.find(due) {
            self.route(now, id, out);
        }
    }

    pub(super) fn finish(&mut self, now: Now, id: u64, decided: Decided, out: &mut ControllerOut) {
        if let Some(ask) = self.asks.all.remove(&id) {
            self.tell(now, ask.asker, decided, out);
        }
    }

    pub(super) fn tell(&mut self, now: Now, asker: Asker, decided: Decided, out: &mut ControllerOut) {
        match asker {
            Asker::Client { reply, form } => out.answers.push((reply, form.answer(decided))),
            Asker::Peer { node, id } => {
                let answer = encode_answer(&decided, self.controller.raft().applied());
                self.send(now, node, Frame::controller_answer(id, answer), out);
            }
            Asker::Registration => self.registration.answered(now.mono, decided.map(|_| ())),
            Asker::ProducerIds => self.producer_ids.arrived(decided, out),
            Asker::OffsetsTopic => self.offsets_topic_made(decided),
            Asker::HandOver => self.leave.answered(decided),
            Asker::Replicas => out.for_replicas.push(decided),
        }
    }
}

/// A start that is registered already is not registered again: its leaderships would get new epochs once more. One that came late, when
/// another start of the node is heard, is over.
fn outdated(image: &Image, liveness: &Liveness, now: Now, request: &ControllerRequest) -> Option<Decided> {
    let ControllerRequest::Register { node, info, .. } = request else { return None };
    if image.node(*node).is_some_and(|known| known.incarnation == info.incarnation) {
        return Some(Ok(ControllerAnswer::Done));
    }
    let heard = liveness.heard(*node).filter(|heard| *heard != info.incarnation)?;
    liveness.is_alive(now.mono, *node, heard).then(|| {
        let message = format!(
            "another start of node {node} is alive: if this one is newer, it is registered when that one is gone"
        );
        Err(Refusal::new(ErrorCode::DuplicateBrokerRegistration, message))
    })
}

/// Whether asking twice is as good as asking once.
fn is_repeatable(request: &ControllerRequest) -> bool {
    use ControllerRequest as Request;
    match request {
        Request::Register { .. }
        | Request::Unfence { .. }
        | Request::AllocateProducerIds { .. }
        | Request::AlterIsr { .. }
        | Request::AlterConfigs { .. }
        | Request::SetDuty { .. }
        | Request::HandOver { .. }
        | Request::DescribeQuorum => true,
        Request::CreateTopics { validate_only, .. }
        | Request::CreatePartitions { validate_only, .. }
        | Request::UpdateFeatures { validate_only, .. } => *validate_only,
        Request::UnregisterNode { .. }
        | Request::RemoveNode { .. }
        | Request::DeleteTopics { .. }
        | Request::ElectLeaders { .. }
        | Request::Reassign { .. }
        | Request::AddVoter { .. }
        | Request::RemoveVoter { .. } => false,
    }
}

pub(super) fn not_controller() -> Refusal {
    Refusal::new(ErrorCode::NotController, "this node is not the active controller")
}

fn uncertain() -> Refusal {
    Refusal::new(ErrorCode::NotController, "another controller took over before this was certain; ask again")
}

fn timed_out() -> Refusal {
    Refusal::new(ErrorCode::RequestTimedOut, "the controller did not answer in time; it may still take effect")
}

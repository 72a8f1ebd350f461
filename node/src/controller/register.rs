//! The registration of this start with the active controller: what makes it a member that may lead.
//!
//! Owns when it is asked for, until the image shows it. Does not own what follows from it (`replication::controller::nodes`).
//! Invariant: a start is registered when this node's own image names it: then everything that follows from the registration is in the
//! image too, since the fact that names it is the last of them.

use std::collections::BTreeSet;
use std::time::Duration;

use model::{NodeId, Now, TopicPartition};
use replication::controller::requests::ControllerRequest;
use replication::metadata::{Image, NodeInfo};

use super::asks::Asker;
use super::driver::{ControllerDriver, ControllerOut};
use crate::requests::Refusal;

/// After a refusal, or without a controller.
const RETRY: Duration = Duration::from_millis(50);
/// An answer, or what it promised, is waited for so long.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Registration {
    pub(super) info: NodeInfo,
    clean: bool,
    /// Partitions of which the disk holds nothing any more.
    lost: BTreeSet<TopicPartition>,
    state: State,
    /// What was said of it last: said once.
    refused: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// To be asked for then.
    Due(Duration),
    Asked,
    Done,
}

/// What the image says of this start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Membership {
    Unchanged,
    /// Said once.
    Registered,
    /// Another process has this node's id now.
    Replaced,
}

impl Registration {
    pub(super) fn new(now: Duration, info: NodeInfo, clean: bool, lost: BTreeSet<TopicPartition>) -> Registration {
        Registration { info, clean, lost, state: State::Due(now), refused: String::new() }
    }

    pub(super) fn answered(&mut self, now: Duration, decided: Result<(), Refusal>) {
        if self.state != State::Asked {
            return;
        }
        // Accepted: the image shows it soon, or it is asked for again.
        let wait = if decided.is_ok() { PATIENCE } else { RETRY };
        self.state = State::Due(now.saturating_add(wait));
        if let Err(refusal) = decided {
            if self.refused != refusal.message {
                tracing::warn!(%refusal, code = ?refusal.code, "this start is not registered yet");
            }
            self.refused = refusal.message;
        }
    }

    fn take_due(&mut self, now: Duration) -> bool {
        let due = matches!(self.state, State::Due(at) if at <= now);
        if due {
            self.state = State::Asked;
        }
        due
    }

    /// Another controller, or a link to one: what was accepted may be lost, and need not wait.
    pub(super) fn hurry(&mut self, now: Duration) {
        if let State::Due(at) = &mut self.state {
            *at = now.min(*at);
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub(super) fn due(&self) -> Option<Duration> {
        if let State::Due(at) = self.state { Some(at) } else { None }
    }

    pub(super) fn look(&mut self, node: NodeId, image: &Image) -> Membership {
        let ours = image.node(node).map(|info| info.incarnation == self.info.incarnation);
        match (ours, self.state) {
            (Some(true), State::Due(_) | State::Asked) => {
                self.state = State::Done;
                Membership::Registered
            }
            (Some(false), State::Done) => Membership::Replaced,
            (None | Some(_), _) => Membership::Unchanged,
        }
    }
}

impl ControllerDriver {
    pub(super) fn register_if_due(&mut self, now: Now, out: &mut ControllerOut) {
        if !self.is_born() || !self.registration.take_due(now.mono) {
            return;
        }
        let info = self.registration.info.clone();
        let Registration { clean, lost, .. } = &self.registration;
        let request = ControllerRequest::Register { node: self.node, info, clean: *clean, lost: lost.clone() };
        self.ask(now, Asker::Registration, request, PATIENCE, out);
    }

    /// A change of the image may be the registration of this start, or the end of it.
    pub(super) fn look_at_membership(&mut self, out: &mut ControllerOut) {
        match self.registration.look(self.node, self.controller.image()) {
            Membership::Unchanged => {}
            Membership::Registered => {
                out.registered = true;
                // The image says so now. In the journal this stands before all that is fetched again.
                if !self.registration.lost.is_empty() {
                    self.push_unit(vec![storage::lost::settled()], 0, out);
                }
            }
            Membership::Replaced => {
                let node = self.node;
                out.fatal = Some(format!(
                    "another process has registered as node {node}: give each node an id and a data directory of its own"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::ErrorCode;
    use replication::metadata::{Fact, Incarnation};

    use super::*;

    const NODE: NodeId = NodeId(1);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn image(incarnation: u8) -> Image {
        let info = NodeInfo { incarnation: Incarnation([incarnation; 16]), ..NodeInfo::default() };
        let fact = Fact::NodeRegistered { node: NODE, info };
        Image::empty(Arc::default()).with(&[fact]).expect("it applies")
    }

    fn registration() -> Registration {
        let info = NodeInfo { incarnation: Incarnation([2; 16]), ..NodeInfo::default() };
        Registration::new(at(0), info, true, BTreeSet::new())
    }

    #[test]
    fn it_is_asked_for_until_the_image_shows_this_start() {
        let mut registration = registration();
        assert!(registration.take_due(at(0)) && !registration.take_due(at(10)));
        registration.answered(at(10), Err(Refusal::new(ErrorCode::NotController, "not here")));
        assert!(!registration.take_due(at(59)) && registration.take_due(at(60)));
        registration.answered(at(70), Ok(()));
        assert!(!registration.take_due(at(1_069)) && registration.take_due(at(1_070)));
        assert_eq!(registration.look(NODE, &image(1)), Membership::Unchanged);
        assert_eq!(registration.look(NODE, &image(2)), Membership::Registered);
        assert_eq!(registration.look(NODE, &image(2)), Membership::Unchanged);
        assert!(registration.is_done() && registration.due().is_none());
    }

    #[test]
    fn another_process_under_this_id_is_noticed_once_this_one_was_a_member() {
        let mut registration = registration();
        assert_eq!(registration.look(NODE, &image(2)), Membership::Registered);
        assert_eq!(registration.look(NODE, &image(3)), Membership::Replaced);
    }

    #[test]
    fn a_new_controller_is_asked_at_once() {
        let mut registration = registration();
        assert!(registration.take_due(at(0)));
        registration.answered(at(10), Ok(()));
        registration.hurry(at(20));
        assert!(registration.take_due(at(20)));
    }
}

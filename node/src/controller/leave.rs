//! The end of a process in order: what it leads goes to others first, then the leadership of the metadata group.
//!
//! Owns the steps and their time. Does not own who leads then (`replication::controller`), nor the stop itself (`node`).
//! Invariant: it ends within `LEAVE_MAX`, whatever the others do.

use std::time::Duration;

use model::{NodeId, Now};
use replication::controller::requests::{ControllerAnswer, ControllerRequest, HandOver};

use super::asks::{Asker, Decided};
use super::driver::{ControllerDriver, ControllerOut};

/// For all of it.
const LEAVE_MAX: Duration = Duration::from_millis(150);
/// For the partitions: the rest is for the group.
const HAND_OVER_MAX: Duration = Duration::from_millis(110);

const _: () = assert!(HAND_OVER_MAX.as_millis() < LEAVE_MAX.as_millis());

#[derive(Debug, Default)]
pub(super) struct Leave {
    step: Step,
    /// How many partitions cannot be handed over, once that is known.
    left: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Step {
    #[default]
    Staying,
    HandingOver {
        until: Duration,
        end: Duration,
    },
    Transferring {
        end: Duration,
    },
    Left,
}

impl Leave {
    pub(super) fn due(&self) -> Option<Duration> {
        match self.step {
            Step::HandingOver { until, .. } => Some(until),
            Step::Transferring { end } => Some(end),
            Step::Staying | Step::Left => None,
        }
    }

    pub(super) fn answered(&mut self, decided: Decided) {
        self.left = match decided {
            Ok(ControllerAnswer::HandedOver { left }) => Some(left),
            Ok(_) => None,
            Err(refusal) => {
                tracing::warn!(%refusal, "what this node leads is not handed over");
                Some(u64::MAX)
            }
        };
    }
}

impl ControllerDriver {
    /// This process is to end. `ControllerOut::left` follows, in this output or a later one.
    pub(crate) fn leave(&mut self, now: Now, out: &mut ControllerOut) {
        if self.leave.step != Step::Staying {
            return;
        }
        let others = self.image().live_nodes().any(|(node, _)| node != self.node && self.contacts.is_connected(node));
        if others && self.registration.is_done() {
            let (until, end) = (now.mono + HAND_OVER_MAX, now.mono + LEAVE_MAX);
            self.leave.step = Step::HandingOver { until, end };
            let incarnation = self.registration.info.incarnation;
            let request = ControllerRequest::HandOver { node: self.node, incarnation, what: HandOver::Stopping };
            self.ask(now, Asker::HandOver, request, HAND_OVER_MAX, out);
        } else {
            self.leave.step = Step::Left;
            out.left = true;
        }
        self.drive(now, out);
    }

    /// Goes on leaving.
    pub(super) fn look_at_leaving(&mut self, now: Now, out: &mut ControllerOut) {
        if let Step::HandingOver { until, end } = self.leave.step {
            let handed_over = self.leave.left.is_some_and(|left| self.leads() <= left);
            if handed_over || now.mono >= until {
                self.leave.step = Step::Transferring { end };
                self.transfer();
            }
        }
        if let Step::Transferring { end } = self.leave.step
            && (!self.controller.raft().is_leader() || now.mono >= end)
        {
            self.leave.step = Step::Left;
            out.left = true;
        }
    }

    /// Partitions that this node leads, as its image says.
    fn leads(&self) -> u64 {
        let all = self.image().topics().flat_map(|topic| topic.partitions());
        let led = all.filter(|(_, info)| info.leader == Some(self.node)).count();
        u64::try_from(led).unwrap_or(u64::MAX)
    }

    /// The voter that is nearest to the end of the log is to lead the group.
    fn transfer(&mut self) {
        let reachable = |node: &NodeId| *node != self.node && self.contacts.is_connected(*node);
        let candidates: Vec<NodeId> = self.controller.raft().voters().into_iter().filter(reachable).collect();
        if self.controller.raft().is_leader() {
            self.controller.transfer_to_best(&candidates);
            self.dirty = true;
        }
    }
}

//! A follower cuts what its leader does not have.
//!
//! Owns the way from the leader's answer to a log that ends elsewhere: the byte where it is cut, and the producers as they were there.
//! Does not own the choice of the offset (`replication::partition::follower`).
//! Invariant: nothing is appended between the choice and the cut, since no stream runs; a role that changes meanwhile voids it.

use std::sync::Arc;

use model::{LeaderEpoch, NodeId, Now, Offset};
use replication::partition::follower::{FollowError, choose_cut};
use replication::partition::producers::{Producers, Sequenced};
use replication::partition::replica::Action;
use storage::disk::Disk;
use storage::log::{CutPlan, CutPoint};
use storage::reader::ReadError;
use storage::{Entry, HeaderPlan, Unit};

use super::wire::CutWhat;
use super::{LogEpochs, ReadKind, ReadWork};
use crate::commit::Told;
use crate::core::Core;
use crate::effects::{Effect, Effects};
use crate::partition::handle::{Partition, State};
use crate::partition::produce::Waiter;

/// A leader's word that our log is none of its.
pub(super) struct Parting<'a> {
    pub(super) leader: NodeId,
    pub(super) stream: u32,
    pub(super) what: CutWhat,
    /// Whether what is committed here may have been lost in an unclean election.
    pub(super) lost: &'a dyn Fn(&State) -> bool,
}

/// What must be read before a log can be cut.
#[derive(Debug)]
pub(crate) struct CutWork {
    partition: Arc<Partition>,
    leader: NodeId,
    epoch: LeaderEpoch,
    point: Result<CutPoint, CutPlan>,
    /// The producers as of an earlier offset, and the batches from there to the cut.
    producers: Option<(Producers, HeaderPlan)>,
    now_ms: i64,
}

#[derive(Debug)]
pub(crate) struct CutDone {
    partition: Arc<Partition>,
    leader: NodeId,
    epoch: LeaderEpoch,
    found: Result<(CutPoint, Option<Producers>), ReadError>,
}

impl CutWork {
    /// May wait for the disk.
    pub(super) fn run(self, disk: &dyn Disk) -> CutDone {
        let CutWork { partition, leader, epoch, point, producers, now_ms } = self;
        let found = point.or_else(|plan| plan.run(disk)).and_then(|point| {
            let Some((mut producers, headers)) = producers else { return Ok((point, None)) };
            headers.run(disk, &mut |header| {
                if let (Some(sequenced), Some(base)) = (Sequenced::of(header), Offset::from_wire(header.base_offset)) {
                    producers.replayed(sequenced, base, header.max_timestamp, now_ms);
                }
            })?;
            Ok((point, Some(producers)))
        });
        CutDone { partition, leader, epoch, found }
    }
}

impl Partition {
    /// The leader has said that our log is none of its.
    pub(super) fn parts_ways(self: &Arc<Self>, core: &Core, now: Now, parting: Parting<'_>, fx: &mut Effects) {
        let Parting { leader, stream, what, lost } = parting;
        let _offline = self.guarded(core, fx, |state, fx| {
            let ours = state.pull.as_ref().is_some_and(|pull| pull.leader == leader && pull.stream == Some(stream));
            if !ours {
                return;
            }
            let unclean = lost(state);
            let done = match what {
                CutWhat::BeginAt(start) => self.drop_all(core, now, state, start, unclean, fx),
                CutWhat::Parted(answer) => {
                    let to = choose_cut(state.replica.bounds(), &LogEpochs(&state.log), answer);
                    self.begin_cut(core, now, state, leader, to, unclean, fx)
                }
            };
            if let Err(error) = done {
                tracing::error!(partition = %self.id, %leader, %error, "this replica cannot follow its leader");
                self.wish_again(core, now, state, false, fx);
            }
        });
    }

    fn drop_all(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        state: &mut State,
        start: Offset,
        unclean: bool,
        fx: &mut Effects,
    ) -> Result<(), FollowError> {
        state.replica.may_cut(start, unclean)?;
        tracing::info!(partition = %self.id, %start, had = %state.log.log_end(), "the log begins anew where the leader's does");
        let entry = state.reset(start);
        let mut actions = std::mem::take(&mut state.actions);
        state.replica.begin_at(start, &mut actions);
        self.was_cut(core, now, state, entry, actions, fx);
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "one answer taken apart")]
    fn begin_cut(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        state: &mut State,
        leader: NodeId,
        to: Offset,
        unclean: bool,
        fx: &mut Effects,
    ) -> Result<(), FollowError> {
        state.replica.may_cut(to, unclean)?;
        let point = match state.log.cut_point(to) {
            Ok(point) => point,
            // Below the log's start: nothing of it is the leader's.
            Err(_) => return self.drop_all(core, now, state, to, unclean, fx),
        };
        let rebuild = state.replica.producers().loses_any(to);
        match point {
            Ok(point) if !rebuild => self.cut(core, now, state, point, None, fx),
            point => {
                let pull = state.pull.as_mut().expect("a stream said so just now");
                pull.cutting = true;
                let producers = rebuild.then(|| producers_before(state, to));
                let epoch = state.replica.epoch();
                let partition = Arc::clone(self);
                let work = CutWork { partition, leader, epoch, point, producers, now_ms: now.wall_ms };
                fx.push(Effect::Read(ReadWork(ReadKind::Cut(work))));
            }
        }
        Ok(())
    }

    fn cut(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        state: &mut State,
        point: CutPoint,
        producers: Option<Producers>,
        fx: &mut Effects,
    ) {
        tracing::info!(partition = %self.id, to = %point.end, from = %state.log.log_end(), "the log is cut to its leader's");
        let entry = state.truncate_to(point);
        let latest = state.log.epochs().latest();
        let mut actions = std::mem::take(&mut state.actions);
        state.replica.cut(point.end, latest, producers, &mut actions);
        self.was_cut(core, now, state, entry, actions, fx);
    }

    fn was_cut(
        self: &Arc<Self>,
        core: &Core,
        now: Now,
        state: &mut State,
        entry: Entry,
        actions: Vec<Action<Waiter>>,
        fx: &mut Effects,
    ) {
        let operation = state.log.last_operation();
        let told = Told::Partition { partition: Arc::clone(self), operation, end: None };
        core.commit.push(Unit::one(entry), told);
        // The files are cut with the next write, which must not wait for records.
        state.files_go = true;
        self.published.set_log_end(state.log.log_end());
        self.carry_out_all(core, now, state, actions, fx);
        self.wish_again(core, now, state, true, fx);
    }
}

/// The newest producers known of before `to`, and the batches that they lack.
fn producers_before(state: &State, to: Offset) -> (Producers, HeaderPlan) {
    let limit = state.replica.producers().limit();
    let snapshots = [&state.snapshot, &state.snapshot_before];
    let usable = snapshots.into_iter().flatten().filter(|snapshot| snapshot.end <= to);
    let usable = usable.filter(|snapshot| snapshot.operation >= state.log.cut_operation());
    let found = usable.max_by_key(|snapshot| snapshot.end);
    let decoded = found.and_then(|snapshot| Some((Producers::decode(&snapshot.bytes, limit).ok()?, snapshot.end)));
    let (producers, from) = decoded.unwrap_or_else(|| (Producers::new(limit), state.log.log_start()));
    (producers, state.log.plan_headers(from, to))
}

/// What was to be read before a cut is read.
pub(super) fn cut_done(core: &Core, now: Now, done: CutDone, fx: &mut Effects) {
    let CutDone { partition, leader, epoch, found } = done;
    let _offline = partition.guarded(core, fx, |state, fx| {
        let same = state.replica.other_leader() == Some(leader) && state.replica.epoch() == epoch;
        let Some(pull) = state.pull.as_mut().filter(|pull| same && pull.leader == leader && pull.cutting) else {
            return;
        };
        pull.cutting = false;
        match found {
            Ok((point, producers)) => partition.cut(core, now, state, point, producers, fx),
            Err(error) => {
                tracing::error!(partition = %partition.id, %error, "the place where the log must be cut cannot be read");
                partition.wish_again(core, now, state, false, fx);
            }
        }
    });
}

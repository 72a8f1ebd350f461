//! Drives one shard: loads it from its log, hands it requests, writes its records, lets its answers go.
//!
//! Owns what is between a shard and its log: batches under way, who waits, when to read again. Decides nothing about
//! groups.
//! Invariant: an answer leaves when every record that the shard had handed out before is committed.
//! Invariant: one append at a time; what is decided meanwhile goes into the next, so a slow disk makes larger batches.
//! Invariant: when an append fails, what the shard believes is no longer what the log has: all who wait are refused and
//! the shard is built again from the log.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;
use model::batch::BatchBuilder;
use model::planted::{self, Bug};
use model::{GroupId, LeaderEpoch, Now, Offset, PartitionIndex};
use replication::group::{
    Catalog, GroupAnswer, GroupConfig, GroupError, GroupRecord, GroupRequest, ListFilter, ListedGroup, Output, Reply,
    Shard, Token,
};

use super::log::{GroupLog, Loaded, LogError, replay};
use crate::effects::{Effect, Effects, ReplyTo};
use crate::requests::{Answer, AppendError};

/// A batch takes no more moves from this size on.
const BATCH_BYTES: usize = 256 * 1024;
/// But one that a large move began grows up to this: what the log takes, less a batch's head and its records'.
const MOVE_BYTES: usize = 900 * 1024;
/// How much of the log is read at a time.
const LOAD_BYTES: u32 = 1024 * 1024;
/// How long a shard rests after a failure before it reads its log again.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);
/// How often a shard looks whether the rest of its log is committed.
const LOAD_POLL: Duration = Duration::from_millis(20);
/// Records that may wait for an append. Over it requests are refused: the disk cannot keep up.
const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(super) struct Driver {
    partition: PartitionIndex,
    config: GroupConfig,
    seed: u64,
    /// Of the leadership: a load that began under another one is worthless.
    epoch: LeaderEpoch,
    phase: Phase,
    waiting: BTreeMap<Token, Waiting>,
    next_token: u64,
    next_append: u32,
}

enum Phase {
    /// Another node leads, or none.
    Away,
    Loading(Load),
    Live(Box<Live>),
}

/// A log that is being read.
struct Load {
    /// `None` while a thread reads with it, outside of the lock.
    shard: Option<Box<Shard>>,
    next: Offset,
    /// All below belongs to the state that we take over; some of it may not be committed yet.
    end: Offset,
    not_before: Duration,
    loaded: Loaded,
}

struct Live {
    shard: Shard,
    in_flight: Option<InFlight>,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
}

struct InFlight {
    token: u64,
    replies: Vec<Reply>,
}

#[derive(Default)]
struct Queued {
    builder: BatchBuilder,
    replies: Vec<Reply>,
}

struct Waiting {
    to: ReplyTo,
    /// What is sent there if nothing better comes.
    refusal: GroupAnswer,
}

/// A piece of loading that is done without the lock.
pub(super) struct LoadWork {
    epoch: LeaderEpoch,
    shard: Box<Shard>,
    partition: PartitionIndex,
    from: Offset,
    loaded: Loaded,
}

pub(super) struct LoadResult {
    work: LoadWork,
    result: Result<Offset, LogError>,
}

impl LoadWork {
    /// Reads a piece of the log and applies it. May wait for the disk.
    pub(super) fn run(mut self, log: &dyn GroupLog) -> LoadResult {
        let (from, partition) = (self.from, self.partition);
        let done = catch_unwind(AssertUnwindSafe(|| {
            let read = log.read(partition, from, LOAD_BYTES)?;
            replay(read, from, &mut self.shard, &mut self.loaded)
        }));
        let result = done.unwrap_or_else(|_| Err(LogError::Unreadable { reason: "an assertion failed".to_owned() }));
        LoadResult { work: self, result }
    }
}

impl Driver {
    pub(super) fn new(partition: PartitionIndex, config: GroupConfig, seed: u64) -> Driver {
        let (waiting, phase) = (BTreeMap::new(), Phase::Away);
        let epoch = LeaderEpoch::ZERO;
        Driver { partition, config, seed, epoch, phase, waiting, next_token: 0, next_append: 0 }
    }

    /// This node leads the partition from now on, in this epoch.
    pub(super) fn lead(&mut self, now: Now, epoch: LeaderEpoch, log: &dyn GroupLog, fx: &mut Effects) {
        if !matches!(self.phase, Phase::Away) && self.epoch == epoch {
            return;
        }
        self.refuse_all(&GroupError::NotCoordinator, fx);
        self.epoch = epoch;
        self.begin_load(now, now.mono, log, fx);
    }

    pub(super) fn resign(&mut self, fx: &mut Effects) {
        self.phase = Phase::Away;
        self.refuse_all(&GroupError::NotCoordinator, fx);
    }

    fn begin_load(&mut self, now: Now, not_before: Duration, log: &dyn GroupLog, fx: &mut Effects) {
        // Each start of a shard draws its member ids from another seed.
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let Some(ends) = log.ends(self.partition) else {
            self.phase = Phase::Away;
            return;
        };
        let shard = Some(Box::new(Shard::new(self.config.clone(), self.seed)));
        let (next, end) = (ends.start, ends.end);
        self.phase = Phase::Loading(Load { shard, next, end, not_before, loaded: Loaded::default() });
        if next >= end && not_before <= now.mono {
            self.finish_load(now, log, fx);
        } else {
            log.tick_by(not_before.max(now.mono), fx);
        }
    }

    /// The next piece of loading, if it is time for one.
    pub(super) fn load_work(&mut self, now: Now) -> Option<LoadWork> {
        let Phase::Loading(load) = &mut self.phase else { return None };
        if load.not_before > now.mono {
            return None;
        }
        let (epoch, partition, from, loaded) = (self.epoch, self.partition, load.next, load.loaded);
        let shard = load.shard.take()?;
        Some(LoadWork { epoch, shard, partition, from, loaded })
    }

    /// True: there is more to read at once.
    pub(super) fn load_done(&mut self, now: Now, done: LoadResult, log: &dyn GroupLog, fx: &mut Effects) -> bool {
        let LoadResult { work, result } = done;
        let Phase::Loading(load) = &mut self.phase else { return false };
        if work.epoch != self.epoch || load.shard.is_some() {
            return false;
        }
        match result {
            Ok(next) => {
                let moved = next > load.next;
                load.shard = Some(work.shard);
                load.loaded = work.loaded;
                load.next = next;
                if next >= load.end {
                    self.finish_load(now, log, fx);
                    return false;
                }
                if !moved {
                    // The rest is in the log but not committed yet.
                    load.not_before = now.mono + LOAD_POLL;
                }
                log.tick_by(load.not_before.max(now.mono), fx);
                moved
            }
            Err(LogError::NotLeader) => {
                self.resign(fx);
                false
            }
            Err(error @ (LogError::Gone { .. } | LogError::Unreadable { .. })) => {
                tracing::error!(partition = %self.partition, %error, "a group coordinator cannot load; trying again");
                self.begin_load(now, now.mono + RELOAD_PAUSE, log, fx);
                false
            }
        }
    }

    fn finish_load(&mut self, now: Now, log: &dyn GroupLog, fx: &mut Effects) {
        let Phase::Loading(load) = std::mem::replace(&mut self.phase, Phase::Away) else { return };
        let mut shard = load.shard.expect("nobody reads with it any more");
        let Loaded { records, others, damaged } = load.loaded;
        if others > 0 || damaged > 0 {
            tracing::warn!(partition = %self.partition, records, others, damaged, "some group records were passed over");
        }
        let done = catch_unwind(AssertUnwindSafe(|| {
            shard.loaded(now);
            shard
        }));
        let Ok(shard) = done else {
            tracing::error!(partition = %self.partition, "an assertion failed while groups were loaded; trying again");
            return self.begin_load(now, now.mono + RELOAD_PAUSE, log, fx);
        };
        tracing::info!(partition = %self.partition, groups = shard.group_count(), records, "group coordinator loaded");
        let live = Live { shard: *shard, in_flight: None, queue: VecDeque::new(), queued_bytes: 0 };
        self.phase = Phase::Live(Box::new(live));
        self.set_timer(log, fx);
    }

    pub(super) fn request(
        &mut self,
        now: Now,
        group: &GroupId,
        request: &GroupRequest,
        to: ReplyTo,
        log: &dyn GroupLog,
        fx: &mut Effects,
    ) {
        let live = match &self.phase {
            Phase::Live(live) => live,
            Phase::Away => return send(to, request.refused(GroupError::NotCoordinator), fx),
            Phase::Loading(_) => {
                // A member must not be told to start anew because we are reading.
                let answer = match request {
                    GroupRequest::Heartbeat(_) => GroupAnswer::Heartbeat(Ok(())),
                    other => other.refused(GroupError::Loading),
                };
                return send(to, answer, fx);
            }
        };
        if live.queued_bytes > QUEUE_BYTES_MAX && !matches!(request, GroupRequest::Heartbeat(_)) {
            let reason = format!("{QUEUE_BYTES_MAX} bytes wait for the disk");
            return send(to, request.refused(GroupError::NotAvailable { reason }), fx);
        }
        let token = Token(self.next_token);
        self.next_token += 1;
        let refusal = request.refused(GroupError::NotCoordinator);
        self.waiting.insert(token, Waiting { to, refusal });
        let (image, version) = log.metadata();
        let catalog = Catalog { image: &image, version };
        self.step(now, log, fx, |shard, out| shard.step(now, catalog, group, request, token, out));
    }

    pub(super) fn tick(&mut self, now: Now, log: &dyn GroupLog, fx: &mut Effects) {
        let Phase::Live(live) = &self.phase else { return };
        if live.shard.next_deadline().is_some_and(|at| at <= now.mono) {
            let (image, version) = log.metadata();
            let catalog = Catalog { image: &image, version };
            self.step(now, log, fx, |shard, out| shard.tick(now, catalog, out));
        }
    }

    /// When `tick` or `load_work` has something to do.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Away => None,
            Phase::Loading(load) => load.shard.is_some().then_some(load.not_before),
            Phase::Live(live) => live.shard.next_deadline(),
        }
    }

    /// One move of the shard, and all that follows from it. A failed assertion costs this shard its memory, no more.
    pub(super) fn step(
        &mut self,
        now: Now,
        log: &dyn GroupLog,
        fx: &mut Effects,
        act: impl FnOnce(&mut Shard, &mut Output),
    ) {
        let Phase::Live(live) = &mut self.phase else { return };
        let mut out = Output::default();
        if catch_unwind(AssertUnwindSafe(|| act(&mut live.shard, &mut out))).is_err() {
            tracing::error!(partition = %self.partition, "an assertion failed in a group coordinator; it loads again");
            return self.reload(now, "an assertion failed", log, fx);
        }
        live.queue_records(now, &out.records);
        let at_once = live.hold(out.replies);
        for reply in out.replies_at_once.into_iter().chain(at_once) {
            self.answer(reply, fx);
        }
        self.start_append(now, log, fx);
        self.set_timer(log, fx);
    }

    fn start_append(&mut self, now: Now, log: &dyn GroupLog, fx: &mut Effects) {
        let Phase::Live(live) = &mut self.phase else { return };
        if live.in_flight.is_some() {
            return;
        }
        let Some(Queued { builder, replies }) = live.queue.pop_front() else { return };
        live.queued_bytes = live.queued_bytes.saturating_sub(builder.size());
        let token = u64::from(self.partition.get()) << 32 | u64::from(self.next_append);
        self.next_append = self.next_append.wrapping_add(1);
        live.in_flight = Some(InFlight { token, replies });
        log.append(now, self.partition, builder.finish(), token, fx);
    }

    /// The append with this token is committed, or will not be.
    pub(super) fn appended(
        &mut self,
        now: Now,
        token: u64,
        result: Result<(), AppendError>,
        log: &dyn GroupLog,
        fx: &mut Effects,
    ) {
        let Phase::Live(live) = &mut self.phase else { return };
        let Some(in_flight) = live.in_flight.take_if(|in_flight| in_flight.token == token) else { return };
        match result {
            Ok(()) => {
                // The next batch first: the disk works while the answers go out.
                self.start_append(now, log, fx);
                in_flight.replies.into_iter().for_each(|reply| self.answer(reply, fx));
            }
            Err(AppendError::NotLeader { .. } | AppendError::UnknownPartition) => self.resign(fx),
            Err(error) => {
                tracing::warn!(partition = %self.partition, %error, "group records could not be written");
                self.reload(now, &error.to_string(), log, fx);
            }
        }
    }

    fn reload(&mut self, now: Now, reason: &str, log: &dyn GroupLog, fx: &mut Effects) {
        self.refuse_all(&GroupError::NotAvailable { reason: reason.to_owned() }, fx);
        self.begin_load(now, now.mono + RELOAD_PAUSE, log, fx);
    }

    /// `None`: still loading.
    pub(super) fn list(&self, filter: &ListFilter) -> Option<Vec<ListedGroup>> {
        match &self.phase {
            Phase::Away => Some(Vec::new()),
            Phase::Loading(_) => None,
            Phase::Live(live) => Some(live.shard.list(filter)),
        }
    }

    pub(super) fn group_count(&self) -> usize {
        match &self.phase {
            Phase::Away | Phase::Loading(_) => 0,
            Phase::Live(live) => live.shard.group_count(),
        }
    }

    fn answer(&mut self, reply: Reply, fx: &mut Effects) {
        let waiting = self.waiting.remove(&reply.token).expect("a request is answered once");
        send(waiting.to, reply.answer, fx);
    }

    fn refuse_all(&mut self, error: &GroupError, fx: &mut Effects) {
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            let error = match (&waiting.refusal, error) {
                // Older consumers know no other code here that makes them try again.
                (GroupAnswer::FetchOffsets(_), GroupError::NotAvailable { .. }) => GroupError::NotCoordinator,
                _ => error.clone(),
            };
            send(waiting.to, waiting.refusal.refused(error), fx);
        }
    }

    fn set_timer(&self, log: &dyn GroupLog, fx: &mut Effects) {
        if let Some(at) = self.next_deadline() {
            log.tick_by(at, fx);
        }
    }
}

impl Live {
    /// The records of one move go into one batch, unless no batch has room for them: after a crash the log has all of
    /// them or none.
    fn queue_records(&mut self, now: Now, records: &[GroupRecord]) {
        let encoded: Vec<_> = records.iter().map(|record| (record.key(), record.value())).collect();
        let size = |(key, value): &(Bytes, Option<Bytes>)| key.len() + value.as_ref().map_or(0, Bytes::len);
        let all: usize = encoded.iter().map(size).sum();
        // Each offset stands for itself.
        let are_one = records.iter().any(|record| !matches!(record, GroupRecord::Offset { .. }));
        for (at, record) in encoded.iter().enumerate() {
            let (needed, limit) = match (are_one, at) {
                (true, 0) => (all, BATCH_BYTES),
                (true, _) => (size(record), MOVE_BYTES),
                (false, _) => (size(record), BATCH_BYTES),
            };
            let is_full = |last: &Queued| last.builder.count() > 0 && last.builder.size() + needed > limit;
            if self.queue.back().is_none_or(is_full) {
                self.queue.push_back(Queued::default());
            }
            let last = self.queue.back_mut().expect("there is one now");
            let before = if last.builder.count() == 0 { 0 } else { last.builder.size() };
            last.builder.push(now.wall_ms, Some(&record.0), record.1.as_deref(), &[]);
            self.queued_bytes += last.builder.size() - before;
        }
    }

    /// Keeps the replies until all records that were handed out are committed. Gives them back if that is so already.
    fn hold(&mut self, replies: Vec<Reply>) -> Vec<Reply> {
        if planted::is(Bug::CommitAnsweredEarly) {
            return replies;
        }
        let Some(held) = self.queue.back_mut().map(|last| &mut last.replies) else {
            let Some(in_flight) = &mut self.in_flight else { return replies };
            in_flight.replies.extend(replies);
            return Vec::new();
        };
        held.extend(replies);
        Vec::new()
    }
}

pub(super) fn send(to: ReplyTo, answer: GroupAnswer, fx: &mut Effects) {
    fx.push(Effect::Reply { to, answer: Answer::Group(answer) });
}

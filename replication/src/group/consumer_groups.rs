//! Which of the two protocols a request meets, and the moves of groups of the consumer protocol within their shard.
//!
//! Owns how a group comes to be one of the consumer protocol, changes to the classic one and back, and how its records
//! and deadlines reach the shard. Does not own what its members do (`consumer`).
//! Invariant: a group is one of the consumer protocol exactly while `Group::consumer` is there.

use std::time::Duration;

use model::{GroupId, Now};

use super::classic::{Classic, Reply};
use super::config::{LEAVING_MAX, MEMBERS_MAX};
use super::consumer::{
    AWAY_EPOCH, Catalog, Consumer, ConsumerBeat, ConsumerHeartbeat, DescribedConsumerGroup, GONE_EPOCH, Move, Settings,
    check_heartbeat, upgraded,
};
use super::error::GroupError;
use super::member::Token;
use super::record::GroupRecord;
use super::shard::{Group, Output, Shard};
use super::types::{GroupAnswer, GroupState, Heartbeat, Join, Leave, Left, Sync, Synced};

const CONSUMER_TYPE: &str = "consumer";
/// What a member adds to a shard beside the names that it sends, about.
const MEMBER_BYTES: usize = 1024;

impl Shard {
    pub(super) fn consumer(&self, id: &GroupId) -> Option<&Consumer> {
        self.groups.get(id)?.consumer.as_deref()
    }

    pub(super) fn is_consumer(&self, id: &GroupId) -> bool {
        self.consumer(id).is_some()
    }

    /// One move of a group of the consumer protocol, and all that follows from it but its timers.
    fn with_consumer<R>(
        &mut self,
        (now, catalog): (Now, Catalog<'_>),
        id: &GroupId,
        out: &mut Output,
        act: impl FnOnce(&mut Consumer, &mut Move<'_>) -> R,
    ) -> Option<R> {
        let group = self.groups.get_mut(id)?;
        let consumer = group.consumer.as_deref_mut()?;
        let settings = Settings::of(id, &self.config.consumer, catalog.image);
        let (config, ids) = (&self.config, &mut self.ids);
        let mut step = Move { group: id, now, config, settings, catalog, ids, records: Vec::new() };
        let before = consumer.bytes();
        let result = act(consumer, &mut step);
        let records = step.records;
        self.bytes = self.bytes + consumer.bytes() - before;
        if !records.is_empty() {
            consumer.check_invariants();
            out.records.extend(records);
            self.schedule(id);
        }
        Some(result)
    }

    pub(super) fn consumer_heartbeat(
        &mut self,
        now: Now,
        catalog: Catalog<'_>,
        id: &GroupId,
        beat: &ConsumerHeartbeat,
        out: &mut Output,
    ) -> Result<ConsumerBeat, GroupError> {
        check_heartbeat(beat, &self.config)?;
        if beat.member_epoch < 0 {
            return self.consumer_leave(now, catalog, id, beat, out);
        }
        if beat.member_epoch == 0 {
            self.room_for(MEMBER_BYTES + beat.topics.iter().flatten().map(String::len).sum::<usize>())?;
        }
        if !self.is_consumer(id) {
            self.become_consumer(now, catalog, id, beat, out)?;
        }
        let moved = self.with_consumer((now, catalog), id, out, |consumer, step| consumer.on_heartbeat(beat, step));
        self.drop_if_vacant(id);
        moved.expect("it is one of the consumer protocol by now")
    }

    /// A group of this id begins, or an empty or classic one goes on in the consumer protocol.
    fn become_consumer(
        &mut self,
        now: Now,
        catalog: Catalog<'_>,
        id: &GroupId,
        beat: &ConsumerHeartbeat,
        out: &mut Output,
    ) -> Result<(), GroupError> {
        let joins = beat.member_epoch == 0;
        let limit = self.config.groups_max;
        let Some(group) = self.groups.get(id) else {
            return match joins {
                false => Err(GroupError::GroupIdNotFound { group: id.clone() }),
                true if self.groups.len() >= limit => Err(GroupError::TooManyGroups { limit }),
                true => {
                    self.begin_consumer(id);
                    Ok(())
                }
            };
        };
        let other = || GroupError::NotConsumerGroup { group: id.clone() };
        if !joins {
            return Err(other());
        }
        if group.classic.is_idle() {
            let gone = group.metadata.is_some().then(|| GroupRecord::Metadata { group: id.clone(), value: None });
            self.write(gone.into_iter().collect(), out);
            self.begin_consumer(id);
            return Ok(());
        }
        let limit = self.config.consumer.members_max.min(MEMBERS_MAX);
        let is_consumer = group.classic.protocol_type.as_deref() == Some(CONSUMER_TYPE);
        if !self.config.consumer.may_upgrade || !is_consumer {
            return Err(other());
        }
        if group.classic.members.len() >= limit {
            return Err(GroupError::GroupFull { limit });
        }
        let records = upgraded(id, &group.classic, &catalog).map_err(|_| other())?;
        self.upgrade(now, id, records, out);
        Ok(())
    }

    fn begin_consumer(&mut self, id: &GroupId) {
        let group = self.groups.entry(id.clone()).or_default();
        self.bytes -= group.classic.bytes();
        group.classic = Classic::default();
        group.consumer = Some(Box::default());
    }

    /// Who waits for the classic rebalance is told to join again, and then finds the new protocol's group.
    fn upgrade(&mut self, now: Now, id: &GroupId, records: Vec<GroupRecord>, out: &mut Output) {
        let group = self.groups.get_mut(id).expect("it is being upgraded");
        for member in group.classic.members.values_mut() {
            let again = GroupError::RebalanceInProgress;
            let join = member.join.take().map(|token| (token, GroupAnswer::Join(Err(again.clone()))));
            let sync = member.sync.take().map(|token| (token, GroupAnswer::Sync(Err(again))));
            out.replies.extend([join, sync].into_iter().flatten().map(|(token, answer)| Reply { token, answer }));
        }
        self.bytes -= group.classic.bytes();
        group.classic = Classic::default();
        let gone = group.metadata.is_some().then(|| GroupRecord::Metadata { group: id.clone(), value: None });
        self.write(gone.into_iter().chain(records).collect(), out);
        if let Some(consumer) = self.groups.get_mut(id).and_then(|group| group.consumer.as_deref_mut()) {
            // Members of the classic protocol have sessions of their own.
            consumer.begin(now.mono, Duration::ZERO);
        }
        self.schedule(id);
    }

    fn consumer_leave(
        &mut self,
        now: Now,
        catalog: Catalog<'_>,
        id: &GroupId,
        beat: &ConsumerHeartbeat,
        out: &mut Output,
    ) -> Result<ConsumerBeat, GroupError> {
        let group = self.groups.get(id).ok_or_else(|| GroupError::GroupIdNotFound { group: id.clone() })?;
        let other = || GroupError::NotConsumerGroup { group: id.clone() };
        let member = group.consumer.as_deref().ok_or_else(other)?.leaving(beat)?;
        let goes_for_good = beat.member_epoch == GONE_EPOCH;
        self.with_consumer((now, catalog), id, out, |consumer, step| match goes_for_good {
            true => consumer.remove_members(&[member], step),
            false => consumer.go_away(&member, step),
        });
        if goes_for_good {
            self.maybe_downgrade(now, catalog, id, true, out);
        }
        let member_epoch = if goes_for_good { GONE_EPOCH } else { AWAY_EPOCH };
        Ok(ConsumerBeat { member_id: beat.member_id.clone(), member_epoch, heartbeat_interval_ms: 0, assignment: None })
    }

    /// The group goes on in the classic protocol once nobody speaks the other.
    fn maybe_downgrade(&mut self, now: Now, catalog: Catalog<'_>, id: &GroupId, rebalances: bool, out: &mut Output) {
        let limit = self.config.members_max.min(MEMBERS_MAX);
        let may = self.config.consumer.may_downgrade;
        let fits = |consumer: &&Consumer| may && consumer.is_all_classic() && consumer.member_count() <= limit;
        let Some(consumer) = self.consumer(id).filter(fits) else { return };
        let classic = consumer.downgraded(&catalog, now);
        if classic.protocol.is_none() || classic.record_bytes() > self.config.record_bytes_max {
            return;
        }
        self.write(self.consumer(id).expect("it was just there").tombstones(id), out);
        let generation = GroupRecord::Metadata { group: id.clone(), value: Some(classic.to_record()) };
        self.write(vec![generation], out);
        let group = self.groups.get_mut(id).expect("its generation was just written");
        assert!(group.consumer.is_none(), "nothing is left after the tombstones");
        self.bytes += classic.bytes();
        group.classic = classic;
        self.schedule(id);
        if rebalances {
            self.with_group(now, id, out, |classic, step| classic.prepare_rebalance(step));
        }
    }

    /// An empty group of the consumer protocol makes room for a classic one.
    pub(super) fn end_empty_consumer(&mut self, id: &GroupId, out: &mut Output) {
        if let Some(consumer) = self.consumer(id).filter(|consumer| consumer.is_empty()) {
            self.write(consumer.tombstones(id), out);
        }
    }

    pub(super) fn tick_consumer(&mut self, now: Now, catalog: Catalog<'_>, id: &GroupId, out: &mut Output) {
        let Some(overdue) = self.consumer(id).map(|consumer| consumer.overdue(now.mono)) else { return };
        if !overdue.is_empty() {
            tracing::info!(group = %id, members = ?overdue, "members were silent or late: they are out");
        }
        self.with_consumer((now, catalog), id, out, |consumer, step| {
            consumer.remove_members(&overdue, step);
            consumer.forget_deadlines(now.mono);
        });
        self.maybe_downgrade(now, catalog, id, true, out);
        self.schedule(id);
        self.drop_if_vacant(id);
    }

    pub(super) fn consumer_join(
        &mut self,
        now: Now,
        catalog: Catalog<'_>,
        id: &GroupId,
        (join, token): (&Join, Token),
        out: &mut Output,
    ) {
        let joined = self.with_consumer((now, catalog), id, out, |consumer, step| consumer.join_classic(join, step));
        let joined = joined.expect("it is one of the consumer protocol");
        if joined.is_ok() {
            self.maybe_downgrade(now, catalog, id, false, out);
            self.schedule(id);
        }
        out.replies.push(Reply { token, answer: GroupAnswer::Join(joined) });
    }

    pub(super) fn consumer_sync(
        &mut self,
        now: Now,
        catalog: Catalog<'_>,
        id: &GroupId,
        sync: &Sync,
        out: &mut Output,
    ) -> Result<Synced, GroupError> {
        let synced = self.with_consumer((now, catalog), id, out, |consumer, step| consumer.sync_classic(sync, step));
        self.schedule(id);
        synced.expect("it is one of the consumer protocol")
    }

    pub(super) fn consumer_heartbeat_classic(
        &mut self,
        now: Now,
        catalog: Catalog<'_>,
        id: &GroupId,
        heartbeat: &Heartbeat,
        out: &mut Output,
    ) -> Result<(), GroupError> {
        let beat =
            self.with_consumer((now, catalog), id, out, |consumer, step| consumer.heartbeat_classic(heartbeat, step));
        let beat = beat.expect("it is one of the consumer protocol");
        if beat.is_err() {
            // It may have been told to join by a deadline.
            self.schedule(id);
        }
        beat
    }

    pub(super) fn consumer_leave_classic(
        &mut self,
        now: Now,
        catalog: Catalog<'_>,
        id: &GroupId,
        leave: &Leave,
        out: &mut Output,
    ) -> Result<Vec<Left>, GroupError> {
        assert!(leave.members.len() <= LEAVING_MAX, "longer lists are refused before");
        let left = self.with_consumer((now, catalog), id, out, |consumer, step| consumer.leave_classic(leave, step));
        Ok(left.expect("it is one of the consumer protocol"))
    }

    pub(super) fn describe_consumer(&self, id: &GroupId) -> Result<DescribedConsumerGroup, GroupError> {
        let group = self.groups.get(id).ok_or_else(|| GroupError::GroupIdNotFound { group: id.clone() })?;
        let other = || GroupError::NotConsumerGroup { group: id.clone() };
        Ok(group.consumer.as_deref().ok_or_else(other)?.describe(&self.config))
    }
}

impl Group {
    /// Nobody is in it or about to be.
    pub(super) fn is_idle(&self) -> bool {
        self.consumer.as_ref().map_or_else(|| self.classic.is_idle(), |consumer| consumer.is_empty())
    }

    /// Kafka's name for where it stands.
    pub(super) fn state(&self) -> &'static str {
        self.consumer.as_ref().map_or_else(|| GroupState::name(self.classic.state), |consumer| consumer.state())
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        match &self.consumer {
            Some(consumer) => consumer.next_deadline(),
            None => self.classic.next_deadline(),
        }
    }
}

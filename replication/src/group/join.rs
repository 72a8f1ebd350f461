//! JoinGroup, and how a rebalance gathers its members.
//!
//! Owns who may join, under which id, when the gathering ends, and who leads. Does not own what follows: `sync`.
//! Invariant: a join is answered at once, or by the end of the gathering, or when its member is given up.

use std::time::Duration;

use super::classic::{Classic, JoinTimer, Step};
use super::config::{MEMBERS_MAX, NAME_BYTES_MAX, PROTOCOLS_MAX};
use super::error::GroupError;
use super::member::{Member, Token, milliseconds, protocols_bytes};
use super::types::{GroupAnswer, GroupState, Join, Joined, MemberId, Protocol};

/// A gathering to which nobody came is not looked at more often than this, whatever timeout its members asked for.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// What can be said about a join without looking at its group.
pub(super) fn check_join(join: &Join, config: &super::GroupConfig) -> Result<(), GroupError> {
    let (min_ms, max_ms) = (config.session_timeout_ms_min, config.session_timeout_ms_max);
    let got_ms = join.session_timeout_ms;
    if !(min_ms..=max_ms).contains(&got_ms) {
        return Err(GroupError::InvalidSessionTimeout { got_ms, min_ms, max_ms });
    }
    let instance = join.instance_id.as_ref().map_or(0, |id| id.as_str().len());
    let names = join.protocols.iter().map(|protocol| protocol.name.len());
    let longest = names.chain([instance, join.protocol_type.len()]).max().unwrap_or(0);
    if longest > NAME_BYTES_MAX {
        return Err(GroupError::NameTooLong { bytes: longest, limit: NAME_BYTES_MAX });
    }
    if join.protocols.len() > PROTOCOLS_MAX {
        return Err(GroupError::TooManyProtocols { count: join.protocols.len(), limit: PROTOCOLS_MAX });
    }
    Ok(())
}

/// Each name once, the first counts; the bytes no longer keep the request's frame in memory.
fn kept(protocols: &[Protocol]) -> Vec<Protocol> {
    let mut kept: Vec<Protocol> = Vec::with_capacity(protocols.len());
    for protocol in protocols {
        if kept.iter().all(|known| known.name != protocol.name) {
            let metadata = model::ids::detached(&protocol.metadata);
            kept.push(Protocol { name: protocol.name.clone(), metadata });
        }
    }
    kept
}

impl Classic {
    pub(super) fn on_join(&mut self, join: &Join, token: Token, step: &mut Step<'_>) {
        match self.try_join(join, token, step) {
            Ok(None) => {}
            Ok(Some(joined)) => step.reply(token, GroupAnswer::Join(Ok(joined))),
            Err(error) => step.reply(token, GroupAnswer::Join(Err(error))),
        }
    }

    /// `None`: the join waits for the end of the gathering, or has been answered on the way.
    fn try_join(&mut self, join: &Join, token: Token, step: &mut Step<'_>) -> Result<Option<Joined>, GroupError> {
        self.check_room(join, step)?;
        if !self.supports(&join.protocol_type, &join.protocols) {
            let group = self.protocol_type.clone();
            return Err(GroupError::InconsistentProtocol { group, got: join.protocol_type.clone() });
        }
        match &join.member_id {
            None => self.join_unknown(join, token, step),
            Some(id) if self.pending.contains_key(id) && join.instance_id.is_none() => {
                self.add_member(id.clone(), join, token, step);
                Ok(None)
            }
            Some(_) => {
                let id = self.check_member(join.member_id.as_ref(), join.instance_id.as_ref())?;
                self.join_known(id, join, token, step)
            }
        }
    }

    fn check_room(&mut self, join: &Join, step: &mut Step<'_>) -> Result<(), GroupError> {
        let limit = step.config.members_max.min(MEMBERS_MAX);
        let known = join.member_id.as_ref().and_then(|id| self.members.get(id));
        let accepted = match self.state {
            GroupState::Empty | GroupState::Dead => self.pending.len() < limit || join.member_id.is_some(),
            // Those who wait count, not those who are listed: the last to rejoin are turned away (and it may be more
            // than the limit after that was lowered).
            GroupState::PreparingRebalance => {
                known.is_some_and(|member| member.join.is_some()) || self.waiting_joins() < limit
            }
            GroupState::CompletingRebalance | GroupState::Stable => known.is_some() || self.members.len() < limit,
        };
        if !accepted || (join.member_id.is_none() && self.pending.len() >= limit) {
            if let Some(id) = &join.member_id {
                self.give_up(id, step);
            }
            return Err(GroupError::GroupFull { limit });
        }
        let replaced = known.map_or(0, |member| protocols_bytes(&member.protocols));
        let bytes = self.bytes() - replaced + protocols_bytes(&join.protocols);
        let limit = step.config.group_bytes_max;
        if bytes > limit {
            return Err(GroupError::GroupTooLarge { bytes, limit });
        }
        Ok(())
    }

    fn join_unknown(&mut self, join: &Join, token: Token, step: &mut Step<'_>) -> Result<Option<Joined>, GroupError> {
        let new_id = self.new_id(join, step);
        if let Some(instance) = &join.instance_id {
            match self.instances.get(instance).cloned() {
                Some(old_id) => return Ok(self.replace_static(&old_id, new_id, join, token, step)),
                None => self.add_member(new_id, join, token, step),
            }
            return Ok(None);
        }
        if join.member_id_required {
            let deadline = step.now.mono + milliseconds(join.session_timeout_ms);
            self.insert_pending(new_id.clone(), deadline);
            return Err(GroupError::MemberIdRequired { member_id: new_id });
        }
        self.add_member(new_id, join, token, step);
        Ok(None)
    }

    /// A seed that was used before would give ids out that are taken.
    fn new_id(&self, join: &Join, step: &mut Step<'_>) -> MemberId {
        loop {
            let id = step.ids.next(&join.client_id, join.instance_id.as_ref());
            if !self.members.contains_key(&id) && !self.pending.contains_key(&id) {
                return id;
            }
        }
    }

    fn join_known(
        &mut self,
        id: MemberId,
        join: &Join,
        token: Token,
        step: &mut Step<'_>,
    ) -> Result<Option<Joined>, GroupError> {
        let member = self.members.get(&id).expect("check_member found it");
        let changed = member.protocols != kept(&join.protocols);
        let rebalances = match self.state {
            GroupState::PreparingRebalance => true,
            GroupState::CompletingRebalance => changed,
            // A leader joins again to have a new assignment made, for example because partitions were added.
            GroupState::Stable => changed || self.is_leader(&id),
            GroupState::Empty | GroupState::Dead => return Err(GroupError::UnknownMember { member: Some(id) }),
        };
        if !rebalances {
            // It may have missed the answer to its first join, so it is told the same again.
            return Ok(Some(self.joined(&id)));
        }
        self.update_member(&id, join, token, step);
        self.rebalance(step);
        Ok(None)
    }

    fn add_member(&mut self, id: MemberId, join: &Join, token: Token, step: &mut Step<'_>) {
        let mut member = Member::new(join, kept(&join.protocols));
        member.join = Some(token);
        member.deadline = step.now.mono + step.config.new_member_join_timeout;
        if self.is(GroupState::PreparingRebalance) && self.was_empty {
            self.new_member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.insert(id, member);
        self.rebalance(step);
    }

    /// Takes over what a new join of a member says. An older join of it that still waits is told to start anew.
    fn update_member(&mut self, id: &MemberId, join: &Join, token: Token, step: &mut Step<'_>) {
        self.set_protocols(id, kept(&join.protocols));
        let Some(member) = self.members.get_mut(id) else { return };
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        if !member.is_new {
            member.heard(step.now.mono);
        }
        if let Some(older) = member.join.replace(token) {
            step.reply(older, GroupAnswer::Join(Err(GroupError::RebalanceInProgress)));
        }
    }

    /// A static member came back without its id: it goes on under a new one, without a rebalance where that is possible.
    fn replace_static(
        &mut self,
        old_id: &MemberId,
        new_id: MemberId,
        join: &Join,
        token: Token,
        step: &mut Step<'_>,
    ) -> Option<Joined> {
        let old_leader = self.leader.clone();
        let mut member = self.remove(old_id).expect("static members are members");
        let fenced = GroupError::FencedInstance {
            instance: join.instance_id.clone().expect("only static members are replaced"),
            got: Some(old_id.clone()),
        };
        if let Some(waiting) = member.join.take() {
            step.reply(waiting, GroupAnswer::Join(Err(fenced.clone())));
        }
        if let Some(waiting) = member.sync.take() {
            step.reply(waiting, GroupAnswer::Sync(Err(fenced)));
        }
        member.is_new = false;
        self.insert(new_id.clone(), member);
        if old_leader.as_ref() == Some(old_id) {
            self.leader = Some(new_id.clone());
        }
        self.update_member(&new_id, join, token, step);
        let fits = self.record_bytes() <= step.config.record_bytes_max;
        match self.state {
            GroupState::Stable if fits && self.select_protocol() == self.protocol => {
                step.generations.push(self.to_record());
                self.members.get_mut(&new_id).expect("it was just inserted").join = None;
                return Some(self.joined_static(&new_id, old_leader, join.can_skip_assignment));
            }
            GroupState::Stable | GroupState::CompletingRebalance => self.rebalance(step),
            GroupState::PreparingRebalance => self.maybe_complete_join(step),
            GroupState::Empty | GroupState::Dead => unreachable!("a group with a member is neither"),
        }
        None
    }

    /// Versions that cannot skip the assignment are shown the leader's old id, so that the new one does not think it
    /// must make an assignment that nobody waits for (KIP-814).
    fn joined_static(&self, id: &MemberId, old_leader: Option<MemberId>, can_skip: bool) -> Joined {
        let joined = self.joined(id);
        if can_skip {
            return Joined { skip_assignment: self.is_leader(id), ..joined };
        }
        Joined { leader: old_leader, members: Vec::new(), ..joined }
    }

    /// Begins a rebalance, or looks whether the one under way is complete.
    pub(super) fn rebalance(&mut self, step: &mut Step<'_>) {
        if self.can_rebalance() { self.prepare_rebalance(step) } else { self.maybe_complete_join(step) }
    }

    pub(super) fn prepare_rebalance(&mut self, step: &mut Step<'_>) {
        self.abort_syncs(&GroupError::RebalanceInProgress, step);
        self.pending_sync.clear();
        self.sync_timer = None;
        let initial = self.is(GroupState::Empty);
        self.transition(step.now, GroupState::PreparingRebalance);
        let timeout = self.rebalance_timeout();
        if initial {
            let delay = step.config.initial_rebalance_delay;
            let left = timeout.saturating_sub(delay);
            self.new_member_added = false;
            self.join_timer = Some(JoinTimer::Initial { at: step.now.mono + delay, delay, left });
            return;
        }
        self.join_timer = Some(JoinTimer::Normal { at: step.now.mono + timeout });
        if self.all_joined() {
            self.complete_join(step);
        }
    }

    /// The first gathering of a group only ends with its timer.
    pub(super) fn maybe_complete_join(&mut self, step: &mut Step<'_>) {
        if self.is(GroupState::PreparingRebalance) && !self.was_empty && self.all_joined() {
            self.complete_join(step);
        }
    }

    pub(super) fn join_timer_fired(&mut self, step: &mut Step<'_>) {
        match self.join_timer {
            Some(JoinTimer::Initial { at, delay, left }) if self.new_member_added && left > Duration::ZERO => {
                self.new_member_added = false;
                let next = step.config.initial_rebalance_delay.min(left);
                let left = left.saturating_sub(delay);
                self.join_timer = Some(JoinTimer::Initial { at: at + next, delay: next, left });
            }
            Some(_) => self.complete_join(step),
            None => {}
        }
    }

    /// Ends the gathering: who has not come is out (static members excepted), the others are told the generation.
    pub(super) fn complete_join(&mut self, step: &mut Step<'_>) {
        self.join_timer = None;
        let absent = |member: &Member| member.join.is_none() && member.instance_id.is_none();
        let gone: Vec<MemberId> =
            self.members.iter().filter(|(_, member)| absent(member)).map(|(id, _)| id.clone()).collect();
        for id in &gone {
            self.remove(id);
        }
        if self.members.is_empty() {
            return self.become_empty(step);
        }
        if !self.elect_joined_leader() {
            // Only static members that are away: wait until they come or their sessions end.
            let wait = self.rebalance_timeout().max(RETRY_MIN);
            self.join_timer = Some(JoinTimer::Normal { at: step.now.mono + wait });
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol = self.select_protocol();
        assert!(self.protocol.is_some(), "members are only accepted with a protocol that all others offer");
        self.transition(step.now, GroupState::CompletingRebalance);
        self.pending_sync = self.members.keys().cloned().collect();
        self.sync_timer = Some(step.now.mono + self.rebalance_timeout());
        for id in self.pending_sync.clone() {
            let joined = self.joined(&id);
            let member = self.members.get_mut(&id).expect("these are the members");
            member.heard(step.now.mono);
            member.is_new = false;
            if let Some(token) = member.join.take() {
                step.reply(token, GroupAnswer::Join(Ok(joined)));
            }
        }
    }

    fn become_empty(&mut self, step: &mut Step<'_>) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol = None;
        self.transition(step.now, GroupState::Empty);
        step.generations.push(self.to_record());
    }

    /// False: nobody has joined.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |id: &MemberId| self.members.get(id).is_some_and(|member| member.join.is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let joined = self.members.iter().find(|(_, member)| member.join.is_some()).map(|(id, _)| id.clone());
        let Some(joined) = joined else { return false };
        self.leader = Some(joined);
        true
    }
}

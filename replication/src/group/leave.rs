//! How members leave: by LeaveGroup, by silence, by not sending the sync that they owe.
//!
//! Owns the removal of members and what it means for the rebalance. Invariant: who waits for an answer gets one
//! before being removed.

use super::classic::{Classic, Step};
use super::error::GroupError;
use super::member::Member;
use super::types::{GroupAnswer, GroupState, Leave, Leaving, Left, MemberId};

impl Classic {
    pub(super) fn on_leave(&mut self, leave: &Leave, step: &mut Step<'_>) -> Vec<Left> {
        let before = self.members.len();
        let mut left = Vec::with_capacity(leave.members.len());
        for leaving in &leave.members {
            let error = self.remove_leaving(leaving, step).err();
            let Leaving { member_id, instance_id, .. } = leaving.clone();
            left.push(Left { member_id, instance_id, error });
        }
        self.after_removal(self.members.len() < before, step);
        left
    }

    fn remove_leaving(&mut self, leaving: &Leaving, step: &mut Step<'_>) -> Result<(), GroupError> {
        let unknown = GroupError::UnknownMember { member: leaving.member_id.clone() };
        let id = match (&leaving.member_id, &leaving.instance_id) {
            // An administrator removes a static member by its instance id alone.
            (None, Some(instance)) => self.instances.get(instance).cloned().ok_or(unknown)?,
            (None, None) => return Err(unknown),
            (Some(id), _) if self.pending.contains_key(id) => id.clone(),
            (Some(_), instance) => self.check_member(leaving.member_id.as_ref(), instance.as_ref())?,
        };
        self.give_up(&id, step);
        Ok(())
    }

    /// Removes a member or pending member; what it waits for is answered so that it starts anew if it still lives.
    pub(super) fn give_up(&mut self, id: &MemberId, step: &mut Step<'_>) {
        let Some(Member { join, sync, .. }) = self.remove(id) else { return };
        let unknown = GroupError::UnknownMember { member: Some(id.clone()) };
        if let Some(token) = join {
            step.reply(token, GroupAnswer::Join(Err(unknown.clone())));
        }
        if let Some(token) = sync {
            step.reply(token, GroupAnswer::Sync(Err(unknown)));
        }
    }

    /// Somebody is gone: the others share the work anew, or the gathering may now be complete.
    /// Who was only pending had no share.
    fn after_removal(&mut self, was_member: bool, step: &mut Step<'_>) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance if was_member => self.prepare_rebalance(step),
            GroupState::Stable | GroupState::CompletingRebalance => {}
            GroupState::PreparingRebalance => self.maybe_complete_join(step),
            GroupState::Empty | GroupState::Dead => {}
        }
    }

    /// Gives up who was silent for too long, and ends what has waited for too long.
    pub(super) fn on_tick(&mut self, step: &mut Step<'_>) {
        let now = step.now.mono;
        let silent = |member: &Member| member.expires_at().is_some_and(|at| at <= now);
        let members = self.members.iter().filter(|(_, member)| silent(member)).map(|(id, _)| id);
        let pending = self.pending.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id);
        let gone: Vec<MemberId> = members.chain(pending).cloned().collect();
        let before = self.members.len();
        for id in &gone {
            self.give_up(id, step);
        }
        if !gone.is_empty() {
            self.after_expiry(self.members.len() < before, step);
        }
        if self.sync_timer.is_some_and(|at| at <= now) {
            self.sync_timer = None;
            self.sync_timer_fired(step);
        }
        if self.join_timer.is_some_and(|timer| timer.at() <= now) {
            self.join_timer_fired(step);
        }
    }

    /// Unlike a leave, this also ends the first gathering of a group once all who are left have joined: Kafka does so.
    fn after_expiry(&mut self, was_member: bool, step: &mut Step<'_>) {
        if self.is(GroupState::PreparingRebalance) && self.all_joined() {
            return self.complete_join(step);
        }
        self.after_removal(was_member, step);
    }

    fn sync_timer_fired(&mut self, step: &mut Step<'_>) {
        let owing = std::mem::take(&mut self.pending_sync);
        for id in &owing {
            self.give_up(id, step);
        }
        self.after_removal(!owing.is_empty(), step);
    }
}

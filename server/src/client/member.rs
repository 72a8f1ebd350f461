//! A member of a consumer group, by the classic protocol with the range assignor.
//!
//! Owns joining, the assignment (also that of the others, when this member leads), heartbeats, commits and leaving. Does not own reading.
//! Invariant: offsets are committed under the generation in which the partitions were assigned, so that a member that was shut out commits
//! nothing over its successor.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use model::ErrorCode;

use super::group::{self, Committer};
use super::range;
use super::refused::{AskError, check, is_passing};
use super::router::{Patience, Router, TopicPartition};
use crate::wire::StrBytes;
use crate::wire::messages::join_group_request::JoinGroupRequestProtocol;
use crate::wire::messages::leave_group_request::MemberIdentity;
use crate::wire::messages::sync_group_request::SyncGroupRequestAssignment;
use crate::wire::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
};

const SESSION_MS: i32 = 30_000;
/// Below what a connection waits for an answer.
const REBALANCE_MS: i32 = 30_000;
const HEARTBEAT: Duration = Duration::from_secs(3);
const PROTOCOL_TYPE: &str = "consumer";
const RANGE: &str = "range";
/// LeaveGroup takes several members from this version on.
const LEAVE_MANY: i16 = 3;
/// SyncGroup names the protocol from this version on.
const SYNC_PROTOCOL: i16 = 5;

pub struct Member {
    group: String,
    topics: Vec<String>,
    id: String,
    generation: i32,
    beaten: Instant,
}

/// What a heartbeat found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pulse {
    Steady,
    /// Commit what was read, then join again.
    Rebalance,
    /// The group goes on without this member: what was read since the last commit belongs to others. Join again.
    ShutOut,
}

impl Member {
    pub fn new(group: &str, topics: Vec<String>) -> Member {
        Member { group: group.to_owned(), topics, id: String::new(), generation: -1, beaten: Instant::now() }
    }

    /// Joins, and gives the partitions that are this member's now.
    pub fn join(&mut self, router: &mut Router) -> Result<Vec<TopicPartition>, AskError> {
        let patience = Patience::new();
        loop {
            let joined = self.enter(router)?;
            let code = joined.error_code;
            if code == ErrorCode::MemberIdRequired.to_wire() {
                self.id = joined.member_id.to_string();
                continue;
            }
            if self.is_out(code) && patience.wait() {
                self.id.clear();
                continue;
            }
            check(|| format!("joining group {}", self.group), code, None)?;
            self.id = joined.member_id.to_string();
            self.generation = joined.generation_id;
            let assignments = if joined.leader == joined.member_id { self.lead(router, &joined)? } else { Vec::new() };
            let (code, assignment) = self.sync(router, assignments)?;
            let again = code == ErrorCode::RebalanceInProgress.to_wire() || self.is_out(code);
            if again && patience.wait() {
                continue;
            }
            check(|| format!("the assignment of group {}", self.group), code, None)?;
            self.beaten = Instant::now();
            let node = self.group.clone();
            let assigned =
                range::take_assignment(assignment).ok_or(AskError::Incomplete { node, what: "a valid assignment" })?;
            let flat = assigned.into_iter().flat_map(|(topic, partitions)| {
                partitions.into_iter().map(move |partition| (topic.clone(), partition))
            });
            return Ok(flat.collect());
        }
    }

    fn is_out(&self, code: i16) -> bool {
        code == ErrorCode::UnknownMemberId.to_wire() || code == ErrorCode::IllegalGeneration.to_wire()
    }

    fn enter(&self, router: &mut Router) -> Result<JoinGroupResponse, AskError> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str(RANGE))
            .with_metadata(range::put_subscription(&self.topics));
        let request = JoinGroupRequest::default()
            .with_group_id(StrBytes::from_string(self.group.clone()).into())
            .with_session_timeout_ms(SESSION_MS)
            .with_rebalance_timeout_ms(REBALANCE_MS)
            .with_member_id(StrBytes::from_string(self.id.clone()))
            .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
            .with_protocols(vec![protocol]);
        router.coordinator(&self.group, |client| {
            let answer = client.call(|_| request.clone())?;
            let code = answer.error_code;
            Ok((answer, code))
        })
    }

    /// The assignment of everybody.
    fn lead(
        &self,
        router: &mut Router,
        joined: &JoinGroupResponse,
    ) -> Result<Vec<SyncGroupRequestAssignment>, AskError> {
        let of = |member: &crate::wire::messages::join_group_response::JoinGroupResponseMember| {
            let topics = range::take_subscription(member.metadata.clone()).unwrap_or_default();
            (member.member_id.to_string(), topics)
        };
        let members: BTreeMap<String, Vec<String>> = joined.members.iter().map(of).collect();
        let mut partitions = BTreeMap::new();
        for topic in members.values().flatten() {
            if !partitions.contains_key(topic) {
                let indexes = match router.topic(topic, false) {
                    Ok(seen) => seen.partitions.iter().map(|one| one.index).collect(),
                    // Another member waits for a topic that is not there yet.
                    Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition.to_wire()) => Vec::new(),
                    Err(error) => return Err(error),
                };
                partitions.insert(topic.clone(), indexes);
            }
        }
        let shown = |(member, assigned): (String, range::Assigned)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(StrBytes::from_string(member))
                .with_assignment(range::put_assignment(&assigned))
        };
        Ok(range::assign(&members, &partitions).into_iter().map(shown).collect())
    }

    fn sync(
        &self,
        router: &mut Router,
        assignments: Vec<SyncGroupRequestAssignment>,
    ) -> Result<(i16, Bytes), AskError> {
        router.coordinator(&self.group, |client| {
            let answer = client.call(|version| {
                let mut request = SyncGroupRequest::default()
                    .with_group_id(StrBytes::from_string(self.group.clone()).into())
                    .with_generation_id(self.generation)
                    .with_member_id(StrBytes::from_string(self.id.clone()))
                    .with_assignments(assignments.clone());
                if version >= SYNC_PROTOCOL {
                    request.protocol_type = Some(StrBytes::from_static_str(PROTOCOL_TYPE));
                    request.protocol_name = Some(StrBytes::from_static_str(RANGE));
                }
                request
            })?;
            Ok(((answer.error_code, answer.assignment), answer.error_code))
        })
    }

    /// Says that this member lives, when it is time to.
    pub fn beat(&mut self, router: &mut Router) -> Result<Pulse, AskError> {
        if self.beaten.elapsed() < HEARTBEAT {
            return Ok(Pulse::Steady);
        }
        let code = router.coordinator(&self.group, |client| {
            let answer = client.call(|_| {
                HeartbeatRequest::default()
                    .with_group_id(StrBytes::from_string(self.group.clone()).into())
                    .with_generation_id(self.generation)
                    .with_member_id(StrBytes::from_string(self.id.clone()))
            })?;
            Ok((answer.error_code, answer.error_code))
        })?;
        self.beaten = Instant::now();
        if code == ErrorCode::RebalanceInProgress.to_wire() {
            return Ok(Pulse::Rebalance);
        }
        if self.is_out(code) {
            return Ok(Pulse::ShutOut);
        }
        check(|| format!("a heartbeat to group {}", self.group), code, None)?;
        Ok(Pulse::Steady)
    }

    /// Commits what was read.
    pub fn commit(&self, router: &mut Router, offsets: &BTreeMap<TopicPartition, i64>) -> Result<Pulse, AskError> {
        let committer = Committer { generation: self.generation, member: self.id.clone() };
        match group::commit(router, &self.group, &committer, offsets) {
            Ok(()) => Ok(Pulse::Steady),
            Err(error) => match error.code() {
                Some(code) if code == ErrorCode::RebalanceInProgress.to_wire() => Ok(Pulse::Rebalance),
                Some(code) if self.is_out(code) => Ok(Pulse::ShutOut),
                _ => Err(error),
            },
        }
    }

    /// Leaves, so that the others need not wait until this member is missed.
    pub fn leave(self, router: &mut Router) -> Result<(), AskError> {
        let id = StrBytes::from_string(self.id.clone());
        let code = router.coordinator(&self.group, |client| {
            let answer = client.call(|version| {
                let request =
                    LeaveGroupRequest::default().with_group_id(StrBytes::from_string(self.group.clone()).into());
                if version >= LEAVE_MANY {
                    request.with_members(vec![MemberIdentity::default().with_member_id(id.clone())])
                } else {
                    request.with_member_id(id.clone())
                }
            })?;
            Ok((answer.error_code, answer.error_code))
        })?;
        if self.is_out(code) || is_passing(code) {
            return Ok(());
        }
        check(|| format!("leaving group {}", self.group), code, None)?;
        Ok(())
    }
}

//! JoinGroup (API key 11), versions 0..=9.
//!
//! Owns the shapes; `replication::group` decides. Kafka 4.1 took versions 0 and 1 back because old clients stop without.
//! Versions: 1 has a rebalance timeout, 4 gives a new member its id first (KIP-394), 5 static members (KIP-345),
//! 7 the protocol type in the answer, 8 a reason, 9 lets a static leader keep its assignment (KIP-814).

use std::ops::RangeInclusive;

use model::ids::detached;
use replication::group::{GroupAnswer, GroupError, GroupRequest, Join, Joined, MemberId, Protocol};

use super::context::{Api, Reply, RequestContext};
use super::groups::{instance, owned};
use super::topics::text;
use crate::wire::StrBytes;
use crate::wire::messages::join_group_response::JoinGroupResponseMember;
use crate::wire::messages::{JoinGroupRequest, JoinGroupResponse};

pub struct JoinGroup;

impl Api for JoinGroup {
    type Request = JoinGroupRequest;
    const NAME: &'static str = "JoinGroup";
    const VERSIONS: RangeInclusive<i16> = 0..=9;

    async fn handle(ctx: RequestContext, request: JoinGroupRequest) -> Reply<JoinGroupResponse> {
        let version = ctx.version;
        let protocol = |protocol: &crate::wire::messages::join_group_request::JoinGroupRequestProtocol| Protocol {
            name: protocol.name.to_string(),
            metadata: detached(&protocol.metadata),
        };
        let join = Join {
            client_id: ctx.client_id().to_owned(),
            client_host: ctx.client_host(),
            member_id: MemberId::from_wire(request.member_id.as_str()),
            instance_id: instance(request.group_instance_id.as_ref()),
            protocol_type: request.protocol_type.to_string(),
            protocols: request.protocols.iter().map(protocol).collect(),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: if version >= 1 { request.rebalance_timeout_ms } else { request.session_timeout_ms },
            member_id_required: version >= 4,
            can_skip_assignment: version >= 9,
            reason: owned(request.reason.as_ref()),
        };
        let group = request.group_id.0.clone();
        match ctx.group(group.as_str(), GroupRequest::Join(join)).await {
            GroupAnswer::Join(Ok(joined)) => show(version, joined).into(),
            GroupAnswer::Join(Err(error)) => refuse(version, &request.member_id, &error).into(),
            other => unreachable!("a join was answered with {other:?}"),
        }
    }
}

fn show(version: i16, joined: Joined) -> JoinGroupResponse {
    let member = |member: &replication::group::JoinedMember| {
        let mut shown = JoinGroupResponseMember::default()
            .with_member_id(text(member.member_id.as_str()))
            .with_metadata(member.metadata.clone());
        if version >= 5 {
            shown.group_instance_id = member.instance_id.as_ref().map(|id| text(id.as_str()));
        }
        shown
    };
    let mut response = JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        // Before version 7 the field may not be null.
        .with_protocol_name(Some(joined.protocol.as_deref().map(text).unwrap_or_default()))
        .with_leader(joined.leader.as_ref().map(|id| text(id.as_str())).unwrap_or_default())
        .with_member_id(text(joined.member_id.as_str()))
        .with_members(joined.members.iter().map(member).collect());
    if version >= 7 {
        response.protocol_type = joined.protocol_type.as_deref().map(text);
        response.protocol_name = joined.protocol.as_deref().map(text);
    }
    if version >= 9 {
        response.skip_assignment = joined.skip_assignment;
    }
    response
}

fn refuse(version: i16, member_id: &StrBytes, error: &GroupError) -> JoinGroupResponse {
    let member_id = match error {
        GroupError::MemberIdRequired { member_id } => text(member_id.as_str()),
        _ => member_id.clone(),
    };
    let mut response = JoinGroupResponse::default()
        .with_error_code(error.code().to_wire())
        .with_generation_id(-1)
        .with_protocol_name(Some(StrBytes::new()))
        .with_member_id(member_id);
    if version >= 7 {
        response.protocol_name = None;
    }
    response
}

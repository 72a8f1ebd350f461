//! LeaveGroup (API key 13), versions 0..=5.
//!
//! Owns the shapes; `replication::group` decides. Versions: 3 has many members at once, 5 a reason.

use std::ops::RangeInclusive;

use replication::group::{GroupAnswer, GroupRequest, Leave, Leaving, MemberId};

use super::context::{Api, Reply, RequestContext};
use super::groups::{instance, optional_code, owned};
use super::topics::text;
use crate::wire::messages::leave_group_response::MemberResponse;
use crate::wire::messages::{LeaveGroupRequest, LeaveGroupResponse};

pub struct LeaveGroup;

impl Api for LeaveGroup {
    type Request = LeaveGroupRequest;
    const NAME: &'static str = "LeaveGroup";
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    async fn handle(ctx: RequestContext, request: LeaveGroupRequest) -> Reply<LeaveGroupResponse> {
        let members = if ctx.version >= 3 {
            let leaving = |member: &crate::wire::messages::leave_group_request::MemberIdentity| Leaving {
                member_id: MemberId::from_wire(member.member_id.as_str()),
                instance_id: instance(member.group_instance_id.as_ref()),
                reason: owned(member.reason.as_ref()),
            };
            request.members.iter().map(leaving).collect()
        } else {
            vec![Leaving {
                member_id: MemberId::from_wire(request.member_id.as_str()),
                instance_id: None,
                reason: None,
            }]
        };
        let left = match ctx.group(request.group_id.as_str(), GroupRequest::Leave(Leave { members })).await {
            GroupAnswer::Leave(Ok(left)) => left,
            GroupAnswer::Leave(Err(error)) => {
                return LeaveGroupResponse::default().with_error_code(error.code().to_wire()).into();
            }
            other => unreachable!("a leave was answered with {other:?}"),
        };
        if ctx.version < 3 {
            let error = left.first().and_then(|left| left.error.as_ref());
            return LeaveGroupResponse::default().with_error_code(optional_code(error)).into();
        }
        let members = left.iter().map(|left| {
            MemberResponse::default()
                .with_member_id(left.member_id.as_ref().map(|id| text(id.as_str())).unwrap_or_default())
                .with_group_instance_id(left.instance_id.as_ref().map(|id| text(id.as_str())))
                .with_error_code(optional_code(left.error.as_ref()))
        });
        LeaveGroupResponse::default().with_members(members.collect()).into()
    }
}

//! Heartbeat (API key 12), versions 0..=4.
//!
//! Owns the shapes; `replication::group` decides. Versions: 3 has static members.

use std::ops::RangeInclusive;

use replication::group::{GroupAnswer, GroupRequest, Heartbeat as GroupHeartbeat, MemberId};

use super::context::{Api, Reply, RequestContext};
use super::groups::{code_of, instance};
use crate::wire::messages::{HeartbeatRequest, HeartbeatResponse};

pub struct Heartbeat;

impl Api for Heartbeat {
    type Request = HeartbeatRequest;
    const NAME: &'static str = "Heartbeat";
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    async fn handle(ctx: RequestContext, request: HeartbeatRequest) -> Reply<HeartbeatResponse> {
        let heartbeat = GroupHeartbeat {
            member_id: MemberId::from_wire(request.member_id.as_str()),
            instance_id: instance(request.group_instance_id.as_ref()),
            generation: request.generation_id,
        };
        match ctx.group(request.group_id.as_str(), GroupRequest::Heartbeat(heartbeat)).await {
            GroupAnswer::Heartbeat(result) => HeartbeatResponse::default().with_error_code(code_of(&result)).into(),
            other => unreachable!("a heartbeat was answered with {other:?}"),
        }
    }
}

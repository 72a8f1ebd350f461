//! SyncGroup (API key 14), versions 0..=5.
//!
//! Owns the shapes; `replication::group` decides. Versions: 3 has static members, 5 names the protocol.

use std::ops::RangeInclusive;

use model::ids::detached;
use replication::group::{GroupAnswer, GroupRequest, MemberId, Sync as GroupSync};

use super::context::{Api, Reply, RequestContext};
use super::groups::{instance, owned};
use super::topics::text;
use crate::wire::messages::{SyncGroupRequest, SyncGroupResponse};

pub struct SyncGroup;

impl Api for SyncGroup {
    type Request = SyncGroupRequest;
    const NAME: &'static str = "SyncGroup";
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    async fn handle(ctx: RequestContext, request: SyncGroupRequest) -> Reply<SyncGroupResponse> {
        let assignments = request.assignments.iter().filter_map(|assignment| {
            Some((MemberId::from_wire(assignment.member_id.as_str())?, detached(&assignment.assignment)))
        });
        let sync = GroupSync {
            member_id: MemberId::from_wire(request.member_id.as_str()),
            instance_id: instance(request.group_instance_id.as_ref()),
            generation: request.generation_id,
            protocol_type: owned(request.protocol_type.as_ref()),
            protocol: owned(request.protocol_name.as_ref()),
            assignments: assignments.collect(),
        };
        match ctx.group(request.group_id.as_str(), GroupRequest::Sync(sync)).await {
            GroupAnswer::Sync(Ok(synced)) => {
                let mut response = SyncGroupResponse::default().with_assignment(synced.assignment);
                if ctx.version >= 5 {
                    response.protocol_type = synced.protocol_type.as_deref().map(text);
                    response.protocol_name = synced.protocol.as_deref().map(text);
                }
                response.into()
            }
            GroupAnswer::Sync(Err(error)) => {
                SyncGroupResponse::default().with_error_code(error.code().to_wire()).into()
            }
            other => unreachable!("a sync was answered with {other:?}"),
        }
    }
}

//! DeleteGroups (API key 42), versions 0..=3.
//!
//! Owns the shapes; `replication::group` decides. Invariant: one answer for each group that is named; one that is named
//! twice is gone for the second. Versions: 3 has messages.

use std::ops::RangeInclusive;

use replication::group::{GroupAnswer, GroupRequest};

use super::context::{Api, Reply, RequestContext};
use super::groups::code_of;
use super::topics::message;
use crate::wire::messages::DeleteGroupsRequest;
use crate::wire::{DeleteGroupsResponse, DeletedGroup};

pub struct DeleteGroups;

impl Api for DeleteGroups {
    type Request = DeleteGroupsRequest;
    const NAME: &'static str = "DeleteGroups";
    const VERSIONS: RangeInclusive<i16> = 0..=3;

    async fn handle(ctx: RequestContext, request: DeleteGroupsRequest) -> Reply<DeleteGroupsResponse> {
        let mut results = Vec::with_capacity(request.groups_names.len());
        for group in &request.groups_names {
            let answer = ctx.group(group.as_str(), GroupRequest::Delete).await;
            let GroupAnswer::Delete(deleted) = answer else {
                unreachable!("a delete was answered with {answer:?}");
            };
            results.push(DeletedGroup {
                group_id: group.0.clone(),
                error_code: code_of(&deleted),
                error_message: deleted.err().as_ref().and_then(message),
                ..DeletedGroup::default()
            });
        }
        DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() }.into()
    }
}

//! ListGroups (API key 16), versions 0..=5.
//!
//! Owns the shapes; `replication::group` decides. Versions: 4 filters by state (KIP-518), 5 by type (KIP-848).

use std::ops::RangeInclusive;

use replication::group::{GroupAnswer, GroupRequest, ListFilter};

use super::context::{Api, Reply, RequestContext};
use super::topics::text;
use crate::wire::messages::list_groups_response::ListedGroup;
use crate::wire::messages::{ListGroupsRequest, ListGroupsResponse};

pub struct ListGroups;

impl Api for ListGroups {
    type Request = ListGroupsRequest;
    const NAME: &'static str = "ListGroups";
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    async fn handle(ctx: RequestContext, request: ListGroupsRequest) -> Reply<ListGroupsResponse> {
        let filter = ListFilter {
            states: request.states_filter.iter().map(|state| state.to_string()).collect(),
            types: request.types_filter.iter().map(|kind| kind.to_string()).collect(),
        };
        let groups = match ctx.group("", GroupRequest::List(filter)).await {
            GroupAnswer::List(Ok(groups)) => groups,
            GroupAnswer::List(Err(error)) => {
                return ListGroupsResponse::default().with_error_code(error.code().to_wire()).into();
            }
            other => unreachable!("a list was answered with {other:?}"),
        };
        let shown = groups.iter().map(|group| {
            let mut shown = ListedGroup::default()
                .with_group_id(text(group.group.as_str()).into())
                .with_protocol_type(text(&group.protocol_type));
            if ctx.version >= 4 {
                shown.group_state = text(group.state);
            }
            if ctx.version >= 5 {
                shown.group_type = text(group.group_type);
            }
            shown
        });
        ListGroupsResponse::default().with_groups(shown.collect()).into()
    }
}

//! DescribeGroups (API key 15), versions 0..=6.
//!
//! Owns the shapes; `replication::group` decides. A group that is not there, or is none of the classic protocol, is `Dead`
//! without an error up to version 5, GROUP_ID_NOT_FOUND from 6 on (KIP-1043). Versions: 4 has static members.

use std::ops::RangeInclusive;

use replication::group::{GroupAnswer, GroupError, GroupRequest};

use super::context::{Api, Reply, RequestContext};
use super::once::once;
use super::topics::{message, text};
use crate::wire::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use crate::wire::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

pub struct DescribeGroups;

/// Bits of what everybody may do with a group while nothing is forbidden: read, delete, describe, and its
/// configuration.
pub const GROUP_OPERATIONS: i32 = 0x0d48;

impl Api for DescribeGroups {
    type Request = DescribeGroupsRequest;
    const NAME: &'static str = "DescribeGroups";
    const VERSIONS: RangeInclusive<i16> = 0..=6;

    async fn handle(ctx: RequestContext, request: DescribeGroupsRequest) -> Reply<DescribeGroupsResponse> {
        let mut groups = Vec::new();
        for group in once(&request.groups, |group| group.as_str()) {
            let answer = ctx.group(group.as_str(), GroupRequest::Describe).await;
            let GroupAnswer::Describe(described) = answer else {
                unreachable!("a describe was answered with {answer:?}");
            };
            let mut shown = show(ctx.version, described);
            shown.group_id = group.clone();
            if ctx.version >= 3 && request.include_authorized_operations {
                shown.authorized_operations = GROUP_OPERATIONS;
            }
            groups.push(shown);
        }
        DescribeGroupsResponse::default().with_groups(groups).into()
    }
}

fn show(version: i16, described: Result<replication::group::DescribedGroup, GroupError>) -> DescribedGroup {
    let described = match described {
        Ok(described) => described,
        Err(GroupError::GroupIdNotFound { .. } | GroupError::NotClassicGroup { .. }) if version < 6 => {
            return DescribedGroup::default().with_group_state(text("Dead"));
        }
        Err(error) => {
            let mut shown = DescribedGroup::default().with_error_code(error.code().to_wire());
            if version >= 6 {
                shown.error_message = message(&error);
                shown.group_state = text("Dead");
            }
            return shown;
        }
    };
    let members = described.members.into_iter().map(|member| {
        let mut shown = DescribedGroupMember::default()
            .with_member_id(text(member.member_id.as_str()))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment);
        if version >= 4 {
            shown.group_instance_id = member.instance_id.map(|id| text(id.as_str()));
        }
        shown
    });
    DescribedGroup::default()
        .with_group_state(text(described.state.name()))
        .with_protocol_type(text(&described.protocol_type))
        .with_protocol_data(text(&described.protocol))
        .with_members(members.collect())
}

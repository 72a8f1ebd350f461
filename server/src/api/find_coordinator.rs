//! FindCoordinator (API key 10), versions 0..=6.
//!
//! Owns where a group's coordinator is: the leader of its partition of `__consumer_offsets`, which is made on first use.
//! Versions: 1 has key types (groups, transactions), 4 asks for many keys at once, 6 share groups.

use std::ops::RangeInclusive;

use model::{ErrorCode, GroupId, TopicName};
use node::partition_of;
use replication::controller::topics::OFFSETS_TOPIC;
use replication::metadata::Image;

use super::context::{Api, Reply, RequestContext};
use super::topics::{create_on_use, find_name, text};
use crate::config::Endpoint;
use crate::wire::messages::find_coordinator_response::Coordinator;
use crate::wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

pub struct FindCoordinator;

const GROUP: i8 = 0;

impl Api for FindCoordinator {
    type Request = FindCoordinatorRequest;
    const NAME: &'static str = "FindCoordinator";
    const VERSIONS: RangeInclusive<i16> = 0..=6;

    async fn handle(ctx: RequestContext, request: FindCoordinatorRequest) -> Reply<FindCoordinatorResponse> {
        let key_type = if ctx.version >= 1 { request.key_type } else { GROUP };
        let refusal = refusal(key_type);
        if refusal.is_none() && find_name(&ctx.broker.image(), OFFSETS_TOPIC).is_err() {
            let name = TopicName::new(OFFSETS_TOPIC).expect("a valid name");
            create_on_use(&ctx, &[name]).await;
        }
        let image = ctx.broker.image();
        let find = |key: &str| match refusal {
            Some(message) => Err((ErrorCode::InvalidRequest, message)),
            None => find(&ctx, &image, key)
                .ok_or((ErrorCode::CoordinatorNotAvailable, "the coordinator is not available yet")),
        };
        if ctx.version >= 4 {
            let coordinators = request.coordinator_keys.iter().map(|key| {
                let shown = Coordinator::default().with_key(key.clone());
                match find(key.as_str()) {
                    Ok((node, endpoint)) => {
                        shown.with_node_id(node.into()).with_host(text(&endpoint.host)).with_port(endpoint.port.into())
                    }
                    Err((code, message)) => shown
                        .with_node_id((-1).into())
                        .with_port(-1)
                        .with_error_code(code.to_wire())
                        .with_error_message(Some(text(message))),
                }
            });
            return FindCoordinatorResponse::default().with_coordinators(coordinators.collect()).into();
        }
        let mut response = FindCoordinatorResponse::default();
        match find(request.key.as_str()) {
            Ok((node, endpoint)) => {
                response.node_id = node.into();
                response.host = text(&endpoint.host);
                response.port = endpoint.port.into();
            }
            Err((code, message)) => {
                response.node_id = (-1).into();
                response.port = -1;
                response.error_code = code.to_wire();
                if ctx.version >= 1 {
                    response.error_message = Some(text(message));
                }
            }
        }
        response.into()
    }
}

/// Why coordinators of this type are never found.
fn refusal(key_type: i8) -> Option<&'static str> {
    match key_type {
        GROUP => None,
        1 => Some("transactions are not served by this version"),
        2 => Some("share groups are not served by this version"),
        _ => Some("this type of coordinator is unknown"),
    }
}

fn find(ctx: &RequestContext, image: &Image, group: &str) -> Option<(i32, Endpoint)> {
    let topic = find_name(image, OFFSETS_TOPIC).ok()?;
    let partition = partition_of(&GroupId::new(group), u32::try_from(topic.partitions.len()).ok()?)?;
    let leader = topic.partition(partition)?.leader?;
    let info = image.node(leader).filter(|info| !info.fenced)?;
    let endpoint = ctx.broker.endpoint_of(leader, Some(info), ctx.connection.local, ctx.connection.peer);
    Some((leader.0, endpoint))
}

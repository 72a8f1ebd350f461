//! DescribeCluster (API key 60), versions 0..=2.
//!
//! Versions: 1 asks for brokers or controllers (KIP-919), 2 can show fenced nodes (KIP-1073).

use std::ops::RangeInclusive;

use model::ErrorCode;

use super::context::{Api, Reply, RequestContext};
use super::metadata::{CLUSTER_OPERATIONS, controller};
use super::topics::text;
use crate::wire::messages::describe_cluster_response::DescribeClusterBroker;
use crate::wire::messages::{DescribeClusterRequest, DescribeClusterResponse};

pub struct DescribeCluster;

const BROKERS: i8 = 1;

impl Api for DescribeCluster {
    type Request = DescribeClusterRequest;
    const NAME: &'static str = "DescribeCluster";
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(ctx: RequestContext, request: DescribeClusterRequest) -> Reply<DescribeClusterResponse> {
        if ctx.version >= 1 && request.endpoint_type != BROKERS {
            let code = if request.endpoint_type == 2 {
                ErrorCode::MismatchedEndpointType
            } else {
                ErrorCode::UnsupportedEndpointType
            };
            return DescribeClusterResponse::default()
                .with_error_code(code.to_wire())
                .with_error_message(Some(text("this endpoint is a broker's")))
                .into();
        }
        let image = ctx.broker.image();
        let fenced = ctx.version >= 2 && request.include_fenced_brokers;
        let brokers = image.nodes().iter().filter(|(_, info)| fenced || !info.fenced).map(|(node, info)| {
            let endpoint = ctx.broker.endpoint_of(*node, Some(info), ctx.connection.local, ctx.connection.peer);
            let mut broker = DescribeClusterBroker::default()
                .with_broker_id(node.0.into())
                .with_host(text(&endpoint.host))
                .with_port(endpoint.port.into())
                .with_rack(info.rack.as_deref().map(text));
            if ctx.version >= 2 {
                broker.is_fenced = info.fenced;
            }
            broker
        });
        let operations = if request.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { i32::MIN };
        DescribeClusterResponse::default()
            .with_cluster_id(text(image.cluster_id()))
            .with_controller_id(controller(&ctx, &image).0.into())
            .with_brokers(brokers.collect())
            .with_cluster_authorized_operations(operations)
            .into()
    }
}

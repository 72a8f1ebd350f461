//! PushTelemetry (API key 72), version 0 (KIP-714).
//!
//! Owns the shape. Does not own what is taken: `telemetry` does.

use std::ops::RangeInclusive;

use model::ErrorCode;

use super::context::{Api, Reply, RequestContext};
use super::get_telemetry_subscriptions::about;
use crate::clock;
use crate::telemetry::Push;
use crate::wire::messages::{PushTelemetryRequest, PushTelemetryResponse};

pub struct PushTelemetry;

impl Api for PushTelemetry {
    type Request = PushTelemetryRequest;
    const NAME: &'static str = "PushTelemetry";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(ctx: RequestContext, request: PushTelemetryRequest) -> Reply<PushTelemetryResponse> {
        let push = Push {
            instance: *request.client_instance_id.as_bytes(),
            subscription_id: request.subscription_id,
            terminating: request.terminating,
            codec: request.compression_type,
            metrics: &request.metrics,
        };
        let taken = ctx.broker.telemetry.push(clock::mono(), &ctx.broker.image(), about(&ctx), push);
        let code = taken.map_or_else(
            |refused| {
                tracing::debug!(client = %ctx.connection.peer, "a push is not taken: {refused}");
                refused.code()
            },
            |()| ErrorCode::None,
        );
        PushTelemetryResponse::default().with_error_code(code.to_wire()).into()
    }
}

//! GetTelemetrySubscriptions (API key 71), version 0 (KIP-714).
//!
//! Owns the shape of the answer and the ids of clients that have none yet. Does not own who is asked for what: `telemetry` does.

use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;

use super::context::{Api, Reply, RequestContext};
use super::topics::text;
use crate::clock;
use crate::telemetry::{About, CODECS};
use crate::wire::Uuid;
use crate::wire::messages::{GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse};

pub struct GetTelemetrySubscriptions;

impl Api for GetTelemetrySubscriptions {
    type Request = GetTelemetrySubscriptionsRequest;
    const NAME: &'static str = "GetTelemetrySubscriptions";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(
        ctx: RequestContext,
        request: GetTelemetrySubscriptionsRequest,
    ) -> Reply<GetTelemetrySubscriptionsResponse> {
        let id = if request.client_instance_id.is_nil() { new_id() } else { request.client_instance_id };
        let (telemetry, image) = (&ctx.broker.telemetry, ctx.broker.image());
        let response = GetTelemetrySubscriptionsResponse::default();
        let wanted = match telemetry.wanted(clock::mono(), &image, *id.as_bytes(), about(&ctx)) {
            Ok(wanted) => wanted,
            Err(refused) => {
                tracing::debug!(client = %ctx.connection.peer, "no subscription is told: {refused}");
                return response.with_error_code(refused.code().to_wire()).into();
            }
        };
        let codec = |codec: &model::batch::Codec| i8::try_from(codec.to_wire()).expect("codecs are 0 to 4");
        response
            .with_client_instance_id(id)
            .with_subscription_id(wanted.subscription_id)
            .with_accepted_compression_types(CODECS.iter().map(codec).collect())
            .with_push_interval_ms(wanted.interval_ms)
            .with_telemetry_max_bytes(i32::try_from(telemetry.bytes_max()).unwrap_or(i32::MAX))
            // Sums as they are: what a client counts is shown as its counter.
            .with_delta_temporality(false)
            .with_requested_metrics(wanted.metrics.iter().map(|name| text(name)).collect())
            .into()
    }
}

/// What the connection tells of its client.
pub fn about(ctx: &RequestContext) -> About {
    let (software_name, software_version) = ctx.connection.software().unzip();
    About {
        client_id: ctx.client_id().to_owned(),
        software_name,
        software_version,
        address: ctx.connection.peer.ip().to_canonical().to_string(),
        port: ctx.connection.peer.port(),
    }
}

/// The standard library's hash keys come from the system's generator: two clients do not get one id.
fn new_id() -> Uuid {
    let (high, low) = (RandomState::new().hash_one(clock::mono()), RandomState::new().hash_one(clock::mono()));
    uuid::Builder::from_random_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_clients_differ_and_are_not_kafkas_own() {
        let ids: std::collections::BTreeSet<Uuid> = (0..1000).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.as_u128() > 1 && id.get_version_num() == 4));
    }
}

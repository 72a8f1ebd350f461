//! UnregisterBroker (API key 64), version 0, and UnregisterController (API key 94), version 0.
//!
//! Owns the shapes of both: here every node is a broker and a controller, so both forget a node that is dead.
//! Does not own when that is allowed: the controller decides.

use std::ops::RangeInclusive;

use model::{ErrorCode, NodeId};
use node::requests::{ControllerRequest, Refusal};

use super::admin::{WAIT, order, shown};
use super::context::{Api, Reply, RequestContext};
use crate::wire::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use crate::wire::{UnregisterControllerRequest, UnregisterControllerResponse};

pub struct UnregisterBroker;

impl Api for UnregisterBroker {
    type Request = UnregisterBrokerRequest;
    const NAME: &'static str = "UnregisterBroker";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(ctx: RequestContext, request: UnregisterBrokerRequest) -> Reply<UnregisterBrokerResponse> {
        let (code, message) = shown(&unregister(&ctx, NodeId(request.broker_id.0)).await);
        UnregisterBrokerResponse::default().with_error_code(code).with_error_message(message).into()
    }
}

pub struct UnregisterController;

impl Api for UnregisterController {
    type Request = UnregisterControllerRequest;
    const NAME: &'static str = "UnregisterController";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(ctx: RequestContext, request: UnregisterControllerRequest) -> Reply<UnregisterControllerResponse> {
        let unregistered = unregister(&ctx, NodeId(request.controller_id)).await.map_err(as_controller);
        let (error_code, error_message) = shown(&unregistered);
        UnregisterControllerResponse { error_code, error_message, ..Default::default() }.into()
    }
}

/// The same refusal has another number where a controller was named.
fn as_controller(refusal: Refusal) -> Refusal {
    match refusal.code {
        ErrorCode::BrokerIdNotRegistered => Refusal { code: ErrorCode::ControllerIdNotRegistered, ..refusal },
        _ => refusal,
    }
}

async fn unregister(ctx: &RequestContext, node: NodeId) -> Result<(), Refusal> {
    order(ctx, ControllerRequest::UnregisterNode { node }, WAIT).await
}

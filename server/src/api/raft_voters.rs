//! AddRaftVoter (API key 80), versions 0..=1, and RemoveRaftVoter (API key 81), version 0 (KIP-853).
//!
//! Owns the shapes and the check of the cluster id. Does not own who may vote: the controller decides.
//! Versions: AddRaftVoter 1 can be answered before the change is committed.

use std::ops::RangeInclusive;
use std::time::Duration;

use model::{ErrorCode, NodeId};
use node::requests::{ControllerRequest, Refusal};

use super::admin::{WAIT, order, shown, wait};
use super::context::{Api, Reply, RequestContext};
use crate::wire::messages::{AddRaftVoterResponse, RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use crate::wire::{AddRaftVoterRequest, Uuid};

pub struct AddRaftVoter;

impl Api for AddRaftVoter {
    type Request = AddRaftVoterRequest;
    const NAME: &'static str = "AddRaftVoter";
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    async fn handle(ctx: RequestContext, request: AddRaftVoterRequest) -> Reply<AddRaftVoterResponse> {
        let node = NodeId(request.voter_id);
        let asked = ControllerRequest::AddVoter { node, directory: directory(request.voter_directory_id) };
        let added = change(&ctx, request.cluster_id.as_deref(), asked, wait(request.timeout_ms));
        let (code, message) = shown(&added.await);
        AddRaftVoterResponse::default().with_error_code(code).with_error_message(message).into()
    }
}

pub struct RemoveRaftVoter;

impl Api for RemoveRaftVoter {
    type Request = RemoveRaftVoterRequest;
    const NAME: &'static str = "RemoveRaftVoter";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    async fn handle(ctx: RequestContext, request: RemoveRaftVoterRequest) -> Reply<RemoveRaftVoterResponse> {
        let node = NodeId(request.voter_id);
        let asked = ControllerRequest::RemoveVoter { node, directory: directory(request.voter_directory_id) };
        let removed = change(&ctx, request.cluster_id.as_deref(), asked, WAIT);
        let (code, message) = shown(&removed.await);
        RemoveRaftVoterResponse::default().with_error_code(code).with_error_message(message).into()
    }
}

/// A change that was meant for another cluster must not happen here.
fn check_cluster(ctx: &RequestContext, asked: Option<&str>) -> Result<(), Refusal> {
    let image = ctx.broker.image();
    match asked {
        Some(asked) if asked != image.cluster_id() => {
            let message = format!("this is cluster {}, not {}", image.cluster_id(), crate::net::shown::Shown(asked));
            Err(Refusal::new(ErrorCode::InconsistentClusterId, message))
        }
        Some(_) | None => Ok(()),
    }
}

/// The nil id stands for a voter whose directory the caller does not know.
fn directory(id: Uuid) -> Option<[u8; 16]> {
    (!id.is_nil()).then(|| id.into_bytes())
}

async fn change(
    ctx: &RequestContext,
    cluster: Option<&str>,
    asked: ControllerRequest,
    wait: Duration,
) -> Result<(), Refusal> {
    check_cluster(ctx, cluster)?;
    order(ctx, asked, wait).await
}

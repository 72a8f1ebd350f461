//! AddRaftVoter (API key 80), versions 0..=1, and RemoveRaftVoter (API key 81), version 0 (KIP-853).
//!
//! Owns the shapes and the check of the cluster id. Does not own who may vote: the controller decides.
//! Versions: AddRaftVoter 1 can be answered before the change is committed.

use std::ops::RangeInclusive;

use model::{ErrorCode, NodeId};
use node::requests::{ControllerAnswer, ControllerRequest, Refusal};

use super::admin::{WAIT, shown, unexpected, wait};
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
        let added = match check_cluster(&ctx, request.cluster_id.as_deref()) {
            Ok(()) => {
                let asked = ControllerRequest::AddVoter { node, directory: directory(request.voter_directory_id) };
                change(&ctx, asked, wait(request.timeout_ms)).await
            }
            Err(refusal) => Err(refusal),
        };
        let (code, message) = shown(&added);
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
        let removed = match check_cluster(&ctx, request.cluster_id.as_deref()) {
            Ok(()) => {
                let asked = ControllerRequest::RemoveVoter { node, directory: directory(request.voter_directory_id) };
                change(&ctx, asked, WAIT).await
            }
            Err(refusal) => Err(refusal),
        };
        let (code, message) = shown(&removed);
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

async fn change(ctx: &RequestContext, asked: ControllerRequest, wait: std::time::Duration) -> Result<(), Refusal> {
    match ctx.controller(asked, wait).await? {
        ControllerAnswer::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

//! InitProducerId (API key 22), versions 0..=5.
//!
//! Owns the refusal of transactional ids, which this version does not serve. Version 6 (two-phase commit, KIP-939) is
//! unstable in Kafka 4.4 and not served.

use std::ops::RangeInclusive;

use model::ErrorCode;
use node::requests::Answer;
use tracing::warn;

use super::context::{Api, Reply, RequestContext};
use crate::net::reply::ReplyCell;
use crate::net::shown::Shown;
use crate::wire::messages::{InitProducerIdRequest, InitProducerIdResponse};

pub struct InitProducerId;

impl Api for InitProducerId {
    type Request = InitProducerIdRequest;
    const NAME: &'static str = "InitProducerId";
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    async fn handle(ctx: RequestContext, request: InitProducerIdRequest) -> Reply<InitProducerIdResponse> {
        if let Some(id) = &request.transactional_id {
            // The response has no field for a message, so the log says it.
            let (id, client) = (Shown(id.as_str()), Shown(ctx.client_id()));
            warn!("client '{client}' asked for transactional id '{id}': transactions are not served by this version");
            return failed(ErrorCode::UnsupportedVersion);
        }
        let cell = ReplyCell::new();
        let to = cell.reply_to();
        ctx.broker.call(|node, now, fx| node.init_producer_id(now, to, fx));
        match cell.answer().await {
            Answer::ProducerId(Ok((id, epoch))) => {
                InitProducerIdResponse::default().with_producer_id(id.0.into()).with_producer_epoch(epoch.0).into()
            }
            Answer::ProducerId(Err(refusal)) => failed(refusal.code),
            other => unreachable!("init_producer_id was answered with {other:?}"),
        }
    }
}

fn failed(code: ErrorCode) -> Reply<InitProducerIdResponse> {
    InitProducerIdResponse::default()
        .with_error_code(code.to_wire())
        .with_producer_id((-1).into())
        .with_producer_epoch(-1)
        .into()
}

//! What a handler is told beside its request, and what it gives back.

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use node::requests::{Answer, ControllerAnswer, ControllerRequest, Refusal};
use replication::group::{GroupAnswer, GroupRequest};

use crate::broker::Broker;
use crate::memory::Charge;
use crate::net::connection::Connection;
use crate::net::reply::ReplyCell;
use crate::wire::{self, Frame, Splices, WireError};

/// One API of the Kafka protocol.
pub trait Api {
    type Request: wire::Request;
    const NAME: &'static str;
    /// What ApiVersions advertises and what is accepted.
    const VERSIONS: RangeInclusive<i16>;
    /// Polled once by the reading task, before the next request is looked at: what must happen in the order of the
    /// requests (appends) happens before the first wait. Failures are fields of the response, one per partition.
    fn handle(
        ctx: RequestContext,
        request: Self::Request,
    ) -> impl Future<Output = Reply<<Self::Request as wire::Request>::Response>> + Send + 'static;
}

/// What a request is answered with.
#[derive(Debug)]
pub enum Reply<R> {
    Response(R),
    /// With records that are not copied, and the memory that they take until they are written.
    Records {
        response: R,
        splices: Splices,
        charge: Charge,
    },
    /// One that may be large, and the memory that was taken for it before it was built.
    Large {
        response: R,
        charge: Charge,
    },
    /// The same, in bytes already.
    Encoded {
        frame: Result<Frame, WireError>,
        charge: Charge,
    },
    /// Produce with acks=0.
    Silent,
    /// It failed and has no answer to say so.
    Close {
        reason: String,
    },
}

impl<R> From<R> for Reply<R> {
    fn from(response: R) -> Reply<R> {
        Reply::Response(response)
    }
}

#[derive(Clone)]
pub struct RequestContext {
    pub broker: Arc<Broker>,
    pub connection: Arc<Connection>,
    pub client_id: Option<Bytes>,
    pub version: i16,
    pub correlation_id: i32,
}

impl RequestContext {
    /// As the client sent it: show it with `net::shown::Shown` only.
    pub fn client_id(&self) -> &str {
        self.client_id.as_deref().and_then(|id| std::str::from_utf8(id).ok()).unwrap_or_default()
    }

    /// Where the connection comes from, as Kafka shows it.
    pub fn client_host(&self) -> String {
        format!("/{}", self.connection.peer.ip().to_canonical())
    }

    /// Asks the active controller, wherever it is. What it decided shows in this node's image when the answer comes.
    pub async fn controller(&self, request: ControllerRequest, wait: Duration) -> Result<ControllerAnswer, Refusal> {
        let cell = ReplyCell::new();
        let to = cell.reply_to();
        self.broker.call(|node, now, fx| node.ask_controller(now, request, wait, to, fx));
        match cell.answer().await {
            Answer::Controller(answer) => answer,
            other => unreachable!("a request to the controller was answered with {other:?}"),
        }
    }

    /// Asks the coordinator of a group.
    pub async fn group(&self, group: &str, request: GroupRequest) -> GroupAnswer {
        self.broker.ask_group(group, request).await
    }
}

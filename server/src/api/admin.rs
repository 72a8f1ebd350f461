//! What the handlers that ask the active controller have in common.
//!
//! Owns how long they wait and how a refusal is shown. Does not own decisions: `replication::controller` takes them.

use std::time::Duration;

use model::{ErrorCode, NodeId, PartitionIndex, TopicName};
use node::requests::{ControllerAnswer, ControllerRequest, NamedPartition, Refusal};

use super::context::RequestContext;
use super::topics::text;
use crate::wire::StrBytes;
use crate::wire::messages::BrokerId;

/// Where the request names no time.
pub const WAIT: Duration = Duration::from_secs(30);
/// However long the client would wait.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// What a request may wait for the controller; one that would not wait at all gets the default, as it could never succeed.
pub fn wait(timeout_ms: i32) -> Duration {
    match u64::try_from(timeout_ms) {
        Ok(0) | Err(_) => WAIT,
        Ok(ms) => Duration::from_millis(ms).min(WAIT_MAX),
    }
}

/// Code and message for the wire.
pub fn shown<T>(result: &Result<T, Refusal>) -> (i16, Option<StrBytes>) {
    match result {
        Ok(_) => (ErrorCode::None.to_wire(), None),
        Err(refusal) => (refusal.code.to_wire(), Some(text(&refusal.message))),
    }
}

/// A partition that a request names, whether it is there or not.
pub fn named(topic: &str, index: i32) -> Result<NamedPartition, Refusal> {
    let unknown = || Refusal::new(ErrorCode::UnknownTopicOrPartition, format!("there is no partition {topic}-{index}"));
    let name = TopicName::new(topic).map_err(|_| unknown())?;
    Ok(NamedPartition { topic: name, partition: PartitionIndex::from_wire(index).ok_or_else(unknown)? })
}

pub fn nodes(ids: &[BrokerId]) -> Vec<NodeId> {
    ids.iter().map(|id| NodeId(id.0)).collect()
}

pub fn ids(nodes: &[NodeId]) -> Vec<BrokerId> {
    nodes.iter().map(|node| node.0.into()).collect()
}

/// Asks the controller for what is either done or refused.
pub async fn order(ctx: &RequestContext, request: ControllerRequest, wait: Duration) -> Result<(), Refusal> {
    match ctx.controller(request, wait).await? {
        ControllerAnswer::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// An answer of the controller that does not belong to its request: a fault of ours, told as one.
pub fn unexpected(answer: &impl std::fmt::Debug) -> Refusal {
    Refusal::new(ErrorCode::UnknownServerError, format!("the controller answered with {answer:?}"))
}

/// Puts the results of what the controller was asked between those that were known before; `None`: it was asked.
pub fn merge<T>(
    early: Vec<Option<Result<T, Refusal>>>,
    results: Result<Vec<Result<T, Refusal>>, Refusal>,
) -> Vec<Result<T, Refusal>> {
    let mut results = results.map(Vec::into_iter);
    let next = |early: Option<Result<T, Refusal>>| match (early, &mut results) {
        (Some(result), _) => result,
        (None, Err(refusal)) => Err(refusal.clone()),
        (None, Ok(results)) => results.next().unwrap_or_else(|| {
            Err(Refusal::new(ErrorCode::UnknownServerError, "the controller left this one out of its answer"))
        }),
    };
    early.into_iter().map(next).collect()
}

/// For `merge`: what could not even be asked for.
pub fn refused<A, T>(asked: Vec<Result<A, Refusal>>) -> Vec<Option<Result<T, Refusal>>> {
    asked.into_iter().map(|asked| asked.err().map(Err)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_back_in_the_order_of_the_request() {
        let refusal = |message: &str| Refusal::new(ErrorCode::InvalidRequest, message);
        let merged = merge(vec![None, Some(Err(refusal("early"))), None], Ok(vec![Ok(1), Err(refusal("late"))]));
        assert_eq!(merged, [Ok(1), Err(refusal("early")), Err(refusal("late"))]);
        let failed = merge::<u32>(vec![Some(Err(refusal("early"))), None], Err(refusal("all")));
        assert_eq!(failed, [Err(refusal("early")), Err(refusal("all"))]);
    }

    #[test]
    fn a_request_without_a_time_waits_for_the_default() {
        assert_eq!([wait(0), wait(-1), wait(5), wait(i32::MAX)], [WAIT, WAIT, Duration::from_millis(5), WAIT_MAX]);
    }
}

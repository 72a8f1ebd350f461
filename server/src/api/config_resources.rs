//! Resources that have a configuration, as requests name them, and changes to them.
//!
//! Owns the numbers of the kinds and which of them can be changed, and `weir.node.duty`: what an operator wants of a node,
//! told as a configuration of the node so that Kafka's tools can tell it too. Does not own other keys and values: the
//! controller checks these. Invariant: a resource that is named twice in a request is changed zero times.

use std::collections::{BTreeMap, BTreeSet};

use model::{ErrorCode, NodeId, TopicName};
use node::requests::{ConfigAlteration, ConfigOperation, ConfigTarget, ControllerAnswer, ControllerRequest, Refusal};

use replication::metadata::image::Duty;

use super::admin::{WAIT, merge, order, unexpected};
use super::context::RequestContext;
use crate::net::shown::Shown;
use crate::wire::StrBytes;

pub const TOPIC: i8 = 2;
pub const NODE: i8 = 4;
pub const LOGGER: i8 = 8;
pub const CLIENT_METRICS: i8 = 16;
pub const GROUP: i8 = 32;

/// The key of a node's duty: `full`, `joining`, `drained` or `leaving`; `removed` makes the cluster forget the node.
pub const DUTY_KEY: &str = "weir.node.duty";
const REMOVED: &str = "removed";
const DUTIES: [(&str, Duty); 4] =
    [("full", Duty::Full), ("joining", Duty::Joining), ("drained", Duty::Drained), ("leaving", Duty::Leaving)];

pub fn duty_name(duty: Duty) -> &'static str {
    DUTIES.iter().find(|(_, known)| *known == duty).map(|(name, _)| *name).expect("every duty has a name")
}

/// What one resource of a request is to become.
pub struct Asked<'a> {
    pub kind: i8,
    pub name: &'a str,
    /// Or why they make no sense.
    pub operations: Result<Vec<ConfigOperation>, Refusal>,
    pub replace: bool,
}

pub fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

/// The value of a key that is to be set.
pub fn required(key: &str, value: Option<&StrBytes>) -> Result<String, Refusal> {
    let none = || invalid(format!("configuration {} has no value", Shown(key)));
    value.map(ToString::to_string).ok_or_else(none)
}

/// A change that makes sense so far.
#[derive(Clone, PartialEq, Debug)]
enum Change {
    Config(ConfigAlteration),
    /// Of a node's duty.
    Order(ControllerRequest),
}

/// Carries out what is asked, or only checks it. One result for each resource, in their order.
pub async fn alter(ctx: &RequestContext, asked: Vec<Asked<'_>>, validate_only: bool) -> Vec<Result<(), Refusal>> {
    let mut times: BTreeMap<(i8, &str), usize> = BTreeMap::new();
    asked.iter().for_each(|asked| *times.entry((asked.kind, asked.name)).or_default() += 1);
    let twice = |asked: &Asked<'_>| times.get(&(asked.kind, asked.name)).is_some_and(|times| *times > 1);
    let mut early = Vec::with_capacity(asked.len());
    let mut resources = Vec::new();
    for asked in asked {
        let checked = if twice(&asked) { Err(invalid("each resource may be named once only")) } else { check(asked) };
        early.push(match checked {
            Ok(Change::Config(alteration)) => {
                resources.push(alteration);
                None
            }
            Ok(Change::Order(_)) if validate_only => Some(Ok(())),
            Ok(Change::Order(request)) => Some(order(ctx, request, WAIT).await),
            Err(refusal) => Some(Err(refusal)),
        });
    }
    let altered = if resources.is_empty() { Ok(Vec::new()) } else { ask(ctx, resources, validate_only).await };
    merge(early, altered)
}

fn check(asked: Asked<'_>) -> Result<Change, Refusal> {
    let operations = asked.operations?;
    let mut keys = BTreeSet::new();
    for operation in &operations {
        if !keys.insert(key_of(operation)) {
            return Err(invalid(format!("configuration {} is named more than once", Shown(key_of(operation)))));
        }
    }
    let target = target(asked.kind, asked.name)?;
    match (&target, keys.contains(DUTY_KEY)) {
        (ConfigTarget::Node(node), true) => duty(*node, &operations).map(Change::Order),
        _ => Ok(Change::Config(ConfigAlteration { target, operations, replace: asked.replace })),
    }
}

fn key_of(operation: &ConfigOperation) -> &str {
    match operation {
        ConfigOperation::Set { key, .. }
        | ConfigOperation::Delete { key }
        | ConfigOperation::Append { key, .. }
        | ConfigOperation::Subtract { key, .. } => key,
    }
}

/// The duty is no fact about a configuration: it is asked for alone.
fn duty(node: NodeId, operations: &[ConfigOperation]) -> Result<ControllerRequest, Refusal> {
    let value = match operations {
        [ConfigOperation::Set { value, .. }] => value.as_str(),
        [ConfigOperation::Delete { .. }] => "full",
        _ => return Err(invalid(format!("{DUTY_KEY} is set or deleted alone, without other keys of the node"))),
    };
    if value == REMOVED {
        return Ok(ControllerRequest::RemoveNode { node });
    }
    let found = DUTIES.iter().find(|(name, _)| *name == value).map(|(_, duty)| *duty);
    let refuse = || {
        let allowed = "full, joining, drained, leaving or removed";
        let message = format!("Invalid value {} for configuration {DUTY_KEY}: {allowed} is allowed", Shown(value));
        Refusal::new(ErrorCode::InvalidConfig, message)
    };
    found.map(|duty| ControllerRequest::SetDuty { node, duty }).ok_or_else(refuse)
}

fn target(kind: i8, name: &str) -> Result<ConfigTarget, Refusal> {
    match kind {
        TOPIC => {
            let refuse = |error| Refusal::new(ErrorCode::InvalidTopicException, format!("{error}"));
            TopicName::new(name).map(ConfigTarget::Topic).map_err(refuse)
        }
        NODE if name.is_empty() => Ok(ConfigTarget::EveryNode),
        NODE => {
            let refuse = |_| invalid(format!("a node is named by its number, not by '{}'", Shown(name)));
            name.parse().map(|node| ConfigTarget::Node(NodeId(node))).map_err(refuse)
        }
        GROUP if name.is_empty() => Err(invalid("a group is named by its id, which is not empty")),
        GROUP => Ok(ConfigTarget::Group(name.to_owned())),
        LOGGER => Err(invalid("the log's levels are set where the node is started: WEIR_LOG=LEVEL or TARGET=LEVEL,…")),
        CLIENT_METRICS if name.is_empty() => Err(invalid("Subscription name can't be empty")),
        CLIENT_METRICS => Ok(ConfigTarget::ClientMetrics(name.to_owned())),
        other => Err(invalid(format!("resources of type {other} have no configuration here"))),
    }
}

async fn ask(
    ctx: &RequestContext,
    resources: Vec<ConfigAlteration>,
    validate_only: bool,
) -> Result<Vec<Result<(), Refusal>>, Refusal> {
    let request = ControllerRequest::AlterConfigs { resources, validate_only };
    match ctx.controller(request, WAIT).await? {
        ControllerAnswer::ConfigsAltered(results) => Ok(results),
        other => Err(unexpected(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_a_topic_a_node_all_nodes_a_group_or_a_subscription() {
        let topic = TopicName::new("t").expect("valid");
        assert_eq!(target(TOPIC, "t"), Ok(ConfigTarget::Topic(topic)));
        assert_eq!(target(NODE, ""), Ok(ConfigTarget::EveryNode));
        assert_eq!(target(NODE, "7"), Ok(ConfigTarget::Node(NodeId(7))));
        assert_eq!(target(GROUP, "g"), Ok(ConfigTarget::Group("g".to_owned())));
        assert_eq!(target(CLIENT_METRICS, "m"), Ok(ConfigTarget::ClientMetrics("m".to_owned())));
        for (kind, name) in [(NODE, "seven"), (GROUP, ""), (LOGGER, "1"), (CLIENT_METRICS, ""), (0, ""), (99, "")] {
            assert_eq!(target(kind, name).map_err(|refusal| refusal.code), Err(ErrorCode::InvalidRequest), "{kind}");
        }
        assert_eq!(target(TOPIC, "a/b").map_err(|refusal| refusal.code), Err(ErrorCode::InvalidTopicException));
    }

    fn asked(operations: Vec<ConfigOperation>) -> Asked<'static> {
        Asked { kind: NODE, name: "3", operations: Ok(operations), replace: false }
    }

    fn set(key: &str, value: &str) -> ConfigOperation {
        ConfigOperation::Set { key: key.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn a_key_that_is_named_twice_is_refused() {
        assert!(check(asked(vec![set("a", "1"), set("b", "1")])).is_ok());
        assert!(check(asked(vec![set("a", "1"), ConfigOperation::Delete { key: "a".to_owned() }])).is_err());
    }

    #[test]
    fn the_duty_of_a_node_is_an_order_to_it() {
        let node = NodeId(3);
        for (name, duty) in DUTIES {
            let ordered = check(asked(vec![set(DUTY_KEY, name)]));
            assert_eq!(ordered, Ok(Change::Order(ControllerRequest::SetDuty { node, duty })));
            assert_eq!(duty_name(duty), name);
        }
        let removed = check(asked(vec![set(DUTY_KEY, REMOVED)]));
        assert_eq!(removed, Ok(Change::Order(ControllerRequest::RemoveNode { node })));
        let back = check(asked(vec![ConfigOperation::Delete { key: DUTY_KEY.to_owned() }]));
        assert_eq!(back, Ok(Change::Order(ControllerRequest::SetDuty { node, duty: Duty::Full })));
        assert!(check(asked(vec![set(DUTY_KEY, "idle")])).is_err());
        assert!(check(asked(vec![set(DUTY_KEY, "full"), set("log.retention.ms", "1")])).is_err());
    }
}

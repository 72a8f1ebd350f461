//! IncrementalAlterConfigs and AlterConfigs: what is set for topics, nodes, the cluster, groups and subscriptions to metrics.
//!
//! Owns the operations and the refusals. Does not own names and bounds (`metadata::{topic_keys, broker_config, group_keys, client_metrics}`).
//! Invariants: all operations on a resource hold, or none; only what somebody acts on can be set; where a lower minimum of the ISR lets
//! the ISR commit alone, the ELR is emptied by the same entry of the log (its members would miss what is committed from then on).

use std::collections::{BTreeMap, BTreeSet};

use model::ErrorCode;

use super::change::{Draft, View, for_all};
use super::orders::needs_level_2;
use super::requests::{ConfigAlteration, ConfigOperation, ConfigTarget, Refusal};
use super::topics::Decided;
use crate::metadata::broker_config::{BrokerConfig, BrokerKey, Scope};
use crate::metadata::client_metrics::{
    ClientMetricsKey, INTERVAL, MATCH, SUBSCRIPTIONS_MAX, Subscription, SubscriptionError,
};
use crate::metadata::config_value::{ConfigError, Kind};
use crate::metadata::group_keys::{self, GroupConfigError};
use crate::metadata::topic_keys::TopicKey;
use crate::metadata::{Fact, Image, Resource, TopicConfig};

/// One answer for each resource, in their order.
pub fn alter(image: &Image, resources: &[ConfigAlteration]) -> Decided<()> {
    let mut decided = Decided { facts: Vec::new(), answers: Vec::with_capacity(resources.len()) };
    let mut ahead = image.clone();
    let mut seen = BTreeSet::new();
    for resource in resources {
        let answer = match seen.insert(&resource.target) {
            true => alter_one(&ahead, resource),
            false => Err(refuse(ErrorCode::InvalidRequest, "the resource is named twice".to_owned())),
        };
        decided.answers.push(answer.map(|facts| {
            // The next resource may be the cluster's default of what this one set.
            ahead = ahead.with(&facts).expect("what was decided on an image applies to it");
            decided.facts.push(facts);
        }));
    }
    decided
}

fn alter_one(image: &Image, alteration: &ConfigAlteration) -> Result<Vec<Fact>, Refusal> {
    let resource = match &alteration.target {
        ConfigTarget::Topic(name) => {
            let missing = || {
                let message = format!("The topic '{name}' does not exist.");
                refuse(ErrorCode::UnknownTopicOrPartition, message)
            };
            Resource::Topic(image.topic(name).ok_or_else(missing)?.id)
        }
        ConfigTarget::EveryNode => Resource::EveryNode,
        ConfigTarget::Node(node) => {
            super::nodes::known(image, *node)?;
            Resource::Node(*node)
        }
        ConfigTarget::Group(group) => Resource::Group(group.clone()),
        ConfigTarget::ClientMetrics(name) => subscription(image, name)?,
    };
    let before = match &resource {
        Resource::Topic(id) => image.topic_by_id(*id).map(|topic| topic.overrides.clone()).unwrap_or_default(),
        _ => image.overrides(&resource).clone(),
    };
    let after = applied(&before, alteration)?;
    check(image, &resource, &before, &after)?;
    let mut facts = difference(&resource, &before, &after);
    facts.extend(freed_elrs(image, &facts));
    Ok(facts)
}

/// A subscription that is there already, or may be added.
fn subscription(image: &Image, name: &str) -> Result<Resource, Refusal> {
    needs_level_2(image, "subscriptions to the metrics of clients")?;
    let resource = Resource::ClientMetrics(name.to_owned());
    if image.overrides(&resource).is_empty() && image.client_metrics().count() >= SUBSCRIPTIONS_MAX {
        let message = format!("there are {SUBSCRIPTIONS_MAX} subscriptions, which is the most: delete one first");
        return Err(refuse(ErrorCode::PolicyViolation, message));
    }
    Ok(resource)
}

fn applied(
    before: &BTreeMap<String, String>,
    alteration: &ConfigAlteration,
) -> Result<BTreeMap<String, String>, Refusal> {
    let mut after = if alteration.replace { BTreeMap::new() } else { before.clone() };
    let mut seen = BTreeSet::new();
    for operation in &alteration.operations {
        let (ConfigOperation::Set { key, .. }
        | ConfigOperation::Delete { key }
        | ConfigOperation::Append { key, .. }
        | ConfigOperation::Subtract { key, .. }) = operation;
        if !seen.insert(key) {
            return Err(refuse(ErrorCode::InvalidRequest, format!("Error due to duplicate config keys: {key}")));
        }
        match operation {
            ConfigOperation::Set { value, .. } => {
                after.insert(key.clone(), value.clone());
            }
            ConfigOperation::Delete { .. } => {
                after.remove(key);
            }
            ConfigOperation::Append { value, .. } => {
                let mut list = list_of(&alteration.target, &after, key, "APPEND")?;
                let new: Vec<String> = items(value).filter(|item| !list.contains(item)).collect();
                list.extend(new);
                after.insert(key.clone(), list.join(","));
            }
            ConfigOperation::Subtract { value, .. } => {
                let mut list = list_of(&alteration.target, &after, key, "SUBTRACT")?;
                list.retain(|item| !items(value).any(|gone| gone == *item));
                after.insert(key.clone(), list.join(","));
            }
        }
    }
    Ok(after)
}

/// The list as it is, or as it is by default.
fn list_of(
    target: &ConfigTarget,
    values: &BTreeMap<String, String>,
    key: &str,
    operation: &str,
) -> Result<Vec<String>, Refusal> {
    let found = match target {
        ConfigTarget::Topic(_) => TopicKey::find(key).map(|key| (key.kind, Some(key.default))),
        ConfigTarget::ClientMetrics(_) => ClientMetricsKey::find(key).map(|key| (key.kind, Some(key.default))),
        // No setting of a group is a list.
        ConfigTarget::Group(_) => None,
        _ => BrokerKey::find(key).map(|key| (key.kind, key.default)),
    };
    match found {
        Some((Kind::List { .. } | Kind::ThrottledReplicas, default)) => {
            Ok(items(values.get(key).map(String::as_str).or(default).unwrap_or_default()).collect())
        }
        _ => {
            let message = format!("Can't {operation} to key {key} because its type is not LIST.");
            Err(refuse(ErrorCode::InvalidConfig, message))
        }
    }
}

fn items(list: &str) -> impl Iterator<Item = String> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned)
}

fn check(
    image: &Image,
    resource: &Resource,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    if let Resource::Topic(_) = resource {
        return TopicConfig::validate(after).map_err(|error| refuse_value(before, &error));
    }
    if let Resource::Group(_) = resource {
        let refused = |error| match error {
            GroupConfigError::Value(error) => refuse_value(before, &error),
            other => refuse(ErrorCode::InvalidConfig, other.to_string()),
        };
        return group_keys::validate(after, image.statics()).map_err(refused);
    }
    if let Resource::ClientMetrics(_) = resource {
        return Subscription::new(after).map(drop).map_err(|error| refuse_subscription(before, &error));
    }
    let scope = if *resource == Resource::EveryNode { Scope::EveryNode } else { Scope::OneNode };
    let new = after.iter().filter(|(key, value)| before.get(*key) != Some(value));
    for (key, value) in new {
        match BrokerKey::find(key) {
            None => return Err(refuse(ErrorCode::InvalidConfig, format!("Unknown broker config name: {key}"))),
            Some(known) if !known.is_dynamic(scope) => {
                let wider = known.is_dynamic(Scope::EveryNode) && scope == Scope::OneNode;
                let hint = if wider { ": it can be set for all nodes at once" } else { "" };
                let message = format!("Cannot update these configs dynamically: [{key}]{hint}");
                return Err(refuse(ErrorCode::InvalidRequest, message));
            }
            Some(_) => {
                let alone = BTreeMap::from([(key.clone(), value.clone())]);
                BrokerConfig::new(alone).map_err(|error| refuse_value(before, &error))?;
            }
        }
    }
    Ok(())
}

/// With Kafka's codes.
fn refuse_subscription(before: &BTreeMap<String, String>, error: &SubscriptionError) -> Refusal {
    let (code, key) = match error {
        SubscriptionError::Unknown { .. } => return refuse(ErrorCode::InvalidRequest, error.to_string()),
        SubscriptionError::Interval { .. } => (ErrorCode::InvalidRequest, INTERVAL),
        SubscriptionError::NoNumber { .. } => (ErrorCode::InvalidConfig, INTERVAL),
        SubscriptionError::Pattern { .. } => (ErrorCode::InvalidConfig, MATCH),
        SubscriptionError::TooLong { key, .. } => (ErrorCode::InvalidRequest, key.as_str()),
    };
    let stays = before.get(key).map_or("its default", String::as_str);
    refuse(code, format!("{error}; it stays {stays}"))
}

/// With the value that holds on.
fn refuse_value(before: &BTreeMap<String, String>, error: &ConfigError) -> Refusal {
    let stays = match (error, before.get(error.key())) {
        (ConfigError::Unknown { .. }, _) => String::new(),
        (_, Some(value)) => format!("; it stays {value}"),
        (_, None) => "; it stays at its default".to_owned(),
    };
    refuse(ErrorCode::InvalidConfig, format!("{error}{stays}"))
}

fn difference(resource: &Resource, before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<Fact> {
    let fact = |key: &String, value: Option<&String>| Fact::ConfigChanged {
        resource: resource.clone(),
        key: key.clone(),
        value: value.cloned(),
    };
    let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| fact(key, None));
    let set = after.iter().filter(|(key, value)| before.get(*key) != Some(value));
    gone.chain(set.map(|(key, value)| fact(key, Some(value)))).collect()
}

/// Where the change lowers the minimum, the ELRs of whose partitions the ISR commits without them; and reassignments that waited for
/// more in-sync replicas than are wanted now.
fn freed_elrs(image: &Image, facts: &[Fact]) -> Vec<Fact> {
    let lowers =
        facts.iter().any(|fact| matches!(fact, Fact::ConfigChanged { key, .. } if key == "min.insync.replicas"));
    if !lowers {
        return Vec::new();
    }
    let after = image.with(facts).expect("what was decided on an image applies to it");
    let groups = for_all(&after, |topic, before| {
        let same = image.topic_by_id(topic.id).is_some_and(|now| now.config == topic.config);
        if same || before.elr.is_empty() && before.last_known_elr.is_empty() && !before.is_reassigning() {
            return None;
        }
        Draft::new(View::of(&after), topic, before).finish()
    });
    groups.concat()
}

fn refuse(code: ErrorCode, message: String) -> Refusal {
    Refusal::new(code, message)
}

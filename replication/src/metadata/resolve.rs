//! Which value holds: the topic's, the cluster's, this node's, or the default; and from where, for DescribeConfigs.
//!
//! Owns the order of the sources. Does not own what may be set (`topic_keys`, `broker_config`).
//! Invariant: a topic's override wins over everything; the first synonym that is set wins over later ones, in each source.

use std::collections::BTreeMap;

use super::broker_config::{BrokerKey, Scope};
use super::client_metrics::{self, ClientMetricsKey};
use super::config_value::{Kind, is_one};
use super::group_keys::{self, GroupKey};
use super::image::{Image, Resource, Topic};
use super::topic_config::TopicConfig;
use super::topic_keys::{KEYS, TopicKey};
use model::NodeId;

/// Where a value comes from; the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(i8)]
pub enum Source {
    Topic = 1,
    Node = 2,
    EveryNode = 3,
    Static = 4,
    Default = 5,
    ClientMetrics = 7,
    Group = 8,
}

impl Source {
    pub const fn to_wire(self) -> i8 {
        self as i8
    }
}

/// One line of DescribeConfigs.
#[derive(Clone, PartialEq, Debug)]
pub struct Described {
    pub name: &'static str,
    /// `None`: not set, or not to be shown.
    pub value: Option<String>,
    pub source: Source,
    pub kind: Kind,
    pub sensitive: bool,
    pub read_only: bool,
    /// All places where it is set, the one that holds first: name, value, source.
    pub synonyms: Vec<(&'static str, Option<String>, Source)>,
    pub doc: &'static str,
}

/// What holds for a topic with these overrides. Values that no longer pass their bounds (another version set them) are passed over.
pub(super) fn topic_config(image: &Image, overrides: &BTreeMap<String, String>) -> TopicConfig {
    let value_of = |key: &TopicKey| {
        let candidates = candidates(image, key, overrides.get(key.name));
        candidates.into_iter().find(|(_, value, _)| is_one(key.kind, value.trim())).map(|(_, value, _)| value)
    };
    TopicConfig::resolve(value_of).expect("each value was checked, or is a default")
}

/// Every place where a key of a topic is set, the strongest first. Cluster-wide before this node's own, as in Kafka.
fn candidates(image: &Image, key: &TopicKey, own: Option<&String>) -> Vec<(&'static str, String, Source)> {
    let mut found = Vec::new();
    if let Some(value) = own {
        found.push((key.name, value.clone(), Source::Topic));
    }
    let every_node = image.overrides(&Resource::EveryNode);
    for synonym in key.synonyms {
        if let Some(value) = every_node.get(synonym.name) {
            found.push((synonym.name, synonym.scale(value), Source::EveryNode));
        }
    }
    for synonym in key.synonyms {
        if let Some(value) = image.statics.get(synonym.name) {
            found.push((synonym.name, synonym.scale(value), Source::Static));
        }
    }
    found
}

/// All configurations of a topic, ascending by name.
pub fn describe_topic(image: &Image, topic: &Topic) -> Vec<Described> {
    let describe = |key: &'static TopicKey| {
        let default = match key.name {
            "min.insync.replicas" => topic.replication_factor().div_ceil(2).max(1).to_string(),
            _ => key.default.to_owned(),
        };
        let mut places: Vec<_> = candidates(image, key, topic.overrides.get(key.name))
            .into_iter()
            .map(|(name, value, source)| (name, Some(value), source))
            .collect();
        let default_name = key.synonyms.first().map_or(key.name, |synonym| synonym.name);
        places.push((default_name, Some(default), Source::Default));
        let (_, value, source) = places.first().cloned().expect("the default is always there");
        Described {
            name: key.name,
            value,
            source,
            kind: key.kind,
            sensitive: false,
            read_only: false,
            synonyms: places,
            doc: key.doc,
        }
    };
    KEYS.iter().map(describe).collect()
}

/// All configurations of a group, whether it exists or not, ascending by name.
pub fn describe_group(image: &Image, group: &str) -> Vec<Described> {
    let own = image.overrides(&Resource::Group(group.to_owned()));
    let describe = |key: &'static GroupKey| {
        let default = BrokerKey::find(key.of_node).and_then(|key| key.default);
        let places = [
            (key.name, own.get(key.name).cloned(), Source::Group),
            (key.of_node, image.statics.get(key.of_node).map(str::to_owned), Source::Static),
            (key.of_node, default.map(str::to_owned), Source::Default),
        ];
        let places: Vec<_> = places.into_iter().filter(|(_, value, _)| value.is_some()).collect();
        let (_, value, source) = places.first().cloned().unwrap_or((key.name, None, Source::Default));
        let kind = key.kind(&image.statics);
        let (sensitive, read_only) = (false, false);
        Described { name: key.name, value, source, kind, sensitive, read_only, synonyms: places, doc: key.doc }
    };
    group_keys::KEYS.iter().map(describe).collect()
}

/// All configurations of a subscription to the metrics of clients, whether it exists or not, ascending by name.
pub fn describe_client_metrics(image: &Image, name: &str) -> Vec<Described> {
    let own = image.overrides(&Resource::ClientMetrics(name.to_owned()));
    let describe = |key: &'static ClientMetricsKey| {
        let own = own.get(key.name).map(|value| (key.name, Some(value.clone()), Source::ClientMetrics));
        let default = (key.name, Some(key.default.to_owned()), Source::Default);
        let places: Vec<_> = own.into_iter().chain([default]).collect();
        let (_, value, source) = places.first().cloned().expect("the default is always there");
        let (sensitive, read_only) = (false, false);
        Described {
            name: key.name,
            value,
            source,
            kind: key.kind,
            sensitive,
            read_only,
            synonyms: places,
            doc: key.doc,
        }
    };
    client_metrics::KEYS.iter().map(describe).collect()
}

/// All configurations of a node, ascending by name. Its own settings are known only on the node itself.
pub fn describe_node(image: &Image, node: Option<NodeId>) -> Vec<Described> {
    let describe = |key: &'static BrokerKey| {
        let shown = |value: &str| (!key.is_sensitive()).then(|| value.to_owned());
        let mut places = Vec::new();
        let own = node.and_then(|node| image.overrides(&Resource::Node(node)).get(key.name));
        places.extend(own.map(|value| (key.name, shown(value), Source::Node)));
        let every_node = image.overrides(&Resource::EveryNode).get(key.name);
        places.extend(every_node.map(|value| (key.name, shown(value), Source::EveryNode)));
        if node.is_some() {
            places.extend(image.statics.get(key.name).map(|value| (key.name, shown(value), Source::Static)));
            places.extend(key.default.map(|value| (key.name, shown(value), Source::Default)));
        }
        let (value, source) =
            places.first().map_or((None, Source::Default), |(_, value, source)| (value.clone(), *source));
        Described {
            name: key.name,
            value,
            source,
            kind: key.kind,
            sensitive: key.is_sensitive(),
            read_only: !key.is_dynamic(if node.is_some() { Scope::OneNode } else { Scope::EveryNode }),
            synonyms: places,
            doc: "",
        }
    };
    // A throttle that nobody set is no setting of a node.
    let shown = |line: &Described| {
        line.source != Source::Default || BrokerKey::find(line.name).is_none_or(|key| !key.is_throttle())
    };
    BrokerKey::all().iter().map(describe).filter(shown).collect()
}

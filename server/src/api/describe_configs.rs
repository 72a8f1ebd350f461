//! DescribeConfigs (API key 32), versions 1..=4.
//!
//! Owns which resources have a configuration here: topics, nodes, groups and subscriptions to clients' metrics. Does not own the values.
//! Invariant: an answer has at most half of the memory for answers; what goes beyond is refused, resource by resource. What describes a
//! resource is in bytes before the next one is looked at.
//! Versions: 3 has types and documentation.

use std::ops::RangeInclusive;

use model::{ErrorCode, NodeId, TopicName};
use replication::metadata::broker_config::BrokerKey;
use replication::metadata::config_value::Kind;
use replication::metadata::image::Duty;
use replication::metadata::resolve::{
    Described, Source, describe_client_metrics, describe_group, describe_node, describe_topic,
};
use replication::metadata::{Image, client_metrics, group_keys, topic_keys};

use super::config_resources::{CLIENT_METRICS, DUTY_KEY, GROUP, NODE, TOPIC, duty_name};
use super::context::{Api, Reply, RequestContext};
use super::once::once;
use super::topics::text;
use crate::net::shown::Shown;
use crate::wire::messages::describe_configs_request::DescribeConfigsResource;
use crate::wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::wire::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use crate::wire::{ConfigsFrame, Frame, StrBytes, WireError};

/// A value and a place where it is set, encoded, without their texts.
const VALUE_BYTES: usize = 16;
/// What the texts of each have, mostly, and documentation.
const TEXT_BYTES: usize = 32;
const DOCUMENTATION_BYTES: usize = 128;

pub struct DescribeConfigs;

impl Api for DescribeConfigs {
    type Request = DescribeConfigsRequest;
    const NAME: &'static str = "DescribeConfigs";
    const VERSIONS: RangeInclusive<i16> = 1..=4;

    async fn handle(ctx: RequestContext, request: DescribeConfigsRequest) -> Reply<DescribeConfigsResponse> {
        let limit = usize::try_from(ctx.broker.answer_memory.limit() / 2).unwrap_or(usize::MAX);
        let expected = named_once(&request).map(|resource| bytes_expected(&request, resource)).sum();
        let charge = ctx.broker.answer_memory.take_for_answer(limit.min(expected)).await;
        Reply::Encoded { frame: encoded(&ctx, &request, limit), charge }
    }
}

fn named_once(request: &DescribeConfigsRequest) -> impl Iterator<Item = &DescribeConfigsResource> {
    once(&request.resources, |resource| (resource.resource_type, resource.resource_name.clone()))
}

fn encoded(ctx: &RequestContext, request: &DescribeConfigsRequest, limit: usize) -> Result<Frame, WireError> {
    let (mut frame, mut room) = (ConfigsFrame::new(ctx.version), Room { limit, left: limit });
    for resource in named_once(request) {
        let mut result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let described = describe(ctx, resource).and_then(|mut described| {
            described.retain(|one| is_wanted(resource, one.name));
            room.take(described.iter().map(|one| bytes_of(request, one)).sum())?;
            Ok(described)
        });
        match described {
            Ok(described) => {
                result.configs = described.into_iter().map(|one| show(ctx, request, one)).collect();
            }
            Err((code, message)) => {
                result.error_code = code.to_wire();
                result.error_message = Some(text(&message));
            }
        }
        frame.push(&result)?;
    }
    frame.finish(ctx.correlation_id)
}

/// What an answer may take, and what is left of it.
struct Room {
    limit: usize,
    left: usize,
}

impl Room {
    fn take(&mut self, bytes: usize) -> Result<(), (ErrorCode, String)> {
        let limit = self.limit;
        let too_much = || {
            let message = format!("one answer has room for {limit} bytes: ask for fewer resources at once");
            (ErrorCode::InvalidRequest, message)
        };
        self.left = self.left.checked_sub(bytes).ok_or_else(too_much)?;
        Ok(())
    }
}

/// What a resource takes in the answer where its texts are short, as nearly all are.
fn bytes_expected(request: &DescribeConfigsRequest, resource: &DescribeConfigsResource) -> usize {
    let known = match resource.resource_type {
        TOPIC => topic_keys::KEYS.len(),
        NODE => BrokerKey::all().len(),
        GROUP => group_keys::KEYS.len(),
        CLIENT_METRICS => client_metrics::KEYS.len(),
        _ => 1,
    };
    let wanted = resource.configuration_keys.as_ref().map_or(known, |keys| keys.len().min(known));
    let synonyms = if request.include_synonyms { 2 } else { 0 };
    let documentation = if request.include_documentation { DOCUMENTATION_BYTES } else { 0 };
    wanted * ((1 + synonyms) * (VALUE_BYTES + TEXT_BYTES) + documentation)
}

fn bytes_of(request: &DescribeConfigsRequest, one: &Described) -> usize {
    let set = |name: &str, value: &Option<String>| VALUE_BYTES + name.len() + value.as_ref().map_or(0, String::len);
    let synonym = |(name, value, _): &(&str, Option<String>, _)| set(name, value);
    let synonyms = if request.include_synonyms { one.synonyms.iter().map(synonym).sum() } else { 0 };
    let documentation = if request.include_documentation { one.doc.len() } else { 0 };
    set(one.name, &one.value) + synonyms + documentation
}

fn is_wanted(resource: &DescribeConfigsResource, name: &str) -> bool {
    resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key.as_str() == name))
}

fn describe(ctx: &RequestContext, resource: &DescribeConfigsResource) -> Result<Vec<Described>, (ErrorCode, String)> {
    let image = ctx.broker.image();
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => {
            let checked =
                TopicName::new(name).map_err(|error| (ErrorCode::InvalidTopicException, error.to_string()))?;
            let unknown = || (ErrorCode::UnknownTopicOrPartition, format!("there is no topic {checked}"));
            image.topic(&checked).map(|topic| describe_topic(&image, topic)).ok_or_else(unknown)
        }
        NODE if name.is_empty() => Ok(describe_node(&image, None)),
        NODE => {
            let asked = name.parse::<i32>().map(NodeId).ok().filter(|node| image.node(*node).is_some());
            let unknown = || (ErrorCode::InvalidRequest, format!("no node has the number '{}'", Shown(name)));
            asked.map(|node| of_node(ctx, &image, node)).ok_or_else(unknown)
        }
        GROUP if name.is_empty() => {
            Err((ErrorCode::InvalidRequest, "a group is named by its id, which is not empty".to_owned()))
        }
        GROUP => Ok(describe_group(&image, name)),
        CLIENT_METRICS if name.is_empty() => {
            Err((ErrorCode::InvalidRequest, "Client metrics subscription name must not be empty".to_owned()))
        }
        CLIENT_METRICS => Ok(describe_client_metrics(&image, name)),
        other => Err((ErrorCode::InvalidRequest, format!("resources of type {other} have no configuration here"))),
    }
}

/// What was set for a node, and what is wanted of it. Its own file and its defaults are known to the node itself only.
fn of_node(ctx: &RequestContext, image: &Image, node: NodeId) -> Vec<Described> {
    let duty = image.duty(node);
    let source = if duty == Duty::Full { Source::Default } else { Source::Node };
    let value = Some(duty_name(duty).to_owned());
    let own = node == ctx.broker.node.id();
    let mut described: Vec<Described> = describe_node(image, Some(node))
        .into_iter()
        .filter(|one| own || matches!(one.source, Source::Node | Source::EveryNode))
        .collect();
    described.push(Described {
        name: DUTY_KEY,
        value: value.clone(),
        source,
        kind: Kind::Choice { of: &["full", "joining", "drained", "leaving", "removed"] },
        sensitive: false,
        read_only: false,
        synonyms: vec![(DUTY_KEY, value, source)],
        doc: "What is wanted of this node: see `weir node`.",
    });
    described
}

fn show(ctx: &RequestContext, request: &DescribeConfigsRequest, one: Described) -> DescribeConfigsResourceResult {
    // Names are not copied, and a value stands in memory once.
    let own = one.value.as_deref().map(text);
    let mut shown = DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(one.name))
        .with_read_only(one.read_only)
        .with_config_source(one.source.to_wire())
        .with_is_sensitive(one.sensitive);
    if request.include_synonyms {
        let synonym = |(name, value, source): &(&'static str, Option<String>, _)| {
            let source: &replication::metadata::resolve::Source = source;
            let same = own.clone().filter(|_| *value == one.value);
            DescribeConfigsSynonym::default()
                .with_name(StrBytes::from_static_str(name))
                .with_value(same.or_else(|| value.as_deref().map(text)))
                .with_source(source.to_wire())
        };
        shown.synonyms = one.synonyms.iter().map(synonym).collect();
    }
    shown.value = own;
    if ctx.version >= 3 {
        shown.config_type = Kind::to_wire(one.kind);
        if request.include_documentation {
            shown.documentation = Some(StrBytes::from_static_str(one.doc));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use replication::metadata::Fact;

    use super::*;

    #[test]
    fn what_there_is_no_room_for_is_refused_with_the_limit_and_what_is_smaller_goes_in() {
        let mut room = Room { limit: 1000, left: 1000 };
        assert_eq!(room.take(900), Ok(()));
        let (code, message) = room.take(101).expect_err("no room");
        assert!(code == ErrorCode::InvalidRequest && message.contains("1000 bytes"), "{message}");
        assert_eq!(room.take(100), Ok(()));
    }

    #[test]
    fn a_topic_takes_about_what_is_expected_of_it() {
        let name = TopicName::new("t").expect("a name");
        let created = Fact::TopicCreated {
            id: model::TopicId([1; 16]),
            name: name.clone(),
            configs: Vec::new(),
            default_replication: false,
        };
        let image = Image::empty(std::sync::Arc::default()).with(&[created]).expect("it applies");
        let described = describe_topic(&image, image.topic(&name).expect("created"));
        for (synonyms, documentation) in [(false, false), (true, false), (true, true)] {
            let request = DescribeConfigsRequest::default()
                .with_include_synonyms(synonyms)
                .with_include_documentation(documentation);
            let resource = DescribeConfigsResource::default().with_resource_type(TOPIC).with_configuration_keys(None);
            let expected = bytes_expected(&request, &resource);
            let takes: usize = described.iter().map(|one| bytes_of(&request, one)).sum();
            assert!((expected / 2..=expected * 2).contains(&takes), "{takes} of {expected}");
        }
    }
}

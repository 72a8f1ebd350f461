//! DescribeConfigs (API key 32), versions 1..=4.
//!
//! Owns which resources have a configuration here: topics, nodes, groups and subscriptions to clients' metrics. Does not own the values.
//! Versions: 3 has types and documentation.

use std::ops::RangeInclusive;

use model::{ErrorCode, NodeId, TopicName};
use replication::metadata::Image;
use replication::metadata::config_value::Kind;
use replication::metadata::image::Duty;
use replication::metadata::resolve::{
    Described, Source, describe_client_metrics, describe_group, describe_node, describe_topic,
};

use super::config_resources::{CLIENT_METRICS, DUTY_KEY, GROUP, NODE, TOPIC, duty_name};
use super::context::{Api, Reply, RequestContext};
use super::once::once;
use super::topics::text;
use crate::net::shown::Shown;
use crate::wire::StrBytes;
use crate::wire::messages::describe_configs_request::DescribeConfigsResource;
use crate::wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use crate::wire::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

/// Values of one answer, which is built in memory: those of more than 10,000 topics.
const ENTRIES_MAX: usize = 500_000;

pub struct DescribeConfigs;

impl Api for DescribeConfigs {
    type Request = DescribeConfigsRequest;
    const NAME: &'static str = "DescribeConfigs";
    const VERSIONS: RangeInclusive<i16> = 1..=4;

    async fn handle(ctx: RequestContext, request: DescribeConfigsRequest) -> Reply<DescribeConfigsResponse> {
        let mut left = ENTRIES_MAX;
        let named = |resource: &'_ DescribeConfigsResource| (resource.resource_type, resource.resource_name.clone());
        let results = once(&request.resources, named).map(|resource| {
            let mut result = DescribeConfigsResult::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone());
            match describe(&ctx, resource).and_then(|described| within(&mut left, described)) {
                Ok(described) => {
                    let wanted = described.into_iter().filter(|one| is_wanted(resource, one.name));
                    result.configs = wanted.map(|one| show(&ctx, &request, one)).collect();
                }
                Err((code, message)) => {
                    result.error_code = code.to_wire();
                    result.error_message = Some(text(&message));
                }
            }
            result
        });
        DescribeConfigsResponse::default().with_results(results.collect()).into()
    }
}

/// Takes what is told off what may still be told.
fn within(left: &mut usize, described: Vec<Described>) -> Result<Vec<Described>, (ErrorCode, String)> {
    let too_many = || {
        let message = format!("one answer has room for {ENTRIES_MAX} values: ask for fewer resources at once");
        (ErrorCode::InvalidRequest, message)
    };
    *left = left.checked_sub(described.len()).ok_or_else(too_many)?;
    Ok(described)
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
    // An answer may hold these of ten thousands of topics: names are not copied, and a value stands in memory once.
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

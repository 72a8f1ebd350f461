//! Settings of topics, nodes and groups, asked for and changed.
//!
//! Owns DescribeConfigs and IncrementalAlterConfigs as commands use them. Does not own keys: the cluster knows its own.

use crate::client::refused::{AskError, check};
use crate::client::router::Router;
use crate::wire::StrBytes;
use crate::wire::messages::describe_configs_request::DescribeConfigsResource;
use crate::wire::messages::describe_configs_response::DescribeConfigsResourceResult;
use crate::wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use crate::wire::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};

/// Documentation is asked for from this version on.
const DOCUMENTATION: i16 = 3;
const SET: i8 = 0;
const UNSET: i8 = 1;
/// Where a value comes from, as Kafka numbers it.
const STATIC: i8 = 4;
const DEFAULT: i8 = 5;

/// One setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Property {
    pub key: String,
    /// `None`: nothing is set, or it is a secret.
    pub value: Option<String>,
    pub source: i8,
    pub sensitive: bool,
    pub read_only: bool,
    /// All places that have a value, the strongest first: key, value, source.
    pub synonyms: Vec<(String, Option<String>, i8)>,
    pub documentation: Option<String>,
}

impl Property {
    /// Somebody set it while the cluster ran, or in a node's file.
    pub fn is_set(&self) -> bool {
        self.source != DEFAULT && self.source != STATIC
    }

    pub fn is_default(&self) -> bool {
        self.source == DEFAULT
    }

    /// What holds where nobody sets anything.
    pub fn default(&self) -> Option<&str> {
        self.synonyms.iter().find(|(_, _, source)| *source == DEFAULT).and_then(|(_, value, _)| value.as_deref())
    }
}

/// Where a value comes from, in words.
pub fn source(source: i8) -> &'static str {
    match source {
        1 => "topic",
        2 => "node",
        3 => "cluster",
        4 => "file",
        5 => "default",
        6 => "logger",
        7 => "client-metrics",
        8 => "group",
        _ => "unknown",
    }
}

/// `KEY=VALUE`, for clap.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not KEY=VALUE"))?;
    if key.trim().is_empty() {
        return Err(format!("'{text}' has no key before '='"));
    }
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// All settings of a resource, by key.
pub fn describe(router: &mut Router, kind: i8, name: &str) -> Result<Vec<Property>, AskError> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(StrBytes::from_string(name.to_owned()))
        .with_configuration_keys(None);
    let request = |version: i16| {
        let request =
            DescribeConfigsRequest::default().with_resources(vec![resource.clone()]).with_include_synonyms(true);
        if version >= DOCUMENTATION { request.with_include_documentation(true) } else { request }
    };
    // A node answers for its own file only.
    let answer = match name.parse::<i32>() {
        Ok(node) if kind == crate::api::config_resources::NODE => router.node(node)?.call(request)?,
        _ => router.ask(request)?,
    };
    let mut properties = Vec::new();
    for result in answer.results {
        check(|| format!("the settings of {name}"), result.error_code, result.error_message.as_ref())?;
        properties.extend(result.configs.into_iter().map(property));
    }
    properties.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(properties)
}

fn property(config: DescribeConfigsResourceResult) -> Property {
    let text = |text: Option<StrBytes>| text.map(|text| text.to_string());
    let synonyms = config.synonyms.into_iter();
    Property {
        key: config.name.to_string(),
        value: text(config.value),
        source: config.config_source,
        sensitive: config.is_sensitive,
        read_only: config.read_only,
        synonyms: synonyms.map(|one| (one.name.to_string(), text(one.value), one.source)).collect(),
        documentation: text(config.documentation).filter(|text| !text.is_empty()),
    }
}

/// A key, and its new value; `None` takes it back.
pub type Change = (String, Option<String>);

pub fn changes(set: &[(String, String)], unset: &[String]) -> Vec<Change> {
    let set = set.iter().map(|(key, value)| (key.clone(), Some(value.clone())));
    set.chain(unset.iter().map(|key| (key.clone(), None))).collect()
}

/// `a=1, b back to its default`.
pub fn told(changes: &[Change]) -> String {
    let one = |(key, value): &Change| match value {
        Some(value) => format!("{key}={value}"),
        None => format!("{key} back to its default"),
    };
    changes.iter().map(one).collect::<Vec<_>>().join(", ")
}

pub fn change(router: &mut Router, kind: i8, name: &str, changes: &[Change], dry_run: bool) -> Result<(), AskError> {
    let one = |(key, value): &Change| {
        AlterableConfig::default()
            .with_name(StrBytes::from_string(key.clone()))
            .with_config_operation(if value.is_some() { SET } else { UNSET })
            .with_value(value.clone().map(StrBytes::from_string))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(StrBytes::from_string(name.to_owned()))
        .with_configs(changes.iter().map(one).collect());
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(dry_run);
    // What is set for one node is taken by that node only, in Kafka.
    let client = match name.parse::<i32>() {
        Ok(node) if kind == crate::api::config_resources::NODE => router.node(node)?,
        _ => router.any(),
    };
    let answer = client.call(|_| request)?;
    for result in &answer.responses {
        check(|| format!("changing the settings of {name}"), result.error_code, result.error_message.as_ref())?;
    }
    Ok(())
}

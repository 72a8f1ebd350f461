//! `weir config get|set|diff`, and `explain`, which is in a file of its own.
//!
//! Owns the names of resources on the command line. Does not own keys and values: the cluster checks them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{bail, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::at::At;
use super::explain::{Explain, given};
use super::properties::{self, Property, source};
use super::show::{Output, Table, or_dash, print, print_json};
use crate::api::config_resources::{CLIENT_METRICS, GROUP, NODE, TOPIC};
use crate::client::router::Router;
use crate::config::{defaults, effect};

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Show the settings of a topic, a node, all nodes, a group or a subscription to clients' metrics
    Get(Get),
    /// Change settings while the cluster runs
    Set(Set),
    /// Say what a setting is now, where that comes from, and what it does; needs no cluster
    Explain(Explain),
    /// Show what differs: from the defaults, between two resources, or what a server.properties changes
    Diff(Diff),
}

/// Whose settings are meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resource {
    pub kind: i8,
    pub name: String,
}

/// For clap.
pub fn resource(text: &str) -> Result<Resource, String> {
    let (kind, name) = text.split_once('/').unwrap_or((text, ""));
    let kind = match (kind, name.is_empty()) {
        ("topic", false) => TOPIC,
        ("node" | "broker", false) if name.parse::<i32>().is_ok() => NODE,
        ("nodes" | "cluster", true) => NODE,
        ("group", false) => GROUP,
        ("client-metrics", false) => CLIENT_METRICS,
        _ => {
            return Err(format!(
                "'{text}' names nothing: topic/NAME, node/NUMBER, nodes (all of them), group/NAME or client-metrics/NAME do"
            ));
        }
    };
    Ok(Resource { kind, name: name.to_owned() })
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            TOPIC => write!(f, "topic/{}", self.name),
            NODE if self.name.is_empty() => f.write_str("nodes"),
            NODE => write!(f, "node/{}", self.name),
            GROUP => write!(f, "group/{}", self.name),
            _ => write!(f, "client-metrics/{}", self.name),
        }
    }
}

#[derive(Debug, Args)]
pub struct Get {
    /// Whose: topic/NAME, node/NUMBER, nodes (all of them), group/NAME or client-metrics/NAME
    #[arg(value_name = "RESOURCE", value_parser = resource)]
    resource: Resource,
    /// Only these settings [default: all that somebody set]
    #[arg(value_name = "KEY")]
    keys: Vec<String>,
    /// Also settings that nobody set, with their defaults
    #[arg(long)]
    all: bool,
    /// How the result is shown: for people, with more columns, or as JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Args)]
pub struct Set {
    /// Whose: topic/NAME, node/NUMBER, nodes (all of them), group/NAME or client-metrics/NAME
    #[arg(value_name = "RESOURCE", value_parser = resource)]
    resource: Resource,
    /// What to set, for example retention.ms=3600000
    #[arg(value_name = "KEY=VALUE", value_parser = properties::pair)]
    set: Vec<(String, String)>,
    /// Remove a setting, so that the default holds; may be given many times
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
    /// Only say whether it could be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// Whose: topic/NAME, node/NUMBER, nodes (all of them), group/NAME or client-metrics/NAME
    #[arg(value_name = "RESOURCE", value_parser = resource, required_unless_present = "config")]
    resource: Option<Resource>,
    /// Compare with this one [default: with the defaults]
    #[arg(value_name = "OTHER", value_parser = resource)]
    other: Option<Resource>,
    /// A server.properties: what a node that starts with it does otherwise than by default; needs no cluster
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resource", "other"])]
    config: Option<PathBuf>,
    /// How the result is shown: for people, with more columns, or as JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    at: At,
}

impl Config {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Config::Get(get) => get.run(),
            Config::Set(set) => set.run(),
            Config::Explain(explain) => explain.run(),
            Config::Diff(diff) => diff.run(),
        }
    }
}

/// All settings of a resource that must be there.
fn describe(router: &mut Router, resource: &Resource) -> anyhow::Result<Vec<Property>> {
    if resource.kind == TOPIC {
        // A cluster may describe a topic that is not there.
        router.topic(&resource.name, false)?;
    }
    Ok(properties::describe(router, resource.kind, &resource.name)?)
}

fn shown(property: &Property) -> String {
    if property.sensitive { "(secret)".to_owned() } else { or_dash(property.value.as_ref()) }
}

impl Get {
    fn run(self) -> anyhow::Result<()> {
        let mut router = self.at.connect()?;
        let all = describe(&mut router, &self.resource)?;
        for key in &self.keys {
            let known = all.iter().any(|one| one.key == *key);
            ensure!(
                known,
                "{} has no setting '{key}'; `weir config get {} --all` lists them",
                self.resource,
                self.resource
            );
        }
        let wanted = |one: &&Property| match self.keys.is_empty() {
            true => self.all || !one.is_default(),
            false => self.keys.contains(&one.key),
        };
        let found: Vec<&Property> = all.iter().filter(wanted).collect();
        if self.output == Output::Json {
            let one = |one: &&Property| {
                json!({
                    "key": one.key, "value": one.value, "source": source(one.source), "read_only": one.read_only,
                    "sensitive": one.sensitive, "default": one.default(),
                })
            };
            let found: Vec<Value> = found.iter().map(one).collect();
            return print_json(&json!({ "resource": self.resource.to_string(), "settings": found }));
        }
        if found.is_empty() {
            eprintln!("{} has the defaults; --all shows them", self.resource);
        }
        let wide = self.output == Output::Wide;
        let mut table = Table::new(if wide {
            vec!["KEY", "VALUE", "FROM", "DEFAULT", "CHANGEABLE"]
        } else {
            vec!["KEY", "VALUE", "FROM"]
        });
        for one in found {
            let mut row = vec![one.key.clone(), shown(one), source(one.source).to_owned()];
            if wide {
                row.push(or_dash(one.default()));
                row.push(if one.read_only { "at start" } else { "now" }.to_owned());
            }
            table.row(row);
        }
        print(&table.text())
    }
}

impl Set {
    fn run(self) -> anyhow::Result<()> {
        let changes = properties::changes(&self.set, &self.unset);
        ensure!(!changes.is_empty(), "nothing to change: give KEY=VALUE or --unset KEY");
        let mut router = self.at.connect()?;
        let before = describe(&mut router, &self.resource)?;
        properties::change(&mut router, self.resource.kind, &self.resource.name, &changes, self.dry_run)?;
        let done = if self.dry_run { "could be set" } else { "set" };
        for (key, value) in &changes {
            let was = before.iter().find(|one| one.key == *key).map_or_else(|| "-".to_owned(), shown);
            let now = value.as_deref().unwrap_or("its default");
            print(&format!("{} {key} {done}: {was} -> {now}\n", self.resource))?;
        }
        Ok(())
    }
}

/// A key, and its value on both sides.
type Difference = (String, Option<String>, Option<String>);

impl Diff {
    fn run(self) -> anyhow::Result<()> {
        let (left, right, differences) = match (&self.config, &self.resource) {
            (Some(path), _) => {
                let raw = given(Some(path), &[])?;
                let checked = crate::config::Config::check(&raw)?;
                for odd in checked.unknown.iter().chain(&checked.without_effect) {
                    eprintln!("nothing acts on {odd}");
                }
                checked.bounded.iter().for_each(|one| eprintln!("{one}"));
                let acted = |key: &&String| effect::of(key) == effect::Effect::ActedOn;
                let one = |key: &String| {
                    let value = raw.settings.get(key).map(|setting| setting.value.trim().to_owned());
                    (key.clone(), defaults::of_node(key), value)
                };
                ("default".to_owned(), path.display().to_string(), raw.settings.keys().filter(acted).map(one).collect())
            }
            (None, Some(resource)) => self.of_resources(resource)?,
            (None, None) => bail!("name a RESOURCE, or --config FILE"),
        };
        let differences: Vec<Difference> = differences.into_iter().filter(|(_, left, right)| left != right).collect();
        if self.output == Output::Json {
            let one = |(key, left, right): &Difference| json!({ "key": key, "left": left, "right": right });
            let differences: Vec<Value> = differences.iter().map(one).collect();
            return print_json(&json!({ "left": left, "right": right, "differences": differences }));
        }
        if differences.is_empty() {
            return print(&format!("{left} and {right} do not differ\n"));
        }
        let mut table = Table::new(vec!["KEY", &left, &right]);
        differences.into_iter().for_each(|(key, left, right)| table.row(vec![key, or_dash(left), or_dash(right)]));
        print(&table.text())
    }

    fn of_resources(&self, resource: &Resource) -> anyhow::Result<(String, String, Vec<Difference>)> {
        let mut router = self.at.connect()?;
        let of_first = describe(&mut router, resource)?;
        let Some(other) = &self.other else {
            let set = of_first.iter().filter(|one| !one.is_default() && !one.sensitive);
            let found = set.map(|one| (one.key.clone(), one.default().map(str::to_owned), one.value.clone()));
            return Ok(("default".to_owned(), resource.to_string(), found.collect()));
        };
        ensure!(resource.kind == other.kind, "{resource} and {other} have different settings: name two of a kind");
        let of_other = describe(&mut router, other)?;
        let values = |all: &[Property]| -> BTreeMap<String, Option<String>> {
            all.iter().filter(|one| !one.sensitive).map(|one| (one.key.clone(), one.value.clone())).collect()
        };
        let (left, right) = (values(&of_first), values(&of_other));
        let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
        let value = |all: &BTreeMap<String, Option<String>>, key: &String| all.get(key).cloned().flatten();
        let found = keys.into_iter().map(|key| (key.clone(), value(&left, key), value(&right, key))).collect();
        Ok((resource.to_string(), other.to_string(), found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_named_by_kind_and_name() {
        for (text, kind) in [("topic/a/b", TOPIC), ("node/7", NODE), ("nodes", NODE), ("group/g", GROUP)] {
            let found = resource(text).expect(text);
            assert_eq!((found.kind, found.to_string()), (kind, text.to_owned()));
        }
        for text in ["", "topic", "topic/", "node/x", "nodes/1", "queue/q"] {
            assert!(resource(text).is_err(), "{text}");
        }
    }
}

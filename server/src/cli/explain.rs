//! `weir config explain`: what a setting is now, where that comes from, and what it does.
//!
//! Owns the explanation. Works without a cluster: then the defaults, the environment and what is given on the command line are all it knows.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use clap_complete::{ArgValueCompleter, CompletionCandidate};
use replication::metadata::broker_config::BrokerKey;
use replication::metadata::config_value::Kind;
use replication::metadata::group_keys::GroupKey;
use replication::metadata::topic_keys::{self, TopicKey};
use serde_json::json;

use super::at::At;
use super::config::{Resource, resource};
use super::properties::{self, Property, source};
use super::show::{Output, or_dash, print, print_json};
use crate::config::effect::{self, Effect};
use crate::config::raw::Raw;
use crate::config::{Config, defaults, words};
use crate::near::{did_you_mean, near};

#[derive(Debug, Args)]
pub struct Explain {
    /// The setting [default: all that a node that is started here would be given and not act on]
    #[arg(value_name = "KEY", add = ArgValueCompleter::new(keys))]
    key: Option<String>,
    /// Whose: topic/NAME, node/NUMBER, nodes (all of them) or group/NAME; asks the cluster
    #[arg(long = "for", value_name = "RESOURCE", value_parser = resource)]
    resource: Option<Resource>,
    /// What it is for a node that is started with this server.properties
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What it is for a node that is started with this setting; may be given many times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How the result is shown: for people, with more columns, or as JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    at: At,
}

/// Names of settings for the shell.
fn keys(current: &std::ffi::OsStr) -> Vec<CompletionCandidate> {
    let begun = current.to_string_lossy().into_owned();
    let all = topic_keys::KEYS.iter().map(|key| key.name).chain(BrokerKey::all().iter().map(|key| key.name));
    all.filter(|name| name.starts_with(&begun)).map(CompletionCandidate::new).collect()
}

/// What a node that is started here would be given.
pub fn given(file: Option<&PathBuf>, set: &[String]) -> anyhow::Result<Raw> {
    let mut raw = Raw::default();
    for text in set {
        raw.add_set(text)?;
    }
    raw.add_environment(super::variables());
    if let Some(path) = file {
        raw.add_file(path)?;
    }
    Ok(raw)
}

/// What is known of a setting without a cluster.
#[derive(Clone, PartialEq, Debug)]
struct Known {
    of: Vec<&'static str>,
    does: String,
    allowed: Option<String>,
    default: Option<String>,
    /// Settings of a node that stand in where a topic or a group sets nothing.
    stand_in: Vec<&'static str>,
}

fn known(key: &str) -> anyhow::Result<Known> {
    let topic = TopicKey::find(key);
    let group = GroupKey::find(key);
    let node = effect::of(key);
    let broker = BrokerKey::find(key);
    let mut of = Vec::new();
    of.extend(topic.map(|_| "topic"));
    of.extend(group.map(|_| "group"));
    if node != Effect::Unknown {
        of.push("node");
    }
    if of.is_empty() {
        bail!("neither Kafka 4.4 nor Weir has a setting '{key}'{}", similar(key));
    }
    let does = match (topic, group, node) {
        (Some(topic), ..) => topic.doc.to_owned(),
        (None, Some(group), _) => group.doc.to_owned(),
        (None, None, Effect::ActedOn) => words::of_node(key).unwrap_or_default(),
        (None, None, Effect::NotNeeded) => {
            "Says what holds here anyway: every node has every role. It may be given, and changes nothing.".to_owned()
        }
        (None, None, _) => "Kafka has it; nothing in this version of Weir acts on it.".to_owned(),
    };
    let kind = topic.map(|topic| topic.kind).or_else(|| broker.map(|broker| broker.kind));
    let mut stand_in: Vec<&'static str> =
        topic.iter().flat_map(|topic| topic.synonyms.iter().map(|one| one.name)).collect();
    stand_in.extend(group.map(|group| group.of_node));
    let default = topic.map(|topic| topic.default_in_words().to_owned()).or_else(|| {
        let key = group.map_or(key, |group| group.of_node);
        defaults::of_node(key)
    });
    Ok(Known { of, does, allowed: kind.map(Kind::allowed), default, stand_in })
}

/// The names that are spelt nearly alike; where there is none, those that share words.
fn similar(key: &str) -> String {
    let spelt = near(key, topic_keys::KEYS.iter().map(|key| key.name).chain(effect::all()), 3);
    if !spelt.is_empty() {
        return did_you_mean(&spelt);
    }
    let words: Vec<&str> = key.split('.').collect();
    let shared = |name: &str| name.split('.').filter(|word| words.contains(word)).count();
    let all = topic_keys::KEYS.iter().map(|key| key.name).chain(effect::with_effect());
    let mut near: Vec<(usize, &str)> = all.map(|name| (shared(name), name)).filter(|(count, _)| *count > 0).collect();
    near.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    near.dedup();
    let names: Vec<&str> = near.iter().take(5).map(|(_, name)| *name).collect();
    if names.is_empty() { String::new() } else { format!("; did you mean one of {}?", names.join(", ")) }
}

/// What it is now, and where that comes from.
struct Now {
    value: Option<String>,
    from: String,
    read_only: Option<bool>,
}

impl Explain {
    pub fn run(self) -> anyhow::Result<()> {
        let raw = given(self.config.as_ref(), &self.set)?;
        let Some(key) = &self.key else { return self.list_odd(&raw) };
        let online = self.resource.as_ref().map(|resource| self.ask(resource, key)).transpose()?;
        let known = match (known(key), &online) {
            // What Weir does not act on, another cluster may, and say so.
            (Ok(known), Some(Property { documentation: Some(does), .. })) if effect::of(key) == Effect::None => {
                Known { does: does.clone(), ..known }
            }
            (Ok(known), _) => known,
            // Another cluster's own.
            (Err(_), Some(property)) => Known {
                of: Vec::new(),
                does: property.documentation.clone().unwrap_or_else(|| "The cluster does not say.".to_owned()),
                allowed: None,
                default: property.default().map(str::to_owned),
                stand_in: Vec::new(),
            },
            (Err(error), None) => return Err(error),
        };
        let now = match &online {
            Some(property) => Now {
                value: property.value.clone(),
                from: source(property.source).to_owned(),
                read_only: Some(property.read_only),
            },
            None => offline(&raw, key, &known)?,
        };
        self.show(key, &known, &now, online.as_ref())
    }

    fn ask(&self, resource: &Resource, key: &str) -> anyhow::Result<Property> {
        let mut router = self.at.connect()?;
        let all = properties::describe(&mut router, resource.kind, &resource.name)?;
        let found = all.into_iter().find(|one| one.key == key);
        found.with_context(|| {
            format!("{resource} has no setting '{key}'; `weir config get {resource} --all` lists them")
        })
    }

    fn show(&self, key: &str, known: &Known, now: &Now, online: Option<&Property>) -> anyhow::Result<()> {
        if self.output == Output::Json {
            return print_json(&json!({
                "key": key, "of": known.of, "value": now.value, "from": now.from, "default": known.default,
                "allowed": known.allowed, "does": known.does, "stand_in": known.stand_in, "read_only": now.read_only,
            }));
        }
        let mut text = format!("{key}: {}\n", known.does);
        let mut line = |name: &str, value: &str| text.push_str(&format!("  {name:<12}{value}\n"));
        line("value", &or_dash(now.value.as_ref()));
        line("from", &now.from);
        line("default", &or_dash(known.default.as_ref()));
        if let Some(allowed) = &known.allowed {
            line("allowed", allowed);
        }
        if !known.stand_in.is_empty() {
            line("stands in", &format!("{} of the node, where nothing is set", known.stand_in.join(", ")));
        }
        for (name, value, from) in online.iter().flat_map(|property| &property.synonyms) {
            line("", &format!("{}: {name}={}", source(*from), or_dash(value.as_ref())));
        }
        let resource = self.resource.as_ref().map(ToString::to_string);
        match (known.of.first(), now.read_only) {
            (_, Some(true)) | (Some(&"node"), None) => {
                line("set it", &format!("when a node is started: --set {key}=VALUE, or in its server.properties"));
            }
            (of, _) => {
                let resource = resource.unwrap_or_else(|| format!("{}/NAME", of.unwrap_or(&"topic")));
                line("set it", &format!("weir config set {resource} {key}=VALUE"));
            }
        }
        print(&text)
    }

    fn list_odd(&self, raw: &Raw) -> anyhow::Result<()> {
        let config = Config::check(raw)?;
        if self.output == Output::Json {
            let Config { unknown, without_effect, bounded, .. } = config;
            return print_json(&json!({ "unknown": unknown, "without_effect": without_effect, "bounded": bounded }));
        }
        let mut text = String::new();
        for one in &config.unknown {
            text.push_str(&format!("{one}: neither Kafka 4.4 nor Weir has it\n"));
        }
        for one in &config.without_effect {
            text.push_str(&format!("{one}: Kafka has it, nothing here acts on it\n"));
        }
        config.bounded.iter().for_each(|one| text.push_str(&format!("{one}\n")));
        if text.is_empty() {
            text = "everything that is given has an effect; `weir config explain KEY` says which\n".to_owned();
        }
        print(&text)
    }
}

/// As a node that is started here would have it: its own setting, or what stands in for a topic's.
fn offline(raw: &Raw, key: &str, known: &Known) -> anyhow::Result<Now> {
    // A value that is out of bounds is refused with what is allowed.
    Config::check(raw)?;
    let places = std::iter::once(key).filter(|_| known.of.contains(&"node")).chain(known.stand_in.iter().copied());
    for place in places {
        if let Some(setting) = raw.settings.get(place) {
            let scale = TopicKey::find(key)
                .and_then(|topic| topic.synonyms.iter().find(|one| one.name == place))
                .map_or_else(|| setting.value.trim().to_owned(), |one| one.scale(&setting.value));
            let through = if place == key { String::new() } else { format!("{place}, ") };
            return Ok(Now { value: Some(scale), from: format!("{through}{}", setting.origin), read_only: None });
        }
    }
    Ok(Now { value: known.default.clone(), from: "default".to_owned(), read_only: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(key: &str, set: &[&str]) -> (Option<String>, String) {
        let mut raw = Raw::default();
        set.iter().for_each(|text| raw.add_set(text).expect("key=value"));
        let known = known(key).expect("known");
        let now = offline(&raw, key, &known).expect("valid");
        (now.value, now.from)
    }

    #[test]
    fn a_topics_setting_is_what_stands_in_for_it_in_the_topics_unit() {
        assert_eq!(now("retention.ms", &[]), (Some("604800000".to_owned()), "default".to_owned()));
        let expected = (Some("7200000".to_owned()), "log.retention.hours, --set".to_owned());
        assert_eq!(now("retention.ms", &["log.retention.hours=2"]), expected);
        assert_eq!(now("num.partitions", &["num.partitions=8"]), (Some("8".to_owned()), "--set".to_owned()));
    }

    #[test]
    fn a_default_that_follows_from_something_else_is_said_in_words() {
        let expected = Some("half of the replication factor, rounded up".to_owned());
        assert_eq!(now("min.insync.replicas", &[]), (expected, "default".to_owned()));
        assert_eq!(now("min.insync.replicas", &["min.insync.replicas=2"]), (Some("2".to_owned()), "--set".to_owned()));
    }

    #[test]
    fn every_name_of_kafka_is_explained_and_others_lead_to_near_ones() {
        for key in BrokerKey::all().iter().map(|key| key.name).chain(topic_keys::KEYS.iter().map(|key| key.name)) {
            assert!(!known(key).expect(key).does.is_empty(), "{key}");
        }
        let error = known("log.retention.housr").expect_err("unknown").to_string();
        assert!(error.contains("; did you mean log.retention.hours, "), "{error}");
        let error = known("connections.of.cats.and.dogs.that.nobody.has").expect_err("unknown").to_string();
        assert!(error.contains("did you mean one of"), "{error}");
    }
}

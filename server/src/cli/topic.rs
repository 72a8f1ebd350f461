//! `weir topic create|list|describe|alter|delete`.
//!
//! Owns the commands and how they show topics. Does not own what losing something costs in words: `durability` does.
//! Invariant: a command over several topics does all that can be done, and fails if one could not.

use std::collections::BTreeMap;

use anyhow::ensure;
use clap::{Args, Subcommand};
use clap_complete::ArgValueCompleter;
use serde_json::{Value, json};

use super::at::{self, At};
use super::show::{Output, Table, counted, list, or_dash, print, print_json};
use super::{durability, properties};
use crate::api::config_resources::TOPIC;
use crate::client::offsets::{self, END, START};
use crate::client::refused::{AskError, check};
use crate::client::router::{Router, TopicPartition, TopicSeen};
use crate::wire::StrBytes;
use crate::wire::messages::create_partitions_request::CreatePartitionsTopic;
use crate::wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use crate::wire::messages::delete_topics_request::DeleteTopicState;
use crate::wire::messages::{CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest};

const WAIT_MS: i32 = 30_000;
const TOPIC_EXISTS: i16 = 36;
const UNKNOWN_TOPIC: i16 = 3;
/// DeleteTopics has a list of names alone before this version.
const DELETE_STATES: i16 = 6;

#[derive(Debug, Subcommand)]
pub enum Topic {
    /// Create topics
    Create(Create),
    /// List the topics of the cluster
    List(List),
    /// Show partitions, leaders, replicas, offsets and settings of topics, and what losing a node, a rack or power would cost
    Describe(Describe),
    /// Add partitions to a topic, or change its settings
    Alter(Alter),
    /// Delete topics and all their records
    Delete(Delete),
}

#[derive(Debug, Args)]
pub struct Create {
    /// Names of the new topics
    #[arg(value_name = "TOPIC", required = true)]
    topics: Vec<String>,
    /// Partitions of each topic [default: num.partitions of the cluster]
    #[arg(short, long, value_name = "N")]
    partitions: Option<i32>,
    /// Replicas of each partition [default: default.replication.factor of the cluster]
    #[arg(short, long, value_name = "N")]
    replicas: Option<i16>,
    /// A setting of the topic, for example --set retention.ms=3600000; may be given many times
    #[arg(long, value_name = "KEY=VALUE", value_parser = properties::pair)]
    set: Vec<(String, String)>,
    /// A topic that exists already is no error, and stays as it is
    #[arg(long)]
    if_not_exists: bool,
    /// Only say whether they could be created
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Args)]
pub struct List {
    /// Also topics that the cluster keeps for itself, such as __consumer_offsets
    #[arg(long)]
    internal: bool,
    /// How the result is shown: for people, with more columns, or as JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Args)]
pub struct Describe {
    /// Names of topics
    #[arg(value_name = "TOPIC", required = true, add = ArgValueCompleter::new(at::topics))]
    topics: Vec<String>,
    /// How the result is shown: for people, with more columns, or as JSON
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Args)]
pub struct Alter {
    /// Name of the topic
    #[arg(value_name = "TOPIC", add = ArgValueCompleter::new(at::topics))]
    topic: String,
    /// The new number of partitions; it can only grow
    #[arg(short, long, value_name = "N")]
    partitions: Option<i32>,
    /// A setting of the topic, for example --set retention.ms=3600000; may be given many times
    #[arg(long, value_name = "KEY=VALUE", value_parser = properties::pair)]
    set: Vec<(String, String)>,
    /// Remove a setting, so that the cluster's default holds; may be given many times
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
    /// Only say whether it could be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Args)]
pub struct Delete {
    /// Names of topics
    #[arg(value_name = "TOPIC", required = true, add = ArgValueCompleter::new(at::topics))]
    topics: Vec<String>,
    /// A topic that does not exist is no error
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    at: At,
}

impl Topic {
    pub fn run(self) -> anyhow::Result<()> {
        match self {
            Topic::Create(create) => create.run(),
            Topic::List(list) => list.run(),
            Topic::Describe(describe) => describe.run(),
            Topic::Alter(alter) => alter.run(),
            Topic::Delete(delete) => delete.run(),
        }
    }
}

/// Says all errors but the last, and fails with that.
fn all_or_fail(mut failed: Vec<AskError>) -> anyhow::Result<()> {
    let Some(last) = failed.pop() else { return Ok(()) };
    failed.iter().for_each(|error| eprintln!("weir: {error}"));
    Err(last.into())
}

impl Create {
    fn run(self) -> anyhow::Result<()> {
        let mut router = self.at.connect()?;
        let setting = |(key, value): &(String, String)| {
            let (key, value) = (StrBytes::from_string(key.clone()), StrBytes::from_string(value.clone()));
            CreatableTopicConfig::default().with_name(key).with_value(Some(value))
        };
        let settings: Vec<CreatableTopicConfig> = self.set.iter().map(setting).collect();
        let topic = |name: &String| {
            CreatableTopic::default()
                .with_name(StrBytes::from_string(name.clone()).into())
                .with_num_partitions(self.partitions.unwrap_or(-1))
                .with_replication_factor(self.replicas.unwrap_or(-1))
                .with_configs(settings.clone())
        };
        let request = CreateTopicsRequest::default()
            .with_topics(self.topics.iter().map(topic).collect())
            .with_timeout_ms(WAIT_MS)
            .with_validate_only(self.dry_run);
        let answer = router.any().call(|_| request)?;
        let mut failed = Vec::new();
        for topic in &answer.topics {
            let name = topic.name.0.as_str();
            if topic.error_code == TOPIC_EXISTS && self.if_not_exists {
                print(&format!("topic {name} is there already\n"))?;
            } else if let Err(error) =
                check(|| format!("creating topic {name}"), topic.error_code, topic.error_message.as_ref())
            {
                failed.push(error.into());
            } else {
                let verb = if self.dry_run { "could be created" } else { "created" };
                let what = match (topic.num_partitions, topic.replication_factor) {
                    (partitions @ 1.., replicas @ 1..) => format!(
                        " with {} of {}",
                        counted(usize::try_from(partitions).unwrap_or(0), "partition"),
                        counted(usize::try_from(replicas).unwrap_or(0), "replica")
                    ),
                    _ => String::new(),
                };
                print(&format!("topic {name} {verb}{what}\n"))?;
            }
        }
        all_or_fail(failed)
    }
}

impl List {
    fn run(self) -> anyhow::Result<()> {
        let mut router = self.at.connect()?;
        let topics = router.all_topics()?;
        let topics: Vec<&TopicSeen> = topics.iter().filter(|topic| self.internal || !topic.internal).collect();
        if self.output == Output::Json {
            return print_json(&json!({ "topics": topics.iter().map(|topic| summary(topic)).collect::<Vec<_>>() }));
        }
        let wide = self.output == Output::Wide;
        let mut head = vec!["TOPIC", "PARTITIONS", "REPLICAS"];
        if wide {
            head.extend(["UNDER-REPLICATED", "LEADERLESS", "INTERNAL", "ID"]);
        }
        let mut table = Table::new(head);
        for topic in topics {
            let mut row = vec![topic.name.clone(), topic.partitions.len().to_string(), factor(topic).to_string()];
            if wide {
                row.extend([under_replicated(topic).to_string(), leaderless(topic).to_string()]);
                row.extend([topic.internal.to_string(), id(topic)]);
            }
            table.row(row);
        }
        print(&table.text())
    }
}

pub fn factor(topic: &TopicSeen) -> usize {
    topic.partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or(0)
}

pub fn under_replicated(topic: &TopicSeen) -> usize {
    topic.partitions.iter().filter(|partition| partition.isr.len() < partition.replicas.len()).count()
}

pub fn leaderless(topic: &TopicSeen) -> usize {
    topic.partitions.iter().filter(|partition| partition.leader.is_none()).count()
}

fn id(topic: &TopicSeen) -> String {
    model::ids::base64(topic.id.as_bytes())
}

fn summary(topic: &TopicSeen) -> Value {
    json!({
        "topic": topic.name,
        "id": id(topic),
        "internal": topic.internal,
        "partitions": topic.partitions.len(),
        "replicas": factor(topic),
        "under_replicated": under_replicated(topic),
        "leaderless": leaderless(topic),
    })
}

/// All that is shown of one topic.
struct Described {
    topic: TopicSeen,
    start: BTreeMap<TopicPartition, i64>,
    end: BTreeMap<TopicPartition, i64>,
    /// What differs from the defaults.
    settings: BTreeMap<String, String>,
    costs: Vec<String>,
}

impl Describe {
    fn run(self) -> anyhow::Result<()> {
        let mut router = self.at.connect()?;
        let (mut described, mut failed) = (Vec::new(), Vec::new());
        for name in &self.topics {
            match describe(&mut router, name) {
                Ok(topic) => described.push(topic),
                Err(error) => failed.push(error),
            }
        }
        if self.output == Output::Json {
            print_json(&json!({ "topics": described.iter().map(described_json).collect::<Vec<_>>() }))?;
        } else {
            let wide = self.output == Output::Wide;
            let texts: Vec<String> = described.iter().map(|topic| described_text(topic, wide)).collect();
            print(&texts.join("\n"))?;
        }
        all_or_fail(failed)
    }
}

fn describe(router: &mut Router, name: &str) -> Result<Described, AskError> {
    let topic = router.topic(name, false)?;
    let led = || topic.partitions.iter().filter(|one| one.leader.is_some()).map(|one| (name.to_owned(), one.index));
    let start = offsets::list_all(router, led(), START)?;
    let end = offsets::list_all(router, led(), END)?;
    let settings = properties::describe(router, TOPIC, name)?;
    let costs = durability::costs(&topic, &settings, &router.nodes().cloned().collect::<Vec<_>>());
    let set = settings.into_iter().filter(|one| one.is_set() && !one.sensitive);
    let settings = set.map(|one| (one.key, one.value.unwrap_or_default())).collect();
    Ok(Described { topic, start, end, settings, costs })
}

fn described_text(described: &Described, wide: bool) -> String {
    let topic = &described.topic;
    let mut text = format!(
        "topic {}: {}, {} each, id {}\n",
        topic.name,
        counted(topic.partitions.len(), "partition"),
        counted(factor(topic), "replica"),
        id(topic)
    );
    let mut head = vec!["PARTITION", "LEADER", "REPLICAS", "IN-SYNC", "START", "END", "RECORDS"];
    if wide {
        head.extend(["EPOCH", "OFFLINE"]);
    }
    let mut table = Table::new(head);
    for partition in &topic.partitions {
        let at = (topic.name.clone(), partition.index);
        let (start, end) = (described.start.get(&at), described.end.get(&at));
        let mut row = vec![
            partition.index.to_string(),
            or_dash(partition.leader),
            list(&partition.replicas),
            list(&partition.isr),
            or_dash(start),
            or_dash(end),
            or_dash(start.zip(end).map(|(start, end)| end - start)),
        ];
        if wide {
            let offline = if partition.offline.is_empty() { "-".to_owned() } else { list(&partition.offline) };
            row.extend([partition.epoch.to_string(), offline]);
        }
        table.row(row);
    }
    text.push_str(&table.text());
    for (key, value) in &described.settings {
        text.push_str(&format!("{key}={value}\n"));
    }
    for cost in &described.costs {
        text.push_str(&format!("{cost}\n"));
    }
    text
}

fn described_json(described: &Described) -> Value {
    let topic = &described.topic;
    let mut shown = summary(topic);
    let partition = |partition: &crate::client::router::PartitionSeen| {
        let at = (topic.name.clone(), partition.index);
        json!({
            "partition": partition.index,
            "leader": partition.leader,
            "epoch": partition.epoch,
            "replicas": partition.replicas,
            "isr": partition.isr,
            "offline": partition.offline,
            "start": described.start.get(&at),
            "end": described.end.get(&at),
        })
    };
    if let Value::Object(members) = &mut shown {
        members.insert("partitions".to_owned(), topic.partitions.iter().map(partition).collect());
        members.insert("settings".to_owned(), json!(described.settings));
        members.insert("costs".to_owned(), json!(described.costs));
    }
    shown
}

impl Alter {
    fn run(self) -> anyhow::Result<()> {
        let changes = properties::changes(&self.set, &self.unset);
        ensure!(
            self.partitions.is_some() || !changes.is_empty(),
            "nothing to change: give --partitions N, --set KEY=VALUE or --unset KEY"
        );
        let mut router = self.at.connect()?;
        // So that a wrong name is told before anything is done.
        let before = router.topic(&self.topic, false)?;
        let done = if self.dry_run { "could be" } else { "is" };
        if !changes.is_empty() {
            properties::change(&mut router, TOPIC, &self.topic, &changes, self.dry_run)?;
            print(&format!("topic {} {done} changed: {}\n", self.topic, properties::told(&changes)))?;
        }
        if let Some(count) = self.partitions {
            let topic = CreatePartitionsTopic::default()
                .with_name(StrBytes::from_string(self.topic.clone()).into())
                .with_count(count)
                .with_assignments(None);
            let request = CreatePartitionsRequest::default()
                .with_topics(vec![topic])
                .with_timeout_ms(WAIT_MS)
                .with_validate_only(self.dry_run);
            let answer = router.any().call(|_| request)?;
            for result in &answer.results {
                let what = || format!("giving topic {} {count} partitions", self.topic);
                check(what, result.error_code, result.error_message.as_ref())?;
            }
            let before = before.partitions.len();
            print(&format!("topic {} {done} given {count} partitions (before: {before})\n", self.topic))?;
        }
        Ok(())
    }
}

impl Delete {
    fn run(self) -> anyhow::Result<()> {
        let mut router = self.at.connect()?;
        let named = |name: &String| StrBytes::from_string(name.clone()).into();
        let answer = router.any().call(|version| {
            let request = DeleteTopicsRequest::default().with_timeout_ms(WAIT_MS);
            if version < DELETE_STATES {
                return request.with_topic_names(self.topics.iter().map(named).collect());
            }
            let state = |name: &String| DeleteTopicState::default().with_name(Some(named(name)));
            request.with_topics(self.topics.iter().map(state).collect())
        })?;
        let mut failed = Vec::new();
        for result in &answer.responses {
            let name = result.name.as_ref().map(|name| name.0.to_string()).unwrap_or_default();
            if result.error_code == UNKNOWN_TOPIC && self.if_exists {
                print(&format!("there is no topic {name}\n"))?;
                continue;
            }
            match check(|| format!("deleting topic {name}"), result.error_code, result.error_message.as_ref()) {
                Ok(()) => print(&format!("topic {name} deleted\n"))?,
                Err(error) => failed.push(error.into()),
            }
        }
        all_or_fail(failed)
    }
}

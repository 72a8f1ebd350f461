//! What the program may rely on: a `Config` can only be built valid.
//!
//! Owns the meaning of every setting that the server itself acts on. Does not own those of topics, groups and
//! retention: `replication::metadata::BrokerConfig` checks these.
//! Invariant: a refusal names key, value, where it was set, what is allowed and an example.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::NodeId;
use model::limits::REQUEST_BYTES_MAX;
use model::units::GIB;
use replication::metadata::BrokerConfig;
use replication::metadata::broker_config::BrokerKey;
use replication::metadata::config_value::{ConfigError, Kind};

use super::network::{ClientListener, PeerListener};
use super::raw::{Raw, Setting};
use crate::memory::{self, MEMORY_BYTES_MIN};
use crate::net::admission::ConnectionLimits;

pub const LISTEN_DEFAULT: &str = "127.0.0.1:9092";
pub const HTTP_DEFAULT: &str = "127.0.0.1:9644";
const MEMORY_DEFAULT_MAX: u64 = 64 * GIB;

#[derive(Clone, Debug)]
pub struct Config {
    pub node_id: NodeId,
    /// Where the data lies; `None` where nobody said it.
    pub data_dir: Option<PathBuf>,
    /// For clients; at least one.
    pub listeners: Vec<ClientListener>,
    pub http: String,
    /// For other nodes. `None`: this node can be in a cluster of one only.
    pub peer: Option<PeerListener>,
    /// Peer addresses of the nodes to ask for a cluster, sorted.
    pub join: Vec<String>,
    pub rack: Option<String>,
    pub public_port: Option<u16>,
    pub request_bytes_max: usize,
    pub idle_max: Duration,
    pub connections: ConnectionLimits,
    pub memory_bytes: u64,
    pub broker: Arc<BrokerConfig>,
    /// Settings under names that neither Kafka nor Weir has, with where they were set.
    pub unknown: Vec<String>,
    /// Settings of Kafka's that were given and on which nothing acts, with where they were set.
    pub without_effect: Vec<String>,
    /// Settings that hold up to a bound only, with where they were set and what holds.
    pub bounded: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("{key}={value} ({origin}) is refused: {allowed}; for example {key}={example}")]
pub struct ConfigRefused {
    pub key: String,
    pub value: String,
    pub origin: String,
    pub allowed: String,
    pub example: String,
}

impl Config {
    pub fn check(raw: &Raw) -> Result<Config, ConfigRefused> {
        let settings = Settings(&raw.settings);
        let request_bytes_max =
            settings.size("socket.request.max.bytes", REQUEST_BYTES_MAX, 1024, REQUEST_BYTES_MAX)?;
        let broker = settings.broker()?;
        settings.refuse_missing_security()?;
        settings.refuse_missing_parts()?;
        let node_id = settings.node_id()?;
        let network = settings.network(node_id)?;
        let usable = memory::usable_bytes();
        let memory_default = (usable / 4).clamp(MEMORY_BYTES_MIN, MEMORY_DEFAULT_MAX);
        let public_port = raw.public_port.as_deref().map(|port| {
            port.trim().parse::<u16>().map_err(|_| ConfigRefused {
                key: "WEIR_PUBLIC_PORT".to_owned(),
                value: port.to_owned(),
                origin: "environment".to_owned(),
                allowed: "a port from 0 to 65535 is allowed".to_owned(),
                example: "9092".to_owned(),
            })
        });
        Ok(Config {
            node_id,
            data_dir: settings.data_dir()?,
            listeners: network.listeners,
            http: settings.address("http", HTTP_DEFAULT)?.to_string(),
            peer: network.peer,
            join: network.join,
            rack: settings.text("broker.rack").map(str::to_owned),
            public_port: public_port.transpose()?,
            request_bytes_max,
            idle_max: settings.idle_max()?,
            connections: settings.connections()?,
            memory_bytes: settings.number("memory.bytes", memory_default, MEMORY_BYTES_MIN, u64::MAX / 2)?,
            unknown: settings.unknown(),
            without_effect: settings.without_effect(),
            bounded: settings.bounded(),
            broker: Arc::new(broker),
        })
    }
}

fn default_of(key: &str) -> &'static str {
    BrokerKey::find(key).and_then(|key| key.default).unwrap_or_default()
}

pub(super) struct Settings<'a>(pub(super) &'a BTreeMap<String, Setting>);

impl<'a> Settings<'a> {
    /// The value, if one that is not blank was set.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).map(|setting| setting.value.trim()).filter(|value| !value.is_empty())
    }

    pub(super) fn refuse(&self, key: &str, allowed: impl Into<String>, example: impl Into<String>) -> ConfigRefused {
        let (value, origin) = match self.0.get(key) {
            Some(setting) => (setting.value.clone(), setting.origin.to_string()),
            None => (String::new(), "default".to_owned()),
        };
        ConfigRefused { key: key.to_owned(), value, origin, allowed: allowed.into(), example: example.into() }
    }

    /// Kafka takes a blank value for none. Of a setting of our own it is a mistake: an empty variable in a script.
    pub(super) fn not_blank(&self, key: &str, allowed: &str, example: &str) -> Result<(), ConfigRefused> {
        let blank = self.0.get(key).is_some_and(|setting| setting.value.trim().is_empty());
        if blank { Err(self.refuse(key, allowed, example)) } else { Ok(()) }
    }

    fn number(&self, key: &str, default: u64, min: u64, max: u64) -> Result<u64, ConfigRefused> {
        let Some(text) = self.text(key) else { return Ok(default) };
        let number = text.parse::<u64>().ok().filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| {
            let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            let kind = Kind::Long { min: bound(min), max: bound(max) };
            self.refuse(key, format!("{} is allowed", kind.allowed_instead(text)), default.to_string())
        })
    }

    pub(super) fn size(&self, key: &str, default: u64, min: u64, max: u64) -> Result<usize, ConfigRefused> {
        Ok(usize::try_from(self.number(key, default, min, max)?).unwrap_or(usize::MAX))
    }

    fn node_id(&self) -> Result<NodeId, ConfigRefused> {
        let key = if self.text("node.id").is_some() { "node.id" } else { "broker.id" };
        let id = self.number(key, 1, 0, i32::MAX as u64)?;
        Ok(NodeId(i32::try_from(id).unwrap_or(i32::MAX)))
    }

    fn idle_max(&self) -> Result<Duration, ConfigRefused> {
        let key = "connections.max.idle.ms";
        // Kafka takes a negative value as "never".
        if self.text(key).is_some_and(|value| value.parse::<i64>().is_ok_and(|number| number < 0)) {
            return Ok(Duration::from_secs(365 * 24 * 3600));
        }
        self.number(key, 600_000, 1_000, i32::MAX as u64).map(Duration::from_millis)
    }

    fn data_dir(&self) -> Result<Option<PathBuf>, ConfigRefused> {
        self.not_blank("data.dir", "a directory is allowed", "/var/lib/weir")?;
        for key in ["data.dir", "log.dirs", "log.dir"] {
            let Some(text) = self.text(key) else { continue };
            if key == "log.dirs" && text.contains(',') {
                return Err(self.refuse(key, "one directory is served by this version", "/var/lib/weir"));
            }
            return Ok(Some(PathBuf::from(text)));
        }
        Ok(None)
    }

    pub(super) fn items(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.text(key).unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty())
    }

    fn broker(&self) -> Result<BrokerConfig, ConfigRefused> {
        let of_kafka = self.0.iter().filter(|(key, _)| BrokerKey::find(key).is_some());
        let values = of_kafka.map(|(key, setting)| (key.clone(), setting.value.clone())).collect();
        BrokerConfig::new(values).map_err(|error| match error {
            ConfigError::Value { key, allowed, example, .. } => self.refuse(&key, allowed, example),
            ConfigError::Unknown { ref key } => self.refuse(key, error.to_string(), ""),
            ConfigError::Conflict { key, .. } => self.refuse(key, error.to_string(), default_of(key)),
            ConfigError::NotServed { key, .. } => self.refuse(key, error.to_string(), "false"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::super::network::Endpoint;
    use super::*;

    #[test]
    fn without_settings_only_this_machine_is_served() {
        let config = check(&[]).expect("defaults are valid");
        let [listener] = &config.listeners[..] else { panic!("one listener") };
        assert_eq!((listener.listen.as_str(), listener.name.as_str()), (LISTEN_DEFAULT, "PLAINTEXT"));
        assert_eq!((config.http.as_str(), &listener.advertised), (HTTP_DEFAULT, &None));
        assert_eq!((config.node_id, config.data_dir, config.peer, config.join.len()), (NodeId(1), None, None, 0));
    }

    #[test]
    fn kafkas_own_quick_start_file_is_understood() {
        let config = check(&[
            "process.roles=broker,controller",
            "node.id=7",
            "controller.quorum.bootstrap.servers=localhost:9093",
            "listeners=CONTROLLER://:9093,PLAINTEXT://:9092",
            "inter.broker.listener.name=PLAINTEXT",
            "advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
            "controller.listener.names=CONTROLLER",
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL",
            "num.network.threads=3",
            "log.dirs=/tmp/kraft-combined-logs",
            "num.partitions=3",
            "offsets.topic.replication.factor=1",
            "log.retention.hours=168",
        ])
        .expect("valid");
        let [listener] = &config.listeners[..] else { panic!("one listener for clients") };
        assert_eq!(listener.listen, "0.0.0.0:9092");
        assert_eq!(listener.advertised, Some(Endpoint { host: "localhost".to_owned(), port: 9092 }));
        let peer = config.peer.expect("the listener for controllers");
        assert_eq!((peer.listen.as_str(), peer.advertised.to_string().as_str()), ("0.0.0.0:9093", "localhost:9093"));
        assert_eq!(config.join, Vec::<String>::new(), "it is its own only voter");
        assert_eq!(config.data_dir, Some(PathBuf::from("/tmp/kraft-combined-logs")));
        assert_eq!(config.broker.partitions_default, 3);
        assert_eq!(config.unknown, Vec::<String>::new());
        assert_eq!(config.without_effect, ["num.network.threads (--set)"]);
    }

    #[test]
    fn a_refusal_names_key_value_origin_bounds_and_an_example() {
        for (pair, allowed) in [
            ("node.id=-1", "a whole number of at least 0 is allowed"),
            ("num.partitions=none", "a whole number of at least 1 is allowed"),
            ("memory.bytes=zz", "a whole number of at least "),
            ("socket.request.max.bytes=999999999999", "to 104857600"),
            ("log.dirs=/a,/b", "one directory"),
        ] {
            let refused = check(&[pair]).expect_err(pair).to_string();
            let (key, value) = pair.split_once('=').expect("pair");
            for part in [key, value, "--set", allowed, "for example"] {
                assert!(refused.contains(part), "{part} is not in: {refused}");
            }
        }
    }
}

//! What the program may rely on: a `Config` can only be built valid.
//!
//! Owns the meaning of every setting that the server itself acts on. Does not own those of topics, groups and
//! retention: `replication::metadata::BrokerConfig` checks these.
//! Invariant: a refusal names key, value, where it was set, what is allowed and an example.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::NodeId;
use model::limits::REQUEST_BYTES_MAX;
use model::units::GIB;
use replication::metadata::BrokerConfig;
use replication::metadata::broker_config::BrokerKey;
use replication::metadata::config_value::ConfigError;

use super::raw::{Raw, Setting};
use crate::memory::{self, MEMORY_BYTES_MIN};

pub const LISTEN_DEFAULT: &str = "127.0.0.1:9092";
pub const HTTP_DEFAULT: &str = "127.0.0.1:9644";
/// Sockets and files share the descriptors: connections get what is left of a small reserve, at most this.
const CONNECTIONS_MAX: usize = 100_000;
const MEMORY_DEFAULT_MAX: u64 = 64 * GIB;

/// A host and port as clients are told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Endpoint {
    fn parse(text: &str) -> Option<Endpoint> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Some(Endpoint { host: host.to_owned(), port: port.parse().ok()? })
    }
}

#[derive(Clone, Debug)]
pub struct Config {
    pub node_id: NodeId,
    /// Where the data lies; `None` where nobody said it.
    pub data_dir: Option<PathBuf>,
    /// Kafka's listener as HOST:PORT; the host may be a name, the port 0.
    pub listen: String,
    pub advertised: Option<Endpoint>,
    pub http: String,
    pub peer_listen: Option<String>,
    pub rack: Option<String>,
    pub public_port: Option<u16>,
    pub request_bytes_max: usize,
    pub idle_max: Duration,
    pub connections_max: usize,
    pub memory_bytes: u64,
    pub broker: Arc<BrokerConfig>,
    /// Settings that nothing acts on, with where they were set.
    pub unused: Vec<String>,
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

/// Settings that the edge reads under Kafka's names or its own.
const EDGE_KEYS: &[&str] = &[
    "listen",
    "advertise",
    "http",
    "peer.listen",
    "data.dir",
    "memory.bytes",
    "node.id",
    "broker.id",
    "log.dir",
    "log.dirs",
    "listeners",
    "advertised.listeners",
    "listener.security.protocol.map",
    "controller.listener.names",
    "inter.broker.listener.name",
    "process.roles",
    "broker.rack",
    "socket.request.max.bytes",
    "connections.max.idle.ms",
    "max.connections",
];

impl Config {
    pub fn check(raw: &Raw) -> Result<Config, ConfigRefused> {
        let settings = Settings(&raw.settings);
        let request_bytes_max =
            settings.size("socket.request.max.bytes", REQUEST_BYTES_MAX, 1024, REQUEST_BYTES_MAX)?;
        let broker = settings.broker()?;
        let listeners = settings.listeners()?;
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
        let connections_default = descriptors().saturating_sub(512).max(descriptors() / 2).min(CONNECTIONS_MAX);
        Ok(Config {
            node_id: settings.node_id()?,
            data_dir: settings.data_dir()?,
            listen: settings
                .text("listen")
                .map(str::to_owned)
                .or(listeners.listen)
                .unwrap_or(LISTEN_DEFAULT.to_owned()),
            advertised: settings.endpoint("advertise")?.or(listeners.advertised),
            http: settings.text("http").unwrap_or(HTTP_DEFAULT).to_owned(),
            peer_listen: settings.text("peer.listen").map(str::to_owned),
            rack: settings.text("broker.rack").map(str::to_owned),
            public_port: public_port.transpose()?,
            request_bytes_max,
            idle_max: settings.idle_max()?,
            connections_max: settings.size("max.connections", connections_default as u64, 1, i32::MAX as u64)?,
            memory_bytes: settings.number("memory.bytes", memory_default, MEMORY_BYTES_MIN, u64::MAX / 2)?,
            unused: settings.unused(),
            broker: Arc::new(broker),
        })
    }
}

fn default_of(key: &str) -> &'static str {
    BrokerKey::find(key).and_then(|key| key.default).unwrap_or_default()
}

/// How many descriptors the process may have.
fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(1024)
}

#[derive(Default)]
struct Listeners {
    listen: Option<String>,
    advertised: Option<Endpoint>,
}

struct Settings<'a>(&'a BTreeMap<String, Setting>);

impl<'a> Settings<'a> {
    /// The value, if one that is not blank was set.
    fn text(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).map(|setting| setting.value.trim()).filter(|value| !value.is_empty())
    }

    fn refuse(&self, key: &str, allowed: impl Into<String>, example: impl Into<String>) -> ConfigRefused {
        let (value, origin) = match self.0.get(key) {
            Some(setting) => (setting.value.clone(), setting.origin.to_string()),
            None => (String::new(), "default".to_owned()),
        };
        ConfigRefused { key: key.to_owned(), value, origin, allowed: allowed.into(), example: example.into() }
    }

    fn number(&self, key: &str, default: u64, min: u64, max: u64) -> Result<u64, ConfigRefused> {
        let Some(text) = self.text(key) else { return Ok(default) };
        let number = text.parse::<u64>().ok().filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| {
            self.refuse(key, format!("a whole number from {min} to {max} is allowed"), default.to_string())
        })
    }

    fn size(&self, key: &str, default: u64, min: u64, max: u64) -> Result<usize, ConfigRefused> {
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

    fn endpoint(&self, key: &str) -> Result<Option<Endpoint>, ConfigRefused> {
        let Some(text) = self.text(key) else { return Ok(None) };
        let endpoint = Endpoint::parse(text).filter(|endpoint| !endpoint.host.is_empty());
        endpoint.map(Some).ok_or_else(|| self.refuse(key, "HOST:PORT is allowed", "weir.example.net:9092"))
    }

    fn data_dir(&self) -> Result<Option<PathBuf>, ConfigRefused> {
        for key in ["data.dir", "log.dirs", "log.dir"] {
            let Some(text) = self.text(key) else { continue };
            if key == "log.dirs" && text.contains(',') {
                return Err(self.refuse(key, "one directory is served by this version", "/var/lib/weir"));
            }
            return Ok(Some(PathBuf::from(text)));
        }
        Ok(None)
    }

    /// The first listener that is for clients, and what is advertised for it.
    fn listeners(&self) -> Result<Listeners, ConfigRefused> {
        let key = "listeners";
        let example = "PLAINTEXT://127.0.0.1:9092";
        let controllers: Vec<&str> = self.items("controller.listener.names").collect();
        for item in self.items(key) {
            let Some((name, address)) = item.split_once("://") else {
                return Err(self.refuse(key, "a list of NAME://HOST:PORT is allowed", example));
            };
            if controllers.contains(&name) {
                continue;
            }
            if self.protocol_of(name) != "PLAINTEXT" {
                let why =
                    format!("listener {name} would need {}, this version serves PLAINTEXT", self.protocol_of(name));
                return Err(self.refuse(key, why, example));
            }
            let Some(endpoint) = Endpoint::parse(address) else {
                return Err(self.refuse(key, "a list of NAME://HOST:PORT is allowed", example));
            };
            // Kafka means every interface when it names none.
            let host = if endpoint.host.is_empty() { "0.0.0.0".to_owned() } else { endpoint.host };
            let listen = Endpoint { host, port: endpoint.port }.to_string();
            return Ok(Listeners { listen: Some(listen), advertised: self.advertised(name)? });
        }
        Ok(Listeners { listen: None, advertised: self.advertised("PLAINTEXT")? })
    }

    fn advertised(&self, name: &str) -> Result<Option<Endpoint>, ConfigRefused> {
        let key = "advertised.listeners";
        let of_name = self.items(key).find_map(|item| item.split_once("://").filter(|(found, _)| *found == name));
        let Some((_, address)) = of_name else { return Ok(None) };
        let endpoint = Endpoint::parse(address).filter(|endpoint| !endpoint.host.is_empty());
        let refused = || self.refuse(key, "a list of NAME://HOST:PORT is allowed", "PLAINTEXT://weir.example.net:9092");
        endpoint.map(Some).ok_or_else(refused)
    }

    fn protocol_of(&self, name: &str) -> String {
        let mapped = self.items("listener.security.protocol.map").find_map(|item| {
            let (listener, protocol) = item.split_once(':')?;
            (listener == name).then(|| protocol.to_ascii_uppercase())
        });
        mapped.unwrap_or_else(|| name.to_ascii_uppercase())
    }

    fn items(&self, key: &str) -> impl Iterator<Item = &'a str> {
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

    /// Names that neither Kafka 4.4 nor Weir has.
    fn unused(&self) -> Vec<String> {
        let unknown = |key: &&String| BrokerKey::find(key).is_none() && !EDGE_KEYS.contains(&key.as_str());
        let named =
            |key: &String| self.0.get(key).map_or_else(|| key.clone(), |found| format!("{key} ({})", found.origin));
        self.0.keys().filter(unknown).map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[&str]) -> Result<Config, ConfigRefused> {
        let mut raw = Raw::default();
        pairs.iter().for_each(|pair| raw.add_set(pair).expect("key=value"));
        Config::check(&raw)
    }

    #[test]
    fn without_settings_only_this_machine_is_served() {
        let config = check(&[]).expect("defaults are valid");
        assert_eq!((config.listen.as_str(), config.http.as_str()), (LISTEN_DEFAULT, HTTP_DEFAULT));
        assert_eq!((config.node_id, config.data_dir, config.advertised), (NodeId(1), None, None));
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
        assert_eq!(config.listen, "0.0.0.0:9092");
        assert_eq!(config.advertised, Some(Endpoint { host: "localhost".to_owned(), port: 9092 }));
        assert_eq!(config.data_dir, Some(PathBuf::from("/tmp/kraft-combined-logs")));
        assert_eq!(config.broker.partitions_default, 3);
        assert_eq!(config.unused, Vec::<String>::new());
    }

    #[test]
    fn a_refusal_names_key_value_origin_bounds_and_an_example() {
        for (pair, allowed) in [
            ("node.id=-1", "from 0 to 2147483647"),
            ("num.partitions=none", "whole number"),
            ("socket.request.max.bytes=999999999999", "to 104857600"),
            ("listeners=SASL_SSL://:9092", "PLAINTEXT"),
            ("listeners=9092", "NAME://HOST:PORT"),
            ("advertise=9092", "HOST:PORT"),
            ("log.dirs=/a,/b", "one directory"),
        ] {
            let refused = check(&[pair]).expect_err(pair).to_string();
            let (key, value) = pair.split_once('=').expect("pair");
            for part in [key, value, "--set", allowed, "for example"] {
                assert!(refused.contains(part), "{part} is not in: {refused}");
            }
        }
    }

    #[test]
    fn names_that_nobody_has_are_told() {
        let config = check(&["log.retention.housr=1", "num.io.threads=8"]).expect("valid");
        assert_eq!(config.unused, ["log.retention.housr (--set)"]);
    }

    #[test]
    fn addresses_of_version_6_are_read_and_shown() {
        let endpoint = Endpoint::parse("[::1]:9092").expect("valid");
        assert_eq!((endpoint.host.as_str(), endpoint.to_string().as_str()), ("::1", "[::1]:9092"));
    }
}

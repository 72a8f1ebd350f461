//! Where this node listens, what others are told, and whom it asks for a cluster.
//!
//! Owns the meaning of addresses: `listen`, `advertise`, `peer.listen`, `peer.advertise`, `join`, and Kafka's `listeners`, `advertised.listeners`,
//! `controller.*`. Invariants: every address has a host and a port; none that others are told is one that leads to themselves; what would need
//! encryption or a login is refused.
//! Kafka's listener for controllers is ours for nodes, and its list of voters is our join list.

use std::collections::BTreeSet;
use std::fmt;

use model::NodeId;
use replication::metadata::PEER_LISTENER;

use super::checked::{ConfigRefused, LISTEN_DEFAULT, Settings};

/// No cluster begins with more.
const JOIN_MAX: usize = 64;
const NAMED: &str = "a list of NAME://HOST:PORT is allowed";
const NAMED_EXAMPLE: &str = "PLAINTEXT://127.0.0.1:9092";

/// A host and port as others are told.
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
        let port = port.parse().ok()?;
        (!host.contains(char::is_whitespace)).then(|| Endpoint { host: host.to_owned(), port })
    }

    /// Every interface of the machine: somewhere to listen, nowhere to connect to.
    fn is_everywhere(&self) -> bool {
        matches!(self.host.as_str(), "" | "0.0.0.0" | "::" | "*")
    }
}

/// A listener for Kafka's clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientListener {
    pub name: String,
    /// HOST:PORT; the host may be a name, the port 0.
    pub listen: String,
    /// What clients of this listener are told; without it, the address that they reached.
    pub advertised: Option<Endpoint>,
}

/// The listener for other nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerListener {
    pub listen: String,
    /// What other nodes are told. Port 0 stands for the one that is listened on.
    pub advertised: Endpoint,
}

pub(super) struct Network {
    pub(super) listeners: Vec<ClientListener>,
    pub(super) peer: Option<PeerListener>,
    pub(super) join: Vec<String>,
}

/// One item of `listeners`.
struct Listed<'a> {
    name: &'a str,
    at: Endpoint,
}

impl<'a> Settings<'a> {
    pub(super) fn network(&self, node: NodeId) -> Result<Network, ConfigRefused> {
        let listed = self.listed()?;
        let (controllers, clients): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|listed| self.is_for_controllers(listed.name));
        let listeners = self.client_listeners(&clients)?;
        let peer = self.peer_listener(node, controllers.first())?;
        let join = self.join(node, peer.as_ref())?;
        if !join.is_empty() && peer.is_none() {
            let key = if self.text("join").is_some() { "join" } else { "controller.quorum.voters" };
            let key = if self.text(key).is_some() { key } else { "controller.quorum.bootstrap.servers" };
            let why = "a node that has others needs peer.listen (--peer-listen HOST:PORT), where they reach it";
            return Err(self.refuse(key, why, "127.0.0.1:9093 --peer-listen 127.0.0.1:9093"));
        }
        Ok(Network { listeners, peer, join })
    }

    /// HOST:PORT of one of our own settings.
    pub(super) fn address(&self, key: &str, default: &str) -> Result<Endpoint, ConfigRefused> {
        let text = self.0.get(key).map_or(default, |setting| setting.value.trim());
        let refused = || self.refuse(key, "HOST:PORT is allowed, the port from 0 to 65535", default);
        Endpoint::parse(text).filter(|at| !at.host.is_empty()).ok_or_else(refused)
    }

    /// What others are told to connect to.
    fn told(&self, key: &str, text: &str, example: &str) -> Result<Endpoint, ConfigRefused> {
        let Some(at) = Endpoint::parse(text).filter(|at| !at.host.is_empty()) else {
            return Err(self.refuse(key, "HOST:PORT is allowed, the port from 1 to 65535", example));
        };
        if at.is_everywhere() {
            let why = format!(
                "{} is every interface of whoever hears it: a name or an address of this machine is allowed",
                at.host
            );
            return Err(self.refuse(key, why, example));
        }
        if at.port == 0 {
            return Err(self.refuse(key, "nobody can connect to port 0: a port from 1 to 65535 is allowed", example));
        }
        Ok(at)
    }

    fn listed(&self) -> Result<Vec<Listed<'a>>, ConfigRefused> {
        let key = "listeners";
        let mut all: Vec<Listed<'a>> = Vec::new();
        for item in self.items(key) {
            let parsed = item.split_once("://").and_then(|(name, at)| Some(Listed { name, at: Endpoint::parse(at)? }));
            let Some(listed) = parsed else { return Err(self.refuse(key, NAMED, NAMED_EXAMPLE)) };
            let (name, protocol) = (listed.name, self.protocol_of(listed.name));
            if protocol != "PLAINTEXT" {
                let why = format!("listener {name} would need {protocol}, this version serves PLAINTEXT");
                return Err(self.refuse(key, why, NAMED_EXAMPLE));
            }
            if name == PEER_LISTENER && !self.is_for_controllers(name) {
                return Err(self.refuse(key, format!("the name {PEER_LISTENER} is the nodes' own"), NAMED_EXAMPLE));
            }
            if all.iter().any(|other| other.name == name || (other.at.port == listed.at.port && listed.at.port != 0)) {
                return Err(self.refuse(key, "each listener has a name and a port of its own", NAMED_EXAMPLE));
            }
            all.push(listed);
        }
        Ok(all)
    }

    fn client_listeners(&self, clients: &[Listed<'_>]) -> Result<Vec<ClientListener>, ConfigRefused> {
        self.advertised_is_whole()?;
        let first_name = clients.first().map_or("PLAINTEXT", |listed| listed.name);
        let advertise = match self.0.get("advertise") {
            Some(setting) => Some(self.told("advertise", setting.value.trim(), "weir.example.net:9092")?),
            None => None,
        };
        if self.0.contains_key("listen") || clients.is_empty() {
            let listen = self.address("listen", LISTEN_DEFAULT)?.to_string();
            let advertised = advertise.or(self.advertised(first_name)?);
            return Ok(vec![ClientListener { name: first_name.to_owned(), listen, advertised }]);
        }
        let mut listeners = Vec::new();
        for (at, listed) in clients.iter().enumerate() {
            let first = advertise.clone().filter(|_| at == 0);
            let advertised = first.or(self.advertised(listed.name)?);
            listeners.push(ClientListener { name: listed.name.to_owned(), listen: listen_on(&listed.at), advertised });
        }
        Ok(listeners)
    }

    fn peer_listener(
        &self,
        node: NodeId,
        controllers: Option<&Listed<'_>>,
    ) -> Result<Option<PeerListener>, ConfigRefused> {
        let at = match (self.0.contains_key("peer.listen"), controllers) {
            (true, _) => self.address("peer.listen", "127.0.0.1:9093")?,
            (false, Some(listed)) => listed.at.clone(),
            (false, None) => return Ok(None),
        };
        let told = match (self.0.get("peer.advertise"), controllers) {
            (Some(setting), _) => Some(self.told("peer.advertise", setting.value.trim(), "weir-1.example.net:9093")?),
            (None, Some(listed)) => self.advertised(listed.name)?,
            (None, None) => None,
        };
        let own_vote = || self.voters().ok()?.into_iter().find(|(id, _)| *id == node).map(|(_, at)| at);
        let own_host = || Endpoint { host: machine_name(), port: at.port };
        let advertised = match told.or_else(own_vote) {
            Some(told) => told,
            None if at.is_everywhere() => own_host(),
            None => at.clone(),
        };
        Ok(Some(PeerListener { listen: listen_on(&at), advertised }))
    }

    fn join(&self, node: NodeId, peer: Option<&PeerListener>) -> Result<Vec<String>, ConfigRefused> {
        let example = "10.0.0.1:9093,10.0.0.2:9093,10.0.0.3:9093";
        self.not_blank("join", "a list of HOST:PORT is allowed: the peer addresses of all founders", example)?;
        let mut join = BTreeSet::new();
        if self.text("join").is_some() {
            for item in self.items("join") {
                join.insert(self.told("join", item, example)?.to_string());
            }
        } else if self.text("controller.quorum.voters").is_some() {
            let voters = self.voters()?;
            let alone = voters.iter().all(|(id, _)| *id == node);
            join.extend(voters.into_iter().filter(|_| !alone).map(|(_, at)| at.to_string()));
        } else {
            let key = "controller.quorum.bootstrap.servers";
            let servers = self.items(key).map(|item| self.told(key, item, example)).collect::<Result<Vec<_>, _>>()?;
            let alone = matches!(&servers[..], [only] if peer.is_some_and(|peer| is_same(only, &peer.advertised)));
            join.extend(servers.into_iter().filter(|_| !alone).map(|at| at.to_string()));
        }
        if join.len() > JOIN_MAX {
            return Err(self.refuse("join", format!("at most {JOIN_MAX} addresses are allowed"), example));
        }
        Ok(join.into_iter().collect())
    }

    /// Kafka's ID@HOST:PORT.
    fn voters(&self) -> Result<Vec<(NodeId, Endpoint)>, ConfigRefused> {
        let (key, example) = ("controller.quorum.voters", "1@10.0.0.1:9093,2@10.0.0.2:9093,3@10.0.0.3:9093");
        let refused = || self.refuse(key, "a list of ID@HOST:PORT is allowed", example);
        let voter = |item: &str| {
            let (id, at) = item.split_once('@').ok_or_else(refused)?;
            let id = id.parse::<i32>().ok().filter(|id| *id >= 0).ok_or_else(refused)?;
            Ok((NodeId(id), self.told(key, at, example)?))
        };
        self.items(key).map(voter).collect()
    }

    fn is_for_controllers(&self, name: &str) -> bool {
        self.items("controller.listener.names").any(|controller| controller == name)
    }

    /// Every item can be read, also of listeners that are not there.
    fn advertised_is_whole(&self) -> Result<(), ConfigRefused> {
        let key = "advertised.listeners";
        let is_named = |item: &str| item.split_once("://").is_some();
        let whole = self.items(key).all(is_named);
        if whole { Ok(()) } else { Err(self.refuse(key, NAMED, "PLAINTEXT://weir.example.net:9092")) }
    }

    fn advertised(&self, name: &str) -> Result<Option<Endpoint>, ConfigRefused> {
        let key = "advertised.listeners";
        let of_name = self.items(key).find_map(|item| item.split_once("://").filter(|(found, _)| *found == name));
        of_name.map(|(_, at)| self.told(key, at, "PLAINTEXT://weir.example.net:9092")).transpose()
    }

    fn protocol_of(&self, name: &str) -> String {
        let mapped = self.items("listener.security.protocol.map").find_map(|item| {
            let (listener, protocol) = item.split_once(':')?;
            (listener == name).then(|| protocol.to_ascii_uppercase())
        });
        // Kafka maps the names of protocols to themselves, and names for controllers to PLAINTEXT.
        let unmapped = || {
            if self.is_for_controllers(name) && self.text("listener.security.protocol.map").is_none() {
                "PLAINTEXT".to_owned()
            } else {
                name.to_ascii_uppercase()
            }
        };
        mapped.unwrap_or_else(unmapped)
    }
}

/// Kafka means every interface when it names none.
fn listen_on(at: &Endpoint) -> String {
    let host = if at.host.is_empty() { "0.0.0.0".to_owned() } else { at.host.clone() };
    Endpoint { host, port: at.port }.to_string()
}

fn is_same(one: &Endpoint, other: &Endpoint) -> bool {
    let local =
        |at: &Endpoint| matches!(at.host.as_str(), "localhost" | "127.0.0.1" | "::1") || at.host == machine_name();
    one == other || (one.port == other.port && local(one) && local(other))
}

/// What this machine calls itself.
pub fn machine_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn addresses_that_cannot_work_are_refused_with_key_value_and_example() {
        for (pair, allowed) in [
            ("listeners=SASL_SSL://:9092", "PLAINTEXT"),
            ("listeners=9092", "NAME://HOST:PORT"),
            ("listeners=PLAINTEXT://:1,PLAINTEXT://:2", "a name and a port of its own"),
            ("listeners=PLAINTEXT://h:1,SSL://h:2", "would need SSL"),
            ("advertise=9092", "HOST:PORT"),
            ("advertise=0.0.0.0:9092", "every interface"),
            ("advertise=[::]:9092", "every interface"),
            ("advertise=weir:0", "port 0"),
            ("advertised.listeners=PLAINTEXT://0.0.0.0:9092", "every interface"),
            ("advertised.listeners=weir:9092", "NAME://HOST:PORT"),
            ("listen=", "HOST:PORT"),
            ("listen=9092", "HOST:PORT"),
            ("listen=h:70000", "from 0 to 65535"),
            ("http=", "HOST:PORT"),
            ("peer.listen=", "HOST:PORT"),
            ("join=", "HOST:PORT"),
            ("join=a:1,b", "HOST:PORT"),
            ("join=a:1,0.0.0.0:2", "every interface"),
            ("join=a:1", "peer.listen"),
            ("controller.quorum.voters=a:1", "ID@HOST:PORT"),
            ("controller.quorum.voters=2@a:1", "peer.listen"),
        ] {
            let refused = check(&[pair]).expect_err(pair).to_string();
            let (key, value) = pair.split_once('=').expect("pair");
            for part in [key, value, "--set", allowed, "for example"] {
                assert!(refused.contains(part), "{part} is not in: {refused}");
            }
        }
    }

    #[test]
    fn every_listener_for_clients_is_served_under_its_name() {
        let config = check(&[
            "listeners=INTERNAL://10.0.0.1:9092,EXTERNAL://:19092,CONTROLLER://:9093",
            "listener.security.protocol.map=INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "advertised.listeners=INTERNAL://10.0.0.1:9092,EXTERNAL://weir.example.net:19092",
            "controller.listener.names=CONTROLLER",
        ])
        .expect("valid");
        let told = |listener: &ClientListener| {
            let advertised = listener.advertised.as_ref().map(Endpoint::to_string).unwrap_or_default();
            format!("{} {} {advertised}", listener.name, listener.listen)
        };
        let all: Vec<String> = config.listeners.iter().map(told).collect();
        assert_eq!(all, ["INTERNAL 10.0.0.1:9092 10.0.0.1:9092", "EXTERNAL 0.0.0.0:19092 weir.example.net:19092"]);
        assert_eq!(config.peer.map(|peer| peer.listen), Some("0.0.0.0:9093".to_owned()));
    }

    #[test]
    fn the_join_list_is_sorted_and_has_no_repetitions() {
        let config = check(&["join= c:1, a:1,b:1 ,a:1", "peer.listen=a:1"]).expect("valid");
        assert_eq!(config.join, ["a:1", "b:1", "c:1"]);
        let peer = config.peer.expect("it was given");
        assert_eq!((peer.listen.as_str(), peer.advertised.to_string().as_str()), ("a:1", "a:1"));
    }

    #[test]
    fn kafkas_voters_are_the_join_list_and_say_where_this_node_is_reached() {
        let config = check(&[
            "node.id=2",
            "listeners=PLAINTEXT://:9092,CONTROLLER://:9093",
            "controller.listener.names=CONTROLLER",
            "controller.quorum.voters=1@k1:9093,2@k2:9093,3@k3:9093",
        ])
        .expect("valid");
        assert_eq!(config.join, ["k1:9093", "k2:9093", "k3:9093"]);
        assert_eq!(config.peer.map(|peer| peer.advertised.to_string()), Some("k2:9093".to_owned()));
    }

    #[test]
    fn a_listener_on_every_interface_is_told_by_the_name_of_the_machine() {
        let config = check(&["peer.listen=0.0.0.0:9093"]).expect("valid");
        let advertised = config.peer.expect("it was given").advertised;
        assert_eq!(advertised, Endpoint { host: machine_name(), port: 9093 });
        let config = check(&["peer.listen=0.0.0.0:9093", "peer.advertise=weir-1:9093"]).expect("valid");
        assert_eq!(config.peer.map(|peer| peer.advertised.to_string()), Some("weir-1:9093".to_owned()));
    }

    #[test]
    fn addresses_of_version_6_are_read_and_shown() {
        let endpoint = Endpoint::parse("[::1]:9092").expect("valid");
        assert_eq!((endpoint.host.as_str(), endpoint.to_string().as_str()), ("::1", "[::1]:9092"));
    }
}

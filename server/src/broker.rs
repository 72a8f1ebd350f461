//! What every connection of a running server shares.
//!
//! Owns the pieces and their wiring, and the one way to call the node. Does not own requests nor sockets.
//! Invariant: the effects of a call are carried out right after it, on the same thread.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use model::{GroupId, NodeId, Now};
use node::Node;
use node::effects::Effects;
use node::requests::Answer;
use replication::group::{GroupAnswer, GroupRequest};
use replication::metadata::{Image, NodeInfo};

use crate::api::fetch_sessions::FetchSessions;
use crate::clock;
use crate::config::Endpoint;
use crate::disk::cold_reads::ColdReads;
use crate::disk::writers::Executor;
use crate::memory::Allowance;
use crate::metrics::Metrics;
use crate::net::admission::ConnectionLimits;
use crate::net::complaints::Complaints;
use crate::net::reply::ReplyCell;
use crate::telemetry::Telemetry;

/// What the edge was configured with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For clients; at least one.
    pub listeners: Vec<ServedListener>,
    /// The port that clients on this machine, or outside of this container, connect to (`WEIR_PUBLIC_PORT`).
    pub public_port: Option<u16>,
    /// In a container: where mapped connections seem to come from.
    pub gateways: Vec<IpAddr>,
    pub request_bytes_max: usize,
    pub idle_max: Duration,
    pub connections: ConnectionLimits,
    pub memory_bytes: u64,
}

/// A listener for clients, bound.
#[derive(Clone, Debug)]
pub struct ServedListener {
    pub name: String,
    pub port: u16,
    /// What its clients are told; without it, the address that their connection reached.
    pub advertised: Option<Endpoint>,
}

pub struct Broker {
    pub node: Arc<Node>,
    pub executor: Arc<Executor>,
    pub metrics: Arc<Metrics>,
    pub settings: Settings,
    /// For frames that were read and are not answered.
    pub request_memory: Allowance,
    /// For records read for answers, and for answers that are large without.
    pub answer_memory: Allowance,
    pub sessions: FetchSessions,
    pub cold: ColdReads,
    /// What clients push of their own metrics.
    pub telemetry: Telemetry,
    pub complaints: Complaints,
}

impl Broker {
    pub fn new(
        node: Arc<Node>,
        executor: Arc<Executor>,
        metrics: Arc<Metrics>,
        cold: ColdReads,
        settings: Settings,
    ) -> Broker {
        let sessions_max = node.image().statics().fetch_sessions_max;
        Broker {
            request_memory: Allowance::new(settings.memory_bytes / 4),
            answer_memory: Allowance::new(settings.memory_bytes / 4),
            sessions: FetchSessions::new(usize::try_from(sessions_max).unwrap_or(usize::MAX)),
            cold,
            telemetry: Telemetry::new(node.image().statics().telemetry_bytes_max),
            complaints: Complaints::default(),
            node,
            executor,
            metrics,
            settings,
        }
    }

    /// Calls the node and carries out what it asks for.
    pub fn call<T>(&self, call: impl FnOnce(&Node, Now, &mut Effects) -> T) -> T {
        self.executor.call(|fx| call(&self.node, clock::now(), fx))
    }

    /// Asks the coordinator of a group.
    pub async fn ask_group(&self, group: &str, request: GroupRequest) -> GroupAnswer {
        let cell = ReplyCell::new();
        let to = cell.reply_to();
        self.call(|node, now, fx| node.group(now, GroupId::new(group), request, to, fx));
        match cell.answer().await {
            Answer::Group(answer) => answer,
            other => unreachable!("a group request was answered with {other:?}"),
        }
    }

    pub fn image(&self) -> Arc<Image> {
        self.node.image()
    }

    /// Where a client that reached `local` from `peer` finds a node.
    pub fn endpoint_of(&self, node: NodeId, info: Option<&NodeInfo>, local: SocketAddr, peer: SocketAddr) -> Endpoint {
        if node == self.node.id() {
            return self.own_endpoint(local, peer);
        }
        // As in Kafka: a client is told the listeners that have the name of the one that it came to.
        let named = self.listener_at(local).and_then(|listener| info?.listener(&listener.name));
        match named.or_else(|| info.and_then(NodeInfo::client_listener)) {
            Some(listener) => Endpoint { host: listener.host.clone(), port: listener.port },
            None => Endpoint { host: String::new(), port: 0 },
        }
    }

    /// No two listeners have one port.
    fn listener_at(&self, local: SocketAddr) -> Option<&ServedListener> {
        self.settings.listeners.iter().find(|listener| listener.port == local.port())
    }

    fn own_endpoint(&self, local: SocketAddr, peer: SocketAddr) -> Endpoint {
        if let Some(advertised) = self.listener_at(local).and_then(|listener| listener.advertised.as_ref()) {
            return advertised.clone();
        }
        let (from, port) = (peer.ip().to_canonical(), self.settings.public_port.unwrap_or(local.port()));
        // TCP does not tell a mapped port: who comes through the gateway of a container reached it as localhost.
        if self.settings.gateways.contains(&from) || (self.settings.public_port.is_some() && from.is_loopback()) {
            return Endpoint { host: "localhost".to_owned(), port };
        }
        Endpoint { host: local.ip().to_canonical().to_string(), port: local.port() }
    }
}

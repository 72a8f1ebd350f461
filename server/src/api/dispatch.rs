//! From a frame to the handler of its API.
//!
//! Owns the list of APIs that are served. Does not own what they do.
//! Invariant: what is not in the list is not advertised; a version outside of a handler's is never decoded.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tracing::error;

use super::context::{Api, Reply, RequestContext};
use crate::broker::Broker;
use crate::clock;
use crate::memory::Charge;
use crate::metrics::Invalid;
use crate::net::connection::Connection;
use crate::wire::{self, API_VERSIONS_KEY, Frame, HeaderError, Request, Splices, WireError};

pub const PRODUCE_KEY: i16 = 0;
pub const FETCH_KEY: i16 = 1;

/// How one API is found and started.
pub struct Served {
    pub key: i16,
    pub name: &'static str,
    pub min: i16,
    pub max: i16,
    start: fn(RequestContext, Bytes) -> Result<Started, Refused>,
}

const fn served<A: Api>() -> Served {
    let versions = A::VERSIONS;
    Served {
        key: <A::Request as Request>::KEY,
        name: A::NAME,
        min: *versions.start(),
        max: *versions.end(),
        start: start_one::<A>,
    }
}

/// Every API that is served, ascending by key.
pub static SERVED: &[Served] = &[
    served::<super::produce::Produce>(),
    served::<super::fetch::Fetch>(),
    served::<super::list_offsets::ListOffsets>(),
    served::<super::metadata::Metadata>(),
    served::<super::offset_commit::OffsetCommit>(),
    served::<super::offset_fetch::OffsetFetch>(),
    served::<super::find_coordinator::FindCoordinator>(),
    served::<super::join_group::JoinGroup>(),
    served::<super::heartbeat::Heartbeat>(),
    served::<super::leave_group::LeaveGroup>(),
    served::<super::sync_group::SyncGroup>(),
    served::<super::describe_groups::DescribeGroups>(),
    served::<super::list_groups::ListGroups>(),
    served::<super::api_versions::ApiVersions>(),
    served::<super::create_topics::CreateTopics>(),
    served::<super::delete_topics::DeleteTopics>(),
    served::<super::delete_records::DeleteRecords>(),
    served::<super::init_producer_id::InitProducerId>(),
    served::<super::offset_for_leader_epoch::OffsetForLeaderEpoch>(),
    served::<super::describe_configs::DescribeConfigs>(),
    served::<super::alter_configs::AlterConfigs>(),
    served::<super::alter_replica_log_dirs::AlterReplicaLogDirs>(),
    served::<super::describe_log_dirs::DescribeLogDirs>(),
    served::<super::create_partitions::CreatePartitions>(),
    served::<super::delete_groups::DeleteGroups>(),
    served::<super::elect_leaders::ElectLeaders>(),
    served::<super::incremental_alter_configs::IncrementalAlterConfigs>(),
    served::<super::alter_partition_reassignments::AlterPartitionReassignments>(),
    served::<super::list_partition_reassignments::ListPartitionReassignments>(),
    served::<super::offset_delete::OffsetDelete>(),
    served::<super::describe_quorum::DescribeQuorum>(),
    served::<super::update_features::UpdateFeatures>(),
    served::<super::describe_cluster::DescribeCluster>(),
    served::<super::describe_producers::DescribeProducers>(),
    served::<super::unregister::UnregisterBroker>(),
    served::<super::consumer_group_heartbeat::ConsumerGroupHeartbeat>(),
    served::<super::consumer_group_describe::ConsumerGroupDescribe>(),
    served::<super::get_telemetry_subscriptions::GetTelemetrySubscriptions>(),
    served::<super::push_telemetry::PushTelemetry>(),
    served::<super::list_config_resources::ListConfigResources>(),
    served::<super::describe_topic_partitions::DescribeTopicPartitions>(),
    served::<super::raft_voters::AddRaftVoter>(),
    served::<super::raft_voters::RemoveRaftVoter>(),
    served::<super::unregister::UnregisterController>(),
];

/// The name of an API that is served.
pub fn api_name(key: i16) -> Option<&'static str> {
    find(key).map(|served| served.name)
}

fn find(key: i16) -> Option<&'static Served> {
    SERVED.iter().find(|served| served.key == key)
}

/// A request that was begun.
pub enum Started {
    Done(Answered),
    Waiting(Pin<Box<dyn Future<Output = Answered> + Send>>),
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Started::Done(_)) { "Done" } else { "Waiting" })
    }
}

/// What the writing task does for a request.
#[derive(Debug)]
pub enum Answered {
    Frame { frame: Frame, charge: Charge },
    Silent,
    Close { reason: String },
}

impl Answered {
    pub fn bytes(&self) -> usize {
        if let Answered::Frame { frame, .. } = self { frame.bytes() } else { 0 }
    }
}

/// Why a request ends its connection.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("{name} (api key {key}) version {version}: {error}")]
    Body { key: i16, name: &'static str, version: i16, error: WireError },
    #[error("api key {key} is not served")]
    NotServed { key: i16 },
    #[error("{name} (api key {key}) version {version} is not served, only {min} to {max}")]
    Version { key: i16, name: &'static str, version: i16, min: i16, max: i16 },
}

impl Refused {
    pub fn reason(&self) -> Invalid {
        match self {
            Refused::Header(HeaderError::UnknownApi { .. }) | Refused::NotServed { .. } => Invalid::UnknownApi,
            Refused::Header(HeaderError::UnknownVersion { .. }) | Refused::Version { .. } => Invalid::UnknownVersion,
            Refused::Header(_) => Invalid::Header,
            Refused::Body { .. } => Invalid::Body,
        }
    }
}

/// Begins a request: everything of it that must keep its place among the requests of the connection has happened
/// when this returns.
pub fn start(broker: &Arc<Broker>, connection: &Arc<Connection>, frame: Bytes) -> Result<Started, Refused> {
    let (header, body) = match wire::split_request(frame) {
        Ok(split) => split,
        Err(HeaderError::UnknownVersion { api_key: API_VERSIONS_KEY, correlation_id, .. }) => {
            return unsupported_api_versions(broker, correlation_id);
        }
        Err(error) => return Err(error.into()),
    };
    let key = header.api_key;
    let served = find(key).ok_or(Refused::NotServed { key })?;
    let version = header.api_version;
    if version < served.min || version > served.max {
        return Err(Refused::Version { key, name: served.name, version, min: served.min, max: served.max });
    }
    broker.metrics.request(key);
    if key != FETCH_KEY {
        // A client that sends another request behind its long poll wants that one answered.
        connection.hurry_parked();
    }
    let ctx = RequestContext {
        broker: broker.clone(),
        connection: connection.clone(),
        client_id: header.client_id,
        version,
        correlation_id: header.correlation_id,
    };
    (served.start)(ctx, body)
}

fn unsupported_api_versions(broker: &Broker, correlation_id: i32) -> Result<Started, Refused> {
    broker.metrics.request(API_VERSIONS_KEY);
    let served = find(API_VERSIONS_KEY).expect("ApiVersions is served");
    let frame = wire::unsupported_api_versions(correlation_id, served.min, served.max)
        .map_err(|error| Refused::Body { key: API_VERSIONS_KEY, name: served.name, version: 0, error })?;
    Ok(Started::Done(Answered::Frame { frame, charge: Charge::default() }))
}

fn start_one<A: Api>(ctx: RequestContext, body: Bytes) -> Result<Started, Refused> {
    let (version, correlation_id) = (ctx.version, ctx.correlation_id);
    let refused = |error| Refused::Body { key: <A::Request as Request>::KEY, name: A::NAME, version, error };
    let request = wire::decode_request::<A::Request>(version, body).map_err(refused)?;
    let (broker, begun) = (ctx.broker.clone(), clock::mono());
    let handling = A::handle(ctx, request);
    let mut future = Box::pin(async move {
        let answered = finish::<A>(version, correlation_id, handling.await);
        broker.metrics.answered(<A::Request as Request>::KEY, clock::mono().saturating_sub(begun));
        answered
    });
    // Whoever takes a waiting request over polls it again, so no wake is lost.
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answered) => Ok(Started::Done(answered)),
        Poll::Pending => Ok(Started::Waiting(future)),
    }
}

fn finish<A: Api>(version: i16, correlation_id: i32, reply: Reply<<A::Request as Request>::Response>) -> Answered {
    let encode = |response, splices| wire::encode_response::<A::Request>(version, correlation_id, &response, splices);
    let (frame, mut charge) = match reply {
        Reply::Response(response) => (encode(response, Splices::new()), Charge::default()),
        Reply::Records { response, splices, charge } => (encode(response, splices), charge),
        Reply::Large { response, charge } => (encode(response, Splices::new()), charge),
        Reply::Encoded { frame, charge } => (frame, charge),
        Reply::Silent => return Answered::Silent,
        Reply::Close { reason } => return Answered::Close { reason },
    };
    match frame {
        Ok(frame) => {
            charge.shrink_to(frame.bytes());
            Answered::Frame { frame, charge }
        }
        Err(error) => {
            error!("{} version {version}: the answer could not be written: {error}", A::NAME);
            Answered::Close { reason: error.to_string() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apis_are_listed_once_and_in_order() {
        assert!(SERVED.windows(2).all(|pair| pair[0].key < pair[1].key));
    }

    #[test]
    fn every_api_has_versions() {
        assert!(SERVED.iter().all(|served| served.min <= served.max));
    }
}

//! Typed requests and responses: every version that Kafka 4.4 has of the APIs that this server serves.
//!
//! Owns which type belongs to which API key, the order "check, then decode", and whole frames. Does not own which
//! versions are advertised: handlers declare that. Where `kafka-protocol` lacks a version, the codec is in this folder
//! and the type is still the crate's, except [`ApiVersionsRequest`](super::ApiVersionsRequest).
//! Invariant: no decoder runs on a body that the length check has not accepted.

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::buf::ByteBufMut;
use kafka_protocol::protocol::{Decodable, Encodable};
use thiserror::Error;

use super::check::{CheckError, check};
use super::header::{self, CLIENT_ID_BYTES_MAX, HeaderError, RequestHeader};
use super::pieces::{Frame, PieceBuf, Splices};
use super::tables::{self, Direction, Message};

/// Why a frame was not read or not written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WireError {
    #[error("{message} version {version}: {source}")]
    Check { message: &'static str, version: i16, source: CheckError },
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("{message} has no version {version} here, only {min} to {max}")]
    Version { message: &'static str, version: i16, min: i16, max: i16 },
    /// The check and the decoder read the same bytes differently: a fault of this folder, not of the sender.
    #[error("{message} version {version} passed the check and could not be decoded: {reason}")]
    Disagreement { message: &'static str, version: i16, reason: String },
    /// The message holds a value that this version cannot carry: a fault of the handler.
    #[error("{message} version {version} cannot carry this message: {reason}")]
    Encode { message: &'static str, version: i16, reason: String },
    #[error("{message} version {version} is longer than a frame can be")]
    TooLong { message: &'static str, version: i16 },
}

/// A request or response body in the versions of its API.
pub trait Body: Sized {
    /// Takes the body from the front of `body`, which the check has accepted.
    fn decode_body(body: &mut Bytes, version: i16) -> Result<Self, String>;
    fn encode_body<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<(), String>;
}

/// A request type: its API key, the versions that can be read and written here, and its response.
pub trait Request: Body {
    const KEY: i16;
    const MIN: i16;
    const MAX: i16;
    type Response: Body;
}

/// Bodies by the crate. A later version with the layout of the crate's last one is read as that one.
macro_rules! by_crate {
    ($($body:ty: $crate_max:literal),* $(,)?) => {$(
        impl Body for $body {
            fn decode_body(body: &mut Bytes, version: i16) -> Result<Self, String> {
                Self::decode(body, version.min($crate_max)).map_err(|error| error.to_string())
            }
            fn encode_body<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<(), String> {
                self.encode(out, version.min($crate_max)).map_err(|error| error.to_string())
            }
        }
    )*};
}

/// The requests that have types. `by hand` are those whose trait is implemented beside their codec.
macro_rules! requests {
    ($($key:literal $request:ident -> $response:ident $min:literal ..= $max:literal;)* by hand: $($own:ty),* $(,)?) => {
        $(
            impl Request for $request {
                const KEY: i16 = $key;
                const MIN: i16 = $min;
                const MAX: i16 = $max;
                type Response = $response;
            }
        )*

        /// Calls the visitor with the request type of an API key; none when there is no type for it.
        pub fn visit_request<V: RequestVisitor>(key: i16, visitor: V) -> Option<V::Output> {
            $(
                if key == $key {
                    return Some(visitor.visit::<$request>());
                }
            )*
            $(
                if key == <$own as Request>::KEY {
                    return Some(visitor.visit::<$own>());
                }
            )*
            None
        }
    };
}

/// Something that is done with the type of a request, whichever it is.
pub trait RequestVisitor {
    type Output;
    fn visit<R: Request>(self) -> Self::Output;
}

by_crate! {
    ProduceRequest: 13, ProduceResponse: 13,
    FetchRequest: 18, FetchResponse: 18,
    // Version 11 only adds a special timestamp (KIP-1023).
    ListOffsetsRequest: 10, ListOffsetsResponse: 10,
    MetadataRequest: 13, MetadataResponse: 13,
    FindCoordinatorRequest: 6, FindCoordinatorResponse: 6,
    JoinGroupRequest: 9, JoinGroupResponse: 9,
    HeartbeatRequest: 4, HeartbeatResponse: 4,
    LeaveGroupRequest: 5, LeaveGroupResponse: 5,
    SyncGroupRequest: 5, SyncGroupResponse: 5,
    DescribeGroupsRequest: 6, DescribeGroupsResponse: 6,
    ListGroupsRequest: 5, ListGroupsResponse: 5,
    // Version 5 changes the request only (KIP-1242).
    ApiVersionsResponse: 4,
    CreateTopicsRequest: 7, CreateTopicsResponse: 7,
    DeleteTopicsRequest: 6, DeleteTopicsResponse: 6,
    DeleteRecordsRequest: 2, DeleteRecordsResponse: 2,
    InitProducerIdRequest: 5, InitProducerIdResponse: 5,
    OffsetForLeaderEpochRequest: 4, OffsetForLeaderEpochResponse: 4,
    DescribeConfigsRequest: 4, DescribeConfigsResponse: 4,
    AlterConfigsRequest: 2, AlterConfigsResponse: 2,
    AlterReplicaLogDirsRequest: 2, AlterReplicaLogDirsResponse: 2,
    // Version 5 changes the response only (KIP-1066).
    DescribeLogDirsRequest: 4,
    // Version 3 changes the response only.
    DeleteGroupsRequest: 2,
    OffsetDeleteRequest: 0, OffsetDeleteResponse: 0,
    CreatePartitionsRequest: 3, CreatePartitionsResponse: 3,
    ElectLeadersRequest: 2, ElectLeadersResponse: 2,
    IncrementalAlterConfigsRequest: 1, IncrementalAlterConfigsResponse: 1,
    AlterPartitionReassignmentsRequest: 1, AlterPartitionReassignmentsResponse: 1,
    ListPartitionReassignmentsRequest: 0, ListPartitionReassignmentsResponse: 0,
    DescribeQuorumRequest: 2, DescribeQuorumResponse: 2,
    UpdateFeaturesRequest: 2, UpdateFeaturesResponse: 2,
    DescribeClusterRequest: 2, DescribeClusterResponse: 2,
    DescribeProducersRequest: 0, DescribeProducersResponse: 0,
    UnregisterBrokerRequest: 0, UnregisterBrokerResponse: 0,
    ConsumerGroupHeartbeatRequest: 1, ConsumerGroupHeartbeatResponse: 1,
    ConsumerGroupDescribeRequest: 1, ConsumerGroupDescribeResponse: 1,
    GetTelemetrySubscriptionsRequest: 0, GetTelemetrySubscriptionsResponse: 0,
    PushTelemetryRequest: 0, PushTelemetryResponse: 0,
    ListConfigResourcesRequest: 1, ListConfigResourcesResponse: 1,
    DescribeTopicPartitionsRequest: 0, DescribeTopicPartitionsResponse: 0,
    // Version 1 changes the request only.
    AddRaftVoterResponse: 0,
    RemoveRaftVoterRequest: 0, RemoveRaftVoterResponse: 0,
}

requests! {
    0 ProduceRequest -> ProduceResponse 3..=13;
    1 FetchRequest -> FetchResponse 4..=18;
    2 ListOffsetsRequest -> ListOffsetsResponse 1..=11;
    3 MetadataRequest -> MetadataResponse 0..=13;
    8 OffsetCommitRequest -> OffsetCommitResponse 2..=10;
    9 OffsetFetchRequest -> OffsetFetchResponse 1..=10;
    10 FindCoordinatorRequest -> FindCoordinatorResponse 0..=6;
    11 JoinGroupRequest -> JoinGroupResponse 0..=9;
    12 HeartbeatRequest -> HeartbeatResponse 0..=4;
    13 LeaveGroupRequest -> LeaveGroupResponse 0..=5;
    14 SyncGroupRequest -> SyncGroupResponse 0..=5;
    15 DescribeGroupsRequest -> DescribeGroupsResponse 0..=6;
    16 ListGroupsRequest -> ListGroupsResponse 0..=5;
    19 CreateTopicsRequest -> CreateTopicsResponse 2..=7;
    20 DeleteTopicsRequest -> DeleteTopicsResponse 1..=6;
    21 DeleteRecordsRequest -> DeleteRecordsResponse 0..=2;
    22 InitProducerIdRequest -> InitProducerIdResponse 0..=5;
    23 OffsetForLeaderEpochRequest -> OffsetForLeaderEpochResponse 2..=4;
    32 DescribeConfigsRequest -> DescribeConfigsResponse 1..=4;
    33 AlterConfigsRequest -> AlterConfigsResponse 0..=2;
    34 AlterReplicaLogDirsRequest -> AlterReplicaLogDirsResponse 1..=2;
    37 CreatePartitionsRequest -> CreatePartitionsResponse 0..=3;
    43 ElectLeadersRequest -> ElectLeadersResponse 0..=2;
    44 IncrementalAlterConfigsRequest -> IncrementalAlterConfigsResponse 0..=1;
    45 AlterPartitionReassignmentsRequest -> AlterPartitionReassignmentsResponse 0..=1;
    46 ListPartitionReassignmentsRequest -> ListPartitionReassignmentsResponse 0..=0;
    47 OffsetDeleteRequest -> OffsetDeleteResponse 0..=0;
    55 DescribeQuorumRequest -> DescribeQuorumResponse 0..=2;
    57 UpdateFeaturesRequest -> UpdateFeaturesResponse 0..=2;
    60 DescribeClusterRequest -> DescribeClusterResponse 0..=2;
    61 DescribeProducersRequest -> DescribeProducersResponse 0..=0;
    64 UnregisterBrokerRequest -> UnregisterBrokerResponse 0..=0;
    68 ConsumerGroupHeartbeatRequest -> ConsumerGroupHeartbeatResponse 0..=1;
    69 ConsumerGroupDescribeRequest -> ConsumerGroupDescribeResponse 0..=1;
    71 GetTelemetrySubscriptionsRequest -> GetTelemetrySubscriptionsResponse 0..=0;
    72 PushTelemetryRequest -> PushTelemetryResponse 0..=0;
    74 ListConfigResourcesRequest -> ListConfigResourcesResponse 0..=1;
    75 DescribeTopicPartitionsRequest -> DescribeTopicPartitionsResponse 0..=0;
    81 RemoveRaftVoterRequest -> RemoveRaftVoterResponse 0..=0;
    by hand: super::ApiVersionsRequest, DescribeLogDirsRequest, DeleteGroupsRequest, super::AddRaftVoterRequest,
    super::UnregisterControllerRequest,
}

/// Checks and decodes the body of a request, as [`header::split_request`] gave it. Strings and records are slices of
/// the frame: what is kept must be copied, or the whole frame stays in memory.
pub fn decode_request<R: Request>(version: i16, body: Bytes) -> Result<R, WireError> {
    decode(table::<R>(Direction::Request, version)?, version, body)
}

/// Encodes a response with its header and length prefix. `splices` holds the records that were registered for it;
/// other responses pass [`Splices::new`].
pub fn encode_response<R: Request>(
    version: i16,
    correlation_id: i32,
    response: &R::Response,
    splices: Splices,
) -> Result<Frame, WireError> {
    let message = table::<R>(Direction::Response, version)?;
    let mut out = PieceBuf::new(splices);
    header::put_response_header(&mut out, message, version, correlation_id);
    finish(message, version, out, response)
}

/// Encodes a request with its header and length prefix, as a client sends it.
pub fn encode_request<R: Request>(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &R,
    splices: Splices,
) -> Result<Frame, WireError> {
    let message = table::<R>(Direction::Request, version)?;
    let client_id = client_id.map(|id| Bytes::copy_from_slice(id.as_bytes()));
    if let Some(id) = client_id.as_ref().filter(|id| id.len() > CLIENT_ID_BYTES_MAX) {
        let got = i16::try_from(id.len()).unwrap_or(i16::MAX);
        return Err(HeaderError::ClientIdLength { got }.into());
    }
    let mut out = PieceBuf::new(splices);
    let header = RequestHeader { api_key: R::KEY, api_version: version, correlation_id, client_id };
    header::put_request_header(&mut out, message, &header);
    finish(message, version, out, request)
}

/// Checks and decodes a response frame (without its length prefix) to a request of `version`: its correlation id and
/// its body.
pub fn decode_response<R: Request>(version: i16, frame: Bytes) -> Result<(i32, R::Response), WireError> {
    let message = table::<R>(Direction::Response, version)?;
    let (correlation_id, body) = header::split_response(message, version, frame)?;
    Ok((correlation_id, decode(message, version, body)?))
}

fn table<R: Request>(direction: Direction, version: i16) -> Result<&'static Message, WireError> {
    let message = tables::message(R::KEY, direction).expect("each request type has a key of the tables");
    if version < R::MIN || version > R::MAX {
        return Err(WireError::Version { message: message.name, version, min: R::MIN, max: R::MAX });
    }
    Ok(message)
}

fn decode<T: Body>(message: &Message, version: i16, mut body: Bytes) -> Result<T, WireError> {
    let name = message.name;
    check(message, version, &body).map_err(|source| WireError::Check { message: name, version, source })?;
    let disagreement = |reason| WireError::Disagreement { message: name, version, reason };
    let value = T::decode_body(&mut body, version).map_err(disagreement)?;
    if !body.is_empty() {
        return Err(disagreement(format!("{} bytes are left", body.len())));
    }
    Ok(value)
}

fn finish<T: Body>(message: &Message, version: i16, mut out: PieceBuf, body: &T) -> Result<Frame, WireError> {
    let name = message.name;
    body.encode_body(&mut out, version).map_err(|reason| WireError::Encode { message: name, version, reason })?;
    out.into_frame().ok_or(WireError::TooLong { message: name, version })
}

#[cfg(test)]
#[path = "facade_tests.rs"]
mod tests;

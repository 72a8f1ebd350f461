//! The wire: Kafka's messages to and from bytes. The only users of `kafka-protocol`.
//!
//! Owns headers, the length check before any decoder, the codecs that the crate lacks, and responses as pieces.
//! Does not own record batches (they are bytes here), sockets, nor which versions the server advertises.
//! Invariants: no input makes this folder panic or reserve memory that the frame's own size does not justify.
//!
//! A request: [`split_request`], then [`decode_request`] in its handler. A response: records go through
//! [`Splices::register`], then [`encode_response`]. Anything that has no type: [`codec`] with the tables.

mod api_versions;
mod check;
pub mod codec;
mod compact;
mod configs_frame;
mod facade;
mod header;
mod newer;
mod pieces;
mod primitives;
pub mod tables;
mod topic_ids;
pub mod value;

pub use kafka_protocol::messages;
pub use kafka_protocol::protocol::StrBytes;
pub use uuid::Uuid;

pub use api_versions::{ApiVersionsRequest, unsupported_api_versions};
pub use check::{
    ARRAY_ELEMENTS_MAX, CheckError, REQUEST_ELEMENTS_MAX, RESPONSE_ELEMENTS_MAX, STRING_BYTES_MAX, TAGGED_FIELDS_MAX,
    check,
};
pub use configs_frame::ConfigsFrame;
pub use facade::{
    Body, Request, RequestVisitor, WireError, decode_request, decode_response, encode_request, encode_response,
    visit_request,
};
pub use header::{API_VERSIONS_KEY, CLIENT_ID_BYTES_MAX, HeaderError, RequestHeader, split_request};
pub use newer::{
    AddRaftVoterRequest, DIR_FULL_TAG, DeleteGroupsResponse, DeletedGroup, DescribeLogDirsResponse, LOG_DAMAGED_TAG,
    LOG_DIRS_TAGGED_MIN, LOG_OFFLINE_TAG, LogDir, UnregisterControllerRequest, UnregisterControllerResponse,
};
pub use pieces::{Frame, Splices};

//! Messages of Kafka 4.4 that `kafka-protocol` ends before: AddRaftVoter 1, DeleteGroups 3, DescribeLogDirs 5,
//! UnregisterController.
//!
//! Owns their types; parts that have not changed are left to the crate.
//! Versions: AddRaftVoter 1 says when it is answered, DeleteGroups 3 has messages, DescribeLogDirs 5 tells cordoned directories (KIP-1066),
//! UnregisterController is new in 4.4 (KIP-1312).

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::add_raft_voter_request::Listener;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_log_dirs_response::{DescribeLogDirsResult, DescribeLogDirsTopic};
use kafka_protocol::messages::{AddRaftVoterResponse, DeleteGroupsRequest, DescribeLogDirsRequest};
use kafka_protocol::protocol::buf::ByteBufMut;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use uuid::Uuid;

use super::compact::{
    put_array, put_nullable_string, put_string, put_tags, take_array, take_bool, take_i16, take_i32, take_i64,
    take_nullable_string, take_string, take_tags, take_uuid,
};
use super::facade::{Body, Request};

fn error_text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A node is to vote in the metadata group.
#[derive(Clone, Debug, PartialEq)]
pub struct AddRaftVoterRequest {
    pub cluster_id: Option<StrBytes>,
    pub timeout_ms: i32,
    pub voter_id: i32,
    pub voter_directory_id: Uuid,
    pub listeners: Vec<Listener>,
    /// Before version 1 always true: the answer comes when the change is committed.
    pub ack_when_committed: bool,
    pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
}

impl Default for AddRaftVoterRequest {
    fn default() -> AddRaftVoterRequest {
        AddRaftVoterRequest {
            cluster_id: None,
            timeout_ms: 0,
            voter_id: 0,
            voter_directory_id: Uuid::nil(),
            listeners: Vec::new(),
            ack_when_committed: true,
            unknown_tagged_fields: BTreeMap::new(),
        }
    }
}

impl Request for AddRaftVoterRequest {
    const KEY: i16 = 80;
    const MIN: i16 = 0;
    const MAX: i16 = 1;
    type Response = AddRaftVoterResponse;
}

impl Body for AddRaftVoterRequest {
    fn decode_body(body: &mut Bytes, version: i16) -> Result<Self, String> {
        Ok(AddRaftVoterRequest {
            cluster_id: take_nullable_string(body)?,
            timeout_ms: take_i32(body)?,
            voter_id: take_i32(body)?,
            voter_directory_id: take_uuid(body)?,
            listeners: take_array(body, |body| Listener::decode(body, 0).map_err(error_text))?,
            ack_when_committed: version < 1 || take_bool(body)?,
            unknown_tagged_fields: take_tags(body)?,
        })
    }

    fn encode_body<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<(), String> {
        put_nullable_string(out, self.cluster_id.as_ref())?;
        out.put_i32(self.timeout_ms);
        out.put_i32(self.voter_id);
        out.put_u128(self.voter_directory_id.as_u128());
        put_array(out, &self.listeners, |out, listener| listener.encode(out, 0).map_err(error_text))?;
        if version >= 1 {
            out.put_u8(u8::from(self.ack_when_committed));
        }
        put_tags(out, &self.unknown_tagged_fields)
    }
}

impl Request for DescribeLogDirsRequest {
    const KEY: i16 = 35;
    const MIN: i16 = 1;
    const MAX: i16 = 5;
    type Response = DescribeLogDirsResponse;
}

/// What lies in each data directory of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescribeLogDirsResponse {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub results: Vec<LogDir>,
    pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
}

/// One data directory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogDir {
    pub shown: DescribeLogDirsResult,
    /// New partitions are kept out of it; none before version 5.
    pub is_cordoned: bool,
}

/// Tagged fields of our own in DescribeLogDirs, from version 2 on: texts. Clients pass over tags that they do not know; Kafka's count up
/// from 0.
/// Of a directory: why appends of clients are refused.
pub const DIR_FULL_TAG: i32 = 10_000;
/// Of a partition: why it is offline on this node.
pub const LOG_OFFLINE_TAG: i32 = 10_001;
/// Of a partition: where a read met other bytes than were written.
pub const LOG_DAMAGED_TAG: i32 = 10_002;
/// The first version of DescribeLogDirs with tagged fields.
pub const LOG_DIRS_TAGGED_MIN: i16 = 2;

/// The last version of DescribeLogDirs that the crate knows.
const LOG_DIRS_CRATE_MAX: i16 = 4;

impl Body for DescribeLogDirsResponse {
    fn decode_body(body: &mut Bytes, version: i16) -> Result<Self, String> {
        if version <= LOG_DIRS_CRATE_MAX {
            let whole = kafka_protocol::messages::DescribeLogDirsResponse::decode(body, version).map_err(error_text)?;
            let results = whole.results.into_iter().map(|shown| LogDir { shown, is_cordoned: false }).collect();
            return Ok(DescribeLogDirsResponse {
                throttle_time_ms: whole.throttle_time_ms,
                error_code: whole.error_code,
                results,
                unknown_tagged_fields: whole.unknown_tagged_fields,
            });
        }
        Ok(DescribeLogDirsResponse {
            throttle_time_ms: take_i32(body)?,
            error_code: take_i16(body)?,
            results: take_array(body, take_log_dir)?,
            unknown_tagged_fields: take_tags(body)?,
        })
    }

    fn encode_body<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<(), String> {
        if version <= LOG_DIRS_CRATE_MAX {
            let mut whole = kafka_protocol::messages::DescribeLogDirsResponse::default();
            whole.throttle_time_ms = self.throttle_time_ms;
            whole.error_code = self.error_code;
            whole.results = self.results.iter().map(|dir| dir.shown.clone()).collect();
            whole.unknown_tagged_fields = self.unknown_tagged_fields.clone();
            return whole.encode(out, version).map_err(error_text);
        }
        out.put_i32(self.throttle_time_ms);
        out.put_i16(self.error_code);
        put_array(out, &self.results, put_log_dir)?;
        put_tags(out, &self.unknown_tagged_fields)
    }
}

fn take_log_dir(body: &mut Bytes) -> Result<LogDir, String> {
    let topic = |body: &mut Bytes| DescribeLogDirsTopic::decode(body, LOG_DIRS_CRATE_MAX).map_err(error_text);
    let shown = DescribeLogDirsResult::default()
        .with_error_code(take_i16(body)?)
        .with_log_dir(take_string(body)?)
        .with_topics(take_array(body, topic)?)
        .with_total_bytes(take_i64(body)?)
        .with_usable_bytes(take_i64(body)?);
    let is_cordoned = take_bool(body)?;
    Ok(LogDir { shown: shown.with_unknown_tagged_fields(take_tags(body)?), is_cordoned })
}

fn put_log_dir<B: ByteBufMut>(out: &mut B, dir: &LogDir) -> Result<(), String> {
    out.put_i16(dir.shown.error_code);
    put_string(out, &dir.shown.log_dir)?;
    put_array(out, &dir.shown.topics, |out, topic| topic.encode(out, LOG_DIRS_CRATE_MAX).map_err(error_text))?;
    out.put_i64(dir.shown.total_bytes);
    out.put_i64(dir.shown.usable_bytes);
    out.put_u8(u8::from(dir.is_cordoned));
    put_tags(out, &dir.shown.unknown_tagged_fields)
}

impl Request for DeleteGroupsRequest {
    const KEY: i16 = 42;
    const MIN: i16 = 0;
    const MAX: i16 = 3;
    type Response = DeleteGroupsResponse;
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeleteGroupsResponse {
    pub throttle_time_ms: i32,
    pub results: Vec<DeletedGroup>,
    pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
}

/// What became of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeletedGroup {
    pub group_id: StrBytes,
    pub error_code: i16,
    /// None before version 3.
    pub error_message: Option<StrBytes>,
    pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
}

/// The last version of DeleteGroups that the crate knows.
const DELETE_GROUPS_CRATE_MAX: i16 = 2;

impl Body for DeleteGroupsResponse {
    fn decode_body(body: &mut Bytes, version: i16) -> Result<Self, String> {
        if version <= DELETE_GROUPS_CRATE_MAX {
            let whole = kafka_protocol::messages::DeleteGroupsResponse::decode(body, version).map_err(error_text)?;
            let one = |result: DeletableGroupResult| DeletedGroup {
                group_id: result.group_id.0,
                error_code: result.error_code,
                error_message: None,
                unknown_tagged_fields: result.unknown_tagged_fields,
            };
            return Ok(DeleteGroupsResponse {
                throttle_time_ms: whole.throttle_time_ms,
                results: whole.results.into_iter().map(one).collect(),
                unknown_tagged_fields: whole.unknown_tagged_fields,
            });
        }
        Ok(DeleteGroupsResponse {
            throttle_time_ms: take_i32(body)?,
            results: take_array(body, |body| {
                Ok(DeletedGroup {
                    group_id: take_string(body)?,
                    error_code: take_i16(body)?,
                    error_message: take_nullable_string(body)?,
                    unknown_tagged_fields: take_tags(body)?,
                })
            })?,
            unknown_tagged_fields: take_tags(body)?,
        })
    }

    fn encode_body<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<(), String> {
        if version <= DELETE_GROUPS_CRATE_MAX {
            let one = |result: &DeletedGroup| {
                DeletableGroupResult::default()
                    .with_group_id(result.group_id.clone().into())
                    .with_error_code(result.error_code)
                    .with_unknown_tagged_fields(result.unknown_tagged_fields.clone())
            };
            let whole = kafka_protocol::messages::DeleteGroupsResponse::default()
                .with_throttle_time_ms(self.throttle_time_ms)
                .with_results(self.results.iter().map(one).collect())
                .with_unknown_tagged_fields(self.unknown_tagged_fields.clone());
            return whole.encode(out, version).map_err(error_text);
        }
        out.put_i32(self.throttle_time_ms);
        put_array(out, &self.results, |out, result| {
            put_string(out, &result.group_id)?;
            out.put_i16(result.error_code);
            put_nullable_string(out, result.error_message.as_ref())?;
            put_tags(out, &result.unknown_tagged_fields)
        })?;
        put_tags(out, &self.unknown_tagged_fields)
    }
}

/// A controller that is gone is to be forgotten.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnregisterControllerRequest {
    pub controller_id: i32,
    pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct UnregisterControllerResponse {
    pub throttle_time_ms: i32,
    pub error_code: i16,
    pub error_message: Option<StrBytes>,
    pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
}

impl Request for UnregisterControllerRequest {
    const KEY: i16 = 94;
    const MIN: i16 = 0;
    const MAX: i16 = 0;
    type Response = UnregisterControllerResponse;
}

impl Body for UnregisterControllerRequest {
    fn decode_body(body: &mut Bytes, _version: i16) -> Result<Self, String> {
        Ok(UnregisterControllerRequest { controller_id: take_i32(body)?, unknown_tagged_fields: take_tags(body)? })
    }

    fn encode_body<B: ByteBufMut>(&self, out: &mut B, _version: i16) -> Result<(), String> {
        out.put_i32(self.controller_id);
        put_tags(out, &self.unknown_tagged_fields)
    }
}

impl Body for UnregisterControllerResponse {
    fn decode_body(body: &mut Bytes, _version: i16) -> Result<Self, String> {
        Ok(UnregisterControllerResponse {
            throttle_time_ms: take_i32(body)?,
            error_code: take_i16(body)?,
            error_message: take_nullable_string(body)?,
            unknown_tagged_fields: take_tags(body)?,
        })
    }

    fn encode_body<B: ByteBufMut>(&self, out: &mut B, _version: i16) -> Result<(), String> {
        out.put_i32(self.throttle_time_ms);
        out.put_i16(self.error_code);
        put_nullable_string(out, self.error_message.as_ref())?;
        put_tags(out, &self.unknown_tagged_fields)
    }
}

//! OffsetCommit and OffsetFetch of version 10, where a topic is named by its id.
//!
//! `kafka-protocol` ends at version 9, but its types have the topic id already; so handlers see its types in every
//! version. Up to version 9 `name` is set and `topic_id` is nil, from version 10 on it is the other way round.
//! Partitions have not changed since version 9 and are left to the crate.

use bytes::Bytes;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_commit_response::OffsetCommitResponseTopic;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{OffsetFetchResponseGroup, OffsetFetchResponseTopics};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse};
use kafka_protocol::protocol::buf::ByteBufMut;
use kafka_protocol::protocol::{Decodable, Encodable};
use uuid::Uuid;

use super::compact::{
    put_array, put_nullable_array, put_nullable_string, put_string, put_tags, take_array, take_bool, take_i16,
    take_i32, take_nullable_array, take_nullable_string, take_string, take_tags, take_uuid,
};
use super::facade::Body;

/// The last version that the crate knows.
const CRATE_MAX: i16 = 9;

fn by_crate<T: Decodable>(body: &mut Bytes) -> Result<T, String> {
    T::decode(body, CRATE_MAX).map_err(|error| error.to_string())
}

fn to_crate<T: Encodable, B: ByteBufMut>(out: &mut B, value: &T) -> Result<(), String> {
    value.encode(out, CRATE_MAX).map_err(|error| error.to_string())
}

fn put_uuid<B: ByteBufMut>(out: &mut B, id: Uuid) {
    out.put_u128(id.as_u128());
}

impl Body for OffsetCommitRequest {
    fn decode_body(body: &mut Bytes, version: i16) -> Result<Self, String> {
        if version <= CRATE_MAX {
            return Self::decode(body, version).map_err(|error| error.to_string());
        }
        Ok(OffsetCommitRequest::default()
            .with_group_id(take_string(body)?.into())
            .with_generation_id_or_member_epoch(take_i32(body)?)
            .with_member_id(take_string(body)?)
            .with_group_instance_id(take_nullable_string(body)?)
            .with_topics(take_array(body, |body| {
                Ok(OffsetCommitRequestTopic::default()
                    .with_topic_id(take_uuid(body)?)
                    .with_partitions(take_array(body, by_crate)?)
                    .with_unknown_tagged_fields(take_tags(body)?))
            })?)
            .with_unknown_tagged_fields(take_tags(body)?))
    }

    fn encode_body<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<(), String> {
        if version <= CRATE_MAX {
            return self.encode(out, version).map_err(|error| error.to_string());
        }
        put_string(out, &self.group_id)?;
        out.put_i32(self.generation_id_or_member_epoch);
        put_string(out, &self.member_id)?;
        put_nullable_string(out, self.group_instance_id.as_ref())?;
        put_array(out, &self.topics, |out, topic| {
            put_uuid(out, topic.topic_id);
            put_array(out, &topic.partitions, to_crate)?;
            put_tags(out, &topic.unknown_tagged_fields)
        })?;
        put_tags(out, &self.unknown_tagged_fields)
    }
}

impl Body for OffsetCommitResponse {
    fn decode_body(body: &mut Bytes, version: i16) -> Result<Self, String> {
        if version <= CRATE_MAX {
            return Self::decode(body, version).map_err(|error| error.to_string());
        }
        Ok(OffsetCommitResponse::default()
            .with_throttle_time_ms(take_i32(body)?)
            .with_topics(take_array(body, |body| {
                Ok(OffsetCommitResponseTopic::default()
                    .with_topic_id(take_uuid(body)?)
                    .with_partitions(take_array(body, by_crate)?)
                    .with_unknown_tagged_fields(take_tags(body)?))
            })?)
            .with_unknown_tagged_fields(take_tags(body)?))
    }

    fn encode_body<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<(), String> {
        if version <= CRATE_MAX {
            return self.encode(out, version).map_err(|error| error.to_string());
        }
        out.put_i32(self.throttle_time_ms);
        put_array(out, &self.topics, |out, topic| {
            put_uuid(out, topic.topic_id);
            put_array(out, &topic.partitions, to_crate)?;
            put_tags(out, &topic.unknown_tagged_fields)
        })?;
        put_tags(out, &self.unknown_tagged_fields)
    }
}

impl Body for OffsetFetchRequest {
    fn decode_body(body: &mut Bytes, version: i16) -> Result<Self, String> {
        if version <= CRATE_MAX {
            return Self::decode(body, version).map_err(|error| error.to_string());
        }
        Ok(OffsetFetchRequest::default()
            .with_groups(take_array(body, |body| {
                Ok(OffsetFetchRequestGroup::default()
                    .with_group_id(take_string(body)?.into())
                    .with_member_id(take_nullable_string(body)?)
                    .with_member_epoch(take_i32(body)?)
                    .with_topics(take_nullable_array(body, |body| {
                        Ok(OffsetFetchRequestTopics::default()
                            .with_topic_id(take_uuid(body)?)
                            .with_partition_indexes(take_array(body, take_i32)?)
                            .with_unknown_tagged_fields(take_tags(body)?))
                    })?)
                    .with_unknown_tagged_fields(take_tags(body)?))
            })?)
            .with_require_stable(take_bool(body)?)
            .with_unknown_tagged_fields(take_tags(body)?))
    }

    fn encode_body<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<(), String> {
        if version <= CRATE_MAX {
            return self.encode(out, version).map_err(|error| error.to_string());
        }
        put_array(out, &self.groups, |out, group| {
            put_string(out, &group.group_id)?;
            put_nullable_string(out, group.member_id.as_ref())?;
            out.put_i32(group.member_epoch);
            put_nullable_array(out, group.topics.as_ref(), |out, topic| {
                put_uuid(out, topic.topic_id);
                put_array(out, &topic.partition_indexes, |out, index| {
                    out.put_i32(*index);
                    Ok(())
                })?;
                put_tags(out, &topic.unknown_tagged_fields)
            })?;
            put_tags(out, &group.unknown_tagged_fields)
        })?;
        out.put_u8(u8::from(self.require_stable));
        put_tags(out, &self.unknown_tagged_fields)
    }
}

impl Body for OffsetFetchResponse {
    fn decode_body(body: &mut Bytes, version: i16) -> Result<Self, String> {
        if version <= CRATE_MAX {
            return Self::decode(body, version).map_err(|error| error.to_string());
        }
        Ok(OffsetFetchResponse::default()
            .with_throttle_time_ms(take_i32(body)?)
            .with_groups(take_array(body, |body| {
                Ok(OffsetFetchResponseGroup::default()
                    .with_group_id(take_string(body)?.into())
                    .with_topics(take_array(body, |body| {
                        Ok(OffsetFetchResponseTopics::default()
                            .with_topic_id(take_uuid(body)?)
                            .with_partitions(take_array(body, by_crate)?)
                            .with_unknown_tagged_fields(take_tags(body)?))
                    })?)
                    .with_error_code(take_i16(body)?)
                    .with_unknown_tagged_fields(take_tags(body)?))
            })?)
            .with_unknown_tagged_fields(take_tags(body)?))
    }

    fn encode_body<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<(), String> {
        if version <= CRATE_MAX {
            return self.encode(out, version).map_err(|error| error.to_string());
        }
        out.put_i32(self.throttle_time_ms);
        put_array(out, &self.groups, |out, group| {
            put_string(out, &group.group_id)?;
            put_array(out, &group.topics, |out, topic| {
                put_uuid(out, topic.topic_id);
                put_array(out, &topic.partitions, to_crate)?;
                put_tags(out, &topic.unknown_tagged_fields)
            })?;
            out.put_i16(group.error_code);
            put_tags(out, &group.unknown_tagged_fields)
        })?;
        put_tags(out, &self.unknown_tagged_fields)
    }
}

//! The records of `__consumer_offsets`, byte for byte Kafka's.
//!
//! Owns the mapping between `GroupRecord` and a record's key and value, those of the consumer protocol excepted
//! (`consumer::record`). Writes the versions that Kafka 4.4 writes and reads all that it reads. Does not own batches.
//! Invariant: `decode` of an encoded record gives the record back.
//!
//! ```text
//! key:    version i16 = 1 | group string | topic string | partition i32        an offset
//!         version i16 = 2 | group string                                       a group
//! value of an offset, version 3:  offset i64 | leader epoch i32 | metadata string | commit time i64
//!                     version 1:  offset i64 | metadata string | commit time i64 | expire time i64
//! value of a group, version 3:    protocol type string | generation i32 | protocol string? | leader string?
//!   | state time i64 | members i32 × { id string | instance id string? | client id string | client host string
//!   | rebalance timeout i32 | session timeout i32 | subscription bytes | assignment bytes }
//! ```
//! Values begin with their version as i16. No value: the offset or group is gone.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use model::{GroupId, PartitionIndex, TopicName};

use super::codec::{CodecError, Reader, put_bytes, put_nullable_string, put_string};
use super::consumer::ConsumerRecord;
use super::types::{CommittedOffset, InstanceId, MemberId};

/// A change of the replicated state of one group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupRecord {
    /// `None`: the offset is gone.
    Offset { group: GroupId, topic: TopicName, partition: PartitionIndex, value: Option<CommittedOffset> },
    /// `None`: the group is gone.
    Metadata { group: GroupId, value: Option<GroupMetadata> },
    /// Of a group of the consumer protocol.
    Consumer { group: GroupId, record: ConsumerRecord },
}

/// A generation of a group as its log keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupMetadata {
    /// "" where the group has none.
    pub protocol_type: String,
    pub generation: i32,
    pub protocol: Option<String>,
    pub leader: Option<MemberId>,
    /// When the group came into its state.
    pub state_timestamp_ms: Option<i64>,
    pub members: Vec<MemberMetadata>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberMetadata {
    pub member_id: MemberId,
    pub instance_id: Option<InstanceId>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the record has no key")]
    NoKey,
    #[error("key version {version} is not of a group that is known")]
    OtherKey { version: i16 },
    #[error("value version {version} is newer than {newest}")]
    ValueVersion { version: i16, newest: i16 },
    #[error("the key is broken: {0}")]
    Key(CodecError),
    #[error("the value is broken: {0}")]
    Value(CodecError),
    #[error("the key names a topic that cannot exist")]
    Topic,
    #[error("the key names partition {0}")]
    Partition(i32),
    #[error("a member has no name")]
    Member,
}

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const OFFSET_VALUE_NEWEST: i16 = 4;
const GROUP_VALUE_NEWEST: i16 = 4;
/// The highest version that is not flexible, as Kafka 4.4 writes.
const VALUE_WRITTEN: i16 = 3;
/// The only version that has an expire time.
const OFFSET_VALUE_EXPIRING: i16 = 1;
const FLEXIBLE_FROM: i16 = 4;

impl GroupRecord {
    pub fn group(&self) -> &GroupId {
        match self {
            GroupRecord::Offset { group, .. }
            | GroupRecord::Metadata { group, .. }
            | GroupRecord::Consumer { group, .. } => group,
        }
    }

    pub fn key(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            GroupRecord::Offset { group, topic, partition, .. } => {
                out.put_i16(OFFSET_KEY);
                put_string(&mut out, group.as_str());
                put_string(&mut out, topic.as_str());
                out.put_i32(partition.to_wire());
            }
            GroupRecord::Metadata { group, .. } => {
                out.put_i16(GROUP_KEY);
                put_string(&mut out, group.as_str());
            }
            GroupRecord::Consumer { group, record } => record.put_key(group, &mut out),
        }
        out.freeze()
    }

    /// `None` is a tombstone.
    pub fn value(&self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        match self {
            GroupRecord::Offset { value, .. } => put_offset(&mut out, value.as_ref()?),
            GroupRecord::Metadata { value, .. } => put_metadata(&mut out, value.as_ref()?),
            GroupRecord::Consumer { record, .. } => return record.value(),
        }
        Some(out.freeze())
    }

    /// Reads a record of the log. `OtherKey` is no damage: the log is shared with groups of other protocols.
    pub fn decode(key: Option<Bytes>, value: Option<Bytes>) -> Result<GroupRecord, RecordError> {
        let mut reader = Reader::new(key.ok_or(RecordError::NoKey)?);
        let version = reader.i16().map_err(RecordError::Key)?;
        match version {
            0 | OFFSET_KEY => {
                let (group, topic, partition) = offset_key(reader).map_err(RecordError::Key)?;
                let topic = TopicName::new(&topic).map_err(|_| RecordError::Topic)?;
                let partition = PartitionIndex::from_wire(partition).ok_or(RecordError::Partition(partition))?;
                let value = value.map(offset_value).transpose()?;
                Ok(GroupRecord::Offset { group, topic, partition, value })
            }
            GROUP_KEY => {
                let group = group_key(reader).map_err(RecordError::Key)?;
                Ok(GroupRecord::Metadata { group, value: value.map(metadata_value).transpose()? })
            }
            _ => match ConsumerRecord::decode(version, reader, value) {
                Some(decoded) => decoded.map(|(group, record)| GroupRecord::Consumer { group, record }),
                None => Err(RecordError::OtherKey { version }),
            },
        }
    }
}

fn offset_key(mut reader: Reader) -> Result<(GroupId, String, i32), CodecError> {
    let group = GroupId::new(&reader.string()?);
    let topic = reader.string()?;
    let partition = reader.i32()?;
    reader.end()?;
    Ok((group, topic, partition))
}

fn group_key(mut reader: Reader) -> Result<GroupId, CodecError> {
    let group = GroupId::new(&reader.string()?);
    reader.end()?;
    Ok(group)
}

fn value_version(reader: &mut Reader, newest: i16) -> Result<i16, RecordError> {
    let version = reader.i16().map_err(RecordError::Value)?;
    if !(0..=newest).contains(&version) {
        return Err(RecordError::ValueVersion { version, newest });
    }
    reader.set_flexible(version >= FLEXIBLE_FROM);
    Ok(version)
}

fn put_offset(out: &mut BytesMut, value: &CommittedOffset) {
    let version = if value.expire_timestamp_ms.is_some() { OFFSET_VALUE_EXPIRING } else { VALUE_WRITTEN };
    out.put_i16(version);
    out.put_i64(value.offset);
    if version == VALUE_WRITTEN {
        out.put_i32(value.leader_epoch.unwrap_or(-1));
    }
    put_string(out, &value.metadata);
    out.put_i64(value.commit_timestamp_ms);
    if let Some(expire) = value.expire_timestamp_ms {
        out.put_i64(expire);
    }
}

fn offset_value(bytes: Bytes) -> Result<CommittedOffset, RecordError> {
    let mut reader = Reader::new(bytes);
    let version = value_version(&mut reader, OFFSET_VALUE_NEWEST)?;
    let read = |mut reader: Reader| {
        let offset = reader.i64()?;
        let epoch = if version >= 3 { reader.i32()? } else { -1 };
        let metadata: Arc<str> = reader.string()?.into();
        let commit_timestamp_ms = reader.i64()?;
        let expire = if version == OFFSET_VALUE_EXPIRING { reader.i64()? } else { -1 };
        reader.skip_tags()?;
        reader.end()?;
        Ok(CommittedOffset {
            offset,
            leader_epoch: (epoch >= 0).then_some(epoch),
            metadata,
            commit_timestamp_ms,
            expire_timestamp_ms: (expire != -1).then_some(expire),
        })
    };
    read(reader).map_err(RecordError::Value)
}

fn put_metadata(out: &mut BytesMut, value: &GroupMetadata) {
    out.put_i16(VALUE_WRITTEN);
    put_string(out, &value.protocol_type);
    out.put_i32(value.generation);
    put_nullable_string(out, value.protocol.as_deref());
    put_nullable_string(out, value.leader.as_ref().map(MemberId::as_str));
    out.put_i64(value.state_timestamp_ms.unwrap_or(-1));
    out.put_i32(i32::try_from(value.members.len()).expect("the members of a group are bounded"));
    for member in &value.members {
        put_string(out, member.member_id.as_str());
        put_nullable_string(out, member.instance_id.as_ref().map(InstanceId::as_str));
        put_string(out, &member.client_id);
        put_string(out, &member.client_host);
        out.put_i32(member.rebalance_timeout_ms);
        out.put_i32(member.session_timeout_ms);
        put_bytes(out, &member.subscription);
        put_bytes(out, &member.assignment);
    }
}

fn metadata_value(bytes: Bytes) -> Result<GroupMetadata, RecordError> {
    let mut reader = Reader::new(bytes);
    let version = value_version(&mut reader, GROUP_VALUE_NEWEST)?;
    let mut read = || {
        let protocol_type = reader.string()?;
        let generation = reader.i32()?;
        let protocol = reader.nullable_string()?;
        let leader = reader.nullable_string()?;
        let state_time = if version >= 2 { reader.i64()? } else { -1 };
        let count = reader.count()?;
        let members = (0..count).map(|_| member(&mut reader, version)).collect::<Result<Vec<_>, _>>()?;
        reader.skip_tags()?;
        Ok((protocol_type, generation, protocol, leader, state_time, members))
    };
    let (protocol_type, generation, protocol, leader, state_time, members) = read().map_err(RecordError::Value)?;
    reader.end().map_err(RecordError::Value)?;
    Ok(GroupMetadata {
        protocol_type,
        generation,
        protocol,
        leader: leader.and_then(|leader| MemberId::from_wire(&leader)),
        state_timestamp_ms: (state_time != -1).then_some(state_time),
        members: members.into_iter().collect::<Option<Vec<_>>>().ok_or(RecordError::Member)?,
    })
}

/// `None`: a member without a name, which nothing could address.
fn member(reader: &mut Reader, version: i16) -> Result<Option<MemberMetadata>, CodecError> {
    let member_id = reader.string()?;
    let instance_id = if version >= 3 { reader.nullable_string()? } else { None };
    let client_id = reader.string()?;
    let client_host = reader.string()?;
    let rebalance_timeout_ms = if version >= 1 { reader.i32()? } else { -1 };
    let session_timeout_ms = reader.i32()?;
    let subscription = reader.bytes()?;
    let assignment = reader.bytes()?;
    reader.skip_tags()?;
    Ok(MemberId::from_wire(&member_id).map(|member_id| MemberMetadata {
        member_id,
        instance_id: instance_id.as_deref().map(InstanceId::new),
        client_id,
        client_host,
        rebalance_timeout_ms,
        session_timeout_ms,
        subscription,
        assignment,
    }))
}

//! The records of groups of the consumer protocol, byte for byte Kafka 4.4's.
//!
//! Owns the mapping between `ConsumerRecord` and a record's key and value. All values are flexible and of version 0.
//! Invariant: `decode` of an encoded record gives the record back.
//!
//! ```text
//! key:    version i16 | group string | …                   value: version i16 = 0 | … | tagged fields
//!   3                                                        epoch i32 | tag 0: metadata hash i64
//!   5   member string                                        instance? | rack? | client id | client host | topics [string] | pattern?
//!                                                            | rebalance timeout i32 | assignor? | tag 0: classic member
//!   6                                                        epoch i32 | tag 0: time i64
//!   7   member string                                        [topic id 16 bytes | partitions [i32]]
//!   8   member string                                        epoch i32 | previous i32 | state i8 | assigned | to revoke, each
//!                                                            [topic id | partitions [i32] | tag 0: epochs [i32]?]
//!   16  pattern string                                       topics [string] | version i64 | time i64
//! classic member: present i8 = 1 | session timeout i32 | [name string | metadata bytes]
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use model::{GroupId, PartitionIndex, TopicId};

use super::super::codec::{
    CodecError, Reader, put_compact_bytes, put_compact_count, put_compact_string, put_nullable_compact_string,
    put_string, put_tag, put_unsigned_varint,
};
use super::super::record::RecordError;
use super::super::types::{InstanceId, MemberId, Protocol};
use super::state::{
    ClassicInfo, ConsumerRecord, Current, GroupEpoch, MemberInfo, MemberState, Owned, Partitions, Resolved, TargetEpoch,
};

const EPOCH: i16 = 3;
const MEMBER: i16 = 5;
const TARGET_EPOCH: i16 = 6;
const TARGET: i16 = 7;
const CURRENT: i16 = 8;
const PATTERN: i16 = 16;
/// Of all values.
const VALUE_VERSION: i16 = 0;

impl ConsumerRecord {
    pub(in super::super) fn put_key(&self, group: &GroupId, out: &mut BytesMut) {
        let (version, name) = match self {
            ConsumerRecord::Epoch(_) => (EPOCH, None),
            ConsumerRecord::Member { member, .. } => (MEMBER, Some(member.as_str())),
            ConsumerRecord::TargetEpoch(_) => (TARGET_EPOCH, None),
            ConsumerRecord::Target { member, .. } => (TARGET, Some(member.as_str())),
            ConsumerRecord::Current { member, .. } => (CURRENT, Some(member.as_str())),
            ConsumerRecord::Pattern { pattern, .. } => (PATTERN, Some(pattern.as_str())),
        };
        out.put_i16(version);
        put_string(out, group.as_str());
        if let Some(name) = name {
            put_string(out, name);
        }
    }

    /// `None` is a tombstone.
    pub(in super::super) fn value(&self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        out.put_i16(VALUE_VERSION);
        match self {
            ConsumerRecord::Epoch(value) => {
                let GroupEpoch { epoch, metadata_hash } = value.as_ref()?;
                out.put_i32(*epoch);
                put_i64_tag(&mut out, *metadata_hash);
            }
            ConsumerRecord::Member { value, .. } => put_member(&mut out, value.as_ref()?),
            ConsumerRecord::TargetEpoch(value) => {
                let TargetEpoch { epoch, timestamp_ms } = value.as_ref()?;
                out.put_i32(*epoch);
                put_i64_tag(&mut out, *timestamp_ms);
            }
            ConsumerRecord::Target { value, .. } => {
                put_partitions(&mut out, value.as_ref()?);
                put_no_tags(&mut out);
            }
            ConsumerRecord::Current { value, .. } => put_current(&mut out, value.as_ref()?),
            ConsumerRecord::Pattern { value, .. } => {
                let Resolved { topics, version, timestamp_ms } = value.as_ref()?;
                put_strings(&mut out, topics);
                out.put_i64(*version);
                out.put_i64(*timestamp_ms);
                put_no_tags(&mut out);
            }
        }
        Some(out.freeze())
    }

    /// The rest of a key whose version was read. `None`: no version of ours.
    pub(in super::super) fn decode(
        version: i16,
        mut key: Reader,
        value: Option<Bytes>,
    ) -> Option<Result<(GroupId, ConsumerRecord), RecordError>> {
        matches!(version, EPOCH | MEMBER | TARGET_EPOCH | TARGET | CURRENT | PATTERN).then(|| {
            let mut names = || {
                let group = GroupId::new(&key.string()?);
                let name = if matches!(version, EPOCH | TARGET_EPOCH) { String::new() } else { key.string()? };
                Ok((group, name))
            };
            let (group, name) = names().map_err(RecordError::Key)?;
            key.end().map_err(RecordError::Key)?;
            Ok((group, decode_value(version, &name, value)?))
        })
    }
}

fn decode_value(version: i16, name: &str, value: Option<Bytes>) -> Result<ConsumerRecord, RecordError> {
    let member = || MemberId::from_wire(name).ok_or(RecordError::Member);
    Ok(match version {
        EPOCH => ConsumerRecord::Epoch(read(value, epoch)?),
        MEMBER => ConsumerRecord::Member { member: member()?, value: read(value, member_info)? },
        TARGET_EPOCH => ConsumerRecord::TargetEpoch(read(value, target_epoch)?),
        TARGET => ConsumerRecord::Target { member: member()?, value: read(value, target)? },
        CURRENT => ConsumerRecord::Current { member: member()?, value: read(value, current)? },
        _ => ConsumerRecord::Pattern { pattern: name.to_owned(), value: read(value, resolved)? },
    })
}

fn read<T>(value: Option<Bytes>, read: fn(&mut Reader) -> Result<T, CodecError>) -> Result<Option<T>, RecordError> {
    let Some(value) = value else { return Ok(None) };
    let mut reader = Reader::new(value);
    let version = reader.i16().map_err(RecordError::Value)?;
    if version != VALUE_VERSION {
        return Err(RecordError::ValueVersion { version, newest: VALUE_VERSION });
    }
    reader.set_flexible(true);
    let value = read(&mut reader).map_err(RecordError::Value)?;
    reader.end().map_err(RecordError::Value)?;
    Ok(Some(value))
}

fn put_no_tags(out: &mut BytesMut) {
    put_unsigned_varint(out, 0);
}

/// Tag 0 with a number, unless that is 0, the default.
fn put_i64_tag(out: &mut BytesMut, number: i64) {
    put_unsigned_varint(out, u32::from(number != 0));
    if number != 0 {
        put_tag(out, 0, &number.to_be_bytes());
    }
}

fn i64_tag(reader: &mut Reader) -> Result<i64, CodecError> {
    let mut number = 0;
    for (tag, value) in reader.tags()? {
        if tag == 0 {
            number = Reader::new(value).i64()?;
        }
    }
    Ok(number)
}

fn epoch(reader: &mut Reader) -> Result<GroupEpoch, CodecError> {
    Ok(GroupEpoch { epoch: reader.i32()?, metadata_hash: i64_tag(reader)? })
}

fn target_epoch(reader: &mut Reader) -> Result<TargetEpoch, CodecError> {
    Ok(TargetEpoch { epoch: reader.i32()?, timestamp_ms: i64_tag(reader)? })
}

fn put_strings(out: &mut BytesMut, strings: &BTreeSet<String>) {
    put_compact_count(out, strings.len());
    strings.iter().for_each(|string| put_compact_string(out, string));
}

fn strings(reader: &mut Reader) -> Result<BTreeSet<String>, CodecError> {
    (0..reader.count()?).map(|_| reader.string()).collect()
}

fn put_member(out: &mut BytesMut, info: &MemberInfo) {
    put_nullable_compact_string(out, info.instance_id.as_ref().map(InstanceId::as_str));
    put_nullable_compact_string(out, info.rack.as_deref());
    put_compact_string(out, &info.client_id);
    put_compact_string(out, &info.client_host);
    put_strings(out, &info.topics);
    put_nullable_compact_string(out, info.pattern.as_deref());
    out.put_i32(info.rebalance_timeout_ms);
    put_nullable_compact_string(out, info.assignor.as_deref());
    put_unsigned_varint(out, u32::from(info.classic.is_some()));
    if let Some(classic) = &info.classic {
        let mut tagged = BytesMut::new();
        tagged.put_i8(1);
        tagged.put_i32(classic.session_timeout_ms);
        put_compact_count(&mut tagged, classic.protocols.len());
        for protocol in &classic.protocols {
            put_compact_string(&mut tagged, &protocol.name);
            put_compact_bytes(&mut tagged, &protocol.metadata);
            put_no_tags(&mut tagged);
        }
        put_no_tags(&mut tagged);
        put_tag(out, 0, &tagged);
    }
}

fn member_info(reader: &mut Reader) -> Result<MemberInfo, CodecError> {
    let mut info = MemberInfo {
        instance_id: reader.nullable_string()?.as_deref().map(InstanceId::new),
        rack: reader.nullable_string()?,
        client_id: reader.string()?,
        client_host: reader.string()?,
        topics: strings(reader)?,
        pattern: reader.nullable_string()?.filter(|pattern| !pattern.is_empty()),
        rebalance_timeout_ms: reader.i32()?,
        assignor: reader.nullable_string()?,
        classic: None,
    };
    for (tag, value) in reader.tags()? {
        if tag == 0 {
            info.classic = classic(Reader::new(value))?;
        }
    }
    Ok(info)
}

fn classic(mut reader: Reader) -> Result<Option<ClassicInfo>, CodecError> {
    reader.set_flexible(true);
    if reader.i8()? < 0 {
        return Ok(None);
    }
    let session_timeout_ms = reader.i32()?;
    let mut protocols = Vec::new();
    for _ in 0..reader.count()? {
        let (name, metadata) = (reader.string()?, reader.bytes()?);
        reader.skip_tags()?;
        protocols.push(Protocol { name, metadata });
    }
    reader.skip_tags()?;
    reader.end()?;
    Ok(Some(ClassicInfo { session_timeout_ms, protocols }))
}

fn put_partitions(out: &mut BytesMut, partitions: &Partitions) {
    put_compact_count(out, partitions.len());
    for (topic, partitions) in partitions {
        out.put_slice(&topic.0);
        put_compact_count(out, partitions.len());
        partitions.iter().for_each(|partition| out.put_i32(partition.to_wire()));
        put_no_tags(out);
    }
}

fn index(raw: i32) -> Result<PartitionIndex, CodecError> {
    PartitionIndex::from_wire(raw).ok_or(CodecError::Length { length: raw.into() })
}

fn indices(reader: &mut Reader) -> Result<Vec<PartitionIndex>, CodecError> {
    (0..reader.count()?).map(|_| index(reader.i32()?)).collect()
}

fn target(reader: &mut Reader) -> Result<Partitions, CodecError> {
    let mut partitions = Partitions::new();
    for _ in 0..reader.count()? {
        let topic = TopicId(reader.array()?);
        partitions.insert(topic, indices(reader)?.into_iter().collect());
        reader.skip_tags()?;
    }
    reader.skip_tags()?;
    Ok(partitions)
}

fn put_current(out: &mut BytesMut, current: &Current) {
    out.put_i32(current.epoch);
    out.put_i32(current.previous_epoch);
    out.put_i8(match current.state {
        MemberState::Stable => 0,
        MemberState::Unrevoked => 1,
        MemberState::Unreleased => 2,
        MemberState::Unknown => 127,
    });
    put_owned(out, &current.assigned);
    put_owned(out, &current.revoking);
    put_no_tags(out);
}

fn put_owned(out: &mut BytesMut, owned: &Owned) {
    put_compact_count(out, owned.len());
    for (topic, partitions) in owned {
        out.put_slice(&topic.0);
        put_compact_count(out, partitions.len());
        partitions.keys().for_each(|partition| out.put_i32(partition.to_wire()));
        let mut epochs = BytesMut::new();
        put_compact_count(&mut epochs, partitions.len());
        partitions.values().for_each(|epoch| epochs.put_i32(*epoch));
        put_unsigned_varint(out, 1);
        put_tag(out, 0, &epochs);
    }
}

fn current(reader: &mut Reader) -> Result<Current, CodecError> {
    let (epoch, previous_epoch) = (reader.i32()?, reader.i32()?);
    let state = match reader.i8()? {
        0 => MemberState::Stable,
        1 => MemberState::Unrevoked,
        2 => MemberState::Unreleased,
        _ => MemberState::Unknown,
    };
    let (assigned, revoking) = (owned(reader, epoch)?, owned(reader, epoch)?);
    reader.skip_tags()?;
    Ok(Current { epoch, previous_epoch, state, assigned, revoking })
}

/// Without epochs, as Kafka before 4.3 wrote it, each partition was assigned in the member's epoch.
fn owned(reader: &mut Reader, member_epoch: i32) -> Result<Owned, CodecError> {
    let mut owned = Owned::new();
    for _ in 0..reader.count()? {
        let topic = TopicId(reader.array()?);
        let partitions = indices(reader)?;
        let mut epochs = vec![member_epoch; partitions.len()];
        for (tag, value) in reader.tags()? {
            if tag == 0 {
                let mut value = Reader::new(value);
                value.set_flexible(true);
                let read = (0..value.count()?).map(|_| value.i32()).collect::<Result<Vec<_>, _>>()?;
                if read.len() == partitions.len() {
                    epochs = read;
                }
            }
        }
        owned.insert(topic, partitions.into_iter().zip(epochs).collect::<BTreeMap<_, _>>());
    }
    Ok(owned)
}

fn resolved(reader: &mut Reader) -> Result<Resolved, CodecError> {
    let resolved = Resolved { topics: strings(reader)?, version: reader.i64()?, timestamp_ms: reader.i64()? };
    reader.skip_tags()?;
    Ok(resolved)
}

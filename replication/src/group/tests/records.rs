//! Records as bytes: samples of each version, round trips, and bytes that are no record.

use bytes::Bytes;
use model::{GroupId, PartitionIndex};

use super::bed::topic;
use crate::group::*;

pub(super) fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ascii"), 16).expect("hex");
    digits.chunks(2).map(byte).collect::<Vec<u8>>().into()
}

const OFFSET_KEY: &str = "0001 0001 67 0001 74 00000002";
const GROUP_KEY: &str = "0002 0001 67";

fn offset(leader_epoch: Option<i32>, expire_timestamp_ms: Option<i64>) -> GroupRecord {
    let value = CommittedOffset {
        offset: 5,
        leader_epoch,
        metadata: "m".into(),
        commit_timestamp_ms: 0x0102_0304_0506,
        expire_timestamp_ms,
    };
    let (group, topic) = (GroupId::new("g"), topic("t"));
    GroupRecord::Offset { group, topic, partition: PartitionIndex::new(2), value: Some(value) }
}

fn generation(instance: Option<&str>, rebalance_timeout_ms: i32, state_timestamp_ms: Option<i64>) -> GroupRecord {
    let member = MemberMetadata {
        member_id: MemberId::from_wire("a").expect("a name"),
        instance_id: instance.map(InstanceId::new),
        client_id: "c".to_owned(),
        client_host: "/h".to_owned(),
        rebalance_timeout_ms,
        session_timeout_ms: 10_000,
        subscription: Bytes::from_static(&[0xaa, 0xbb]),
        assignment: Bytes::from_static(&[0xcc]),
    };
    let value = GroupMetadata {
        protocol_type: "consumer".to_owned(),
        generation: 7,
        protocol: Some("range".to_owned()),
        leader: MemberId::from_wire("a"),
        state_timestamp_ms,
        members: vec![member],
    };
    GroupRecord::Metadata { group: GroupId::new("g"), value: Some(value) }
}

#[test]
fn offsets_of_each_version_are_read() {
    let samples = [
        ("0000 0000000000000005 0001 6d 0000010203040506", offset(None, None)),
        ("0001 0000000000000005 0001 6d 0000010203040506 0000010203040507", offset(None, Some(0x0102_0304_0507))),
        ("0001 0000000000000005 0001 6d 0000010203040506 ffffffffffffffff", offset(None, None)),
        ("0002 0000000000000005 0001 6d 0000010203040506", offset(None, None)),
        ("0003 0000000000000005 00000003 0001 6d 0000010203040506", offset(Some(3), None)),
        ("0004 0000000000000005 00000003 02 6d 0000010203040506 00", offset(Some(3), None)),
        // A tagged field of a later Kafka (tag 0, 2 bytes) is passed over.
        ("0004 0000000000000005 ffffffff 02 6d 0000010203040506 01 00 02 1234", offset(None, None)),
    ];
    for (bytes, expected) in samples {
        assert_eq!(GroupRecord::decode(Some(hex(OFFSET_KEY)), Some(hex(bytes))), Ok(expected), "{bytes}");
    }
    let old_key = hex("0000 0001 67 0001 74 00000002");
    let value = hex("0003 0000000000000005 00000003 0001 6d 0000010203040506");
    assert_eq!(GroupRecord::decode(Some(old_key), Some(value)), Ok(offset(Some(3), None)));
}

#[test]
fn offsets_are_written_in_version_3_or_in_version_1_where_they_have_their_own_retention() {
    let written = offset(Some(3), None);
    assert_eq!(written.key(), hex(OFFSET_KEY));
    assert_eq!(written.value(), Some(hex("0003 0000000000000005 00000003 0001 6d 0000010203040506")));
    let expiring = offset(None, Some(0x0102_0304_0507));
    assert_eq!(expiring.value(), Some(hex("0001 0000000000000005 0001 6d 0000010203040506 0000010203040507")));
}

const GENERATION_3: &str = "0003 0008 636f6e73756d6572 00000007 0005 72616e6765 0001 61 0000010203040506 00000001
    0001 61 0001 73 0001 63 0002 2f68 00007530 00002710 00000002 aabb 00000001 cc";

#[test]
fn generations_of_each_version_are_read() {
    let samples = [
        (
            "0000 0008 636f6e73756d6572 00000007 0005 72616e6765 0001 61 00000001
          0001 61 0001 63 0002 2f68 00002710 00000002 aabb 00000001 cc",
            generation(None, -1, None),
        ),
        (
            "0001 0008 636f6e73756d6572 00000007 0005 72616e6765 0001 61 00000001
          0001 61 0001 63 0002 2f68 00007530 00002710 00000002 aabb 00000001 cc",
            generation(None, 30_000, None),
        ),
        (
            "0002 0008 636f6e73756d6572 00000007 0005 72616e6765 0001 61 0000010203040506 00000001
          0001 61 0001 63 0002 2f68 00007530 00002710 00000002 aabb 00000001 cc",
            generation(None, 30_000, Some(0x0102_0304_0506)),
        ),
        (GENERATION_3, generation(Some("s"), 30_000, Some(0x0102_0304_0506))),
        (
            "0004 09 636f6e73756d6572 00000007 06 72616e6765 02 61 0000010203040506 02
          02 61 02 73 02 63 03 2f68 00007530 00002710 03 aabb 02 cc 00 00",
            generation(Some("s"), 30_000, Some(0x0102_0304_0506)),
        ),
    ];
    for (bytes, expected) in samples {
        assert_eq!(GroupRecord::decode(Some(hex(GROUP_KEY)), Some(hex(bytes))), Ok(expected), "{bytes}");
    }
}

#[test]
fn generations_are_written_in_version_3() {
    let written = generation(Some("s"), 30_000, Some(0x0102_0304_0506));
    assert_eq!(written.key(), hex(GROUP_KEY));
    assert_eq!(written.value(), Some(hex(GENERATION_3)));
}

#[test]
fn an_empty_generation_has_nulls_for_protocol_and_leader() {
    let value = GroupMetadata {
        protocol_type: "consumer".to_owned(),
        generation: 8,
        protocol: None,
        leader: None,
        state_timestamp_ms: None,
        members: Vec::new(),
    };
    let written = GroupRecord::Metadata { group: GroupId::new("g"), value: Some(value) };
    let bytes = hex("0003 0008 636f6e73756d6572 00000008 ffff ffff ffffffffffffffff 00000000");
    assert_eq!(written.value(), Some(bytes.clone()));
    assert_eq!(GroupRecord::decode(Some(written.key()), Some(bytes)), Ok(written));
}

#[test]
fn tombstones_have_no_value() {
    for written in [
        GroupRecord::Metadata { group: GroupId::new("g"), value: None },
        GroupRecord::Offset {
            group: GroupId::new(""),
            topic: topic("t"),
            partition: PartitionIndex::new(0),
            value: None,
        },
    ] {
        assert_eq!(written.value(), None);
        assert_eq!(GroupRecord::decode(Some(written.key()), None), Ok(written));
    }
}

#[test]
fn records_of_other_protocols_are_told_from_damage() {
    let other = GroupRecord::decode(Some(hex("0009 0001 67")), None);
    assert_eq!(other, Err(RecordError::OtherKey { version: 9 }));
    assert_eq!(GroupRecord::decode(None, None), Err(RecordError::NoKey));
    let newer = GroupRecord::decode(Some(hex(GROUP_KEY)), Some(hex("0005")));
    assert_eq!(newer, Err(RecordError::ValueVersion { version: 5, newest: 4 }));
    let nowhere = GroupRecord::decode(Some(hex("0001 0001 67 0001 2f 00000002")), None);
    assert_eq!(nowhere, Err(RecordError::Topic));
    let negative = GroupRecord::decode(Some(hex("0001 0001 67 0001 74 ffffffff")), None);
    assert_eq!(negative, Err(RecordError::Partition(-1)));
}

#[test]
fn no_cut_or_flipped_record_does_harm() {
    let samples = [
        (OFFSET_KEY, "0003 0000000000000005 00000003 0001 6d 0000010203040506"),
        (GROUP_KEY, GENERATION_3),
        (
            GROUP_KEY,
            "0004 09 636f6e73756d6572 00000007 06 72616e6765 02 61 0000010203040506 02
          02 61 02 73 02 63 03 2f68 00007530 00002710 03 aabb 02 cc 00 00",
        ),
    ];
    for (key, value) in samples {
        let (key, value) = (hex(key), hex(value));
        for end in 0..value.len() {
            let cut = GroupRecord::decode(Some(key.clone()), Some(value.slice(..end)));
            assert!(cut.is_err(), "cut at {end}");
        }
        for at in 0..value.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = value.to_vec();
                bytes[at] ^= flip;
                // Any result will do as long as there is one; what is read must also be writable.
                if let Ok(record) = GroupRecord::decode(Some(key.clone()), Some(bytes.into())) {
                    assert!(record.value().is_some());
                    let mut shard = Shard::new(GroupConfig::default(), 1);
                    shard.apply(&record);
                    shard.loaded(model::Now::default());
                    assert_eq!(shard.snapshot(), vec![record]);
                }
            }
        }
    }
}

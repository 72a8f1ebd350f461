//! Records of groups of the consumer protocol, against bytes that Kafka 4.4's own classes wrote.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use model::{GroupId, PartitionIndex, TopicId};

use super::records::hex;
use crate::group::*;

/// Both ways: what Kafka wrote is read as `record`, and `record` is written as Kafka writes it.
fn check(key: &str, value: &str, record: ConsumerRecord) {
    let record = GroupRecord::Consumer { group: GroupId::new("g"), record };
    assert_eq!(GroupRecord::decode(Some(hex(key)), Some(hex(value))), Ok(record.clone()));
    assert_eq!((record.key(), record.value()), (hex(key), Some(hex(value))));
}

fn member() -> MemberId {
    MemberId::from_wire("m").expect("a name")
}

fn topic() -> TopicId {
    let mut id = [0; 16];
    (id[0], id[15]) = (0x74, 1);
    TopicId(id)
}

fn owned(epochs: &[(u32, i32)]) -> Owned {
    BTreeMap::from([(topic(), epochs.iter().map(|(at, epoch)| (PartitionIndex::new(*at), *epoch)).collect())])
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn epochs_are_kafkas_bytes() {
    let epoch = GroupEpoch { epoch: 7, metadata_hash: -2 };
    check("0003 0001 67", "0000 00000007 01 00 08 fffffffffffffffe", ConsumerRecord::Epoch(Some(epoch)));
    let without = GroupEpoch { epoch: 7, metadata_hash: 0 };
    check("0003 0001 67", "0000 00000007 00", ConsumerRecord::Epoch(Some(without)));
    let target = TargetEpoch { epoch: 7, timestamp_ms: 5 };
    check("0006 0001 67", "0000 00000007 01 00 08 0000000000000005", ConsumerRecord::TargetEpoch(Some(target)));
}

#[test]
fn members_are_kafkas_bytes() {
    let key = "0005 0001 67 0001 6d";
    let mut info = MemberInfo {
        instance_id: Some(InstanceId::new("i")),
        client_id: "c".to_owned(),
        client_host: "/h".to_owned(),
        topics: names(&["t", "u"]),
        pattern: Some("a.*".to_owned()),
        rebalance_timeout_ms: 300,
        assignor: Some("range".to_owned()),
        ..MemberInfo::default()
    };
    let plain = "0000 02 69 00 02 63 03 2f68 03 02 74 02 75 04 612e2a 0000012c 06 72616e6765 00";
    check(key, plain, ConsumerRecord::Member { member: member(), value: Some(info.clone()) });
    let protocols = vec![Protocol { name: "range".to_owned(), metadata: Bytes::from_static(&[1, 2]) }];
    info.classic = Some(ClassicInfo { session_timeout_ms: 9, protocols });
    (info.instance_id, info.rack, info.pattern, info.assignor) = (None, Some("r".to_owned()), None, None);
    info.topics = names(&["t"]);
    let classic = "01 00 11 01 00000009 02 06 72616e6765 03 0102 00 00";
    let written = format!("0000 00 02 72 02 63 03 2f68 02 02 74 00 0000012c 00 {classic}");
    check(key, &written, ConsumerRecord::Member { member: member(), value: Some(info.clone()) });
    // Kafka's own default for the pattern is the empty text: none as well.
    let empty = hex(&written.replace(" 00 0000012c", " 01 0000012c"));
    let read = GroupRecord::decode(Some(hex(key)), Some(empty)).expect("it is well-formed");
    let record = ConsumerRecord::Member { member: member(), value: Some(info) };
    assert_eq!(read, GroupRecord::Consumer { group: GroupId::new("g"), record });
}

const TOPIC: &str = "74000000000000000000000000000001";

#[test]
fn assignments_are_kafkas_bytes() {
    let target = Partitions::from([(topic(), [0, 2].map(PartitionIndex::new).into())]);
    let value = format!("0000 02 {TOPIC} 03 00000000 00000002 00 00");
    check("0007 0001 67 0001 6d", &value, ConsumerRecord::Target { member: member(), value: Some(target) });
    let current = Current {
        epoch: 7,
        previous_epoch: 6,
        state: MemberState::Unrevoked,
        assigned: owned(&[(0, 5), (2, 7)]),
        revoking: owned(&[(3, 4)]),
    };
    let assigned = format!("02 {TOPIC} 03 00000000 00000002 01 00 09 03 00000005 00000007");
    let revoking = format!("02 {TOPIC} 02 00000003 01 00 05 02 00000004");
    let value = format!("0000 00000007 00000006 01 {assigned} {revoking} 00");
    check("0008 0001 67 0001 6d", &value, ConsumerRecord::Current { member: member(), value: Some(current) });
}

#[test]
fn an_assignment_without_epochs_is_of_the_members_epoch() {
    let value = format!("0000 00000007 00000006 02 02 {TOPIC} 02 00000000 00 01 00");
    let read = GroupRecord::decode(Some(hex("0008 0001 67 0001 6d")), Some(hex(&value)));
    let (state, assigned) = (MemberState::Unreleased, owned(&[(0, 7)]));
    let current = Current { epoch: 7, previous_epoch: 6, state, assigned, revoking: Owned::new() };
    let record = ConsumerRecord::Current { member: member(), value: Some(current) };
    assert_eq!(read, Ok(GroupRecord::Consumer { group: GroupId::new("g"), record }));
}

#[test]
fn patterns_are_kafkas_bytes() {
    let resolved = Resolved { topics: names(&["t", "u"]), version: 3, timestamp_ms: 9 };
    let record = ConsumerRecord::Pattern { pattern: "a.*".to_owned(), value: Some(resolved) };
    check("0010 0001 67 0003 612e2a", "0000 03 0274 0275 0000000000000003 0000000000000009 00", record);
}

#[test]
fn no_cut_or_flipped_record_of_a_consumer_group_does_harm() {
    let samples = [
        (
            "0005 0001 67 0001 6d",
            "0000 00 02 72 02 63 03 2f68 02 02 74 00 0000012c 00 01 00 11 01 00000009 02 06 72616e6765 03 0102 00 00"
                .to_owned(),
        ),
        (
            "0008 0001 67 0001 6d",
            format!("0000 00000007 00000006 01 02 {TOPIC} 02 00000003 01 00 05 02 00000004 01 00"),
        ),
    ];
    for (key, value) in samples {
        let value = hex(&value);
        for length in 0..value.len() {
            assert!(GroupRecord::decode(Some(hex(key)), Some(value.slice(..length))).is_err(), "{length}");
            for bit in 0..8 {
                let mut flipped = value.to_vec();
                flipped[length] ^= 1 << bit;
                // Read or refused, but never a panic nor a large allocation.
                drop(GroupRecord::decode(Some(hex(key)), Some(flipped.into())));
            }
        }
    }
}

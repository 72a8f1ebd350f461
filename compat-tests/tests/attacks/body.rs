//! Attacks 19 to 23: counts and lengths in bodies of every API that has any.

use anyhow::{Context, Result};
use compat_tests::raw::{Writer, key, request};

use crate::target::Target;

/// What stands before the first array of each API: (name, key, version, bytes). The version tells whether the count
/// is compact.
fn arrays() -> Vec<(&'static str, i16, i16, Writer)> {
    let new = Writer::new;
    vec![
        ("Produce topics", key::PRODUCE, 3, new().i16(-1).i16(-1).i32(1000)),
        ("Produce topics", key::PRODUCE, 9, new().varint(0).i16(-1).i32(1000)),
        ("Fetch topics", key::FETCH, 4, new().i32(-1).i32(0).i32(0).i32(1000).i8(0)),
        ("Fetch topics", key::FETCH, 12, new().i32(-1).i32(0).i32(0).i32(1000).i8(0).i32(0).i32(-1)),
        ("ListOffsets topics", key::LIST_OFFSETS, 1, new().i32(-1)),
        ("ListOffsets topics", key::LIST_OFFSETS, 6, new().i32(-1).i8(0)),
        ("Metadata topics", key::METADATA, 1, new()),
        ("Metadata topics", key::METADATA, 9, new()),
        ("OffsetCommit topics", key::OFFSET_COMMIT, 2, new().string(b"g").i32(-1).string(b"").i64(-1)),
        ("OffsetCommit topics", key::OFFSET_COMMIT, 8, new().compact(b"g").i32(-1).compact(b"").varint(0)),
        ("OffsetFetch topics", key::OFFSET_FETCH, 1, new().string(b"g")),
        ("OffsetFetch groups", key::OFFSET_FETCH, 8, new()),
        ("FindCoordinator keys", key::FIND_COORDINATOR, 4, new().i8(0)),
        ("JoinGroup protocols", key::JOIN_GROUP, 1, new().string(b"g").i32(9000).i32(9000).string(b"").string(b"c")),
        (
            "JoinGroup protocols",
            key::JOIN_GROUP,
            6,
            new().compact(b"g").i32(9000).i32(9000).compact(b"").varint(0).compact(b"c"),
        ),
        ("SyncGroup assignments", key::SYNC_GROUP, 0, new().string(b"g").i32(1).string(b"m")),
        ("SyncGroup assignments", key::SYNC_GROUP, 4, new().compact(b"g").i32(1).compact(b"m").varint(0)),
        ("LeaveGroup members", key::LEAVE_GROUP, 3, new().string(b"g")),
        ("LeaveGroup members", key::LEAVE_GROUP, 4, new().compact(b"g")),
        ("DescribeGroups groups", key::DESCRIBE_GROUPS, 0, new()),
        ("DescribeGroups groups", key::DESCRIBE_GROUPS, 5, new()),
        ("ListGroups states", key::LIST_GROUPS, 4, new()),
        ("CreateTopics topics", key::CREATE_TOPICS, 2, new()),
        ("CreateTopics topics", key::CREATE_TOPICS, 5, new()),
        ("CreateTopics assignments", key::CREATE_TOPICS, 2, new().i32(1).string(b"t").i32(1).i16(1)),
        ("CreateTopics brokers", key::CREATE_TOPICS, 2, new().i32(1).string(b"t").i32(-1).i16(-1).i32(1).i32(0)),
        ("CreateTopics configs", key::CREATE_TOPICS, 2, new().i32(1).string(b"t").i32(1).i16(1).i32(0)),
        ("DeleteTopics names", key::DELETE_TOPICS, 1, new()),
        ("DeleteTopics names", key::DELETE_TOPICS, 4, new()),
        ("DeleteTopics topics", key::DELETE_TOPICS, 6, new()),
        ("OffsetForLeaderEpoch topics", key::OFFSET_FOR_LEADER_EPOCH, 2, new()),
        ("OffsetForLeaderEpoch topics", key::OFFSET_FOR_LEADER_EPOCH, 4, new().i32(-1)),
        ("DescribeConfigs resources", key::DESCRIBE_CONFIGS, 1, new()),
        ("DescribeConfigs resources", key::DESCRIBE_CONFIGS, 4, new()),
        ("DescribeConfigs keys", key::DESCRIBE_CONFIGS, 1, new().i32(1).i8(2).string(b"t")),
    ]
}

#[test]
fn an_array_that_says_it_is_longer_than_its_frame_closes_the_connection() -> Result<()> {
    let mut target = Target::start("attack-arrays", &[])?;
    for (name, api_key, version, before) in arrays() {
        let is_flexible = compat_tests::raw::is_flexible(api_key, version);
        let counts: &[i64] = if is_flexible {
            &[1 << 31, 0xffff_ffff, 1_000_000]
        } else {
            &[i32::MAX as i64, i32::MIN as i64, -2, 1_000_000]
        };
        for count in counts {
            let body = if is_flexible {
                before.clone().varint(count.cast_unsigned())
            } else {
                before.clone().i32(i32::try_from(*count)?)
            };
            let bytes = request(api_key, version, 1, b"raw", &body.raw(&[0; 12]).done());
            target.closes_here(&format!("19, 20: {count} {name} in version {version}"), "body", &bytes)?;
        }
    }
    target.finish()
}

/// ListOffsets 1 for so many topics with so many partitions each.
fn nested(topics: i32, partitions: i32) -> Vec<u8> {
    let entries = (0..partitions).fold(Writer::new().string(b"t").i32(partitions), |out, at| out.i32(at).i64(-1));
    let topic = entries.done();
    let body = (0..topics).fold(Writer::new().i32(-1).i32(topics), |out, _| out.raw(&topic));
    request(key::LIST_OFFSETS, 1, 1, b"raw", &body.done())
}

#[test]
fn nested_arrays_have_a_budget_of_work() -> Result<()> {
    let mut target = Target::start("attack-nested", &[])?;
    // what is claimed does not fit: 10^4 topics, and the first one claims 10^4 partitions in the place of one
    let lie = Writer::new().i32(-1).i32(10_000).string(b"t").i32(10_000).raw(&[0; 4096]).done();
    target.closes("21: 10^4 times 10^4 elements that are not there", "body", &request(2, 1, 1, b"raw", &lie))?;
    target.closes_here("21: a million elements that are there", "body", &nested(100, 10_000))?;
    target.row("21: 300,000 elements that are there", |target| {
        let mut client = target.connect()?;
        client.send(&nested(300, 1000))?;
        client.receive()?.context("closed").map(drop)
    })?;
    target.finish()
}

#[test]
fn a_string_that_does_not_fit_closes_the_connection() -> Result<()> {
    let mut target = Target::start("attack-strings", &[])?;
    let one = Writer::new().i32(1);
    let rows = [
        ("22: string length -2", key::METADATA, 1, one.clone().i16(-2)),
        ("22: string length of the least", key::METADATA, 1, one.clone().i16(i16::MIN)),
        ("22: a null string where none may be", key::METADATA, 1, one.clone().i16(-1)),
        ("22: a string longer than the rest", key::METADATA, 1, one.clone().i16(500).raw(b"short")),
        ("22: records of length -2", key::PRODUCE, 3, produce_until_records().i32(-2)),
        ("22: records longer than the rest", key::PRODUCE, 3, produce_until_records().i32(i32::MAX)),
        ("22: a name that is not UTF-8", key::METADATA, 1, one.i16(2).raw(&[0xc0, 0x80])),
        ("23: compact length 0 for a name", key::DELETE_TOPICS, 4, Writer::new().varint(2).varint(0).i32(1).varint(0)),
        ("23: compact length 0 for a group", key::HEARTBEAT, 4, Writer::new().varint(0).i32(1).compact(b"m").varint(0)),
        ("23: compact length 2^32-1", key::DELETE_TOPICS, 4, Writer::new().varint(2).varint(u64::from(u32::MAX))),
        ("23: an overlong compact length", key::DELETE_TOPICS, 4, Writer::new().varint(2).raw(&[0xff; 12])),
        ("a body that ends early", key::LIST_OFFSETS, 1, Writer::new().i16(0)),
        ("no body", key::HEARTBEAT, 0, Writer::new()),
    ];
    for (name, api_key, version, body) in rows {
        target.closes_here(name, "body", &request(api_key, version, 1, b"raw", &body.done()))?;
    }
    target.finish()
}

fn produce_until_records() -> Writer {
    Writer::new().i16(-1).i16(-1).i32(1000).i32(1).string(b"t").i32(1).i32(0)
}

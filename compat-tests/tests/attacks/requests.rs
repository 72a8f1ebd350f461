//! Well-formed requests and the parts of their answers that the attacks look at.
//!
//! Owns bodies of versions before tagged fields, which are the easiest to write down. Owns no expectation.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use compat_tests::program::wait_until;
use compat_tests::raw::{Client, Reader, Writer, key};

pub const PRODUCE_VERSION: i16 = 8;
pub const FETCH_VERSION: i16 = 4;

/// Kafka's codes for a coordinator that is not there yet.
const NOT_READY: [i16; 3] = [14, 15, 16];

/// What a produce request was answered with.
#[derive(Debug)]
pub struct Produced {
    pub error: i16,
    pub base_offset: i64,
    pub message: String,
}

/// What a fetch found in one partition.
#[derive(Debug)]
pub struct Fetched {
    pub error: i16,
    pub records: Vec<u8>,
}

/// The body of Produce 8 with acks=all; each topic has one partition.
pub fn produce_body(parts: &[(&[u8], i32, &[u8])]) -> Vec<u8> {
    let head = Writer::new().i16(-1).i16(-1).i32(30_000).i32(i32::try_from(parts.len()).expect("few"));
    let body = parts
        .iter()
        .fold(head, |body, (topic, partition, records)| body.string(topic).i32(1).i32(*partition).bytes(records));
    body.done()
}

/// Every partition that an answer to Produce 8 names.
pub fn produced(answer: &[u8]) -> Result<Vec<Produced>> {
    let topics = Reader(answer).each(|topic| {
        topic.string()?;
        topic.each(|part| {
            part.i32()?;
            let error = part.i16()?;
            let base_offset = part.i64()?;
            part.raw(16)?; // append time, log start
            part.each(|record| {
                record.i32()?;
                record.string()
            })?;
            let message = String::from_utf8_lossy(part.string()?).into_owned();
            Ok(Produced { error, base_offset, message })
        })
    })?;
    Ok(topics.into_iter().flatten().collect())
}

pub fn produce(client: &mut Client, topic: &[u8], partition: i32, records: &[u8]) -> Result<Produced> {
    let answer = client.ask(key::PRODUCE, PRODUCE_VERSION, &produce_body(&[(topic, partition, records)]))?;
    let mut parts = produced(&answer)?;
    ensure!(parts.len() == 1, "one partition was sent, {} are answered", parts.len());
    parts.pop().context("one was counted")
}

/// The body of Fetch 4 without waiting; each topic has one partition.
pub fn fetch_body(parts: &[(&[u8], i32, i64)], bytes_max: i32) -> Vec<u8> {
    let count = i32::try_from(parts.len()).expect("few");
    let head = Writer::new().i32(-1).i32(0).i32(0).i32(bytes_max).i8(0).i32(count);
    let body = parts.iter().fold(head, |body, (topic, partition, offset)| {
        body.string(topic).i32(1).i32(*partition).i64(*offset).i32(bytes_max)
    });
    body.done()
}

/// Every partition that an answer to Fetch 4 names.
pub fn fetched(answer: &[u8]) -> Result<Vec<Fetched>> {
    let mut reader = Reader(answer);
    reader.i32()?; // throttle time
    let topics = reader.each(|topic| {
        topic.string()?;
        topic.each(|part| {
            part.i32()?;
            let error = part.i16()?;
            part.raw(16)?; // high watermark, last stable offset
            part.each(|aborted| aborted.raw(16))?;
            Ok(Fetched { error, records: part.bytes()?.to_vec() })
        })
    })?;
    Ok(topics.into_iter().flatten().collect())
}

pub fn fetch(client: &mut Client, topic: &[u8], partition: i32, offset: i64, bytes_max: i32) -> Result<Fetched> {
    let answer = client.ask(key::FETCH, FETCH_VERSION, &fetch_body(&[(topic, partition, offset)], bytes_max))?;
    let mut parts = fetched(&answer)?;
    ensure!(parts.len() == 1, "one partition was asked, {} are answered", parts.len());
    parts.pop().context("one was counted")
}

/// The errors of topics in Metadata 4, which may create them.
pub fn metadata(client: &mut Client, topics: &[&[u8]]) -> Result<Vec<i16>> {
    let head = Writer::new().i32(i32::try_from(topics.len())?);
    let body = topics.iter().fold(head, |body, topic| body.string(topic)).i8(1).done();
    let answer = client.ask(key::METADATA, 4, &body)?;
    let mut reader = Reader(&answer);
    reader.i32()?; // throttle time
    reader.each(|node| {
        node.i32()?;
        node.string()?;
        node.i32()?;
        node.string()
    })?;
    reader.string()?; // cluster id
    reader.i32()?; // controller
    reader.each(|topic| {
        let error = topic.i16()?;
        topic.string()?;
        topic.i8()?; // internal
        topic.each(|part| {
            part.raw(10)?; // error, index, leader
            part.each(Reader::i32)?;
            part.each(Reader::i32)
        })?;
        Ok(error)
    })
}

/// Error and offset of ListOffsets 1; -1 asks for the end.
pub fn list_offset(client: &mut Client, topic: &[u8], partition: i32, timestamp: i64) -> Result<(i16, i64)> {
    let body = Writer::new().i32(-1).i32(1).string(topic).i32(1).i32(partition).i64(timestamp).done();
    let answer = client.ask(key::LIST_OFFSETS, 1, &body)?;
    let found = Reader(&answer).each(|topic| {
        topic.string()?;
        topic.each(|part| {
            part.i32()?;
            let error = part.i16()?;
            part.i64()?;
            Ok((error, part.i64()?))
        })
    })?;
    found.into_iter().flatten().next().context("no partition is answered")
}

/// The error of CreateTopics 2 for one topic.
pub fn try_create_topic(
    client: &mut Client,
    topic: &[u8],
    partitions: i32,
    config: &[(&str, &str)],
) -> Result<(i16, String)> {
    let head = Writer::new().i32(1).string(topic).i32(partitions).i16(1).i32(0).i32(i32::try_from(config.len())?);
    let body = config.iter().fold(head, |body, (name, value)| body.string(name.as_bytes()).string(value.as_bytes()));
    let answer = client.ask(key::CREATE_TOPICS, 2, &body.i32(30_000).i8(0).done())?;
    let mut reader = Reader(&answer);
    reader.i32()?; // throttle time
    let errors = reader.each(|topic| {
        topic.string()?;
        let error = topic.i16()?;
        Ok((error, String::from_utf8_lossy(topic.string()?).into_owned()))
    })?;
    errors.into_iter().next().context("no topic is answered")
}

/// Creates a topic and waits until its first partition has a leader.
pub fn create_topic(client: &mut Client, topic: &str, partitions: i32, config: &[(&str, &str)]) -> Result<()> {
    let (error, message) = try_create_topic(client, topic.as_bytes(), partitions, config)?;
    ensure!(error == 0, "topic {topic} could not be created: error {error}, {message}");
    wait_until("the new topic has a leader", Duration::from_secs(30), || {
        Ok(list_offset(client, topic.as_bytes(), 0, -1)?.0 == 0)
    })
}

/// The error of DeleteTopics 1 for one topic.
pub fn delete_topic(client: &mut Client, topic: &[u8]) -> Result<i16> {
    let answer = client.ask(key::DELETE_TOPICS, 1, &Writer::new().i32(1).string(topic).i32(30_000).done())?;
    let mut reader = Reader(&answer);
    reader.i32()?; // throttle time
    let errors = reader.each(|topic| {
        topic.string()?;
        topic.i16()
    })?;
    errors.into_iter().next().context("no topic is answered")
}

/// The error of DescribeConfigs 1 for one topic.
pub fn describe_config(client: &mut Client, topic: &[u8]) -> Result<i16> {
    let answer =
        client.ask(key::DESCRIBE_CONFIGS, 1, &Writer::new().i32(1).i8(2).string(topic).i32(-1).i8(0).done())?;
    let mut reader = Reader(&answer);
    reader.i32()?; // throttle time
    ensure!(reader.i32()? == 1, "one resource was asked");
    reader.i16()
}

/// Commits each (topic, partition, offset) with OffsetCommit 2, waiting for the coordinator; gives the errors.
pub fn commit(client: &mut Client, group: &str, parts: &[(&[u8], i32, i64)]) -> Result<Vec<i16>> {
    let head = Writer::new().string(group.as_bytes()).i32(-1).string(b"").i64(-1);
    let head = head.i32(i32::try_from(parts.len())?);
    let body = parts.iter().fold(head, |body, (topic, partition, offset)| {
        body.string(topic).i32(1).i32(*partition).i64(*offset).string(b"")
    });
    let body = body.done();
    let find = Writer::new().string(group.as_bytes()).done();
    let mut errors = Vec::new();
    wait_until("the coordinator is ready", Duration::from_secs(60), || {
        let found = client.ask(key::FIND_COORDINATOR, 0, &find)?;
        if NOT_READY.contains(&Reader(&found).i16()?) {
            return Ok(false);
        }
        let answer = client.ask(key::OFFSET_COMMIT, 2, &body)?;
        let topics = Reader(&answer).each(|topic| {
            topic.string()?;
            topic.each(|part| {
                part.i32()?;
                part.i16()
            })
        })?;
        errors = topics.into_iter().flatten().collect();
        Ok(!errors.iter().any(|error| NOT_READY.contains(error)))
    })?;
    Ok(errors)
}

/// The offset that a group has committed, by OffsetFetch 1.
pub fn committed(client: &mut Client, group: &str, topic: &[u8], partition: i32) -> Result<i64> {
    let body = Writer::new().string(group.as_bytes()).i32(1).string(topic).i32(1).i32(partition).done();
    let answer = client.ask(key::OFFSET_FETCH, 1, &body)?;
    let found = Reader(&answer).each(|topic| {
        topic.string()?;
        topic.each(|part| {
            part.i32()?;
            let offset = part.i64()?;
            part.string()?;
            part.i16()?;
            Ok(offset)
        })
    })?;
    found.into_iter().flatten().next().context("no partition is answered")
}

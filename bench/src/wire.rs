//! The requests that the benchmark sends itself: Metadata v1, CreateTopics v2, ListOffsets v1.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use compat_tests::raw::{Reader, Writer};

/// Kafka makes and recovers ten thousand partitions for minutes.
const LEADERS_MAX: Duration = Duration::from_secs(600);

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&i16::try_from(text.len()).expect("our own short names").to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn request(address: SocketAddr, key: i16, version: i16, body: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(LEADERS_MAX))?;
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    head.extend_from_slice(&key.to_be_bytes());
    head.extend_from_slice(&version.to_be_bytes());
    head.extend_from_slice(&7i32.to_be_bytes());
    put_string(&mut head, "bench");
    let length = i32::try_from(head.len() + body.len()).expect("our own short requests");
    stream.write_all(&[&length.to_be_bytes()[..], &head, body].concat())?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length))?];
    stream.read_exact(&mut answer)?;
    ensure!(answer.len() >= 4, "an answer of {} bytes", answer.len());
    Ok(answer.split_off(4))
}

/// True once the node answers Metadata and names at least one broker.
pub fn metadata_answers(address: SocketAddr) -> bool {
    let no_topics = 0i32.to_be_bytes();
    let brokers = |answer: Vec<u8>| answer.first_chunk::<4>().map_or(0, |count| i32::from_be_bytes(*count));
    request(address, 3, 1, &no_topics).map(brokers).unwrap_or(0) > 0
}

pub fn create_topic(address: SocketAddr, name: &str, partitions: i32, config: &[(&str, &str)]) -> Result<()> {
    let mut body = Vec::new();
    body.extend_from_slice(&1i32.to_be_bytes());
    put_string(&mut body, name);
    body.extend_from_slice(&partitions.to_be_bytes());
    body.extend_from_slice(&1i16.to_be_bytes());
    body.extend_from_slice(&0i32.to_be_bytes());
    body.extend_from_slice(&i32::try_from(config.len())?.to_be_bytes());
    for (key, value) in config {
        put_string(&mut body, key);
        put_string(&mut body, value);
    }
    body.extend_from_slice(&60_000i32.to_be_bytes());
    body.push(0);
    let answer = request(address, 19, 2, &body)?;
    // throttle 4, count 4, name 2 + n, error 2
    let at = 10 + name.len();
    let Some(code) = answer.get(at..at + 2) else { bail!("a short answer to CreateTopics") };
    // 7: Kafka goes on behind the time of the request
    ensure!(code == [0, 0] || code == [0, 7], "CreateTopics {name}: error {code:?}");
    wait_for_leaders(address, name, partitions)
}

/// Produce to a topic fails on some servers for a moment after its creation.
fn wait_for_leaders(address: SocketAddr, name: &str, partitions: i32) -> Result<()> {
    let until = Instant::now() + LEADERS_MAX;
    while Instant::now() < until {
        if led_partitions(address, name).unwrap_or(0) == partitions {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("topic {name} got no leaders in {LEADERS_MAX:?}")
}

/// How many partitions of a topic have a leader and no error in Metadata v1.
pub fn led_partitions(address: SocketAddr, name: &str) -> Result<i32> {
    let body = Writer::new().i32(1).string(name.as_bytes()).done();
    let answer = request(address, 3, 1, &body)?;
    let mut reader = Reader(&answer);
    reader.each(|broker| {
        broker.i32()?;
        broker.string()?;
        broker.i32()?;
        broker.string()
    })?;
    reader.i32()?; // controller
    let topics = reader.each(|topic| {
        let error = topic.i16()?;
        topic.string()?;
        topic.i8()?;
        let led = topic.each(|partition| {
            let (error, _index, leader) = (partition.i16()?, partition.i32()?, partition.i32()?);
            partition.each(Reader::i32)?;
            partition.each(Reader::i32)?;
            Ok(i32::from(error == 0 && leader >= 0))
        })?;
        Ok(if error == 0 { led.into_iter().sum() } else { 0 })
    })?;
    Ok(topics.into_iter().sum())
}

/// The end of each partition of a topic as ListOffsets v1 tells it, or its error code; in the order of the answer.
pub fn end_offsets(
    address: SocketAddr,
    name: &str,
    partitions: i32,
) -> Result<Vec<(i32, std::result::Result<i64, i16>)>> {
    let body = Writer::new().i32(-1).i32(1).string(name.as_bytes()).i32(partitions);
    let body = (0..partitions).fold(body, |body, partition| body.i32(partition).i64(-1)).done();
    let answer = request(address, 2, 1, &body)?;
    let mut reader = Reader(&answer);
    let topics = reader.each(|topic| {
        topic.string()?;
        topic.each(|partition| {
            let (index, error, _timestamp, offset) =
                (partition.i32()?, partition.i16()?, partition.i64()?, partition.i64()?);
            Ok((index, if error == 0 { Ok(offset) } else { Err(error) }))
        })
    })?;
    Ok(topics.into_iter().flatten().collect())
}

/// Waits until each partition of a topic has a leader and answers ListOffsets; their ends, by partition.
pub fn wait_for_offsets(address: SocketAddr, name: &str, partitions: i32) -> Result<Vec<i64>> {
    let until = Instant::now() + LEADERS_MAX;
    loop {
        let last = end_offsets(address, name, partitions);
        if let Ok(ends) = &last {
            let mut known: Vec<(i32, i64)> = ends.iter().filter_map(|(at, end)| Some((*at, end.ok()?))).collect();
            if i32::try_from(known.len())? == partitions {
                known.sort_unstable();
                return Ok(known.into_iter().map(|(_, end)| end).collect());
            }
        }
        ensure!(Instant::now() < until, "not all partitions of {name} answer ListOffsets within {LEADERS_MAX:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

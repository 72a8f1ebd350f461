//! The two requests that the benchmark sends itself: Metadata v1 and CreateTopics v2.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&i16::try_from(text.len()).expect("our own short names").to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn request(address: SocketAddr, key: i16, version: i16, body: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
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
    ensure!(code == [0, 0], "CreateTopics {name}: error {code:?}");
    wait_for_leaders(address, name, partitions)
}

/// Produce to a topic fails on some servers for a moment after its creation.
fn wait_for_leaders(address: SocketAddr, name: &str, partitions: i32) -> Result<()> {
    let mut body = Vec::new();
    body.extend_from_slice(&1i32.to_be_bytes());
    put_string(&mut body, name);
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        if led_partitions(&request(address, 3, 1, &body)?, name).unwrap_or(0) == partitions {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    bail!("topic {name} got no leaders in 60 s")
}

/// Reads a Metadata v1 answer that names one topic.
fn led_partitions(answer: &[u8], name: &str) -> Option<i32> {
    let mut rest = answer;
    let mut take = |count: usize| {
        let (head, tail) = rest.split_at_checked(count)?;
        rest = tail;
        Some(head)
    };
    let brokers = i32::from_be_bytes(*take(4)?.first_chunk()?);
    for _ in 0..brokers {
        take(4)?;
        let host = i16::from_be_bytes(*take(2)?.first_chunk()?);
        take(usize::try_from(host).ok()?)?;
        take(4)?;
        let rack = i16::from_be_bytes(*take(2)?.first_chunk()?);
        take(usize::try_from(rack).unwrap_or(0))?;
    }
    take(4)?; // controller
    take(4)?; // one topic
    if take(2)? != [0, 0] {
        return None;
    }
    take(2 + name.len() + 1)?;
    let partitions = i32::from_be_bytes(*take(4)?.first_chunk()?);
    let mut led = 0;
    for _ in 0..partitions {
        let error = take(2)?.to_vec();
        take(4)?;
        let leader = i32::from_be_bytes(*take(4)?.first_chunk()?);
        let replicas = i32::from_be_bytes(*take(4)?.first_chunk()?);
        take(4 * usize::try_from(replicas).ok()?)?;
        let isr = i32::from_be_bytes(*take(4)?.first_chunk()?);
        take(4 * usize::try_from(isr).ok()?)?;
        led += i32::from(error == [0, 0] && leader >= 0);
    }
    Some(led)
}

//! Attacks 6, 11 and 12: clients that are slow, that do not read, or that ask faster than they read.
//!
//! Owns no bound on memory: `target` has it, for every row.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use compat_tests::program::{unique, wait_until};
use compat_tests::raw::{Client, Reader, WAIT_MAX, Writer, is_closed, key, request};

use crate::batch::{Batch, Record};
use crate::requests;
use crate::target::Target;

/// Half of them never send a whole request, half of them one.
const SLOW_CONNECTIONS: usize = 1000;
/// A server closes a slow request after 30 s; more on a slow machine.
const SLOW_MAX: Duration = Duration::from_secs(120);
const PIPELINED: i32 = 10_000;
/// Bytes of the fetch that is never read.
const FETCH_BYTES: i32 = 50 << 20;
/// A server closes a client that takes nothing after 60 s.
const UNREAD_MAX: Duration = Duration::from_secs(180);

/// Fetches of records that lie on the device alone, sent before one answer is taken; all of them would be four times the topic.
const COLD_FETCHES: i32 = 150;
const COLD_FETCH_BYTES: i32 = 4 << 20;
const COLD_TOPIC_BYTES: i32 = 150 << 20;
/// Less is what a server reads by itself.
const READ_BYTES_MIN: u64 = 1 << 20;

/// A connection that sends one byte in a second.
struct Slow {
    stream: TcpStream,
    left: Vec<u8>,
}

impl Slow {
    /// Sends one byte. False when the server has closed the connection.
    fn drip(&mut self) -> Result<bool> {
        let mut got = [0; 4096];
        match self.stream.read(&mut got) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if is_closed(error.kind()) => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        let Some(byte) = self.left.pop() else { return Ok(true) };
        match self.stream.write(&[byte]) {
            Err(error) if is_closed(error.kind()) => Ok(false),
            written => Ok(written? == 1),
        }
    }
}

fn slow_connections(target: &Target) -> Result<Vec<Slow>> {
    let whole = request(key::METADATA, 1, 1, b"slow", &Writer::new().i32(1).string(&[b'x'; 249]).done());
    let reversed: Vec<u8> = whole.into_iter().rev().collect();
    let first = request(key::API_VERSIONS, 0, 1, b"slow", &[]);
    (0..SLOW_CONNECTIONS)
        .map(|at| {
            let mut client = target.connect()?;
            if at % 2 == 0 {
                client.send(&first)?;
            }
            client.stream.set_nonblocking(true)?;
            Ok(Slow { stream: client.stream, left: reversed.clone() })
        })
        .collect()
}

#[test]
fn a_thousand_slow_connections_are_closed_while_others_are_served() -> Result<()> {
    let mut target = Target::start("attack-slow", &[])?;
    if !target.is_ours() {
        return target.finish(); // Apache Kafka waits for 10 minutes
    }
    let half = u64::try_from(SLOW_CONNECTIONS / 2)?;
    target.row("6: 1,000 connections that send one byte in a second", |target| {
        target.counts("frame_timeout", half, |target| {
            target.counts("handshake_timeout", half, |target| {
                let mut slow = slow_connections(target)?;
                let end = Instant::now() + SLOW_MAX;
                while !slow.is_empty() {
                    let round = Instant::now();
                    ensure!(round < end, "{} are open after {} s", slow.len(), SLOW_MAX.as_secs());
                    let mut open = Vec::new();
                    for mut one in slow {
                        if one.drip()? {
                            open.push(one);
                        }
                    }
                    slow = open;
                    target.check_witness().context("beside slow connections")?;
                    // the pace is the attack: a byte in a second
                    std::thread::sleep(Duration::from_secs(1).saturating_sub(round.elapsed()));
                }
                Ok(())
            })
        })
    })?;
    target.finish()
}

#[test]
fn requests_that_come_faster_than_their_answers_are_read_wait_in_the_socket() -> Result<()> {
    let mut target = Target::start("attack-pipeline", &[])?;
    let topic = format!("pipeline-{}", unique());
    requests::create_topic(&mut target.connect()?, &topic, 100, &[])?;
    target.rebase()?;
    target.row("11: 10,000 requests before the first answer is read", |target| {
        let mut client = target.connect()?;
        let mut sender = client.stream.try_clone()?;
        let sent = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let body = Writer::new().i32(1).string(topic.as_bytes()).done();
            let count = &sent;
            let sending = scope.spawn(move || -> Result<()> {
                sender.set_write_timeout(None)?;
                for id in 0..PIPELINED {
                    sender.write_all(&request(key::METADATA, 1, id, &[b'p'; 1000], &body))?;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
            // until the server takes no more, or has taken all
            let (mut last, mut since) = (0, Instant::now());
            wait_until("the server takes no more", Duration::from_secs(60), || {
                target.check_witness().context("beside a client that does not read")?;
                let now = sent.load(Ordering::Relaxed);
                if now != last {
                    (last, since) = (now, Instant::now());
                }
                Ok(sending.is_finished() || since.elapsed() > Duration::from_secs(2))
            })?;
            for id in 0..PIPELINED {
                let answer = client.receive()?.with_context(|| format!("closed before answer {id}"))?;
                ensure!(Reader(&answer).i32()? == id, "answer {id} is out of order");
            }
            sending.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?
        })
    })?;
    target.finish()
}

#[test]
fn fetches_of_cold_records_are_not_read_before_it_is_their_turn_to_be_answered() -> Result<()> {
    let mut target = Target::start("attack-cold", &[])?;
    if !target.is_ours() {
        return target.finish(); // nobody can look at its memory, nor empty its page cache
    }
    let topic = format!("cold-{}", unique());
    requests::create_topic(&mut target.connect()?, &topic, 1, &[])?;
    fill(&mut target.connect()?, &topic, COLD_TOPIC_BYTES)?;
    target.restart_cold()?;
    target.row("11: 150 fetches from the device, no answer taken", |target| {
        let cold_before = target.metric("weir_cold_reads_total ")?;
        let mut client = target.connect()?;
        for id in 0..COLD_FETCHES {
            let body = requests::fetch_body(&[(topic.as_bytes(), 0, i64::from(id))], COLD_FETCH_BYTES);
            client.send(&request(key::FETCH, requests::FETCH_VERSION, id, b"cold", &body))?;
        }
        // What is in the page cache proves nothing, as on a file system in memory.
        wait_until("a fetch waits for the device", WAIT_MAX, || {
            Ok(target.metric("weir_cold_reads_total ")? > cold_before)
        })?;
        let (mut last, mut since) = (target.bytes_read()?, Instant::now());
        wait_until("the server reads no more", UNREAD_MAX, || {
            let now = target.bytes_read()?;
            if now > last + READ_BYTES_MIN {
                (last, since) = (now, Instant::now());
            }
            Ok(since.elapsed() > Duration::from_secs(2))
        })
    })?;
    target.finish()
}

/// Records of a megabyte, each in a batch, a little more than so many bytes.
fn fill(client: &mut Client, topic: &str, bytes: i32) -> Result<()> {
    let batch = Batch::of(&[Record::of(b"k", &vec![7; 1_000_000])]).encode();
    for _ in 0..=bytes / 1_000_000 {
        let wrote = requests::produce(client, topic.as_bytes(), 0, &batch)?;
        ensure!(wrote.error == 0, "{wrote:?}");
    }
    Ok(())
}

#[test]
fn a_client_that_never_reads_its_answer_is_closed() -> Result<()> {
    let mut target = Target::start("attack-unread", &[])?;
    if !target.is_ours() {
        return target.finish(); // Apache Kafka waits for 10 minutes
    }
    let topic = format!("unread-{}", unique());
    requests::create_topic(&mut target.connect()?, &topic, 1, &[])?;
    fill(&mut target.connect()?, &topic, FETCH_BYTES)?;
    target.rebase()?;
    target.row("12: a fetch of 50 MiB that is never read", |target| {
        target.counts("write_timeout", 1, |target| {
            let mut client = target.connect()?;
            let body = requests::fetch_body(&[(topic.as_bytes(), 0, 0)], FETCH_BYTES);
            client.send(&request(key::FETCH, requests::FETCH_VERSION, 1, b"unread", &body))?;
            // the server's counter tells when it gave up; reading here would end the attack
            let before = gave_up(target)?;
            wait_until("the server closes it", UNREAD_MAX, || {
                target.check_witness().context("beside a fetch that is not read")?;
                Ok(gave_up(target)? > before)
            })?;
            drop(client);
            Ok(())
        })
    })?;
    target.finish()
}

/// How often the server closed a client that took nothing.
fn gave_up(target: &Target) -> Result<u64> {
    target.metric("weir_invalid_requests_total{reason=\"write_timeout\"} ")
}

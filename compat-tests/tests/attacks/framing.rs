//! Attacks 1 to 10: lengths, other protocols, silence, bytes that nobody asked for.

use anyhow::{Context, Result, ensure};
use compat_tests::raw::{Client, Writer, frame, key, request};

use crate::target::Target;

/// Kafka's `socket.request.max.bytes`, which is ours too.
const FRAME_BYTES_MAX: i32 = 100 * 1024 * 1024;
/// What a browser sends.
const HTTP: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// The head of a TLS ClientHello.
const TLS: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

fn length(length: i32) -> Vec<u8> {
    Writer::new().i32(length).i16(3).i16(1).i32(1).done()
}

#[test]
fn bytes_that_are_no_frames_close_the_connection() -> Result<()> {
    let mut target = Target::start("attack-framing", &[])?;
    target.closes("1: length -1", "length", &length(-1))?;
    target.closes("1: the least length", "length", &length(i32::MIN))?;
    target.closes("2: length 0x7fffffff", "length", &length(i32::MAX))?;
    target.closes("3: a length one over the limit", "length", &length(FRAME_BYTES_MAX + 1))?;
    for short in 0..8 {
        target.closes(&format!("4: length {short} has no header"), "length", &length(short))?;
    }
    target.closes("7: HTTP", "http", HTTP)?;
    target.closes("8: TLS ClientHello", "tls", TLS)?;
    for (kind, api_key, version, body) in [
        ("an array", key::METADATA, 1, Writer::new().i32(0)),
        ("an empty body", key::API_VERSIONS, 0, Writer::new()),
        ("tagged fields", key::API_VERSIONS, 3, Writer::new().compact(b"n").compact(b"1").varint(0)),
    ] {
        // a writer that does not agree with the reader about the message is not believed
        let trailing = request(api_key, version, 1, b"raw", &body.raw(&[0, 0, 0]).done());
        target.closes_here(&format!("10: trailing bytes behind {kind}"), "body", &trailing)?;
    }
    target.finish()
}

#[test]
fn a_good_request_is_answered_before_the_bad_one_behind_it_closes() -> Result<()> {
    let mut target = Target::start("attack-order", &[])?;
    target.row("a negative length behind a good request", |target| {
        let mut client = target.connect()?;
        client.send(&[request(key::METADATA, 1, 77, b"raw", &[0; 4]), length(-1)].concat())?;
        let answer = client.receive()?.context("the good request has no answer")?;
        ensure!(answer.starts_with(&[0, 0, 0, 77]), "another correlation id");
        ensure!(client.receive()?.is_none(), "the bad request has an answer");
        Ok(())
    })?;
    target.finish()
}

#[test]
fn a_connection_that_never_becomes_a_request_is_closed_in_time() -> Result<()> {
    let mut target = Target::start("attack-silence", &[])?;
    if !target.is_ours() {
        return target.finish(); // Apache Kafka waits for 10 minutes
    }
    let whole = request(key::METADATA, 1, 1, b"raw", &[0; 4]);
    let parts = [("nothing", 0), ("half a length", 2), ("a length", 4), ("half a header", 9), ("no body", 17)];
    target.row("5: silence after the start of a request", |target| {
        target.counts("handshake_timeout", u64::try_from(parts.len())?, |target| {
            let mut waiting: Vec<(&str, Client)> = Vec::new();
            for (kind, bytes) in parts {
                let mut client = target.connect()?;
                client.send(&whole[..bytes])?;
                waiting.push((kind, client));
            }
            for (kind, mut client) in waiting {
                ensure!(client.receive().context(kind)?.is_none(), "silence after {kind} is answered");
            }
            Ok(())
        })
    })?;
    target.row("4: a frame of 100 MiB that never comes costs no memory", |target| {
        let clients: Vec<Client> = (0..20)
            .map(|_| {
                let mut client = target.connect()?;
                client.send(&length(FRAME_BYTES_MAX))?;
                Ok(client)
            })
            .collect::<Result<_>>()?;
        target.check_witness()?;
        drop(clients);
        Ok(())
    })?;
    target.row("frames that come in single bytes are answered", |target| {
        let mut client = target.connect()?;
        for byte in frame(&whole[4..]) {
            client.send(&[byte])?;
        }
        client.receive()?.context("no answer").map(drop)
    })?;
    target.finish()
}

//! Attacks 13 to 18: API keys, versions, client ids, correlation ids, tagged fields.

use anyhow::{Context, Result, ensure};
use compat_tests::raw::{Reader, Writer, frame, key, request};

use crate::requests;
use crate::target::Target;

/// Client ids that are seen at the same time; Kafka keeps a metric for each.
const CLIENT_IDS: i32 = 20_000;
/// How many requests are sent before their answers are read.
const CHUNK: i32 = 500;

/// A request with any client id, its length said by `length`.
fn with_client_id(length: i16, client_id: &[u8]) -> Vec<u8> {
    frame(&Writer::new().i16(key::METADATA).i16(1).i32(1).i16(length).raw(client_id).i32(0).done())
}

/// An ApiVersions 3 request whose header has these bytes in place of its tagged fields.
fn header_tags(tags: Writer) -> Vec<u8> {
    let head = Writer::new().i16(key::API_VERSIONS).i16(3).i32(1).string(b"raw").raw(&tags.done());
    frame(&head.compact(b"n").compact(b"1").varint(0).done())
}

/// The same with the tagged fields of the body.
fn body_tags(tags: Writer) -> Vec<u8> {
    let body = Writer::new().compact(b"n").compact(b"1").raw(&tags.done());
    request(key::API_VERSIONS, 3, 1, b"raw", &body.done())
}

#[test]
fn headers_that_nobody_serves_close_the_connection() -> Result<()> {
    let mut target = Target::start("attack-header", &[])?;
    for api_key in [-1, 95, 999, i16::MAX, i16::MIN] {
        let bytes = request(api_key, 0, 1, b"raw", &[0; 16]);
        target.closes(&format!("13: api key {api_key}"), "unknown_api", &bytes)?;
    }
    for (api_key, version) in [(key::METADATA, 99), (key::METADATA, -1), (key::PRODUCE, 99), (key::FETCH, i16::MAX)] {
        let bytes = request(api_key, version, 1, b"raw", &[0; 16]);
        target.closes(&format!("14: version {version} of api key {api_key}"), "unknown_version", &bytes)?;
    }
    target.row("14: ApiVersions of an unknown version is answered in version 0", |target| {
        let mut client = target.connect()?;
        client.send(&request(key::API_VERSIONS, 99, 7, b"raw", &[0; 16]))?;
        let answer = client.receive()?.context("closed")?;
        let mut reader = Reader(&answer);
        ensure!(reader.i32()? == 7, "another correlation id");
        ensure!(reader.i16()? == 35, "not UNSUPPORTED_VERSION");
        let ranges = reader.each(|range| Ok((range.i16()?, range.i16()?, range.i16()?)))?;
        ensure!(ranges.iter().any(|(key, _, max)| (*key, *max) == (18, 5) || *max >= 4), "no way on: {ranges:?}");
        Ok(())
    })?;
    target.row("16: a correlation id that is used again is echoed again", |target| {
        let mut client = target.connect()?;
        for correlation_id in [7, 7, -1, i32::MIN, 7] {
            client.send(&request(key::METADATA, 1, correlation_id, b"raw", &[0; 4]))?;
        }
        for correlation_id in [7, 7, -1, i32::MIN, 7] {
            let answer = client.receive()?.context("closed")?;
            ensure!(Reader(&answer).i32()? == correlation_id, "{correlation_id} is not echoed");
        }
        Ok(())
    })?;
    target.finish()
}

#[test]
fn a_client_id_reaches_neither_metrics_nor_a_line_of_the_log() -> Result<()> {
    let mut target = Target::start("attack-client-id", &[])?;
    target.closes_here("15: a client id of 32 KiB", "header", &with_client_id(i16::MAX, &[b'x'; 32_767]))?;
    target.closes_here("15: a client id that is not UTF-8", "header", &with_client_id(4, &[0xff, 0xfe, 0xc0, 0x80]))?;
    target.closes_here("15: a client id of length -2", "header", &with_client_id(-2, b""))?;
    target.closes("15: a client id longer than the frame", "header", &with_client_id(1000, b"raw"))?;
    for (kind, client_id) in [
        ("NUL", &b"a\0b"[..]),
        ("escapes", b"\x1b[31mred\x1b]0;title\x07"),
        ("lines", b"x\nINJECTED 2026-01-01 ERROR all is lost\r\n"),
        ("labels", b"x\"} 1\nweir_injected{a=\"b"),
        ("nothing", b""),
    ] {
        target.row(&format!("15: a client id with {kind}"), |target| {
            let mut client = target.connect()?;
            // the creation of a topic is logged with the name of the client that did it
            let topic = format!("client-id-{kind}-{}", compat_tests::program::unique());
            let body = Writer::new().i32(1).string(topic.as_bytes()).i8(1).done();
            client.send(&request(key::METADATA, 4, 1, client_id, &body))?;
            client.receive()?.context("closed")?;
            if target.is_ours() {
                let text = target.metrics()?;
                ensure!(!text.contains("injected") && !text.contains('\x1b'), "the metrics hold it");
            }
            Ok(())
        })?;
    }
    target.finish()
}

#[test]
fn client_ids_make_no_time_series() -> Result<()> {
    let mut target = Target::start("attack-client-ids", &[])?;
    target.row("17: 20,000 distinct client ids", |target| {
        let series = |target: &Target| Ok::<_, anyhow::Error>(target.metrics()?.lines().count());
        let before = if target.is_ours() { series(target)? } else { 0 };
        let mut client = target.connect()?;
        for first in (0..CLIENT_IDS).step_by(usize::try_from(CHUNK)?) {
            let ids = first..first + CHUNK;
            let sent = ids.clone().flat_map(|id| request(key::METADATA, 1, id, format!("id-{id}").as_bytes(), &[0; 4]));
            client.send(&sent.collect::<Vec<u8>>())?;
            for id in ids {
                let answer = client.receive()?.context("closed")?;
                ensure!(Reader(&answer).i32()? == id, "the answer of {id} is out of order");
            }
        }
        if target.is_ours() {
            let after = series(target)?;
            ensure!(after == before, "{before} lines of metrics became {after}");
        }
        Ok(())
    })?;
    target.finish()
}

#[test]
fn tagged_fields_that_lie_close_the_connection() -> Result<()> {
    let mut target = Target::start("attack-tags", &[])?;
    let overlong = [0xff; 10];
    let rows = [
        ("count 2^31", Writer::new().varint(1 << 31)),
        ("count 2^32-1", Writer::new().varint(u64::from(u32::MAX))),
        ("an overlong count", Writer::new().raw(&overlong).raw(&[1])),
        ("an overlong tag", Writer::new().varint(1).raw(&overlong).raw(&[1, 0])),
        ("an overlong size", Writer::new().varint(1).varint(7).raw(&overlong).raw(&[1])),
        ("a size of 2^31", Writer::new().varint(1).varint(7).varint(1 << 31)),
        ("a duplicate tag", Writer::new().varint(2).varint(7).varint(0).varint(7).varint(0)),
        ("a decreasing order", Writer::new().varint(2).varint(8).varint(0).varint(7).varint(0)),
        ("fewer than the count", Writer::new().varint(2).varint(7).varint(0)),
    ];
    for (kind, tags) in rows {
        target.closes_here(
            &format!("18: tagged fields of the header: {kind}"),
            "header",
            &header_tags(tags.clone()),
        )?;
        target.closes_here(&format!("18: tagged fields of the body: {kind}"), "body", &body_tags(tags))?;
    }
    target.row("18: unknown tags are passed over", |target| {
        let mut client = target.connect()?;
        let tags = Writer::new().varint(2).varint(7).varint(1).raw(b"x").varint(4_000_000_000).varint(0);
        for bytes in [header_tags(tags.clone()), body_tags(tags)] {
            client.send(&bytes)?;
            client.receive()?.context("closed")?;
        }
        Ok(())
    })?;
    target.row("18: 10,000 unknown tags", |target| {
        let count = 10_000u64;
        let tags = (0..count).fold(Writer::new().varint(count), |tags, tag| tags.varint(tag + 100).varint(0));
        let mut client = target.connect()?;
        client.send(&body_tags(tags))?;
        client.receive().map(drop) // answered or closed
    })?;
    target.row("a topic is still created on first use", |target| {
        let mut client = target.connect()?;
        let errors = requests::metadata(&mut client, &[b"attack-tags-later"])?;
        ensure!([0, 3, 5].contains(&errors[0]), "{errors:?}");
        Ok(())
    })?;
    target.finish()
}

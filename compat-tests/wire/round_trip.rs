//! Messages that Kafka's own classes wrote, read and written again by `server::wire`.
//!
//! Owns reading the sample file (its layout is in `WireSamples.java`) and the three comparisons per sample: the length
//! check accepts it, the table-driven codec gives the same bytes, and so does the typed message where there is one.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bytes::{Buf, Bytes};
use server::wire::tables::{Direction, Message, message, messages};
use server::wire::{
    Frame, Request, RequestVisitor, Splices, check, codec, decode_request, decode_response, encode_request,
    encode_response, split_request, visit_request,
};

/// One message as Kafka wrote it.
struct Sample {
    key: i16,
    version: i16,
    direction: Direction,
    /// Header and body, without the length prefix.
    frame: Bytes,
    body: Bytes,
}

/// What was compared, for the caller to judge whether it is enough.
#[derive(Default)]
pub struct Compared {
    pub samples: usize,
    pub typed: usize,
    pub failures: Vec<String>,
    /// Versions that the tables have and no sample showed.
    pub missing: Vec<String>,
}

/// Compares every sample of the file.
pub fn compare(path: &Path) -> Result<Compared> {
    let mut file = Bytes::from(std::fs::read(path).with_context(|| path.display().to_string())?);
    let mut compared = Compared::default();
    let mut seen = BTreeSet::new();
    while !file.is_empty() {
        let sample = read(&mut file)?;
        seen.insert((sample.key, sample.version, sample.direction == Direction::Request));
        compared.samples += 1;
        let outcome = by_tables(&sample).and_then(|()| by_type(&sample));
        match outcome {
            Ok(typed) => compared.typed += usize::from(typed),
            Err(error) => compared.failures.push(format!(
                "{:?} of key {} version {}: {error:#}\n  {:02x?}",
                sample.direction,
                sample.key,
                sample.version,
                &sample.body[..sample.body.len().min(200)]
            )),
        }
    }
    for direction in [Direction::Request, Direction::Response] {
        for message in messages(direction) {
            let missing = |version: &i16| !seen.contains(&(message.key, *version, direction == Direction::Request));
            let versions = (message.min..=message.max).filter(missing);
            compared.missing.extend(versions.map(|version| format!("{} {version}", message.name)));
        }
    }
    Ok(compared)
}

fn read(file: &mut Bytes) -> Result<Sample> {
    let key = file.try_get_i16()?;
    let version = file.try_get_i16()?;
    let direction = if file.try_get_u8()? == 0 { Direction::Request } else { Direction::Response };
    let header = usize::try_from(file.try_get_i32()?)?;
    let total = usize::try_from(file.try_get_i32()?)?;
    ensure!(header <= total && total <= file.len(), "sample of {total} bytes, header {header}");
    let frame = file.split_to(total);
    let body = frame.slice(header..);
    Ok(Sample { key, version, direction, frame, body })
}

fn by_tables(sample: &Sample) -> Result<()> {
    let message: &Message = message(sample.key, sample.direction).context("no table")?;
    check(message, sample.version, &sample.body)?;
    for len in 0..sample.body.len().min(64) {
        ensure!(check(message, sample.version, &sample.body[..len]).is_err(), "its first {len} bytes were accepted");
    }
    let tree = codec::decode(message, sample.version, sample.body.clone())?;
    same("codec", &codec::encode(message, sample.version, &tree)?, &sample.body)?;
    if sample.direction == Direction::Request {
        let (header, body) = split_request(sample.frame.clone())?;
        ensure!((header.api_key, header.api_version) == (sample.key, sample.version), "header {header:?}");
        same("header", &body, &sample.body)?;
    }
    Ok(())
}

/// Compares by the typed message; false when there is none for this version.
fn by_type(sample: &Sample) -> Result<bool> {
    visit_request(sample.key, Typed(sample)).unwrap_or(Ok(false))
}

struct Typed<'a>(&'a Sample);

impl RequestVisitor for Typed<'_> {
    type Output = Result<bool>;

    fn visit<R: Request>(self) -> Result<bool> {
        typed::<R>(self.0)
    }
}

fn typed<R: Request>(sample: &Sample) -> Result<bool> {
    let version = sample.version;
    if version < R::MIN || version > R::MAX {
        return Ok(false);
    }
    match sample.direction {
        Direction::Request => {
            let request = decode_request::<R>(version, sample.body.clone())?;
            let frame = encode_request(version, 1, Some("c"), &request, Splices::new())?;
            let (_, body) = split_request(without_prefix(&frame))?;
            same("typed request", &body, &sample.body)?;
        }
        Direction::Response => {
            let (correlation_id, response) = decode_response::<R>(version, sample.frame.clone())?;
            let frame = encode_response::<R>(version, correlation_id, &response, Splices::new())?;
            same("typed response", &without_prefix(&frame), &sample.frame)?;
        }
    }
    Ok(true)
}

fn without_prefix(frame: &Frame) -> Bytes {
    frame.to_bytes().slice(4..)
}

fn same(by: &str, got: &Bytes, expected: &Bytes) -> Result<()> {
    let differs = got.iter().zip(expected.iter()).position(|(got, expected)| got != expected);
    ensure!(
        got == expected,
        "{by} gives {} bytes, Kafka {}; the first difference is at {differs:?}",
        got.len(),
        expected.len()
    );
    Ok(())
}

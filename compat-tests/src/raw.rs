//! A client of the Kafka protocol that sends whatever a test wants, well formed or not.
//!
//! Owns sockets, frames, headers, and writing and reading of the protocol's primitive types. Owns no message: tests
//! put those together from primitives, so that no encoder stands between an attack and the wire.
//! Invariant: waiting for the other side ends after `WAIT_MAX`.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// How long anything on a socket may take; generous, because slow machines run this too.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// Longer answers are not expected from anybody.
const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;

/// API keys that tests use.
pub mod key {
    pub const PRODUCE: i16 = 0;
    pub const FETCH: i16 = 1;
    pub const LIST_OFFSETS: i16 = 2;
    pub const METADATA: i16 = 3;
    pub const OFFSET_COMMIT: i16 = 8;
    pub const OFFSET_FETCH: i16 = 9;
    pub const FIND_COORDINATOR: i16 = 10;
    pub const JOIN_GROUP: i16 = 11;
    pub const HEARTBEAT: i16 = 12;
    pub const LEAVE_GROUP: i16 = 13;
    pub const SYNC_GROUP: i16 = 14;
    pub const DESCRIBE_GROUPS: i16 = 15;
    pub const LIST_GROUPS: i16 = 16;
    pub const API_VERSIONS: i16 = 18;
    pub const CREATE_TOPICS: i16 = 19;
    pub const DELETE_TOPICS: i16 = 20;
    pub const INIT_PRODUCER_ID: i16 = 22;
    pub const OFFSET_FOR_LEADER_EPOCH: i16 = 23;
    pub const DESCRIBE_CONFIGS: i16 = 32;
    pub const ELECT_LEADERS: i16 = 43;
    pub const ALTER_PARTITION_REASSIGNMENTS: i16 = 45;
    pub const DESCRIBE_QUORUM: i16 = 55;
    pub const DESCRIBE_CLUSTER: i16 = 60;
    pub const CONSUMER_GROUP_HEARTBEAT: i16 = 68;
}

/// The first version of an API whose header and body have tagged fields.
fn first_flexible(api_key: i16) -> i16 {
    match api_key {
        key::PRODUCE | key::METADATA => 9,
        key::FETCH => 12,
        key::LIST_OFFSETS | key::OFFSET_FETCH | key::JOIN_GROUP => 6,
        key::OFFSET_COMMIT => 8,
        key::FIND_COORDINATOR | key::LIST_GROUPS | key::API_VERSIONS => 3,
        key::DESCRIBE_GROUPS | key::CREATE_TOPICS => 5,
        key::INIT_PRODUCER_ID | key::ELECT_LEADERS => 2,
        key::DESCRIBE_CLUSTER
        | key::DESCRIBE_QUORUM
        | key::ALTER_PARTITION_REASSIGNMENTS
        | key::CONSUMER_GROUP_HEARTBEAT => 0,
        _ => 4,
    }
}

/// Whether header and body of this version have tagged fields.
pub fn is_flexible(api_key: i16, version: i16) -> bool {
    version >= first_flexible(api_key)
}

/// Puts primitive values behind each other.
#[derive(Clone, Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn new() -> Writer {
        Writer::default()
    }

    pub fn raw(mut self, bytes: &[u8]) -> Writer {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn i8(self, value: i8) -> Writer {
        self.raw(&value.to_be_bytes())
    }

    pub fn i16(self, value: i16) -> Writer {
        self.raw(&value.to_be_bytes())
    }

    pub fn i32(self, value: i32) -> Writer {
        self.raw(&value.to_be_bytes())
    }

    pub fn i64(self, value: i64) -> Writer {
        self.raw(&value.to_be_bytes())
    }

    /// A string with its length in 16 bits.
    pub fn string(self, value: &[u8]) -> Writer {
        let length = i16::try_from(value.len()).expect("a test's string has a length of 15 bits");
        self.i16(length).raw(value)
    }

    /// Bytes with their length in 32 bits.
    pub fn bytes(self, value: &[u8]) -> Writer {
        let length = i32::try_from(value.len()).expect("a test's bytes have a length of 31 bits");
        self.i32(length).raw(value)
    }

    /// An unsigned varint, as compact lengths and tags have it.
    pub fn varint(mut self, mut value: u64) -> Writer {
        while value >= 0x80 {
            self.0.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).expect("seven bits"));
        self
    }

    /// A varint in zigzag form, as records have it.
    pub fn zigzag(self, value: i64) -> Writer {
        self.varint(((value << 1) ^ (value >> 63)).cast_unsigned())
    }

    /// A string of a flexible version.
    pub fn compact(self, value: &[u8]) -> Writer {
        self.varint(value.len() as u64 + 1).raw(value)
    }

    pub fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Takes primitive values off the front of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn raw(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(count).with_context(|| format!("{count} bytes wanted, {} left", self.0.len()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.raw(N)?.try_into()?)
    }

    pub fn i8(&mut self) -> Result<i8> {
        Ok(i8::from_be_bytes(self.array()?))
    }

    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A string with its length in 16 bits; empty when null.
    pub fn string(&mut self) -> Result<&'a [u8]> {
        let length = self.i16()?;
        self.raw(usize::try_from(length).unwrap_or(0))
    }

    /// Bytes with their length in 32 bits; empty when null.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.i32()?;
        self.raw(usize::try_from(length).unwrap_or(0))
    }

    /// An unsigned varint.
    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = u64::from(self.i8()?.cast_unsigned());
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bail!("a varint of more than ten bytes")
    }

    /// A string of a flexible version; empty when null.
    pub fn compact(&mut self) -> Result<&'a [u8]> {
        let length = self.varint()?;
        self.raw(usize::try_from(length.saturating_sub(1))?)
    }

    /// Elements of an array of a flexible version; `each` reads its own tagged fields with `tags`.
    pub fn each_compact<T>(&mut self, mut each: impl FnMut(&mut Reader<'a>) -> Result<T>) -> Result<Vec<T>> {
        let count = self.varint()?.saturating_sub(1);
        (0..count).map(|_| each(self)).collect()
    }

    /// The tagged fields behind a structure, passed over.
    pub fn tags(&mut self) -> Result<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.raw(usize::try_from(length)?)?;
        }
        Ok(())
    }

    /// Elements of an array, with `each` called so many times.
    pub fn each<T>(&mut self, mut each: impl FnMut(&mut Reader<'a>) -> Result<T>) -> Result<Vec<T>> {
        let count = self.i32()?;
        (0..count.max(0)).map(|_| each(self)).collect()
    }
}

/// Content behind its length.
pub fn frame(content: &[u8]) -> Vec<u8> {
    Writer::new().bytes(content).done()
}

/// A whole request with the header that its version has.
pub fn request(api_key: i16, version: i16, correlation_id: i32, client_id: &[u8], body: &[u8]) -> Vec<u8> {
    let header = Writer::new().i16(api_key).i16(version).i32(correlation_id).string(client_id);
    let header = if is_flexible(api_key, version) { header.varint(0) } else { header };
    frame(&header.raw(body).done())
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    pub stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub fn connect(address: &str) -> Result<Client> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_read_timeout(Some(WAIT_MAX))?;
        stream.set_write_timeout(Some(WAIT_MAX))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, correlation_id: 0 })
    }

    /// The same for an address that may be silent: connecting and every answer end after `limit`.
    pub fn connect_within(address: &str, limit: Duration) -> Result<Client> {
        let to: SocketAddr = address.parse().with_context(|| format!("{address} is no address"))?;
        let stream = TcpStream::connect_timeout(&to, limit).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, correlation_id: 0 })
    }

    /// Sends a request and returns the body of its answer.
    pub fn ask(&mut self, api_key: i16, version: i16, body: &[u8]) -> Result<Vec<u8>> {
        self.correlation_id += 1;
        let sent = request(api_key, version, self.correlation_id, b"raw", body);
        self.stream.write_all(&sent)?;
        let answer = self.receive()?.context("the connection was closed instead of an answer")?;
        let mut reader = Reader(&answer);
        ensure!(reader.i32()? == self.correlation_id, "the answer is for another request");
        if is_flexible(api_key, version) && api_key != key::API_VERSIONS {
            ensure!(reader.i8()? == 0, "the answer's header has tagged fields");
        }
        Ok(reader.0.to_vec())
    }

    /// Sends bytes as they are. A connection that was closed meanwhile is no error: `receive` finds that out.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match self.stream.write_all(bytes) {
            Err(error) if is_closed(error.kind()) => Ok(()),
            sent => Ok(sent?),
        }
    }

    /// The next answer behind its length, or `None` when the other side closed the connection before one.
    pub fn receive(&mut self) -> Result<Option<Vec<u8>>> {
        let mut length = [0; 4];
        match self.stream.read(&mut length[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) if is_closed(error.kind()) => return Ok(None),
            Err(error) => return Err(error).context("neither answer nor close"),
        }
        self.stream.read_exact(&mut length[1..])?;
        let length = usize::try_from(i32::from_be_bytes(length)).context("an answer of negative length")?;
        ensure!(length <= FRAME_BYTES_MAX, "an answer of {length} bytes");
        let mut content = vec![0; length];
        self.stream.read_exact(&mut content)?;
        Ok(Some(content))
    }
}

/// How the end of a connection looks to the one who did not end it.
pub fn is_closed(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}

/// The body of `GET path`.
pub fn http_get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(WAIT_MAX))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer has a head")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("GET {path}: {}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_written_as_kafka_writes_them() {
        let check = |value: u64, bytes: &[u8]| assert_eq!(Writer::new().varint(value).done(), bytes);
        check(0, &[0]);
        check(127, &[0x7f]);
        check(300, &[0xac, 0x02]);
        check(1 << 31, &[0x80, 0x80, 0x80, 0x80, 0x08]);
        assert_eq!(Writer::new().zigzag(-1).done(), [1]);
        assert_eq!(Writer::new().zigzag(150).done(), [0xac, 0x02]);
    }

    #[test]
    fn a_request_of_a_flexible_version_has_tagged_fields_in_its_header() {
        let sent = request(key::METADATA, 9, 7, b"c", &[0xaa]);
        assert_eq!(sent, [0, 0, 0, 13, 0, 3, 0, 9, 0, 0, 0, 7, 0, 1, b'c', 0, 0xaa]);
        let sent = request(key::METADATA, 8, 7, b"c", &[0xaa]);
        assert_eq!(sent, [0, 0, 0, 12, 0, 3, 0, 8, 0, 0, 0, 7, 0, 1, b'c', 0xaa]);
    }
}

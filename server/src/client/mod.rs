//! A small Kafka client on `wire/`: one connection, one request at a time. The command line is built on it.
//!
//! Owns the connection and the choice of versions. Does not own what requests mean: the files below do, as far as the command line
//! needs it. It speaks to any Kafka since 2.4.
//! Invariant: whatever the other side sends, no more than `RESPONSE_BYTES_MAX` is kept of it.

pub mod consumed;
pub mod fetch;
pub mod group;
pub mod member;
pub mod offsets;
pub mod produce;
pub mod range;
pub mod refused;
pub mod router;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::wire::{ApiVersionsRequest, Request, Splices, StrBytes, WireError, decode_response, encode_request, tables};

/// What a server has to answer within, in one piece.
const WAIT: Duration = Duration::from_secs(60);
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// The largest answer: the metadata of 100,000 partitions is a tenth of it.
const RESPONSE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What every server that speaks Kafka's protocol since 2.4 knows.
const API_VERSIONS: i16 = 3;
const SOFTWARE: &str = "weir";

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("nobody answers at {address}: {source}; is a node running there? (--bootstrap HOST:PORT names another)")]
    Connect { address: String, source: std::io::Error },
    #[error("{address} is no HOST:PORT: {source}")]
    Address { address: String, source: std::io::Error },
    #[error("the connection to {address} broke: {source}")]
    Io { address: String, source: std::io::Error },
    #[error("{address} speaks HTTP: --bootstrap takes the address of a listener for clients, which is another port")]
    Http { address: String },
    #[error("{address} answered with {length} bytes, at most {RESPONSE_BYTES_MAX} are read")]
    Length { address: String, length: i64 },
    #[error("{address} does not speak the protocol: {source}")]
    Wire { address: String, source: WireError },
    #[error("{address} does not serve {api} in a version that this program knows ({min} to {max})")]
    NotServed { address: String, api: &'static str, min: i16, max: i16 },
    #[error("{address} answered request {asked} with an answer to {answered}")]
    Order { address: String, asked: i32, answered: i32 },
}

pub struct Client {
    address: String,
    stream: TcpStream,
    correlation_id: i32,
    /// By API key: first and last version.
    served: BTreeMap<i16, (i16, i16)>,
}

impl Client {
    /// Connects and asks what is served.
    pub fn connect(address: &str) -> Result<Client, ClientError> {
        let owned = || address.to_owned();
        let resolved = address.to_socket_addrs().map_err(|source| ClientError::Address { address: owned(), source })?;
        let mut failed = std::io::Error::other("the name has no address");
        let mut connected = None;
        for one in resolved {
            match TcpStream::connect_timeout(&one, CONNECT_WAIT) {
                Ok(stream) => {
                    connected = Some(stream);
                    break;
                }
                Err(error) => failed = error,
            }
        }
        let stream = connected.ok_or_else(|| ClientError::Connect { address: owned(), source: failed })?;
        let set = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(WAIT)))
            .and_then(|()| stream.set_write_timeout(Some(WAIT)));
        set.map_err(|source| ClientError::Io { address: owned(), source })?;
        let mut client = Client { address: owned(), stream, correlation_id: 0, served: BTreeMap::new() };
        let asked = ApiVersionsRequest {
            client_software_name: StrBytes::from_static_str(SOFTWARE),
            client_software_version: StrBytes::from_static_str(env!("CARGO_PKG_VERSION")),
            ..ApiVersionsRequest::default()
        };
        let versions = client.call_at(API_VERSIONS, &asked)?;
        let ranges = versions.api_keys.iter().map(|key| (key.api_key, (key.min_version, key.max_version)));
        client.served = ranges.collect();
        Ok(client)
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// The newest version that both sides know. `None`: there is none.
    pub fn version<R: Request>(&self) -> Option<i16> {
        let (min, max) = *self.served.get(&R::KEY)?;
        let newest = max.min(R::MAX);
        (newest >= min.max(R::MIN)).then_some(newest)
    }

    /// What is served: API key, first and last version.
    pub fn served(&self) -> &BTreeMap<i16, (i16, i16)> {
        &self.served
    }

    /// Asks in the newest version that both sides know; `request` is made for it.
    pub fn call<R: Request>(&mut self, request: impl FnOnce(i16) -> R) -> Result<R::Response, ClientError> {
        self.call_at_most(R::MAX, request)
    }

    /// As [`Client::call`], in no newer version than `newest`: for those that name topics by their ids.
    pub fn call_at_most<R: Request>(
        &mut self,
        newest: i16,
        request: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, ClientError> {
        let api = tables::message(R::KEY, tables::Direction::Request).map_or("this API", |message| message.name);
        let (min, max) = (R::MIN, R::MAX.min(newest));
        let none = || ClientError::NotServed { address: self.address.clone(), api, min, max };
        let served = self.version::<R>().map(|version| version.min(newest));
        let first = self.served.get(&R::KEY).map_or(min, |(first, _)| *first);
        let version = served.filter(|version| *version >= first.max(min)).ok_or_else(none)?;
        self.call_at(version, &request(version))
    }

    /// Sends a request that is never answered: a produce without acknowledgement.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<(), ClientError> {
        self.put(version, request).map(|_| ())
    }

    /// Gives the number of the request.
    fn put<R: Request>(&mut self, version: i16, request: &R) -> Result<i32, ClientError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let asked = self.correlation_id;
        let wire = |source| ClientError::Wire { address: self.address.clone(), source };
        let frame = encode_request(version, asked, Some(SOFTWARE), request, Splices::new()).map_err(wire)?;
        let io = |source| ClientError::Io { address: self.address.clone(), source };
        self.stream.write_all(&frame.to_bytes()).map_err(io)?;
        Ok(asked)
    }

    fn call_at<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response, ClientError> {
        let asked = self.put(version, request)?;
        let wire = |source| ClientError::Wire { address: self.address.clone(), source };
        let io = |source| ClientError::Io { address: self.address.clone(), source };
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(io)?;
        if length == *b"HTTP" {
            return Err(ClientError::Http { address: self.address.clone() });
        }
        let length = i32::from_be_bytes(length);
        let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= RESPONSE_BYTES_MAX);
        let too_long = || ClientError::Length { address: self.address.clone(), length: length.into() };
        let bytes = u64::try_from(bytes.ok_or_else(too_long)?).expect("a frame's length fits 64 bits");
        // Grows with what comes, not with what was announced.
        let mut frame = Vec::new();
        let read = (&mut self.stream).take(bytes).read_to_end(&mut frame).map_err(io)?;
        if u64::try_from(read).ok() != Some(bytes) {
            return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let (answered, response) = decode_response::<R>(version, frame.into()).map_err(wire)?;
        if answered != asked {
            return Err(ClientError::Order { address: self.address.clone(), asked, answered });
        }
        Ok(response)
    }
}

//! The answer to DescribeConfigs, encoded resource by resource.
//!
//! Owns its layout around the results. So what describes a resource, which in memory is many times its bytes, is there for one at a time,
//! however many are asked for. Invariant: the frame has the bytes that encoding the whole response gives.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::DescribeConfigsRequest;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::protocol::Encodable;

use super::facade::{Request, WireError};
use super::header;
use super::pieces::{Frame, PieceBuf, Splices};
use super::primitives::put_varint;
use super::tables::{self, Direction};

/// A piece is closed when it has so much: it is never copied into a larger one.
const PIECE_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub struct ConfigsFrame {
    version: i16,
    results: u32,
    pieces: Vec<Bytes>,
    open: BytesMut,
}

impl ConfigsFrame {
    pub fn new(version: i16) -> ConfigsFrame {
        ConfigsFrame { version, results: 0, pieces: Vec::new(), open: BytesMut::new() }
    }

    /// # Errors
    /// When this version cannot carry the result.
    pub fn push(&mut self, result: &DescribeConfigsResult) -> Result<(), WireError> {
        let (message, version) = ("DescribeConfigsResponse", self.version);
        let failed = |reason: String| WireError::Encode { message, version, reason };
        result.encode(&mut self.open, version).map_err(|error| failed(error.to_string()))?;
        self.results += 1;
        if self.open.len() >= PIECE_BYTES {
            let full = std::mem::replace(&mut self.open, BytesMut::with_capacity(PIECE_BYTES + PIECE_BYTES / 8));
            self.pieces.push(full.freeze());
        }
        Ok(())
    }

    /// # Errors
    /// When it is longer than a frame can be.
    pub fn finish(mut self, correlation_id: i32) -> Result<Frame, WireError> {
        let message = tables::message(DescribeConfigsRequest::KEY, Direction::Response).expect("it is served");
        let (version, too_long) = (self.version, WireError::TooLong { message: message.name, version: self.version });
        self.pieces.push(self.open.freeze());
        let mut splices = Splices::new();
        let results = splices.register(self.pieces);
        let mut out = PieceBuf::new(splices);
        header::put_response_header(&mut out, message, version, correlation_id);
        const THROTTLE_MS: i32 = 0;
        out.put_i32(THROTTLE_MS);
        if message.is_flexible(version) {
            put_varint(&mut out, self.results + 1);
        } else {
            out.put_u32(self.results);
        }
        out.put_slice(&results);
        if message.is_flexible(version) {
            const TAGGED_FIELDS: u32 = 0;
            put_varint(&mut out, TAGGED_FIELDS);
        }
        out.into_frame().ok_or(too_long)
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::DescribeConfigsResponse;
    use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
    use kafka_protocol::protocol::StrBytes;

    use super::super::facade::encode_response;
    use super::*;

    #[test]
    fn resource_by_resource_gives_the_bytes_of_the_whole_response() {
        let config = |at: usize| {
            let name = StrBytes::from_string(format!("key-{at}"));
            DescribeConfigsResourceResult::default().with_name(name).with_value(Some("v".repeat(at % 300).into()))
        };
        let result = |at: usize| {
            let name = StrBytes::from_string(format!("topic-{at}"));
            DescribeConfigsResult::default().with_resource_name(name).with_configs((0..at).map(config).collect())
        };
        for (version, count) in [(1, 0), (1, 3), (2, 200), (3, 200), (4, 0), (4, 3), (4, 200)] {
            let results: Vec<_> = (0..count).map(result).collect();
            let mut frame = ConfigsFrame::new(version);
            results.iter().for_each(|result| frame.push(result).expect("it can be carried"));
            let frame = frame.finish(7).expect("short enough");
            let whole = DescribeConfigsResponse::default().with_results(results);
            let whole = encode_response::<DescribeConfigsRequest>(version, 7, &whole, Splices::new()).expect("encodes");
            assert!(frame.to_bytes() == whole.to_bytes(), "version {version}, {count} resources");
            assert_eq!(frame.pieces().len() > 3, count == 200);
        }
    }
}

//! Request and response headers.
//!
//! Owns cutting a frame into header and body, and the header that goes before a response body. Does not own which
//! versions this server serves: `api::dispatch` does. Invariant: no input, however short, makes this panic.
//! Header versions: requests have 1, and 2 (tagged fields) when the body is flexible; responses 0 and 1 likewise,
//! except that the header of ApiVersions stays at 0, because its sender cannot know yet what the server speaks (KIP-511).

use bytes::{BufMut, Bytes};
use thiserror::Error;

use super::check::TAGGED_FIELDS_MAX;
use super::primitives::{Cursor, put_varint};
use super::tables::{self, Direction, Message};

/// Key of the one API whose response header never changes.
pub const API_VERSIONS_KEY: i16 = 18;
/// Longest client id that is accepted. Kafka has no limit; ids are a few dozen bytes and end up in logs and metrics.
pub const CLIENT_ID_BYTES_MAX: usize = 1024;

/// What stands before the body of each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    pub api_key: i16,
    pub api_version: i16,
    /// The client's number for this request; the response repeats it.
    pub correlation_id: i32,
    /// A slice of the frame, valid UTF-8: copy what is kept, or the whole frame stays in memory.
    pub client_id: Option<Bytes>,
}

/// Why a frame has no header that can be answered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum HeaderError {
    #[error("request frame of {got} bytes ends inside its header")]
    Truncated { got: usize },
    #[error("unknown api key {api_key}")]
    UnknownApi { api_key: i16, correlation_id: i32 },
    /// For ApiVersions this is answered: see [`super::unsupported_api_versions`].
    #[error("api key {api_key} has no version {api_version}, only {min} to {max}")]
    UnknownVersion { api_key: i16, api_version: i16, correlation_id: i32, min: i16, max: i16 },
    #[error("client id has length {got}, at most {CLIENT_ID_BYTES_MAX}")]
    ClientIdLength { got: i16 },
    #[error("client id is not valid UTF-8")]
    ClientIdUtf8,
    #[error("request header has {got} tagged fields, at most {TAGGED_FIELDS_MAX}")]
    TooManyTags { got: u32 },
    #[error("tag {tag} in the request header does not follow tag {previous}")]
    TagOrder { tag: u32, previous: u32 },
}

impl RequestHeader {
    /// The client id as text; empty when the client sent none.
    pub fn client_id_text(&self) -> &str {
        self.client_id.as_deref().and_then(|id| std::str::from_utf8(id).ok()).unwrap_or_default()
    }
}

/// Cuts a frame (without its length prefix) into its header and its body. The body has not been checked.
pub fn split_request(frame: Bytes) -> Result<(RequestHeader, Bytes), HeaderError> {
    let got = frame.len();
    let truncated = HeaderError::Truncated { got };
    let mut cursor = Cursor::new(frame);
    let (Some(api_key), Some(api_version), Some(correlation_id)) = (cursor.i16(), cursor.i16(), cursor.i32()) else {
        return Err(truncated);
    };
    let Some(message) = tables::message(api_key, Direction::Request) else {
        return Err(HeaderError::UnknownApi { api_key, correlation_id });
    };
    if message.row_version(api_version).is_none() {
        let (min, max) = (message.min, message.max);
        return Err(HeaderError::UnknownVersion { api_key, api_version, correlation_id, min, max });
    }
    let client_id = client_id(&mut cursor, got)?;
    if message.is_flexible(api_version) {
        skip_tags(&mut cursor, got)?;
    }
    Ok((RequestHeader { api_key, api_version, correlation_id, client_id }, cursor.rest()))
}

fn client_id(cursor: &mut Cursor, frame_bytes: usize) -> Result<Option<Bytes>, HeaderError> {
    let truncated = HeaderError::Truncated { got: frame_bytes };
    let length = cursor.i16().ok_or(truncated.clone())?;
    if length == -1 {
        return Ok(None);
    }
    let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= CLIENT_ID_BYTES_MAX);
    let bytes = bytes.ok_or(HeaderError::ClientIdLength { got: length })?;
    let id = cursor.slice(bytes).ok_or(truncated)?;
    if std::str::from_utf8(&id).is_err() {
        return Err(HeaderError::ClientIdUtf8);
    }
    Ok(Some(id))
}

/// No tag of a request header is known, so their content is passed over.
fn skip_tags(cursor: &mut Cursor, frame_bytes: usize) -> Result<(), HeaderError> {
    let truncated = HeaderError::Truncated { got: frame_bytes };
    let count = cursor.varint().ok_or(truncated.clone())?;
    if count > TAGGED_FIELDS_MAX {
        return Err(HeaderError::TooManyTags { got: count });
    }
    let mut previous = None;
    for _ in 0..count {
        let tag = cursor.varint().ok_or(truncated.clone())?;
        if let Some(previous) = previous.filter(|previous| tag <= *previous) {
            return Err(HeaderError::TagOrder { tag, previous });
        }
        previous = Some(tag);
        let bytes = cursor.varint().and_then(|bytes| usize::try_from(bytes).ok()).ok_or(truncated.clone())?;
        cursor.slice(bytes).ok_or(truncated.clone())?;
    }
    Ok(())
}

/// Writes what stands before a response body: correlation id and, where the version has them, no tagged fields.
pub(crate) fn put_response_header<B: BufMut>(out: &mut B, message: &Message, version: i16, correlation_id: i32) {
    out.put_i32(correlation_id);
    if has_response_tags(message, version) {
        put_varint(out, 0);
    }
}

/// Writes the header of a request, as a client does.
pub(crate) fn put_request_header<B: BufMut>(out: &mut B, message: &Message, header: &RequestHeader) {
    out.put_i16(header.api_key);
    out.put_i16(header.api_version);
    out.put_i32(header.correlation_id);
    match &header.client_id {
        None => out.put_i16(-1),
        Some(id) => {
            out.put_i16(i16::try_from(id.len()).expect("a client id is bounded"));
            out.put_slice(id);
        }
    }
    if message.is_flexible(header.api_version) {
        put_varint(out, 0);
    }
}

/// Cuts a response frame into its correlation id and its body.
pub(crate) fn split_response(message: &Message, version: i16, frame: Bytes) -> Result<(i32, Bytes), HeaderError> {
    let got = frame.len();
    let mut cursor = Cursor::new(frame);
    let correlation_id = cursor.i32().ok_or(HeaderError::Truncated { got })?;
    if has_response_tags(message, version) {
        skip_tags(&mut cursor, got)?;
    }
    Ok((correlation_id, cursor.rest()))
}

fn has_response_tags(message: &Message, version: i16) -> bool {
    message.is_flexible(version) && message.key != API_VERSIONS_KEY
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Produce 9 (flexible) with client id "c" and one unknown tag.
    const FLEXIBLE: &[u8] = &[0, 0, 0, 9, 0, 0, 0, 7, 0, 1, b'c', 1, 5, 2, 0, 0, 0xaa];

    #[test]
    fn a_header_is_cut_off_and_the_rest_is_the_body() {
        let (header, body) = split_request(Bytes::from_static(FLEXIBLE)).expect("valid");
        assert_eq!((header.api_key, header.api_version, header.correlation_id), (0, 9, 7));
        assert_eq!(header.client_id_text(), "c");
        assert_eq!(&body[..], [0xaa]);
    }

    #[test]
    fn a_header_cut_short_anywhere_is_refused() {
        for len in 0..FLEXIBLE.len() - 1 {
            let error = split_request(Bytes::from_static(FLEXIBLE).slice(..len)).expect_err("short");
            assert_eq!(error, HeaderError::Truncated { got: len });
        }
    }

    #[test]
    fn unknown_keys_and_versions_are_told_apart_and_keep_the_correlation_id() {
        let check = |bytes: &'static [u8]| split_request(Bytes::from_static(bytes)).expect_err("refused");
        let unknown = check(&[0x7f, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(unknown, HeaderError::UnknownApi { api_key: 0x7f00, correlation_id: 7 });
        let version = check(&[0, 18, 0, 99, 0, 0, 0, 7]);
        let expected = HeaderError::UnknownVersion { api_key: 18, api_version: 99, correlation_id: 7, min: 0, max: 5 };
        assert_eq!(version, expected);
    }

    #[test]
    fn client_ids_that_lie_are_refused() {
        let with_id = |id: &[u8]| {
            let mut frame = vec![0, 0, 0, 3, 0, 0, 0, 7];
            frame.extend_from_slice(id);
            split_request(frame.into()).map(|(header, _)| header.client_id)
        };
        assert_eq!(with_id(&[0xff, 0xff]), Ok(None));
        assert_eq!(with_id(&[0xff, 0xfe]), Err(HeaderError::ClientIdLength { got: -2 }));
        assert_eq!(with_id(&[0x7f, 0xff]), Err(HeaderError::ClientIdLength { got: 0x7fff }));
        assert_eq!(with_id(&[0, 1, 0xc0]), Err(HeaderError::ClientIdUtf8));
    }

    #[test]
    fn tags_of_a_header_must_rise() {
        let mut frame = vec![0, 0, 0, 9, 0, 0, 0, 7, 0xff, 0xff];
        frame.extend_from_slice(&[2, 5, 0, 5, 0]);
        assert_eq!(split_request(frame.into()), Err(HeaderError::TagOrder { tag: 5, previous: 5 }));
    }
}

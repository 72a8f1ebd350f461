//! The ApiVersions request, versions 0 to 5, and the answer to versions that nobody knows.
//!
//! Owns this request because `kafka-protocol` ends at version 4.
//! Versions: 3 is flexible and names the client's software, 5 names the cluster and node that the client means (KIP-1242).

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::protocol::buf::ByteBufMut;

use super::compact::{
    put_nullable_string, put_string, put_tags, take_i32, take_nullable_string, take_string, take_tags,
};
use super::facade::{Body, Request, WireError, encode_response};
use super::header::API_VERSIONS_KEY;
use super::pieces::{Frame, Splices};

/// Kafka's error code for a version that the server does not serve.
const UNSUPPORTED_VERSION: i16 = 35;

/// A client asks what the server speaks.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiVersionsRequest {
    /// Empty before version 3.
    pub client_software_name: StrBytes,
    pub client_software_version: StrBytes,
    /// The cluster that the client means to reach; none before version 5.
    pub cluster_id: Option<StrBytes>,
    /// The node that the client means to reach; −1 when it names none.
    pub node_id: i32,
    pub unknown_tagged_fields: BTreeMap<i32, Bytes>,
}

impl Default for ApiVersionsRequest {
    fn default() -> ApiVersionsRequest {
        ApiVersionsRequest {
            client_software_name: StrBytes::new(),
            client_software_version: StrBytes::new(),
            cluster_id: None,
            node_id: -1,
            unknown_tagged_fields: BTreeMap::new(),
        }
    }
}

impl Request for ApiVersionsRequest {
    const KEY: i16 = API_VERSIONS_KEY;
    const MIN: i16 = 0;
    const MAX: i16 = 5;
    type Response = ApiVersionsResponse;
}

impl Body for ApiVersionsRequest {
    fn decode_body(body: &mut Bytes, version: i16) -> Result<Self, String> {
        let mut request = ApiVersionsRequest::default();
        if version >= 3 {
            request.client_software_name = take_string(body)?;
            request.client_software_version = take_string(body)?;
        }
        if version >= 5 {
            request.cluster_id = take_nullable_string(body)?;
            request.node_id = take_i32(body)?;
        }
        if version >= 3 {
            request.unknown_tagged_fields = take_tags(body)?;
        }
        Ok(request)
    }

    fn encode_body<B: ByteBufMut>(&self, out: &mut B, version: i16) -> Result<(), String> {
        if version >= 3 {
            put_string(out, &self.client_software_name)?;
            put_string(out, &self.client_software_version)?;
        }
        if version >= 5 {
            put_nullable_string(out, self.cluster_id.as_ref())?;
            out.put_i32(self.node_id);
        }
        if version >= 3 {
            put_tags(out, &self.unknown_tagged_fields)?;
        }
        Ok(())
    }
}

/// The answer to an ApiVersions request of an unknown version: in version 0, which every client can read, error
/// UNSUPPORTED_VERSION and the versions of ApiVersions that the server serves, so that the client asks again (KIP-511).
pub fn unsupported_api_versions(correlation_id: i32, min: i16, max: i16) -> Result<Frame, WireError> {
    let range = ApiVersion::default().with_api_key(API_VERSIONS_KEY).with_min_version(min).with_max_version(max);
    let response = ApiVersionsResponse::default().with_error_code(UNSUPPORTED_VERSION).with_api_keys(vec![range]);
    encode_response::<ApiVersionsRequest>(0, correlation_id, &response, Splices::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_version_is_answered_in_version_0() {
        let frame = unsupported_api_versions(7, 0, 5).expect("encodes").to_bytes();
        assert_eq!(&frame[..], [0, 0, 0, 16, 0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 5]);
    }
}

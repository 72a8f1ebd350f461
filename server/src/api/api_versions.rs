//! ApiVersions (API key 18), versions 0..=5.
//!
//! Owns what this server says of itself: the versions of what it serves and the features that hold.
//! Invariant: only what `dispatch::SERVED` lists is advertised, with one exception: Produce from version 0 on, because
//! librdkafka switches compression off where version 0 is missing (KAFKA-18659); 0 to 2 are refused when they come.
//! Versions: 3 names the client's software (KIP-511), 5 the cluster and node that it means to reach (KIP-1242).

use std::ops::RangeInclusive;

use model::ErrorCode;

use super::context::{Api, Reply, RequestContext};
use super::dispatch::{PRODUCE_KEY, SERVED};
use super::topics::text;
use crate::wire::ApiVersionsRequest;
use crate::wire::messages::ApiVersionsResponse;
use crate::wire::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};

pub struct ApiVersions;

/// Longest name or version of a client's software, as Kafka has it: letters, digits, dots and dashes.
const SOFTWARE_BYTES_MAX: usize = 255;

impl Api for ApiVersions {
    type Request = ApiVersionsRequest;
    const NAME: &'static str = "ApiVersions";
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    async fn handle(ctx: RequestContext, request: ApiVersionsRequest) -> Reply<ApiVersionsResponse> {
        if ctx.version >= 3 {
            let (name, version) = (&request.client_software_name, &request.client_software_version);
            if !is_software(name) || !is_software(version) {
                return refused(ErrorCode::InvalidRequest);
            }
            ctx.connection.set_software(name, version);
        }
        if !is_meant(&ctx, &request) {
            return refused(ErrorCode::RebootstrapRequired);
        }
        let image = ctx.broker.image();
        let mut response = ApiVersionsResponse::default().with_api_keys(api_keys());
        if ctx.version >= 3 {
            // A level that Kafka knows is claimed only where everything that it stands for is served. Ours has a name that
            // no client asks for, and Kafka's tools show and change it.
            let finalized = |(name, level): (&String, &i16)| {
                FinalizedFeatureKey::default()
                    .with_name(text(name))
                    .with_max_version_level(*level)
                    .with_min_version_level(*level)
            };
            let supported = |(name, (min, max)): (&String, &(i16, i16))| {
                SupportedFeatureKey::default().with_name(text(name)).with_min_version(*min).with_max_version(*max)
            };
            let own = image.node(ctx.broker.node.id()).map(|info| &info.features);
            response.supported_features = own.into_iter().flatten().map(supported).collect();
            response.finalized_features = image.features().iter().map(finalized).collect();
            response.finalized_features_epoch = i64::try_from(image.features_epoch()).unwrap_or(i64::MAX);
        }
        response.into()
    }
}

fn refused(code: ErrorCode) -> Reply<ApiVersionsResponse> {
    ApiVersionsResponse::default().with_error_code(code.to_wire()).with_api_keys(api_keys()).into()
}

fn api_keys() -> Vec<ApiVersion> {
    let key = |served: &super::dispatch::Served| {
        let min = if served.key == PRODUCE_KEY { 0 } else { served.min };
        ApiVersion::default().with_api_key(served.key).with_min_version(min).with_max_version(served.max)
    };
    SERVED.iter().map(key).collect()
}

/// As Kafka checks it: the text ends up in metrics and logs.
fn is_software(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    text.len() <= SOFTWARE_BYTES_MAX
        && text.bytes().all(inner)
        && ends(text.bytes().next())
        && ends(text.bytes().last())
}

/// Whether the client reached whom it meant: an address may be another cluster's by now.
fn is_meant(ctx: &RequestContext, request: &ApiVersionsRequest) -> bool {
    let image = ctx.broker.image();
    let cluster = request.cluster_id.as_deref().is_none_or(|id| id.is_empty() || id == image.cluster_id());
    let node = request.node_id < 0 || request.node_id == ctx.broker.node.id().0;
    cluster && node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn produce_is_advertised_from_version_0_and_everything_else_as_served() {
        for (key, served) in api_keys().iter().zip(SERVED) {
            assert_eq!((key.api_key, key.max_version), (served.key, served.max));
            assert_eq!(key.min_version, if served.key == PRODUCE_KEY { 0 } else { served.min });
        }
    }

    #[test]
    fn the_name_of_a_clients_software_is_letters_digits_dots_and_dashes() {
        assert!(
            ["apache-kafka-java", "4.4.0", "k", "confluent-kafka-python-rdkafka"].iter().all(|text| is_software(text))
        );
        assert!(!["", "-a", "a.", "a b", "a\nb", "ä"].iter().any(|text| is_software(text)));
    }
}

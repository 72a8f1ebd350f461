//! ListConfigResources (API key 74), versions 0..=1.
//!
//! Owns which kinds of resources can be listed. Versions: 0 lists client metrics only (KIP-714), 1 what is asked for,
//! all kinds where nothing is (KIP-1142).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use model::ErrorCode;

use super::config_resources::{CLIENT_METRICS, GROUP, LOGGER, NODE, TOPIC};
use super::context::{Api, Reply, RequestContext};
use super::topics::text;
use crate::wire::messages::list_config_resources_response::ConfigResource;
use crate::wire::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};

pub struct ListConfigResources;

const KINDS: [i8; 5] = [TOPIC, NODE, LOGGER, CLIENT_METRICS, GROUP];

impl Api for ListConfigResources {
    type Request = ListConfigResourcesRequest;
    const NAME: &'static str = "ListConfigResources";
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    async fn handle(ctx: RequestContext, request: ListConfigResourcesRequest) -> Reply<ListConfigResourcesResponse> {
        let kinds: BTreeSet<i8> = match (ctx.version, request.resource_types.as_slice()) {
            (0, _) => BTreeSet::from([CLIENT_METRICS]),
            (_, []) => KINDS.into(),
            (_, kinds) => kinds.iter().copied().collect(),
        };
        if !kinds.iter().all(|kind| KINDS.contains(kind)) {
            let code = ErrorCode::UnsupportedVersion.to_wire();
            return ListConfigResourcesResponse::default().with_error_code(code).into();
        }
        let image = ctx.broker.image();
        let mut resources = Vec::new();
        let mut put = |kind: i8, name: &str| {
            let mut resource = ConfigResource::default().with_resource_name(text(name));
            if ctx.version >= 1 {
                resource.resource_type = kind;
            }
            resources.push(resource);
        };
        for kind in kinds {
            match kind {
                TOPIC => image.topics().for_each(|topic| put(kind, topic.name.as_str())),
                NODE | LOGGER => image.live_nodes().for_each(|(node, _)| put(kind, &node.to_string())),
                GROUP => image.configured_groups().for_each(|group| put(kind, group)),
                CLIENT_METRICS => image.client_metrics().for_each(|(name, _)| put(kind, name)),
                _ => {}
            }
        }
        ListConfigResourcesResponse::default().with_config_resources(resources).into()
    }
}

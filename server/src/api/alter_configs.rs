//! AlterConfigs (API key 33), versions 0..=2: a resource's configuration is replaced by what is sent.
//!
//! Owns the shapes. Its successor is `incremental_alter_configs`, which old tools do not know.

use std::ops::RangeInclusive;

use node::requests::{ConfigOperation, Refusal};

use super::admin::shown;
use super::config_resources::{Asked, alter, required};
use super::context::{Api, Reply, RequestContext};
use crate::wire::messages::alter_configs_request::AlterableConfig;
use crate::wire::messages::alter_configs_response::AlterConfigsResourceResponse;
use crate::wire::messages::{AlterConfigsRequest, AlterConfigsResponse};

pub struct AlterConfigs;

impl Api for AlterConfigs {
    type Request = AlterConfigsRequest;
    const NAME: &'static str = "AlterConfigs";
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    async fn handle(ctx: RequestContext, request: AlterConfigsRequest) -> Reply<AlterConfigsResponse> {
        let asked = request.resources.iter().map(|resource| Asked {
            kind: resource.resource_type,
            name: resource.resource_name.as_str(),
            operations: resource.configs.iter().map(operation).collect(),
            replace: true,
        });
        let results = alter(&ctx, asked.collect(), request.validate_only).await;
        let responses = request.resources.iter().zip(results).map(|(resource, result)| {
            let (code, message) = shown(&result);
            AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone())
        });
        AlterConfigsResponse::default().with_responses(responses.collect()).into()
    }
}

fn operation(config: &AlterableConfig) -> Result<ConfigOperation, Refusal> {
    let value = required(&config.name, config.value.as_ref())?;
    Ok(ConfigOperation::Set { key: config.name.to_string(), value })
}
